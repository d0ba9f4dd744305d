"""A page of pictures of rendered samples: scene, depth, left, right, difference, focus stack.

Left and right have the exposure of the scene, doubled, as each half holds half of its light. The difference is left
minus right over the brightest light, red where right is brighter. Depth is bright near and dark far, grey where it was
filled.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import cv2
import numpy as np
from PIL import Image, ImageDraw, ImageFont

from dualpix.capture.pictures.colour_map import Panel, Rgb, coloured, default_limits
from dualpix.capture.pictures.display import to_display
from dualpix.capture.types import FloatImage

if TYPE_CHECKING:  # torch would come along
    from dualpix.capture.synthesis.sample import RenderedSample

PANEL_PX = 300
_TITLE_PX, _GAP_PX, _FONT_PX = 24, 8, 14
_NEUTRAL = (1.0, 1.0, 1.0)
_BRIGHT_PERCENTILE, _BRIGHT_VALUE = 99.0, 0.85
_SHOWN_FRAMES = 3
_FAR_M = 1000.0


@dataclass(frozen=True)
class Cell:
    """One picture of the page."""

    title: str
    picture: Rgb


def contact_sheet(samples: Sequence[RenderedSample], panel_px: int = PANEL_PX) -> Rgb:
    """One row per sample.

    Args:
        samples: alike: with or without a pair, all with as many frames in their stacks.
        panel_px: width of a picture.

    Returns:
        uint8 (H, W, 3) in R, G, B.

    Raises:
        ValueError: no samples, or rows of different lengths.
    """
    rows = [_row(sample) for sample in samples]
    lengths = {len(row) for row in rows}
    if len(lengths) != 1:
        raise ValueError(f"rows of {sorted(lengths)} pictures")
    heights = [round(panel_px * row[0].picture.shape[0] / row[0].picture.shape[1]) for row in rows]
    cell_w = panel_px + _GAP_PX
    page = Image.new("RGB", (lengths.pop() * cell_w + _GAP_PX, sum(h + _TITLE_PX + _GAP_PX for h in heights)), "white")
    draw, font, top = ImageDraw.Draw(page), ImageFont.load_default(_FONT_PX), 0
    for row, height in zip(rows, heights, strict=True):
        for column, cell in enumerate(row):
            left = _GAP_PX + column * cell_w
            draw.text((left, top + 4), cell.title, fill="black", font=font)
            page.paste(Image.fromarray(_resized(cell.picture, panel_px, height)), (left, top + _TITLE_PX))
        top += height + _TITLE_PX + _GAP_PX
    return np.asarray(page, np.uint8)


def _row(sample: RenderedSample) -> list[Cell]:
    view = sample.view
    bright = float(np.percentile(view.image.max(axis=2), _BRIGHT_PERCENTILE))
    exposure = _BRIGHT_VALUE / max(bright, 1e-6)
    return [
        Cell(view.name[-32:], _shown(view.image, exposure)),
        _depth_cell(sample),
        *_pair_cells(sample, exposure),
        *(
            Cell(f"focused at {_metres(sample.stack_focus_m[n])}", _shown(sample.stack[n], exposure))
            for n in _spread(len(sample.stack))
        ),
    ]


def _pair_cells(sample: RenderedSample, exposure: float) -> list[Cell]:
    """Left, right and their difference; nothing for a sample without a pair."""
    if sample.left is None or sample.right is None:
        return []
    disparity = sample.disparity_px
    return [
        Cell(f"left, focus {_metres(sample.lens.focus_distance_m)}", _shown(sample.left, 2 * exposure)),
        Cell(f"right, disparity {disparity.min():.1f}..{disparity.max():.1f} px", _shown(sample.right, 2 * exposure)),
        _difference_cell(sample.left, sample.right, exposure),
    ]


def _depth_cell(sample: RenderedSample) -> Cell:
    depth, coc = sample.view.depth_m, sample.coc_px
    title = f"{depth.min():.2g}..{_metres(float(depth.max()))}, CoC {coc.min():.0f}..{coc.max():.0f} px"
    return Cell(title, coloured(Panel("", depth, "depth", valid=sample.view.measured)))


def _difference_cell(left: FloatImage, right: FloatImage, exposure: float) -> Cell:
    difference = ((left - right).mean(axis=2) * np.float32(100 * exposure)).astype(np.float32)
    limits = default_limits(difference, None, "diverging")
    return Cell(f"left - right, -/+ {limits[1]:.2g} %", coloured(Panel("", difference, "diverging", limits=limits)))


def _metres(distance_m: float) -> str:
    return f"{distance_m:.3g} m" if distance_m < _FAR_M else "infinity"


def _spread(count: int) -> list[int]:
    """At most three of ``count`` frames, evenly, with the first and the last."""
    return sorted({round(n) for n in np.linspace(0, count - 1, min(count, _SHOWN_FRAMES))}) if count else []


def _shown(light: FloatImage, exposure: float) -> Rgb:
    return to_display(light, white_balance=_NEUTRAL, exposure=exposure)


def _resized(picture: Rgb, width: int, height: int) -> Rgb:
    how = cv2.INTER_AREA if width < picture.shape[1] else cv2.INTER_LINEAR
    return np.asarray(cv2.resize(picture, (width, height), interpolation=how), np.uint8)
