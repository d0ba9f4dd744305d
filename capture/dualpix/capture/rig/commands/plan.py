"""``dualpix rig plan``: depth error against distance."""

from __future__ import annotations

from pathlib import Path

import click
from rich.console import Console
from rich.table import Table

from dualpix.capture.command.lens_options import LensNumber
from dualpix.capture.command.terminal import echo_json
from dualpix.capture.errors import DualpixError
from dualpix.capture.files import make_output_dir
from dualpix.capture.pictures.colour_map import save_picture
from dualpix.capture.profiles import lens_model, load_profile
from dualpix.capture.rig.commands.options import FILE, json_option
from dualpix.capture.rig.plan import MATCH_SIGMA_PX, RigPlan, picture
from dualpix.capture.types import LensModel


@click.command("plan")
@click.option("--profile", help="Camera profile: a shipped one's name, or a .json.")
@click.option("--focal-length-mm", type=LensNumber("focal_length_mm"), help="Instead of the profile's.")
@click.option("--f-number", type=LensNumber("f_number"))
@click.option("--focus", "focus_distance_m", type=LensNumber("focus_distance_m"), default=1.0, metavar="M")
@click.option("--pixel-pitch-um", type=LensNumber("pixel_pitch_um"), help="Of a pixel of the view.")
@click.option("--width", "width_px", type=click.IntRange(16, 100_000), default=2016, help="Of the view, px.")
@click.option("--baseline-mm", type=click.FloatRange(0.1, 10_000), default=25.0, help="Between the two lenses.")
@click.option("--near", "near_m", type=click.FloatRange(0.01), default=0.3, metavar="M")
@click.option("--far", "far_m", type=click.FloatRange(0.01), default=5.0, metavar="M")
@click.option("--sigma-px", type=click.FloatRange(0.001, 10), default=MATCH_SIGMA_PX, help="Error of a match.")
@click.option("-o", "--output", type=FILE, help="Picture of the error against distance, .png.")
@json_option
def command(
    profile: str | None,
    width_px: int,
    baseline_mm: float,
    near_m: float,
    far_m: float,
    sigma_px: float,
    output: Path | None,
    as_json: bool,
    **given: float | None,
) -> None:
    """Say how well a rig would know depth, and the dual-pixel disparity that becomes of it.

    A match is right to about 0.15 px of the view, so inverse depth has one error at all distances, and depth one that
    grows with the square of the distance.
    """
    lens = _lens(profile, given)
    focal_px = lens.focal_length_mm * 1e3 / lens.pixel_pitch_um
    plan = RigPlan(focal_px, width_px, baseline_mm / 1e3, near_m, far_m, sigma_px, lens if profile else None)
    if output is not None:
        make_output_dir(output.parent)
        save_picture(output, picture(plan))
    if as_json:
        echo_json(
            {
                "focal_px": focal_px,
                "inverse_depth_sigma": plan.inverse_depth_sigma,
                "disparity_sigma_px": plan.disparity_sigma_px,
                "distances": plan.table(),
            }
        )
        return
    table = Table("distance", "stereo disparity", "depth error (1 sigma)", "seen by both")
    for row in plan.table():
        error = f"{1e3 * row['depth_sigma_m']:.3g} mm = {row['depth_sigma_percent']:.2g} %"
        table.add_row(f"{row['depth_m']:.3g} m", f"{row['disparity_px']:.1f} px", error, f"{100 * row['shared']:.0f} %")
    Console().print(table)
    if plan.disparity_sigma_px is not None:
        click.echo(f"dual-pixel disparity is then known to {plan.disparity_sigma_px:.3g} px at any distance")


def _lens(profile: str | None, given: dict[str, float | None]) -> LensModel:
    if profile is not None:
        return lens_model(load_profile(profile), **given)
    if given["focal_length_mm"] is None or given["pixel_pitch_um"] is None:
        raise DualpixError(
            "neither a --profile nor --focal-length-mm and --pixel-pitch-um", expected="what the view's pixels cover"
        )
    focus = given["focus_distance_m"] or 1.0
    return LensModel(given["focal_length_mm"], given["f_number"] or 2.0, focus, given["pixel_pitch_um"])
