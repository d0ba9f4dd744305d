"""Every export recipe on the shipped network and on three foreign modules: what comes out, how right, how fast.

    python -m benchmarks.export_matrix [--work DIR] [-o docs/results/export/1-matrix.json]

Each network goes through ``dualpix export``'s own flow; all programs of a network that run here are timed in the same
interleaved rounds as its float form, so the ratios hold although the machine is shared. Sizes are small: the table says
what works and what it costs relative to float, not how fast a phone is. With ``--work`` a network whose export lies in
that folder already is not exported again.
"""

from __future__ import annotations

import json
import os
import tempfile
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import click
import torch
from benchmarks.record import Figure, Result, Row, new_result
from tests.support.foreign import foreign_modules, foreign_samples

from dualpix.capture.progress import ProgressLine
from dualpix.export.bench import EAGER, stored_ratio
from dualpix.export.flow import GATE, export_model
from dualpix.export.module import export_module
from dualpix.export.recipes import RECIPES
from dualpix.models.zoo import DEFAULT_MODEL, load_model
from dualpix.quantize.calibration import rendered_calibration, rendered_evaluation

NAME = "export-matrix"
RESULT = Path(__file__).parents[1] / "docs" / "results" / "export" / "1-matrix.json"
"""Shown in docs/export.md: most of it is what came out, not how long it took."""
COLUMNS = {
    "exports": "1: yes",
    "delegated": "% of MACs",
    "relative error": "% rms",
    "SQNR": "dB",
    "times faster than eager": "",
    "size": "MB",
}
_SIZE_HW = (128, 160)
_CALIBRATION, _EVALUATION = 4, 3
_SEEDS = (11, 12)
"""Of the foreign networks' inputs: to calibrate, to judge."""

Export = Callable[[Path, Sequence[str], int, Callable[[str], None]], object]
"""(folder, recipes, rounds, on_step): writes an export."""


def _shipped(folder: Path, recipes: Sequence[str], rounds: int, on_step: Callable[[str], None]) -> object:
    sets = rendered_calibration(_CALIBRATION, _SIZE_HW), rendered_evaluation(_EVALUATION, _SIZE_HW)
    return export_model(load_model(), folder, recipes, *sets, rounds=rounds, on_step=on_step)


def _foreign(name: str, folder: Path, recipes: Sequence[str], rounds: int, on_step: Callable[[str], None]) -> object:
    module, _ = foreign_modules()[name]()
    calibration, evaluation = (
        foreign_samples(name, count, seed) for count, seed in zip((_CALIBRATION, _EVALUATION), _SEEDS, strict=True)
    )
    return export_module(
        module, calibration, folder, recipes, evaluation_inputs=evaluation, name=name, rounds=rounds, on_step=on_step
    )


def networks() -> dict[str, Export]:
    """The shipped network and the foreign ones."""
    return {DEFAULT_MODEL: _shipped, **{name: partial(_foreign, name) for name in foreign_modules()}}


def rows_of(network: str, gate: Mapping[str, Any]) -> list[Row]:
    """One row for each recipe of one network's ``gate.json``; what failed says why in its label."""
    return [_row(network, entry, gate) for entry in gate["recipes"]]


def _row(network: str, entry: Mapping[str, Any], gate: Mapping[str, Any]) -> Row:
    reason = f": {_found(entry['reason'])}" if entry["reason"] else ""
    figures = {"exports": Figure.exact(float(entry["file"] is not None))}
    if entry["delegation"]:
        figures["delegated"] = Figure.exact(100 * entry["delegation"]["compute_share"])
    accuracy = entry["accuracy"]
    if accuracy and accuracy["from_float"]["sqnr_db"] is not None:
        figures["relative error"] = Figure.exact(100 * entry["relative_rms"])
        figures["SQNR"] = Figure.exact(accuracy["from_float"]["sqnr_db"])
    if entry["recipe"] in gate["benchmark"]["latencies"]:
        figures["times faster than eager"] = Figure.of(stored_ratio(gate["benchmark"], entry["recipe"], EAGER).samples)
    if entry["size_bytes"]:
        figures["size"] = Figure.exact(entry["size_bytes"] / 1e6)
    return Row(f"{network}, {entry['recipe']}: {entry['outcome']}{reason}", figures)


def _found(reason: str) -> str:
    """What was found, without what to do about it: a cell of a table."""
    return reason.split("; expected")[0].split(": install")[0]


def matrix(work: Path, recipes: Sequence[str], rounds: int, chosen: Sequence[str]) -> Result:
    """Export every network by every recipe below ``work``, and the table of what came of it."""
    load = os.getloadavg()[0]
    rows: list[Row] = []
    torch.set_num_threads(1)
    with ProgressLine(NAME) as line:
        total = len(chosen) * (len(recipes) + 3)
        done = iter(range(1, total + 1))

        def step(network: str, text: str) -> None:
            line.update(next(done, total), total, f"{network}: {text}")

        for name in chosen:
            if not (work / name / GATE).is_file():
                networks()[name](work / name, recipes, rounds, partial(step, name))
            rows += rows_of(name, json.loads((work / name / GATE).read_text()))
    notes = (
        f"Inputs: {_SIZE_HW[1]}x{_SIZE_HW[0]} rendered scenes for {DEFAULT_MODEL}, seeded textures for the others; "
        f"{_CALIBRATION} calibrate, {_EVALUATION} judge; 1 thread, {rounds} interleaved rounds, ratios of processor "
        f"time; load average at the start {load:.1f} on {os.cpu_count()} CPUs. Interpreted and not-run artefacts have "
        "no time."
    )
    command = "python -m benchmarks.export_matrix"
    return new_result("Every recipe on four networks", command, COLUMNS, rows, notes=notes)


@click.command()
@click.option("-o", "--output", type=click.Path(path_type=Path), default=RESULT, help="File of the result.")
@click.option("--work", type=click.Path(path_type=Path), help="Folder of the exports, kept; a temporary one else.")
@click.option("--network", "chosen", multiple=True, type=click.Choice(list(networks())), default=list(networks()))
@click.option("--recipe", "recipes", multiple=True, type=click.Choice(list(RECIPES)), default=list(RECIPES))
@click.option("--rounds", type=click.IntRange(1), default=9, help="Of the latency measurement.")
def main(output: Path, work: Path | None, chosen: tuple[str, ...], recipes: tuple[str, ...], rounds: int) -> None:
    """Export, measure and write the table."""
    with tempfile.TemporaryDirectory() as scratch:
        result = matrix(work or Path(scratch), recipes, rounds, chosen)
    result.write(output)
    for row in result.rows:
        click.echo(f"{row.label}: " + ", ".join(f"{name} {f.value:.3g}" for name, f in row.figures.items()))
    click.echo(f"-> {output}")


if __name__ == "__main__":
    main()
