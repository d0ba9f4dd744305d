"""Depth by the blur of every frame as :mod:`dualpix.capture.stack.depth.focus_blur` says it, in plain NumPy, and slow.

Every circle of confusion is drawn and convolved for itself, at full size; every frame counts in both rounds; medians
are of all places; costs are smoothed line by line.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
from scipy.ndimage import uniform_filter
from scipy.signal import fftconvolve

from dualpix.capture.stack.depth.focus_blur import (
    COARSE_PER_STEP,
    COST_WINDOW_PX,
    FINE_PER_STEP,
    LARGE_STEP,
    SMALL_STEP,
    hypotheses,
)

Array = npt.NDArray[np.float64]
_FLOOR = 1e-4


def by_blur(grays: Array, focus: Array, first: Array, blur: Array) -> tuple[Array, Array]:
    """(H, W) places and confidence, from frames (N, H, W) and places by sharpness."""
    tried = hypotheses(focus, COARSE_PER_STEP, float(blur.max()))
    costs = _costs(grays, focus, _sharp(grays, focus, first), blur, tried)
    rough = _peak(costs, tried)
    tried = hypotheses(focus, FINE_PER_STEP, float(blur.max()))
    costs = _costs(grays, focus, _sharp(grays, focus, rough), blur, tried)
    smooth = smoothed(costs, SMALL_STEP, LARGE_STEP)
    chosen = np.take_along_axis(costs, smooth.argmin(axis=0)[None], axis=0)[0]
    return _peak(smooth, tried), 1 - np.exp(chosen - np.median(costs, axis=0))


def smoothed(costs: Array, small: float, large: float) -> Array:
    """(M, H, W) sums over four directions of the least cost of a path that comes from the border."""
    total = np.zeros_like(costs)
    for turned, out in ((costs, total), (costs.transpose(0, 2, 1), total.transpose(0, 2, 1))):
        for lines, sums in ((turned, out), (turned[:, ::-1], out[:, ::-1])):
            before = np.zeros_like(lines[:, 0])
            for index in range(lines.shape[1]):
                up = np.pad(before[1:], ((0, 1), (0, 0)), constant_values=np.inf) + small
                down = np.pad(before[:-1], ((1, 0), (0, 0)), constant_values=np.inf) + small
                reach = np.minimum.reduce([before, up, down, np.broadcast_to(before.min(0) + large, before.shape)])
                before = lines[:, index] + reach - before.min(axis=0)
                sums[:, index] += before
    return total


def disc(circle_px: float) -> Array:
    """Of sum 1, drawn with 31 samples along each side of a pixel."""
    size = 2 * int(np.ceil(circle_px / 2 + 0.5)) + 1
    axis = (np.arange(size * 31) + 0.5) / 31 - size / 2
    inside = np.hypot(axis[:, None], axis[None]) <= circle_px / 2
    shares = inside.reshape(size, 31, size, 31).mean(axis=(1, 3))
    return shares / shares.sum() if shares.sum() else np.pad([[1.0]], size // 2)


def _costs(grays: Array, focus: Array, sharp: Array, blur: Array, tried: Array) -> Array:
    errors = []
    for place in tried:
        error = np.zeros(sharp.shape)
        for gray, at, per_place in zip(grays, focus, blur, strict=True):
            circle = min(per_place * abs(place - at), 0.25 * min(sharp.shape))
            error += (_root(gray) - _root(_spread(sharp, circle))) ** 2
        errors.append(uniform_filter(error, COST_WINDOW_PX, mode="mirror"))
    costs = np.stack(errors)
    return np.log(costs + np.median(costs.min(axis=0)) + 1e-9)


def _spread(image: Array, circle_px: float) -> Array:
    kernel = disc(circle_px)
    margin = len(kernel) // 2
    return fftconvolve(np.pad(image, margin, mode="symmetric"), kernel, mode="valid")


def _root(light: Array) -> Array:
    return np.sqrt(np.maximum(light, 0) + _FLOOR)


def _sharp(grays: Array, focus: Array, places: Array) -> Array:
    from scipy.ndimage import median_filter

    nearest = np.abs(focus[:, None, None] - median_filter(places, 5, mode="nearest")[None]).argmin(axis=0)
    return np.take_along_axis(grays, nearest[None], axis=0)[0]


def _peak(costs: Array, tried: Array) -> Array:
    best = costs.argmin(axis=0)
    inner = np.clip(best, 1, len(tried) - 2)
    low, top, high = (np.take_along_axis(costs, (inner + k)[None], axis=0)[0] for k in (-1, 0, 1))
    bend = low - 2 * top + high
    offset = np.where(bend > 0, 0.5 * (low - high) / np.where(bend > 0, bend, 1), 0)
    return np.where(best == inner, tried[inner] + np.clip(offset, -0.5, 0.5) * (tried[1] - tried[0]), tried[best])
