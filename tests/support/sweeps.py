"""Focus stacks of procedural scenes by the project's own renderer, with their true diopters."""

from __future__ import annotations

import math

import numpy as np
import pytest

from dualpix.capture.types import FloatImage, FocusStack, LensModel

PITCH_UM = 140.0
UNKNOWN_LENS = LensModel(math.nan, math.nan, 1.0, math.nan)


def rendered(seed: int, size_hw: tuple[int, int] = (144, 192), frames: int = 7) -> tuple[FocusStack, FloatImage]:
    """A stack of a procedural desk by the project's renderer, with sensor noise; and its true diopters."""
    torch = pytest.importorskip("torch")
    from dualpix.capture.render import render_stack
    from dualpix.capture.scenes import make_varied_scene

    scene = make_varied_scene(seed, size_hw, "desk")
    truth = np.asarray(1 / scene.depth_m(), np.float32)
    focus = np.linspace(max(0.2, float(truth.min()) - 0.1), float(truth.max()) + 0.1, frames)
    lens = LensModel(50.0, 2.0, 1 / float(focus[0]), PITCH_UM)
    sharp = scene.all_in_focus()
    image = torch.from_numpy(np.ascontiguousarray((sharp * 0.7 / np.percentile(sharp, 99)).transpose(2, 0, 1)))[None]
    depth = torch.from_numpy(np.asarray(1 / truth, np.float32))[None, None]
    with torch.inference_mode():
        stack = render_stack(image, depth, list(1 / focus), lens)[0].permute(0, 2, 3, 1).numpy()
    return FocusStack(noisy(stack, np.random.default_rng(seed)), 1 / focus, np.full(frames, 0.01), lens), truth


def noisy(light: FloatImage, rng: np.random.Generator) -> FloatImage:
    """With shot and read noise."""
    spread = np.sqrt(1e-6 + 2e-5 * np.maximum(light, 0))
    return np.asarray(light + rng.normal(0, 1, light.shape) * spread, np.float32)
