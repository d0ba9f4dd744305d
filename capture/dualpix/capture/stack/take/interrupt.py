"""Ctrl-C and SIGTERM as a wish that is granted at the next safe moment, where nothing is half done.

The first signal sets a switch; the work finishes the frame or the step that it is at. One more stops it at once, and
while a camera is being brought to rest, every one from the third on gives that up.
"""

from __future__ import annotations

import signal
import threading
from types import FrameType
from typing import Any, Self

_SIGNALS = (signal.SIGINT, signal.SIGTERM)


class InterruptedCaptureError(Exception):
    """The user, or the system, wants an end."""


class StopSwitch:
    """``with StopSwitch() as switch: ... switch.check()``; signals are taken over in the main thread only."""

    def __init__(self) -> None:
        self.signal_number: int | None = None
        """That asked for the end."""
        self.patient = False
        """While the camera is being brought to rest."""
        self._count = 0
        self._set = threading.Event()
        self._earlier: dict[int, Any] = {}

    def __enter__(self) -> Self:
        if threading.current_thread() is threading.main_thread():
            for number in _SIGNALS:
                if signal.getsignal(number) is not signal.SIG_IGN:  # as in the background of a shell
                    self._earlier[number] = signal.signal(number, self._on_signal)
        return self

    def __exit__(self, *_: object) -> None:
        for number, handler in self._earlier.items():
            signal.signal(number, signal.SIG_DFL if handler is None else handler)

    @property
    def is_set(self) -> bool:
        """Whether an end is wanted."""
        return self._set.is_set()

    @property
    def by_user(self) -> bool:
        """Whether it was Ctrl-C."""
        return self.signal_number in (None, signal.SIGINT)

    def set(self, number: int = signal.SIGINT) -> None:
        """Ask for the end."""
        self.signal_number = number
        self._set.set()

    def check(self) -> None:
        """Raise InterruptedCaptureError if an end is wanted."""
        if self.is_set:
            raise InterruptedCaptureError

    def wait(self, seconds: float) -> None:
        """Sleep, but not past the wish to end. Raises InterruptedCaptureError."""
        self._set.wait(seconds)
        self.check()

    def _on_signal(self, number: int, _: FrameType | None) -> None:
        self._count += 1
        self.set(number)
        if self._count > (2 if self.patient else 1):
            raise KeyboardInterrupt
