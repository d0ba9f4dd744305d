"""Disparity to first order: what two views differ by, over the slope of what they show.

Convention: disparity is ``x_right - x_left`` in px of the full picture, > 0 behind the focus plane. Where the right
view is the left one moved by d, ``right(x) - left(x) = -d slope(x)`` as long as d is small against what is seen; over a
window the best d in the sense of least squares is ``-sum(slope difference) / sum(slope^2)`` (Lucas and Kanade, IJCAI
1981). Phones' disparities are fractions of a pixel, where matching by whole shifts has nothing to choose from; larger
ones are small in a picture that is reduced. Both views of a dual pixel are blurred by mirrored kernels: their
difference is taken to be that of the centroids.

Slopes and differences at 1/2, 1/4 and 1/8 of the picture are linear in its pixels. So they are one convolution of the
picture that is folded by 4 into channels, and all else happens at 1/4: a phone is slow where channels are few.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from dualpix.models.blocks.channels import FrozenConv1x1
from dualpix.models.blocks.constants import constant
from dualpix.models.blocks.resize import mean_pool

FOLD = 4
"""By which views are folded into channels, and the stride of the result."""
SCALES = (2, 4, 8)
WINDOWS = 2
"""A mean over 3 x 3 px of the folded map, and the same of that mean."""
_PLACES = (4, 1, 1)
"""Of each scale in a pixel of the folded map."""
_UNIT = 32.0
"""Slopes and differences are computed times this: a noise floor's square, 4e-6, is less than float16 holds where small
values are flushed to zero (6e-5; XNNPACK on ARM64), and zero over zero is no disparity."""
_FLOOR = 0.002
"""Of the slope, at first: about the noise of a view."""
_MOST_PX = 2.0
"""Of a disparity, in px of the scale that it was measured at: beyond, first order says nothing."""


class SlopeDisparity(nn.Module):
    """Folded views -> disparities and log slopes, (B, scales x windows, H/4, W/4) each, windows outermost.

    ``folded`` is ``pixel_unshuffle(cat([left + right, gain (left - right)]), 4)``, (B, 32, H/4, W/4).
    """

    def __init__(self, difference_gain: float = 1.0) -> None:
        super().__init__()
        self.channels = len(SCALES) * WINDOWS
        fine = constant(lambda: _fine() * _gains(difference_gain) * _units())
        self.register_buffer("fine", fine, persistent=False)
        self.register_buffer("coarse", constant(lambda: _coarse() * _UNIT), persistent=False)
        self.mean = FrozenConv1x1(_means())
        self.floor = nn.Parameter(torch.full((1, self.channels, 1, 1), _FLOOR))
        most = constant(lambda: torch.tensor(SCALES * WINDOWS).reshape(1, -1, 1, 1) * _MOST_PX)
        self.register_buffer("most", most, persistent=False)
        self.register_buffer("least", torch.tensor(1e-8 * _UNIT**2), persistent=False)
        self.register_buffer("unit", torch.tensor(_UNIT), persistent=False)
        self.register_buffer("log_unit", torch.tensor(2 * math.log(_UNIT)), persistent=False)

    fine: Tensor
    coarse: Tensor
    most: Tensor
    least: Tensor
    unit: Tensor
    log_unit: Tensor

    def forward(self, folded: Tensor) -> tuple[Tensor, Tensor]:
        """Measure."""
        at_once = F.conv2d(folded, self.fine, padding=1)
        last = F.conv2d(at_once[:, 10:], self.coarse, padding=(1, 3))
        slope = torch.cat([at_once[:, :5], last[:, :1]], 1)
        difference = torch.cat([at_once[:, 5:10], last[:, 1:]], 1)
        terms = self.mean(torch.cat([slope * difference, slope * slope], 1))
        near = [_around(terms)]
        near.append(_around(near[0]))
        count = len(SCALES)
        floor = self.floor * self.unit
        power = torch.cat([x[:, count:] for x in near], 1) + floor * floor + self.least
        disparity = torch.cat([x[:, :count] for x in near], 1) / power
        return torch.minimum(torch.maximum(disparity, -self.most), self.most), torch.log(power) - self.log_unit


def _around(x: Tensor) -> Tensor:
    return F.avg_pool2d(x, 3, 1, 1, False, False)


def _units() -> Tensor:
    """(12, 1, 1, 1): of the fine kernels, but for the two that the coarse ones go on from."""
    return torch.tensor([_UNIT] * 10 + [1.0] * 2)[:, None, None, None]


def _gains(difference_gain: float) -> Tensor:
    """(1, 32, 1, 1): of folded views, half of the sum of the halves and their difference in its own unit."""
    return torch.tensor([0.5, 1 / difference_gain]).repeat_interleave(FOLD * FOLD)[None, :, None, None]


def _means() -> Tensor:
    """(6, 12): of the products of all places of a scale their mean, times the scale; then of the squares."""
    of_scale = [scale for scale, places in enumerate(_PLACES) for _ in range(places)]
    weights = torch.zeros(2 * len(SCALES), 2 * len(of_scale))
    for place, scale in enumerate(of_scale):
        weights[scale, place] = SCALES[scale] / _PLACES[scale]
        weights[len(SCALES) + scale, len(of_scale) + place] = 1 / _PLACES[scale]
    return weights


def slopes_plain(mean: Tensor, difference: Tensor, scale: int) -> tuple[Tensor, Tensor]:
    """Slope of the mean view and smoothed difference, (B, 1, H / scale, W / scale): the slow reference."""
    smooth, slope = torch.tensor([0.25, 0.5, 0.25]), torch.tensor([-0.5, 0.0, 0.5])
    # what two neighbours differ by is the mean slope between them, by Simpson's rule: so is the difference taken
    simpson = torch.tensor([1.0, 4.0, 1.0]) / 6
    small = [mean_pool(x, scale) for x in (mean, difference)]
    kernels = torch.outer(smooth, slope), torch.outer(smooth, simpson)
    found = [F.conv2d(x, k[None, None], padding=1) for x, k in zip(small, kernels, strict=True)]
    return found[0], found[1]


def _fine() -> Tensor:
    """(12, 32, 3, 3) of folded views: five slopes, five differences, mean and difference at 1/4."""
    side, block = 5 * FOLD, slice(2 * FOLD, 3 * FOLD)
    spots = torch.zeros(side * side, 1, side, side)
    spots.reshape(side * side, -1).fill_diagonal_(1.0)
    fine = torch.zeros(12, 2 * FOLD * FOLD, 3, 3)
    none = torch.zeros_like(spots)
    place = 0
    for scale in SCALES[:2]:
        inside = slice(block.start // scale, block.stop // scale)
        for row in range(inside.start, inside.stop):
            for column in range(inside.start, inside.stop):
                slope = slopes_plain(spots, none, scale)[0][:, 0, row, column]
                difference = slopes_plain(none, spots, scale)[1][:, 0, row, column]
                fine[place, : FOLD * FOLD] = _folded(slope)
                fine[5 + place, FOLD * FOLD :] = _folded(difference)
                place += 1
    fine[10, : FOLD * FOLD, 1, 1] = fine[11, FOLD * FOLD :, 1, 1] = 1 / FOLD**2
    return fine


def _coarse() -> Tensor:
    """(2, 2, 3, 7) of mean and difference at 1/4: slope and difference at 1/8, seen from each pixel there."""
    # at 1/8 a neighbour is two pixels away; two pixels are averaged both ways, about the middle one
    smooth = torch.tensor([0.25, 0.5, 0.25])
    steps, simpson = torch.tensor([-0.5, 0.0, 0.0, 0.0, 0.5]), torch.tensor([1.0, 0.0, 4.0, 0.0, 1.0]) / 6
    coarse = torch.zeros(2, 2, 3, 7)
    for channel, along in enumerate((steps, simpson)):
        wide = F.conv1d(along[None], smooth[None, None], padding=2)[0]
        coarse[channel, channel] = torch.outer(smooth, wide)
    return coarse


def _folded(response: Tensor) -> Tensor:
    """(20 * 20,) what each pixel adds to a value in the middle block -> (16, 3, 3) of the folded view."""
    blocks = response.reshape(5, FOLD, 5, FOLD)[1:4, :, 1:4]
    return blocks.permute(1, 3, 0, 2).reshape(FOLD * FOLD, 3, 3)
