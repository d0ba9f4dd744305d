"""Rounds of the benchmark of the shipped network at 384 x 512 px, as they were measured.

python -m tests.support.rounds EXPORT_DIR NAME       keep those of an export, in tests/export/rounds
"""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from dualpix.export.bench import EAGER, Benchmark, Latency

FOLDER = Path(__file__).parents[1] / "export" / "rounds"
FP32, INT8 = "xnnpack-fp32", "xnnpack-int8"
_TIMES = ("samples_s", "processor_s")


def recorded(name: str) -> Benchmark:
    """The rounds of that name."""
    return from_gate(json.loads((FOLDER / f"{name}.json").read_text()))


def from_gate(stored: Mapping[str, Any]) -> Benchmark:
    """A benchmark from the field "benchmark" of ``gate.json``."""
    latencies = {name: Latency.of(*(entry[kind] for kind in _TIMES)) for name, entry in stored["latencies"].items()}
    return Benchmark(
        latencies,
        stored["threads"],
        stored["rounds"],
        tuple(stored["size_hw"]),
        stored["machine"],
        stored["classes"],
        tuple(stored["held_by"]),
        stored["tick_s"],
    )


def with_ratios(rounds: Benchmark, fp32_over_eager: float, int8_over_eager: float, class_name: str) -> Benchmark:
    """The same scatter around other medians: what another processor gave, of which the medians alone are known."""
    wanted = {EAGER: 1.0, FP32: fp32_over_eager, INT8: int8_over_eager}
    latencies = {}
    for name, ratio in wanted.items():
        factor = rounds.ratio(name, EAGER).median / ratio if name != EAGER else 1.0
        times = (np.multiply(getattr(rounds.latencies[name], kind), factor).tolist() for kind in _TIMES)
        latencies[name] = Latency.of(*times)
    return replace(rounds, latencies=latencies, classes=dict.fromkeys(wanted, class_name), held_by=())


def main(export: Path, name: str) -> None:
    """Keep the rounds of an export, to the microsecond."""
    stored = json.loads((export / "gate.json").read_text())["benchmark"]
    for who, entry in stored["latencies"].items():
        stored["latencies"][who] = {kind: [round(v, 6) for v in entry[kind]] for kind in _TIMES}
    del stored["ratios_of"]
    FOLDER.mkdir(exist_ok=True)
    (FOLDER / f"{name}.json").write_text(json.dumps(stored, indent=1) + "\n")


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2])
