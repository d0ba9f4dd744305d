"""What several readers share."""

from __future__ import annotations

import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Protocol

import numpy.typing as npt

from dualpix.capture.rgbd.arrays import read_text
from dualpix.capture.rgbd.sample import DepthUnit, Intrinsics, RgbdError, RgbdSample, RgbdSource, Unused
from dualpix.capture.rgbd.tree import Tree


class Reader(Protocol):
    """One data set, or one way to lay files out."""

    name: str
    summary: str

    def find(self, tree: Tree) -> Iterator[RgbdSource | Unused]:
        """The samples of this kind below a folder, and what belongs to the data set and makes none."""

    def read(self, source: RgbdSource, unit: DepthUnit | None) -> RgbdSample:
        """One sample; ``unit`` overrides that of the depth file. Raises DualpixError."""


def depth_of(source: RgbdSource) -> Path:
    """The depth file. Raises RgbdError where there is none."""
    if source.depth is None:
        raise RgbdError(f"'{source.name}' has no depth file")
    return source.depth


def pinhole(matrix: npt.NDArray[Any]) -> Intrinsics | None:
    """From nine numbers of K or its transpose, or the four fx, fy, cx, cy."""
    if matrix.size == 4:
        return Intrinsics(*(float(v) for v in matrix))
    if matrix.size != 9:
        return None
    k = matrix.reshape(3, 3)
    k = k if k[0, 2] or k[1, 2] else k.T
    return Intrinsics(float(k[0, 0]), float(k[1, 1]), float(k[0, 2]), float(k[1, 2]))


def numbers_in(path: Path, count: int) -> list[float]:
    """The numbers of a small text file, at least ``count``. Raises RgbdError."""
    try:
        numbers = [float(word) for word in read_text(path).replace(",", " ").split()]
    except ValueError:
        numbers = []
    if len(numbers) < count or not all(map(math.isfinite, numbers)):
        raise RgbdError(f"'{path}' is no calibration", expected=f"{count} numbers")
    return numbers


def starts_with(path: Path, magic: bytes, at: int = 0) -> bool:
    """Whether the file has these bytes at this place."""
    try:
        with path.open("rb") as file:
            file.seek(at)
            return file.read(len(magic)) == magic
    except OSError:
        return False
