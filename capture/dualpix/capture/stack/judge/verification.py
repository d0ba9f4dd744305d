"""What a check of a stack comes to: findings, figures of each frame and sweep, a verdict; as plain data."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from dualpix.capture.stack.judge.align import Alignment
from dualpix.capture.types import FloatImage

Severity = Literal["bad", "suspect", "note"]
Verdict = Literal["good", "suspect", "bad"]


@dataclass(frozen=True)
class Finding:
    """Something to know."""

    severity: Severity
    code: str
    text: str
    frames: tuple[int, ...] = ()
    """Their indices."""


@dataclass(frozen=True)
class FrameCheck:
    """What was measured of a frame."""

    index: int
    file: str
    diopters: float | None
    """None where distances are not known."""
    uncertainty_d: float
    requested_d: float | None
    f_number: float | None
    drift: float
    """How much brighter than the farthest frame, relative."""
    shift_px: float
    """Of the picture's centre, at the size of the decoded frame, breathing taken out."""
    matched: bool
    valley: float
    """Median over the tiles of how much blurrier it is than frames on both sides, in the logarithm."""

    @property
    def sweep(self) -> float:
        """Where it stands in the sweep, rising: its diopters, else its index."""
        return float(self.index) if self.diopters is None else self.diopters

    @property
    def marked(self) -> str:
        """Where it says it is, for people."""
        return f"place {self.index}" if self.diopters is None else f"{self.diopters:.3f} D"


@dataclass(frozen=True)
class Sweep:
    """The frames of one aperture."""

    f_number: float | None
    checks: tuple[FrameCheck, ...]
    """Farthest first."""
    sharpness: npt.NDArray[np.float64]
    """(N, rows, columns)"""
    telling: npt.NDArray[np.bool_]
    """(rows, columns): tiles with enough texture."""
    peak_places: npt.NDArray[np.float64]
    """(rows, columns) where in :attr:`places` a tile is sharpest; NaN where it does not tell."""
    alignment: Alignment | None
    picture: FloatImage
    """(h, w, 3) the middle frame, reduced."""

    @property
    def has_distances(self) -> bool:
        """Whether it is known where the frames are focused."""
        return all(check.diopters is not None for check in self.checks)

    @property
    def places(self) -> npt.NDArray[np.float64]:
        """(N,) rising: diopters, or indices where distances are not known."""
        return np.array([check.sweep for check in self.checks])


@dataclass(frozen=True)
class Verification:
    """The answer."""

    folder: Path
    verdict: Verdict
    findings: tuple[Finding, ...]
    sweeps: tuple[Sweep, ...]
    frames: int

    def to_json(self) -> dict[str, Any]:
        """Plain data."""
        return {
            "verdict": self.verdict,
            "frames": self.frames,
            "findings": [
                {"severity": f.severity, "code": f.code, "text": f.text, "frames": list(f.frames)}
                for f in self.findings
            ],
            "sweeps": [_sweep_json(sweep) for sweep in self.sweeps],
        }


def _sweep_json(sweep: Sweep) -> dict[str, Any]:
    alignment = sweep.alignment
    rows, columns = sweep.telling.shape
    return {
        "f_number": sweep.f_number,
        "tiles": {"rows": rows, "columns": columns, "telling": int(sweep.telling.sum())},
        "breathing": None if alignment is None else alignment.breathing(),
        "distances": sweep.has_distances,
        "peak_d" if sweep.has_distances else "peak_frame": [
            [None if math.isnan(v) else round(float(v), 4) for v in row] for row in sweep.peak_places
        ],
        "frames": [
            {
                "index": check.index,
                "file": check.file,
                "diopters": check.diopters,
                "uncertainty_d": None if math.isnan(check.uncertainty_d) else check.uncertainty_d,
                "requested_d": check.requested_d,
                "exposure_drift": round(check.drift, 5),
                "shift_px": round(check.shift_px, 3),
                "matched": check.matched,
                "valley": round(check.valley, 4),
                "sharpness": [[float(f"{v:.4g}") for v in row] for row in tiles],
            }
            for check, tiles in zip(sweep.checks, sweep.sharpness, strict=True)
        ],
    }


def frames_text(indices: Sequence[int]) -> str:
    """``frames 3, 4``, for people; of many the first."""
    shown = ", ".join(str(index) for index in indices[:8]) + (", ..." if len(indices) > 8 else "")
    return f"frame{'s' * (len(indices) > 1)} {shown}"
