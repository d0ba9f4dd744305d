"""Where the stops of a focus stack lie, in the ways that people ask for them.

Convention: a focus is given in diopters P, 1/m from the lens. The blur of what frame i sees at the focus of its
neighbour j is ``c = A f |P_i - P_j| / (1 - f P_i)`` (:mod:`dualpix.capture.optics`), so equal steps in diopters are
equal steps of blur, except close up, where ``1 - f P``, the inverse of the lens extension in focal lengths, is no
longer 1. What is exactly even in blur is ``x = -ln(1 - f P) / f``, in diopters too, and equal to P far away; the modes
that speak of blur are even in x. Blur is a diameter in pixels of the picture that a network will see, whose width the
plan states.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from dualpix.capture import optics
from dualpix.capture.errors import DualpixError
from dualpix.capture.focus.scene import occupied_stops
from dualpix.capture.types import LensModel

Array = npt.NDArray[np.float64]

PRESETS: Mapping[str, tuple[float, ...]] = {
    "ddff12": (0.5, 0.63, 0.86, 1.33, 7.06),
    "zedd": tuple(float(1 / p) for p in np.linspace(1 / 8.10, 1 / 0.82, 9)),
}
"""Focus distances in m of known data sets; ZEDD's nine are even in diopters from 8.10 m to 0.82 m."""
MOST_STOPS = 999
BRACKET_INCREMENTS = (1, 10)
BRACKET_SHOTS = (2, MOST_STOPS)
_BRACKET_UNIT = 0.2 / 1200
"""Blur of one focus increment over sensor width. Makers do not state it; so increment 10 is twice the usual circle of
confusion, a depth of field. Give ``bracket_unit_mm`` where it was measured."""


@dataclass(frozen=True)
class PlanOptics:
    """The lens and the picture in whose pixels blur is counted."""

    focal_length_mm: float = 50.0
    f_number: float = 2.8
    """Widest of the plan."""
    sensor_width_mm: float = 36.0
    width_px: int = 1824
    """Of the picture at inference."""

    def __post_init__(self) -> None:
        for name, value in asdict(self).items():
            if not (math.isfinite(value) and value > 0):
                raise DualpixError(f"{name} of the plan is {value:g}", expected="a positive number")

    @property
    def pixel_pitch_um(self) -> float:
        """Of a pixel at inference."""
        return self.sensor_width_mm / self.width_px * 1000

    def at(self, diopters: float, f_number: float | None = None) -> LensModel:
        """This lens, focused.

        Raises:
            DualpixError: within the focal length.
        """
        lens = LensModel(
            self.focal_length_mm, f_number or self.f_number, optics.distance_m(diopters), self.pixel_pitch_um
        )
        return optics.check_lens(lens)

    def blur_px(self, focus_d: float, depth_d: float, f_number: float | None = None) -> float:
        """Diameter of the blur of what lies at ``depth_d`` (0 at infinity) with focus at ``focus_d``."""
        return float(self.blurs_px(focus_d, np.array(depth_d), f_number))

    def blurs_px(self, focus_d: float, depths_d: Array, f_number: float | None = None) -> Array:
        """As :meth:`blur_px`, for many depths."""
        circles = optics.circle_of_confusion_px(optics.distance_m(depths_d), self.at(focus_d, f_number))
        return np.asarray(np.abs(circles), np.float64)

    @property
    def px_per_diopter(self) -> float:
        """Blur per diopter of defocus, with focus far away."""
        return self.blur_px(0.0, 1.0)

    def even(self, diopters: Any) -> Any:
        """The coordinate x that is even in blur, of diopters.

        Raises:
            DualpixError: within the focal length.
        """
        f_m = self.focal_length_mm / 1000
        nearest = float(np.max(diopters))
        if not f_m * nearest < 1:
            raise DualpixError(
                f"focus at {1 / nearest:.3g} m is within the focal length of {self.focal_length_mm:g} mm",
                expected="a distance in m, from the lens",
            )
        return -np.log1p(-f_m * np.asarray(diopters, np.float64)) / f_m

    def diopters(self, even: Any) -> Any:
        """The inverse of :meth:`even`."""
        f_m = self.focal_length_mm / 1000
        return -np.expm1(-f_m * np.asarray(even, np.float64)) / f_m

    def step(self, blur_px: float) -> float:
        """The step in x to a neighbour, on the near side, that is blurred by ``blur_px``.

        Raises:
            DualpixError: no step blurs so much.
        """
        share = blur_px * self.pixel_pitch_um / 1000 / (self.focal_length_mm / self.f_number)
        if not 0 < share < 1:
            raise DualpixError(
                f"a blur of {blur_px:g} px", expected="above 0, and less than the aperture is wide on the sensor"
            )
        return -math.log1p(-share) / (self.focal_length_mm / 1000)


@dataclass(frozen=True)
class Wanted:
    """What a plan may be asked for; each mode takes what it needs and refuses to guess the rest."""

    near_m: float | None = None
    far_m: float | None = None
    """Up to infinity."""
    count: int | None = None
    step_px: float | None = None
    """Largest blur of a neighbouring focus."""
    blur_limit_px: float = 2.0
    """What still counts as sharp."""
    overlap: float = 0.0
    """Share of a depth of field that the next one covers, too."""
    distances_m: Sequence[float] | None = None
    increment: int | None = None
    """Of an on-camera bracket."""
    shots: int | None = None
    bracket_unit_mm: float | None = None
    """Blur of one increment on the sensor."""
    scene_d: Sequence[float] | Array | None = None
    """Diopters of what is in the scene, see :mod:`~dualpix.capture.focus.scene`."""

    def ends(self, mode: str) -> tuple[float, float]:
        """(far, near) in diopters.

        Raises:
            DualpixError: one is missing, or they are not in order.
        """
        if self.near_m is None or self.far_m is None:
            missing = "near" if self.near_m is None else "far"
            raise DualpixError(f"mode {mode} has no {missing} end", hint=f"give the {missing} end in m")
        if not 0 < self.near_m < self.far_m:
            raise DualpixError(
                f"near end {self.near_m:g} m, far end {self.far_m:g} m", expected="0 < near < far, in m from the lens"
            )
        return 1 / self.far_m, 1 / self.near_m


def _diopter(lens: PlanOptics, ask: Wanted) -> Array:
    far, near = ask.ends("diopter")
    return np.linspace(far, near, _count(ask, "diopter"))


def _coc(lens: PlanOptics, ask: Wanted) -> Array:
    return _even_between(lens, ask, *ask.ends("coc"), "coc")


def _overlap(lens: PlanOptics, ask: Wanted) -> Array:
    far, near = (float(v) for v in lens.even(ask.ends("overlap")))
    if not 0 <= ask.overlap < 1:
        raise DualpixError(f"overlap {ask.overlap:g}", expected="a share of the depth of field, 0 to below 1")
    f_m = lens.focal_length_mm / 1000
    to_near = lens.step(ask.blur_limit_px)  # where blur reaches the limit before a frame's focus, and behind it
    to_far = math.log(2 - math.exp(-f_m * to_near)) / f_m
    first, last = far + to_far, near - to_near
    if last <= first:
        return np.array([float(lens.diopters((far + near) / 2))])
    count = math.ceil((last - first) / ((to_near + to_far) * (1 - ask.overlap)) - 1e-9) + 1
    return np.asarray(lens.diopters(np.linspace(first, last, _bounded(count))), np.float64)


def _hyperfocal(lens: PlanOptics, ask: Wanted) -> Array:
    blur_mm = ask.blur_limit_px * lens.pixel_pitch_um / 1000
    if not blur_mm > 0:
        raise DualpixError(f"blur limit {ask.blur_limit_px:g} px", expected="above 0")
    far_m = optics.hyperfocal_m(lens.focal_length_mm, lens.f_number, blur_mm)
    if ask.far_m is not None:
        raise DualpixError("mode hyperfocal was given a far end", hint="it is the hyperfocal distance; leave it out")
    return _even_between(lens, ask, *replace(ask, far_m=far_m).ends("hyperfocal"), "hyperfocal")


def _explicit(lens: PlanOptics, ask: Wanted) -> Array:
    if not ask.distances_m:
        raise DualpixError("mode explicit has no distances", hint="list them in m, or name a preset")
    distances = np.asarray(ask.distances_m, np.float64)
    if not ((distances > 0) & ~np.isnan(distances)).all() or len(set(distances)) < len(distances):
        raise DualpixError(
            f"distances {', '.join(f'{d:g}' for d in distances)} m", expected="different ones, above 0, up to inf"
        )
    return np.asarray(1 / distances, np.float64)


def _scene(lens: PlanOptics, ask: Wanted) -> Array:
    if ask.scene_d is None or not len(ask.scene_d):
        raise DualpixError("mode scene knows nothing of the scene", hint="give a depth map or a coarse sweep")
    if (ask.count is None) == (ask.step_px is None):
        raise DualpixError("mode scene needs either a number of frames or the largest step in px")
    step = None if ask.step_px is None else lens.step(ask.step_px)
    margin = lens.step(ask.blur_limit_px)
    stops = occupied_stops(lens.even(np.asarray(ask.scene_d, np.float64)), margin, count=ask.count, step=step)
    _bounded(len(stops))
    return np.asarray(lens.diopters(stops), np.float64)


def _camera_bracket(lens: PlanOptics, ask: Wanted) -> Array:
    if ask.near_m is None or not 0 < ask.near_m < math.inf:
        raise DualpixError("mode camera-bracket has no near end", hint="cameras go from near to far: give it in m")
    increment = _whole("focus increment", ask.increment, BRACKET_INCREMENTS)
    unit_mm = _BRACKET_UNIT * lens.sensor_width_mm if ask.bracket_unit_mm is None else ask.bracket_unit_mm
    step = lens.step(increment * unit_mm * 1000 / lens.pixel_pitch_um)
    near = float(lens.even(1 / ask.near_m))
    shots = ask.shots
    if shots is None and ask.far_m is not None:
        far, _ = ask.ends("camera-bracket")
        shots = min(BRACKET_SHOTS[1], max(BRACKET_SHOTS[0], math.ceil((near - float(lens.even(far))) / step) + 1))
    stops = near - step * np.arange(_whole("number of shots", shots, BRACKET_SHOTS))
    # the camera ends a bracket at infinity
    return np.asarray(lens.diopters(stops[stops >= -1e-9]), np.float64).clip(min=0)


def _grid(lens: PlanOptics, ask: Wanted) -> Array:
    return _explicit(lens, ask) if ask.distances_m else _diopter(lens, ask)


MODES: Mapping[str, Callable[[PlanOptics, Wanted], Array]] = {
    "diopter": _diopter,
    "coc": _coc,
    "overlap": _overlap,
    "hyperfocal": _hyperfocal,
    "explicit": _explicit,
    "scene": _scene,
    "camera-bracket": _camera_bracket,
    "grid": _grid,
}
"""``diopter``: even in diopters; ``coc``: even in blur; ``overlap``: depths of field side by side; ``hyperfocal``: as
coc, from where infinity is still sharp; ``explicit``: a list; ``scene``: where something is; ``camera-bracket``: what
the camera's own bracketing does; ``grid``: apertures by distances and an all-in-focus frame."""


def _even_between(lens: PlanOptics, ask: Wanted, far_d: float, near_d: float, mode: str) -> Array:
    """Stops even in blur, as many as asked for or as the largest step needs."""
    far, near = (float(v) for v in lens.even((far_d, near_d)))
    if (ask.count is None) == (ask.step_px is None):
        raise DualpixError(f"mode {mode} needs either a number of frames or the largest step in px")
    if ask.step_px is None:
        count = _count(ask, mode)
    else:
        count = max(2, math.ceil((near - far) / lens.step(ask.step_px) - 1e-9) + 1)
    stops = np.asarray(lens.diopters(np.linspace(far, near, _bounded(count))), np.float64)
    stops[0], stops[-1] = far_d, near_d  # exactly as asked for
    return stops


def _count(ask: Wanted, mode: str) -> int:
    if ask.count is None:
        raise DualpixError(f"mode {mode} has no number of frames", hint="give a count")
    if not 2 <= ask.count <= MOST_STOPS:
        raise DualpixError(f"{ask.count} frames", expected=f"2 to {MOST_STOPS}")
    return ask.count


def _bounded(count: int) -> int:
    if count > MOST_STOPS:
        raise DualpixError(
            f"{count} frames would be needed", expected=f"at most {MOST_STOPS}", hint="allow larger steps or more blur"
        )
    return count


def _whole(name: str, value: int | None, limits: tuple[int, int]) -> int:
    if value is None or not limits[0] <= value <= limits[1]:
        found = f"no {name}" if value is None else f"{name} {value}"
        raise DualpixError(found, expected=f"{limits[0]} to {limits[1]}")
    return value
