"""The yardsticks that networks are measured against: semi-global matching (Hirschmüller, TPAMI 2008) of the two halves,
and matching of blocks by zero-mean normalised cross-correlation (ZNCC).

Convention: disparity is ``x_right - x_left`` in px of the arrays given, > 0 behind the focus plane; OpenCV's own is its
negative. Dual-pixel halves are not a stereo pair (their blur kernels are each other's mirror images, not shifted
copies), so matching is a baseline here, not the method.

The settings are ones that nobody tuned per scene, so that figures can be compared across papers and releases.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import cv2
import numpy as np
import numpy.typing as npt

from dualpix.capture.types import FloatImage, Mask

_FLAT = 1e-5
"""Standard deviation of a block, of the brightest pixel, below which it is rounding."""


@dataclass(frozen=True)
class SgbmSettings:
    """Parameters of OpenCV's ``StereoSGBM``; penalties are per block pixel as OpenCV's documentation advises."""

    block_px: int = 11
    reach_px: int = 16
    """Disparities from -reach to +reach - 1/16 are searched; a multiple of 8."""
    small_step_penalty: int = 8
    large_step_penalty: int = 32
    encoding_gamma: float = 2.2
    """Views are matched as 8-bit pictures, value ** (1 / gamma), the brightest pixel of both at 255."""


@dataclass(frozen=True)
class ZnccSettings:
    """Of matching by :func:`match_zncc`."""

    block_px: int = 11
    reach_px: int = 16
    """Whole shifts from -reach to +reach are compared."""


def without_clipped(left: FloatImage, right: FloatImage, saturated: Mask) -> tuple[FloatImage, FloatImage]:
    """Halves that agree where light was clipped: both take the mean.

    A clipped pixel says nothing of a disparity, and where a sensor reads the sum and one half (Canon) it says something
    wrong: the other half is what is left of a sum that stopped, down to black in the brightest places.
    """
    if not saturated.any():
        return left, right
    mean = (left + right) * np.float32(0.5)
    return np.where(saturated, mean, left), np.where(saturated, mean, right)


def match_sgbm(left: FloatImage, right: FloatImage, settings: SgbmSettings | None = None) -> tuple[FloatImage, Mask]:
    """Disparity of ``left`` by semi-global matching along x (mode HH, all eight directions, 1/16 px steps).

    Pixels without a match (the outermost ``reach_px`` columns, where the search leaves the picture, and inconsistent
    ones) are filled along their row: linearly between the neighbours that have one, by the nearest at either end; a row
    without any match gets 0, in focus.

    Args:
        left: (H, W) linear half view, equalised with ``right``; highlights unclipped.
        right: (H, W) the other half.
        settings: the yardstick's own where None.

    Returns:
        Disparity (H, W) in px and a mask, True where it was measured rather than filled.
    """
    s = settings or SgbmSettings()
    width = left.shape[1]
    matcher = cv2.StereoSGBM.create(
        minDisparity=-s.reach_px,
        numDisparities=2 * s.reach_px,
        blockSize=s.block_px,
        P1=s.small_step_penalty * s.block_px**2,
        P2=s.large_step_penalty * s.block_px**2,
        mode=cv2.STEREO_SGBM_MODE_HH,
    )
    # OpenCV refuses pictures narrower than its search; a replicated border leaves the real columns as they are.
    border = max(0, 4 * s.reach_px + s.block_px - width)
    first, second = (np.pad(v, ((0, 0), (0, border)), mode="edge") for v in _encode(left, right, s.encoding_gamma))
    steps = matcher.compute(first, second)[:, :width]
    measured = steps > -16 * s.reach_px - 16
    # negated as integers: there is no -0
    return _fill_rows((-steps).astype(np.float32) / 16.0, measured), measured


def match_zncc(left: FloatImage, right: FloatImage, settings: ZnccSettings | None = None) -> tuple[FloatImage, Mask]:
    """Disparity of ``left``: for each block the shift along x with the largest ZNCC, to a fraction of a pixel.

    ZNCC(d) = cov(left(x), right(x + d)) / sqrt(var left(x) var right(x + d)) over a block. A parabola through the
    largest value and its neighbours says the fraction. No smoothness is asked for, and brightness and contrast of the
    halves do not matter. Blocks without texture, and those that match best at an end of the search, are filled as in
    :func:`match_sgbm`.

    Args:
        left: (H, W) linear half view.
        right: (H, W) the other half.
        settings: the yardstick's own where None.

    Returns:
        Disparity (H, W) in px and a mask, True where it was measured rather than filled.
    """
    s = settings or ZnccSettings()
    shifts = range(-s.reach_px, s.reach_px + 1)
    best = np.full(left.shape, -np.inf)
    disparity_px, before, after = np.zeros(left.shape), np.full(left.shape, np.nan), np.full(left.shape, np.nan)
    last = np.full(left.shape, np.nan)
    for shift, score in zip(shifts, _correlations(left, right, s.block_px, shifts), strict=True):
        follows = disparity_px == shift - 1
        after[follows] = score[follows]
        better = score > best
        best[better], disparity_px[better], before[better] = score[better], shift, last[better]
        after[better] = np.nan
        last = score
    bend = before - 2 * best + after
    measured = np.isfinite(best) & (bend < 0)
    fraction = np.divide(0.5 * (before - after), bend, out=np.zeros_like(bend), where=measured)
    return _fill_rows((disparity_px + fraction).astype(np.float32), measured), measured


def _correlations(
    left: FloatImage, right: FloatImage, block_px: int, shifts: range
) -> Iterator[npt.NDArray[np.float64]]:
    """(H, W) ZNCC for each shift; NaN where the block has no texture or the shift leaves the picture."""
    first, second = (view.astype(np.float64) / max(float(np.abs(view).max()), 1e-12) for view in (left, right))

    def of_blocks(values: npt.NDArray[np.float64]) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
        mean = np.asarray(cv2.boxFilter(values, cv2.CV_64F, (block_px, block_px)), np.float64)
        square = cv2.boxFilter(values * values, cv2.CV_64F, (block_px, block_px))
        return mean, np.sqrt(np.maximum(square - mean * mean, 0))

    mean, spread = of_blocks(first)
    columns = np.arange(left.shape[1])
    for shift in shifts:
        inside = (columns + shift >= 0) & (columns + shift < len(columns))
        moved = second[:, np.clip(columns + shift, 0, len(columns) - 1)]
        moved_mean, moved_spread = of_blocks(moved)
        common = cv2.boxFilter(first * moved, cv2.CV_64F, (block_px, block_px)) - mean * moved_mean
        textured = inside & (np.minimum(spread, moved_spread) > _FLAT)
        yield np.divide(common, spread * moved_spread, out=np.full_like(common, np.nan), where=textured)


def _encode(left: FloatImage, right: FloatImage, gamma: float) -> list[npt.NDArray[np.uint8]]:
    brightest = max(float(left.max()), float(right.max()), 1e-6)
    return [np.rint(255.0 * np.clip(v / brightest, 0.0, 1.0) ** (1.0 / gamma)).astype(np.uint8) for v in (left, right)]


def _fill_rows(disparity_px: FloatImage, measured: Mask) -> FloatImage:
    x = np.arange(disparity_px.shape[1])
    filled = np.zeros_like(disparity_px)
    for out, row, known in zip(filled, disparity_px, measured, strict=True):
        if known.any():
            out[:] = np.interp(x, x[known], row[known])
    return filled
