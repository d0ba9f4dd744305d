"""Layouts: how a Bayer mosaic becomes a view.

=========== ================== ==========================================================================
layout      size, channels     content
=========== ================== ==========================================================================
superpixel  (H/2, W/2, 3)      R, mean of both G, B of each 2x2 cell: nothing interpolated, no artefact
green       (H/2, W/2)         mean of both G of each cell: what matching needs
rgb         (H, W, 3)          demosaiced
mosaic      (H, W)             as read
=========== ================== ==========================================================================

Demosaicing is Malvar, He and Cutler, "High-quality linear interpolation for demosaicing of Bayer-patterned color
images", ICASSP 2004 (5x5, eq. 2-4). Linear on purpose: left + right = combined holds in every layout, and noise or an
edge in one half cannot steer the interpolation differently from the other, which would be read as disparity.

A view pixel is saturated where any sample of its 2x2 cell (superpixel; of its two greens for green), of its 5x5 support
(rgb) or it itself (mosaic) is.

Planes that are no mosaic have one layout, their own. Rows of a plane are developed in strips, so that a command holds
one view at a time.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Literal

import cv2
import numpy as np

from dualpix.capture.raw.develop.planes import CELL, Plane
from dualpix.capture.types import FloatImage, Mask

Layout = Literal["superpixel", "mosaic", "green", "rgb"]
LAYOUTS: tuple[Layout, ...] = ("superpixel", "mosaic", "green", "rgb")
Colour = Literal["auto", "camera", "srgb"]

STRIP_ROWS = 64
"""Sensor rows developed at once: a strip stays within a processor's cache, which makes it several times faster."""
_MARGIN = 2  # rows of support above and below
_THUMBNAIL_ROWS = 8  # of each block: some hundred pixels already, and reading all would cost as much as a view

_G_AT_RB = np.array(
    [[0, 0, -1, 0, 0], [0, 0, 2, 0, 0], [-1, 2, 4, 2, -1], [0, 0, 2, 0, 0], [0, 0, -1, 0, 0]], np.float32
) / np.float32(8)
# Red at a green of a red row (red neighbours left and right); transposed: at a green of a blue row. Blue likewise.
_SIDE = np.array(
    [[0, 0, 1, 0, 0], [0, -2, 0, -2, 0], [-2, 8, 10, 8, -2], [0, -2, 0, -2, 0], [0, 0, 1, 0, 0]], np.float32
) / np.float32(16)
_DIAGONAL = np.array(
    [[0, 0, -3, 0, 0], [0, 4, 0, 4, 0], [-3, 0, 12, 0, -3], [0, 4, 0, 4, 0], [0, 0, -3, 0, 0]], np.float32
) / np.float32(16)


def layout_of(plane: Plane, layout: Layout) -> Layout | None:
    """The layout a plane is developed in: ``layout`` for a mosaic, None (its own samples) for anything else."""
    return layout if plane.mosaic else None


def binning(layout: Layout | None) -> int:
    """Samples per view pixel along each axis."""
    return 2 if layout in ("superpixel", "green") else 1


def view_shape(plane: Plane, layout: Layout) -> tuple[int, ...]:
    """(h, w) or (h, w, 3) of the developed plane, as the sensor lies."""
    height, width = plane.size_hw
    if not plane.mosaic:
        return tuple(plane.samples.shape)
    cells = (height // 2, width // 2)
    return {"superpixel": (*cells, 3), "green": cells, "rgb": (height, width, 3), "mosaic": (height, width)}[layout]


def strips(plane: Plane, layout: Layout) -> Iterator[tuple[slice, slice]]:
    """Rows of samples and the rows of the view they become, from top to bottom."""
    per_row = binning(layout_of(plane, layout))
    for top in range(0, plane.size_hw[0], STRIP_ROWS):
        bottom = min(top + STRIP_ROWS, plane.size_hw[0])
        yield slice(top, bottom), slice(top // per_row, bottom // per_row)


def develop(plane: Plane, layout: Layout, rows: slice | None = None) -> FloatImage:
    """Linear light in a layout, in camera colour, as the sensor lies.

    Args:
        plane: samples and levels.
        layout: ignored where ``plane`` is no mosaic.
        rows: of the samples, from an even row to an even row or the last; all of them if None.

    Returns:
        float32 of :func:`view_shape`, or of those rows of it: the same numbers.
    """
    rows = slice(0, plane.size_hw[0]) if rows is None else rows
    if not plane.mosaic or layout == "mosaic":
        return plane.light(rows)
    if layout == "rgb":
        return _demosaiced(plane, rows)
    return _binned(plane, layout, rows)


def apply_gain(light: FloatImage, gain: FloatImage, layout: Layout | None) -> None:
    """Multiply developed rows in place.

    Args:
        light: (h, w) or (h, w, 3); a mosaic starts at an even row.
        gain: (h, w, 1), or (h, w, 3) for R, G, B.
        layout: of ``light``.
    """
    if light.ndim == 3:
        light *= gain
    elif gain.shape[2] == 1 or layout != "mosaic":
        light *= gain[..., gain.shape[2] // 2]  # the only one, or green
    else:
        for channel, (row, column) in zip((0, 1, 1, 2), CELL, strict=True):
            light[row::2, column::2] *= gain[row::2, column::2, channel]


def develop_mask(saturated: Mask, mosaic: bool, layout: Layout) -> Mask:
    """The samples' mask (H, W) in a layout, see the module's text; as the sensor lies."""
    if not mosaic or layout == "mosaic":
        return saturated
    if layout == "rgb":
        window = np.ones((5, 5), np.uint8)
        return np.asarray(cv2.dilate(saturated.view(np.uint8), window, borderType=cv2.BORDER_REFLECT_101)).view(bool)
    if layout == "green":
        return np.asarray(saturated[0::2, 1::2] | saturated[1::2, 0::2])
    rows = saturated[0::2] | saturated[1::2]
    return np.asarray(rows[:, 0::2] | rows[:, 1::2])


def _binned(plane: Plane, layout: Layout, rows: slice) -> FloatImage:
    counts = plane.counts(rows)
    red, green1, green2, blue = (counts[row::2, column::2] for row, column in CELL)
    black, scale = plane.black, np.float32(plane.scale)
    green = green1.astype(np.float32)
    green += green2
    green -= np.float32(black[1] + black[2])
    if layout == "green":
        return np.multiply(green, scale / 2, out=green)
    light = np.empty((*green.shape, 3), np.float32)
    np.multiply(green, scale / 2, out=light[..., 1])
    for channel, samples, level in ((0, red, black[0]), (2, blue, black[3])):
        values = samples.astype(np.float32)
        values -= np.float32(level)
        np.multiply(values, scale, out=light[..., channel])
    return light


def _demosaiced(plane: Plane, rows: slice) -> FloatImage:
    height = plane.size_hw[0]
    top, bottom = max(rows.start - _MARGIN, 0), min(rows.stop + _MARGIN, height)
    mosaic = plane.light(slice(top, bottom))
    # Mirrored about the edge pixel, a mosaic keeps its phase. Inside the picture real rows take the margin's place.
    colour = malvar(mosaic)
    return colour[rows.start - top : rows.stop - top]


def malvar(mosaic: FloatImage) -> FloatImage:
    """Demosaic an RGGB mosaic (H, W) of even size to (H, W, 3) by Malvar et al. 2004; linear, may overshoot."""
    green, side, over, diagonal = (
        cv2.filter2D(mosaic, cv2.CV_32F, kernel, borderType=cv2.BORDER_REFLECT_101)
        for kernel in (_G_AT_RB, _SIDE, np.ascontiguousarray(_SIDE.T), _DIAGONAL)
    )
    colour = np.empty((*mosaic.shape, 3), np.float32)
    even, odd = slice(0, None, 2), slice(1, None, 2)
    for at, sources in (
        ((even, even), (mosaic, green, diagonal)),
        ((even, odd), (side, mosaic, over)),
        ((odd, even), (over, mosaic, side)),
        ((odd, odd), (diagonal, green, mosaic)),
    ):
        for channel, source in enumerate(sources):
            colour[(*at, channel)] = source[at]
    return colour


def thumbnail(plane: Plane, saturated: Mask, long_side: int = 256) -> tuple[FloatImage, FloatImage]:
    """Block means of the unsaturated light, for what varies slowly over the picture.

    Args:
        plane: samples and levels; a mosaic is taken as superpixels.
        saturated: (H, W) of the samples.
        long_side: the result is at least this long where the plane is; less than twice as long.

    Returns:
        light (h, w) or (h, w, 3), 0 where all is saturated, and the share of unsaturated pixels (h, w). Up to one block
        at the right and lower edge is left out. Of tall blocks only the upper rows are read.
    """
    per_row = 2 if plane.mosaic else 1
    height, width = (n // per_row for n in plane.size_hw)
    block = max(max(height, width) // long_side, 1)
    columns = width // block
    read = min(block, _THUMBNAIL_ROWS) * per_row
    lights, shares = [], []
    for top in range(0, height // block * block * per_row, block * per_row):
        rows = slice(top, top + read)
        light = develop(plane, "superpixel", rows)[:, : columns * block]
        good = ~develop_mask(saturated[rows], plane.mosaic, "superpixel")[:, : columns * block]
        valid = good.astype(np.float32)
        light = light * (valid[..., None] if light.ndim == 3 else valid)
        count = valid.sum(axis=0).reshape(columns, block).sum(axis=1)
        total = light.sum(axis=0).reshape(columns, block, *light.shape[2:]).sum(axis=1)
        lights.append(total / np.maximum(count[:, None] if light.ndim == 3 else count, np.float32(1)))
        shares.append(count / np.float32(valid.shape[0] * block))
    return np.stack(lights), np.stack(shares)
