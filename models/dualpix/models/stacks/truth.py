"""Depth maps that results are judged by.

Convention: as in RGB-D folders (:mod:`dualpix.capture.rgbd.folders`), floats are metres and integers millimetres; 0,
negative values and NaN mean that there is no truth.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np

from dualpix.capture.errors import DualpixError
from dualpix.capture.rgbd.arrays import read_depth_file
from dualpix.capture.rgbd.sample import METRES, implausible
from dualpix.capture.types import FloatImage

_NEAREST_M = 1e-4
"""Less is no depth; its diopters would outweigh those of the whole map, or have no end."""


@dataclass(frozen=True)
class DepthTruth:
    """A true depth map."""

    depth_m: FloatImage
    """(H, W), 0 where there is no truth, up to infinity."""
    unit: Literal["m", "mm"]
    """In which the file holds it."""


def read_truth(path: Path, size_hw: tuple[int, ...]) -> DepthTruth:
    """The true depth in a file, ``.npy``, ``.tiff``, ``.png``, ``.pfm`` or ``.exr``.

    Raises:
        DualpixError: it cannot be read, has another size, holds nothing, or can hardly be of its unit.
    """
    try:
        values = read_depth_file(path)
    except DualpixError as error:
        raise DualpixError(
            f"'{path}' does not load: {error.found}", expected="a depth map in m, .npy or .tiff"
        ) from error
    if values.shape != tuple(size_hw):
        raise DualpixError(
            f"'{path.name}' is {values.shape} (h, w)", expected=f"the size of the stack, {tuple(size_hw)}"
        )
    unit: Literal["m", "mm"] = "m" if values.dtype.kind == "f" else "mm"
    with np.errstate(invalid="ignore", over="ignore"):
        depth = np.asarray(values * METRES[unit], np.float32)
        known = depth > _NEAREST_M
    unlikely = implausible(depth[known], METRES[unit])
    if unlikely is not None:
        raise DualpixError(f"'{path.name}': {unlikely}", expected="depth in m as floats, or in mm as integers")
    return DepthTruth(np.where(known, depth, np.float32(0)), unit)
