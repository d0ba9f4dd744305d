"""Both views as if the cameras stood side by side, and the way back to the view that is labelled.

Convention: :mod:`dualpix.capture.rig.geometry`. The rectified frame has x along the baseline from a to b, so that a is
always the left one and ``disparity = x_a - x_b = f B / depth > 0``, whichever way the phones are held or mounted; both
rectified pictures share one focal length and principal point, and their rows meet. Only these copies are resampled:
what is found in them goes back to a's own pixels through :meth:`Rectification.of_view`.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import cv2
import numpy as np
import numpy.typing as npt

from dualpix.capture.errors import DualpixError
from dualpix.capture.rig.geometry import Array, Intrinsics, RigGeometry
from dualpix.capture.types import FloatImage, Mask

_BORDER_POINTS = 40
_MOST_GROWTH = 1.6
"""Of a side against that of a's picture, turned as it may be."""
_MOST_LEFT = 0.5
"""Of the width, that b's picture may go on beyond a's left border: nearer things are hardly seen by both."""
_LEAST_DEPTH = 0.2
"""Of a rectified ray: cameras that look so far past each other share no field."""


@dataclass(frozen=True)
class Rectification:
    """Where rectified pixels lie in the pictures, and back."""

    geometry: RigGeometry
    turn: Array
    """(3, 3) from the frame of a to the rectified one."""
    focal_px: float
    centre: Array
    """(2,) principal point."""
    size_hw: tuple[int, int]

    @property
    def disparity_per_diopter_px(self) -> float:
        """Focal length x baseline: disparity = this / depth."""
        return self.focal_px * self.geometry.baseline_m

    @cached_property
    def map_a(self) -> FloatImage:
        """(h, w, 2) px of a's picture for each rectified one."""
        return self._map(self.geometry.a, self.turn.T)

    @cached_property
    def map_b(self) -> FloatImage:
        """(h, w, 2) px of b's picture."""
        return self._map(self.geometry.b, self.geometry.rotation @ self.turn.T)

    def rectified(self, picture: npt.NDArray[np.uint8], side: str) -> npt.NDArray[np.uint8]:
        """A picture (H, W) of camera ``side``, resampled; black beyond its border."""
        at = self.map_a if side == "a" else self.map_b
        return np.asarray(cv2.remap(picture, at[..., 0], at[..., 1], cv2.INTER_CUBIC, borderValue=0), np.uint8)

    def inside(self, side: str) -> Mask:
        """(h, w) where the picture of a side has pixels."""
        at, camera = (self.map_a, self.geometry.a) if side == "a" else (self.map_b, self.geometry.b)
        height, width = camera.size_hw
        return np.asarray(
            (at[..., 0] >= 0) & (at[..., 0] <= width - 1) & (at[..., 1] >= 0) & (at[..., 1] <= height - 1)
        )

    def of_view(self, view_hw: tuple[int, int]) -> tuple[FloatImage, FloatImage]:
        """The way back: where each pixel of a view of a's field lies in the rectified picture.

        Args:
            view_hw: size of the view, as the sensor lies; the calibrated picture's, or another of the same field.

        Returns:
            (h, w, 2) rectified px, and (h, w) z of the pixel's ray (x, y, 1) in the rectified frame: depth along a's
            axis is that along the rectified one over this.
        """
        rays = self.geometry.a.pixel_rays(view_hw) @ self.turn.T
        pixels = rays[..., :2] / rays[..., 2:] * self.focal_px + self.centre
        return pixels.astype(np.float32), rays[..., 2].astype(np.float32)

    def of_pixels(self, pixels: Array, side: str) -> Array:
        """(N, 2) px of the picture of a side, to rectified px."""
        camera, turn = (
            (self.geometry.a, self.turn) if side == "a" else (self.geometry.b, self.turn @ self.geometry.rotation.T)
        )
        rays = camera.rays(pixels) @ turn.T
        return np.asarray(rays[..., :2] / rays[..., 2:] * self.focal_px + self.centre)

    def _map(self, camera: Intrinsics, turn: Array) -> FloatImage:
        y, x = np.mgrid[0 : self.size_hw[0], 0 : self.size_hw[1]].astype(np.float64)
        rays = np.stack(
            [(x - self.centre[0]) / self.focal_px, (y - self.centre[1]) / self.focal_px, np.ones_like(x)], -1
        )
        return camera.project(rays @ turn.T).astype(np.float32)


def rectification(geometry: RigGeometry) -> Rectification:
    """The rectified frame of a rig, large enough for all of a's picture and what of b's can match it.

    Raises:
        DualpixError: the cameras look along the baseline, or past each other.
    """
    along = geometry.centre_b / geometry.baseline_m
    ahead = np.array([0, 0, 1.0]) + geometry.rotation[2]
    ahead = ahead - (ahead @ along) * along
    if np.linalg.norm(ahead) < 0.5:
        raise DualpixError("the cameras look along their baseline", expected="cameras side by side, looking ahead")
    ahead = ahead / np.linalg.norm(ahead)
    turn = np.stack([along, np.cross(ahead, along), ahead])
    focal_px = float(np.mean([geometry.a.parameters[:2], geometry.b.parameters[:2]]))
    rays, of_b = _border(geometry.a) @ turn.T, _border(geometry.b) @ geometry.rotation @ turn.T
    if rays[:, 2].min() < _LEAST_DEPTH:
        raise DualpixError(
            "the cameras look past each other", expected="two cameras that see the same", hint="calibrate again"
        )
    places = rays[:, :2] / rays[:, 2:] * focal_px
    low, high = np.floor(places.min(0)), np.ceil(places.max(0))
    size = (high - low + 1).astype(int)
    if size.max() > _MOST_GROWTH * max(geometry.a.size_hw):
        raise DualpixError(
            f"the rectified picture would have {size[0]}x{size[1]} px", expected="cameras that look nearly the same way"
        )
    # what a sees at its left border lies left of that for b, by its disparity: b's picture goes on where it can
    ahead_of_b = of_b[of_b[:, 2] > _LEAST_DEPTH]
    if len(ahead_of_b):
        leftmost = np.floor((ahead_of_b[:, 0] / ahead_of_b[:, 2]).min() * focal_px)
        low[0] = min(low[0], max(leftmost, low[0] - round(_MOST_LEFT * float(size[0]))))
    size = (high - low + 1).astype(int)
    return Rectification(geometry, turn, focal_px, -low, (int(size[1]), int(size[0])))


def _border(camera: Intrinsics) -> Array:
    """Rays along the border of a picture."""
    height, width = camera.size_hw
    x, y = np.linspace(0, width - 1, _BORDER_POINTS), np.linspace(0, height - 1, _BORDER_POINTS)
    sides = [np.stack([x, np.full_like(x, row)], -1) for row in (0.0, height - 1.0)]
    sides += [np.stack([np.full_like(y, column), y], -1) for column in (0.0, width - 1.0)]
    return camera.rays(np.concatenate(sides))
