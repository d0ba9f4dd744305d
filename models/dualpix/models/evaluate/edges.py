"""How well the edges of a disparity map are those of the truth: the error near them, and a boundary F1.

Disparity has a sign and passes through 0, so that neighbours have no ratio, by which :mod:`.boundaries` finds the edges
of depth. Here an edge is a step of the truth, over ``SPAN_PX`` along x or y, of more than a share of the truth's range
(1st to 99th percentile of the valid pixels): the lens, its aperture and the camera's gain scale all disparities of a
scene alike and leave it its edges. Over a span and not between neighbours, because networks that predict at half size
cannot step between neighbours, however well they see an edge, and published truths do not either. A step counts where
both its ends have a truth. Both figures have no value where the truth has no edge.

- Error near edges: over the valid pixels within ``NEAR_PX`` of the middle of a step above the least threshold: the
  depth discontinuity regions of Scharstein and Szeliski (IJCV 2002, section 5.1), whose gap of 2 px between
  neighbours suits stereo's tens of pixels and not a phone's one.
- Boundary F1: as Bochkovskii et al., "Depth Pro", 2024, with four kinds of edge (along x and y, rising and falling) and
  a mean over thresholds that is weighted by them, here 10 to 30 % of the range. Unlike theirs, an edge may lie
  ``TOLERANCE_PX`` beside, as in the benchmark of Martin et al. (PAMI 2004), because what is out of focus has edges as
  wide as its blur; kinds are counted together, so that a perfect map has 1 whatever the scene; and thresholds that the
  truth does not reach are left out. A sharp edge that lies up to 4 px beside counts in full, from 8 px on not at all.
  One that is blurred loses precision while it is still steep enough for a threshold, then recall.

Which pixels are near an edge, and the F1, do not change with a common scale or with offsets of map and truth; the F1
does with the scale of the map alone. Where a protocol knows the truth up to an affine map, the map is fitted first.
"""

from __future__ import annotations

from typing import TypeVar

import cv2
import numpy as np
import numpy.typing as npt

from dualpix.capture.types import FloatImage, Mask

SPAN_PX = 4
NEAR_PX = 8
TOLERANCE_PX = 4
SHARES = tuple(float(share) for share in np.linspace(0.1, 0.3, 9))
"""Thresholds, as parts of the range. In four pixels a slope across a picture of 64 px gains less than the least."""
LEAST_STEP_PX = 0.05
"""Of disparities in px: a quarter of what a confidence promises. A plane whose truth varies by less has no edges."""

Array = npt.NDArray[np.float64]
T = TypeVar("T", bound=np.generic)


def near_edges(truth: FloatImage, valid: Mask, *, least_step: float = 0.0) -> Mask:
    """(h, w): valid and within ``NEAR_PX`` of the middle of a step of the truth.

    Args:
        truth: (h, w); what it holds where it is not valid does not matter.
        valid: (h, w).
        least_step: in the truth's unit; smaller steps are no edges whatever the range.
    """
    step = max(SHARES[0] * _range(truth, valid), least_step)
    middles = np.zeros(truth.shape, np.bool_)
    for axis in (0, 1):
        part = _cut(middles, axis, SPAN_PX // 2)  # a view of it
        part |= np.abs(_steps(truth, valid, axis)) > step
    if not middles.any():
        return middles
    distance_px = cv2.distanceTransform((~middles).astype(np.uint8), cv2.DIST_L2, cv2.DIST_MASK_PRECISE)
    return np.asarray(valid & (distance_px <= NEAR_PX - SPAN_PX // 2))


def disparity_boundary_f1(
    found: FloatImage, truth: FloatImage, valid: Mask, *, least_step: float = 0.0
) -> float | None:
    """Boundary F1, 0 to 1, higher is better; None where the truth has no edge.

    Args:
        found: (h, w) in the truth's unit, finite where valid.
        truth: (h, w).
        valid: (h, w).
        least_step: in the truth's unit, of the lowest threshold.
    """
    steps = [(_steps(found, valid, axis), _steps(truth, valid, axis)) for axis in (0, 1)]
    spread = _range(truth, valid)
    scores, weights = [], []
    for share in SHARES:
        score = _f1(steps, max(share * spread, share / SHARES[0] * least_step))
        if score is not None:
            scores.append(score)
            weights.append(share)
    return float(np.average(scores, weights=weights)) if scores else None


def _range(truth: FloatImage, valid: Mask) -> float:
    low, high = np.percentile(truth[valid].astype(np.float64), (1, 99))
    return float(high - low)


def _steps(values: FloatImage, valid: Mask, axis: int) -> Array:
    """Over the span along an axis, 0 where an end is not valid; shorter by the span along it."""
    known = np.where(valid, values, 0).astype(np.float64)
    first, second = (_cut(known, axis, side) for side in (0, SPAN_PX))
    both = _cut(valid, axis, 0) & _cut(valid, axis, SPAN_PX)
    return np.where(both, second - first, 0.0)


def _cut(values: npt.NDArray[T], axis: int, start: int) -> npt.NDArray[T]:
    """As many as there are spans, from ``start`` on."""
    size = max(0, values.shape[axis] - SPAN_PX)
    return values[start : start + size] if axis == 0 else values[:, start : start + size]


def _f1(steps: list[tuple[Array, Array]], least: float) -> float | None:
    right = claimed = met = there = 0
    for found, truth in steps:
        for sign in (1.0, -1.0):
            edges, true_edges = sign * found > least, sign * truth > least
            right += int(np.count_nonzero(edges & _around(true_edges)))
            claimed += int(np.count_nonzero(edges))
            met += int(np.count_nonzero(true_edges & _around(edges)))
            there += int(np.count_nonzero(true_edges))
    if not there:
        return None
    precision, recall = right / max(claimed, 1), met / there
    return 2 * precision * recall / (precision + recall) if precision + recall > 0 else 0.0


def _around(edges: Mask) -> Mask:
    """Within the tolerance, either way."""
    side = 2 * TOLERANCE_PX + 1
    return np.asarray(cv2.dilate(edges.astype(np.uint8), np.ones((side, side), np.uint8)) > 0) if edges.size else edges
