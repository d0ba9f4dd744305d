"""Flat and bent cut-outs: polygons on a plane in space, for leaves, twigs, fences, wires, signs and curtains.

Convention: see :mod:`dualpix.capture.scenes.geometry`. Positions on a card are (u, v) in m along its first two axes,
right and down as the viewer sees it; its third axis is the normal, towards the viewer. A bent card stands out from its
plane by a sine.
"""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
import numpy.typing as npt

from dualpix.capture.scenes.geometry import SUPERSAMPLING, Camera, Field, Hit, Vector, Window, along, shrink


@dataclass(frozen=True)
class Bend:
    """Height over the plane: ``amplitude_m * sin(frequency . (u, v) + phase)``."""

    amplitude_m: float
    frequency_per_m: tuple[float, float]
    """rad/m along u and v."""
    phase_rad: float

    def height_and_slope(self, u: Field, v: Field) -> tuple[Field, Field]:
        """Height in m, and its derivative along the direction of the wave times the wave number's inverse."""
        phase = u * np.float32(self.frequency_per_m[0]) + v * np.float32(self.frequency_per_m[1])
        phase = phase + np.float32(self.phase_rad)
        amplitude = np.float32(self.amplitude_m)
        return np.asarray(amplitude * np.sin(phase)), np.asarray(amplitude * np.cos(phase))


@dataclass(frozen=True)
class Card:
    """Polygons on a plane, drawn one over the other."""

    origin: Vector
    axes: Vector
    """(3, 3) rows: u, v, normal towards the viewer."""
    parts: tuple[Vector, ...]
    """Each (N, 2) in m."""
    tints: Vector | None = None
    """(len(parts), 3) factors on the albedo, for leaves of many greens."""
    bend: Bend | None = None

    def points(self, part: Vector) -> Vector:
        """(N, 3) positions of (N, 2) card positions in the camera frame."""
        return np.asarray(self.origin + part @ self.axes[:2])

    @property
    def corners(self) -> Vector:
        """(4, 3) corners of the rectangle around all parts."""
        every = np.concatenate(self.parts)
        (u0, v0), (u1, v1) = every.min(0), every.max(0)
        return self.points(np.array([[u0, v0], [u1, v0], [u0, v1], [u1, v1]]))

    def holds_camera(self) -> bool:
        """Whether the viewpoint is on the wrong side, or too near the plane to bend it."""
        distance = -float(self.axes[2] @ self.origin)
        return distance <= (1.5 * abs(self.bend.amplitude_m) if self.bend else 0.0) + 1e-9

    def _pixels(self, camera: Camera, window: Window) -> list[npt.NDArray[np.int32]]:
        """Parts in samples of the supersampled window, in 1/16."""
        offset = (window.left - 0.5, window.top - 0.5)
        out: list[npt.NDArray[np.int32]] = []
        for part in self.parts:
            fine = (camera.project(self.points(part)) - offset) * SUPERSAMPLING - 0.5
            out.append(np.clip(np.round(fine * 16), -(1 << 24), 1 << 24).astype(np.int32))
        return out

    def coverage(self, camera: Camera, window: Window) -> Field:
        """(h, w) antialiased, in [0, 1]."""
        h, w = window.shape
        mask = np.zeros((h * SUPERSAMPLING, w * SUPERSAMPLING), np.uint8)
        for outline in self._pixels(camera, window):
            cv2.fillPoly(mask, [outline], 255, cv2.LINE_8, 4)
        return np.asarray(np.minimum(shrink(mask.astype(np.float32)) / 255, 1), np.float32)

    def tint(self, camera: Camera, window: Window) -> Field | None:
        """(h, w, 3) factor on the albedo; parts not covered have the mean."""
        if self.tints is None:
            return None
        h, w = window.shape
        fine = np.empty((h * SUPERSAMPLING, w * SUPERSAMPLING, 3), np.float32)
        fine[:] = self.tints.mean(0)
        for outline, tint in zip(self._pixels(camera, window), self.tints, strict=True):
            cv2.fillPoly(fine, [outline], tint.tolist(), cv2.LINE_8, 4)
        return shrink(fine)

    def hit(self, camera: Camera, window: Window) -> Hit:
        """The plane, bent, through the pixel centres."""
        x, y = camera.rays(window)
        u_axis, v_axis, normal = self.axes
        offset = np.float32(normal @ self.origin)
        q = np.maximum(along(normal, x, y) / offset, np.float32(1e-6))
        u = along(u_axis, x, y) / q - np.float32(u_axis @ self.origin)
        v = along(v_axis, x, y) / q - np.float32(v_axis @ self.origin)
        facing = np.broadcast_to(normal.astype(np.float32), (*window.shape, 3))
        if self.bend is not None:
            height, slope = self.bend.height_and_slope(u, v)
            q = q * offset / (offset + height)
            fu, fv = (np.float32(f) for f in self.bend.frequency_per_m)
            gradient = slope[..., None] * (fu * u_axis + fv * v_axis).astype(np.float32)
            facing = facing - gradient
            facing = facing / np.linalg.norm(facing, axis=-1, keepdims=True)
        return Hit(np.asarray(q, np.float32), np.zeros(window.shape, np.intp), u, v, np.asarray(facing, np.float32))


def axes_facing(normal: Vector, up: Vector) -> Vector:
    """(3, 3) axes of a card with this normal: u level and to the right for one who looks at it, v down."""
    n = normal / np.linalg.norm(normal)
    u = np.cross(up, n)
    if np.linalg.norm(u) < 1e-3:
        u = np.cross(np.array([0.0, 0.0, -1.0]) if abs(n[2]) < 0.9 else np.array([0.0, -1.0, 0.0]), n)
    u = u / np.linalg.norm(u)
    return np.stack([u, np.cross(u, n), n])


def rectangle(half_u: float, half_v: float, centre: tuple[float, float] = (0.0, 0.0)) -> Vector:
    """(4, 2) outline."""
    return np.array([[-half_u, -half_v], [half_u, -half_v], [half_u, half_v], [-half_u, half_v]]) + centre


def outline(rng: np.random.Generator, size: float) -> Vector:
    """(N, 2) a random closed outline of radius about ``size``: polygon, blob, ellipse, star or rectangle."""
    kind = rng.random()
    if kind < 0.2:
        return rectangle(size, size * float(rng.uniform(0.3, 1.0))) @ _turn(rng)
    if kind < 0.4:
        corners = int(rng.integers(3, 8))
        angle = (np.arange(corners) + rng.uniform(-0.35, 0.35, corners)) * 2 * np.pi / corners
        radius = size * rng.uniform(0.6, 1.2, corners)
    elif kind < 0.55:
        points = 2 * int(rng.integers(4, 9))
        angle = np.arange(points) * 2 * np.pi / points
        radius = size * np.where(np.arange(points) % 2, 1.0, rng.uniform(0.35, 0.8))
    else:
        angle = np.linspace(0, 2 * np.pi, 72, endpoint=False)
        radius = np.full(72, size)
        if kind < 0.85:
            radius = radius * (
                1 + sum(rng.normal(0, 0.35 / k) * np.cos(k * angle + rng.uniform(0, 6)) for k in range(2, 7))
            )
    points_ = np.stack([np.cos(angle), np.sin(angle)], -1) * np.maximum(radius, 0.1 * size)[:, None]
    return np.asarray((points_ * (1.0, rng.uniform(0.5, 1.0))) @ _turn(rng))


def _turn(rng: np.random.Generator) -> Vector:
    a = rng.uniform(0, 2 * np.pi)
    return np.array([[np.cos(a), np.sin(a)], [-np.sin(a), np.cos(a)]])


def leaf(length: float, width: float) -> Vector:
    """(12, 2) a pointed oval from (0, 0) along +u."""
    t = np.linspace(0, 1, 7)
    half = width / 2 * np.sin(np.pi * t**0.8)
    return np.concatenate([np.stack([t * length, half], -1), np.stack([t * length, -half], -1)[5:0:-1]])


def stroke(points: Vector, width: float) -> list[Vector]:
    """Quads of ``width`` along a polyline (N, 2), a little longer than each segment so that joints close."""
    step = np.diff(points, axis=0)
    length = np.linalg.norm(step, axis=1, keepdims=True) + 1e-12
    forward = step / length
    side = np.stack([-forward[:, 1], forward[:, 0]], -1) * (width / 2)
    a, b = points[:-1] - forward * (width / 4), points[1:] + forward * (width / 4)
    return list(np.stack([a + side, b + side, b - side, a - side], 1))


def foliage(rng: np.random.Generator, radius: float, size: float, count: int) -> tuple[tuple[Vector, ...], Vector]:
    """Leaves crowded into a clump: outlines, and a tint for each."""
    shape = leaf(size, size * float(rng.uniform(0.2, 0.6))) if rng.random() < 0.7 else outline(rng, size / 2)
    angle, away = rng.uniform(0, 2 * np.pi, count), radius * rng.uniform(0, 1, count) ** rng.uniform(0.4, 0.8)
    lobes = 1 + 0.3 * np.sin(angle * rng.integers(2, 5) + rng.uniform(0, 6))
    at = np.stack([np.cos(angle), np.sin(angle)], -1) * (away * lobes)[:, None]
    parts = tuple(p + float(np.exp(rng.normal(0, 0.25))) * shape @ _turn(rng) for p in at)
    tints = np.exp(rng.normal(0, 0.35, (count, 1)) + rng.normal(0, 0.06, (count, 3)))
    # upper leaves catch the light; the lower side of a clump is dark
    return parts, tints * np.clip(0.95 - 0.45 * at[:, 1:] / radius, 0.35, 1.5)


def branches(rng: np.random.Generator, length: float, width: float, depth: int) -> list[tuple[Vector, float]]:
    """A twig that grows up from (0, 0): polylines (N, 2) and widths."""
    out: list[tuple[Vector, float]] = []
    pending = [(np.zeros(2), float(rng.normal(-np.pi / 2, 0.2)), length, width, depth)]
    while pending:
        start, angle, reach, thick, level = pending.pop()
        angles = angle + np.cumsum(rng.normal(0, 0.18, 5))
        steps = np.cumsum(np.stack([np.cos(angles), np.sin(angles)], -1), 0) * reach / 5
        path = np.concatenate([start[None], start + steps])
        out.append((path, thick))
        for _ in range(int(rng.integers(1, 4)) if level > 0 else 0):
            fork, turned = path[int(rng.integers(2, 6))], float(angles[-1] + rng.normal(0, 0.7))
            pending.append((fork, turned, reach * float(rng.uniform(0.4, 0.8)), thick * 0.6, level - 1))
    return out
