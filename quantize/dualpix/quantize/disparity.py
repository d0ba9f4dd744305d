"""The metrics of the shipped networks: disparity against the truth of rendered scenes.

Convention: disparity is ``x_right - x_left`` in px; outputs are (1, 1, H, W).
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

import numpy as np

from dualpix.models.metrics import AffineInvariantScore, affine_invariant_error
from dualpix.quantize.calibration import EvaluationSet
from dualpix.quantize.score import Metric, Outputs

_METRICS = {"AI(1)": "ai1", "AI(2)": "ai2", "1-|ρ|": "one_minus_abs_rho"}


def disparity_metrics(evaluation: EvaluationSet) -> tuple[Metric, ...]:
    """AI(1), AI(2) and 1-|ρ| (see :mod:`dualpix.models.metrics`), means over the scenes of ``evaluation``."""
    errors = _Errors(evaluation)
    return tuple(Metric(name, partial(errors.mean, field)) for name, field in _METRICS.items())


class _Errors:
    """All three come of one fit per scene, which is made once."""

    def __init__(self, evaluation: EvaluationSet) -> None:
        self._truths = [s.disparity_px.numpy()[0, 0] for s in evaluation.samples]
        self._of: Sequence[Outputs] = ()
        self._errors: list[AffineInvariantScore] = []

    def mean(self, field: str, outputs: Sequence[Outputs], references: Sequence[Outputs]) -> float:
        if outputs is not self._of:
            pairs = zip(outputs, self._truths, strict=True)
            self._of, self._errors = outputs, [affine_invariant_error(o[0, 0], truth) for (o,), truth in pairs]
        return float(np.mean([getattr(e, field) for e in self._errors]))
