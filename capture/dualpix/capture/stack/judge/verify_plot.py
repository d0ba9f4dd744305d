"""The check of a sweep as one picture: curves, where tiles are sharpest, and each frame's light, motion and step.

Convention: near is bright and far dark, as in :mod:`dualpix.capture.pictures.colour_map`, evenly spaced in diopters.
"""

from __future__ import annotations

import math
import textwrap
from typing import Any

import numpy as np
import numpy.typing as npt
from matplotlib import colormaps
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from dualpix.capture.pictures.colour_map import Rgb
from dualpix.capture.pictures.display import to_display
from dualpix.capture.stack.judge.verification import Finding, Sweep, Verification
from dualpix.capture.stack.judge.verify_pictures import DRIFT_SUSPECT, SHIFT_SUSPECT, light_trend

_COLOURS = {"good": "#1a7f37", "suspect": "#b35900", "bad": "#b3261e", "note": "#57606a"}
_NEAR_FAR = colormaps["viridis"]
_SIZE_INCHES, _DPI = (14.0, 9.2), 100
_MAX_FINDINGS, _WRAP = 7, 150
_MARKERS = "osD^v"
_GREY = "#57606a"


def verification_picture(result: Verification) -> Rgb:
    """uint8 (H, W, 3) in R, G, B, about 1400 x 920 px."""
    figure = Figure(figsize=_SIZE_INCHES, dpi=_DPI, facecolor="white")
    agg = FigureCanvasAgg(figure)
    _headline(figure, result)
    lines = _finding_lines(result.findings)
    top = 0.905 - 0.021 * max(1, len(lines))
    _text_lines(figure, lines, 0.905)
    grid = figure.add_gridspec(2, 6, left=0.055, right=0.985, top=top - 0.045, bottom=0.065, hspace=0.42, wspace=0.9,
                               height_ratios=(1.75, 1.0))  # fmt: skip
    if result.sweeps:
        widest = result.sweeps[0]
        _curves(figure.add_subplot(grid[0, :3]), widest, result)
        _tiles(figure.add_subplot(grid[0, 3:]), widest)
        _steps(figure.add_subplot(grid[1, :2]), result.sweeps)
        _drift(figure.add_subplot(grid[1, 2:4]), result.sweeps)
        _shift(figure.add_subplot(grid[1, 4:]), result.sweeps)
    agg.draw()
    return np.asarray(agg.buffer_rgba(), np.uint8)[..., :3].copy()


def _headline(figure: Figure, result: Verification) -> None:
    apertures = ", ".join(_aperture(sweep) for sweep in result.sweeps)
    figure.text(
        0.055, 0.955, result.verdict.upper(), fontsize=17, weight="bold", color="white", va="center",
        bbox={"boxstyle": "round,pad=0.35", "facecolor": _COLOURS[result.verdict], "edgecolor": "none"},
    )  # fmt: skip
    where = 0.055 + 0.0125 * len(result.verdict) + 0.035
    text = f"{result.folder.absolute().name}: {result.frames} frames" + (f" at {apertures}" if apertures else "")
    figure.text(where, 0.955, text, fontsize=14, va="center")


def _finding_lines(findings: tuple[Finding, ...]) -> list[tuple[str, str]]:
    """(colour, line) of the first findings."""
    if not findings:
        return [(_COLOURS["good"], "nothing to report")]
    lines = [
        (_COLOURS[finding.severity], part)
        for finding in findings
        for part in textwrap.wrap(f"{finding.severity}: {finding.text}", _WRAP)
    ]
    more = len(lines) - _MAX_FINDINGS
    return lines[:_MAX_FINDINGS] + ([(_GREY, f"... and {more} more lines, see the JSON")] if more > 0 else [])


def _text_lines(figure: Figure, lines: list[tuple[str, str]], top: float) -> None:
    for number, (colour, line) in enumerate(lines):
        figure.text(0.055, top - 0.021 * number, line, fontsize=10.5, color=colour, va="center")


def _aperture(sweep: Sweep) -> str:
    return "unknown aperture" if sweep.f_number is None else f"f/{sweep.f_number:g}"


def _curves(axes: Any, sweep: Sweep, result: Verification) -> None:
    """Sharpness over focus, each tile to its own peak."""
    focus = sweep.places
    curves = sweep.sharpness[:, sweep.telling]
    peaks = sweep.peak_places[sweep.telling]
    for tile in np.argsort(peaks):
        shown = curves[:, tile] / max(float(curves[:, tile].max()), 1e-30)
        axes.plot(focus, shown, color=_near_far(peaks[tile], focus), alpha=0.55, linewidth=1.1)
    flagged = {index for finding in result.findings if finding.severity != "note" for index in finding.frames}
    for check in sweep.checks:
        bad = check.index in flagged
        width = np.fmax(2 * check.uncertainty_d, 0.002 * float(np.ptp(focus)))
        axes.axvspan(
            check.sweep - width / 2, check.sweep + width / 2, color=_COLOURS["bad"] if bad else _GREY,
            alpha=0.35 if bad else 0.15, linewidth=0,
        )  # fmt: skip
        axes.text(
            check.sweep, 1.005, str(check.index), ha="center", va="bottom", fontsize=8,
            color=_COLOURS["bad"] if bad else _GREY, weight="bold" if bad else "normal",
        )  # fmt: skip
    axes.set_yscale("log")
    axes.set_ylim(_lowest(curves), 1.0)
    known = "focus in diopters (1/m); below, in m; bands: frames and their uncertainty"
    axes.set_xlabel(known if sweep.has_distances else "frame; its distance is not known", fontsize=9)
    axes.set_ylabel("sharpness of a tile over its peak", fontsize=9)
    axes.set_title(
        f"{curves.shape[1]} of {sweep.telling.size} tiles, {_aperture(sweep)}", fontsize=10, loc="left", pad=14
    )
    axes.tick_params(labelsize=8)
    ticks = [tick for tick in axes.get_xticks() if axes.get_xlim()[0] <= tick <= axes.get_xlim()[1]]
    if sweep.has_distances:
        axes.set_xticks(ticks, [f"{tick:.3g}\n{_metres(tick)}" for tick in ticks])


def _lowest(curves: npt.NDArray[np.float64]) -> float:
    if not curves.size:
        return 1e-2
    relative = curves / np.maximum(curves.max(axis=0), 1e-30)
    return float(np.clip(np.percentile(relative, 1), 1e-3, 0.3))


def _tiles(axes: Any, sweep: Sweep) -> None:
    """The middle frame under the tiles' depths."""
    height, width = sweep.picture.shape[:2]
    rows, columns = sweep.peak_places.shape
    axes.imshow(to_display(sweep.picture))
    focus = sweep.places
    for row in range(rows):
        for column in range(columns):
            left, top = column * width / columns, row * height / rows
            peak = sweep.peak_places[row, column]
            if math.isnan(peak):
                continue
            colour = _near_far(peak, focus)
            shown = _metres(peak, short=True) if sweep.has_distances else f"{peak:.1f}"
            axes.add_patch(_box(left, top, width / columns, height / rows, colour))
            axes.text(
                left + width / columns / 2, top + height / rows / 2, shown, ha="center", va="center",
                fontsize=7.5, color="white" if np.mean(colour[:3]) < 0.55 else "black",
            )  # fmt: skip
    axes.set_axis_off()
    what = "distance in m at" if sweep.has_distances else "frame in"
    axes.set_title(f"{what} which each tile is sharpest; bare tiles have too little texture", fontsize=10, loc="left")


def _box(left: float, top: float, width: float, height: float, colour: Any) -> Any:
    from matplotlib.patches import Rectangle

    return Rectangle((left, top), width, height, facecolor=(*colour[:3], 0.55), edgecolor="white", linewidth=0.4)


def _steps(axes: Any, sweeps: tuple[Sweep, ...]) -> None:
    for number, sweep in enumerate(sweeps):
        focus = sweep.places
        planned = [check.requested_d for check in sweep.checks]
        if number == 0 and all(d is not None for d in planned):
            wanted = np.array(planned, np.float64)
            axes.plot((wanted[1:] + wanted[:-1]) / 2, np.diff(wanted), "_", color=_GREY, markersize=14, label="planned")
        axes.plot(
            (focus[1:] + focus[:-1]) / 2, np.diff(focus), _MARKERS[number % len(_MARKERS)], markersize=4, alpha=0.8,
            label=_aperture(sweep),
        )  # fmt: skip
    axes.set_ylim(min(0.0, axes.get_ylim()[0]), 1.25 * axes.get_ylim()[1])
    if sweeps[0].has_distances:
        _small(axes, "step to the next frame (D)", "focus in diopters")
    else:
        _small(axes, "step to the next frame (not known in D)", "frame")
    axes.legend(fontsize=8, frameon=False)


def _drift(axes: Any, sweeps: tuple[Sweep, ...]) -> None:
    _per_frame(axes, sweeps, [[100 * check.drift for check in sweep.checks] for sweep in sweeps])
    widest = sweeps[0].checks
    trend = 100 * light_trend(widest)
    order = np.argsort([check.index for check in widest])
    places = np.array([check.index for check in widest])[order]
    low, high = trend[order] - 100 * DRIFT_SUSPECT, trend[order] + 100 * DRIFT_SUSPECT
    axes.fill_between(places, low, high, color=_COLOURS["good"], alpha=0.08, linewidth=0)
    first = "farthest" if sweeps[0].has_distances else "first"
    _small(axes, f"exposure beside the {first} frame (%)", "frame")


def _shift(axes: Any, sweeps: tuple[Sweep, ...]) -> None:
    _per_frame(axes, sweeps, [[check.shift_px for check in sweep.checks] for sweep in sweeps])
    sizes = [s.alignment.size_hw[1] for s in sweeps if s.alignment is not None]
    if sizes:
        axes.axhspan(0, SHIFT_SUSPECT * sizes[0], color=_COLOURS["good"], alpha=0.08, linewidth=0)
    axes.set_ylim(bottom=0.0)
    _small(axes, "motion without breathing (px)", "frame")


def _per_frame(axes: Any, sweeps: tuple[Sweep, ...], values: list[list[float]]) -> None:
    for number, (sweep, shown) in enumerate(zip(sweeps, values, strict=True)):
        places = [check.index for check in sweep.checks]
        axes.plot(places, shown, _MARKERS[number % len(_MARKERS)], markersize=4, alpha=0.8, label=_aperture(sweep))
    axes.axhline(0.0, color=_GREY, linewidth=0.6)
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))


def _small(axes: Any, title: str, label: str) -> None:
    axes.set_title(title, fontsize=10, loc="left")
    axes.set_xlabel(label, fontsize=9)
    axes.tick_params(labelsize=8)
    for side in ("top", "right"):
        axes.spines[side].set_visible(False)


def _near_far(diopters: float, focus: npt.NDArray[np.float64]) -> tuple[float, float, float, float]:
    low, high = float(focus.min()), float(focus.max())
    red, green, blue, alpha = _NEAR_FAR((diopters - low) / max(high - low, 1e-9))
    return float(red), float(green), float(blue), float(alpha)


def _metres(diopters: float, *, short: bool = False) -> str:
    if diopters <= 1e-3:
        return "∞"
    text = (
        f"{1 / diopters:.2g}" if short and diopters < 1 else f"{1 / diopters:.2f}" if short else f"{1 / diopters:.3g}"
    )
    return text
