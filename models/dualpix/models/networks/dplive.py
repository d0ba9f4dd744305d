"""A dual-pixel network for a live view: a quarter of the work of the others.

Everything but the last step happens at 1/4 of the picture and below. What is lost with the detail, a disparity of a
fraction of a pixel, is measured before: the difference of both views over the slope of the picture, in closed form, at
three scales and two windows (:mod:`dualpix.models.blocks.slope`). The network says which of them is right at each
pixel, and corrects that; the picture in full detail, folded into channels, says where surfaces end. Convolutions are
dense: at few channels a depthwise one takes a phone's processor as long as ten times its work.

Convention: inputs are prepared by :func:`dualpix.models.prepare.network_inputs`; the output is ``x_right - x_left`` in
pixels of the network's input grid, > 0 behind the focus plane, and how sure it is, 0..1.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor, nn

from dualpix.models.blocks import ConvBNReLU, FusedInvertedResidual, InvertedResidual
from dualpix.models.blocks.basic import UpsampleJoin
from dualpix.models.blocks.channels import FrozenConv1x1
from dualpix.models.blocks.correlation import CentredCorrelation
from dualpix.models.blocks.resize import ConvexUpsample, pixel_unshuffle, upsample
from dualpix.models.blocks.slope import FOLD, SlopeDisparity

_DIFFERENCE_GAIN = 6.0
_MOST_CHANNELS = 1024
_MOST_SCORE = 6.0
"""Of a measurement, to either side: e^12 is all or nothing."""
CUES = ("slope", "planes", "both", "none")


@dataclass(frozen=True)
class DPLiveConfig:
    """Sizes; the defaults are the shipped one."""

    cue: str = "slope"
    """What is measured before anything is learnt: first-order disparities, planes of whole shifts, both or nothing."""
    view_channels: int = 32
    image_channels: int = 24
    channels: tuple[int, int, int, int] = (40, 64, 80, 96)
    """At 1/4, 1/8, 1/16, 1/32."""
    blocks: tuple[int, int, int] = (1, 2, 2)
    reach_px: int = 4
    """Of planes, to each side, in pixels at 1/4."""

    def __post_init__(self) -> None:
        channels = (self.view_channels, self.image_channels, *self.channels)
        if any(type(c) is not int or not 1 <= c <= _MOST_CHANNELS for c in channels):
            raise ValueError(f"channels are {channels}, expected whole numbers of 1 to {_MOST_CHANNELS}")
        if self.cue not in CUES:
            raise ValueError(f"cue is {self.cue!r:.40}, expected one of {', '.join(CUES)}")


class DPLive(nn.Module):
    """``forward(image, left, right) -> (disparity_px, confidence)``.

    Shapes: image (B, 3, H, W), left and right (B, 1, H, W), H and W multiples of 32; results (B, 1, H, W).
    """

    FLOAT_IN_INT8: ClassVar[tuple[str, ...]] = ("slope", "total")  # what nearly equal pictures differ by

    def __init__(self, config: DPLiveConfig | None = None) -> None:
        super().__init__()
        self.config = config = config or DPLiveConfig()
        c4, c8, c16, c32 = config.channels
        n4, n8, n16 = config.blocks
        fold = FOLD * FOLD
        self.slope = SlopeDisparity(_DIFFERENCE_GAIN) if config.cue in ("slope", "both") else None
        planes = config.cue in ("planes", "both")
        self.volume = CentredCorrelation(config.view_channels, config.reach_px) if planes else None
        cues = (2 * self.slope.channels if self.slope is not None else 0) + (
            2 * config.reach_px + 1 if self.volume is not None else 0
        )
        views = 2 * fold
        self.views = ConvBNReLU(views, config.view_channels)
        self.image = ConvBNReLU(3 * fold, config.image_channels, 1)
        seen = config.view_channels * (2 if self.volume is not None else 1)
        self.join = ConvBNReLU(seen + config.image_channels + cues, c4, 1)
        self.at4 = nn.Sequential(*(_dense(c4, c4) for _ in range(n4)))
        self.at8 = nn.Sequential(_dense(c4, c8, stride=2), *(_dense(c8, c8) for _ in range(n8)))
        self.at16 = nn.Sequential(_dense(c8, c16, stride=2), *(_dense(c16, c16) for _ in range(n16)))
        # depthwise where pixels are few: they see far for few weights
        self.at32 = nn.Sequential(
            InvertedResidual(c16, c32, kernel=5, stride=2, expand=2), InvertedResidual(c32, c32, kernel=5, expand=2)
        )
        self.up16 = UpsampleJoin(c32, c16, c16)
        self.up8 = UpsampleJoin(c16, c8, c8, _dense(c8, c8))
        self.up4 = UpsampleJoin(c8, c4, c4, _dense(c4, c4))
        self.choose = nn.Conv2d(c4, self.slope.channels, 1) if self.slope is not None else None
        self.total = FrozenConv1x1(torch.ones(1, self.slope.channels)) if self.slope is not None else None
        self.correct = nn.Conv2d(c4, 1, 3, padding=1)
        self.sure = nn.Conv2d(c4, 1, 3, padding=1)
        self.mask = nn.Conv2d(c4, 9 * fold, 1)
        self.convex = ConvexUpsample(FOLD)
        for name, value in (("difference_gain", _DIFFERENCE_GAIN), ("to_coarse", 1.0 / FOLD), ("most", _MOST_SCORE)):
            self.register_buffer(name, torch.tensor(value), persistent=False)

    difference_gain: Tensor
    to_coarse: Tensor
    most: Tensor

    def _disparity(self, image: Tensor, left: Tensor, right: Tensor) -> tuple[Tensor, Tensor]:
        """Disparity in input px at 1/4, and features there."""
        difference = (left - right) * self.difference_gain
        parts = []
        folded = pixel_unshuffle(torch.cat([left + right, difference], 1), FOLD)
        if self.volume is None:
            parts.append(self.views(folded))
        else:
            one = self.views(pixel_unshuffle(torch.cat([left, difference], 1), FOLD))
            other = self.views(pixel_unshuffle(torch.cat([right, -difference], 1), FOLD))
            parts += [one, other, self.volume(one, other)]
        parts.append(self.image(pixel_unshuffle(image, FOLD)))
        measured = None
        if self.slope is not None:
            measured, power = self.slope(folded)
            parts += [measured, power]
        at4 = self.at4(self.join(torch.cat(parts, 1)))
        at8 = self.at8(at4)
        at16 = self.at16(at8)
        y = self.up8(self.up16(self.at32(at16), at16), at8)
        y = self.up4(y, at4)
        found = self.correct(y)
        if self.choose is not None and self.total is not None and measured is not None:
            weights = torch.exp(torch.minimum(torch.maximum(self.choose(y), -self.most), self.most))
            found = found + self.total(weights * measured) / self.total(weights)
        return found, y

    def _full(self, coarse: Tensor, features: Tensor) -> Tensor:
        upsampling = self.convex.plain if self.training else self.convex
        return upsampling(coarse * self.to_coarse, self.mask(features))

    def forward_scales(self, image: Tensor, left: Tensor, right: Tensor) -> list[Tensor]:
        """For the loss: (B, 2, H, W) disparity and confidence's logit, then disparity at 1/4."""
        coarse, features = self._disparity(image, left, right)
        finest = self._full(coarse, features)
        return [torch.cat([finest, upsample(self.sure(features), FOLD)], 1), coarse]

    def forward(self, image: Tensor, left: Tensor, right: Tensor) -> tuple[Tensor, Tensor]:
        """Disparity (B, 1, H, W) in px of the input grid, and how sure it is."""
        coarse, features = self._disparity(image, left, right)
        return self._full(coarse, features), torch.sigmoid(upsample(self.sure(features), FOLD))


def _dense(given: int, wanted: int, *, stride: int = 1) -> FusedInvertedResidual:
    return FusedInvertedResidual(given, wanted, stride=stride, expand=1)
