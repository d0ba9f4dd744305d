"""What really happened at each release of a test camera, for tests alone: in memory, or in a state file."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from dualpix.capture.errors import DualpixError


@dataclass(frozen=True)
class ShotTruth:
    """What really happened at a release; one line of the state file."""

    shot: int
    """From 0, in the order of release, whether or not the file arrived anywhere."""
    diopters: float
    """The true focus."""
    magnification: float
    f_number: float
    exposure_s: float
    iso: float
    file: str
    """Name on the camera."""
    sha256: str
    """Of the raw file: what a downloaded copy is told by."""
    busy_s: float
    """Device time so far."""
    moves: int
    """Of the lens, so far."""


def read_state(path: Path) -> list[ShotTruth]:
    """The truth of the shots that a camera in another process has taken, from its state file.

    Raises:
        DualpixError: the file is not one.
    """
    try:
        lines = path.read_text(encoding="utf-8").splitlines() if path.exists() else []
        rows: list[dict[str, Any]] = [json.loads(line) for line in lines]
        return [ShotTruth(**row) for row in rows]
    except (OSError, ValueError, TypeError) as error:
        raise DualpixError(f"cannot read the state of a test camera from '{path}': {error}") from error
