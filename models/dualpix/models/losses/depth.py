"""Losses of metric depth.

Convention: maps are (B, 1, H, W), depth in m. ``known`` is 1 where the truth is known and 0 at its holes, or None where
it is known everywhere.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from dualpix.models.losses.terms import (
    CONFIDENCE_WEIGHT,
    GRADIENT_WEIGHT,
    SCALE_WEIGHTS,
    at_size_of,
    exact,
    gradient,
    masked_mean,
)

_LEAST_M = 1e-3
_RANGE_CHANNELS = 3
_RANGE_SHARE = 0.01
_COARSE_RANGE_WEIGHT = 0.3
_LEAST_LOG_SCALE = -7.0
"""Of an error's scale: 1e-3."""
_ROOT_FLOOR = 1e-8
"""Under a root: its slope at zero has no end."""


def depth_loss(predictions: Sequence[Tensor], target_m: Tensor, known: Tensor | None = None) -> Tensor:
    """Deep-supervised loss of metric depth: scale-invariant logarithmic error plus gradients of the logarithm.

    ``sqrt(mean(e^2) - 0.5 mean(e)^2)`` with ``e`` the difference of the logarithms (Eigen et al., "Depth map prediction
    from a single image", NeurIPS 2014, with the usual root); half of the scale's error stays in it, as a stack knows
    its scale.

    Args:
        predictions: finest first, each (B, 1, h, w) in m, above 0, at most five.
        target_m: (B, 1, H, W), above 0.
        known: (B, 1, H, W).

    Raises:
        ValueError: no prediction, or more than there are weights for.
    """
    if not 1 <= len(predictions) <= len(SCALE_WEIGHTS):
        raise ValueError(f"{len(predictions)} predictions, expected 1 to {len(SCALE_WEIGHTS)}")
    total = target_m.new_zeros(())
    for weight, prediction in zip(SCALE_WEIGHTS, predictions, strict=False):
        resized, mask = at_size_of(target_m.log(), prediction, known)
        error = exact(prediction).clamp_min(_LEAST_M).log() - resized
        spread = masked_mean(error.square(), mask) - 0.5 * masked_mean(error, mask).square()
        silog = torch.sqrt(spread.clamp_min(0.0) + _ROOT_FLOOR)
        total = total + weight * (silog + GRADIENT_WEIGHT * gradient(error, mask))
    return total


def silog_gradient_loss(
    depth: Tensor,
    target: Tensor,
    known: Tensor | None = None,
    *,
    silog_weight: float = 1.0,
    gradient_weight: float = 0.1,
    gradient_scales: int = 2,
) -> Tensor:
    """FOSSA's and DfDNet's loss: scale-invariant logarithmic error, and gradient matching of depth over a pyramid.

    ``sqrt(mean(e^2) - 0.5 mean(e)^2)`` with ``e`` the difference of the logarithms, and the sum over scales of the mean
    ``|grad(depth - target)|`` along x plus along y, each scale the average of 2 x 2 of the one before (MiDaS, Ranftl et
    al., TPAMI 2022, eq. 11, on depth as it is). DfDNet's text weighs them 1 and 0.1; so does FOSSA's, whose published
    configuration has 0.1 and 1.

    Args:
        depth: (B, 1, H, W), above 0.
        target: (B, 1, H, W), above 0.
        known: (B, 1, H, W).
        silog_weight: of the first term.
        gradient_weight: of the second.
        gradient_scales: of the pyramid.
    """
    found = exact(depth)
    error = found.clamp_min(_LEAST_M).log() - target.clamp_min(_LEAST_M).log()
    spread = masked_mean(error.square(), known) - 0.5 * masked_mean(error, known).square()
    silog = torch.sqrt(spread.clamp_min(0.0) + _ROOT_FLOOR)
    return silog_weight * silog + gradient_weight * gradient_scales * gradient(found - target, known, gradient_scales)


def range_depth_loss(predictions: Sequence[Tensor], target_m: Tensor, known: Tensor | None = None) -> Tensor:
    """Depth of a stack that gives diopters with a scale of their error: relative error, gradients, and the scale's.

    The error is the difference of ``log(diopters + c)`` with c a hundredth of the stack's range: relative depth error
    as long as the range can tell it, and no more than a stack can see of what is almost at infinity. Absolute, not
    squared, and with all of its scale: it is that of AbsRel. The scale is a Laplace distribution's, by its likelihood
    (Kendall & Gal, NeurIPS 2017, section 3); nothing flows from it into the depth.

    Args:
        predictions: finest first, each (B, 3, h, w): diopters above 0, the range of the stack in diopters, the same
            all over, and the logarithm of the error's scale, which counts in the finest.
        target_m: (B, 1, H, W) depth in m, above 0 where it is known.
        known: (B, 1, H, W).

    Raises:
        ValueError: no prediction, or one of another number of channels.
    """
    if not predictions or any(prediction.shape[1] != _RANGE_CHANNELS for prediction in predictions):
        shapes = [tuple(prediction.shape) for prediction in predictions]
        raise ValueError(f"predictions are {shapes}, expected (B, {_RANGE_CHANNELS}, h, w)")
    total = target_m.new_zeros(())
    diopters = 1 / torch.where(target_m > 0, target_m, 1.0).clamp_min(_LEAST_M)
    for place, prediction in enumerate(predictions):
        found, span, log_scale = torch.split(exact(prediction), 1, 1)
        offset = _RANGE_SHARE * span[:, :, :1, :1]
        resized, mask = at_size_of(torch.log(diopters + offset), found, known)
        error = torch.log(found + offset) - resized
        term = masked_mean(error.abs(), mask) + GRADIENT_WEIGHT * gradient(error, mask)
        total = total + (_COARSE_RANGE_WEIGHT if place else 1.0) * term
        if not place:
            scale = log_scale.clamp_min(_LEAST_LOG_SCALE)
            likelihood = masked_mean(error.detach().abs() * torch.exp(-scale) + scale, mask)
            total = total + CONFIDENCE_WEIGHT * likelihood
    return total
