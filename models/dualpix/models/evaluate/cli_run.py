"""Carrying out ``dualpix evaluate``, once what is asked has been looked at: scores, and what is said of them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from importlib.metadata import version
from pathlib import Path
from typing import Any

import click
from rich import box
from rich.console import Console
from rich.table import Column, Table

from dualpix.capture.command.terminal import echo_json
from dualpix.capture.errors import DualpixError
from dualpix.capture.files import make_output_dir
from dualpix.capture.pictures.colour_map import save_picture
from dualpix.capture.progress import ProgressLine
from dualpix.models.evaluate.asked import Asked
from dualpix.models.evaluate.figures import AFFINE, RANGES_M
from dualpix.models.evaluate.methods import Choice, free_label, methods_for
from dualpix.models.evaluate.pictures import comparison_picture, sparsification_picture
from dualpix.models.evaluate.predictions import predictions_in
from dualpix.models.evaluate.protocol import Pending, Protocol
from dualpix.models.evaluate.protocol_names import METHODS, RENDERED, TAKE_FOLDERS
from dualpix.models.evaluate.protocols import PROTOCOLS
from dualpix.models.evaluate.rendered_pairs import rendered, rendered_camera, rendered_protocol
from dualpix.models.evaluate.rendered_stacks import procedural_stacks, stack_protocol
from dualpix.models.evaluate.run import evaluate
from dualpix.models.evaluate.sample import Method
from dualpix.models.evaluate.summary import (
    RESAMPLES,
    SEED,
    Score,
    group_means,
    intervals,
    mean_scores,
    paired_differences,
)

_CONFIDENCE_COLUMNS = {"ause": "AUSE", "ause_of_chance": "of chance", "measured": "measured"}
_MOST_COLUMNS = 7
SPARSIFICATION = "sparsification.png"
"""In the folder of pictures, beside one of each scene."""
_RANGE_NAMES = {"0_1": "< 1 m", "1_2": "1-2 m", "2_4": "2-4 m", "over_4": "> 4 m"}
_AFFINE_FORM = "affine-invariant, ICCV 2019 form: IRLS 5 x, floor 1e-3; ranks as 'ties' says"


def explain(data: str, frames: int, *, as_json: bool) -> None:
    """Print what a protocol is, and what it assumes; of stacks that are rendered, with so many frames."""
    protocol = _protocol(data, frames)
    if as_json:
        echo_json(protocol.facts())
    else:
        click.echo(_explained(protocol))


def evaluate_asked(asked: Asked, *, as_json: bool) -> None:
    """Score every method on every scene and show the scores.

    Raises:
        DualpixError: see :func:`~dualpix.models.zoo.load_model` and the protocols' readers.
    """
    protocol = _protocol(asked.data, asked.frames)
    pending = _pending(protocol, asked)
    choice = Choice(asked.models, asked.working_sizes_px)
    runs = _runs(protocol, pending, asked.methods, asked.predictions, choice)
    if asked.pictures:
        make_output_dir(asked.pictures)
    scores: list[Score] = []
    with ProgressLine("evaluating") as line:
        for done, (sample, results) in enumerate(evaluate(protocol, pending, runs), start=1):
            scores += [result.score for result in results]
            if asked.pictures:
                name = sample.name.replace("/", "_")
                save_picture(asked.pictures / f"{name}.png", comparison_picture(sample, results, protocol.unit))
            line.update(done, len(pending), sample.name)
    if asked.pictures and (curves := sparsification_picture(scores)) is not None:
        save_picture(asked.pictures / SPARSIFICATION, curves)
    against = _first_model(runs) if asked.models else None
    if as_json:
        echo_json(_record(protocol, asked.working_sizes_px, scores, against))
    else:
        _print(protocol, scores, against)


def _protocol(data: str, frames: int) -> Protocol:
    if data not in RENDERED:
        return PROTOCOLS[data]
    kind = data.partition(":")[2]
    return stack_protocol(kind, frames) if data in TAKE_FOLDERS else rendered_protocol(kind)


def _pending(protocol: Protocol, asked: Asked) -> Sequence[Pending]:
    """The scenes, to be read or rendered as they are needed."""
    folder, count, size = asked.folder, asked.count, asked.size_hw
    if protocol.name in TAKE_FOLDERS and folder is None:
        return procedural_stacks(protocol.name.partition(":")[2], count, size, asked.frames)
    if protocol.name in RENDERED and protocol.name not in TAKE_FOLDERS:
        if folder is not None:
            raise DualpixError(
                f"'{folder}' was given with --data {protocol.name}", expected="no folder: scenes are rendered"
            )
        kind = protocol.name.partition(":")[2]
        return rendered_camera(kind, count, size) if kind else rendered(count, size)
    if folder is None or not folder.exists():
        expected = f"the data of {protocol.name}: {protocol.layout}"
        raise DualpixError(f"no folder '{folder}'" if folder else "no folder given", expected=expected)
    return protocol.read(folder)


def _runs(
    protocol: Protocol,
    pending: Sequence[Pending],
    methods: tuple[str, ...] | None,
    predictions: Path | None,
    choice: Choice,
) -> dict[str, Method]:
    # maps alone are scored where they are all that is asked for
    names = () if predictions and methods is None else methods
    runs = methods_for(protocol, names, choice)
    if predictions:
        label = free_label((predictions.resolve().name, str(predictions), f"predictions {predictions}"), runs)
        runs[label] = predictions_in(predictions, protocol, pending)
    return runs


def _first_model(runs: Mapping[str, Method]) -> str:
    """The row that others are held against. No model has the label of a classical method; maps come last."""
    return next(label for label in runs if label not in METHODS)


def _record(protocol: Protocol, sizes: tuple[int, ...], scores: list[Score], against: str | None) -> dict[str, Any]:
    return {
        "data": protocol.name,
        "protocol": protocol.facts(),
        "leaks_scale": protocol.leaks_scale or None,
        "network_working_sizes_px": list(sizes) or None,
        "metric": _AFFINE_FORM,
        "mean": mean_scores(scores),
        "interval_95": intervals(scores),
        "interval_of": f"percentile bootstrap over scenes, {RESAMPLES} resamples, seed {SEED}",
        "difference_from": against,
        "difference": _differences(scores, against),
        "group_mean": group_means(scores),
        "scenes": [score.to_json() for score in scores],
        "versions": {"dualpix": version("dualpix"), "torch": version("torch"), "opencv": version("opencv-python")},
    }


def _differences(scores: list[Score], against: str | None) -> dict[str, dict[str, dict[str, Any]]] | None:
    """Paired with the first model's, by method and figure; None where no model was named."""
    if against is None:
        return None
    found = paired_differences(scores, against)
    return {method: {name: asdict(one) for name, one in of.items()} for method, of in found.items()}


def _print(protocol: Protocol, scores: list[Score], against: str | None) -> None:
    console, means = Console(), mean_scores(scores)
    for columns in _parts(protocol.columns):
        console.print(_table(scores, means, columns, each=True))
    for columns in _parts(protocol.columns) if against else ():
        if compared := _compared(scores, str(against), columns):
            console.print(compared)
    if ranges := _by_range(means):
        console.print(ranges)
    if any("ause" in mean for mean in means.values()):
        console.print(_table(scores, means, _CONFIDENCE_COLUMNS, each=False))
    if protocol.leaks_scale:
        console.print(f"The input leaks the scale: {protocol.leaks_scale}.", highlight=False)


def _explained(protocol: Protocol) -> str:
    """The facts, a line each."""
    lines = []
    for name, value in protocol.facts().items():
        for text in value if isinstance(value, list) else [value]:
            lines.append(f"{name.replace('_', ' ').rstrip('s') if isinstance(value, list) else name}: {text or 'no'}")
    return "\n".join(lines)


def _table(scores: list[Score], means: dict[str, dict[str, float]], shown: dict[str, str], *, each: bool) -> Table:
    """Means and their intervals, after each scene's own figures if asked for."""
    columns = {key: title for key, title in shown.items() if any(key in mean for mean in means.values())}
    numbers = (Column(title, justify="right", no_wrap=True) for title in columns.values())
    # on 80 columns the method's name gives way first
    names = (Column(name, overflow="fold", min_width=width) for name, width in (("scene", 10), ("method", 6)))
    table = Table(*names, *numbers, box=box.SIMPLE_HEAD, pad_edge=False, padding=(0, 1, 0, 0))
    for score in scores if each else ():
        table.add_row(score.scene, score.method, *(_cell(score.figures.get(key)) for key in columns))
    spread = intervals(scores)
    for group, of_group in {**group_means(scores), "": means}.items():
        table.add_section()
        for method, mean in of_group.items():
            label = f"mean {group}".rstrip()
            table.add_row(label, method, *(_cell(mean.get(key)) for key in columns), style="bold")
            if not group and each and spread[method]:
                for name, end in (("95 % low", 0), ("95 % high", 1)):
                    ends = (_cell(spread[method][key][end] if key in spread[method] else None) for key in columns)
                    table.add_row(name, method, *ends)
    return table


def _compared(scores: list[Score], against: str, shown: dict[str, str]) -> Table | None:
    """What each method's figures are above those of the first model on the same scenes."""
    found = paired_differences(scores, against)
    columns = {key: title for key, title in shown.items() if any(key in of for of in found.values())}
    if not columns:
        return None
    numbers = (Column(title, justify="right", no_wrap=True) for title in columns.values())
    names = (Column(name, overflow="fold", min_width=width) for name, width in (("paired", 10), ("method", 6)))
    title = f"difference from {against}, on the same scenes"
    table = Table(
        *names, *numbers, title=title, title_justify="left", box=box.SIMPLE_HEAD, pad_edge=False, padding=(0, 1, 0, 0)
    )
    for method, of in found.items():
        table.add_section()
        table.add_row("mean", method, *(_signed(of[k].mean if k in of else None) for k in columns), style="bold")
        for name, end in (("95 % low", 0), ("95 % high", 1)):
            ends = (of[key].interval_95 if key in of else None for key in columns)
            table.add_row(name, method, *(_signed(pair[end] if pair else None) for pair in ends))
    return table


def _by_range(means: dict[str, dict[str, float]]) -> Table | None:
    """Mean errors by range of true depth, where the truth is in m."""
    there = [name for name in RANGES_M if any(f"mae_m_{name}" in mean for mean in means.values())]
    if not there:
        return None
    kinds = {"mae_m": "MAE m", "mae_diopters": "MAE 1/m", "abs_rel": "AbsRel", "share": "share of pixels"}
    numbers = (Column(title, justify="right") for title in kinds.values())
    table = Table("true depth", "method", *numbers, box=box.SIMPLE_HEAD, pad_edge=False, padding=(0, 1, 0, 0))
    for name in there:
        for method, mean in means.items():
            table.add_row(_RANGE_NAMES[name], method, *(_cell(mean.get(f"{kind}_{name}")) for kind in kinds))
    return table


def _parts(columns: dict[str, str]) -> list[dict[str, str]]:
    """Columns in tables that fit 80 characters; the variants of the rank correlation stay together."""
    if len(columns) <= _MOST_COLUMNS:
        return [columns]
    affine = {key: title for key, title in columns.items() if key in AFFINE}
    others = [(key, title) for key, title in columns.items() if key not in AFFINE]
    count = -(-len(others) // _MOST_COLUMNS)
    each = -(-len(others) // count)
    parts = [dict(others[start : start + each]) for start in range(0, len(others), each)]
    return [*parts, affine] if affine else parts


def _signed(value: float | None) -> str:
    return "" if value is None else f"{'-' if value < 0 else '+'}{_cell(abs(value))}"


def _cell(value: float | None) -> str:
    """Of about six characters, however large: a table of eight figures fits 80 columns."""
    if value is None:
        return ""
    whole = len(f"{abs(value):.0f}")
    return f"{value:.{max(0, 5 - whole)}f}"
