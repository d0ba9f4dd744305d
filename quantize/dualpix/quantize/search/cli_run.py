"""Carrying out ``dualpix quantize``, once what is asked has been looked at: files, and what is said of them."""

from __future__ import annotations

import csv
import io
from pathlib import Path
from typing import Any

import click
from rich import box
from rich.console import Console
from rich.table import Column, Table

from dualpix.capture.command.terminal import echo_json
from dualpix.capture.files import make_output_dir, write_bytes, write_json
from dualpix.capture.progress import ProgressLine
from dualpix.models.zoo import LoadedModel, known_models, load_model
from dualpix.quantize.calibration import (
    Coverage,
    EvaluationSet,
    input_coverage,
    rendered_held_back,
    rendered_search,
    takes_stacks,
)
from dualpix.quantize.search.asked import Asked
from dualpix.quantize.search.assignment import Assignment
from dualpix.quantize.search.choice import search
from dualpix.quantize.search.losses import output_loss, task_loss
from dualpix.quantize.search.picture import frontier_picture

ASSIGNMENT, PICTURE, TABLE, FACTS = "assignment.json", "frontier.png", "sensitivity.csv", "quantize.json"
_ROWS = 12


def search_asked(asked: Asked, *, as_json: bool) -> Assignment:
    """Search, write the results into the output folder and show them.

    Raises:
        DualpixError: see :func:`~dualpix.models.zoo.load_model` and :func:`~dualpix.quantize.search.choice.search`.
    """
    loaded, output = load_model(asked.model), asked.output
    make_output_dir(output)
    with ProgressLine("quantize") as line:
        line.update(0, 1, "scenes")
        seen = rendered_search(asked.calibration_count, asked.size_hw, loaded.spec, frames=asked.frames)
        held_back = rendered_held_back(asked.held_back_count, asked.size_hw, loaded.spec, frames=asked.frames)
        assignment = search(
            loaded.module,
            seen.calibration().samples,
            task_loss(seen),
            asked.budget,
            task_loss(held_back),
            # not the task's metric: on a few scenes one layer moves it by less than its noise
            ranking_loss=output_loss(loaded.module, seen.calibration().samples[: asked.ranking_count]),
            sweeps=asked.sweeps,
            rank_always=True,
            observer=asked.observer,
            on_step=lambda done, total, text: line.update(done, total, text, important=done % 10 == 0),
        )
    coverage = input_coverage(seen.calibration().samples, held_back.calibration().samples, loaded.spec.input_names)
    write_bytes(output / PICTURE, frontier_picture(assignment, f"{seen.task.metrics[0].name} error"))
    write_bytes(output / TABLE, sensitivity_csv(assignment).encode())
    write_json(output / FACTS, _facts(loaded, asked, seen, held_back, coverage))
    write_json(output / ASSIGNMENT, assignment.to_json())
    _show(loaded.name, assignment, coverage, output, as_json)
    return assignment


def _facts(
    model: LoadedModel,
    asked: Asked,
    seen: EvaluationSet,
    held_back: EvaluationSet,
    coverage: tuple[Coverage, ...],
) -> dict[str, Any]:
    return {
        "model": model.name,
        "shipped": model.name in known_models(),
        "loss": f"mean {seen.task.metrics[0].name} error",
        "size_hw": list(asked.size_hw),
        **({"frames": asked.frames} if takes_stacks(seen.task) else {}),
        "observer": asked.observer,
        "calibration": {"description": seen.description, "sha256": seen.digest()},
        "held_back": {"description": held_back.description, "sha256": held_back.digest()},
        "coverage": [{"input": c.name, "inside": c.inside, "overlap": c.overlap, "low": c.low} for c in coverage],
    }


def sensitivity_csv(assignment: Assignment) -> str:
    """The layers as a table: path, what int8 does to the output's relative RMS, and whether it stays float."""
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(["layer", "macs", "weights", "rms_saved_by_float", "rms_added_by_int8", "float"])
    for s in assignment.layers:
        writer.writerow([s.path, s.macs, s.weights, s.saved, s.added, s.path in assignment.keep_float])
    return out.getvalue()


def _show(name: str, assignment: Assignment, coverage: tuple[Coverage, ...], output: Path, as_json: bool) -> None:
    if as_json:
        echo_json(assignment.to_json())
        return
    Console().print(table_of(name, assignment))
    for c in coverage:
        if c.low:
            click.echo(f"calibration covers only {c.inside:.1%} of the values of '{c.name}' at work; add scenes")
    kept = ", ".join(assignment.keep_float) or "nothing"
    click.echo(f"float: {kept}; {assignment.int8_share:.1%} of the multiply-accumulates in int8")
    click.echo(f"loss: {_losses(assignment)}")
    click.echo(f"budget {assignment.budget:.2%}: {'held' if assignment.within_budget else 'MISSED'}; wrote {output}")


def _losses(a: Assignment) -> str:
    parts = [("search", a.float_loss, a.int8_loss, a.loss)]
    if a.held_back_float_loss is not None and a.held_back_int8_loss is not None and a.held_back_loss is not None:
        parts.append(("held-back", a.held_back_float_loss, a.held_back_int8_loss, a.held_back_loss))
    return "; ".join(f"{name} float {f:.4f}, int8 {_change(i, f)}, chosen {_change(c, f)}" for name, f, i, c in parts)


def _change(loss: float, reference: float) -> str:
    return f"{loss:.4f} ({loss / max(reference, 1e-12) - 1:+.2%})"


def table_of(name: str, assignment: Assignment) -> Table:
    """The most harmful layers, and every layer that stays float, as a table for people."""
    shown = [s for i, s in enumerate(assignment.layers) if i < _ROWS or s.path in assignment.keep_float]
    numbers = (
        Column(heading, justify="right", no_wrap=True) for heading in ("MACs", "saved by\nfloat", "added by\nint8")
    )
    rest = len(assignment.layers) - len(shown)
    title = f"{name}: relative RMS by layer" + (f" ({rest} more)" if rest else "")
    layer, mark = Column("layer", overflow="fold", min_width=12), Column("", no_wrap=True)
    table = Table(layer, *numbers, mark, title=title, box=box.SIMPLE_HEAD, pad_edge=False, padding=(0, 1, 0, 0))
    for s in shown:
        share = f"{s.macs / max(assignment.total_macs, 1):.2%}"
        kept = "[yellow]float[/yellow]" if s.path in assignment.keep_float else "int8"
        table.add_row(s.path or "(network)", share, _signed(s.saved), _signed(s.added), kept)
    return table


def _signed(value: float | None) -> str:
    return "" if value is None else f"{value:+.2e}"
