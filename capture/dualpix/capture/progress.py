"""Progress for people: a bar on a terminal, plain lines in a log."""

from __future__ import annotations

import sys
import time
from contextlib import suppress
from types import TracebackType
from typing import Self

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn


class ProgressLine:
    """``with ProgressLine("rendering") as line: line.update(done, total, "text")``; writes to stderr.

    A silent one writes nothing: of several processes one speaks.
    """

    def __init__(self, what: str, *, silent: bool = False) -> None:
        self.what, self.silent = what, silent
        self._bar: Progress | None = None
        if sys.stderr.isatty() and not silent:
            self._bar = Progress(
                TextColumn(what),
                BarColumn(),
                MofNCompleteColumn(),
                TimeRemainingColumn(),
                TextColumn("{task.description}", markup=False),
                console=Console(stderr=True),
            )
            self._task = self._bar.add_task("", total=None)

    def __enter__(self) -> Self:
        if self._bar:
            self._bar.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if self._bar:
            self._bar.stop()

    def update(self, done: int, total: int, text: str = "", *, important: bool = True) -> None:
        """Show ``done`` of ``total``; in a log only the important updates make a line."""
        if self._bar:
            self._bar.update(self._task, completed=done, total=total, description=text)
        elif important and not self.silent:
            _print(f"{self.what}: {done}/{total} {text}".rstrip())

    @property
    def shows_time_left(self) -> bool:
        """Whether there is a bar, which does."""
        return self._bar is not None

    def say(self, text: str) -> None:
        """Print a line of its own, above the bar where there is one."""
        if self._bar:
            self._bar.console.print(text, markup=False, highlight=False, soft_wrap=True)
        elif not self.silent:
            _print(text)


def _print(text: str) -> None:
    """Into a log, if it takes it: work of hours does not end because the disk of its log is full."""
    with suppress(OSError):
        print(text, file=sys.stderr, flush=True)


class Pace:
    """How fast a row of like pieces goes, and how long the rest will take."""

    def __init__(self, total: int) -> None:
        self.total, self.done = total, 0
        self._started_s = time.monotonic()

    @property
    def seconds(self) -> float:
        """Since the start."""
        return time.monotonic() - self._started_s

    @property
    def per_second(self) -> float:
        """Pieces per second so far."""
        return self.done / max(self.seconds, 1e-9)

    def step(self) -> None:
        """Count one more piece."""
        self.done += 1

    @property
    def time_left(self) -> str:
        """At the speed so far, e.g. "0:42"."""
        minutes, seconds = divmod(round((self.total - self.done) / max(self.per_second, 1e-9)), 60)
        hours, minutes = divmod(minutes, 60)
        return f"{hours}:{minutes:02}:{seconds:02}" if hours else f"{minutes}:{seconds:02}"
