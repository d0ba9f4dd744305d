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


def check_lens(lens: LensModel) -> LensModel:
    """Return ``lens`` if it is physically possible.

    Raises:
        DualpixError: a value is not positive, or the focus lies within the focal length.
    """
    for name in ("focal_length_mm", "f_number", "pixel_pitch_um", "disparity_gain"):
        value = getattr(lens, name)
        if not (math.isfinite(value) and value > 0):
            raise DualpixError(f"lens {name} is {value:g}", expected="a positive number")
    if not lens.focus_distance_m * _MM_PER_M > lens.focal_length_mm:
        raise DualpixError(
            f"focus distance {lens.focus_distance_m:g} m is within the focal length of {lens.focal_length_mm:g} mm",
            expected="a distance in m, from the lens",
        )
    return lens


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
