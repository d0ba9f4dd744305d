"""What of a plan's range is sharp in some frame, what would close its gaps, and what the small aperture really holds.

Convention: as in :mod:`~dualpix.capture.focus.modes`. "Sharp" is blurred by defocus by no more than the blur limit; in
the coordinate that is even in blur, every frame of an aperture is sharp over one and the same length. Diffraction, the
Airy disc of 2.44 lambda N across, comes on top and is told, not added.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import pairwise

from dualpix.capture import optics
from dualpix.capture.camera_protocol import PlannedFrame
from dualpix.capture.errors import DualpixError
from dualpix.capture.focus.frames import FocusPlan
from dualpix.capture.focus.modes import PlanOptics

WAVELENGTH_UM = 0.55
EVEN_IN_DIOPTERS = ("diopter", "grid")
"""Modes whose stops are even in diopters; those of the others are even in blur, or where they are."""
_SLACK = 1e-9


@dataclass(frozen=True)
class ApertureCoverage:
    """The frames of one aperture, side by side."""

    f_number: float
    gaps: int
    """Steps between whose depths of field something is blurred beyond the limit."""
    sharp_share: float
    """Of the range between the farthest and the nearest stop, in diopters."""
    closing_stops: int
    """As many stops between the same ends as leave no gap: even in diopters where the plan's are, else even in blur."""


@dataclass(frozen=True)
class SharpFrame:
    """The frame at a small aperture, meant to be sharp everywhere."""

    f_number: float
    sharp_near_m: float
    sharp_far_m: float
    sharp_share: float
    """Of the range between the farthest and the nearest stop, in diopters."""
    needed_f_number: float
    """Of the aperture at which all of it were sharp, focused there."""
    diffraction_px: float
    """Diameter of the Airy disc."""


def aperture_coverage(plan: FocusPlan, f_number: float, blur_limit_px: float) -> ApertureCoverage:
    """How the stops of a plan lie to each other at one of its apertures."""
    lens, stops = replace(plan.lens, f_number=f_number), plan.stops_d
    sharp = [_sharp_d(lens, stop, blur_limit_px) for stop in stops]
    gaps = sum(next_far - near > _SLACK for (_, near), (next_far, _) in pairwise(sharp))
    held = sum(min(near, stops[-1]) - max(far, stops[0]) for far, near in _joined(sharp))
    span = stops[-1] - stops[0]
    return ApertureCoverage(
        f_number, gaps, min(1.0, held / span) if span else 1.0, _closing(plan, lens, stops, blur_limit_px)
    )


def sharp_frame(plan: FocusPlan, frame: PlannedFrame, blur_limit_px: float) -> SharpFrame:
    """What a frame at a small aperture holds of the range of the stops."""
    number = frame.exposure.f_number or plan.lens.f_number
    lens, stops = replace(plan.lens, f_number=number), plan.stops_d
    far, near = _sharp_d(lens, frame.diopters, blur_limit_px)
    span = stops[-1] - stops[0]
    held = max(0.0, min(near, stops[-1]) - max(far, stops[0]))
    worst_px = max(lens.blur_px(frame.diopters, end) for end in (stops[0], stops[-1]))
    return SharpFrame(
        f_number=number,
        sharp_near_m=float(optics.distance_m(near)),
        sharp_far_m=float(optics.distance_m(far)),
        sharp_share=held / span if span else 1.0,
        needed_f_number=number * max(1.0, worst_px / blur_limit_px),
        diffraction_px=diffraction_px(lens, frame.diopters),
    )


def diffraction_px(lens: PlanOptics, diopters: float) -> float:
    """Diameter of the Airy disc of a lens focused somewhere, by its effective f-number there."""
    effective = lens.f_number / (1.0 - lens.focal_length_mm / 1000.0 * diopters)
    return 2.44 * WAVELENGTH_UM * effective / lens.pixel_pitch_um


def coverage_notes(
    mode: str, stops: int, apertures: Sequence[ApertureCoverage], small: SharpFrame | None, blur_limit_px: float
) -> list[str]:
    """The same for people.

    Args:
        mode: of the plan.
        stops: of the plan, their number.
        apertures: of the plan.
        small: of its all-in-focus frame.
        blur_limit_px: by which they were judged.
    """
    notes = []
    for found in apertures:
        if found.gaps:
            even = "" if mode in EVEN_IN_DIOPTERS else " even in blur"
            notes.append(
                f"gaps at f/{found.f_number:g}: {found.sharp_share:.0%} of the range is sharp to {blur_limit_px:g} px "
                f"in some frame; {found.closing_stops} stops{even} instead of {stops} would close them"
            )
    if small is not None:
        far = "infinity" if math.isinf(small.sharp_far_m) else f"{small.sharp_far_m:.3g} m"
        note = (
            f"the f/{small.f_number:g} frame is sharp to {blur_limit_px:g} px from {small.sharp_near_m:.3g} m to {far}"
        )
        note += ", all of the range" if small.sharp_share > 1 - 1e-6 else f", {small.sharp_share:.0%} of the range"
        if small.needed_f_number > small.f_number * (1 + 1e-6):
            note += f" (all of it: f/{small.needed_f_number:.0f})"
        notes.append(f"{note}; diffraction adds {small.diffraction_px:.1f} px")
    return notes


def _sharp_d(lens: PlanOptics, stop_d: float, blur_limit_px: float) -> tuple[float, float]:
    """Diopters (far, near) that are sharp in a frame."""
    near_m, far_m = optics.depth_of_field_m(lens.at(stop_d), blur_limit_px * lens.pixel_pitch_um / 1000)
    return 1 / far_m, 1 / near_m


def _joined(sharp: Sequence[tuple[float, float]]) -> list[tuple[float, float]]:
    """Intervals (far, near), rising, without what two of them share."""
    joined: list[tuple[float, float]] = []
    for far, near in sharp:
        if joined and far <= joined[-1][1]:
            joined[-1] = joined[-1][0], max(near, joined[-1][1])
        else:
            joined.append((far, near))
    return joined


def _closing(plan: FocusPlan, lens: PlanOptics, stops: Sequence[float], blur_limit_px: float) -> int:
    """Stops between the ends, evenly spaced as the plan's are, whose depths of field leave no gap."""
    try:
        to_near = lens.step(blur_limit_px)
    except DualpixError:  # nothing is ever blurred as much
        return 2
    f_m = lens.focal_length_mm / 1000
    reach = to_near + math.log(2 - math.exp(-f_m * to_near)) / f_m
    far, near = (float(x) for x in lens.even((stops[0], stops[-1])))
    if plan.mode in EVEN_IN_DIOPTERS:
        step_d = stops[-1] - float(lens.diopters(near - reach))
        return math.ceil((stops[-1] - stops[0]) / step_d - _SLACK) + 1
    return math.ceil((near - far) / reach - _SLACK) + 1
