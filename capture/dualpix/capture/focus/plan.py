"""Planning a focus stack: which frames, whether the lens reaches them, what they will be like.

Convention: diopters and pixels of blur as in :mod:`~dualpix.capture.focus.modes`; whatever is out of the range of the
lens is refused, never moved into it.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from dualpix.capture.camera_protocol import Exposure, PlannedFrame, Role
from dualpix.capture.errors import DualpixError, UnknownNameError
from dualpix.capture.focus.calibration import LensCalibration, describe_d
from dualpix.capture.focus.describe import (
    FrameSummary,
    PlanSummary,
    Reachable,
    ReachableFrame,
    Timing,
    describe,
    reachable,
)
from dualpix.capture.focus.frames import MOST_FRAMES, NEAREST_D, FocusPlan, plan_from_json
from dualpix.capture.focus.modes import MODES, PRESETS, PlanOptics, Wanted

__all__ = [
    "MODES", "PRESETS", "FocusPlan", "FrameSummary", "PlanOptics", "PlanSummary", "Reachable", "ReachableFrame",
    "Timing", "Wanted", "describe", "make_plan", "plan_from_json", "reachable",
]  # fmt: skip

ALL_IN_FOCUS_F_NUMBER = 16.0

Array = npt.NDArray[np.float64]


def make_plan(
    mode: str = "diopter",
    *,
    lens: PlanOptics | None = None,
    apertures: Sequence[float] = (),
    all_in_focus: bool | float | None = None,
    exposure_s: float | None = None,
    iso: float | None = None,
    preset: str | None = None,
    calibration: LensCalibration | None = None,
    min_focus_m: float | None = None,
    **wanted: Any,
) -> FocusPlan:
    """Plan a stack.

    Args:
        mode: one of ``MODES``.
        lens: optics and the picture in whose pixels blur is counted; its f-number gives way to ``apertures``.
        apertures: f-numbers to take at every stop.
        all_in_focus: one more frame at a small aperture, f/16 or this f-number, at the middle of the range; by default
            only in mode ``grid``.
        exposure_s: at the widest aperture; the others get as much light by longer times. None leaves it to the camera.
        iso: None leaves it to the camera.
        preset: distances of a known data set, for the modes that take distances.
        calibration: of the lens, whose range bounds the plan.
        min_focus_m: the same, where the lens is not calibrated.
        wanted: of :class:`Wanted`.

    Raises:
        UnknownNameError: no such mode or preset.
        DualpixError: something is missing or contradicts, or the lens does not reach that far or near.
    """
    if mode not in MODES:
        raise UnknownNameError("mode", mode, list(MODES))
    if preset is not None:
        if preset not in PRESETS:
            raise UnknownNameError("preset", preset, list(PRESETS))
        if wanted.get("distances_m") is not None:
            raise DualpixError("both distances and a preset were given", hint="leave one out")
        wanted["distances_m"] = PRESETS[preset]
    optical = lens or PlanOptics()
    chosen = tuple(sorted(set(apertures))) or (optical.f_number,)
    if not all(math.isfinite(n) and 0.5 <= n <= 64 for n in chosen):
        raise DualpixError(f"apertures {', '.join(f'{n:g}' for n in chosen)}", expected="f-numbers, 0.5 to 64")
    optical = replace(optical, f_number=chosen[0])
    ask = Wanted(**wanted)
    stops = np.sort(np.asarray(MODES[mode](optical, ask), np.float64))
    _check_stops(stops, optical, calibration, min_focus_m)
    small = _small_aperture(all_in_focus, mode, chosen)
    if mode == "camera-bracket" and (len(chosen) > 1 or small is not None):
        raise DualpixError("a camera's own bracket at several apertures", hint="give one aperture, or another mode")
    frames = _frames(stops, optical, chosen, small, exposure_s, iso)
    return FocusPlan(mode, _parameters(ask, preset, mode, len(stops)), optical, frames)


def _parameters(ask: Wanted, preset: str | None, mode: str, stops: int) -> dict[str, Any]:
    """What was asked for beyond what a plan has anyway, as plain JSON."""
    usual = asdict(Wanted())
    given = {key: value for key, value in asdict(ask).items() if key != "scene_d" and value != usual[key]}
    out: dict[str, Any] = {key: "inf" if value == math.inf else value for key, value in given.items()}
    if "distances_m" in out:
        out["distances_m"] = ["inf" if d == math.inf else float(d) for d in out["distances_m"]]
    if preset is not None:
        out["preset"] = preset
    if mode == "camera-bracket":
        out |= {"shots": stops, "order": "near to far"}
    return out


def _check_stops(
    stops: Array, lens: PlanOptics, calibration: LensCalibration | None, min_focus_m: float | None
) -> None:
    """Every stop is one that the lens has."""
    far, near = 0.0, min(NEAREST_D, 1000 / lens.focal_length_mm)
    if calibration is not None:
        far, near = max(0.0, calibration.range_d[0]), calibration.range_d[1]
    elif min_focus_m is not None:
        if not min_focus_m > 0:
            raise DualpixError(f"nearest focus of the lens {min_focus_m:g} m", expected="above 0")
        near = 1 / min_focus_m
    slack = 1e-9
    out = [float(s) for s in stops if not far - slack <= s <= near + slack]
    if out or not np.isfinite(stops).all():
        shown = ", ".join(describe_d(s) for s in (out[0], out[-1])[: min(2, len(out))])
        raise DualpixError(
            f"{len(out)} of {len(stops)} stops are out of the range of the lens: {shown}",
            expected=f"{describe_d(far)} to {describe_d(near)}",
            hint="move the ends of the plan; nothing is moved by itself",
        )
    for stop in stops[[0, -1]]:
        lens.at(float(stop))


def _small_aperture(asked: bool | float | None, mode: str, apertures: Sequence[float]) -> float | None:
    if asked is None:
        asked = mode == "grid"
    if asked is False:
        return None
    small = ALL_IN_FOCUS_F_NUMBER if asked is True else float(asked)
    if not max(apertures) < small <= 64:
        raise DualpixError(
            f"the all-in-focus frame at f/{small:g}", expected=f"a smaller aperture than f/{max(apertures):g}"
        )
    return small


def _frames(
    stops: Array,
    lens: PlanOptics,
    apertures: Sequence[float],
    small: float | None,
    exposure_s: float | None,
    iso: float | None,
) -> tuple[PlannedFrame, ...]:
    """All apertures at one stop together, the all-in-focus frame at the stop nearest to the middle."""
    even = lens.even(stops)
    middle = int(np.abs(even - (even[0] + even[-1]) / 2).argmin())
    wanted: list[tuple[float, float, Role]] = []
    for number, stop in enumerate(stops):
        wanted += [(float(stop), n, "focus") for n in apertures]
        if small is not None and number == middle:
            wanted.append((float(stop), small, "all_in_focus"))
    if len(wanted) > MOST_FRAMES:
        raise DualpixError(f"a plan of {len(wanted)} frames", expected=f"at most {MOST_FRAMES}")
    return tuple(
        PlannedFrame(index, stop, Exposure(n, _longer(exposure_s, n / lens.f_number), iso), role)
        for index, (stop, n, role) in enumerate(wanted)
    )


def _longer(exposure_s: float | None, ratio: float) -> float | None:
    """The time that makes up for an aperture smaller by ``ratio``."""
    return None if exposure_s is None else exposure_s * ratio**2
