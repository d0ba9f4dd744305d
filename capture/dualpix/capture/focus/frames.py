"""The frames of a focus plan, and the form in which they are stored.

Convention: frames are in order of rising diopters, far to near, as a lens that was homed at the far stop takes them;
all apertures of a stop follow each other.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from itertools import pairwise
from typing import Any, cast

from dualpix.capture.camera_protocol import Exposure, PlannedFrame, Role
from dualpix.capture.errors import DualpixError
from dualpix.capture.focus.modes import PlanOptics
from dualpix.capture.profiles.entries import Entry

MOST_FRAMES = 5000
NEAREST_D = 1e3
_FORMAT = 1


@dataclass(frozen=True)
class FocusPlan:
    """Frames to take."""

    mode: str
    parameters: dict[str, Any]
    """What the mode was given and what it chose, plain JSON."""
    lens: PlanOptics
    frames: tuple[PlannedFrame, ...]

    @property
    def stops_d(self) -> tuple[float, ...]:
        """Each focus once, in diopters, rising."""
        return tuple(sorted({frame.diopters for frame in self.frames}))

    @property
    def apertures(self) -> tuple[float, ...]:
        """Of the frames that are for focus, widest first."""
        return tuple(sorted({f.exposure.f_number or self.lens.f_number for f in self.frames if f.role == "focus"}))

    def to_json(self) -> dict[str, Any]:
        """The form in which it is stored and recorded."""
        return {
            "format": _FORMAT,
            "mode": self.mode,
            "parameters": self.parameters,
            "lens": asdict(self.lens),
            "frames": [asdict(frame) for frame in self.frames],
        }


def plan_from_json(value: Any) -> FocusPlan:
    """The inverse of :meth:`FocusPlan.to_json`.

    Raises:
        DualpixError: not a plan.
    """
    entry = Entry(value, "the focus plan")
    missing = {"format", "mode", "parameters", "lens", "frames"} - entry.object().keys()
    if missing:
        raise DualpixError(f"the focus plan has no '{min(missing)}'", hint="make one with 'dualpix capture plan -o'")
    entry["format"].whole(_FORMAT, _FORMAT)
    lens = entry["lens"]
    optical = PlanOptics(
        lens["focal_length_mm"].number(0, 1e5, above=True),
        lens["f_number"].number(0, 1e3, above=True),
        lens["sensor_width_mm"].number(0, 1e4, above=True),
        lens["width_px"].whole(1, 1 << 20),
    )
    frames = tuple(_frame_from_json(Entry(f, "a frame of the plan")) for f in entry["frames"].items(most=MOST_FRAMES))
    if [f.index for f in frames] != list(range(len(frames))) or not frames:
        raise DualpixError("the frames of the focus plan are not numbered from 0", hint="make the plan anew")
    if any(b.diopters < a.diopters for a, b in pairwise(frames)):
        raise DualpixError("the frames of the focus plan are not in order", expected="diopters rising, far to near")
    mode = entry["mode"].text()
    return FocusPlan(mode, entry["parameters"].object(), optical, frames)


def _frame_from_json(entry: Entry) -> PlannedFrame:
    exposure = entry["exposure"]
    return PlannedFrame(
        entry["index"].whole(0, MOST_FRAMES),
        entry["diopters"].number(0, NEAREST_D),
        Exposure(*(_optional(exposure[name]) for name in ("f_number", "exposure_s", "iso"))),
        cast("Role", entry["role"].one_of("focus", "all_in_focus")),
    )


def _optional(entry: Entry) -> float | None:
    return None if entry.value is None else entry.number(0, 1e9, above=True)
