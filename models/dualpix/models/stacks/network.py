"""Depth of a focus stack by a network of the task ``focus_stack``.

Convention: frames are aligned, linear light, farthest focus first; depth is in m from the lens. The network works on
frames of a bounded long side; one that says at which side it works best has small frames enlarged to it. Its depth
comes back to the frames' size in diopters, in which surfaces are linear.
"""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from dualpix.capture.errors import DualpixError
from dualpix.capture.types import FloatImage, FocusStack
from dualpix.models.networks.spec import confidence_output, first_output
from dualpix.models.tasks import FOCUS_STACK
from dualpix.models.tasks.focus_stack import (
    BLUR,
    DISTANCES,
    F_NUMBER,
    FARTHEST_M,
    FOCAL_LENGTH,
    FRAMES,
    NEAREST_M,
    PITCH,
)
from dualpix.models.zoo import LoadedModel

WORKING_LONG_SIDE_PX = 640
"""At the most, of networks that do not say what they want."""
_MOST_ENLARGED = 2.0
MOST_FRAMES = 9
"""That a network is shown: more than any was trained on, and memory grows with them."""


@dataclass(frozen=True)
class StackPrediction:
    """What a network says of a stack."""

    depth_m: FloatImage
    """(H, W)"""
    confidence: FloatImage | None
    """(H, W) 0 to 1; None where the network gives none."""
    frames: tuple[int, ...]
    """Places in the stack of those that it was shown."""


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
    stack: FocusStack, model: LoadedModel, *, working_long_side_px: int | None = None
) -> FloatImage:
    """The depth (H, W) in m of :func:`predict_stack`."""
    return predict_stack(stack, model, working_long_side_px=working_long_side_px).depth_m


def predict_stack(
    stack: FocusStack,
    model: LoadedModel,
    *,
    blur_px_per_d: float | None = None,
    working_long_side_px: int | None = None,
) -> StackPrediction:
    """Depth, and how sure it is.

    Args:
        stack: aligned, with focus distances; of more than ``MOST_FRAMES`` frames so many are shown, see
            :func:`thinned`.
        model: of the task ``focus_stack``.
        blur_px_per_d: circle of confusion per diopter of misfocus, in px of the frames, where it is known although
            the lens is not.
        working_long_side_px: of what the network sees; by default its own, see :class:`~.networks.NetworkSpec`.

    Raises:
        DualpixError: the model is for something else, the stack has no distances, or the network gives no numbers.
    """
    check_stack_model(model)
    if stack.focus_distance_m is None:
        raise DualpixError(
            "the stack does not say where its frames are focused",
            expected="distances, which the network takes",
            hint="say them with: dualpix capture import with --distances M,M,..., or --first M --last M",
        )
    places = thinned(stack.sweep, MOST_FRAMES)
    batch, size = _batch(stack, places, model.spec.size_multiple, _scale(stack, model, working_long_side_px))
    if blur_px_per_d is not None:
        batch[BLUR] = torch.full_like(batch[DISTANCES], blur_px_per_d * size[1] / stack.frames.shape[2])
    with torch.inference_mode():
        output = model.module(*model.spec.inputs_of(batch))
    depth, sure = first_output(output), confidence_output(output)
    height, width = stack.frames.shape[1:3]
    diopters = _checked(1.0 / _inside(depth, size).clamp_min(NEAREST_M), model, "depths")
    full = _enlarged(diopters, (height, width))
    confidence = None if sure is None else _enlarged(_checked(_inside(sure, size), model, "confidences"), full.shape)
    return StackPrediction(
        np.asarray(1.0 / np.maximum(full, 1.0 / FARTHEST_M), np.float32),
        None if confidence is None else np.clip(confidence, 0, 1),
        tuple(int(place) for place in places),
    )


def thinned(sweep: npt.NDArray[np.float64], most: int) -> npt.NDArray[np.int64]:
    """Places (M,), rising, of at most so many of (N,) frames: those nearest to an even list in diopters, both ends in.

    Args:
        sweep: (N,) focus in diopters, rising.
        most: at least 2.
    """
    count = len(sweep)
    if count <= most:
        return np.arange(count)
    chosen = np.empty(most, np.int64)
    for slot, wanted in enumerate(np.linspace(sweep[0], sweep[-1], most)):
        low = chosen[slot - 1] + 1 if slot else 0
        high = count - (most - slot)  # so many must be left for the others
        chosen[slot] = low + int(np.argmin(np.abs(sweep[low : high + 1] - wanted)))
    return chosen


def _scale(stack: FocusStack, model: LoadedModel, long_side_px: int | None) -> float:
    """By which frames are enlarged for the network, or below 1 reduced."""
    own = model.spec.working_long_side_px
    wanted = long_side_px or own or WORKING_LONG_SIDE_PX
    return min(1.0 if own is None else _MOST_ENLARGED, wanted / int(max(stack.frames.shape[1:3])))


def _batch(
    stack: FocusStack, places: npt.NDArray[np.int64], multiple: int, scale: float
) -> tuple[dict[str, Tensor], tuple[int, int]]:
    """A sample as a batch of one, and the size of the picture in it before it was padded."""
    assert stack.focus_distance_m is not None  # noqa: S101 - the caller looked
    height, width = stack.frames.shape[1:3]
    size = (max(1, round(height * scale)), max(1, round(width * scale)))
    pad = (0, -size[1] % multiple, 0, -size[0] % multiple)
    way = cv2.INTER_AREA if scale < 1 else cv2.INTER_CUBIC
    frames = np.stack([cv2.resize(frame, size[::-1], interpolation=way) for frame in stack.frames[places]])
    frames = np.maximum(frames, 0)  # a cubic undershoots beside lights
    shown = torch.from_numpy(np.ascontiguousarray(frames.transpose(0, 3, 1, 2), np.float32))
    # NaN where it is not known: tasks take that for unknown
    lens = {
        FOCAL_LENGTH: stack.lens.focal_length_mm,
        PITCH: stack.lens.pixel_pitch_um * width / size[1],
        F_NUMBER: stack.lens.f_number,
    }
    return {
        FRAMES: torch.nn.functional.pad(shown, pad, mode="reflect")[None],
        DISTANCES: torch.from_numpy(np.minimum(stack.focus_distance_m[places], FARTHEST_M).astype(np.float32))[None],
        **{name: torch.tensor([value], dtype=torch.float32) for name, value in lens.items()},
    }, size


def _inside(output: Tensor, size_hw: tuple[int, int]) -> Tensor:
    """(H, W) of a batch of one, without what was padded."""
    return output[0, 0, : size_hw[0], : size_hw[1]].float()


def _checked(values: Tensor, model: LoadedModel, what: str) -> FloatImage:
    if not bool(torch.isfinite(values).all()):
        raise DualpixError(f"'{model.name}' gives {what} of this stack that are no numbers", expected="finite ones")
    return np.ascontiguousarray(values.numpy())


def _enlarged(values: FloatImage, size_hw: tuple[int, ...]) -> FloatImage:
    return np.asarray(cv2.resize(values, size_hw[::-1], interpolation=cv2.INTER_LINEAR), np.float32)
