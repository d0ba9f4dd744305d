"""Pictures for people: linear sensor light to an 8-bit display image, and the sRGB curve (IEC 61966-2-1) both ways."""

from __future__ import annotations

from functools import cache
from typing import Any, TypeVar

import cv2
import numpy as np
import numpy.typing as npt

from dualpix.capture.types import Baseline, FloatImage

Pixel = TypeVar("Pixel", np.uint8, np.float32, np.bool_)

_LUMINANCE = np.array([0.2126, 0.7152, 0.0722], np.float32)  # ITU-R BT.709
_BRIGHT_PERCENTILE = 99.0
_BRIGHT_VALUE = 0.85


def to_display(
    image: FloatImage, *, white_balance: tuple[float, float, float] | None = None, exposure: float | None = None
) -> npt.NDArray[np.uint8]:
    """A display-ready picture of a linear image.

    Args:
        image: (H, W) or (H, W, 3) in R, G, B, linear; values outside 0..1 are allowed.
        white_balance: R, G, B multipliers; by default grey-world over the pixels that are neither dark nor clipped.
        exposure: factor before the tone curve; by default the 99th percentile of luminance becomes 0.85.

    Returns:
        uint8 (H, W, 3) in R, G, B order, sRGB curve (IEC 61966-2-1).
    """
    colour = np.repeat(image[..., None], 3, axis=2) if image.ndim == 2 else image
    if image.ndim == 3:
        balance = np.asarray(white_balance or grey_world(image), np.float32)
        # Clipped sensor values are equal in all channels: without a common ceiling they turn magenta.
        ceiling = np.float32(balance.min()) * np.float32(max(1.0, float(colour.max())))
        colour = colour * balance
        np.minimum(colour, ceiling, out=colour)
    if exposure is None:
        bright = float(np.percentile(colour @ _LUMINANCE, _BRIGHT_PERCENTILE))
        exposure = _BRIGHT_VALUE / max(bright, 1e-6)
    # Scaled, rounded and brought above 0 in one pass, which would make endless light black: that is bounded before.
    # 16 linear bits are enough to look up 8 of the curve.
    bounded = np.minimum(colour, np.float32(1 / exposure)).astype(np.float32, copy=False)
    flat = np.ascontiguousarray(bounded).reshape(colour.shape[0], -1)
    codes = cv2.addWeighted(flat, 65535 * exposure, flat, 0.0, 0.0, dtype=cv2.CV_16U)
    return np.asarray(srgb_codes()[codes], np.uint8).reshape(colour.shape)


@cache
def srgb_codes() -> npt.NDArray[np.uint8]:
    """8-bit sRGB codes of 16-bit linear ones: (65536,)."""
    linear = (np.arange(65536) / 65535).astype(np.float32)
    return np.asarray(np.rint(srgb_from_linear(linear) * 255), np.uint8)


def srgb_from_linear(linear: FloatImage) -> FloatImage:
    """Linear light in 0..1 to sRGB code values in 0..1."""
    high = np.float32(1.055) * np.maximum(linear, 0) ** np.float32(1 / 2.4) - np.float32(0.055)
    return np.where(linear <= np.float32(0.0031308), np.float32(12.92) * linear, high).astype(np.float32)


def linear_from_srgb(code: FloatImage) -> FloatImage:
    """sRGB code values in 0..1 to linear light in 0..1: the inverse of :func:`srgb_from_linear`."""
    high = ((np.maximum(code, 0) + np.float32(0.055)) / np.float32(1.055)) ** np.float32(2.4)
    return np.where(code <= np.float32(0.04045), code / np.float32(12.92), high).astype(np.float32)


def square_pixels(
    image: npt.NDArray[Pixel], pixel_aspect: float, baseline: Baseline, *, smooth: bool = False
) -> npt.NDArray[Pixel]:
    """``image`` (H, W, ...) stretched across the baseline by ``pixel_aspect``, so that shapes look as they are.

    Args:
        image: a picture, or a map of the view's size.
        pixel_aspect: of the capture, see :class:`~dualpix.capture.types.CaptureMeta`; 1 returns ``image``.
        baseline: of the capture.
        smooth: interpolate; otherwise values are repeated, so that a map keeps its infinities and edges.
    """
    if pixel_aspect == 1.0:
        return image
    height, width = image.shape[:2]
    size = (width, round(height * pixel_aspect)) if baseline == "x" else (round(width * pixel_aspect), height)
    plain: npt.NDArray[Any] = image.astype(np.uint8) if image.dtype == np.bool_ else image
    how = cv2.INTER_LINEAR if smooth else cv2.INTER_NEAREST
    return np.asarray(cv2.resize(plain, size, interpolation=how)).astype(image.dtype)


def grey_world(image: FloatImage) -> tuple[float, float, float]:
    """R, G, B multipliers that make the mean of the mid-tones grey, green = 1; neutral where a channel has no light."""
    luminance = image @ _LUMINANCE
    low, high = np.percentile(luminance, (5, 95))
    middle = image[(luminance >= low) & (luminance <= high)]
    means = middle.mean(axis=0) if middle.size else np.ones(3)
    if not np.all(means > 1e-6):
        return 1.0, 1.0, 1.0
    red, green, blue = (float(m) for m in means)
    return green / red, 1.0, green / blue
