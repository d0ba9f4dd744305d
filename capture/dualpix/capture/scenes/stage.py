"""A scene being put together: walls and sky behind, things in front, then light, layers and scale.

Convention: see :mod:`dualpix.capture.scenes.geometry`. Things are laid far to near. One that would reach behind what it
covers is brought forward in inverse depth, which keeps planes planes; one that would have to come far, come nearer than
the scene's near limit, or cover most of the canvas is left out. Each layer is one continuous surface.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

import cv2
import numpy as np

from dualpix.capture.scenes.cards import Card
from dualpix.capture.scenes.geometry import Camera, Field, Hit, Solid, Vector, Window, along
from dualpix.capture.scenes.materials import Light, Material, draw_material, shade
from dualpix.capture.scenes.procedural import Scene, SceneLayer
from dualpix.capture.scenes.textures import spectral_noise
from dualpix.capture.scenes.tiles import Tile

_MAX_LAYERS = 15
_LIFT_SHARE = 0.05
"""How far a thing may be brought forward, as a share of the nearest inverse depth allowed."""
_MAX_COVER = 0.7


@dataclass(frozen=True)
class Wall:
    """One plane of the background: floor, wall, ceiling; ``axes`` as of a card."""

    origin: Vector
    axes: Vector
    material: Material

    def inverse_depth(self, x: Field, y: Field) -> Field:
        """q of the plane along rays; negative behind the camera."""
        normal = self.axes[2]
        return np.asarray(along(normal, x, y) / np.float32(normal @ self.origin))

    def inverse_depth_along(self, ray: Vector) -> float:
        """q along one ray (3,)."""
        return float(self.axes[2] @ ray / (self.axes[2] @ self.origin))


@dataclass(frozen=True)
class Shadow:
    """Where a thing stands on the ground, for its shadow there."""

    at_m: tuple[float, float]
    radius_m: float
    height_m: float


@dataclass(frozen=True)
class Thing:
    """One object of the scene."""

    shape: Solid | Card
    material: Material
    shadow: Shadow | None = None


@dataclass(frozen=True)
class _Placed:
    thing: Thing
    window: Window
    alpha: Field
    hit: Hit
    inverse_depth: Field


@dataclass
class Stage:
    """Collects what a recipe puts up, and builds the scene."""

    rng: np.random.Generator
    camera: Camera
    light: Light
    near_m: float
    """Nothing comes nearer."""
    far_m: float
    """Nothing is farther but the sky; infinite where there is one."""
    walls: list[Wall] = field(default_factory=list)
    ground: Wall | None = None
    """The one of the walls that things stand on."""
    things: list[Thing] = field(default_factory=list)
    sky: Callable[[np.random.Generator, Camera, Light], Tile] | None = None

    @property
    def up(self) -> Vector:
        """(3,) world's up in the camera frame."""
        return self.camera.direction((0.0, 1.0, 0.0))

    def material_for(self, shape: Solid | Card, kinds: dict[str, float]) -> Material:
        """A random material, as fine as the pixels of the shape's nearest part."""
        corners = shape.corners
        nearest = max(float(corners[:, 2].min()), self.near_m)
        window = self.camera.window_of(corners) if corners[:, 2].min() > 0.3 * self.near_m else self.camera.whole
        extent = max(window.shape) if window else 32
        return self._material(kinds, extent, nearest)

    def _material(self, kinds: dict[str, float], extent_px: int, nearest_m: float) -> Material:
        rng = self.rng.spawn(1)[0]
        texels = int(np.clip(2 ** np.ceil(np.log2(extent_px * 0.8)), 32, 256))
        coarse = float(np.exp(rng.uniform(np.log(0.5), np.log(1.3))))
        return draw_material(rng, kinds, texels, self.camera.focal_px / (nearest_m * coarse))

    def add(self, shape: Solid | Card, material: Material | dict[str, float], shadow: Shadow | None = None) -> None:
        """Put a thing up; ``material`` may be weights by kind, to draw one that fits its size."""
        if not isinstance(material, Material):
            material = self.material_for(shape, material)
        self.things.append(Thing(shape, material, shadow))

    def add_wall(self, origin: Vector, axes: Vector, kinds: dict[str, float]) -> Wall:
        """A background plane, pushed back until no part of it in view is nearer than the near limit."""
        nearest = float((self.camera.corners() @ axes[2] / (axes[2] @ origin)).max())
        limit = 0.9 / self.near_m
        origin = origin * max(1.0, nearest / limit)
        nearest = float(np.clip(nearest, 1e-3, limit))
        wall = Wall(origin, axes, self._material(kinds, max(self.camera.size_hw), 1 / nearest))
        self.walls.append(wall)
        return wall

    def build(self) -> Scene:
        """Lay everything far to near, light it, and scale inverse depth to proximity."""
        hit = self._background()
        below = hit.inverse_depth.copy()
        placed: list[_Placed] = []
        for thing in sorted(self.things, key=lambda t: -float(np.linalg.norm(t.shape.corners.mean(0)))):
            if len(placed) < _MAX_LAYERS and (one := self._place(thing, below)):
                placed.append(one)
        q_far = float(hit.inverse_depth.min())
        q_near = max(float(below.max()), q_far + 0.02 * max(q_far, 0.1 / self.near_m))
        illumination = self._illumination()
        softness = float(self.rng.uniform(0.3, 0.6))

        def layer(colour: Tile, alpha: Field, q: Field, window: Window) -> SceneLayer:
            lit = cv2.GaussianBlur(colour * illumination[window.slices], (0, 0), softness)
            proximity = np.clip((q - np.float32(q_far)) / np.float32(q_near - q_far), 0, 1)
            return SceneLayer(
                self._spread(np.minimum(lit, 60.0), window),
                self._spread(alpha, window, cv2.BORDER_CONSTANT),
                self._spread(proximity, window),
            )

        shadows = [one.thing.shadow for one in placed if one.thing.shadow]
        ones = np.ones(self.camera.size_hw, np.float32)
        layers = [layer(self._paint_background(hit, shadows), ones, hit.inverse_depth, self.camera.whole)]
        layers += [layer(self._paint(one), one.alpha, one.inverse_depth, one.window) for one in placed]
        return _exposed(Scene(tuple(layers), (1 / q_near, 1 / q_far if q_far > 0 else np.inf)), self.rng)

    def _background(self) -> Hit:
        """The nearest wall along each ray, else the sky at infinity."""
        window = self.camera.whole
        x, y = self.camera.rays(window)
        q = np.stack(
            [np.zeros(window.shape, np.float32)]
            + [np.broadcast_to(w.inverse_depth(x, y), window.shape) for w in self.walls]
        )
        face = q.argmax(0) - 1
        q_max = q.max(0)
        u, v = np.zeros(window.shape, np.float32), np.zeros(window.shape, np.float32)
        normal = np.zeros((*window.shape, 3), np.float32)
        normal[..., 2] = -1.0
        z = 1 / np.maximum(q_max, 1e-6)
        for k, wall in enumerate(self.walls):
            on = face == k
            for out, axis in ((u, wall.axes[0]), (v, wall.axes[1])):
                position = along(axis, x, y) * z - np.float32(axis @ wall.origin)
                out[on] = position[on]
            normal[on] = wall.axes[2]
        return Hit(q_max, face, u, v, normal)

    def _place(self, thing: Thing, below: Field) -> _Placed | None:
        """Fit a thing in front of what is there; None if it does not fit."""
        shape = thing.shape
        if shape.holds_camera() or shape.corners[:, 2].min() < 0.3 * self.near_m:
            return None
        window = self.camera.window_of(shape.corners)
        if window is None:
            return None
        alpha = shape.coverage(self.camera, window)
        covered = alpha > 0
        if np.count_nonzero(alpha > 0.5) < 6 or alpha.sum() > _MAX_COVER * below.size:
            return None
        hit = shape.hit(self.camera, window)
        q = np.clip(hit.inverse_depth, hit.inverse_depth[covered].min(), hit.inverse_depth[covered].max())
        behind = below[window.slices]
        lift = max(0.0, float((behind - q)[covered].max()) + 1e-4 / self.near_m)
        if lift > _LIFT_SHARE / self.near_m or float(q[covered].max()) + lift > 1 / self.near_m:
            return None
        q = np.asarray(q + np.float32(lift), np.float32)
        below[window.slices] = np.where(covered, np.maximum(behind, q), behind)
        return _Placed(thing, window, alpha, hit, q)

    def _paint(self, one: _Placed) -> Tile:
        colour = shade(one.thing.material, one.hit, self.camera, one.window, self.light)
        tint = one.thing.shape.tint(self.camera, one.window) if isinstance(one.thing.shape, Card) else None
        return colour if tint is None else colour * tint

    def _paint_background(self, hit: Hit, shadows: list[Shadow]) -> Tile:
        if self.sky is not None:
            out = self.sky(self.rng.spawn(1)[0], self.camera, self.light)
        elif (hit.face < 0).any():
            raise ValueError("a stage without a sky needs walls along every ray")
        else:
            out = np.empty((*self.camera.size_hw, 3), np.float32)
        for k, wall in enumerate(self.walls):
            on = hit.face == k
            if not on.any():
                continue
            rows, columns = np.flatnonzero(on.any(1)), np.flatnonzero(on.any(0))
            window = Window(int(rows[0]), int(rows[-1]) + 1, int(columns[0]), int(columns[-1]) + 1)
            at = window.slices
            part = Hit(hit.inverse_depth[at], hit.face[at], hit.u_m[at], hit.v_m[at], hit.normal[at])
            colour = shade(wall.material, part, self.camera, window, self.light)
            if wall is self.ground:
                colour = colour * self._shadows(wall, part, shadows)[..., None]
            out[at] = np.where(on[at][..., None], colour, out[at])
        return out

    def _shadows(self, wall: Wall, ground: Hit, shadows: list[Shadow]) -> Field:
        """(h, w) share of light left by what stands on the ground: dark at the foot, drawn out away from the source."""
        left = np.ones(ground.u_m.shape, np.float32)
        away = -self.light.to_source @ wall.axes[:2].T / max(0.35, float(self.light.to_source @ wall.axes[2]))
        for shadow in shadows:
            reach = away * shadow.height_m
            length = float(np.linalg.norm(reach))
            forward = reach / (length + 1e-9)
            du, dv = ground.u_m - np.float32(shadow.at_m[0]), ground.v_m - np.float32(shadow.at_m[1])
            on_axis = du * np.float32(forward[0]) + dv * np.float32(forward[1])
            across = (dv * np.float32(forward[0]) - du * np.float32(forward[1])) / np.float32(shadow.radius_m)
            beyond = (on_axis - np.clip(on_axis, 0, length)) / np.float32(shadow.radius_m)
            left *= 1 - np.float32(0.8) * np.exp(-((across**2 + beyond**2) ** 2))
        return left

    def _illumination(self) -> Field:
        """(H, W, 1) uneven light over the whole picture: near lamps, windows, shadows out of view."""
        field_ = spectral_noise(self.rng.spawn(1)[0], *self.camera.size_hw, 2.6)
        return np.asarray(np.exp(np.float32(self.rng.uniform(0.1, 0.6)) * field_)[..., None], np.float32)

    def _spread(self, values: Field, window: Window, border: int = cv2.BORDER_REPLICATE) -> Field:
        """A window's values over the whole canvas, continued or zero outside."""
        height, width = self.camera.size_hw
        edges = (window.top, height - window.bottom, window.left, width - window.right)
        return np.asarray(cv2.copyMakeBorder(np.ascontiguousarray(values, np.float32), *edges, border), np.float32)


def _exposed(scene: Scene, rng: np.random.Generator) -> Scene:
    """The scene at an exposure that puts the mean of what is not a light source at a usual level."""
    seen = np.minimum(scene.all_in_focus(), 2.0)
    gain = np.float32(np.exp(rng.uniform(np.log(0.08), np.log(0.3))) / max(float(seen.mean()), 1e-4))
    layers = tuple(SceneLayer(layer.colour * gain, layer.alpha, layer.proximity) for layer in scene.layers)
    return Scene(layers, scene.depth_range_m)
