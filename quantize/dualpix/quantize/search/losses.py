"""What a search keeps low: the difference from the float network, or the error of the task.

Convention: a *loss* takes a predictor and returns any figure, lower is better.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import TypeAlias

import numpy as np
import torch
from torch import nn

from dualpix.capture.errors import DualpixError
from dualpix.quantize.calibration import EvaluationSet, Inputs
from dualpix.quantize.score import Predict, arrays_of, tensors_of
from dualpix.quantize.task_metrics import sample_scores

Loss: TypeAlias = Callable[[Predict], float]


def output_loss(module: nn.Module, samples: Sequence[Inputs]) -> Loss:
    """RMS of the difference from the float ``module`` over the RMS of its output: 0.01 is 40 dB. For every module.

    Of several outputs the largest.

    Raises:
        DualpixError: no samples.
    """
    if not samples:
        raise DualpixError("no samples to measure a loss on", expected="at least one")
    with torch.no_grad():
        references = [[t.double() for t in tensors_of(module(*inputs))] for inputs in samples]
    powers = [sum(float(r.square().sum()) for r in column) for column in zip(*references, strict=True)]

    def loss(predict: Predict) -> float:
        gaps = [0.0] * len(powers)
        for inputs, expected in zip(samples, references, strict=True):
            for place, (output, reference) in enumerate(zip(tensors_of(predict(inputs)), expected, strict=True)):
                gaps[place] += float((output.double() - reference).square().sum())
        return max(math.sqrt(gap / max(power, 1e-30)) for gap, power in zip(gaps, powers, strict=True))

    return loss


def task_loss(evaluation: EvaluationSet, names: Sequence[str] = ()) -> Loss:
    """Mean of the task's first metric against the truth, turned so that lower is better.

    Infinite for a prediction that is not finite.

    Args:
        evaluation: samples with their truth.
        names: of the network's outputs, in order; the task's first output by default.
    """
    task, metric = evaluation.task, evaluation.task.metrics[0]
    names = tuple(names) or (task.outputs[0].name,)
    sign = 1.0 if metric.better == "lower" else -1.0

    def loss(predict: Predict) -> float:
        figures = []
        for sample in evaluation.samples:
            outputs = arrays_of(predict(sample.inputs))
            if not all(np.isfinite(o).all() for o in outputs):
                return math.inf
            figures.append(sign * sample_scores(task, names, outputs, sample.arrays())[metric.name])
        return float(np.mean(figures))

    return loss
