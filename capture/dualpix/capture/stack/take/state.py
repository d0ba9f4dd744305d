"""What a journal adds up to: which frames count, which shots still have to be judged, what was tried.

Convention: an event changes the state in the same way when it happens and when it is read again, so a resumed run knows
exactly what the one before it knew.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from dualpix.capture.camera_protocol import Achieved, Exposure, Settled
from dualpix.capture.focus.driven import Found
from dualpix.capture.stack.keep.record import FrameRecord, RecordError, built, check_name, checked, frame_from_json


@dataclass(frozen=True)
class Intent:
    """The shutter is about to be released: what an orphaned file is proven by."""

    index: int
    stem: str
    at: str
    achieved: Achieved
    settled: Settled
    asked: Exposure


@dataclass(frozen=True)
class Taken:
    """A shot whose files are in the folder, not yet judged."""

    intent: Intent
    files: tuple[str, ...]
    bytes: tuple[int, ...]
    reported: Exposure
    taken_at: str
    achieved: Achieved
    """Of the camera with the frame, else of the intent."""
    details: dict[str, Any] = field(default_factory=dict)


@dataclass
class StackState:
    """The fold of a journal's events."""

    frames: dict[int, FrameRecord] = field(default_factory=dict)
    """That count, by index."""
    intents: dict[int, Intent] = field(default_factory=dict)
    """Whose shot is not known to have arrived."""
    shots: dict[int, Taken] = field(default_factory=dict)
    """That were not judged."""
    refused: Counter[int] = field(default_factory=Counter)
    """Shots that were judged and do not count, by index."""
    retries: Counter[int] = field(default_factory=Counter)
    """Attempts that came to nothing, by index: refused shots, and those that never arrived."""
    reasons: dict[int, str] = field(default_factory=dict)
    """Why the last attempt at a frame was refused."""
    seen: dict[str, int] = field(default_factory=dict)
    """SHA-256 of every file that was ever examined, with the index of its frame."""

    found: Found | None = None
    """Where the focus was before the capture moved it, if nobody has brought it back there."""

    def apply_all(self, events: Iterable[Mapping[str, Any]]) -> None:
        """Apply events in their order.

        Raises:
            RecordError: an event is not of the form in which it is written.
        """
        for event in events:
            self.apply(event)

    def apply(self, event: Mapping[str, Any]) -> None:
        """Apply one event; those that change nothing here are passed over.

        Raises:
            RecordError: it is not of the form in which it is written.
        """
        change = _CHANGES.get(event["event"])
        if change is None:
            return
        try:
            change(self, event)
        except RecordError as error:
            found = f"the journal has a malformed '{event['event']}': {error.found}"
            raise RecordError(found, expected=error.expected) from error
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise RecordError(f"the journal has a malformed '{event['event']}' ({str(error)[:120]})") from error

    def _intent(self, event: Mapping[str, Any]) -> None:
        index = _index(event)
        self.intents[index] = Intent(
            index,
            check_name(checked(str, event["stem"], "stem")),
            _moment(event["at"]),
            built(Achieved, event["achieved"], "achieved"),
            built(Settled, event["settled"], "settled"),
            built(Exposure, event["exposure"], "exposure"),
        )

    def _shot(self, event: Mapping[str, Any]) -> None:
        index = _index(event)
        names = checked(tuple[str, ...], event["files"], "files")
        sizes = checked(tuple[int, ...], event["bytes"], "bytes")
        if not names or len(names) != len(sizes):
            raise ValueError(f"{len(names)} files, {len(sizes)} bytes")
        self.shots[index] = Taken(
            self.intents.pop(index),
            tuple(check_name(name) for name in names),
            sizes,
            built(Exposure, event["exposure"], "exposure"),
            checked(str, event["taken_at"], "taken_at"),
            built(Achieved, event["achieved"], "achieved"),
            checked(dict[str, Any], event["details"], "details"),
        )

    def _frame(self, event: Mapping[str, Any]) -> None:
        frame = frame_from_json(event["frame"])
        if frame.achieved_d is None:
            raise ValueError("achieved_d is null")
        self.frames[frame.index] = frame
        self._forget_attempt(frame.index)
        self._see(frame.index, frame.sha256)

    def _refused(self, event: Mapping[str, Any]) -> None:
        index = _index(event)
        self.frames.pop(index, None)
        self._forget_attempt(index)
        self.refused[index] += 1
        self.retries[index] += 1
        self.reasons[index] = checked(str, event["reason"], "reason")
        self._see(index, checked(tuple[str, ...], event["sha256"], "sha256"))

    def _retry(self, event: Mapping[str, Any]) -> None:
        if event.get("index") is not None:
            self.retries[_index(event)] += 1

    def _homed(self, event: Mapping[str, Any]) -> None:
        if self.found is None and event.get("found") is not None:
            self.found = built(Found, event["found"], "found")

    def _left(self, event: Mapping[str, Any]) -> None:
        if checked(bool, event["left"], "left"):
            self.found = None

    def _forget_attempt(self, index: int) -> None:
        self.intents.pop(index, None)
        self.shots.pop(index, None)

    def _see(self, index: int, digests: Iterable[str]) -> None:
        for digest in digests:
            self.seen.setdefault(digest, index)


def _index(event: Mapping[str, Any]) -> int:
    return int(checked(int, event["index"], "index"))


def _moment(value: Any) -> str:
    datetime.fromisoformat(checked(str, value, "at"))
    return str(value)


_CHANGES = {
    "intent": StackState._intent,
    "shot": StackState._shot,
    "frame": StackState._frame,
    "rejected": StackState._refused,
    "doubted": StackState._refused,
    "retry": StackState._retry,
    "homed": StackState._homed,
    "stopped": StackState._left,
    "finished": StackState._left,
}
