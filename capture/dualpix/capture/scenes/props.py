"""Things that stand on the ground, hang in space, or come in over the border of the picture; sizes in m.

Convention: see :mod:`dualpix.capture.scenes.geometry`. Each function puts one thing up on a stage, somewhere in view,
within ``sizes_m`` (smallest and largest extent).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np

from dualpix.capture.scenes import cards
from dualpix.capture.scenes.cards import Bend, Card, axes_facing
from dualpix.capture.scenes.geometry import Form, Solid, Vector
from dualpix.capture.scenes.materials import Material, pyramid_of, with_decal
from dualpix.capture.scenes.stage import Shadow, Stage
from dualpix.capture.scenes.textures import spectral_noise
from dualpix.capture.scenes.tiles import Tile, draw_albedo

Range = tuple[float, float]
Kinds = dict[str, float]

OBJECT: Kinds = {
    "noise": 2.5, "relief": 1, "leaves": 2, "soft": 1, "plain": 2, "speckle": 1, "stripes": 1, "planks": 1,
    "print": 1.2, "picture": 1.2, "bricks": 0.4,
}  # fmt: skip
FLOOR: Kinds = {"planks": 2, "bricks": 2, "noise": 1.5, "speckle": 1, "stripes": 0.7, "plain": 0.7, "leaves": 0.5}
WALL: Kinds = {
    "plain": 2,
    "relief": 1,
    "noise": 1,
    "bricks": 1,
    "stripes": 0.7,
    "soft": 1,
    "planks": 0.4,
    "leaves": 0.4,
}
GROUND: Kinds = {"grass": 2, "bricks": 1.2, "noise": 1.5, "relief": 1, "speckle": 1, "leaves": 0.6}
FRONT: Kinds = {"facade": 3, "bricks": 1.5, "noise": 0.7, "planks": 0.5, "stripes": 0.4}
FABRIC: Kinds = {"stripes": 2, "plain": 1.5, "leaves": 1, "soft": 1, "noise": 1}
STALK: Kinds = {"plain": 2, "noise": 2, "planks": 1}
STONE: Kinds = {"noise": 2, "speckle": 1, "relief": 1, "soft": 0.5}
SHEET: Kinds = {"print": 2, "picture": 1.5, "plain": 0.3}


@dataclass(frozen=True)
class _Spot:
    """A place for a thing: on the ground, or in space where there is none in view."""

    foot: Vector
    """(3,) in the camera frame."""
    ground_m: tuple[float, float] | None
    size_m: float
    depth_m: float


def log_uniform(rng: np.random.Generator, low: float, high: float) -> float:
    """A number in [low, high], its logarithm uniform."""
    return float(np.exp(rng.uniform(np.log(low), np.log(high))))


def world_axes(stage: Stage, yaw: float) -> Vector:
    """(3, 3) rows right, up, forward of a thing turned by ``yaw`` about the vertical, in the camera frame."""
    c, s = np.cos(yaw), np.sin(yaw)
    return stage.camera.direction(np.array([[c, 0, s], [0, 1, 0], [-s, 0, c]]))


def _on_ground(stage: Stage, deepest: float) -> tuple[Vector, tuple[float, float]] | None:
    """A point of the ground in view (or just outside), in the camera frame and on the ground."""
    rng, floor, (height, width) = stage.rng, stage.ground, stage.camera.size_hw
    if floor is None:
        return None
    for _ in range(12):
        ray = stage.camera.ray(float(rng.uniform(-0.05, 1.05) * width), float(rng.uniform(0.0, 1.1) * height))
        q = floor.inverse_depth_along(ray)
        others = [wall.inverse_depth_along(ray) for wall in stage.walls if wall is not floor]
        if max([deepest, *others]) < q < 0.95 / stage.near_m:
            foot = ray / q
            at = floor.axes[:2] @ (foot - floor.origin)
            return foot, (float(at[0]), float(at[1]))
    return None


def _spot(stage: Stage, sizes_m: Range, standing: bool = True) -> _Spot:
    """Somewhere in view (or just outside), even in inverse depth, with a size that shows."""
    rng, camera = stage.rng, stage.camera
    height, width = camera.size_hw
    deepest = 0.5 / stage.far_m if np.isfinite(stage.far_m) else 0.01 / stage.near_m
    ground = None
    if standing and (found := _on_ground(stage, deepest)):
        foot, ground = found
    else:
        ray = camera.ray(float(rng.uniform(-0.05, 1.05) * width), float(rng.uniform(-0.05, 1.1) * height))
        foot = ray / float(rng.uniform(max(deepest * 2, 0.03 / stage.near_m), 0.9 / stage.near_m))
    depth = float(foot[2])
    apparent = log_uniform(rng, 0.12, 0.9) * height * depth / camera.focal_px
    return _Spot(foot, ground, float(np.clip(apparent, *sizes_m)), depth)


def _shadow(spot: _Spot, radius: float, height: float) -> Shadow | None:
    return Shadow(spot.ground_m, radius, height) if spot.ground_m else None


def _solid(stage: Stage, spot: _Spot, form: Form, half: Vector, kinds: Kinds, *, lean: float = 0.0) -> Solid:
    """A solid that stands on its spot, turned at random, sometimes with a label."""
    rng = stage.rng
    axes = world_axes(stage, float(rng.uniform(0, np.pi)))
    if lean or (form == "ellipsoid" and rng.random() < 0.5) or spot.ground_m is None:
        turn, _ = np.linalg.qr(rng.standard_normal((3, 3)) * (lean or 0.6) + np.eye(3))
        axes = turn @ axes
    # the lowest point of the turned solid touches the ground
    drop = np.abs(axes @ stage.up) * half
    rise = float(np.linalg.norm(drop) if form == "ellipsoid" else drop.sum())
    solid = Solid(form, spot.foot + stage.up * rise * 1.001, axes, half)
    material = stage.material_for(solid, kinds)
    if form != "ellipsoid" and rng.random() < 0.45:
        face = 3 if form == "cylinder" else int(rng.choice([0, 2]))
        across = float(half[2 if face == 0 else 0])
        label = (across * float(rng.uniform(0.3, 0.9)), float(half[1]) * float(rng.uniform(0.2, 0.9)))
        material = with_decal(material, rng, face, (0.0, float(half[1]) * float(rng.uniform(-0.3, 0.3))), label)
    stage.add(solid, material, _shadow(spot, float(max(half[0], half[2])) * 1.15, 2 * rise))
    return solid


def box(stage: Stage, sizes_m: Range) -> None:
    """A box, book, case or cabinet; sometimes a pile."""
    rng = stage.rng
    spot = _spot(stage, sizes_m)
    half = spot.size_m / 2 * np.array([rng.uniform(0.4, 1), rng.uniform(0.15, 1), rng.uniform(0.2, 1)])
    for _ in range(int(rng.choice([1, 1, 1, 2, 3]))):
        solid = _solid(stage, spot, "box", half, OBJECT)
        spot = replace(spot, foot=solid.centre + stage.up * half[1])
        half = half * np.array([rng.uniform(0.6, 1), rng.uniform(0.3, 1), rng.uniform(0.6, 1)])


def ball(stage: Stage, sizes_m: Range) -> None:
    """A ball, fruit, pebble or cushion."""
    spot = _spot(stage, sizes_m)
    half = spot.size_m / 2 * stage.rng.uniform(0.45, 1.0, 3) ** stage.rng.uniform(0, 1)
    _solid(stage, spot, "ellipsoid", half, OBJECT if stage.rng.random() < 0.6 else STONE)


def can(stage: Stage, sizes_m: Range) -> None:
    """A mug, bottle, pipe, coin or column."""
    rng = stage.rng
    spot = _spot(stage, sizes_m)
    radius = spot.size_m / 2 * float(rng.uniform(0.15, 0.7))
    height = spot.size_m / 2 * log_uniform(rng, 0.1, 1.0)
    _solid(stage, spot, "cylinder", np.array([radius, height, radius]), OBJECT, lean=0.6 if rng.random() < 0.2 else 0.0)


def pole(stage: Stage, sizes_m: Range) -> None:
    """A thin post from the ground up, or a rod at any angle."""
    rng = stage.rng
    spot = _spot(stage, sizes_m)
    radius = max(spot.size_m * float(rng.uniform(0.01, 0.06)), 0.6 * spot.depth_m / stage.camera.focal_px)
    height = spot.size_m * float(rng.uniform(0.8, 3.0))
    half = np.array([radius, height, radius])
    _solid(stage, spot, "cylinder", half, STALK, lean=0.8 if rng.random() < 0.4 else 0.0)


def _card_at(stage: Stage, spot: _Spot, *, upright: bool, tilt: float) -> Vector:
    """Axes of a card that faces the camera more or less, upright on the ground or free in space."""
    rng = stage.rng
    to_camera = -spot.foot / np.linalg.norm(spot.foot)
    normal = to_camera + rng.normal(0.0, tilt, 3)
    if upright:
        normal = normal - stage.up * (normal @ stage.up)
    if np.linalg.norm(normal) < 1e-3 or normal @ to_camera <= 0.1 * np.linalg.norm(normal):
        normal = to_camera
    return axes_facing(normal, stage.up)


def cutout(stage: Stage, sizes_m: Range) -> None:
    """Some shape that hangs in space at a slant: what nobody can name."""
    rng = stage.rng
    spot = _spot(stage, sizes_m, standing=False)
    axes = _card_at(stage, spot, upright=False, tilt=0.5)
    stage.add(Card(spot.foot, axes, (cards.outline(rng, spot.size_m / 2),)), OBJECT)


def sheet(stage: Stage, sizes_m: Range) -> None:
    """A page, sign, screen or poster; paper may curl."""
    rng = stage.rng
    spot = _spot(stage, sizes_m)
    half = (spot.size_m / 2, spot.size_m / 2 * float(rng.uniform(0.5, 1.4)))
    axes = _card_at(stage, spot, upright=rng.random() < 0.6, tilt=0.45)
    bend = None
    if rng.random() < 0.4:
        bend = Bend(spot.size_m * float(rng.uniform(0.02, 0.12)), (float(rng.uniform(1, 3)) / spot.size_m, 0.0), 0.5)
    centre = spot.foot + (stage.up * half[1] if spot.ground_m else 0)
    card = Card(centre, axes, (cards.rectangle(*half),), bend=bend)
    stage.add(card, SHEET, _shadow(spot, half[0] * 0.7, half[1]))


def cloth(stage: Stage, sizes_m: Range) -> None:
    """A curtain, flag or tablecloth: waves, mostly cut by the border."""
    rng = stage.rng
    spot = _spot(stage, sizes_m, standing=False)
    size = max(spot.size_m, 0.4 * stage.camera.size_hw[0] * spot.depth_m / stage.camera.focal_px)
    axes = _card_at(stage, spot, upright=True, tilt=0.3)
    wave = float(rng.uniform(6, 40)) / size
    bend = Bend(
        float(rng.uniform(0.3, 1.2)) / wave, (wave, wave * float(rng.normal(0, 0.15))), float(rng.uniform(0, 6))
    )
    stage.add(Card(spot.foot, axes, (cards.rectangle(size / 2, size),), bend=bend), FABRIC)


def _strokes(stage: Stage, spot: _Spot, lines: list[tuple[Vector, float]], axes: Vector, kinds: Kinds) -> None:
    """Thin lines on a card, never thinner than most of a pixel."""
    finest = 0.7 * spot.depth_m / stage.camera.focal_px
    parts = [quad for path, width in lines for quad in cards.stroke(path, max(width, finest))]
    if parts:
        stage.add(Card(spot.foot, axes, tuple(parts)), kinds)


def fence(stage: Stage, sizes_m: Range) -> None:
    """A fence, grid, railing, shelf or window frame: the background is seen through gaps."""
    rng = stage.rng
    spot = _spot(stage, sizes_m)
    axes = _card_at(stage, spot, upright=True, tilt=0.5)
    span = spot.size_m * float(rng.uniform(1.0, 3.0))
    top = spot.size_m * float(rng.uniform(0.5, 1.2))
    pitch, width = span / int(rng.integers(4, 18)), span * float(rng.uniform(0.004, 0.02))
    lines = [(np.array([[u, 0.0], [u, -top]]), width) for u in np.arange(-span / 2, span / 2 + pitch / 2, pitch)]
    rails = np.linspace(0.1, 0.95, int(rng.integers(2, 4) if rng.random() < 0.6 else rng.integers(4, 9))) * -top
    lines += [(np.array([[-span / 2, v], [span / 2, v]]), width * float(rng.uniform(0.7, 2))) for v in rails]
    if rng.random() < 0.3:  # wire mesh
        lean = np.array([[np.cos(0.8), np.sin(0.8)], [-np.sin(0.8), np.cos(0.8)]])
        lines = [(path @ lean, w * 0.6) for path, w in lines]
    _strokes(stage, spot, lines, axes, STALK)


def wires(stage: Stage, sizes_m: Range) -> None:
    """Cables that sag across the picture."""
    rng = stage.rng
    spot = _spot(stage, sizes_m, standing=False)
    axes = _card_at(stage, spot, upright=True, tilt=0.5)
    span = 1.5 * max(stage.camera.size_hw) * spot.depth_m / stage.camera.focal_px
    u = np.linspace(-span / 2, span / 2, 40)
    lines = []
    for _ in range(int(rng.integers(1, 5))):
        sag = span * rng.uniform(-0.15, 0.0) * (2 * u / span) ** 2
        v = sag + rng.normal(0, 0.08) * span + rng.normal(0, 0.1) * u
        if rng.random() < 0.25:
            v = v + span * 0.03 * np.sin(u / span * rng.uniform(8, 30))
        lines.append((np.stack([u, v], -1), span * log_uniform(rng, 0.0015, 0.008)))
    _strokes(stage, spot, lines, axes, STALK)


def green(rng: np.random.Generator) -> Tile:
    """(3,) colour of leaves: mostly green."""
    base = np.array([0.1, 0.2, 0.04]) if rng.random() < 0.75 else draw_albedo(rng, 0.06, 0.6)
    return np.asarray(np.clip(base * np.exp(rng.normal(0, 0.4) + rng.normal(0, 0.15, 3)), 0.01, 0.8), np.float32)


def _flat_material(
    rng: np.random.Generator, colour: Tile, texels_per_m: float, *, gloss: float = 0.0, emission: float = 0.0
) -> Material:
    """One colour with faint grain."""
    grain = np.exp(np.float32(rng.uniform(0.02, 0.15)) * spectral_noise(rng, 64, 64, 1.0))[..., None]
    return Material(pyramid_of(colour * grain), texels_per_m, gloss=gloss, sharpness=20.0, emission=emission)


def _clump(stage: Stage, at: Vector, radius: float, leaf_m: float, count: int) -> None:
    """Foliage: two or three bent cards of leaves, one behind the other."""
    rng = stage.rng
    texels_per_m = stage.camera.focal_px / float(at[2])
    to_camera = -at / np.linalg.norm(at)
    colour = green(rng)
    layers = int(rng.integers(2, 4))
    for forward in np.linspace(-0.7, 0.7, layers):
        parts, tints = cards.foliage(rng, radius, max(leaf_m, 2.5 / texels_per_m), count)
        axes = axes_facing(to_camera + rng.normal(0, 0.25, 3), stage.up)
        wave = (float(rng.uniform(1, 3)) / radius, float(rng.uniform(-2, 2)) / radius)
        bend = Bend(radius * float(rng.uniform(0.05, 0.25)), wave, float(rng.uniform(0, 6)))
        origin = at + radius * (to_camera * forward + rng.normal(0, 0.15, 3))
        # less light gets to the leaves behind
        card = Card(origin, axes, parts, tints * (0.8 + 0.25 * forward), bend)
        stage.add(card, _flat_material(rng, colour, texels_per_m, gloss=0.4))


def bush(stage: Stage, sizes_m: Range) -> None:
    """A bush, or a plant in a pot."""
    rng = stage.rng
    spot = _spot(stage, sizes_m)
    radius = spot.size_m * 0.45
    foot = spot.foot
    if spot.ground_m and rng.random() < 0.35:
        half = radius * np.array([0.45, 0.45, 0.45])
        pot = _solid(stage, spot, "cylinder", half, {"plain": 2, "noise": 1, "bricks": 0.3})
        foot = pot.centre + stage.up * half[1]
    at = foot + stage.up * radius * (0.7 if spot.ground_m else 0)
    _clump(stage, at, radius, radius * log_uniform(rng, 0.12, 0.5), int(rng.integers(60, 260)))


def tree(stage: Stage, sizes_m: Range) -> None:
    """A trunk with branches and a crown, or bare."""
    rng = stage.rng
    spot = _spot(stage, sizes_m)
    height = spot.size_m * float(rng.uniform(0.7, 1.5))
    radius = max(height * float(rng.uniform(0.02, 0.06)), 0.6 * spot.depth_m / stage.camera.focal_px)
    trunk = height * float(rng.uniform(0.25, 0.6))
    _solid(stage, spot, "cylinder", np.array([radius, trunk / 2, radius]), {"relief": 1, "noise": 2, "planks": 1})
    top = spot.foot + stage.up * trunk * 0.95
    axes = axes_facing(-spot.foot - stage.up * (-spot.foot @ stage.up), stage.up)
    lines = cards.branches(rng, height * 0.4, radius * 1.2, 3)
    _strokes(stage, replace(spot, foot=top), lines, axes, STALK)
    if rng.random() < 0.75:
        leaf_m = height * log_uniform(rng, 0.05, 0.12)
        _clump(stage, top + stage.up * height * 0.25, height * 0.4, leaf_m, int(rng.integers(120, 350)))


def twig(stage: Stage, sizes_m: Range) -> None:
    """A twig near the camera that comes in over the border, with leaves or without."""
    rng = stage.rng
    camera = stage.camera
    depth = stage.near_m * log_uniform(rng, 1.15, 4.0)
    height, width = camera.size_hw
    side = int(rng.integers(0, 4))
    start = (
        rng.uniform(0, width) if side < 2 else (0.0 if side == 2 else width),
        rng.uniform(0, height) if side >= 2 else (0.0 if side == 0 else height),
    )
    foot = camera.ray(float(start[0]), float(start[1])) * depth
    middle = camera.ray(width / 2, height / 2) * depth
    axes = axes_facing(-foot / depth + rng.normal(0, 0.3, 3), middle - foot)  # grows inwards
    reach = float(rng.uniform(0.3, 0.8)) * height * depth / camera.focal_px
    lines = cards.branches(rng, reach, reach * float(rng.uniform(0.01, 0.04)), int(rng.integers(1, 4)))
    spot = _Spot(foot, None, reach, depth)
    _strokes(stage, spot, lines, axes, STALK)
    if rng.random() < 0.6:
        size = reach * float(rng.uniform(0.05, 0.2))
        tips = [(path[int(rng.integers(1, 6))], rng.uniform(0, 2 * np.pi)) for path, _ in lines for _ in range(5)]
        shape = cards.leaf(size, size * float(rng.uniform(0.25, 0.6)))
        parts = tuple(at + shape @ np.array([[np.cos(a), np.sin(a)], [-np.sin(a), np.cos(a)]]) for at, a in tips)
        tints = np.exp(rng.normal(0, 0.3, (len(parts), 1)) + rng.normal(0, 0.05, (len(parts), 3)))
        bend = Bend(reach * 0.03, (4 / reach, 3 / reach), 0.0)
        near = foot * float(rng.uniform(0.95, 0.99))
        stage.add(Card(near, axes, parts, tints, bend), _flat_material(rng, green(rng), camera.focal_px / depth))


def blades(stage: Stage, sizes_m: Range) -> None:
    """Grass, reeds, stalks or bristles from the ground."""
    rng = stage.rng
    spot = _spot(stage, sizes_m)
    axes = _card_at(stage, spot, upright=True, tilt=0.3)
    parts = []
    for _ in range(int(rng.integers(8, 60))):
        t = np.linspace(0, 1, 6)
        tall = spot.size_m * float(rng.uniform(0.4, 1.2))
        u = rng.normal(0, 0.5) * spot.size_m + rng.normal(0, 0.25) * tall * t**2
        half = np.maximum(tall * 0.015 * (1 - t), 0.3 * spot.depth_m / stage.camera.focal_px)
        v = -tall * t
        parts.append(np.concatenate([np.stack([u - half, v], -1), np.stack([u + half, v], -1)[::-1]]))
    tints = np.exp(rng.normal(0, 0.35, (len(parts), 1)) + rng.normal(0, 0.05, (len(parts), 3)))
    stage.add(
        Card(spot.foot, axes, tuple(parts), tints),
        _flat_material(rng, green(rng), stage.camera.focal_px / spot.depth_m),
    )


def lamps(stage: Stage, sizes_m: Range) -> None:
    """Small bright lights, far brighter than white: what shows the blur's shape."""
    rng = stage.rng
    spot = _spot(stage, sizes_m, standing=False)
    axes = _card_at(stage, spot, upright=True, tilt=0.3)
    pixel = spot.depth_m / stage.camera.focal_px
    span = 0.5 * max(stage.camera.size_hw) * pixel
    angle = np.linspace(0, 2 * np.pi, 12, endpoint=False)
    disc = np.stack([np.cos(angle), np.sin(angle)], -1)
    count = int(log_uniform(rng, 1, 25))
    if rng.random() < 0.4:  # a string of lights
        u = np.linspace(-1, 1, count)
        at = np.stack([u * span, -0.2 * span * u**2 + 0.02 * span * rng.standard_normal(count)], -1)
    else:
        at = rng.normal(0, 0.6, (count, 2)) * span
    parts = tuple(p + disc * pixel * log_uniform(rng, 0.8, 3.0 if count > 2 else 9.0) for p in at)
    tints = np.exp(rng.normal(0, 0.4, (count, 1)) + rng.normal(0, 0.15 if rng.random() < 0.6 else 0.5, (count, 3)))
    colour = np.array([0.85, 0.65, 0.45], np.float32)
    glow = _flat_material(rng, colour, 1 / pixel, emission=log_uniform(rng, 3.0, 40.0))
    stage.add(Card(spot.foot, axes, parts, np.minimum(tints, 3.0)), glow)


def table(stage: Stage, sizes_m: Range) -> None:
    """A table or bench: a slab on two pairs of legs, the room seen between them."""
    rng = stage.rng
    spot = _spot(stage, sizes_m)
    yaw = float(rng.uniform(0, np.pi))
    axes = world_axes(stage, yaw)
    half = spot.size_m / 2 * np.array([1.0, 0.03, rng.uniform(0.4, 1.0)])
    height = spot.size_m * float(rng.uniform(0.4, 0.8))
    top = Solid("box", spot.foot + stage.up * height, axes, half)
    material = stage.material_for(top, {"planks": 2, "plain": 1, "noise": 1})
    stage.add(top, material, _shadow(spot, float(half[0]), height * 0.5))
    for side in (-1, 1):
        foot = spot.foot + axes[2] * side * half[2] * 0.85
        legs = axes_facing(axes[2] * -np.sign(axes[2] @ foot), stage.up)
        lines = [(np.array([[u * half[0] * 0.9, 0.0], [u * half[0] * 0.9, -height]]), half[0] * 0.08) for u in (-1, 1)]
        _strokes(stage, replace(spot, foot=foot), lines, legs, STALK)


def person(stage: Stage, sizes_m: Range) -> None:
    """A figure of a body, a head and legs."""
    spot = _spot(stage, sizes_m)
    tall = spot.size_m
    axes = world_axes(stage, float(stage.rng.normal(0, 0.6)))
    parts: tuple[tuple[Form, float, float, float], ...] = (
        ("cylinder", 0.0, 0.5, 0.09),
        ("ellipsoid", 0.42, 0.87, 0.14),
        ("ellipsoid", 0.86, 1.0, 0.06),
    )
    for form, low, high, wide in parts:
        half = tall * np.array([wide, (high - low) / 2, wide * 0.7])
        part = Solid(form, spot.foot + stage.up * tall * (low + high) / 2, axes, half)
        skin = {"plain": 1.0} if high == 1.0 else FABRIC
        stage.add(part, skin, _shadow(spot, tall * 0.15, tall) if low == 0 else None)


def opening(stage: Stage, sizes_m: Range) -> None:
    """A wall, screen or hedge near the camera with an opening, cut by the border."""
    rng = stage.rng
    spot = _spot(stage, sizes_m, standing=False)
    axes = _card_at(stage, spot, upright=True, tilt=0.25)
    reach = 1.2 * max(stage.camera.size_hw) * spot.depth_m / stage.camera.focal_px
    middle = stage.camera.ray(stage.camera.size_hw[1] / 2, stage.camera.size_hw[0] / 2)
    foot = middle * float(axes[2] @ spot.foot / (axes[2] @ middle))
    centre_u, centre_v = rng.normal(0, 0.15, 2) * reach
    half_u, half_v = rng.uniform(0.2, 0.4, 2) * reach
    left, right, top, foot_v = centre_u - half_u, centre_u + half_u, centre_v - half_v, centre_v + half_v
    sides = [
        np.array([[-reach, -reach], [left, -reach], [left, reach], [-reach, reach]]),
        np.array([[right, -reach], [reach, -reach], [reach, reach], [right, reach]]),
    ]
    if rng.random() < 0.6:
        sides.append(np.array([[left, -reach], [right, -reach], [right, top], [left, top]]))
    if rng.random() < 0.4:
        sides.append(np.array([[left, foot_v], [right, foot_v], [right, reach], [left, reach]]))
    keep = [s for s in sides if rng.random() < 0.8] or sides[:1]
    if foot[2] > 0 and np.all(np.concatenate([foot + p @ axes[:2] for p in keep])[:, 2] > 0.35 * stage.near_m):
        stage.add(Card(foot, axes, tuple(keep)), WALL)


PROPS: dict[str, Callable[[Stage, Range], None]] = {
    f.__name__: f
    for f in (
        ball, blades, box, bush, can, cloth, cutout, fence, lamps, opening, person, pole, sheet, table, tree,
        twig, wires,
    )
}  # fmt: skip
