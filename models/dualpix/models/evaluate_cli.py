"""``dualpix evaluate``: networks and the classical yardstick on data with ground truth, side by side."""

from __future__ import annotations

import json
from collections.abc import Iterator
from functools import partial
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
    Method,
    Scene,
    SceneScore,
    comparison_picture,
    dp119,
    evaluate,
    group_means,
    mean_scores,
    pixel4_xin,
    rendered,
)
from dualpix.models.predict import match_disparity, predict_disparity
from dualpix.models.zoo import DEFAULT_MODEL, load_model

_FILE = click.Path(path_type=Path)
_METHODS = ("sgbm", "network")
_COLUMNS = {
    "mae_m": "MAE m",
    "abs_rel": "AbsRel",
    "rmse_diopters": "RMSE 1/m",
    "ai1": "AI(1)",
    "ai2": "AI(2)",
    "one_minus_abs_rho": "1-|ρ|",
    "mae_px": "MAE px",
    "bad_1px": "> 1 px",
}
_CONFIDENCE_COLUMNS = {"ause": "AUSE", "measured": "measured"}
_FOLDERS = {"pixel4-xin": (pixel4_xin, "*_gt_defocus.png"), "dp119": (dp119, "*_depth_mm.png")}
"""Data in a folder: the reader, and the files that there is one of for each scene."""


def _parse_methods(ctx: click.Context, option: click.Parameter, value: str) -> tuple[str, ...]:
    names = tuple(dict.fromkeys(name.strip() for name in value.split(",")))
    unknown = [name for name in names if name not in _METHODS]
    if unknown:
        raise click.BadParameter(f"'{unknown[0]}' is none of {', '.join(_METHODS)}")
    return names


@click.command("evaluate")
@click.argument("folder", required=False, type=_FILE)
@click.option("--data", type=click.Choice([*_FOLDERS, "rendered"]), required=True, help="All but rendered read FOLDER.")
@click.option("--method", "methods", default="sgbm,network", callback=_parse_methods, help="Comma-separated.")
@click.option("--model", "models", multiple=True, default=[DEFAULT_MODEL], help="Network: name or folder; repeatable.")
@click.option(
    "--working-size", type=click.IntRange(min=32), multiple=True,
    help="Long side in px at which the networks work; several give the median of their results. Default: 1008 and 672.",
)  # fmt: skip
@click.option("--count", type=click.IntRange(1, 1000), default=8, help="Number of rendered scenes.")
@click.option("--size", type=click.IntRange(32, 4096), nargs=2, default=(192, 256), help="Of rendered scenes: H W.")
@click.option("--pictures", type=_FILE, help="Folder for one picture per scene: input, truth, every method.")
@click.option("--json", "as_json", is_flag=True, help="Results as JSON on stdout.")
def command(
    folder: Path | None,
    data: str,
    methods: tuple[str, ...],
    models: tuple[str, ...],
    working_size: tuple[int, ...],
    count: int,
    size: tuple[int, int],
    pictures: Path | None,
    as_json: bool,
) -> None:
    """Score networks beside semi-global matching on data with ground truth; lower is better in every score.

    AI(1) and AI(2) are the mean absolute and root mean square error after the best affine fit (ICCV 2019 form), ρ is
    Spearman's rank correlation with average ranks. Matching always works at 1008 px, the yardstick's size.

    dp119 (Canon R6 II, truth in m) gives errors of depth as well: disparity becomes depth by the profile that ships,
    without a fit to the scene, clamped to 0.25 ... 10 m. RMSE is that of inverse depth.

    AUSE scores the confidence: the area between the error that is left when the least sure pixels are left out and the
    least that could be, as a part of the mean error. Measured is the share of the pixels with a confidence of at least
    0.5; all other scores are of all pixels.
    """
    scenes, total = _scenes(data, folder, count, size)
    runs = _runs(methods, models, working_size)
    if pictures:
        make_output_dir(pictures)
    scores: list[SceneScore] = []
    with ProgressLine("evaluating") as line:
        for done, (scene, results) in enumerate(evaluate(scenes, runs), start=1):
            scores += [r.score for r in results]
            if pictures:
                save_picture(pictures / f"{scene.name}.png", comparison_picture(scene, results))
            line.update(done, total, scene.name)
    means = mean_scores(scores)
    if as_json:
        click.echo(
            json.dumps(_record(data, working_size, scores, means), indent=2, allow_nan=False, ensure_ascii=False)
        )
    else:
        Console().print(_table(scores, means, _COLUMNS, each=True))
        Console().print(_table(scores, means, _CONFIDENCE_COLUMNS, each=False))


def _scenes(data: str, folder: Path | None, count: int, size: tuple[int, int]) -> tuple[Iterator[Scene], int]:
    """The scenes, read or rendered as they are needed, and their number."""
    if data == "rendered":
        if folder is not None:
            raise DualpixError(f"'{folder}' was given with --data rendered", expected="no folder: scenes are rendered")
        if size[0] % 32 or size[1] % 32:
            raise DualpixError(f"rendered scenes of {size[0]} x {size[1]} px", expected="multiples of 32")
        return rendered(count, size), count
    if folder is None or not folder.is_dir():
        raise DualpixError(f"no folder '{folder}'" if folder else "no folder given", expected=f"the data of {data}")
    read, one_per_scene = _FOLDERS[data]
    return read(folder), len(list(folder.glob(one_per_scene)))


def _runs(methods: tuple[str, ...], models: tuple[str, ...], sizes: tuple[int, ...]) -> dict[str, Method]:
    runs: dict[str, Method] = {}
    for method in methods:
        if method == "sgbm":
            runs["sgbm"] = match_disparity
            continue
        for name in models:
            model = load_model(name)
            # folders may share their last name
            label = model.name if model.name not in runs else str(name)
            runs[label] = partial(predict_disparity, model=model, working_long_side_px=sizes or None)
    return runs


def _record(
    data: str, sizes: tuple[int, ...], scores: list[SceneScore], means: dict[str, dict[str, float]]
) -> dict[str, Any]:
    return {
        "data": data,
        "network_working_sizes_px": list(sizes) or None,
        "metric": "affine-invariant, ICCV 2019 form: IRLS 5 x, floor 1e-3; ranks as 'ties' says",
        "mean": means,
        "group_mean": group_means(scores),
        "scenes": [score.to_json() for score in scores],
        "versions": {"dualpix": version("dualpix"), "torch": version("torch"), "opencv": version("opencv-python")},
    }


def _table(scores: list[SceneScore], means: dict[str, dict[str, float]], shown: dict[str, str], *, each: bool) -> Table:
    """Means, after each scene's own figures if asked for."""
    columns = {key: title for key, title in shown.items() if all(key in mean for mean in means.values())}
    numbers = (Column(title, justify="right", no_wrap=True) for title in columns.values())
    # on 80 columns the method's name gives way first
    names = (Column(name, overflow="fold", min_width=width) for name, width in (("scene", 10), ("method", 6)))
    table = Table(*names, *numbers, box=box.SIMPLE_HEAD, pad_edge=False, padding=(0, 1, 0, 0))
    for score in scores if each else ():
        flat = score.to_json()
        table.add_row(score.scene, score.method, *(f"{flat[key]:.4f}" for key in columns))
    for group, of_group in {**group_means(scores), "": means}.items():
        table.add_section()
        for method, mean in of_group.items():
            label = f"mean {group}".rstrip()
            table.add_row(label, method, *(f"{mean[key]:.4f}" for key in columns), style="bold")
    return table
