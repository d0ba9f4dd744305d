"""Compact DDDNet: depth and the picture in focus everywhere, from a dual-pixel pair (Pan et al., CVPR 2021).

Kept from the paper: a matching volume of the two halves, a map from it, a picture restored from both halves and that
map, and a loss that blurs the picture by the map again and holds it against the halves. Changed, so that one network
serves phones and cameras: the volume has both signs (the published one, :mod:`.dddnet_paper`, cannot see what is nearer
than focus), is a correlation and not a concatenation, and 2-D convolutions follow instead of 3-D; disparity is signed
and in pixels; the three patch-wise encoders of the deblurring half are one decoder beside that of the disparity. Shifts
of a fraction of a pixel, which no volume of whole ones tells, are seen by the amplified difference of the halves.

Convention: inputs are prepared by :func:`dualpix.models.prepare.network_inputs`. The first output is
``x_right - x_left`` in pixels of the network's input grid, > 0 behind the focus plane. The second is the picture on the
same pixels, encoded as the input image is and added to it: :func:`dualpix.models.prepare.decode` with the input's own
gain makes linear light of it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Any

import torch
from torch import Tensor, nn

from dualpix.models.blocks import ConvBNReLU, FusedInvertedResidual, InvertedResidual
from dualpix.models.blocks.correlation import BAND_WIDTH_PX, CorrelationBand, CorrelationShifts
from dualpix.models.blocks.resize import pixel_shuffle, pixel_unshuffle, upsample
from dualpix.models.losses.image import dual_pixel_image_loss
from dualpix.models.tasks.task import Batch

_DIFFERENCE_GAIN = 6.0
_MOST_CHANNELS, _MOST_REACH_PX, _MOST_WEIGHT = 2048, 64, 1000.0
_HINT_GAIN = 0.25
"""Of the disparity in px where it is an input again."""
_NEAR_ZERO = 0.01
"""Of the first weights of the picture's residual: a network begins by giving the picture that it was given."""


@dataclass(frozen=True)
class DDDNetConfig:
    """Sizes of the compact network and weights of its loss; the defaults are what is trained."""

    dp_channels: tuple[int, int] = (16, 32)
    """Of the features of a half at 1/2 and 1/4."""
    image_channels: tuple[int, int] = (16, 24)
    """Of the features of the image at 1/2 and 1/4."""
    trunk_channels: tuple[int, int, int, int] = (40, 64, 104, 160)
    """At 1/4, 1/8, 1/16, 1/32."""
    decoder_channels: tuple[int, int, int, int] = (24, 40, 56, 80)
    """At 1/2, 1/4, 1/8, 1/16."""
    sharp_channels: int = 32
    """Of the picture's own decoder, at 1/2."""
    reach_px: int = 4
    """Of the volume on either side, in pixels of the features at 1/4."""
    image_weight: float = 4.0
    """Of the picture's loss beside the disparity's."""
    reblur_weight: float = 2.0
    """Of the loss of the picture blurred again; both are mean absolute differences of encoded pictures."""

    def __post_init__(self) -> None:
        channels = (
            *self.dp_channels, *self.image_channels, *self.trunk_channels, *self.decoder_channels, self.sharp_channels,
        )  # fmt: skip
        if any(type(c) is not int or not 1 <= c <= _MOST_CHANNELS for c in channels):
            raise ValueError(f"channels are {channels}, expected whole numbers of 1 to {_MOST_CHANNELS}")
        if type(self.reach_px) is not int or not 1 <= self.reach_px <= _MOST_REACH_PX:
            raise ValueError(f"reach_px is {self.reach_px}, expected 1 to {_MOST_REACH_PX}")
        for name in ("image_weight", "reblur_weight"):
            check_weight(name, getattr(self, name))


def check_weight(name: str, value: Any) -> None:
    """Of a term of a loss.

    Raises:
        ValueError: no number of 0 to 1000.
    """
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value <= _MOST_WEIGHT:
        raise ValueError(f"{name} is {value}, expected 0 to {_MOST_WEIGHT:g}")


class SignedCorrelation(nn.Module):
    """Volume of shifts of both signs, (B, C, H, W) twice -> (B, taps, H, W); the faster form for the width."""

    def __init__(self, channels: int, reach_px: int) -> None:
        super().__init__()
        self.band, self.shifts = CorrelationBand(channels, reach_px), CorrelationShifts(channels, reach_px)

    def forward(self, left: Tensor, right: Tensor) -> Tensor:
        """Correlate."""
        form = self.band if left.shape[3] <= BAND_WIDTH_PX else self.shifts
        volume: Tensor = form(left, right)
        return volume


class HalvesEncoder(nn.Module):
    """Siamese branch: two (B, 1, H, W) views, each with its amplified difference to the other, at 1/2 and 1/4."""

    def __init__(self, config: DDDNetConfig) -> None:
        super().__init__()
        c2, c4 = config.dp_channels
        self.to_half = nn.Sequential(ConvBNReLU(2, c2, 5, stride=2), ConvBNReLU(c2, c2))
        self.to_quarter = nn.Sequential(ConvBNReLU(c2, c4, stride=2), FusedInvertedResidual(c4, c4))
        self.register_buffer("difference_gain", torch.tensor(_DIFFERENCE_GAIN), persistent=False)

    difference_gain: Tensor

    def forward(self, left: Tensor, right: Tensor) -> tuple[tuple[Tensor, Tensor], tuple[Tensor, Tensor]]:
        """((left, right) at 1/2, (left, right) at 1/4)."""
        # two calls rather than one stacked batch: Vulkan delegates convolutions at batch 1 only
        difference = (left - right) * self.difference_gain
        left_half = self.to_half(torch.cat([left, difference], 1))
        right_half = self.to_half(torch.cat([right, -difference], 1))
        return (left_half, right_half), (self.to_quarter(left_half), self.to_quarter(right_half))


class DecoderStage(nn.Module):
    """Upsample by 2, join the skip, refine: (B, below, H/2, W/2) + (B, skip, H, W) -> (B, out, H, W)."""

    def __init__(self, below: int, skip: int, out_channels: int, *, dense: bool) -> None:
        super().__init__()
        self.reduce = ConvBNReLU(below, out_channels, 1)  # before the upsampling: a quarter of the work
        self.join = ConvBNReLU(out_channels + skip, out_channels, 1)
        self.refine: nn.Module = (
            FusedInvertedResidual(out_channels, out_channels)
            if dense
            else InvertedResidual(out_channels, out_channels, kernel=5)
        )

    def forward(self, below: Tensor, skip: Tensor) -> Tensor:
        """Decode one scale."""
        out: Tensor = self.refine(self.join(torch.cat([upsample(self.reduce(below), 2), skip], 1)))
        return out


class SharpDecoder(nn.Module):
    """What to add to the image, from features at 1/2, the views themselves and the disparity: (B, 3, H, W)."""

    def __init__(self, config: DDDNetConfig) -> None:
        super().__init__()
        c, below = config.sharp_channels, config.decoder_channels
        self.from_quarter = ConvBNReLU(below[1], c, 1)
        self.join = ConvBNReLU(c + below[0] + 1 + 5 * 4, c, 1)
        self.refine = nn.Sequential(FusedInvertedResidual(c, c), FusedInvertedResidual(c, c))
        self.out = nn.Conv2d(c, 12, 3, padding=1)
        with torch.no_grad():
            self.out.weight.mul_(_NEAR_ZERO)
            if self.out.bias is not None:
                self.out.bias.zero_()
        self.register_buffer("hint_gain", torch.tensor(_HINT_GAIN), persistent=False)

    hint_gain: Tensor

    def forward(self, quarter: Tensor, half: Tensor, disparity_half: Tensor, views: Tensor) -> Tensor:
        """Residual at full size; ``views`` are image, left and right, (B, 5, H, W)."""
        hint = disparity_half * self.hint_gain
        x = torch.cat([upsample(self.from_quarter(quarter), 2), half, hint, pixel_unshuffle(views, 2)], 1)
        return pixel_shuffle(self.out(self.refine(self.join(x))), 2)


@dataclass(frozen=True)
class DDDNetEstimate:
    """What the network gives for its loss."""

    disparities_px: Sequence[Tensor]
    """Finest first, (B, 1, h, w), in px of the input grid."""
    sharp: Tensor
    """(B, 3, H, W) encoded as the input image is."""


class DDDNet(nn.Module):
    """``forward(image, left, right) -> (disparity_px, sharp)``; see the module text for the convention.

    Shapes: image (B, 3, H, W), left and right (B, 1, H, W), H and W multiples of 32; gives (B, 1, H, W), (B, 3, H, W).
    """

    def __init__(self, config: DDDNetConfig | None = None) -> None:
        super().__init__()
        self.config = config = config or DDDNetConfig()
        (p2, p4), (i2, i4) = config.dp_channels, config.image_channels
        t4, t8, t16, t32 = config.trunk_channels
        d2, d4, d8, d16 = config.decoder_channels
        self.halves = HalvesEncoder(config)
        self.image_to_half = ConvBNReLU(3, i2, stride=2)
        self.image_to_quarter = FusedInvertedResidual(i2, i4, stride=2)
        self.correlation = SignedCorrelation(p4, config.reach_px)
        self.fuse = nn.Sequential(
            ConvBNReLU(2 * config.reach_px + 1 + 2 * p4 + i4, t4, 1), FusedInvertedResidual(t4, t4)
        )
        self.to_eighth = nn.Sequential(
            InvertedResidual(t4, t8, stride=2), InvertedResidual(t8, t8, kernel=5), InvertedResidual(t8, t8)
        )
        self.to_sixteenth = nn.Sequential(
            InvertedResidual(t8, t16, stride=2), InvertedResidual(t16, t16, kernel=5), InvertedResidual(t16, t16)
        )
        self.to_thirty_second = nn.Sequential(
            InvertedResidual(t16, t32, stride=2), InvertedResidual(t32, t32, kernel=5), InvertedResidual(t32, t32)
        )
        self.decode16 = DecoderStage(t32, t16, d16, dense=False)
        self.decode8 = DecoderStage(d16, t8, d8, dense=False)
        self.decode4 = DecoderStage(d8, t4, d4, dense=True)
        self.decode2 = DecoderStage(d4, 2 * p2 + i2, d2, dense=True)
        self.heads = nn.ModuleList([nn.Conv2d(c, 1, 3, padding=1) for c in (d2, d4, d8, d16)])
        self.sharp = SharpDecoder(config)

    def _decode(self, image: Tensor, left: Tensor, right: Tensor) -> list[Tensor]:
        """Decoder features at 1/2, 1/4, 1/8, 1/16."""
        half, quarter = self.halves(left, right)
        image_half = self.image_to_half(image)
        volume = self.correlation(*quarter)
        at4 = self.fuse(torch.cat([volume, *quarter, self.image_to_quarter(image_half)], 1))
        at8 = self.to_eighth(at4)
        at16 = self.to_sixteenth(at8)
        out16 = self.decode16(self.to_thirty_second(at16), at16)
        out8 = self.decode8(out16, at8)
        out4 = self.decode4(out8, at4)
        return [self.decode2(out4, torch.cat([*half, image_half], 1)), out4, out8, out16]

    def _sharp(self, image: Tensor, left: Tensor, right: Tensor, decoded: Sequence[Tensor], finest: Tensor) -> Tensor:
        residual: Tensor = self.sharp(decoded[1], decoded[0], finest, torch.cat([image, left, right], 1))
        return image + residual

    def forward_scales(self, image: Tensor, left: Tensor, right: Tensor) -> list[DDDNetEstimate]:
        """Disparity at 1/2, 1/4, 1/8, 1/16 of the input, for deep supervision, and the picture."""
        decoded = self._decode(image, left, right)
        disparities = [head(x) for head, x in zip(self.heads, decoded, strict=True)]
        return [DDDNetEstimate(disparities, self._sharp(image, left, right, decoded, disparities[0]))]

    def forward(self, image: Tensor, left: Tensor, right: Tensor) -> tuple[Tensor, Tensor]:
        """Disparity (B, 1, H, W) in px of the input grid, and the picture (B, 3, H, W)."""
        decoded = self._decode(image, left, right)
        finest = self.heads[0](decoded[0])
        return upsample(finest, 2), self._sharp(image, left, right, decoded, finest)


def loss_of_options(options: Mapping[str, Any]) -> Callable[[Sequence[Any], Batch], Tensor]:
    """Disparity, picture and re-blurred halves, weighed as ``options`` say; see :mod:`dualpix.models.losses.image`."""
    names = {field.name for field in fields(DDDNetConfig)}
    weights = DDDNetConfig(**{k: v for k, v in options.items() if k in names and k.endswith("_weight")})

    def loss(predictions: Sequence[Any], batch: Batch) -> Tensor:
        estimate: DDDNetEstimate = predictions[0]
        return dual_pixel_image_loss(
            estimate.disparities_px, estimate.sharp, batch, weights.image_weight, weights.reblur_weight
        )

    return loss
