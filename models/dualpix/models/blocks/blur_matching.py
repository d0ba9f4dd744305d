"""How well the blur of neighbouring frames of a focus stack agrees with each of several depths.

Convention: *places* lie in the range of a stack, 0 at its farthest focus and 1 at its nearest, even in diopters. A
point at place p is blurred in a frame focused at q to a circle of ``reach_px |p - q|`` px, ``reach_px`` being what the
lens makes of the whole range. A disc of diameter c has a variance of c^2 / 16 along each axis.

Were a pixel at a place, the sharper of two frames would equal the other once it is blurred by the variance that it
lacks: *relative blur* (Pentland, "A new sense for depth of field", TPAMI 1987; Subbarao and Surya, "Depth from
defocus", IJCV 1994). Neither the sharp picture nor anything learnt is needed for that; how bad the match is at each of
some places tells the depth where there is texture, with the whole of the blur in use, not only its least point. Light
is blurred, and compared as square roots, in which noise is even.

Blurs of any size are means of a ladder of eight fixed ones, so that places, lens and distances are inputs, all places
of a pair of frames are one product of matrices, and no kernel depends on anything.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from dualpix.models.blocks.channels import ChannelMean, FrozenConv1x1
from dualpix.models.blocks.constants import constant
from dualpix.models.blocks.correlation import softmax_over_channels
from dualpix.models.blocks.precision import in_full_precision
from dualpix.models.blocks.resize import mean_pool

_DILATIONS = (1, 1, 2, 2, 4, 4, 8, 8)
_VARIANCE = 0.5
"""Of (1/4, 1/2, 1/4), in px^2; a dilation d makes it d^2 times that."""
_SPREAD = 1 / 13
"""Of variance by squared circle at first; a disc's own is 1/16, edges of kernels and the steps of the ladder add."""
_BASE = 0.75
"""Variance that both frames are blurred by before they are compared, at first: fine noise goes, matches widen."""
_SMOOTH_LEVEL = 4
"""Of the ladder, that says how bright a place is."""
_UNIT = 32.0
"""Differences are computed times this, so that the floor's square, 3e-5, stays above what float16 holds where small
values are flushed to zero (6e-5; XNNPACK on ARM64)."""
_FLOOR = 0.005
"""Of differences of roots, at first: about the noise of a frame."""


def _binomial() -> Tensor:
    smooth = torch.tensor([0.25, 0.5, 0.25])
    return torch.outer(smooth, smooth)[None, None]


def _variances() -> Tensor:
    """(9,) of the levels of the ladder, in px^2."""
    return torch.tensor([0.0, *(_VARIANCE * dilation**2 for dilation in _DILATIONS)]).cumsum(0)


class BlurLadder(nn.Module):
    """Light blurred by nothing and by eight variances, (B, 1, H, W) -> (B, 9, H, W); borders weigh what is inside."""

    variances: Tensor
    kernel: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("kernel", constant(_binomial), persistent=False)
        self.register_buffer("variances", constant(_variances), persistent=False)

    def forward(self, light: Tensor) -> Tensor:
        """Blur."""
        inside = torch.ones_like(light[:1])
        levels = [light]
        for dilation in _DILATIONS:
            gain = 1 / self._blurred(inside, dilation)
            levels.append(self._blurred(levels[-1], dilation) * gain)
        return torch.cat(levels, 1)

    def _blurred(self, light: Tensor, dilation: int) -> Tensor:
        return F.conv2d(light, self.kernel, padding=dilation, dilation=dilation)


class BlurMatching(nn.Module):
    """Logarithms of how badly pairs of frames match at each of M places.

    ``forward(light, place, reach_px, apart)``: (B * N, 1, H, W) linear light, (B, N) places of the frames, (B, N) px of
    that map -> for each number ``a`` of places in the order of focus (1: neighbours) (B * (N - a), M, H/2, W/2).
    """

    def __init__(self, tried: Tensor) -> None:
        """Args: tried: (M,) places."""
        super().__init__()
        self.ladder = BlurLadder()
        self.register_buffer("tried", tried, persistent=False)
        self.register_buffer("least", torch.tensor(1e-6 * _UNIT**2), persistent=False)
        self.register_buffer("unit", torch.tensor(_UNIT), persistent=False)
        self.register_buffer("log_unit", torch.tensor(2 * math.log(_UNIT)), persistent=False)
        self.register_buffer("dark", torch.tensor(0.02), persistent=False)
        self.spread = nn.Parameter(torch.tensor(_SPREAD))
        self.base = nn.Parameter(torch.tensor(_BASE))
        self.floor = nn.Parameter(torch.tensor(_FLOOR))

    tried: Tensor
    least: Tensor
    unit: Tensor
    log_unit: Tensor
    dark: Tensor

    def forward(self, light: Tensor, place: Tensor, reach_px: Tensor, apart: Sequence[int] = (1,)) -> list[Tensor]:
        """Match; differences of nearly equal pictures need float32."""
        with in_full_precision(light):
            ladder = self.ladder(light)
            return [self._matched(ladder, place, reach_px, a) for a in apart]

    def _matched(self, ladder: Tensor, place: Tensor, reach_px: Tensor, apart: int) -> Tensor:
        (b, n), (_, levels, h, w) = place.shape, ladder.shape
        pairs = b * (n - apart)
        stacks = ladder.reshape(b, n, levels * h * w)
        both = torch.cat(
            [part.reshape(pairs, levels, h * w) for part in (stacks[:, :-apart], stacks[:, apart:])], 1
        )  # (pairs, 2 levels, pixels)
        difference = torch.bmm(self._shares(place, reach_px, apart) * self.unit, both).reshape(pairs, -1, h, w)
        bright = ladder[:, _SMOOTH_LEVEL : _SMOOTH_LEVEL + 1].reshape(b, n, h * w)[:, :-apart].reshape(-1, 1, h, w)
        of_roots = difference * difference / (bright * 4 + self.dark)  # of roots: d sqrt(x) = dx / (2 sqrt(x))
        near = F.avg_pool2d(mean_pool(of_roots, 2), 3, 1, 1, False, False)
        floor = self.floor * self.unit
        return torch.log(near + floor * floor + self.least) - self.log_unit

    def _shares(self, place: Tensor, reach_px: Tensor, apart: int) -> Tensor:
        """(B * (N - apart), M, 2 levels): of each level of the first frame in its blur, less those of the second."""
        b, n = place.shape
        circle = reach_px[:, :, None] * (place[:, :, None] - self.tried)
        variance = circle * circle * self.spread
        first, second = variance[:, :-apart], variance[:, apart:]
        lacks = [
            self._levels((more - less).clamp_min(0.0) + self.base) for less, more in ((first, second), (second, first))
        ]
        return torch.cat([lacks[0], -lacks[1]], 3).reshape(b * (n - apart), self.tried.shape[0], -1)

    def _levels(self, variance: Tensor) -> Tensor:
        """(B, P, M) -> (B, P, M, levels): the two levels around a variance, so that their mean has it."""
        knots = self.ladder.variances
        passed = ((variance[..., None] - knots[:-1]) / (knots[1:] - knots[:-1])).clamp(0.0, 1.0)
        reached = F.pad(passed, (1, 0), value=1.0)
        return reached - F.pad(passed, (0, 1))


class Evidence(nn.Module):
    """What pairs of frames say of M places: matches (B * P, M, h, w) -> scores of the same shape, features (B * P, C).

    At first the scores are the matches, less their mean over the places; what is learnt is added.
    """

    FLOAT_IN_INT8 = ("contrast", "mean")

    def __init__(self, places: int, channels: int, refine: nn.Module) -> None:
        super().__init__()
        self.mean = ChannelMean(places)
        self.contrast = FrozenConv1x1(constant(lambda: torch.eye(places) - 1 / places))
        self.join = nn.Conv2d(places + 1, channels, 1)
        self.refine = refine
        self.head = nn.Conv2d(channels, places, 1)
        self.gain = nn.Parameter(torch.tensor(-3.0))
        nn.init.zeros_(self.head.weight)
        nn.init.zeros_(self.head.bias)  # type: ignore[arg-type]

    def forward(self, matches: Tensor, pair: Tensor) -> tuple[Tensor, Tensor]:
        """Judge.

        Args:
            matches: (B * P, M, h, w).
            pair: (B * P, C, 1, 1) what both frames are focused at, embedded.
        """
        contrast = self.contrast(matches)
        features = self.refine(torch.relu(self.join(torch.cat([contrast, self.mean(matches)], 1)) + pair))
        return contrast * self.gain + self.head(features), features

    def plain(self, matches: Tensor) -> Tensor:
        """Scores of (B * P, M, h, w) matches without what is learnt: a tenth of the work."""
        y: Tensor = self.contrast(matches) * self.gain
        return y


class ExpectedPlace(nn.Module):
    """Scores (B, M, h, w) of M places -> their mean by softmax, and the sum of squared weights, (B, 1, h, w) each.

    The softmax runs over the last axis of a 3-D tensor, see :class:`~.correlation.SoftArgmax`.
    """

    FLOAT_IN_INT8 = ("expected", "total")

    def __init__(self, tried: Tensor) -> None:
        super().__init__()
        self.expected = FrozenConv1x1(tried[None])
        self.total = FrozenConv1x1(torch.ones(1, len(tried)))

    def forward(self, scores: Tensor) -> tuple[Tensor, Tensor]:
        """Expect."""
        weights = softmax_over_channels(scores)
        return self.expected(weights), self.total(weights * weights)
