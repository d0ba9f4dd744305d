"""What is asked of ``dualpix export``."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from dualpix.export.command.limits import LimitsFile
from dualpix.models.named import is_named


@dataclass(frozen=True)
class Asked:
    """What the user asks, checked as far as that goes without the network."""

    model: str
    output: Path
    recipes: tuple[str, ...]
    threads: int
    rounds: int
    budget: float | None
    assignment: Any
    """Content of the file."""
    assignment_name: str
    limits: LimitsFile | None
    size_hw: tuple[int, int]
    frames: int
    """Of focus stacks."""
    calibration_count: int
    eval_count: int
    calibrate_with: tuple[str, ...]
    evaluate_with: tuple[str, ...] = ()
    metric: str | None = None
    metric_better: Literal["lower", "higher"] | None = None
    licence: str | None = None
    weights_origin: str | None = None

    @property
    def is_own(self) -> bool:
        """Whether the model is a user's own function."""
        return is_own(self.model)


def is_own(model: str) -> bool:
    """Whether ``model`` names a function rather than a shipped model or a folder."""
    return is_named(model) and not Path(model).exists()
