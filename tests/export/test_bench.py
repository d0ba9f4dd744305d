from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable
from dataclasses import asdict, replace

import pytest
import torch

from dualpix.capture.processor import host_processor, pytorch_processor
from dualpix.export.bench import EAGER, Benchmark, Latency, interleaved, stored_ratio


def _spin(seconds: float) -> None:
    """Spend processor time in this thread."""
    end = time.thread_time() + seconds
    while time.thread_time() < end:
        pass


def _in_a_thread(seconds: float) -> None:
    worker = threading.Thread(target=_spin, args=(seconds,))
    worker.start()
    worker.join()


def test_rounds_are_interleaved() -> None:
    order: list[str] = []
    rounds: list[tuple[int, int]] = []
    before = torch.get_num_threads()
    result = interleaved(
        {name: lambda name=name: order.append(name) for name in ("slow", "fast")},
        size_hw=(1, 1),
        rounds=5,
        warmup=1,
        on_round=lambda done, total: rounds.append((done, total)),
    )
    assert order == ["slow", "fast"] * 6
    assert rounds == [(k, 5) for k in range(1, 6)]
    assert torch.get_num_threads() == before
    assert all(len(latency.samples_s) == len(latency.processor_s) == 5 for latency in result.latencies.values())


def a_benchmark(threads: int = 1, *, tick_s: float = 1e-6) -> Benchmark:
    """The machine is ten times slower in the last two rounds, as the clock on the wall sees it."""
    loads = (1.0, 1.0, 1.0, 10.0, 2.0)
    latencies = {
        name: Latency.of([wall * load for load in loads], [cpu] * 5)
        for name, wall, cpu in (("slow", 4.0, 3.0), ("fast", 1.0, 1.0))
    }
    return Benchmark(latencies, threads, 5, (1, 1), {}, {"slow": "arm64", "fast": "unknown"}, tick_s=tick_s)


def test_a_ratio_is_of_processor_time_round_by_round() -> None:
    bench = a_benchmark()
    assert bench.ratio("fast", "slow").samples == pytest.approx((3.0,) * 5)
    assert bench.ratios("slow")["fast"].median == pytest.approx(1 / 3)
    assert bench.latencies["fast"].iqr_s == pytest.approx(1.0), "latencies stay those on the wall"
    timing = bench.timing("slow")
    assert timing and (timing.class_name, timing.class_of["fast"], timing.unfit) == ("arm64", None, "")
    assert bench.timing("nobody") is None


@pytest.mark.parametrize(
    ("bench", "why"),
    [
        (a_benchmark(threads=2), "2 threads are timed by wall time"),
        (a_benchmark(tick_s=0.0156 * 2), "ticks of 0.031 s"),
        (replace(a_benchmark(), latencies={"slow": Latency.of([4.0]), "fast": Latency.of([1.0])}), "not measured"),
    ],
)
def test_where_processor_time_tells_nothing_ratios_are_of_wall_time(bench: Benchmark, why: str) -> None:
    timing = bench.timing("fast")
    assert timing and why in timing.unfit
    assert timing.ratios["slow"].median == pytest.approx(4.0)
    assert bench.to_json()["ratios_of"] == "wall time"


def test_ratios_are_read_again_from_files() -> None:
    stored = json.loads(json.dumps(a_benchmark().to_json()))
    assert stored["ratios_of"] == "processor time"
    assert stored_ratio(stored, "fast", "slow").median == pytest.approx(3.0)
    former = {"latencies": {name: {"samples_s": v["samples_s"]} for name, v in stored["latencies"].items()}}
    assert stored_ratio(former, "fast", "slow").median == pytest.approx(4.0)


def test_the_time_of_every_thread_counts_and_that_of_waiting_does_not() -> None:
    candidates: dict[str, Callable[[], object]] = {
        "here": lambda: _spin(0.02),
        "elsewhere": lambda: _in_a_thread(0.02),
        "waits": lambda: (_spin(0.02), time.sleep(0.1)),
    }
    bench = interleaved(candidates, size_hw=(1, 1), rounds=5, warmup=1)
    for name in ("elsewhere", "waits"):
        assert bench.ratio(name, "here").median == pytest.approx(1.0, abs=0.25)
    assert min(bench.latencies["waits"].samples_s) > 0.1


def test_each_side_has_its_class(monkeypatch: pytest.MonkeyPatch) -> None:
    candidates: dict[str, Callable[[], object]] = {EAGER: lambda: None, "program": lambda: None}
    bench = interleaved(candidates, size_hw=(1, 1), rounds=1, warmup=0)
    assert bench.classes == {
        EAGER: pytorch_processor().class_name or "unknown",
        "program": host_processor().class_name or "unknown",
    }
    assert bench.machine["class"] == bench.classes["program"] and bench.held_by == pytorch_processor().held_by
    assert 0 < bench.tick_s < 0.1
    assert set(asdict(bench)) < set(bench.to_json())
    monkeypatch.setattr(torch.backends.mkldnn, "is_available", lambda: True)
    with torch.backends.mkldnn.flags(enabled=False):
        held = interleaved(candidates, size_hw=(1, 1), rounds=1, warmup=0)
    assert held.classes[EAGER] == "unknown" and held.classes["program"] == bench.classes["program"]
    assert held.held_by[-1] == "torch.backends.mkldnn.enabled=False"
    timing = held.timing("program")
    assert timing and timing.held_by == held.held_by and timing.class_of[EAGER] is None
