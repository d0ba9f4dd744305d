"""Quantisation-aware fine-tuning: a short training that makes a float network lose less in int8.

The student computes in emulated int8 (:class:`~.emulate.Emulator`: activations in the ranges of one calibration,
weights rounded in every forward pass, gradients straight through: Jacob et al., CVPR 2018) and learns to give the float
network's own outputs, so no ground truth is needed. Unlike ``prepare_qat_pt2e`` this gives back an ordinary float
module, to which every recipe, the sensitivity search and another calibration apply; its ranges are not a moving average
that starts at the first sample's; and the calls of a shared layer keep one bias.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import nn

from dualpix.capture.errors import DualpixError
from dualpix.quantize.calibration import Inputs
from dualpix.quantize.emulate import Emulator
from dualpix.quantize.graph import fold_batch_norm, run_eager
from dualpix.quantize.keep import KeepFloat, keep_nothing
from dualpix.quantize.kinds import Observer
from dualpix.quantize.score import tensors_of


@dataclass(frozen=True)
class FineTuned:
    """What a fine-tuning gave."""

    module: nn.Module
    """Float, in eval mode, batch norms folded; the weights are meant for int8."""
    losses: tuple[float, ...]
    """Of each step: mean square of the difference from the float network over that of its output, mean over its
    outputs."""


def fine_tune(
    module: nn.Module,
    calibration: Sequence[Inputs],
    training: Sequence[Inputs],
    keep_float: KeepFloat = keep_nothing,
    *,
    steps: int = 200,
    learning_rate: float = 2e-3,
    seed: int = 0,
    observer: Observer = "histogram",
    on_step: Callable[[int, int, float], None] = lambda done, total, loss: None,
) -> FineTuned:
    """Train a copy of ``module`` in emulated int8 to reproduce ``module`` itself.

    Args:
        module: any network in float32; it is unchanged.
        calibration: inputs of one size that set the ranges, as in :func:`~.ptq.quantise_static`.
        training: inputs of the same size to learn on, one per step.
        keep_float: submodules that will stay float; they are trained along.
        steps: optimiser steps.
        learning_rate: of Adam, relative to the median size of each tensor's weights, falling to zero along a cosine.
        seed: of the order of the samples.
        observer: what decides the range of an activation.
        on_step: told (done, total, loss) after each step.

    Raises:
        DualpixError: nothing to train on, or the loss is not finite any more.
    """
    if not training or steps < 1:
        raise DualpixError(f"{len(training)} samples and {steps} steps to train", expected="at least one each")
    targets = [tensors_of(run_eager(module, inputs)) for inputs in training]
    student = Emulator(module, calibration, observer).graph(keep_float, trainable=True)
    parameters = [p.requires_grad_() for p in student.parameters()]
    # Adam's steps are of the size of the rate: one for all tensors would shake small weights and leave large ones
    rates = [learning_rate * _typical_size(p.detach()) for p in parameters]
    optimiser = torch.optim.Adam([{"params": [p], "lr": rate} for p, rate in zip(parameters, rates, strict=True)])
    order, losses = np.random.default_rng(seed), []
    for step in range(steps):
        if step % len(training) == 0:
            shuffled = order.permutation(len(training))
        index = int(shuffled[step % len(training)])
        for group, rate in zip(optimiser.param_groups, rates, strict=True):
            group["lr"] = rate * 0.5 * (1.0 + math.cos(math.pi * step / steps))
        loss = _relative_error(tensors_of(student(*training[index])), targets[index])
        losses.append(float(loss.detach()))
        if not math.isfinite(losses[-1]):
            raise DualpixError(f"the loss is {losses[-1]} in step {step + 1}", hint="choose a smaller learning rate")
        optimiser.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        optimiser.step()
        on_step(step + 1, steps, losses[-1])
    return FineTuned(_with_weights_of(fold_batch_norm(module, calibration[0]), student), tuple(losses))


def _relative_error(outputs: Sequence[torch.Tensor], targets: Sequence[torch.Tensor]) -> torch.Tensor:
    """Mean square of the difference over that of the target, mean over the outputs."""
    pairs = zip(outputs, targets, strict=True)
    errors = [(output - target).square().mean() / target.square().mean().clamp_min(1e-12) for output, target in pairs]
    return torch.stack(errors).mean()


def _typical_size(weights: torch.Tensor) -> float:
    """Of those that are not zero. Not the RMS: a few large weights, the very reason why the others have few codes in
    int8, would make steps of several codes of it."""
    sizes = weights[weights != 0].abs()
    return float(sizes.median()) if sizes.numel() else 0.0


def _with_weights_of(module: nn.Module, student: nn.Module) -> nn.Module:
    trained = dict(student.named_parameters())
    with torch.no_grad():
        for name, parameter in module.named_parameters():
            if name in trained:
                parameter.copy_(trained[name])
    return module.eval().requires_grad_(False)
