"""``dualpix quantize``: find the cheapest mix of int8 and float layers within an accuracy budget."""

from __future__ import annotations

import csv
import io
import json
import re
from pathlib import Path
from typing import Any, Literal, get_args

import click
from rich.console import Console
from rich.table import Column, Table

from dualpix.capture.errors import DualpixError
from dualpix.capture.files import make_output_dir, write_bytes, write_json
from dualpix.capture.progress import ProgressLine
from dualpix.models.zoo import DEFAULT_MODEL, LoadedModel, known_models, load_model
from dualpix.quantize.calibration import Coverage, EvaluationSet, input_coverage, rendered_held_back, rendered_search
from dualpix.quantize.frontier import frontier_picture
from dualpix.quantize.ptq import Observer
from dualpix.quantize.sensitivity import Assignment, Sweep, output_loss, search, task_loss

ASSIGNMENT, PICTURE, TABLE, FACTS = "assignment.json", "frontier.png", "sensitivity.csv", "quantize.json"
_SWEEP: Sweep = "keep-one-float"
_MAX_SIDE_PX = 4096
_ROWS = 12


def _parse_size(ctx: click.Context, option: click.Parameter, value: str) -> tuple[int, int]:
    match = re.fullmatch(r"(\d{1,5})x(\d{1,5})", value)
    if match is None or not all(0 < int(v) <= _MAX_SIDE_PX for v in match.groups()):
        raise click.BadParameter(f"'{value}' is no HEIGHTxWIDTH of at most {_MAX_SIDE_PX} px, such as 192x256")
    return int(match[1]), int(match[2])


def _parse_budget(ctx: click.Context, option: click.Parameter, value: str) -> float:
    match = re.fullmatch(r"(\d{1,3}(?:\.\d{1,6})?)(%?)", value.strip())
    budget = float(match[1]) / (100.0 if match[2] else 1.0) if match else 0.0
    if not 0.0 < budget <= 1.0:
        raise click.BadParameter(f"'{value}' is no share above 0 and up to 1, such as 1% or 0.01")
    return budget


@click.command("quantize")
@click.argument("model", default=DEFAULT_MODEL)
@click.option("-o", "--output", type=click.Path(path_type=Path), required=True, help="Folder for the results.")
@click.option("--budget", default="1%", callback=_parse_budget, help="Allowed loss of the task's metric, such as 1%.")
@click.option("--size", default="192x256", callback=_parse_size, help="HEIGHTxWIDTH of the scenes, in px.")
@click.option("--calibration-count", type=click.IntRange(1, 1000), default=8, help="Scenes to calibrate and search on.")
@click.option("--held-back-count", type=click.IntRange(1, 1000), default=8, help="Scenes that confirm the budget.")
@click.option("--ranking-count", type=click.IntRange(1, 1000), default=3, help="Of the former, to order layers on.")
@click.option("--sweeps", type=click.Choice([*get_args(Sweep), "both"]), default=_SWEEP, help="How to order layers.")
@click.option("--observer", type=click.Choice(get_args(Observer)), default="histogram", help="What decides a range.")
@click.option("--json", "as_json", is_flag=True, help="The assignment as JSON on stdout.")
@click.pass_context
def command(
    ctx: click.Context,
    /,
    model: str,
    output: Path,
    budget: float,
    size: tuple[int, int],
    calibration_count: int,
    held_back_count: int,
    ranking_count: int,
    sweeps: Sweep | Literal["both"],
    observer: Observer,
    as_json: bool,
) -> None:
    """Find which layers of a network must stay float for its int8 version to keep an accuracy budget.

    MODEL is a shipped network's name or a folder with card and weights. Writes assignment.json (which layers stay
    float, and what was measured), frontier.png, sensitivity.csv and quantize.json (which data). Exit code 0: the budget
    holds on the scenes of the search and on those held back; 1: it does not; 2: a user error.
    """
    loaded = load_model(DEFAULT_MODEL if model == "default" else model)
    check_size(loaded, size)
    make_output_dir(output)
    with ProgressLine("quantize") as line:
        line.update(0, 1, "scenes")
        seen = rendered_search(calibration_count, size, loaded.spec)
        held_back = rendered_held_back(held_back_count, size, loaded.spec)
        assignment = search(
            loaded.module,
            seen.calibration().samples,
            task_loss(seen),
            budget,
            task_loss(held_back),
            # not the task's metric: on a few scenes one layer moves it by less than its noise
            ranking_loss=output_loss(loaded.module, seen.calibration().samples[:ranking_count]),
            sweeps=get_args(Sweep) if sweeps == "both" else (sweeps,),
            rank_always=True,
            observer=observer,
            on_step=lambda done, total, text: line.update(done, total, text, important=done % 10 == 0),
        )
    coverage = input_coverage(seen.calibration().samples, held_back.calibration().samples, loaded.spec.input_names)
    write_bytes(output / PICTURE, frontier_picture(assignment, f"{seen.task.metrics[0].name} error"))
    write_bytes(output / TABLE, sensitivity_csv(assignment).encode())
    write_json(output / FACTS, _facts(loaded, size, observer, seen, held_back, coverage))
    write_json(output / ASSIGNMENT, assignment.to_json())
    _show(loaded.name, assignment, coverage, output, as_json)
    if not assignment.within_budget:
        ctx.exit(1)


def check_size(model: LoadedModel, size_hw: tuple[int, int]) -> None:
    """Whether ``model`` takes pictures of ``size_hw`` (height, width) px.

    Raises:
        DualpixError: it does not.
    """
    multiple = model.spec.size_multiple
    if size_hw[0] % multiple or size_hw[1] % multiple:
        raise DualpixError(f"size {size_hw[0]}x{size_hw[1]}", expected=f"multiples of {multiple} px for '{model.name}'")


def _facts(
    model: LoadedModel,
    size_hw: tuple[int, int],
    observer: str,
    seen: EvaluationSet,
    held_back: EvaluationSet,
    coverage: tuple[Coverage, ...],
) -> dict[str, Any]:
    return {
        "model": model.name,
        "shipped": model.name in known_models(),
        "loss": f"mean {seen.task.metrics[0].name} error",
        "size_hw": list(size_hw),
        "observer": observer,
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
        click.echo(json.dumps(assignment.to_json(), indent=2, allow_nan=False))
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
    numbers = (Column(heading, justify="right") for heading in ("MACs", "saved by\nfloat", "added by\nint8"))
    rest = len(assignment.layers) - len(shown)
    table = Table(
        Column("layer"), *numbers, "", title=f"{name}: relative RMS by layer" + (f" ({rest} more)" if rest else "")
    )
    for s in shown:
        share = f"{s.macs / max(assignment.total_macs, 1):.2%}"
        mark = "[yellow]float[/yellow]" if s.path in assignment.keep_float else "int8"
        table.add_row(s.path or "(network)", share, _signed(s.saved), _signed(s.added), mark)
    return table


def _signed(value: float | None) -> str:
    return "" if value is None else f"{value:+.2e}"
