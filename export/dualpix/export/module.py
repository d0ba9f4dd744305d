"""Exporting any ``nn.Module``: artefacts are judged by their difference from the float network, and by a metric if any.

The module takes tensors (float32, integers, bool) and gives tensors; see :mod:`.own.called` for names and forms.
Nothing else is asked of it, and none of our networks, data or metrics takes part.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from torch import nn

from dualpix.capture.errors import DualpixError
from dualpix.export.bound import Example
from dualpix.export.flow import ExportResult, Options, Subject, run_export
from dualpix.export.flow.subject import OnStep
from dualpix.export.own.called import Called, called
from dualpix.export.own.examples import Examples
from dualpix.export.own.states import StatesAsInputs
from dualpix.quantize.calibration import CalibrationSet, input_coverage
from dualpix.quantize.keep import KeepFloat, keep_nothing
from dualpix.quantize.limits import Limits
from dualpix.quantize.score import Metric

if TYPE_CHECKING:
    from dualpix.quantize.search.assignment import Assignment

_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,99}")
_SPREAD_VALUES = 64
"""Of an input in one sample, so that its range tells something: not a focus distance."""
_UNKNOWN = "as the module takes it"
_HOUSE = "the house's, by recipe"


def export_module(
    module: nn.Module,
    calibration_inputs: Sequence[Example],
    out: Path,
    recipes: Sequence[str],
    *,
    evaluation_inputs: Sequence[Example] = (),
    name: str = "model",
    input_names: Sequence[str] = (),
    output_names: Sequence[str] = (),
    unit: str | Mapping[str, str] = "",
    metrics: Sequence[Metric] = (),
    threads: int = 1,
    rounds: int = 15,
    limits: tuple[Mapping[str, Limits], str] | None = None,
    keep_float: KeepFloat = keep_nothing,
    budget: float | None = None,
    assignment: Assignment | None = None,
    licence: str | None = None,
    weights_origin: str | None = None,
    on_step: OnStep = lambda text: None,
) -> ExportResult:
    """Export any ``module`` by every recipe into ``out`` and judge the artefacts by their difference from it.

    Args:
        module: takes and gives tensors; it is put into eval mode.
        calibration_inputs: what forward is called with, one a sample, all of the one size that artefacts take: a
            tensor, a tuple of arguments, or a dictionary of arguments by name.
        out: folder of the artefacts, ``manifest.json``, ``gate.json`` and the model card.
        recipes: names out of :data:`~dualpix.export.recipes.RECIPES`.
        evaluation_inputs: what artefacts are compared on; the calibration's where none are given.
        name: stem of the files.
        input_names: of the artefacts; those of forward's parameters where none are given.
        output_names: of the artefacts; the keys or places in what forward gives where none are given.
        unit: of the outputs, or by output; for report and card.
        metrics: of the module's task, by which artefacts are judged too.
        threads: of the runtime and of the eager module.
        rounds: of the latency measurement.
        limits: by recipe, and where they came from; ``None`` takes those of the recipes.
        keep_float: submodules that stay float in int8.
        budget: relative loss allowed for mixed precision.
        assignment: mixed precision found before.
        licence: of the weights, for the manifest.
        weights_origin: where they come from, for manifest and model card.
        on_step: told what is being done.

    Raises:
        UnknownNameError: an unknown recipe.
        DualpixError: the module does not run on its inputs, gives something else than tensors, is no function of its
            inputs, gives the same value everywhere, has weights that are not finite, or the folder cannot be written.
    """
    _check_name(name)
    if not calibration_inputs:
        raise DualpixError(f"no example inputs for '{name}'", expected="at least one")
    run = called(
        module, calibration_inputs[0], name=name, input_names=input_names, output_names=output_names, units=unit
    )
    calibration = _examples(run, calibration_inputs, "calibration input")
    judged = _examples(run, evaluation_inputs, "evaluation input") if evaluation_inputs else calibration
    return export_called(
        run, calibration, judged, out, recipes, metrics=metrics, limits=limits, keep_float=keep_float,
        options=Options(threads, rounds, on_step, budget, assignment), licence=licence, weights_origin=weights_origin,
    )  # fmt: skip


def _examples(run: Called, examples: Sequence[Example], what: str) -> Examples:
    inputs = tuple(run.inputs_of(example, f"{what} {i} of '{run.name}'") for i, example in enumerate(examples, 1))
    return Examples(inputs, (), f"{len(inputs)} example inputs")


def export_called(
    run: Called,
    calibration: Examples,
    evaluation: Examples,
    out: Path,
    recipes: Sequence[str],
    *,
    metrics: Sequence[Metric] = (),
    limits: tuple[Mapping[str, Limits], str] | None = None,
    keep_float: KeepFloat = keep_nothing,
    options: Options | None = None,
    licence: str | None = None,
    weights_origin: str | None = None,
    factory: str | None = None,
) -> ExportResult:
    """Export a module that has been run once; see :func:`export_module`.

    Args:
        run: the module with its names.
        calibration: what sets the int8 ranges.
        evaluation: what judges.
        out: folder.
        recipes: by name.
        metrics: of the module's task.
        limits: by recipe, and where they came from.
        keep_float: submodules that stay float in int8.
        options: threads and such.
        licence: of the weights.
        weights_origin: where they come from.
        factory: the function that gave the module, as the user named it.
    """
    own_limits, source = limits or ({}, _HOUSE)
    same = calibration.digest() == evaluation.digest()
    subject = Subject(
        name=run.name,
        module=run.module,
        input_names=run.input_names,
        outputs=run.outputs,
        calibration=CalibrationSet(calibration.inputs, calibration.description),
        samples=evaluation.inputs,
        limits=own_limits,
        limits_source=source,
        metrics=tuple(metrics),
        facts={
            "model": {
                "network": None,
                "class": f"{type(run.own).__module__}.{type(run.own).__qualname__}",
                "factory": factory,
                "summary": f"Module {type(run.own).__qualname__}, exported with its example inputs.",
                "licence": licence,
                "weights_origin": weights_origin,
            },
            "input": {"layout": _UNKNOWN, "normalisation": _UNKNOWN},
            "evaluation": {
                "description": evaluation.description,
                "sha256": evaluation.digest(),
                "protocol": _protocol(metrics, same=same),
            },
        },
        keep_float=run.kept(keep_float),
        kept=run.own.kept() if isinstance(run.own, StatesAsInputs) else {},
        notes=(*run.notes, *_data_notes(calibration, evaluation, same=same), *_coverage(run, calibration, evaluation)),
    )
    return run_export(subject, out, recipes, options or Options())


def _protocol(metrics: Sequence[Metric], *, same: bool) -> str:
    against = {True: "the truth", False: "the float network's output"}
    measured = "".join(f"{m.name} against {against[m.has_truth]} ({m.better} is better); " for m in metrics)
    seen = "calibration saw the same" if same else "calibration sees none of them"
    return f"{measured}difference from the float network's output on the same inputs; {seen}"


def _data_notes(calibration: Examples, evaluation: Examples, *, same: bool) -> tuple[str, ...]:
    if same:
        return (f"{evaluation.description} calibrate, and judge as well",)
    return (f"{calibration.description} calibrate; {evaluation.description} judge",)


def _coverage(run: Called, calibration: Examples, evaluation: Examples) -> tuple[str, ...]:
    """Inputs that calibration does not represent; int8 clips what lies beyond its ranges."""
    tensors = enumerate(evaluation.inputs[0])
    places = [i for i, t in tensors if t.is_floating_point() and t.numel() >= _SPREAD_VALUES]
    seen, met = ([tuple(s[i] for i in places) for s in data.inputs] for data in (calibration, evaluation))
    found = input_coverage(seen, met, [run.input_names[i] for i in places]) if places else ()
    return tuple(
        f"{1 - c.inside:.0%} of the values of input '{c.name}' that judge lie beyond those that calibrate; int8 clips"
        for c in found
        if c.low
    )


def _check_name(name: str) -> None:
    if not _NAME.fullmatch(name):
        raise DualpixError(f"name '{name}'", expected="letters, digits, '_', '-' and '.', to be part of a file name")
