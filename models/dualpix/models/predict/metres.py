"""Metres of a disparity, and how sure they are.

Convention: depth in m from the lens, infinity allowed; uncertainty in diopters (1/m), as blur, disparity and their
errors are even in them: depth z lies within 1 / (1 / z + u) ... 1 / (1 / z - u), up to infinity where that is not
positive.

Disparity is affine in diopters, so an error in px is one of ``error / slope`` diopters, slope being what the lens gives
in px per diopter (:func:`dualpix.capture.optics.disparity_px_per_diopter`). A stopped-down phone gives so little that
metres mean nothing, whatever the picture: they are given only where

- the disparity is measured (:attr:`.Judgement.measured`),
- its error leaves depth within half of the larger of 1 / z and 1 / focus distance, or within 0.1 diopters, and
- the point is no nearer than the focal length, where nothing can be seen.
"""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np

from dualpix.capture import optics
from dualpix.capture.types import FloatImage, LensModel, Mask
from dualpix.models.confidence.halves import Finding
from dualpix.models.predict.working import DisparityMap

_MOST_RELATIVE = 0.5
_SURE_D = 0.1
_MOSTLY = 0.5
_MISFIT_SHARE = 0.2
_BEYOND_SIGMAS = 2.0
_MM_PER_M = 1000.0


@dataclass(frozen=True)
class MetricDepth:
    """Depth of a view where it is measured."""

    depth_m: FloatImage
    """(H, W) from the lens, up to infinity; NaN where not measured."""
    uncertainty_d: FloatImage
    """(H, W) 68 % of such pixels are within this, in diopters; NaN where not measured."""
    measured: Mask
    """(H, W)"""
    findings: tuple[Finding, ...]

    @property
    def measured_fraction(self) -> float:
        """Share of pixels with metres."""
        return float(self.measured.mean())


def measured_depth(
    result: DisparityMap, depth_m: FloatImage, lens: LensModel, relative_gain: FloatImage | None = None
) -> MetricDepth:
    """What is sure of the depth of a map.

    Args:
        result: with its confidence.
        depth_m: (H, W) of every pixel of it, from :func:`dualpix.models.predict.disparity.metric_depth`.
        lens: that it was made with.
        relative_gain: (rows, columns), likewise.

    Raises:
        DualpixError: the map has no confidence.
    """
    judged = result.judged
    slope = np.asarray(_slope_px_per_d(lens, result.disparity_px.shape, relative_gain))
    uncertainty_d = np.asarray(judged.error_px / slope, np.float32)
    focus_d = optics.diopters(lens.focus_distance_m)
    diopters = focus_d - result.disparity_px / slope
    allowed = np.maximum(_MOST_RELATIVE * np.maximum(diopters, focus_d), _SURE_D)
    too_near = diopters >= _MM_PER_M / lens.focal_length_mm
    sure = uncertainty_d <= allowed
    measured: Mask = judged.measured & sure & ~too_near
    return MetricDepth(
        np.where(measured, depth_m, np.float32(np.nan)),
        np.where(measured, uncertainty_d, np.float32(np.nan)),
        measured,
        _findings(judged.measured, sure, too_near | (diopters < -_BEYOND_SIGMAS * uncertainty_d), uncertainty_d, lens),
    )


def _slope_px_per_d(lens: LensModel, size_hw: tuple[int, ...], relative_gain: FloatImage | None) -> FloatImage:
    slope = np.float32(optics.disparity_px_per_diopter(lens))
    if relative_gain is None:
        return np.asarray(slope)
    field = cv2.resize(relative_gain, (size_hw[1], size_hw[0]), interpolation=cv2.INTER_LINEAR)
    return np.asarray(slope * field, np.float32)


def _findings(
    measured: Mask, sure: Mask, impossible: Mask, uncertainty_d: FloatImage, lens: LensModel
) -> tuple[Finding, ...]:
    if not measured.any():
        return ()
    misfit, kept = float(impossible[measured].mean()), float(sure[measured].mean())
    if misfit > _MISFIT_SHARE:
        text = (
            f"{misfit:.0%} of what was measured would lie beyond infinity or within the focal length: check the focus "
            "distance, the gain and the pixel pitch"
        )
        return (Finding("lens_misfit", text),)
    if kept >= _MOSTLY:
        return ()
    text = (
        f"this lens gives {optics.disparity_px_per_diopter(lens):.2g} px of disparity per diopter: what was measured "
        f"tells depth only to {float(np.median(uncertainty_d[measured])):.2g} diopters at f/{lens.f_number:g}, so most "
        "of it has no metres"
    )
    return (Finding("metres_unsure", text),)
