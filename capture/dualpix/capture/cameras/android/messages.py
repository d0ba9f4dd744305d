"""Messages of the host and the companion app, their bounds, and where they lie on the phone. See :mod:`.protocol`."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, Literal

from dualpix.capture.camera_protocol import CameraError

VERSION = 1
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

SESSION_NAME = re.compile(r"[a-z0-9][a-z0-9-]{2,39}")

Quality = Literal["CALIBRATED", "APPROXIMATE", "UNCALIBRATED"]
LensState = Literal["stationary", "moving"]
Command = Literal["stop", "retry"]
FailureKind = Literal["busy", "camera", "capture", "focus", "permission", "plan", "storage", "thermal"]
"""``busy``: another app has the camera, or it is not ready; ``camera``: it was disconnected or broke; ``capture``: this
exposure failed; ``focus``: the lens does not come to rest where it should; ``plan``: this phone cannot do it."""
EndReason = Literal["complete", "stopped", "idle", "failed"]


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
    if not SESSION_NAME.fullmatch(name):
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


def _plain(message: Plan | Control | PhoneStack | JournalLine) -> dict[str, Any]:
    """As JSON has it, with lists for tuples: what was written and what is read compare as equal."""
    plain: dict[str, Any] = json.loads(json.dumps(asdict(message), allow_nan=False))
    return plain
