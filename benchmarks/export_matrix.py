"""Export recipes on the shipped networks and on three foreign modules: what comes out, how right, how fast.

    python -m benchmarks.export_matrix [--network NAME ...] [--recipe NAME ...] [--work DIR] [-o FILE]

By default every recipe on the default network and the foreign ones, for docs/results/export/1-matrix.json. Each network
goes through ``dualpix export``'s own flow; all programs of a network that run here are timed in the same interleaved
rounds as its float form, so the ratios hold although the machine is shared. Sizes are small: the table says what works
and what it costs relative to float, not how fast a phone is. With ``--work`` a network whose export lies in that folder
already is not exported again, and rows are shown of what was asked alone.
"""

from __future__ import annotations

import json
import os
import tempfile
from collections.abc import Callable, Container, Mapping, Sequence
from dataclasses import dataclass
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
from dualpix.models.zoo.cards import known_models
from dualpix.quantize.calibration import rendered_calibration, rendered_evaluation

NAME = "export-matrix"
RESULT = Path(__file__).parents[1] / "docs" / "results" / "export" / "1-matrix.json"
"""Shown in docs/export.md: most of it is what came out, not how long it took."""
COLUMNS = {
    "exports": "1: yes",
    "delegated": "% of MACs",
    "relative error": "% rms",
    "SQNR": "dB",
    "metric loss": "%",
    "times faster than eager": "",
    "size": "MB",
}
DEFAULT_NETWORKS = (DEFAULT_MODEL, *foreign_modules())
_SEEDS = (11, 12)
"""Of the foreign networks' inputs: to calibrate, to judge."""


@dataclass(frozen=True)
class Asked:
    """What is exported of each network, and on what it is judged."""

    recipes: tuple[str, ...]
    rounds: int
    size_hw: tuple[int, int] = (128, 160)
    """Of the shipped networks; the foreign ones have their own."""
    calibration: int = 4
    evaluation: int = 3

    def notes(self) -> str:
        """For a table's foot."""
        return (
            f"Inputs: {self.size_hw[1]}x{self.size_hw[0]} rendered scenes for shipped networks, seeded textures for "
            f"the others; {self.calibration} calibrate, {self.evaluation} judge"
        )


Export = Callable[[Path, Asked, Callable[[str], None]], object]
"""(folder, asked, on_step): writes an export."""


def _shipped(name: str, folder: Path, asked: Asked, on_step: Callable[[str], None]) -> object:
    model = load_model(name)
    calibration = rendered_calibration(asked.calibration, asked.size_hw, model.spec)
    evaluation = rendered_evaluation(asked.evaluation, asked.size_hw, model.spec)
    return export_model(model, folder, asked.recipes, calibration, evaluation, rounds=asked.rounds, on_step=on_step)


def _foreign(name: str, folder: Path, asked: Asked, on_step: Callable[[str], None]) -> object:
    module, _ = foreign_modules()[name]()
    calibration, evaluation = (
        foreign_samples(name, count, seed)
        for count, seed in zip((asked.calibration, asked.evaluation), _SEEDS, strict=True)
    )
    return export_module(
        module, calibration, folder, asked.recipes, evaluation_inputs=evaluation, name=name, rounds=asked.rounds,
        on_step=on_step,
    )  # fmt: skip


def networks() -> dict[str, Export]:
    """The shipped networks, the default one first, and the foreign ones."""
    shipped = sorted(known_models(), key=lambda name: name != DEFAULT_MODEL)
    return {
        **{name: partial(_shipped, name) for name in shipped},
        **{name: partial(_foreign, name) for name in foreign_modules()},
    }


def rows_of(network: str, gate: Mapping[str, Any], recipes: Container[str] = RECIPES) -> list[Row]:
    """One row for each of ``recipes`` in one network's ``gate.json``; what failed says why in its label."""
    return [_row(network, entry, gate) for entry in gate["recipes"] if entry["recipe"] in recipes]


def _row(network: str, entry: Mapping[str, Any], gate: Mapping[str, Any]) -> Row:
    reason = f": {_found(entry['reason'])}" if entry["reason"] else ""
    figures = {"exports": Figure.exact(float(entry["file"] is not None))}
    if entry["delegation"]:
        figures["delegated"] = Figure.exact(100 * entry["delegation"]["compute_share"])
    accuracy = entry["accuracy"]
    if accuracy and accuracy["from_float"]["sqnr_db"] is not None:
        figures["relative error"] = Figure.exact(100 * entry["relative_rms"])
        figures["SQNR"] = Figure.exact(accuracy["from_float"]["sqnr_db"])
    if entry["metric_loss"] is not None:
        figures["metric loss"] = Figure.exact(100 * entry["metric_loss"])
    if entry["recipe"] in gate["benchmark"]["latencies"]:
        figures["times faster than eager"] = Figure.of(stored_ratio(gate["benchmark"], entry["recipe"], EAGER).samples)
    if entry["size_bytes"]:
        figures["size"] = Figure.exact(entry["size_bytes"] / 1e6)
    return Row(f"{network}, {entry['recipe']}: {entry['outcome']}{reason}", figures)


def _found(reason: str) -> str:
    """What was found, without what to do about it: a cell of a table."""
    return reason.split("; expected")[0].split(": install")[0]


def exported(work: Path, name: str, asked: Asked, on_step: Callable[[str], None]) -> tuple[Path, dict[str, Any]]:
    """The folder of a network's export below ``work``, made where there is none, and its ``gate.json``."""
    folder = work / name
    if not (folder / GATE).is_file():
        networks()[name](folder, asked, on_step)
    return folder, json.loads((folder / GATE).read_text())


def matrix(work: Path, asked: Asked, chosen: Sequence[str]) -> Result:
    """Export every network by every recipe below ``work``, and the table of what came of it."""
    load = os.getloadavg()[0]
    rows: list[Row] = []
    torch.set_num_threads(1)
    with ProgressLine(NAME) as line:
        total = len(chosen) * (len(asked.recipes) + 3)
        done = iter(range(1, total + 1))
        for name in chosen:
            _, gate = exported(
                work, name, asked, lambda text, name=name: line.update(next(done, total), total, f"{name}: {text}")
            )
            rows += rows_of(name, gate, asked.recipes)
    notes = (
        f"{asked.notes()}; 1 thread, {asked.rounds} interleaved rounds, ratios of processor time; load average at the "
        f"start {load:.1f} on {os.cpu_count()} CPUs. Interpreted and not-run artefacts have no time."
    )
    what = "Every recipe" if set(asked.recipes) == set(RECIPES) else f"Recipes {', '.join(asked.recipes)}"
    return new_result(f"{what} on {len(chosen)} networks", _command(asked, chosen), COLUMNS, rows, notes=notes)


def _command(asked: Asked, chosen: Sequence[str]) -> str:
    """What to run for the same table."""
    parts = ["python -m benchmarks.export_matrix"]
    if tuple(chosen) != DEFAULT_NETWORKS:
        parts += [f"--network {name}" for name in chosen]
    if asked.recipes != tuple(RECIPES):
        parts += [f"--recipe {name}" for name in asked.recipes]
    usual = Asked(asked.recipes, asked.rounds)
    if asked.size_hw != usual.size_hw:
        parts.append(f"--size {asked.size_hw[0]} {asked.size_hw[1]}")
    for option in ("calibration", "evaluation"):
        if getattr(asked, option) != getattr(usual, option):
            parts.append(f"--{option} {getattr(asked, option)}")
    return " ".join(parts)


@click.command()
@click.option("-o", "--output", type=click.Path(path_type=Path), default=RESULT, help="File of the result.")
@click.option("--work", type=click.Path(path_type=Path), help="Folder of the exports, kept; a temporary one else.")
@click.option("--network", "chosen", multiple=True, type=click.Choice(list(networks())), default=DEFAULT_NETWORKS)
@click.option("--recipe", "recipes", multiple=True, type=click.Choice(list(RECIPES)), default=list(RECIPES))
@click.option("--rounds", type=click.IntRange(1), default=9, help="Of the latency measurement.")
@click.option("--size", "size_hw", type=(int, int), default=Asked.size_hw, help="Height and width of rendered scenes.")
@click.option("--calibration", type=click.IntRange(1), default=Asked.calibration, help="Samples for int8 ranges.")
@click.option("--evaluation", type=click.IntRange(1), default=Asked.evaluation, help="Samples that judge.")
def main(output: Path, work: Path | None, chosen: tuple[str, ...], **asked: Any) -> None:
    """Export, measure and write the table."""
    with tempfile.TemporaryDirectory() as scratch:
        result = matrix(work or Path(scratch), Asked(**asked), chosen)
    result.write(output)
    for row in result.rows:
        click.echo(f"{row.label}: " + ", ".join(f"{name} {f.value:.3g}" for name, f in row.figures.items()))
    click.echo(f"-> {output}")


if __name__ == "__main__":
    main()
