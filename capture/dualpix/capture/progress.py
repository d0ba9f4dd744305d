"""Progress for people: a bar on a terminal, plain lines in a log."""

from __future__ import annotations

import sys
from types import TracebackType
from typing import Self

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn


class ProgressLine:
    """``with ProgressLine("rendering") as line: line.update(done, total, "text")``; writes to stderr."""

    def __init__(self, what: str) -> None:
        self.what = what
        self._bar: Progress | None = None
        if sys.stderr.isatty():
            self._bar = Progress(
                TextColumn(what),
                BarColumn(),
                MofNCompleteColumn(),
                TimeRemainingColumn(),
                TextColumn("{task.description}"),
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
        elif important:
            print(f"{self.what}: {done}/{total} {text}".rstrip(), file=sys.stderr, flush=True)
