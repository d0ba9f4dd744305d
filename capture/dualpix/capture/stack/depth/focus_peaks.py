"""Where each pixel of a sweep is sharpest, and how far that can be trusted: depth from focus by sharpness alone.

Convention: focus and depths are *places* on the axis of the sweep, rising: diopters, or numbers of frames where no
distance is known. Frames are compared as square roots of light, in which noise is even. Sharpness is the squared
gradient, summed over a window, noise cancelled as in :mod:`.sharpness`. Between frames its peak is that of a parabola
through the reciprocals, which the law of blur makes nearly one. What has no peak is filled from what has, along edges,
by a guided filter (He, Sun and Tang, TPAMI 2013) weighted with the contrast.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt

from dualpix.capture.types import FloatImage

Places = npt.NDArray[np.float64]

WINDOW_PX = 15
"""Over which sharpness is summed."""
LIGHT_FLOOR = 1e-4
"""Light below which the square root is not steep."""
_NOTHING = 10.0
_LEAST_RISE = np.float32(0.5)
_GUIDE_RADII_PX = (6, 12, 24, 48, 96, 192)
_GUIDE_EPSILON = 1e-3
_NOISE_EVERY = 4


def roots_of(grays: FloatImage) -> FloatImage:
    """Square roots of light, as frames are compared."""
    return np.sqrt(np.maximum(grays, 0) + np.float32(LIGHT_FLOOR))


def window_sums(roots: FloatImage, window_px: int = WINDOW_PX) -> FloatImage:
    """(N, H, W) sharpness of (N, H, W) frames over a window, > 0."""
    sums = np.empty_like(roots)
    for root, out in zip(roots, sums, strict=True):
        np.maximum(cv2.blur(_products(root), (window_px, window_px)), np.float32(1e-10), out=out)
    return sums


def _products(root: FloatImage) -> FloatImage:
    """(H, W) squared gradient from the product of neighbouring rows and columns, each shared between its two."""
    along_x = np.pad(0.5 * (root[:, 2:] - root[:, :-2]), ((0, 0), (1, 1)))
    along_y = np.pad(0.5 * (root[2:] - root[:-2]), ((1, 1), (0, 0)))
    in_x, in_y = 0.5 * along_x[1:] * along_x[:-1], 0.5 * along_y[:, 1:] * along_y[:, :-1]
    out = np.zeros_like(root)
    out[:-1] += in_x
    out[1:] += in_x
    out[:, :-1] += in_y
    out[:, 1:] += in_y
    return out


def peaks(volume: FloatImage, focus: Places) -> FloatImage:
    """(H, W) place of the peak of sharpness (N, H, W)."""
    best = np.argmax(volume, axis=0)
    inner = np.clip(best, 1, len(volume) - 2)
    low, top, high = (
        -1.0 / np.take_along_axis(volume, (inner + k)[None], axis=0)[0].astype(np.float64) for k in (-1, 0, 1)
    )
    offset = parabola_peak(focus[inner - 1] - focus[inner], focus[inner + 1] - focus[inner], low - top, high - top)
    found = np.where(best == inner, focus[inner] + offset, focus[best])
    return np.asarray(found, np.float32)


def parabola_peak(x_low: Any, x_high: Any, y_low: npt.NDArray[Any], y_high: npt.NDArray[Any]) -> npt.NDArray[Any]:
    """Where the parabola through (x_low, y_low), (0, 0), (x_high, y_high) peaks, 0 where it does not; x_low < 0."""
    scale = x_low * x_high * (x_low - x_high)
    bend = (x_high * y_low - x_low * y_high) / scale
    slope = (x_low**2 * y_high - x_high**2 * y_low) / scale
    peaked = bend < 0
    return np.clip(np.where(peaked, -slope / np.where(peaked, 2 * bend, 1), 0), x_low / 2, x_high / 2)


@dataclass(frozen=True)
class Rise:
    """How far the peak of sharpness rises out of what is typical of a pixel over the stack."""

    height: FloatImage
    """(H, W) of the peak over the median."""
    chance: FloatImage
    """(H, W) of what noise makes."""
    typical: FloatImage
    """(H, W) the median."""

    @property
    def contrast(self) -> FloatImage:
        """(H, W) in 0 ... 1: the height, against chance."""
        return np.asarray(self.height / (self.height + self.chance), np.float32)

    @property
    def confidence(self) -> FloatImage:
        """(H, W) in 0 ... 1: as :attr:`contrast`, and the peak has to be 1.5 times what is typical to be at 0.5, which
        noise of neighbouring pixels that is alike, as JPEG and demosaicing make it, seldom is."""
        return np.asarray(self.height / (self.height + self.chance + _LEAST_RISE * self.typical), np.float32)


def rise(volume: FloatImage, noise: float) -> Rise:
    """Of sharpness (N, H, W) summed over a window.

    A window of gradients g with noise n has g^2 + 2 g n + n^2; the mean over the window of either of the last two is
    off by some ``1 / WINDOW_PX`` of it.
    """
    typical = np.median(np.ascontiguousarray(np.moveaxis(volume, 0, -1)), axis=-1)
    chance = np.float32(_NOTHING / WINDOW_PX * noise) * (np.float32(noise) + np.sqrt(typical))
    return Rise(volume.max(axis=0) - typical, chance, typical)


def noise_of(roots: FloatImage) -> float:
    """Standard deviation of the noise in the square roots, by Immerkaer's mask, where there is least else to see."""
    mask = np.array([[1, -2, 1], [-2, 4, -2], [1, -2, 1]], np.float32) / 6.0
    every = slice(None, None, _NOISE_EVERY)
    spreads = [float(np.median(np.abs(cv2.filter2D(root, cv2.CV_32F, mask)[every, every]))) for root in roots]
    return 1.4826 * min(spreads) + 1e-5


def filled(places: FloatImage, trust: FloatImage, roots: FloatImage, kept: FloatImage) -> FloatImage:
    """Places, and what others say of them along edges: by ever wider guided filters.

    Args:
        places: (H, W).
        trust: (H, W) in 0 ... 1, how much others heed a place.
        roots: (N, H, W), whose mean guides.
        kept: (H, W) share of a place that it keeps; clipped to 0 ... 1.
    """
    guide = np.asarray(roots.mean(axis=0), np.float32)
    weight = np.maximum(trust, 1e-4) ** 4
    gathered, found = np.zeros_like(places), np.zeros_like(places)
    for radius in _GUIDE_RADII_PX:
        window = (2 * radius + 1, 2 * radius + 1)
        support = cv2.blur(weight, window)
        share = np.clip(support / 0.05, 0.0, 1.0) * (1.0 - found)
        gathered += share * guided_filter(guide, places, weight, radius)
        found += share
        if min(guide.shape) < 4 * radius:
            break
    smooth = (gathered + LIGHT_FLOOR * np.float32(np.median(places))) / (found + LIGHT_FLOOR)
    own = np.clip(kept, 0.0, 1.0)
    return np.asarray(own * places + (1 - own) * smooth, np.float32)


def guided_filter(guide: FloatImage, values: FloatImage, weight: FloatImage, radius: int) -> FloatImage:
    """Values (H, W) as the locally affine function of the guide that fits them best, in weighted least squares."""
    window = (2 * radius + 1, 2 * radius + 1)

    def mean(image: FloatImage) -> FloatImage:
        return np.asarray(cv2.blur(image, window), np.float32)

    total = mean(weight) + np.float32(1e-9)
    mean_guide, mean_values = mean(weight * guide) / total, mean(weight * values) / total
    covariance = mean(weight * guide * values) / total - mean_guide * mean_values
    variance = np.maximum(mean(weight * guide * guide) / total - mean_guide**2, 0)
    slope = covariance / (variance + np.float32(_GUIDE_EPSILON))
    offset = mean_values - slope * mean_guide
    spread = mean(total)
    return np.asarray((mean(slope * total) * guide + mean(offset * total)) / spread, np.float32)
