"""Figures near edges of a disparity: values by hand, and what they do not depend on."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dualpix.models.evaluate import PROTOCOLS, Pending, Prediction, Protocol, Sample, evaluate, rendered_protocol
from dualpix.models.evaluate.edges import LEAST_STEP_PX, NEAR_PX, SHARES, disparity_boundary_f1, near_edges
from dualpix.models.evaluate.figures import edge_figures

SIZE_HW = (24, 64)
ALL = np.ones(SIZE_HW, np.bool_)
EDGE = 32
"""The step lies between columns 31 and 32."""


def step(at: int = EDGE, height_px: float = 2.0, low_px: float = -1.0) -> np.ndarray:
    columns = np.where(np.arange(SIZE_HW[1]) >= at, low_px + height_px, low_px)
    return np.broadcast_to(columns.astype(np.float32), SIZE_HW).copy()


def ramp(width: int, height_px: float = 2.0, low_px: float = -1.0) -> np.ndarray:
    """A step that takes ``width`` columns, about the middle of the sharp one (of an odd width, half a pixel beside)."""
    share = np.clip((np.arange(SIZE_HW[1]) - (EDGE - 1 - (width - 1) // 2)) / width, 0, 1)
    return np.broadcast_to((low_px + height_px * share).astype(np.float32), SIZE_HW).copy()


def test_near_is_eight_pixels_on_either_side() -> None:
    near = near_edges(step(), ALL)
    assert near[:, EDGE - NEAR_PX : EDGE + NEAR_PX].all() and near.sum() == SIZE_HW[0] * 2 * NEAR_PX
    turned = near_edges(step().T.copy(), ALL.T)
    assert np.array_equal(turned, near.T)


def test_the_error_near_edges_is_that_of_these_pixels_alone() -> None:
    truth = step()
    for shift, wrong in ((0, 0), (1, 1), (3, 3)):
        found = step(EDGE + shift)
        # of the 16 columns near the edge, those between both steps are off by its height
        figures = edge_figures(found, truth, ALL)
        assert figures["edge_mae"] == pytest.approx(2.0 * wrong / (2 * NEAR_PX))
        assert figures["edge_share"] == pytest.approx(2 * NEAR_PX / SIZE_HW[1])
    far = truth.copy()
    far[:, :10] += 5.0
    assert edge_figures(far, truth, ALL)["edge_mae"] == 0


@pytest.mark.parametrize(("shift", "expected"), [(0, 1.0), (4, 1.0), (-5, 0.75), (6, 0.5), (-7, 0.25), (8, 0.0)])
def test_a_step_may_lie_four_pixels_beside_and_loses_a_quarter_of_f1_for_each_more(shift: int, expected: float) -> None:
    assert disparity_boundary_f1(step(EDGE + shift), step(), ALL) == pytest.approx(expected)


def test_a_blurred_step_loses_precision() -> None:
    """Over 13 px: in a span lie 4 of its 13 parts at 10 places, 3 and 2 of them at 2 places each.

    With a threshold below 2/13 that makes 14 places, of which the 12 within 4 px of the true ones are right.
    """
    shares = np.array(SHARES)
    by_hand = np.where(shares < 2 / 13, 2 * (12 / 14) / (12 / 14 + 1), 1.0)
    expected = float(np.average(by_hand, weights=shares))
    assert disparity_boundary_f1(ramp(13), step(), ALL) == pytest.approx(expected)
    # over 48 px: a twelfth of the step in a span, less than any threshold
    assert disparity_boundary_f1(ramp(48), step(), ALL) == 0
    errors = [edge_figures(found, step(), ALL)["edge_mae"] for found in (ramp(3), ramp(13), ramp(48))]
    assert 0 < errors[0] < errors[1] < errors[2]


def test_a_step_of_the_other_sign_is_another_edge() -> None:
    assert disparity_boundary_f1(-step(), step(), ALL) == 0


def test_edges_that_are_not_there_cost_precision() -> None:
    truth, found = step(), step()
    found[:, :16] += 2.0  # a second step, falling, as high as the true one
    assert disparity_boundary_f1(found, truth, ALL) == pytest.approx(2 * 0.5 / (0.5 + 1))


@pytest.mark.parametrize(
    "truth",
    [
        np.zeros(SIZE_HW, np.float32),
        np.broadcast_to(np.linspace(-1, 1, SIZE_HW[1], dtype=np.float32), SIZE_HW),
        step(height_px=0.04),
        np.zeros((3, 3), np.float32),
    ],
    ids=["a plane", "a slope", "less than can be seen", "smaller than the span"],
)
def test_no_edge_no_figure(truth: np.ndarray) -> None:
    valid = np.ones(truth.shape, np.bool_)
    for found in (truth, truth + np.random.default_rng(0).normal(size=truth.shape).astype(np.float32)):
        figures = edge_figures(found, truth, valid, least_step=LEAST_STEP_PX)
        assert figures == {"edge_mae": None, "edge_f1": None, "edge_share": 0.0}


def test_one_small_thing_on_a_plane_has_edges() -> None:
    """Of so few pixels that the range of the middle 98 % is 0."""
    truth = np.zeros((96, 128), np.float32)
    truth[40:48, 60:68] = 1.0
    valid = np.ones(truth.shape, np.bool_)
    figures = edge_figures(truth, truth, valid, least_step=LEAST_STEP_PX)
    assert figures["edge_f1"] == 1 and figures["edge_mae"] == 0 and 0.02 < figures["edge_share"] < 0.06


def test_holes_make_no_edges() -> None:
    truth, valid = np.zeros(SIZE_HW, np.float32), ALL.copy()
    valid[:, 20:30] = False
    truth[:, 20:30] = np.nan
    figures = edge_figures(truth, truth, valid, least_step=LEAST_STEP_PX)
    assert figures["edge_f1"] is None and figures["edge_mae"] is None
    # a step whose hole is narrower than the span is one all the same
    truth, valid = step(), ALL.copy()
    valid[:, EDGE - 1 : EDGE + 1], truth[:, EDGE - 1 : EDGE + 1] = False, np.nan
    assert edge_figures(step(), truth, valid)["edge_f1"] == 1
    near = near_edges(truth, valid)  # steps over the hole have their middles in it, and 6 columns on either side
    assert near[0].nonzero()[0].tolist() == [*range(25, 31), *range(33, 39)]


def test_the_file_of_a_truth_may_hold_anything_in_its_holes() -> None:
    rng = np.random.default_rng(5)
    truth = step() + 0.3 * rng.normal(size=SIZE_HW).astype(np.float32)
    found, valid = truth + 0.1, rng.random(SIZE_HW) > 0.2
    again = [np.where(valid, values, np.nan).astype(np.float32) for values in (found, truth)]
    assert edge_figures(found, truth, valid) == edge_figures(again[0], again[1], valid)


@settings(deadline=None, max_examples=25)
@given(st.integers(0, 1000), st.sampled_from([0.125, 0.5, 4.0]), st.integers(-8, 8))
def test_the_scale_of_a_camera_and_any_offset_change_nothing(seed: int, gain: float, offset: int) -> None:
    """Exactly: multiples of 1/64 px, scaled by powers of two."""
    rng = np.random.default_rng(seed)
    truth = np.kron(rng.integers(-3, 4, (3, 4)), np.ones((12, 16))).astype(np.float32)
    found = truth + rng.integers(-20, 21, truth.shape).astype(np.float32) / 64
    valid = rng.random(truth.shape) > 0.1
    first = edge_figures(found, truth, valid)
    second = edge_figures(gain * found + offset, gain * truth + offset, valid)
    assert second["edge_f1"] == first["edge_f1"] and second["edge_share"] == first["edge_share"]
    if first["edge_mae"] is not None:
        assert second["edge_mae"] == pytest.approx(gain * first["edge_mae"], rel=1e-6)
    assert disparity_boundary_f1(found + offset, truth, valid) == first["edge_f1"]


# --- in protocols ---


def figures_of(protocol: Protocol, truth: np.ndarray, found: np.ndarray, weight: np.ndarray | None = None) -> dict:
    sample = Sample("a", truth, np.ones(truth.shape, np.bool_), confidence=weight)
    ((_, (result,)),) = evaluate(
        protocol, [Pending("a", lambda: sample)], {"m": lambda _: Prediction(found, "disparity_px")}
    )
    return result.score.figures


def test_pixels_are_scored_as_they_are() -> None:
    figures = figures_of(rendered_protocol(), step(), step(EDGE + 6))
    assert figures["edge_mae_px"] == pytest.approx(2.0 * 6 / 16) and figures["edge_f1"] == pytest.approx(0.5)
    assert figures["edge_ai1"] is None
    half = figures_of(rendered_protocol("phone"), step(), 0.5 * step())
    assert half["edge_mae_px"] == pytest.approx(0.5), "half the contrast is half a step off on each side"


def test_an_affine_map_is_fitted_first() -> None:
    protocol = PROTOCOLS["pixel4-xin"]
    assert {"edge_ai1", "edge_f1"} <= set(protocol.columns)
    exact = figures_of(protocol, step(), -7.0 * step() + 3.0)
    assert exact["edge_ai1"] == pytest.approx(0, abs=1e-5) and exact["edge_f1"] == pytest.approx(1)
    assert exact["edge_mae_px"] is None
    beside = figures_of(protocol, step(), 5.0 * step(EDGE + 6))
    assert beside["edge_f1"] == pytest.approx(0.5) and beside["edge_ai1"] == pytest.approx(2.0 * 6 / 16, rel=0.1)


def test_a_truth_with_weights_is_not_dense_and_has_no_edges() -> None:
    figures = figures_of(PROTOCOLS["google-dp"], step(), step(), np.ones(SIZE_HW, np.float32))
    assert figures["edge_f1"] is None and figures["edge_ai1"] is None
