"""Synthetic sensor frames of a dual-pixel camera with a known disparity."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
import numpy.typing as npt

from dualpix.capture.raw.dng import Crop

Frame = npt.NDArray[np.uint16]
Image = npt.NDArray[np.float32]
CROP = Crop(24, 16, 256, 168)
SIZE_HW = (192, 288)
CHANNEL_GAIN = ((0.6, 1.0), (1.0, 0.7))  # R G / G B


@dataclass(frozen=True)
class SensorFrames:
    """What the sensor reads out, and the noise-free truth in raw counts above black."""

    composite: Frame
    half: Frame
    left: Image
    right: Image
    disparity_px: float
    """x_right - x_left in sensor pixels."""


def sensor_frames(
    *,
    disparity_px: float = 6.0,
    black: tuple[int, int] = (512, 512),
    highlight: float = 0.0,
    shading: float = 0.0,
    read_noise: float = 2.0,
    white: int = 16383,
    crop: Crop = CROP,
    seed: int = 0,
) -> SensorFrames:
    """Two half-aperture mosaics of a random texture; frame 1 is the left half.

    A pattern at x in focus appears at x - d/2 in the left half and at x + d/2 in the right one. Outside ``crop`` the
    pixels are masked. ``highlight`` adds a bright block; ``shading`` tilts left against right.
    """
    height, width = SIZE_HW
    rng = np.random.default_rng(seed)
    texture = cv2.GaussianBlur(rng.random((height, width)).astype(np.float32), (0, 0), 2.5)
    scene = 0.2 + 0.8 * (texture - texture.min()) / np.ptp(texture)
    scene[80:96, 120:144] += highlight
    y, x = np.mgrid[0:height, 0:width].astype(np.float32)
    gain = np.tile(np.float32(CHANNEL_GAIN), (height // 2, width // 2)) * 4000
    tilt = shading * (x / width - 0.5)

    def seen(offset_px: float) -> Image:
        return cv2.remap(scene, x + offset_px, y, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REFLECT)

    left = seen(disparity_px / 2) * gain * (1 + tilt)
    right = seen(-disparity_px / 2) * gain * (1 - tilt)
    masked = np.ones(SIZE_HW, bool)
    masked[crop.top : crop.top + crop.height, crop.left : crop.left + crop.width] = False
    left[masked] = right[masked] = 0

    def read_out(light: Image, index: int) -> Frame:
        noisy = light + black[index] + rng.normal(0, read_noise, SIZE_HW)
        return np.clip(np.round(noisy), 0, white).astype(np.uint16)

    return SensorFrames(read_out(left + right, 0), read_out(left, 1), left, right, disparity_px)


def shift_between(left: Image, right: Image) -> tuple[float, float]:
    """(x, y) of right against left in pixels, by phase correlation of the central part."""
    planes = [v if v.ndim == 2 else v[..., 1] for v in (left, right)]
    height, width = planes[0].shape
    centre = (slice(height // 8, -height // 8), slice(width // 8, -width // 8))
    a, b = (np.ascontiguousarray(p[centre] / p[centre].mean() - 1, np.float32) for p in planes)
    (dx, dy), _ = cv2.phaseCorrelate(a, b, cv2.createHanningWindow(a.shape[::-1], cv2.CV_32F))
    return float(dx), float(dy)
