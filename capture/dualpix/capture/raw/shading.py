"""Equal brightness of the two halves.

Each photodiode sees the lens under its own angle, so left / right drifts by tens of percent over the field (Pixel 4:
1.01..1.38 across x), which every matcher takes for texture. The right half is multiplied by a smooth gain:

- from a white sheet, ``smooth(white_left) / smooth(white_right)``: Xin et al., ICCV 2021, use the mean of the ratio
  over 101 px of a 2016 px row; here the ratio of the means, the same to a fraction of a percent and safe in the dark;
- without one, from the views themselves, over a much wider window: blur and disparity are local, shading is not.

Nothing is clipped, and saturated pixels do not take part in the estimate.
"""

from __future__ import annotations

import cv2
import numpy as np

from dualpix.capture.types import FloatImage, Mask

# A ratio outside this range is no shading but darkness or a wrong pair.
MAX_GAIN = 4.0
_SHEET_WINDOW = 101 / 2016
# Of 0.1 .. 0.35, the width with the least error against the white sheet on Pixel 4 scenes (3 % rms, from 9.5 %).
_SELF_WINDOW = 0.3


def sheet_gain(white_left: FloatImage, white_right: FloatImage) -> FloatImage:
    """Gain of the right half from the two halves of a white sheet, float32 of the same shape, within 1/4..4."""
    return _smooth_ratio(white_left, white_right, np.ones(white_left.shape[:2], np.float32), _SHEET_WINDOW)


def self_gain(left: FloatImage, right: FloatImage, saturated: Mask) -> FloatImage:
    """Gain of the right half from the low frequencies of the views, float32 of the same shape, within 1/4..4."""
    return _smooth_ratio(left, right, (~saturated).astype(np.float32), _SELF_WINDOW)


def _smooth_ratio(left: FloatImage, right: FloatImage, weight: FloatImage, window: float) -> FloatImage:
    """Ratio of the weighted local means; where there is no light or no valid pixel it tends to 1."""
    height, width = left.shape[:2]
    size = round(max(height, width) * window) // 2 * 2 + 1
    wide = weight[..., None] if left.ndim == 3 else weight
    above, below = (_box(view * wide, size) for view in (left, right))
    # A thousandth of the mean light: pulls the ratio to 1 where both means vanish in noise.
    floor = 1e-3 * float(np.mean(np.maximum(above, 0)) + np.mean(np.maximum(below, 0))) + 1e-12
    gain = (np.maximum(above, 0) + floor) / (np.maximum(below, 0) + floor)
    return np.clip(gain, 1 / MAX_GAIN, MAX_GAIN).astype(np.float32)


def _box(image: FloatImage, size: int) -> FloatImage:
    """Two box filters in a row (a triangle): no edges of the window show in the gain."""
    half = size // 2 // 2 * 2 + 1
    once = cv2.blur(image, (half, half), borderType=cv2.BORDER_REFLECT_101)
    return np.asarray(cv2.blur(once, (half, half), borderType=cv2.BORDER_REFLECT_101), np.float32)
