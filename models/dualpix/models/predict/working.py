"""Working views, which methods see, and the map that comes back from them.

Convention: views of a capture are brought to one channel, square pixels, baseline along x (a portrait capture is
transposed there and back) and a bounded long side. Scaling a picture down scales its disparities with it, so they are
scaled back up by the factor along the baseline.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import cv2
import numpy as np

from dualpix.capture.errors import DualpixError
from dualpix.capture.stereo import without_clipped
from dualpix.capture.types import DualPixelImage, FloatImage, Mask
from dualpix.models.confidence import CONFIDENT
from dualpix.models.confidence.evidence import Tolerance
from dualpix.models.confidence.halves import Finding

WORKING_LONG_SIDE_PX = 1008


@dataclass(frozen=True)
class WorkingViews:
    """What a method sees: (H, W) halves and a (H, W) or (H, W, 3) full-aperture view, linear, baseline along x."""

    left: FloatImage
    right: FloatImage
    combined: FloatImage


class MethodMap(NamedTuple):
    """What a method says of working views, each (H, W) of their size."""

    disparity_px: FloatImage
    """In working pixels."""
    measured: Mask | None = None
    """Where a matcher matched rather than filled."""
    confidence: FloatImage | None = None
    """0 to 1: how sure the method itself says that it is."""


@dataclass(frozen=True)
class Judgement:
    """How sure a map is."""

    confidence: FloatImage
    """(H, W) 0..1: the share of pixels of such evidence that are within ``tolerance``."""
    error_px: FloatImage
    """(H, W) 68 % of pixels of such evidence are within this, in pixels of the decoded view."""
    tolerance: Tolerance
    """In pixels of the decoded view."""
    reach_px: float
    """Largest absolute disparity that the method was trained on, or searches; in pixels of the decoded view."""
    beyond_reach: float
    """Share of the picture whose disparity lies beyond, or whose halves match best there."""
    calibrated_for: str
    """Method that the confidence was calibrated on."""
    findings: tuple[Finding, ...]
    """What a user must know."""

    @property
    def measured(self) -> Mask:
        """(H, W), True where the confidence is at least 0.5."""
        return np.asarray(self.confidence >= CONFIDENT)

    @property
    def measured_fraction(self) -> float:
        """Share of measured pixels."""
        return float(self.measured.mean())


@dataclass(frozen=True)
class DisparityMap:
    """Disparity of a decoded view and how it was made."""

    disparity_px: FloatImage
    """(H, W) in pixels of the decoded view, along its baseline."""
    valid: Mask | None
    """(H, W), True where a matcher matched rather than filled; None of networks."""
    method: str
    working_size_hw: tuple[tuple[int, int], ...]
    """Size of each working view, baseline along x."""
    scale: tuple[float, ...]
    """View pixels per working pixel along the baseline, for each working view."""
    judgement: Judgement | None = None
    """How sure it is; None where nobody judged."""
    sharp: FloatImage | None = None
    """The full-aperture view in focus everywhere, linear light in its own colours and of its own size; None of methods
    that give none. Restored at the finest of the working sizes."""

    @property
    def judged(self) -> Judgement:
        """The judgement.

        Raises:
            DualpixError: there is none.
        """
        if self.judgement is None:
            raise DualpixError(f"disparities of '{self.method}' without a confidence", expected="a judged map")
        return self.judgement


def working_views(image: DualPixelImage, long_side_px: int = WORKING_LONG_SIDE_PX) -> WorkingViews:
    """Area-average a capture's views to square pixels and a long side of at most ``long_side_px``, baseline along x."""
    height, width = working_size(image, long_side_px)

    def shrink(view: FloatImage) -> FloatImage:
        upright = view if image.baseline == "x" else view.swapaxes(0, 1)
        # a copy: OpenCV takes transposed arrays only by way of one
        return cv2.resize(np.ascontiguousarray(upright), (width, height), interpolation=cv2.INTER_AREA).astype(
            np.float32
        )

    left, right = without_clipped(_one_channel(image.left), _one_channel(image.right), image.saturated)
    return WorkingViews(shrink(left), shrink(right), shrink(image.combined))


def _one_channel(view: FloatImage) -> FloatImage:
    """Green of a colour view: on a Bayer sensor the channel with the most samples and the least noise."""
    return view if view.ndim == 2 else view[..., 1]


def baseline_size(image: DualPixelImage) -> int:
    """Pixels of the decoded view along the baseline."""
    return image.size_hw[1] if image.baseline == "x" else image.size_hw[0]


def working_size(image: DualPixelImage, long_side_px: int) -> tuple[int, int]:
    """(height, width) with the baseline along x; pixels become square by shrinking the finer axis."""
    height, width = image.size_hw if image.baseline == "x" else image.size_hw[::-1]
    aspect = image.meta.pixel_aspect
    square_h, square_w = height * min(aspect, 1.0), width / max(aspect, 1.0)
    shrink = min(1.0, long_side_px / max(square_h, square_w))
    return max(1, round(square_h * shrink)), max(1, round(square_w * shrink))


def largest_within(image: DualPixelImage, size_hw: tuple[int, int]) -> int:
    """The largest long side in px, never more than the view's own, whose working views fit into ``size_hw``."""
    height, width = whole = working_size(image, max(image.size_hw))
    side = int(max(whole) * min(1.0, size_hw[0] / height, size_hw[1] / width))
    while side > 1 and any(mine > room for mine, room in zip(working_size(image, side), size_hw, strict=True)):
        side -= 1  # the shorter side is rounded
    return side


def to_view(working: FloatImage, image: DualPixelImage, factor: float | None = None) -> FloatImage:
    """Resize a working map to the view; values are scaled from working to view pixels unless ``factor`` is given."""
    height, width = image.size_hw
    size = (width, height) if image.baseline == "x" else (height, width)
    scaled = working * (baseline_size(image) / working.shape[1] if factor is None else factor)
    full: FloatImage = cv2.resize(scaled.astype(np.float32), size, interpolation=cv2.INTER_LINEAR).astype(np.float32)
    return full if image.baseline == "x" else full.T


def to_working(view_map: FloatImage, image: DualPixelImage, views: WorkingViews) -> FloatImage:
    """A map of the view on the grid of working views, values as they are."""
    upright = view_map if image.baseline == "x" else view_map.T
    size = views.left.shape[::-1]
    if upright.shape == views.left.shape:
        return np.ascontiguousarray(upright)
    return np.asarray(cv2.resize(np.ascontiguousarray(upright), size, interpolation=cv2.INTER_AREA), np.float32)
