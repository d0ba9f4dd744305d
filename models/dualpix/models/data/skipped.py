"""Samples that do not read: another one in their place, a line for each, and a count.

Which one takes the place is a pure function of the key, so that a run which is continued, or spread over more
processes, sees the same samples.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

import numpy as np

from dualpix.capture.errors import DualpixError
from dualpix.models.data.source import Source

MOST_TRIED = 256
"""Of a source, before it counts as one of which nothing reads."""
_MOST_SHOWN = 10


@dataclass(frozen=True)
class Skip:
    """A sample that was not read."""

    source: str
    index: int
    why: str


@dataclass
class Skips:
    """What was skipped so far, each sample once; tells the first few of them."""

    tell: Callable[[str], None] = field(default=lambda line: print(line, file=sys.stderr, flush=True))
    most_shown: int = _MOST_SHOWN
    _seen: set[tuple[str, int]] = field(default_factory=set)

    def __len__(self) -> int:
        return len(self._seen)

    def note(self, skipped: tuple[Skip, ...]) -> None:
        """Count, and name on stderr while there are few."""
        for skip in skipped:
            if (skip.source, skip.index) in self._seen:
                continue
            self._seen.add((skip.source, skip.index))
            if len(self) <= self.most_shown:
                self.tell(f"dualpix: warning: {skip.source}: a sample is skipped: {skip.why}")
            if len(self) == self.most_shown:
                self.tell("dualpix: warning: further samples that are skipped are counted, not named")

    def summary(self) -> str | None:
        """A line at the end, or None where all read."""
        if not self._seen:
            return None
        of_source: dict[str, int] = {}
        for source, _ in self._seen:
            of_source[source] = of_source.get(source, 0) + 1
        parts = (f"{count} of '{source}'" for source, count in sorted(of_source.items()))
        return f"samples that do not read were skipped: {', '.join(parts)}"


def candidates(seed: int, epoch: int, place: int, index: int, count: int) -> Iterator[int]:
    """``index``, then the others of a source of ``count`` samples in an order that the key alone decides."""
    yield index
    others = np.random.default_rng([seed, 2, epoch, place, index]).permutation(count)[: MOST_TRIED + 1]
    tried = 1
    for other in others:
        if int(other) != index and tried < MOST_TRIED:
            tried += 1
            yield int(other)


def require_one_that_reads(source: Source) -> None:
    """Refuse a source none of whose samples can be read, of some spread over it.

    Raises:
        DualpixError: none of up to ``MOST_TRIED`` samples reads; says what is wrong with the first.
    """
    first: DualpixError | None = None
    places = np.unique(np.linspace(0, len(source) - 1, min(len(source), MOST_TRIED)).round().astype(int))
    for index in places:
        try:
            source.prepare(int(index))
        except DualpixError as error:
            first = first or error
        else:
            return
    assert first is not None  # noqa: S101 - sources have samples
    raise nothing_reads(source, len(places), first)


def nothing_reads(source: Source, tried: int, first: DualpixError) -> DualpixError:
    """What to say where a source has no sample that can be read."""
    alone = len(source) == 1
    found = (
        f"'{source.name}': its only sample does not read"
        if alone
        else (f"'{source.name}': none of {tried} samples reads")
    )
    return DualpixError(f"{found}: {first.found}", expected=first.expected, hint=first.hint)
