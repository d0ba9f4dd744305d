"""The journal of a capture: what happened, one JSON object a line, appended before anything else happens.

Convention: the first line is the header: session, camera, plan and calibration, with the digests that a resumed run
must match. Every line has ``event`` and ``at`` (ISO 8601, UTC). A line that a kill or a full disk cut short is the last
one and has no line break; it never happened, and is cut off before the next line is written.

A killed process loses no line: each is with the system when :meth:`Journal.append` returns. A loss of power loses what
was not yet synced. All lines are, with those before them, but for ``intent`` and ``shot``: without these a frame is
taken once more, while waiting for the disk three times instead of once would make every frame slower.

Events of a frame, in the order in which they come, each with its ``index``:

=========  ============================================================================================
intent     the focus is there and the shutter is about to be released: where it is, how it settled
shot       the files are in the folder, whole: their names, what the camera said of them
frame      they were checked and count: the frame's record
rejected   they were checked and do not count, with the reason; they are in ``suspect/``
doubted    a frame that counted does so no more, with the reason; its files are in ``suspect/``
=========  ============================================================================================
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Self

from dualpix.capture.camera_protocol import CameraInfo
from dualpix.capture.errors import OutputError
from dualpix.capture.files import read_bounded
from dualpix.capture.stack.keep.record import JOURNAL, RecordError, checked, parse_json, plain

try:
    import fcntl
except ImportError:  # Windows: two runs in one folder are not told apart
    fcntl = None  # type: ignore[assignment]

MAX_JOURNAL_BYTES = 256 << 20
_MAX_LINE_BYTES = 16 << 20
HEADER = "header"
_HEADER: dict[str, Any] = {
    "session": str, "created_at": str, "camera": CameraInfo, "camera_sha256": str, "plan": dict[str, Any],
    "plan_sha256": str, "calibration": dict[str, Any] | None, "calibration_sha256": str, "origin": dict[str, Any],
    "versions": dict[str, str],
}  # fmt: skip
_UNSYNCED = ("intent", "shot")


def digest_of(value: Any) -> str:
    """SHA-256 of plain data, the same for the same content however it was written."""
    text = json.dumps(plain(value), sort_keys=True, separators=(",", ":"), allow_nan=False)
    return hashlib.sha256(text.encode()).hexdigest()


def now() -> str:
    """As :func:`iso`."""
    return iso(datetime.now(UTC))


def iso(moment: datetime) -> str:
    """ISO 8601 of a time in UTC, to the millisecond."""
    return moment.isoformat(timespec="milliseconds").replace("+00:00", "Z")


class Journal:
    """The journal of a folder, open for appending by this process alone. Use it as a context manager."""

    def __init__(self, folder: Path) -> None:
        """Open or create it.

        Raises:
            OutputError: it cannot be written, or another process is writing it.
        """
        self.path = folder / JOURNAL
        try:
            self._handle = os.open(self.path, os.O_RDWR | os.O_CREAT | os.O_APPEND | getattr(os, "O_BINARY", 0), 0o666)
        except OSError as error:
            raise _cannot_write(self.path, error) from error
        try:
            self._lock()
            sync_folder(folder)
            content = _read(self.path)
            self.events = _parse(content, self.path)
            """What happened, header first; empty for a new journal."""
            os.ftruncate(self._handle, content.rfind(b"\n") + 1)  # without a torn line
        except BaseException:
            os.close(self._handle)
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        os.close(self._handle)

    def append(self, event: str, /, **content: Any) -> dict[str, Any]:
        """Write one event, all of it or nothing; wait until it is on the disk, but see the module.

        Raises:
            OutputError: it cannot be written, for instance because the disk is full.
        """
        entry = {"event": event, "at": now(), **plain(content)}
        line = json.dumps(entry, allow_nan=False, ensure_ascii=False).encode() + b"\n"
        size = os.fstat(self._handle).st_size
        try:
            written = 0
            while written < len(line):
                written += os.write(self._handle, line[written:])
            if event not in _UNSYNCED:
                os.fsync(self._handle)
        except BaseException as error:
            os.ftruncate(self._handle, size)
            if isinstance(error, OSError):
                raise _cannot_write(self.path, error) from error
            raise
        self.events.append(entry)
        return entry

    def clear(self) -> None:
        """Begin anew."""
        os.ftruncate(self._handle, 0)
        self.events.clear()

    def _lock(self) -> None:
        if fcntl is None:
            return
        try:
            fcntl.flock(self._handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise OutputError(
                f"another capture is writing to '{self.path.parent}'", hint="wait for it, or choose another -o"
            ) from error
        except OSError:  # a file system without locks
            return


def read_events(folder: Path) -> list[dict[str, Any]]:
    """The events in a folder's journal, header first, without locking it; none where there is no journal.

    Raises:
        RecordError: it cannot be read, or a line that was finished is none of a journal.
    """
    path = folder / JOURNAL
    return _parse(_read(path), path) if path.exists() else []


def header_of(events: list[dict[str, Any]], folder: Path) -> Mapping[str, Any]:
    """The header of a journal that is not empty.

    Raises:
        RecordError: the first line is none.
    """
    header = events[0]
    if header.get("event") != HEADER or any(key not in header for key in _HEADER):
        raise RecordError(f"'{folder / JOURNAL}' does not begin with a header", expected="a journal of a capture")
    try:
        for key, kind in _HEADER.items():
            checked(kind, header[key], key)
        checked(dict[str, str], header["origin"].get("options", {}), "origin.options")
    except RecordError as error:
        found = f"the header of '{folder / JOURNAL}' is malformed: {error.found}"
        raise RecordError(found, expected=error.expected) from error
    return header


def _read(path: Path) -> bytes:
    return read_bounded(path, MAX_JOURNAL_BYTES, f"'{path}'", expected="a journal of a capture", error=RecordError)


def _parse(content: bytes, path: Path) -> list[dict[str, Any]]:
    events = []
    for number, line in enumerate(content.split(b"\n")[:-1], start=1):
        if len(line) > _MAX_LINE_BYTES:
            raise RecordError(f"line {number} of '{path}' is too long", expected="a journal of a capture")
        try:
            event = parse_json(line)
        except RecordError as error:
            raise RecordError(f"line {number} of '{path}': {error.found}", expected="a journal of a capture") from error
        if not isinstance(event, dict) or not isinstance(event.get("event"), str):
            raise RecordError(f"line {number} of '{path}' is no event", expected="a journal of a capture")
        events.append(event)
    return events


def sync_folder(folder: Path) -> None:
    """So that a new name in it survives a loss of power; where folders cannot be synced, nothing is lost by trying."""
    try:
        handle = os.open(folder, os.O_RDONLY)
    except OSError:
        return
    try:
        os.fsync(handle)
    except OSError:
        pass
    finally:
        os.close(handle)


def _cannot_write(path: Path, error: OSError) -> OutputError:
    return OutputError(f"cannot write '{path}': {error.strerror or error}", hint="free some space on the disk")
