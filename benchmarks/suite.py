"""What is measured: things to run, and the one they are measured against in the same rounds."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any


def seconds(run: Callable[[], object]) -> float:
    """Wall time of one run."""
    started = time.perf_counter()
    run()
    return time.perf_counter() - started


@dataclass(frozen=True)
class Suite:
    """Things to measure against a reference."""

    title: str
    reference: str
    rounds: int
    build: Callable[[Path], Mapping[str, Callable[[], Any]]]
    """A scratch folder -> name -> one run; holds the reference."""
    threads: int | None = None
    """Of OpenCV and torch; None leaves them as a user has them."""
    quantity: str = "time"
    unit: str = "s"
    sample: Callable[[Callable[[], Any]], float] = seconds
    """One run to its figure."""
