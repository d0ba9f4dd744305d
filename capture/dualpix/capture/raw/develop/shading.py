"""Equal brightness of the two halves.

Each photodiode sees the lens under its own angle, so left / right drifts by tens of percent over the field (Pixel 4:
1.00..1.45), which every matcher takes for texture. The right half is multiplied by a smooth gain:

- from a white sheet, the ratio of the smoothed halves, as Xin et al., ICCV 2021, smooth theirs over 5 % of the width;
- without one, from the views themselves.

Convention: images lie as the sensor does, x along the baseline (``baseline="y"``: along y), -1..1 over the picture.
Everything here is estimated on thumbnails of a few hundred pixels and applied at any size.

How the views alone tell the gain (:func:`self_gain`). Let I be the scene, d its disparity, g = log(left / right) the
shading. To first order in d, with I' the derivative along the baseline,

    2 atanh((left - right) / (left + right)) = g + d I' / I,

so in a small window g and d follow together from a two-parameter least squares: an edge tells the disparity, a plain
area the shading, and a window in which the two cannot be told apart has little weight. The windows' g are fitted by the
few terms a lens can cause. A lens and its microlenses are symmetric about the baseline, so the ratio is even in y;
mirroring the picture exchanges the halves, so without misalignment g would be odd in x. Odd and even powers of x up to
the fifth, y^2, x y^2 and x^3 y^2 are used (the last two are a fifth to a half of the drift on a Pixel 4 and a Canon R6
II; the fifth power is what a Pixel's S-shaped drift needs). The fit is reweighted (Cauchy) against reflections and
occlusions.

Nothing is clipped, and saturated samples take no part.
"""

from __future__ import annotations

import cv2
import numpy as np
import numpy.typing as npt
from numpy.polynomial import legendre

from dualpix.capture.profiles.half_gain import Gain, gain_of
from dualpix.capture.types import Baseline, FloatImage

Floats = npt.NDArray[np.float64]

# Powers (of x, of y) of the Legendre terms of log gain.
_TERMS = ((0, 0), (1, 0), (2, 0), (3, 0), (4, 0), (5, 0), (0, 2), (1, 2), (3, 2))
# The rest was chosen on the simulated camera (known shading) and Canon R6 II exports; all of it is flat within a
# factor of two around these values.
_WINDOW = 8
_PIXEL_NOISE = 0.05  # rms of a thumbnail's log ratio that neither shading nor disparity explain
_SHIFT = 1.5  # usual disparity in pixels of a thumbnail: 0.6 % of the width
_CAUCHY = 2.5
_RIDGE = 1e-4  # of the fit's total weight: lets terms vanish that the windows do not determine
_ROUNDS = 15
_MIN_SHARE = 0.98  # of unsaturated samples in a thumbnail pixel

_SHEET_FITS = 0.015  # rms log gain
_SHEET_SIGMA = 0.006  # of the longest side: a thumbnail of a real sensor has little noise left


def sheet_gain(white_left: FloatImage, white_right: FloatImage) -> Gain:
    """Gain from thumbnails of the two halves of a white sheet, (h, w) or (h, w, 3); 1 where it is black."""
    ratio = smooth_log(white_left) - smooth_log(white_right)
    return gain_of(ratio, "white sheet")


def smooth_log(white: FloatImage) -> Floats:
    """Smoothed log light of a white sheet's thumbnail, float64 of its shape; finite in the dark too."""
    light = np.maximum(white.astype(np.float64), 0)
    # A ten-thousandth of the mean: pulls a ratio to 1 where both halves vanish in noise.
    floor = 1e-4 * float(light.mean()) + 1e-9
    # The median takes out dust and hot pixels; borders are point-mirrored, which keeps a slope that runs into them.
    size = max(light.shape[:2])
    level = np.asarray(cv2.medianBlur(np.log(light + floor).astype(np.float32), 3), np.float64)
    radius = min(int(np.ceil(4 * _SHEET_SIGMA * size)), *(n - 1 for n in light.shape[:2]))
    if radius < 1:
        return level
    around = ((radius, radius), (radius, radius)) + ((0, 0),) * (light.ndim - 2)
    padded = np.pad(level, around, mode="reflect", reflect_type="odd")
    smooth = np.asarray(cv2.GaussianBlur(padded, (0, 0), _SHEET_SIGMA * size), np.float64)
    return smooth[radius:-radius, radius:-radius]


def self_gain(left: FloatImage, right: FloatImage, valid: FloatImage, baseline: Baseline = "x") -> Gain:
    """Gain from the views themselves; 1 where they tell nothing.

    Args:
        left: (h, w) or (h, w, 3), mean light of each block of a few hundred; signed.
        right: as ``left``.
        valid: (h, w), share of unsaturated samples of each block.
        baseline: axis of the disparity in them.
    """
    if baseline == "y":
        gain = self_gain(left.swapaxes(0, 1), right.swapaxes(0, 1), valid.swapaxes(0, 1))
        return Gain(np.ascontiguousarray(gain.grid.swapaxes(0, 1)), gain.origin)
    channels = [(left, right)] if left.ndim == 2 else [(left[..., c], right[..., c]) for c in range(left.shape[2])]
    fits = [_log_gain(one.astype(np.float64), other.astype(np.float64), valid) for one, other in channels]
    return gain_of(np.stack(fits, axis=-1), "smooth ratio of the views")


def refined_gain(gain: Gain, left: FloatImage, right: FloatImage, valid: FloatImage, baseline: Baseline = "x") -> Gain:
    """``gain`` of a white sheet, times what :func:`self_gain` still finds in the views where the sheet does not fit.

    The exit pupil moves with the focus, so a sheet taken at another distance is off by a tilt (Pixel 4: up to 5 % at
    the sides); the steep outer columns, where the views alone are weak, are the sheet's. A remainder of less than
    1.5 % rms is the uncertainty of the views, and the sheet is left alone.

    Args:
        gain: of the right half.
        left: thumbnails of the capture as for :func:`self_gain`, not equalised.
        right: as ``left``.
        valid: as for :func:`self_gain`.
        baseline: as for :func:`self_gain`.
    """
    applied = gain.at((left.shape[0], left.shape[1]))
    equalised = right * (applied if right.ndim == 3 else applied[..., applied.shape[2] // 2])
    rest = self_gain(left, equalised, valid, baseline)
    if float(np.sqrt(np.mean(np.log(rest.grid) ** 2))) < _SHEET_FITS:
        return gain
    return gain_of(np.log(applied) + np.log(rest.grid), f"{gain.origin}, refined by the views")


def _log_gain(left: Floats, right: Floats, valid: FloatImage) -> Floats:
    """The fitted log(left / right), (h, w)."""
    window = max(1, min(_WINDOW, *(n // 4 for n in left.shape)))
    ratio, weight = _window_ratios(left, right, valid >= _MIN_SHARE, window)
    places = [(np.arange(n) + 0.5) * window / size for n, size in zip(ratio.shape, left.shape, strict=True)]
    coefficients = _robust_fit(_basis(*places), ratio.ravel(), weight.ravel())
    cells = [(np.arange(size) + 0.5) / size for size in left.shape]
    return (_basis(*cells) @ coefficients).reshape(left.shape)


def _window_ratios(left: Floats, right: Floats, valid: npt.NDArray[np.bool_], size: int) -> tuple[Floats, Floats]:
    """log(left / right) of square windows, free of disparity, and its weight (inverse variance): two (gh, gw)."""
    total = left + right
    mean = float(np.mean(total[valid])) if valid.any() else 0.0
    if mean <= 1e-6:
        return _windows(0 * total, size)[..., 0], _windows(0 * total, size)[..., 0]
    floor = 1e-3 * mean
    light = np.maximum(total, 0) + floor
    ratio = 2 * np.arctanh(np.clip((left - right) / light, -0.95, 0.95))
    slope, weight = np.zeros_like(light), np.zeros_like(light)
    slope[:, 1:-1] = (light[:, 2:] - light[:, :-2]) / (2 * light[:, 1:-1])
    # Weight grows with light, as photons do; in the dark the black levels' errors reign.
    trust = light / mean * (light / (light + 0.01 * mean)) / _PIXEL_NOISE**2
    weight[:, 1:-1] = trust[:, 1:-1] * (valid[:, 1:-1] & valid[:, 2:] & valid[:, :-2])
    w, x, y = (_windows(v, size) for v in (weight, slope, ratio))
    sum_w, sum_x, sum_y, sum_xy = w.sum(-1), (w * x).sum(-1), (w * y).sum(-1), (w * x * y).sum(-1)
    sum_xx = (w * x * x).sum(-1) + 1 / _SHIFT**2  # the prior of the disparity
    certainty = np.maximum(sum_w - sum_x**2 / sum_xx, 0)
    return (sum_y - sum_x * sum_xy / sum_xx) / np.maximum(certainty, 1e-9), certainty


def _windows(image: Floats, size: int) -> Floats:
    """(h, w) to (h // size, w // size, size * size)."""
    rows, columns = (n // size for n in image.shape)
    tiles = image[: rows * size, : columns * size].reshape(rows, size, columns, size)
    return tiles.transpose(0, 2, 1, 3).reshape(rows, columns, size * size)


def _basis(rows: Floats, columns: Floats) -> Floats:
    """The terms at a grid of places in 0..1: (len(rows) * len(columns), terms)."""
    across = legendre.legvander(2 * rows - 1, max(j for _, j in _TERMS))
    along = legendre.legvander(2 * columns - 1, max(i for i, _ in _TERMS))
    return np.stack([np.outer(across[:, j], along[:, i]).ravel() for i, j in _TERMS], axis=-1)


def _robust_fit(basis: Floats, values: Floats, weights: Floats) -> Floats:
    """Coefficients of the iteratively reweighted ridge fit; zeros without any weight."""
    total = float(weights.sum())
    if total <= 1e-6:
        return np.zeros(basis.shape[1])
    ridge = total * np.diag([1e-9 if i + j < 2 else _RIDGE for i, j in _TERMS])
    known = weights > 1e-3 * weights.max()
    used = weights
    for _ in range(_ROUNDS):
        weighted = basis * used[:, None]
        coefficients = np.linalg.solve(basis.T @ weighted + ridge, weighted.T @ values)
        error = np.abs(values - basis @ coefficients) * np.sqrt(weights)
        spread = 1.4826 * float(np.median(error[known])) + 1e-12
        used = weights / (1 + (error / (_CAUCHY * spread)) ** 2)
    return np.asarray(coefficients, np.float64)
