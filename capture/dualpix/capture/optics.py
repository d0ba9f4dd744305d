"""Thin-lens geometry of defocus and of dual-pixel disparity; the one place where its signs and units are fixed.

Convention: distances in m from the lens plane (infinity is allowed), focal lengths and circles of confusion in mm,
pixel pitch in um (of the view measured in), diopters in 1/m. The circle of confusion is a diameter on the sensor and
carries the sign of the disparity ``x_right - x_left``: **> 0 behind the focus plane, < 0 in front of it, 0 in focus.**

    c = A f (d - d_f) / (d (d_f - f)),   A = f / N,   disparity = kappa c / pitch

In diopters, P = 1/d, this is affine, ``c = A f (P_f - P) / (1 - f P_f)``, and finite for a focus at infinity; that form
is computed. kappa is the camera's dual-pixel gain: 4 / (3 pi) = 0.424 for two ideal half discs (the distance of their
centroids, in diameters), less on real sensors, whose halves overlap (Pixel 4: 0.21).

Depths, disparities and circles may be scalars, numpy arrays or torch tensors of any shape; arithmetic operators alone
are applied to them, so torch is not imported and gradients pass.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np

from dualpix.capture.errors import DualpixError
from dualpix.capture.types import LensModel

Quantity: TypeAlias = Any
"""float, numpy array or torch tensor; the result is of the same kind and shape."""

IDEAL_DISPARITY_GAIN = 4.0 / (3.0 * math.pi)
"""Distance of the centroids of the two halves of a disc, in its diameters."""
_MM_PER_M = 1000.0
_UM_PER_MM = 1000.0


@dataclass(frozen=True)
class LensRange:
    """What a value of a lens can be, both ends included."""

    low: float
    high: float
    unit: str
    why: str

    def __str__(self) -> str:
        return f"{self.low:g} to {self.high:g}{self.unit and ' ' + self.unit} ({self.why})"


LENS_RANGES = {
    "focal_length_mm": LensRange(0.5, 6000, "mm", "from an endoscope's to a telescope's"),
    # N = 1 / (2 sin u) in air (ISO 517); at f/256 light of 550 nm is spread over 0.34 mm: a pinhole
    "f_number": LensRange(0.5, 256, "", "faster than f/0.5 is no lens in air, f/256 is a pinhole"),
    "focus_distance_m": LensRange(1e-3, math.inf, "m", "from the lens; inf is allowed"),
    # 0.5 um is the smallest sensor pixel made; a view may be reduced, to 36 px of a sensor of 60 mm and more
    "pixel_pitch_um": LensRange(0.3, 2000, "um", "of the decoded view: of the sensor, or more where it is reduced"),
    # two points of a disc are at most a diameter apart; below, a blur of 100 px would be a shift of 0.01 px
    "disparity_gain": LensRange(1e-4, 1, "", "the shift as a part of the blur: ideal halves give 0.424"),
}
"""Of a :class:`~dualpix.capture.types.LensModel`: outside, a value is a mistake or stands in another unit."""


def check_lens(lens: LensModel) -> LensModel:
    """Return ``lens`` if it is physically possible.

    Raises:
        DualpixError: a value is outside :data:`LENS_RANGES`, or the focus lies within the focal length.
    """
    for name in LENS_RANGES:
        check_lens_value(name, getattr(lens, name), f"lens {name}")
    return check_focus(lens)


def check_focus(lens: LensModel) -> LensModel:
    """Return ``lens`` if it can be focused where it says; its aperture may be one that nobody can make.

    Raises:
        DualpixError: the focus lies within the focal length.
    """
    if not lens.focus_distance_m * _MM_PER_M > lens.focal_length_mm:
        raise DualpixError(
            f"focus distance {lens.focus_distance_m:g} m is within the focal length of {lens.focal_length_mm:g} mm",
            expected="a distance in m, from the lens",
        )
    return lens


def check_lens_value(name: str, value: float, shown_name: str) -> float:
    """Return one value of a lens if some lens can have it.

    Args:
        name: a key of :data:`LENS_RANGES`.
        value: to be checked; NaN and infinity are refused but for a focus at infinity.
        shown_name: what the message calls it.

    Raises:
        DualpixError: it is outside the range; the message says which that is.
    """
    allowed = LENS_RANGES[name]
    if not allowed.low <= value <= allowed.high:
        raise DualpixError(f"{shown_name} is {value:g}", expected=str(allowed))
    return value


def aperture_mm(lens: LensModel) -> float:
    """Diameter A = f / N of the entrance pupil."""
    return lens.focal_length_mm / lens.f_number


def diopters(distance_m: Quantity) -> Quantity:
    """Distance (> 0, up to infinity) in m to diopters, 1/m."""
    return 1.0 / distance_m


def distance_m(diopters: Quantity) -> Quantity:
    """Diopters to distance in m; 0 and below, beyond infinity, give infinity."""
    return _reciprocal_or_infinity(diopters)


def circle_of_confusion_mm(depth_m: Quantity, lens: LensModel) -> Quantity:
    """Signed diameter on the sensor, in mm, of the blur of a point at ``depth_m`` (> 0, up to infinity)."""
    return _circle_mm_per_diopter(lens) * (diopters(lens.focus_distance_m) - diopters(depth_m))


def circle_of_confusion_px(depth_m: Quantity, lens: LensModel) -> Quantity:
    """As :func:`circle_of_confusion_mm`, in pixels of the view."""
    return circle_of_confusion_mm(depth_m, lens) * (_UM_PER_MM / lens.pixel_pitch_um)


def disparity_px(depth_m: Quantity, lens: LensModel) -> Quantity:
    """Disparity ``x_right - x_left``, in pixels of the view, of a point at ``depth_m`` (> 0, up to infinity)."""
    return circle_of_confusion_px(depth_m, lens) * lens.disparity_gain


def disparity_px_per_diopter(lens: LensModel) -> float:
    """By how much the disparity, in pixels of the view, falls for each diopter that a point comes nearer."""
    return float(_circle_mm_per_diopter(lens) * (_UM_PER_MM / lens.pixel_pitch_um) * lens.disparity_gain)


def disparity_at_infinity_px(lens: LensModel) -> float:
    """The largest disparity that any point can have; 0 for a lens focused at infinity."""
    return float(disparity_px(math.inf, lens))


def circle_from_disparity_mm(disparity_px: Quantity, lens: LensModel) -> Quantity:
    """Signed circle of confusion in mm of a point seen with ``disparity_px``."""
    return disparity_px * (lens.pixel_pitch_um / _UM_PER_MM / lens.disparity_gain)


def diopters_from_circle(circle_mm: Quantity, lens: LensModel) -> Quantity:
    """Inverse depth in 1/m of a signed circle of confusion; below 0 where it is larger than that of infinity."""
    return diopters(lens.focus_distance_m) - circle_mm / _circle_mm_per_diopter(lens)


def diopters_from_disparity(disparity_px: Quantity, lens: LensModel) -> Quantity:
    """Inverse depth in 1/m of a disparity: affine, differentiable, below 0 beyond the disparity of infinity."""
    return diopters_from_circle(circle_from_disparity_mm(disparity_px, lens), lens)


def depth_from_circle_m(circle_mm: Quantity, lens: LensModel) -> Quantity:
    """Depth in m of a signed circle of confusion; infinity from that of infinitely far points on."""
    return distance_m(diopters_from_circle(circle_mm, lens))


def depth_m(disparity_px: Quantity, lens: LensModel) -> Quantity:
    """Depth in m of a disparity: inverse of :func:`disparity_px`.

    Disparities at or beyond :func:`disparity_at_infinity_px`, which noise and gain errors produce, give infinity (and
    no gradient; train on :func:`diopters_from_disparity` instead).
    """
    return distance_m(diopters_from_disparity(disparity_px, lens))


def hyperfocal_m(focal_length_mm: float, f_number: float, blur_limit_mm: float) -> float:
    """Nearest focus distance in m that keeps infinity within a blur of ``blur_limit_mm``: f^2 / (N c) + f."""
    return (focal_length_mm**2 / (f_number * blur_limit_mm) + focal_length_mm) / _MM_PER_M


def depth_of_field_m(lens: LensModel, blur_limit_mm: float) -> tuple[float, float]:
    """(nearest, farthest) depth in m whose blur is within ``blur_limit_mm``; the latter inf from hyperfocal on."""
    return float(depth_from_circle_m(-blur_limit_mm, lens)), float(depth_from_circle_m(blur_limit_mm, lens))


def _circle_mm_per_diopter(lens: LensModel) -> float:
    """A f / (1 - f P_f), the slope of the circle of confusion over inverse depth."""
    f_m = lens.focal_length_mm / _MM_PER_M
    return aperture_mm(lens) * f_m / (1.0 - f_m * float(diopters(lens.focus_distance_m)))


def _reciprocal_or_infinity(x: Quantity) -> Quantity:
    """1/x where x > 0, else infinity."""
    if isinstance(x, float | int):
        return 1.0 / x if x > 0 else math.inf
    with np.errstate(divide="ignore", over="ignore"):
        return 1.0 / abs(x * (x > 0))  # abs: the product of a negative number and False is -0.0
