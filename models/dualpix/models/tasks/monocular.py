"""Inverse depth of one picture, up to scale and offset: what pictures with depth teach without any dual-pixel pair.

Convention: the picture is linear light, (3, H, W); inverse depth is in 1/m from the lens, 0 at infinity. Larger is
nearer. A capture's full-aperture view stands for the picture where a network of this task is tried on one.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from dualpix.models.losses import affine_invariant_loss
from dualpix.models.prepare import MEAN_LEVEL, image_input
from dualpix.models.tasks.dual_pixel_affine import AFFINE, AFFINE_MEANING, affine_error, affine_scores
from dualpix.models.tasks.exposure import Exposure
from dualpix.models.tasks.task import KNOWN, Arrays, Batch, Field, NetworkOutput, Sample, Task, TaskMetric

TRUTH = "inverse_depth_per_m"
PICTURE = "combined"
"""As captures call it."""


def augment(sample: Sample, rng: np.random.Generator) -> Sample:
    """Mirroring, exposure, noise, clipping, 8 bits; half of the pictures are green alone, as some sensors give them."""
    views = dict(sample)
    for axis in (-1, -2):
        if rng.random() < 0.5:
            views = {name: value.flip(axis) for name, value in views.items()}
    picture = views[PICTURE]
    if rng.random() < 0.5:
        picture = picture[1:2]
    sensor = Exposure.draw(rng, float(picture.mean()), picture.device)
    return views | {PICTURE: sensor.expose(picture).expand(3, -1, -1)}


def inputs_of(batch: Batch) -> Mapping[str, Tensor]:
    """See :func:`dualpix.models.prepare.image_input`."""
    return {"image": image_input(batch[PICTURE])}


def loss(predictions: Sequence[Any], batch: Batch) -> Tensor:
    """See :func:`dualpix.models.losses.affine_invariant_loss`."""
    return affine_invariant_loss(predictions, batch[TRUTH], batch.get(KNOWN))


def error(prediction: Tensor, batch: Batch) -> Tensor:
    """AI(1) in diopters."""
    return affine_error(prediction, batch[TRUTH], batch.get(KNOWN))


def scores(outputs: Arrays, sample: Arrays) -> Mapping[str, float]:
    """AI(1), AI(2) in diopters, 1-|rho|."""
    return affine_scores(outputs, sample, TRUTH)


def guess(batch: Batch) -> Tensor:
    """Everything equally far."""
    return torch.zeros_like(batch[TRUTH])


MONOCULAR = Task(
    name="monocular",
    summary="one picture to inverse depth up to scale and offset",
    sample=(
        Field(PICTURE, "picture", 3),
        Field(TRUTH, "map", unit="1/m"),
        Field(KNOWN, "mask", optional=True),
    ),
    inputs=(Field("image", "picture", 3),),
    outputs=(NetworkOutput(AFFINE, "", AFFINE_MEANING, truth=TRUTH),),
    inputs_of=inputs_of,
    normalisation=f"linear light, black at 0; one gain brings its mean to {MEAN_LEVEL:g}; then sqrt(clip(gain * x, 0, "
    "4)) - 0.4 (dualpix.models.prepare.image_input)",
    layout="NCHW float32, batch 1",
    augment=augment,
    loss=loss,
    error=error,
    error_unit="1/m after an affine fit",
    guess=guess,
    guess_name="a flat map",
    metrics=(TaskMetric("AI(1)", unit="1/m"), TaskMetric("AI(2)", unit="1/m"), TaskMetric("1-|ρ|")),
    scores=scores,
)
