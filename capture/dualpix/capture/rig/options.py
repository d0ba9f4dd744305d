"""Options that the commands of ``dualpix rig`` share."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TypeVar, get_args

import click

from dualpix.capture.rig.board import BoardKind

FILE = click.Path(path_type=Path)
C = TypeVar("C", bound=Callable[..., object])


def board_options(command: C) -> C:
    """Which board."""
    options = (
        click.option("--board", "kind", type=click.Choice(get_args(BoardKind)), default="charuco", help="Its kind."),
        click.option("--squares", type=(int, int), default=(9, 6), metavar="COLUMNS ROWS", help="Of the board."),
        click.option("--square-mm", type=float, default=25.0, help="Side of a square, measured on the print."),
    )
    for option in reversed(options):
        command = option(command)
    return command


def skew_option(command: C) -> C:
    """How far apart in time a pair may be."""
    return click.option(
        "--max-skew-ms",
        type=click.FloatRange(0),
        default=20.0,
        help="Largest time between the two releases, where it is known.",
    )(command)


rig_option = click.option("--rig", "rig_file", type=FILE, required=True, help="rig.json of `dualpix rig calibrate`.")
output_option = click.option("-o", "--output", type=FILE, required=True, help="Folder of the results.")
json_option = click.option("--json", "as_json", is_flag=True, help="Result as JSON on stdout.")
