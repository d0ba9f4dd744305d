"""Which frames a stack has and what is known of them, before any is decoded.

Convention: focus is in diopters from the lens, below 0 beyond infinity; ``uncertainty_d`` is one standard deviation.
Where nothing says how far the frames of a stack are focused, ``diopters`` is None in all its focus frames, and their
index is the order of the sweep.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from dualpix.capture.camera_protocol import Role
from dualpix.capture.stack.keep.record import FrameRecord, StackRecord


@dataclass(frozen=True)
class ListedFrame:
    """A frame that is somewhere, and what is known about it without decoding it."""

    path: Path
    diopters: float | None
    """None where it is not known."""
    uncertainty_d: float
    """NaN where it is not known."""
    source: str
    """Where the distance comes from."""
    index: int
    """In the order of the plan, or in which the frames were taken."""
    role: Role = "focus"
    f_number: float | None = None
    exposure_s: float | None = None
    iso: float | None = None
    requested_d: float | None = None
    motor_steps: int | None = None
    taken_at: str | None = None
    white: tuple[float, float, float] = (1.0, 1.0, 1.0)
    """Light of the largest code, R, G, B."""
    part: tuple[str, int, int] | None = None
    """Of an HDF5 file: the data set, the stack in it, the slice of that."""
    orientation: int | None = None
    """By which it is turned upright, EXIF 1..8, where the file's own flag is not to be believed."""
    stated_f_number: float | None = None
    """That of the file, where it is the effective one, or another than the user says."""

    @property
    def name(self) -> str:
        """For messages."""
        if self.part is None:
            return self.path.name
        key, stack, index = self.part
        return f"{self.path.name}[{key}:{stack}, {index}]"

    @property
    def sweep(self) -> float:
        """Where it stands in the sweep, rising: its diopters, or its index where they are not known."""
        return float(self.index) if self.diopters is None else self.diopters


@dataclass(frozen=True)
class GivenOptics:
    """What a user said of the optics when the stack was imported: believed before what the files state."""

    focal_length_mm: float | None = None
    pixel_pitch_um: float | None = None
    """Of the camera's full resolution."""


@dataclass(frozen=True)
class Listing:
    """The frames of one stack, and its optics where they are known."""

    folder: Path
    frames: tuple[ListedFrame, ...]
    focal_length_mm: float | None = None
    pixel_pitch_um: float | None = None
    """Of a pixel of the decoded frame; frames that state their own are believed first."""
    sensor_pitch_um: float | None = None
    """Of the camera's full resolution, where that is what is known."""
    record: StackRecord | None = None
    given: GivenOptics = field(default_factory=GivenOptics)

    @property
    def has_distances(self) -> bool:
        """Whether it is known where the focus frames are focused."""
        return all(frame.diopters is not None for frame in self.frames if frame.role == "focus")

    @property
    def f_numbers(self) -> tuple[float | None, ...]:
        """Apertures of the focus frames, widest first, unknown last."""
        found = {frame.f_number for frame in self.frames if frame.role == "focus"}
        return tuple(sorted(found, key=lambda n: math.inf if n is None else n))

    def at_aperture(self, f_number: float | None) -> tuple[ListedFrame, ...]:
        """Focus frames of one aperture, farthest first, or as they were taken where distances are not known."""
        chosen = [f for f in self.frames if f.role == "focus" and f.f_number == f_number]
        return tuple(sorted(chosen, key=lambda frame: frame.sweep))

    @property
    def all_in_focus(self) -> ListedFrame | None:
        """The frame at a small aperture, if there is one."""
        return next((frame for frame in self.frames if frame.role == "all_in_focus"), None)


def listing_of(folder: Path, record: StackRecord) -> Listing:
    """The frames that a record names."""
    frames = tuple(_listed(folder, frame) for frame in record.frames)
    camera = record.camera
    lens = record.plan.get("lens") if isinstance(record.plan, dict) else None
    focal_mm = camera.focal_length_mm or _number_in(lens, "focal_length_mm")
    said = record.plan.get("parameters") if camera.backend == "import" else None
    given = GivenOptics(_number_in(said, "focal_length_mm"), _number_in(said, "pixel_pitch_um"))
    return Listing(folder, frames, focal_mm, None, camera.pixel_pitch_um, record, given)


def _listed(folder: Path, frame: FrameRecord) -> ListedFrame:
    return ListedFrame(
        path=folder / frame.files[0],
        diopters=frame.achieved_d,
        uncertainty_d=math.nan if frame.uncertainty_d is None else frame.uncertainty_d,
        source=frame.distance_source if frame.status == "good" else f"{frame.distance_source}; {frame.status}",
        index=frame.index,
        role=frame.role,
        f_number=frame.f_number,
        exposure_s=frame.exposure_s,
        iso=frame.iso,
        requested_d=frame.requested_d,
        motor_steps=frame.motor_steps,
        taken_at=frame.taken_at or None,
        white=_white_in(frame.details),
        orientation=_orientation_in(frame.details),
        stated_f_number=_number_in(frame.details, "stated_f_number"),
    )


def _white_in(details: dict[str, Any]) -> tuple[float, float, float]:
    """Of an imported frame whose light of white its first home stated."""
    values = details.get("white")
    shares = [_number_in(dict(enumerate(values)), channel) for channel in range(3)] if isinstance(values, list) else []
    red, green, blue = (share or 1.0 for share in shares) if shares else (1.0, 1.0, 1.0)
    return red, green, blue


def _orientation_in(details: dict[str, Any]) -> int | None:
    value = details.get("orientation")
    return value if isinstance(value, int) and not isinstance(value, bool) and 1 <= value <= 8 else None


def _number_in(values: Any, key: Any) -> float | None:
    value = values.get(key) if isinstance(values, dict) else None
    if not isinstance(value, int | float) or isinstance(value, bool) or not 0 < value < math.inf:
        return None
    return float(value)
