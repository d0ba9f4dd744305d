"""The picture of a plan: right size, right places, readable ticks."""

from __future__ import annotations

import math

import numpy as np
import pytest
from tests.capture.focus.fakes import true_calibration

from dualpix.capture.focus.picture import plan_picture
from dualpix.capture.focus.plan import PlanOptics, describe, make_plan


def ink(picture: np.ndarray) -> float:
    """Share of pixels that are not white."""
    return float((picture.min(axis=2) < 250).mean())


def test_more_frames_are_more_lines_and_every_aperture_is_a_row() -> None:
    few = make_plan("diopter", near_m=0.5, far_m=4.0, count=3)
    many = make_plan("grid", near_m=0.5, far_m=4.0, count=9, apertures=(2.8, 5.6))
    pictures = [plan_picture(plan, describe(plan)) for plan in (few, many)]
    assert all(p.dtype == np.uint8 and p.shape == (640, 1150, 3) for p in pictures)
    assert 0.01 < ink(pictures[0]) < ink(pictures[1]) < 0.5


def test_reach_of_a_calibrated_lens_is_marked() -> None:
    plan = make_plan("diopter", near_m=0.5, far_m=4.0, count=5)
    marked = plan_picture(plan, describe(plan, true_calibration()))
    plain = plan_picture(plan, describe(plan))
    red = [((p[..., 0] > 160) & (p[..., 1] < 90) & (p[..., 2] < 90)).sum() for p in (plain, marked)]
    assert red[0] == 0
    assert red[1] > 20


@pytest.mark.parametrize(
    "wanted",
    [
        {"mode": "explicit", "distances_m": [1.0]},
        {"mode": "explicit", "distances_m": [math.inf]},
        {"mode": "coc", "near_m": 0.11, "far_m": math.inf, "count": 200},
        {"mode": "grid", "near_m": 0.5, "far_m": 4.0, "count": 3, "apertures": (1.4, 2, 2.8, 4, 5.6, 8, 11)},
    ],
)
def test_extreme_plans_are_drawn(wanted: dict[str, object]) -> None:
    plan = make_plan(lens=PlanOptics(100.0, 2.8), **wanted)  # type: ignore[arg-type]
    assert ink(plan_picture(plan, describe(plan))) > 0.01
