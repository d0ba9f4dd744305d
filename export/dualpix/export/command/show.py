"""What ``dualpix export`` says: its result and its list, as tables that 80 columns hold, or as JSON."""

from __future__ import annotations

import json

import click
from rich import box
from rich.console import Console
from rich.table import Column, Table

from dualpix.export.bench import EAGER, Benchmark, Latency
from dualpix.export.flow import ExportResult, RecipeResult
from dualpix.export.recipes import RECIPES
from dualpix.models.zoo.cards import known_models
from dualpix.quantize.gate import Outcome
from dualpix.quantize.score import Accuracy

_SIGNS = {Outcome.NOT_RUN_HERE: "not run", Outcome.EMULATED: "interp."}


def show(result: ExportResult, as_json: bool) -> None:
    """The result on stdout."""
    if as_json:
        click.echo(json.dumps(result.to_json(), indent=2, allow_nan=False))
        return
    Console().print(table_of(result))
    for r in result.results:
        if r.verdict.outcome is not Outcome.VERIFIED:
            click.echo(": ".join(filter(None, (r.recipe, r.verdict.outcome.value, r.verdict.reason))))
        for note in r.verdict.notes:
            click.echo(f"{r.recipe}: {note}")
    for note in result.notes:
        click.echo(f"note: {note}")
    for note in result.speed_notes:
        click.echo(note)
    click.echo(f"gate: {'PASS' if result.passed else 'FAIL'}; wrote {result.folder}")


def show_list(as_json: bool) -> None:
    """Recipes and models on stdout."""
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
    metric = result.reference.metric
    shown = [_head(metric[0])] if metric else []
    heads = [
        "MB",
        "ms\n(IQR)",
        "×eager\n(IQR)",
        "deleg",
        *shown,
        "SQNR\ndB",
        *([] if metric else ["struct\ndB"]),
    ]  # a metric says more than structure
    columns = (Column(head, justify="right", no_wrap=True) for head in heads)
    recipe = Column("recipe", overflow="fold", min_width=10)  # the only one that gives way on 80 columns
    gate = Column("gate", no_wrap=True, min_width=4)
    table = Table(recipe, *columns, gate, title=title, box=box.SIMPLE_HEAD, pad_edge=False, padding=(0, 1, 0, 0))
    table.add_row(
        EAGER,
        "",
        _milliseconds(bench.latencies[EAGER]),
        "1",
        "",
        *_metric(result.reference, metric is not None),
        "",
        *([] if metric else [""]),
        "",
    )
    for r in result.results:
        delegation = r.artefact.delegation if r.artefact else None
        gap = r.accuracy.from_float if r.accuracy else None
        structure = gap.structure_db if gap else None
        colour = "green" if r.verdict.outcome is Outcome.VERIFIED else "yellow" if r.verdict.passed else "red"
        table.add_row(
            r.recipe,
            f"{r.artefact.size_bytes / 1e6:.2f}" if r.artefact else "",
            _milliseconds(bench.latencies.get(r.recipe)),
            _times_eager(bench, r.recipe),
            f"{delegation.compute_share:.0%}" if delegation and delegation.total_macs else "",
            *_metric(r.accuracy, metric is not None),
            f"{gap.sqnr_db:.0f}" if gap else "",
            *([] if metric else ["" if structure is None else f"{structure:.0f}"]),
            f"[{colour}]{_sign(r)}[/{colour}]",
        )
    return table


def _head(name: str) -> str:
    """A metric's name in few columns."""
    return name if len(name) <= 9 else name[:8] + "."


def _metric(accuracy: Accuracy | None, there_is_one: bool) -> list[str]:
    if not there_is_one:
        return []
    metric = accuracy.metric if accuracy else None
    return [f"{metric[1].value:.4g}" if metric else ""]


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
