"""What simulated rigs look at: textured cards and balls before a wall, seen exactly by any pinhole with distortion.

Convention: the world is the frame of camera ``a`` (:mod:`dualpix.capture.rig.geometry`), in m. Light is gray and
linear, 0 to 1.
"""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
import numpy.typing as npt

from dualpix.capture.rig.geometry import Array, Intrinsics
from dualpix.capture.scenes.textures import dead_leaves, natural, plain, spectral_noise, text
from dualpix.capture.types import FloatImage, Mask

_FINE = 2
"""Samples a pixel has each way."""
_LUMINANCE = np.array([0.2126, 0.7152, 0.0722], np.float32)
_FARTHEST_M, _SKY = 500.0, 0.25
"""Where there is nothing: gray, and very far."""
_WIDEST = 0.9
"""Rays (x, y, 1) beyond: distortion is not trusted there."""
_BEFORE_REL = 2e-3
"""A thing this part of the way nearer than a point hides it: depth has the precision of float32."""
_EDGE_PX = 6
"""By which distortion bends a straight edge out of the box of its corners, at most."""


@dataclass(frozen=True)
class Card:
    """A flat textured rectangle."""

    centre: Array
    axes: Array
    """(2, 3) unit vectors of its columns and its rows."""
    half_m: tuple[float, float]
    texture: FloatImage
    """(h, w) over the whole of it."""

    def corners(self) -> Array:
        """(4, 3)"""
        u, v = (half * axis for half, axis in zip(self.half_m, self.axes, strict=True))
        return np.asarray(self.centre + np.stack([-u - v, u - v, -u + v, u + v]))

    def hit(self, origin: Array, rays: Array) -> tuple[FloatImage, FloatImage]:
        """(..., ) ray parameter, infinite where it is missed, and light."""
        normal = np.cross(self.axes[0], self.axes[1])
        with np.errstate(divide="ignore", invalid="ignore"):
            reach = ((self.centre - origin) @ normal) / (rays @ normal)
            at = origin + reach[..., None] * rays - self.centre
        u, v = at @ self.axes[0] / self.half_m[0], at @ self.axes[1] / self.half_m[1]
        inside = (reach > 0) & (np.abs(u) <= 1) & (np.abs(v) <= 1)
        return np.where(inside, reach, np.inf).astype(np.float32), _sampled(self.texture, u, v)


@dataclass(frozen=True)
class Ball:
    """A textured sphere."""

    centre: Array
    radius_m: float
    texture: FloatImage
    """(h, w) over the half that looks at the camera."""

    def corners(self) -> Array:
        """(8, 3) of the box around it."""
        signs = np.stack(np.meshgrid([-1, 1], [-1, 1], [-1, 1]), -1).reshape(-1, 3)
        return np.asarray(self.centre + signs * self.radius_m)

    def hit(self, origin: Array, rays: Array) -> tuple[FloatImage, FloatImage]:
        """As :meth:`Card.hit`."""
        to = self.centre - origin
        a, b = np.sum(rays * rays, -1), rays @ to
        root = b * b - a * (to @ to - self.radius_m**2)
        with np.errstate(invalid="ignore"):
            reach = (b - np.sqrt(root)) / a
        normal = (origin + reach[..., None] * rays - self.centre) / self.radius_m
        inside = (root > 0) & (reach > 0)
        return np.where(inside, reach, np.inf).astype(np.float32), _sampled(
            self.texture, normal[..., 0], normal[..., 1]
        )


Thing = Card | Ball


def see(
    things: tuple[Thing, ...], camera: Intrinsics, rotation: Array, translation_m: Array
) -> tuple[FloatImage, FloatImage]:
    """What a camera with ``X_camera = R X + t`` sees.

    Returns:
        Light (H, W), averaged over each pixel, and depth (H, W) in m in the camera's frame at the pixels' centres.
    """
    origin = -rotation.T @ translation_m
    windows = [_window(thing, camera, rotation, translation_m) for thing in things]
    rays, slope_y, slope_x = (field @ rotation for field in camera.ray_field)
    light = np.zeros(camera.size_hw, np.float32)
    for y, x in np.ndindex(_FINE, _FINE):
        dx, dy = ((k + 0.5) / _FINE - 0.5 for k in (x, y))
        light += _first(things, windows, origin, rays + dx * slope_x + dy * slope_y)[1]
    depth, _ = _first(things, windows, origin, rays)
    return light / np.float32(_FINE**2), depth


def hides(things: tuple[Thing, ...], points: Array, eye: Array) -> Mask:
    """Whether something is before points (H, W, 3) as seen from ``eye``."""
    everywhere = [(slice(0, points.shape[0]), slice(0, points.shape[1]))] * len(things)
    first, _ = _first(things, everywhere, eye, points - eye)
    return np.asarray(first < 1 - _BEFORE_REL)


def random_things(
    rng: np.random.Generator, focal_px: float, *, near_m: float = 0.35, far_m: float = 2.0
) -> tuple[Thing, ...]:
    """A wall, a floor, and four to seven cards and balls between ``near_m`` and ``far_m``."""
    wall_m = far_m * float(rng.uniform(0.85, 1.0))
    things: list[Thing] = [
        _card(rng, focal_px, np.array([0, 0, wall_m]), rng.uniform(-0.25, 0.25, 2), (1.3 * wall_m, 1.1 * wall_m)),
        _card(rng, focal_px, np.array([0, 0.4, 0.6 * wall_m]), np.array([1.4, 0.0]), (wall_m, 0.8 * wall_m)),
    ]
    for _ in range(int(rng.integers(4, 8))):
        z = 1 / float(rng.uniform(1 / (0.8 * far_m), 1 / near_m))
        centre = np.array([*(rng.uniform(-0.45, 0.45, 2) * z * (1.0, 0.75)), z])
        size = z * float(rng.uniform(0.08, 0.22))
        if rng.random() < 0.35:
            things.append(Ball(centre, size, _texture(rng, round(2.2 * size / z * focal_px))))
        else:
            things.append(_card(rng, focal_px, centre, rng.uniform(-0.6, 0.6, 2), (size, size * rng.uniform(0.6, 1.6))))
    return tuple(things)


def _card(rng: np.random.Generator, focal_px: float, centre: Array, tilt: Array, half_m: tuple[float, float]) -> Card:
    turn, _ = cv2.Rodrigues(np.array([tilt[0], tilt[1], float(rng.uniform(-0.3, 0.3))]))
    size_px = min(1600, round(2 * max(half_m) / max(float(centre[2]), 0.2) * focal_px))
    return Card(centre, np.asarray(turn, np.float64).T[:2], half_m, _texture(rng, size_px))


def _texture(rng: np.random.Generator, size_px: int) -> FloatImage:
    """Mostly something to match; one in eight hardly."""
    make = (natural, natural, natural, dead_leaves, dead_leaves, dead_leaves, text, plain)[int(rng.integers(8))]
    size = max(48, size_px)
    light = np.asarray(make(rng, size, size) @ _LUMINANCE, np.float32)
    if make is not plain:
        grain = spectral_noise(rng, size, size, float(rng.uniform(0.2, 0.9)))
        light = light * np.exp(float(rng.uniform(0.05, 0.25)) * grain)
    return np.clip(light, 0.01, 0.95).astype(np.float32)


def _first(
    things: tuple[Thing, ...], windows: list[tuple[slice, slice]], origin: Array, rays: Array
) -> tuple[FloatImage, FloatImage]:
    nearest = np.full(rays.shape[:-1], _FARTHEST_M, np.float32)
    light = np.full(rays.shape[:-1], _SKY, np.float32)
    for thing, window in zip(things, windows, strict=True):
        reach, shade = thing.hit(origin, rays[window])
        nearer = reach < nearest[window]
        nearest[window][nearer], light[window][nearer] = reach[nearer], shade[nearer]
    return nearest, light


def _window(thing: Thing, camera: Intrinsics, rotation: Array, translation_m: Array) -> tuple[slice, slice]:
    """The part of the picture that a thing is in; all of it where a part of the thing is beside or behind."""
    height, width = camera.size_hw
    corners = thing.corners() @ rotation.T + translation_m
    rays = corners[:, :2] / np.maximum(corners[:, 2:], 1e-6)
    if corners[:, 2].min() <= 0 or np.abs(rays).max() > _WIDEST:
        return slice(0, height), slice(0, width)
    pixels = camera.project(corners)
    (left, top), (right, bottom) = np.floor(pixels.min(0)) - _EDGE_PX, np.ceil(pixels.max(0)) + _EDGE_PX
    columns = slice(int(np.clip(left, 0, width)), int(np.clip(right, 0, width)))
    return slice(int(np.clip(top, 0, height)), int(np.clip(bottom, 0, height))), columns


def _sampled(texture: FloatImage, u: npt.NDArray[np.float64], v: npt.NDArray[np.float64]) -> FloatImage:
    """Bilinear, at u and v of -1 to 1."""
    height, width = texture.shape
    x = np.nan_to_num((u + 1) / 2 * width - 0.5, nan=-9, posinf=-9, neginf=-9).clip(-9, width + 9).astype(np.float32)
    y = np.nan_to_num((v + 1) / 2 * height - 0.5, nan=-9, posinf=-9, neginf=-9).clip(-9, height + 9).astype(np.float32)
    return np.asarray(cv2.remap(texture, x, y, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE), np.float32)
