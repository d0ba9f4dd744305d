"""Sensor samples and how they become light: the stage between a decoder and a developed view.

Convention: a plane lies as the sensor does (not rotated), cropped to the picture. A mosaic is RGGB from its top left
pixel and of even size; per-channel values are in cell order R, G (row of R), G (row of B), B. Light is
``(samples - black) * scale``, signed, 1.0 = white level.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

CELL = ((0, 0), (0, 1), (1, 0), (1, 1))
"""(row, column) of R, G, G, B in the 2x2 cell."""


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

    def light(self, rows: slice = slice(None)) -> npt.NDArray[np.float32]:
        """Linear light of the given rows, float32 of their shape; a mosaic stays one. Rows start at an even number."""
        light = self.samples[rows].astype(np.float32)
        if self.mosaic:
            for black, (row, column) in zip(self.black, CELL, strict=True):
                light[row::2, column::2] -= np.float32(black)
        elif self.black[0]:
            light -= np.float32(self.black[0])
        if self.scale != 1.0:
            light *= np.float32(self.scale)
        return light
