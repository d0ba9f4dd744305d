"""What a camera meets, by use: macro, desk, room, outdoor; sizes in m.

Convention: see :mod:`dualpix.capture.scenes.geometry`.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from dualpix.capture.scenes.cards import Card, axes_facing
from dualpix.capture.scenes.geometry import Camera, Solid
from dualpix.capture.scenes.materials import Light, Material, pyramid_of, with_decal
from dualpix.capture.scenes.props import (
    FLOOR,
    FRONT,
    GROUND,
    OBJECT,
    SHEET,
    WALL,
    Kinds,
    green,
    log_uniform,
    world_axes,
)
from dualpix.capture.scenes.stage import Stage
from dualpix.capture.scenes.textures import spectral_noise
from dualpix.capture.scenes.tiles import Tile


@dataclass(frozen=True)
class Use:
    """Where a camera stands and how far it sees."""

    near_m: float
    far_m: float
    focal: tuple[float, float]
    """Range of the focal length, in units of the canvas's longer side."""
    height_m: tuple[float, float]
    pitch_deg: tuple[float, float]
    sizes_m: tuple[float, float]
    """Smallest and largest extent of things."""
    things: tuple[int, int]
    background: Callable[[Stage], None]
    props: dict[str, float]
    """Weights of the names in PROPS."""


def _floor(stage: Stage, kinds: Kinds) -> None:
    """The ground, turned at random or in line with the camera."""
    yaw = float(stage.rng.choice([0.0, 0.0, stage.rng.uniform(0, np.pi)]))
    c, s = np.cos(yaw), np.sin(yaw)
    axes = stage.camera.direction(np.array([[c, 0, s], [s, 0, -c], [0, 1, 0]]))
    stage.ground = stage.add_wall(stage.camera.point((0.0, 0.0, 0.0)), axes, kinds)


def _backdrop(stage: Stage) -> None:
    """What closes the scene at its far limit."""
    axes = axes_facing(np.array([0.0, 0.0, -1.0]), stage.up)
    stage.add_wall(np.array([0.0, 0.0, stage.far_m]), axes, WALL)


def _upright_wall(stage: Stage, normal_world: npt.ArrayLike, distance_m: float, kinds: Kinds) -> None:
    """A wall, sometimes with pictures."""
    rng = stage.rng
    normal = stage.camera.direction(np.asarray(normal_world) / np.linalg.norm(normal_world))
    wall = stage.add_wall(-normal * distance_m, axes_facing(normal, stage.up), kinds)
    material = wall.material
    for _ in range(int(rng.integers(0, 4))):
        size = distance_m * log_uniform(rng, 0.06, 0.3)
        at = (float(rng.normal(0, 0.4)) * distance_m, float(rng.normal(0.0, 0.25)) * distance_m)
        material = with_decal(material, rng, len(stage.walls) - 1, at, (size, size * float(rng.uniform(0.5, 1.5))))
    stage.walls[-1] = replace(wall, material=material)


def tabletop(stage: Stage) -> None:
    """A table or soil with something behind it, or one slanted sheet that is the whole subject."""
    rng = stage.rng
    kind = rng.random()
    if kind < 0.75:
        _floor(stage, FLOOR | SHEET if rng.random() < 0.3 else OBJECT if rng.random() < 0.4 else FLOOR)
    if kind > 0.6 or rng.random() < 0.6:
        normal = (rng.normal(0, 0.5), rng.normal(0, 0.35), -1.0)
        _upright_wall(stage, normal, log_uniform(rng, 0.4, 1.0) * stage.far_m, WALL | {"picture": 1.0, "print": 1.0})
    _backdrop(stage)


def interior(stage: Stage) -> None:
    """A room or corridor: floor, ceiling, back and side walls, some of them missing."""
    rng = stage.rng
    _floor(stage, FLOOR)
    yaw = rng.normal(0, 0.5)
    forward = np.array([np.sin(yaw), 0.0, np.cos(yaw)])
    across = np.array([np.cos(yaw), 0.0, -np.sin(yaw)])
    if rng.random() < 0.85:
        _upright_wall(stage, -forward, float(rng.uniform(0.35, 0.9)) * stage.far_m, WALL)
    for side in (-1, 1):
        if rng.random() < 0.6:
            _upright_wall(stage, -side * across, log_uniform(rng, 0.9, 4.0), WALL)
    if rng.random() < 0.6:
        axes = stage.camera.direction(np.array([[1.0, 0, 0], [0, 0, -1], [0, -1, 0]]))
        above = stage.camera.point((0.0, float(rng.uniform(2.3, 3.5)), 0.0))
        stage.add_wall(above, axes, {"plain": 3, "stripes": 0.5, "bricks": 0.5})
    _backdrop(stage)


def open_air(stage: Stage) -> None:
    """Ground to the horizon under a sky, with hills, houses or trees far off; sometimes a street."""
    rng = stage.rng
    stage.sky = paint_sky
    _floor(stage, GROUND)
    for distance in sorted((log_uniform(rng, 15, 600) for _ in range(int(rng.integers(0, 3)))), reverse=True):
        _skyline(stage, distance)
    if rng.random() < 0.4:
        _street(stage)


def _skyline(stage: Stage, distance_m: float) -> None:
    """Hills, woods or roofs: an outline with a 1/f profile, or a stepped one."""
    rng = stage.rng
    axes = axes_facing(stage.camera.direction((0.0, 0.0, -1.0)), stage.up)
    span = 1.2 * max(stage.camera.size_hw) / stage.camera.focal_px * distance_m
    n = 128
    profile = spectral_noise(rng, 8, 2 * n, float(rng.uniform(1.0, 2.0)))[0, :n]
    if rng.random() < 0.4:
        profile = np.repeat(rng.uniform(-1, 1.5, 16), n // 16).astype(np.float32)
    height = distance_m * log_uniform(rng, 0.03, 0.25)
    top = height * np.maximum(1 + 0.4 * profile, 0.05)
    u = np.linspace(-span, span, n)
    ends = np.array([[span, 0.5 * height], [-span, 0.5 * height]])
    part = np.concatenate([np.stack([u, -top], -1), ends])
    origin = stage.camera.point((0.0, 0.0, distance_m))
    card = Card(origin, axes, (part,))
    if rng.random() < 0.6:  # the farther, the more the air in between shows
        haze = 1 - np.exp(-distance_m / 400)
        colour = green(rng) * (1 - haze) + np.array([0.25, 0.3, 0.38]) * haze
        grain = np.exp(np.float32(0.5 * (1 - haze)) * spectral_noise(rng, 128, 128, 0.9))[..., None]
        stage.add(card, Material(pyramid_of(colour * grain), stage.camera.focal_px / distance_m))
    else:
        stage.add(card, FRONT | GROUND)


def _street(stage: Stage) -> None:
    """Houses on one side or both, which recede."""
    rng = stage.rng
    yaw = float(rng.normal(0, 0.2))
    axes = world_axes(stage, yaw)
    for side in rng.choice([-1, 1], int(rng.integers(1, 3)), replace=False):
        half = np.array([log_uniform(rng, 1.5, 5.0), log_uniform(rng, 1.2, 6.0), log_uniform(rng, 2.0, 15.0)])
        aside, ahead = side * (half[0] + log_uniform(rng, 1.0, 8.0)), half[2] + log_uniform(rng, 2.0, 12.0)
        centre = stage.camera.point((0.0, half[1] * 1.001, 0.0)) + axes[0] * aside + axes[2] * ahead
        house = Solid("box", centre, axes, half)
        stage.add(house, FRONT)


def paint_sky(rng: np.random.Generator, camera: Camera, light: Light) -> Tile:
    """(H, W, 3) clear, hazy or clouded sky, brightest near the horizon."""
    x, y = camera.rays(camera.whole)
    up = camera.direction((0.0, 1.0, 0.0))
    rise = (up[0] * x + up[1] * y + up[2]) / np.sqrt(x * x + y * y + 1)
    low = np.exp(-np.clip(rise, 0, 1) / np.float32(rng.uniform(0.08, 0.5)))[..., None]
    zenith = np.array([0.22, 0.42, 0.85]) * np.exp(rng.normal(0, 0.35) + rng.normal(0, 0.1, 3))
    horizon = np.array([0.85, 0.9, 0.95]) * np.exp(rng.normal(0, 0.2) + rng.normal(0, 0.12, 3))
    sky = zenith * (1 - low) + horizon * low
    if rng.random() < 0.65:
        clouds = spectral_noise(rng, *camera.size_hw, float(rng.uniform(1.4, 2.0)))
        share = np.clip((clouds - rng.uniform(-1, 1.5)) * rng.uniform(0.4, 1.5), 0, 1)[..., None]
        sky = sky * (1 - share) + np.float32(rng.uniform(0.6, 1.3)) * share
    return np.asarray(sky * np.float32(rng.uniform(0.8, 2.0)), np.float32)


_CLUTTER = {"box": 3.0, "ball": 2.0, "can": 2.0, "cutout": 2.5, "sheet": 1.5, "pole": 1.0}
USES: dict[str, Use] = {
    "macro": Use(
        0.1, 0.6, (1.1, 2.6), (0.06, 0.3), (5, 85), (0.01, 0.4), (7, 18), tabletop,
        _CLUTTER | {"bush": 1.5, "twig": 1.0, "blades": 1.2, "wires": 0.6, "lamps": 0.5, "cloth": 0.5, "fence": 0.4},
    ),
    "desk": Use(
        0.4, 3.0, (0.8, 1.7), (0.3, 0.9), (5, 75), (0.03, 1.0), (8, 20), tabletop,
        _CLUTTER | {"bush": 1.0, "wires": 0.8, "lamps": 0.5, "cloth": 0.6, "fence": 0.6, "twig": 0.3},
    ),
    "room": Use(
        1.0, 8.0, (0.7, 1.4), (1.0, 1.8), (-6, 28), (0.1, 2.4), (7, 18), interior,
        _CLUTTER
        | {"table": 2.0, "person": 0.9, "bush": 1.0, "lamps": 0.7, "cloth": 0.8, "fence": 0.9, "opening": 0.8},
    ),
    "outdoor": Use(
        2.0, np.inf, (0.7, 1.6), (1.0, 3.0), (-8, 14), (0.2, 9.0), (5, 13), open_air,
        {"box": 1.5, "ball": 0.6, "can": 0.8, "cutout": 1.5, "sheet": 0.8, "pole": 1.5, "tree": 2.5,
         "bush": 2.0, "twig": 1.2, "fence": 1.4, "wires": 1.0, "person": 1.2, "blades": 1.0, "lamps": 0.5,
         "opening": 0.5, "table": 0.4},
    ),
}  # fmt: skip
"""The uses by name."""
