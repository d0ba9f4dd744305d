"""``dualpix capture plan`` and ``dualpix capture calibrate``."""

from __future__ import annotations

import math
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import click
from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table

from dualpix.capture.cameras import BACKENDS, backend
from dualpix.capture.command.lens_options import LensNumber
from dualpix.capture.command.options import FILE, camera_options, json_option
from dualpix.capture.command.terminal import echo_json
from dualpix.capture.errors import DualpixError
from dualpix.capture.files import make_output_dir, write_json
from dualpix.capture.focus import store
from dualpix.capture.focus.calibrate import SWEEPS, Target, calibrate
from dualpix.capture.focus.calibration import LensCalibration
from dualpix.capture.focus.coverage import coverage_notes
from dualpix.capture.focus.evidence import Box
from dualpix.capture.focus.motion import MAX_UNCERTAINTY_D, MotionPlanner
from dualpix.capture.focus.plan import (
    MODES,
    PRESETS,
    FocusPlan,
    FrameSummary,
    PlanOptics,
    PlanSummary,
    Timing,
    describe,
    make_plan,
)
from dualpix.capture.focus.scene import read_scene

_TARGET_ERROR_MM = 1.0
_SHOWN_SHARES = (0.1, 0.25, 0.5, 0.75, 1.0)


def parse_numbers(text: str) -> list[float]:
    """``2.8,5.6`` as numbers; ``inf`` is one.

    Raises:
        DualpixError: it is not a list of numbers.
    """
    try:
        return [float(part) for part in text.split(",")]
    except ValueError as error:
        raise DualpixError(f"'{text}' is not a list of numbers", expected="e.g. 2.8,5.6") from error


def parse_exposure(text: str) -> float:
    """``1/60`` or ``0.5`` as seconds.

    Raises:
        DualpixError: it is neither.
    """
    above, _, below = text.partition("/")
    try:
        seconds = float(above) / float(below or 1)
    except (ValueError, ZeroDivisionError) as error:
        raise DualpixError(f"exposure '{text}'", expected="seconds, e.g. 1/60 or 0.5") from error
    if not 0 < seconds < 3600:
        raise DualpixError(f"exposure '{text}'", expected="seconds, above 0")
    return seconds


def parse_target(text: str, error_mm: float) -> Target:
    """``0.5@0.1,0.2,0.3,0.3``: metres from the lens, and the box x, y, width, height in shares of the picture.

    Raises:
        DualpixError: it is of another form.
    """
    distance, _, box = text.partition("@")
    try:
        metres, shares = float(distance), [float(share) for share in box.split(",")]
        x, y, width, height = shares
    except ValueError as error:
        raise DualpixError(f"target '{text}'", expected="METRES@X,Y,WIDTH,HEIGHT, e.g. 0.5@0.1,0.2,0.3,0.3") from error
    inside: Box = x, y, width, height
    return Target(metres, inside, error_mm / 1000)


@click.command("plan")
@click.option("--mode", type=click.Choice(list(MODES)), help="How stops are spaced [default: what the rest says].")
@click.option("--near", "near_m", type=float, metavar="M", help="Nearest focus, from the lens.")
@click.option("--far", "far_m", type=float, metavar="M", help="Farthest focus; inf is allowed.")
@click.option("--count", type=int, help="Number of stops.")
@click.option("--step-px", type=float, metavar="PX", help="Largest blur of a neighbouring stop, instead of --count.")
@click.option("--blur-limit-px", type=float, default=2.0, metavar="PX", help="Blur that still counts as sharp.")
@click.option("--overlap", type=float, default=0.0, help="Share of a depth of field that the next one covers.")
@click.option("--distances", metavar="M,M,...", help="Stops, for mode explicit or grid.")
@click.option("--preset", type=click.Choice(list(PRESETS)), help="Stops of a known data set.")
@click.option("--scene", type=FILE, help="Mode scene: depth map (.tiff, .npy in m) or a stack.json of a coarse sweep.")
@click.option("--increment", type=int, help="On-camera bracket: focus increment, 1 to 10.")
@click.option("--shots", type=int, help="On-camera bracket: number of shots, 2 to 999.")
@click.option("--bracket-unit-mm", type=float, metavar="MM", help="On-camera bracket: blur per increment, if measured.")
@click.option("--apertures", metavar="N,N,...", default="2.8", help="F-numbers at every stop.")
@click.option(
    "--all-in-focus", is_flag=False, flag_value=16.0, type=float, metavar="[N]", help="One more frame at f/N, or f/16."
)
@click.option("--exposure", metavar="S", help="At the widest aperture, e.g. 1/60 [default: as the camera is set].")
@click.option("--iso", type=float)
@click.option("--focal-length-mm", type=LensNumber("focal_length_mm"), default=50.0)
@click.option("--sensor-width-mm", type=float, default=36.0)
@click.option("--width", "width_px", type=int, default=1824, help="Of the picture that a network sees, in px.")
@click.option("--calibration", "calibration_file", type=FILE, help="Of the lens: shows what it really reaches.")
@click.option("--min-focus", "min_focus_m", type=float, metavar="M", help="Of a lens that is not calibrated.")
@click.option("--max-uncertainty-d", type=float, default=MAX_UNCERTAINTY_D, help="Focus, one standard deviation.")
@click.option("--transfer-s", type=float, default=Timing.transfer_s, help="Per frame, for the expected duration.")
@click.option("--settle-s", type=float, default=Timing.settle_s, help="Per stop.")
@click.option("--move-s", type=float, default=Timing.move_s, help="Per step of the lens.")
@click.option("-o", "--output", type=FILE, help="Write the plan as JSON.")
@click.option("--picture", type=FILE, help="Write blur against depth as PNG.")
@json_option("Plan and summary as JSON on stdout.")
def plan(
    mode: str | None,
    apertures: str,
    distances: str | None,
    scene: Path | None,
    exposure: str | None,
    focal_length_mm: float,
    sensor_width_mm: float,
    width_px: int,
    calibration_file: Path | None,
    max_uncertainty_d: float,
    transfer_s: float,
    settle_s: float,
    move_s: float,
    output: Path | None,
    picture: Path | None,
    as_json: bool,
    **wanted: Any,
) -> None:
    """Plan a focus stack: which frames, how blurred, how deep, how long. Nothing moves.

    Distances are from the lens. Without --mode the stops are even in diopters, or what --step-px, --distances,
    --preset, --scene or --increment ask for.
    """
    calibration = None if calibration_file is None else store.read(calibration_file)
    lens = PlanOptics(focal_length_mm, 1.0, sensor_width_mm, width_px)
    if distances is not None:
        wanted["distances_m"] = parse_numbers(distances)
    if scene is not None:
        wanted["scene_d"] = read_scene(scene)
    made = make_plan(
        mode or mode_of(wanted),
        lens=lens,
        apertures=parse_numbers(apertures),
        exposure_s=None if exposure is None else parse_exposure(exposure),
        calibration=calibration,
        **wanted,
    )
    summary = describe(
        made,
        calibration,
        Timing(move_s=move_s, settle_s=settle_s, transfer_s=transfer_s),
        blur_limit_px=wanted["blur_limit_px"],
        max_uncertainty_d=max_uncertainty_d,
    )
    if picture is not None:
        _save_picture(picture, made, summary)
    if output is not None:
        make_output_dir(output.parent)
        write_json(output, made.to_json())
    if as_json:
        echo_json({"plan": made.to_json(), "summary": summary.to_json()})
        return
    _print_plan(summary)
    for path in (output, picture):
        if path is not None:
            click.echo(f"wrote {path}")


@click.command("calibrate")
@click.option("--camera", type=click.Choice([name for name, b in BACKENDS.items() if b.drives]), help="Its backend.")
@camera_options
@click.option(
    "--target",
    "targets",
    multiple=True,
    metavar="M@X,Y,W,H",
    help="Something at M from the lens, in this box (shares).",
)
@click.option("--target-error-mm", type=float, default=_TARGET_ERROR_MM, help="Of the distances, standard deviation.")
@click.option("--sweeps", type=click.IntRange(1, 50), default=SWEEPS, help="More are more certain, and take longer.")
@click.option("--list", "list_all", is_flag=True, help="Show the calibrations that are kept, and do nothing else.")
@json_option("The calibration as JSON on stdout.")
def calibrate_command(
    camera: str | None,
    address: str | None,
    options: tuple[str, ...],
    targets: tuple[str, ...],
    target_error_mm: float,
    sweeps: int,
    list_all: bool,
    as_json: bool,
) -> None:
    """Measure a lens that moves by steps: focus in diopters over motor steps, with its uncertainty.

    Put five or more things with detail at known distances from the lens into the picture, spread over its range and not
    one before the other; name each by --target. Set the lens to manual focus, the camera on a tripod, and let nothing
    move. The lens sweeps through focus several times, and ends where it was. The result is kept, dated, for this body,
    lens and focal length, and used by captures from then on.
    """
    if list_all:
        _print_kept()
        return
    if camera is None:
        raise DualpixError("no camera was named", hint="give --camera")
    if not target_error_mm >= 0:
        raise DualpixError(f"--target-error-mm is {target_error_mm:g}", expected="0 or more")
    asked = [parse_target(text, target_error_mm) for text in targets]
    drive = backend(camera).drive(address, parse_options(options))
    with ExitStack() as stack:
        stack.callback(getattr(drive, "close", lambda: None))
        known = asked or _known_targets(camera, address)
        result = calibrate(drive, known, sweeps=sweeps, on_progress=_Phases())
    path = store.save(result)
    if as_json:
        echo_json(result.to_json())
        return
    _print_calibration(result)
    click.echo(f"kept as {path}")


def _known_targets(camera: str, address: str | None) -> list[Target]:
    """The simulated camera knows where its targets are; for others they have to be measured."""
    if camera != "sim":
        raise DualpixError(
            "no target was named", hint="give at least two, better five: --target METRES@X,Y,WIDTH,HEIGHT"
        )
    from dualpix.capture.cameras.sim import targets

    return [Target(distance, box) for distance, box in targets(address)]


class _Phases:
    """A line on stderr whenever something else is measured."""

    def __init__(self) -> None:
        self._what = ""

    def __call__(self, what: str, stops: int) -> None:
        if what != self._what:
            click.echo(f"calibrating: {what}", err=True)
        self._what = what


def mode_of(wanted: dict[str, Any]) -> str:
    """How stops are spaced, by what was asked for."""
    for name, mode in (
        ("scene_d", "scene"),
        ("increment", "camera-bracket"),
        ("distances_m", "explicit"),
        ("preset", "explicit"),
        ("step_px", "coc"),
    ):
        if wanted.get(name) is not None:
            return mode
    return "diopter"


def parse_options(texts: Sequence[str]) -> dict[str, str]:
    """``KEY=VALUE`` texts as a dictionary.

    Raises:
        DualpixError: one is something else.
    """
    pairs = [text.partition("=") for text in texts]
    if not all(key and equals for key, equals, _ in pairs):
        raise DualpixError(f"--option {' '.join(texts)}", expected="KEY=VALUE")
    return {key: value for key, _, value in pairs}


def _save_picture(path: Path, made: FocusPlan, summary: PlanSummary) -> None:
    from dualpix.capture.focus.picture import plan_picture
    from dualpix.capture.pictures.colour_map import (
        save_picture,  # matplotlib takes a second that a table need not wait for
    )

    make_output_dir(path.parent)
    save_picture(path, plan_picture(made, summary))


def _print_plan(summary: PlanSummary) -> None:
    calibrated = any(f.reachable_d is not None for f in summary.frames)
    table = Table(title=_headline(summary), title_justify="left", box=SIMPLE_HEAD, padding=(0, 1, 0, 0))
    columns = ["#", "m", "D", *(["reached D"] if calibrated else []), "f/"]
    for name in [*columns, "step", "far", "near", "sharp m", "overlap"]:
        table.add_column(name, justify="right", no_wrap=True)
    before = None
    for frame in summary.frames:
        if before is not None and frame.diopters != before and len(summary.apertures) > 1:
            table.add_section()
        before = frame.diopters
        table.add_row(*_cells(frame, calibrated))
    console = Console()
    console.print(table)
    console.print(_footline(summary), highlight=False, soft_wrap=True)
    covered = coverage_notes(summary.mode, summary.stops, summary.coverage, summary.all_in_focus, summary.blur_limit_px)
    for note in (*summary.notes, *covered):
        console.print(f"note: {note}", highlight=False, soft_wrap=True)


def _headline(summary: PlanSummary) -> str:
    lens = summary.lens
    return (
        f"{summary.mode}: {summary.stops} stops, {len(summary.frames)} frames at {lens['focal_length_mm']:g} mm;"
        f" blur of next stop, far and near end in px at {lens['width_px']} px width"
    )


def _footline(summary: PlanSummary) -> str:
    steps = "" if summary.step_px is None else f", {summary.step_px[0]:.1f} to {summary.step_px[1]:.1f} px per step"
    return (
        f"{summary.px_per_diopter:.1f} px per diopter{steps}; far end blurred by up to"
        f" {summary.far_end_blur_px:.1f} px, near end by {summary.near_end_blur_px:.1f} px;"
        f" about {_minutes(summary.duration_s)}"
    )


def _cells(frame: FrameSummary, calibrated: bool) -> list[str]:
    reached = []
    if calibrated:
        known = frame.reachable_d is not None and frame.uncertainty_d is not None
        reached = [f"{frame.reachable_d:.3f}±{frame.uncertainty_d:.3f}" if known else ""]
    role = "*" if frame.role == "all_in_focus" else ""
    return [
        f"{frame.index}{role}",
        _metres(frame.distance_m),
        f"{frame.diopters:.3f}",
        *reached,
        f"{frame.f_number:g}",
        "" if frame.step_px is None else f"{frame.step_px:.1f}",
        f"{frame.far_blur_px:.1f}",
        f"{frame.near_blur_px:.1f}",
        f"{_metres(frame.sharp_near_m)}–{_metres(frame.sharp_far_m)}",
        "" if frame.overlap is None else f"{100 * frame.overlap:.0f} %" if frame.overlap >= 0 else "gap",
    ]


def _metres(value: float) -> str:
    return "∞" if math.isinf(value) else f"{value:.3g}"


def _minutes(seconds: float) -> str:
    return f"{seconds:.0f} s" if seconds < 120 else f"{seconds / 60:.0f} min"


def _print_calibration(result: LensCalibration) -> None:
    table = Table(title=f"{result.body}, {result.lens or 'unknown lens'}", title_justify="left")
    for name in ("target m", "diopters", "motor units", "fit", "residual D", "residual mm"):
        table.add_column(name, justify="right")
    for units, diopters in sorted(result.points, key=lambda point: point[1]):
        fit = result.diopters_at(units)
        table.add_row(
            f"{1 / diopters:.3f}",
            f"{diopters:.4f}",
            f"{units:.1f}",
            f"{fit:.4f}",
            f"{diopters - fit:+.4f}",
            f"{1000 * (1 / fit - 1 / diopters):+.1f}",
        )
    console = Console()
    console.print(table)
    a, b, c = result.coefficients
    far, near = result.range_d
    sizes = ", ".join(f"{size}: {units:.2f}" for size, units in sorted(result.units_per_step.items()))
    lines = [
        f"diopters = {a:.4f} {b:+.6f} n {c:+.3e} n², residual {result.residual_d:.4f} D",
        f"{far:.3f} to {near:.3f} D over {result.travel_units:.0f} units; backlash {result.backlash_units:.1f} units",
        f"units per step of size {sizes}; a step scatters by {100 * result.jitter:.1f} %",
        "focus will be known to " + ", ".join(_expected(result)),
    ]
    for line in lines:
        console.print(line, highlight=False, soft_wrap=True)


def _expected(result: LensCalibration) -> list[str]:
    """What uncertainty a capture will have, at some places of the range."""
    planner = MotionPlanner(result)
    out = []
    for share in _SHOWN_SHARES:
        units = share * result.travel_units
        sd = result.uncertainty_d(planner.steps_to(units, {}))
        out.append(f"{sd:.4f} D at {result.diopters_at(units):.2f} D")
    return out


def _print_kept() -> None:
    paths = store.everything()
    table = Table("body", "lens", "mm", "made", "residual D", title=f"calibrations in {store.root()}")
    table.add_column("file", overflow="fold")
    for path in paths:
        kept = store.read(path)
        focal = "" if kept.focal_length_mm is None else f"{kept.focal_length_mm:g}"
        table.add_row(kept.body, kept.lens, focal, kept.made_at, f"{kept.residual_d:.4f}", str(path))
    Console().print(table)
