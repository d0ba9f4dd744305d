"""What int8 does to each layer of a network.

Everything is measured in emulation (:mod:`.emulate`) on one calibration. Two sweeps give a layer's sensitivity:
*quantise-one* (how much worse the float network gets with it alone in int8) and *keep-one-float* (how much better the
int8 network gets with it alone in float).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from typing import TypeAlias, get_args

import torch
from torch import nn

from dualpix.capture.errors import DualpixError
from dualpix.quantize.calibration import Inputs
from dualpix.quantize.emulate import Emulator, Layer
from dualpix.quantize.keep import keep_modules
from dualpix.quantize.kinds import Observer, Sweep
from dualpix.quantize.score import Predict
from dualpix.quantize.search.assignment import LayerSensitivity, allowed_loss
from dualpix.quantize.search.losses import Loss

OnStep: TypeAlias = Callable[[int, int, str], None]
"""Told (done, total, what); the total is an estimate."""


class Measure:
    """A loss over choices of float layers, each measured once."""

    def __init__(self, module: nn.Module, emulator: Emulator, loss: Loss, budget: float) -> None:
        self._emulator, self._loss = emulator, loss
        self.known: dict[frozenset[str], float] = {}
        self.float_loss = self.of_predictor(lambda inputs: module(*inputs))
        if not math.isfinite(self.float_loss):
            raise DualpixError(f"the float network's loss is {self.float_loss}", expected="a finite number")
        self.allowed = allowed_loss(self.float_loss, budget)

    def of_predictor(self, predict: Predict) -> float:
        """The loss; infinite where it is not finite."""
        with torch.no_grad():
            loss = float(self._loss(predict))
        return loss if math.isfinite(loss) else math.inf

    def __call__(self, kept: Iterable[str]) -> float:
        """The loss with the layers ``kept`` in float and all others in int8."""
        key = frozenset(kept)
        if key not in self.known:
            graph = self._emulator.graph(keep_modules(*key))
            self.known[key] = self.of_predictor(lambda inputs: graph(*inputs))
        return self.known[key]

    def holds(self, kept: Iterable[str]) -> bool:
        """Whether that is within the budget."""
        return self(kept) <= self.allowed


def sensitivity(
    module: nn.Module,
    calibration: Sequence[Inputs],
    loss: Loss,
    *,
    sweeps: Sequence[Sweep] = get_args(Sweep),
    observer: Observer = "histogram",
    on_step: OnStep = lambda done, total, text: None,
) -> tuple[LayerSensitivity, ...]:
    """Measure what int8 does to each layer; the most harmful per multiply-accumulate first.

    Args:
        module: any network in float32.
        calibration: inputs of one size; their activations set the ranges.
        loss: what is to stay low.
        sweeps: which of the two to measure; each takes one evaluation of the loss per layer.
        observer: what decides the range of an activation.
        on_step: told about progress.

    Raises:
        DualpixError: no calibration sample, or the float network's loss is not finite.
    """
    emulator = Emulator(module, calibration, observer)
    return sweep(emulator, Measure(module, emulator, loss, 0.0), sweeps, on_step)


def sweep(
    emulator: Emulator,
    measure: Measure,
    sweeps: Sequence[Sweep],
    on_step: OnStep,
    kept: frozenset[str] = frozenset(),
) -> tuple[LayerSensitivity, ...]:
    """Every layer, the most harmful per multiply-accumulate first; in the network's order where nothing is measured.

    Those that are ``kept`` float in any case cost nothing to measure.
    """
    paths = frozenset(layer.path for layer in emulator.layers)
    if not sweeps:
        return tuple(_with_harm(layer, None, None) for layer in emulator.layers)
    total, found = len(paths) * len(sweeps), []
    for index, layer in enumerate(emulator.layers):
        on_step(index * len(sweeps), total, layer.path)
        saved = measure(kept) - measure(kept | {layer.path}) if "keep-one-float" in sweeps else None
        added = measure(paths - {layer.path}) - measure.float_loss if "quantise-one" in sweeps else None
        found.append(_with_harm(layer, saved, added))
    return tuple(sorted(found, key=lambda s: (-s.harm_per_mac, s.path)))


def _with_harm(layer: Layer, saved: float | None, added: float | None) -> LayerSensitivity:
    return LayerSensitivity(layer.path, layer.macs, layer.weights, layer.channels, saved, added)
