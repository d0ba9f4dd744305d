"""Training losses of disparity, depth and pictures."""

from dualpix.models.losses.affine import AFFINE_GRADIENT_WEIGHT, affine_invariant_loss
from dualpix.models.losses.depth import depth_loss, range_depth_loss, silog_gradient_loss
from dualpix.models.losses.disparity import (
    confidence_loss,
    disparity_and_confidence_loss,
    disparity_loss,
    taught_disparity_loss,
)
from dualpix.models.losses.terms import CONFIDENCE_WEIGHT, GRADIENT_WEIGHT, SCALE_WEIGHTS, exact, masked_mean

__all__ = [
    "AFFINE_GRADIENT_WEIGHT",
    "CONFIDENCE_WEIGHT",
    "GRADIENT_WEIGHT",
    "SCALE_WEIGHTS",
    "affine_invariant_loss",
    "confidence_loss",
    "depth_loss",
    "disparity_and_confidence_loss",
    "disparity_loss",
    "exact",
    "masked_mean",
    "range_depth_loss",
    "silog_gradient_loss",
    "taught_disparity_loss",
]
