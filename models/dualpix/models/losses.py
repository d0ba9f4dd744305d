"""Training losses.

Convention: maps are (B, 1, H, W), disparity in px of the network's input grid, depth in m. ``known`` is 1 where the
truth is known and 0 at its holes, or None where it is known everywhere.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn import functional as F

GRADIENT_WEIGHT = 0.2
"""Much less than the paper's 30: while nothing is matched yet, the gradient term rewards a constant map."""
SCALE_WEIGHTS = (1.0, 0.2, 0.1, 0.05)
"""Of the predictions, finest first: matching is learnt at fine scales, and coarse terms of equal weight delay it."""
_GRADIENT_SCALES = 3
_SOFT_PX = 1.0
_LEAST_M = 1e-3
_ROOT_FLOOR = 1e-8
"""Under a root: its slope at zero has no end."""
_KNOWN_SHARE, _SHARE_FLOOR = 0.5, 1e-3


def disparity_loss(predictions: Sequence[Tensor], target: Tensor, known: Tensor | None = None) -> Tensor:
    """Deep-supervised disparity loss: L1 plus multi-scale L1 of gradients, milder for samples with a large range.

    DiFuse-Net weighs ``MAE_si + 30 MAE(grad)`` on affine-invariant depth (arXiv 2506.14709, section 5); this network's
    output has a scale and a sign, so the error is taken as it is, over (1 px + the sample's deviation): a phone's
    half a pixel counts, and a camera's eight do not drown it.

    Args:
        predictions: finest first, each (B, 1, h, w), at most four; the target is area-averaged to their size.
        target: (B, 1, H, W) true disparity in px.
        known: (B, 1, H, W).

    Raises:
        ValueError: no prediction, or more than there are weights for.
    """
    if not 1 <= len(predictions) <= len(SCALE_WEIGHTS):
        raise ValueError(f"{len(predictions)} predictions, expected 1 to {len(SCALE_WEIGHTS)}")
    scale = (_SOFT_PX + _deviation(target, known)).reshape(-1, 1, 1, 1)
    total = target.new_zeros(())
    for weight, prediction in zip(SCALE_WEIGHTS, predictions, strict=False):
        resized, mask = _resized(target, prediction, known)
        error = (exact(prediction) - resized) / scale
        total = total + weight * (masked_mean(error.abs(), mask) + GRADIENT_WEIGHT * _gradient(error, mask))
    return total


def depth_loss(predictions: Sequence[Tensor], target_m: Tensor, known: Tensor | None = None) -> Tensor:
    """Deep-supervised loss of metric depth: scale-invariant logarithmic error plus gradients of the logarithm.

    ``sqrt(mean(e^2) - 0.5 mean(e)^2)`` with ``e`` the difference of the logarithms (Eigen et al., "Depth map prediction
    from a single image", NeurIPS 2014, with the usual root); half of the scale's error stays in it, as a stack knows
    its scale.

    Args:
        predictions: finest first, each (B, 1, h, w) in m, above 0, at most four.
        target_m: (B, 1, H, W), above 0.
        known: (B, 1, H, W).

    Raises:
        ValueError: no prediction, or more than there are weights for.
    """
    if not 1 <= len(predictions) <= len(SCALE_WEIGHTS):
        raise ValueError(f"{len(predictions)} predictions, expected 1 to {len(SCALE_WEIGHTS)}")
    total = target_m.new_zeros(())
    for weight, prediction in zip(SCALE_WEIGHTS, predictions, strict=False):
        resized, mask = _resized(target_m.log(), prediction, known)
        error = exact(prediction).clamp_min(_LEAST_M).log() - resized
        spread = masked_mean(error.square(), mask) - 0.5 * masked_mean(error, mask).square()
        silog = torch.sqrt(spread.clamp_min(0.0) + _ROOT_FLOOR)
        total = total + weight * (silog + GRADIENT_WEIGHT * _gradient(error, mask))
    return total


def exact(values: Tensor) -> Tensor:
    """In float32, or in float64 where they are."""
    return values if values.dtype in (torch.float32, torch.float64) else values.float()


def masked_mean(values: Tensor, mask: Tensor | None) -> Tensor:
    """Mean over what ``mask`` is 1 at, or over all; 0 where it is nowhere."""
    if mask is None:
        return values.mean()
    return (values * mask).sum() / mask.expand_as(values).sum().clamp_min(1.0)


def _deviation(target: Tensor, known: Tensor | None) -> Tensor:
    """(B,) standard deviation of each sample."""
    if known is None:
        return target.flatten(1).std(1)
    count = known.flatten(1).sum(1).clamp_min(2.0)
    mean = (target * known).flatten(1).sum(1) / count
    centred = (target - mean.reshape(-1, 1, 1, 1)) * known
    return torch.sqrt(centred.square().flatten(1).sum(1) / (count - 1))


def _resized(target: Tensor, like: Tensor, known: Tensor | None) -> tuple[Tensor, Tensor | None]:
    """The target and its mask, area-averaged; a cell counts if half of it is known."""
    size = (like.shape[-2], like.shape[-1])
    if known is None:
        return F.adaptive_avg_pool2d(target, size), None
    share = F.adaptive_avg_pool2d(known, size)
    filled = torch.where(known > 0, target, 0.0)  # what a hole holds may be no number
    mean = F.adaptive_avg_pool2d(filled, size) / share.clamp_min(_SHARE_FLOOR)
    return mean, (share >= _KNOWN_SHARE).to(target.dtype)


def _gradient(error: Tensor, mask: Tensor | None) -> Tensor:
    """Mean absolute difference between neighbours of the error map, over a small pyramid."""
    total = error.new_zeros(())
    for _ in range(_GRADIENT_SCALES):
        total = total + _step(error, mask, -1) + _step(error, mask, -2)
        if min(error.shape[-2:]) < 4:
            break
        if mask is not None:
            share = F.avg_pool2d(mask, 2)
            error = F.avg_pool2d(error * mask, 2) / share.clamp_min(_SHARE_FLOOR)
            mask = (share >= _KNOWN_SHARE).to(error.dtype)
        else:
            error = F.avg_pool2d(error, 2)
    return total / _GRADIENT_SCALES


def _step(error: Tensor, mask: Tensor | None, axis: int) -> Tensor:
    """Between neighbours that are both known."""
    both = None
    if mask is not None:
        count = mask.shape[axis] - 1
        both = mask.narrow(axis, 0, count) * mask.narrow(axis, 1, count)
    return masked_mean(error.diff(dim=axis).abs(), both)
