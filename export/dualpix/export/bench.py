"""Host latency, measured so that ratios hold on a busy machine.

Convention: seconds. Candidates run in interleaved rounds (A B C A B C ...), so that a slow moment hits all of them; a
ratio is the median over rounds of the ratio within a round. Milliseconds of one machine mean little on another; ratios
carry further.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import torch

from dualpix.export.manifest import machine

EAGER = "eager"


@dataclass(frozen=True)
class Latency:
    """One candidate's time for one run."""

    median_s: float
    quartiles_s: tuple[float, float]
    fastest_s: float
    samples_s: tuple[float, ...]

    @property
    def iqr_s(self) -> float:
        """Interquartile range."""
        return self.quartiles_s[1] - self.quartiles_s[0]

    @classmethod
    def of(cls, samples_s: list[float]) -> Latency:
        """Summary of the measured times."""
        low, median, high = (float(v) for v in np.percentile(samples_s, (25, 50, 75)))
        return cls(median, (low, high), min(samples_s), tuple(samples_s))


@dataclass(frozen=True)
class Benchmark:
    """Latencies of all candidates, measured together."""

    latencies: Mapping[str, Latency]
    threads: int
    rounds: int
    size_hw: tuple[int, int]
    machine: Mapping[str, str]

    def speedup(self, name: str, over: str) -> float:
        """How many times faster ``name`` is than ``over``: median over the rounds."""
        ours, theirs = self.latencies[name].samples_s, self.latencies[over].samples_s
        return float(np.median(np.divide(theirs, ours)))

    def speedups(self, name: str) -> dict[str, float]:
        """Of ``name`` over every other candidate."""
        return {other: self.speedup(name, other) for other in self.latencies if other != name}

    def to_json(self) -> dict[str, Any]:
        """Plain data for ``manifest.json``."""
        return asdict(self)


def interleaved(
    candidates: Mapping[str, Callable[[], object]],
    *,
    size_hw: tuple[int, int],
    threads: int = 1,
    rounds: int = 15,
    warmup: int = 2,
    on_round: Callable[[int, int], None] = lambda done, total: None,
) -> Benchmark:
    """Time ``candidates`` in interleaved rounds after ``warmup`` untimed ones.

    Args:
        candidates: name -> a call that does one run; runtimes must already have ``threads`` threads.
        size_hw: recorded with the result.
        threads: of PyTorch's operators during the measurement; restored afterwards.
        rounds: timed rounds, at least 1.
        warmup: untimed rounds.
        on_round: told (done, total) after each timed round.
    """
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    samples: dict[str, list[float]] = {name: [] for name in candidates}
    try:
        with torch.inference_mode():
            for index in range(warmup + rounds):
                for name, run in candidates.items():
                    start = time.perf_counter()
                    run()
                    samples[name].append(time.perf_counter() - start)
                if index >= warmup:
                    on_round(index - warmup + 1, rounds)
    finally:
        torch.set_num_threads(before)
    latencies = {name: Latency.of(times[warmup:]) for name, times in samples.items()}
    return Benchmark(latencies, threads, rounds, size_hw, machine())
