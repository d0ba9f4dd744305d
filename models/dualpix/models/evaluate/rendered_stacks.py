"""Focus stacks made of sharp pictures with depth: of procedural scenes held aside, or of a folder of RGB-D data.

Convention: five frames through a 50 mm lens at f/1.4, 36 mm on the longer side of the picture, linear light. The two
lists of distances are the same for all scenes, so they say nothing of a scene's scale: ``stack-fixed`` is DfDNet's,
``stack-diopters`` is even in diopters from 10 m to 0.7 m. Other numbers of frames lie on the curve of the five
(:func:`~dualpix.models.data.focus_lists.on_curve`), from the same farthest to the same nearest. Blur is
:func:`dualpix.capture.render.gather.gather` with nearly a disc (p = 32): *another renderer than those of training*,
which lay blurred surfaces over one another (``faithful``) or gather by the neighbours' blur on display-referred values
(``published``). It has no occlusion; see ``simulated-camera`` for that.

Weights are chosen on the procedural scenes, in a seed space of their own; real pictures are for reporting.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path

import cv2
import numpy as np
import torch

from dualpix.capture.errors import DualpixError
from dualpix.capture.render import GatherPsf, render_stack
from dualpix.capture.rgbd import RgbdSource, fill_holes, read_rgbd, survey_rgbd
from dualpix.capture.scenes import make_varied_scene, scene_seed
from dualpix.capture.types import FloatImage, FocusStack, LensModel, Mask
from dualpix.models.data.focus_lists import on_curve
from dualpix.models.data.kinds import FRAMES
from dualpix.models.data.rendered import EVALUATION_SEED
from dualpix.models.data.stack_formation import draw_range_m
from dualpix.models.evaluate.depth_maps import DEPTH_COLUMNS, DEPTH_METRICS, depth_map_figures, plausible
from dualpix.models.evaluate.protocol import Figures, Pending, Protocol, check_found
from dualpix.models.evaluate.sample import Prediction, Sample
from dualpix.models.tasks.focus_stack import FARTHEST_M

LISTS_M: dict[str, tuple[float, ...]] = {
    "stack-fixed": (7.06, 1.33, 0.86, 0.63, 0.5),
    "stack-diopters": tuple(float(1 / d) for d in np.linspace(1 / 10, 1 / 0.7, 5)),
}
"""Focus distances, the farthest first, by the name that follows ``rendered:``."""
STACK_SEED = EVALUATION_SEED + 20_000
LENS = LensModel(50.0, 1.4, 1.0, 36_000.0)
"""With the pitch of a picture of one pixel."""
MOST_SIDE_PX = 640
"""Larger pictures are reduced to it."""
RANGE_M = (0.1, 100.0)
_DISC = GatherPsf(32.0)
_LAYOUT = "no folder: scenes are rendered; or a folder of RGB-D data"
_NEAREST_M = 0.06
"""Nearer than its focal length a lens has no focus, and blur no end."""


def list_m(kind: str, frames: int = FRAMES) -> tuple[float, ...]:
    """Focus distances in m, the farthest first: that of ``LISTS_M``, or so many on its curve."""
    listed = LISTS_M[kind]
    if frames == len(listed):
        return listed
    return tuple(float(1 / d) for d in on_curve(1 / np.array(listed), frames))


def procedural_stacks(kind: str, count: int, size_hw: tuple[int, int], frames: int = FRAMES) -> list[Pending]:
    """Scenes of ``STACK_SEED``, each at a distance of its own.

    Args:
        kind: a key of ``LISTS_M``.
        count: number of scenes.
        size_hw: (height, width) in px.
        frames: of each stack.
    """
    focus_m = list_m(kind, frames)
    return [Pending(f"{index:03d}", partial(_procedural, focus_m, index, size_hw)) for index in range(count)]


def pictured_stacks(kind: str, folder: Path, frames: int = FRAMES) -> Sequence[Pending]:
    """The pictures with depth of a folder; those of one folder in it are one group.

    Raises:
        DualpixError: there is none.
    """
    sources = survey_rgbd(folder.absolute()).sources
    focus_m = list_m(kind, frames)
    return check_found([Pending(one.name, partial(_pictured, focus_m, one)) for one in sources], folder, _LAYOUT)


def stack_protocol(kind: str, frames: int = FRAMES) -> Protocol:
    """One of ``LISTS_M`` as a protocol; its samples are those of :func:`procedural_stacks` or of a folder."""
    distances = " ".join(f"{d:.3g}" for d in sorted(list_m(kind, frames)))
    return Protocol(
        name=f"rendered:{kind}",
        title=f"Stacks of pictures with depth, F1.4, {frames} frames focused at {distances} m",
        takes="stack",
        unit="depth_m",
        read=partial(pictured_stacks, kind, frames=frames),
        score=_score,
        columns=DEPTH_COLUMNS,
        source=f"this project; procedural scenes of seed {STACK_SEED}",
        layout=_LAYOUT,
        crop=f"none; pictures are reduced to {MOST_SIDE_PX} px",
        mask=f"measured, {RANGE_M[0]:g} m < depth < {RANGE_M[1]:g} m",
        metrics=DEPTH_METRICS + "; no alignment",
        data="made as needed, or any RGB-D data",
        assumptions=(
            "50 mm at f/1.4, 36 mm on the longer side; no noise",
            "rendered by gather, p = 32, on linear light: no occlusion; not the renderer of any training here",
            "holes of the depth are filled before blurring, and not scored",
            "estimates are clamped to the mask's range",
            *([] if frames == len(LISTS_M[kind]) else [_other_list(kind, frames)]),
        ),
        checked_on="itself, and pictures of Middlebury, NYUv2, Redwood, TUM, Sintel and others",
    )


def _other_list(kind: str, frames: int) -> str:
    listed = " ".join(f"{d:.3g}" for d in sorted(LISTS_M[kind]))
    return f"the list of {frames} distances is evenly along that of {len(LISTS_M[kind])} ({listed} m), in diopters"


def _procedural(focus_m: tuple[float, ...], index: int, size_hw: tuple[int, int]) -> Sample:
    rng = np.random.default_rng([STACK_SEED, index])
    scene = replace(make_varied_scene(scene_seed(STACK_SEED, index), size_hw), depth_range_m=draw_range_m(rng))
    return _sample(focus_m, f"{index:03d}", "", scene.all_in_focus(), scene.depth_m(), np.ones(size_hw, np.bool_))


def _pictured(focus_m: tuple[float, ...], source: RgbdSource) -> Sample:
    found = read_rgbd(source)
    if not found.valid.any():
        raise DualpixError(f"'{source.name}' has no depth", expected="some in each picture")
    filled = fill_holes(found.depth_m, found.valid)
    image, depth, measured = _reduced(found.image, filled.depth_m, filled.measured)
    group = source.name.rpartition("/")[0]
    return _sample(focus_m, source.name, group, image, np.maximum(depth, np.float32(_NEAREST_M)), measured)


def _reduced(image: FloatImage, depth_m: FloatImage, measured: Mask) -> tuple[FloatImage, FloatImage, Mask]:
    """Of at most ``MOST_SIDE_PX``; depth from the nearest pixel, as a mean of two surfaces is none of them."""
    height, width = depth_m.shape
    shrink = MOST_SIDE_PX / max(height, width)
    if shrink >= 1:
        return image, depth_m, measured
    size = round(width * shrink), round(height * shrink)
    nearest = cv2.INTER_NEAREST_EXACT
    return (
        np.asarray(cv2.resize(image, size, interpolation=cv2.INTER_AREA), np.float32),
        np.asarray(cv2.resize(depth_m, size, interpolation=nearest), np.float32),
        cv2.resize(measured.astype(np.uint8), size, interpolation=nearest) > 0,
    )


def _sample(
    focus_m: tuple[float, ...], name: str, group: str, image: FloatImage, depth_m: FloatImage, measured: Mask
) -> Sample:
    distances = np.array(focus_m)
    lens = replace(LENS, pixel_pitch_um=LENS.pixel_pitch_um / max(depth_m.shape), focus_distance_m=distances[0])
    with torch.inference_mode():
        sharp = torch.from_numpy(np.ascontiguousarray(image.transpose(2, 0, 1), np.float32))[None]
        depth = torch.from_numpy(np.minimum(depth_m, np.float32(FARTHEST_M)))[None, None]
        rendered = render_stack(sharp, depth, distances.tolist(), lens, _DISC)[0]
    frames = np.ascontiguousarray(rendered.clamp_min(0).permute(0, 2, 3, 1).numpy())
    stack = FocusStack(frames, distances, np.zeros(len(distances)), lens)
    valid = measured & plausible(depth_m, *RANGE_M)
    return Sample(name, np.asarray(depth_m, np.float32), valid, stack=stack, group=group)


def _score(sample: Sample, prediction: Prediction) -> Figures:
    return depth_map_figures(sample, prediction, RANGE_M)
