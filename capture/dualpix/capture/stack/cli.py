"""``dualpix capture``: takes a stack; its subcommands plan, calibrate, verify, align, export and import."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, redirect_stderr, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
from rich.console import Console
from rich.table import Table

from dualpix.capture.cameras import BACKENDS, backend
from dualpix.capture.command.lazy_group import LazyGroup
from dualpix.capture.command.options import FILE, C, camera_options, json_option, with_options
from dualpix.capture.command.terminal import echo_json
from dualpix.capture.errors import DualpixError, OutputError
from dualpix.capture.files import parse_json, read_bounded
from dualpix.capture.progress import Pace, ProgressLine

if TYPE_CHECKING:
    from dualpix.capture.camera_protocol import Camera, CameraInfo
    from dualpix.capture.focus.calibration import LensCalibration
    from dualpix.capture.focus.plan import FocusPlan
    from dualpix.capture.stack.keep.record import FrameRecord, StackRecord
    from dualpix.capture.stack.take.preflight import Finding
    from dualpix.capture.stack.take.runner import Progress

SUBCOMMANDS: dict[str, tuple[str, str]] = {
    "plan": ("dualpix.capture.stack.focus_cli:plan", "Which frames, how blurred, how deep, how long; nothing moves."),
    "calibrate": ("dualpix.capture.stack.focus_cli:calibrate_command", "Measure a lens that moves by steps."),
    "verify": ("dualpix.capture.stack.tools_cli:verify_command", "Whether a stack is what its record says."),
    "align": ("dualpix.capture.stack.tools_cli:align_command", "Measure and undo breathing and motion."),
    "export": ("dualpix.capture.stack.tools_cli:export_command", "To the layouts of known data sets."),
    "import": ("dualpix.capture.stack.tools_cli:import_command", "Brackets that a camera took by itself."),
}
"""Name -> (module:attribute, one-line help shown without importing the module)."""

_DEFAULT_APERTURE = 2.8


def _plan_options(command: C) -> C:
    """The options of ``capture plan`` that a capture is mostly asked for by; the others go into a plan file."""
    return with_options(
        command,
        click.option("--plan", "plan_file", type=FILE, help="A plan of `dualpix capture plan -o`, instead of these:"),
        click.option("--mode", help="How stops are spaced [default: what the rest says]."),
        click.option("--near", "near_m", type=float, metavar="M", help="Nearest focus, from the lens."),
        click.option("--far", "far_m", type=float, metavar="M", help="Farthest focus; inf is allowed."),
        click.option("--count", type=int, help="Number of stops."),
        click.option("--step-px", type=float, metavar="PX", help="Largest blur of a neighbouring stop."),
        click.option("--distances", metavar="M,M,...", help="Stops."),
        click.option("--preset", help="Stops of a known data set: ddff12, zedd."),
        click.option("--apertures", metavar="N,N,...", help="F-numbers at every stop [default: 2.8]."),
        click.option(
            "--all-in-focus", is_flag=False, flag_value=16.0, type=float, metavar="[N]",
            help="One more frame at f/N, or f/16.",
        ),
        click.option("--exposure", metavar="S", help="At the widest aperture, e.g. 1/60 [default: as it is set]."),
        click.option("--iso", type=float),
    )  # fmt: skip


@click.group(
    "capture", cls=LazyGroup, table=SUBCOMMANDS, invoke_without_command=True, subcommand_metavar="[COMMAND ...]"
)
@click.option("--camera", type=click.Choice(list(BACKENDS)), help="How it is reached; `dualpix cameras` lists them.")
@camera_options
@click.option("-o", "--output", type=FILE, help="Folder of the stack.")
@_plan_options
@click.option("--calibration", "calibration_file", type=FILE, help="Of the lens [default: the newest that is kept].")
@click.option("--resume", is_flag=True, help="Go on with the stack in -o; its plan and camera need not be repeated.")
@click.option("--force", is_flag=True, help="Capture although settings make the frames worse.")
@json_option("The record on stdout.")
@click.option("--schema", is_flag=True, help="Print the JSON Schema of stack.json, and do nothing else.")
@click.pass_context
def command(
    ctx: click.Context,
    /,
    camera: str | None,
    address: str | None,
    options: tuple[str, ...],
    output: Path | None,
    calibration_file: Path | None,
    resume: bool,
    force: bool,
    as_json: bool,
    schema: bool,
    **wanted: Any,
) -> None:
    """Take a focus stack: move, settle, shoot, download and check every frame of a plan.

    The folder gets the frames, stack.json with the distance of each and its uncertainty, strip.jpg, and journal.jsonl,
    which is written before anything else happens: after Ctrl-C, a kill or a lost camera, --resume homes the lens and
    takes what is missing. Ctrl-C finishes the frame, brings the focus back to where it was found, and exits with 130.

    Distances are from the lens. A lens that moves by steps has to be calibrated once (`dualpix capture calibrate`).
    """
    if ctx.invoked_subcommand is not None:
        return
    if schema:
        from dualpix.capture.stack.keep.record import read_schema

        echo_json(read_schema())
        return
    if output is None and camera is None:
        click.echo(ctx.get_help())
        return
    if output is None:
        raise OutputError("no output folder was named", hint="give one with -o FOLDER")
    request = _Request(camera, address, options, output, calibration_file, resume, force, wanted)
    try:
        with _own_stderr():
            code = _capture(request, as_json)
    except KeyboardInterrupt:
        click.echo("dualpix: stopped by the user; nothing was taken", err=True)
        code = 130
    ctx.exit(code)


class _Request:
    """What the user asked for, with what an earlier run recorded where it is to be resumed."""

    def __init__(
        self,
        camera: str | None,
        address: str | None,
        options: Sequence[str],
        output: Path,
        calibration_file: Path | None,
        resume: bool,
        force: bool,
        wanted: dict[str, Any],
    ) -> None:
        from dualpix.capture.stack.focus_cli import parse_options
        from dualpix.capture.stack.take.journal import header_of, read_events

        events = read_events(output) if resume else []
        self.header: Mapping[str, Any] = header_of(events, output) if events else {}
        before = self.header.get("camera") or {}
        name = camera or before.get("backend")
        if not name:
            hint = "give --camera; `dualpix cameras` lists them"
            raise DualpixError("no camera was named", expected="one of: " + ", ".join(BACKENDS), hint=hint)
        self.backend = backend(str(name))
        if address is None and camera in (None, before.get("backend")):
            known = str(before.get("address") or "")
            address = None if known.startswith("usb:") else known or None  # ports of USB change
        recorded = dict((self.header.get("origin") or {}).get("options") or {}) if camera in (None, name) else {}
        self.address, self.options = address, parse_options(options) or {str(k): str(v) for k, v in recorded.items()}
        if self.backend.brackets and wanted["plan_file"] is not None:
            self.options = _bracket_option(_read_plan(wanted["plan_file"])) | self.options
        self.output, self.calibration_file = output, calibration_file
        self.resume, self.force, self.wanted = resume, force, wanted

    def calibration(self) -> LensCalibration | None:
        """Named by the user, or that of the stack that is resumed."""
        from dualpix.capture.focus import store
        from dualpix.capture.focus.calibration import LensCalibration

        if self.calibration_file is not None:
            return store.read(self.calibration_file)
        recorded = self.header.get("calibration")
        return None if recorded is None else LensCalibration.from_json(recorded)

    def open(self, calibration: LensCalibration | None) -> Camera:
        """Connect. Raises DualpixError."""
        return self.backend.open(self.address, calibration, self.options)

    def plan(self, info: CameraInfo, calibration: LensCalibration | None) -> FocusPlan:
        """Of a file, of options, or of the stack that is resumed.

        Raises:
            DualpixError: none of them, several, or the lens does not reach it.
        """
        from dualpix.capture.focus.plan import plan_from_json

        plan_file = self.wanted["plan_file"]
        given = {key: value for key, value in self.wanted.items() if value is not None and key != "plan_file"}
        if plan_file is not None and given:
            names = ", ".join("--" + key.removesuffix("_m").replace("_", "-") for key in given)
            raise DualpixError(f"both --plan and {names} were given", expected="one of the two")
        if plan_file is not None:
            return _read_plan(plan_file)
        if not given and self.header:
            return plan_from_json(self.header.get("plan"))
        if not given:
            raise DualpixError("no frames were asked for", hint="give --near, --far and --count, or --plan FILE")
        return _planned(given, info, calibration)


def _planned(given: dict[str, Any], info: CameraInfo, calibration: LensCalibration | None) -> FocusPlan:
    from dualpix.capture.focus.plan import PlanOptics, make_plan
    from dualpix.capture.stack.focus_cli import mode_of, parse_exposure, parse_numbers

    apertures, exposure, mode = given.pop("apertures", None), given.pop("exposure", None), given.pop("mode", None)
    if "distances" in given:
        given["distances_m"] = parse_numbers(given.pop("distances"))
    if apertures is None:
        chosen = list(info.f_numbers) if len(info.f_numbers) == 1 else [_DEFAULT_APERTURE]
    else:
        chosen = parse_numbers(apertures)
    lens = PlanOptics(focal_length_mm=info.focal_length_mm) if info.focal_length_mm else PlanOptics()
    return make_plan(
        mode or mode_of(given),
        lens=lens,
        apertures=chosen,
        exposure_s=None if exposure is None else parse_exposure(exposure),
        calibration=calibration,
        min_focus_m=None if calibration else info.min_focus_m,
        **given,
    )


def _bracket_option(plan: FocusPlan) -> dict[str, str]:
    """What tells a camera to take the plan by its own focus bracketing; empty for a plan of another kind."""
    increment = plan.parameters.get("increment")
    return {} if plan.mode != "camera-bracket" or increment is None else {"bracket": str(increment)}


def _read_plan(path: Path) -> FocusPlan:
    from dualpix.capture.focus.plan import plan_from_json
    from dualpix.capture.stack.keep.record import MAX_FILE_BYTES

    named, expected = f"the plan '{path}'", "a plan of 'dualpix capture plan -o'"
    return plan_from_json(parse_json(read_bounded(path, MAX_FILE_BYTES, named, expected=expected), named, expected))


def _capture(request: _Request, as_json: bool) -> int:
    """Take the stack and show it; the exit code."""
    from dualpix.capture.stack.take.runner import CaptureStoppedError, RunnerSettings, run

    camera, calibration = _opened(request)
    try:
        plan = request.plan(camera.info, calibration)
    except BaseException:
        camera.close()
        raise
    with ProgressLine("capturing") as line:
        show = _Shown(line)
        try:
            record = run(
                camera,
                plan,
                request.output,
                calibration=calibration,
                resume=request.resume,
                settings=RunnerSettings(force=request.force),
                reopen=lambda: request.open(calibration),
                origin={"options": request.options},
                on_progress=show.progress,
                on_finding=show.finding,
            )
        except CaptureStoppedError as stopped:
            if as_json:
                _print_json(stopped.record, request.output)
            if stopped.signal_number is None:
                raise
            line.say(f"dualpix: {stopped}")
            return 128 + stopped.signal_number
    if as_json:
        _print_json(record, request.output)
    else:
        _print_table(record, request.output)
    return 0


def _opened(request: _Request) -> tuple[Camera, LensCalibration | None]:
    """The camera, and the calibration of its lens where it moves by steps and one is known."""
    from dualpix.capture.focus import store
    from dualpix.capture.focus.calibrate import body_of

    calibration = request.calibration()
    camera = request.open(calibration)
    focus = getattr(camera, "focus", None)
    if calibration is not None or focus is None:
        return camera, calibration
    if focus.calibration is None:
        info = camera.info
        calibration = store.find(body_of(info), info.lens or "", info.focal_length_mm)
        if calibration is not None:
            camera.close()
            camera = request.open(calibration)
        return camera, calibration
    return camera, focus.calibration


class _Shown:
    """Progress with the time left, and warnings, each once."""

    def __init__(self, line: ProgressLine) -> None:
        self._line = line
        self._pace: Pace | None = None
        self._first = 0
        self._said: set[str] = set()

    def progress(self, state: Progress) -> None:
        """One step; time is counted from the first move on, homing is done once."""
        if self._pace is None and not state.important:
            self._pace, self._first = Pace(max(1, state.total - state.done)), state.done
        left = ""
        if self._pace is not None:
            self._pace.done = max(0, state.done - self._first)
            left = f", {self._pace.time_left} left" if self._pace.done and not self._line.shows_time_left else ""
        self._line.update(state.done, state.total, f"{state.text}{left}", important=state.important)

    def finding(self, finding: Finding) -> None:
        """What the user should know."""
        if (text := str(finding)) not in self._said:
            self._said.add(text)
            self._line.say(f"dualpix: warning: {text}")


def _print_json(record: StackRecord, folder: Path) -> None:
    echo_json({"folder": str(folder), **record.to_json()})


def _print_table(record: StackRecord, folder: Path) -> None:
    table = Table(title=f"{len(record.frames)} frames in {folder}", title_justify="left")
    for name in ("frame", "f/", "asked D", "reached D", "m", "settled s", "retries", "sharpest"):
        table.add_column(name, justify="right", no_wrap=True)
    for frame in record.frames:
        table.add_row(*_cells(frame))
    console = Console()
    console.print(table)
    for frame in record.frames:
        for note in frame.notes:
            console.print(f"frame {frame.index}: {note}", highlight=False, markup=False)


def _cells(frame: FrameRecord) -> list[str]:
    sharpest = max((value for row in frame.sharpness_tiles or () for value in row), default=None)
    return [
        f"{frame.index}{'*' if frame.role == 'all_in_focus' else ''}{'?' if frame.status == 'suspect' else ''}",
        "" if frame.f_number is None else f"{frame.f_number:g}",
        _number(frame.requested_d, ".3f"),
        f"{_number(frame.achieved_d, '.3f')} ± {_number(frame.uncertainty_d, '.3f')}",
        "" if frame.achieved_d is None else f"{1 / frame.achieved_d:.3g}" if frame.achieved_d > 1e-3 else "inf",
        f"{frame.settle_s:.2f}",
        str(frame.retries),
        "" if sharpest is None else f"{sharpest:.2g}",
    ]


def _number(value: float | None, form: str) -> str:
    return "" if value is None else format(value, form)


@contextmanager
def _own_stderr() -> Iterator[None]:
    """A standard error that is not caught with what decoders say there while frames are checked in another thread."""
    try:
        handle = os.dup(2) if sys.stderr is not None and sys.stderr.fileno() == 2 else None
    except (OSError, ValueError):  # none, or one that is no file
        handle = None
    if handle is None:
        yield
        return
    own = os.fdopen(handle, "w", buffering=1, encoding="utf-8", errors="replace")
    try:
        with redirect_stderr(own):
            yield
    finally:
        with suppress(OSError):  # native code closes descriptors that are not its own now and then
            own.close()
