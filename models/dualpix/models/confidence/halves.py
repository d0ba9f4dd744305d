"""What is wrong with a pair of halves as a whole: things that no estimate of disparity can be right about.

Convention: views are linear, baseline along x; shifts are ``x_right - x_left`` and ``y_right - y_left`` in pixels of
the views. They are compared on cells of ``CELL_PX``, as square roots of light without what varies slowly, by normalised
correlation over their overlap at every shift along the baseline of up to half their size: far beyond the reach of any
network or matcher, which finds *some* shift within its own range whatever lies outside. Tiles of the picture are
compared likewise, so that one near thing is found too.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import cv2
import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from dualpix.capture.types import FloatImage, Mask

Code = Literal[
    "no_light", "one_half_dark", "clipped", "same_picture", "beyond_reach", "across_baseline", "unrelated",
    "no_texture", "no_fit", "outside_training", "other_calibration", "metres_unsure", "lens_misfit",
]  # fmt: skip
Floats = npt.NDArray[np.float64]
Shifts = npt.NDArray[np.intp]

CELL_PX = 4
_TILES = (3, 4)
_LEAST_TILE_CELLS = 12
_SLOW_CELLS = 6.0
_MOST_ACROSS_CELLS = 8
_MEAN_LEVEL = 0.18
_DARK = 1e-3
_SAME = 1e-3
"""Difference over contrast below which two pictures are one: the noise of any sensor is ten times as much."""
_ONE_DARK = 0.1
"""Decoding has made both equally bright, up to a factor of 4."""
_MOSTLY = 0.5
_MATCHES = 0.5
"""Correlation of views that show the same; of unrelated ones it is below 0.35 at the best shift."""
_BETTER = 0.2
_RELATED = 0.35
_ACROSS_PX = 1.0
_STEEP = 0.1
_OWN_TEXTURE = 0.3


@dataclass(frozen=True)
class Finding:
    """One thing that a user must know about a result."""

    code: Code
    text: str
    """One line."""


@dataclass(frozen=True)
class Pair:
    """What the halves are as a whole."""

    findings: tuple[Finding, ...]
    usable: bool
    """False where they hold no disparity at all: no light, or one picture twice."""
    beyond: Mask
    """(rows, columns) of equal tiles: True where the halves match best at a shift beyond the reach."""


def examine(
    left: FloatImage,
    right: FloatImage,
    clipped: Mask,
    reach_px: float,
    *,
    reach_of: str = "of the method",
    view_px_per_px: float = 1.0,
) -> Pair:
    """Look at a pair of working views.

    Args:
        left: (H, W) linear working view, baseline along x.
        right: the other one.
        clipped: (H, W) True where either is saturated.
        reach_px: largest absolute disparity that the method knows.
        reach_of: whose reach it is, for the text.
        view_px_per_px: pixels of the decoded view in one of the views, for the text.
    """
    nowhere = np.zeros(_TILES, np.bool_)
    if empty := _empty(left, right):
        return Pair((empty,), False, nowhere)
    first, second = _fast_roots(left, right)
    if _same(first, second):
        text = "both halves are the same picture: no disparity can be told"
        return Pair((Finding("same_picture", text),), False, nowhere)
    findings = []
    if clipped.mean() > _MOSTLY:
        findings.append(Finding("clipped", f"{clipped.mean():.0%} of the pixels are clipped"))
    whole, tiles = _matches(first[None], second[None], reach_px), _tile_matches(first, second, reach_px)
    beyond = np.zeros(_TILES, np.bool_) if tiles is None else tiles.beyond.reshape(_TILES)
    if whole.beyond[0] or beyond.any():
        shift_px = whole.shift_px[0] if tiles is None or whole.beyond[0] else np.median(tiles.shift_px[tiles.beyond])
        where = None if whole.beyond[0] else beyond
        findings.append(_beyond(float(shift_px), reach_px, reach_of, view_px_per_px, where))
        beyond |= bool(whole.beyond[0])
    if abs(whole.across_px[0]) >= _ACROSS_PX:
        findings.append(_across(float(whole.across_px[0] * view_px_per_px)))
    return Pair(tuple(findings), True, beyond)


def why_nothing(left: FloatImage, right: FloatImage, support: float) -> Finding:
    """Why next to nothing is measured in a pair that :func:`examine` has no other reason for.

    Args:
        left: (H, W) working view.
        right: the other one.
        support: mean share of windows in which noise would allow a measurement at the disparities that were found.
    """
    first, second = _fast_roots(left, right)
    textured = min(_own_texture(first), _own_texture(second)) > _OWN_TEXTURE
    if textured and float(_correlation(first[None], second[None])[0].max()) < _RELATED:
        return Finding("unrelated", "the halves do not show the same: two different captures, or smoothed noise alone")
    if textured and support > _MOSTLY:
        return Finding("no_fit", "the disparities that were found do not fit the views")
    return Finding("no_texture", "there is no texture along the baseline that stands out of the noise")


def _empty(left: FloatImage, right: FloatImage) -> Finding | None:
    """No light in both halves, or in one."""
    light = [float(np.maximum(view, 0).mean(dtype=np.float64)) for view in (left, right)]
    if max(light) <= 0 or all(float(np.ptp(view)) <= 1e-6 * max(light) for view in (left, right)):
        what = "black" if max(light) <= 0 else "one even level"
        return Finding("no_light", f"both halves are {what}: there is nothing to measure")
    if min(light) < _ONE_DARK * max(light):
        name, share = ("left", light[0] / light[1]) if light[0] < light[1] else ("right", light[1] / light[0])
        return Finding("one_half_dark", f"the {name} half has {share:.1%} of the other's light")
    return None


def _beyond(shift_px: float, reach_px: float, reach_of: str, scale: float, tiles: Mask | None) -> Finding:
    where = "" if tiles is None else f" in {tiles.mean():.0%} of the picture"
    return Finding(
        "beyond_reach",
        f"the halves match best {shift_px * scale:+.0f} px apart{where}, outside the {-reach_px * scale:.0f} ... "
        f"{reach_px * scale:.0f} px {reach_of}",
    )


def _across(across_px: float) -> Finding:
    return Finding(
        "across_baseline",
        f"the halves lie {across_px:+.1f} px apart across the baseline: not of one exposure, or --baseline is wrong",
    )


def _fast_roots(left: FloatImage, right: FloatImage) -> tuple[FloatImage, FloatImage]:
    """Roots of both views on cells, without what varies slowly; one gain each, as halves may differ by a factor."""
    height, width = left.shape
    size = (-(-width // CELL_PX), -(-height // CELL_PX))
    fast = []
    for view in (left, right):
        light = np.maximum(view, 0)
        scaled = light * np.float32(_MEAN_LEVEL / max(float(light.mean(dtype=np.float64)), 1e-12))
        root = np.sqrt(cv2.resize(scaled, size, interpolation=cv2.INTER_AREA) + np.float32(_DARK))
        slow = cv2.GaussianBlur(root, (0, 0), _SLOW_CELLS, borderType=cv2.BORDER_REFLECT)
        fast.append(np.asarray(root - slow, np.float32))
    return fast[0], fast[1]


def _same(first: FloatImage, second: FloatImage) -> bool:
    contrast = float(np.sqrt(np.mean(first**2, dtype=np.float64)))
    return float(np.sqrt(np.mean((first - second) ** 2, dtype=np.float64))) < _SAME * contrast


def _own_texture(view: FloatImage) -> float:
    """Correlation of the derivative along the baseline with that of the row below: 0 of noise."""
    border = min(2 * round(_SLOW_CELLS), min(view.shape) // 4)  # where the slow part is uncertain
    slope = np.diff(view[border : view.shape[0] - border, border : view.shape[1] - border], axis=1)
    energy = max(float(np.mean(slope**2, dtype=np.float64)), 1e-12)
    return float(np.mean(slope[1:] * slope[:-1], dtype=np.float64)) / energy


@dataclass(frozen=True)
class _Matches:
    """Of each of T pictures."""

    beyond: Mask
    """(T,) it matches better beyond the reach than within."""
    shift_px: Floats
    """(T,) the best shift beyond the reach."""
    across_px: Floats
    """(T,) across the baseline, of the best match; 0 where there is none, or none in particular."""


def _tile_matches(first: FloatImage, second: FloatImage, reach_px: float) -> _Matches | None:
    rows, columns = _TILES
    height, width = (n // parts for n, parts in zip(first.shape, _TILES, strict=True))
    if min(height, width) < _LEAST_TILE_CELLS:
        return None
    one, other = (
        view[: rows * height, : columns * width]
        .reshape(rows, height, columns, width)
        .swapaxes(1, 2)
        .reshape(-1, height, width)
        for view in (first, second)
    )
    return _matches(one, other, reach_px)


def _matches(first: FloatImage, second: FloatImage, reach_px: float) -> _Matches:
    """Of (T, h, w) pictures."""
    correlation, dy, dx = _correlation(first, second)
    count = len(correlation)
    outside = np.abs(dx) * CELL_PX > reach_px + CELL_PX / 2
    upright = np.abs(dy) <= 1
    within = correlation[:, upright][:, :, ~outside].reshape(count, -1).max(axis=1)
    far = correlation[:, upright][:, :, outside].max(axis=1, initial=-1.0)
    best = far.max(axis=1, initial=-1.0)
    shift = dx[outside][far.argmax(axis=1)] if outside.any() else np.zeros(count)
    return _Matches(
        (best >= _MATCHES) & (best >= within + _BETTER),
        shift.astype(np.float64) * CELL_PX,
        np.array([_across_cells(one, dy) for one in correlation]) * CELL_PX,
    )


def _across_cells(correlation: FloatImage, dy: npt.NDArray[np.intp]) -> float:
    """Shift across the baseline of the best match; 0 unless the correlation falls on both sides of it."""
    row, column = np.unravel_index(int(correlation.argmax()), correlation.shape)
    along = correlation[:, column]
    if along[row] < _MATCHES or not 2 <= row < len(dy) - 2:
        return 0.0
    low, top, high = (float(along[row + k]) for k in (-1, 0, 1))
    if max(float(along[row - 2]), float(along[row + 2])) > top - _STEEP:
        return 0.0
    return float(dy[row]) + 0.5 * (low - high) / min(low - 2 * top + high, -1e-6)


def _correlation(
    first: FloatImage, second: FloatImage
) -> tuple[FloatImage, npt.NDArray[np.intp], npt.NDArray[np.intp]]:
    """Normalised correlation of (T, h, w) pictures over their overlap, (T, shifts in y, in x), and the shifts."""
    height, width = first.shape[1:]
    size = (2 * height, 2 * width)

    def transform(values: FloatImage) -> Tensor:
        out: Tensor = torch.fft.rfft2(torch.from_numpy(np.ascontiguousarray(values)), s=size)
        return out

    def correlate(one: Tensor, other: Tensor) -> FloatImage:
        out: FloatImage = torch.fft.irfft2(one.conj() * other, s=size).numpy()
        return out

    everywhere = transform(np.ones_like(first[:1]))
    product = correlate(transform(first), transform(second))
    energies = correlate(transform(first**2), everywhere), correlate(everywhere, transform(second**2))
    floor = 1e-6 * float(max(np.max(e) for e in energies)) + 1e-12
    normalised = product / np.sqrt(np.maximum(energies[0], floor) * np.maximum(energies[1], floor))
    dy = np.arange(-min(_MOST_ACROSS_CELLS, height // 2), min(_MOST_ACROSS_CELLS, height // 2) + 1)
    dx = np.arange(-(width // 2), width // 2 + 1)
    return normalised[:, dy[:, None], dx[None]], dy, dx
