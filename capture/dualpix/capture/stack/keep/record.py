"""The record of a focus stack: ``stack.json``, and the journal it grows from.

Convention: a stack is a folder. ``journal.jsonl``, one JSON object a line, is appended to after everything that happens
and synced after every frame; it alone is the truth while a capture runs, and what ``--resume`` reads. ``stack.json``
(schema: ``stack.schema.json``) is written from it, whole, whenever a capture ends or stops. File names in either are
relative to the folder. Focus is in diopters from the lens, ``uncertainty_d`` one standard deviation.

Infinity, which JSON lacks, is the text "inf". Reading checks what the schema says, and besides that names stay within
the folder and indices are unique.
"""

from __future__ import annotations

import json
import math
import types
from collections.abc import Mapping, Sequence
from dataclasses import MISSING, dataclass, field, fields, is_dataclass
from pathlib import Path, PurePosixPath
from typing import Any, Literal, TypeVar, Union, get_args, get_origin, get_type_hints

from dualpix.capture import files
from dualpix.capture.camera_protocol import CameraInfo, DistanceSource, Role
from dualpix.capture.errors import DualpixError
from dualpix.capture.files import read_bounded, write_json

STACK = "stack.json"
JOURNAL = "journal.jsonl"
SCHEMA_VERSION = 1
SCHEMA = Path(__file__).with_name("stack.schema.json")
MAX_FRAMES = 10_000
MAX_FILE_BYTES = 64 << 20
_MAX_NAME = 255

FrameStatus = Literal["good", "suspect"]
T = TypeVar("T")


class RecordError(DualpixError):
    """A stack's record cannot be read or contradicts itself."""


@dataclass(frozen=True)
class FrameRecord:
    """A frame that is in the folder, whole."""

    index: int
    """Of the planned frame; each is there once."""
    role: Role
    files: tuple[str, ...]
    """The raw file first."""
    sha256: tuple[str, ...]
    bytes: tuple[int, ...]
    requested_d: float | None
    achieved_d: float | None
    """None, with ``uncertainty_d`` and the source "none", in an imported stack that says nowhere how far it is focused;
    then it is None in all focus frames, and their index is the order of the sweep."""
    uncertainty_d: float | None
    distance_source: DistanceSource
    motor_steps: int | None
    f_number: float | None
    exposure_s: float | None
    iso: float | None
    taken_at: str
    settle_s: float
    settle_frames: int
    settled: bool
    sharpness_tiles: tuple[tuple[float, ...], ...] | None
    """(rows, columns) mean squared gradient over squared mean level of the decoded frame, per tile; None where the
    file cannot be decoded here."""
    retries: int
    status: FrameStatus = "good"
    notes: tuple[str, ...] = ()
    focus_distance_lower_m: float | None = None
    """Bounds that the camera itself wrote, up to infinity."""
    focus_distance_upper_m: float | None = None
    details: dict[str, Any] = field(default_factory=dict)

    def to_json(self) -> dict[str, Any]:
        """Plain data in the form of the schema."""
        return dict(plain(self))


@dataclass(frozen=True)
class StackRecord:
    """A whole stack, finished or not."""

    session: str
    created_at: str
    camera: CameraInfo
    plan: dict[str, Any]
    """As ``FocusPlan.to_json`` gives it: mode, parameters, and every frame that was wanted."""
    frames: tuple[FrameRecord, ...]
    """In order of their index."""
    complete: bool
    calibration: dict[str, Any] | None = None
    """As ``LensCalibration.to_json`` gives it."""
    breathing: dict[str, float] | None = None
    """Of ``align``: scale = 1 + beta (D - D0); ``beta``, ``d0``, ``residual_px``."""
    versions: dict[str, str] = field(default_factory=dict)

    def to_json(self) -> dict[str, Any]:
        """Plain data in the form of ``stack.schema.json``."""
        return {"schema_version": SCHEMA_VERSION, **plain(self)}


def read_record(folder: Path) -> StackRecord:
    """The record of the stack in ``folder``.

    Args:
        folder: of the stack; the path of the ``stack.json`` in it is taken as well.

    Raises:
        RecordError: there is none, it is too large, no JSON, or not of the published form.
    """
    path = folder if folder.name == STACK and folder.is_file() else folder / STACK
    if not path.exists():
        journal = (path.parent / JOURNAL).exists()
        hint = "the capture was cut short: go on with --resume" if journal else "make one with 'dualpix capture'"
        raise RecordError(f"no {STACK} in '{path.parent}'", expected="the folder of a stack", hint=hint)
    data = read_bounded(path, MAX_FILE_BYTES, f"'{path}'", expected="the record of a stack", error=RecordError)
    try:
        return from_json(parse_json(data))
    except RecordError as error:
        raise RecordError(f"'{path}': {error.found}", expected=error.expected, hint=error.hint) from error


def write_record(folder: Path, record: StackRecord) -> Path:
    """Write ``stack.json`` into ``folder``, atomically.

    Raises:
        OutputError: it cannot be written.
    """
    path = folder / STACK
    write_json(path, record.to_json())
    return path


def read_schema() -> dict[str, Any]:
    """The JSON Schema of ``stack.json``."""
    schema: dict[str, Any] = json.loads(SCHEMA.read_bytes())
    return schema


def from_json(value: Any) -> StackRecord:
    """A record from plain data, checked.

    Raises:
        RecordError: not of the published form; the message names the entry.
    """
    if not isinstance(value, dict):
        raise _wrong("the record", value, "an object")
    version = value.get("schema_version")
    if version != SCHEMA_VERSION or isinstance(version, bool):
        raise RecordError(
            f"schema_version is {_shown(version)}", expected=f"{SCHEMA_VERSION}", hint="use the version that wrote it"
        )
    record = built(StackRecord, {key: item for key, item in value.items() if key != "schema_version"}, "")
    check_frames(record.frames)
    return record


def frame_from_json(value: Any, name: str = "frame") -> FrameRecord:
    """One frame from plain data, checked; ``name`` is what it is called in errors.

    Raises:
        RecordError: not of the published form.
    """
    frame = built(FrameRecord, value, name)
    _check_frame(frame, name)
    return frame


def check_frames(frames: Sequence[FrameRecord]) -> None:
    """Whether frames make a stack: each in itself, indices that rise, and a focus for all of them or for none.

    Raises:
        RecordError: they do not.
    """
    last = -1
    for place, frame in enumerate(frames):
        name = f"frames[{place}]"
        _check_frame(frame, name)
        if frame.index <= last:
            raise RecordError(f"{name}.index is {frame.index} after {last}", expected="each frame once, in order")
        last = frame.index
    focus = [frame for frame in frames if frame.role == "focus"]
    silent = [frame.index for frame in focus if frame.achieved_d is None]
    if 0 < len(silent) < len(focus):
        raise RecordError(
            f"achieved_d is null in {len(silent)} of {len(focus)} focus frames, first in frame {silent[0]}",
            expected="a focus for all of them, or for none",
        )


def parse_json(data: bytes) -> Any:
    """As :func:`dualpix.capture.files.parse_json`.

    Raises:
        RecordError: it is no JSON.
    """
    return files.parse_json(data, "it", "the record of a stack", RecordError)


def plain(value: Any) -> Any:
    """Dataclasses, tuples and mappings as what JSON has; infinity as "inf"."""
    if is_dataclass(value) and not isinstance(value, type):
        return {f.name: plain(getattr(value, f.name)) for f in fields(value)}
    if isinstance(value, Mapping):
        return {str(key): plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [plain(item) for item in value]
    return "inf" if isinstance(value, float) and value == math.inf else value


def built(kind: type[T], value: Any, name: str) -> T:
    """A dataclass from plain data, every field checked against its type and :data:`_LIMITS`.

    Raises:
        RecordError: an entry is missing, unknown, or not what the type says.
    """
    if not isinstance(value, dict):
        raise _wrong(name or "the record", value, "an object")
    hints = get_type_hints(kind)
    known = {f.name: f for f in fields(kind)}  # type: ignore[arg-type]
    for key in value:
        if key not in known:
            raise RecordError(f"unknown entry '{_joined(name, str(key)[:40])}'", expected=f"of: {', '.join(known)}")
    for key, entry in known.items():
        if key not in value and entry.default is MISSING and entry.default_factory is MISSING:
            raise RecordError(f"'{_joined(name, key)}' is missing", expected="a record of 'dualpix capture'")
    return kind(**{key: _item(hints[key], item, _joined(name, key)) for key, item in value.items()})


def checked(kind: Any, value: Any, name: str) -> Any:
    """A value of a type that a record's field may have, as ``tuple[int, ...]``, checked as a field of that name is.

    Raises:
        RecordError: it is not what the type says.
    """
    return _item(kind, value, name)


_D = (-10.0, 1000.0)
_POSITIVE = (0.0, 1e9)
_LIMITS: dict[str, tuple[float, float]] = {
    "index": (0, MAX_FRAMES), "bytes": (1, 2**40), "requested_d": _D, "achieved_d": _D, "uncertainty_d": (0, 1000),
    "motor_steps": (-(2**31), 2**31), "f_number": (0.1, 1000), "exposure_s": (0, 1e6), "iso": (0, 1e8),
    "settle_s": (0, 1e6), "settle_frames": (0, 10**9), "sharpness_tiles": (0, 1e12), "retries": (0, 10**6),
    "focus_distance_lower_m": _POSITIVE, "focus_distance_upper_m": _POSITIVE, "focal_length_mm": (0.1, 1e5),
    "min_focus_m": _POSITIVE, "pixel_pitch_um": (0.01, 1e4), "f_numbers": (0.1, 1000),
}  # fmt: skip
"""(least, most) of numbers, by field."""
_INFINITE = {"focus_distance_lower_m", "focus_distance_upper_m", "min_focus_m"}
_MOST = {"frames": MAX_FRAMES, "sharpness_tiles": 64, "files": 16, "sha256": 16, "bytes": 16, "notes": 64}


def _item(kind: Any, value: Any, name: str) -> Any:
    origin, arguments = get_origin(kind), get_args(kind)
    if origin in (types.UnionType, Union):
        inner = [a for a in arguments if a is not type(None)]
        return None if value is None else _item(inner[0], value, name)
    if origin is Literal:
        return _choice(value, arguments, name)
    if origin is tuple:
        return _list(arguments[0], value, name)
    if origin is dict:
        return _mapping(arguments[1], value, name)
    return built(kind, value, name) if isinstance(kind, type) and is_dataclass(kind) else _leaf(kind, value, name)


def _choice(value: Any, known: tuple[str, ...], name: str) -> str:
    if not isinstance(value, str) or value not in known:
        raise _wrong(name, value, "one of: " + ", ".join(known))
    return value


def _list(kind: Any, value: Any, name: str) -> tuple[Any, ...]:
    most = _MOST.get(_field(name), 256)
    if not isinstance(value, list) or len(value) > most:
        raise _wrong(name, value, f"a list of at most {most}")
    return tuple(_item(kind, item, f"{name}[{place}]") for place, item in enumerate(value))


def _mapping(kind: Any, value: Any, name: str) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise _wrong(name, value, "an object")
    if kind is Any:
        return value
    return {key: _item(kind, item, _joined(name, key)) for key, item in value.items()}


def _leaf(kind: Any, value: Any, name: str) -> Any:
    if kind is bool or kind is str:
        if not isinstance(value, kind):
            raise _wrong(name, value, "true or false" if kind is bool else "a text")
        return value
    if value == "inf" and _field(name) in _INFINITE:
        return math.inf
    if isinstance(value, bool) or not isinstance(value, int if kind is int else (int, float)):
        raise _wrong(name, value, "a whole number" if kind is int else "a number")
    low, high = _LIMITS.get(_field(name), (-1e15, 1e15))
    if not low <= value <= high:
        raise _wrong(name, value, f"{low:g} to {high:g}")
    return kind(value)


def _check_frame(frame: FrameRecord, name: str) -> None:
    if (frame.achieved_d is None) != (frame.uncertainty_d is None):
        raise RecordError(f"{name} has one of achieved_d and uncertainty_d", expected="both, or null for both")
    if not frame.files or not len(frame.files) == len(frame.sha256) == len(frame.bytes):
        counts = f"{len(frame.files)} files, {len(frame.sha256)} sha256, {len(frame.bytes)} bytes"
        raise RecordError(f"{name} has {counts}", expected="as many of each, at least one")
    for file in frame.files:
        check_name(file, f"{name}.files")
    for digest in frame.sha256:
        if len(digest) != 64 or set(digest) - set("0123456789abcdef"):
            raise _wrong(f"{name}.sha256", digest, "64 hexadecimal digits")
    if frame.sharpness_tiles is not None and len({len(row) for row in frame.sharpness_tiles}) != 1:
        raise RecordError(f"{name}.sharpness_tiles is not rectangular", expected="rows of equal length")


def check_name(file: str, name: str = "file name") -> str:
    """``file`` if it is a relative path that stays within the folder, with forward slashes.

    Raises:
        RecordError: it is not.
    """
    path = PurePosixPath(file)
    plain_text = file.isprintable() and "\\" not in file and 0 < len(file) <= _MAX_NAME
    if not plain_text or path.is_absolute() or ".." in path.parts or str(path) != file or file == ".":
        raise _wrong(name, file, "a plain file name within the folder")
    return file


def _joined(name: str, key: str) -> str:
    return f"{name}.{key}" if name else key


def _field(name: str) -> str:
    """The last named part: ``frames[3].bytes[0]`` is ``bytes``."""
    return name.rsplit(".", 1)[-1].split("[", 1)[0]


def _wrong(name: str, value: Any, expected: str) -> RecordError:
    return RecordError(f"{name} is {_shown(value)}", expected=expected)


def _shown(value: Any) -> str:
    text = json.dumps(value, default=str)
    return text if len(text) <= 60 else f"{text[:57]}..."
