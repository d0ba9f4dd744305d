"""``dualpix export``: quantise, export and gate a network."""

from __future__ import annotations

import itertools
import json
import re
from pathlib import Path

import click
from rich.console import Console
from rich.table import Column, Table

from dualpix.capture.errors import DualpixError
from dualpix.capture.progress import ProgressLine
from dualpix.export.bench import EAGER, Latency
from dualpix.export.flow import ExportResult, RecipeResult, export_model
from dualpix.export.recipes import RECIPES, find_recipe
from dualpix.models.zoo import DEFAULT_MODEL, LoadedModel, known_models, load_model
from dualpix.quantize.calibration import capture_calibration, rendered_calibration, rendered_evaluation
from dualpix.quantize.gate import Outcome

_FILE = click.Path(path_type=Path)
_MAX_SIDE_PX = 4096


def _parse_size(ctx: click.Context, option: click.Parameter, value: str) -> tuple[int, int]:
    match = re.fullmatch(r"(\d{1,5})x(\d{1,5})", value)
    if match is None or not all(0 < int(v) <= _MAX_SIDE_PX for v in match.groups()):
        raise click.BadParameter(f"'{value}' is no HEIGHTxWIDTH of at most {_MAX_SIDE_PX} px, such as 384x512")
    return int(match[1]), int(match[2])


@click.command("export")
@click.argument("model", default=DEFAULT_MODEL)
@click.option("-o", "--output", type=_FILE, help="Folder for artefacts, manifest.json and gate.json.")
@click.option("--recipe", "recipes", multiple=True, help="Repeatable; all by default. --list names them.")
@click.option("--size", default="384x512", callback=_parse_size, help="HEIGHTxWIDTH that the artefacts take, in px.")
@click.option("--calibration-count", type=click.IntRange(1, 1000), default=24, help="Rendered scenes for int8 ranges.")
@click.option("--calibrate-with", type=_FILE, multiple=True, help="A real capture to calibrate with too; repeatable.")
@click.option("--eval-count", type=click.IntRange(1, 1000), default=12, help="Rendered scenes that judge.")
@click.option("--threads", type=click.IntRange(1, 64), default=1, help="Of the runtime and the float network.")
@click.option("--rounds", type=click.IntRange(1, 1000), default=15, help="Of the latency measurement.")
@click.option("--list", "list_only", is_flag=True, help="Show recipes and models, and stop.")
@click.option("--json", "as_json", is_flag=True, help="The gate's result as JSON on stdout.")
@click.pass_context
def command(
    ctx: click.Context,
    /,
    model: str,
    output: Path | None,
    recipes: tuple[str, ...],
    size: tuple[int, int],
    calibration_count: int,
    calibrate_with: tuple[Path, ...],
    eval_count: int,
    threads: int,
    rounds: int,
    list_only: bool,
    as_json: bool,
) -> None:
    """Quantise, export and gate a network for phones.

    MODEL is a shipped network's name or a folder with card and weights. Every artefact is loaded, run where a runtime
    exists, and compared with the float network. Exit code 0: the gate passes; 1: it fails; 2: a user error.
    """
    if list_only:
        _list(as_json)
        return
    names = tuple(dict.fromkeys(recipes or RECIPES))
    for name in names:
        find_recipe(name)
    if output is None:
        raise click.UsageError("missing option '-o' / '--output'")
    loaded = load_model(DEFAULT_MODEL if model == "default" else model)
    _check_size(loaded, size)
    with ProgressLine("export") as line:
        counter, steps = itertools.count(1), 5 + len(names)

        def step(text: str) -> None:
            line.update(next(counter), steps, text)

        step("calibration scenes")
        calibration = rendered_calibration(calibration_count, size)
        if calibrate_with:
            calibration = calibration + capture_calibration(calibrate_with, size)
        step("evaluation scenes")
        evaluation = rendered_evaluation(eval_count, size)
        result = export_model(
            loaded, output, names, calibration, evaluation, threads=threads, rounds=rounds, on_step=step
        )
    _show(result, as_json)
    if not result.passed:
        ctx.exit(1)


def _check_size(model: LoadedModel, size_hw: tuple[int, int]) -> None:
    multiple = model.spec.size_multiple
    if size_hw[0] % multiple or size_hw[1] % multiple:
        raise DualpixError(f"size {size_hw[0]}x{size_hw[1]}", expected=f"multiples of {multiple} px for '{model.name}'")


def _show(result: ExportResult, as_json: bool) -> None:
    if as_json:
        click.echo(json.dumps(result.to_json(), indent=2, allow_nan=False))
        return
    Console().print(table_of(result))
    for r in result.results:
        if r.verdict.outcome is not Outcome.VERIFIED:
            click.echo(": ".join(filter(None, (r.recipe, r.verdict.outcome.value, r.verdict.reason))))
    click.echo(f"gate: {'PASS' if result.passed else 'FAIL'}; wrote {result.folder}")


def _list(as_json: bool) -> None:
    if as_json:
        click.echo(json.dumps({"recipes": {r.name: r.text for r in RECIPES.values()}, "models": known_models()}))
        return
    for recipe in RECIPES.values():
        click.echo(f"{recipe.name:14} {recipe.text}")
    click.echo("models: " + (", ".join(known_models()) or "none shipped"))


def table_of(result: ExportResult) -> Table:
    """The export as a table for people."""
    bench = result.benchmark
    height, width = bench.size_hw
    title = f"{result.model}, {height}x{width}, {bench.threads} thread(s), {bench.rounds} rounds"
    numbers = ("MB", "ms", "IQR", "×eager", "deleg", "AI(1)", "SQNR\ndB")
    columns = (Column(name, justify="right") for name in numbers)
    table = Table(Column("recipe", no_wrap=True), *columns, "gate", title=title)
    eager = bench.latencies[EAGER]
    table.add_row(EAGER, "", *_milliseconds(eager), "1.0", "", f"{result.reference.ai1:.4f}", "", "")
    for r in result.results:
        latency, delegation = bench.latencies.get(r.recipe), r.artefact.delegation if r.artefact else None
        colour = "green" if r.verdict.outcome is Outcome.VERIFIED else "yellow" if r.verdict.passed else "red"
        table.add_row(
            r.recipe,
            f"{r.artefact.size_bytes / 1e6:.2f}" if r.artefact else "",
            *_milliseconds(latency),
            f"{bench.speedup(r.recipe, EAGER):.2f}" if latency else "",
            f"{delegation.compute_share:.0%}" if delegation else "",
            f"{r.accuracy.ai1:.4f}" if r.accuracy else "",
            f"{r.accuracy.from_float.sqnr_db:.1f}" if r.accuracy else "",
            f"[{colour}]{_sign(r)}[/{colour}]",
        )
    return table


def _sign(result: RecipeResult) -> str:
    if result.verdict.outcome is Outcome.NOT_RUN_HERE:
        return "not run"
    return "pass" if result.verdict.passed else "FAIL"


def _milliseconds(latency: Latency | None) -> tuple[str, str]:
    """Median and interquartile range."""
    return (f"{latency.median_s * 1e3:.1f}", f"{latency.iqr_s * 1e3:.1f}") if latency else ("", "")
