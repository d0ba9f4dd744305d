"""The export flow: build every recipe, compare with the float network, measure, judge, and write it all down."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from dualpix.capture.colour_map import Panel, default_limits, figure, save_picture
from dualpix.capture.errors import DualpixError
from dualpix.capture.files import make_output_dir, write_json
from dualpix.export import manifest as manifests
from dualpix.export.artefact import Artefact, BuildRequest, ExportError
from dualpix.export.bench import EAGER, Benchmark, interleaved
from dualpix.export.recipes import RECIPES, Recipe, find_recipe
from dualpix.models.zoo import LoadedModel
from dualpix.quantize.calibration import CalibrationSet, EvaluationSet, Inputs, tensor_digest
from dualpix.quantize.gate import (
    HOUSE_LIMITS,
    Accuracy,
    Array,
    Candidate,
    Limits,
    Verdict,
    judge,
    outputs_of,
    parse_limits,
    score,
)
from dualpix.quantize.ptq import keep_modules

GATE = "gate.json"
PICTURES = "pictures.json"
LIMITS = "limits.json"

OnStep = Callable[[str], None]


@dataclass(frozen=True)
class RecipeResult:
    """One recipe's artefact and how it did; ``None`` where there is none or it cannot be known here."""

    recipe: str
    verdict: Verdict
    artefact: Artefact | None
    accuracy: Accuracy | None


@dataclass(frozen=True)
class ExportResult:
    """Everything one export gave."""

    folder: Path
    model: str
    reference: Accuracy
    results: tuple[RecipeResult, ...]
    benchmark: Benchmark

    @property
    def passed(self) -> bool:
        """Whether the gate passes for every recipe."""
        return all(r.verdict.passed for r in self.results)

    def to_json(self) -> dict[str, Any]:
        """The content of ``gate.json``."""
        return {
            "passed": self.passed,
            "model": self.model,
            "float": _finite(asdict(self.reference)),
            "recipes": [self._entry(r) for r in self.results],
            "benchmark": self.benchmark.to_json(),
        }

    def _entry(self, result: RecipeResult) -> dict[str, Any]:
        artefact, accuracy, verdict = result.artefact, result.accuracy, result.verdict
        timed = result.recipe in self.benchmark.latencies
        delegation = artefact.delegation if artefact else None
        entry: dict[str, Any] = _finite(
            {
                "recipe": result.recipe,
                "file": artefact.path.name if artefact else None,
                "passed": verdict.passed,
                "outcome": verdict.outcome.value,
                "reason": verdict.reason,
                "checks": [asdict(c) | {"passed": c.passed} for c in verdict.checks],
                "size_bytes": artefact.size_bytes if artefact else None,
                "delegation": None
                if delegation is None
                else asdict(delegation)
                | {"compute_share": delegation.compute_share, "operator_share": delegation.operator_share},
                "accuracy": asdict(accuracy) if accuracy else None,
                "ai1_increase": accuracy.ai1_increase(self.reference) if accuracy else None,
                "speedup": self.benchmark.speedups(result.recipe) if timed else {},
                "details": dict(artefact.details) if artefact else {},
            }
        )
        return entry


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
) -> ExportResult:
    """Export ``model`` by every recipe into ``out`` and judge the artefacts.

    Args:
        model: the network with its card and limits.
        out: folder for artefacts, ``manifest.json``, ``gate.json`` and pictures.
        recipes: names out of :data:`~dualpix.export.recipes.RECIPES`.
        calibration: inputs of the size that the artefacts shall take.
        evaluation: scenes of the same size, to compare and to time with.
        threads: of the runtime and of the eager network.
        rounds: of the latency measurement.
        on_step: told what is being done.

    Raises:
        UnknownNameError: an unknown recipe.
        DualpixError: no sample, samples of different sizes, or the folder cannot be written.
    """
    chosen = [find_recipe(name) for name in dict.fromkeys(recipes)]
    inputs, size_hw = _common_inputs(calibration, evaluation)
    limits, limits_source = limits_of(model)
    make_output_dir(out)
    on_step("float network on the evaluation set")
    references = outputs_of(partial(_eager, model), evaluation)
    reference = score(references, references, evaluation)
    built: dict[str, Artefact | ExportError] = {}
    for recipe in chosen:
        on_step(f"{recipe.name}: building")
        built[recipe.name] = _build(recipe, model, out, inputs, calibration, threads)
    runnable = {name: a for name, a in built.items() if isinstance(a, Artefact) and a.predict}
    on_step("timing")
    benchmark = _time(model, runnable, inputs, size_hw, threads, rounds)
    on_step("comparing with the float network")
    outputs = {name: outputs_of(a.predict, evaluation) for name, a in runnable.items() if a.predict}
    accuracies = {name: score(o, references, evaluation) for name, o in outputs.items()}
    results = tuple(_judged(r.name, built[r.name], accuracies, benchmark, reference, limits) for r in chosen)
    result = ExportResult(out, model.name, reference, results, benchmark)
    _write_pictures(out, evaluation, references, outputs)
    _write(result, model, calibration, evaluation, limits_source)
    return result


def _common_inputs(calibration: CalibrationSet, evaluation: EvaluationSet) -> tuple[Inputs, tuple[int, int]]:
    shapes = {tuple(t.shape for t in sample) for sample in calibration.samples}
    shapes |= {tuple(t.shape for t in sample.inputs) for sample in evaluation.samples}
    if len(shapes) != 1 or not evaluation.samples or not calibration.samples:
        raise DualpixError(
            f"calibration and evaluation hold {len(calibration.samples)} and {len(evaluation.samples)} samples of "
            f"{len(shapes)} sizes",
            expected="at least one each, all of one size",
        )
    inputs = evaluation.samples[0].inputs
    return inputs, (inputs[0].shape[2], inputs[0].shape[3])


def _eager(model: LoadedModel, inputs: Inputs) -> Tensor:
    with torch.inference_mode():
        output: Tensor = model.module(*inputs)
    return output


def _build(
    recipe: Recipe, model: LoadedModel, out: Path, inputs: Inputs, calibration: CalibrationSet, threads: int
) -> Artefact | ExportError:
    request = BuildRequest(
        module=model.module,
        precision=recipe.precision,
        path=out / f"{model.name}-{recipe.name}{recipe.suffix}",
        inputs=inputs,
        input_names=tuple(name for name, _ in model.spec.inputs),
        output_name=model.spec.output,
        calibration=calibration,
        keep_float=keep_modules(*model.card.get("keep_float", ())),
        threads=threads,
    )
    try:
        return recipe.build(request)
    except ExportError as error:
        return error


def _time(
    model: LoadedModel,
    runnable: Mapping[str, Artefact],
    inputs: Inputs,
    size_hw: tuple[int, int],
    threads: int,
    rounds: int,
) -> Benchmark:
    candidates: dict[str, Callable[[], object]] = {EAGER: partial(_eager, model, inputs)}
    candidates |= {name: partial(a.predict, inputs) for name, a in runnable.items() if a.predict}
    return interleaved(candidates, size_hw=size_hw, threads=threads, rounds=rounds)


def _judged(
    name: str,
    built: Artefact | ExportError,
    accuracies: Mapping[str, Accuracy],
    benchmark: Benchmark,
    reference: Accuracy,
    limits: Mapping[str, Limits],
) -> RecipeResult:
    artefact = built if isinstance(built, Artefact) else None
    accuracy = accuracies.get(name)
    candidate = Candidate(
        name,
        accuracy,
        artefact.delegation.compute_share if artefact and artefact.delegation else None,
        artefact.size_bytes if artefact else None,
        benchmark.speedups(name) if name in benchmark.latencies else {},
        None if artefact else str(built),
    )
    return RecipeResult(name, judge(candidate, reference, limits.get(name, Limits())), artefact, accuracy)


def _write_pictures(
    out: Path, evaluation: EvaluationSet, references: Sequence[Array], outputs: Mapping[str, Sequence[Array]]
) -> None:
    """One picture per artefact that ran: scene, float network, artefact, and their difference."""
    sample = evaluation.samples[0]
    image = sample.inputs[0][0].permute(1, 2, 0).numpy()
    scene = np.asarray(np.clip((image + 0.4) / 1.4 * 255, 0, 255), np.uint8)
    truth, floating = sample.disparity_px.numpy()[0, 0], references[0].astype(np.float32)
    limits = default_limits(truth, None, "diverging")
    entries = []
    for name, maps in outputs.items():
        gap = (maps[0] - references[0]).astype(np.float32)
        panels = [
            Panel("scene", scene),
            Panel("float network", floating, "diverging", "px", limits=limits),
            Panel(name, maps[0].astype(np.float32), "diverging", "px", limits=limits),
            Panel("difference", gap, "diverging", "px"),
        ]
        save_picture(out / f"compare-{name}.png", figure(panels, columns=2, panel_px=480))
        caption = f"{name} beside the float network on the first evaluation scene; blue is behind the focus plane."
        entries.append({"file": f"compare-{name}.png", "caption": caption})
    write_json(out / PICTURES, entries)


def _write(
    result: ExportResult,
    model: LoadedModel,
    calibration: CalibrationSet,
    evaluation: EvaluationSet,
    limits_source: str,
) -> None:
    """``gate.json``, then ``manifest.json``: last, so that a folder with a manifest is complete."""
    gate = result.to_json() | {"limits": limits_source}
    write_json(result.folder / GATE, gate)
    inputs = evaluation.samples[0].inputs
    written = [(r.recipe, r.artefact.path) for r in result.results if r.artefact]
    shapes = [{"name": name, "shape": list(t.shape)} for (name, _), t in zip(model.spec.inputs, inputs, strict=True)]
    write_json(
        result.folder / manifests.MANIFEST,
        {
            "format": manifests.FORMAT,
            "created": datetime.now(UTC).isoformat(timespec="seconds"),
            "model": {
                "name": model.name,
                "network": model.card.get("network"),
                "paper": model.spec.paper,
                "weights_sha256": tensor_digest(t for _, t in sorted(model.module.state_dict().items())),
            },
            "input": {"tensors": shapes, "layout": manifests.LAYOUT, "normalisation": manifests.NORMALISATION},
            "output": {
                "name": model.spec.output,
                "shape": [1, 1, *result.benchmark.size_hw],
                "unit": "px of the input grid",
                "sign": "x_right - x_left, > 0 behind the focus plane",
            },
            "artefacts": manifests.artefact_entries(result.folder, written),
            "recipes": {r.recipe: RECIPES[r.recipe].text for r in result.results},
            "calibration": {"description": calibration.description, "sha256": calibration.digest()},
            "evaluation": {"description": evaluation.description, "sha256": evaluation.digest()},
            "versions": manifests.tool_versions(),
            "machine": manifests.machine(),
            "commit": manifests.source_commit(),
            "gate": gate,
        },
    )


def _finite(value: Any) -> Any:
    """Plain data with infinities and NaN as ``None``: JSON has neither."""
    if isinstance(value, dict):
        return {k: _finite(v) for k, v in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(v) for v in value]
    return None if isinstance(value, float) and not np.isfinite(value) else value
