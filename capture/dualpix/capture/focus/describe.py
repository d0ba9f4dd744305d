"""What a plan means before it is shot: which frames the lens can really hit, how blurred, how deep, how long.

Convention: as in :mod:`~dualpix.capture.focus.modes`; blur is a diameter in pixels at inference.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from itertools import pairwise
from typing import Any

from dualpix.capture import optics
from dualpix.capture.camera_protocol import PlannedFrame, Role
from dualpix.capture.focus.calibration import LensCalibration
from dualpix.capture.focus.coverage import ApertureCoverage, SharpFrame, aperture_coverage, sharp_frame
from dualpix.capture.focus.frames import FocusPlan
from dualpix.capture.focus.motion import MAX_UNCERTAINTY_D, MotionPlanner, added

_STEPS_PER_STOP = 12
_HOMING_STEPS = 12


@dataclass(frozen=True)
class ReachableFrame:
    """Where a driven lens really goes for a frame."""

    index: int
    requested_d: float
    diopters: float
    uncertainty_d: float
    units: float
    """Motor position."""
    steps: Mapping[int, int]
    """Taken since the far stop, by size."""


@dataclass(frozen=True)
class Reachable:
    """A plan on a calibrated lens."""

    plan: FocusPlan
    """With the diopters that are reached."""
    frames: tuple[ReachableFrame, ...]


@dataclass(frozen=True)
class Timing:
    """What a capture spends its time on; defaults are those of a tethered camera."""

    move_s: float = 0.06
    """Per step of the lens."""
    settle_s: float = 0.25
    exposure_s: float = 1 / 60
    """Where the plan leaves it to the camera."""
    transfer_s: float = 1.5
    """Per frame, to this machine."""


@dataclass(frozen=True)
class FrameSummary:
    """One frame of a plan."""

    index: int
    role: Role
    f_number: float
    diopters: float
    distance_m: float
    """Up to infinity."""
    step_px: float | None
    """Blur, in this frame, of the focus of the next stop; None at the last, and for the all-in-focus frame."""
    far_blur_px: float
    """Of the far end of the plan."""
    near_blur_px: float
    sharp_near_m: float
    """Depth of field at the blur limit."""
    sharp_far_m: float
    overlap: float | None
    """Share of the depth of field, in diopters, that the next stop covers, too; below 0 where there is a gap."""
    reachable_d: float | None
    uncertainty_d: float | None


@dataclass(frozen=True)
class PlanSummary:
    """A plan in numbers."""

    mode: str
    lens: dict[str, Any]
    stops: int
    apertures: tuple[float, ...]
    frames: tuple[FrameSummary, ...]
    px_per_diopter: float
    """At the widest aperture, focused far away."""
    step_px: tuple[float, float] | None
    """Smallest and largest step between neighbouring stops at the widest aperture; None for one stop."""
    far_end_blur_px: float
    """Of the far end, in the nearest frame at the widest aperture: the largest there is."""
    near_end_blur_px: float
    """Of the near end, in the farthest frame."""
    blur_limit_px: float
    steps_taken: int
    """Of the lens, after homing; estimated where the lens is not calibrated."""
    duration_s: float
    timing: dict[str, float] = field(default_factory=dict)
    notes: tuple[str, ...] = ()
    coverage: tuple[ApertureCoverage, ...] = ()
    """Of each aperture, widest first."""
    all_in_focus: SharpFrame | None = None
    """What the frame at a small aperture holds."""

    def to_json(self) -> dict[str, Any]:
        """Plain data; infinity, which JSON lacks, is the text "inf"."""
        out: dict[str, Any] = _plain(asdict(self))
        return out


def reachable(plan: FocusPlan, calibration: LensCalibration, max_uncertainty_d: float = MAX_UNCERTAINTY_D) -> Reachable:
    """Where a lens that takes steps ends up for each frame, going near from the far stop as a capture does.

    Returns:
        The frames in order; their diopters never fall.

    Raises:
        DualpixError: the lens does not reach a frame.
    """
    planner = MotionPlanner(calibration, max_uncertainty_d)
    frames: list[ReachableFrame] = []
    steps: dict[int, int] = {}
    for frame in plan.frames:
        steps = added(steps, planner.steps_to(calibration.units_at(frame.diopters), steps))
        focus, sd = planner.focus_d(steps), calibration.uncertainty_d(steps)
        frames.append(ReachableFrame(frame.index, frame.diopters, focus, sd, calibration.units_of(steps), dict(steps)))
    # a lens may stand a little beyond infinity, a planned focus does not
    really = tuple(replace(f, diopters=max(0.0, r.diopters)) for f, r in zip(plan.frames, frames, strict=True))
    return Reachable(replace(plan, frames=really), tuple(frames))


def describe(
    plan: FocusPlan,
    calibration: LensCalibration | None = None,
    timing: Timing | None = None,
    *,
    blur_limit_px: float = 2.0,
    max_uncertainty_d: float = MAX_UNCERTAINTY_D,
) -> PlanSummary:
    """A plan in numbers, for tables, pictures and programs.

    Args:
        plan: what is wanted.
        calibration: of the lens; adds what it can really reach.
        timing: for the expected duration.
        blur_limit_px: what counts as sharp in depths of field.
        max_uncertainty_d: bound to which steps are mixed.

    Raises:
        DualpixError: the lens does not reach a frame.
    """
    reached = None if calibration is None else reachable(plan, calibration, max_uncertainty_d)
    stops, lens = plan.stops_d, plan.lens
    following = dict(pairwise(stops))
    rows = tuple(_row(plan, frame, following.get(frame.diopters), reached, blur_limit_px) for frame in plan.frames)
    steps_px = [lens.blur_px(here, there) for here, there in following.items()]
    taken = _STEPS_PER_STOP * len(stops) if reached is None else sum(reached.frames[-1].steps.values())
    times = timing or Timing()
    coverage = tuple(aperture_coverage(plan, n, blur_limit_px) for n in plan.apertures)
    small = next((sharp_frame(plan, f, blur_limit_px) for f in plan.frames if f.role == "all_in_focus"), None)
    return PlanSummary(
        mode=plan.mode,
        lens={**asdict(lens), "pixel_pitch_um": lens.pixel_pitch_um},
        stops=len(stops),
        apertures=plan.apertures,
        frames=rows,
        px_per_diopter=lens.px_per_diopter,
        step_px=(min(steps_px), max(steps_px)) if steps_px else None,
        far_end_blur_px=lens.blur_px(stops[-1], stops[0]),
        near_end_blur_px=lens.blur_px(stops[0], stops[-1]),
        blur_limit_px=blur_limit_px,
        steps_taken=taken,
        duration_s=_duration_s(plan, taken, times),
        timing=asdict(times),
        notes=_notes(plan, steps_px, reached, max_uncertainty_d),
        coverage=coverage,
        all_in_focus=small,
    )


def _row(
    plan: FocusPlan, frame: PlannedFrame, following: float | None, reached: Reachable | None, limit_px: float
) -> FrameSummary:
    lens, here = plan.lens, frame.diopters
    n = frame.exposure.f_number or lens.f_number
    near_m, far_m = optics.depth_of_field_m(lens.at(here, n), limit_px * lens.pixel_pitch_um / 1000)
    overlap = None
    if frame.role == "all_in_focus":
        following = None  # there is only one of them
    if following is not None:
        _, next_far_m = optics.depth_of_field_m(lens.at(following, n), limit_px * lens.pixel_pitch_um / 1000)
        overlap = (1 / near_m - 1 / next_far_m) / (1 / near_m - 1 / far_m)
    hit = None if reached is None else reached.frames[frame.index]
    return FrameSummary(
        index=frame.index,
        role=frame.role,
        f_number=n,
        diopters=here,
        distance_m=float(optics.distance_m(here)),
        step_px=None if following is None else lens.blur_px(here, following, n),
        far_blur_px=lens.blur_px(here, plan.stops_d[0], n),
        near_blur_px=lens.blur_px(here, plan.stops_d[-1], n),
        sharp_near_m=near_m,
        sharp_far_m=far_m,
        overlap=overlap,
        reachable_d=None if hit is None else hit.diopters,
        uncertainty_d=None if hit is None else hit.uncertainty_d,
    )


def _duration_s(plan: FocusPlan, steps: int, timing: Timing) -> float:
    exposures = sum(timing.exposure_s if f.exposure.exposure_s is None else f.exposure.exposure_s for f in plan.frames)
    moving = (steps + _HOMING_STEPS) * timing.move_s + len(plan.stops_d) * timing.settle_s
    return moving + exposures + len(plan.frames) * timing.transfer_s


def _notes(
    plan: FocusPlan, steps_px: list[float], reached: Reachable | None, max_uncertainty_d: float
) -> tuple[str, ...]:
    """What somebody who shoots this plan would want to know."""
    notes = []
    if steps_px and max(steps_px) > 1.1 * min(steps_px) and plan.mode in ("diopter", "grid"):
        notes.append("close up, even steps in diopters are uneven in blur: mode coc keeps the blur even")
    if plan.mode == "camera-bracket":
        notes.append("the camera itself counts from near to far; its step is estimated, not measured")
    if reached is not None:
        worst = max(frame.uncertainty_d for frame in reached.frames)
        if worst > max_uncertainty_d * 1.001:
            notes.append(f"the focus is known to {worst:.4f} D at worst: calibrate with more targets or sweeps")
        places = [reached.frames[f.index].units for f in plan.frames if f.role == "focus"]
        if len({round(n, 6) for n in places}) < len(plan.stops_d):
            notes.append("some stops are closer than the finest step of the lens, and coincide")
    return tuple(notes)


def _plain(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _plain(v) for key, v in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(v) for v in value]
    return "inf" if isinstance(value, float) and math.isinf(value) else value
