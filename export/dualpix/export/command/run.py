"""Carrying out ``dualpix export``, once what is asked has been looked at."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from pathlib import Path

from dualpix.capture.progress import ProgressLine
from dualpix.export.command.asked import Asked
from dualpix.export.errors import ExportError
from dualpix.export.flow import ExportResult, Options, export_model
from dualpix.export.flow.subject import OnStep
from dualpix.export.module import export_called
from dualpix.export.own.examples import own_examples
from dualpix.export.own.factory import load_factory
from dualpix.export.own.metric import own_metric
from dualpix.export.recipes import find_recipe
from dualpix.models.zoo import load_model
from dualpix.models.zoo.cards import DEFAULT_MODEL
from dualpix.quantize.calibration import capture_calibration, rendered_calibration, rendered_evaluation
from dualpix.quantize.search.assignment import Assignment

_STEPS_APART_FROM_RECIPES = 5


def export_asked(asked: Asked) -> ExportResult:
    """Export what is asked, telling each step on the progress line.

    Raises:
        ExportError: no recipe can be made on this machine.
        DualpixError: see :func:`~dualpix.export.flow.export_model` and :func:`~dualpix.export.module.export_module`.
    """
    _check_makeable(asked.recipes)
    assignment = Assignment.from_json(asked.assignment, f"'{asked.assignment_name}'") if asked.assignment_name else None
    with ProgressLine("export") as line:
        step = _steps(line, asked)
        options = Options(asked.threads, asked.rounds, step, asked.budget, assignment)
        return _own(asked, step, options) if asked.is_own else _shipped(asked, step, options)


def _check_makeable(recipes: Sequence[str]) -> None:
    """Whether this machine can make any of ``recipes``: nothing is rendered, calibrated or written otherwise.

    Raises:
        ExportError: it can make none; says why.
    """
    missing = [find_recipe(name).can_build() for name in recipes]
    if reasons := list(dict.fromkeys(reason for reason in missing if reason)) if all(missing) else []:
        raise ExportError(f"{', '.join(recipes)} cannot be made on this machine: {'; '.join(reasons)}")


def _steps(line: ProgressLine, asked: Asked) -> Callable[[str], None]:
    counter, total = itertools.count(1), _STEPS_APART_FROM_RECIPES + len(asked.recipes)
    return lambda text: line.update(next(counter), total, text)


def _shipped(asked: Asked, step: OnStep, options: Options) -> ExportResult:
    loaded = load_model(DEFAULT_MODEL if asked.model == "default" else asked.model)
    step("calibration scenes")
    calibration = rendered_calibration(asked.calibration_count, asked.size_hw, loaded.spec, frames=asked.frames)
    if asked.calibrate_with:
        calibration = calibration + capture_calibration(
            [Path(c) for c in asked.calibrate_with], asked.size_hw, loaded.spec
        )
    step("evaluation scenes")
    evaluation = rendered_evaluation(asked.eval_count, asked.size_hw, loaded.spec, frames=asked.frames)
    return export_model(
        loaded, asked.output, asked.recipes, calibration, evaluation, threads=options.threads, rounds=options.rounds,
        on_step=step, budget=options.budget, assignment=options.assignment, limits=asked.limits,
    )  # fmt: skip


def _own(asked: Asked, step: OnStep, options: Options) -> ExportResult:
    step(f"calling {asked.model}()")
    foreign = load_factory(asked.model)
    run = foreign.called()
    step("reading the data")
    calibration, evaluation = own_examples(run, foreign, asked.model, asked.calibrate_with, asked.evaluate_with)
    names = [output.name for output in run.outputs]
    better = asked.metric_better
    metrics = [own_metric(asked.metric, names, evaluation.truths, better)] if asked.metric else []
    return export_called(
        run, calibration, evaluation, asked.output, asked.recipes, metrics=metrics, limits=asked.limits,
        options=options, licence=asked.licence or foreign.facts.get("licence"),
        weights_origin=asked.weights_origin or foreign.facts.get("weights_origin"), factory=asked.model,
    )  # fmt: skip
