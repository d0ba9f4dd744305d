"""How a run goes, as it is told; and how it ends before its end."""

from __future__ import annotations

import signal
from collections.abc import Callable
from dataclasses import dataclass

from dualpix.capture.errors import DualpixError


@dataclass(frozen=True)
class Progress:
    """What a caller may show after a step."""

    step: int
    steps: int
    loss: float
    eval_error: float | None
    """In the unit of the task's error."""
    error_unit: str


@dataclass(frozen=True)
class Listener:
    """Who is told how a run goes."""

    on_progress: Callable[[Progress], None] = lambda _: None
    on_stage: Callable[[str, int, int], None] = lambda text, done, total: None
    """What is being done beside steps, e.g. rendering scenes: text, done, total (0 where it cannot be told)."""


class TrainingInterruptedError(Exception):
    """Ctrl-C or SIGTERM: the run stopped between two steps, and the last of them is in the checkpoint."""

    def __init__(self, step: int, signal_number: int | None) -> None:
        super().__init__(f"stopped after step {step}")
        self.step, self.signal_number = step, signal_number or signal.SIGINT


class NotFiniteError(DualpixError):
    """The training met a value that is NaN or infinite."""
