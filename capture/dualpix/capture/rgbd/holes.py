"""Holes in depth maps: filled so that a renderer can use them, and never forgotten.

What a depth camera misses lies mostly beside a near object, where one of its two rays is blocked: such a hole belongs
to the **background**. So the default takes, of the nearest measured depths on both sides, the farther. All filling is
done in inverse depth, which blur is affine in.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, get_args

import cv2
import numpy as np
import numpy.typing as npt

from dualpix.capture.types import FloatImage, Mask

Fill = Literal["far", "nearest", "smooth"]
FILLS: tuple[Fill, ...] = get_args(Fill)

_MEDIAN_PX = 5


@dataclass(frozen=True)
class Filled:
    """A depth map without holes."""

    depth_m: FloatImage
    """(H, W) > 0, infinity allowed; measured depths are untouched."""
    measured: Mask
    """(H, W) False where filled."""

    @property
    def fraction(self) -> float:
        """Share of pixels that were filled."""
        return 1.0 - float(self.measured.mean())


def fill_holes(depth_m: FloatImage, valid: Mask, how: Fill = "far") -> Filled:
    """Fill the holes of a depth map.

    Args:
        depth_m: (H, W) in m, > 0 where valid, infinity allowed.
        valid: (H, W) False in holes; at least one pixel is True.
        how: ``far``: the farther of the nearest measured depths left and right (above and below where a row has none),
            with a median against streaks; ``nearest``: the nearest measured depth; ``smooth``: push-pull
            interpolation (Gortler et al. 1996), which ramps from edge to edge.

    Raises:
        ValueError: no pixel is valid.
    """
    if not valid.any():
        raise ValueError("no pixel is valid")
    proximity = np.where(valid, 1.0 / np.where(valid, depth_m, 1.0), 0.0).astype(np.float32)
    fillers = {"far": _from_farther, "nearest": _from_nearest, "smooth": _push_pull}
    guess = proximity if valid.all() else fillers[how](proximity, valid)
    with np.errstate(divide="ignore"):
        filled = np.where(valid, depth_m, np.float32(1) / guess)
    return Filled(filled.astype(np.float32), valid)


def _from_farther(proximity: FloatImage, valid: Mask) -> FloatImage:
    across = _farther_in_row(proximity, valid)
    along = _farther_in_row(proximity.T, valid.T).T
    guess = np.where(np.isfinite(across), across, along)
    guess = np.where(np.isfinite(guess), guess, _from_nearest(proximity, valid)).astype(np.float32)
    # Rows are filled one by one; a median over the holes takes the streaks away and keeps the edges.
    calm = cv2.medianBlur(np.ascontiguousarray(guess), _MEDIAN_PX)
    return np.where(valid, proximity, calm).astype(np.float32)


def _farther_in_row(proximity: FloatImage, valid: Mask) -> npt.NDArray[np.float32]:
    """The smaller of the nearest valid values on both sides in the row; infinite in rows without any."""
    width = valid.shape[1]
    column = np.arange(width)[None]
    before = np.maximum.accumulate(np.where(valid, column, -1), axis=1)
    after = np.minimum.accumulate(np.where(valid, column, width)[:, ::-1], axis=1)[:, ::-1]
    sides = [
        np.where(known, np.take_along_axis(proximity, np.clip(index, 0, width - 1), 1), np.inf)
        for index, known in ((before, before >= 0), (after, after < width))
    ]
    return np.minimum(*sides).astype(np.float32)


def _from_nearest(proximity: FloatImage, valid: Mask) -> FloatImage:
    holes = (~valid).astype(np.uint8)
    labels = cv2.distanceTransformWithLabels(holes, cv2.DIST_L2, 5, labelType=cv2.DIST_LABEL_PIXEL)[1]
    of_label = np.zeros(int(labels.max()) + 1, np.float32)
    of_label[labels[valid]] = proximity[valid]
    return np.asarray(of_label[labels], np.float32)


def _push_pull(proximity: FloatImage, valid: Mask) -> FloatImage:
    weight = valid.astype(np.float32)
    if min(valid.shape) <= 2 or valid.all():
        return np.where(valid, proximity, (proximity * weight).sum() / max(float(weight.sum()), 1.0)).astype(np.float32)
    size = ((valid.shape[1] + 1) // 2, (valid.shape[0] + 1) // 2)
    weights = np.asarray(cv2.resize(weight, size, interpolation=cv2.INTER_AREA), np.float32)
    summed = np.asarray(cv2.resize(proximity * weight, size, interpolation=cv2.INTER_AREA), np.float32)
    coarse = _push_pull((summed / np.maximum(weights, 1e-6)).astype(np.float32), weights > 0)
    up = cv2.resize(coarse, (valid.shape[1], valid.shape[0]), interpolation=cv2.INTER_LINEAR)
    return np.where(valid, proximity, up).astype(np.float32)
