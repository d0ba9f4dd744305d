"""What camera b does not see of camera a's picture, and what neither can match: two reasons of having no label.

Convention: :mod:`dualpix.capture.rig.labels.match`. Only what was matched on texture, from both sides, can hide
something: among noise a matcher finds disparities too, and near ones of them would hide all that lies behind. The
farther surface beside a pixel without a match is continued to it; where b sees a nearer one in that place, or nothing
of its picture, the pixel is unseen.
"""

from __future__ import annotations

import cv2
import numpy as np
import numpy.typing as npt

from dualpix.capture.types import FloatImage, Mask

_CLEAR_PX = 1.5
"""By which a surface must be nearer than what it hides."""
_ONE_SURFACE_PX = 2.0
"""Neighbours in b's picture whose disparities differ by more have nothing between them."""
_WIDENED_PX = 2
"""By which a matcher widens the nearer surface at its left edge, on average: hidden parts would lie so far left."""
_JUMP_PX = 1.25
EDGE_PX = 7


def unseen(matched: FloatImage, textured: Mask, inside: Mask, right_inside: Mask) -> Mask:
    """(H, W) of rectified a: what b does not see, hidden behind something nearer or beyond its picture.

    Args:
        matched: (H, W) disparity in px on which both sides agree; NaN elsewhere.
        textured: where it was found by texture.
        inside: where a's picture has pixels.
        right_inside: where b's has.
    """
    firm = np.where(textured, matched, np.nan).astype(np.float32)
    width = matched.shape[1]
    # an edge's own disparity may be of either side: what is behind is read beyond it
    behind = filled(np.where(beside_edges(firm), np.nan, firm).astype(np.float32))
    column = np.rint(np.arange(width) - behind)
    place = np.clip(column, 0, width - 1).astype(np.intp)
    outside = (column < 0) | (column >= width) | ~np.take_along_axis(right_inside, place, axis=1)
    nearer = np.take_along_axis(_fronts(firm), place, axis=1) > behind + _CLEAR_PX
    unmatched = ~np.isfinite(matched)
    return np.asarray(inside & ((unmatched & outside) | (_widened(unmatched) & nearer & ~outside)))


def filled(disparity_px: FloatImage) -> FloatImage:
    """Along rows, the farther of the two known neighbours: what is hidden lies behind. 0 in rows without any."""
    before, after = _neighbours(disparity_px)
    return np.nan_to_num(np.fmin(before, after), nan=0.0).astype(np.float32)


def beside_edges(disparity_px: FloatImage) -> Mask:
    """Within a matcher's block of where one surface ends before another: it widens the nearer one by so much."""
    continued = filled(disparity_px)
    cross = cv2.getStructuringElement(cv2.MORPH_CROSS, (3, 3))
    jump = cv2.dilate(continued, cross) - cv2.erode(continued, cross) > _JUMP_PX
    reach = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (2 * EDGE_PX + 1, 2 * EDGE_PX + 1))
    return np.asarray(cv2.dilate(jump.astype(np.uint8), reach) > 0)


def _fronts(firm: FloatImage) -> FloatImage:
    """(H, W) of b: the nearest firm disparity that a sees there, without what matching adds at left edges; -1: none."""
    seen = np.full_like(firm, -1)
    row, at = np.nonzero(np.isfinite(firm))
    disparity = firm[row, at]
    column = np.rint(at - disparity).astype(np.intp)
    there = column >= 0  # disparities are not below 0: none lies beyond the right border
    np.maximum.at(seen, (row[there], column[there]), disparity[there])
    known = np.where(seen < 0, np.nan, seen).astype(np.float32)
    before, after = _neighbours(known)
    between = np.where(np.abs(before - after) <= _ONE_SURFACE_PX, np.fmin(before, after), np.float32(-1))
    whole = np.where(seen < 0, between, seen).astype(np.float32)
    padded = np.pad(whole, ((0, 0), (_WIDENED_PX, 0)), mode="edge")
    return np.asarray(np.lib.stride_tricks.sliding_window_view(padded, _WIDENED_PX + 1, axis=1).min(-1), np.float32)


def _widened(mask: Mask) -> Mask:
    """``mask`` and as much on its right as a matcher gives to the surface that begins there."""
    reach = np.ones((1, 2 * _WIDENED_PX + 1), np.uint8)
    reach[0, _WIDENED_PX + 1 :] = 0
    return np.asarray(cv2.dilate(mask.astype(np.uint8), reach) > 0)


def _neighbours(values: FloatImage) -> tuple[FloatImage, FloatImage]:
    """The nearest known value at or before each pixel of a row, and at or after it; NaN where there is none."""
    sides: list[npt.NDArray[np.float32]] = []
    for flipped in (values, values[:, ::-1]):
        index = np.where(np.isfinite(flipped), np.arange(values.shape[1]), 0)
        np.maximum.accumulate(index, axis=1, out=index)
        sides.append(np.take_along_axis(flipped, index, axis=1))
    return sides[0], sides[1][:, ::-1]
