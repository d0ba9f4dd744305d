"""Options that the commands of ``dualpix rig`` share."""

from __future__ import annotations

from typing import get_args

import click

from dualpix.capture.command import options
from dualpix.capture.command.options import FILE, C, with_options
from dualpix.capture.rig.calibrate.board import BoardKind

__all__ = ["FILE", "board_options", "json_option", "output_option", "rig_option", "skew_option"]


def board_options(command: C) -> C:
    """Which board."""
    return with_options(
        command,
        click.option("--board", "kind", type=click.Choice(get_args(BoardKind)), default="charuco", help="Its kind."),
        click.option("--squares", type=(int, int), default=(9, 6), metavar="COLUMNS ROWS", help="Of the board."),
        click.option("--square-mm", type=float, default=25.0, help="Side of a square, measured on the print."),
    )


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
json_option = options.json_option("Result as JSON on stdout.")
