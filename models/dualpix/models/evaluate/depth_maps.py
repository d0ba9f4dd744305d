"""Figures of data whose truth is depth in m."""

from __future__ import annotations

import numpy as np

from dualpix.capture.types import FloatImage
from dualpix.models.evaluate.boundaries import boundary_f1
from dualpix.models.evaluate.figures import checked, depth_figures
from dualpix.models.evaluate.protocol import Figures, wrong_unit
from dualpix.models.evaluate.sample import Prediction, Sample

DEPTH_COLUMNS = {
    "mae_m": "MAE m",
    "mae_diopters": "MAE 1/m",
    "abs_rel": "AbsRel",
    "d1_05": "δ1.05",
    "d1_15": "δ1.15",
    "d1_25": "δ1.25",
    "boundary_f1": "edge F1",
}
DEPTH_METRICS = (
    "MAE, RMSE in m and diopters, AbsRel, SqRel, RMSElog, shares within 1.05, 1.15, 1.25^1..3, boundary F1; by range"
)


def depth_map_figures(sample: Sample, prediction: Prediction, range_m: tuple[float, float]) -> Figures:
    """:func:`~.figures.depth_figures` and :func:`~.boundaries.boundary_f1` of a prediction in m.

    Raises:
        DualpixError: the prediction has another unit or size, or is NaN where there is a truth.
    """
    found = checked(depth_on_truth(sample, prediction), sample.valid, sample.name, infinite=True)
    edges = boundary_f1(np.clip(found, *range_m), sample.truth, sample.valid)
    return {**depth_figures(found, sample.truth, sample.valid, range_m), "boundary_f1": edges}


def depth_on_truth(sample: Sample, prediction: Prediction) -> FloatImage:
    """(h, w) in m, on the truth's pixels; a stereo disparity becomes depth by the sample's optics alone."""
    if prediction.unit == "depth_m":
        return sample.on_truth(prediction.values)
    if prediction.unit == "disparity_px" and sample.metric is not None:
        return sample.metric.depth_of(sample.on_truth(prediction.values))
    raise wrong_unit(prediction, "depth_m: depth in m from the lens")


def plausible(depth_m: FloatImage, low_m: float, high_m: float) -> np.ndarray[tuple[int, ...], np.dtype[np.bool_]]:
    """(h, w): finite and strictly between both."""
    with np.errstate(invalid="ignore"):
        return np.asarray(np.isfinite(depth_m) & (depth_m > low_m) & (depth_m < high_m))
