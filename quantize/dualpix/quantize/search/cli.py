"""``dualpix quantize``: find the cheapest mix of int8 and float layers within an accuracy budget.

What is asked is looked at before torch is imported: a wrong argument is answered at once.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Literal, get_args

import click

from dualpix.capture.command.given import is_given
from dualpix.capture.files import check_output_dir
from dualpix.models.data.kinds import FEWEST_FRAMES, FRAMES, MOST_FRAMES
from dualpix.models.zoo.cards import DEFAULT_MODEL, check_size, check_takes_stacks
from dualpix.quantize.kinds import Observer, Sweep
from dualpix.quantize.search.asked import Asked

_SWEEP: Sweep = "keep-one-float"
_MAX_SIDE_PX = 4096


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
@click.option(
    "--frames", type=click.IntRange(FEWEST_FRAMES, MOST_FRAMES), default=FRAMES, show_default=True,
    help="Of each scene, for networks of focus stacks.",
)  # fmt: skip
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
    frames: int,
    calibration_count: int,
    held_back_count: int,
    ranking_count: int,
    sweeps: Sweep | Literal["both"],
    observer: Observer,
    as_json: bool,
) -> None:
    """Find which layers of a network must stay float for its int8 version to keep an accuracy budget.

    MODEL is a shipped network's name, a folder with card and weights, or package.module:factory@FOLDER. Writes
    assignment.json (which layers stay float, and what was measured), frontier.png, sensitivity.csv and quantize.json
    (which data). Exit code 0: the budget holds on the scenes of the search and on those held back; 1: it does not; 2: a
    user error.
    """
    name = DEFAULT_MODEL if model == "default" else model
    check_size(name, size)
    if is_given(ctx, "frames"):
        check_takes_stacks(name, "--frames")
    check_output_dir(output)
    asked = Asked(
        model=name,
        output=output,
        budget=budget,
        size_hw=size,
        frames=frames,
        calibration_count=calibration_count,
        held_back_count=held_back_count,
        ranking_count=ranking_count,
        sweeps=get_args(Sweep) if sweeps == "both" else (sweeps,),
        observer=observer,
    )
    from dualpix.quantize.search.cli_run import search_asked

    if not search_asked(asked, as_json=as_json).within_budget:
        ctx.exit(1)
