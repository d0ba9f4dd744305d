"""The metrics of a task's networks: outputs against the truth of the samples that judge."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial

import numpy as np
import numpy.typing as npt

from dualpix.models.tasks import Task
from dualpix.quantize.calibration import EvaluationSet
from dualpix.quantize.score import Metric, Outputs


def task_metrics(evaluation: EvaluationSet, output_names: Sequence[str] = ()) -> tuple[Metric, ...]:
    """The metrics of the set's task, means over its samples.

    Args:
        evaluation: samples with their truth.
        output_names: of the network, in order; the task's first output by default.
    """
    names = tuple(output_names) or (evaluation.task.outputs[0].name,)
    errors = _Scores(evaluation, names)
    return tuple(Metric(m.name, partial(errors.mean, m.name), m.better, m.unit) for m in evaluation.task.metrics)


def sample_scores(
    task: Task, names: Sequence[str], outputs: Outputs, truth: Mapping[str, npt.NDArray[np.float32]]
) -> Mapping[str, float]:
    """All figures of one sample; outputs have a batch axis of 1."""
    return task.scores({name: np.asarray(o[0], np.float32) for name, o in zip(names, outputs, strict=False)}, truth)


class _Scores:
    """All figures of a sample come at once, and are made once."""

    def __init__(self, evaluation: EvaluationSet, names: Sequence[str]) -> None:
        self._task, self._names = evaluation.task, names
        self._truths = [s.arrays() for s in evaluation.samples]
        self._of: Sequence[Outputs] = ()
        self._found: list[Mapping[str, float]] = []

    def mean(self, metric: str, outputs: Sequence[Outputs], references: Sequence[Outputs]) -> float:
        if outputs is not self._of:
            pairs = zip(outputs, self._truths, strict=True)
            self._of, self._found = outputs, [sample_scores(self._task, self._names, o, truth) for o, truth in pairs]
        return float(np.mean([found[metric] for found in self._found]))
