"""Core AI's recipes on every network: what Apple's runtime gives, beside the float network.

    python -m benchmarks.core_ai [--network NAME ...] [--size H W] [--work DIR] [-o docs/results/export/2-core-ai.json]

Each asset is converted, written, loaded and run in this process, which costs seconds less than ``dualpix export``'s
child and its timing; what is converted is the same. With ``--work`` what lies there already is not measured again, and
with ``--stored`` nothing is.
"""

from __future__ import annotations

import json
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click
import torch
from benchmarks.export_matrix import networks
from benchmarks.record import Figure, Result, Row, new_result
from tests.support.foreign import foreign_modules, foreign_samples
from torch import nn

from dualpix.capture.errors import DualpixError
from dualpix.capture.files import write_json
from dualpix.capture.progress import ProgressLine
from dualpix.export import coreai
from dualpix.export.artefact import BuildRequest, quiet
from dualpix.export.coreai.child import convert
from dualpix.export.coreai.convert import prepare
from dualpix.export.flow import limits_of, outputs_of
from dualpix.export.manifest import size_of
from dualpix.export.recipes import RECIPES, Recipe
from dualpix.models.blocks.channels import float_islands
from dualpix.models.networks.spec import fix_size
from dualpix.models.zoo import load_model
from dualpix.quantize.calibration import CalibrationSet, Inputs, rendered_calibration, rendered_evaluation
from dualpix.quantize.gate import Candidate, judge
from dualpix.quantize.keep import KeepFloat, keep_modules
from dualpix.quantize.limits import Limits
from dualpix.quantize.score import Metric, arrays_of, score, sqnr_db, tensors_of
from dualpix.quantize.task_metrics import task_metrics

NAME = "core-ai"
RESULT = Path(__file__).parents[1] / "docs" / "results" / "export" / "2-core-ai.json"
MADE = tuple(recipe for recipe in RECIPES.values() if recipe.backend == "dualpix.export.coreai")
_NAMES = [recipe.name for recipe in MADE]
COLUMNS = {"SQNR": "dB", "from its graph": "dB", "metric loss": "%", "size": "MB"}
_SIZE_HW = (96, 128)
_OF_SCENES, _OF_TEXTURES = (24, 12), (4, 4)
"""Scenes to calibrate and to judge: as ``dualpix export`` has them, for networks that are scored; the others' outputs
are only held against their own."""
_SEEDS = (11, 12)
"""Of the foreign networks' inputs: to calibrate, to judge."""


@dataclass(frozen=True)
class Network:
    """What is exported."""

    name: str
    module: nn.Module
    input_names: tuple[str, ...]
    output_names: tuple[str, ...]
    calibration: CalibrationSet
    samples: tuple[Inputs, ...]
    keep_float: KeepFloat
    limits: Mapping[str, Limits]
    metrics: Sequence[Metric] = ()

    def request(self, recipe: Recipe) -> BuildRequest:
        """To build it by a recipe."""
        path = Path(f"{self.name}-{recipe.name}{recipe.suffix}")
        return BuildRequest(
            self.module, recipe.precision, path, self.samples[0], self.input_names, self.output_names,
            self.calibration, self.keep_float,
        )  # fmt: skip


def shipped(name: str, size_hw: tuple[int, int]) -> Network:
    """A shipped network with rendered scenes."""
    model = load_model(name)
    calibrate, judged = _OF_SCENES
    evaluation = rendered_evaluation(judged, size_hw, model.spec)
    samples = tuple(sample.inputs for sample in evaluation.samples)
    outputs = tuple(output.name for output in outputs_of(model, samples[0]))
    fix_size(model.module, samples[0])
    keep = keep_modules(*model.card.get("keep_float", ()), *float_islands(model.module))
    return Network(
        name, model.module, model.spec.input_names, outputs, rendered_calibration(calibrate, size_hw, model.spec),
        samples, keep, limits_of(model)[0], task_metrics(evaluation, list(outputs)),
    )  # fmt: skip


def foreign(name: str) -> Network:
    """A network that is not ours, with seeded textures."""
    module, _ = foreign_modules()[name]()
    calibration, samples = (
        tuple(foreign_samples(name, count, seed)) for count, seed in zip(_OF_TEXTURES, _SEEDS, strict=True)
    )
    names = tuple(f"image_{k}" for k in range(len(samples[0])))
    keep = keep_modules(*float_islands(module))
    return Network(name, module, names, ("output",), CalibrationSet(calibration, "textures"), samples, keep, {})


@torch.no_grad()
def measured(network: Network, recipe: Recipe) -> dict[str, Any]:
    """One asset, made and run: its figures, or why there is none."""
    request, outputs = network.request(recipe), network.output_names
    references = [arrays_of(network.module(*sample)) for sample in network.samples]
    reference = score(references, references, network.metrics, outputs)
    try:
        with quiet(), tempfile.TemporaryDirectory() as folder:
            prepared = prepare(request)
            asset = Path(folder) / request.path
            convert(prepared.program, asset, request.input_names, outputs)
            program, size = coreai.AssetProgram(asset, request.input_names, outputs), size_of(asset)
            found = [program(sample) for sample in network.samples]
            from_graph = sqnr_db(tensors_of(prepared.graph(*request.inputs)), tensors_of(found[0]))
    except (DualpixError, ValueError, IndexError) as error:
        return {"outcome": "not written", "reason": str(error).splitlines()[0]}
    accuracy = score([arrays_of(output) for output in found], references, network.metrics, outputs)
    candidate = Candidate(recipe.name, accuracy, None, size)
    verdict = judge(candidate, reference, network.limits.get(recipe.name, recipe.limits))
    return {
        "outcome": "right" if verdict.passed else "over its limits",
        "reason": verdict.reason,
        "SQNR": accuracy.from_float.sqnr_db,
        "from its graph": from_graph,
        "metric loss": None if (loss := accuracy.metric_loss(reference)) is None else 100 * loss,
        "size": size / 1e6,
        "stored": prepared.details,
    }


def row_of(network: str, recipe: str, entry: Mapping[str, Any]) -> Row:
    """One asset's row; how weights are stored, and what is short, stands in the label."""
    kinds = {key.removeprefix("weights_"): n for key, n in entry.get("stored", {}).items() if "weights_" in key and n}
    held = f" (weights: {', '.join(f'{n} {kind}' for kind, n in kinds.items())})".replace("_", " ") if kinds else ""
    reason = f": {entry['reason']}" if entry["reason"] else ""
    figures = {name: Figure.exact(float(entry[name])) for name in COLUMNS if entry.get(name) is not None}
    return Row(f"{network}, {recipe}: {entry['outcome']}{held}{reason}", figures or {"size": Figure.exact(0.0)})


def table(
    work: Path, size_hw: tuple[int, int], chosen: Sequence[str], recipes: Sequence[Recipe] = MADE, *, stored: bool
) -> Result:
    """The table; what ``work`` does not hold is measured, or left out where only what is ``stored`` shall be shown."""
    rows: list[Row] = []
    torch.set_num_threads(1)
    with ProgressLine(NAME) as line:
        for place, name in enumerate(chosen):
            made: list[Network] = []
            for k, recipe in enumerate(recipes):
                line.update(place * len(recipes) + k, len(chosen) * len(recipes), f"{name}: {recipe.name}")
                path = work / f"{name}-{recipe.name}.json"
                if path.is_file() or not stored:
                    rows.append(row_of(name, recipe.name, _entry(path, name, recipe, size_hw, made)))
    judged = "{0} calibrate, {1} judge".format
    notes = (
        f"Inputs: {size_hw[1]}x{size_hw[0]} rendered scenes for shipped networks ({judged(*_OF_SCENES)}), seeded "
        f"textures for the others ({judged(*_OF_TEXTURES)}); run by the runtime of coreai-core "
        f"{coreai.VERSIONS['coreai-core']} for Linux. Where there are several outputs, the worst counts. 'From its "
        "graph' is the asset beside what it was converted from, run by torch."
    )
    shown = len({row.label.partition(",")[0] for row in rows})
    title = f"Core AI's recipes on {shown} networks"
    return new_result(title, "python -m benchmarks.core_ai", COLUMNS, rows, notes=notes)


def _entry(path: Path, name: str, recipe: Recipe, size_hw: tuple[int, int], made: list[Network]) -> dict[str, Any]:
    """Of ``path``, or measured anew; ``made`` keeps the network from one recipe to the next."""
    if not path.is_file():
        if not made:
            load: Callable[[], Network] = (
                (lambda: foreign(name)) if name in foreign_modules() else lambda: shipped(name, size_hw)
            )
            made.append(load())
        path.parent.mkdir(parents=True, exist_ok=True)
        write_json(path, measured(made[0], recipe))
    entry: dict[str, Any] = json.loads(path.read_text())
    return entry


@click.command()
@click.option("-o", "--output", type=click.Path(path_type=Path), default=RESULT, help="File of the result.")
@click.option("--work", type=click.Path(path_type=Path), help="Folder of the figures, kept; a temporary one else.")
@click.option("--network", "chosen", multiple=True, type=click.Choice(list(networks())), default=list(networks()))
@click.option("--recipe", "recipes", multiple=True, type=click.Choice(_NAMES), default=_NAMES)
@click.option("--size", "size_hw", type=(int, int), default=_SIZE_HW, help="Height and width of rendered scenes.")
@click.option("--stored", is_flag=True, help="Show what --work holds; measure nothing.")
def main(
    output: Path,
    work: Path | None,
    chosen: tuple[str, ...],
    recipes: tuple[str, ...],
    size_hw: tuple[int, int],
    stored: bool,
) -> None:
    """Convert, run and write the table."""
    if (missing := coreai.can_build()) is not None:
        raise click.ClickException(missing)
    with tempfile.TemporaryDirectory() as scratch:
        result = table(work or Path(scratch), size_hw, chosen, [RECIPES[name] for name in recipes], stored=stored)
    result.write(output)
    for row in result.rows:
        click.echo(f"{row.label}: " + ", ".join(f"{name} {f.value:.3g}" for name, f in row.figures.items()))
    click.echo(f"-> {output}")


if __name__ == "__main__":
    main()
