"""The calibration record: its curve and inverse, its uncertainty against simulation, its file."""

from __future__ import annotations

import json
import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.capture.focus.fakes import true_calibration

from dualpix.capture.errors import DualpixError
from dualpix.capture.focus.calibration import LensCalibration, check, describe_d

CALIBRATION = true_calibration(
    covariance=((4e-6, -6e-8, 2e-10), (-6e-8, 1.6e-9, -4.8e-12), (2e-10, -4.8e-12, 1.7e-14)),
    step_covariance={2: (-2e-7, -1.3e-7, -1.2e-10, 2.4e-4)},
)


@given(st.floats(0, 1), st.floats(-5e-6, 1e-5))
def test_units_are_the_inverse_of_diopters(share: float, bend: float) -> None:
    calibration = true_calibration(coefficients=(-0.03, 0.0084, bend))
    far, near = calibration.range_d
    diopters = far + share * (near - far)
    assert calibration.diopters_at(calibration.units_at(diopters)) == pytest.approx(diopters, abs=1e-9)


@pytest.mark.parametrize("diopters", [-0.5, 2.8, math.nan, math.inf])
def test_focus_out_of_range_is_refused(diopters: float) -> None:
    with pytest.raises(DualpixError, match="out of the range of the lens; expected infinity"):
        CALIBRATION.units_at(diopters)


def test_range_begins_where_the_slack_ends() -> None:
    far, near = CALIBRATION.range_d
    assert far == pytest.approx(CALIBRATION.diopters_at(9 / 4))
    assert near == pytest.approx(CALIBRATION.diopters_at(300))


def test_uncertainty_is_that_of_simulated_lenses() -> None:
    rng = np.random.default_rng(5)
    steps, jitter, count = {1: 60, 2: 25}, 0.03, 40_000
    joint = np.zeros((4, 4))
    joint[:3, :3] = CALIBRATION.covariance
    joint[3, :3] = joint[:3, 3] = CALIBRATION.step_covariance[2][:3]
    joint[3, 3] = CALIBRATION.step_covariance[2][3]
    a, b, c = CALIBRATION.coefficients
    # the true lens is scattered around the calibrated one, and its steps scatter
    true = rng.multivariate_normal([a, b, c, 6.0], joint, count, check_valid="raise")
    walked = sum(
        units * (n + jitter * math.sqrt(n) * rng.standard_normal(count))
        for units, n in ((1.0, steps[1]), (true[:, 3], steps[2]))
    )
    truth = true[:, 0] + true[:, 1] * walked + true[:, 2] * walked**2
    claimed = CALIBRATION.diopters_at(CALIBRATION.units_of(steps))
    assert truth.mean() == pytest.approx(claimed, abs=1e-4)
    assert CALIBRATION.uncertainty_d(steps) == pytest.approx(truth.std(), rel=0.02)


def test_residual_counts_once() -> None:
    rough = true_calibration(jitter=0.0, residual_d=0.004)
    assert rough.uncertainty_d({1: 100}) == pytest.approx(0.004)


def test_json_round_trip() -> None:
    text = json.dumps(CALIBRATION.to_json(), allow_nan=False)
    assert LensCalibration.from_json(json.loads(text)) == CALIBRATION
    unknown = true_calibration(focal_length_mm=None)
    assert LensCalibration.from_json(unknown.to_json()) == unknown


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("format", 7),
        ("body", 3),
        ("lens", "x" * 300),
        ("focal_length_mm", -50.0),
        ("coefficients", [0.0, 1.0]),
        ("coefficients", [0.0, "b", 1.0]),
        ("coefficients", [0.0, math.nan, 1.0]),
        ("covariance", [[0.0] * 3] * 2),
        ("covariance", [[1.0, 0.0, 0.0], [5.0, 1.0, 0.0], [0.0, 0.0, 1.0]]),
        ("covariance", [[-1.0, 0.0, 0.0], [0.0, 1.0, 0.0], [0.0, 0.0, 1.0]]),
        ("units_per_step", {"one": 1.0}),
        ("units_per_step", {"1": 0.0}),
        ("units_per_step", {str(k): 1.0 for k in range(50)}),
        ("jitter", 2.0),
        ("jitter", True),
        ("travel_units", 0.0),
        ("backlash_units", -1.0),
        ("residual_d", None),
        ("points", [[1.0]]),
        ("made_at", 5),
        ("method", []),
        ("step_covariance", {"2": [0.0] * 3}),
    ],
)
def test_wrong_entries_are_refused(name: str, value: Any) -> None:
    with pytest.raises(DualpixError) as caught:
        LensCalibration.from_json({**CALIBRATION.to_json(), name: value})
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("name", sorted(CALIBRATION.to_json()))
def test_missing_entries_are_named(name: str) -> None:
    value = CALIBRATION.to_json()
    del value[name]
    with pytest.raises(DualpixError, match=f"has no '{name}'"):
        LensCalibration.from_json(value)


@pytest.mark.parametrize("value", [None, [], "text", 5])
def test_other_json_is_refused(value: Any) -> None:
    with pytest.raises(DualpixError, match="an object"):
        LensCalibration.from_json(value)


def test_curve_that_falls_is_refused() -> None:
    with pytest.raises(DualpixError, match="diopters per unit at its ends"):
        check(true_calibration(coefficients=(0.0, 0.01, -3e-5)))


def test_words_for_a_focus() -> None:
    assert describe_d(2.0) == "0.5 m (2.000 D)"
    assert describe_d(0.0) == "infinity (0.000 D)"
    assert describe_d(-0.02) == "beyond infinity (-0.020 D)"
