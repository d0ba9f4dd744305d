"""The drawings of the glossary, computed by the formulas that the code uses; written by ``python -m docs.make_images``.

Convention: see :mod:`dualpix.capture.optics`.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from dualpix.capture.optics import circle_of_confusion_px, disparity_px
from dualpix.capture.pictures.colour_map import Rgb
from dualpix.capture.types import LensModel

LENS = LensModel(50.0, 2.8, 1.5, 20.0, 0.21)
"""Of the curves: a 50 mm at f/2.8, focused at 1.5 m, views of 20 um px."""
_DPI = 100
INK, BLUE, RED, GREY = "#26323d", "#0b62a4", "#b4260a", "#8a96a1"


def circle_of_confusion() -> Rgb:
    """A thin lens: a point in focus, and one behind that meets in front of the sensor and spreads on it."""
    figure, axes = _blank(6.4, 2.6)
    focal, aperture, focus, sensor = 1.0, 1.6, 4.0, 1 / (1 - 1 / 4.0)
    axes.plot([-5, sensor + 0.6], [0, 0], color=GREY, lw=0.8)
    axes.annotate(
        "",
        (0, aperture / 2 + 0.12),
        (0, -aperture / 2 - 0.12),
        arrowprops={"arrowstyle": "<->", "lw": 2, "color": INK},
    )
    axes.plot([sensor, sensor], [-1, 1], color=INK, lw=3)
    for distance, colour, label in ((focus, GREY, "in focus"), (9.0, BLUE, "behind the focus plane")):
        image = 1 / (1 / focal - 1 / distance)
        for height in (aperture / 2, -aperture / 2):
            start = -min(distance, 5.0)
            at_start = height * (1 + start / distance)  # rays from farther away come in from the border
            end = height * (1 - sensor / image)
            axes.plot([start, 0, sensor], [at_start, height, end], color=colour, lw=1.2)
        axes.text(-4.9, 0.95 if colour == GREY else -1.0, label, color=colour, fontsize=9)
    spread = aperture / 2 * (sensor / (1 / (1 - 1 / 9.0)) - 1)
    axes.annotate(
        "", (sensor + 0.18, spread), (sensor + 0.18, -spread), arrowprops={"arrowstyle": "<->", "color": BLUE}
    )
    axes.text(sensor + 0.3, 0.05, "c", color=BLUE, fontsize=11)
    axes.text(-0.28, 1.0, "lens", color=INK, fontsize=9)
    axes.text(sensor - 0.32, 1.06, "sensor", color=INK, fontsize=9)
    axes.set(xlim=(-5, sensor + 0.7), ylim=(-1.2, 1.25))
    return drawn(figure)


def sign_of_disparity() -> Rgb:
    """Signed circle of confusion and disparity against the distance, of one lens."""
    figure, axes = _plain(6.4, 2.9)
    distance_m = np.geomspace(0.6, 12, 300)
    axes.plot(distance_m, circle_of_confusion_px(distance_m, LENS), color=GREY, lw=1.5)
    axes.plot(distance_m, disparity_px(distance_m, LENS), color=BLUE, lw=2)
    axes.axhline(0, color=INK, lw=0.8)
    axes.axvline(LENS.focus_distance_m, color=INK, lw=0.8, ls=":")
    axes.text(
        3.6, float(circle_of_confusion_px(np.array(3.6), LENS)) - 9, "circle of confusion", color=GREY, fontsize=9
    )
    axes.text(2.9, -8, "disparity = gain × that", color=BLUE, fontsize=9)
    axes.text(0.66, 5, "in front: < 0", color=RED, fontsize=9)
    axes.text(1.56, -18, "in focus: 0\n(1.5 m)", color=INK, fontsize=9)
    axes.text(8.0, 14, "behind: > 0", color=BLUE, fontsize=9)
    axes.set_xscale("log")
    axes.set_xticks([0.6, 1, 1.5, 2, 3, 5, 10], ["0.6", "1", "1.5", "2", "3", "5", "10"])
    axes.minorticks_off()
    axes.set(xlabel="distance, m", ylabel="px of the view", ylim=(-42, 32))
    return drawn(figure)


def gain_and_baseline() -> Rgb:
    """Blur of a point in the left and the right half, and their centres of gravity: ideal halves, and overlapping."""
    figure = canvas(6.4, 2.3)
    x, y = np.meshgrid(np.linspace(-0.65, 0.65, 260), np.linspace(-0.65, 0.65, 260))
    disc = np.hypot(x, y) <= 0.5
    for place, (softness, title) in enumerate(((0.0, "ideal halves"), (0.62, "halves as phones have them"))):
        share = (x > 0).astype(float) if not softness else np.clip(0.5 + x / (2 * softness), 0, 1)
        right, left = disc * share, disc * (1 - share)
        centre = [float((x * half).sum() / half.sum()) for half in (left, right)]
        axes = figure.add_subplot(1, 2, place + 1)
        picture = np.ones((*x.shape, 3))
        picture -= left[..., None] * np.array([0.15, 0.55, 0.75]) * 0.9
        picture -= right[..., None] * np.array([0.85, 0.45, 0.1]) * 0.9
        axes.imshow(np.clip(picture, 0, 1), extent=(-0.65, 0.65, -0.65, 0.65))
        axes.annotate("", (centre[1], 0), (centre[0], 0), arrowprops={"arrowstyle": "<->", "color": INK, "lw": 1.5})
        axes.set_title(f"{title}: gain {centre[1] - centre[0]:.2f}", fontsize=9, color=INK)
        axes.annotate("", (0.55, -0.58), (-0.55, -0.58), arrowprops={"arrowstyle": "->", "color": GREY})
        axes.text(0.0, -0.63, "baseline axis", fontsize=8, color=GREY, ha="center", va="top")
        axes.set_axis_off()
    return drawn(figure)


def diopters() -> Rgb:
    """The same distances on a ruler of metres and on one of diopters."""
    figure, axes = _blank(6.4, 1.7)
    for distance_m in (0.25, 0.5, 1.0, 2.0, 4.0):
        metres, inverse = distance_m / 4.2, 1 - (1 / distance_m) / 4.2
        axes.plot([metres, metres], [0.9, 1.1], color=INK, lw=1.2)
        axes.plot([inverse, inverse], [-0.1, 0.1], color=BLUE, lw=1.2)
        axes.plot([metres, inverse], [0.9, 0.1], color=GREY, lw=0.7)
        axes.text(metres, 1.18, f"{distance_m:g}", ha="center", fontsize=9, color=INK)
        axes.text(inverse, -0.14, f"{1 / distance_m:g}", ha="center", va="top", fontsize=9, color=BLUE)
    axes.plot([0, 1], [1, 1], color=INK, lw=1)
    axes.plot([0, 1], [0, 0], color=BLUE, lw=1)
    axes.text(1.0, -0.14, "0", ha="center", va="top", fontsize=9, color=BLUE)
    axes.text(1.03, 1.0, "m", va="center", fontsize=9, color=INK)
    axes.text(1.03, 0.0, "1/m (infinity: 0)", va="center", fontsize=9, color=BLUE)
    axes.set(xlim=(-0.03, 1.3), ylim=(-0.5, 1.5))
    return drawn(figure)


def affine_invariant() -> Rgb:
    """A map that is right up to scale and offset, before and after the fit."""
    figure = canvas(6.4, 2.5)
    rng = np.random.default_rng(0)
    truth = rng.uniform(-1, 1, 150)
    found = 0.35 * truth + 0.5 + rng.normal(0, 0.03, truth.size)
    scale, offset = np.polyfit(found, truth, 1)
    for place, (values, title) in enumerate(((found, "as found"), (scale * found + offset, "after scale and offset"))):
        axes = figure.add_subplot(1, 2, place + 1)
        axes.plot([-1, 1], [-1, 1], color=GREY, lw=1)
        axes.scatter(truth, values, s=6, color=BLUE)
        axes.set_title(f"{title}: mean error {np.abs(values - truth).mean():.2f}", fontsize=9, color=INK)
        axes.set(xlabel="truth", ylabel="map", ylim=(-1.3, 1.3))
        soften(axes)
    return drawn(figure)


PICTURES: dict[str, Callable[[], Rgb]] = {
    "circle-of-confusion": circle_of_confusion,
    "sign-of-disparity": sign_of_disparity,
    "gain-and-baseline": gain_and_baseline,
    "diopters": diopters,
    "affine-invariant": affine_invariant,
}
"""By the stem of the file in ``docs/images``."""


def canvas(width_in: float, height_in: float) -> Figure:
    """An empty figure that draws into memory."""
    figure = Figure(figsize=(width_in, height_in), dpi=_DPI, facecolor="white", layout="constrained")
    FigureCanvasAgg(figure)
    return figure


def _blank(width: float, height: float) -> tuple[Figure, Any]:
    figure = canvas(width, height)
    axes = figure.add_subplot()
    axes.set_axis_off()
    return figure, axes


def _plain(width: float, height: float) -> tuple[Figure, Any]:
    figure = canvas(width, height)
    axes = figure.add_subplot()
    soften(axes)
    return figure, axes


def soften(axes: Any) -> None:
    """Small words, and no frame."""
    for side in ("top", "right"):
        axes.spines[side].set_visible(False)
    axes.tick_params(labelsize=8)
    axes.xaxis.label.set_size(9)
    axes.yaxis.label.set_size(9)


def drawn(figure: Figure) -> Rgb:
    """The pixels of a figure."""
    agg: Any = figure.canvas
    agg.draw()
    return np.ascontiguousarray(np.asarray(agg.buffer_rgba())[..., :3])
