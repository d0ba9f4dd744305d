"""Two cameras on one holder: how points get into pictures and back, and what is not known of it.

Convention: pictures lie as the sensor does (before any EXIF orientation), pixel centres at whole coordinates, (x, y) =
(column, row). A camera's frame has x right, y down, z forward, in m, its origin at the entrance pupil. Camera ``a``
is the one whose dual-pixel view is labelled; ``X_b = R X_a + t``. Lens distortion is Brown's (k1, k2, p1, p2, k3) as
OpenCV orders it. Depth is z, along the optical axis of the camera that is named.

The parameters of a rig, in the order of its covariance: for a, then for b, (fx, fy, cx, cy) in px and the five of
distortion; then the rotation vector of R in rad and t in m.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import cv2
import numpy as np
import numpy.typing as npt

Array = npt.NDArray[np.float64]

PER_CAMERA = 9
RIG_PARAMETERS = 2 * PER_CAMERA + 6
NAMES = ("fx", "fy", "cx", "cy", "k1", "k2", "p1", "p2", "k3")
_UNDISTORT_STEPS = 12


@dataclass(frozen=True)
class Intrinsics:
    """A pinhole with Brown's distortion."""

    size_hw: tuple[int, int]
    matrix: Array
    """(3, 3) in px."""
    distortion: Array
    """(5,): k1, k2, p1, p2, k3."""

    @classmethod
    def of(cls, size_hw: tuple[int, int], parameters: Array) -> Intrinsics:
        """From :data:`NAMES` in their order."""
        fx, fy, cx, cy = parameters[:4]
        return cls(size_hw, np.array([[fx, 0, cx], [0, fy, cy], [0, 0, 1.0]]), np.array(parameters[4:PER_CAMERA]))

    @cached_property
    def parameters(self) -> Array:
        """(9,) in the order of :data:`NAMES`."""
        m = self.matrix
        return np.array([m[0, 0], m[1, 1], m[0, 2], m[1, 2], *self.distortion])

    def project(self, points: Array) -> Array:
        """(..., 3) points in the camera's frame, z > 0, to (..., 2) px."""
        flat = np.ascontiguousarray(points.reshape(-1, 1, 3), np.float64)
        pixels, _ = cv2.projectPoints(flat, np.zeros(3), np.zeros(3), self.matrix, self.distortion)
        return np.asarray(pixels, np.float64).reshape(*points.shape[:-1], 2)

    def rays(self, pixels: Array) -> Array:
        """(..., 2) px to (..., 3) rays (x, y, 1) in the camera's frame.

        Fixed-point iteration (Heikkilä 2000) in double precision; where the model folds over, beyond the picture, the
        result is not finite or far from a ray of the pixel.
        """
        m, (k1, k2, p1, p2, k3) = self.matrix, self.distortion
        target_x = (pixels[..., 0] - m[0, 2]) / m[0, 0]
        target_y = (pixels[..., 1] - m[1, 2]) / m[1, 1]
        x, y = target_x.copy(), target_y.copy()
        for _ in range(_UNDISTORT_STEPS):
            r2 = x * x + y * y
            radial = 1 + r2 * (k1 + r2 * (k2 + r2 * k3))
            dx = 2 * p1 * x * y + p2 * (r2 + 2 * x * x)
            dy = p1 * (r2 + 2 * y * y) + 2 * p2 * x * y
            x, y = (target_x - dx) / radial, (target_y - dy) / radial
        return np.stack([x, y, np.ones_like(x)], -1)

    def pixel_rays(self, size_hw: tuple[int, int] | None = None) -> Array:
        """(h, w, 3) rays of the pixels of a view of the same field, by default of the picture itself."""
        height, width = size_hw or self.size_hw
        y, x = np.mgrid[0:height, 0:width].astype(np.float64)
        return self.rays(self.from_view(np.stack([x, y], -1), (height, width)))

    @cached_property
    def ray_field(self) -> tuple[Array, Array, Array]:
        """(h, w, 3) rays of the picture's pixels, and their slopes by row and by column.

        Between pixels the field is so smooth that its slope is enough.
        """
        rays = self.pixel_rays()
        by_row, by_column = np.gradient(rays, axis=(0, 1))
        return rays, np.asarray(by_row), np.asarray(by_column)

    def from_view(self, pixels: Array, view_hw: tuple[int, int]) -> Array:
        """(..., 2) px of a view of the same field with other pixels, to px of the calibrated picture."""
        return (pixels + 0.5) * self._scale(view_hw) - 0.5

    def to_view(self, pixels: Array, view_hw: tuple[int, int]) -> Array:
        """The inverse of :meth:`from_view`."""
        return (pixels + 0.5) / self._scale(view_hw) - 0.5

    def _scale(self, view_hw: tuple[int, int]) -> Array:
        return np.array([self.size_hw[1] / view_hw[1], self.size_hw[0] / view_hw[0]])


@dataclass(frozen=True)
class RigGeometry:
    """Both cameras and how they stand to each other."""

    a: Intrinsics
    b: Intrinsics
    rotation: Array
    """(3, 3) R of X_b = R X_a + t."""
    translation_m: Array
    """(3,) t."""

    @classmethod
    def of(cls, a_hw: tuple[int, int], b_hw: tuple[int, int], parameters: Array) -> RigGeometry:
        """From the (24,) parameters in the module's order."""
        rotation, _ = cv2.Rodrigues(np.ascontiguousarray(parameters[18:21]))
        return cls(
            Intrinsics.of(a_hw, parameters[:PER_CAMERA]),
            Intrinsics.of(b_hw, parameters[PER_CAMERA:18]),
            np.asarray(rotation, np.float64),
            np.array(parameters[21:24]),
        )

    @cached_property
    def parameters(self) -> Array:
        """(24,) in the module's order."""
        turn, _ = cv2.Rodrigues(self.rotation)
        return np.concatenate([self.a.parameters, self.b.parameters, turn.ravel(), self.translation_m])

    @property
    def baseline_m(self) -> float:
        """Distance of the two entrance pupils."""
        return float(np.linalg.norm(self.translation_m))

    @property
    def centre_b(self) -> Array:
        """(3,) the pupil of b in the frame of a, m."""
        return np.asarray(-self.rotation.T @ self.translation_m)

    @property
    def mount_deg(self) -> int:
        """By how much b is turned against a about its optical axis: 0, 90, 180 or 270, the nearest."""
        return round(self.roll_deg / 90) * 90 % 360

    @property
    def roll_deg(self) -> float:
        """Turn of b against a about the optical axis, -180 to 180."""
        return float(np.degrees(np.arctan2(self.rotation[1, 0], self.rotation[0, 0])))

    @property
    def baseline_angle_deg(self) -> float:
        """Of the baseline against the rows of camera a, in its picture plane: -90 to 90; > 0: it falls to the right."""
        x, y, _ = self.centre_b
        angle = float(np.degrees(np.arctan2(y, x)))
        return (angle + 90) % 180 - 90

    def to_b(self, points: Array) -> Array:
        """(..., 3) points in the frame of a, to that of b."""
        return np.asarray(points @ self.rotation.T + self.translation_m)

    def triangulate(self, pixels_a: Array, pixels_b: Array) -> Array:
        """(...,) depth in a of points seen at (..., 2) px of both pictures; beyond infinity it is negative.

        The point of the ray of a that is nearest the ray of b.
        """
        ray_a = self.a.rays(pixels_a) @ self.rotation.T
        ray_b = self.b.rays(pixels_b)
        normal = np.cross(ray_b, np.cross(ray_a, ray_b))
        with np.errstate(divide="ignore"):
            return np.asarray(-(normal @ self.translation_m) / np.sum(normal * ray_a, -1))


def rotation_deg(rotation: Array) -> float:
    """Angle of a rotation matrix."""
    turn, _ = cv2.Rodrigues(np.ascontiguousarray(rotation, np.float64))
    return float(np.degrees(np.linalg.norm(turn)))
