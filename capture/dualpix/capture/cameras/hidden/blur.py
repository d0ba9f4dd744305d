"""Layers blurred by the halves of a disc, and laid over each other.

Convention: a half is the disc times ``1 -/+ g x``, as in :class:`~dualpix.capture.render.PsfModel`, which the tests
hold this against; it is written anew here, for speed and because importing torch takes longer than a whole capture.
Edges of what is near spread over what is far, never the reverse.
"""

from __future__ import annotations

import math
from functools import lru_cache

import cv2
import numpy as np
import numpy.typing as npt

from dualpix.capture import optics
from dualpix.capture.cameras.hidden.scene import Layer
from dualpix.capture.types import FloatImage, LensModel

LUMINANCE = np.array([0.2126, 0.7152, 0.0722], np.float32)
"""Of linear R, G, B."""
_KERNEL_SAMPLES = 5  # odd: one lies at the centre


@lru_cache(maxsize=512)
def half_disc_kernels(circle_px: float, gain: float) -> tuple[FloatImage, FloatImage]:
    """Left and right kernels (S, S), S odd, each of sum 0.5, of a disc with a pixel's edge.

    Args:
        circle_px: signed diameter, > 0 behind the focus plane, where the right half's light lands right.
        gain: distance of the two centroids over the diameter; up to 0.25, which a straight ramp reaches.
    """
    radius = abs(circle_px) / 2
    size = 2 * math.ceil(radius + 0.5) + 1
    pixels = np.arange(size) - size // 2
    axis = (np.arange(size * _KERNEL_SAMPLES) - size * _KERNEL_SAMPLES // 2) / _KERNEL_SAMPLES
    disc = np.clip((radius - np.hypot(axis[:, None], axis[None])) * _KERNEL_SAMPLES + 0.5, 0, 1)
    disc = disc / disc.sum()
    # the distance of the centroids of 1 + g x and 1 - g x is 2 g <x^2>
    slope = gain * circle_px / (2 * max(float((disc * axis[None] ** 2).sum()), 1e-9))
    ramp = np.clip(slope * axis, -1, 1)[None]
    # each sample is shared between the pixels beside it, which keeps the centroid
    share = np.clip(1 - np.abs(pixels[:, None] - axis[None]), 0, 1)
    left, right = (share @ (disc * (1 + side * ramp)) @ share.T for side in (-1, 1))
    return _light(left, 0.5), _light(right, 0.5)


def _light(kernel: npt.NDArray[np.float64], total: float) -> FloatImage:
    return np.asarray(kernel * (total / kernel.sum()), np.float32)


def blur_circle_px(diopters: float, model: LensModel) -> float:
    """Signed diameter of the blur at a depth, > 0 behind the focus plane."""
    return float(optics.circle_of_confusion_px(1 / diopters, model))


def padded_by(planes: FloatImage, reach: int) -> FloatImage:
    """(H, W, C) with nothing around, ``reach`` px wide."""
    return np.pad(planes, ((reach, reach), (reach, reach), (0, 0)))


def spread_by(planes: FloatImage, kernel: FloatImage) -> FloatImage:
    """Light spread by ``kernel``."""
    # filter2D correlates; light spreads, so the kernel is turned
    turned = np.ascontiguousarray(kernel[::-1, ::-1])
    return np.asarray(cv2.filter2D(planes, cv2.CV_32F, turned, borderType=cv2.BORDER_CONSTANT), np.float32)


def lay_over(canvas: FloatImage, layer: Layer, blurred: FloatImage) -> None:
    """Put a blurred layer (h, w, C + 1), its coverage last, over the canvas (H, W, C)."""
    reach = (blurred.shape[0] - layer.colour.shape[0]) // 2
    top, left = layer.top - reach, layer.left - reach
    rows = slice(max(top, 0), min(top + blurred.shape[0], canvas.shape[0]))
    columns = slice(max(left, 0), min(left + blurred.shape[1], canvas.shape[1]))
    part = blurred[rows.start - top : rows.stop - top, columns.start - left : columns.stop - left]
    window = canvas[rows, columns]
    window *= 1 - part[..., -1:]
    window += part[..., :-1]


def magnified(picture: FloatImage, magnification: float, how: int) -> FloatImage:
    """(H, W, ...) enlarged about its centre; what is not known at the border is repeated."""
    height, width = picture.shape[:2]
    x, y = (width - 1) / 2 * (1 - magnification), (height - 1) / 2 * (1 - magnification)
    matrix = np.array([[magnification, 0, x], [0, magnification, y]])
    return np.asarray(
        cv2.warpAffine(picture, matrix, (width, height), flags=how, borderMode=cv2.BORDER_REPLICATE), np.float32
    )
