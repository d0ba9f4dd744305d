"""Sensor samples and how they become light: the stage between a decoder and a developed view.

Convention: a plane lies as the sensor does (not rotated), cropped to the picture. A mosaic is RGGB from its top left
pixel and of even size; per-channel values are in cell order R, G (row of R), G (row of B), B. Light is
``(samples - black) * scale``, signed, 1.0 = white level. Black is four levels of the 2x2 cell (or one) and, where a
file states more than these, what the black of a sample adds to them (:class:`BlackRest`).
"""

from __future__ import annotations

from dataclasses import dataclass
from math import lcm
from typing import Any, Self

import numpy as np
import numpy.typing as npt

CELL = ((0, 0), (0, 1), (1, 0), (1, 1))
"""(row, column) of R, G, G, B in the 2x2 cell."""


Floats = npt.NDArray[np.float32]
Rows = slice | npt.NDArray[np.intp]


@dataclass(frozen=True)
class BlackRest:
    """What black has beyond the levels of its 2x2 cell: of the sample at (r, c) of a plane,
    ``pattern[r % p, c % q] + rows[r] + columns[c]``, in the unit of the samples."""

    pattern: Floats
    """(p, q), at the plane's top left."""
    rows: Floats
    """(H,)"""
    columns: Floats
    """(W,)"""

    def of(self, rows: Rows = slice(None)) -> Floats:
        """(h, W) of the given rows."""
        height, width = len(self.rows), len(self.columns)
        r, c = np.arange(height)[rows], np.arange(width)
        repeated = self.pattern[(r % self.pattern.shape[0])[:, None], (c % self.pattern.shape[1])[None]]
        return np.asarray(repeated + self.rows[r][:, None] + self.columns[None], np.float32)

    def within(self, top: int, left: int, height: int, width: int) -> Self:
        """Of a part of the plane."""
        turned = np.roll(self.pattern, (-top, -left), axis=(0, 1))
        return type(self)(turned, self.rows[top : top + height], self.columns[left : left + width])

    def minus(self, other: BlackRest) -> BlackRest | None:
        """The difference of two planes' of one size; None where it is nothing."""
        (p, q), (s, t) = self.pattern.shape, other.pattern.shape
        shape = lcm(p, s), lcm(q, t)
        first, second = (
            np.tile(v, (shape[0] // v.shape[0], shape[1] // v.shape[1])) for v in (self.pattern, other.pattern)
        )
        parts = first - second, self.rows - other.rows, self.columns - other.columns
        return BlackRest(*parts) if any(np.any(part) for part in parts) else None

    @classmethod
    def none(cls, size_hw: tuple[int, int]) -> Self:
        """Nothing, for a plane of this size."""
        return cls(np.zeros((1, 1), np.float32), np.zeros(size_hw[0], np.float32), np.zeros(size_hw[1], np.float32))


@dataclass(frozen=True)
class Plane:
    """Samples as read, and their black and scale."""

    samples: npt.NDArray[Any]
    """(H, W), or (H, W, 3) in R, G, B; integers as read, or float32."""
    black: tuple[float, ...]
    """Four values in cell order for a mosaic, else one."""
    scale: float
    mosaic: bool
    read_noise_dn: float | None = None
    """Standard deviation of a sample without light, where masked samples told it."""
    black_rest: BlackRest | None = None
    """Of a mosaic whose black differs by more than its cell."""

    def __post_init__(self) -> None:
        height, width = self.samples.shape[:2]
        if self.mosaic and (self.samples.ndim != 2 or height % 2 or width % 2 or len(self.black) != 4):
            raise ValueError(f"a mosaic of {self.samples.shape} with {len(self.black)} black levels")

    @property
    def size_hw(self) -> tuple[int, int]:
        """(height, width) in samples."""
        return self.samples.shape[0], self.samples.shape[1]

    @property
    def channels(self) -> int:
        """1, or 3 for samples in R, G, B."""
        return 3 if self.samples.ndim == 3 else 1

    def counts(self, rows: Rows = slice(None)) -> npt.NDArray[Any]:
        """The samples of the given rows, of which ``black`` is still to be subtracted and nothing else."""
        samples = self.samples[rows]
        return samples if self.black_rest is None else samples - self.black_rest.of(rows)

    def light(self, rows: Rows = slice(None)) -> Floats:
        """Linear light of the given rows, float32 of their shape; a mosaic stays one.

        Rows start at an even number, or are given as numbers of pairs of rows.
        """
        counts = self.counts(rows)
        if self.mosaic:
            light = np.empty(counts.shape, np.float32)
            # Whole rows at once: a mosaic's columns one by one are several times slower.
            for row in (0, 1):
                black = np.empty(counts.shape[1], np.float32)
                black[0::2], black[1::2] = self.black[2 * row : 2 * row + 2]
                np.subtract(counts[row::2], black, out=light[row::2], dtype=np.float32, casting="unsafe")
        else:
            light = counts.astype(np.float32)
            if self.black[0]:
                light -= np.float32(self.black[0])
        if self.scale != 1.0:
            light *= np.float32(self.scale)
        return light
