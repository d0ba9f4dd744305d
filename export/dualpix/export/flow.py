"""The export flow: build every recipe, compare with the float network, measure, judge, and write it all down.

:func:`run_export` does it for any :class:`Subject`; :func:`export_model` makes one of a shipped network and scenes with
true disparity, :func:`dualpix.export.module.export_module` one of any ``nn.Module``.

Convention: outputs are compared as float64 arrays of the network's own output shape.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from torch import Tensor

from dualpix.capture.errors import DualpixError
from dualpix.capture.files import write_json
from dualpix.export import manifest as manifests
from dualpix.export.artefact import BuildRequest, ExportError
from dualpix.export.bench import EAGER, Benchmark, interleaved
from dualpix.export.profile.stored import RECORD_SUFFIX
from dualpix.export.recipes import Recipe, find_recipe
from dualpix.export.record import ASSIGNMENT, GATE, PICTURES, REFERENCE, write_manifest, write_pictures, write_reference
from dualpix.export.result import ExportResult, Picture, RecipeResult, Run
from dualpix.export.staging import remove, staged
from dualpix.export.subject import OnStep, Options, Subject, check_weights
from dualpix.models.zoo import LoadedModel
from dualpix.quantize.calibration import CalibrationSet, EvaluationSet, Inputs
from dualpix.quantize.gate import HOUSE_LIMITS, Accuracy, Array, Candidate, Limits, judge, parse_limits, score
from dualpix.quantize.graph import run_eager
from dualpix.quantize.ptq import keep_modules

if TYPE_CHECKING:
    from dualpix.quantize.sensitivity import Assignment

__all__ = [
    "GATE", "LIMITS", "PICTURES", "REFERENCE", "ExportResult", "Options", "Picture", "RecipeResult", "Subject",
    "export_model", "limits_of", "run_export",
]  # fmt: skip

LIMITS = "limits.json"


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
    """Export ``model`` by every recipe into ``out`` and judge the artefacts on scenes with true disparity.

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
    image = inputs[0][0][0].permute(1, 2, 0).numpy() if inputs else np.zeros((1, 1, 3))
    subject = Subject(
        name=model.name,
        module=model.module,
        input_names=tuple(name for name, _ in model.spec.inputs),
        output_name=model.spec.output,
        calibration=calibration,
        samples=tuple(inputs),
        score=lambda outputs, references: score(
            [o[0, 0] for o in outputs],
            [r[0, 0] for r in references],
            evaluation,
        ),
        limits=own_limits,
        limits_source=source,
        facts={
            "model": {
                "network": model.card.get("network"),
                "paper": model.spec.paper,
                "summary": model.card.get("summary"),
                "licence": model.card.get("licence"),
                "training_data": model.card.get("training_data"),
            },
            "input": {"layout": manifests.LAYOUT, "normalisation": manifests.NORMALISATION},
            "output": {"unit": "px of the input grid", "sign": "x_right - x_left, > 0 behind the focus plane"},
            "evaluation": {
                "description": evaluation.description,
                "sha256": evaluation.digest(),
                "protocol": "affine-invariant error AI(1) against the true disparity, and difference from the float "
                "network on the same inputs; calibration sees none of them",
            },
        },
        keep_float=keep_modules(*model.card.get("keep_float", ())),
        scene=np.asarray(np.clip((image + 0.4) / 1.4 * 255, 0, 255), np.uint8),
        unit="px",
        scale="diverging",
    )
    return run_export(subject, out, recipes, Options(threads, rounds, on_step, budget, assignment), pictures)


def run_export(
    subject: Subject, out: Path, recipes: Sequence[str], options: Options, pictures: Sequence[Picture] = ()
) -> ExportResult:
    """Export ``subject`` by every recipe into ``out`` and judge the artefacts.

    The folder changes from the former export to this one at the end, or not at all.

    Raises:
        UnknownNameError: an unknown recipe.
        DualpixError: weights or outputs that are not finite, no sample, samples of different sizes, a network that does
            not run on them, or a folder that cannot be written.
    """
    chosen = [find_recipe(name) for name in dict.fromkeys(recipes)]
    _check_samples(subject)
    check_weights(subject.module, subject.name)
    options.on_step("float network on the evaluation set")
    references = [_array(_eager(subject, inputs)) for inputs in subject.samples]
    if not all(np.isfinite(r).all() for r in references):
        raise DualpixError(
            f"'{subject.name}' gives values that are not finite", expected="finite outputs on its inputs"
        )
    with staged(out) as folder:
        runs = [_build(recipe, subject, folder, options) for recipe in chosen]
        options.on_step("comparing with the float network")
        for run in runs:
            _compare(run, subject, references)
        options.on_step("timing")
        benchmark = _time(subject, runs, options)
        reference = subject.score(references, references)
        results = tuple(_judged(run, subject, benchmark, reference) for run in runs)
        result = ExportResult(folder, subject.name, reference, results, benchmark)
        write_pictures(folder, subject, references, runs, pictures)
        write_reference(folder, subject, references, runs)
        if options.assignment is not None:
            write_json(folder / ASSIGNMENT, options.assignment.to_json())
        write_manifest(result, subject, runs, references[0].shape)
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


def _eager(subject: Subject, inputs: Inputs) -> Tensor:
    return run_eager(subject.module, inputs)


def _array(output: Tensor) -> Array:
    return output.detach().numpy().astype(np.float64)


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
        path=folder / f"{subject.name}-{recipe.name}{recipe.suffix}",
        inputs=subject.samples[0],
        input_names=subject.input_names,
        output_name=subject.output_name,
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


def _compare(run: Run, subject: Subject, references: Sequence[Array]) -> None:
    """Fill in outputs and scores; a program that fails on a later sample has failed."""
    if not (run.predict and run.artefact):
        return
    try:
        outputs = [_array(run.predict(inputs)) for inputs in subject.samples]
        if any(o.shape != r.shape for o, r in zip(outputs, references, strict=True)):
            raise ExportError(f"gives {outputs[0].shape}", expected=f"{references[0].shape}")
    except ExportError as error:
        remove(run.artefact.path)
        remove(run.artefact.path.with_suffix(RECORD_SUFFIX))
        run.built = error
        return
    run.outputs, run.accuracy = outputs, subject.score(outputs, references)


def _judged(run: Run, subject: Subject, benchmark: Benchmark, reference: Accuracy) -> RecipeResult:
    name, artefact = run.recipe.name, run.artefact
    candidate = Candidate(
        name,
        run.accuracy,
        artefact.delegation.compute_share if artefact and artefact.delegation else None,
        artefact.size_bytes if artefact else None,
        benchmark.speedups(name) if name in benchmark.latencies else {},
        None if artefact else str(run.built),
        emulated=bool(artefact and artefact.emulated),
    )
    limits = subject.limits.get(name, run.recipe.limits)
    return RecipeResult(name, judge(candidate, reference, limits), artefact, run.accuracy)
