"""Training losses. Convention: maps are (B, 1, H, W), disparity in px of the network's input grid."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

GRADIENT_WEIGHT = 0.2
"""Much less than the paper's 30: while nothing is matched yet, the gradient term rewards a constant map."""
SCALE_WEIGHTS = (1.0, 0.2, 0.1, 0.05)
"""Of the predictions, finest first: matching is learnt at fine scales, and coarse terms of equal weight delay it."""
_GRADIENT_SCALES = 3
_SOFT_PX = 1.0


def disparity_loss(predictions: list[Tensor], target: Tensor) -> Tensor:
    """Deep-supervised disparity loss: L1 plus multi-scale L1 of gradients, milder for samples with a large range.

    DiFuse-Net weighs ``MAE_si + 30 MAE(grad)`` on affine-invariant depth (arXiv 2506.14709, section 5); this network's
    output has a scale and a sign, so the error is taken as it is, over (1 px + the sample's deviation): a phone's
    half a pixel counts, and a camera's eight do not drown it.

    Args:
        predictions: finest first, each (B, 1, h, w); the target is area-averaged to their size.
        target: (B, 1, H, W) true disparity in px.
    """
    scale = (_SOFT_PX + target.flatten(1).std(1)).reshape(-1, 1, 1, 1)
    total = target.new_zeros(())
    for weight, prediction in zip(SCALE_WEIGHTS, predictions, strict=True):
        error = (prediction.float() - _resized(target, prediction)) / scale
        total = total + weight * (error.abs().mean() + GRADIENT_WEIGHT * _gradient(error))
    return total


def _resized(target: Tensor, like: Tensor) -> Tensor:
    return F.adaptive_avg_pool2d(target, (like.shape[-2], like.shape[-1]))


def _gradient(error: Tensor) -> Tensor:
    """Mean absolute difference between neighbours of the error map, over a small pyramid."""
    total = error.new_zeros(())
    for _ in range(_GRADIENT_SCALES):
        total = total + error.diff(dim=-1).abs().mean() + error.diff(dim=-2).abs().mean()
        if min(error.shape[-2:]) < 4:
            break
        error = F.avg_pool2d(error, 2)
    return total / _GRADIENT_SCALES


def error_px(prediction: Tensor, target: Tensor) -> Tensor:
    """Mean absolute disparity error in px."""
    return torch.mean(torch.abs(prediction - target))
