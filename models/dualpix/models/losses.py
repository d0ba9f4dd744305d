"""Training losses.

Convention: maps are (B, 1, H, W), disparity in px of the network's input grid, depth in m. ``known`` is 1 where the
truth is known and 0 at its holes, or None where it is known everywhere.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor
from torch.nn import functional as F

from dualpix.models.evidence import Tolerance

CONFIDENCE_WEIGHT = 0.1
"""Of the confidence beside the disparity: a guess of 1/2 costs as much as 0.07 of the disparity's own loss."""
GRADIENT_WEIGHT = 0.2
"""Much less than the paper's 30: while nothing is matched yet, the gradient term rewards a constant map."""
SCALE_WEIGHTS = (1.0, 0.2, 0.1, 0.05, 0.025)
"""Of the predictions, finest first: matching is learnt at fine scales, and coarse terms of equal weight delay it."""
_GRADIENT_SCALES = 3
_SOFT_PX = 1.0
_LEAST_M = 1e-3
_RANGE_CHANNELS = 3
_RANGE_SHARE = 0.01
_COARSE_RANGE_WEIGHT = 0.3
_LEAST_LOG_SCALE = -7.0
"""Of an error's scale: 1e-3."""
_ROOT_FLOOR = 1e-8
"""Under a root: its slope at zero has no end."""
_KNOWN_SHARE, _SHARE_FLOOR = 0.5, 1e-3
AFFINE_GRADIENT_WEIGHT = 30.0
"""Of DiFuse-Net (arXiv 2506.14709)."""
_LEAST_SPREAD = 1e-5
"""Of a map that is brought to unit spread: what a flat one differs by is rounding."""


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
        resized, mask = _resized(target, prediction, known)
        error = (exact(prediction) - resized) / scale
        total = total + weight * (masked_mean(error.abs(), mask) + GRADIENT_WEIGHT * _gradient(error, mask))
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
        wanted = F.adaptive_avg_pool2d(taught_px * weight, size) / sure.clamp_min(_SHARE_FLOOR)
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
    resized, mask = _resized(target, disparity_px, known)
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
        resized, mask = _resized(target_m.log(), prediction, known)
        error = exact(prediction).clamp_min(_LEAST_M).log() - resized
        spread = masked_mean(error.square(), mask) - 0.5 * masked_mean(error, mask).square()
        silog = torch.sqrt(spread.clamp_min(0.0) + _ROOT_FLOOR)
        total = total + weight * (silog + GRADIENT_WEIGHT * _gradient(error, mask))
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
    return silog_weight * silog + gradient_weight * gradient_scales * _gradient(found - target, known, gradient_scales)


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
        resized, mask = _resized(torch.log(diopters + offset), found, known)
        error = torch.log(found + offset) - resized
        term = masked_mean(error.abs(), mask) + GRADIENT_WEIGHT * _gradient(error, mask)
        total = total + (_COARSE_RANGE_WEIGHT if place else 1.0) * term
        if not place:
            scale = log_scale.clamp_min(_LEAST_LOG_SCALE)
            likelihood = masked_mean(error.detach().abs() * torch.exp(-scale) + scale, mask)
            total = total + CONFIDENCE_WEIGHT * likelihood
    return total


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
        resized, mask = _resized(inverse_depth, prediction, known)
        error = _unit_spread(exact(prediction), mask) - _unit_spread(resized, mask)
        gradient = _step(error, mask, -1) + _step(error, mask, -2)
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
    filled = torch.where(known > 0, target, 0.0)  # what a hole holds may be no number
    mean = (filled * known).flatten(1).sum(1) / count
    centred = (filled - mean.reshape(-1, 1, 1, 1)) * known
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


def _gradient(error: Tensor, mask: Tensor | None, scales: int = _GRADIENT_SCALES) -> Tensor:
    """Mean absolute difference between neighbours of the error map, over a small pyramid."""
    total = error.new_zeros(())
    for _ in range(scales):
        total = total + _step(error, mask, -1) + _step(error, mask, -2)
        if min(error.shape[-2:]) < 4:
            break
        if mask is not None:
            share = F.avg_pool2d(mask, 2)
            error = F.avg_pool2d(error * mask, 2) / share.clamp_min(_SHARE_FLOOR)
            mask = (share >= _KNOWN_SHARE).to(error.dtype)
        else:
            error = F.avg_pool2d(error, 2)
    return total / scales


def _step(error: Tensor, mask: Tensor | None, axis: int) -> Tensor:
    """Between neighbours that are both known; a map of one pixel has none."""
    if error.shape[axis] < 2:
        return error.new_zeros(())
    both = None
    if mask is not None:
        count = mask.shape[axis] - 1
        both = mask.narrow(axis, 0, count) * mask.narrow(axis, 1, count)
    return masked_mean(error.diff(dim=axis).abs(), both)
