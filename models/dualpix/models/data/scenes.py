"""Rendered scenes of every task: what networks are calibrated, judged and watched on while they train."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial

import numpy as np

from dualpix.models.data.kinds import FRAMES
from dualpix.models.data.rendered import EVALUATION_SEED, AugmentedDataset, RenderedDataset, RenderSettings
from dualpix.models.data.sources import SourceOptions
from dualpix.models.data.sources.procedural import ProceduralPictures, ProceduralStacks
from dualpix.models.tasks import DUAL_PIXEL, FOCUS_STACK, MONOCULAR, Sample, Task

__all__ = ["EVALUATION_SEED", "task_scene"]


def _pair(index: int, size_hw: tuple[int, int], seed: int) -> Sample:
    clean = RenderedDataset(index + 1, settings=RenderSettings(size_hw=size_hw), seed=seed)
    return AugmentedDataset(clean)[0, index]


def _stack(index: int, size_hw: tuple[int, int], seed: int, *, frames: int = FRAMES) -> Sample:
    """Frames of a procedural scene as those of training: lenses, distances and errors of real cameras."""
    render = RenderSettings(size_hw=size_hw, scenes="varied", quality="exact", optics="cameras")
    options = SourceOptions(seed=seed, samples=index + 1, frames=frames, render=render)
    clean = ProceduralStacks("scenes", options).prepare(index)
    return FOCUS_STACK.augment(clean, np.random.default_rng([seed, 1, index]))


def _picture(index: int, size_hw: tuple[int, int], seed: int) -> Sample:
    options = SourceOptions(seed=seed, samples=index + 1, render=RenderSettings(size_hw=size_hw))
    clean = ProceduralPictures("scenes", options).prepare(index)
    return MONOCULAR.augment(clean, np.random.default_rng([seed, 1, index]))


_Scene = Callable[[int, tuple[int, int], int], Sample]
_SCENES: Mapping[str, _Scene] = {DUAL_PIXEL.name: _pair, FOCUS_STACK.name: _stack, MONOCULAR.name: _picture}


def task_scene(
    task: Task,
    index: int,
    size_hw: tuple[int, int] = (192, 256),
    seed: int = EVALUATION_SEED,
    *,
    frames: int = FRAMES,
) -> Sample:
    """Scene ``index`` of a fixed set of rendered and augmented samples of ``task`` that training never sees.

    Args:
        task: whose sample it is.
        index: from 0 on.
        size_hw: (height, width) in px, multiples of 32.
        seed: at least ``EVALUATION_SEED``; another seed gives another set (calibration, say).
        frames: of a focus stack; other samples have none.
    """
    scene = partial(_stack, frames=frames) if task.data_task == FOCUS_STACK.name else _SCENES[task.data_task]
    return scene(index, size_hw, seed)
