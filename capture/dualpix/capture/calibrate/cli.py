"""``dualpix calibrate``: measure a camera once, use the profile for its captures.

Each sub-command writes its own facts and a picture; what an earlier one has measured of the same camera stays.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import click
from rich.console import Console
from rich.table import Table

from dualpix.capture.calibrate.command_line import check_output, pairs_of, reading_options, say
from dualpix.capture.calibrate.gain_cli import gain
from dualpix.capture.calibrate.psf_cli import psf
from dualpix.capture.calibrate.shading import Calibration, Sheet, calibrate, picture, read_sheet
from dualpix.capture.command.options import FILE
from dualpix.capture.command.terminal import echo_json
from dualpix.capture.pictures.colour_map import save_picture
from dualpix.capture.profiles.profile import kept_facts, write_profile
from dualpix.capture.progress import ProgressLine
from dualpix.capture.raw.batch.jobs import pair_options
from dualpix.capture.raw.develop.levels import Levels
from dualpix.capture.types import Baseline


@click.group("calibrate")
def command() -> None:
    """Measure what a camera does to its two halves, and keep it as a small JSON profile."""


@command.command("shading")
@click.argument("files", nargs=-1, type=FILE)
@click.option("-o", "--output", type=FILE, required=True, metavar="PROFILE.json", help="The profile to write.")
@pair_options
@reading_options
def shading(
    files: tuple[Path, ...],
    output: Path,
    left: Path | None,
    right: Path | None,
    baseline: Baseline | None,
    black: float | None,
    white: float | None,
    as_json: bool,
) -> None:
    """Make a shading profile from captures of a white sheet.

    FILES are captures of evenly lit white paper that fills the frame, out of focus, at the aperture and focal length of
    the pictures to come: raw files, or the left files of pairs. They are averaged. Beside PROFILE.json a picture
    PROFILE.png shows both halves, their ratio and what is left. Use it by `dualpix decode --shading PROFILE.json`.
    """
    check_output(output)
    result = calibrate(_read(pairs_of(files, left, right), baseline, Levels(black, white)))
    result = replace(result, profile=kept_facts(output, result.profile))
    write_profile(output, result.profile)
    save_picture(output.with_suffix(".png"), picture(result))
    say(result.warnings)
    if as_json:
        echo_json(_record(result, output))
    else:
        Console().print(_table(result, output))


def _read(pairs: Sequence[tuple[Path, Path | None]], baseline: Baseline | None, levels: Levels) -> list[Sheet]:
    sheets = []
    with ProgressLine("reading sheets") as line:
        for index, (path, right) in enumerate(pairs):
            line.update(index, len(pairs), path.name, important=len(pairs) > 1)
            sheet = read_sheet(path, right, baseline, levels)
            say([f"'{path.name}': {warning}" for warning in sheet.warnings])
            sheets.append(sheet)
        line.update(len(pairs), len(pairs), important=False)
    return sheets


def _record(result: Calibration, output: Path) -> dict[str, Any]:
    profile = result.profile.to_json()
    known = {k: v for k, v in profile.items() if k not in ("shading", "gain", "psf", "noise", "sensor")}
    return {
        "written": [str(output), str(output.with_suffix(".png"))],
        **known,
        "before": result.before.to_json(),
        "after": result.after.to_json(),
        "cross_validated": result.cross_validated,
        "warnings": list(result.warnings),
    }


def _table(result: Calibration, output: Path) -> Table:
    profile = result.profile
    settings = [
        profile.camera,
        profile.lens,
        f"f/{profile.f_number:g}" if profile.f_number else None,
        f"{profile.focal_length_mm:g} mm" if profile.focal_length_mm else None,
    ]
    sheets = f"{len(profile.sources)} sheet{'s' if len(profile.sources) > 1 else ''}"
    title = ", ".join([output.name, sheets, *(s for s in settings if s)])
    table = Table("left against right", "rms", "worst of 16 bands", title=title)
    after = "after (each by the others)" if result.cross_validated else "after (on itself)"
    for name, value in (("before", result.before), (after, result.after)):
        table.add_row(name, f"{value.rms:.2f} %", f"{value.worst_band:.2f} %")
    return table


command.add_command(gain)
command.add_command(psf)
