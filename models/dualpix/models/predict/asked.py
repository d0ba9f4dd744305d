"""What is asked of ``dualpix depth``, and of ``dualpix.load``, for dual-pixel captures; looked at without torch."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from dualpix.capture.pictures.depth_files import Format
from dualpix.capture.profiles.profile import CameraProfile
from dualpix.capture.raw.batch.jobs import DecodeOptions, Job


@dataclass(frozen=True)
class Asked:
    """What the user asks of dual-pixel captures, checked as far as that goes without them."""

    jobs: tuple[Job, ...]
    output: Path
    options: DecodeOptions
    lens: Mapping[str, Any]
    """Fields of :class:`~dualpix.capture.types.CaptureMeta` that replace what the file says."""
    method: str
    """network or sgbm."""
    model: str
    working_sizes_px: tuple[int, ...]
    """Long sides; empty for the method's own."""
    profile: str | None
    """As given."""
    camera: CameraProfile | None
    points: bool = False
    also: tuple[Format, ...] = ()
    """Files for other programs."""
