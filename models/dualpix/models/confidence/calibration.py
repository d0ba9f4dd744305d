"""How sure a disparity is: what its evidence (:mod:`.evidence`) has been worth where truth is known.

Convention: confidence is the share of pixels of such evidence whose disparity is within the stated error
(:class:`.evidence.Tolerance`), counted on rendered captures with exact truth; from ``CONFIDENT`` on a pixel counts as
measured.

The terms of the evidence are summed with weights (a logistic regression); a table tells what share of the pixels
with such a sum was right, and within what error 68 % of them were. Weights and table are data, ``confidence.json``,
made by ``docs/make_confidence.py`` for each network and for semi-global matching.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from dualpix.capture.errors import DualpixError
from dualpix.capture.types import FloatImage
from dualpix.models.confidence.evidence import TERMS, Evidence, Tolerance

CONFIDENT = 0.5
_MOST_BINS = 64


@dataclass(frozen=True)
class Calibration:
    """What evidence is worth, for one method."""

    tolerance: Tolerance
    """In working pixels."""
    bias: float
    weights: Mapping[str, float]
    scores: tuple[float, ...]
    """Ascending; the table is linear between them and even beyond."""
    confidence: tuple[float, ...]
    """Of each score, rising."""
    error_68: tuple[float, ...]
    """Of each score: 68 % of such pixels were within this, in tolerances; falling."""
    provenance: Mapping[str, Any]

    def score(self, evidence: Evidence) -> npt.NDArray[np.float64]:
        """(rows, columns) the weighted sum.

        Raises:
            ValueError: the evidence lacks something that has a weight.
        """
        terms = evidence.terms(self.tolerance)
        if set(self.weights) - set(terms):
            raise ValueError(f"evidence has {sorted(terms)}, weights are for {sorted(self.weights)}")
        total: npt.NDArray[np.float64] = np.full(evidence.noise_px.shape, self.bias)
        for name, weight in self.weights.items():
            total += weight * terms[name]
        return total

    def judge(self, evidence: Evidence) -> tuple[FloatImage, FloatImage]:
        """(rows, columns) confidence, and the error that 68 % are within, in tolerances."""
        score = self.score(evidence)
        found = (np.interp(score, self.scores, column) for column in (self.confidence, self.error_68))
        confidence, error = (np.asarray(values, np.float32) for values in found)
        return confidence, error

    def to_json(self) -> dict[str, Any]:
        """As :func:`parse_calibration` takes it."""
        return {
            "tolerance": {"px": self.tolerance.px, "relative": self.tolerance.relative},
            "bias": self.bias,
            "weights": dict(self.weights),
            "scores": list(self.scores),
            "confidence": list(self.confidence),
            "error_68": list(self.error_68),
            "provenance": dict(self.provenance),
        }


def parse_calibration(value: Any, name: str) -> Calibration:
    """A calibration from JSON.

    Args:
        value: the parsed JSON.
        name: what a message calls it.

    Raises:
        DualpixError: it has another form.
    """
    try:
        calibration = Calibration(
            tolerance=Tolerance(float(value["tolerance"]["px"]), float(value["tolerance"]["relative"])),
            bias=float(value["bias"]),
            weights={str(key): float(weight) for key, weight in value["weights"].items()},
            scores=_column(value["scores"]),
            confidence=_column(value["confidence"]),
            error_68=_column(value["error_68"]),
            provenance=dict(value.get("provenance", {})),
        )
    except (KeyError, TypeError, ValueError, AttributeError, OverflowError) as error:
        raise DualpixError(f"{name} does not read: {error!r}", expected="a calibration of the confidence") from error
    if not _holds(calibration):
        raise DualpixError(
            f"{name} holds no calibration", expected="ascending scores, confidence within 0 to 1, known features"
        )
    return calibration


def _column(values: Any) -> tuple[float, ...]:
    return tuple(float(v) for v in values[: _MOST_BINS + 1])


def _holds(c: Calibration) -> bool:
    numbers = (c.bias, c.tolerance.px, c.tolerance.relative, *c.weights.values(), *c.scores, *c.confidence, *c.error_68)
    return (
        all(map(math.isfinite, numbers))
        and 2 <= len(c.scores) == len(c.confidence) == len(c.error_68) <= _MOST_BINS
        and bool(
            np.all(np.diff(c.scores) > 0) and np.all(np.diff(c.confidence) >= 0) and np.all(np.diff(c.error_68) <= 0)
        )
        and min(c.confidence) >= 0
        and max(c.confidence) <= 1
        and min(c.error_68) >= 0
        and c.tolerance.px > 0
        and c.tolerance.relative >= 0
        and set(c.weights) <= set(TERMS)
    )
