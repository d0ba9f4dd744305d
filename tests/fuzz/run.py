"""Feed damaged files to the decoder: ``python -m tests.fuzz.run --count 20000``.

An input fails when the decoder raises anything but a one-line DualpixError, breaks a promise about its result, takes
more than 10 s or 2 GiB, or kills its process. Failures are made small and saved, each in a folder of its own;
``--replay FOLDER`` tries such a folder again. Input number N of a seed is the same on every machine.

Engines: "mutate" changes the seeds at random, "sweep" puts extreme values into each number of their structure in turn,
"atheris" (not installed by itself) drives the parsers written in Python towards lines they have not reached.
"""

from __future__ import annotations

import itertools
import json
import random
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from multiprocessing.connection import wait
from pathlib import Path
from typing import Any

import click
from tests.fuzz.case import FAILURE, SEEDS, Case, load, load_all
from tests.fuzz.check import BAD, Outcome
from tests.fuzz.minimise import minimised
from tests.fuzz.mutate import Step, mutated, swept
from tests.fuzz.worker import CHECK, MAX_BYTES, Tried, Worker


@dataclass(frozen=True)
class Input:
    """A numbered input and how it came about."""

    number: int
    seed: Case
    case: Case
    steps: Sequence[Step]


@dataclass
class Report:
    """Figures of a run."""

    inputs: int = 0
    seconds: float = 0.0
    results: Counter[str] = field(default_factory=Counter)
    by_kind: dict[str, Counter[str]] = field(default_factory=dict)
    reasons: Counter[str] = field(default_factory=Counter)
    failures: dict[str, list[int]] = field(default_factory=dict)
    """Place of the failure -> numbers of the inputs."""
    slowest: tuple[float, int, str] = (0.0, -1, "")
    """(processor seconds, number, kind)"""
    largest: tuple[int, int, str] = (0, -1, "")
    """(peak bytes, number, kind)"""

    def add(self, one: Input, tried: Tried) -> bool:
        """Count one result; True for the first failure of its kind."""
        outcome, kind = tried.outcome, one.case.kind
        self.inputs += 1
        self.results[outcome.result] += 1
        self.by_kind.setdefault(kind, Counter())[outcome.result] += 1
        if outcome.result == "refused":
            self.reasons[outcome.reason] += 1
        self.slowest = max(self.slowest, (tried.cpu_s, one.number, kind))
        self.largest = max(self.largest, (tried.peak_bytes, one.number, kind))
        if outcome.result not in BAD:
            return False
        numbers = self.failures.setdefault(f"{outcome.result}: {outcome.reason}", [])
        numbers.append(one.number)
        return len(numbers) == 1

    def to_json(self) -> dict[str, Any]:
        """Plain data."""
        return {
            "inputs": self.inputs,
            "seconds": round(self.seconds, 1),
            "inputs_per_s": round(self.inputs / max(self.seconds, 1e-9), 1),
            "results": dict(self.results),
            "by_kind": {kind: dict(counts) for kind, counts in sorted(self.by_kind.items())},
            "refused_by_reason": dict(self.reasons.most_common()),
            "failures": self.failures,
            "slowest": {"cpu_s": round(self.slowest[0], 3), "number": self.slowest[1], "kind": self.slowest[2]},
            "largest": {"MiB": self.largest[0] >> 20, "number": self.largest[1], "kind": self.largest[2]},
        }

    def lines(self, reasons: int = 25) -> Iterator[str]:
        """For people."""
        rate = self.inputs / max(self.seconds, 1e-9)
        yield f"{self.inputs} inputs in {self.seconds:.0f} s, {rate:.1f} a second"
        yield ", ".join(f"{count} {result}" for result, count in self.results.most_common())
        yield f"slowest {self.slowest[0]:.2f} s of processor time (number {self.slowest[1]}, {self.slowest[2]})"
        yield f"largest {self.largest[0] >> 20} MiB above an idle process (number {self.largest[1]}, {self.largest[2]})"
        for kind, counts in sorted(self.by_kind.items()):
            yield f"  {kind:20} " + "  ".join(
                f"{counts[r]:6} {r}" for r in ("decoded", "read", "refused", *BAD) if counts[r]
            )
        yield f"refused for {len(self.reasons)} reasons, the most frequent:"
        for reason, count in self.reasons.most_common(reasons):
            yield f"  {count:6} {reason}"
        for failure, numbers in self.failures.items():
            yield f"FAILED {len(numbers)} times, first number {numbers[0]}: {failure}"


def make_input(seeds: Sequence[Case], seed: int, number: int) -> Input:
    """Input ``number`` of a seed: each kind in turn."""
    rng = random.Random(f"{seed}/{number}")
    chosen = seeds[number % len(seeds)]
    case, steps = mutated(chosen, rng)
    return Input(number, chosen, case, steps)


def random_inputs(seeds: Sequence[Case], seed: int, numbers: Iterable[int]) -> Iterator[Input]:
    """The inputs with these numbers."""
    return (make_input(seeds, seed, number) for number in numbers)


def swept_inputs(seeds: Sequence[Case], every: int) -> Iterator[Input]:
    """Extreme values in the numbers of the seeds, in order; each ``every``-th of them."""
    numbered = enumerate((one, case) for one in seeds for case in swept(one))
    return (Input(number, one, case, ()) for number, (one, case) in itertools.islice(numbered, 0, None, every))


def fuzz(
    inputs: Iterator[Input], jobs: int, out: Path | None = None, progress: bool = False, check: str = CHECK
) -> Report:
    """Try inputs.

    Args:
        inputs: what to try.
        jobs: processes at a time.
        out: folder for failures, the first of each place, made small; None saves nothing.
        progress: say now and then how far it is.
        check: what is done with each, as :class:`Worker` has it.
    """
    report, started = Report(), time.monotonic()
    workers = [Worker(check) for _ in range(jobs)]
    first: list[Input] = []
    try:
        for one, tried in _results(workers, inputs):
            if report.add(one, tried):
                first.append(one)
                _save(out, one.case, one.number, tried.outcome)
            report.seconds = time.monotonic() - started
            if progress and report.inputs % 500 == 0:
                click.echo(f"{report.inputs}: {dict(report.results)}, {report.seconds:.0f} s", err=True)
        for one in first:
            case, outcome = minimised(workers[0], one.seed, one.case, one.steps)
            if outcome is not None:
                _save(out, case, one.number, outcome)
    finally:
        for worker in workers:
            worker.close()
    return report


def _results(workers: Sequence[Worker], inputs: Iterator[Input]) -> Iterator[tuple[Input, Tried]]:
    """Each input with its result, as the workers finish them."""
    running: dict[int, Input] = {}
    while True:
        for index, worker in enumerate(workers):
            if index not in running and (one := next(inputs, None)) is not None:
                running[index] = one
                worker.submit(one.case)
        if not running:
            return
        wait([workers[index].connection for index in running], timeout=0.5)
        for index in list(running):
            tried = workers[index].poll()
            if tried is not None:
                yield running.pop(index), _within_memory(tried)


def _within_memory(tried: Tried) -> Tried:
    if tried.peak_bytes <= MAX_BYTES or tried.outcome.result in BAD:
        return tried
    return Tried(Outcome("failed", "over 2 GiB", f"{tried.peak_bytes} bytes"), tried.cpu_s, tried.peak_bytes)


def _save(out: Path | None, case: Case, number: int, outcome: Outcome) -> None:
    if out is None:
        return
    folder = out / f"{case.kind}-{number}"
    case.save(folder)
    (folder / FAILURE).write_text(f"{outcome.result}: {outcome.reason}\n\n{outcome.detail}\n")
    click.echo(f"{outcome.result}: {outcome.reason}\n  python -m tests.fuzz.run --replay {folder}", err=True)


def replay(cases: Sequence[Case], check: str = CHECK) -> list[Tried]:
    """Try cases as they are."""
    worker = Worker(check)
    try:
        return [_within_memory(worker.try_one(case)) for case in cases]
    finally:
        worker.close()


@click.command(help=__doc__)
@click.option("--count", type=click.IntRange(1), default=20000, show_default=True, help="Inputs.")
@click.option("--first", type=click.IntRange(0), default=0, help="Number of the first one.")
@click.option("--seed", type=int, default=0, show_default=True, help="Of the random numbers.")
@click.option("--jobs", type=click.IntRange(1), default=2, show_default=True, help="Processes.")
@click.option("--kinds", help="Only these seeds, by name, with commas; numbers then count among them.")
@click.option("--out", type=click.Path(path_type=Path), default=Path("out/fuzz"), help="Folder for failures.")
@click.option("--replay", "folder", type=click.Path(path_type=Path, exists=True), help="Try one saved folder.")
@click.option("--engine", type=click.Choice(["mutate", "sweep", "atheris"]), default="mutate", show_default=True)
@click.option("--json", "as_json", is_flag=True, help="Print figures for machines.")
def main(
    count: int,
    first: int,
    seed: int,
    jobs: int,
    kinds: str | None,
    out: Path,
    folder: Path | None,
    engine: str,
    as_json: bool,
) -> None:
    """See the module's text."""
    if folder is not None:
        tried = replay([load(folder)])[0]
        click.echo(f"{tried.outcome.result}: {tried.outcome.reason}\n{tried.outcome.detail}")
        sys.exit(tried.outcome.result in BAD)
    seeds = load_all(SEEDS)
    if kinds:
        wanted = kinds.split(",")
        seeds = [case for case in seeds if case.kind in wanted]
    if not seeds:
        raise click.UsageError("no such kinds")
    if engine == "atheris":
        guided = [sys.executable, "-m", "tests.fuzz.guided", str(count), str(seed), str(out)]
        sys.exit(subprocess.run(guided, check=False).returncode)
    inputs = random_inputs(seeds, seed, range(first, first + count))
    if engine == "sweep":
        inputs = swept_inputs(seeds, max(sum(1 for one in seeds for _ in swept(one)) // count, 1))
    report = fuzz(inputs, jobs, out, progress=not as_json)
    click.echo(json.dumps(report.to_json(), indent=2) if as_json else "\n".join(report.lines()))
    sys.exit(bool(report.failures))


if __name__ == "__main__":
    main()
