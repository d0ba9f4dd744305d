"""Figures of a dual-pixel pair whose truth is a disparity, in pixels or up to an affine map."""

from __future__ import annotations

import numpy as np

from dualpix.models.confidence import CONFIDENT
from dualpix.models.evaluate.figures import affine_figures, checked, confidence_figures
from dualpix.models.evaluate.protocol import Figures, wrong_unit
from dualpix.models.evaluate.sample import Prediction, Sample
from dualpix.models.metrics import IRLS_ITERATIONS, bad_pixel_share, mean_absolute_error


def affine_pair_figures(sample: Sample, prediction: Prediction, *, iterations: int = IRLS_ITERATIONS) -> Figures:
    """AI(1), AI(2), the ranks, and the confidence by the error after the fit."""
    return _figures(sample, prediction, iterations, in_pixels=False)


def pixel_figures(sample: Sample, prediction: Prediction) -> Figures:
    """The same, with the mean error and the share off by more than one, in pixels; the confidence by the error in px.

    Raises:
        DualpixError: the prediction is known up to an affine map only.
    """
    if prediction.unit != "disparity_px":
        raise wrong_unit(prediction, "disparity_px: x_right - x_left in pixels of the view")
    return _figures(sample, prediction, IRLS_ITERATIONS, in_pixels=True)


def _figures(sample: Sample, prediction: Prediction, iterations: int, *, in_pixels: bool) -> Figures:
    if prediction.unit == "image":
        raise wrong_unit(prediction, "one number a pixel")
    truth, valid = sample.truth, sample.valid
    found = checked(sample.on_truth(prediction.values), valid, sample.name)
    affine = affine_figures(found, truth, valid, sample.confidence, iterations=iterations)
    confidence = None if prediction.confidence is None else sample.on_truth(prediction.confidence)
    fitted = found if in_pixels else affine["scale"] * found + affine["offset"]
    error = np.abs(np.asarray(fitted, np.float64) - truth)
    return {
        **affine,
        "mae_px": mean_absolute_error(found, truth, valid) if in_pixels else None,
        "bad_1px": bad_pixel_share(found, truth, valid, threshold=1.0) if in_pixels else None,
        **confidence_figures(error, confidence, valid, CONFIDENT),
    }
