"""What is asked of ``dualpix quantize``."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from dualpix.quantize.kinds import Observer, Sweep


@dataclass(frozen=True)
class Asked:
    """What the user asks, checked as far as that goes without the network's weights."""

    model: str
    output: Path
    budget: float
    """Share of the float network's loss."""
    size_hw: tuple[int, int]
    frames: int
    """Of each scene, where they are focus stacks."""
    calibration_count: int
    held_back_count: int
    ranking_count: int
    sweeps: tuple[Sweep, ...]
    observer: Observer
