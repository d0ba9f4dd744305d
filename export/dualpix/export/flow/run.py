"""The export flow: build every recipe, compare with the float network, measure, judge, and write it all down.

:func:`run_export` does it for any :class:`Subject`; :func:`export_model` makes one of a shipped network and scenes with
truth, :func:`dualpix.export.module.export_module` one of any ``nn.Module``.

Convention: outputs are compared as float64 arrays of the network's own output shapes.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from dualpix.capture.errors import DualpixError
from dualpix.capture.files import write_json
from dualpix.capture.pictures.colour_map import Rgb
from dualpix.export import manifest as manifests
from dualpix.export.artefact import Artefact, BuildRequest, ExportError
from dualpix.export.bench import EAGER, Benchmark, interleaved
from dualpix.export.executorch.stored import RECORD_SUFFIX
from dualpix.export.flow.precheck import check_metrics, constant_outputs, float_outputs
from dualpix.export.flow.record import (
    ASSIGNMENT,
    GATE,
    PICTURES,
    REFERENCE,
    write_manifest,
    write_pictures,
    write_reference,
)
from dualpix.export.flow.result import ExportResult, Picture, RecipeResult, Run
from dualpix.export.flow.subject import OnStep, Options, Output, Subject, check_weights
from dualpix.export.recipes import Recipe, find_recipe
from dualpix.export.staging import remove, staged
from dualpix.models.blocks.channels import float_islands
from dualpix.models.networks.spec import confidence_output, fix_size
from dualpix.models.tasks.task import NetworkOutput
from dualpix.models.zoo import ZOO, LoadedModel
from dualpix.quantize.calibration import CalibrationSet, EvaluationSet, Inputs
from dualpix.quantize.gate import Candidate, constant_passes, judge
from dualpix.quantize.graph import run_eager
from dualpix.quantize.keep import keep_modules
from dualpix.quantize.limits import HOUSE_LIMITS, Limits, parse_limits
from dualpix.quantize.score import Accuracy, Outputs, arrays_of, constant_like, score
from dualpix.quantize.task_metrics import task_metrics

if TYPE_CHECKING:
    from dualpix.quantize.search.assignment import Assignment

__all__ = [
    "GATE", "LIMITS", "PICTURES", "REFERENCE", "ExportResult", "Options", "Picture", "RecipeResult", "Subject",
    "export_model", "limits_of", "outputs_of", "run_export",
]  # fmt: skip

LIMITS = "limits.json"

_STACK = 5
"""Axes of a batch of stacks."""


def limits_of(model: LoadedModel) -> tuple[dict[str, Limits], str]:
    """The model's limits over the house's, and where they came from.

    Raises:
        DualpixError: the model's ``limits.json`` is damaged.
    """
    if not (model.folder / LIMITS).is_file():
        return dict(HOUSE_LIMITS), f"the house's; '{model.name}' has no {LIMITS}"
    own = parse_limits(model.limits(), f"{LIMITS} of '{model.name}'")
    return dict(HOUSE_LIMITS) | own, f"{LIMITS} of '{model.name}'"


def export_model(
    model: LoadedModel,
    out: Path,
    recipes: Sequence[str],
    calibration: CalibrationSet,
    evaluation: EvaluationSet,
    *,
    threads: int = 1,
    rounds: int = 15,
    on_step: OnStep = lambda text: None,
    budget: float | None = None,
    assignment: Assignment | None = None,
    limits: tuple[Mapping[str, Limits], str] | None = None,
    pictures: Sequence[Picture] = (),
) -> ExportResult:
    """Export ``model`` by every recipe into ``out`` and judge the artefacts on scenes with truth.

    Args:
        model: the network with its card and limits.
        out: folder for artefacts, ``manifest.json``, ``gate.json``, the model card and pictures.
        recipes: names out of :data:`~dualpix.export.recipes.RECIPES`.
        calibration: inputs of the size that the artefacts shall take.
        evaluation: scenes of the same size, to compare and to time with.
        threads: of the runtime and of the eager network.
        rounds: of the latency measurement.
        on_step: told what is being done.
        budget: relative loss allowed for mixed precision; ``None`` leaves it to the backend.
        assignment: mixed precision found before.
        limits: by recipe, and where they came from; ``None`` takes the model's own.
        pictures: to show before those of the artefacts.

    Raises:
        UnknownNameError: an unknown recipe.
        DualpixError: weights that are not finite, no sample, samples of different sizes, or an unwritable folder.
    """
    own_limits, source = limits or limits_of(model)
    inputs = [sample.inputs for sample in evaluation.samples]
    task = model.spec.of_task()
    metric = task.metrics[0].name
    sample = inputs[0] if inputs else ()
    outputs = outputs_of(model, sample)
    known, frames = outputs[0], _frames(model, sample)
    fix_size(model.module, sample)
    subject = Subject(
        name=model.name,
        module=model.module,
        input_names=model.spec.input_names,
        outputs=tuple(Output(o.name, o.unit, o.meaning) for o in outputs),
        calibration=calibration,
        samples=tuple(inputs),
        metrics=task_metrics(evaluation, [o.name for o in outputs]),
        limits=own_limits,
        limits_source=source,
        facts={
            "model": {
                "task": task.name,
                "network": model.card.get("network"),
                "paper": model.spec.paper,
                "summary": model.card.get("summary"),
                "licence": model.card.get("licence"),
                "training_data": model.card.get("training_data"),
                "weights_origin": _origin(model),
            },
            "input": {
                "layout": task.layout,
                "normalisation": task.normalisation,
                **({} if frames is None else {"frames": frames}),
            },
            "evaluation": {
                "description": evaluation.description,
                "sha256": evaluation.digest(),
                "protocol": f"{metric} against the truth, and difference from the float network on the same inputs; "
                "calibration sees none of them",
            },
        },
        keep_float=keep_modules(*model.card.get("keep_float", ()), *float_islands(model.module)),
        scene=_scene(sample),
        scale="diverging" if known.signed else "sequential",
        variant="" if frames is None else f"{frames}-frames",
        input_fields=tuple(task.field(name) for name in model.spec.input_names),
    )
    return run_export(subject, out, recipes, Options(threads, rounds, on_step, budget, assignment), pictures)


def outputs_of(model: LoadedModel, sample: Inputs) -> list[NetworkOutput]:
    """What the network gives: that which its task asks for first, and how sure it is also where it says so unasked."""
    task = model.spec.of_task()
    named = [o for name in model.spec.outputs if (o := task.output(name)) is not None] or [task.outputs[0]]
    sure = task.output("confidence")
    if len(named) == 1 and sure and sample and confidence_output(run_eager(model.module, sample)) is not None:
        named.append(sure)
    return named


def _frames(model: LoadedModel, sample: Inputs) -> int | None:
    """How many frames a sample has; None of networks that see no stacks."""
    task = model.spec.of_task()
    counts = (len(t[0]) for name, t in zip(model.spec.input_names, sample, strict=True) if task.field(name).per_frame)
    return next(counts, None)


def _scene(inputs: Inputs) -> Rgb | None:
    """The first input in colours, for people to look at: of a stack its middle frame."""
    for value in inputs:
        pictures = value[0] if value.ndim == _STACK else value
        if pictures.ndim == _STACK - 1 and pictures.shape[1] == 3:
            image = pictures[len(pictures) // 2].permute(1, 2, 0).numpy()
            return np.asarray(np.clip((image + 0.4) / 1.4 * 255, 0, 255), np.uint8)
    return None


def _origin(model: LoadedModel) -> str | None:
    """Where the weights come from, as far as that is known."""
    if model.folder.parent == ZOO:
        return f"shipped with dualpix {manifests.tool_versions()['dualpix']}"
    return str(model.card["weights_origin"]) if "weights_origin" in model.card else None


def run_export(
    subject: Subject, out: Path, recipes: Sequence[str], options: Options, pictures: Sequence[Picture] = ()
) -> ExportResult:
    """Export ``subject`` by every recipe into ``out`` and judge the artefacts.

    The folder changes from the former export to this one at the end, or not at all.

    Raises:
        UnknownNameError: an unknown recipe.
        DualpixError: weights or outputs that are not finite, no sample, samples of different sizes, a network whose
            output changes from run to run or is the same everywhere, or a folder that cannot be written.
    """
    chosen = [find_recipe(name) for name in dict.fromkeys(recipes)]
    _check_samples(subject)
    check_weights(subject.module, subject.name)
    options.on_step("float network on the evaluation set")
    references = float_outputs(subject.module, subject.name, subject.samples, subject.output_names)
    reference, constant = (_scored(subject, o, references) for o in (references, constant_like(references)))
    doubts = check_metrics(subject.metrics, reference, constant)
    with staged(out) as folder:
        runs = [_build(recipe, subject, folder, options) for recipe in chosen]
        options.on_step("comparing with the float network")
        for run in runs:
            _compare(run, subject, references)
        options.on_step("timing")
        benchmark = _time(subject, runs, options)
        results = tuple(_judged(run, subject, benchmark, reference, constant) for run in runs)
        notes = (*subject.notes, *doubts, *_flat_notes(subject, references))
        result = ExportResult(folder, subject.name, reference, results, benchmark, notes)
        write_pictures(folder, subject, references, runs, pictures)
        write_reference(folder, subject, references, runs)
        if options.assignment is not None:
            write_json(folder / ASSIGNMENT, options.assignment.to_json())
        write_manifest(result, subject, runs, references[0])
    return replace(result, folder=out, results=tuple(_moved(r, out) for r in results))


def _moved(result: RecipeResult, out: Path) -> RecipeResult:
    artefact = result.artefact
    return replace(result, artefact=replace(artefact, path=out / artefact.path.name)) if artefact else result


def _check_samples(subject: Subject) -> None:
    samples = (*subject.calibration.samples, *subject.samples)
    shapes = {tuple(t.shape for t in sample) for sample in samples}
    if len(shapes) != 1 or not subject.samples or not subject.calibration.samples:
        raise DualpixError(
            f"calibration and evaluation hold {len(subject.calibration.samples)} and {len(subject.samples)} samples of "
            f"{len(shapes)} sizes",
            expected="at least one each, all of one size",
        )


def _eager(subject: Subject, inputs: Inputs) -> object:
    return run_eager(subject.module, inputs)


def _scored(subject: Subject, outputs: Sequence[Outputs], references: Sequence[Outputs]) -> Accuracy:
    steps = [not output.dtype.startswith("float") for output in subject.outputs]
    return score(outputs, references, subject.metrics, subject.output_names, steps)


def _flat_notes(subject: Subject, references: Sequence[Outputs]) -> tuple[str, ...]:
    flat = constant_outputs(references, subject.output_names)
    return tuple(
        f"output '{name}' is the same value on all inputs that judge: nothing was measured of it" for name in flat
    )


def _size_hw(inputs: Inputs) -> tuple[int, int]:
    """Of the first input: its last two axes."""
    height, width = (1, 1, *inputs[0].shape)[-2:]
    return height, width


def _build(recipe: Recipe, subject: Subject, folder: Path, options: Options) -> Run:
    options.on_step(f"{recipe.name}: building")
    reason = recipe.can_build()
    if reason:
        return Run(recipe, ExportError(f"cannot be produced on this machine: {reason}"))
    request = BuildRequest(
        module=subject.module,
        precision=recipe.precision,
        path=folder / f"{subject.stem}-{recipe.name}{recipe.suffix}",
        inputs=subject.samples[0],
        input_names=subject.input_names,
        output_names=subject.output_names,
        calibration=subject.calibration,
        keep_float=subject.keep_float,
        threads=options.threads,
        budget=options.budget,
        assignment=options.assignment,
    )
    try:
        return Run(recipe, recipe.build(request))
    except ExportError as error:
        return Run(recipe, error)


def _time(subject: Subject, runs: Sequence[Run], options: Options) -> Benchmark:
    """Of what really runs: an interpreter's time means nothing."""
    inputs = subject.samples[0]
    candidates: dict[str, Callable[[], object]] = {EAGER: partial(_eager, subject, inputs)}
    for run in runs:
        if run.predict and run.artefact and not run.artefact.emulated:
            candidates[run.recipe.name] = partial(run.predict, inputs)
    return interleaved(candidates, size_hw=_size_hw(inputs), threads=options.threads, rounds=options.rounds)


def _compare(run: Run, subject: Subject, references: Sequence[Outputs]) -> None:
    """Fill in outputs and scores; a program that fails on a later sample has failed."""
    if not (run.predict and run.artefact):
        return
    try:
        outputs = [arrays_of(run.predict(inputs)) for inputs in subject.samples]
        for found, expected in zip(outputs, references, strict=True):
            if [o.shape for o in found] != [r.shape for r in expected]:
                raise ExportError(f"gives {_shapes(found)}", expected=_shapes(expected))
    except ExportError as error:
        remove(run.artefact.path)
        remove(run.artefact.path.with_suffix(RECORD_SUFFIX))
        run.built = error
        return
    run.outputs, run.accuracy = outputs, _scored(subject, outputs, references)


def _shapes(outputs: Outputs) -> str:
    return ", ".join(str(o.shape) for o in outputs)


def _delegated(artefact: Artefact | None) -> float | None:
    """Share of the multiply-accumulates in the delegate; unknown where there are none."""
    delegation = artefact.delegation if artefact else None
    return delegation.compute_share if delegation and delegation.total_macs else None


def _judged(run: Run, subject: Subject, benchmark: Benchmark, reference: Accuracy, constant: Accuracy) -> RecipeResult:
    name, artefact = run.recipe.name, run.artefact
    candidate = Candidate(
        name,
        run.accuracy,
        _delegated(artefact),
        artefact.size_bytes if artefact else None,
        benchmark.timing(name),
        None if artefact else str(run.built),
        emulated=bool(artefact and artefact.emulated),
    )
    limits = subject.limits.get(name, run.recipe.limits)
    verdict = judge(candidate, reference, limits)
    notes = [artefact.note] if artefact and artefact.note else []
    if run.accuracy and (passes := constant_passes(constant, reference, limits)):
        notes.append(f"a constant would pass these limits: {passes}; structure_db is the limit that it cannot keep")
    verdict = replace(verdict, notes=tuple(notes))
    return RecipeResult(name, verdict, artefact, run.accuracy)
