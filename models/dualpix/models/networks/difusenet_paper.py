"""DiFuse-Net at the paper's size: 9.9 M parameters (arXiv 2506.14709v2, Samsung, IROS 2025; no code was released).

From the text: EfficientNet-Lite3 image encoder to 1/32 and one more inverted-residual block to 1/64; siamese dual-pixel
encoder of two inverted-residual blocks, each of stride 2; windowed bidirectional parallax attention after each; fusion
by features at 1/2 and 1/4; U-Net decoder with PReLU and a depth map from every block, all of which enter the loss; a
sigmoid that gives affine-invariant inverse depth.

Inferred, where it says nothing: widths (those of the encoder at 1/2 and 1/4 in the dual-pixel branch, so that the three
sources of a fusion can be summed; the decoder's chosen to meet the published size); kernels of 5 in the dual-pixel
blocks; window k = 8; one merging convolution for both views; sigmoid as normalisation of the fusion's maps; fused
features are the decoder's skips and do not go back into the image encoder, which so keeps what it was pretrained for;
the finest depth map is at 1/2 and enlarged. Changed: the default head is linear and gives signed disparity, because
pixels and metres are what this project's commands give; ``head="inverse_depth_affine"`` is the paper's.

Convention: inputs are prepared by :func:`dualpix.models.prepare.network_inputs`. ``disparity_px`` is ``x_right -
x_left`` in pixels of the network's input grid, > 0 behind the focus plane; ``inverse_depth_affine`` lies in 0..1 and is
larger nearer.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from dualpix.models.blocks import ConvBNReLU, FeatureWiseFusion, InvertedResidual, TextbookParallaxAttention
from dualpix.models.foundation import FOUNDATIONS, foundation
from dualpix.models.foundation.efficientnet import LITE, EfficientNetLite, LiteBlock

HEADS = ("disparity_px", "inverse_depth_affine")
_WINDOWS = (2, 4, 8)
_MOST_CHANNELS = 2048
_BLACK = 0.4
"""What :mod:`dualpix.models.prepare` takes off its encoded light, which is about sRGB: encoders know 0 to 1."""
_BOTTOM_EXPAND, _DP_KERNEL, _DP_EXPAND = 6, 5, 6
_DP_FIRST_EXPAND = 48
"""Of one channel: as many filters as the second block's expansion has for two."""


@dataclass(frozen=True)
class DiFuseNetPaperConfig:
    """Of the published network, but for ``head``."""

    encoder: str = "efficientnet-lite3"
    """efficientnet-lite0 to 4; the paper's is 3."""
    decoder_channels: tuple[int, int, int, int, int] = (32, 48, 64, 96, 128)
    """At 1/2, 1/4, 1/8, 1/16, 1/32."""
    window: int = 8
    """Of the attention, in feature pixels: 2, 4 or 8, because inputs are multiples of 32 and it runs at 1/4."""
    attended: str = "own"
    """See :class:`~dualpix.models.blocks.TextbookParallaxAttention`, as for ``reverse``."""
    reverse: str = "transpose"
    fusion: str = "sigmoid"
    """Normalisation of the weight maps, see :class:`~dualpix.models.blocks.FeatureWiseFusion`."""
    head: str = "disparity_px"
    """What it gives: signed disparity, linear; or ``inverse_depth_affine``, a sigmoid, as in the paper."""

    def __post_init__(self) -> None:
        if self.encoder not in LITE:
            raise ValueError(f"encoder is {self.encoder!r:.40}, expected one of {', '.join(LITE)}")
        channels = self.decoder_channels
        if len(channels) != 5 or any(type(c) is not int or not 1 <= c <= _MOST_CHANNELS for c in channels):
            raise ValueError(f"decoder_channels are {channels}, expected five whole numbers of 1 to {_MOST_CHANNELS}")
        if type(self.window) is not int or self.window not in _WINDOWS:
            raise ValueError(f"window is {self.window}, expected 2, 4 or 8")
        if self.head not in HEADS:
            raise ValueError(f"head is {self.head!r:.40}, expected one of {', '.join(HEADS)}")

    @property
    def encoder_channels(self) -> tuple[int, ...]:
        """At 1/2, 1/4, 1/8, 1/16, 1/32."""
        return FOUNDATIONS[self.encoder].channels


class ImageEncoder(nn.Module):
    """(B, 3, H, W) as :mod:`dualpix.models.prepare` gives it -> features at 1/2, 1/4, 1/8, 1/16, 1/32, 1/64."""

    def __init__(self, config: DiFuseNetPaperConfig) -> None:
        super().__init__()
        self.name = config.encoder
        spec, deepest = FOUNDATIONS[config.encoder], config.encoder_channels[-1]
        self.trunk = EfficientNetLite(LITE[config.encoder])
        self.to_sixty_fourth = LiteBlock(deepest, deepest, 5, 2, _BOTTOM_EXPAND)
        mean, std = torch.tensor(spec.mean), torch.tensor(spec.std)
        self.register_buffer("gain", (1 / std)[:, None, None], persistent=False)
        self.register_buffer("shift", ((_BLACK - mean) / std)[:, None, None], persistent=False)

    gain: Tensor
    shift: Tensor

    def forward(self, image: Tensor) -> list[Tensor]:
        """Finest first."""
        features: list[Tensor] = self.trunk(image * self.gain + self.shift)
        return [*features, self.to_sixty_fourth(features[-1])]

    def load_pretrained(self, weights: str | Path) -> str:
        """Put published weights into the trunk; where they are from. See :func:`dualpix.models.foundation.foundation`.

        Raises:
            DualpixError: they do not load, or are of another encoder.
        """
        loaded = foundation(self.name, weights, frozen=False)
        self.trunk.load_state_dict(loaded.trunk.state_dict())
        return loaded.source


class DualPixelEncoder(nn.Module):
    """Siamese: two (B, 1, H, W) views -> ((left, right) at 1/2, (left, right) at 1/4), with attention after each."""

    def __init__(self, config: DiFuseNetPaperConfig) -> None:
        super().__init__()
        c2, c4 = config.encoder_channels[:2]
        attention = (config.window, config.attended, config.reverse)
        self.to_half = InvertedResidual(1, c2, kernel=_DP_KERNEL, stride=2, expand=_DP_FIRST_EXPAND)
        self.half_attention = TextbookParallaxAttention(c2, *attention)
        self.to_quarter = InvertedResidual(c2, c4, kernel=_DP_KERNEL, stride=2, expand=_DP_EXPAND)
        self.quarter_attention = TextbookParallaxAttention(c4, *attention)

    def forward(self, left: Tensor, right: Tensor) -> tuple[tuple[Tensor, Tensor], tuple[Tensor, Tensor]]:
        """See the class."""
        half = self.half_attention(self.to_half(left), self.to_half(right))
        return half, self.quarter_attention(self.to_quarter(half[0]), self.to_quarter(half[1]))


class ConvBNPReLU(nn.Sequential):
    """3x3 convolution, batch norm, one slope a channel."""

    def __init__(self, in_channels: int, out_channels: int) -> None:
        super().__init__(
            nn.Conv2d(in_channels, out_channels, 3, padding=1, bias=False),
            nn.BatchNorm2d(out_channels),
            nn.PReLU(out_channels),
        )


class DecoderBlock(nn.Module):
    """Enlarge to the skip's size, join it, convolve twice; the depth map of the block beside its features."""

    def __init__(self, below: int, skip: int, out_channels: int) -> None:
        super().__init__()
        self.body = nn.Sequential(ConvBNPReLU(below + skip, out_channels), ConvBNPReLU(out_channels, out_channels))
        self.head = nn.Conv2d(out_channels, 1, 3, padding=1)

    def forward(self, below: Tensor, skip: Tensor) -> tuple[Tensor, Tensor]:
        """(B, below, h, w), (B, skip, H, W) -> features (B, out, H, W), map (B, 1, H, W)."""
        up = F.interpolate(below, size=skip.shape[-2:], mode="bilinear", align_corners=False)
        features: Tensor = self.body(torch.cat([up, skip], 1))
        return features, self.head(features)


class Decoder(nn.Module):
    """Features at 1/2 to 1/64, finest first -> maps at 1/2 to 1/32, finest first."""

    def __init__(self, config: DiFuseNetPaperConfig, head: str) -> None:
        super().__init__()
        skips, widths = config.encoder_channels, config.decoder_channels
        belows = (*widths[1:], skips[-1])
        blocks = [DecoderBlock(*channels) for channels in zip(belows, skips, widths, strict=True)]
        self.blocks = nn.ModuleList(blocks)
        self.affine = head == "inverse_depth_affine"

    def forward(self, features: list[Tensor]) -> list[Tensor]:
        """See the class."""
        *skips, below = features
        maps = []
        for block, skip in zip(reversed(self.blocks), reversed(skips), strict=True):
            below, found = block(below, skip)
            maps.append(torch.sigmoid(found) if self.affine else found)
        return maps[::-1]


class DiFuseNetPaper(nn.Module):
    """``forward(image, left, right) -> disparity_px`` or ``inverse_depth_affine``; see the module text.

    Shapes: image (B, 3, H, W), left and right (B, 1, H, W), H and W multiples of 32; result (B, 1, H, W).
    """

    def __init__(self, config: DiFuseNetPaperConfig | None = None) -> None:
        super().__init__()
        self.config = config = config or DiFuseNetPaperConfig()
        self.dual_pixel = DualPixelEncoder(config)
        self.image = ImageEncoder(config)
        self.fusions = nn.ModuleList(FeatureWiseFusion(c, config.fusion) for c in config.encoder_channels[:2])
        self.decoder = Decoder(config, config.head)

    def forward_scales(self, image: Tensor, left: Tensor, right: Tensor) -> list[Tensor]:
        """Maps at 1/2, 1/4, 1/8, 1/16, 1/32, in pixels of the input where they are disparities."""
        pairs, features = self.dual_pixel(left, right), self.image(image)
        fused = [fusion(*pair, one) for fusion, pair, one in zip(self.fusions, pairs, features[:2], strict=True)]
        maps: list[Tensor] = self.decoder([*fused, *features[2:]])
        return maps

    def forward(self, image: Tensor, left: Tensor, right: Tensor) -> Tensor:
        """(B, 1, H, W)."""
        return enlarged(self.forward_scales(image, left, right)[0])

    def load_pretrained(self, weights: str | Path) -> str:
        """See :meth:`ImageEncoder.load_pretrained`."""
        return self.image.load_pretrained(weights)


class ImageBranch(nn.Module):
    """Image encoder and decoder alone, ``forward(image) -> inverse_depth_affine``: one picture has no focus plane."""

    def __init__(self, config: DiFuseNetPaperConfig | None = None) -> None:
        super().__init__()
        self.config = config = config or DiFuseNetPaperConfig()
        self.image = ImageEncoder(config)
        self.decoder = Decoder(config, "inverse_depth_affine")

    def forward_scales(self, image: Tensor) -> list[Tensor]:
        """Maps at 1/2, 1/4, 1/8, 1/16, 1/32."""
        maps: list[Tensor] = self.decoder(self.image(image))
        return maps

    def forward(self, image: Tensor) -> Tensor:
        """(B, 1, H, W) in 0..1."""
        return enlarged(self.forward_scales(image)[0])

    def load_pretrained(self, weights: str | Path) -> str:
        """See :meth:`ImageEncoder.load_pretrained`."""
        return self.image.load_pretrained(weights)


class DualPixelBranch(nn.Module):
    """Dual-pixel encoder and decoder alone, ``forward(left, right)``; the decoder is that of the whole network.

    Inferred: its skips at 1/2 and 1/4 are convolutions of both views' features; those below, which the image encoder
    gives in the whole network, are averages of the latter.
    """

    def __init__(self, config: DiFuseNetPaperConfig | None = None) -> None:
        super().__init__()
        self.config = config = config or DiFuseNetPaperConfig()
        c2, c4, *coarse = config.encoder_channels
        self.dual_pixel = DualPixelEncoder(config)
        self.joins = nn.ModuleList(ConvBNReLU(2 * c, c, 3) for c in (c2, c4))
        self.widen = nn.ModuleList(ConvBNReLU(a, b, 1) for a, b in pairwise((c4, *coarse, coarse[-1])))
        self.decoder = Decoder(config, config.head)

    def forward_scales(self, left: Tensor, right: Tensor) -> list[Tensor]:
        """Maps at 1/2, 1/4, 1/8, 1/16, 1/32."""
        pairs = self.dual_pixel(left, right)
        features = [join(torch.cat(pair, 1)) for join, pair in zip(self.joins, pairs, strict=True)]
        for widen in self.widen:
            features.append(widen(F.avg_pool2d(features[-1], 2, ceil_mode=True)))
        maps: list[Tensor] = self.decoder(features)
        return maps

    def forward(self, left: Tensor, right: Tensor) -> Tensor:
        """(B, 1, H, W)."""
        return enlarged(self.forward_scales(left, right)[0])


def enlarged(finest: Tensor) -> Tensor:
    """A map at 1/2 at the input's size."""
    return F.interpolate(finest, scale_factor=2.0, mode="bilinear", align_corners=False)
