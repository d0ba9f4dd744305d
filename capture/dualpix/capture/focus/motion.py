"""Which steps to take: the fewest that reach a focus with no more uncertainty than asked for.

Convention: positions are units of :mod:`~dualpix.capture.focus.calibration`, motion is from the far stop towards near.
A step of size s scatters by jitter x s, so the variance of a way grows with the size of the steps it is made of: a
lens that goes 1000 units by steps of 6 knows its place better than one that goes by steps of 40, and needs more time.

How much may scatter where: the variance that ``max_uncertainty_d`` leaves at the worst place of the lens is shared out
in proportion to the way, so that steps saved on the first frames of a stack are not missing on the last.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from dualpix.capture.errors import DualpixError
from dualpix.capture.focus.calibration import LensCalibration, Steps

MAX_UNCERTAINTY_D = 0.01
"""Default bound, one standard deviation: 0.02 D at 95 %."""
_PLACES = 40
_SHARES = (1.0, 0.8, 0.6, 0.4, 0.2, 0.0)


def cheapest_steps(distance: float, sizes: Mapping[int, float], jitter: float, variance: float) -> dict[int, int]:
    """Few steps that go ``distance`` with at most ``variance``; the most certain ones if that is too little.

    Going over to the next coarser size saves the more steps per variance the finer both are. So all of the way is
    brought to one size before a part of it goes by the next.

    Args:
        distance: units, >= 0; what is left is at most half of the finest step.
        sizes: units of a step, by size.
        jitter: standard deviation of a step relative to its travel.
        variance: units squared that may be added.

    Returns:
        How many of each size, without sizes that are not used.
    """
    order = sorted(sizes, key=lambda size: sizes[size])
    counts: dict[int, int] = {}
    left, per_step = distance, jitter**2
    at_most = variance / per_step if per_step > 1e-12 else math.inf
    whole = [size for size in order if distance * sizes[size] <= at_most] or order[:1]
    if len(whole) < len(order):
        this, coarser = sizes[whole[-1]], sizes[order[len(whole)]]
        part = max(0, math.floor((at_most - distance * this) / (coarser * (coarser - this))))
        counts[order[len(whole)]] = min(part, math.floor(distance / coarser))
        left -= counts[order[len(whole)]] * coarser
    for size in reversed(whole[1:]):
        counts[size] = math.floor(left / sizes[size])
        left -= counts[size] * sizes[size]
    counts[order[0]] = round(left / sizes[order[0]])
    return {size: count for size, count in counts.items() if count}


@dataclass(frozen=True)
class MotionPlanner:
    """Steps for a calibrated lens."""

    calibration: LensCalibration
    max_uncertainty_d: float = MAX_UNCERTAINTY_D

    def __post_init__(self) -> None:
        if not self.calibration.units_per_step:
            raise DualpixError("the lens calibration knows no step size", hint="calibrate the lens anew")
        if not self.max_uncertainty_d > 0:
            raise DualpixError(f"the uncertainty is to be {self.max_uncertainty_d:g} D", expected="above 0")

    def steps_to(self, units: float, done: Steps) -> dict[int, int]:
        """The steps from where ``done`` led, to ``units``; ``units`` must not lie behind by more than half a step."""
        calibration = self.calibration
        distance = max(0.0, units - calibration.units_of(done))
        left = self._variance_per_unit * units - calibration.spread_units2(done)
        for share in _SHARES:  # what the curve itself leaves open depends on the sizes, too
            steps = cheapest_steps(distance, calibration.units_per_step, calibration.jitter, share * left)
            if calibration.uncertainty_d(added(done, steps)) <= self.max_uncertainty_d:
                break
        return steps

    def is_behind(self, units: float, done: Steps) -> bool:
        """Whether ``units`` cannot be reached from where ``done`` led without turning."""
        finest = min(self.calibration.units_per_step.values())
        return units < self.calibration.units_of(done) - finest / 2

    def focus_d(self, done: Steps) -> float:
        """Focus after these steps from the far stop; the slack moves nothing."""
        calibration = self.calibration
        units = min(max(calibration.units_of(done), calibration.backlash_units), calibration.travel_units)
        return calibration.diopters_at(units)

    @cached_property
    def _variance_per_unit(self) -> float:
        """Units squared per unit of way that keep the bound wherever steps of the finest size can keep it."""
        calibration = self.calibration
        finest = min(calibration.units_per_step, key=lambda size: calibration.units_per_step[size])
        lowest = calibration.jitter**2 * calibration.units_per_step[finest]
        rates = []
        for n in np.linspace(0, calibration.travel_units, _PLACES + 1)[1:]:
            curve = calibration.curve_variance_d2({finest: round(n / calibration.units_per_step[finest])})
            rates.append((self.max_uncertainty_d**2 - curve) / calibration.slope_at(n) ** 2 / n)
        return float(min((rate for rate in rates if rate >= lowest), default=lowest))


def added(steps: Steps, more: Steps) -> dict[int, int]:
    """Both together."""
    return {size: steps.get(size, 0) + more.get(size, 0) for size in {**steps, **more}}
