"""Depth of a focus stack by a network of the task ``focus_stack``.

Convention: frames are aligned, linear light, farthest focus first; depth is in m from the lens. The network works on
frames of a bounded long side; its depth comes back to the frames' size in diopters, in which surfaces are linear.
"""

from __future__ import annotations

import cv2
import numpy as np
import torch

from dualpix.capture.errors import DualpixError
from dualpix.capture.types import FloatImage, FocusStack
from dualpix.models.networks.spec import first_output
from dualpix.models.tasks import FOCUS_STACK
from dualpix.models.tasks.focus_stack import DISTANCES, FARTHEST_M, FOCAL_LENGTH, FRAMES, NEAREST_M, PITCH
from dualpix.models.zoo import LoadedModel

WORKING_LONG_SIDE_PX = 640


def check_stack_model(model: LoadedModel) -> None:
    """Whether a model takes focus stacks.

    Raises:
        DualpixError: it is for something else.
    """
    if model.spec.task != FOCUS_STACK.name:
        raise DualpixError(
            f"model '{model.name}' takes {model.spec.of_task().summary}", expected="a network for focus stacks"
        )


def predict_stack_depth(
    stack: FocusStack, model: LoadedModel, *, working_long_side_px: int = WORKING_LONG_SIDE_PX
) -> FloatImage:
    """Depth (H, W) in m.

    Args:
        stack: aligned, with focus distances.
        model: of the task ``focus_stack``.
        working_long_side_px: of what the network sees, never more than the frames' own.

    Raises:
        DualpixError: the model is for something else, the stack has no distances, or the network gives no numbers.
    """
    check_stack_model(model)
    if stack.focus_distance_m is None:
        raise DualpixError(
            "the stack does not say where its frames are focused", expected="distances, which the network takes"
        )
    height, width = stack.frames.shape[1:3]
    shrink = min(1.0, working_long_side_px / max(height, width))
    size = (max(1, round(height * shrink)), max(1, round(width * shrink)))
    multiple = model.spec.size_multiple
    pad = (0, -size[1] % multiple, 0, -size[0] % multiple)
    frames = np.stack([cv2.resize(frame, size[::-1], interpolation=cv2.INTER_AREA) for frame in stack.frames])
    shown = torch.from_numpy(np.ascontiguousarray(frames.transpose(0, 3, 1, 2), np.float32))
    batch = {
        FRAMES: torch.nn.functional.pad(shown, pad, mode="reflect")[None],
        DISTANCES: torch.from_numpy(np.minimum(stack.focus_distance_m, FARTHEST_M).astype(np.float32))[None],
        FOCAL_LENGTH: torch.tensor([stack.lens.focal_length_mm], dtype=torch.float32),
        PITCH: torch.tensor([stack.lens.pixel_pitch_um * width / size[1]], dtype=torch.float32),
    }
    with torch.inference_mode():
        depth = first_output(model.module(*model.spec.inputs_of(batch)))[0, 0, : size[0], : size[1]]
    if not bool(torch.isfinite(depth).all()):
        raise DualpixError(f"'{model.name}' gives depths of this stack that are no numbers", expected="finite ones")
    diopters = (1.0 / depth.float().clamp_min(NEAREST_M)).numpy()
    full = cv2.resize(np.ascontiguousarray(diopters), (width, height), interpolation=cv2.INTER_LINEAR)
    return np.asarray(1.0 / np.maximum(full, 1.0 / FARTHEST_M), np.float32)
