"""The loss of inverse depth that is known up to scale and offset.

Convention: maps are (B, 1, H, W). ``known`` is 1 where the truth is known and 0 at its holes, or None where it is known
everywhere.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from dualpix.models.losses.terms import at_size_of, exact, masked_mean, step

AFFINE_GRADIENT_WEIGHT = 30.0
"""Of DiFuse-Net (arXiv 2506.14709)."""
_LEAST_SPREAD = 1e-5
"""Of a map that is brought to unit spread: what a flat one differs by is rounding."""


def affine_invariant_loss(
    predictions: Sequence[Tensor],
    inverse_depth: Tensor,
    known: Tensor | None = None,
    gradient_weight: float = AFFINE_GRADIENT_WEIGHT,
) -> Tensor:
    """DiFuse-Net's loss, ``MAE_si + 30 MAE(grad)`` over all outputs of a decoder (arXiv 2506.14709, section 5).

    ``MAE_si`` is MiDaS's scale- and shift-invariant mean absolute error (Ranftl et al., "Towards robust monocular depth
    estimation", TPAMI 2022, eq. 5 and 6, without its factor of a half): each map is brought to a median of 0 and a mean
    absolute deviation from it of 1, each sample by itself, over the pixels whose truth is known. Inferred, as the paper
    leaves them open: gradients are those of the maps so brought to one scale, differences between neighbours along x
    plus those along y; and outputs count alike, so that the loss is their mean.

    Args:
        predictions: each (B, 1, h, w), inverse depth up to a positive scale and an offset.
        inverse_depth: (B, 1, H, W), likewise; area-averaged to the size of each prediction.
        known: (B, 1, H, W).
        gradient_weight: 30 in the paper.

    Raises:
        ValueError: no prediction.
    """
    if not predictions:
        raise ValueError("0 predictions, expected 1 or more")
    total = inverse_depth.new_zeros(())
    for prediction in predictions:
        resized, mask = at_size_of(inverse_depth, prediction, known)
        error = _unit_spread(exact(prediction), mask) - _unit_spread(resized, mask)
        gradient = step(error, mask, -1) + step(error, mask, -2)
        total = total + masked_mean(error.abs(), mask) + gradient_weight * gradient
    return total / len(predictions)


def _unit_spread(values: Tensor, mask: Tensor | None) -> Tensor:
    """Each sample with a median of 0 and a mean absolute deviation of 1 over ``mask``."""
    weight = torch.ones_like(values) if mask is None else mask
    count = weight.flatten(1).sum(1, keepdim=True)
    # the lower of two in the middle; nanmedian would do, but not on every device
    ordered = torch.where(weight > 0, values, torch.inf).flatten(1).sort(1).values
    middle = ordered.gather(1, ((count - 1).clamp_min(0) // 2).long())
    centre = torch.where(count > 0, middle, 0.0).reshape(-1, 1, 1, 1)
    deviation = ((values - centre).abs() * weight).flatten(1).sum(1, keepdim=True) / count.clamp_min(1.0)
    return (values - centre) / deviation.clamp_min(_LEAST_SPREAD).reshape(-1, 1, 1, 1)
