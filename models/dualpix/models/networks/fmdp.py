"""Compact FMDP: disparity of a dual-pixel pair, helped by what a picture network knows (FMDP, Lee et al., MVA 2025).

Kept from the paper: matching and context are apart; the context comes from a frozen foundation model through FA blocks
(resize, 1x1, ReLU) and never touches the matching; a correlation volume whose shifts are symmetric about the
full-aperture view; a recurrent unit that reads the volume at its own estimate and corrects it; convex upsampling.
Changed, so that a phone runs it: one volume of fixed signed shifts at 1/4 instead of two all-pairs pyramids (phones
and cameras stay within 16 px), no gather and no warp, EfficientNet-Lite0 at half the size instead of ViT-L, a
depthwise-separable unit of one level, two iterations, and a correction at 1/2, where a disparity of a fraction of a
pixel is still to be seen. The paper form is in :mod:`.fmdp_paper`.

Convention: inputs are prepared by :func:`dualpix.models.prepare.network_inputs`; the output is ``x_right - x_left`` in
pixels of the network's input grid, > 0 behind the focus plane, and how sure it is, 0..1.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise

import torch
from torch import Tensor, nn

from dualpix.models.blocks import ConvBNReLU, FusedInvertedResidual, InvertedResidual
from dualpix.models.blocks.basic import UpsampleJoin
from dualpix.models.blocks.correlation import CentredCorrelation, TentLookup
from dualpix.models.blocks.recurrent import LightConvGRU
from dualpix.models.blocks.resize import ConvexUpsample, mean_pool, upsample
from dualpix.models.foundation import FOUNDATIONS, FoundationModel, foundation
from dualpix.models.prepare import BLACK

_DIFFERENCE_GAIN = 6.0
_MOST_CHANNELS = 1024
_MOST_ITERATIONS = 4
_FEATURES = 4
"""Of the foundation model: at 1/4 to 1/32 of the picture that is twice as large as what it sees."""


@dataclass(frozen=True)
class FMDPConfig:
    """Sizes of the compact network; the defaults are the shipped one."""

    foundation: str | None = "efficientnet-lite0"
    """Where the context comes from; None: from the picture alone, for comparison."""
    foundation_weights: str | None = "imagenet"
    """What training starts from: a path, ``imagenet``, or None for random ones. A trained network's file has them."""
    match_channels: tuple[int, int] = (16, 32)
    """At 1/2 and 1/4."""
    context_channels: tuple[int, int, int, int] = (48, 64, 96, 128)
    """At 1/4, 1/8, 1/16, 1/32."""
    fine_channels: int = 24
    """At 1/2."""
    reach_px: int = 4
    """Of the volume, to each side, in pixels at 1/4."""
    iterations: int = 2

    def __post_init__(self) -> None:
        channels = (*self.match_channels, *self.context_channels, self.fine_channels)
        if any(type(c) is not int or not 1 <= c <= _MOST_CHANNELS for c in channels):
            raise ValueError(f"channels are {channels}, expected whole numbers of 1 to {_MOST_CHANNELS}")
        if type(self.iterations) is not int or not 1 <= self.iterations <= _MOST_ITERATIONS:
            raise ValueError(f"iterations is {self.iterations}, expected 1 to {_MOST_ITERATIONS}")
        if type(self.reach_px) is not int or not 1 <= self.reach_px <= 32:
            raise ValueError(f"reach_px is {self.reach_px}, expected 1 to 32")
        lite = [name for name, spec in FOUNDATIONS.items() if spec.family == "efficientnet-lite"]
        if self.foundation is not None and self.foundation not in lite:
            raise ValueError(f"foundation is '{self.foundation}', expected one of {', '.join(lite)}, or null")


class MatchingEncoder(nn.Module):
    """One view with its difference to the other, (B, 2, H, W) -> features at 1/2 and 1/4.

    The difference comes amplified: at a fraction of a pixel it is all the signal there is, and to first order
    disparity is difference over slope.
    """

    def __init__(self, half: int, quarter: int) -> None:
        super().__init__()
        self.to_half = nn.Sequential(ConvBNReLU(2, half, 5, stride=2), ConvBNReLU(half, half))
        self.to_quarter = nn.Sequential(
            ConvBNReLU(half, quarter, stride=2), FusedInvertedResidual(quarter, quarter, expand=1)
        )

    def forward(self, view: Tensor) -> tuple[Tensor, Tensor]:
        """Features."""
        half = self.to_half(view)
        return half, self.to_quarter(half)


class FoundationContext(nn.Module):
    """FA blocks of a frozen model: (B, 3, H, W) -> maps at 1/4 to 1/32 with the channels of the context.

    The model sees the picture at half its size: a quarter of the work, and what a thing is does not hang on the finest
    detail.
    """

    def __init__(self, name: str, channels: tuple[int, ...]) -> None:
        super().__init__()
        self.model: FoundationModel = foundation(name).cut(_FEATURES)
        self.adapt = nn.ModuleList(
            [
                nn.Sequential(nn.Conv2d(given, wanted, 1), nn.ReLU())
                for given, wanted in zip(self.model.spec.channels, channels, strict=True)
            ]
        )
        self.register_buffer("black", torch.tensor(BLACK), persistent=False)

    black: Tensor

    def forward(self, image: Tensor) -> list[Tensor]:
        """Context, finest first."""
        # the root of light that networks are shown is within a tenth of the encoding of the pictures it was trained on
        display = (image + self.black).clamp(0.0, 1.0)
        features = self.model(mean_pool(display, 2))
        return [block(x) for block, x in zip(self.adapt, features, strict=True)]


class ContextNet(nn.Module):
    """Aggregates what was matched with what is known, down to 1/32 and back to 1/4."""

    def __init__(self, channels: tuple[int, int, int, int], *, known: bool) -> None:
        super().__init__()
        self.down = nn.ModuleList(
            [
                nn.Sequential(InvertedResidual(a, b, kernel=5, stride=2, expand=2), InvertedResidual(b, b, expand=3))
                for a, b in pairwise(channels)
            ]
        )
        self.merge = nn.ModuleList([ConvBNReLU(2 * c, c, 1) for c in channels[1:]]) if known else None
        finer = zip(channels[:0:-1], channels[-2::-1], strict=True)
        self.up = nn.ModuleList([UpsampleJoin(below, c, c) for below, c in finer])

    def forward(self, x: Tensor, known: list[Tensor]) -> Tensor:
        """(B, c4, H/4, W/4) and the foundation's context at 1/8 to 1/32 -> (B, c4, H/4, W/4)."""
        levels = [x]
        for i, stage in enumerate(self.down):
            x = stage(x)
            if self.merge is not None:
                x = self.merge[i](torch.cat([x, known[i]], 1))
            levels.append(x)
        x = levels.pop()
        for join in self.up:
            x = join(x, levels.pop())
        return x


class FMDP(nn.Module):
    """``forward(image, left, right) -> (disparity_px, confidence)``.

    Shapes: image (B, 3, H, W), left and right (B, 1, H, W), H and W multiples of 32; results (B, 1, H, W).
    """

    def __init__(self, config: FMDPConfig | None = None) -> None:
        super().__init__()
        self.config = config = config or FMDPConfig()
        m2, m4 = config.match_channels
        c4, fine = config.context_channels[0], config.fine_channels
        self.match = MatchingEncoder(m2, m4)
        self.volume = CentredCorrelation(m4, config.reach_px)
        self.image_half = ConvBNReLU(3, m2, stride=2)
        self.image_quarter = ConvBNReLU(m2, m4, stride=2)
        self.known = (
            FoundationContext(config.foundation, config.context_channels) if config.foundation is not None else None
        )
        planes = 2 * config.reach_px + 1
        self.fuse = nn.Sequential(
            ConvBNReLU(planes + 3 * m4 + (c4 if self.known is not None else 0), c4, 1),
            FusedInvertedResidual(c4, c4, expand=1),
        )
        self.context = ContextNet(config.context_channels, known=self.known is not None)
        self.first = nn.Conv2d(c4, 1, 3, padding=1)
        self.look_up = TentLookup(config.reach_px, 2)
        self.motion = ConvBNReLU(6 + c4, 2 * c4 // 3, 1)
        self.gru = LightConvGRU(c4, 2 * c4 // 3)
        self.correct = nn.Conv2d(c4, 1, 3, padding=1)
        self.to_fine = ConvBNReLU(c4, fine, 1)
        self.join = ConvBNReLU(fine + 3 * m2, fine, 1)
        self.refine = nn.Sequential(FusedInvertedResidual(fine, fine, expand=1), InvertedResidual(fine, fine, expand=2))
        self.finest = nn.Conv2d(fine, 1, 3, padding=1)
        self.sure = nn.Conv2d(fine, 1, 3, padding=1)
        self.mask = nn.Conv2d(fine, 9 * 4, 1)
        self.convex = ConvexUpsample(2)
        for name, value in (("difference_gain", _DIFFERENCE_GAIN), ("to_quarter", 0.25)):
            self.register_buffer(name, torch.tensor(value), persistent=False)

    difference_gain: Tensor
    to_quarter: Tensor

    def start(self) -> str | None:
        """Put the foundation model's published weights in, before training; where they are from, None of random ones.

        Raises:
            DualpixError: they are not there, or of another model.
        """
        if self.known is None or self.config.foundation_weights is None or self.config.foundation is None:
            return None
        given = foundation(self.config.foundation, self.config.foundation_weights)
        self.known.model.load_state_dict(given.cut(_FEATURES).state_dict())
        return given.source

    def _disparities(self, image: Tensor, left: Tensor, right: Tensor) -> tuple[list[Tensor], Tensor]:
        """Disparity in input px, at 1/2 and then at 1/4 from the last estimate to the first; fine features at 1/2."""
        difference = (left - right) * self.difference_gain
        # two calls rather than one stacked batch: Vulkan delegates convolutions at batch 1 only
        left2, left4 = self.match(torch.cat([left, difference], 1))
        right2, right4 = self.match(torch.cat([right, -difference], 1))
        image2 = self.image_half(image)
        volume = self.volume(left4, right4)
        known = self.known(image) if self.known is not None else []
        seen = self.fuse(torch.cat([volume, left4, right4, self.image_quarter(image2), *known[:1]], 1))
        context = self.context(seen, known[1:])
        hidden = torch.tanh(context)
        estimates = [self.first(context)]
        for _ in range(self.config.iterations):
            looked_up = self.look_up(volume, estimates[0].detach() * self.to_quarter)
            motion = self.motion(torch.cat([looked_up, estimates[0], seen], 1))
            hidden = self.gru(hidden, motion)
            estimates.insert(0, estimates[0] + self.correct(hidden))
        fine = self.join(torch.cat([upsample(self.to_fine(hidden), 2), left2, right2, image2], 1))
        fine = self.refine(fine)
        return [upsample(estimates[0], 2) + self.finest(fine), *estimates], fine

    def _full(self, half: Tensor, fine: Tensor) -> Tensor:
        """Convex upsampling; the values are in input px already."""
        upsampling = self.convex.plain if self.training else self.convex  # equal; their gradients cost 1 to 3
        return upsampling(half * 0.5, self.mask(fine))

    def forward_scales(self, image: Tensor, left: Tensor, right: Tensor) -> list[Tensor]:
        """For the loss: (B, 2, H, W) disparity and confidence's logit, then disparities at 1/4, last to first."""
        (half, *estimates), fine = self._disparities(image, left, right)
        finest = self._full(half, fine)
        return [torch.cat([finest, upsample(self.sure(fine), 2)], 1), *estimates[:3]]

    def forward(self, image: Tensor, left: Tensor, right: Tensor) -> tuple[Tensor, Tensor]:
        """Disparity (B, 1, H, W) in px of the input grid, and how sure it is."""
        (half, *_), fine = self._disparities(image, left, right)
        return self._full(half, fine), torch.sigmoid(upsample(self.sure(fine), 2))
