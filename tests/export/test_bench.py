from __future__ import annotations

import time

import pytest
import torch

from dualpix.export.bench import interleaved


def test_rounds_are_interleaved_and_ratios_are_right() -> None:
    order: list[str] = []

    def run(name: str, seconds: float) -> None:
        order.append(name)
        time.sleep(seconds)

    candidates = {"slow": lambda: run("slow", 0.02), "fast": lambda: run("fast", 0.005)}
    rounds: list[tuple[int, int]] = []
    before = torch.get_num_threads()
    result = interleaved(
        candidates, size_hw=(1, 1), rounds=5, warmup=1, on_round=lambda done, total: rounds.append((done, total))
    )
    assert order == ["slow", "fast"] * 6
    assert rounds == [(k, 5) for k in range(1, 6)]
    assert torch.get_num_threads() == before
    assert len(result.latencies["slow"].samples_s) == 5
    assert result.latencies["slow"].median_s >= 0.02
    assert result.speedup("fast", "slow") == pytest.approx(4.0, rel=0.5)
    assert result.speedup("slow", "fast") == pytest.approx(0.25, rel=0.5)
