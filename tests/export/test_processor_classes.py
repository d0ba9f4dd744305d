"""The shipped network's speed is judged right on the processors it was measured on, quiet or loaded.

The rounds were recorded on an EPYC of Zen 5, alone, beside two busy loops on its two processors, and with PyTorch held
to AVX2. Those of an EPYC that has AVX2 alone are known by their medians: int8 2.05 times as fast as PyTorch, float32
.97 times.
"""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
from tests.support.rounds import FP32, INT8, recorded, with_ratios

from dualpix.export.bench import EAGER, Benchmark
from dualpix.export.flow import limits_of
from dualpix.models.zoo import load_model
from dualpix.quantize.gate import EXACT_SQNR_DB, Accuracy, Candidate, Difference, Limits, Outcome, Verdict, judge
from dualpix.quantize.speed import ANY, NO_CLASS

ZEN5, ZEN3 = "x86-64-avx512-vnni", "x86-64-avx2"
RIGHT = Accuracy(0.5, 0.6, 0.1, Difference(0.0, 0.0, EXACT_SQNR_DB), 3)


def avx2_alone() -> Benchmark:
    return with_ratios(recorded("avx512-vnni-loaded"), 0.97, 2.05, ZEN3)


def verdicts(bench: Benchmark, limits: dict[str, Limits] | None = None) -> dict[str, Verdict]:
    """Of both programs, right and delegated."""
    limits = limits or limits_of(load_model())[0]
    candidates = (Candidate(name, RIGHT, 1.0, 1, bench.timing(name)) for name in (FP32, INT8))
    return {c.recipe: judge(c, RIGHT, limits[c.recipe]) for c in candidates}


def judged(found: dict[str, Verdict]) -> set[tuple[str, str]]:
    return {(name, s.over) for name, verdict in found.items() for s in verdict.speed if s.judged}


ALL = {(FP32, EAGER), (INT8, EAGER), (INT8, FP32)}


@pytest.mark.parametrize(
    ("bench", "expected"),
    [
        (recorded("avx512-vnni"), ALL),
        (recorded("avx512-vnni-loaded"), ALL),
        # PyTorch alone is held back: the programs are compared with each other by the limits of the processor
        (recorded("pytorch-held-to-avx2"), {(INT8, FP32)}),
        (avx2_alone(), ALL),
        (replace(avx2_alone(), classes=dict.fromkeys((EAGER, FP32, INT8), "arm64-fp16-dot")), set()),
        (replace(avx2_alone(), classes=dict.fromkeys((EAGER, FP32, INT8), "unknown")), set()),
        (replace(recorded("avx512-vnni"), threads=2), set()),
    ],
    ids=["avx512-vnni", "loaded", "held-to-avx2", "avx2-alone", "arm64", "unknown", "two-threads"],
)
def test_a_healthy_machine_passes(bench: Benchmark, expected: set[tuple[str, str]]) -> None:
    found = verdicts(bench)
    assert {verdict.outcome for verdict in found.values()} == {Outcome.VERIFIED}
    assert judged(found) == expected
    for verdict in found.values():
        for check in verdict.speed:
            # what has a limit somewhere is judged, or says why not
            assert check.judged or check.why_not or (verdict.recipe, check.over) == (FP32, INT8)


def test_what_was_measured_is_what_is_judged() -> None:
    checks = {s.over: s for s in verdicts(avx2_alone())[INT8].speed}
    assert checks[EAGER].ratio.median == pytest.approx(2.05)
    assert checks[FP32].ratio.median == pytest.approx(2.09, abs=0.05)
    assert (checks[EAGER].limit, checks[FP32].limit) == (1.3, 1.25)
    held = {s.over: s for s in verdicts(recorded("pytorch-held-to-avx2"))[INT8].speed}
    assert held[EAGER].why_not == (
        "'eager' is held to x86-64-avx2 (ATEN_CPU_CAPABILITY=avx2, ONEDNN_MAX_CPU_ISA=AVX2) on a processor of "
        "x86-64-avx512-vnni"
    )


def test_limits_of_one_class_fail_a_healthy_machine_of_another() -> None:
    """As 0.1.0 did: its figures for AVX-512 VNNI held everywhere."""
    own = limits_of(load_model())[0]
    everywhere = {name: replace(own[name], speedup={ANY: own[name].speedup[ZEN5]}) for name in (FP32, INT8)}
    found = verdicts(avx2_alone(), everywhere)
    assert {v.outcome for v in found.values()} == {Outcome.OVER_BUDGET}
    assert "speedup over eager 0.97, limit >= 1.2" in found[FP32].reason
    unclassed = {name: replace(own[name], speedup={NO_CLASS: own[name].speedup[ZEN5]}) for name in (FP32, INT8)}
    found = verdicts(avx2_alone(), unclassed)
    assert all(v.passed for v in found.values()) and not judged(found)


@pytest.mark.parametrize("load", ["avx512-vnni", "avx512-vnni-loaded"])
def test_a_slow_program_fails_under_any_load(load: str) -> None:
    """Half as fast as it was: less than the limits ask, and the rounds tell although the machine is busy."""
    slow = with_ratios(recorded(load), 1.1, 2.4, ZEN5)
    found = verdicts(slow)
    assert {v.outcome for v in found.values()} == {Outcome.OVER_BUDGET} and judged(found) == ALL
    assert all(v.outcome is Outcome.OVER_BUDGET for v in verdicts(with_ratios(recorded(load), 0.5, 1.0, ZEN3)).values())


def test_processor_time_holds_where_wall_time_does_not() -> None:
    quiet, loaded = recorded("avx512-vnni"), recorded("avx512-vnni-loaded")
    for name, over in ALL:
        processor = loaded.ratio(name, over)
        wall = replace(loaded, threads=2).ratio(name, over)
        assert processor.median == pytest.approx(quiet.ratio(name, over).median, rel=0.1)
        assert processor.iqr < wall.iqr / 2
        assert max(wall.samples) / min(wall.samples) > 1.5 * max(processor.samples) / min(processor.samples)


def test_recorded_rounds_say_where_they_are_from() -> None:
    for path in Path(__file__).with_name("rounds").glob("*.json"):
        stored = json.loads(path.read_text())
        assert stored["machine"]["class"] == ZEN5 and stored["threads"] == 1 and stored["size_hw"] == [384, 512]
        held = "held" in path.name
        assert stored["classes"] == {EAGER: ZEN3 if held else ZEN5, FP32: ZEN5, INT8: ZEN5}
        assert bool(stored["held_by"]) == held and len(stored["latencies"][EAGER]["processor_s"]) >= 9
