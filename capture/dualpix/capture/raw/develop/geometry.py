"""Upright views: EXIF orientation, and what it does to the baseline.

A sensor splits its pixels along its own columns, so before rotation the disparity lies along +x and a point behind the
focus plane has ``x_right - x_left > 0``. Turning the picture turns that vector too:

=========== =============================== ==========================
orientation to make the picture upright     the vector +x becomes
=========== =============================== ==========================
1           nothing                         +x
3           half a turn                     -x: the halves change names
6           a quarter turn clockwise        +y (down)
8           a quarter turn anticlockwise    -y: the halves change names
=========== =============================== ==========================

Where it would point to -x or -y the two halves are swapped, so that ``x_right - x_left > 0`` (baseline "x") or
``y_right - y_left > 0`` (baseline "y", "right" is then the lower view) behind focus always holds in the upright views.
The mirrored orientations 2, 4, 5 and 7 follow from the same rule.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeVar

import numpy as np
import numpy.typing as npt

from dualpix.capture.types import Baseline

Scalar = TypeVar("Scalar", bound=np.generic)


@dataclass(frozen=True)
class Crop:
    """The part of the sensor that is the picture, in sensor pixels; everything is even, so the mosaic stays RGGB."""

    left: int
    top: int
    width: int
    height: int


# orientation -> (swap rows and columns, then flip rows, then flip columns)
_STEPS = {
    1: (False, False, False),
    2: (False, False, True),
    3: (False, True, True),
    4: (False, True, False),
    5: (True, False, False),
    6: (True, False, True),
    7: (True, True, True),
    8: (True, True, False),
}


def upright(image: npt.NDArray[Scalar], orientation: int) -> npt.NDArray[Scalar]:
    """``image`` (H, W, ...) turned so that EXIF ``orientation`` (1..8) becomes 1; a contiguous copy."""
    transpose, flip_rows, flip_columns = _STEPS[orientation]
    turned = image.swapaxes(0, 1) if transpose else image
    turned = turned[::-1] if flip_rows else turned
    turned = turned[:, ::-1] if flip_columns else turned
    return np.ascontiguousarray(turned)


def as_sensor(image: npt.NDArray[Scalar], orientation: int) -> npt.NDArray[Scalar]:
    """The inverse of :func:`upright` as a view: writing to its rows writes where they lie in the upright ``image``."""
    transpose, flip_rows, flip_columns = _STEPS[orientation]
    turned = image[:, ::-1] if flip_columns else image
    turned = turned[::-1] if flip_rows else turned
    return turned.swapaxes(0, 1) if transpose else turned


def upright_baseline(baseline: Baseline, orientation: int) -> tuple[Baseline, bool]:
    """Axis of the disparity after :func:`upright`, and whether the halves must change names to keep its sign."""
    transpose, flip_rows, flip_columns = _STEPS[orientation]
    along_x = (baseline == "x") != transpose
    return ("x", flip_columns) if along_x else ("y", flip_rows)
