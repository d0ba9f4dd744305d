"""``dualpix calibrate``: measure a camera once, use the profile for its captures."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import click
from rich.console import Console
from rich.table import Table

from dualpix.capture.calibrate.profile import write_profile
from dualpix.capture.calibrate.shading import Calibration, Sheet, calibrate, picture, read_sheet
from dualpix.capture.colour_map import save_picture
from dualpix.capture.errors import DecodeError, OutputError
from dualpix.capture.files import make_output_dir
from dualpix.capture.progress import ProgressLine
from dualpix.capture.raw.pair import right_name
from dualpix.capture.types import Baseline

_FILE = click.Path(path_type=Path)


@click.group("calibrate")
def command() -> None:
    """Measure what a camera does to its two halves, and keep it as a small JSON profile."""


@command.command("shading")
@click.argument("files", nargs=-1, type=_FILE)
@click.option("-o", "--output", type=_FILE, required=True, metavar="PROFILE.json", help="The profile to write.")
@click.option("--left", type=_FILE, help="Left file of a pair whose names do not tell.")
@click.option("--right", type=_FILE, help="Right file of a pair: with --left, or with one left FILE.")
@click.option("--baseline", type=click.Choice(["x", "y"]), help="Disparity axis of an exported pair [default: x].")
@click.option("--json", "as_json", is_flag=True, help="Result as JSON on stdout.")
def shading(
    files: tuple[Path, ...],
    output: Path,
    left: Path | None,
    right: Path | None,
    baseline: Baseline | None,
    as_json: bool,
) -> None:
    """Make a shading profile from captures of a white sheet.

    FILES are captures of evenly lit white paper that fills the frame, out of focus, at the aperture and focal length of
    the pictures to come: raw files, or the left files of pairs. They are averaged. Beside PROFILE.json a picture
    PROFILE.png shows both halves, their ratio and what is left. Use it by `dualpix decode --shading PROFILE.json`.
    """
    if output.suffix.lower() != ".json":
        raise OutputError(f"the profile would be called '{output.name}'", expected="a name ending in .json")
    make_output_dir(output.parent)
    result = calibrate(_read(_pairs(files, left, right), baseline))
    write_profile(output, result.profile)
    save_picture(output.with_suffix(".png"), picture(result))
    for warning in result.warnings:
        click.echo(f"dualpix: warning: {warning}", err=True)
    if as_json:
        click.echo(json.dumps(_record(result, output), indent=2, ensure_ascii=False))
    else:
        Console().print(_table(result, output))


def _pairs(files: Sequence[Path], left: Path | None, right: Path | None) -> list[tuple[Path, Path | None]]:
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


def _read(pairs: Sequence[tuple[Path, Path | None]], baseline: Baseline | None) -> list[Sheet]:
    sheets = []
    with ProgressLine("reading sheets") as line:
        for index, (path, right) in enumerate(pairs):
            line.update(index, len(pairs), path.name, important=len(pairs) > 1)
            sheets.append(read_sheet(path, right, baseline))
        line.update(len(pairs), len(pairs), important=False)
    return sheets


def _record(result: Calibration, output: Path) -> dict[str, Any]:
    profile = result.profile.to_json()
    known = {k: v for k, v in profile.items() if k not in ("shading", "psf", "noise")}
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
