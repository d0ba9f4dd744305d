"""Mixing steps: what they add up to, what they scatter, and that there are few of them."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.capture.focus.fakes import true_calibration

from dualpix.capture.errors import DualpixError
from dualpix.capture.focus.motion import MotionPlanner, added, cheapest_steps

SIZES = {1: 1.0, 2: 6.0, 3: 37.5}
sizes = st.builds(lambda a, b: {1: 1.0, 2: a, 3: a * b}, st.floats(1.5, 10), st.floats(1.5, 10))


def variance_of(steps: dict[int, int], of: dict[int, float], jitter: float) -> float:
    return sum(count * (jitter * of[size]) ** 2 for size, count in steps.items())


@given(st.floats(0, 2000), sizes, st.floats(0.001, 0.1), st.floats(0, 500))
def test_steps_reach_the_distance_within_the_variance(
    distance: float, of: dict[int, float], jitter: float, variance: float
) -> None:
    steps = cheapest_steps(distance, of, jitter, variance)
    assert all(count > 0 for count in steps.values())
    assert abs(sum(count * of[size] for size, count in steps.items()) - distance) <= 0.5 * (1 + 1e-9)
    finest = {1: round(distance)}
    rounding = jitter**2  # the last fine step is rounded to
    assert variance_of(steps, of, jitter) <= max(variance, variance_of(finest, of, jitter)) + rounding


@given(st.floats(0, 400), st.floats(0.005, 0.05), st.floats(0.01, 60))
def test_few_steps_compared_with_every_other_mix(distance: float, jitter: float, variance: float) -> None:
    steps = cheapest_steps(distance, SIZES, jitter, variance)
    best = None
    for large in range(int(distance // 37.5) + 1):
        middle = np.arange(int((distance - 37.5 * large) // 6) + 1)
        fine = np.rint(distance - 37.5 * large - 6 * middle)
        allowed = jitter**2 * (large * 37.5**2 + middle * 36 + fine) <= variance
        if allowed.any():
            moves = int((large + middle + fine)[allowed].min())
            best = moves if best is None else min(best, moves)
    if best is None:
        assert steps in ({1: round(distance)}, {})
    else:
        # what is left over by one size goes by the next finer one: a few more than the very best
        assert sum(steps.values()) <= 1.25 * best + 10


def test_loose_bounds_take_large_steps_and_tight_ones_fine_steps() -> None:
    assert cheapest_steps(100, SIZES, 0.03, 1e6) == {3: 2, 2: 4, 1: 1}
    assert cheapest_steps(100, SIZES, 0.03, 0.0) == {1: 100}
    mixed = cheapest_steps(100, SIZES, 0.03, 0.3)
    assert set(mixed) == {1, 2}
    assert cheapest_steps(0.4, SIZES, 0.03, 1.0) == {}
    assert cheapest_steps(100, SIZES, 0.0, 0.0) == {3: 2, 2: 4, 1: 1}


def test_planner_keeps_the_bound_to_the_near_end_and_uses_it() -> None:
    planner = MotionPlanner(true_calibration(), 0.01)
    done: dict[int, int] = {}
    for units in np.linspace(10, 299, 12):
        assert not planner.is_behind(units, done)
        done = added(done, planner.steps_to(units, done))
        assert planner.calibration.uncertainty_d(done) <= 0.01
        assert planner.calibration.units_of(done) == pytest.approx(units, abs=0.51)
    assert planner.calibration.uncertainty_d(done) > 0.008
    assert sum(done.values()) < 180  # 299 if only the finest step were used
    assert planner.is_behind(200.0, done)


def test_planner_does_its_best_where_the_bound_cannot_be_kept() -> None:
    shaky = MotionPlanner(true_calibration(jitter=0.2), 0.01)
    assert shaky.steps_to(250.0, {}) == {1: 250}
    uncertain = MotionPlanner(true_calibration(covariance=((1e-3, 0, 0), (0, 0, 0), (0, 0, 0))), 0.01)
    assert uncertain.steps_to(250.0, {}) == {1: 250}


def test_coarser_bound_needs_fewer_steps() -> None:
    counts = [
        sum(MotionPlanner(true_calibration(), bound).steps_to(280.0, {}).values()) for bound in (0.006, 0.01, 0.03)
    ]
    assert counts[0] > counts[1] > counts[2]


def test_coarse_steps_of_uncertain_size_are_avoided() -> None:
    vague = true_calibration(step_covariance={2: (0.0, 0.0, 0.0, 0.03**2)})
    sure = MotionPlanner(true_calibration(), 0.01).steps_to(280.0, {})
    careful = MotionPlanner(vague, 0.01).steps_to(280.0, {})
    assert careful.get(2, 0) < sure[2]
    assert vague.uncertainty_d(careful) <= 0.01


def test_slack_moves_nothing() -> None:
    planner = MotionPlanner(true_calibration(), 0.01)
    assert planner.focus_d({}) == planner.focus_d({1: 2}) == planner.calibration.range_d[0]
    assert planner.focus_d({1: 4}) > planner.focus_d({1: 2})
    assert planner.focus_d({3: 20}) == planner.calibration.range_d[1]


@pytest.mark.parametrize("bound", [0.0, -1.0, float("nan")])
def test_senseless_bounds_are_refused(bound: float) -> None:
    with pytest.raises(DualpixError, match="above 0"):
        MotionPlanner(true_calibration(), bound)


def test_calibration_without_steps_is_refused() -> None:
    with pytest.raises(DualpixError, match="no step size"):
        MotionPlanner(true_calibration(units_per_step={}))
