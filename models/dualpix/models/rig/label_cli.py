"""``dualpix rig label``: captures of camera a with the depth that both cameras see."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import click

from dualpix.capture.command.lens_options import LensNumber
from dualpix.capture.command.terminal import echo_json
from dualpix.capture.errors import DualpixError
from dualpix.capture.files import atomic_dir, check_output_dir, write_json
from dualpix.capture.pictures.colour_map import save_picture
from dualpix.capture.profiles import load_profile
from dualpix.capture.profiles.profile import CameraProfile
from dualpix.capture.progress import ProgressLine
from dualpix.capture.rig.calibrate.store import Rig, read_rig
from dualpix.capture.rig.calibrate.views import check_fits
from dualpix.capture.rig.commands.options import FILE, json_option, output_option, rig_option, skew_option
from dualpix.capture.rig.labels.checks import RowCheck, check_pair
from dualpix.capture.rig.labels.dataset import (
    SIDECAR,
    LabelledView,
    contact_sheet,
    dataset_json,
    lens_of,
    turned,
    write_labelled,
)
from dualpix.capture.rig.labels.label import STATED_PX, label
from dualpix.capture.rig.labels.match import Matcher, SemiGlobal
from dualpix.capture.rig.labels.rectify import Rectification, rectification
from dualpix.capture.rig.pairs.session import RigPair, check_skew, read_session, read_view

_SHEET_ROWS = 6


@click.command("label")
@click.argument("session", type=FILE)
@rig_option
@output_option
@skew_option
@click.option(
    "--nearest", "nearest_m", type=click.FloatRange(0.01, 100), default=0.25, metavar="M", help="Nearest thing."
)
@click.option(
    "--profile", help="Camera profile of a: a shipped one's name or a .json; without it there is depth alone."
)
@click.option("--focal-length-mm", type=LensNumber("focal_length_mm"), help="Instead of what profile and captures say.")
@click.option("--f-number", type=LensNumber("f_number"))
@click.option(
    "--focus", "focus_distance_m", type=LensNumber("focus_distance_m"), metavar="M", help="Focus distance of a."
)
@click.option("--pixel-pitch-um", type=LensNumber("pixel_pitch_um"), help="Of a pixel of the decoded view.")
@click.option("--model", metavar="PACKAGE.MODULE:FUNCTION", help="A stereo network of yours instead of SGM.")
@click.option("--unchecked", is_flag=True, help="Label pairs in which too little is seen to tell whether rows meet.")
@click.option(
    "--leave-out", is_flag=True, help="Leave out pairs that cannot be labelled, and say why, instead of ending."
)
@json_option
def command(
    session: Path,
    rig_file: Path,
    output: Path,
    max_skew_ms: float,
    nearest_m: float,
    profile: str | None,
    model: str | None,
    unchecked: bool,
    leave_out: bool,
    as_json: bool,
    **lens: float | None,
) -> None:
    """Label the captures of SESSION/a with depth, and with their dual-pixel disparity, by stereo with SESSION/b.

    OUTPUT holds camera a's files as they are, the maps on their own pixels, and is what `dualpix train --data` takes.
    Where something hides a thing from b, or the match is not sure, there is NaN. A pair that does not fit ends it all,
    before anything is written, unless --leave-out says otherwise.
    """
    rig = read_rig(rig_file)
    frame = rectification(rig.geometry)
    pairs = read_session(session)
    check_output_dir(output)
    camera = load_profile(profile) if profile is not None else None
    matcher = _matcher(model)
    rows: list[dict[str, Any]] = []
    left_out: dict[str, str] = {}
    shown: list[LabelledView] = []
    with atomic_dir(output, SIDECAR) as folder, ProgressLine("labelling", silent=as_json) as line:
        for index, pair in enumerate(pairs):
            try:
                check_skew(pair, max_skew_ms / 1e3)
                one, rows_meet = _labelled(pair, rig, frame, matcher, nearest_m, unchecked, camera, lens)
            except DualpixError as error:
                if not leave_out:
                    raise
                left_out[pair.name] = str(error)
                click.echo(f"dualpix: left out: {error}", err=True)
                continue
            rows.append(
                {
                    **write_labelled(folder, one),
                    "rows_px": None if rows_meet is None else round(rows_meet.offset_px, 3),
                    "skew_s": None if pair.skew is None else pair.skew.seconds,
                }
            )
            if len(shown) < _SHEET_ROWS:
                shown.append(one)
            line.update(index + 1, len(pairs), pair.name)
        if not shown:
            raise DualpixError(
                f"none of {len(pairs)} pairs can be labelled; the first: {next(iter(left_out.values()))}",
                expected="pairs of the rig that was calibrated",
            )
        image = shown[0].view.dual_pixel
        write_json(folder / "dataset.json", dataset_json(shown[0].lens, image.baseline if image else "x"))
        save_picture(folder / "contact-sheet.png", contact_sheet(shown))
        record = {
            "format": 1,
            "matcher": matcher.name,
            "nearest_m": nearest_m,
            "baseline_mm": 1e3 * rig.geometry.baseline_m,
            "axis_angle_deg": rig.axis_angle_deg,
            "confidence_is_of_px": STATED_PX,
            "profile": profile,
            "captures": rows,
            "left_out": left_out,
        }
        write_json(folder / SIDECAR, record)
    if as_json:
        echo_json(record)
        return
    known = sum(row["known"] for row in rows) / len(rows)
    what = "depth alone: name a --profile for disparities" if camera is None else "depth and dual-pixel disparity"
    without = f", {len(left_out)} left out" if left_out else ""
    click.echo(f"{output}: {len(rows)} captures{without}, {what}; {100 * known:.0f} % of pixels have a label")


def _labelled(
    pair: RigPair,
    rig: Rig,
    frame: Rectification,
    matcher: Matcher,
    nearest_m: float,
    unchecked: bool,
    camera: CameraProfile | None,
    lens: Mapping[str, float | None],
) -> tuple[LabelledView, RowCheck | None]:
    view = check_fits(rig, read_view(pair.a, halves=True), "a")
    other = check_fits(rig, read_view(pair.b), "b")
    rows_meet = check_pair(pair.name, view.gray, other.gray, frame)
    if rows_meet is None and not unchecked:
        raise DualpixError(
            f"pair '{pair.name}' shows too little that both cameras see to tell whether its rows meet",
            expected="things with texture, of one moment",
            hint="leave it out with --leave-out, or label it with --unchecked",
        )
    found = label(view.gray, other.gray, frame, rig.covariance, view.size_hw, matcher, nearest_m)
    optics, gain = (None, None) if camera is None else lens_of(view, camera, lens)
    return LabelledView(view, turned(found, view.orientation), optics, gain), rows_meet


def _matcher(model: str | None) -> Matcher:
    if model is None:
        return SemiGlobal()
    from dualpix.models.rig.network import network_matcher

    return network_matcher(model)
