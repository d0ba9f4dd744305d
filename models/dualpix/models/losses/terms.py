"""What the losses share: means over what is known, targets at a prediction's size, gradients, weights of scales.

Convention: maps are (B, 1, H, W). ``known`` and masks are 1 where the truth is known and 0 at its holes, or None where
it is known everywhere.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

CONFIDENCE_WEIGHT = 0.1
"""Of the confidence beside the disparity: a guess of 1/2 costs as much as 0.07 of the disparity's own loss."""
GRADIENT_WEIGHT = 0.2
"""Much less than the paper's 30: while nothing is matched yet, the gradient term rewards a constant map."""
SCALE_WEIGHTS = (1.0, 0.2, 0.1, 0.05, 0.025)
"""Of the predictions, finest first: matching is learnt at fine scales, and coarse terms of equal weight delay it."""
SHARE_FLOOR = 1e-3
_GRADIENT_SCALES = 3
_KNOWN_SHARE = 0.5


def exact(values: Tensor) -> Tensor:
    """In float32, or in float64 where they are."""
    return values if values.dtype in (torch.float32, torch.float64) else values.float()


def masked_mean(values: Tensor, mask: Tensor | None) -> Tensor:
    """Mean over what ``mask`` is 1 at, or over all; 0 where it is nowhere."""
    if mask is None:
        return values.mean()
    return (values * mask).sum() / mask.expand_as(values).sum().clamp_min(1.0)


def at_size_of(target: Tensor, like: Tensor, known: Tensor | None) -> tuple[Tensor, Tensor | None]:
    """The target and its mask, area-averaged; a cell counts if half of it is known."""
    size = (like.shape[-2], like.shape[-1])
    if known is None:
        return F.adaptive_avg_pool2d(target, size), None
    share = F.adaptive_avg_pool2d(known, size)
    filled = torch.where(known > 0, target, 0.0)  # what a hole holds may be no number
    mean = F.adaptive_avg_pool2d(filled, size) / share.clamp_min(SHARE_FLOOR)
    return mean, (share >= _KNOWN_SHARE).to(target.dtype)


def gradient(error: Tensor, mask: Tensor | None, scales: int = _GRADIENT_SCALES) -> Tensor:
    """Mean absolute difference between neighbours of the error map, over a small pyramid."""
    total = error.new_zeros(())
    for _ in range(scales):
        total = total + step(error, mask, -1) + step(error, mask, -2)
        if min(error.shape[-2:]) < 4:
            break
        if mask is not None:
            share = F.avg_pool2d(mask, 2)
            error = F.avg_pool2d(error * mask, 2) / share.clamp_min(SHARE_FLOOR)
            mask = (share >= _KNOWN_SHARE).to(error.dtype)
        else:
            error = F.avg_pool2d(error, 2)
    return total / scales


def step(error: Tensor, mask: Tensor | None, axis: int) -> Tensor:
    """Between neighbours that are both known; a map of one pixel has none."""
    if error.shape[axis] < 2:
        return error.new_zeros(())
    both = None
    if mask is not None:
        count = mask.shape[axis] - 1
        both = mask.narrow(axis, 0, count) * mask.narrow(axis, 1, count)
    return masked_mean(error.diff(dim=axis).abs(), both)
