"""Make a failing input small: leave out mutations, then give back bytes and options of the seed."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace

from tests.fuzz.case import Case
from tests.fuzz.check import BAD, Outcome
from tests.fuzz.mutate import Step, applied
from tests.fuzz.worker import Worker

_MAX_TRIES = 120


def minimised(
    worker: Worker, seed: Case, case: Case, steps: Sequence[Step], bad: Sequence[str] = BAD
) -> tuple[Case, Outcome | None]:
    """The smallest change of ``seed`` found that fails as ``case`` does, and how; None if it does not fail again."""
    first = worker.try_one(case).outcome
    if first.result not in bad:
        return case, None
    left = _MAX_TRIES

    def fails(candidate: Case) -> bool:
        nonlocal left
        left -= 1
        if left < 0:
            return False
        outcome = worker.try_one(candidate).outcome
        return (outcome.result, outcome.reason) == (first.result, first.reason)

    base, kept = replace(seed, options=case.options), list(steps)
    for step in steps:
        fewer = [s for s in kept if s is not step]
        if fails(applied(base, fewer)):
            kept = fewer
    case = applied(base, kept) if steps else case
    for candidate in _fewer_options(seed, case):
        if fails(candidate):
            case = candidate
    for name in case.files:
        case = _reverted(seed, case, name, fails)
    return case, worker.try_one(case).outcome


def _fewer_options(seed: Case, case: Case) -> Iterator[Case]:
    yield replace(case, options=seed.options)
    for name in set(case.options) - set(seed.options):
        yield replace(case, options={key: value for key, value in case.options.items() if key != name})


def _reverted(seed: Case, case: Case, name: str, fails) -> Case:  # type: ignore[no-untyped-def]
    """Give back runs of changed bytes, where the length is still that of the seed."""
    old, new = seed.files[name], case.files[name]
    if len(old) != len(new):
        return case
    for start, stop in _runs(old, new):
        data = case.files[name]
        candidate = replace(case, files={**case.files, name: data[:start] + old[start:stop] + data[stop:]})
        if fails(candidate):
            case = candidate
    return case


def _runs(old: bytes, new: bytes) -> list[tuple[int, int]]:
    """(start, stop) of up to 32 ranges that hold the differences."""
    changed = [at for at in range(len(old)) if old[at] != new[at]]
    runs: list[tuple[int, int]] = []
    for at in changed:
        if runs and at - runs[-1][1] < 4:
            runs[-1] = (runs[-1][0], at + 1)
        else:
            runs.append((at, at + 1))
    return runs[:32]
