"""What is asked of ``dualpix evaluate``."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Asked:
    """What the user asks, checked as far as that goes without the data."""

    data: str
    folder: Path | None
    """None for rendered scenes."""
    count: int
    """Of rendered scenes."""
    size_hw: tuple[int, int]
    """Of rendered scenes, px."""
    frames: int
    """Of each rendered focus stack."""
    methods: tuple[str, ...] | None
    """None for those of the protocol."""
    models: tuple[str, ...]
    """Those that the user names: each is scored, whatever else is."""
    working_sizes_px: tuple[int, ...]
    """Long sides; empty for the network's own."""
    predictions: Path | None
    pictures: Path | None
