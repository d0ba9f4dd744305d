"""Varied scenes with metric depth, and endless streams of them.

Convention: see :mod:`dualpix.capture.scenes.procedural` for what a scene is, and
:mod:`dualpix.capture.scenes.geometry` for how it is built. Here proximity 0 is the farthest and 1 the nearest point of
the very scene, and ``depth_range_m`` says how far they are.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Literal, get_args

import numpy as np

from dualpix.capture.scenes.geometry import Camera
from dualpix.capture.scenes.materials import Light
from dualpix.capture.scenes.procedural import Scene
from dualpix.capture.scenes.props import PROPS
from dualpix.capture.scenes.stage import Stage
from dualpix.capture.scenes.uses import USES, Use

UseName = Literal["macro", "desk", "room", "outdoor"]
USE_NAMES: tuple[UseName, ...] = get_args(UseName)


def make_varied_scene(seed: int, size_hw: tuple[int, int], use: UseName | None = None) -> Scene:
    """A random scene with solids, slanted surfaces, thin things, foliage, print and lights.

    Args:
        seed: >= 0; the same seed, size and use give the same scene.
        size_hw: (height, width) of the canvas in px, at least 16 each.
        use: depth range and kind of things: macro 0.1-0.6 m, desk 0.4-3 m, room 1-8 m, outdoor 2 m to infinity; None
            draws one.

    Returns:
        Up to 16 layers back to front; radiance is linear, about 1.0 for a white sheet, more for lamps and highlights.

    Raises:
        ValueError: an unknown use, or a canvas too small.
    """
    if min(size_hw) < 16:
        raise ValueError(f"canvas is {size_hw[0]} x {size_hw[1]} px, expected at least 16 x 16")
    if use is not None and use not in USES:
        raise ValueError(f"use is {use!r}, expected one of {', '.join(USE_NAMES)}")
    kind = USE_NAMES.index(use) if use else int(np.random.default_rng([seed, *size_hw]).integers(len(USE_NAMES)))
    rng = np.random.default_rng([seed, *size_hw, kind])
    recipe = USES[USE_NAMES[kind]]
    stage = _stage(rng, size_hw, recipe)
    recipe.background(stage)
    names = list(recipe.props)
    weights = np.array(list(recipe.props.values()))
    # few kinds per scene, many per set: a shelf of cans, a wood, a heap of boxes
    weights = weights * rng.gamma(0.7, 1.0, len(weights))
    for _ in range(int(rng.integers(recipe.things[0], recipe.things[1] + 1))):
        PROPS[names[int(rng.choice(len(names), p=weights / weights.sum()))]](stage, recipe.sizes_m)
    return stage.build()


def _stage(rng: np.random.Generator, size_hw: tuple[int, int], use: Use) -> Stage:
    focal_px = float(np.exp(rng.uniform(*np.log(use.focal)))) * max(size_hw)
    height_m = float(np.exp(rng.uniform(*np.log(use.height_m))))
    pitch, roll = np.deg2rad(rng.uniform(*use.pitch_deg)), np.deg2rad(rng.normal(0.0, 4.0))
    camera = Camera.looking(size_hw, focal_px, height_m, float(pitch), float(roll))
    return Stage(rng, camera, _light(rng, camera), use.near_m, use.far_m)


def _light(rng: np.random.Generator, camera: Camera) -> Light:
    """From soft to hard, warm to cold, from above and any side."""
    # seldom against the light: photographers avoid it, and everything would be black
    around = rng.normal(-np.pi / 2, 0.9) if rng.random() < 0.8 else rng.uniform(0, 2 * np.pi)
    above = np.deg2rad(rng.uniform(20, 80))
    towards = (np.cos(above) * np.cos(around), np.sin(above), np.cos(above) * np.sin(around))
    warmth = rng.normal(0.0, 0.2)
    colour = np.exp(np.array([warmth, 0.0, -warmth]))
    hard = rng.uniform(0.3, 0.92)
    return Light(
        camera.direction(towards),
        camera.direction((0.0, 1.0, 0.0)),
        (1.6 * hard * colour).astype(np.float32),
        ((1 - hard) / colour).astype(np.float32),
    )


def scene_seed(seed: int, index: int) -> int:
    """Seed of scene ``index`` of a stream: 63 bits, a pure function of both."""
    return int(np.random.SeedSequence([seed, index]).generate_state(1, np.uint64)[0] >> np.uint64(1))


def stream(
    seed: int,
    size_hw: tuple[int, int],
    use: UseName | None = None,
    *,
    start: int = 0,
    worker: int = 0,
    workers: int = 1,
) -> Iterator[tuple[int, Scene]]:
    """Endless (index, scene) from ``start`` on: worker k of n has the indices start + k, start + k + n, ...

    Scene ``index`` is ``make_varied_scene(scene_seed(seed, index), size_hw, use)`` whatever the number of workers, so a
    run can go on with another number, and any one scene can be made again.

    Raises:
        ValueError: ``worker`` is not one of ``workers``, or ``start`` is negative.
    """
    if not 0 <= worker < workers:
        raise ValueError(f"worker is {worker}, expected 0 to {workers - 1}")
    if start < 0:
        raise ValueError(f"start is {start}, expected 0 or more")
    return _scenes(seed, size_hw, use, range(start + worker, 1 << 62, workers))


def _scenes(seed: int, size_hw: tuple[int, int], use: UseName | None, indices: range) -> Iterator[tuple[int, Scene]]:
    for index in indices:
        yield index, make_varied_scene(scene_seed(seed, index), size_hw, use)
