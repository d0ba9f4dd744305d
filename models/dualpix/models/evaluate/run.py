"""The one code path: every method on every scene of a protocol, one scene at a time."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass

from dualpix.capture.errors import DualpixError
from dualpix.models.evaluate.protocol import Pending, Protocol
from dualpix.models.evaluate.sample import Method, Prediction, Sample
from dualpix.models.evaluate.summary import Score


@dataclass(frozen=True)
class Evaluated:
    """A score with the prediction it belongs to, for pictures."""

    score: Score
    prediction: Prediction


def evaluate(
    protocol: Protocol, pending: Iterable[Pending], methods: Mapping[str, Method]
) -> Iterator[tuple[Sample, list[Evaluated]]]:
    """Score every method on every scene.

    Raises:
        DualpixError: a scene does not read, or a prediction does not fit it.
    """
    for one in pending:
        sample = one.load()
        yield sample, [score_one(protocol, sample, name, method(sample)) for name, method in methods.items()]


def score_one(protocol: Protocol, sample: Sample, method: str, prediction: Prediction) -> Evaluated:
    """One method on one scene.

    Raises:
        DualpixError: the prediction does not fit the scene.
    """
    if not sample.valid.any():
        raise DualpixError(f"scene '{sample.name}' has no pixel with a truth", expected=protocol.mask)
    figures = protocol.score(sample, prediction)
    endless = [name for name, value in figures.items() if isinstance(value, float) and not math.isfinite(value)]
    if endless:  # a figure that is no number would be one in every mean
        raise DualpixError(
            f"'{method}' on '{sample.name}' has {', '.join(endless[:3])} without end",
            expected=f"maps in {protocol.unit}",
        )
    return Evaluated(Score(sample.name, method, figures, sample.group), prediction)
