"""A plan as a picture: how blurred everything is in each frame, and what is sharp in which.

Convention: depth goes to the right from far to near, evenly in diopters, because blur does; metres are written above.
The large field holds the stops at the widest aperture, one V a stop; the black line is the sharpest that any frame
shows. Below, one row an aperture, lies what is sharp: bars of neighbouring stops alternate in height, so that overlaps
and gaps are seen.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
from matplotlib import colormaps
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from dualpix.capture.focus.describe import FrameSummary, PlanSummary
from dualpix.capture.focus.frames import FocusPlan
from dualpix.capture.pictures.colour_map import Rgb, depth_ticks

_SIZE_INCH, _DPI = (11.5, 6.4), 100
_MARGIN = 0.12
"""Of the range of the plan, shown at both ends."""
_PLACES = 600
_MOST_ROWS = 6
_INK, _FAINT, _BAND = "#1f2430", "#8a909c", "#dfe7ee"


def plan_picture(plan: FocusPlan, summary: PlanSummary) -> Rgb:
    """Blur against depth for all frames of a plan.

    Args:
        plan: what is drawn.
        summary: of the same plan; with a calibration, marks show where the lens really goes, and how surely.

    Returns:
        uint8 (H, W, 3) in R, G, B.
    """
    figure = Figure(figsize=_SIZE_INCH, dpi=_DPI, facecolor="white", layout="constrained")
    canvas = FigureCanvasAgg(figure)
    apertures = sorted({frame.f_number for frame in summary.frames})[:_MOST_ROWS]
    ratios = [7.0, *([0.75] * len(apertures))]
    axes = figure.subplots(1 + len(apertures), 1, sharex=True, height_ratios=ratios, squeeze=False)[:, 0]
    low, high = _range(plan)
    _draw_blur(axes[0], plan, summary, np.linspace(low, high, _PLACES))
    for row, f_number in zip(axes[1:], apertures, strict=True):
        _draw_sharp(row, [f for f in summary.frames if f.f_number == f_number], f_number, plan.stops_d)
    axes[0].set_xlim(low, high)
    axes[-1].set_xlabel("depth, diopters", color=_INK)
    _write_metres(axes[0], low, high)
    figure.suptitle(_title(plan, summary), x=0.01, ha="left", fontsize=12, color=_INK)
    words = "black: the sharpest of all frames"
    if any(frame.reachable_d is not None for frame in summary.frames):
        words += "; red: where the lens goes, within two standard deviations"
    figure.text(0.995, 0.985, words, ha="right", va="top", fontsize=9, color=_FAINT)
    canvas.draw()
    return np.asarray(canvas.buffer_rgba(), np.uint8)[..., :3].copy()


def _range(plan: FocusPlan) -> tuple[float, float]:
    stops = plan.stops_d
    margin = _MARGIN * (stops[-1] - stops[0]) or 0.25 * stops[0] or 0.25
    return max(0.0, stops[0] - margin), min(stops[-1] + margin, 999 / plan.lens.focal_length_mm)


def _draw_blur(axes: Any, plan: FocusPlan, summary: PlanSummary, depth_d: npt.NDArray[np.float64]) -> None:
    stops = plan.stops_d
    curves = np.array([plan.lens.blurs_px(stop, depth_d) for stop in stops])
    colours = _colours(len(stops))
    axes.axhspan(0, summary.blur_limit_px, color=_BAND, lw=0)
    width = 1.6 if len(stops) <= 20 else 0.7
    for stop, curve, colour in zip(stops, curves, colours, strict=True):
        axes.plot(depth_d, curve, color=colour, lw=width)
        axes.plot([stop], [0], marker="o", ms=4, color=colour, clip_on=False, zorder=5)
    axes.plot(depth_d, curves.min(axis=0), color=_INK, lw=1.6, zorder=4)
    top = float(curves.max())
    axes.set_ylim(0, top * 1.03)
    axes.set_ylabel(f"blur, px at {plan.lens.width_px} px width", color=_INK)
    if summary.blur_limit_px < 0.5 * top:
        axes.text(
            1.004, summary.blur_limit_px, f"{summary.blur_limit_px:g} px\nsharp", transform=axes.get_yaxis_transform(),
            va="center", fontsize=8, color=_FAINT,
        )  # fmt: skip
    _mark_reached(axes, summary)
    _plain(axes)


def _mark_reached(axes: Any, summary: PlanSummary) -> None:
    """Where the lens really goes, two standard deviations to both sides."""
    places = {(f.reachable_d, f.uncertainty_d) for f in summary.frames if f.reachable_d is not None}
    if places:
        x, sd = (np.array(column, np.float64) for column in zip(*sorted(places), strict=True))
        height = 0.02 * axes.get_ylim()[1]
        axes.errorbar(
            x, np.full(len(x), height), xerr=2 * sd, fmt="none", ecolor="#c0392b", elinewidth=1.6, capsize=3, zorder=6
        )


def _draw_sharp(axes: Any, frames: list[FrameSummary], f_number: float, stops: tuple[float, ...]) -> None:
    colours = _colours(len(stops))
    for frame in frames:
        number = stops.index(frame.diopters)
        far, near = 1 / frame.sharp_far_m, 1 / frame.sharp_near_m
        bottom = 0.52 if number % 2 else 0.08
        axes.broken_barh([(far, near - far)], (bottom, 0.4), color=colours[number], lw=0)
    axes.set_ylim(0, 1)
    axes.set_yticks([])
    role = " (all in focus)" if all(f.role == "all_in_focus" for f in frames) else ""
    axes.set_ylabel(f"sharp at\nf/{f_number:g}", rotation=0, ha="right", va="center", fontsize=9, color=_INK)
    if role:
        axes.text(0.995, 0.5, role.strip(" ()"), transform=axes.transAxes, ha="right", va="center", fontsize=8)
    _plain(axes)
    axes.grid(False)


def _write_metres(axes: Any, low: float, high: float) -> None:
    above = axes.secondary_xaxis("top")
    ticks = depth_ticks(low, high)
    above.set_xticks(list(ticks), list(ticks.values()))
    above.set_xlabel("depth, m", color=_INK)
    above.tick_params(colors=_INK, labelsize=9)
    above.spines["top"].set_visible(False)


def _plain(axes: Any) -> None:
    axes.grid(True, axis="y", color="#eceef1", lw=0.8)
    axes.set_axisbelow(True)
    axes.tick_params(colors=_INK, labelsize=9)
    for name, spine in axes.spines.items():
        spine.set_visible(name in ("left", "bottom"))
        spine.set_color(_FAINT)


def _colours(count: int) -> npt.NDArray[np.float64]:
    # the yellow end of the map is too pale on white
    return np.asarray(colormaps["viridis"](np.linspace(0.0, 0.85, max(count, 2))))[:count]


def _title(plan: FocusPlan, summary: PlanSummary) -> str:
    lens = plan.lens
    step = "" if summary.step_px is None else f", steps of {_span(*summary.step_px)} px"
    return (
        f"{plan.mode}: {summary.stops} stops, {len(summary.frames)} frames, {lens.focal_length_mm:g} mm"
        f" f/{lens.f_number:g}, {summary.px_per_diopter:.1f} px per diopter{step}"
    )


def _span(low: float, high: float) -> str:
    return f"{low:.1f}" if high - low < 0.05 else f"{low:.1f} to {high:.1f}"
