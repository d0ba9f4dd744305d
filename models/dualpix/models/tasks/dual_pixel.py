"""Disparity of a dual-pixel pair.

Convention: disparity is ``x_right - x_left`` in pixels of the picture at hand, > 0 behind the focus plane.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from dualpix.models.losses import disparity_and_confidence_loss, disparity_loss, exact, masked_mean
from dualpix.models.metrics import affine_invariant_error
from dualpix.models.prepare import MEAN_LEVEL, network_inputs
from dualpix.models.samples import DISPARITY, DISPARITY_GAIN, SHARP
from dualpix.models.tasks.exposure import Exposure
from dualpix.models.tasks.task import KNOWN, Arrays, Batch, Field, NetworkOutput, Sample, Task, TaskMetric

_HALF = 0.5
"""White level of a half's light relative to the full aperture's."""


def augment(sample: Sample, rng: np.random.Generator) -> Sample:
    """What lies between lens and network: exposure, noise, shading left over, clipping, 8 bits, mirroring."""
    views = dict(sample)
    if rng.random() < 0.5:  # a mirrored world: the halves change places, the disparity keeps its sign
        views = {name: value.flip(-1) if value.ndim else value for name, value in views.items()}
        views["left"], views["right"] = views["right"], views["left"]
    if rng.random() < 0.5:
        views = {name: value.flip(-2) if value.ndim else value for name, value in views.items()}
    left, right, combined = views["left"], views["right"], views["combined"]
    sensor = Exposure.draw(rng, float(combined.mean()), combined.device)
    left, right = sensor.expose(left, _HALF), sensor.expose(right, _HALF)
    right = right * _shading(rng, right.shape[-1]).to(right.device)
    # Green-only sensors feed the full-aperture view of the same samples to the image branch.
    green = rng.random() < 0.5
    combined = (left + right) if green else sensor.expose(combined)
    exposed = {"left": left, "right": right, "combined": combined.expand(3, -1, -1)}
    if SHARP in views:  # as bright as the full-aperture view, and clipped where a sensor clips
        sharp = views[SHARP][1:2].expand(3, -1, -1) if green else views[SHARP]
        exposed[SHARP] = (sharp * sensor.gain).clamp(0.0, sensor.clip)
    return views | exposed


def _shading(rng: np.random.Generator, width: int) -> Tensor:
    """(1, W) gain of the right view that equalisation left over: a few per cent, smooth in x."""
    x = torch.linspace(-1.0, 1.0, width)
    a, b, c = rng.normal(0.0, (0.015, 0.03, 0.015))
    return torch.exp(a + b * x + c * x * x)[None]


def inputs_of(batch: Batch) -> Mapping[str, Tensor]:
    """See :func:`dualpix.models.prepare.network_inputs`."""
    image, left, right = network_inputs(batch["left"], batch["right"], batch["combined"])
    return {"image": image, "left": left, "right": right}


def error(prediction: Tensor, batch: Batch) -> Tensor:
    """Mean absolute disparity error in px."""
    return masked_mean((exact(prediction) - batch[DISPARITY]).abs(), batch.get(KNOWN))


def scores(outputs: Arrays, sample: Arrays) -> dict[str, float]:
    """AI(1), AI(2) and 1-|rho|: see :mod:`dualpix.models.metrics`; all three come of one fit."""
    valid = sample[KNOWN][0] > 0 if KNOWN in sample else None
    found = affine_invariant_error(outputs[DISPARITY][0], sample[DISPARITY][0], valid)
    return {"AI(1)": found.ai1, "AI(2)": found.ai2, "1-|ρ|": found.one_minus_abs_rho}


def loss(predictions: Sequence[Any], batch: Batch) -> Tensor:
    """:func:`~dualpix.models.losses.disparity_loss`, and that of the confidence where the finest has two channels."""
    if predictions and predictions[0].shape[1] == 2:
        return disparity_and_confidence_loss(predictions, batch)
    return disparity_loss(predictions, batch[DISPARITY], batch.get(KNOWN))


def guess(batch: Batch) -> Tensor:
    """Everything in focus."""
    return torch.zeros_like(batch[DISPARITY])


DUAL_PIXEL = Task(
    name="dual_pixel",
    summary="a dual-pixel pair to signed disparity",
    sample=(
        Field("left", "picture"),
        Field("right", "picture"),
        Field("combined", "picture", 3),
        Field(DISPARITY, "map", unit="px"),
        Field(KNOWN, "mask", optional=True),
        Field(SHARP, "picture", 3, optional=True),
        Field(DISPARITY_GAIN, "scalar", optional=True),
    ),
    inputs=(Field("image", "picture", 3), Field("left", "picture"), Field("right", "picture")),
    outputs=(
        NetworkOutput(
            DISPARITY,
            "px",
            "x_right - x_left on the input's grid, > 0 behind the focus plane",
            scales_with_picture=True,
            signed=True,
        ),
        NetworkOutput("confidence", "", "how sure the disparity is, 0..1", optional=True),
        NetworkOutput(SHARP, "", "the picture in focus everywhere, encoded as the input image is", optional=True),
    ),
    inputs_of=inputs_of,
    normalisation=f"linear light, black at 0; one gain for both halves brings their mean to {MEAN_LEVEL:g}, another "
    "one the image's; then sqrt(clip(gain * x, 0, 4)) - 0.4 (dualpix.models.prepare.network_inputs)",
    layout="NCHW float32, batch 1, baseline along W",
    augment=augment,
    loss=loss,
    error=error,
    error_unit="px",
    guess=guess,
    guess_name="a map of zeros",
    metrics=(TaskMetric("AI(1)"), TaskMetric("AI(2)"), TaskMetric("1-|ρ|")),
    scores=scores,
)
