"""Black and white levels of a DNG as its own tags state them (DNG 1.7.1, "Mapping Raw Values to Linear Reference
Values").

Convention: rows and columns count from the top left of the stored picture; ActiveArea is (top, left, bottom, right).
Black of the sample at (r, c), with (i, j) = (r - top, c - left), is

    BlackLevel[i % p, j % q] + BlackLevelDeltaV[i] + BlackLevelDeltaH[j]

where p x q is BlackLevelRepeatDim. BlackLevel lists the pattern row by row, the samples of a pixel innermost; the two
deltas hold for all samples of a pixel. A linearisation table comes before all of it.

They are read here because LibRaw 0.22.2 (rawpy 0.28) makes four whole levels of them: of two samples per pixel stated
as integers any pattern but 2x2 and 4x4 is spread over the wrong colours (one level of 512 comes back as 512, 512, 0,
0), of larger patterns the first cells or a mean are left, a gradient of the deltas becomes its mean, fractions are
rounded, an odd corner of the active area exchanges colours, and the second sample gets the white level of the first.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from math import lcm

import numpy as np
import numpy.typing as npt

from dualpix.capture.errors import DecodeError
from dualpix.capture.raw.containers.images import MAX_PIXELS
from dualpix.capture.raw.containers.tiff import Ifd
from dualpix.capture.raw.containers.tiff_samples import is_floating, sample_count
from dualpix.capture.raw.develop.planes import CELL, BlackRest

ACTIVE_AREA = 0xC68D
LINEARISATION = 0xC618
_REPEAT, _BLACK, _DELTA_H, _DELTA_V, _WHITE = 0xC619, 0xC61A, 0xC61B, 0xC61C, 0xC61D
_BITS = 0x0102
_CROP_ORIGIN, _CROP_SIZE, _CFA_PATTERN = 0xC61F, 0xC620, 0x828E
_MAX_REPEAT = 64
_LEAST = 4  # pixels of a picture along each side
_ROUNDING = 1e-9  # of means of equal numbers

FourLevels = tuple[float, float, float, float]
Floats64 = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Area:
    """A part of a frame."""

    top: int
    left: int
    height: int
    width: int

    @property
    def whole_cells(self) -> Area:
        """Without an odd last row and column."""
        return Area(self.top, self.left, self.height // 2 * 2, self.width // 2 * 2)

    def moved(self, rows: int, columns: int) -> Area:
        """Without its first rows and columns."""
        return Area(self.top + rows, self.left + columns, self.height - rows, self.width - columns)


@dataclass(frozen=True)
class DngLevels:
    """Levels of one sample per pixel of a DNG's frame."""

    area: Area
    """ActiveArea: the sensor without masked borders."""
    pattern: Floats64
    """(p, q), at the corner of ``area``."""
    delta_rows: Floats64
    """(area.height,)"""
    delta_columns: Floats64
    """(area.width,)"""
    white: float
    """An int where it is a whole number of counts."""

    def cell(self, part: Area) -> FourLevels:
        """Mean black of each place of the 2x2 cell over ``part``, in the order (0, 0), (0, 1), (1, 0), (1, 1)."""
        pattern, rows, columns = self._along(part)
        first, second, third, fourth = (
            float(pattern[r::2, c::2].mean() + rows[r::2].mean() + columns[c::2].mean()) for r, c in CELL
        )
        return first, second, third, fourth

    def rest(self, part: Area, cell: Sequence[float]) -> BlackRest | None:
        """What black has beyond ``cell`` over ``part``; None where that is nothing."""
        pattern, rows, columns = self._along(part)
        pattern = pattern.copy()
        for level, (r, c) in zip(cell, CELL, strict=True):
            pattern[r::2, c::2] -= level
        row_mean, column_mean = rows.mean(), columns.mean()
        pattern += row_mean + column_mean
        parts = pattern, rows - row_mean, columns - column_mean
        if all(np.abs(v).max() < _ROUNDING * max(1.0, *map(abs, cell)) for v in parts):
            return None
        return BlackRest(*(np.asarray(v, np.float32) for v in parts))

    def range_over(self, part: Area) -> tuple[float, float]:
        """Least and largest black."""
        parts = self._along(part)
        return float(sum(v.min() for v in parts)), float(sum(v.max() for v in parts))

    def _along(self, part: Area) -> tuple[Floats64, Floats64, Floats64]:
        """The pattern over whole cells from the corner of ``part``, and the deltas along it; the masked borders have
        those of the row or column next to them."""
        p, q = self.pattern.shape
        i, j = part.top - self.area.top, part.left - self.area.left
        pattern = self.pattern[np.ix_(np.arange(i, i + lcm(p, 2)) % p, np.arange(j, j + lcm(q, 2)) % q)]
        rows = self.delta_rows[np.clip(np.arange(i, i + part.height), 0, self.area.height - 1)]
        columns = self.delta_columns[np.clip(np.arange(j, j + part.width), 0, self.area.width - 1)]
        return pattern, rows, columns


def dng_levels(ifd: Ifd, sample: int) -> DngLevels:
    """The levels of one sample per pixel.

    Args:
        ifd: the directory of the raw picture.
        sample: number of it in a pixel.

    Raises:
        DecodeError: values that contradict each other, or are no numbers.
    """
    area = active_area(ifd)
    return DngLevels(
        area,
        _pattern(ifd, sample),
        _deltas(ifd, _DELTA_V, "BlackLevelDeltaV", area.height, "row"),
        _deltas(ifd, _DELTA_H, "BlackLevelDeltaH", area.width, "column"),
        _white(ifd, sample),
    )


def active_area(ifd: Ifd) -> Area:
    """ActiveArea, or the whole picture.

    Raises:
        DecodeError: not within the picture, or that has an impossible size.
    """
    width, height = ifd.integer(0x0100), ifd.integer(0x0101)
    if min(width, height) < 1 or width * height > MAX_PIXELS:
        raise DecodeError(f"a picture of {width}x{height} pixels", expected=f"1 to {MAX_PIXELS} pixels")
    stated = ifd.integers(ACTIVE_AREA) or (0, 0, height, width)
    sides = ((0, 2, height), (1, 3, width))
    if len(stated) != 4 or not all(0 <= stated[a] <= stated[b] - _LEAST and stated[b] <= n for a, b, n in sides):
        raise DecodeError(f"ActiveArea {stated[:8]} of a picture of {width}x{height}", expected="a part of it")
    top, left, bottom, right = stated
    return Area(top, left, bottom - top, right - left)


def red_area(ifd: Ifd) -> Area:
    """ActiveArea from its first red sample on, in whole cells.

    Raises:
        DecodeError: ActiveArea is not within the picture.
    """
    return active_area(ifd).moved(*first_red(ifd)).whole_cells


def picture_area(ifd: Ifd) -> Area:
    """As :func:`red_area`, within the default crop."""
    area = active_area(ifd)
    origin, size = ifd.integers(_CROP_ORIGIN), ifd.integers(_CROP_SIZE)
    if len(size) == 2:
        left, top = origin if len(origin) == 2 else (0, 0)
        crop = Area(area.top + top, area.left + left, min(size[1], area.height - top), min(size[0], area.width - left))
        if min(top, left) >= 0 and min(crop.height, crop.width) > 2:
            red = first_red(ifd)
            return crop.moved((red[0] - top) % 2, (red[1] - left) % 2).whole_cells
    return red_area(ifd)


def first_red(ifd: Ifd) -> tuple[int, int]:
    """Row and column of red in the 2x2 cell at the corner of the active area; (0, 0) where no pattern is stated."""
    pattern = ifd.integers(_CFA_PATTERN)
    return CELL[pattern.index(0)] if len(pattern) == len(CELL) and 0 in pattern else (0, 0)


def cell_colours(ifd: Ifd) -> tuple[int, ...]:
    """Colours of the 2x2 cell from its first red on: 0, 1, 1, 2 for a Bayer mosaic. Empty for any other repetition."""
    pattern, (row, column) = ifd.integers(_CFA_PATTERN), first_red(ifd)
    if len(pattern) != len(CELL):
        return ()
    return tuple(pattern[2 * ((r + row) % 2) + (c + column) % 2] for r, c in CELL)


def black_source(levels: DngLevels, part: Area) -> str:
    """What a black level of four numbers rests on; where it varies beyond them, by how much."""
    if levels.rest(part, levels.cell(part)) is None:
        return "metadata"
    low, high = levels.range_over(part)
    return f"metadata, {low:g} to {high:g} over the picture"


def _pattern(ifd: Ifd, sample: int) -> Floats64:
    repeat = ifd.integers(_REPEAT) or (1, 1)
    if len(repeat) != 2 or not 1 <= min(repeat) <= max(repeat) <= _MAX_REPEAT:
        raise DecodeError(f"BlackLevelRepeatDim {repeat[:8]}", expected=f"rows and columns of 1 to {_MAX_REPEAT}")
    cells, samples = repeat[0] * repeat[1], sample_count(ifd)
    if _BLACK not in ifd.tags:
        return np.zeros(repeat)
    levels = _finite(ifd, _BLACK, "BlackLevel")
    if len(levels) == cells * samples:
        levels = levels.reshape(cells, samples)[:, min(sample, samples - 1)]
    elif len(set(levels.tolist())) == 1:  # some writers count otherwise; one level is the same however it is counted
        levels = np.full(cells, levels[0])
    else:
        raise DecodeError(
            f"BlackLevel of {len(levels)} values",
            expected=f"{cells * samples}: a pattern of {repeat[0]}x{repeat[1]}, {samples} per pixel",
        )
    return levels.reshape(repeat)


def _deltas(ifd: Ifd, tag: int, name: str, expected: int, what: str) -> Floats64:
    if tag not in ifd.tags:
        return np.zeros(expected)
    values = _finite(ifd, tag, name)
    if len(values) != expected:
        raise DecodeError(f"{name} of {len(values)} values", expected=f"{expected}, one a {what} of the active area")
    return values


def _finite(ifd: Ifd, tag: int, name: str) -> Floats64:
    values = np.array([float(v) for v in ifd.numbers(tag)], np.float64)
    if not values.size or not np.isfinite(values).all():
        raise DecodeError(f"{name} that is no number", expected="numbers in its tag")
    return values


def _white(ifd: Ifd, sample: int) -> float:
    stated = [float(v) for v in ifd.numbers(_WHITE)]
    if stated:
        white = stated[min(sample, len(stated) - 1)]
        if not (math.isfinite(white) and white > 0):
            raise DecodeError(f"WhiteLevel {white}", expected="a number above 0")
        return int(white) if white == int(white) and not is_floating(ifd) else white
    if is_floating(ifd):
        return 1.0
    table = ifd.integers(LINEARISATION)
    return max(table) if table else (1 << ifd.integer(_BITS, 1)) - 1
