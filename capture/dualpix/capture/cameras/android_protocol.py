"""What the host and the companion app on the phone write for each other. Version 1.

Convention: everything happens through files in ``FILES/SESSION/`` on the phone, JSON in UTF-8, with the names and forms
below (schema: ``android.schema.json``). Focus is ``diopters`` as in ``LENS_FOCUS_DISTANCE``: 1/m from the lens, 0 at
infinity, and without a unit where the phone calls itself ``UNCALIBRATED``. Times of exposure are integer nanoseconds,
as in Camera2; times of waiting integer milliseconds.

=================  =======================  =================================================================
file               written by               what it says
=================  =======================  =================================================================
``plan.json``      host, before the start   :class:`Plan`: the frames that are wanted, in order
``control.json``   host, while it runs      :class:`Control`: stop, or take one frame again
``journal.jsonl``  app, appended, synced    :class:`Hello` once, then :class:`FrameStart`, :class:`FrameDone`,
                                            :class:`Failure`, at last :class:`End`; one object a line
``frame_000.dng``  app                      a frame; ``frame_000_r1.dng`` when it was taken again
``stack.json``     app, at the end          :class:`PhoneStack`: who, and the frames that count
=================  =======================  =================================================================

A session goes like this:

1. The host writes ``plan.json`` and starts the app's activity with the name of the session. A plan without frames asks
   who is there: the app writes ``hello`` and ``end``.
2. The app says ``hello`` and takes the frames in their order without waiting for the host. It moves the lens, and takes
   the frame once ``settle.stationary_results`` capture results in a row say ``LENS_STATE_STATIONARY`` at less than
   ``tolerance_d`` from where it should be. After ``settle.timeout_ms``, or ``settle.stuck_results`` in a row that are
   stationary elsewhere, it sends the lens again, ``settle.retries`` times. Exposure and sensitivity that are null are
   metered once, before the first frame, and kept.
3. A file is whole, and its digest known, before the ``done`` line that names it is written. A file that was named is
   never written again.
4. After a failure of a frame, and after the last frame, the app waits ``linger_ms`` for a control, then ends.
5. A control counts if its ``sequence`` is higher than any before. ``retry`` takes the frame again as the next attempt,
   and goes on with those that have none. ``stop`` ends.
6. Starting the activity with another session ends the one before.

Either side replaces a file by writing ``NAME.part`` and renaming it. Readers ignore keys they do not know, and the text
after the last line break of a journal, which is still being written.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal, TypeVar, get_args

from dualpix.capture.camera_protocol import CameraError
from dualpix.capture.files import parse_json

VERSION = 1
SCHEMA = Path(__file__).with_name("android.schema.json")
PACKAGE = "com.dualpix.companion"
ACTIVITY = f"{PACKAGE}/.CaptureActivity"
SESSION_EXTRA = "session"
"""Name of the intent's string extra that holds the session."""
FILES = f"/sdcard/Android/data/{PACKAGE}/files"

PLAN, CONTROL, JOURNAL, STACK = "plan.json", "control.json", "journal.jsonl", "stack.json"

MAX_FRAMES = 999
MAX_FRAME_BYTES = 512 << 20
MAX_LINE_BYTES = 16 << 10
MAX_JOURNAL_BYTES = 8 << 20

_SESSION = re.compile(r"[a-z0-9][a-z0-9-]{2,39}")
_FILE = re.compile(r"frame_(\d{3})(?:_r([1-9]\d?))?\.(dng|jpg)")
_SHA256 = re.compile(r"[0-9a-f]{64}")
_TIME = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d{1,9})?Z")

Quality = Literal["CALIBRATED", "APPROXIMATE", "UNCALIBRATED"]
LensState = Literal["stationary", "moving"]
Command = Literal["stop", "retry"]
FailureKind = Literal["busy", "camera", "capture", "focus", "permission", "plan", "storage", "thermal"]
"""``busy``: another app has the camera, or it is not ready; ``camera``: it was disconnected or broke; ``capture``: this
exposure failed; ``focus``: the lens does not come to rest where it should; ``plan``: this phone cannot do it."""
EndReason = Literal["complete", "stopped", "idle", "failed"]

_T = TypeVar("_T")


class ProtocolError(CameraError):
    """What the other side wrote is not of this version, or not of the form."""


@dataclass(frozen=True)
class PlanFrame:
    """One frame that is wanted."""

    index: int
    diopters: float
    tolerance_d: float
    exposure_ns: int | None = None
    iso: int | None = None
    f_number: float | None = None


@dataclass(frozen=True)
class SettleRule:
    """When the lens counts as being there."""

    stationary_results: int = 2
    stuck_results: int = 30
    timeout_ms: int = 2000
    retries: int = 2


@dataclass(frozen=True)
class Plan:
    """What the host wants of a session."""

    session: str
    frames: tuple[PlanFrame, ...]
    settle: SettleRule = SettleRule()
    camera_id: str | None = None
    """As Camera2 numbers them; null: the main back camera."""
    linger_ms: int = 60_000

    def __post_init__(self) -> None:
        check_session(self.session)
        indices = [frame.index for frame in self.frames]
        if len(set(indices)) != len(indices) or len(indices) > MAX_FRAMES:
            raise ProtocolError(f"plan of {len(indices)} frames", expected=f"at most {MAX_FRAMES}, each index once")

    def to_json(self) -> dict[str, Any]:
        """The content of ``plan.json``."""
        return {"version": VERSION, **_plain(self)}


@dataclass(frozen=True)
class Control:
    """What the host wants of a session that runs."""

    session: str
    sequence: int
    command: Command
    frame: int | None = None

    def to_json(self) -> dict[str, Any]:
        """The content of ``control.json``."""
        return {"version": VERSION, **_plain(self)}


@dataclass(frozen=True)
class Device:
    """The phone."""

    make: str
    model: str
    android: str
    serial: str | None = None


@dataclass(frozen=True)
class PhoneCamera:
    """The camera that is used, from its characteristics."""

    id: str
    calibration: Quality
    """LENS_INFO_FOCUS_DISTANCE_CALIBRATION."""
    min_focus_d: float
    """LENS_INFO_MINIMUM_FOCUS_DISTANCE; 0: fixed focus."""
    focal_length_mm: float
    pixel_pitch_um: float
    f_numbers: tuple[float, ...]
    array_px: tuple[int, int]
    """(width, height) of a raw frame."""
    exposure_range_ns: tuple[int, int]
    iso_range: tuple[int, int]
    stabiliser_off: bool
    """Whether optical stabilisation is off for the session, or there is none."""
    hyperfocal_d: float | None = None


@dataclass(frozen=True)
class Hello:
    """First line of a journal."""

    time: str
    session: str
    app: str
    """Version of the app."""
    device: Device
    camera: PhoneCamera


@dataclass(frozen=True)
class FrameStart:
    """The lens is sent on its way."""

    time: str
    frame: int
    attempt: int
    """0, and one more each time the host asks for it again."""


@dataclass(frozen=True)
class FrameDone:
    """A frame is there, whole."""

    time: str
    frame: int
    attempt: int
    file: str
    bytes: int
    sha256: str
    diopters: float
    """LENS_FOCUS_DISTANCE of the result that belongs to the frame."""
    lens_state: LensState
    settle_ms: int
    settle_results: int
    """Capture results that were looked at."""
    exposure_ns: int
    iso: int
    f_number: float
    timestamp_ns: int
    """SENSOR_TIMESTAMP."""
    physical_id: str | None = None
    """LOGICAL_MULTI_CAMERA_ACTIVE_PHYSICAL_ID."""


@dataclass(frozen=True)
class Failure:
    """A frame, or where there is none the session, did not work out."""

    time: str
    kind: FailureKind
    message: str
    frame: int | None = None
    attempt: int = 0


@dataclass(frozen=True)
class End:
    """Last line of a journal."""

    time: str
    reason: EndReason


JournalLine = Hello | FrameStart | FrameDone | Failure | End
_EVENTS: Mapping[type, str] = {Hello: "hello", FrameStart: "start", FrameDone: "done", Failure: "failure", End: "end"}


@dataclass(frozen=True)
class PhoneStack:
    """The stack as the app records it, so that the folder speaks for itself."""

    session: str
    app: str
    device: Device
    camera: PhoneCamera
    frames: tuple[FrameDone, ...]
    """The last attempt of each, in order of the index."""
    complete: bool

    def to_json(self) -> dict[str, Any]:
        """The content of ``stack.json``."""
        return {"version": VERSION, **_plain(self)}


def check_session(name: str) -> str:
    """The name of a session, checked: it becomes a folder and an argument.

    Raises:
        ProtocolError: anything but 3 to 40 small letters, digits and hyphens.
    """
    if not _SESSION.fullmatch(name):
        raise ProtocolError(f"session '{name}'", expected="3 to 40 small letters, digits and hyphens")
    return name


def session_folder(session: str) -> str:
    """Where a session lies on the phone.

    Raises:
        ProtocolError: see :func:`check_session`.
    """
    return f"{FILES}/{check_session(session)}"


def frame_file(index: int, attempt: int, suffix: str = "dng") -> str:
    """Name of a frame's file: ``frame_007.dng``, ``frame_007_r1.dng`` for the second attempt."""
    return f"frame_{index:03}{f'_r{attempt}' if attempt else ''}.{suffix}"


def line_json(line: JournalLine) -> dict[str, Any]:
    """One line of the journal, as an object."""
    version = {"version": VERSION} if isinstance(line, Hello) else {}
    return {"event": _EVENTS[type(line)], **version, **_plain(line)}


def line_text(line: JournalLine) -> str:
    """One line of the journal with its line break."""
    return json.dumps(line_json(line), allow_nan=False) + "\n"


def parse_plan(text: str | bytes) -> Plan:
    """Read ``plan.json``.

    Raises:
        ProtocolError: it is not of this form, or of another version.
    """
    f = _versioned(text, PLAN)
    settle = f.object("settle")
    return Plan(
        session=f.text("session", _SESSION),
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


def _plan_frame(f: _Fields) -> PlanFrame:
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
    return Control(f.text("session", _SESSION), f.integer("sequence", 1, 10**9), command, frame)


def parse_line(text: str | bytes) -> JournalLine:
    """Read one line of the journal.

    Raises:
        ProtocolError: it is not of this form; a ``hello`` of another version.
    """
    f = _Fields(_object(text, JOURNAL), JOURNAL)
    event = f.text("event")
    readers: Mapping[str, Callable[[_Fields], JournalLine]] = {
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
        session=f.text("session", _SESSION),
        app=f.text("app"),
        device=_device(f.object("device")),
        camera=_camera(f.object("camera")),
        frames=tuple(_done(frame) for frame in f.objects("frames", MAX_FRAMES)),
        complete=f.flag("complete"),
    )


def _hello(f: _Fields) -> Hello:
    _check_version(f)
    return Hello(
        time=f.text("time", _TIME),
        session=f.text("session", _SESSION),
        app=f.text("app"),
        device=_device(f.object("device")),
        camera=_camera(f.object("camera")),
    )


def _device(f: _Fields) -> Device:
    return Device(f.text("make"), f.text("model"), f.text("android"), f.optional("serial", lambda key: f.text(key)))


def _camera(f: _Fields) -> PhoneCamera:
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


def _start(f: _Fields) -> FrameStart:
    return FrameStart(f.text("time", _TIME), f.integer("frame", 0, MAX_FRAMES), f.integer("attempt", 0, 99))


def _done(f: _Fields) -> FrameDone:
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


def _failure(f: _Fields) -> Failure:
    return Failure(
        time=f.text("time", _TIME),
        kind=f.one_of("kind", FailureKind),
        message=f.text("message"),
        frame=f.optional("frame", lambda key: f.integer(key, 0, MAX_FRAMES)),
        attempt=f.integer("attempt", 0, 99),
    )


def _end(f: _Fields) -> End:
    return End(f.text("time", _TIME), f.one_of("reason", EndReason))


class _Fields:
    """Fields of an object that somebody else wrote: every one checked for its type and bounds."""

    def __init__(self, values: Mapping[str, Any], where: str) -> None:
        self._values, self._where = values, where

    def text(self, key: str, pattern: re.Pattern[str] | None = None) -> str:
        value = self._values.get(key)
        if not isinstance(value, str) or len(value) > 1000 or (pattern and not pattern.fullmatch(value)):
            raise self._error(key, "a text" + (f" like {pattern.pattern}" if pattern else ""))
        return value

    def one_of(self, key: str, choices: Any) -> Any:
        if (value := self.text(key)) not in get_args(choices):
            raise self._error(key, "one of: " + ", ".join(get_args(choices)))
        return value

    def integer(self, key: str, low: int, high: int) -> int:
        value = _whole(self._values.get(key))
        if value is None or not low <= value <= high:
            raise self._error(key, f"a whole number from {low} to {high}")
        return value

    def number(self, key: str, low: float, high: float) -> float:
        return self._number(key, self._values.get(key), low, high)

    def numbers(self, key: str, shortest: int, longest: int) -> list[float]:
        return [self._number(key, value, 0, 1e15) for value in self._list(key, shortest, longest)]

    def pair(self, key: str) -> tuple[int, int]:
        first, second = (_whole(value) for value in self._list(key, 2, 2))
        if first is None or second is None or not (0 <= first <= 10**15 and 0 <= second <= 10**15):
            raise self._error(key, "two whole numbers")
        return first, second

    def flag(self, key: str) -> bool:
        value = self._values.get(key)
        if not isinstance(value, bool):
            raise self._error(key, "true or false")
        return value

    def optional(self, key: str, read: Callable[[str], _T]) -> _T | None:
        return None if self._values.get(key) is None else read(key)

    def object(self, key: str) -> _Fields:
        value = self._values.get(key)
        if not isinstance(value, dict):
            raise self._error(key, "an object")
        return _Fields(value, f"{self._where}: {key}")

    def objects(self, key: str, longest: int) -> list[_Fields]:
        values = self._list(key, 0, longest)
        if not all(isinstance(value, dict) for value in values):
            raise self._error(key, "objects")
        return [_Fields(value, f"{self._where}: {key}[{i}]") for i, value in enumerate(values)]

    def _list(self, key: str, shortest: int, longest: int) -> list[Any]:
        value = self._values.get(key)
        if not isinstance(value, list) or not shortest <= len(value) <= longest:
            raise self._error(key, f"a list of {shortest} to {longest}")
        return value

    def _number(self, key: str, value: Any, low: float, high: float) -> float:
        if isinstance(value, bool) or not isinstance(value, int | float) or not low <= value <= high:
            raise self._error(key, f"a number from {low:g} to {high:g}")
        return float(value)

    def _error(self, key: str, expected: str) -> ProtocolError:
        found = repr(self._values[key])[:80] if key in self._values else "nothing"
        return ProtocolError(f"{self._where}: {key} is {found}", expected=expected)


def _whole(value: Any) -> int | None:
    """A whole number, however it is written: in JSON 3.0 is one too."""
    if isinstance(value, float) and value.is_integer():
        return int(value)
    return value if isinstance(value, int) and not isinstance(value, bool) else None


def _object(text: str | bytes, where: str) -> dict[str, Any]:
    value = parse_json(text, where, "a message of the companion app", ProtocolError)
    if not isinstance(value, dict):
        raise ProtocolError(f"{where} holds {type(value).__name__}", expected="an object")
    return value


def _versioned(text: str | bytes, where: str) -> _Fields:
    fields = _Fields(_object(text, where), where)
    _check_version(fields)
    return fields


def _check_version(fields: _Fields) -> None:
    if (version := fields.integer("version", 0, 10**6)) != VERSION:
        raise ProtocolError(
            f"the companion app speaks version {version}",
            expected=f"version {VERSION}",
            hint="install the app that belongs to this dualpix",
        )


def _plain(message: Plan | Control | PhoneStack | JournalLine) -> dict[str, Any]:
    """As JSON has it, with lists for tuples: what was written and what is read compare as equal."""
    plain: dict[str, Any] = json.loads(json.dumps(asdict(message), allow_nan=False))
    return plain


def uncertainty_d(quality: Quality, diopters: float) -> float:
    """Standard deviation of a reported focus, by what the phone says of its own calibration.

    Camera2 puts no figure on the words: ``CALIBRATED`` promises the real distance "with good accuracy", ``APPROXIMATE``
    diopters that depend on how the phone is held, its age and its temperature. The figures are assumptions, a constant
    and a relative part, to be replaced by a calibration of the phone at hand.

    Raises:
        CameraError: an uncalibrated phone reports no distance.
    """
    parts = {"CALIBRATED": (0.02, 0.01), "APPROXIMATE": (0.10, 0.05)}
    if quality not in parts:
        raise CameraError(
            "this phone reports its focus without a unit (UNCALIBRATED)",
            hint="calibrate its lens and give the calibration",
        )
    constant, relative = parts[quality]
    return math.hypot(constant, relative * diopters)
