"""One network three ways: Core ML interpreted, Core AI run by Apple's runtime, XNNPACK run; where do they differ?

    python -m benchmarks.apple_three_ways [--work DIR] [-o docs/results/export/2-three-ways.json]

Each network goes through ``dualpix export``'s own flow on one evaluation set. Beside each program's distance from the
float network stand the distances between the programs on the first sample; the label of a row names the operator whose
result is furthest from torch's in the Core ML and in the Core AI program of float16. With ``--work`` a network whose
export lies in that folder already is not exported again.
"""

from __future__ import annotations

import json
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import click
import torch
from benchmarks.record import Figure, Result, Row, new_result
from safetensors.torch import load_file

from dualpix.capture.progress import ProgressLine
from dualpix.export import coreai, coreml
from dualpix.export.artefact import BuildRequest, quiet
from dualpix.export.coreai.check import layer_differences
from dualpix.export.coreai.convert import prepare
from dualpix.export.flow import GATE, REFERENCE, export_model
from dualpix.models.zoo import LoadedModel, load_model
from dualpix.quantize.calibration import rendered_calibration, rendered_evaluation
from dualpix.quantize.score import sqnr_db

NAME = "three-ways"
RESULT = Path(__file__).parents[1] / "docs" / "results" / "export" / "2-three-ways.json"
NETWORKS = ("difusenet-compact", "fmdp-compact")
WAYS: Mapping[str, tuple[str, str, str]] = {
    "float32": ("coreml-fp32", "coreai-fp32", "xnnpack-fp32"),
    "float16": ("coreml-fp16", "coreai-fp16", "xnnpack-fp16"),
    "int8 weights (XNNPACK: activations, too)": ("coreml-w8", "coreai-w8", "xnnpack-int8"),
}
"""By precision: the recipes of Core ML, Core AI and XNNPACK."""
COLUMNS = {
    "Core ML, interpreted": "dB",
    "Core AI, run": "dB",
    "XNNPACK, run": "dB",
    "Core AI from Core ML": "dB",
    "Core AI from XNNPACK": "dB",
}
_SIZE_HW = (64, 96)
_CALIBRATION, _EVALUATION, _ROUNDS = 4, 3, 1


def rows_of(network: str, gate: Mapping[str, Any], outputs: Mapping[str, torch.Tensor], where: str = "") -> list[Row]:
    """One row for each precision, of a ``gate.json`` and the outputs of the first sample by recipe."""
    entries = {entry["recipe"]: entry for entry in gate["recipes"]}
    rows = []
    for precision, recipes in WAYS.items():
        figures = {}
        for column, recipe in zip(COLUMNS, recipes, strict=False):
            accuracy = entries[recipe]["accuracy"]
            if accuracy and accuracy["from_float"]["sqnr_db"] is not None:
                figures[column] = Figure.exact(accuracy["from_float"]["sqnr_db"])
        ml, ai, xnn = (outputs.get(recipe) for recipe in recipes)
        for column, other in zip(list(COLUMNS)[3:], (ml, xnn), strict=True):
            if ai is not None and other is not None:
                figures[column] = Figure.exact(sqnr_db(other, ai))
        rows.append(Row(f"{network}, {precision}" + (where if precision == "float16" else ""), figures))
    return rows


def furthest(model: LoadedModel, folder: Path) -> str:
    """The operators furthest from torch's in the float16 programs of Core ML and Core AI, in words."""
    sample = rendered_evaluation(1, _SIZE_HW, model.spec).samples[0].inputs
    outputs = tuple(o["name"] for o in json.loads((folder / "manifest.json").read_text())["outputs"])
    calibration = rendered_calibration(1, _SIZE_HW, model.spec)
    path = folder / f"{model.name}-coreml-fp16.mlpackage"
    request = BuildRequest(model.module, "fp16", path, sample, model.spec.input_names, outputs, calibration)
    with quiet(), torch.no_grad():
        ml = min(coreml.layer_differences(coreml.Interpreter(path), request), key=lambda layer: layer.sqnr_db)
        ai = min(layer_differences(request, prepare(request)), key=lambda layer: layer.sqnr_db)
    layers = {"Core ML": ml, "Core AI": ai}
    said = ", ".join(f"{way} {at.kind} in '{at.module}', {at.sqnr_db:.0f} dB" for way, at in layers.items())
    return f"; furthest from torch: {said}"


def three_ways(work: Path, chosen: tuple[str, ...]) -> Result:
    """Export the networks below ``work``, and the table of what came of it."""
    rows: list[Row] = []
    recipes = [recipe for ways in WAYS.values() for recipe in ways]
    torch.set_num_threads(1)
    with ProgressLine(NAME) as line:
        for name in chosen:
            model, folder = load_model(name), work / name
            if not (folder / GATE).is_file():
                calibration = rendered_calibration(_CALIBRATION, _SIZE_HW, model.spec)
                evaluation = rendered_evaluation(_EVALUATION, _SIZE_HW, model.spec)
                export_model(
                    model, folder, recipes, calibration, evaluation, rounds=_ROUNDS,
                    on_step=lambda text, name=name: line.update(0, 1, f"{name}: {text}"),
                )  # fmt: skip
            stored = load_file(folder / REFERENCE)
            gate = json.loads((folder / GATE).read_text())
            outputs = {r: t for r in recipes if (t := _first(stored, r)) is not None}
            rows += rows_of(name, gate, outputs, furthest(model, folder))
    notes = (
        f"Inputs: {_SIZE_HW[1]}x{_SIZE_HW[0]} rendered scenes, {_CALIBRATION} calibrate, {_EVALUATION} judge. The "
        "first three columns are signal-to-noise ratios from the float network over all of them, the others those "
        "between two programs on the first."
    )
    return new_result("One network three ways", "python -m benchmarks.apple_three_ways", COLUMNS, rows, notes=notes)


def _first(stored: Mapping[str, torch.Tensor], recipe: str) -> torch.Tensor | None:
    """The first output of ``recipe``."""
    return next((t for name, t in sorted(stored.items()) if name.split(".")[1] == recipe), None)


@click.command()
@click.option("-o", "--output", type=click.Path(path_type=Path), default=RESULT, help="File of the result.")
@click.option("--work", type=click.Path(path_type=Path), help="Folder of the exports, kept; a temporary one else.")
@click.option("--network", "chosen", multiple=True, type=click.Choice(NETWORKS), default=NETWORKS)
def main(output: Path, work: Path | None, chosen: tuple[str, ...]) -> None:
    """Export, compare and write the table."""
    if (missing := coreai.can_build()) is not None:
        raise click.ClickException(missing)
    with tempfile.TemporaryDirectory() as scratch:
        result = three_ways(work or Path(scratch), chosen)
    result.write(output)
    for row in result.rows:
        click.echo(f"{row.label}: " + ", ".join(f"{name} {f.value:.3g}" for name, f in row.figures.items()))
    click.echo(f"-> {output}")


if __name__ == "__main__":
    main()
