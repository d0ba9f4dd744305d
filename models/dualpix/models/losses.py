"""Training losses. Convention: maps are (B, 1, H, W), disparity in px of the network's input grid."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

GRADIENT_WEIGHT = 1.0
_SCALES = 3
_SOFT_PX = 0.25


def disparity_loss(predictions: list[Tensor], target: Tensor) -> Tensor:
    """Deep-supervised disparity loss: L1 plus multi-scale L1 of gradients, relative to the sample's disparity range.

    DiFuse-Net weighs ``MAE_si + 30 MAE(grad)`` on affine-invariant depth (arXiv 2506.14709, section 5); this network's
    output has a scale and a sign, so the error is taken as it is. Dividing by the range of the sample lets a phone's half
    a pixel count as much as a camera's eight.

    Args:
        predictions: finest first, each (B, 1, h, w); targets are area-averaged to their size.
        target: (B, 1, H, W) true disparity in px.
    """
    spread = target.flatten(1).std(1) + 0.25 * target.flatten(1).abs().mean(1) + _SOFT_PX
    scale = spread.reshape(-1, 1, 1, 1)
    total = target.new_zeros(())
    for level, prediction in enumerate(predictions):
        weight = 0.5**level
        at_size = F.adaptive_avg_pool2d(target, prediction.shape[-2:])
        error = (prediction.float() - at_size) / scale
        total = total + weight * (error.abs().mean() + GRADIENT_WEIGHT * _gradient(error))
    return total


def _gradient(error: Tensor) -> Tensor:
    """Mean absolute difference between neighbours of the error map, over a small pyramid."""
    total = error.new_zeros(())
    for _ in range(_SCALES):
        total = total + error.diff(dim=-1).abs().mean() + error.diff(dim=-2).abs().mean()
        error = F.avg_pool2d(error, 2)
    return total / _SCALES


def error_px(prediction: Tensor, target: Tensor) -> Tensor:
    """Mean absolute disparity error in px."""
    return torch.mean(torch.abs(prediction - target))
