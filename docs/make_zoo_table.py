"""One table of the networks: what each is worth on every set at hand, and what it costs; from files, none typed.

dualpix evaluate --data rendered:phone --count 32 --model NAME --model OTHER --json > scores/phone.json
dualpix export NAME --size 384x512 -o exported/NAME
dualpix profile exported/NAME -o exported/NAME/profile.json
python -m docs.make_zoo_table scores/*.json --export exported/NAME
python -m docs.make_tables

Each set gives its mean error in the unit of its truth, with the interquartile range over its scenes. What a network was
not measured on stays empty. All exports must be of one size, which the title names.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import click
from benchmarks.record import Figure, Result, Row, new_result
from docs.make_tables import RESULTS

from dualpix.capture.errors import DualpixError
from dualpix.export.bench import EAGER, stored_ratio
from dualpix.export.profile.result import read_profiles
from dualpix.models.evaluate.protocol_names import PROTOCOLS, RENDERED

RESULT = RESULTS / "zoo" / "1-zoo.json"
FP32, INT8 = "xnnpack-fp32", "xnnpack-int8"
PROFILE = "profile.json"
_SCORES = {"mae_px": ("MAE", "px"), "mae_m": ("MAE", "m"), "ai1": ("AI(1)", "")}
"""What a set is shown by: the first of these that it has."""
_EDGES = {"edge_mae_px": ("edge MAE", "px"), "edge_ai1": ("edge AI(1)", "")}
_COSTS = {
    "parameters": "k",
    "work": "GMAC",
    "int8 loss": "%",
    "float: times faster than eager": "",
    "int8: times faster than float": "",
    "memory, int8": "MB",
}
_FILE = click.Path(path_type=Path, exists=True)


def zoo_result(scores: Sequence[dict[str, Any]], exports: Sequence[Path]) -> Result:
    """The table.

    Args:
        scores: what ``dualpix evaluate --json`` printed, one for each set of data.
        exports: folders of ``dualpix export``, with ``profile.json`` of ``dualpix profile`` where memory is known.

    Raises:
        DualpixError: two files are of one set, exports are of different sizes, or nobody scored an exported network.
    """
    columns: dict[str, str] = {}
    figures: dict[str, dict[str, Figure]] = {}
    order = [*RENDERED, *PROTOCOLS]
    for record in sorted(scores, key=lambda record: order.index(record["data"])):
        for column, unit, method, figure in _scored(record):
            if column in figures.setdefault(method, {}):
                raise DualpixError(f"{method} has two scores on {record['data']}", expected="one file of each set")
            columns[column] = unit
            figures[method][column] = figure
    shapes = {tuple(_read(folder, "gate.json")["benchmark"]["size_hw"]) for folder in exports}
    if len(shapes) > 1:
        raise DualpixError(f"exports of {sorted(shapes)} (height, width)", expected="one size")
    for folder in exports:
        name = _read(folder, "gate.json")["model"]
        if name not in figures:
            raise DualpixError(f"no score of '{name}', which '{folder}' exports", expected=", ".join(figures))
        figures[name] |= _costs(folder)
    used = {name for row in figures.values() for name in row}
    columns |= {name: unit for name, unit in _COSTS.items() if name in used}
    size = "; cost at " + " x ".join(map(str, next(iter(shapes)))) + " px, 1 thread" if shapes else ""
    return new_result(
        f"Networks of the zoo{size}",
        "python -m docs.make_zoo_table, of files that dualpix evaluate, export and profile wrote",
        columns,
        [Row(name, row) for name, row in figures.items()],
        notes="Lower is better but for times faster. int8 loss: of the first metric, relative to float.",
    )


def _scored(record: dict[str, Any]) -> list[tuple[str, str, str, Figure]]:
    """(column, unit, method, figure) of one set: its error, and that near edges where there is one."""
    found = []
    scenes: list[dict[str, Any]] = record["scenes"]
    for kinds in (_SCORES, _EDGES):
        key = next((key for key in kinds if any(scene.get(key) is not None for scene in scenes)), None)
        if key is None:
            continue
        name, unit = kinds[key]
        for method in dict.fromkeys(scene["method"] for scene in scenes):
            values = [float(s[key]) for s in scenes if s["method"] == method and s.get(key) is not None]
            if values:
                found.append((f"{record['data']}: {name}", unit, method, Figure.of(values, "mean")))
    return found


def _costs(folder: Path) -> dict[str, Figure]:
    gate, manifest = _read(folder, "gate.json"), _read(folder, "manifest.json")
    recipes = {entry["recipe"]: entry for entry in gate["recipes"]}
    bench = gate["benchmark"]
    costs = {"parameters": Figure.exact(manifest["model"]["parameters"] / 1e3)}
    works = [entry["delegation"]["total_macs"] for entry in recipes.values() if entry["delegation"]]
    if works:
        costs["work"] = Figure.exact(max(works) / 1e9)
    loss = recipes.get(INT8, {}).get("metric_loss")
    if loss is not None:
        costs["int8 loss"] = Figure.exact(100 * loss)
    ratios = {"float: times faster than eager": (FP32, EAGER), "int8: times faster than float": (INT8, FP32)}
    for column, (name, over) in ratios.items():
        if {name, over} <= set(bench["latencies"]):
            costs[column] = Figure.of(stored_ratio(bench, name, over).samples)
    if (peak := _peak_bytes(folder)) is not None:
        costs["memory, int8"] = Figure.exact(peak / 1e6)
    return costs


def _peak_bytes(folder: Path) -> int | None:
    """Of the int8 program, where it was profiled."""
    path = folder / PROFILE
    profiles = read_profiles(path) if path.is_file() else ()
    return next((p.memory.peak_rss_bytes for p in profiles if p.subject.recipe == INT8), None)


def _read(folder: Path, name: str) -> dict[str, Any]:
    content: dict[str, Any] = json.loads((folder / name).read_text())
    return content


@click.command()
@click.argument("scores", type=_FILE, nargs=-1, required=True)
@click.option("--export", "exports", type=_FILE, multiple=True, help="Folder of an export; repeatable.")
def main(scores: tuple[Path, ...], exports: tuple[Path, ...]) -> None:
    """Write the table's file from what `dualpix evaluate --json` printed and from exports."""
    zoo_result([json.loads(path.read_text()) for path in scores], exports).write(RESULT)
    click.echo(f"wrote {RESULT}")


if __name__ == "__main__":
    main()
