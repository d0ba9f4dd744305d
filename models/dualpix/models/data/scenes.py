"""Rendered scenes of every task: what networks are calibrated, judged and watched on while they train."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch

from dualpix.capture.synthesis.camera import camera_named
from dualpix.capture.synthesis.sample import render_sample
from dualpix.capture.synthesis.settings import RenderSettings as StackSettings
from dualpix.capture.synthesis.settings import SampleSpec
from dualpix.models.data.rendered import EVALUATION_SEED, AugmentedDataset, RenderedDataset, RenderSettings
from dualpix.models.data.sources import SourceOptions
from dualpix.models.data.sources.procedural import ProceduralPictures
from dualpix.models.tasks import DUAL_PIXEL, FOCUS_STACK, MONOCULAR, Sample, Task
from dualpix.models.tasks.focus_stack import FARTHEST_M

__all__ = ["EVALUATION_SEED", "task_scene"]

_FRAMES = 5
_STACK_CAMERA, _STACK_SPAN_PX = "generic-full-frame", 16.0
_STACK_SPAN_SHARE = 0.2
"""And no more than so much of the shorter side."""


def _pair(index: int, size_hw: tuple[int, int], seed: int) -> Sample:
    clean = RenderedDataset(index + 1, settings=RenderSettings(size_hw=size_hw), seed=seed)
    return AugmentedDataset(clean)[0, index]


def _stack(index: int, size_hw: tuple[int, int], seed: int) -> Sample:
    """Frames evenly spaced in diopters over a procedural scene, through a full-frame camera opened to a fair blur.

    The farthest focus comes first, as in all stacks.
    """
    span = min(_STACK_SPAN_PX, _STACK_SPAN_SHARE * min(size_hw))
    settings = StackSettings(
        camera_named(_STACK_CAMERA), seed=seed, size_hw=size_hw, coc_span_px=span, pair=False, stack=_FRAMES
    )
    found = render_sample(SampleSpec(index), settings)
    order = np.argsort(found.stack_focus_m)[::-1].copy()
    frames = np.stack(found.stack)[order].transpose(0, 3, 1, 2)
    distances = np.minimum(found.stack_focus_m, FARTHEST_M)[order].astype(np.float32)
    clean = {
        "frames": torch.from_numpy(np.ascontiguousarray(frames)),
        "focus_distances_m": torch.from_numpy(distances),
        "depth_m": torch.from_numpy(np.ascontiguousarray(found.view.depth_m))[None].clamp_max(FARTHEST_M),
    }
    return FOCUS_STACK.augment(clean, np.random.default_rng([seed, 1, index]))


def _picture(index: int, size_hw: tuple[int, int], seed: int) -> Sample:
    options = SourceOptions(seed=seed, samples=index + 1, render=RenderSettings(size_hw=size_hw))
    clean = ProceduralPictures("scenes", options).prepare(index)
    return MONOCULAR.augment(clean, np.random.default_rng([seed, 1, index]))


_SCENES: dict[str, Callable[[int, tuple[int, int], int], Sample]] = {
    DUAL_PIXEL.name: _pair, FOCUS_STACK.name: _stack, MONOCULAR.name: _picture
}  # fmt: skip


def task_scene(task: Task, index: int, size_hw: tuple[int, int] = (192, 256), seed: int = EVALUATION_SEED) -> Sample:
    """Scene ``index`` of a fixed set of rendered and augmented samples of ``task`` that training never sees.

    Args:
        task: whose sample it is.
        index: from 0 on.
        size_hw: (height, width) in px, multiples of 32.
        seed: at least ``EVALUATION_SEED``; another seed gives another set (calibration, say).
    """
    return _SCENES[task.data_task](index, size_hw, seed)
