"""Reading what the app, or the host, wrote: plans, controls, journals, stacks. See :mod:`.protocol`."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping

from dualpix.capture.cameras.android.fields import Fields, read_object
from dualpix.capture.cameras.android.messages import (
    CONTROL,
    JOURNAL,
    MAX_FRAME_BYTES,
    MAX_FRAMES,
    PLAN,
    SESSION_NAME,
    STACK,
    VERSION,
    Command,
    Control,
    Device,
    End,
    EndReason,
    Failure,
    FailureKind,
    FrameDone,
    FrameStart,
    Hello,
    JournalLine,
    LensState,
    PhoneCamera,
    PhoneStack,
    Plan,
    PlanFrame,
    ProtocolError,
    Quality,
    SettleRule,
    frame_file,
)

_FILE = re.compile(r"frame_(\d{3})(?:_r([1-9]\d?))?\.(dng|jpg)")
_SHA256 = re.compile(r"[0-9a-f]{64}")
_TIME = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d{1,9})?Z")


def parse_plan(text: str | bytes) -> Plan:
    """Read ``plan.json``.

    Raises:
        ProtocolError: it is not of this form, or of another version.
    """
    f = _versioned(text, PLAN)
    settle = f.object("settle")
    return Plan(
        session=f.text("session", SESSION_NAME),
        frames=tuple(_plan_frame(frame) for frame in f.objects("frames", MAX_FRAMES)),
        settle=SettleRule(
            settle.integer("stationary_results", 1, 100),
            settle.integer("stuck_results", 1, 10_000),
            settle.integer("timeout_ms", 1, 60_000),
            settle.integer("retries", 0, 100),
        ),
        camera_id=f.optional("camera_id", lambda key: f.text(key)),
        linger_ms=f.integer("linger_ms", 0, 3_600_000),
    )


def _plan_frame(f: Fields) -> PlanFrame:
    return PlanFrame(
        index=f.integer("index", 0, MAX_FRAMES),
        diopters=f.number("diopters", 0, 1000),
        tolerance_d=f.number("tolerance_d", 0, 1000),
        exposure_ns=f.optional("exposure_ns", lambda key: f.integer(key, 1, 10**12)),
        iso=f.optional("iso", lambda key: f.integer(key, 1, 10**7)),
        f_number=f.optional("f_number", lambda key: f.number(key, 0.1, 1000)),
    )


def parse_control(text: str | bytes) -> Control:
    """Read ``control.json``.

    Raises:
        ProtocolError: it is not of this form, or of another version.
    """
    f = _versioned(text, CONTROL)
    command: Command = f.one_of("command", Command)
    frame = f.optional("frame", lambda key: f.integer(key, 0, MAX_FRAMES))
    if (command == "retry") != (frame is not None):
        raise ProtocolError(f"{CONTROL}: '{command}' with frame {frame}", expected="a frame for retry alone")
    return Control(f.text("session", SESSION_NAME), f.integer("sequence", 1, 10**9), command, frame)


def parse_line(text: str | bytes) -> JournalLine:
    """Read one line of the journal.

    Raises:
        ProtocolError: it is not of this form; a ``hello`` of another version.
    """
    f = Fields(read_object(text, JOURNAL), JOURNAL)
    event = f.text("event")
    readers: Mapping[str, Callable[[Fields], JournalLine]] = {
        "hello": _hello, "start": _start, "done": _done, "failure": _failure, "end": _end,
    }  # fmt: skip
    if event not in readers:
        raise ProtocolError(f"{JOURNAL}: event '{event}'", expected="one of: " + ", ".join(readers))
    return readers[event](f)


def parse_stack(text: str | bytes) -> PhoneStack:
    """Read the app's ``stack.json``.

    Raises:
        ProtocolError: it is not of this form, or of another version.
    """
    f = _versioned(text, STACK)
    return PhoneStack(
        session=f.text("session", SESSION_NAME),
        app=f.text("app"),
        device=_device(f.object("device")),
        camera=_camera(f.object("camera")),
        frames=tuple(_done(frame) for frame in f.objects("frames", MAX_FRAMES)),
        complete=f.flag("complete"),
    )


def _hello(f: Fields) -> Hello:
    _check_version(f)
    return Hello(
        time=f.text("time", _TIME),
        session=f.text("session", SESSION_NAME),
        app=f.text("app"),
        device=_device(f.object("device")),
        camera=_camera(f.object("camera")),
    )


def _device(f: Fields) -> Device:
    return Device(f.text("make"), f.text("model"), f.text("android"), f.optional("serial", lambda key: f.text(key)))


def _camera(f: Fields) -> PhoneCamera:
    return PhoneCamera(
        id=f.text("id"),
        calibration=f.one_of("calibration", Quality),
        min_focus_d=f.number("min_focus_d", 0, 1000),
        focal_length_mm=f.number("focal_length_mm", 0.1, 1000),
        pixel_pitch_um=f.number("pixel_pitch_um", 0.1, 100),
        f_numbers=tuple(f.numbers("f_numbers", 1, 32)),
        array_px=f.pair("array_px"),
        exposure_range_ns=f.pair("exposure_range_ns"),
        iso_range=f.pair("iso_range"),
        stabiliser_off=f.flag("stabiliser_off"),
        hyperfocal_d=f.optional("hyperfocal_d", lambda key: f.number(key, 0, 1000)),
    )


def _start(f: Fields) -> FrameStart:
    return FrameStart(f.text("time", _TIME), f.integer("frame", 0, MAX_FRAMES), f.integer("attempt", 0, 99))


def _done(f: Fields) -> FrameDone:
    done = FrameDone(
        time=f.text("time", _TIME),
        frame=f.integer("frame", 0, MAX_FRAMES),
        attempt=f.integer("attempt", 0, 99),
        file=f.text("file", _FILE),
        bytes=f.integer("bytes", 1, MAX_FRAME_BYTES),
        sha256=f.text("sha256", _SHA256),
        diopters=f.number("diopters", 0, 1000),
        lens_state=f.one_of("lens_state", LensState),
        settle_ms=f.integer("settle_ms", 0, 3_600_000),
        settle_results=f.integer("settle_results", 0, 10**6),
        exposure_ns=f.integer("exposure_ns", 1, 10**12),
        iso=f.integer("iso", 1, 10**7),
        f_number=f.number("f_number", 0.1, 1000),
        timestamp_ns=f.integer("timestamp_ns", 0, 2**63 - 1),
        physical_id=f.optional("physical_id", lambda key: f.text(key)),
    )
    if frame_file(done.frame, done.attempt, done.file.rpartition(".")[2]) != done.file:
        raise ProtocolError(f"{JOURNAL}: frame {done.frame}, attempt {done.attempt}, lies in '{done.file}'")
    return done


def _failure(f: Fields) -> Failure:
    return Failure(
        time=f.text("time", _TIME),
        kind=f.one_of("kind", FailureKind),
        message=f.text("message"),
        frame=f.optional("frame", lambda key: f.integer(key, 0, MAX_FRAMES)),
        attempt=f.integer("attempt", 0, 99),
    )


def _end(f: Fields) -> End:
    return End(f.text("time", _TIME), f.one_of("reason", EndReason))


def _versioned(text: str | bytes, where: str) -> Fields:
    fields = Fields(read_object(text, where), where)
    _check_version(fields)
    return fields


def _check_version(fields: Fields) -> None:
    if (version := fields.integer("version", 0, 10**6)) != VERSION:
        raise ProtocolError(
            f"the companion app speaks version {version}",
            expected=f"version {VERSION}",
            hint="install the app that belongs to this dualpix",
        )
