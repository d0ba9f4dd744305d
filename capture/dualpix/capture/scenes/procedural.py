"""Procedural layered scenes.

Convention: ``proximity`` is inverse depth scaled to the scene, 0 = farthest point, 1 = nearest:
``1/z = (1 - p) / z_far + p / z_near``. A plane in space has a proximity that is affine in image coordinates, and so
has its circle of confusion; a slanted wall is therefore exact, not an approximation. Layers come back to front, and
where a layer is visible it is never behind what it covers.
"""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
import numpy.typing as npt

from dualpix.capture.scenes.textures import random_texture, spectral_noise

Plane = npt.NDArray[np.float32]


@dataclass(frozen=True)
class SceneLayer:
    """One object: texture, coverage and proximity over the whole canvas."""

    colour: npt.NDArray[np.float32]
    """(H, W, 3) linear radiance, defined everywhere: what is hidden has a colour too."""
    alpha: Plane
    """(H, W) coverage in [0, 1]."""
    proximity: Plane
    """(H, W) in [0, 1], defined everywhere."""


@dataclass(frozen=True)
class Scene:
    """Layers back to front; the first covers the canvas."""

    layers: tuple[SceneLayer, ...]
    depth_range_m: tuple[float, float] | None = None
    """(z_near, z_far) in m: the depth of proximity 1 and 0, z_far may be infinite; None for a scene without scale."""

    @property
    def size_hw(self) -> tuple[int, int]:
        """(height, width) of the canvas in pixels."""
        height, width = self.layers[0].alpha.shape
        return int(height), int(width)

    def all_in_focus(self) -> npt.NDArray[np.float32]:
        """(H, W, 3) what a pinhole sees."""
        out = self.layers[0].colour.copy()
        for layer in self.layers[1:]:
            a = layer.alpha[..., None]
            out = out * (1 - a) + layer.colour * a
        return out

    def proximity(self) -> Plane:
        """(H, W) proximity of the visible surface: the front-most layer that covers at least half the pixel."""
        out = self.layers[0].proximity.copy()
        for layer in self.layers[1:]:
            out = np.where(layer.alpha >= 0.5, layer.proximity, out)
        return out

    def depth_m(self) -> Plane:
        """(H, W) depth in m of the visible surface; infinite where the proximity is 0 and z_far is infinite.

        Raises:
            ValueError: the scene has no metric scale.
        """
        if self.depth_range_m is None:
            raise ValueError("this scene has no metric scale: expected depth_range_m, as make_varied_scene sets it")
        near, far = self.depth_range_m
        proximity = self.proximity()
        inverse = (1.0 - proximity) / np.float32(far) + proximity / np.float32(near)
        with np.errstate(divide="ignore"):
            return np.asarray(1.0 / inverse, np.float32)


def make_scene(seed: int, size_hw: tuple[int, int]) -> Scene:
    """A random scene of a background and up to nine objects; the same seed and size give the same scene."""
    rng = np.random.default_rng([seed, *size_hw])
    height, width = size_hw
    light = _light(rng, height, width)
    layers = [
        SceneLayer(random_texture(rng, height, width) * light, np.ones(size_hw, np.float32), _background(rng, size_hw))
    ]
    below = layers[0].proximity
    covered = np.ones(size_hw, bool)
    for level in np.sort(rng.uniform(0.05, 1.0, int(rng.integers(1, 10)))):
        alpha = _shape(rng, height, width)
        if alpha.max() < 0.5:
            continue
        covered = alpha > 0.02
        tilt = _plane(rng, size_hw, centre=float(level), slope=float(rng.exponential(0.12)))
        if rng.random() < 0.3:
            tilt = tilt + _bulge(alpha) * float(rng.uniform(0.02, 0.2))
        # never behind what it covers: lift the whole object, which keeps a plane a plane
        lift = float(np.max(np.where(covered, below - tilt, -np.inf))) + 0.002
        proximity = np.clip(tilt + max(0.0, lift), 0.0, 1.0).astype(np.float32)
        layers.append(SceneLayer(random_texture(rng, height, width) * light, alpha, proximity))
        below = np.where(covered, np.maximum(below, proximity), below)
    return Scene(tuple(layers))


def _light(rng: np.random.Generator, height: int, width: int) -> npt.NDArray[np.float32]:
    """Smooth illumination, (H, W, 1), mean about 1."""
    field = spectral_noise(rng, height, width, 2.2)
    return np.asarray(np.exp(rng.uniform(0.0, 0.35) * field)[..., None], np.float32)


def _plane(rng: np.random.Generator, size_hw: tuple[int, int], *, centre: float, slope: float) -> Plane:
    """Affine proximity with ``slope`` across the canvas height, mostly nearer below, like the ground."""
    height, width = size_hw
    angle = rng.normal(np.pi / 2, 0.5) if rng.random() < 0.6 else rng.uniform(0, 2 * np.pi)
    yy, xx = np.mgrid[0:height, 0:width].astype(np.float32)
    along = ((xx - width / 2) * np.cos(angle) + (yy - height / 2) * np.sin(angle)) / height
    return np.asarray(centre + slope * along, np.float32)


def _background(rng: np.random.Generator, size_hw: tuple[int, int]) -> Plane:
    """Wall, slanted wall, floor, or floor meeting a wall; proximity from 0 up."""
    kind = rng.random()
    if kind < 0.25:
        return np.full(size_hw, rng.uniform(0.0, 0.15), np.float32)
    plane = _plane(rng, size_hw, centre=float(rng.uniform(0.0, 0.5)), slope=float(rng.uniform(0.1, 1.0)))
    if kind < 0.6:
        plane = np.maximum(plane, rng.uniform(0.0, 0.2))
    return np.clip(plane, 0.0, 1.0).astype(np.float32)


def _bulge(alpha: Plane) -> Plane:
    """Rounded relief inside a shape, (H, W) in [0, 1]: from the distance to its edge."""
    distance = cv2.distanceTransform((alpha > 0.5).astype(np.uint8), cv2.DIST_L2, 3)
    t = distance / max(float(distance.max()), 1.0)
    relief = np.sqrt(np.clip(1 - (1 - t) ** 2, 0, 1))
    return np.asarray(cv2.GaussianBlur(relief.astype(np.float32), (0, 0), 1.0), np.float32)


def _shape(rng: np.random.Generator, height: int, width: int) -> Plane:
    """Coverage of one object, antialiased, (H, W)."""
    drawers = (_blob, _polygon, _ellipse, _bars, _foliage, _glyphs)
    draw = drawers[int(rng.choice(len(drawers), p=[0.22, 0.28, 0.2, 0.12, 0.1, 0.08]))]
    fine = np.zeros((2 * height, 2 * width), np.uint8)
    draw(rng, fine)
    return (cv2.resize(fine, (width, height), interpolation=cv2.INTER_AREA) / 255.0).astype(np.float32)


def _centre_and_size(rng: np.random.Generator, mask: npt.NDArray[np.uint8]) -> tuple[float, float, float]:
    h, w = mask.shape
    size = h * float(np.exp(rng.uniform(np.log(0.06), np.log(0.45))))
    return float(rng.uniform(0, w)), float(rng.uniform(0.1 * h, h)), size


def _ellipse(rng: np.random.Generator, mask: npt.NDArray[np.uint8]) -> None:
    x, y, size = _centre_and_size(rng, mask)
    axes = (int(size * rng.uniform(0.4, 1)) + 2, int(size * rng.uniform(0.4, 1)) + 2)
    cv2.ellipse(mask, (int(x), int(y)), axes, float(rng.uniform(0, 180)), 0, 360, 255, -1)


def _polygon(rng: np.random.Generator, mask: npt.NDArray[np.uint8]) -> None:
    x, y, size = _centre_and_size(rng, mask)
    corners = int(rng.integers(3, 8))
    angles = (np.arange(corners) + rng.uniform(-0.35, 0.35, corners)) * 2 * np.pi / corners + rng.uniform(0, 6)
    radii = size * rng.uniform(0.6, 1.2, corners)
    points = np.stack([x + radii * np.cos(angles), y + radii * np.sin(angles)], -1)
    cv2.fillPoly(mask, [points.astype(np.int32)], 255)


def _blob(rng: np.random.Generator, mask: npt.NDArray[np.uint8]) -> None:
    """A smooth closed outline from a few Fourier terms."""
    x, y, size = _centre_and_size(rng, mask)
    t = np.linspace(0, 2 * np.pi, 90, endpoint=False)
    radius = np.ones_like(t)
    for k in range(2, 7):
        radius += rng.normal(0, 0.35 / k) * np.cos(k * t + rng.uniform(0, 6))
    points = np.stack([x + size * radius * np.cos(t), y + size * radius * np.sin(t)], -1)
    cv2.fillPoly(mask, [points.astype(np.int32)], 255)


def _bars(rng: np.random.Generator, mask: npt.NDArray[np.uint8]) -> None:
    """Thin structures: poles, wires, fences."""
    h, w = mask.shape
    count = int(rng.integers(1, 9))
    angle = rng.uniform(0, np.pi)
    for _ in range(count):
        a = angle + rng.normal(0, 0.1 if count > 3 else 0.6)
        x, y = rng.uniform(0, w), rng.uniform(0, h)
        dx, dy = np.cos(a) * 2 * w, np.sin(a) * 2 * w
        thickness = int(np.exp(rng.uniform(np.log(4), np.log(40))))
        cv2.line(mask, (int(x - dx), int(y - dy)), (int(x + dx), int(y + dy)), 255, thickness)


def _foliage(rng: np.random.Generator, mask: npt.NDArray[np.uint8]) -> None:
    """Thresholded noise: leaves with holes."""
    h, w = mask.shape
    noise = cv2.resize(spectral_noise(rng, h // 2, w // 2, rng.uniform(0.9, 1.5)), (w, h))
    window = np.zeros_like(mask)
    _blob(rng, window)
    mask[(noise > rng.uniform(-0.3, 0.8)) & (window > 0)] = 255


def _glyphs(rng: np.random.Generator, mask: npt.NDArray[np.uint8]) -> None:
    x, y, size = _centre_and_size(rng, mask)
    word = "".join(rng.choice(list("ABDEGHKMRSTXZ358"), size=int(rng.integers(1, 5))))
    scale = size / 22.0
    cv2.putText(
        mask, word, (int(x - size), int(y)), int(rng.integers(0, 4)), scale, 255, max(2, int(scale * 4)), cv2.LINE_AA
    )
