"""Focus stacks made of one sharp picture and its depth, as papers on depth from defocus make their test data.

Convention: blur is a radius in px, c = |D - d| / D * f A / (d - f) / 2 / pitch of depth D and focus distance d (thin
lens, A = f / N). A pixel gathers from its neighbours within a square window with the weight exp(-2 (r / c)^2) / c^2, c
being the *neighbour's* radius; where its own radius is at most 1 px it stays as it is, and neighbours that sharp give
nothing. So nothing sharp bleeds, and blur is cut off at the window: what the public code of these benchmarks computes
(a CUDA kernel going back to Gur and Wolf, CVPR 2019), on display-referred values. It is no model of light; for that see
:mod:`dualpix.capture.render`.
"""

from __future__ import annotations

import cv2
import numpy as np
import numpy.typing as npt

from dualpix.capture.types import FloatImage

_SHARP_PX = 1.0
_LARGEST_PX = 1e4
"""Of a radius: holes of depth 0 have none, and squares must stay finite."""


def blur_radius_px(
    depth_m: FloatImage, focus_m: float, focal_length_m: float, f_number: float, pixel_pitch_m: float
) -> FloatImage:
    """(H, W) radius of the circle of confusion in px."""
    across = focal_length_m**2 / f_number / (focus_m - focal_length_m)
    diameter_m = np.abs(1.0 - focus_m / np.maximum(depth_m.astype(np.float64), 1e-8)) * across
    return np.minimum(diameter_m / 2 / pixel_pitch_m, _LARGEST_PX).astype(np.float32)


def gather_gaussian(picture: FloatImage, radius_px: FloatImage, window_px: int) -> FloatImage:
    """(H, W, 3) the picture, blurred by its map of radii within an odd square window."""
    reach = window_px // 2
    blurred = radius_px > _SHARP_PX
    weight = np.where(blurred, 1 / np.maximum(radius_px, _SHARP_PX) ** 2, 0).astype(np.float32)
    falloff = (-2 * weight).astype(np.float32)
    height, width = radius_px.shape
    padded, weights, falloffs = (
        cv2.copyMakeBorder(plane, reach, reach, reach, reach, cv2.BORDER_CONSTANT)
        for plane in (picture, weight, falloff)
    )
    total = np.zeros_like(picture)
    norm = np.zeros((height, width), np.float32)
    for y in range(window_px):
        for x in range(window_px):
            part = (slice(y, y + height), slice(x, x + width))
            share = weights[part] * np.exp(falloffs[part] * np.float32((y - reach) ** 2 + (x - reach) ** 2))
            norm += share
            total += share[..., None] * padded[part]
    return np.where(blurred[..., None], total / np.maximum(norm, 1e-20)[..., None], picture).astype(np.float32)


def gaussian_stack(
    picture: FloatImage,
    depth_m: FloatImage,
    focus_distance_m: npt.ArrayLike,
    *,
    focal_length_m: float,
    f_number: float,
    pixel_pitch_m: float,
    window_px: int,
) -> FloatImage:
    """(N, H, W, 3) the picture (H, W, 3) focused at each distance (N,)."""
    return np.stack(
        [
            gather_gaussian(
                picture, blur_radius_px(depth_m, float(d), focal_length_m, f_number, pixel_pitch_m), window_px
            )
            for d in np.asarray(focus_distance_m, np.float64)
        ]
    )
