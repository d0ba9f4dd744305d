"""Which layers must stay float? Sensitivity of each, and the cheapest mix of int8 and float within an accuracy budget.

Everything is measured in emulation (:mod:`.emulate`) on one calibration. Two sweeps give a layer's sensitivity:
*quantise-one* (how much worse the float network gets with it alone in int8) and *keep-one-float* (how much better the
int8 network gets with it alone in float). The search keeps layers float in the order of loss saved per
multiply-accumulate until the budget holds, gives back those that turn out not to be needed, does the same on held-back
data, and measures the result once more in the graph that is exported (:func:`~.ptq.quantise_static`).

Convention: a *loss* takes a predictor and returns any figure, lower is better. Budgets are relative to the float
network's loss; where that is nothing (:func:`output_loss`), which is relative already, the budget is the loss itself.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from typing import Any, TypeAlias, get_args

import numpy as np
import torch
from torch import nn

from dualpix.capture.errors import DualpixError
from dualpix.quantize.calibration import EvaluationSet, Inputs
from dualpix.quantize.emulate import Emulator, Layer
from dualpix.quantize.kinds import Observer, Sweep
from dualpix.quantize.ptq import KeepFloat, keep_modules, keep_nothing, quantise_static
from dualpix.quantize.score import Predict, arrays_of, tensors_of
from dualpix.quantize.task_metrics import sample_scores

Loss: TypeAlias = Callable[[Predict], float]
OnStep: TypeAlias = Callable[[int, int, str], None]
"""Told (done, total, what); the total is an estimate."""

ASSIGNMENT_FORMAT = 1
_NOTHING = 1e-3
"""A float loss below this part of the budget counts as zero."""
_MAX_LAYERS = 10_000


def output_loss(module: nn.Module, samples: Sequence[Inputs]) -> Loss:
    """RMS of the difference from the float ``module`` over the RMS of its output: 0.01 is 40 dB. For every module.

    Of several outputs the largest.

    Raises:
        DualpixError: no samples.
    """
    if not samples:
        raise DualpixError("no samples to measure a loss on", expected="at least one")
    with torch.no_grad():
        references = [[t.double() for t in tensors_of(module(*inputs))] for inputs in samples]
    powers = [sum(float(r.square().sum()) for r in column) for column in zip(*references, strict=True)]

    def loss(predict: Predict) -> float:
        gaps = [0.0] * len(powers)
        for inputs, expected in zip(samples, references, strict=True):
            for place, (output, reference) in enumerate(zip(tensors_of(predict(inputs)), expected, strict=True)):
                gaps[place] += float((output.double() - reference).square().sum())
        return max(math.sqrt(gap / max(power, 1e-30)) for gap, power in zip(gaps, powers, strict=True))

    return loss


def task_loss(evaluation: EvaluationSet, names: Sequence[str] = ()) -> Loss:
    """Mean of the task's first metric against the truth, turned so that lower is better.

    Infinite for a prediction that is not finite.

    Args:
        evaluation: samples with their truth.
        names: of the network's outputs, in order; the task's first output by default.
    """
    task, metric = evaluation.task, evaluation.task.metrics[0]
    names = tuple(names) or (task.outputs[0].name,)
    sign = 1.0 if metric.better == "lower" else -1.0

    def loss(predict: Predict) -> float:
        figures = []
        for sample in evaluation.samples:
            outputs = arrays_of(predict(sample.inputs))
            if not all(np.isfinite(o).all() for o in outputs):
                return math.inf
            figures.append(sign * sample_scores(task, names, outputs, sample.arrays())[metric.name])
        return float(np.mean(figures))

    return loss


@dataclass(frozen=True)
class CostModel:
    """What a choice costs on the device."""

    int8_compute: float = 0.55
    """Of a multiply-accumulate in int8, relative to float; measured on XNNPACK, see the README."""


@dataclass(frozen=True)
class LayerSensitivity:
    """One layer and what int8 does to it."""

    path: str
    macs: int
    weights: int
    channels: int
    saved: float | None = None
    """Loss that the int8 network loses when this layer alone is float (keep-one-float)."""
    added: float | None = None
    """Loss that the float network gains when this layer alone is int8 (quantise-one)."""

    @property
    def harm(self) -> float:
        """Mean of what was measured, at least 0."""
        known = [max(0.0, v) if math.isfinite(v) else math.inf for v in (self.saved, self.added) if v is not None]
        return sum(known) / len(known) if known else 0.0

    @property
    def harm_per_mac(self) -> float:
        """The order in which layers are kept float."""
        return self.harm / max(self.macs, 1)


@dataclass(frozen=True)
class FrontierPoint:
    """A choice that was measured on the search data."""

    keep_float: tuple[str, ...]
    loss: float
    compute: float
    """Cost of the multiply-accumulates by the cost model, 1 for all in float."""
    weight_bytes: int
    int8_share: float
    """Of the network's multiply-accumulates, 0..1."""
    best: bool
    """Nothing that was measured is both cheaper and more accurate."""


@dataclass(frozen=True)
class Assignment:
    """Which submodules stay float, why, and what that costs and saves."""

    keep_float: tuple[str, ...]
    """Dotted paths, for :func:`~.ptq.keep_modules`."""
    budget: float
    float_loss: float
    int8_loss: float
    """With every layer in int8, on the search data."""
    loss: float
    """Of the graph that is exported, on the search data."""
    held_back_float_loss: float | None
    held_back_int8_loss: float | None
    held_back_loss: float | None
    int8_share: float
    """Of the network's multiply-accumulates, 0..1."""
    total_macs: int
    layers: tuple[LayerSensitivity, ...]
    frontier: tuple[FrontierPoint, ...]
    """The best choices measured, cheapest first, with uniform int8 and float in any case."""

    @property
    def within_budget(self) -> bool:
        """On the search data, and on the held-back data where there are any."""
        held = self.held_back_loss is None or self.held_back_float_loss is None
        return self.loss <= allowed_loss(self.float_loss, self.budget) and (
            held or self.held_back_loss <= allowed_loss(self.held_back_float_loss, self.budget)  # type: ignore[operator,arg-type]
        )

    def to_json(self) -> dict[str, Any]:
        """Plain data; a loss that is not finite becomes null."""
        plain: dict[str, Any] = _without_infinity({"format": ASSIGNMENT_FORMAT, **asdict(self)})
        return plain

    @classmethod
    def from_json(cls, data: Mapping[str, Any], source: str = "assignment") -> Assignment:
        """The inverse of :meth:`to_json`.

        Raises:
            DualpixError: another format, a field that is missing, unknown or of another kind.
        """
        if not isinstance(data, Mapping) or data.get("format") != ASSIGNMENT_FORMAT:
            raise DualpixError(f"{source} is no assignment of layers", expected=f'"format": {ASSIGNMENT_FORMAT}')
        plain = {name: value for name, value in data.items() if name != "format"}
        layers = _entries(LayerSensitivity, plain.pop("layers", None), source)
        frontier = _entries(FrontierPoint, plain.pop("frontier", None), source)
        assignment: Assignment = _record(cls, plain | {"layers": layers, "frontier": frontier}, source)
        return assignment


def _without_infinity(value: Any) -> Any:
    if isinstance(value, dict):
        return {k: _without_infinity(v) for k, v in value.items()}
    if isinstance(value, list | tuple):
        return [_without_infinity(v) for v in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def _entries(kind: Any, entries: Any, source: str) -> tuple[Any, ...]:
    if not isinstance(entries, list) or len(entries) > _MAX_LAYERS or not all(isinstance(e, dict) for e in entries):
        raise DualpixError(f"{source} has no list of layers or points", expected="'layers' and 'frontier'")
    return tuple(_record(kind, entry, source) for entry in entries)


_CHECKS: dict[str, Callable[[Any], bool]] = {
    "str": lambda v: isinstance(v, str),
    "bool": lambda v: isinstance(v, bool),
    "int": lambda v: isinstance(v, int) and not isinstance(v, bool),
    "float": lambda v: v is None or (isinstance(v, int | float) and not isinstance(v, bool) and math.isfinite(v)),
    "float | None": lambda v: (
        v is None or (isinstance(v, int | float) and not isinstance(v, bool) and math.isfinite(v))
    ),
    "tuple[str, ...]": lambda v: isinstance(v, list) and all(isinstance(path, str) for path in v),
}


def _record(kind: Any, entry: Mapping[str, Any], source: str) -> Any:
    """A frozen dataclass from plain data, each field checked by its annotation."""
    types = {f.name: str(f.type) for f in fields(kind)}
    if misfit := set(types).symmetric_difference(entry):
        raise DualpixError(f"{source}: '{min(misfit)}' is missing or unknown", expected=", ".join(types))
    values = dict(entry)
    for name, annotation in types.items():
        check = _CHECKS.get(annotation)
        if check is not None and not check(entry[name]):
            raise DualpixError(f"{source}: '{name}' is {entry[name]!r:.60}", expected=annotation)
        if annotation == "tuple[str, ...]":
            values[name] = tuple(entry[name])
        elif annotation == "float":
            values[name] = math.inf if entry[name] is None else float(entry[name])
    return kind(**values)


def allowed_loss(float_loss: float, budget: float) -> float:
    """The largest loss within ``budget`` (0.01: 1 %) of the float network's."""
    return budget if float_loss <= _NOTHING * budget else float_loss * (1.0 + budget)


class _Measure:
    """A loss over choices of float layers, each measured once."""

    def __init__(self, module: nn.Module, emulator: Emulator, loss: Loss, budget: float) -> None:
        self._emulator, self._loss = emulator, loss
        self.known: dict[frozenset[str], float] = {}
        self.float_loss = self.of_predictor(lambda inputs: module(*inputs))
        if not math.isfinite(self.float_loss):
            raise DualpixError(f"the float network's loss is {self.float_loss}", expected="a finite number")
        self.allowed = allowed_loss(self.float_loss, budget)

    def of_predictor(self, predict: Predict) -> float:
        with torch.no_grad():
            loss = float(self._loss(predict))
        return loss if math.isfinite(loss) else math.inf

    def __call__(self, kept: Iterable[str]) -> float:
        key = frozenset(kept)
        if key not in self.known:
            graph = self._emulator.graph(keep_modules(*key))
            self.known[key] = self.of_predictor(lambda inputs: graph(*inputs))
        return self.known[key]

    def holds(self, kept: Iterable[str]) -> bool:
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
    return _sweep(emulator, _Measure(module, emulator, loss, 0.0), sweeps, on_step)


def _sweep(
    emulator: Emulator,
    measure: _Measure,
    sweeps: Sequence[Sweep],
    on_step: OnStep,
    kept: frozenset[str] = frozenset(),
) -> tuple[LayerSensitivity, ...]:
    """Of every layer; those that are ``kept`` float in any case cost nothing to measure."""
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


def search(
    module: nn.Module,
    calibration: Sequence[Inputs],
    loss: Loss,
    budget: float,
    held_back_loss: Loss | None = None,
    *,
    ranking_loss: Loss | None = None,
    sweeps: Sequence[Sweep] = ("keep-one-float",),
    rank_always: bool = False,
    observer: Observer = "histogram",
    cost: CostModel | None = None,
    keep_float: KeepFloat = keep_nothing,
    on_step: OnStep = lambda done, total, text: None,
) -> Assignment:
    """Find the cheapest mix of int8 and float layers whose loss stays within ``budget``.

    Args:
        module: any network in float32.
        calibration: inputs of one size; their activations set the ranges.
        loss: what is to stay low, on the data that the search may look at.
        budget: allowed increase over the float network's loss, relative (0.01 is 1 %).
        held_back_loss: the same figure on other data, on which the budget must hold too.
        ranking_loss: what orders the layers, on fewer data than ``loss``, say; by default ``loss`` itself. Ranking is
            most of the work: an evaluation per layer and sweep.
        sweeps: which sensitivities to measure.
        rank_always: measure every layer even where int8 alone keeps the budget and no order is needed.
        observer: what decides the range of an activation.
        cost: what a choice costs on the device.
        keep_float: layers that stay float in any case.
        on_step: told about progress.

    Raises:
        DualpixError: no calibration sample, a budget that is not positive, or a float loss that is not finite.
    """
    if not (math.isfinite(budget) and budget > 0):
        raise DualpixError(f"budget {budget}", expected="a positive share such as 0.01")
    emulator = Emulator(module, calibration, observer)
    measures = [_Measure(module, emulator, f, budget) for f in (loss, held_back_loss) if f is not None]
    kept = frozenset(layer.path for layer in emulator.layers if keep_float(layer.path))
    needed = rank_always or not all(measure.holds(kept) for measure in measures)
    ranking = _Measure(module, emulator, ranking_loss, budget) if ranking_loss else measures[0]
    layers = _sweep(emulator, ranking, sweeps if needed else (), on_step, kept)
    kept = _keep_until(kept, layers, measures[:1], on_step, longer=1)
    if len(measures) > 1:
        # fewer figures are wanted here, and one costs more: steps double, and what was not needed goes back
        kept = _keep_until(kept, layers, measures, on_step, longer=2)
    on_step(len(layers), len(layers), "verification")
    kept, losses = _verified(module, calibration, observer, kept, layers, measures)
    prices = _Prices(emulator, cost or CostModel())
    held = measures[1] if len(measures) > 1 else None
    return Assignment(
        keep_float=tuple(sorted(kept)),
        budget=budget,
        float_loss=measures[0].float_loss,
        int8_loss=measures[0](()),
        loss=losses[0],
        held_back_float_loss=held.float_loss if held else None,
        held_back_int8_loss=held(()) if held else None,
        held_back_loss=losses[1] if held else None,
        int8_share=prices.int8_share(kept),
        total_macs=emulator.total_macs,
        layers=layers,
        frontier=_frontier(measures[0], prices, frozenset(layer.path for layer in layers), kept),
    )


def _keep_until(
    kept: frozenset[str],
    order: Sequence[LayerSensitivity],
    measures: Sequence[_Measure],
    on_step: OnStep,
    *,
    longer: int,
) -> frozenset[str]:
    """Keep layers of ``order`` float until every measure holds, then give back what is not needed, dearest first.

    ``longer``: how many times as many layers each step keeps as the one before it.
    """
    before, step = kept, 1
    while rest := [layer.path for layer in order if layer.path not in kept]:
        if all(measure.holds(kept) for measure in measures):
            break
        kept, step = kept | set(rest[:step]), step * longer
        on_step(len(kept), len(order), f"float: {rest[0]} ...")
    dearest_first = [s.path for s in sorted(order, key=lambda s: -s.macs) if s.path in kept - before]
    return _give_back(kept, dearest_first, lambda fewer: all(measure.holds(fewer) for measure in reversed(measures)))


def _give_back(
    kept: frozenset[str], candidates: Sequence[str], holds: Callable[[frozenset[str]], bool]
) -> frozenset[str]:
    """``kept`` without the ``candidates`` that are not needed: all at once if possible, else half by half."""
    if holds(kept - set(candidates)):
        return kept - set(candidates)
    if len(candidates) < 2:
        return kept
    middle = len(candidates) // 2
    kept = _give_back(kept, candidates[:middle], holds)
    return _give_back(kept, candidates[middle:], holds)


def _verified(
    module: nn.Module,
    calibration: Sequence[Inputs],
    observer: Observer,
    kept: frozenset[str],
    layers: Sequence[LayerSensitivity],
    measures: Sequence[_Measure],
) -> tuple[frozenset[str], list[float]]:
    """Measure the graph that is exported; keep more layers float, one, two, four ..., where it is over the budget."""
    more = 1
    while True:
        graph = quantise_static(module, calibration, keep_modules(*kept), observer=observer)
        losses = [measure.of_predictor(lambda inputs, g=graph: g(*inputs)) for measure in measures]  # type: ignore[misc]
        rest = [layer.path for layer in layers if layer.path not in kept]
        if not rest or all(loss <= measure.allowed for loss, measure in zip(losses, measures, strict=True)):
            return kept, losses
        kept, more = kept | set(rest[:more]), 2 * more


class _Prices:
    """What a choice of float layers costs."""

    def __init__(self, emulator: Emulator, cost: CostModel) -> None:
        self._emulator, self._cost = emulator, cost

    def _int8(self, kept: Iterable[str]) -> list[Layer]:
        keep = keep_modules(*kept)
        return [layer for layer in self._emulator.layers if not keep(layer.path)]

    def int8_share(self, kept: Iterable[str]) -> float:
        return sum(layer.macs for layer in self._int8(kept)) / max(self._emulator.total_macs, 1)

    def compute(self, kept: Iterable[str]) -> float:
        return 1.0 - self.int8_share(kept) * (1.0 - self._cost.int8_compute)

    def weight_bytes(self, kept: Iterable[str]) -> int:
        everything = 4 * self._emulator.other_weights + sum(layer.float_bytes for layer in self._emulator.layers)
        return everything - sum(layer.float_bytes - layer.int8_bytes for layer in self._int8(kept))


def _frontier(
    measure: _Measure, prices: _Prices, paths: frozenset[str], chosen: frozenset[str]
) -> tuple[FrontierPoint, ...]:
    known = dict(measure.known) | {paths: measure.float_loss, frozenset(): measure(()), chosen: measure(chosen)}
    priced = sorted(((prices.compute(kept), loss, sorted(kept)) for kept, loss in known.items()))
    points, lowest = [], math.inf
    for compute, loss, kept in priced:
        best, lowest = loss < lowest, min(loss, lowest)
        if best or set(kept) in (paths, set(), chosen):
            size, share = prices.weight_bytes(kept), prices.int8_share(kept)
            points.append(FrontierPoint(tuple(kept), loss, compute, size, share, best))
    return tuple(points)
