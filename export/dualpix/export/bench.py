"""Host latency, measured so that ratios hold on a busy machine.

Convention: seconds. Candidates run in interleaved rounds (A B C A B C ...), so that a slow moment hits all of them; a
ratio is the median over rounds of the ratio within a round. Milliseconds of one machine mean little on another; ratios
carry further, within a class of processors (:mod:`dualpix.capture.processor`).

Latencies are wall time. Ratios are of the processor time of the whole process, whichever thread spends it, while there
is one thread: other programs then change little. With several threads they are of wall time, because threads that wait
for each other spin.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np

from dualpix.capture.processor import UNKNOWN, host_processor, pytorch_processor
from dualpix.export.manifest import machine
from dualpix.quantize.speed import Ratio, Timing

EAGER = "eager"
_LEAST_TICKS = 50
"""Of the clock of processor time in one run, so that a ratio is right to a few per cent."""


@dataclass(frozen=True)
class Latency:
    """One candidate's time for one run."""

    median_s: float
    quartiles_s: tuple[float, float]
    fastest_s: float
    samples_s: tuple[float, ...]
    processor_s: tuple[float, ...] = ()
    """Processor time of the same runs."""

    @property
    def iqr_s(self) -> float:
        """Interquartile range."""
        return self.quartiles_s[1] - self.quartiles_s[0]

    @classmethod
    def of(cls, samples_s: list[float], processor_s: list[float] | None = None) -> Latency:
        """Summary of the measured times."""
        low, median, high = (float(v) for v in np.percentile(samples_s, (25, 50, 75)))
        return cls(median, (low, high), min(samples_s), tuple(samples_s), tuple(processor_s or ()))


@dataclass(frozen=True)
class Benchmark:
    """Latencies of all candidates, measured together."""

    latencies: Mapping[str, Latency]
    threads: int
    rounds: int
    size_hw: tuple[int, int]
    machine: Mapping[str, str]
    classes: Mapping[str, str] = field(default_factory=dict)
    """Class of processor with which each candidate ran, "unknown" where it is not known: settings may hold PyTorch to
    fewer instructions than the processor has."""
    held_by: tuple[str, ...] = ()
    """Those settings."""
    tick_s: float = 0.0
    """Of the clock of processor time: 15.6 ms on Windows."""

    @property
    def unfit(self) -> str:
        """Why ratios are of wall time, which is nothing to judge by; empty where they are of processor time."""
        if self.threads != 1:
            return f"{self.threads} threads are timed by wall time, which is also that of other programs"
        samples = [latency.processor_s for latency in self.latencies.values()]
        if not all(len(s) == self.rounds for s in samples):
            return "processor time was not measured"
        if min(map(min, samples)) < _LEAST_TICKS * self.tick_s:
            return f"a run is too short for the clock of processor time, which has ticks of {self.tick_s:.2g} s"
        return ""

    @property
    def ratios_of(self) -> str:
        """Of which time the ratios are."""
        return "wall time" if self.unfit else "processor time"

    def ratio(self, name: str, over: str) -> Ratio:
        """How many times faster ``name`` is than ``over``, round by round."""
        ours, theirs = self.latencies[name], self.latencies[over]
        pairs = (theirs.samples_s, ours.samples_s) if self.unfit else (theirs.processor_s, ours.processor_s)
        return Ratio(tuple(float(v) for v in np.divide(*pairs)))

    def ratios(self, name: str) -> dict[str, Ratio]:
        """Of ``name`` over every other candidate."""
        return {other: self.ratio(name, other) for other in self.latencies if other != name}

    def timing(self, name: str) -> Timing | None:
        """What the gate judges ``name`` by; ``None`` where it was not timed."""
        if name not in self.latencies:
            return None
        known = {other: None if found == UNKNOWN else found for other, found in self.classes.items()}
        return Timing(self.ratios(name), known.get(name), known, self.held_by, self.unfit)

    def to_json(self) -> dict[str, Any]:
        """Plain data for ``manifest.json``."""
        return asdict(self) | {"ratios_of": self.ratios_of}


def stored_ratio(benchmark: Mapping[str, Any], name: str, over: str) -> Ratio:
    """:meth:`Benchmark.ratio` from ``gate.json``; exports of 0.1.0 have wall time alone."""
    kind = "processor_s" if benchmark.get("ratios_of") == "processor time" else "samples_s"
    theirs, ours = (benchmark["latencies"][who][kind] for who in (over, name))
    return Ratio(tuple(float(v) for v in np.divide(theirs, ours)))


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
        candidates: name -> a call that does one run; runtimes must already have ``threads`` threads. The one called
            :data:`EAGER` is PyTorch's.
        size_hw: recorded with the result.
        threads: of PyTorch's operators during the measurement; restored afterwards.
        rounds: timed rounds, at least 1.
        warmup: untimed rounds.
        on_round: told (done, total) after each timed round.
    """
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    wall: dict[str, list[float]] = {name: [] for name in candidates}
    processor: dict[str, list[float]] = {name: [] for name in candidates}
    try:
        with torch.inference_mode():
            for index in range(warmup + rounds):
                for name, run in candidates.items():
                    start, spent = time.perf_counter(), time.process_time()
                    run()
                    processor[name].append(time.process_time() - spent)
                    wall[name].append(time.perf_counter() - start)
                if index >= warmup:
                    on_round(index - warmup + 1, rounds)
    finally:
        torch.set_num_threads(before)
    latencies = {name: Latency.of(wall[name][warmup:], processor[name][warmup:]) for name in candidates}
    eager, whole = pytorch_processor(), host_processor()
    classes = {name: (eager if name == EAGER else whole).class_name or UNKNOWN for name in candidates}
    held_by = eager.held_by if EAGER in candidates else ()
    return Benchmark(latencies, threads, rounds, size_hw, machine(), classes, held_by, _tick_s())


def _tick_s() -> float:
    """Least step that the clock of processor time was seen to make; Python tells the unit of its figures alone."""
    steps = []
    for _ in range(5):
        start = now = time.process_time()
        while now == start:
            now = time.process_time()
        steps.append(now - start)
    return min(steps)
