"""The lens that the test cameras hide: steps of uneven size, jitter, backlash, end stops, inertia and breathing.

Convention: the motor stands at ``position`` units between the far stop (0) and the near stop (``end``); the glass lags
behind it by the backlash. Diopters are a polynomial in the *glass* position and begin a little below 0, beyond
infinity, as lenses do. Nothing here is known to a backend; tests compare what it claims with
:attr:`HiddenLens.diopters`.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

import numpy as np

from dualpix.capture.camera_protocol import Direction

_SIZES = {1: 4.0, 2: 24.0, 3: 150.0}


@dataclass(frozen=True)
class LensTruth:
    """What is wrong with a lens, in motor units of the finest encoder."""

    end: float = 1200.0
    """Position of the near stop."""
    coefficients: tuple[float, float, float] = (-0.03, 2.1e-3, 1.5e-7)
    """Diopters = a + b u + c u^2 of the glass position u."""
    sizes: Mapping[int, float] = field(default_factory=lambda: dict(_SIZES))
    """Mean travel of a step, by size."""
    jitter: float = 0.03
    """Standard deviation of a step, relative."""
    backlash: float = 9.0
    """Travel lost when the direction turns."""
    speed_per_s: float = 60_000.0
    dead_time_s: float = 0.002
    """Between command and motion."""
    breathing: float = 0.015
    """Change of magnification per diopter."""


def lens_truth(seed: int) -> LensTruth:
    """The lens of a seed: 0 is the default, others differ from it as lenses do among each other."""
    if seed == 0:
        return LensTruth()
    rng = np.random.default_rng([seed, 5])
    end = float(rng.uniform(900, 1600))
    near_d, beyond_d, bend = rng.uniform(2.4, 3.2), rng.uniform(0.01, 0.06), rng.uniform(-0.1, 0.2)
    # bend: share of the range by which the middle lies off the straight line, times 4
    slope = (near_d + beyond_d) * (1 - bend) / end
    fine = rng.uniform(3.0, 6.0)
    middle = fine * rng.uniform(4.0, 7.0)
    sizes = {1: float(fine), 2: float(middle), 3: float(middle * rng.uniform(5.0, 7.0))}
    return LensTruth(
        end=end,
        coefficients=(float(-beyond_d), float(slope), float((near_d + beyond_d) * bend / end**2)),
        sizes=sizes,
        backlash=float(rng.uniform(0.0, 12.0)),
        breathing=float(rng.uniform(-0.005, 0.02)),
    )


@dataclass
class HiddenLens:
    """A lens in motion."""

    truth: LensTruth = LensTruth()
    seed: int = 0
    position: float = 400.0
    """Of the motor; the glass is within the backlash of it."""
    clock: Callable[[], float] = time.monotonic
    stuck: bool = False
    moves: int = 0
    busy_s: float = 0.0
    """Time that the motor was under way, in sum."""
    _rest_at: float = field(default=0.0, init=False)
    _glass_from: float = field(default=0.0, init=False)
    _started: float = field(default=0.0, init=False)

    def __post_init__(self) -> None:
        self._rng = np.random.default_rng([self.seed, 7])
        self._glass = self._glass_from = self.position

    def drive(self, direction: Direction, size: int) -> None:
        """One step; the motor starts at once and arrives later, see :attr:`moving`."""
        self.moves += 1
        if self.stuck:
            return
        before = self.glass
        amount = max(0.0, self.truth.sizes[size] * (1.0 + self._rng.normal(0.0, self.truth.jitter)))
        self.position = float(np.clip(self.position + (amount if direction == "near" else -amount), 0, self.truth.end))
        self._move_glass(before)

    def move_to(self, position: float) -> None:
        """Go straight to a motor position, as a lens with an encoder does."""
        self.moves += 1
        if not self.stuck:
            before = self.glass
            self.position = float(np.clip(position, 0, self.truth.end))
            self._move_glass(before)

    def _move_glass(self, before: float) -> None:
        # The glass is pushed by either side of the slack: it moves only once the motor has crossed it.
        half = self.truth.backlash / 2
        target = float(np.clip(before, self.position - half, self.position + half))
        now = self.clock()
        duration = self.truth.dead_time_s + abs(target - before) / self.truth.speed_per_s
        self._glass_from, self._glass = before, target
        self._started, self._rest_at = now, now + duration
        self.busy_s += duration

    @property
    def last_move(self) -> tuple[float, float]:
        """Start and end of the latest move on the clock, the end possibly still to come."""
        return self._started, self._rest_at

    @property
    def glass(self) -> float:
        """Where the glass is at this moment."""
        now = self.clock()
        if now >= self._rest_at:
            return self._glass
        share = max(0.0, now - self._started - self.truth.dead_time_s) / max(
            self._rest_at - self._started - self.truth.dead_time_s, 1e-9
        )
        return self._glass_from + share * (self._glass - self._glass_from)

    @property
    def moving(self) -> bool:
        """Whether it is still under way."""
        return self.clock() < self._rest_at

    @property
    def diopters(self) -> float:
        """The truth: focus at this moment, may be below 0 (beyond infinity)."""
        a, b, c = self.truth.coefficients
        return a + b * self.glass + c * self.glass**2

    @property
    def magnification(self) -> float:
        """Of the picture relative to focus at infinity."""
        return 1.0 + self.truth.breathing * self.diopters
