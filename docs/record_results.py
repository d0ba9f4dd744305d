"""Result files for README.md from what the commands print.

dualpix evaluate --data rendered --json > scores.json
python -m docs.record_results evaluate scores.json --name 1-rendered --title "Rendered scenes"
dualpix export -o phone/
python -m docs.record_results export phone/ --name 2-export --title "Exported for phones"
python -m docs.make_tables
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import click
from benchmarks.record import Figure, Result, Row, new_result
from docs.make_tables import RESULTS

from dualpix.export.bench import EAGER, stored_ratio
from dualpix.models.evaluate.methods import NETWORK
from dualpix.models.evaluate.protocol_names import METHODS

_FILE = click.Path(path_type=Path, exists=True)
_SCORES = {
    "ai1": "AI(1)",
    "ai2": "AI(2)",
    "one_minus_abs_rho": "1-abs(ρ)",
    "mae_px": "mean error",
    "bad_1px": "off by > 1 px",
}
_UNITS = {"mean error": "px", "off by > 1 px": "share"}


def evaluation_result(record: dict[str, Any], title: str) -> Result:
    """A result from the JSON of ``dualpix evaluate``: means over the scenes, their spread beside them."""
    scenes: list[dict[str, Any]] = record["scenes"]
    columns = {name: _UNITS.get(name, "") for key, name in _SCORES.items() if scenes[0].get(key) is not None}
    rows = []
    for method in dict.fromkeys(scene["method"] for scene in scenes):
        mine = [scene for scene in scenes if scene["method"] == method]
        figures = {
            name: Figure.of([float(scene[key]) for scene in mine], "mean")
            for key, name in _SCORES.items()
            if name in columns
        }
        rows.append(Row(method, figures))
    sizes = ", ".join(f"{size} px" for size in record["network_working_sizes_px"] or ()) or "their default sizes"
    scored = len({scene["scene"] for scene in scenes})
    return new_result(
        title,
        f"dualpix evaluate --data {record['data']}{_count(record['data'], scored)} --json",
        columns,
        rows,
        notes=f"Networks worked at {sizes}.",
    )


def _count(data: str, scored: int) -> str:
    """The option that asks for as many rendered scenes as were scored; captures are all scored."""
    return f" --count {scored}" if data.startswith("rendered") else ""


def ablation_result(scores: Sequence[dict[str, Any]], labels: dict[str, str], title: str) -> Result:
    """A result from several JSONs of ``dualpix evaluate``, one row for each method of ``labels`` (method: label)."""
    columns: dict[str, str] = {}
    rows = {method: Row(label, {}) for method, label in labels.items()}
    for record in scores:
        for group, means in _groups(record).items():
            wanted = (
                {"ai1": ("AI(1)", "")} if group == "Pixel 4" else {"mae_m": ("MAE", "m"), "abs_rel": ("AbsRel", "")}
            )
            for key, (name, unit) in wanted.items():
                column = f"{group} {name}"
                columns[column] = unit
                for method, row in rows.items():
                    row.figures[column] = Figure.exact(float(means[method][key]))
    command = "; ".join(f"dualpix evaluate --data {record['data']} --json" for record in scores)
    return new_result(title, command, columns, list(rows.values()), notes="Means over the scenes; lower is better.")


def _groups(record: dict[str, Any]) -> dict[str, dict[str, dict[str, float]]]:
    if record["data"] == "pixel4-xin":
        return {"Pixel 4": record["mean"]}
    return {f"R6 II {group}": means for group, means in record["group_mean"].items() if group != "orbbec"}


_PAIRED = {"mae_px": "mean error, px", "ai1": "AI(1)", "abs_rel": "AbsRel", "mae_diopters": "MAE, 1/m"}
"""Of data whose truth is in px alone the first, up to an affine map the second, in metres the others."""


def paired_result(scores: Sequence[dict[str, Any]], title: str) -> Result:
    """A result from JSONs of ``dualpix evaluate --model A --model B``: every other method against the first model."""
    rows = []
    for record in scores:
        first, means = record["difference_from"], record["mean"]
        if first is None:
            raise click.UsageError(f"the scores of {record['data']} name no model: nothing is held against one")
        for method, found in record["difference"].items():
            for key in _paired_figures(record):
                one = found[key]
                low, high = one["interval_95"] or (one["mean"], one["mean"])
                figures = {first: means[first][key], "other": means[method][key], "difference": one["mean"]}
                figures |= {"95 % low": low, "95 % high": high, "scenes": one["scenes"]}
                label = f"{record['data']}, {_PAIRED[key]}: {method}"
                rows.append(Row(label, {name: Figure.exact(float(value)) for name, value in figures.items()}))
    command = "; ".join(map(_paired_command, scores))
    first = scores[0]["difference_from"]
    columns = dict.fromkeys((first, "other", "difference", "95 % low", "95 % high", "scenes"), "")
    notes = f"Lower is better; differences are paired by scene, {scores[0]['interval_of']}."
    return new_result(title, command, columns, rows, notes=notes)


def _paired_command(record: dict[str, Any]) -> str:
    scored = max(one["scenes"] for found in record["difference"].values() for one in found.values())
    named = (record["difference_from"], *record["difference"])
    models = "".join(f" --model {name}" for name in named if name not in METHODS)
    methods = ",".join((NETWORK, *(name for name in named if name in METHODS)))
    return f"dualpix evaluate --data {record['data']}{_count(record['data'], scored)} --method {methods}{models} --json"


def _paired_figures(record: dict[str, Any]) -> list[str]:
    mean = record["mean"][record["difference_from"]]
    wanted = {"disparity_px": ("mae_px",), "affine": ("ai1",), "depth_m": ("abs_rel", "mae_diopters")}
    return [key for key in wanted.get(record["protocol"]["unit"], ("ai1",)) if key in mean]


def export_result(folder: Path, title: str) -> Result:
    """A result from a folder of ``dualpix export``: size, latency and what the gate found."""
    manifest = json.loads((folder / "manifest.json").read_text())
    gate = json.loads((folder / "gate.json").read_text())
    latencies: dict[str, Any] = gate["benchmark"]["latencies"]
    metric = next(iter(gate["float"]["metrics"]), "")
    columns = {"size": "MB", "latency": "ms", "times faster than eager": "", **({metric: ""} if metric else {})}
    columns["delegated"] = "%"
    rows = [Row("float network, eager", {**_latency(latencies["eager"]), **_scored(gate["float"], metric)})]
    for recipe in gate["recipes"]:
        figures: dict[str, Figure] = {}
        if recipe.get("size_bytes"):
            figures["size"] = Figure.exact(recipe["size_bytes"] / 1e6)
        if (name := recipe["recipe"]) in latencies:
            figures |= {
                **_latency(latencies[name]),
                "times faster than eager": Figure.of(stored_ratio(gate["benchmark"], name, EAGER).samples),
            }
        figures |= _scored(recipe.get("accuracy"), metric)
        if recipe.get("delegation"):
            figures["delegated"] = Figure.exact(100 * recipe["delegation"]["compute_share"])
        if figures:
            rows.append(Row(f"{recipe['recipe']}: {recipe['outcome']}", figures))
    height, width = gate["benchmark"]["size_hw"]
    threads = gate["benchmark"]["threads"]
    return Result(
        title,
        f"dualpix export {manifest['model']['name']} --size {height}x{width}",
        manifest["commit"] or "unknown",
        manifest["machine"],
        manifest["versions"],
        columns,
        tuple(rows),
        f"Input {width}x{height}, {threads} thread(s) of the host, {gate['float']['samples']} rendered scenes; "
        f"ratios of {gate['benchmark'].get('ratios_of', 'wall time')}.",
    )


def _scored(accuracy: dict[str, Any] | None, metric: str) -> dict[str, Figure]:
    """The first metric of the float network's task, where there is one and it could be measured."""
    value = (accuracy or {}).get("metrics", {}).get(metric, {}).get("value")
    return {} if value is None else {metric: Figure.exact(value)}


def _latency(latency: dict[str, Any]) -> dict[str, Figure]:
    return {"latency": Figure.of([1e3 * s for s in latency["samples_s"]])}


@click.group()
def main() -> None:
    """Write a result file for README.md."""


def _command(function: Callable[[Path, str], Result], source: Path, name: str, title: str) -> None:
    path = RESULTS / f"{name}.json"
    function(source, title).write(path)
    click.echo(f"wrote {path}")


@main.command()
@click.argument("scores", type=_FILE)
@click.option("--name", required=True, help="Of the file; tables are in the order of the names.")
@click.option("--title", required=True, help="Of the table.")
def evaluate(scores: Path, name: str, title: str) -> None:
    """From the JSON that `dualpix evaluate --json` printed."""
    _command(lambda path, text: evaluation_result(json.loads(path.read_text()), text), scores, name, title)


@main.command()
@click.argument("scores", type=_FILE, nargs=-1, required=True)
@click.option("--label", "labels", multiple=True, required=True, help="METHOD=TEXT: a row; repeatable.")
@click.option("--name", required=True, help="Of the file in results/train.")
@click.option("--title", required=True, help="Of the table.")
def ablation(scores: tuple[Path, ...], labels: tuple[str, ...], name: str, title: str) -> None:
    """From JSONs that `dualpix evaluate --json` printed of the same methods on several data."""
    path = RESULTS / "train" / f"{name}.json"
    path.parent.mkdir(exist_ok=True)
    rows = dict(label.split("=", 1) for label in labels)
    ablation_result([json.loads(source.read_text()) for source in scores], rows, title).write(path)
    click.echo(f"wrote {path}")


@main.command()
@click.argument("scores", type=_FILE, nargs=-1, required=True)
@click.option("--name", required=True, help="Of the file in results/live.")
@click.option("--title", required=True, help="Of the table.")
def paired(scores: tuple[Path, ...], name: str, title: str) -> None:
    """From JSONs that `dualpix evaluate --model A --model B --json` printed, A the same in all."""
    path = RESULTS / "live" / f"{name}.json"
    path.parent.mkdir(exist_ok=True)
    paired_result([json.loads(source.read_text()) for source in scores], title).write(path)
    click.echo(f"wrote {path}")


@main.command()
@click.argument("folder", type=_FILE)
@click.option("--name", required=True, help="Of the file; tables are in the order of the names.")
@click.option("--title", required=True, help="Of the table.")
def export(folder: Path, name: str, title: str) -> None:
    """From a folder that `dualpix export` wrote."""
    _command(export_result, folder, name, title)


if __name__ == "__main__":
    main()
