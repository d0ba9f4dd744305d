"""``dualpix evaluate``: networks, classical yardsticks and maps of anybody on data with ground truth, side by side."""

from __future__ import annotations

import json
from collections.abc import Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

import click
from rich import box
from rich.console import Console
from rich.table import Column, Table

from dualpix.capture.colour_map import save_picture
from dualpix.capture.errors import DualpixError
from dualpix.capture.files import make_output_dir
from dualpix.capture.progress import ProgressLine
from dualpix.models.evaluate import (
    PROTOCOLS,
    Method,
    Pending,
    Protocol,
    Score,
    comparison_picture,
    evaluate,
    group_means,
    intervals,
    mean_scores,
    predictions_in,
    rendered,
    rendered_camera,
    rendered_protocol,
)
from dualpix.models.evaluate.figures import AFFINE, RANGES_M
from dualpix.models.evaluate.methods import NAMES, Choice, methods_for
from dualpix.models.evaluate.rendered import KINDS
from dualpix.models.evaluate.summary import RESAMPLES, SEED
from dualpix.models.zoo import DEFAULT_MODEL

_FILE = click.Path(path_type=Path)
_RENDERED = ("rendered", *(f"rendered:{kind}" for kind in KINDS))
_CONFIDENCE_COLUMNS = {"ause": "AUSE", "measured": "measured"}
_MOST_COLUMNS = 7
_RANGE_NAMES = {"0_1": "< 1 m", "1_2": "1-2 m", "2_4": "2-4 m", "over_4": "> 4 m"}
_AFFINE_FORM = "affine-invariant, ICCV 2019 form: IRLS 5 x, floor 1e-3; ranks as 'ties' says"


def _parse_methods(ctx: click.Context, option: click.Parameter, value: str | None) -> tuple[str, ...] | None:
    if value is None:
        return None
    names = tuple(dict.fromkeys(name.strip() for name in value.split(",")))
    unknown = [name for name in names if name not in NAMES]
    if unknown:
        raise click.BadParameter(f"'{unknown[0]}' is none of {', '.join(NAMES)}")
    return names


@click.command("evaluate")
@click.argument("folder", required=False, type=_FILE)
@click.option(
    "--data", type=click.Choice([*PROTOCOLS, *_RENDERED]), required=True,
    help="The protocol; all but the rendered ones read FOLDER.",
)  # fmt: skip
@click.option(
    "--method", "methods", callback=_parse_methods,
    help="Comma-separated. Of pairs: sgbm, network (default: both); of stacks: blur, sharpness, argmax (default: blur "
    "and argmax); of sharp pictures: input.",
)  # fmt: skip
@click.option("--model", "models", multiple=True, default=[DEFAULT_MODEL], help="Network: name or folder; repeatable.")
@click.option(
    "--predictions", type=_FILE, help="Folder of maps, NAME.npy .tiff .png .pfm .exr, in the protocol's unit: a method "
    "of its own. Without --method, the only one.",
)  # fmt: skip
@click.option(
    "--working-size", type=click.IntRange(min=32), multiple=True,
    help="Long side in px at which the networks work; several give the median of their results. Default: 1008 and 672.",
)  # fmt: skip
@click.option("--count", type=click.IntRange(1, 1000), default=8, help="Number of rendered scenes.")
@click.option("--size", type=click.IntRange(32, 4096), nargs=2, default=(192, 256), help="Of rendered scenes: H W.")
@click.option(
    "--protocol", "explain", is_flag=True, help="Print what the protocol is, and what it assumes; run nothing."
)
@click.option("--pictures", type=_FILE, help="Folder for one picture per scene: input, truth, every method.")
@click.option("--json", "as_json", is_flag=True, help="Results as JSON on stdout.")
def command(
    folder: Path | None,
    data: str,
    methods: tuple[str, ...] | None,
    models: tuple[str, ...],
    predictions: Path | None,
    working_size: tuple[int, ...],
    count: int,
    size: tuple[int, int],
    explain: bool,
    pictures: Path | None,
    as_json: bool,
) -> None:
    """Score methods on data with ground truth, by a published protocol; lower is better but for δ, PSNR and SSIM.

    AI(1) and AI(2) are the mean absolute and root mean square error after the best affine fit (ICCV 2019 form). 1-|ρ|
    is of rank correlations in the three forms that papers print: average ranks, dense ranks of the prediction in 8
    bits, and ties by position; on an 8-bit truth they differ several-fold.

    Data in metres give errors of depth without a fit, in m, in diopters and by range of depth. Means have a 95 %
    interval beside them: a bootstrap over the scenes.

    rendered:phone, rendered:fullframe and rendered:macro are validation sets for choosing weights: each scene is seen
    by a camera of its own, drawn around the shipped profiles.

    AUSE scores the confidence: the area between the error that is left when the least sure pixels are left out and the
    least that could be, as a part of the mean error. Measured is the share of the pixels with a confidence of at least
    0.5; all other scores are of all pixels.
    """
    protocol = rendered_protocol(data.partition(":")[2]) if data in _RENDERED else PROTOCOLS[data]
    if explain:
        click.echo(json.dumps(protocol.facts(), indent=2, ensure_ascii=False) if as_json else _explained(protocol))
        return
    pending = _pending(protocol, folder, count, size)
    runs = _runs(protocol, pending, methods, predictions, Choice(models, working_size))
    if pictures:
        make_output_dir(pictures)
    scores: list[Score] = []
    with ProgressLine("evaluating") as line:
        for done, (sample, results) in enumerate(evaluate(protocol, pending, runs), start=1):
            scores += [result.score for result in results]
            if pictures:
                name = sample.name.replace("/", "_")
                save_picture(pictures / f"{name}.png", comparison_picture(sample, results, protocol.unit))
            line.update(done, len(pending), sample.name)
    if as_json:
        record = _record(protocol, working_size, scores)
        click.echo(json.dumps(record, indent=2, allow_nan=False, ensure_ascii=False))
    else:
        _print(protocol, scores)


def _pending(protocol: Protocol, folder: Path | None, count: int, size: tuple[int, int]) -> Sequence[Pending]:
    """The scenes, to be read or rendered as they are needed."""
    if protocol.name in _RENDERED:
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
    runs = {} if predictions and methods is None else methods_for(protocol, methods, choice)
    if predictions:
        label = predictions.resolve().name
        runs[label if label not in runs else str(predictions)] = predictions_in(predictions, protocol, pending)
    return runs


def _record(protocol: Protocol, sizes: tuple[int, ...], scores: list[Score]) -> dict[str, Any]:
    return {
        "data": protocol.name,
        "protocol": protocol.facts(),
        "leaks_scale": protocol.leaks_scale or None,
        "network_working_sizes_px": list(sizes) or None,
        "metric": _AFFINE_FORM,
        "mean": mean_scores(scores),
        "interval_95": intervals(scores),
        "interval_of": f"percentile bootstrap over scenes, {RESAMPLES} resamples, seed {SEED}",
        "group_mean": group_means(scores),
        "scenes": [score.to_json() for score in scores],
        "versions": {"dualpix": version("dualpix"), "torch": version("torch"), "opencv": version("opencv-python")},
    }


def _print(protocol: Protocol, scores: list[Score]) -> None:
    console, means = Console(), mean_scores(scores)
    for columns in _parts(protocol.columns):
        console.print(_table(scores, means, columns, each=True))
    if ranges := _by_range(means):
        console.print(ranges)
    if all("ause" in mean for mean in means.values()):
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
    others = {key: title for key, title in columns.items() if key not in AFFINE}
    return [others, affine] if affine else [others]


def _cell(value: float | None) -> str:
    return "" if value is None else f"{value:.4f}"
