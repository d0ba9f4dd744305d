"""Maps of disparity and depth as pictures for people, with a scale bar that has ticks and a unit.

Convention: disparity is diverging about 0, pale where in focus, **red in front of the focus plane and blue behind it**;
depth is sequential, bright near and dark far, its colours spaced evenly in diopters, as blur and its errors are. Both
scales are perceptually even (ColorBrewer RdBu, viridis). Pixels without a value (masked, NaN) are grey, and below a
confidence of ``SURE`` colours fade to it; infinite depth is the far end of its scale.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from typing import Any, Literal

import cv2
import numpy as np
import numpy.typing as npt
from matplotlib import colormaps
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from dualpix.capture.errors import OutputError
from dualpix.capture.files import write_bytes
from dualpix.capture.types import FloatImage, Mask

Rgb = npt.NDArray[np.uint8]
Limits = tuple[float, float]
Scale = Literal["diverging", "sequential", "depth"]

INVALID_GREY = (0.5, 0.5, 0.5)
_GREY_CODES = np.rint([255 * c for c in INVALID_GREY]).astype(np.uint8)
SURE = 0.5
"""Confidence from which colours are shown in full."""
_MAPS: dict[Scale, str] = {"diverging": "RdBu", "sequential": "viridis_r", "depth": "viridis"}
_ROUND_M = tuple(m * 10.0**e for e in (-2, -1, 0, 1, 2) for m in (1, 1.2, 1.5, 2, 2.5, 3, 4, 5, 7))
_OUTLIER_PERCENT = 0.5
_RANKED = 500_000
"""Values that decide where a scale ends; of more, every second, third or so."""
_STEPS, _STRIP_PX = 256, 64
_DPI = 100
_LONGEST_PANEL_PX = 960
_TITLE_PX, _BAR_PX, _GAP_PX = 34, 84, 14
_TITLE_ABOVE_PX, _BAR_WIDTH_PX = 8, 14


@dataclass(frozen=True)
class Panel:
    """One picture of a figure: either a finished RGB picture or values to be coloured."""

    title: str
    image: Rgb | FloatImage
    """uint8 (H, W, 3), or float (H, W) values."""
    scale: Scale | None = None
    """How values are coloured; None for an RGB picture."""
    unit: str = ""
    valid: Mask | None = None
    limits: Limits | None = None
    """Values at the ends of the scale, in diopters for depth; by default the middle 99 % of the valid ones, and of the
    sure ones where there are any."""
    confidence: FloatImage | None = None
    """(H, W) 0..1 of values: unsure ones fade."""

    def __post_init__(self) -> None:
        if self.confidence is not None and self.confidence.shape != self.image.shape:
            raise ValueError(f"confidence {self.confidence.shape} of values {self.image.shape}")


def disparity_picture(
    disparity_px: FloatImage,
    valid: Mask | None = None,
    *,
    title: str = "disparity (blue: behind the focus plane)",
    unit: str = "px",
    limits: Limits | None = None,
    confidence: FloatImage | None = None,
) -> Rgb:
    """Signed disparity (H, W) as an RGB picture with a scale bar; 0 is its middle unless ``limits`` say otherwise.

    With a ``confidence`` (H, W) unsure pixels fade to grey.

    Returns:
        uint8 (H', W', 3) in R, G, B; the map is reduced to at most 960 px and surrounded by title and scale.
    """
    return figure([Panel(title, disparity_px, "diverging", unit, valid, limits, confidence)])


def depth_picture(
    depth_m: FloatImage,
    valid: Mask | None = None,
    *,
    title: str = "depth from the lens",
    limits: Limits | None = None,
) -> Rgb:
    """Depth (H, W) in m, > 0, infinity allowed, as an RGB picture with a scale bar; ``limits`` are in diopters."""
    return figure([Panel(title, depth_m, "depth", "m", valid, limits)])


def default_limits(values: npt.NDArray[Any], valid: Mask | None, scale: Scale) -> Limits:
    """Ends of the scale: the middle 99 % of the finite valid values; symmetric about 0 where diverging."""
    placed = _on_scale(np.asarray(values, np.float64), scale)
    known = placed[_known(placed, valid) & np.isfinite(placed)]
    if not known.size:
        return (-1.0, 1.0) if scale == "diverging" else (0.0, 1.0)
    ranked = known[:: -(-known.size // _RANKED)]
    low, high = (float(v) for v in np.percentile(ranked, (_OUTLIER_PERCENT, 100 - _OUTLIER_PERCENT)))
    if scale == "diverging":
        reach = max(abs(low), abs(high), 1e-6)
        return -reach, reach
    middle, half = 0.5 * (low + high), max(0.5 * (high - low), 1e-6 * max(1.0, abs(high)))
    return middle - half, middle + half


def coloured(panel: Panel) -> Rgb:
    """The panel's pixels alone, uint8 (H, W, 3), without title or scale."""
    if panel.scale is None:
        return np.asarray(panel.image, np.uint8)
    values = _on_scale(panel.image, panel.scale)
    low, high = _limits(panel, panel.scale)
    known = _known(values, panel.valid)
    colours = np.empty((*values.shape, 3), np.uint8)
    for start in range(0, len(values), _STRIP_PX):  # whole pictures as float colours are 100 MB of fresh memory
        rows = slice(start, start + _STRIP_PX)
        step = np.clip((np.where(known[rows], values[rows], low) - low) * (_STEPS / (high - low)), 0, _STEPS - 1)
        shown = cv2.applyColorMap(step.astype(np.uint8), ramp(panel.scale)[:, None])
        sure = known[rows].astype(np.float32)
        if panel.confidence is not None:
            sure *= np.clip(panel.confidence[rows] / SURE, 0.0, 1.0)
        colours[rows] = cv2.blendLinear(shown, np.full_like(shown, _GREY_CODES), sure, 1 - sure)
    return colours


@cache
def ramp(scale: Scale) -> npt.NDArray[np.uint8]:
    """(256, 3) R, G, B of a scale, from its low end to its high one; not to be written to."""
    colours: Rgb = np.rint(255 * colormaps[_MAPS[scale]](np.linspace(0.0, 1.0, _STEPS))[:, :3]).astype(np.uint8)
    colours.flags.writeable = False
    return colours


def figure(panels: Sequence[Panel], *, columns: int | None = None, panel_px: int = _LONGEST_PANEL_PX) -> Rgb:
    """Panels side by side, each with its title and, where it has one, its scale bar.

    Args:
        panels: pictures of about the same shape; one decides the grid: the first.
        columns: panels in a row; all by default.
        panel_px: longest side of a panel's map; larger maps are reduced, smaller ones kept.

    Returns:
        uint8 (H, W, 3) in R, G, B.
    """
    columns = columns or len(panels)
    rows = -(-len(panels) // columns)
    height, width = _shown_size(panels[0].image.shape[:2], panel_px)
    cell_h, cell_w = height + _TITLE_PX + _GAP_PX, width + _GAP_PX + _BAR_PX
    total_h, total_w = rows * cell_h, columns * cell_w + _GAP_PX
    canvas = Figure(figsize=(total_w / _DPI, total_h / _DPI), dpi=_DPI, facecolor="white")
    agg = FigureCanvasAgg(canvas)
    shown = []
    for index, panel in enumerate(panels):
        row, column = divmod(index, columns)
        at = _Place(_GAP_PX + column * cell_w, row * cell_h + _TITLE_PX, height, width)
        limited = panel if panel.scale is None else replace(panel, limits=_limits(panel, panel.scale))
        _write_around(canvas, limited, at)
        shown.append((at, limited))
    agg.draw()
    picture = np.asarray(agg.buffer_rgba(), np.uint8)[..., :3].copy()
    for at, panel in shown:
        own_h, own_w = _shown_size(panel.image.shape[:2], panel_px)
        # Reduced after colouring: averaging values would spread masked and infinite ones.
        reduced = cv2.resize(coloured(panel), (own_w, own_h), interpolation=cv2.INTER_AREA)
        picture[at.window] = cv2.resize(reduced, (width, height), interpolation=cv2.INTER_NEAREST)
    return picture


def grown(image: npt.NDArray[Any], times: int) -> npt.NDArray[Any]:
    """A picture or map (H, W, ...) each of whose pixels is ``times`` wide and high: titles need room."""
    return image.repeat(times, axis=0).repeat(times, axis=1)


def save_picture(path: Path, picture: Rgb) -> None:
    """Write an RGB picture as PNG, atomically.

    Raises:
        OutputError: the file cannot be written.
    """
    done, data = cv2.imencode(".png", np.ascontiguousarray(picture[..., ::-1]))
    if not done:
        raise OutputError(f"cannot encode '{path.name}' of {picture.shape}")
    write_bytes(path, data.tobytes())


def _limits(panel: Panel, scale: Scale) -> Limits:
    if panel.limits is not None:
        return panel.limits
    valid = panel.valid
    if panel.confidence is not None and (sure := panel.confidence >= SURE).any():
        valid = sure if valid is None else sure & valid
    return default_limits(panel.image, valid, scale)


def _known(values: npt.NDArray[Any], valid: Mask | None) -> Mask:
    known: Mask = ~np.isnan(values)
    return known if valid is None else known & valid


def _shown_size(size_hw: tuple[int, ...], panel_px: int) -> tuple[int, int]:
    shrink = min(1.0, panel_px / max(size_hw))
    return max(1, round(size_hw[0] * shrink)), max(1, round(size_hw[1] * shrink))


@dataclass(frozen=True)
class _Place:
    """Of a panel's map on the canvas, in px from its top left."""

    left: int
    top: int
    height: int
    width: int

    @property
    def window(self) -> tuple[slice, slice]:
        return slice(self.top, self.top + self.height), slice(self.left, self.left + self.width)


def _write_around(canvas: Figure, panel: Panel, at: _Place) -> None:
    """The title and the scale bar: words and lines. Titles of axes would be laid out once more for each tick."""
    total_w, total_h = canvas.get_size_inches() * _DPI
    title_y = 1 - (at.top - _TITLE_ABOVE_PX) / total_h
    canvas.text(at.left / total_w, title_y, panel.title, fontsize=11)
    if panel.scale is None:
        return
    low, high = _limits(panel, panel.scale)
    bar_left = at.left + at.width + 8
    bottom = 1 - (at.top + at.height) / total_h
    scale = canvas.add_axes((bar_left / total_w, bottom, _BAR_WIDTH_PX / total_w, at.height / total_h))
    scale.imshow(ramp(panel.scale)[:, None], aspect="auto", origin="lower", extent=(0, 1, low, high))
    scale.xaxis.set_visible(False)
    scale.yaxis.tick_right()
    scale.tick_params(labelsize=9)
    canvas.text((bar_left + _BAR_WIDTH_PX / 2) / total_w, title_y, panel.unit, fontsize=10, ha="center")
    if panel.scale == "depth":
        ticks = depth_ticks(low, high)
        scale.set_yticks(list(ticks), list(ticks.values()))


def _on_scale(values: npt.NDArray[Any], scale: Scale) -> npt.NDArray[np.floating[Any]]:
    """Values as their scale spaces them: depth becomes diopters; a depth that is not positive is none."""
    values = values if np.issubdtype(values.dtype, np.floating) else np.asarray(values, np.float64)
    return 1.0 / np.where(values > 0, values, np.nan) if scale == "depth" else values


def depth_ticks(low: float, high: float) -> dict[float, str]:
    """Where a scale of diopters says the depth in metres: {place in diopters: label}, far first.

    Infinity if it is on the scale, then round depths, none closer to the next than a sixteenth of the scale; evenly
    spaced ones where it is so short that it holds fewer than three.
    """
    chosen: list[float] = []
    for place in (0.0, *(1.0 / metres for metres in reversed(_ROUND_M))):
        if low <= place <= high and (not chosen or place - chosen[-1] >= (high - low) / 16):
            chosen.append(place)
    if len(chosen) < 3:
        chosen = [float(place) for place in np.linspace(low, high, 5)]
    return {place: f"{1.0 / place:.3g}" if place > 0 else "∞" for place in chosen}
