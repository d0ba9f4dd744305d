"""The gain that makes the right half as bright as the left one: what a profile gives and decoding applies.

Convention: a coarse grid over the picture, as the sensor lies, stretched to a view of any size.
"""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
import numpy.typing as npt

from dualpix.capture.types import FloatImage

# A ratio outside this range is no shading but darkness or a wrong pair.
MAX_GAIN = 4.0


@dataclass(frozen=True)
class Gain:
    """Smooth gain of the right half over the picture, as the sensor lies."""

    grid: FloatImage
    """(gh, gw, C) with C = 1, or 3 for R, G, B; the centres of equal cells that tile the picture."""
    origin: str
    """Where it comes from, for the provenance."""

    def at(self, size_hw: tuple[int, int], rows: slice = slice(None)) -> FloatImage:
        """The gain of a view of ``size_hw``: (h, w, C), bilinear; of the asked rows only, equal to those of the whole.

        Args:
            size_hw: (height, width) of the whole view, any multiple or part of the picture's samples.
            rows: of the view.
        """
        height, width = size_hw
        cells = self.grid.shape[0]
        position = (np.arange(height)[rows] + 0.5) * (cells / height) - 0.5
        upper = np.clip(np.floor(position).astype(np.intp), 0, cells - 1)
        lower = np.minimum(upper + 1, cells - 1)
        part = np.clip(position - upper, 0, 1).astype(np.float32)[:, None, None]
        lines = self.grid[upper] * (1 - part) + self.grid[lower] * part
        # The number of lines stays, so each is stretched by itself; a single one OpenCV rounds differently: two are.
        count = lines.shape[0]
        lines = np.concatenate([lines, lines]) if count == 1 else lines
        wide = np.asarray(cv2.resize(lines, (width, len(lines)), interpolation=cv2.INTER_LINEAR), np.float32)
        return wide.reshape(len(lines), width, self.grid.shape[2])[:count]


def gain_of(log_gain: npt.NDArray[np.floating], origin: str) -> Gain:
    """A gain from its logarithm (gh, gw) or (gh, gw, C), kept within 1/4..4."""
    grid = log_gain[..., None] if log_gain.ndim == 2 else log_gain
    limit = np.float32(np.log(MAX_GAIN))
    grid = np.clip(np.exp(np.clip(grid, -limit, limit)), 1 / MAX_GAIN, MAX_GAIN)
    return Gain(np.ascontiguousarray(grid, np.float32), origin)
