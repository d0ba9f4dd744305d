"""Losses of disparity, alone, taught by other networks, and with a confidence.

Convention: maps are (B, 1, H, W), disparity in px of the network's input grid. ``known`` is 1 where the truth is known
and 0 at its holes, or None where it is known everywhere.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor
from torch.nn import functional as F

from dualpix.models.confidence.evidence import Tolerance
from dualpix.models.losses.terms import (
    CONFIDENCE_WEIGHT,
    GRADIENT_WEIGHT,
    SCALE_WEIGHTS,
    SHARE_FLOOR,
    at_size_of,
    exact,
    gradient,
    masked_mean,
)

_SOFT_PX = 1.0


def disparity_loss(predictions: Sequence[Tensor], target: Tensor, known: Tensor | None = None) -> Tensor:
    """Deep-supervised disparity loss: L1 plus multi-scale L1 of gradients, milder for samples with a large range.

    DiFuse-Net weighs ``MAE_si + 30 MAE(grad)`` on affine-invariant depth (arXiv 2506.14709, section 5); this network's
    output has a scale and a sign, so the error is taken as it is, over (1 px + the sample's deviation): a phone's
    half a pixel counts, and a camera's eight do not drown it.

    Args:
        predictions: finest first, each (B, 1, h, w), at most five; the target is area-averaged to their size.
        target: (B, 1, H, W) true disparity in px.
        known: (B, 1, H, W).

    Raises:
        ValueError: no prediction, more than there are weights for, or one of several channels.
    """
    if not 1 <= len(predictions) <= len(SCALE_WEIGHTS):
        raise ValueError(f"{len(predictions)} predictions, expected 1 to {len(SCALE_WEIGHTS)}")
    if any(prediction.shape[1] != 1 for prediction in predictions):  # each channel would be held against the truth
        raise ValueError(f"predictions are {[tuple(p.shape) for p in predictions]}, expected (B, 1, h, w)")
    scale = (_SOFT_PX + _deviation(target, known)).reshape(-1, 1, 1, 1)
    total = target.new_zeros(())
    for weight, prediction in zip(SCALE_WEIGHTS, predictions, strict=False):
        resized, mask = at_size_of(target, prediction, known)
        error = (exact(prediction) - resized) / scale
        total = total + weight * (masked_mean(error.abs(), mask) + GRADIENT_WEIGHT * gradient(error, mask))
    return total


def taught_disparity_loss(predictions: Sequence[Tensor], taught_px: Tensor, weight: Tensor) -> Tensor:
    """Deep-supervised L1 to the disparity that another network gives, each pixel by how sure that one is.

    In the unit of :func:`disparity_loss`, without its gradients: a teacher's edges are no better than its map.

    Args:
        predictions: finest first, each (B, 1, h, w), at most five.
        taught_px: (B, 1, H, W), averaged to their size by ``weight``.
        weight: (B, 1, H, W) 0 to 1.

    Raises:
        ValueError: no prediction, or more than there are weights for.
    """
    if not 1 <= len(predictions) <= len(SCALE_WEIGHTS):
        raise ValueError(f"{len(predictions)} predictions, expected 1 to {len(SCALE_WEIGHTS)}")
    scale = (_SOFT_PX + _deviation(taught_px, None)).reshape(-1, 1, 1, 1)
    total = taught_px.new_zeros(())
    for share, prediction in zip(SCALE_WEIGHTS, predictions, strict=False):
        size = (prediction.shape[-2], prediction.shape[-1])
        sure = F.adaptive_avg_pool2d(weight, size)
        wanted = F.adaptive_avg_pool2d(taught_px * weight, size) / sure.clamp_min(SHARE_FLOOR)
        error = (exact(prediction) - wanted).abs() / scale
        total = total + share * (error * sure).mean()
    return total


def disparity_and_confidence_loss(predictions: Sequence[Tensor], batch: Mapping[str, Tensor]) -> Tensor:
    """:func:`disparity_loss` plus ``CONFIDENCE_WEIGHT`` times :func:`confidence_loss` of the finest prediction.

    Args:
        predictions: finest first, (B, 2, h, w) of disparity in px and the logit of its confidence, then each
            (B, 1, h, w), at most four in all.
        batch: of the task ``dual_pixel``: ``disparity_px`` (B, 1, H, W) and, where there are holes, ``known``.

    Raises:
        ValueError: the first prediction has not two channels, or there are more than there are weights for.
    """
    if not predictions or predictions[0].shape[1] != 2:
        shape = tuple(predictions[0].shape) if predictions else None
        raise ValueError(f"the first prediction is {shape}, expected (B, 2, h, w): disparity and logit")
    disparity_px, logit = predictions[0][:, :1], predictions[0][:, 1:]
    target, known = batch["disparity_px"], batch.get("known")
    resized, mask = at_size_of(target, disparity_px, known)
    error_px = (exact(disparity_px) - resized).abs()
    confidence = confidence_loss(logit, error_px, disparity_px, mask)
    return disparity_loss([disparity_px, *predictions[1:]], target, known) + CONFIDENCE_WEIGHT * confidence


def confidence_loss(
    logit: Tensor,
    error_px: Tensor,
    disparity_px: Tensor,
    known: Tensor | None = None,
    *,
    tolerance: Tolerance = Tolerance(),  # noqa: B008 - frozen
) -> Tensor:
    """Binary cross-entropy of "this disparity is within the stated error", which is what a confidence is the share of.

    Nothing flows into the disparity: a network that could trade its error for a surer one would.

    Args:
        logit: (B, 1, h, w) of the confidence; its sigmoid is the output.
        error_px: (B, 1, h, w) >= 0, of the disparity; what it holds in holes does not matter.
        disparity_px: (B, 1, h, w) the prediction, by which the tolerance grows, as where confidences are judged.
        known: (B, 1, h, w).
        tolerance: in pixels of ``disparity_px``. The default is that of working pictures, whose pixels are those of
            training crops: both are the network's input grid, at whatever scale it predicts.
    """
    allowed = tolerance.px + tolerance.relative * exact(disparity_px).detach().abs()
    right = (exact(error_px).detach() <= allowed).to(allowed.dtype)
    return masked_mean(F.binary_cross_entropy_with_logits(exact(logit), right, reduction="none"), known)


def _deviation(target: Tensor, known: Tensor | None) -> Tensor:
    """(B,) standard deviation of each sample."""
    if known is None:
        return target.flatten(1).std(1)
    count = known.flatten(1).sum(1).clamp_min(2.0)
    filled = torch.where(known > 0, target, 0.0)  # what a hole holds may be no number
    mean = (filled * known).flatten(1).sum(1) / count
    centred = (filled - mean.reshape(-1, 1, 1, 1)) * known
    return torch.sqrt(centred.square().flatten(1).sum(1) / (count - 1))
