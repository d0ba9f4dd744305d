"""Disparity of rectified pictures: semi-global matching, refined below the pixel, checked from both sides.

Convention: disparity = x_a - x_b of rectified px, > 0 before infinity (:mod:`dualpix.capture.rig.labels.rectify`); NaN
where there is none. One standard deviation says how sure it is.

The matcher finds whole pixels, a least-squares step (Lucas & Kanade 1981, along the row, gain and offset removed) the
rest. Its variance follows from the residuals and the texture of its window: ``s^2 / (n <g^2>)``. To it are added what
the check from the other side disagrees by, and how much disparity varies over the window.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Protocol

import cv2
import numpy as np
import numpy.typing as npt

from dualpix.capture.errors import DualpixError
from dualpix.capture.rig.labels import visibility
from dualpix.capture.rig.labels.visibility import EDGE_PX, filled
from dualpix.capture.types import FloatImage, Mask

Gray = npt.NDArray[np.uint8]

LEFT_RIGHT_PX = 1.0
"""Disagreement of the two sides beyond which there is no match."""
_WINDOW_SIGMA_PX = 2.0
_WINDOW_PIXELS = 4 * np.pi * _WINDOW_SIGMA_PX**2
_STEPS = 4
_MOST_STEP_PX, _MOST_SHIFT_PX = 0.5, 1.0
_FLOOR_PX = 0.04
_GRAIN_BINS, _GRAIN_PERCENTILE = 12, 25
_NOISE_SIGMAS = 3.0
_NOISE_FACTOR = 1.6
"""Measured on simulated scenes (docs/rig.md): neither noise nor texture is the same all over a window."""
_SPREAD_SHARE, _CHECK_SHARE = 0.35, 0.5
_MOST_SIGMA_PX = 0.6
"""Less sure ones are no labels."""
_LEAST_GRADIENT = 1e-3
_FULL_SEARCH_BYTES = 1 << 30
_BLOCK_PX, _UNIQUE_PERCENT = 5, 5
_SPECKLE_PX, _SPECKLE_STEP_PX = 60, 1
_GAP_PX = 9
_HIDING_SIGMA_PX = 2.0
"""What is matched worse than so, by its texture alone, hides nothing: it may be noise."""


class Matcher(Protocol):
    """Anything that gives the disparity of two rectified pictures."""

    @property
    def name(self) -> str:
        """For the record."""
        ...

    def disparity_px(self, left: Gray, right: Gray, most_px: int) -> FloatImage:
        """(H, W) of the left picture, ``x_left - x_right``, 0 to ``most_px``; NaN where there is none."""
        ...


@dataclass(frozen=True)
class SemiGlobal:
    """OpenCV's semi-global matching (Hirschmüller, TPAMI 2008), eight directions where memory allows."""

    name: str = "semi-global matching"

    def disparity_px(self, left: Gray, right: Gray, most_px: int) -> FloatImage:
        """See :class:`Matcher`."""
        reach = -(-(most_px + 1) // 16) * 16
        border = reach + _BLOCK_PX  # a search that leaves the picture would take its columns away
        height, width = left.shape
        whole = height * (width + border) * reach * 2 * 2 <= _FULL_SEARCH_BYTES
        matcher = cv2.StereoSGBM.create(
            minDisparity=0,
            numDisparities=reach,
            blockSize=_BLOCK_PX,
            P1=8 * _BLOCK_PX**2,
            P2=32 * _BLOCK_PX**2,
            uniquenessRatio=_UNIQUE_PERCENT,
            mode=cv2.STEREO_SGBM_MODE_HH if whole else cv2.STEREO_SGBM_MODE_SGBM_3WAY,
        )
        padded = [np.pad(view, ((0, 0), (border, 0)), mode="edge") for view in (left, right)]
        steps = matcher.compute(*padded)[:, border:].copy()
        cv2.filterSpeckles(steps, -16, _SPECKLE_PX, 16 * _SPECKLE_STEP_PX)
        found = np.where(steps >= 0, steps.astype(np.float32) / 16, np.float32(np.nan))
        return np.asarray(found, np.float32)


@dataclass(frozen=True)
class StereoMatch:
    """Disparity of a rectified pair, and what is not known of it; all (H, W) of rectified a."""

    disparity_px: FloatImage
    """NaN where there is no label."""
    sigma_px: FloatImage
    unseen: Mask
    """What b does not see: hidden behind something nearer, or beyond its picture."""
    untextured: Mask
    """Seen by b as far as is known, and without enough texture for any match; no label either."""


def match(left: Gray, right: Gray, inside: Mask, right_inside: Mask, most_px: int, matcher: Matcher) -> StereoMatch:
    """Match both ways and keep what agrees.

    Args:
        left: (H, W) rectified picture of a.
        right: of b.
        inside: where a's picture has pixels.
        right_inside: where b's has.
        most_px: largest disparity, of the nearest thing.
        matcher: what finds whole pixels.
    """
    of_left = _checked(matcher, left, right, most_px)
    of_right = _checked(matcher, right[:, ::-1], left[:, ::-1], most_px)[:, ::-1]
    of_left = np.where(inside, of_left, np.nan).astype(np.float32)
    of_right = np.where(right_inside, of_right, np.nan).astype(np.float32)
    apart = np.abs(of_left - _at(of_right, of_left))
    agreeing = np.where(apart <= LEFT_RIGHT_PX, of_left, np.nan).astype(np.float32)
    refined, sigma, of_texture = _refined(left, right, agreeing, apart)
    unseen = visibility.unseen(agreeing, of_texture <= _HIDING_SIGMA_PX, inside, right_inside)
    sure = np.isfinite(refined) & (sigma <= _MOST_SIGMA_PX) & ~unseen
    sure &= ~visibility.beside_edges(agreeing) & ~_beside_gaps(sure)
    untextured = inside & ~sure & ~unseen & (_best_sigma(left) > _MOST_SIGMA_PX)
    return StereoMatch(np.where(sure, refined, np.nan).astype(np.float32), sigma, unseen, np.asarray(untextured))


def _checked(matcher: Matcher, left: Gray, right: Gray, most_px: int) -> FloatImage:
    left, right = np.ascontiguousarray(left), np.ascontiguousarray(right)
    found = np.asarray(matcher.disparity_px(left, right, most_px), np.float32)
    if found.shape != left.shape:
        raise DualpixError(
            f"'{matcher.name}' gives disparities of {found.shape} for pictures of {left.shape}",
            expected="the same size",
        )
    with np.errstate(invalid="ignore"):
        return np.where((found >= 0) & (found <= most_px + 16), found, np.nan).astype(np.float32)


def _at(values: FloatImage, disparity_px: FloatImage) -> FloatImage:
    """(H, W) ``values`` of b's picture where a's pixels are seen, the nearest; NaN beyond it."""
    width = values.shape[1]
    column = np.arange(width) - np.rint(np.nan_to_num(disparity_px, nan=10.0 * width))
    there = (column >= 0) & (column < width)
    picked = np.take_along_axis(values, np.clip(column, 0, width - 1).astype(np.intp), axis=1)
    return np.where(there, picked, np.nan).astype(np.float32)


def _refined(
    left: Gray, right: Gray, start: FloatImage, apart: FloatImage
) -> tuple[FloatImage, FloatImage, FloatImage]:
    """Disparity below the pixel, its standard deviation, and the part of that which noise and texture alone make."""
    first, second = left.astype(np.float32), right.astype(np.float32)
    y, x = np.mgrid[0 : left.shape[0], 0 : left.shape[1]].astype(np.float32)
    known = np.isfinite(start)
    whole = filled(start)
    disparity = whole.copy()
    slope = cv2.Sobel(second, cv2.CV_32F, 1, 0, ksize=1, scale=0.5)
    residual: npt.NDArray[Any] = np.zeros_like(first)
    gradient: npt.NDArray[Any] = residual
    middle = first - _blurred(first)
    for _ in range(_STEPS):
        seen, steep = (
            cv2.remap(v, x - disparity, y, cv2.INTER_CUBIC, borderMode=cv2.BORDER_REPLICATE) for v in (second, slope)
        )
        other = seen - _blurred(seen)
        gain = np.clip(_blurred(middle * other) / np.maximum(_blurred(other * other), 1e-3), 0.5, 2.0)
        residual, gradient = middle - gain * other, gain * (steep - _blurred(steep))
        step = -_blurred(gradient * residual) / np.maximum(_blurred(gradient**2), _LEAST_GRADIENT)
        moved = disparity + np.clip(step, -_MOST_STEP_PX, _MOST_STEP_PX)
        disparity = np.clip(moved, whole - _MOST_SHIFT_PX, whole + _MOST_SHIFT_PX).astype(np.float32)
    grain = np.maximum(_grain(first), _grain(second))
    noise = _NOISE_FACTOR**2 * _match_variance(gradient, np.maximum(_blurred(residual**2), 2 * grain), grain)
    even = _blurred(whole)
    spread = np.maximum(_blurred(whole**2) - even**2, 0) - _slant(whole)
    check = np.nan_to_num(apart, nan=LEFT_RIGHT_PX) ** 2
    variance = noise + _FLOOR_PX**2 + _SPREAD_SHARE**2 * np.maximum(spread, 0) + _CHECK_SHARE**2 * check
    refined = np.where(known, disparity, np.nan).astype(np.float32)
    return refined, np.sqrt(variance).astype(np.float32), np.sqrt(noise).astype(np.float32)


def _match_variance(gradient: FloatImage, residual: FloatImage, grain: FloatImage) -> FloatImage:
    """px^2 of a least-squares match, of the slopes and the mean square of the residuals over its window."""
    # what of the slope is noise says nothing of where a thing is
    texture = _blurred(gradient**2) - (0.5 + _NOISE_SIGMAS / np.sqrt(2 * _WINDOW_PIXELS)) * grain
    return np.asarray(residual / (_WINDOW_PIXELS * np.maximum(texture, _LEAST_GRADIENT)), np.float32)


def _best_sigma(picture: Gray) -> FloatImage:
    """px that a perfect match of this texture and noise would be sure to."""
    light = picture.astype(np.float32)
    grain = _grain(light)
    slope = cv2.Sobel(light, cv2.CV_32F, 1, 0, ksize=1, scale=0.5)
    variance = _match_variance(np.asarray(slope - _blurred(slope), np.float32), 2 * grain, grain)
    return np.asarray(_NOISE_FACTOR * np.sqrt(variance), np.float32)


def _grain(picture: FloatImage) -> FloatImage:
    """Variance of the noise at each pixel, by brightness: what is left of the smoothest places by a mask that passes
    no plane (Immerkaer 1996)."""
    mask = np.array([[1, -2, 1], [-2, 4, -2], [1, -2, 1]], np.float32) / 6
    # running sums leave a little less than nothing where there is nothing
    local = np.maximum(cv2.boxFilter(cv2.filter2D(picture, cv2.CV_32F, mask) ** 2, -1, (9, 9)), 0)
    level = np.clip(_blurred(picture), 0, 255)
    edges = np.unique(np.percentile(level, np.linspace(0, 100, _GRAIN_BINS + 1)))
    if len(edges) < 3:
        return np.full_like(picture, float(np.percentile(local, _GRAIN_PERCENTILE)))
    bins = np.clip(np.searchsorted(edges, level) - 1, 0, len(edges) - 2)
    values = [
        float(np.percentile(local[bins == n], _GRAIN_PERCENTILE)) if (bins == n).any() else 0
        for n in range(len(edges) - 1)
    ]
    return np.asarray(np.interp(level, (edges[1:] + edges[:-1]) / 2, values), np.float32)


def _slant(disparity_px: FloatImage) -> FloatImage:
    """Variance that a slanted plane alone has over the window."""
    even = _blurred(disparity_px)
    dy, dx = np.gradient(even)
    return np.asarray(_WINDOW_SIGMA_PX**2 * (np.minimum(dx**2, 0.25) + np.minimum(dy**2, 0.25)), np.float32)


def _beside_gaps(sure: Mask) -> Mask:
    """Around larger parts where nothing is known, as beside edges: one may be hidden in them."""
    small, reach = (cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (n, n)) for n in (_GAP_PX, 2 * EDGE_PX + 1))
    gaps = cv2.morphologyEx((~sure).astype(np.uint8), cv2.MORPH_OPEN, small)
    return np.asarray(cv2.dilate(gaps, reach) > 0)


def _blurred(values: npt.NDArray[Any]) -> FloatImage:
    return np.asarray(cv2.GaussianBlur(values, (0, 0), _WINDOW_SIGMA_PX), np.float32)
