from __future__ import annotations

import math
from dataclasses import replace

import pytest
import torch
from tests.support.tiny_net import tiny_net

from dualpix.capture.errors import DualpixError
from dualpix.quantize.calibration import EvaluationSet, rendered_calibration, rendered_evaluation
from dualpix.quantize.gate import Candidate, Outcome, constant_passes, judge
from dualpix.quantize.limits import Limits, parse_limits
from dualpix.quantize.score import EXACT_SQNR_DB, Accuracy, Difference, Score, arrays_of, score
from dualpix.quantize.speed import Ratio, Timing
from dualpix.quantize.task_metrics import task_metrics


def _scored(value: float, better: str = "lower") -> Accuracy:
    metrics = {"error": Score(value, better)}  # type: ignore[arg-type]
    return Accuracy(Difference(0.0, 0.0, EXACT_SQNR_DB, EXACT_SQNR_DB, 3.0), 3, metrics)


_REFERENCE = _scored(0.5)
_CLASS = "x86-64-avx512-vnni"
_LIMITS = Limits(metric_loss=0.03, delegated_compute=0.95, size_bytes=1000, speedup={_CLASS: {"eager": 3.0}})


def _timed(ratio: float, *, eager_class: str = _CLASS) -> Timing:
    return Timing({"eager": Ratio((ratio,) * 9)}, _CLASS, {"eager": eager_class})


_GOOD = Candidate("int8", _scored(0.51), 1.0, 900, _timed(3.5))


@pytest.mark.parametrize(
    ("candidate", "outcome", "passed"),
    [
        (_GOOD, Outcome.VERIFIED, True),
        (replace(_GOOD, delegated_compute=0.94), Outcome.NOT_DELEGATED, False),
        (replace(_GOOD, delegated_compute=None), Outcome.VERIFIED, True),
        (replace(_GOOD, accuracy=_scored(0.516)), Outcome.WRONG, False),
        (replace(_GOOD, accuracy=_scored(math.inf)), Outcome.WRONG, False),
        (replace(_GOOD, accuracy=_scored(math.nan)), Outcome.WRONG, False),
        (replace(_GOOD, size_bytes=1001), Outcome.OVER_BUDGET, False),
        (replace(_GOOD, timing=_timed(2.9)), Outcome.OVER_BUDGET, False),
        (replace(_GOOD, timing=_timed(2.9, eager_class="x86-64-avx2")), Outcome.VERIFIED, True),
        (replace(_GOOD, accuracy=None, timing=None), Outcome.NOT_RUN_HERE, True),
        (replace(_GOOD, accuracy=None, size_bytes=2000), Outcome.OVER_BUDGET, False),
        (replace(_GOOD, failure="does not load"), Outcome.NOT_WRITTEN, False),
        (replace(_GOOD, emulated=True, timing=None), Outcome.EMULATED, True),
        (replace(_GOOD, emulated=True, accuracy=None, timing=None), Outcome.NOT_RUN_HERE, True),
        (replace(_GOOD, emulated=True, accuracy=_scored(0.516)), Outcome.WRONG, False),
    ],
)
def test_outcomes(candidate: Candidate, outcome: Outcome, passed: bool) -> None:
    verdict = judge(candidate, _REFERENCE, _LIMITS)
    assert (verdict.outcome, verdict.passed) == (outcome, passed)
    assert passed or verdict.reason, "a failure says why"


@pytest.mark.parametrize(
    ("found", "outcome"), [(0.89, Outcome.VERIFIED), (0.87, Outcome.WRONG), (-math.inf, Outcome.WRONG)]
)
def test_a_metric_of_which_more_is_better(found: float, outcome: Outcome) -> None:
    reference, candidate = _scored(0.9, "higher"), Candidate("int8", _scored(found, "higher"), 1.0, 900)
    relative, itself = Limits(metric_loss=0.03), Limits(metric=0.88)
    for limits in (relative, itself):
        verdict = judge(candidate, reference, limits)
        assert verdict.outcome is outcome
        assert outcome is Outcome.VERIFIED or "of error" in verdict.reason
    assert judge(candidate, reference, itself).checks[0].relation == ">="


def test_the_worst_output_is_judged_and_named() -> None:
    good, bad = Difference(0.1, 0.1, 40.0, 38.0, 2.0), Difference(0.2, 0.1, 30.0, 5.0, 25.0)
    accuracy = Accuracy(Difference.worst_of([good, bad]), 2, {}, {"depth": good, "normal": bad})
    verdict = judge(Candidate("int8", accuracy, None, 1), accuracy, Limits(sqnr_db=20.0, structure_db=10.0))
    assert verdict.reason == "structure_db of normal 5, limit >= 10"


def test_what_a_constant_would_pass_is_told() -> None:
    constant = Accuracy(Difference(1.0, 0.5, 51.0, 0.0, 51.0), 3)
    assert constant_passes(constant, constant, Limits(sqnr_db=25.0)) == "sqnr_db 51, limit >= 25"
    assert not constant_passes(constant, constant, Limits(sqnr_db=25.0, structure_db=1.0))
    assert not constant_passes(constant, constant, Limits(size_bytes=9)), "nothing is asked of the numbers"


@pytest.fixture(scope="module")
def evaluation() -> EvaluationSet:
    return rendered_evaluation(2, (64, 96))


def test_a_sabotaged_network_is_wrong_and_its_twin_is_not(evaluation: EvaluationSet) -> None:
    net, broken = tiny_net(), tiny_net()
    with torch.no_grad():
        broken.encode[0].weight.mul_(-1.0)
        references, outputs = ([arrays_of(n(*s.inputs)) for s in evaluation.samples] for n in (net, broken))
    metrics = task_metrics(evaluation)
    reference = score(references, references, metrics)
    limits = Limits(metric_loss=0.03, sqnr_db=20.0)
    twin = judge(Candidate("twin", reference, 1.0, 1), reference, limits)
    sabotaged = judge(Candidate("broken", score(outputs, references, metrics), 1.0, 1), reference, limits)
    assert (twin.outcome, sabotaged.outcome) == (Outcome.VERIFIED, Outcome.WRONG)


@pytest.mark.parametrize(
    ("sqnr_db", "outcome"), [(26.1, Outcome.VERIFIED), (25.9, Outcome.WRONG), (-math.inf, Outcome.WRONG)]
)
def test_a_module_without_a_metric_is_held_to_its_own_output(sqnr_db: float, outcome: Outcome) -> None:
    accuracy = Accuracy(Difference(0.1, 0.1, sqnr_db, sqnr_db, 0.0), 3)
    assert judge(Candidate("int8", accuracy, 1.0, 1), accuracy, Limits(relative_rms=0.05)).outcome is outcome
    assert judge(Candidate("int8", accuracy, 1.0, 1), accuracy, Limits(metric_loss=0.01, metric=1.0)).checks == ()


def test_a_verdict_keeps_the_ratios_that_it_was_not_reached_by() -> None:
    verdict = judge(replace(_GOOD, timing=_timed(2.9, eager_class="x86-64-avx2")), _REFERENCE, _LIMITS)
    assert [check.name for check in verdict.checks] == ["delegated_compute", "metric_loss", "size_bytes"]
    assert [(s.over, s.ratio.median, s.limit, s.judged) for s in verdict.speed] == [("eager", 2.9, 3.0, False)]


def test_limits_round_trip_and_refuse_what_they_do_not_know() -> None:
    by_class = {_CLASS: {"eager": 2.0}}
    for speedup, read in ((by_class, by_class), ({"eager": 2}, {"": {"eager": 2.0}})):
        entry = {"metric_loss": 0.02, "size_bytes": 10, "speedup": speedup}
        limits = parse_limits({"format": 1, "recipes": {"a": entry}}, "x")
        assert limits == {"a": Limits(0.02, size_bytes=10, speedup=read)}
    for bad, message in (
        ({"format": 2, "recipes": {}}, "no limits file"),
        ({"format": 1, "recipes": {"a": {"ai1": 0.1}}}, "'ai1'; expected one of: metric_loss"),
        ({"format": 1, "recipes": {"a": {"sqnr_db": "30"}}}, "no number"),
        ({"format": 1, "recipes": {"a": {"sqnr_db": True}}}, "no number"),
        ({"format": 1, "recipes": {"a": {"size_bytes": 10**400}}}, "no number"),
        ({"format": 1, "recipes": {"a": {"sqnr_db": math.inf}}}, "no number"),
        ({"format": 1, "recipes": {"a": 3}}, "'3'"),
        ({"format": 1, "recipes": {"a": {"x" * 9999: 3}}}, r"'x{80}\.\.\.'"),
        ({"format": 1, "recipes": {"a": {"speedup": 3}}}, "no number"),
    ):
        with pytest.raises(DualpixError, match=message):
            parse_limits(bad, "limits.json")


def test_limits_of_the_first_release_are_read() -> None:
    entry = {"ai1_increase": 0.02, "mean_abs_error_px": 0.3}
    assert parse_limits({"format": 1, "recipes": {"a": entry}}, "x") == {"a": Limits(0.02, mean_abs_error=0.3)}


def test_calibration_never_sees_the_scenes_that_judge(evaluation: EvaluationSet) -> None:
    calibration = rendered_calibration(2, (64, 96))
    judged = {s.inputs[1].numpy().tobytes() for s in evaluation.samples}
    assert judged.isdisjoint(left.numpy().tobytes() for _, left, _ in calibration.samples)
    again = rendered_calibration(2, (64, 96))
    assert calibration.digest() == again.digest() != (calibration + again).digest()
