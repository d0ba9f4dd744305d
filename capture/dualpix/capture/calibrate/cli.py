"""``dualpix calibrate``: measure a camera once, use the profile for its captures.

Each sub-command writes its own facts and a picture; what an earlier one has measured of the same camera stays.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
import numpy as np
from rich.console import Console
from rich.table import Table

from dualpix.capture.calibrate.planes import Plane, PlaneViews, check_distances, measure_plane, read_views
from dualpix.capture.calibrate.shading import Calibration, Sheet, calibrate, picture, read_sheet
from dualpix.capture.command.lens_options import LensNumber
from dualpix.capture.command.options import FILE, C, json_option, with_options
from dualpix.capture.command.terminal import echo_json
from dualpix.capture.errors import DecodeError, OutputError
from dualpix.capture.files import make_output_dir
from dualpix.capture.pictures.colour_map import save_picture
from dualpix.capture.profiles.facts import PsfGrid
from dualpix.capture.profiles.profile import CameraProfile, kept_facts, write_profile
from dualpix.capture.progress import ProgressLine
from dualpix.capture.raw.batch.jobs import baseline_option, levels_options, pair_options
from dualpix.capture.raw.develop.levels import Levels
from dualpix.capture.raw.formats.pair import right_name
from dualpix.capture.types import Baseline

if TYPE_CHECKING:
    from dualpix.capture.calibrate.gain import GainResult


_extended = click.option(
    "-o", "--output", type=FILE, required=True, metavar="PROFILE.json", help="The profile to write or extend."
)


def _reading_options(command: C) -> C:
    """How exported pairs are read, and how the result is shown."""
    return with_options(command, baseline_option, levels_options, json_option("Result as JSON on stdout."))


@click.group("calibrate")
def command() -> None:
    """Measure what a camera does to its two halves, and keep it as a small JSON profile."""


@command.command("shading")
@click.argument("files", nargs=-1, type=FILE)
@click.option("-o", "--output", type=FILE, required=True, metavar="PROFILE.json", help="The profile to write.")
@pair_options
@_reading_options
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
    _check_output(output)
    result = calibrate(_read(_pairs(files, left, right), baseline, Levels(black, white)))
    result = replace(result, profile=kept_facts(output, result.profile))
    write_profile(output, result.profile)
    save_picture(output.with_suffix(".png"), picture(result))
    _say(result.warnings)
    if as_json:
        echo_json(_record(result, output))
    else:
        Console().print(_table(result, output))


@command.command("gain")
@click.argument("planes", nargs=-1, type=FILE)
@_extended
@click.option(
    "--distances", required=True, metavar="M,M,...", help="Distance of each plane from the lens in m; one for all."
)
@click.option(
    "--focus-distance-m",
    "focus",
    metavar="M[,M...]",
    help="From the lens, of each capture or all [default: from the files, else fitted].",
)
@click.option(
    "--focal-length-mm",
    type=LensNumber("focal_length_mm"),
    help="With f-number and pitch: the gain relative to the blur.",
)
@click.option("--f-number", type=LensNumber("f_number"))
@click.option(
    "--pixel-pitch-um",
    type=LensNumber("pixel_pitch_um"),
    help="Of the decoded view; sensor width / view width for resized exports.",
)
@_reading_options
def gain(
    planes: tuple[Path, ...],
    output: Path,
    distances: str,
    focus: str | None,
    focal_length_mm: float | None,
    f_number: float | None,
    pixel_pitch_um: float | None,
    baseline: Baseline | None,
    black: float | None,
    white: float | None,
    as_json: bool,
) -> None:
    """Measure the disparity gain on textured planes at known distances.

    PLANES are captures of something flat and detailed that fills the frame, parallel to the sensor: a poster, a printed
    page, gravel. Two distances or more, best on both sides of the focus plane, without refocusing; or one plane and
    several focus distances, all of them given. Raw files, or the left files of pairs. The gain belongs to the aperture:
    use that of the pictures to come. Beside PROFILE.json a picture PROFILE-gain.png shows the fit and what is left.
    """
    from dualpix.capture.calibrate import gain as gain_module

    _check_output(output)
    pairs = _pairs(planes, None, None)
    distance_m = _metres(distances, "--distances", len(pairs))
    focus_m = None if focus is None else _metres(focus, "--focus-distance-m", len(pairs), infinite=True)
    lens = gain_module.LensFacts(
        focal_length_mm,
        f_number,
        pixel_pitch_um,
    )
    measured, width_px = _measured(pairs, distance_m, focus_m, baseline, Levels(black, white))
    result = gain_module.fit_gain(measured, lens, view_width_px=width_px)
    profile = kept_facts(output, result.profile)
    write_profile(output, profile)
    shown = output.with_name(f"{output.stem}-gain.png")
    save_picture(shown, gain_module.picture(result))
    _say(result.warnings)
    if as_json:
        echo_json(_gain_record(result, [output, shown]))
    else:
        Console().print(_gain_table(result, output))


@command.command("psf")
@click.argument("files", nargs=-1, type=FILE)
@_extended
@click.option("--sharp", type=FILE, help="The same plane stopped down: its left file, or a raw.")
@click.option("--size-px", type=int, default=31, show_default=True, help="Side of the kernels to solve for.")
@click.option(
    "--cells", nargs=2, type=int, default=(6, 8), show_default=True, metavar="ROWS COLUMNS", help="Of kernel grids."
)
@click.option(
    "--field",
    nargs=4,
    type=float,
    default=(0.0, 0.0, 1.0, 1.0),
    metavar="TOP LEFT BOTTOM RIGHT",
    help="Part of the picture that kernel grids tile, 0 to 1.",
)
@click.option(
    "--picture",
    "size",
    nargs=2,
    type=int,
    metavar="WIDTH HEIGHT",
    help="Samples of the camera's pictures, for kernel grids.",
)
@click.option("--camera", help="Whose kernel grids these are.")
@click.option(
    "--keep-kernels", "step", type=int, metavar="STEP", help="Keep the kernels too, one value per STEP px (odd)."
)
@_reading_options
def psf(
    files: tuple[Path, ...],
    output: Path,
    sharp: Path | None,
    size_px: int,
    cells: tuple[int, int],
    field: tuple[float, float, float, float],
    size: tuple[int, int] | None,
    camera: str | None,
    step: int | None,
    baseline: Baseline | None,
    black: float | None,
    white: float | None,
    as_json: bool,
) -> None:
    """Measure the blur of both halves over the field.

    Either FILES is a capture of a detailed plane out of focus, wide open, and --sharp the same stopped down, from a
    tripod and without refocusing; or FILES are two kernel grids, LEFT.npy RIGHT.npy, of ROWS x COLUMNS odd square
    kernels each. Beside PROFILE.json a picture PROFILE-psf.png shows kernels, model and gain.
    """
    from dualpix.capture.calibrate import psf as psf_module

    _check_output(output)
    if files and all(f.suffix.lower() == ".npy" for f in files) and sharp is None:
        if len(files) != 2:
            raise DecodeError(f"{len(files)} kernel grids", expected="two: LEFT.npy RIGHT.npy")
        if size is None:
            raise DecodeError("kernel grids do not say the picture's size", expected="--picture WIDTH HEIGHT")
        if not (0 <= field[0] < field[2] <= 1 and 0 <= field[1] < field[3] <= 1):
            raise DecodeError(f"--field {field}", expected="TOP < BOTTOM and LEFT < RIGHT, 0 to 1")
        if min(cells) < 1 or max(cells) > 256 or min(size) < 1 or max(size) > 65536:
            raise DecodeError(f"--cells {cells}, --picture {size}", expected="1 to 256, and 1 to 65536")
        kernels = psf_module.read_kernels(files[0], files[1], cells)
        grid = psf_module.measure_psf(kernels, size[0], field=field)
        profile = CameraProfile((size[1], size[0]), camera=camera, baseline=baseline or "x")
        how = "given kernel grids"
    else:
        if len(files) != 1 or sharp is None:
            raise DecodeError(
                f"{len(files)} captures and {'a' if sharp else 'no'} --sharp",
                expected="one blurred capture with --sharp, or LEFT.npy RIGHT.npy",
            )
        levels = Levels(black, white)
        clear, blurred = (_view(path, None, baseline, levels) for path in (sharp, files[0]))
        kernels = psf_module.deconvolve(clear, blurred, size_px)
        grid = psf_module.measure_psf(kernels, blurred.width_on_sensor_px)
        meta = blurred.meta
        profile = CameraProfile(
            blurred.size_hw,
            baseline=blurred.baseline,
            camera=meta.camera,
            lens=meta.lens_model,
            f_number=meta.f_number,
            focal_length_mm=meta.focal_length_mm,
        )
        how = f"non-blind least squares, {sharp.name} to {files[0].name}, kernels of {size_px} px"
    grid = grid if step is None else psf_module.with_kernels(grid, kernels, step)
    known = int(kernels.known.sum())
    notes = {"psf": f"{how}; {known} of {kernels.known.size} cells measured"}
    sources = tuple(f.name for f in (*files, *([sharp] if sharp else [])))
    profile = kept_facts(output, replace(profile, psf=grid, notes=notes, sources=sources))
    if profile.disparity_gain is None:
        profile = replace(profile, disparity_gain=float(f"{float(grid.gain.mean()):.4g}"))
    write_profile(output, profile)
    shown = output.with_name(f"{output.stem}-psf.png")
    save_picture(shown, psf_module.picture(kernels, grid))
    if as_json:
        echo_json(_psf_record(grid, known, [output, shown]))
    else:
        Console().print(_psf_table(grid, known, output))


def _check_output(output: Path) -> None:
    if output.suffix.lower() != ".json":
        raise OutputError(f"the profile would be called '{output.name}'", expected="a name ending in .json")
    make_output_dir(output.parent)


def _metres(text: str, option: str, count: int, *, infinite: bool = False) -> list[float]:
    """Comma-separated distances in m, one for each capture or one for all."""
    try:
        values = [float(part) for part in text.split(",")]
    except ValueError as error:
        raise DecodeError(f"{option} {text}", expected="metres, as in 0.6,1.5") from error
    check_distances([v for v in values if not (infinite and v == float("inf"))], option.strip("-"))
    if len(values) == 1:
        return values * count
    if len(values) != count:
        raise DecodeError(
            f"{count} captures and {len(values)} of {option}", expected="one for each capture, or one for all"
        )
    return values


def _measured(
    pairs: Sequence[tuple[Path, Path | None]],
    distance_m: Sequence[float],
    focus_m: Sequence[float] | None,
    baseline: Baseline | None,
    levels: Levels,
) -> tuple[list[Plane], int]:
    planes, width_px = [], 0
    with ProgressLine("measuring planes") as line:
        for index, (path, right) in enumerate(pairs):
            line.update(index, len(pairs), path.name, important=len(pairs) > 1)
            views = _view(path, right, baseline, levels)
            width_px = views.width_on_sensor_px
            focus = views.meta.focus_distance_m if focus_m is None else focus_m[index]
            planes.append(measure_plane(views, distance_m[index], focus))
        line.update(len(pairs), len(pairs), important=False)
    return planes, width_px


def _view(path: Path, right: Path | None, baseline: Baseline | None, levels: Levels) -> PlaneViews:
    views = read_views(path, right, baseline, levels)
    _say([f"'{path.name}': {warning}" for warning in views.warnings])
    return views


def _say(warnings: Sequence[str]) -> None:
    for warning in warnings:
        click.echo(f"dualpix: warning: {warning}", err=True)


def _gain_record(result: GainResult, written: Sequence[Path]) -> dict[str, Any]:
    field = result.gain.to_json()
    matched = result.matched_slope_px
    return {
        "written": [str(path) for path in written],
        "disparity_gain": result.profile.disparity_gain,
        "slope_px": round(result.gain.slope_px, 4),
        "block_matched_slope_px": None if matched is None else round(matched, 4),
        "fitted_focus_distance_m": result.fitted_focus_m,
        **{key: value for key, value in field.items() if key not in ("relative", "planes")},
        "relative_over_field": [float(result.gain.relative.min()), float(result.gain.relative.max())],
        "planes": [
            {**record, "cells": int(np.isfinite(plane.disparity_px).sum()), "block_matched_px": plane.matched_px}
            for record, plane in zip(field["planes"], result.planes, strict=True)
        ],
        "warnings": list(result.warnings),
    }


def _gain_table(result: GainResult, output: Path) -> Table:
    field, kappa = result.gain, result.profile.disparity_gain
    low, high = 100 * field.relative.min(), 100 * field.relative.max()
    caption = (
        f"{field.slope_px_per_diopter:.3f} px per diopter, {low:.0f}..{high:.0f} % over the field; "
        f"focus {field.focus_distance_m:.3g} m{' (fitted)' if field.focus_fitted else ''}; "
        f"rms of cells {field.residual_px:.3f} px"
    )
    title = f"{output.name}: a = {field.slope_px:.3f} px" + ("" if kappa is None else f", gain {kappa:.3f}")
    table = Table("plane", "distance", "disparity", "predicted", "cells", title=title, caption=caption)
    for plane, record in zip(result.planes, field.planes, strict=True):
        table.add_row(
            record.name,
            f"{record.distance_m:g} m",
            f"{record.disparity_px:+.3f} ± {record.sigma_px:.3f} px",
            f"{record.predicted_px:+.3f} px",
            f"{int(np.isfinite(plane.disparity_px).sum())} of {plane.disparity_px.size}",
        )
    return table


_PSF_ROWS = {
    "diameter_px": "blur diameter (px)",
    "separation_px": "centroid distance (px)",
    "gain": "centroid distance / diameter",
    "coc_px": "model: disc (px)",
    "edge_relative": "model: relative edge",
    "rim": "model: rim",
    "split_offset": "model: split offset",
    "residual": "model: relative residual",
}


def _psf_record(grid: PsfGrid, known: int, written: Sequence[Path]) -> dict[str, Any]:
    values = {name: getattr(grid, name).astype(float) for name in _PSF_ROWS}
    return {
        "written": [str(path) for path in written],
        "cells_measured": known,
        **{
            name: {"mean": float(v.mean()), "least": float(v.min()), "most": float(v.max())}
            for name, v in values.items()
        },
    }


def _psf_table(grid: PsfGrid, known: int, output: Path) -> Table:
    table = Table(
        "", "mean", "least", "most", title=f"{output.name}: {known} of {grid.diameter_px.size} cells measured"
    )
    for name, text in _PSF_ROWS.items():
        values = getattr(grid, name)
        table.add_row(text, *(f"{float(v):.3f}" for v in (values.mean(), values.min(), values.max())))
    return table


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


def _read(pairs: Sequence[tuple[Path, Path | None]], baseline: Baseline | None, levels: Levels) -> list[Sheet]:
    sheets = []
    with ProgressLine("reading sheets") as line:
        for index, (path, right) in enumerate(pairs):
            line.update(index, len(pairs), path.name, important=len(pairs) > 1)
            sheet = read_sheet(path, right, baseline, levels)
            _say([f"'{path.name}': {warning}" for warning in sheet.warnings])
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
