"""Damaged files for everything that is read: success or one line, in bounded memory, and nothing left behind."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.fuzz.case import load_all
from tests.fuzz.check import BAD
from tests.fuzz.readers import CHECK, READERS, READERS_FOUND, READERS_SEEDS, make_input, random_inputs
from tests.fuzz.run import fuzz
from tests.fuzz.worker import MAX_BYTES, Worker

in_processes = pytest.mark.skipif(not Path("/proc/self/clear_refs").exists(), reason="memory is measured as Linux does")
SEEDS = load_all(READERS_SEEDS)
_MUTATIONS = 160


@pytest.fixture(scope="module")
def worker() -> Iterator[Worker]:
    child = Worker(CHECK)
    yield child
    child.close()


def test_every_reader_has_a_seed() -> None:
    assert {case.kind.partition(".")[0] for case in SEEDS} == set(READERS)


@in_processes
def test_every_seed_is_read(worker: Worker) -> None:
    told = {case.kind: worker.try_one(case).outcome for case in SEEDS}
    assert {kind: outcome for kind, outcome in told.items() if outcome.result != "read"} == {}


@in_processes
def test_what_once_failed_is_read_or_refused(worker: Worker) -> None:
    found = load_all(READERS_FOUND)
    assert found
    for case in found:
        outcome = worker.try_one(case).outcome
        assert outcome.result in ("read", "refused"), f"{case.kind}: {outcome.detail}"


@in_processes
def test_a_share_of_the_mutations(worker: Worker) -> None:
    results: Counter[str] = Counter()
    for one in random_inputs(SEEDS, 1, range(_MUTATIONS)):
        tried = worker.try_one(one.case)
        assert tried.outcome.result not in BAD, f"number {one.number}: {tried.outcome.reason}\n{tried.outcome.detail}"
        assert tried.peak_bytes < MAX_BYTES
        results[tried.outcome.result] += 1
    assert min(results["read"], results["refused"]) > 20  # neither too gentle nor too coarse


@in_processes
@pytest.mark.slow
@pytest.mark.timeout(3600)
def test_three_thousand_mutations(tmp_path: Path) -> None:
    report = fuzz(random_inputs(SEEDS, 0, range(3000)), jobs=2, out=tmp_path, check=CHECK)
    assert not report.failures, "\n".join(line for line in report.lines() if line.startswith("FAILED"))
    assert report.inputs == 3000


def test_an_input_is_named_by_its_number() -> None:
    one, again, other = (make_input(SEEDS, seed, 77) for seed in (3, 3, 4))
    assert one.case == again.case
    assert one.case != other.case
