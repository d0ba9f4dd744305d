"""Pinhole geometry of scenes: rays, planes and convex solids, all in inverse depth.

Convention: the camera frame has x right, y down, z forward, in m; the world X right, Y up, Z forward, with the ground
at Y = 0 below the camera. The ray of a pixel is d = (x, y, 1), so the ray parameter is the depth z, and q = 1/z in 1/m.
The plane n . X = c has q = n . d / c, affine in the pixel. A convex solid is an intersection of slabs and a quadric:
the ray enters it at the smallest q of its near faces and leaves it at the largest q of its far faces. Pixel centres are
at whole coordinates.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import cv2
import numpy as np
import numpy.typing as npt

Field = npt.NDArray[np.float32]
Vector = npt.NDArray[np.float64]
Form = Literal["box", "cylinder", "ellipsoid"]

SUPERSAMPLING = 3
"""Coverage is drawn this much finer in each direction, then averaged."""


@dataclass(frozen=True)
class Window:
    """Part of the canvas in pixels, half open."""

    top: int
    bottom: int
    left: int
    right: int

    @property
    def shape(self) -> tuple[int, int]:
        """(height, width) in px."""
        return self.bottom - self.top, self.right - self.left

    @property
    def slices(self) -> tuple[slice, slice]:
        """To index a canvas with."""
        return slice(self.top, self.bottom), slice(self.left, self.right)


@dataclass(frozen=True)
class Camera:
    """A pinhole ``height_m`` above the world's origin."""

    size_hw: tuple[int, int]
    focal_px: float
    rotation: Vector
    """(3, 3) world to camera; its rows are the camera's axes in the world."""
    height_m: float

    @classmethod
    def looking(
        cls, size_hw: tuple[int, int], focal_px: float, height_m: float, pitch_rad: float, roll_rad: float
    ) -> Camera:
        """A camera that looks along +Z, tilted down by ``pitch_rad`` and turned about its axis by ``roll_rad``."""
        sp, cp, sr, cr = np.sin(pitch_rad), np.cos(pitch_rad), np.sin(roll_rad), np.cos(roll_rad)
        level = np.array([[1.0, 0.0, 0.0], [0.0, -cp, -sp], [0.0, -sp, cp]])
        turn = np.array([[cr, sr, 0.0], [-sr, cr, 0.0], [0.0, 0.0, 1.0]])
        return cls(size_hw, focal_px, turn @ level, height_m)

    def direction(self, world: npt.ArrayLike) -> Vector:
        """(..., 3) world direction in the camera frame."""
        return np.asarray(np.asarray(world, float) @ self.rotation.T)

    def point(self, world: npt.ArrayLike) -> Vector:
        """(..., 3) world point in the camera frame, m."""
        return self.direction(np.asarray(world, float) - (0.0, self.height_m, 0.0))

    @property
    def whole(self) -> Window:
        """The canvas."""
        return Window(0, self.size_hw[0], 0, self.size_hw[1])

    def rays(self, window: Window, factor: int = 1) -> tuple[Field, Field]:
        """x (1, w * factor) and y (h * factor, 1) of the rays of a window, ``factor`` samples per pixel and axis."""
        h, w = window.shape
        column = window.left + (np.arange(w * factor) + 0.5) / factor - 0.5
        row = window.top + (np.arange(h * factor) + 0.5) / factor - 0.5
        x = (column - (self.size_hw[1] - 1) / 2) / self.focal_px
        y = (row - (self.size_hw[0] - 1) / 2) / self.focal_px
        return x[None].astype(np.float32), y[:, None].astype(np.float32)

    def ray(self, column: float, row: float) -> Vector:
        """(3,) ray of one position in px."""
        centre_x, centre_y = (self.size_hw[1] - 1) / 2, (self.size_hw[0] - 1) / 2
        return np.array([(column - centre_x) / self.focal_px, (row - centre_y) / self.focal_px, 1.0])

    def project(self, points: Vector) -> Vector:
        """(..., 3) points in the camera frame, z > 0, to (..., 2) column and row in px."""
        centre = ((self.size_hw[1] - 1) / 2, (self.size_hw[0] - 1) / 2)
        return np.asarray(points[..., :2] / points[..., 2:] * self.focal_px + centre)

    def window_of(self, points: Vector) -> Window | None:
        """The part of the canvas that (N, 3) points in the camera frame span; None if there is none."""
        pixels = self.project(points)
        low, high = np.floor(pixels.min(0)) - 1, np.ceil(pixels.max(0)) + 2
        height, width = self.size_hw
        left, right = max(0, int(low[0])), min(width, int(high[0]))
        top, bottom = max(0, int(low[1])), min(height, int(high[1]))
        return Window(top, bottom, left, right) if right - left > 1 and bottom - top > 1 else None

    def corners(self) -> Vector:
        """(4, 3) rays of the canvas corners."""
        height, width = self.size_hw
        return np.stack([self.ray(c, r) for c in (-1, width) for r in (-1, height)])


def along(vector: npt.ArrayLike, x: Field, y: Field) -> Field:
    """vector . d over a window."""
    v = np.asarray(vector, np.float32)
    return np.asarray(v[0] * x + v[1] * y + v[2])


def shrink(fine: Field) -> Field:
    """Average SUPERSAMPLING x SUPERSAMPLING samples into a pixel."""
    height, width = fine.shape[0] // SUPERSAMPLING, fine.shape[1] // SUPERSAMPLING
    return np.asarray(cv2.resize(fine, (width, height), interpolation=cv2.INTER_AREA), np.float32)


@dataclass(frozen=True)
class Hit:
    """Where the rays of a window meet a surface."""

    inverse_depth: Field
    """(h, w) 1/m; beyond the silhouette the surface is continued."""
    face: npt.NDArray[np.intp]
    """(h, w) index of the face."""
    u_m: Field
    v_m: Field
    """(h, w) position on the face, m; right and down where the face has an upright way."""
    normal: Field
    """(h, w, 3) unit, in the camera frame, towards the viewer."""


@dataclass(frozen=True)
class Solid:
    """A convex solid in the camera frame; a cylinder's axis is its second one."""

    form: Form
    centre: Vector
    axes: Vector
    """(3, 3) rows are the unit axes."""
    half_m: Vector
    """(3,) half the extent along each axis."""

    @property
    def _unit(self) -> tuple[Vector, Vector]:
        """The map to the unit solid, and its centre there."""
        to_unit = self.axes / self.half_m[:, None]
        return to_unit, to_unit @ self.centre

    @property
    def corners(self) -> Vector:
        """(8, 3) corners of the bounding box."""
        signs = np.stack(np.meshgrid([-1, 1], [-1, 1], [-1, 1]), -1).reshape(8, 3)
        return np.asarray(self.centre + (signs * self.half_m) @ self.axes)

    @property
    def _round(self) -> tuple[int, ...]:
        return {"box": (), "cylinder": (0, 2), "ellipsoid": (0, 1, 2)}[self.form]

    def holds_camera(self) -> bool:
        """Whether the viewpoint is inside the solid, or inside the endless form of its round part."""
        _, c = self._unit
        of_round = list(self._round)
        return bool(np.sum(c[of_round] ** 2) <= 1.05) if of_round else bool(np.all(np.abs(c) <= 1.0))

    def _pieces(self, x: Field, y: Field) -> tuple[list[tuple[int, Field]], list[Field]]:
        """(face, q) of the near faces, and q of the far faces."""
        to_unit, c = self._unit
        m = [along(row, x, y) for row in to_unit]
        near: list[tuple[int, Field]] = []
        far: list[Field] = []
        if self._round:
            # |z m - c|^2 = 1 in q = 1/z: (c.c - 1) q^2 - 2 (m.c) q + m.m = 0
            a = sum((m[k] ** 2 for k in self._round), np.float32(0))
            b = sum((m[k] * np.float32(c[k]) for k in self._round), np.float32(0))
            c0 = np.float32(sum(c[k] ** 2 for k in self._round) - 1.0)
            # a ray that misses gets the double root: it enters and leaves at once, and the surface goes on smoothly
            root = np.sqrt(np.maximum(b * b - a * c0, 0))
            near.append((3, np.asarray((b + root) / c0)))
            far.append(np.asarray((b - root) / c0))
        for k in set(range(3)) - set(self._round):
            if abs(c[k]) > 1.0:
                side = np.sign(c[k])
                near.append((k, m[k] / np.float32(c[k] - side)))
                far.append(m[k] / np.float32(c[k] + side))
            else:
                far += [m[k] / np.float32(c[k] + s) for s in (-1.0, 1.0) if abs(c[k] + s) > 1e-6]
        return near, far

    def coverage(self, camera: Camera, window: Window) -> Field:
        """(h, w) antialiased, in [0, 1]."""
        near, far = self._pieces(*camera.rays(window, SUPERSAMPLING))
        enter = np.minimum.reduce([q for _, q in near])
        inside = (enter > np.maximum.reduce(far)) & (enter > 0)
        return shrink(inside.astype(np.float32))

    def hit(self, camera: Camera, window: Window) -> Hit:
        """The near side seen through the pixel centres."""
        x, y = camera.rays(window)
        near, _ = self._pieces(x, y)
        stacked = np.stack([np.broadcast_to(q, window.shape) for _, q in near])
        first = stacked.argmin(0)
        q = np.maximum(np.take_along_axis(stacked, first[None], 0)[0], np.float32(1e-6))
        face = np.array([k for k, _ in near])[first]
        to_unit, c = self._unit
        local = np.stack([along(row, x, y) / q - np.float32(k) for row, k in zip(to_unit, c, strict=True)], -1)
        u, v = self._on_face(local, face, c)
        return Hit(q, face, u, v, self._normal(local, face, to_unit, c))

    def _on_face(self, local: Field, face: npt.NDArray[np.intp], c: Vector) -> tuple[Field, Field]:
        half = self.half_m.astype(np.float32)
        u, v = np.zeros_like(local[..., 0]), np.zeros_like(local[..., 0])
        for k in range(3):
            on = face == k
            a, b = (0, 1) if k == 2 else (0, 2) if k == 1 else (2, 1)
            right = self._right(-np.sign(c[k]) * self.axes[k], a, b)
            u[on], v[on] = right * local[..., a][on] * half[a], -local[..., b][on] * half[b]
        on = face == 3
        if on.any():  # the seam of the angle is turned away from the viewer
            angle = np.arctan2(local[..., 0][on], local[..., 2][on]) - np.float32(np.arctan2(-c[0], -c[2]))
            angle = (angle + np.pi) % (2 * np.pi) - np.pi
            height = local[..., 1][on]
            u[on] = self._right(self.axes[2], 0, 1) * angle * half[0]
            v[on] = -half[1] * (np.arcsin(np.clip(height, -1, 1)) if self.form == "ellipsoid" else height)
        return u, v

    def _right(self, normal: Vector, a: int, b: int) -> np.float32:
        """1 if axis ``a`` runs to the right for one who looks at the face with axis ``b`` up, else -1."""
        return np.float32(np.sign(np.cross(self.axes[b], normal) @ self.axes[a]))

    def _normal(self, local: Field, face: npt.NDArray[np.intp], to_unit: Vector, c: Vector) -> Field:
        normal = np.zeros_like(local)
        for k in range(3):
            normal[face == k] = -np.sign(c[k]) * self.axes[k]
        on = face == 3
        if on.any():
            of_round = list(self._round)
            normal[on] = local[on][:, of_round] @ to_unit[of_round].astype(np.float32)
        return np.asarray(normal / np.maximum(np.linalg.norm(normal, axis=-1, keepdims=True), 1e-9), np.float32)
