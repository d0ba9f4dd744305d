"""The order of a sweep by the two halves of its frames, which sharpness alone cannot tell everywhere.

Convention: disparity is ``right - left`` along the baseline, in px. It is ``kappa c / pitch``, and the circle of
confusion c of whatever is seen rises with the focus in diopters: from one frame to the next nearer one the disparity of
*every* tile rises. Where it falls, two frames are in the wrong order; where it falls throughout, the sweep is reversed
or the halves have each other's name.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

import cv2
import numpy as np
import numpy.typing as npt

from dualpix.capture.errors import DecodeError
from dualpix.capture.raw import decode_capture
from dualpix.capture.stack.sharpness import tile_means
from dualpix.capture.types import FloatImage

WORKING_SIDE_PX = 1024
ROWS, COLUMNS = 6, 8
MIN_TILES = 6
_REACH_PX = 12
_WINDOW_SHARE = 1 / 12
_GOOD_MATCH = 0.35
"""Mean squared difference of the matched halves, in units of their variance; 2 is chance."""
_SIGNIFICANT = 4.0


@dataclass(frozen=True)
class Disparities:
    """Of the tiles of one frame."""

    px: npt.NDArray[np.float64]
    """(rows, columns); NaN where the halves do not match."""


def disparities(path: Path) -> Disparities | None:
    """Disparity of the tiles of a dual-pixel raw, or None where the file has no two halves."""
    try:
        capture = decode_capture(path, layout="green", equalise=False)
        left, right = capture.view("left"), capture.view("right")
    except DecodeError:
        return None
    if capture.baseline == "y":
        left, right = left.T, right.T
    return Disparities(_tile_disparities(_normalised(left), _normalised(right)))


def step_signs(frames: Sequence[Disparities]) -> list[int]:
    """For each frame and the next one: 1 where disparity rises between them, -1 where it falls, 0 where unclear."""
    signs = []
    for first, then in pairwise(frames):
        rises = (then.px - first.px)[np.isfinite(then.px) & np.isfinite(first.px)]
        signs.append(_sign(rises) if rises.size >= MIN_TILES else 0)
    return signs


def _sign(rises: npt.NDArray[np.float64]) -> int:
    middle = float(np.median(rises))
    spread = 1.4826 * float(np.median(np.abs(rises - middle)))
    error = 1.2533 * max(spread, 0.02) / math.sqrt(rises.size)
    return int(np.sign(middle)) if abs(middle) > _SIGNIFICANT * error else 0


def _normalised(view: FloatImage) -> FloatImage:
    """Reduced, without local mean and contrast, which the halves do not share."""
    height, width = view.shape
    shrink = min(1.0, WORKING_SIDE_PX / max(height, width))
    if shrink < 1:
        size = round(width * shrink), round(height * shrink)
        view = np.asarray(cv2.resize(view, size, interpolation=cv2.INTER_AREA), np.float32)
    view = np.asarray(cv2.GaussianBlur(view, (0, 0), 1.0), np.float32)
    window = 2 * round(min(view.shape) * _WINDOW_SHARE) + 1
    mean = cv2.blur(view, (window, window))
    variance = np.maximum(cv2.blur(view * view, (window, window)) - mean * mean, 1e-10)
    return np.asarray((view - mean) / np.sqrt(variance), np.float32)


def _tile_disparities(left: FloatImage, right: FloatImage) -> npt.NDArray[np.float64]:
    """Shift of least squared difference, between whole pixels by a parabola."""
    reach = min(_REACH_PX, left.shape[1] // 8)
    inner = slice(reach, left.shape[1] - reach)
    costs = np.stack([
        tile_means((left[:, inner] - np.roll(right, -shift, axis=1)[:, inner]) ** 2, ROWS, COLUMNS)
        for shift in range(-reach, reach + 1)
    ])  # fmt: skip
    best = np.clip(np.argmin(costs, axis=0), 1, 2 * reach - 1)
    below, at, above = (np.take_along_axis(costs, (best + k)[None], axis=0)[0] for k in (-1, 0, 1))
    bend = below - 2 * at + above
    shift = best - reach + np.where(bend > 0, 0.5 * (below - above) / np.where(bend > 0, bend, 1.0), 0.0)
    return np.where(at < _GOOD_MATCH, shift, np.nan)
