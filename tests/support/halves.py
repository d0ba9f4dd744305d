"""Synthetic sensor frames of a dual-pixel camera with a known disparity."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
import numpy.typing as npt

from dualpix.capture.raw.develop.geometry import Crop

Frame = npt.NDArray[np.uint16]
Image = npt.NDArray[np.float32]
CROP = Crop(24, 16, 256, 168)
SIZE_HW = (192, 288)
CHANNEL_GAIN = ((0.6, 1.0), (1.0, 0.7))  # R G / G B


Levels = int | tuple[int, int, int, int]
"""One level, or four in cell order R, G, G, B."""


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
    black: tuple[Levels, Levels] = (512, 512),
    highlight: float = 0.0,
    shading: float = 0.0,
    read_noise: float = 2.0,
    shot_noise: float = 0.0,
    white: Levels | tuple[Levels, Levels] = 16383,
    full: float = 4000.0,
    crop: Crop = CROP,
    size_hw: tuple[int, int] = SIZE_HW,
    seed: int = 0,
) -> SensorFrames:
    """Two half-aperture mosaics of a random texture; frame 1 is the left half.

    A pattern at x in focus appears at x - d/2 in the left half and at x + d/2 in the right one. Outside ``crop`` the
    pixels are masked. ``highlight`` adds a bright block; ``shading`` tilts left against right. ``black`` is that of
    frames 0 and 1, and so is ``white``, where they clip, if it is a pair. ``full`` are the counts of a white object in
    a half; ``shot_noise`` are the counts of variance per count of light.
    """
    height, width = size_hw
    rng = np.random.default_rng(seed)
    texture = cv2.GaussianBlur(rng.random(size_hw).astype(np.float32), (0, 0), 2.5)
    scene = 0.2 + 0.8 * (texture - texture.min()) / np.ptp(texture)
    rows, columns = (slice(n * 5 // 12, n // 2) for n in (height, width))
    scene[rows, columns] += highlight
    x = np.arange(width, dtype=np.float32)
    gain = np.tile(np.array(CHANNEL_GAIN, np.float32), (height // 2, width // 2)) * np.float32(full)
    tilt = np.float32(shading) * (x / width - np.float32(0.5))
    picture = np.zeros(size_hw, np.float32)
    picture[crop.top : crop.top + crop.height, crop.left : crop.left + crop.width] = 1
    gain *= picture
    whites = white if isinstance(white, tuple) and len(white) == 2 else (white, white)

    def seen(offset_px: float) -> Image:
        place = np.array([[1, 0, offset_px], [0, 1, 0]], np.float32)
        how = cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP
        return cv2.warpAffine(scene, place, (width, height), flags=how, borderMode=cv2.BORDER_REFLECT)

    left = seen(disparity_px / 2) * gain * (1 + tilt)
    right = seen(-disparity_px / 2) * gain * (1 - tilt)

    def read_out(light: Image, index: int) -> Frame:
        noise = rng.standard_normal(size_hw)
        noise *= np.sqrt(read_noise**2 + shot_noise * light) if shot_noise else read_noise
        level = np.round(light + mosaic_of(black[index], size_hw) + noise)
        return np.clip(level, 0, mosaic_of(whites[index], size_hw)).astype(np.uint16)

    return SensorFrames(read_out(left + right, 0), read_out(left, 1), left, right, disparity_px)


def mosaic_of(levels: Levels, size_hw: tuple[int, int]) -> Image:
    """The level of each pixel, (H, W) or (1, 1)."""
    if isinstance(levels, int):
        return np.full((1, 1), levels, np.float32)
    return np.tile(np.array(levels, np.float32).reshape(2, 2), (size_hw[0] // 2, size_hw[1] // 2))


def shift_between(left: Image, right: Image) -> tuple[float, float]:
    """(x, y) of right against left in pixels, by phase correlation of the central part."""
    planes = [v if v.ndim == 2 else v[..., 1] for v in (left, right)]
    height, width = planes[0].shape
    centre = (slice(height // 8, -height // 8), slice(width // 8, -width // 8))
    a, b = (np.ascontiguousarray(p[centre] / p[centre].mean() - 1, np.float32) for p in planes)
    (dx, dy), _ = cv2.phaseCorrelate(a, b, cv2.createHanningWindow(a.shape[::-1], cv2.CV_32F))
    return float(dx), float(dy)
