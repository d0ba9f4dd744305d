"""What was measured of a lens that moves by steps. The one type that planning, moving and recording share.

Convention: ``n`` counts motor units from the far stop towards near, one unit being the mean travel of the finest step;
the focus is ``diopters = a + b n + c n^2`` when it is approached from far. Up to ``backlash_units`` the motor turns and
the glass does not yet move. Uncertainties are one standard deviation.

A position is never measured, it is counted: each step's travel scatters by ``jitter`` of itself, so what is not known
of a position depends on the steps that led there from the far stop, ``steps[size]`` of each size.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields, replace
from typing import Any

import numpy as np

from dualpix.capture.errors import DualpixError
from dualpix.capture.profiles.entries import Entry

FORMAT = 1
_MAX_UNITS = 1e6
_MAX_DIOPTERS = 100.0
_MAX_SIZES = 16
_MAX_POINTS = 1000

Steps = Mapping[int, int]
"""How many steps of each size."""


@dataclass(frozen=True)
class LensCalibration:
    """Diopters over motor units of one body, lens and focal length, valid after homing at the far stop."""

    body: str
    """Model and serial number, as the camera gives them."""
    lens: str
    focal_length_mm: float | None
    coefficients: tuple[float, float, float]
    """a, b, c."""
    covariance: tuple[tuple[float, float, float], ...]
    """Of a, b, c, 3 x 3."""
    units_per_step: Mapping[int, float]
    """Mean travel of a step of each size, in units of the finest; sizes that were not measured are left out."""
    jitter: float
    """Standard deviation of one step relative to its travel."""
    travel_units: float
    """From the far stop to the near stop."""
    backlash_units: float
    residual_d: float
    """Root mean square of the fit."""
    points: tuple[tuple[float, float], ...]
    """(units, diopters) that were fitted."""
    made_at: str
    """ISO 8601, UTC."""
    method: str
    """E.g. ``targets at 5 distances``."""
    step_covariance: Mapping[int, tuple[float, float, float, float]] = field(default_factory=dict)
    """By size: covariance of its ``units_per_step`` with a, b, c, and its variance; a size not listed is exact."""

    def diopters_at(self, units: float) -> float:
        """Focus at a motor position."""
        a, b, c = self.coefficients
        return a + b * units + c * units**2

    def slope_at(self, units: float) -> float:
        """Diopters per unit."""
        return self.coefficients[1] + 2 * self.coefficients[2] * units

    @property
    def range_d(self) -> tuple[float, float]:
        """(farthest, nearest) focus in diopters that can be reached; the farthest may be below 0, beyond infinity."""
        return self.diopters_at(min(self.backlash_units, self.travel_units)), self.diopters_at(self.travel_units)

    def units_at(self, diopters: float) -> float:
        """The motor position of a focus.

        Raises:
            DualpixError: the lens does not reach that far or near.
        """
        far, near = self.range_d
        if not far <= diopters <= near:
            raise DualpixError(
                f"focus at {describe_d(diopters)} is out of the range of the lens",
                expected=f"{describe_d(max(far, 0.0))} to {describe_d(near)}",
            )
        a, b, c = self.coefficients
        # the root that is regular at c = 0; both square root and denominator are > 0 where the focus rises with n
        return 2 * (diopters - a) / (b + math.sqrt(max(b * b + 4 * c * (diopters - a), 0.0)))

    def units_of(self, steps: Steps) -> float:
        """Motor position after these steps from the far stop towards near, if none is lost at the near stop."""
        return sum(count * self.units_per_step[size] for size, count in steps.items())

    def spread_units2(self, steps: Steps) -> float:
        """Variance of the position that the jitter of these steps leaves, in units squared."""
        return sum(count * (self.jitter * self.units_per_step[size]) ** 2 for size, count in steps.items())

    def uncertainty_d(self, steps: Steps) -> float:
        """Of the focus after these steps: their jitter, the calibration's covariance, and its residual."""
        return math.sqrt(self.curve_variance_d2(steps) + self._slope(steps) ** 2 * self.spread_units2(steps))

    def curve_variance_d2(self, steps: Steps) -> float:
        """Variance of the focus that does not come from the jitter of these steps but from the calibration."""
        n, slope = self.units_of(steps), self._slope(steps)
        powers = np.array([1.0, n, n * n])
        variance = float(powers @ np.asarray(self.covariance) @ powers)
        for size, count in steps.items():
            *with_curve, own = self.step_covariance.get(size, (0.0, 0.0, 0.0, 0.0))
            variance += 2 * slope * count * float(powers @ np.asarray(with_curve)) + (slope * count) ** 2 * own
        return max(variance, 0.0) + self.residual_d**2

    def _slope(self, steps: Steps) -> float:
        return self.slope_at(min(self.units_of(steps), self.travel_units))

    def to_json(self) -> dict[str, Any]:
        """The form in which it is stored and recorded."""
        fields_by_size = {name: dict(getattr(self, name)) for name in ("units_per_step", "step_covariance")}
        plain = asdict(replace(self, **fields_by_size))  # type: ignore[arg-type]
        # through text: keys become texts, and tuples lists, as they are when read again
        out: dict[str, Any] = json.loads(json.dumps({"format": FORMAT, **plain}, allow_nan=False))
        return out

    @staticmethod
    def from_json(value: Any) -> LensCalibration:
        """The inverse of :meth:`to_json`.

        Raises:
            DualpixError: not a calibration, or values that no lens has.
        """
        entry = Entry(value, "the lens calibration")
        missing = _NAMES - entry.object().keys()
        if missing:
            raise DualpixError(f"the lens calibration has no '{min(missing)}'", hint="calibrate the lens anew")
        entry["format"].whole(FORMAT, FORMAT)
        sizes = _by_size(entry["units_per_step"])
        calibration = LensCalibration(
            body=entry["body"].text(),
            lens=entry["lens"].text(),
            focal_length_mm=None if value["focal_length_mm"] is None else entry.optional("focal_length_mm", 1e5),
            coefficients=_three(entry["coefficients"]),
            covariance=tuple(_three(Entry(row, "'covariance'")) for row in entry["covariance"].items(3)),
            units_per_step={size: e.number(0, _MAX_UNITS, above=True) for size, e in sizes.items()},
            jitter=entry["jitter"].number(0, 1),
            travel_units=entry["travel_units"].number(0, _MAX_UNITS, above=True),
            backlash_units=entry["backlash_units"].number(0, _MAX_UNITS),
            residual_d=entry["residual_d"].number(0, _MAX_DIOPTERS),
            points=tuple(_point(point) for point in entry["points"].items(most=_MAX_POINTS)),
            made_at=entry["made_at"].text(),
            method=entry["method"].text(),
            step_covariance={size: _four(e) for size, e in _by_size(entry["step_covariance"]).items()},
        )
        return check(calibration)


_NAMES = {"format", *(f.name for f in fields(LensCalibration))}


def check(calibration: LensCalibration) -> LensCalibration:
    """Return ``calibration`` if a lens can be driven by it.

    Raises:
        DualpixError: the focus does not rise from the far stop to the near stop, or a variance is negative.
    """
    ends = (0.0, calibration.travel_units)
    if not all(calibration.slope_at(n) > 0 for n in ends):
        slopes = " and ".join(f"{calibration.slope_at(n):.3g}" for n in ends)
        raise DualpixError(
            f"the lens calibration rises by {slopes} diopters per unit at its ends",
            expected="above 0 from the far to the near stop",
            hint="calibrate anew with targets spread over the range of the lens",
        )
    covariance = np.asarray(calibration.covariance)
    if not np.allclose(covariance, covariance.T) or np.linalg.eigvalsh(covariance)[0] < -1e-6 * abs(covariance).max():
        raise DualpixError("the covariance of the lens calibration is not one", hint="calibrate anew")
    return calibration


def describe_d(diopters: float) -> str:
    """A focus for people: ``0.50 m (2.000 D)``."""
    metres = "infinity" if abs(diopters) < 1e-9 else "beyond infinity" if diopters < 0 else f"{1 / diopters:.3g} m"
    return f"{metres} ({diopters:.3f} D)"


def _by_size(entry: Entry) -> dict[int, Entry]:
    sizes = entry.object()
    if len(sizes) > _MAX_SIZES or not all(key.isdecimal() and len(key) < 6 for key in sizes):
        raise entry.wrong("step sizes")
    return {int(key): entry[key] for key in sizes}


def _numbers(entry: Entry, count: int) -> list[float]:
    return [Entry(value, entry.name).number(-1e9, 1e9) for value in entry.items(count)]


def _three(entry: Entry) -> tuple[float, float, float]:
    a, b, c = _numbers(entry, 3)
    return a, b, c


def _four(entry: Entry) -> tuple[float, float, float, float]:
    a, b, c, d = _numbers(entry, 4)
    return a, b, c, d


def _point(value: Any) -> tuple[float, float]:
    units, diopters = _numbers(Entry(value, "a point of 'points'"), 2)
    return units, diopters
