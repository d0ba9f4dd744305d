"""One network three ways: Core ML interpreted, Core AI run by Apple's runtime, XNNPACK run; where do they differ?

    python -m benchmarks.apple_three_ways [--network NAME ...] [--size H W] [--work DIR] [-o FILE]

Each network goes through ``dualpix export``'s own flow on one evaluation set. Beside each program's distance from the
float network stand the distances between the programs on the first sample; the label of a row names the operator whose
result is furthest from torch's in the Core ML and in the Core AI program of that precision. With ``--work`` a network
whose export lies in that folder already is not exported again: :mod:`.export_matrix` with all of these recipes leaves
one.
"""

from __future__ import annotations

import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import click
import torch
from benchmarks.export_matrix import Asked, exported, networks
from benchmarks.record import Figure, Result, Row, new_result
from safetensors.torch import load_file
from tests.support.foreign import foreign_modules
from torch import nn

from dualpix.capture.progress import ProgressLine
from dualpix.export import coreai, coreml
from dualpix.export.artefact import BuildRequest, quiet
from dualpix.export.coreai.check import layer_differences
from dualpix.export.coreai.convert import prepare
from dualpix.export.flow.record import REFERENCE, reference_key
from dualpix.export.layers import LayerDifference, inside
from dualpix.export.manifest import read_manifest
from dualpix.models.networks.spec import fix_size
from dualpix.models.zoo import load_model
from dualpix.quantize.calibration import CalibrationSet
from dualpix.quantize.score import sqnr_db

NAME = "three-ways"
RESULT = Path(__file__).parents[1] / "docs" / "results" / "export" / "3-three-ways.json"
WAYS: Mapping[str, tuple[str, str, str]] = {
    "float32": ("coreml-fp32", "coreai-fp32", "xnnpack-fp32"),
    "float16": ("coreml-fp16", "coreai-fp16", "xnnpack-fp16"),
    "int8 weights (XNNPACK: activations, too)": ("coreml-w8", "coreai-w8", "xnnpack-int8"),
}
"""By precision: the recipes of Core ML, Core AI and XNNPACK."""
RECIPES = tuple(recipe for ways in WAYS.values() for recipe in ways)
COLUMNS = {
    "Core ML, interpreted": "dB",
    "Core AI, run": "dB",
    "XNNPACK, run": "dB",
    "Core AI from Core ML": "dB",
    "Core AI from XNNPACK": "dB",
}
_SIZE_HW = (96, 128)
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


def furthest(name: str, folder: Path) -> str:
    """The operators furthest from torch's in the float16 programs of Core ML and Core AI, in words."""
    request = _request(name, folder)
    with quiet(), torch.no_grad():
        layers = {
            "Core ML": coreml.layer_differences(coreml.Interpreter(request.path), request),
            "Core AI": layer_differences(request, prepare(request)),
        }
    return f"; furthest from torch: {', '.join(f'{way} {_worst(found)}' for way, found in layers.items() if found)}"


def _worst(layers: Sequence[LayerDifference]) -> str:
    at = min(layers, key=lambda layer: layer.sqnr_db)
    return f"{at.kind}{inside(at.module)}, {at.sqnr_db:.0f} dB"


def _request(name: str, folder: Path) -> BuildRequest:
    """What the float16 program of Core ML in an export was built of, with the export's own first sample."""
    manifest, stored = read_manifest(folder), load_file(folder / REFERENCE)
    inputs = tuple(entry["name"] for entry in manifest["input"]["tensors"])
    outputs = tuple(entry["name"] for entry in manifest["outputs"])
    sample = tuple(stored[f"input.{given}"] for given in inputs)
    (path,) = folder.glob("*-coreml-fp16.mlpackage")
    return BuildRequest(
        _module(name, sample), "fp16", path, sample, inputs, outputs, CalibrationSet((sample,), "its input")
    )


def _module(name: str, sample: tuple[torch.Tensor, ...]) -> nn.Module:
    if name in foreign_modules():
        return foreign_modules()[name]()[0]
    module = load_model(name).module
    fix_size(module, sample)
    return module


def three_ways(work: Path, asked: Asked, chosen: Sequence[str]) -> Result:
    """Export the networks below ``work``, and the table of what came of it."""
    rows: list[Row] = []
    torch.set_num_threads(1)
    with ProgressLine(NAME) as line:
        for done, name in enumerate(chosen):
            step = lambda text, done=done, name=name: line.update(done, len(chosen), f"{name}: {text}")  # noqa: E731
            folder, gate = exported(work, name, asked, step)
            step("comparing layers")
            rows += rows_of(name, gate, first_outputs(folder, RECIPES), furthest(name, folder))
    notes = (
        f"{asked.notes()}. The first three columns are signal-to-noise ratios from the float network over all of them, "
        "the others those between the first outputs of two programs on the first."
    )
    return new_result("One network three ways", "python -m benchmarks.apple_three_ways", COLUMNS, rows, notes=notes)


def first_outputs(folder: Path, recipes: Sequence[str]) -> dict[str, torch.Tensor]:
    """What each of ``recipes`` that ran gave for the network's first output on the first sample."""
    names = [entry["name"] for entry in read_manifest(folder)["outputs"]]
    stored = load_file(folder / REFERENCE)
    keys = {recipe: reference_key(recipe, names[0], len(names) > 1) for recipe in recipes}
    return {recipe: stored[key] for recipe, key in keys.items() if key in stored}


@click.command()
@click.option("-o", "--output", type=click.Path(path_type=Path), default=RESULT, help="File of the result.")
@click.option("--work", type=click.Path(path_type=Path), help="Folder of the exports, kept; a temporary one else.")
@click.option("--network", "chosen", multiple=True, type=click.Choice(list(networks())), default=list(networks()))
@click.option("--size", "size_hw", type=(int, int), default=_SIZE_HW, help="Height and width of rendered scenes.")
def main(output: Path, work: Path | None, chosen: tuple[str, ...], size_hw: tuple[int, int]) -> None:
    """Export, compare and write the table."""
    if (missing := coreai.can_build()) is not None:
        raise click.ClickException(missing)
    asked = Asked(RECIPES, _ROUNDS, size_hw, _CALIBRATION, _EVALUATION)
    with tempfile.TemporaryDirectory() as scratch:
        result = three_ways(work or Path(scratch), asked, chosen)
    result.write(output)
    for row in result.rows:
        click.echo(f"{row.label}: " + ", ".join(f"{name} {f.value:.3g}" for name, f in row.figures.items()))
    click.echo(f"-> {output}")


if __name__ == "__main__":
    main()
