"""``dualpix export``: quantise, export and gate a network, ours or a user's own module."""

from __future__ import annotations

import itertools
import json
import math
import re
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import click
from click.core import ParameterSource
from rich import box
from rich.console import Console
from rich.table import Column, Table

from dualpix.capture.errors import DualpixError
from dualpix.capture.files import read_json
from dualpix.capture.progress import ProgressLine
from dualpix.export.bench import EAGER, Benchmark, Latency
from dualpix.export.flow import ExportResult, RecipeResult, export_model
from dualpix.export.module import export_module, is_factory, load_factory, read_limits
from dualpix.export.recipes import DEFAULT_RECIPES, RECIPES, find_recipe
from dualpix.export.subject import OnStep
from dualpix.models.zoo import DEFAULT_MODEL, LoadedModel, known_models, load_model
from dualpix.quantize.calibration import capture_calibration, rendered_calibration, rendered_evaluation
from dualpix.quantize.gate import Limits, Outcome

if TYPE_CHECKING:
    from dualpix.quantize.sensitivity import Assignment

_FILE = click.Path(path_type=Path)
_MAX_SIDE_PX = 4096
_MAX_ASSIGNMENT_BYTES = 16 << 20
_OURS_ALONE = ("size", "calibration_count", "calibrate_with", "eval_count")
_STEPS_APART_FROM_RECIPES = 5
_SIGNS = {Outcome.NOT_RUN_HERE: "not run", Outcome.EMULATED: "interp."}


@dataclass(frozen=True)
class _Asked:
    """The options that all kinds of networks share."""

    output: Path
    recipes: tuple[str, ...]
    threads: int
    rounds: int
    budget: float | None
    assignment: Assignment | None
    limits: Path | None

    def limits_for(self, *, has_truth: bool) -> tuple[Mapping[str, Limits], str] | None:
        return read_limits(self.limits, has_truth=has_truth) if self.limits else None


def _parse_size(ctx: click.Context, option: click.Parameter, value: str) -> tuple[int, int]:
    match = re.fullmatch(r"(\d{1,5})x(\d{1,5})", value)
    if match is None or not all(0 < int(v) <= _MAX_SIDE_PX for v in match.groups()):
        raise click.BadParameter(f"'{value}' is no HEIGHTxWIDTH of at most {_MAX_SIDE_PX} px, such as 384x512")
    return int(match[1]), int(match[2])


def _parse_budget(ctx: click.Context, option: click.Parameter, value: str | None) -> float | None:
    if value is None:
        return None
    try:
        budget = float(value.removesuffix("%")) / (100 if value.endswith("%") else 1)
    except ValueError:
        budget = math.nan
    if not 0 < budget <= 1:
        raise click.BadParameter(f"'{value}' is no share above 0 and up to 1, such as 1% or 0.01")
    return budget


@click.command("export")
@click.argument("model", default=DEFAULT_MODEL)
@click.option("-o", "--output", type=_FILE, help="Folder for artefacts, manifest.json, gate.json and model card.")
@click.option("--recipe", "recipes", multiple=True, help="Repeatable; without it those marked * in --list.")
@click.option("--limits", type=_FILE, help="The gate's limits, by recipe; instead of the model's own limits.json.")
@click.option("--size", default="384x512", callback=_parse_size, help="HEIGHTxWIDTH that the artefacts take, in px.")
@click.option("--calibration-count", type=click.IntRange(1, 1000), default=24, help="Rendered scenes for int8 ranges.")
@click.option("--calibrate-with", type=_FILE, multiple=True, help="A real capture to calibrate with too; repeatable.")
@click.option("--eval-count", type=click.IntRange(1, 1000), default=12, help="Rendered scenes that judge.")
@click.option("--budget", callback=_parse_budget, help="Loss that mixed precision may cost, such as 1%.")
@click.option("--assignment", type=_FILE, help="Mixed precision that `dualpix quantize` found; spares the search.")
@click.option("--licence", help="Of your module's weights, for manifest and model card.")
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
    limits: Path | None,
    size: tuple[int, int],
    calibration_count: int,
    calibrate_with: tuple[Path, ...],
    eval_count: int,
    budget: float | None,
    assignment: Path | None,
    licence: str | None,
    threads: int,
    rounds: int,
    list_only: bool,
    as_json: bool,
) -> None:
    """Quantise, export and gate a network for phones.

    MODEL is a shipped network's name, a folder with card and weights, or package.module:factory, a function of your own
    that gives (module, inputs) or (module, list of inputs). The latter is imported and run, working folder first; its
    artefacts are judged by their difference from the float module.

    Every artefact is loaded, run where a runtime exists, and compared with the float network. Exit code 0: the gate
    passes; 1: it fails; 2: a user error, or an interruption. OUTPUT changes as a whole at the end, or not at all.
    """
    if list_only:
        _list(as_json)
        return
    names = tuple(dict.fromkeys(recipes or DEFAULT_RECIPES))
    for name in names:
        find_recipe(name)
    if output is None:
        raise click.UsageError("missing option '-o' / '--output'")
    found = _read_assignment(assignment) if assignment else None
    asked = _Asked(output, names, threads, rounds, budget, found, limits)
    with _told_when_interrupted(output):
        if is_factory(model) and not Path(model).exists():
            _refuse_given(ctx, _OURS_ALONE, "for shipped networks; your factory gives its inputs")
            result = _export_factory(model, asked, licence)
        else:
            _refuse_given(ctx, ("licence",), "for a module of your own; a card names its licence")
            result = _export_ours(model, asked, size, calibration_count, calibrate_with, eval_count)
    _show(result, as_json)
    if not result.passed:
        ctx.exit(1)


@contextmanager
def _told_when_interrupted(output: Path) -> Iterator[None]:
    try:
        yield
    except KeyboardInterrupt:
        raise DualpixError("interrupted", hint=f"'{output}' is as it was before") from None


def _refuse_given(ctx: click.Context, options: tuple[str, ...], reason: str) -> None:
    for option in options:
        if ctx.get_parameter_source(option) not in (ParameterSource.DEFAULT, None):
            raise click.UsageError(f"--{option.replace('_', '-')} is {reason}")


def _steps(line: ProgressLine, asked: _Asked) -> Callable[[str], None]:
    counter, total = itertools.count(1), _STEPS_APART_FROM_RECIPES + len(asked.recipes)
    return lambda text: line.update(next(counter), total, text)


def _export_ours(
    model: str,
    asked: _Asked,
    size: tuple[int, int],
    calibration_count: int,
    captures: tuple[Path, ...],
    eval_count: int,
) -> ExportResult:
    loaded = load_model(DEFAULT_MODEL if model == "default" else model)
    _check_size(loaded, size)
    limits = asked.limits_for(has_truth=True)
    with ProgressLine("export") as line:
        step: OnStep = _steps(line, asked)
        step("calibration scenes")
        calibration = rendered_calibration(calibration_count, size)
        if captures:
            calibration = calibration + capture_calibration(captures, size)
        step("evaluation scenes")
        evaluation = rendered_evaluation(eval_count, size)
        return export_model(
            loaded, asked.output, asked.recipes, calibration, evaluation, threads=asked.threads, rounds=asked.rounds,
            on_step=step, budget=asked.budget, assignment=asked.assignment, limits=limits,
        )  # fmt: skip


def _export_factory(text: str, asked: _Asked, licence: str | None) -> ExportResult:
    limits = asked.limits_for(has_truth=False)
    with ProgressLine("export") as line:
        step: OnStep = _steps(line, asked)
        step(f"calling {text}()")
        foreign = load_factory(text)
        calibration, evaluation = foreign.split()
        step(f"{len(calibration)} inputs calibrate, {len(evaluation)} judge")
        return export_module(
            foreign.module, calibration, asked.output, asked.recipes,
            evaluation_inputs=evaluation if len(foreign.inputs) > 1 else (), name=foreign.name, threads=asked.threads,
            rounds=asked.rounds, limits=limits, budget=asked.budget, assignment=asked.assignment, licence=licence,
            on_step=step,
        )  # fmt: skip


def _read_assignment(path: Path) -> Assignment:
    from dualpix.quantize.sensitivity import Assignment

    data = read_json(path, _MAX_ASSIGNMENT_BYTES, expected="an assignment of 'dualpix quantize'")
    return Assignment.from_json(data, f"'{path.name}'")


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
    for line in result.speed_notes:
        click.echo(line)
    click.echo(f"gate: {'PASS' if result.passed else 'FAIL'}; wrote {result.folder}")


def _list(as_json: bool) -> None:
    answers = {name: (recipe.can_build(), recipe.can_run()) for name, recipe in RECIPES.items()}
    if as_json:
        recipes = {
            name: {
                "text": recipe.text,
                "artefact": recipe.suffix,
                "default": recipe.default,
                "builds_here": answers[name][0] is None,
                "runs_here": answers[name] == (None, None),
                "needs": _needs(*answers[name]),
            }
            for name, recipe in RECIPES.items()
        }
        click.echo(json.dumps({"recipes": recipes, "models": known_models()}, indent=2))
        return
    notes: list[str] = []
    heads = (Column(head, no_wrap=True) for head in ("recipe", "artefact", "made\nhere", "runs\nhere", "needs"))
    table = Table(*heads, "for", box=box.SIMPLE_HEAD, pad_edge=False)
    for name, recipe in RECIPES.items():
        build, run = answers[name]
        here = ("yes" if build is None else "no", "yes" if build is None and run is None else "no")
        mark = "*" if recipe.default else ""
        if (needs := _needs(build, run)) and needs not in notes:
            notes.append(needs)
        note = f"({notes.index(needs) + 1})" if needs else ""
        table.add_row(name + mark, recipe.suffix, *here, note, recipe.text)
    Console().print(table)
    for number, text in enumerate(notes, start=1):
        click.echo(f"({number}) {text}")
    click.echo("* made when no --recipe is given")
    click.echo("models: " + (", ".join(known_models()) or "none shipped") + ", or package.module:factory of your own")


def _needs(build: str | None, run: str | None) -> str:
    """What is missing to build and to run."""
    return "; ".join(dict.fromkeys(filter(None, (build, run))))


def table_of(result: ExportResult) -> Table:
    """The export as a table for people."""
    bench = result.benchmark
    height, width = bench.size_hw
    settings = f"{bench.threads} thread{'s' if bench.threads > 1 else ''}, {bench.rounds} rounds"
    title = f"{result.model}, {height}x{width}, {settings}, {bench.machine['class']}"
    error = "AI(1)" if result.has_truth else "rms\nerror"
    numbers = ("MB", "ms\n(IQR)", "×eager\n(IQR)", "deleg", error, "SQNR\ndB")
    columns = (Column(name, justify="right", no_wrap=True) for name in numbers)
    recipe = Column("recipe", no_wrap=True)
    # 80 columns hold it
    table = Table(recipe, *columns, "gate", title=title, box=box.SIMPLE_HEAD, pad_edge=False, padding=(0, 1, 0, 0))
    reference = f"{result.reference.ai1:.4f}" if result.has_truth else ""
    table.add_row(EAGER, "", _milliseconds(bench.latencies[EAGER]), "1.0", "", reference, "", "")
    for r in result.results:
        latency, delegation = bench.latencies.get(r.recipe), r.artefact.delegation if r.artefact else None
        colour = "green" if r.verdict.outcome is Outcome.VERIFIED else "yellow" if r.verdict.passed else "red"
        table.add_row(
            r.recipe,
            f"{r.artefact.size_bytes / 1e6:.2f}" if r.artefact else "",
            _milliseconds(latency),
            _times_eager(bench, r.recipe),
            f"{delegation.compute_share:.0%}" if delegation else "",
            _error(r, result.has_truth),
            f"{r.accuracy.from_float.sqnr_db:.1f}" if r.accuracy else "",
            f"[{colour}]{_sign(r)}[/{colour}]",
        )
    return table


def _error(result: RecipeResult, has_truth: bool) -> str:
    """AI(1), or the difference from the float network relative to its output where there is no truth."""
    if result.accuracy is None:
        return ""
    return f"{result.accuracy.ai1:.4f}" if has_truth else f"{result.accuracy.from_float.relative_rms:.2%}"


def _sign(result: RecipeResult) -> str:
    return _SIGNS.get(result.verdict.outcome, "pass" if result.verdict.passed else "FAIL")


def _milliseconds(latency: Latency | None) -> str:
    """Median and interquartile range."""
    if latency is None:
        return ""
    median, iqr = latency.median_s * 1e3, latency.iqr_s * 1e3
    return f"{median:.{0 if median >= 1000 else 1}f} ({iqr:.{0 if iqr >= 10 else 1}f})"


def _times_eager(bench: Benchmark, recipe: str) -> str:
    """Median and interquartile range."""
    if recipe not in bench.latencies:
        return ""
    ratio = bench.ratio(recipe, EAGER)
    return f"{ratio.median:.2f} ({ratio.iqr:.2f})"
