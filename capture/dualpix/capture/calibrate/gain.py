"""Disparity gain from textured planes at known distances, or one plane and several focus distances.

Convention: with P = 1 / distance and P_f = 1 / focus distance, both from the lens plane and in diopters,

    disparity = s r(x, y) (P_f - P)    [px of the view; > 0 behind the focus plane]

s is the slope in px per diopter, its mean over the field; r, with mean 1, its course over the field, a polynomial: at
the sides the halves overlap more. With focal length, aperture and pixel pitch the circle of confusion is known too
(:mod:`dualpix.capture.optics`), and s becomes the gain kappa. Without them s alone is kept: a = s P_f is the disparity
of infinity, as in d = a (P_f - P) / P_f.

kappa belongs to an aperture. The pixel splits light by its angle; stopped down, the angles are fewer and the halves
more alike. Where the split is a straight ramp over the aperture, kappa is proportional to 1 / N.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import cv2
import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from dualpix.capture import optics
from dualpix.capture.calibrate.alike import check_alike
from dualpix.capture.calibrate.planes import (
    CELLS,
    Floats,
    Plane,
    PlaneError,
    PlaneViews,
    field_terms,
    local_disparity,
    robust_fit,
)
from dualpix.capture.pictures.colour_map import Panel, Rgb, figure
from dualpix.capture.profiles.facts import GainField, PlaneFit, at_cell
from dualpix.capture.profiles.profile import CameraProfile
from dualpix.capture.types import FloatImage, LensModel

_MIN_DEFOCUS_RANGE = 0.05  # diopters
_MIN_DISPARITY_PX, _MIN_SIGMAS = 0.1, 3.0
_MAX_MISFIT = 0.25  # of the largest disparity
_FOCUS_DIFFERENCE = 0.03  # diopters, and as a part of the focus distance's: a lens's scale is no better
_SEARCH_DIOPTERS, _SEARCH_STEPS, _SEARCH_ROUNDS = 1.0, 40, 3
_LEAST_RELATIVE = 0.05
_ALONG_DEPTH_CELLS = (16, 24)


@dataclass(frozen=True)
class LensFacts:
    """What makes a circle of confusion of a slope; None where it is not known."""

    focal_length_mm: float | None = None
    f_number: float | None = None
    pixel_pitch_um: float | None = None
    """Of the view."""


@dataclass(frozen=True)
class GainResult:
    """A gain and how good it is."""

    profile: CameraProfile
    gain: GainField
    planes: tuple[Plane, ...]
    predicted_px: tuple[Floats, ...]
    """For each plane, ``CELLS``."""
    fitted_focus_m: float | None
    """The focus distance that the planes agree best with; None with one distance."""
    matched_slope_px: float | None
    """``gain.slope_px`` as semi-global matching would have it: biased on blur, for comparison with other tools."""
    warnings: tuple[str, ...]


@dataclass(frozen=True)
class DepthCheck:
    """Measured disparity of a scene against that predicted by its depth map."""

    ratio: float
    """Slope of measured over predicted; 1 where the gain holds."""
    residual_px: float
    """Robust standard deviation (1.4826 MAD) of measured - predicted."""
    raw_px: float
    """The same of the measured disparity itself: what there is to explain."""
    cells: int
    """Places with texture and even depth."""


def fit_gain(planes: Sequence[Plane], lens: LensFacts | None = None, *, view_width_px: int | None = None) -> GainResult:
    """Fit the gain to planes.

    Args:
        planes: of one camera, lens and aperture. Where one lacks its focus distance, one common focus distance is
            fitted, which takes planes at two distances or more.
        lens: overrides what the captures' metadata say.
        view_width_px: width of the views, as the sensor lies; that of the samples by default.

    Raises:
        PlaneError: captures that differ in their settings, or cannot tell the gain; with the reason.
    """
    _check_same(planes)
    lens = _known_lens(planes[0], lens)
    given = all(plane.focus_distance_m is not None for plane in planes)
    _check_range(planes, given, lens)
    fitted = _best_focus(planes, lens) if _spread([1 / p.distance_m for p in planes]) > _MIN_DEFOCUS_RANGE else None
    focus = [_focus(p, fitted) for p in planes]
    defocus = _defocus(planes, focus, lens)
    slopes, _ = _fit(planes, defocus)
    mean = float(slopes.mean())
    if mean < 0:
        raise PlaneError(
            "disparity falls with distance",
            expected="x_right - x_left > 0 behind the focus plane",
            hint="exchange the halves, or check the order of the distances",
        )
    relative = np.maximum(slopes / max(mean, 1e-9), _LEAST_RELATIVE)
    predicted = tuple(slopes * u for u in defocus)
    records = tuple(_record(p, f, mean * u, relative) for p, f, u in zip(planes, focus, defocus, strict=True))
    _check_signal(records)
    errors = np.concatenate([(p.disparity_px - q).ravel() for p, q in zip(planes, predicted, strict=True)])
    gain = GainField(
        slope_px_per_diopter=round(mean, 5),
        relative=relative.astype(np.float32),
        focus_distance_m=_rounded(
            len(focus) / sum(1 / f for f in focus) if any(map(math.isfinite, focus)) else math.inf
        ),
        focus_fitted=not given,
        residual_px=round(float(np.sqrt(np.nanmean(errors**2))), 4),
        view_width_px=view_width_px or planes[0].size_hw[1],
        pixel_pitch_um=lens.pixel_pitch_um,
        planes=records,
    )
    kappa, kappa_warnings = _kappa(gain, lens)
    profile = _profile(planes, gain, kappa, lens)
    return GainResult(
        profile,
        gain,
        tuple(planes),
        predicted,
        fitted,
        _matched_slope(planes, defocus, gain),
        (*_focus_warnings(planes, fitted, defocus), *kappa_warnings),
    )


def check_depth(views: PlaneViews, depth_m: FloatImage, gain: GainField) -> DepthCheck | None:
    """Compare a scene with its depth map; None where fewer than twelve places have texture and even depth.

    Args:
        views: of the same camera, lens, aperture and focus.
        depth_m: (h, w) of the views, from the lens; 0 or NaN where unknown.
        gain: of the profile.
    """
    measured, sigma = local_disparity(views.left, views.right, views.usable, _ALONG_DEPTH_CELLS)
    rows, columns = _ALONG_DEPTH_CELLS
    values = []
    for row in range(rows):
        for column in range(columns):
            cell = depth_m[_part(row, rows, depth_m.shape[0]), _part(column, columns, depth_m.shape[1])]
            known = cell[np.isfinite(cell) & (cell > 0)]
            if known.size < 0.9 * cell.size or not np.isfinite(sigma[row, column]) or sigma[row, column] > 0.15:
                continue
            low, middle, high = 1 / np.percentile(known, (95, 50, 5))
            if high - low > 0.1 * middle:
                continue
            place = at_cell(gain.relative, (0, 0, 1, 1), (row + 0.5) / rows, (column + 0.5) / columns)
            predicted = gain.slope_px_per_diopter * place * (1 / gain.focus_distance_m - middle)
            values.append((measured[row, column], predicted))
    if len(values) < 12:
        return None
    found, expected = np.array(values).T
    ratio = float(robust_fit(expected[:, None], found, np.ones_like(found))[0])
    return DepthCheck(ratio, _robust_std(found - expected), _robust_std(found), len(values))


def picture(result: GainResult) -> Rgb:
    """Disparity over defocus with the fitted line, the gain over the field, and what is left of each plane."""
    size = (480, 330)
    shown = _enlarged(result.gain.relative, size)
    panels = [
        Panel("disparity over defocus, all cells", _scatter(result, size)),
        Panel(
            "gain over the field, of its mean", shown, "sequential", "", limits=(float(shown.min()), float(shown.max()))
        ),
    ]
    left_over = [p.disparity_px - q for p, q in zip(result.planes, result.predicted_px, strict=True)]
    reach = max(0.05, float(np.nanmax(np.abs(np.concatenate(left_over)))))
    for plane, error in zip(result.planes[:6], left_over, strict=False):
        title = f"measured - predicted, {plane.distance_m:g} m"
        panels.append(
            Panel(title, _enlarged(error.astype(np.float32), size), "diverging", "px", limits=(-reach, reach))
        )
    return figure(panels, columns=2)


def _scatter(result: GainResult, size: tuple[int, int]) -> Rgb:
    canvas = Figure(figsize=(size[0] / 100, size[1] / 100), dpi=100, facecolor="white", layout="constrained")
    agg = FigureCanvasAgg(canvas)
    axes = canvas.subplots()
    defocus = [1 / r.focus_distance_m - 1 / r.distance_m for r in result.gain.planes]
    for u, plane, record in zip(defocus, result.planes, result.gain.planes, strict=True):
        jitter = np.linspace(-0.01, 0.01, plane.disparity_px.size)
        axes.plot(u + jitter, plane.disparity_px.ravel(), ".", markersize=3, color="0.6")
        axes.plot([u], [record.disparity_px], "o", color="black", markersize=6)
    ends = np.array([min(0, *defocus), max(0, *defocus)])
    axes.plot(ends, result.gain.slope_px_per_diopter * ends, color="tab:red", linewidth=1)
    axes.axhline(0, color="0.8", linewidth=0.8, zorder=0)
    axes.set_xlabel("1 / focus - 1 / distance (1/m)", fontsize=9)
    axes.set_ylabel("disparity (px)", fontsize=9)
    axes.tick_params(labelsize=8)
    agg.draw()
    return np.asarray(agg.buffer_rgba(), np.uint8)[..., :3].copy()


def _enlarged(cells: FloatImage, size: tuple[int, int]) -> FloatImage:
    return np.asarray(cv2.resize(np.asarray(cells, np.float32), size, interpolation=cv2.INTER_NEAREST), np.float32)


def _check_same(planes: Sequence[Plane]) -> None:
    first = planes[0]
    for plane in planes[1:]:
        facts = (
            ("size", first.size_hw[::-1], plane.size_hw[::-1]),
            ("camera", first.meta.camera, plane.meta.camera),
            ("baseline", first.baseline, plane.baseline),
            ("f-number", first.meta.f_number, plane.meta.f_number),
            ("focal length (mm)", first.meta.focal_length_mm, plane.meta.focal_length_mm),
        )
        check_alike("planes", first.name, plane.name, facts, PlaneError)


def _known_lens(plane: Plane, lens: LensFacts | None) -> LensFacts:
    lens, meta = lens or LensFacts(), plane.meta
    return LensFacts(
        lens.focal_length_mm or meta.focal_length_mm,
        lens.f_number or meta.f_number,
        lens.pixel_pitch_um or meta.pixel_pitch_um,
    )


def _check_range(planes: Sequence[Plane], given: bool, lens: LensFacts) -> None:
    focal_m = (lens.focal_length_mm or 0.0) / 1000
    for plane in planes:
        if plane.focus_distance_m is not None and plane.focus_distance_m <= focal_m:
            raise PlaneError(
                f"focus distance {plane.focus_distance_m:g} m is within the focal length of {1000 * focal_m:g} mm",
                expected="a distance in m, from the lens",
            )
    if not given and _spread([1 / p.distance_m for p in planes]) <= _MIN_DEFOCUS_RANGE:
        raise PlaneError(
            f"all planes at {planes[0].distance_m:g} m, and the focus distance is not known",
            expected="planes at two distances or more, best on both sides of the focus plane",
            hint="or give --focus-distance-m for each capture",
        )
    if given:
        defocus = [1 / (p.focus_distance_m or math.inf) - 1 / p.distance_m for p in planes]
        if _spread(defocus) <= _MIN_DEFOCUS_RANGE:
            raise PlaneError(
                f"one defocus only, {defocus[0]:+.2f} diopters: the gain and an error of the distances cannot be told "
                "apart",
                expected="planes at two distances or more, best on both sides of the focus plane",
            )


def _spread(values: Sequence[float]) -> float:
    return max(values) - min(values)


def _focus(plane: Plane, fitted: float | None) -> float:
    if plane.focus_distance_m is not None:
        return plane.focus_distance_m
    if fitted is None:
        raise ValueError("no focus distance")
    return fitted


def _defocus(planes: Sequence[Plane], focus_m: Sequence[float], lens: LensFacts) -> list[float]:
    """P_f - P of each plane; for different focus distances, each by its own image distance."""
    focal_m = (lens.focal_length_mm or 0.0) / 1000
    diopters = [1 / f for f in focus_m]
    mean = sum(diopters) / len(diopters)
    scale = [(1 - focal_m * mean) / (1 - focal_m * d) for d in diopters]
    return [k * (d - 1 / p.distance_m) for k, d, p in zip(scale, diopters, planes, strict=True)]


def _fit(planes: Sequence[Plane], defocus: Sequence[float]) -> tuple[Floats, float]:
    """Slope in each cell, px per diopter, and the weighted cost of the fit."""
    terms = field_terms(CELLS, tilt=False)
    rows, values, weights = [], [], []
    for plane, u in zip(planes, defocus, strict=True):
        known = np.isfinite(plane.disparity_px)
        rows.append(u * terms[known])
        values.append(plane.disparity_px[known])
        weights.append(1 / np.maximum(plane.sigma_px[known], 0.01))
    design, value, weight = np.concatenate(rows), np.concatenate(values), np.concatenate(weights)
    solution = robust_fit(design, value, weight)
    error = np.abs(value - design @ solution) * weight
    knee = 3.0
    cost = np.where(error < knee, error**2, 2 * knee * error - knee**2).sum()
    return np.asarray(terms @ solution), float(cost)


def _best_focus(planes: Sequence[Plane], lens: LensFacts) -> float:
    """The common focus distance with the least cost, by a search in diopters."""
    powers = [1 / p.distance_m for p in planes]
    low, high = max(min(powers) - _SEARCH_DIOPTERS, 1e-3), max(powers) + _SEARCH_DIOPTERS
    for _ in range(_SEARCH_ROUNDS):
        candidates = np.linspace(low, high, _SEARCH_STEPS)
        costs = [_fit(planes, _defocus(planes, [1 / c] * len(planes), lens))[1] for c in candidates]
        best, step = float(candidates[int(np.argmin(costs))]), (high - low) / (_SEARCH_STEPS - 1)
        low, high = max(best - step, 1e-3), best + step
    return _rounded(1 / best)


def _rounded(distance_m: float) -> float:
    return float(f"{distance_m:.4g}")


def _record(plane: Plane, focus_m: float, predicted_px: float, relative: Floats) -> PlaneFit:
    known = np.isfinite(plane.disparity_px)
    shape, value = relative[known], plane.disparity_px[known]
    weight = 1 / np.maximum(plane.sigma_px[known], 0.01) ** 2
    total = float((weight * shape**2).sum())
    mean = float((weight * shape * value).sum()) / total
    scatter = float(np.sqrt(np.mean(weight * (value - mean * shape) ** 2)))
    return PlaneFit(
        plane.name, plane.distance_m, focus_m, round(mean, 4), round(predicted_px, 4),
        round(max(scatter, 1.0) / math.sqrt(total), 4),
    )  # fmt: skip


def _check_signal(records: Sequence[PlaneFit]) -> None:
    largest = max(records, key=lambda r: abs(r.disparity_px))
    if abs(largest.disparity_px) < max(_MIN_DISPARITY_PX, _MIN_SIGMAS * largest.sigma_px):
        raise PlaneError(
            f"all planes are in focus, nothing to measure: the largest disparity is {largest.disparity_px:+.3f} px",
            expected=f"at least {max(_MIN_DISPARITY_PX, _MIN_SIGMAS * largest.sigma_px):.2f} px",
            hint="open the aperture, or move the planes away from the focus distance",
        )
    worst = max(records, key=lambda r: abs(r.disparity_px - r.predicted_px))
    error = worst.disparity_px - worst.predicted_px
    if abs(error) > _MAX_MISFIT * abs(largest.disparity_px):
        raise PlaneError(
            f"the distances do not explain the disparities: '{worst.name}' at {worst.distance_m:g} m has "
            f"{worst.disparity_px:+.2f} px, {worst.predicted_px:+.2f} px would fit the others",
            hint="check the distances, their order, and that focus stayed where it was",
        )


def _focus_warnings(planes: Sequence[Plane], fitted: float | None, defocus: Sequence[float]) -> list[str]:
    warnings = []
    if min(defocus) > 0 or max(defocus) < 0:
        side = "behind" if min(defocus) > 0 else "in front of"
        warnings.append(
            f"all planes are {side} the focus plane: an error of the focus distance goes into the gain; add one on the "
            "other side"
        )
    given = planes[0].focus_distance_m
    if fitted is not None and given is not None and len({p.focus_distance_m for p in planes}) == 1:
        apart = abs(1 / fitted - 1 / given)
        if apart > _FOCUS_DIFFERENCE * max(1.0, 1 / given):
            warnings.append(
                f"the planes agree best with a focus distance of {fitted:.3g} m from the lens, {given:g} m was given "
                "(lens scales count from the sensor); leave it out to have it fitted"
            )
    return warnings


def _matched_slope(planes: Sequence[Plane], defocus: Sequence[float], gain: GainField) -> float | None:
    known = [(p.matched_px, u) for p, u in zip(planes, defocus, strict=True) if p.matched_px is not None]
    total = sum(u * u for _, u in known)
    return sum(d * u for d, u in known) / total / gain.focus_distance_m if total > 0 else None


def _kappa(gain: GainField, lens: LensFacts) -> tuple[float | None, list[str]]:
    if lens.focal_length_mm is None or lens.f_number is None or lens.pixel_pitch_um is None:
        return None, []
    model = optics.check_lens(
        LensModel(lens.focal_length_mm, lens.f_number, gain.focus_distance_m, lens.pixel_pitch_um, 1.0)
    )
    per_diopter = float(optics.circle_of_confusion_px(math.inf, model) - optics.circle_of_confusion_px(1.0, model))
    kappa = gain.slope_px_per_diopter / per_diopter
    if kappa > optics.IDEAL_DISPARITY_GAIN:
        return kappa, [
            f"a gain of {kappa:.3f} is more than two half discs have, {optics.IDEAL_DISPARITY_GAIN:.3f}: check "
            "aperture, focal length and pixel pitch"
        ]
    return kappa, []


def _profile(planes: Sequence[Plane], gain: GainField, kappa: float | None, lens: LensFacts) -> CameraProfile:
    meta = planes[0].meta
    how = (
        f"{len(planes)} planes by gradient least squares in {CELLS[0]}x{CELLS[1]} cells, rms {gain.residual_px:.3f} px"
    )
    profile = CameraProfile(
        size_hw=planes[0].size_hw,
        baseline=planes[0].baseline,
        camera=meta.camera,
        lens=meta.lens_model,
        f_number=lens.f_number,
        focal_length_mm=lens.focal_length_mm,
        focus_distance_m=gain.focus_distance_m,
        sources=tuple(p.name for p in planes),
        gain=gain,
        notes={"gain": how},
    )
    return profile if kappa is None else replace(profile, disparity_gain=float(f"{kappa:.4g}"))


def _part(index: int, count: int, length: int) -> slice:
    return slice(length * index // count, length * (index + 1) // count)


def _robust_std(values: Floats) -> float:
    return 1.4826 * float(np.median(np.abs(values - np.median(values))))
