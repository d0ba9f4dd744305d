"""What the commands of ``dualpix calibrate`` share: options, and how captures are read."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import click

from dualpix.capture.calibrate.planes import PlaneViews, read_views
from dualpix.capture.command.options import FILE, C, json_option, with_options
from dualpix.capture.errors import DecodeError, OutputError
from dualpix.capture.files import make_output_dir
from dualpix.capture.raw.batch.jobs import baseline_option, levels_options
from dualpix.capture.raw.develop.levels import Levels
from dualpix.capture.raw.formats.pair import right_name
from dualpix.capture.types import Baseline

extended_option = click.option(
    "-o", "--output", type=FILE, required=True, metavar="PROFILE.json", help="The profile to write or extend."
)


def reading_options(command: C) -> C:
    """How exported pairs are read, and how the result is shown."""
    return with_options(command, baseline_option, levels_options, json_option("Result as JSON on stdout."))


def check_output(output: Path) -> None:
    """Make the folder of a profile.

    Raises:
        OutputError: its name is not one of a profile.
    """
    if output.suffix.lower() != ".json":
        raise OutputError(f"the profile would be called '{output.name}'", expected="a name ending in .json")
    make_output_dir(output.parent)


def pairs_of(files: Sequence[Path], left: Path | None, right: Path | None) -> list[tuple[Path, Path | None]]:
    """Each capture with its right file where it was named; listed right files of listed left ones are no captures."""
    if left is not None and files:
        raise DecodeError("both FILES and --left were given", expected="one of the two")
    paths = [left] if left is not None else list(files)
    if not paths:
        raise DecodeError("no input", expected="FILES, or --left A --right B")
    if right is not None and len(paths) > 1:
        raise DecodeError(f"--right with {len(paths)} files", expected="one left file")
    partners = {right_name(path) for path in paths}
    return [(path, right) for path in paths if path not in partners]


def view_of(path: Path, right: Path | None, baseline: Baseline | None, levels: Levels) -> PlaneViews:
    """The views of a capture of a plane; what is to be said of them goes to stderr."""
    views = read_views(path, right, baseline, levels)
    say([f"'{path.name}': {warning}" for warning in views.warnings])
    return views


def say(warnings: Sequence[str]) -> None:
    """On stderr."""
    for warning in warnings:
        click.echo(f"dualpix: warning: {warning}", err=True)
