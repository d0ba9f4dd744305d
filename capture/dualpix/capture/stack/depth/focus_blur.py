"""Depth by the blur of every frame: what the lens would have made of the sharp picture, were it at some depth.

Convention: focus and depths are *places* on the axis of the sweep, rising: diopters, or numbers of frames where no
distance is known. The circle of confusion of frame k at place P is ``s_k |P_k - P|`` px, of the lens
(:mod:`dualpix.capture.optics`), or one s for all, found as the one that explains the frames best. How badly a place
explains a pixel is the logarithm of the squared difference from all frames, summed over a window; costs are smoothed by
semi-global matching (Hirschmüller, TPAMI 2008). Frames are compared as square roots of light, in which noise is even.

Volumes of costs lie in memory as (rows, places, columns): a line of the picture with all its costs stays in the cache
while it is worked on, and so do strips of rows. That, and not less work, is where the speed comes from;
``tests/capture/stack/blur_reference.py`` is the same in plain NumPy.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from functools import cache
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt

from dualpix.capture.stack.depth.focus_peaks import Places, noise_of, parabola_peak, rise, roots_of, window_sums
from dualpix.capture.types import FloatImage

COARSE_PER_STEP, FINE_PER_STEP = 1, 4
"""Places tried between two frames: to choose which frame shows a pixel sharply, and to find its depth."""
_MANY_PLACES, _PLACE_PX = 28, 1.5
"""More places than this are tried only where the blur changes by more than so many px from one to the next."""
COST_WINDOW_PX = 7
"""Over which squared differences are summed."""
SMALL_STEP, LARGE_STEP = 0.8, 7.0
"""Costs of a change of depth between neighbours, by one hypothesis and by any; in the logarithm of squared error."""
_STRIP_ROWS, _SCAN_COLUMNS, _SCAN_ROWS = 64, 1024, 512
_TYPICAL_OF = 16
"""Hypotheses whose median cost is the typical one, at least."""
_DISC_SAMPLES = 5
_LADDER, _LADDER_FOOT_PX = 1.1, 1.0
_COARSE_FRAMES = 20
_FOUND_SIDE_PX, _FOUND_FRAMES = 160, 8
_FIRST_RATIO, _RATIO_STEP = 0.04, 1.4
"""Blur across the whole sweep, over the picture's long side, where the search for that of an unknown lens begins."""
_LEAST_STEPS, _MOST_STEPS = -8, 7
"""Ratios of 0.0027 to 0.42."""
_TEXTURED = 0.5
SMALLEST_CIRCLE_PX, SMALL_DISC_PX = 0.2, 2.5
_DISC_PX = 7.0
"""From twice this diameter on, pictures are reduced before they are blurred."""
_LARGEST_CIRCLE_SHARE = 0.25
"""Of the picture's shorter side: more is all the same."""


def by_blur(
    roots: FloatImage,
    grays: FloatImage,
    focus: Places,
    first: FloatImage,
    blur: Places,
    sharp: FloatImage | None = None,
) -> tuple[FloatImage, FloatImage]:
    """Where each pixel is, and how sure that is.

    The sharp picture is at first the given one, else each pixel from its sharpest frame; then each pixel from the frame
    nearest to the place that explains it best, as a frame that was stopped down has blur of its own.

    Args:
        roots: (N, H, W), see :func:`~.focus_peaks.roots_of`.
        grays: (N, H, W) their linear light.
        focus: (N,) places.
        first: (H, W) places by sharpness.
        blur: (N,) circle of confusion of each frame per unit of place, in px.
        sharp: (H, W) linear light at a small aperture, if there is such a frame.

    Returns:
        (H, W) places, and (H, W) confidence in 0 ... 1: how much better than is typical the place explains the pixel.
    """
    picture = composite(grays, focus, first) if sharp is None else sharp
    some = slice(None, None, -(-len(focus) // _COARSE_FRAMES))
    tried = hypotheses(focus, COARSE_PER_STEP, float(blur.max()))
    costs = cost_volume(roots[some], focus[some], picture, blur[some], tried)
    rough = np.concatenate([_least(costs[:, rows], tried)[1] for rows in _strips(costs.shape[1])])
    del costs
    tried = hypotheses(focus, FINE_PER_STEP, float(blur.max()))
    costs = cost_volume(roots, focus, composite(grays, focus, rough), blur, tried)
    smooth = semi_global(costs, SMALL_STEP, LARGE_STEP)
    found, confidence = np.empty_like(picture), np.empty_like(picture)
    for rows in _strips(costs.shape[1]):
        best, found[rows] = _least(smooth[:, rows], tried)
        chosen = np.take_along_axis(costs[:, rows], best[None], axis=0)[0]
        confidence[rows] = 1.0 - np.exp(chosen - _typical(costs[:, rows]))
    return found, confidence


def _least(smooth: FloatImage, tried: Places) -> tuple[npt.NDArray[np.intp], FloatImage]:
    """(h, w) number of the hypothesis of least cost, and its place, between hypotheses by a parabola."""
    least = smooth.min(axis=0)
    best = np.zeros(least.shape, np.intp)
    for number in range(len(tried) - 1, -1, -1):  # many times faster than argmin across the innermost axis
        np.copyto(best, number, where=smooth[number] == least)
    inner = np.clip(best, 1, len(tried) - 2)
    low, top, high = (-np.take_along_axis(smooth, (inner + k)[None], axis=0)[0] for k in (-1, 0, 1))
    step = np.float32(tried[1] - tried[0])
    offset = parabola_peak(-step, step, low - top, high - top)
    places = tried.astype(np.float32)[best]
    return best, np.where(best == inner, places + offset, places)


def _typical(costs: FloatImage) -> FloatImage:
    """(h, w) median cost; costs change little from one hypothesis to the next, so that not all are needed."""
    some = np.moveaxis(costs[:: max(1, len(costs) // _TYPICAL_OF)], 0, -1)
    return np.asarray(np.median(np.ascontiguousarray(some), axis=-1), np.float32)


# --- the blur of an unknown lens ----------------------------------------------------------------------------------


def find_blur(grays: FloatImage, focus: Places, places: FloatImage) -> float:
    """Circle of confusion per unit of place, in px, under which some place for each pixel explains the frames best.

    How well a circle explains them has one valley: it is walked down, then halved once, then a parabola.

    Args:
        grays: (N, H, W) linear.
        focus: (N,) places.
        places: (H, W) first guess, for the sharp picture.
    """
    some = slice(None, None, max(1, len(focus) // _FOUND_FRAMES))
    shrink = min(1.0, _FOUND_SIDE_PX / max(grays.shape[1:]))
    small = np.stack([resized(gray, shrink) for gray in grays])
    sharp = composite(small, focus, resized(places, shrink))
    roots, tried, focus = roots_of(small[some]), hypotheses(focus), focus[some]
    textured = rise(window_sums(roots), noise_of(roots)).contrast > _TEXTURED
    textured |= not textured.any()
    unit_px = max(sharp.shape) / float(np.ptp(focus))

    @cache
    def cost(step: float) -> float:
        blur = np.full(len(focus), _FIRST_RATIO * _RATIO_STEP**step * unit_px)
        return float(np.mean(cost_volume(roots, focus, sharp, blur, tried).min(axis=0)[textured]))

    best = 0
    while best > _LEAST_STEPS and cost(best - 1) < cost(best):
        best -= 1
    while best < _MOST_STEPS and cost(best + 1) < cost(best):
        best += 1
    middle = min((best - 0.5, best, best + 0.5), key=cost)
    low, high = (np.array(cost(middle) - cost(middle + side)) for side in (-0.5, 0.5))
    offset = float(parabola_peak(-0.5, 0.5, low, high))
    return float(_FIRST_RATIO * _RATIO_STEP ** (middle + offset) * unit_px / shrink)


# --- costs --------------------------------------------------------------------------------------------------------


def hypotheses(focus: Places, per_step: int = FINE_PER_STEP, blur_px: float = 0.0) -> Places:
    """Places that are tried, evenly: half a step beyond the ends, but not beyond half the far end's diopters.

    Args:
        focus: (N,) places.
        per_step: between two frames, unless they are so many, and blur changes so little, that fewer do.
        blur_px: circle of confusion per unit of place.
    """
    step = float(np.median(np.diff(focus)))
    far = focus[0] - step / 2 if focus[0] <= 0 else max(focus[0] - step / 2, focus[0] / 2)
    near = focus[-1] + step / 2
    count = round((near - far) / step * per_step) + 1
    enough = max(_MANY_PLACES, math.ceil(blur_px * (near - far) / _PLACE_PX))
    return np.linspace(far, near, int(np.clip(count, 8, enough)))


def cost_volume(roots: FloatImage, focus: Places, sharp: FloatImage, blur: Places, tried: Places) -> FloatImage:
    """(M, H, W) the logarithm of how badly each place explains the frames."""
    circles = np.minimum(blur * np.abs(tried[:, None] - focus[None]), _LARGEST_CIRCLE_SHARE * min(sharp.shape))
    rungs = _ladder(float(circles.max()))
    nearest = np.argmin(np.abs(np.log((circles[..., None] + _LADDER_FOOT_PX) / (rungs + _LADDER_FOOT_PX))), axis=-1)
    blurred = {int(rung): roots_of(blurred_by(sharp, float(rungs[rung]))) for rung in np.unique(nearest)}
    height, width = sharp.shape
    lines = np.empty((height, len(tried), width), np.float32)
    margin = COST_WINDOW_PX // 2
    for rows in _strips(height):
        wide = slice(max(0, rows.start - margin), min(height, rows.stop + margin))
        inside = slice(rows.start - wide.start, rows.stop - wide.start)
        parts = {rung: picture[wide] for rung, picture in blurred.items()}
        _explain(lines[rows], roots[:, wide], parts, nearest, inside)
    floor = float(np.median(lines.min(axis=1))) + 1e-9
    lines += np.float32(floor)
    return np.moveaxis(np.log(lines, out=lines), 1, 0)


def _explain(
    lines: npt.NDArray[np.float32],
    roots: FloatImage,
    blurred: dict[int, FloatImage],
    nearest: npt.NDArray[np.intp],
    inside: slice,
) -> None:
    """Squared differences of a strip of rows, summed over a window, into ``lines`` (h, M, W)."""
    difference, error = np.empty_like(roots[0]), np.empty_like(roots[0])
    window = (COST_WINDOW_PX, COST_WINDOW_PX)
    for number, row in enumerate(nearest):
        error[:] = 0
        for root, rung in zip(roots, row, strict=True):
            cv2.subtract(root, blurred[int(rung)], dst=difference)
            cv2.accumulateSquare(difference, error)
        lines[:, number] = cv2.blur(error, window)[inside]


def composite(frames: FloatImage, focus: Places, places: FloatImage) -> FloatImage:
    """(H, W, ...) each pixel from the frame (N, H, W, ...) that is focused nearest to its place."""
    middles = (focus[1:] + focus[:-1]) / 2
    nearest = np.searchsorted(middles, cv2.medianBlur(places.astype(np.float32), 5))
    which = nearest[None] if frames.ndim == 3 else nearest[None, ..., None]
    return np.asarray(np.take_along_axis(frames, which, axis=0)[0], np.float32)


def resized(image: FloatImage, shrink: float) -> FloatImage:
    """(H, W) reduced by areas; as it is where ``shrink`` is 1 or more."""
    if shrink >= 1:
        return np.ascontiguousarray(image, np.float32)
    size = max(8, round(image.shape[1] * shrink)), max(8, round(image.shape[0] * shrink))
    return np.asarray(cv2.resize(image, size, interpolation=cv2.INTER_AREA), np.float32)


def _strips(length: int, size: int = _STRIP_ROWS) -> Iterator[slice]:
    return (slice(start, min(start + size, length)) for start in range(0, length, size))


def _ladder(largest_px: float) -> npt.NDArray[np.float64]:
    """Diameters so close that the next one looks the same."""
    count = math.ceil(math.log1p(largest_px / _LADDER_FOOT_PX) / math.log(_LADDER)) + 1
    return np.asarray(_LADDER_FOOT_PX * (_LADDER ** np.arange(count) - 1))


def blurred_by(image: FloatImage, circle_px: float) -> FloatImage:
    """(H, W) spread by a disc of this diameter; by a large one on the picture reduced by 2, 4, 8 ..."""
    if circle_px < SMALLEST_CIRCLE_PX:
        return image
    factor = 2 ** max(0, math.floor(math.log2(circle_px / _DISC_PX)))
    if factor == 1:
        return _spread(image, circle_px)
    height, width = image.shape
    down, across = -(-height // factor) * factor, -(-width // factor) * factor
    padded = cv2.copyMakeBorder(image, 0, down - height, 0, across - width, cv2.BORDER_REFLECT)
    small = cv2.resize(padded, (across // factor, down // factor), interpolation=cv2.INTER_AREA)
    # along each axis, areas and linear interpolation spread by (f^2 - 1) / 12 and f^2 / 6, a disc by (circle / 4)^2
    rest_px = 4 * math.sqrt((circle_px / 4) ** 2 - (factor**2 - 1) / 12 - factor**2 / 6)
    large = cv2.resize(_spread(small, rest_px / factor), (across, down), interpolation=cv2.INTER_LINEAR)
    return np.asarray(large[:height, :width], np.float32)


def _spread(image: npt.NDArray[Any], circle_px: float) -> FloatImage:
    return np.asarray(cv2.filter2D(image, cv2.CV_32F, _disc(circle_px), borderType=cv2.BORDER_REFLECT), np.float32)


def _disc(circle_px: float) -> FloatImage:
    """(S, S) of sum 1, S odd; a small one has three taps of its variance, (circle / 4)^2 along each axis."""
    if circle_px < SMALL_DISC_PX:
        beside = (circle_px / 4) ** 2 / 2
        taps = np.array([beside, 1 - 2 * beside, beside], np.float32)
        return np.asarray(taps[:, None] * taps[None])
    radius = circle_px / 2
    size = 2 * math.ceil(radius + 0.5) + 1
    axis = (np.arange(size * _DISC_SAMPLES) + 0.5) / _DISC_SAMPLES - size / 2
    inside = np.clip((radius - np.hypot(axis[:, None], axis[None])) * _DISC_SAMPLES + 0.5, 0, 1)
    disc = inside.reshape(size, _DISC_SAMPLES, size, _DISC_SAMPLES).sum(axis=(1, 3))
    return np.asarray(disc / disc.sum(), np.float32)


# --- smoothing ----------------------------------------------------------------------------------------------------


def semi_global(costs: FloatImage, small_step: float, large_step: float) -> FloatImage:
    """Costs (M, H, W) plus the least cost of getting there from the border along each of four directions.

    Args:
        costs: of M hypotheses in order; fastest where (H, M, W) is how they lie in memory.
        small_step: cost of a change by one hypothesis from pixel to pixel.
        large_step: of any larger change.
    """
    lines = np.ascontiguousarray(np.moveaxis(costs, 1, 0))
    height, _, width = lines.shape
    steps = np.float32(small_step), np.float32(large_step)
    total = np.empty_like(lines)
    for columns in _strips(width, _SCAN_COLUMNS):
        _scan_both_ways(lines[..., columns], total[..., columns], *steps)
    for rows in _strips(height, _SCAN_ROWS):
        across = _turned(lines[rows])
        turned_total = np.empty_like(across)
        _scan_both_ways(across, turned_total, *steps)
        for number in range(lines.shape[1]):
            total[rows, number] += cv2.transpose(turned_total[:, number])
    return np.moveaxis(total, 0, 1)


def _turned(lines: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
    """(h, M, W) as (W, M, h), contiguous."""
    out = np.empty(lines.shape[::-1], np.float32)
    for number in range(lines.shape[1]):
        cv2.transpose(lines[:, number], dst=out[:, number])
    return out


def _scan_both_ways(
    lines: npt.NDArray[np.float32], out: npt.NDArray[np.float32], small: np.float32, large: np.float32
) -> None:
    """Costs of paths along the first axis, those from either end added, into ``out``; both (length, M, across).

    Pixels of a line across the paths are independent, and so are the two directions: all are one array.
    """
    above = np.zeros((2, *lines.shape[1:]), np.float32)  # cost of the way so far, over that of the best hypothesis
    reach, step = np.empty_like(above), np.empty_like(above)
    for index in range(len(lines)):
        np.add(above, small, out=step)
        np.minimum(above, large, out=reach)
        np.minimum(reach[:, 1:], step[:, :-1], out=reach[:, 1:])
        np.minimum(reach[:, :-1], step[:, 1:], out=reach[:, :-1])
        np.add(_from_both_ends(lines, index), reach, out=above)
        left = len(lines) - 1 - 2 * index
        if left > 0:
            _from_both_ends(out, index)[...] = above
        elif left < 0:
            _from_both_ends(out, index)[...] += above
        else:
            np.add(above[0], above[1], out=out[index])
        above -= above.min(axis=1, keepdims=True)


def _from_both_ends(lines: npt.NDArray[np.float32], index: int) -> npt.NDArray[np.float32]:
    """Lines ``index`` from the start and from the end, as one view; the middle one stands for both."""
    apart = len(lines) - 1 - 2 * index
    return lines[index::apart][:2] if apart else lines[index][None]
