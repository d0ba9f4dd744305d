from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from tests.support.tiny_net import tiny_net

from dualpix.capture.errors import DualpixError
from dualpix.quantize.calibration import EvaluationSet, rendered_calibration, rendered_evaluation
from dualpix.quantize.gate import (
    EXACT_SQNR_DB,
    Accuracy,
    Candidate,
    Difference,
    Limits,
    Outcome,
    judge,
    outputs_of,
    parse_limits,
    score,
)
from dualpix.quantize.speed import Ratio, Timing

_REFERENCE = Accuracy(0.5, 0.6, 0.1, Difference(0.0, 0.0, EXACT_SQNR_DB), 3)
_CLASS = "x86-64-avx512-vnni"
_LIMITS = Limits(ai1_increase=0.03, delegated_compute=0.95, size_bytes=1000, speedup={_CLASS: {"eager": 3.0}})


def _timed(ratio: float, *, eager_class: str = _CLASS) -> Timing:
    return Timing({"eager": Ratio((ratio,) * 9)}, _CLASS, {"eager": eager_class})


_GOOD = Candidate("int8", replace(_REFERENCE, ai1=0.51), 1.0, 900, _timed(3.5))


@pytest.mark.parametrize(
    ("candidate", "outcome", "passed"),
    [
        (_GOOD, Outcome.VERIFIED, True),
        (replace(_GOOD, delegated_compute=0.94), Outcome.NOT_DELEGATED, False),
        (replace(_GOOD, accuracy=replace(_REFERENCE, ai1=0.516)), Outcome.WRONG, False),
        (replace(_GOOD, accuracy=replace(_REFERENCE, ai1=math.inf)), Outcome.WRONG, False),
        (replace(_GOOD, accuracy=replace(_REFERENCE, ai1=math.nan)), Outcome.WRONG, False),
        (replace(_GOOD, size_bytes=1001), Outcome.OVER_BUDGET, False),
        (replace(_GOOD, timing=_timed(2.9)), Outcome.OVER_BUDGET, False),
        (replace(_GOOD, timing=_timed(2.9, eager_class="x86-64-avx2")), Outcome.VERIFIED, True),
        (replace(_GOOD, accuracy=None, timing=None), Outcome.NOT_RUN_HERE, True),
        (replace(_GOOD, accuracy=None, size_bytes=2000), Outcome.OVER_BUDGET, False),
        (replace(_GOOD, failure="does not load"), Outcome.NOT_WRITTEN, False),
        (replace(_GOOD, emulated=True, timing=None), Outcome.EMULATED, True),
        (replace(_GOOD, emulated=True, accuracy=None, timing=None), Outcome.NOT_RUN_HERE, True),
        (replace(_GOOD, emulated=True, accuracy=replace(_REFERENCE, ai1=0.516)), Outcome.WRONG, False),
    ],
)
def test_outcomes(candidate: Candidate, outcome: Outcome, passed: bool) -> None:
    verdict = judge(candidate, _REFERENCE, _LIMITS)
    assert (verdict.outcome, verdict.passed) == (outcome, passed)
    assert passed or verdict.reason, "a failure says why"


@pytest.fixture(scope="module")
def evaluation() -> EvaluationSet:
    return rendered_evaluation(2, (64, 96))


def test_a_sabotaged_network_is_wrong_and_its_twin_is_not(evaluation: EvaluationSet) -> None:
    net = tiny_net()
    with torch.no_grad():
        references = outputs_of(lambda x: net(*x), evaluation)
        broken = tiny_net()
        broken.encode[0].weight.mul_(-1.0)
        outputs = outputs_of(lambda x: broken(*x), evaluation)
    reference = score(references, references, evaluation)
    limits = Limits(ai1_increase=0.03, sqnr_db=20.0)
    twin = judge(Candidate("twin", reference, 1.0, 1), reference, limits)
    sabotaged = judge(Candidate("broken", score(outputs, references, evaluation), 1.0, 1), reference, limits)
    assert (twin.outcome, sabotaged.outcome) == (Outcome.VERIFIED, Outcome.WRONG)


def test_a_prediction_with_nan_scores_infinite(evaluation: EvaluationSet) -> None:
    good = [s.disparity_px.numpy()[0, 0].astype(np.float64) for s in evaluation.samples]
    bad = [good[0].copy(), good[1]]
    bad[0][3, 4] = np.nan
    assert score(good, good, evaluation).ai1 < 1e-6
    assert math.isinf(score(bad, good, evaluation).ai1)


def test_difference_is_what_it_says() -> None:
    reference = np.ones((2, 4))
    gap = Difference.between([reference + 0.1], [reference])
    assert gap.max_abs_px == pytest.approx(0.1)
    assert gap.mean_abs_px == pytest.approx(0.1)
    assert gap.sqnr_db == pytest.approx(20.0)
    assert gap.relative_rms == pytest.approx(0.1)
    assert Difference.between([reference], [reference]).sqnr_db == EXACT_SQNR_DB


@pytest.mark.parametrize(
    ("sqnr_db", "outcome"), [(26.1, Outcome.VERIFIED), (25.9, Outcome.WRONG), (-math.inf, Outcome.WRONG)]
)
def test_a_module_without_a_metric_is_held_to_its_own_output(sqnr_db: float, outcome: Outcome) -> None:
    accuracy = replace(_REFERENCE, from_float=Difference(0.1, 0.1, sqnr_db))
    assert judge(Candidate("int8", accuracy, 1.0, 1), _REFERENCE, Limits(relative_rms=0.05)).outcome is outcome


def test_a_verdict_keeps_the_ratios_that_it_was_not_reached_by() -> None:
    verdict = judge(replace(_GOOD, timing=_timed(2.9, eager_class="x86-64-avx2")), _REFERENCE, _LIMITS)
    assert [check.name for check in verdict.checks] == ["delegated_compute", "ai1_increase", "size_bytes"]
    assert [(s.over, s.ratio.median, s.limit, s.judged) for s in verdict.speed] == [("eager", 2.9, 3.0, False)]


def test_limits_round_trip_and_refuse_what_they_do_not_know() -> None:
    by_class = {_CLASS: {"eager": 2.0}}
    for speedup, read in ((by_class, by_class), ({"eager": 2}, {"": {"eager": 2.0}})):
        entry = {"ai1_increase": 0.02, "size_bytes": 10, "speedup": speedup}
        limits = parse_limits({"format": 1, "recipes": {"a": entry}}, "x")
        assert limits == {"a": Limits(0.02, size_bytes=10, speedup=read)}
    for bad, message in (
        ({"format": 2, "recipes": {}}, "no limits file"),
        ({"format": 1, "recipes": {"a": {"ai1": 0.1}}}, "'ai1'; expected one of: ai1_increase"),
        ({"format": 1, "recipes": {"a": {"sqnr_db": "30"}}}, "no number"),
        ({"format": 1, "recipes": {"a": {"sqnr_db": True}}}, "no number"),
        ({"format": 1, "recipes": {"a": 3}}, "'3'"),
        ({"format": 1, "recipes": {"a": {"speedup": 3}}}, "no number"),
    ):
        with pytest.raises(DualpixError, match=message):
            parse_limits(bad, "limits.json")


def test_calibration_never_sees_the_scenes_that_judge(evaluation: EvaluationSet) -> None:
    calibration = rendered_calibration(2, (64, 96))
    judged = {s.inputs[1].numpy().tobytes() for s in evaluation.samples}
    assert judged.isdisjoint(left.numpy().tobytes() for _, left, _ in calibration.samples)
    again = rendered_calibration(2, (64, 96))
    assert calibration.digest() == again.digest() != (calibration + again).digest()
