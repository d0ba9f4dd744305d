"""Faults that a test camera commits, as data: at which call of which operation what goes wrong.

Convention: operations are the camera's, whatever the protocol calls them; calls are counted from 1, per operation, over
the life of the camera, and a call that fails counts. What each kind means is up to the operation it strikes:

=================  ====================================================================================
busy               the call is refused for now and has no effect; the next one is served
drop_connection    the connection breaks instead of an answer; the camera stands as it is, and takes a new one
lost               as if it had slept: the connection breaks, the next one is refused, the lens stands elsewhere
card_full          there is no room for the frame
truncated          the file that is sent ends early
duplicate          the previous frame's file is sent in place of this one's
stuck              the lens does not move from now on, until somebody connects anew
=================  ====================================================================================
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from pathlib import Path
from threading import Lock
from typing import Any, Literal, get_args

from dualpix.capture.errors import DualpixError

Operation = Literal["connect", "status", "set", "live_view", "drive", "shoot", "poll", "download"]
"""``set``: a setting; ``drive``: a step or an absolute move of the focus; ``poll``: asking for news of the shot."""
Kind = Literal["busy", "drop_connection", "lost", "card_full", "truncated", "duplicate", "stuck"]

OPERATIONS: tuple[str, ...] = get_args(Operation)
KINDS: tuple[str, ...] = get_args(Kind)


@dataclass(frozen=True)
class Fault:
    """What goes wrong at one call."""

    operation: Operation
    nth: int
    """The call, from 1."""
    kind: Kind
    times: int = 1
    """How many calls in a row, from ``nth`` on."""

    def __post_init__(self) -> None:
        if self.operation not in OPERATIONS or self.kind not in KINDS:
            raise DualpixError(
                f"fault '{self.kind}' at '{self.operation}'",
                expected=f"one of {', '.join(KINDS)} at one of {', '.join(OPERATIONS)}",
            )
        if not (isinstance(self.nth, int) and isinstance(self.times, int) and self.nth >= 1 and self.times >= 1):
            raise DualpixError(f"fault at call {self.nth}, {self.times} times", expected="whole numbers from 1")


class FaultPlan:
    """The faults of one camera, which asks :meth:`at` at each call; safe to share between threads."""

    def __init__(self, faults: Iterable[Fault] = ()) -> None:
        self.faults = tuple(faults)
        self.calls: Counter[str] = Counter()
        """How often each operation was called."""
        self.struck: list[tuple[str, int, str]] = []
        """(operation, call, kind) that have happened."""
        self._lock = Lock()

    def replace(self, faults: Iterable[Fault]) -> None:
        """Other faults, and calls counted anew."""
        with self._lock:
            self.faults = tuple(faults)
            self.calls.clear()
            self.struck.clear()

    def at(self, operation: Operation) -> Kind | None:
        """Count a call of ``operation``; the kind of the fault that strikes it, if any."""
        with self._lock:
            self.calls[operation] += 1
            call = self.calls[operation]
            for fault in self.faults:
                if fault.operation == operation and fault.nth <= call < fault.nth + fault.times:
                    self.struck.append((operation, call, fault.kind))
                    return fault.kind
        return None

    @classmethod
    def read(cls, path: Path | None) -> FaultPlan:
        """From a file, see :meth:`to_json`; no faults where there is none.

        Raises:
            DualpixError: the file cannot be read or does not hold a list of faults.
        """
        if path is None:
            return cls()
        try:
            rows = json.loads(path.read_text(encoding="utf-8"))
            return cls(Fault(**row) for row in rows)
        except (OSError, ValueError, TypeError) as error:
            raise DualpixError(
                f"cannot read faults from '{path}': {error}",
                expected='[{"operation": "shoot", "nth": 3, "kind": "busy", "times": 1}, ...]',
            ) from error

    def to_json(self) -> list[dict[str, Any]]:
        """One object a fault: ``operation``, ``nth``, ``kind``, ``times``."""
        return [asdict(fault) for fault in self.faults]
