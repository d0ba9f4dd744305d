"""``dualpix calibrate psf``: the blur of both halves over the field."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
from rich.console import Console
from rich.table import Table

from dualpix.capture.calibrate.command_line import check_output, extended_option, reading_options, view_of
from dualpix.capture.command.options import FILE
from dualpix.capture.command.terminal import echo_json
from dualpix.capture.errors import DecodeError
from dualpix.capture.pictures.colour_map import save_picture
from dualpix.capture.profiles.facts import PsfGrid
from dualpix.capture.profiles.profile import CameraProfile, kept_facts, write_profile
from dualpix.capture.raw.develop.levels import Levels
from dualpix.capture.types import Baseline

if TYPE_CHECKING:
    from dualpix.capture.calibrate.psf import Kernels


@click.command("psf")
@click.argument("files", nargs=-1, type=FILE)
@extended_option
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
@reading_options
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

    check_output(output)
    if files and all(f.suffix.lower() == ".npy" for f in files) and sharp is None:
        measured = _of_grids(files, cells, field, size, camera, baseline)
    else:
        measured = _of_planes(files, sharp, size_px, baseline, (black, white))
    kernels, grid = measured.kernels, measured.grid
    grid = grid if step is None else psf_module.with_kernels(grid, kernels, step)
    known = int(kernels.known.sum())
    notes = {"psf": f"{measured.how}; {known} of {kernels.known.size} cells measured"}
    sources = tuple(f.name for f in (*files, *([sharp] if sharp else [])))
    profile = kept_facts(output, replace(measured.profile, psf=grid, notes=notes, sources=sources))
    if profile.disparity_gain is None:
        profile = replace(profile, disparity_gain=float(f"{float(grid.gain.mean()):.4g}"))
    write_profile(output, profile)
    shown = output.with_name(f"{output.stem}-psf.png")
    save_picture(shown, psf_module.picture(kernels, grid))
    if as_json:
        echo_json(_psf_record(grid, known, [output, shown]))
    else:
        Console().print(_psf_table(grid, known, output))


@dataclass(frozen=True)
class _Measured:
    kernels: Kernels
    grid: PsfGrid
    profile: CameraProfile
    """Without the grid."""
    how: str


def _of_grids(
    files: Sequence[Path],
    cells: tuple[int, int],
    field: tuple[float, float, float, float],
    size: tuple[int, int] | None,
    camera: str | None,
    baseline: Baseline | None,
) -> _Measured:
    """Of kernels that somebody else has measured."""
    from dualpix.capture.calibrate import psf as psf_module

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
    return _Measured(kernels, grid, profile, "given kernel grids")


def _of_planes(
    files: Sequence[Path],
    sharp: Path | None,
    size_px: int,
    baseline: Baseline | None,
    levels: tuple[float | None, float | None],
) -> _Measured:
    """Of two captures of one plane."""
    from dualpix.capture.calibrate import psf as psf_module

    if len(files) != 1 or sharp is None:
        raise DecodeError(
            f"{len(files)} captures and {'a' if sharp else 'no'} --sharp",
            expected="one blurred capture with --sharp, or LEFT.npy RIGHT.npy",
        )
    clear, blurred = (view_of(path, None, baseline, Levels(*levels)) for path in (sharp, files[0]))
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
    return _Measured(kernels, grid, profile, how)


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
