"""The cheapest mix of int8 and float layers within an accuracy budget.

The search keeps layers float in the order of loss saved per multiply-accumulate (:mod:`.sweeps`) until the budget
holds, gives back those that turn out not to be needed, does the same on held-back data, and measures the result once
more in the graph that is exported (:func:`~.ptq.quantise_static`).

Convention: as in :mod:`.losses` and :mod:`.assignment`. Budgets are relative to the float network's loss; where that is
nothing (:func:`~.losses.output_loss`), which is relative already, the budget is the loss itself.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

from torch import nn

from dualpix.capture.errors import DualpixError
from dualpix.quantize.calibration import Inputs
from dualpix.quantize.emulate import Emulator
from dualpix.quantize.keep import KeepFloat, keep_modules, keep_nothing
from dualpix.quantize.kinds import Observer, Sweep
from dualpix.quantize.ptq import quantise_static
from dualpix.quantize.search.assignment import Assignment, LayerSensitivity
from dualpix.quantize.search.losses import Loss
from dualpix.quantize.search.prices import CostModel, Prices, frontier
from dualpix.quantize.search.sweeps import Measure, OnStep, sweep


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
    measures = [Measure(module, emulator, f, budget) for f in (loss, held_back_loss) if f is not None]
    kept = frozenset(layer.path for layer in emulator.layers if keep_float(layer.path))
    needed = rank_always or not all(measure.holds(kept) for measure in measures)
    ranking = Measure(module, emulator, ranking_loss, budget) if ranking_loss else measures[0]
    layers = sweep(emulator, ranking, sweeps if needed else (), on_step, kept)
    kept = _keep_until(kept, layers, measures[:1], on_step, longer=1)
    if len(measures) > 1:
        # fewer figures are wanted here, and one costs more: steps double, and what was not needed goes back
        kept = _keep_until(kept, layers, measures, on_step, longer=2)
    on_step(len(layers), len(layers), "verification")
    kept, losses = _verified(module, calibration, observer, kept, layers, measures)
    prices = Prices(emulator, cost or CostModel())
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
        frontier=frontier(measures[0], prices, frozenset(layer.path for layer in layers), kept),
    )


def _keep_until(
    kept: frozenset[str],
    order: Sequence[LayerSensitivity],
    measures: Sequence[Measure],
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
    measures: Sequence[Measure],
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
