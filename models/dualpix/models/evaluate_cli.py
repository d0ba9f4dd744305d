"""``dualpix evaluate``: networks and the classical yardstick on data with ground truth, side by side.

What is asked is looked at before torch is imported: a wrong argument is answered at once.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import click

from dualpix.capture.errors import DualpixError
from dualpix.capture.files import check_output_dir
from dualpix.models.shipped import DEFAULT_MODEL, model_folder

_FILE = click.Path(path_type=Path)
_METHODS = ("sgbm", "network")
_RENDERED = "rendered"
_FILE_OF_SCENE = {"pixel4-xin": "*_gt_defocus.png", "dp119": "*_depth_mm.png"}
"""Data in a folder: the files that there is one of for each scene."""
_MULTIPLE_PX = 32
"""Of the sides of rendered scenes."""


@dataclass(frozen=True)
class Asked:
    """What the user asks, checked as far as that goes without the data."""

    data: Literal["pixel4-xin", "dp119", "rendered"]
    folder: Path | None
    """None for rendered scenes."""
    count: int
    """Scenes."""
    size_hw: tuple[int, int]
    """Of rendered scenes, px."""
    methods: tuple[str, ...]
    models: tuple[str, ...]
    working_sizes_px: tuple[int, ...]
    """Long sides; empty for the network's own."""
    pictures: Path | None


def _parse_methods(ctx: click.Context, option: click.Parameter, value: str) -> tuple[str, ...]:
    names = tuple(dict.fromkeys(name.strip() for name in value.split(",")))
    unknown = [name for name in names if name not in _METHODS]
    if unknown:
        raise click.BadParameter(f"'{unknown[0]}' is none of {', '.join(_METHODS)}")
    return names


@click.command("evaluate")
@click.argument("folder", required=False, type=_FILE)
@click.option(
    "--data", type=click.Choice([*_FILE_OF_SCENE, _RENDERED]), required=True, help="All but rendered read FOLDER."
)
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
    data: Literal["pixel4-xin", "dp119", "rendered"],
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
    total = _count(data, folder, count, size)
    if "network" in methods:
        for model in models:
            model_folder(model)
    if pictures is not None:
        check_output_dir(pictures)
    asked = Asked(data, folder, total, size, methods, models, working_size, pictures)
    from dualpix.models.evaluate_run import evaluate_asked

    evaluate_asked(asked, as_json=as_json)


def _count(data: str, folder: Path | None, count: int, size: tuple[int, int]) -> int:
    """The number of scenes; whether there can be any."""
    if data == _RENDERED:
        if folder is not None:
            raise DualpixError(f"'{folder}' was given with --data rendered", expected="no folder: scenes are rendered")
        if size[0] % _MULTIPLE_PX or size[1] % _MULTIPLE_PX:
            raise DualpixError(f"rendered scenes of {size[0]} x {size[1]} px", expected=f"multiples of {_MULTIPLE_PX}")
        return count
    if folder is None or not folder.is_dir():
        raise DualpixError(f"no folder '{folder}'" if folder else "no folder given", expected=f"the data of {data}")
    found = len(list(folder.glob(_FILE_OF_SCENE[data])))
    if not found:
        raise DualpixError(f"'{folder}' holds no {_FILE_OF_SCENE[data]}", expected=f"the data of {data}")
    return found
