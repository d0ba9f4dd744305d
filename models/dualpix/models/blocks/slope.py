"""Disparity to first order: what two views differ by, over the slope of what they show.

Convention: disparity is ``x_right - x_left`` in px of the full picture, > 0 behind the focus plane. Where the right
view is the left one moved by d, ``right(x) - left(x) = -d slope(x)`` as long as d is small against what is seen; over a
window the best d in the sense of least squares is ``-sum(slope difference) / sum(slope^2)`` (Lucas and Kanade, IJCAI
1981). Phones' disparities are fractions of a pixel, where matching by whole shifts has nothing to choose from; larger
ones are small in a picture that is reduced. Both views of a dual pixel are blurred by mirrored kernels: their
difference is taken to be that of the centroids.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from dualpix.models.blocks.resize import mean_pool, upsample

_STRIDE = 4
"""Of the map that all scales come to."""
_FLOOR = 0.002
"""Of the slope, at first: about the noise of a view."""
_MOST_PX = 2.0
"""Of a disparity, in px of the scale that it was measured at: beyond, first order says nothing."""


class SlopeDisparity(nn.Module):
    """(B, 1, H, W) left and right -> disparities and log slopes, each (B, scales x windows, H/4, W/4).

    Scales are 1/2, 1/4 and 1/8; windows are sides in px of the scale.
    """

    def __init__(self, scales: tuple[int, ...] = (2, 4, 8), windows: tuple[int, ...] = (3, 7)) -> None:
        super().__init__()
        self.scales, self.windows = scales, windows
        self.channels = len(scales) * len(windows)
        smooth, slope = torch.tensor([0.25, 0.5, 0.25]), torch.tensor([-0.5, 0.0, 0.5])
        # what two neighbours differ by is the mean slope between them, by Simpson's rule: so is the difference taken
        simpson = torch.tensor([1.0, 4.0, 1.0]) / 6
        kernel = torch.stack([torch.outer(smooth, slope), torch.outer(smooth, simpson)])[:, None]
        self.register_buffer("kernel", kernel, persistent=False)
        self.floor = nn.Parameter(torch.full((1, self.channels, 1, 1), _FLOOR))
        for name, value in (("one_half", 0.5), ("least", 1e-8)):
            self.register_buffer(name, torch.tensor(value), persistent=False)

    kernel: Tensor
    one_half: Tensor
    least: Tensor

    def forward(self, left: Tensor, right: Tensor) -> tuple[Tensor, Tensor]:
        """Measure."""
        both = torch.cat([(left + right) * self.one_half, left - right], 1)
        products, squares, at = [], [], 1
        for scale in self.scales:
            both, at = mean_pool(both, scale // at), scale
            slope, difference = torch.split(F.conv2d(both, self.kernel, padding=1, groups=2), 1, 1)
            terms = torch.cat([slope * difference, slope * slope], 1)
            for window in self.windows:
                near = self._to_quarter(F.avg_pool2d(terms, window, 1, window // 2, False, False), scale)
                products.append(near[:, :1] * scale)
                squares.append(near[:, 1:])
        power = torch.cat(squares, 1) + self.floor * self.floor + self.least
        disparity = torch.cat(products, 1) / power
        return self._bounded(disparity), torch.log(power)

    def _bounded(self, disparity: Tensor) -> Tensor:
        parts = []
        for place, scale in enumerate(s for s in self.scales for _ in self.windows):
            parts.append(disparity[:, place : place + 1].clamp(-_MOST_PX * scale, _MOST_PX * scale))
        return torch.cat(parts, 1)

    @staticmethod
    def _to_quarter(x: Tensor, scale: int) -> Tensor:
        if scale < _STRIDE:
            return mean_pool(x, _STRIDE // scale)
        return x if scale == _STRIDE else upsample(x, scale // _STRIDE)
