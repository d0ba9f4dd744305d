"""``dualpix calibrate gain``: the disparity gain on textured planes at known distances."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
import numpy as np
from rich.console import Console
from rich.table import Table

from dualpix.capture.calibrate.command_line import (
    check_output,
    extended_option,
    pairs_of,
    reading_options,
    say,
    view_of,
)
from dualpix.capture.calibrate.planes import Plane, check_distances, measure_plane
from dualpix.capture.command.lens_options import LensNumber
from dualpix.capture.command.options import FILE
from dualpix.capture.command.terminal import echo_json
from dualpix.capture.errors import DecodeError
from dualpix.capture.pictures.colour_map import save_picture
from dualpix.capture.profiles.profile import kept_facts, write_profile
from dualpix.capture.progress import ProgressLine
from dualpix.capture.raw.develop.levels import Levels
from dualpix.capture.types import Baseline

if TYPE_CHECKING:
    from dualpix.capture.calibrate.gain import GainResult


@click.command("gain")
@click.argument("planes", nargs=-1, type=FILE)
@extended_option
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
@reading_options
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

    check_output(output)
    pairs = pairs_of(planes, None, None)
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
    say(result.warnings)
    if as_json:
        echo_json(_gain_record(result, [output, shown]))
    else:
        Console().print(_gain_table(result, output))


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
            views = view_of(path, right, baseline, levels)
            width_px = views.width_on_sensor_px
            focus = views.meta.focus_distance_m if focus_m is None else focus_m[index]
            planes.append(measure_plane(views, distance_m[index], focus))
        line.update(len(pairs), len(pairs), important=False)
    return planes, width_px


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
