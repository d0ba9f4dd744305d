"""From what a user wrote for data to what a run trains and is validated on."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from dualpix.capture.errors import DualpixError
from dualpix.models.data.mixture import Mixture
from dualpix.models.data.source import Source
from dualpix.models.data.sources import SourceOptions, open_source
from dualpix.models.data.split import split
from dualpix.models.data.windows import Window
from dualpix.models.tasks.task import Task

_MOST_SOURCES = 256


@dataclass(frozen=True)
class Data:
    """Of a run."""

    training: Mixture
    validation: Mixture | None
    notes: tuple[str, ...]
    """What is to be said of the sources: files that are not used, tars that are cut."""


def assemble(
    data: Sequence[str],
    task: Task,
    *,
    options: SourceOptions | None = None,
    window: Window | None = None,
    seed: int | None = None,
    validate: Sequence[str] = (),
    share: float = 0.0,
) -> Data:
    """Open sources and mix them.

    Args:
        data: each ``SOURCE[:weight]``.
        task: whose samples are wanted.
        options: what all sources are asked for; their seed is that of the split as well.
        window: the common form of the samples.
        seed: of order, windows and augmentation; by default the sources'.
        validate: sources of their own for validation; or else
        share: of the scenes of every source, held out for it; 0 holds out none.

    Raises:
        DualpixError: no source, one that cannot be opened, both ways of validation, or the same data on both sides.
    """
    options, window = options or SourceOptions(), window or Window()
    seed = options.seed if seed is None else seed
    if not 1 <= len(data) <= _MOST_SOURCES or len(validate) > _MOST_SOURCES:
        raise DualpixError(f"{len(data)} sources of training data", expected=f"1 to {_MOST_SOURCES}")
    if validate and share:
        raise DualpixError(f"sources to validate on, and a share of {share:g} that is held out", expected="one of them")
    opened = [open_source(text, task.data_task, options) for text in data]
    sources, weights = tuple(source for source, _ in opened), tuple(weight for _, weight in opened)
    held: list[tuple[Source, float]] = [open_source(text, task.data_task, options) for text in validate]
    _check_apart(sources, [source for source, _ in held])
    notes = tuple(note for source in (*sources, *(s for s, _ in held)) for note in getattr(source, "notes", ()))
    if share:
        parts = [split(source, share, options.seed) for source in sources]
        sources = tuple(part for part, _ in parts)
        held = [(part, weight) for (_, part), weight in zip(parts, weights, strict=True)]
    judging = Mixture(tuple(s for s, _ in held), tuple(w for _, w in held), seed, task, window) if held else None
    return Data(Mixture(sources, weights, seed, task, window), judging, notes)


def _check_apart(training: Sequence[Source], validation: Sequence[Source]) -> None:
    known = {source.digest(): source.name for source in training}
    for source in validation:
        if source.digest() in known:
            raise DualpixError(
                f"'{source.name}' is what '{known[source.digest()]}' is: the same samples are trained and validated on",
                expected="other data for validation",
                hint="hold out a share of the training data instead, by scene",
            )
