"""Inverse depth of a dual-pixel pair, up to scale and offset: what a network gives that knows no optics.

Convention: the disparity of a scene is affine in its inverse depth, ``A f (1 / d_f - 1 / d) kappa / pitch`` (see
:mod:`dualpix.capture.optics`), and falls as inverse depth rises. So the truth is that of the task ``dual_pixel``, and
its negative is inverse depth up to scale and offset. Larger is nearer.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from dualpix.models.losses import affine_invariant_loss, exact
from dualpix.models.metrics import affine_invariant_error
from dualpix.models.samples import DISPARITY
from dualpix.models.tasks.dual_pixel import DUAL_PIXEL
from dualpix.models.tasks.task import KNOWN, Arrays, Batch, NetworkOutput

AFFINE = "inverse_depth_affine"
AFFINE_MEANING = "inverse depth up to scale and offset, larger is nearer: neither pixels nor metres"


def affine_error(prediction: Tensor, truth: Tensor, known: Tensor | None) -> Tensor:
    """AI(1): mean absolute residual of each sample's robust affine fit, in the truth's unit; mean over the batch."""
    masks = [None] * len(truth) if known is None else [one.cpu().numpy() > 0 for one in known]
    pairs = zip(exact(prediction).detach().cpu().numpy(), truth.cpu().numpy(), masks, strict=True)
    return torch.tensor([affine_invariant_error(p, t, m).ai1 for p, t, m in pairs], dtype=torch.float64).mean()


def affine_scores(prediction: Arrays, sample: Arrays, truth: str) -> dict[str, float]:
    """AI(1), AI(2) and 1-|rho|, as those of disparities."""
    valid = sample[KNOWN][0] > 0 if KNOWN in sample else None
    found = affine_invariant_error(prediction[AFFINE][0], sample[truth][0], valid)
    return {"AI(1)": found.ai1, "AI(2)": found.ai2, "1-|ρ|": found.one_minus_abs_rho}


def loss(predictions: Sequence[Any], batch: Batch) -> Tensor:
    """See :func:`dualpix.models.losses.affine_invariant_loss`."""
    return affine_invariant_loss(predictions, -batch[DISPARITY], batch.get(KNOWN))


def error(prediction: Tensor, batch: Batch) -> Tensor:
    """AI(1) in px of disparity."""
    return affine_error(prediction, batch[DISPARITY], batch.get(KNOWN))


def scores(outputs: Arrays, sample: Arrays) -> Mapping[str, float]:
    """See :func:`affine_scores`."""
    return affine_scores(outputs, sample, DISPARITY)


DUAL_PIXEL_AFFINE = replace(
    DUAL_PIXEL,
    name="dual_pixel_affine",
    summary="a dual-pixel pair to inverse depth up to scale and offset",
    samples_of=DUAL_PIXEL.name,
    outputs=(NetworkOutput(AFFINE, "", AFFINE_MEANING, truth=DISPARITY),),
    loss=loss,
    error=error,
    error_unit="px after an affine fit",
    guess_name="a flat map",
    scores=scores,
)
