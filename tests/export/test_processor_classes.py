"""The shipped network's speed is judged right on the processors it was measured on, quiet or loaded.

The rounds were recorded on the two processors of an EPYC of Zen 5: beside other programs (load average 7), beside two
busy loops more (12), and with PyTorch held to AVX2 (13). Those of an EPYC that has AVX2 alone are known by their
medians: int8 2.05 times as fast as PyTorch, float32 .97 times.
"""

from __future__ import annotations

import io
import json
import re
import shutil
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from rich.console import Console
from tests.support.rounds import FP32, INT8, recorded, with_ratios
from torch import nn

from dualpix.capture.processor import host_processor, pytorch_processor
from dualpix.export.bench import EAGER, Benchmark, stored_ratio
from dualpix.export.command.show import table_of
from dualpix.export.flow import ExportResult, limits_of
from dualpix.export.flow.card import MODEL_CARD, model_card
from dualpix.export.manifest import read_manifest, write_manifest
from dualpix.export.module import export_module
from dualpix.export.report.exported import write_report
from dualpix.models.zoo import load_model
from dualpix.quantize.gate import Candidate, Outcome, Verdict, judge
from dualpix.quantize.limits import Limits
from dualpix.quantize.score import EXACT_SQNR_DB, Accuracy, Difference, Score
from dualpix.quantize.speed import ANY, NO_CLASS

ZEN5, ZEN3 = "x86-64-avx512-vnni", "x86-64-avx2"
RIGHT = Accuracy(Difference(0.0, 0.0, EXACT_SQNR_DB, EXACT_SQNR_DB, 3.0), 3, {"error": Score(0.5, "lower")})


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
    assert (checks[EAGER].limit, checks[FP32].limit) == (1.0, 1.25)
    held = {s.over: s for s in verdicts(recorded("pytorch-held-to-avx2"))[INT8].speed}
    assert held[EAGER].why_not == (
        "'eager' is held to x86-64-avx2 (ATEN_CPU_CAPABILITY=avx2, ONEDNN_MAX_CPU_ISA=AVX2) on a processor of "
        "x86-64-avx512-vnni"
    )


def test_limits_of_one_class_fail_a_healthy_machine_of_another() -> None:
    """As 0.1.0 did: its figures for AVX-512 VNNI held everywhere."""
    former: dict[str, dict[str, float]] = {FP32: {EAGER: 1.2}, INT8: {FP32: 1.25, EAGER: 3.0}}
    found = verdicts(avx2_alone(), {name: Limits(speedup={ANY: limits}) for name, limits in former.items()})
    assert {v.outcome for v in found.values()} == {Outcome.OVER_BUDGET}
    assert found[FP32].reason == "speedup over eager 0.97, limit >= 1.2"
    assert found[INT8].reason == "speedup over eager 2.05, limit >= 3"
    found = verdicts(avx2_alone(), {name: Limits(speedup={NO_CLASS: limits}) for name, limits in former.items()})
    assert all(v.passed for v in found.values()) and not judged(found)


@pytest.mark.parametrize("load", ["avx512-vnni", "avx512-vnni-loaded"])
def test_a_slow_program_fails_under_any_load(load: str) -> None:
    """Two fifths as fast as it was, and the rounds tell although the machine is busy."""
    for fp32, int8, class_name in ((0.8, 1.8, ZEN5), (0.4, 0.8, ZEN3)):
        found = verdicts(with_ratios(recorded(load), fp32, int8, class_name))
        assert {v.outcome for v in found.values()} == {Outcome.OVER_BUDGET} and judged(found) == ALL


def test_processor_time_holds_where_wall_time_does_not() -> None:
    quiet, loaded = recorded("avx512-vnni"), recorded("avx512-vnni-loaded")
    for name, over in ALL:
        processor = loaded.ratio(name, over)
        wall = replace(loaded, threads=2).ratio(name, over)
        assert processor.median == pytest.approx(quiet.ratio(name, over).median, rel=0.1)
        assert processor.iqr < wall.iqr / 2


@pytest.mark.skipif(host_processor().class_name is None, reason="the class of this processor is not known")
@pytest.mark.skipif(bool(pytorch_processor().held_by), reason="settings hold PyTorch back")
def test_a_limit_that_nothing_keeps_fails_here_and_is_reported_elsewhere(tmp_path: Path) -> None:
    torch.manual_seed(1)
    module = nn.Sequential(nn.Conv2d(3, 32, 3, padding=1), nn.ReLU(), nn.Conv2d(32, 1, 3, padding=1))
    samples = [(torch.rand(1, 3, 96, 128),) for _ in range(2)]
    own = str(host_processor().class_name)
    impossible: dict[str, float] = {EAGER: 1e6}
    for limits, passed in (({own: impossible}, False), ({"x86-64-of-2040": impossible}, True)):
        given = {FP32: Limits(sqnr_db=60, speedup=limits)}, "mine"
        result = export_module(module, samples, tmp_path / "out", [FP32], rounds=7, limits=given)
        (entry,) = json.loads((tmp_path / "out" / "gate.json").read_text())["recipes"]
        speed = entry["speedup"][EAGER]
        assert result.passed == passed == entry["passed"] and speed["judged"] != passed
        if passed:
            assert speed["why_not"] == f"this processor is {own}, limits are for x86-64-of-2040"
        else:
            assert entry["outcome"] == "runs, delegated, right, over budget" and "speedup over eager" in entry["reason"]


def test_gate_manifest_card_and_page_name_the_class(tiny_export: ExportResult, tmp_path: Path) -> None:
    own, eager = (p().class_name or "unknown" for p in (host_processor, pytorch_processor))
    gate, manifest = (json.loads((tiny_export.folder / name).read_text()) for name in ("gate.json", "manifest.json"))
    assert gate["processor"]["class"] == own and gate["processor"]["eager_class"] == eager
    assert gate["benchmark"]["classes"][FP32] == own == manifest["machine"]["class"]
    ratio = next(entry for entry in gate["recipes"] if entry["recipe"] == INT8)["speedup"][EAGER]
    assert ratio["quartiles"][0] <= ratio["median"] <= ratio["quartiles"][1]
    # three rounds have no interval: whatever processor this is, speed is reported
    assert ratio["interval"] is None and not ratio["judged"] and ratio["why_not"]
    assert gate["speed_notes"] == tiny_export.speed_notes and "reported, not judged" in gate["speed_notes"][0]
    page = write_report(tiny_export.folder, tmp_path / "report.html").read_text()
    card = (tiny_export.folder / MODEL_CARD).read_text()
    assert own in page and own in card and "reported, not judged" in page and "reported, not judged" in card
    assert re.search(r"[\d.]+ × \(IQR [\d.]+\)", page) and "not judged</td>" in page
    text = Console(width=200, record=True, file=io.StringIO())
    text.print(table_of(tiny_export))
    shown = text.export_text()
    assert own in shown and "(IQR)" in shown


def test_exports_from_before_classes_are_shown(tiny_export: ExportResult, tmp_path: Path) -> None:
    folder = Path(shutil.copytree(tiny_export.folder, tmp_path / "copy"))
    manifest = read_manifest(folder)
    gate, bench = manifest["gate"], manifest["gate"]["benchmark"]
    for name in ("class", "features"):
        del manifest["machine"][name]
    for name in ("classes", "held_by", "tick_s", "ratios_of"):
        del bench[name]
    for latency in bench["latencies"].values():
        del latency["processor_s"]
    del gate["processor"], gate["speed_notes"]
    for entry in gate["recipes"]:
        entry["speedup"] = {over: found["median"] for over, found in entry["speedup"].items()}
    write_manifest(folder, manifest)
    page = write_report(folder, tmp_path / "report.html").read_text()
    assert "class not recorded" in page and "are of wall time" in page
    assert re.search(r"Speed over eager</dt><dd>[\d.]+ ×</dd>", page)
    assert "class not recorded" in model_card(manifest)
    assert stored_ratio(bench, FP32, EAGER).median > 0


@pytest.mark.parametrize("recipes", [("xnnpack-int8-dynamic", "coreml-w4-palettized")])
def test_the_widest_row_fits_a_terminal(tiny_export: ExportResult, recipes: tuple[str, ...]) -> None:
    rounds = recorded("avx512-vnni-loaded")
    latencies = {EAGER: rounds.latencies[EAGER], recipes[0]: rounds.latencies[INT8]}
    bench = replace(rounds, latencies=latencies, machine={"class": "arm64-fp16-dot-i8mm-sme2"})
    first = next(r for r in tiny_export.results if r.recipe == INT8)
    results = tuple(replace(first, recipe=name) for name in recipes)
    console = Console(width=80, record=True, file=io.StringIO())
    console.print(table_of(replace(tiny_export, results=results, benchmark=bench)))
    shown = console.export_text()
    assert "…" not in shown and all(name in shown for name in recipes)


def test_recorded_rounds_say_where_they_are_from() -> None:
    for path in Path(__file__).with_name("rounds").glob("*.json"):
        stored = json.loads(path.read_text())
        assert stored["machine"]["class"] == ZEN5 and stored["threads"] == 1 and stored["size_hw"] == [384, 512]
        held = "held" in path.name
        assert stored["classes"] == {EAGER: ZEN3 if held else ZEN5, FP32: ZEN5, INT8: ZEN5}
        assert bool(stored["held_by"]) == held and len(stored["latencies"][EAGER]["processor_s"]) >= 9
