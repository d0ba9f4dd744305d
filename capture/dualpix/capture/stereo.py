"""The yardstick every network is measured against: semi-global matching (Hirschmüller, TPAMI 2008) of the two halves.

Convention: disparity is ``x_right - x_left`` in px of the arrays given, > 0 behind the focus plane; OpenCV's own is its
negative. Dual-pixel halves are not a stereo pair (their blur kernels are each other's mirror images, not shifted
copies), so matching is a baseline here, not the method.

The setting is one that nobody tuned per scene, so that figures can be compared across papers and releases.
"""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
import numpy.typing as npt

from dualpix.capture.types import FloatImage, Mask


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
