"""One capture with all that is known of it: what a page shows and what is focused anew.

Convention: maps have the size of the decoded view; pictures are for people, 8-bit sRGB with square pixels, so of a
camera whose pixels are not square they are larger across the baseline. A picture is focused anew by a *coordinate* t
that rises with distance and that blur is affine in: disparity, minus diopters, or the number of the sharpest frame::

    circle of confusion = px_per_unit * (N0 / N) * (1 - f P0) / (1 - f P) * (t - t_focus)

with N0 the aperture that ``px_per_unit`` is of, P0 the diopters of the focus that it is of, and P those of the new one.
That is the thin lens of :mod:`dualpix.capture.optics`; where lens or metres are not known, the factor in P is left out.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from dualpix.capture.pictures.colour_map import Limits, Rgb, Scale
from dualpix.capture.pictures.points import Pinhole
from dualpix.capture.types import Baseline, FloatImage
from dualpix.models.view.codes import Digits

Coordinate = Literal["disparity", "minus_diopters", "index"]
MapName = Literal["disparity", "depth", "focus_index", "confidence", "truth", "error"]
COORDINATE_MAPS: dict[Coordinate, MapName] = {
    "disparity": "disparity",
    "minus_diopters": "depth",
    "index": "focus_index",
}
"""The map that each coordinate is made of."""


@dataclass(frozen=True)
class Picture:
    """For people."""

    name: str
    label: str
    rgb: Rgb
    """uint8 (H, W, 3) with square pixels."""


@dataclass(frozen=True)
class ValueMap:
    """Values of every pixel of the view."""

    name: MapName
    label: str
    values: FloatImage
    """(H, W); NaN where there is none, infinity allowed."""
    unit: str
    scale: Scale
    """How it is coloured."""
    digits: Digits
    """How a value is told."""
    limits: Limits
    """Ends of the colours, in diopters for depth."""


@dataclass(frozen=True)
class Defocus:
    """How blur grows with the distance from the plane in focus; see the module."""

    coordinate: Coordinate
    px_per_unit: float
    """Circle of confusion, in px of the view along the baseline, for each unit of the coordinate; > 0."""
    f_number: float | None
    """N0; None where nobody knows, and apertures are relative then."""
    focal_length_m: float = 0.0
    """f; 0 where it is not known."""
    diopters_at_zero: float | None = None
    """Of t = 0; None where there are no metres. P0 as well."""
    diopters_per_unit: float | None = None
    own_blur: bool = False
    """The picture is no sharp one: it has the blur of a focus at t = 0 and of aperture N0 already."""
    notes: tuple[str, ...] = ()
    """What was assumed."""

    @property
    def metric(self) -> bool:
        """Whether a focus can be told in metres."""
        return self.diopters_at_zero is not None and self.diopters_per_unit is not None

    def coordinate_of(self, values: FloatImage) -> FloatImage:
        """t (H, W) of the map that the coordinate is made of (:data:`COORDINATE_MAPS`)."""
        if self.coordinate != "minus_diopters":
            return values
        with np.errstate(divide="ignore"):
            return np.asarray(-1.0 / values, np.float32)

    def coordinate_at(self, focus_distance_m: float) -> float:
        """t of a distance in m from the lens, infinity allowed.

        Raises:
            ValueError: there are no metres.
        """
        if self.diopters_at_zero is None or self.diopters_per_unit is None:
            raise ValueError("no metres are known")
        return (1.0 / focus_distance_m - self.diopters_at_zero) / self.diopters_per_unit

    def diopters_of(self, coordinate: float) -> float | None:
        """Inverse distance in 1/m of a coordinate; None where there are no metres."""
        if self.diopters_at_zero is None or self.diopters_per_unit is None:
            return None
        return self.diopters_at_zero + self.diopters_per_unit * coordinate

    def gain(self, focus: float, widening: float) -> float:
        """Circle of confusion in px for each unit of the coordinate.

        Args:
            focus: coordinate in focus.
            widening: N0 / N, how many times as wide the aperture is as the captured one.
        """
        diopters = self.diopters_of(focus)
        if diopters is None or self.diopters_at_zero is None or self.focal_length_m == 0:
            return self.px_per_unit * widening
        # no lens is focused within its focal length
        ahead = max(1 - self.focal_length_m * diopters, 0.05)
        return self.px_per_unit * widening * (1 - self.focal_length_m * self.diopters_at_zero) / ahead

    def coc_px(self, coordinate: npt.NDArray[np.float32], focus: float, widening: float) -> FloatImage:
        """Signed circle of confusion that a picture is to be given, px of the view, > 0 behind the focus.

        Of a picture with blur of its own, as much as is missing: discs add up by the squares of their diameters, which
        is exact for the second moment (Pentland 1987 uses it likewise). Blur that is there cannot be taken away.
        """
        wanted = self.gain(focus, widening) * (coordinate - focus)
        if self.own_blur:
            missing = np.maximum(wanted**2 - (self.px_per_unit * coordinate) ** 2, 0)
            wanted = np.sign(wanted) * np.sqrt(missing)
        return np.asarray(wanted, np.float32)

    def to_json(self) -> dict[str, Any]:
        """For the page."""
        return {
            "coordinate": self.coordinate,
            "map": COORDINATE_MAPS[self.coordinate],
            "px_per_unit": self.px_per_unit,
            "f_number": self.f_number,
            "focal_length_m": self.focal_length_m,
            "diopters_at_zero": self.diopters_at_zero,
            "diopters_per_unit": self.diopters_per_unit,
            "own_blur": self.own_blur,
            "notes": list(self.notes),
        }


@dataclass(frozen=True)
class Estimate:
    """What one method found."""

    method: str
    maps: tuple[ValueMap, ...]
    defocus: Defocus | None
    facts: tuple[tuple[str, str], ...] = ()
    notes: tuple[str, ...] = ()
    sharp: Picture | None = None
    """A picture in focus everywhere, of the method's own."""

    def map_named(self, name: str) -> ValueMap | None:
        """One of the maps, or None."""
        return next((known for known in self.maps if known.name == name), None)


@dataclass(frozen=True)
class Scene:
    """A capture, or a stack, and what was found in it."""

    name: str
    kind: Literal["dual-pixel", "stack"]
    size_hw: tuple[int, int]
    """Of the view."""
    baseline: Baseline = "x"
    pixel_aspect: float = 1.0
    picture: Picture | None = None
    """Of the full aperture, or in focus everywhere (stack)."""
    views: tuple[Picture, ...] = ()
    """Left and right; or the frames of a stack, far to near."""
    estimates: tuple[Estimate, ...] = ()
    pinhole: Pinhole | None = None
    """None where nobody knows the lens."""
    facts: tuple[tuple[str, str], ...] = ()
    notes: tuple[str, ...] = ()

    @property
    def square_hw(self) -> tuple[int, int]:
        """(height, width) of the view with square pixels."""
        height, width = self.size_hw
        if self.baseline == "x":
            return round(height * self.pixel_aspect), width
        return height, round(width * self.pixel_aspect)
