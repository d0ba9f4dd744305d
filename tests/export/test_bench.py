from __future__ import annotations

import pytest
import torch

from dualpix.export.bench import Benchmark, Latency, interleaved


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
    assert all(len(latency.samples_s) == 5 for latency in result.latencies.values())


def test_a_ratio_is_the_median_over_the_rounds_so_that_a_slow_moment_hits_both() -> None:
    # the machine is ten times slower in the last two rounds
    slow, fast = (Latency.of([unit * load for load in (1.0, 1.0, 1.0, 10.0, 10.0)]) for unit in (4.0, 1.0))
    bench = Benchmark({"slow": slow, "fast": fast}, 1, 5, (1, 1), {})
    assert bench.speedup("fast", "slow") == pytest.approx(4.0)
    assert bench.speedups("slow") == {"fast": pytest.approx(0.25)}
    assert fast.iqr_s == pytest.approx(9.0)
