from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from dualpix.quantize.calibration import EvaluationSet, rendered_evaluation
from dualpix.quantize.score import (
    EXACT_SQNR_DB,
    Difference,
    Metric,
    Score,
    arrays_of,
    constant_like,
    is_constant,
    score,
    sqnr_db,
)
from dualpix.quantize.task_metrics import task_metrics


def _relief(mean: float = 20.0, rms: float = 0.05, seed: int = 0) -> np.ndarray:
    return mean + rms * np.random.default_rng(seed).standard_normal((1, 1, 64, 64))


def test_difference_is_what_it_says() -> None:
    reference = np.ones((2, 4))
    gap = Difference.between([reference + 0.1], [reference])
    assert gap.max_abs == pytest.approx(0.1)
    assert gap.mean_abs == pytest.approx(0.1)
    assert gap.sqnr_db == pytest.approx(20.0)
    assert gap.relative_rms == pytest.approx(0.1)
    assert Difference.between([reference], [reference]).sqnr_db == EXACT_SQNR_DB


def test_a_constant_has_a_high_sqnr_and_no_structure() -> None:
    """A wall at 20 m with 5 cm of relief: 20 log10(20 / .05) = 52 dB for its mean alone."""
    wall = [_relief(seed=k) for k in range(3)]
    flat = [np.full_like(w, w.mean()) for w in wall]
    gap = Difference.between(flat, wall)
    assert gap.sqnr_db == pytest.approx(20 * math.log10(20 / 0.05), abs=0.2)
    assert gap.structure_db == pytest.approx(0.0, abs=1e-6)
    assert gap.constant_sqnr_db == pytest.approx(gap.sqnr_db, abs=1e-6)
    noisy = Difference.between([w + 0.005 * np.sign(w - 20) for w in wall], wall)
    assert noisy.structure_db == pytest.approx(20.0, abs=0.2)
    assert noisy.sqnr_db - noisy.structure_db == pytest.approx(gap.constant_sqnr_db)


def test_one_constant_per_picture_or_channel_has_no_structure_either() -> None:
    """The mean of each map is removed: pictures at other distances, channels of other size, tell nothing of relief."""
    walls = [_relief(mean) for mean in (2.0, 20.0)]
    channels = [np.concatenate([_relief(20.0), _relief(-3.0)], 1)]
    for references in (walls, channels):
        flat = [np.broadcast_to(r.mean((2, 3), keepdims=True), r.shape) for r in references]
        assert Difference.between(flat, references).structure_db == pytest.approx(0.0, abs=1e-6)
        assert Difference.between(flat, references).sqnr_db > 40


def test_outputs_that_are_no_maps_differ_from_sample_to_sample() -> None:
    logits = [np.array([[1.0]]), np.array([[3.0]])]
    assert Difference.between([np.array([[2.0]])] * 2, logits).structure_db == pytest.approx(0.0)
    pooled = [np.array([1.0, -1.0]).reshape(1, 2, 1, 1), np.array([2.0, 5.0]).reshape(1, 2, 1, 1)]
    assert Difference.between(pooled, pooled).structure_db == EXACT_SQNR_DB, "maps of one pixel are no maps"


def test_nothing_is_measured_where_the_reference_is_flat() -> None:
    for value in (0.0, 7.5):
        flat = [np.full((1, 1, 4, 4), value)] * 2
        gap = Difference.between(flat, flat)
        assert gap.structure_db is None and gap.constant_sqnr_db is None and is_constant(flat)
    rounded = [np.full((1, 1, 4, 4), 1.0) + np.float64(np.finfo(np.float32).eps) * np.eye(4)]
    assert is_constant(rounded), "the last bit of float32 is no content"
    assert not is_constant([_relief()]) and not is_constant([np.zeros(3), np.ones(3)])


@given(st.floats(1e-12, 1e12), st.integers(0, 9))
def test_scores_do_not_depend_on_the_unit(unit: float, seed: int) -> None:
    reference, output = [_relief(3.0, 1.0, seed)], [_relief(3.0, 1.0, seed) + 0.1 * _relief(0.0, 1.0, seed + 10)]
    plain = Difference.between(output, reference)
    scaled = Difference.between([o * unit for o in output], [r * unit for r in reference])
    assert scaled.sqnr_db == pytest.approx(plain.sqnr_db) and scaled.structure_db == pytest.approx(plain.structure_db)
    assert scaled.max_abs == pytest.approx(plain.max_abs * unit)


def test_any_noise_on_no_signal_is_told() -> None:
    nothing = np.zeros((1, 1, 2, 2))
    assert Difference.between([nothing + 1e-20], [nothing]).sqnr_db == -math.inf


def test_several_outputs_are_scored_one_by_one_and_the_worst_counts() -> None:
    depth, mask = _relief(), (_relief(0.0, 1.0) > 0).astype(np.float64)
    flipped = mask.copy()
    flipped[0, 0, :8] = 1 - flipped[0, 0, :8]
    found = score([(depth, flipped)], [(depth, mask)], names=("depth", "mask"))
    assert found.outputs["depth"].sqnr_db == EXACT_SQNR_DB and found.from_float == Difference(
        1.0,
        pytest.approx(1 / 8),
        found.outputs["mask"].sqnr_db,
        found.outputs["mask"].structure_db,
        found.outputs["depth"].constant_sqnr_db,
    )
    assert found.worst_output("sqnr_db") == "mask" and found.worst_output("constant_sqnr_db") == "depth"
    assert score([(depth,)], [(depth,)], names=("depth",)).outputs == {}, "one output needs no name"


def test_constant_outputs_are_what_they_say() -> None:
    references = [(_relief(2.0), np.array([1.0, 3.0])), (_relief(4.0), np.array([5.0, 7.0]))]
    first, second = constant_like(references)
    assert np.ptp(first[0]) == 0 and first[0].mean() == pytest.approx(3.0, abs=0.01)
    assert (first[1] == 4.0).all() and np.array_equal(first[0], second[0])


def test_tensors_are_compared_in_decibels() -> None:
    reference = torch.rand(2, 3) + 1
    assert sqnr_db(reference, reference) == EXACT_SQNR_DB
    assert sqnr_db(reference, 1.1 * reference) == pytest.approx(20.0, abs=1e-4)
    assert sqnr_db((reference, reference), (reference, 1.1 * reference)) == pytest.approx(20.0, abs=1e-4)
    assert sqnr_db(reference, torch.full_like(reference, torch.nan)) == -math.inf
    assert sqnr_db(reference * 1e-18, reference * 1.1e-18) == pytest.approx(20.0, abs=1e-4), "no floor has a unit"
    assert [a.dtype for a in arrays_of((torch.ones(2, dtype=torch.bool), torch.ones(2)))] == [np.float64] * 2


@pytest.mark.parametrize(
    ("better", "value", "reference", "loss"),
    [
        ("lower", 1.03, 1.0, 0.03),
        ("lower", 0.9, 1.0, -0.1),
        ("higher", 0.9, 1.0, 0.1),
        ("higher", -1.1, -1.0, 0.1),
        ("lower", 0.0, 0.0, 0.0),
        ("lower", 1e-9, 0.0, math.inf),
        ("higher", 1.0, 0.0, 0.0),
        ("lower", math.inf, 1.0, math.inf),
    ],
)
def test_a_loss_is_relative_and_has_a_direction(better: str, value: float, reference: float, loss: float) -> None:
    found = Score(value, better).loss_from(Score(reference, better))  # type: ignore[arg-type]
    assert found == pytest.approx(loss)


def test_metrics_of_what_is_not_finite_are_at_their_worst() -> None:
    bad, good = [(np.array([math.nan, 1.0]),)], [(np.array([1.0, 2.0]),)]
    metrics = [Metric("error", lambda o, r: 0.0), Metric("merit", lambda o, r: 1.0, "higher", unit="%")]
    found = score(bad, good, metrics)
    assert found.from_float.sqnr_db == -math.inf and found.from_float.max_abs == math.inf
    assert found.metrics == {"error": Score(math.inf, "lower"), "merit": Score(-math.inf, "higher", "%")}
    assert score(good, good, metrics).metric == ("error", Score(0.0, "lower"))
    assert score(good, good).metric is None and score(good, good).metric_loss(score(good, good)) is None


@pytest.fixture(scope="module")
def evaluation() -> EvaluationSet:
    return rendered_evaluation(2, (64, 96))


def test_the_metrics_of_disparity_are_an_instance(evaluation: EvaluationSet) -> None:
    truth = [(s.truth["disparity_px"].numpy().astype(np.float64),) for s in evaluation.samples]
    metrics = task_metrics(evaluation)
    assert [m.name for m in metrics] == ["AI(1)", "AI(2)", "1-|ρ|"]
    exact, turned = score(truth, truth, metrics), score([(2 * t + 1,) for (t,) in truth], truth, metrics)
    for found in (exact, turned):
        assert all(s.value == pytest.approx(0, abs=1e-6) for s in found.metrics.values()), "affine-invariant"
    worse = score([(t + np.random.default_rng(0).normal(0, 1, t.shape),) for (t,) in truth], truth, metrics)
    assert all(s.value > 0.01 for s in worse.metrics.values())
