"""Which half is the left one: the sign of the disparity decides, where the scene allows.

Convention: ``x_right - x_left > 0`` behind the focus plane (sensor orientation). Exchanging the halves reverses every
sign. So a capture tells which is which as soon as it is known on which side of the focus plane the scene lies:

- focused on the farthest thing (or at infinity, which the file may say): nothing is behind, no disparity is positive;
- focused on the nearest thing: nothing is in front, no disparity is negative.

Two pictures alone do not tell: a scene behind focus and its mirror image in front of it are alike. Disparities are
measured by semi-global matching on small green views; the evidence is the share of textured, defocused area on the
expected side, and it must be clear before a name is changed.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import cv2
import numpy as np

from dualpix.capture.stereo import SgbmSettings, match_sgbm
from dualpix.capture.types import FloatImage, Mask

FocusedOn = Literal["nearest", "farthest"]

MATCHED_LONG_SIDE_PX = 1024
_DEFOCUSED_PX = 0.5
"""Disparity from which a pixel counts as out of focus: matching is good to a quarter of it."""
_MIN_AREA = 0.02  # of the picture, defocused and textured
_CLEAR = 0.8  # share of that area on one side
_MIN_CONTRAST = 0.05  # rms contrast of a 15x15 window: plain areas match anything


@dataclass(frozen=True)
class SignEvidence:
    """How much of the picture is clearly out of focus, and on which side as the halves are named now."""

    area: float
    """Share of the picture that is textured and has more than half a pixel of disparity."""
    positive: float
    """Share of that area with positive disparity."""

    def verdict(self, focused_on: FocusedOn) -> Literal["as named", "exchanged", "unclear"]:
        """Whether the halves are named right, given what the lens was focused on."""
        if self.area < _MIN_AREA or 1 - _CLEAR < self.positive < _CLEAR:
            return "unclear"
        behind = self.positive >= _CLEAR
        return "as named" if behind == (focused_on == "nearest") else "exchanged"

    def text(self) -> str:
        """For the provenance."""
        return f"{100 * self.area:.0f} % of the picture defocused, {100 * self.positive:.0f} % of it with positive sign"


def sign_evidence(left: FloatImage, right: FloatImage, saturated: Mask, pixel_aspect: float = 1.0) -> SignEvidence:
    """Measure the signs.

    Args:
        left: (H, W) linear half, equalised, disparity along x.
        right: (H, W) the other half.
        saturated: (H, W)
        pixel_aspect: of the capture.
    """
    scale = min(1.0, MATCHED_LONG_SIDE_PX / max(left.shape))
    size = (round(left.shape[1] * scale), round(left.shape[0] * scale * pixel_aspect))
    small = [_reduced(view, size) for view in (left, right)]
    clipped = cv2.resize(saturated.astype(np.uint8), size, interpolation=cv2.INTER_AREA) > 0
    disparity_px, measured = match_sgbm(small[0], small[1], SgbmSettings())
    counted = measured & ~clipped & (_contrast(small[0]) > _MIN_CONTRAST) & (np.abs(disparity_px) > _DEFOCUSED_PX)
    area = float(counted.mean())
    return SignEvidence(area, float((disparity_px[counted] > 0).mean()) if area else 0.5)


def _reduced(view: FloatImage, size_wh: tuple[int, int]) -> FloatImage:
    return np.asarray(cv2.resize(np.maximum(view, 0), size_wh, interpolation=cv2.INTER_AREA), np.float32)


def _contrast(view: FloatImage) -> FloatImage:
    mean, square = (np.asarray(cv2.blur(v, (15, 15)), np.float32) for v in (view, view * view))
    deviation = np.sqrt(np.maximum(square - mean * mean, 0))
    return np.asarray(deviation / np.maximum(mean, np.float32(1e-6)), np.float32)
