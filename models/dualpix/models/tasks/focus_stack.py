"""Metric depth of a focus stack: N frames of one scene, focused at N known distances.

Convention: frames are linear light, (N, 3, H, W), aligned; focus distances and depths are in m from the lens. Losses
and errors are taken in diopters (1 / m) or in the logarithm of depth: blur is proportional to the former, and neither
lets the far end outweigh the rest.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from dualpix.models.losses import depth_loss, exact, masked_mean
from dualpix.models.prepare import (
    MEAN_LEVEL,
    USUAL_WIDTH_PER_FOCAL,
    blur_px_per_diopter,
    stack_inputs,
    width_per_focal,
)
from dualpix.models.tasks.exposure import Exposure
from dualpix.models.tasks.task import KNOWN, Arrays, Batch, Field, NetworkOutput, Sample, Task, TaskMetric

TRUTH = "depth_m"
FRAMES, DISTANCES = "frames", "focus_distances_m"
FOCUS, CANONICAL, BLUR = "focus_diopters", "width_per_focal", "blur_px_per_diopter"
FOCAL_LENGTH, F_NUMBER, PITCH = "focal_length_mm", "f_number", "pixel_pitch_um"
NEAREST_M = 1e-3
FARTHEST_M = 1e4
"""Infinity, of depths and of focus distances, in samples: no error can be taken of it, and this is .1 mD away."""
_FRAME_GAIN_SIGMA = 0.02
"""Of the exposure from frame to frame, in log light: shutters and apertures repeat to about this."""
_DISTANCE_SIGMA = 0.02
"""Of what a lens says of its focus, relative."""
_APERTURE_SIGMA, _UNKNOWN_APERTURE = 0.03, 0.05
"""Of what a lens says of its f-number, relative; and the share of stacks of which nobody knows it."""


def augment(sample: Sample, rng: np.random.Generator) -> Sample:
    """Mirroring, one exposure for the stack with a little of its own for each frame, noise, distances not quite so."""
    views = dict(sample)
    maps = [name for name, value in views.items() if value.ndim >= 3]
    for axis in (-1, -2):
        if rng.random() < 0.5:
            views |= {name: views[name].flip(axis) for name in maps}
    frames, distances = views[FRAMES], views[DISTANCES]
    sensor = Exposure.draw(rng, float(frames.mean()), frames.device)
    gains = np.exp(rng.normal(0.0, _FRAME_GAIN_SIGMA, len(frames))).astype(np.float32)
    said = np.exp(rng.normal(0.0, _DISTANCE_SIGMA, len(frames))).astype(np.float32)
    lit = frames * torch.from_numpy(gains).to(frames.device)[:, None, None, None]
    views |= {FRAMES: sensor.expose(lit), DISTANCES: distances * torch.from_numpy(said).to(distances.device)}
    if F_NUMBER in views:
        factor = np.exp(rng.normal(0.0, _APERTURE_SIGMA)) if rng.random() >= _UNKNOWN_APERTURE else np.nan
        views[F_NUMBER] = views[F_NUMBER] * float(factor)
    return views


def inputs_of(batch: Batch) -> Mapping[str, Tensor]:
    """See :func:`dualpix.models.prepare.stack_inputs`, and of the same module ``width_per_focal`` and
    ``blur_px_per_diopter``.

    Where the sample does not say its focal length in pixels, the angle of the picture is the usual one; where it does
    not say its aperture either, the blur is 0, which no lens has. A batch may bring the blur itself.
    """
    frames, focus_diopters = stack_inputs(batch[FRAMES], batch[DISTANCES])
    if FOCAL_LENGTH in batch and PITCH in batch:
        canonical = width_per_focal(frames.shape[-1], batch[FOCAL_LENGTH], batch[PITCH])
    else:
        canonical = frames.new_full((frames.shape[0],), USUAL_WIDTH_PER_FOCAL)
    blur = batch[BLUR] if BLUR in batch else _blur(focus_diopters, batch)
    return {FRAMES: frames, FOCUS: focus_diopters, CANONICAL: canonical, BLUR: blur}


def _blur(focus_diopters: Tensor, batch: Batch) -> Tensor:
    lens = [batch[name] for name in (FOCAL_LENGTH, F_NUMBER, PITCH) if name in batch]
    return blur_px_per_diopter(focus_diopters, *lens) if len(lens) == 3 else torch.zeros_like(focus_diopters)


def error(prediction: Tensor, batch: Batch) -> Tensor:
    """Mean absolute error in diopters."""
    truth = batch[TRUTH].clamp_min(NEAREST_M)
    return masked_mean((1 / exact(prediction).clamp_min(NEAREST_M) - 1 / truth).abs(), batch.get(KNOWN))


def scores(outputs: Arrays, sample: Arrays) -> dict[str, float]:
    """Mean relative error, mean error in diopters, and the share within 25 %; pixels without truth do not count.

    Raises:
        ValueError: no pixel has a truth.
    """
    truth = sample[TRUTH][0].astype(np.float64)
    valid = (truth > 0) & np.isfinite(truth)
    if KNOWN in sample:
        valid &= sample[KNOWN][0] > 0
    if not valid.any():
        raise ValueError("no pixel has a truth")
    found = np.maximum(outputs[TRUTH][0].astype(np.float64)[valid], NEAREST_M)
    truth = truth[valid]
    ratio = np.maximum(found / truth, truth / found)
    return {
        "AbsRel": float(np.mean(np.abs(found - truth) / truth)),
        "MAE 1/m": float(np.mean(np.abs(1 / found - 1 / truth))),
        "δ<1.25": float(np.mean(ratio < 1.25)),
    }


def loss(predictions: Sequence[Any], batch: Batch) -> Tensor:
    """See :func:`dualpix.models.losses.depth_loss`."""
    return depth_loss(predictions, batch[TRUTH].clamp_min(NEAREST_M), batch.get(KNOWN))


def guess(batch: Batch) -> Tensor:
    """The middle of the focus distances, in diopters, everywhere."""
    middle = 1 / (1 / batch[DISTANCES]).mean(1).clamp_min(1 / FARTHEST_M)
    return middle.reshape(-1, 1, 1, 1).expand_as(batch[TRUTH])


FOCUS_STACK = Task(
    name="focus_stack",
    summary="a focus stack and its distances to depth in m",
    sample=(
        Field(FRAMES, "picture", 3, per_frame=True),
        Field(DISTANCES, "scalar", per_frame=True, unit="m"),
        Field(TRUTH, "map", unit="m"),
        Field(KNOWN, "mask", optional=True),
        Field(FOCAL_LENGTH, "scalar", unit="mm", optional=True),
        Field(F_NUMBER, "scalar", optional=True),
        Field(PITCH, "scalar", unit="um", optional=True),
        Field("sharp", "picture", 3, optional=True),
    ),
    inputs=(
        Field(FRAMES, "picture", 3, per_frame=True),
        Field(FOCUS, "scalar", per_frame=True, unit="1/m"),
        Field(CANONICAL, "scalar"),
        Field(BLUR, "scalar", per_frame=True, unit="px m"),
    ),
    outputs=(
        NetworkOutput(TRUTH, "m", "from the lens"),
        NetworkOutput("confidence", "", "how sure the depth is, 0..1", optional=True),
    ),
    inputs_of=inputs_of,
    normalisation=f"linear light, black at 0; one gain for the stack brings its mean to {MEAN_LEVEL:g}; then sqrt(clip("
    "gain * x, 0, 4)) - 0.4; focus in 1/m, farthest first (dualpix.models.prepare.stack_inputs); width of the picture "
    f"over focal length in px, {USUAL_WIDTH_PER_FOCAL:g} where it is not known; circle of confusion in px "
    "per diopter, 0 where it is not known",
    layout="float32, batch 1; pictures NFCHW with F frames, scalars NF, and N",
    augment=augment,
    loss=loss,
    error=error,
    error_unit="1/m",
    guess=guess,
    guess_name="the middle of the focus range",
    metrics=(TaskMetric("AbsRel"), TaskMetric("MAE 1/m", unit="1/m"), TaskMetric("δ<1.25", "higher")),
    scores=scores,
)
