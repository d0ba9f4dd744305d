"""Depth and dual-pixel disparity of camera a's own pixels, from both cameras' pictures.

Convention: :mod:`dualpix.capture.rig.geometry`. Depth is in m from a's pupil along its optical axis, which the thin
lens of :mod:`dualpix.capture.optics` takes as the distance from the lens. Uncertainties are one standard deviation, of
the match and of the calibration together; in inverse depth they hardly depend on the distance. NaN means no label.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import cv2
import numpy as np

from dualpix.capture import optics
from dualpix.capture.errors import DualpixError
from dualpix.capture.rig.geometry import RIG_PARAMETERS, Array, RigGeometry
from dualpix.capture.rig.labels.match import Gray, Matcher, StereoMatch, match
from dualpix.capture.rig.labels.rectify import Rectification
from dualpix.capture.types import FloatImage, LensModel, Mask

_GRID = 6
_GRID_DIOPTERS = (0.2, 2.0, 5.0)
_SMOOTH_PX = 1.0
"""Neighbours whose disparities differ by more lie on two surfaces: nothing is interpolated between them."""
_FARTHEST_DIOPTERS = 1e-4
STATED_PX = 0.5
"""Of stereo disparity: what a confidence is about."""


@dataclass(frozen=True)
class Label:
    """What is known of a's view, (H, W) as the sensor lies."""

    depth_m: FloatImage
    """NaN where there is none."""
    inverse_depth_sigma: FloatImage
    """1/m."""
    unseen: Mask
    """b does not see it: something nearer is before it, or its picture ends."""
    untextured: Mask
    """b sees it as far as is known, and there is too little to see in it for any match."""
    confidence: FloatImage
    """0 to 1: share of such pixels whose stereo disparity is right to :data:`STATED_PX`; 0 where there is no label."""

    @property
    def depth_sigma_m(self) -> FloatImage:
        """One standard deviation, m."""
        return np.asarray(self.inverse_depth_sigma * self.depth_m**2, np.float32)

    def disparity_px(self, lens: LensModel, gain: FloatImage | None = None) -> FloatImage:
        """Dual-pixel disparity of the depth, x_right - x_left, > 0 behind the focus.

        Args:
            lens: with the pitch of the view's pixels along the baseline of its halves.
            gain: (H, W) its disparity gain over the field, relative to the lens's.
        """
        known = np.isfinite(self.depth_m)
        shift = optics.disparity_px(np.where(known, self.depth_m, np.float32(1)), lens)
        shift = shift if gain is None else shift * gain
        return np.where(known, shift, np.nan).astype(np.float32)

    def disparity_sigma_px(self, lens: LensModel) -> FloatImage:
        """One standard deviation of :meth:`disparity_px`, from the depth alone."""
        return np.asarray(self.inverse_depth_sigma * abs(optics.disparity_px_per_diopter(lens)), np.float32)


def label(
    gray_a: Gray,
    gray_b: Gray,
    frame: Rectification,
    covariance: Array,
    view_hw: tuple[int, int],
    matcher: Matcher,
    nearest_m: float,
) -> Label:
    """Label a's view.

    Args:
        gray_a: (H, W) display-coded picture of a, as its sensor lies.
        gray_b: of b.
        frame: of the rig.
        covariance: (24, 24) of the rig's parameters.
        view_hw: of the view that is labelled, as the sensor lies.
        matcher: finds disparities.
        nearest_m: distance of the nearest thing.

    Raises:
        DualpixError: so near a thing would leave nothing of the picture.
    """
    most_px = int(np.ceil(frame.disparity_per_diopter_px / nearest_m)) + 1
    if most_px > 0.75 * frame.size_hw[1]:
        raise DualpixError(
            f"at {nearest_m:g} m the two pictures are {most_px} px apart, of {frame.size_hw[1]}",
            expected="things both cameras see",
            hint="give the distance of the nearest thing with --nearest",
        )
    pictures = frame.rectified(gray_a, "a"), frame.rectified(gray_b, "b")
    found = match(*pictures, frame.inside("a"), frame.inside("b"), most_px, matcher)
    return on_view(found, frame, covariance, view_hw)


def on_view(found: StereoMatch, frame: Rectification, covariance: Array, view_hw: tuple[int, int]) -> Label:
    """What was found in the rectified picture, on the pixels of a's view."""
    at, ray_z = frame.of_view(view_hw)
    disparity = _sampled(found.disparity_px, at)
    sigma = _nearest(found.sigma_px, at, 0.0)
    per_diopter = frame.disparity_per_diopter_px
    inverse = np.maximum(disparity * ray_z / np.float32(per_diopter), np.float32(_FARTHEST_DIOPTERS))
    of_match = sigma * ray_z / np.float32(per_diopter)
    of_rig = calibration_sigma(frame.geometry, covariance, np.nan_to_num(inverse, nan=1.0))
    known = np.isfinite(disparity)
    with np.errstate(invalid="ignore"):
        depth = np.where(known, 1 / inverse, np.nan).astype(np.float32)
    total = np.where(known, np.hypot(of_match, of_rig), np.nan).astype(np.float32)
    unseen, untextured = (
        np.asarray((_nearest(mask.astype(np.float32), at, 0.0) > 0) & ~known)
        for mask in (found.unseen, found.untextured)
    )
    return Label(depth, total, unseen, untextured, np.where(known, _confidence(sigma), 0).astype(np.float32))


def calibration_sigma(geometry: RigGeometry, covariance: Array, inverse_depth: FloatImage) -> FloatImage:
    """(H, W) standard deviation in 1/m of the inverse depths of a's view, from the rig's covariance alone.

    Propagated on a grid of pixels and depths, interpolated between: it is smooth over both.
    """
    height, width = geometry.a.size_hw
    y, x = np.meshgrid(np.linspace(0, height - 1, _GRID), np.linspace(0, width - 1, _GRID), indexing="ij")
    pixels = np.stack([x, y], -1)
    layers = [_sigma_at(geometry, covariance, pixels, diopters) for diopters in _GRID_DIOPTERS]
    size = (inverse_depth.shape[1], inverse_depth.shape[0])
    spread = [cv2.resize(layer.astype(np.float32), size, interpolation=cv2.INTER_LINEAR) for layer in layers]
    result = spread[0]
    for low, high, near, far in zip(_GRID_DIOPTERS, _GRID_DIOPTERS[1:], spread[1:], spread, strict=False):
        share = np.clip((inverse_depth - low) / (high - low), 0, 1)
        result = np.where(inverse_depth > low, (1 - share) * far + share * near, result)
    return np.asarray(result, np.float32)


def _sigma_at(geometry: RigGeometry, covariance: Array, pixels: Array, diopters: float) -> Array:
    points = geometry.a.rays(pixels) / diopters
    seen = geometry.b.project(geometry.to_b(points))
    steps = np.maximum(np.sqrt(np.diag(covariance)) * 0.1, 1e-9)
    slopes = []
    for index in range(RIG_PARAMETERS):
        sides = []
        for sign in (1, -1):
            moved = geometry.parameters.copy()
            moved[index] += sign * steps[index]
            other = RigGeometry.of(geometry.a.size_hw, geometry.b.size_hw, moved)
            sides.append(1 / other.triangulate(pixels, seen))
        slopes.append((sides[0] - sides[1]) / (2 * steps[index]))
    slope = np.stack(slopes, -1)
    return np.asarray(np.sqrt(np.maximum(np.einsum("yxi,ij,yxj->yx", slope, covariance, slope), 0)))


def _confidence(sigma_px: FloatImage) -> FloatImage:
    """Share of a normal distribution of this width within the stated error."""
    bound = np.abs(STATED_PX / np.maximum(sigma_px, 1e-3) / math.sqrt(2))
    return np.asarray(np.vectorize(math.erf, otypes=[np.float32])(np.minimum(bound, 6)), np.float32)


def _sampled(values: FloatImage, at: FloatImage) -> FloatImage:
    """Bilinear where all four neighbours are of one surface, else the nearest; NaN beyond the border."""
    lowest, highest = (
        _remapped(
            np.asarray(fold(np.nan_to_num(values, nan=bad), np.ones((2, 2), np.uint8), anchor=(0, 0))),
            np.floor(at),
            bad,
        )
        for fold, bad in ((cv2.erode, -1e9), (cv2.dilate, 1e9))
    )
    smooth = highest - lowest <= _SMOOTH_PX
    between = _remapped(np.nan_to_num(values, nan=0.0), at, np.nan, cv2.INTER_LINEAR)
    return np.where(smooth, between, _nearest(values, at, np.nan)).astype(np.float32)


def _nearest(values: FloatImage, at: FloatImage, beyond: float) -> FloatImage:
    return _remapped(values, at, beyond)


def _remapped(values: FloatImage, at: FloatImage, beyond: float, how: int = cv2.INTER_NEAREST) -> FloatImage:
    return np.asarray(
        cv2.remap(values, at[..., 0], at[..., 1], how, borderMode=cv2.BORDER_CONSTANT, borderValue=beyond), np.float32
    )
