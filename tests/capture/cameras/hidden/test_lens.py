"""The hidden lens: stops, backlash, jitter, and time."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from dualpix.capture.cameras.hidden.lens import HiddenLens, LensTruth


class Clock:
    """Time that passes when told."""

    now = 100.0

    def __call__(self) -> float:
        return self.now


def lens_at_rest(clock: Clock, **truth: float) -> HiddenLens:
    return HiddenLens(replace(LensTruth(), **truth), clock=clock)


def test_stops_end_the_travel_and_steps_against_them_do_nothing() -> None:
    clock = Clock()
    lens = lens_at_rest(clock)
    for _ in range(12):
        lens.drive("far", 3)
    clock.now += 1
    there = lens.glass
    lens.drive("far", 3)
    clock.now += 1
    assert lens.position == 0.0 and lens.glass == there
    for _ in range(20):
        lens.drive("near", 3)
    assert lens.position == lens.truth.end and lens.moves == 33


def test_backlash_swallows_the_first_part_of_a_turn() -> None:
    clock = Clock()
    lens = lens_at_rest(clock, jitter=0.0, backlash=9.0)
    lens.drive("near", 2)
    clock.now += 1
    before = lens.glass
    lens.drive("far", 1)  # 4 units, less than the slack
    clock.now += 1
    assert lens.glass == before
    lens.drive("far", 2)
    clock.now += 1
    assert before - lens.glass == pytest.approx(4 + 24 - 9)


def test_glass_moves_after_the_dead_time_at_the_motor_s_speed() -> None:
    clock = Clock()
    lens = lens_at_rest(clock, jitter=0.0, backlash=0.0, speed_per_s=1000.0, dead_time_s=0.01)
    start = lens.glass
    lens.drive("near", 3)
    clock.now += 0.009
    assert lens.glass == start and lens.moving
    clock.now += 0.051
    assert lens.glass == pytest.approx(start + 50)
    clock.now += 0.2
    assert lens.glass == pytest.approx(start + 150) and not lens.moving
    assert lens.busy_s == pytest.approx(0.16) and lens.last_move == pytest.approx((100.0, 100.16))


def test_steps_scatter_by_the_jitter() -> None:
    lens = HiddenLens(replace(LensTruth(), end=1e9, backlash=0.0), position=1e6, seed=2)
    travel = []
    for _ in range(500):
        before = lens.position
        lens.drive("near", 2)
        travel.append(lens.position - before)
    assert np.mean(travel) == pytest.approx(24, rel=0.01) and np.std(travel) == pytest.approx(0.03 * 24, rel=0.15)


def test_a_stuck_lens_stays_and_says_nothing() -> None:
    lens = HiddenLens()
    lens.stuck = True
    before = lens.diopters
    lens.drive("near", 3)
    lens.move_to(0.0)
    assert lens.diopters == before and lens.moves == 2


def test_focus_is_the_polynomial_of_the_glass_and_magnification_follows_it() -> None:
    lens = HiddenLens(position=1000.0)
    assert lens.diopters == pytest.approx(-0.03 + 2.1 + 0.15)
    assert lens.magnification == pytest.approx(1 + 0.015 * 2.22)
