"""Scores: invariances over random data, and values worked out by hand or by an independent method."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from dualpix.capture.errors import DualpixError
from dualpix.models.metrics import (
    affine_invariant_error,
    bad_pixel_share,
    depth_error,
    least_squares,
    mean_absolute_error,
    rank_correlation,
    rank_errors,
    sparsification,
)

maps = hnp.arrays(np.float64, (6, 7), elements=st.integers(-50, 50).map(lambda v: v / 8))
scales = st.floats(0.01, 100).flatmap(lambda s: st.sampled_from([s, -s]))


@settings(deadline=None)
@given(maps, scales, st.floats(-100, 100))
def test_an_affine_image_of_the_truth_is_without_error(target: np.ndarray, scale: float, offset: float) -> None:
    assume(np.ptp(target) > 0)
    score = affine_invariant_error(scale * target + offset, target)
    assert score.ai1 == pytest.approx(0, abs=1e-9) and score.ai2 == pytest.approx(0, abs=1e-9)
    assert np.sign(score.scale) == np.sign(scale)


@settings(deadline=None)
@given(maps, maps, st.sampled_from([0.25, 2.0, -1.0, -8.0]), st.integers(-8, 8))
def test_scores_do_not_change_with_the_scale_and_offset_of_the_prediction(
    prediction: np.ndarray, target: np.ndarray, scale: float, offset: int
) -> None:
    # powers of two: the transform is exact, so it makes no ties and breaks none
    before, after = (affine_invariant_error(p, target) for p in (prediction, scale * prediction + offset))
    assert after.ai1 == pytest.approx(before.ai1, rel=1e-6, abs=1e-9)
    assert after.ai2 == pytest.approx(before.ai2, rel=1e-6, abs=1e-9)
    assert after.one_minus_abs_rho == pytest.approx(before.one_minus_abs_rho, abs=1e-9)


@settings(deadline=None)
@given(maps, maps)
def test_least_squares_agree_with_numpys(prediction: np.ndarray, target: np.ndarray) -> None:
    assume(np.ptp(prediction) > 0)
    rows = np.stack([prediction.ravel(), np.ones(prediction.size)], 1)
    fit, *_ = np.linalg.lstsq(rows, target.ravel(), rcond=None)
    expected = np.sqrt(np.mean((rows @ fit - target.ravel()) ** 2))
    assert affine_invariant_error(prediction, target).ai2 == pytest.approx(expected, abs=1e-9)


def test_the_robust_fit_ignores_an_outlier_that_least_squares_follow() -> None:
    x = np.linspace(0, 1, 50)
    y = 2 * x + 1
    y[-1] += 10
    score = affine_invariant_error(x, y)
    assert score.scale == pytest.approx(2, abs=0.02) and score.offset == pytest.approx(1, abs=0.02)
    assert score.ai1 == pytest.approx(10 / 50, abs=0.01)
    assert score.ai2 > 1.3


def test_a_constant_prediction_scores_between_the_median_and_the_mean() -> None:
    target = np.array([0.0, 0.0, 0.0, 1.0, 0.5])
    score = affine_invariant_error(np.full(5, 3.7), target)
    # five iterations of reweighting go most of the way from the mean (0.3) to the median (0)
    assert 1.5 / 5 <= score.ai1 < 0.33 < 1.8 / 5
    assert score.ai2 == pytest.approx(target.std())
    assert score.one_minus_abs_rho == 1.0 and score.scale == 0.0


def test_confidence_weighs_pixels_as_often_as_it_says() -> None:
    rng = np.random.default_rng(0)
    prediction, target = rng.normal(size=(2, 40))
    repeats = rng.integers(1, 4, 40)
    weighted = affine_invariant_error(prediction, target, confidence=repeats, ties="dense")
    repeated = affine_invariant_error(np.repeat(prediction, repeats), np.repeat(target, repeats), ties="dense")
    assert weighted.ai1 == pytest.approx(repeated.ai1) and weighted.ai2 == pytest.approx(repeated.ai2)
    assert weighted.one_minus_abs_rho == pytest.approx(repeated.one_minus_abs_rho)


def test_invalid_and_non_finite_pixels_do_not_count() -> None:
    rng = np.random.default_rng(1)
    prediction, target = rng.normal(size=(2, 5, 6))
    clean = affine_invariant_error(prediction[1:], target[1:])
    valid = np.ones((5, 6), bool)
    valid[0, :3] = False
    prediction[0, :3], prediction[0, 3:] = 1e9, np.nan
    assert affine_invariant_error(prediction, target, valid) == clean


@pytest.mark.parametrize(
    ("ties", "rho"),
    # ranks of x: average 1.5 1.5 3 4, dense 0 0 1 2, ordinal 0 1 2 3; Pearson with 0 1 3 2 by hand
    [("average", 3.5 / 22.5**0.5), ("dense", 2.5 / 13.75**0.5), ("ordinal", 0.8)],
)
def test_rank_variants_on_a_tie(ties: str, rho: float) -> None:
    assert rank_correlation([5, 5, 6, 9], [0, 1, 3, 2], ties=ties) == pytest.approx(rho, abs=1e-6)  # type: ignore[arg-type]


def test_three_rank_errors_of_one_map_by_hand() -> None:
    """Codes of 5 5 6 9 in 8 bits are 0 0 64 255, ranked densely 0 0 1 2; by position 0 1 2 3, and negated 2 3 1 0."""
    found = rank_errors([5, 5, 6, 9], [0, 1, 3, 2])
    assert found.average == pytest.approx(1 - 3.5 / 22.5**0.5)
    assert found.dense_8bit == pytest.approx(1 - 2.5 / 13.75**0.5)
    assert found.argsort == pytest.approx(1 - 0.8)
    # what lies within one code is a tie in 8 bits alone
    fine = rank_errors([0.0, 0.1, 100.0, 255.0], [0, 1, 3, 2])
    assert fine.dense_8bit == pytest.approx(found.dense_8bit) and fine.average == pytest.approx(1 - 0.8)


def test_a_constant_has_no_order_in_any_variant() -> None:
    """Ranked by position, as in the published code, it would match this truth perfectly."""
    assert set(vars(rank_errors(np.zeros(10), np.repeat([0, 1], 5))).values()) == {1.0}
    assert rank_correlation(np.ones(10), np.arange(10), ties="ordinal") == 0


def test_a_dithered_prediction_changes_dense_ranks_but_not_spearmans() -> None:
    """Why dense ranks are of 8-bit predictions: noise below a code undoes ties, and with them the weights of ranks."""
    rng = np.random.default_rng(0)
    target = np.rint(rng.beta(1, 12, 20_000) * 255)
    prediction = np.clip(target + rng.normal(0, 3, target.size).round(), 0, 255)
    dithered = prediction + rng.uniform(-0.5, 0.5, target.size)
    plain, noisy = rank_errors(prediction, target), rank_errors(dithered, target)
    assert noisy.average == pytest.approx(plain.average, abs=0.01)
    assert noisy.dense_8bit == pytest.approx(plain.dense_8bit, abs=0.01)
    dense = [1 - rank_correlation(p, target, ties="dense") for p in (prediction, dithered)]
    assert dense[1] > 2 * dense[0]


@settings(deadline=None)
@given(maps, maps)
def test_rank_errors_are_those_of_the_single_correlations(prediction: np.ndarray, target: np.ndarray) -> None:
    found = rank_errors(prediction, target)
    assert found.average == pytest.approx(1 - abs(rank_correlation(prediction, target)), abs=1e-12)
    assert min(vars(found).values()) >= -1e-12 and found.dense_8bit <= 1 + 1e-12


def test_iterations_count_the_plain_fit() -> None:
    """One fit is that of AI(2); each further one is nearer to the L1 fit, which ignores the outlier."""
    x = np.linspace(0, 1, 50)
    y = 2 * x + 1
    y[-1] += 10
    errors = [affine_invariant_error(x, y, iterations=n).ai1 for n in (1, 5, 6)]
    scale, offset = least_squares(x, y)
    assert errors[0] == pytest.approx(np.abs(scale * x + offset - y).mean()) and errors[0] > errors[1] > errors[2]


def test_rank_correlation_sees_any_monotone_map() -> None:
    x = np.random.default_rng(2).normal(size=100)
    assert rank_correlation(x, np.exp(3 * x)) == pytest.approx(1)
    assert rank_correlation(-(x**3), x) == pytest.approx(-1)


def test_plain_errors() -> None:
    prediction, target = np.array([1.0, 2.0, 5.0, 0.0]), np.array([1.0, 3.5, 4.5, np.nan])
    assert mean_absolute_error(prediction, target) == pytest.approx(2.0 / 3)
    assert bad_pixel_share(prediction, target, threshold=1.0) == pytest.approx(1 / 3)


def test_depth_errors_by_hand() -> None:
    score = depth_error(
        [1.0, 4.0, np.inf, 0.01, np.nan, 3.0], [2.0, 4.0, 5.0, 0.5, 1.0, 0.0], [1, 1, 1, 1, 1, 0], range_m=(0.25, 10)
    )
    assert score.mae_m == pytest.approx((1 + 0 + 5 + 0.25) / 4)
    assert score.abs_rel == pytest.approx((0.5 + 0 + 1 + 0.5) / 4)
    assert score.rmse_diopters == pytest.approx(((0.5**2 + 0 + 0.1**2 + 2**2) / 4) ** 0.5)
    assert score.clamped == 0.5


def test_nothing_to_score_is_a_user_error_and_shapes_are_checked() -> None:
    with pytest.raises(DualpixError, match="fewer than two pixels"):
        affine_invariant_error(np.zeros((2, 2)), np.full((2, 2), np.nan))
    with pytest.raises(ValueError, match="shapes differ"):
        affine_invariant_error(np.zeros((2, 2)), np.zeros((2, 3)))


def test_leaving_out_by_the_error_itself_is_the_oracle() -> None:
    error = np.random.default_rng(0).exponential(size=(30, 40))
    found = sparsification(error, -error)
    assert found.ause == pytest.approx(0, abs=1e-12) and np.array_equal(found.error, found.oracle)
    assert found.kept[0] == 1 and found.error[0] == pytest.approx(1) and np.all(np.diff(found.error) < 0)


def test_a_constant_confidence_leaves_the_error_as_it_is() -> None:
    found = sparsification(np.random.default_rng(0).exponential(size=1000), np.full(1000, 0.3))
    assert np.allclose(found.error, 1)
    # the oracle of an exponential law keeps 1 + (1 - k) ln(1 - k) / k of the error at a share k
    shares = found.kept[1:]
    assert np.abs(found.oracle[1:] - (1 + (1 - shares) * np.log(1 - shares) / shares)).max() < 0.05


def test_a_better_confidence_has_a_smaller_area() -> None:
    rng = np.random.default_rng(0)
    error = rng.exponential(size=5000)
    areas = [sparsification(error, -error + k * rng.normal(size=5000)).ause for k in (0.1, 1.0, 10.0)]
    assert areas[0] < areas[1] < areas[2] < sparsification(error, error).ause


def test_sparsification_by_hand() -> None:
    """From the surest on, errors 1 2 1 4: means of all 2, of three 4/3, of two 1.5, of one 1."""
    found = sparsification([4.0, 2.0, 1.0, 1.0], [0.1, 0.8, 0.9, 0.5], steps=4)
    assert found.error == pytest.approx(np.array([2, 4 / 3, 1.5, 1]) / 2)
    assert found.oracle == pytest.approx(np.array([2, 4 / 3, 1, 1]) / 2)
    assert found.ause == pytest.approx(0.25 * 0.25)


def test_the_area_as_a_part_of_that_of_a_random_order_by_hand() -> None:
    """Of the errors above: 1 less the oracle is 0, 1/3, 1/2, 1/2 at each quarter, whose area is 1/4 (1/3 + 1/2 + 1/4).

    The order above is 1/4 off at one of them: 1/16 of area, or 3/13 of that.
    """
    found = sparsification([4.0, 2.0, 1.0, 1.0], [0.1, 0.8, 0.9, 0.5], steps=4)
    assert found.chance == pytest.approx((1 / 3 + 1 / 2 + 1 / 4) / 4)
    assert found.of_chance == pytest.approx(3 / 13)


def test_no_order_is_no_better_than_chance_and_the_reverse_is_worse() -> None:
    error = np.random.default_rng(0).exponential(size=4000)
    assert sparsification(error, np.ones(4000)).of_chance == pytest.approx(1)
    assert sparsification(error, -error).of_chance == pytest.approx(0)
    worst = sparsification(error, error).of_chance
    assert worst is not None and worst > 1.5
    assert sparsification(np.ones(9), np.arange(9)).of_chance is None, "all errors are alike"


def test_the_part_of_chance_does_not_grow_with_the_tail_of_the_errors() -> None:
    """A confidence that knows the order but for one in five: the tail changes the area, hardly its part of chance."""
    rng = np.random.default_rng(1)
    order = np.arange(20_000) / 20_000
    known = np.where(rng.random(order.size) < 0.2, rng.permutation(order), order)
    found = [sparsification((1 - order) ** power, known) for power in (1.0, 4.0)]
    assert found[1].ause > 1.5 * found[0].ause
    assert found[1].of_chance == pytest.approx(found[0].of_chance, abs=0.06)


def test_pixels_without_an_error_do_not_count_and_none_is_refused() -> None:
    error = np.array([1.0, np.inf, 3.0, np.nan])
    assert sparsification(error, [2.0, 9.0, 1.0, 9.0]).ause == pytest.approx(0)
    with pytest.raises(DualpixError, match="no error to sparsify"):
        sparsification(np.zeros(4), np.ones(4))
    with pytest.raises(ValueError, match="shapes differ"):
        sparsification(np.ones(4), np.ones(3))
