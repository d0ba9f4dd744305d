"""How far the outputs of an artefact are from the float network's, and how well either does the network's task.

Convention: what a network gives for one input is a tuple of float64 arrays, one for each output, in the order of their
names; a list holds one such tuple per sample. Decibels are ``10 log10`` of a ratio of powers.

Two ratios are taken against the power of the difference. SQNR has the power of the reference, so that an output far
from zero hides what it loses: a wall 20 m away, relief of some cm, scores 51 dB as a constant. *Structure* has the
power of the reference about its mean (for maps: about the mean of each picture and channel), which no constant can
have. The two are equal where the mean is zero, and a constant output has a structure of 0 dB.

Integers and booleans (labels, masks) are steps: a value next to a threshold falls to the other side by the last bit of
what was compared, so that no precision keeps them all. They are held to ``limits.STEPS_DB`` at most, apart from the
rest.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from dualpix.quantize.calibration import Inputs
from dualpix.quantize.limits import STEPS_DB

Array = npt.NDArray[np.float64]
Outputs = tuple[Array, ...]
Predict = Callable[[Inputs], Any]
"""Gives what the network's ``forward`` does: a tensor, or a tuple of tensors."""
Better = Literal["lower", "higher"]

EXACT_SQNR_DB = 200.0
"""Reported where two outputs agree to the last bit: JSON has no infinity."""
_FLAT = 2.0**-21
"""Largest spread, relative to the largest value, that is the rounding of float32 and no content."""
_MAP_AXES = (2, 3)
"""Of an (N, C, H, W) output."""


def tensors_of(output: Any) -> tuple[Tensor, ...]:
    """What a network gave, as a tuple."""
    return (output,) if isinstance(output, Tensor) else tuple(output)


def arrays_of(output: Any) -> Outputs:
    """What a network gave, to be compared."""
    return tuple(t.detach().cpu().numpy().astype(np.float64) for t in tensors_of(output))


def sqnr_db(reference: Any, output: Any) -> float:
    """Power of the reference over the power of the difference, in dB; of several outputs the lowest.

    -inf where the output is not finite. Integers and booleans that reach ``STEPS_DB`` count as equal.
    """
    pairs = zip(tensors_of(reference), tensors_of(output), strict=True)
    return min(_of_kind(r, _tensor_sqnr_db(r.double(), o.double())) for r, o in pairs)


def _of_kind(reference: Tensor, found_db: float) -> float:
    return EXACT_SQNR_DB if not reference.is_floating_point() and found_db >= STEPS_DB else found_db


def _tensor_sqnr_db(reference: Tensor, output: Tensor) -> float:
    if not torch.isfinite(output).all():
        return -math.inf
    return decibels(float(reference.square().mean()), float((reference - output).square().mean()))


def decibels(signal_power: float, noise_power: float) -> float:
    """Of their ratio, at most :data:`EXACT_SQNR_DB`; no signal with any noise is -inf."""
    if noise_power <= signal_power * 10 ** (-EXACT_SQNR_DB / 10):
        return EXACT_SQNR_DB
    return 10 * math.log10(signal_power / noise_power) if signal_power > 0 else -math.inf


@dataclass(frozen=True)
class Difference:
    """How far two outputs are apart, over all samples and values."""

    max_abs: float
    """In the unit of the output, as is the next."""
    mean_abs: float
    sqnr_db: float
    structure_db: float | None
    """``None`` where the reference is the same value everywhere: nothing can be lost, so nothing is measured."""
    constant_sqnr_db: float | None
    """What the best constant output would score; ``None`` as above."""
    steps: bool = False
    """Whether the values are integers or booleans."""

    @property
    def relative_rms(self) -> float:
        """Of the difference, relative to the reference's: 0.01 is 40 dB."""
        return float(10.0 ** (-self.sqnr_db / 20.0))

    @classmethod
    def between(cls, outputs: Sequence[Array], references: Sequence[Array], *, steps: bool = False) -> Difference:
        """Of one output, over all values of all samples."""
        gap = np.concatenate([(o - r).ravel() for o, r in zip(outputs, references, strict=True)])
        signal = np.concatenate([r.ravel() for r in references])
        noise, power = float(np.mean(gap**2)), float(np.mean(signal**2))
        varying = _power_about_mean(references)
        return cls(
            max_abs=float(np.max(np.abs(gap))),
            mean_abs=float(np.mean(np.abs(gap))),
            sqnr_db=decibels(power, noise),
            structure_db=decibels(varying, noise) if varying else None,
            constant_sqnr_db=decibels(power, varying) if varying else None,
            steps=steps,
        )

    @classmethod
    def worst_of(cls, differences: Sequence[Difference]) -> Difference:
        """Each figure at its worst, of the continuous ones where there are any."""
        differences = [d for d in differences if not d.steps] or differences
        structures = [d.structure_db for d in differences if d.structure_db is not None]
        constants = [d.constant_sqnr_db for d in differences if d.constant_sqnr_db is not None]
        return cls(
            max(d.max_abs for d in differences),
            max(d.mean_abs for d in differences),
            min(d.sqnr_db for d in differences),
            min(structures, default=None),
            max(constants, default=None),
            all(d.steps for d in differences),
        )


NOT_FINITE = Difference(math.inf, math.inf, -math.inf, -math.inf, None)


def _power_about_mean(references: Sequence[Array]) -> float:
    """Mean square about the mean of each map, or about that of all values; 0 where that is float32's rounding."""
    every = np.concatenate([r.ravel() for r in references])
    largest = float(np.max(np.abs(every)))
    maps = [r - r.mean(axis=_MAP_AXES, keepdims=True) for r in references if r.ndim == 4]
    for centred in (np.concatenate([m.ravel() for m in maps]) if maps else np.zeros(1), every - every.mean()):
        if float(np.max(np.abs(centred))) > _FLAT * largest:
            return float(np.mean(centred**2))
    return 0.0


@dataclass(frozen=True)
class Metric:
    """How well outputs do the network's task: one number for all samples."""

    name: str
    """As tables show it: ``AI(1)``."""
    measure: Callable[[Sequence[Outputs], Sequence[Outputs]], float]
    """(outputs, the float network's outputs), one entry per sample; the truth, if any, is its own matter."""
    better: Better = "lower"
    unit: str = ""
    has_truth: bool = True
    """Whether outputs are held against the truth, or against the float network's."""
    stated: bool = True
    """Whether somebody has said which direction is better, or it is a guess."""

    @property
    def worst(self) -> float:
        """Of outputs that are not finite."""
        return math.inf if self.better == "lower" else -math.inf


@dataclass(frozen=True)
class Score:
    """What a metric gave."""

    value: float
    better: Better
    unit: str = ""

    def loss_from(self, reference: Score) -> float:
        """How much worse than ``reference``, relative to it: 0.03 is 3 %, below 0 is better."""
        worse = self.value - reference.value if self.better == "lower" else reference.value - self.value
        if worse == 0 or reference.value == 0:
            return 0.0 if worse <= 0 else math.inf
        return worse / abs(reference.value)

    def beats(self, other: Score) -> bool:
        """Whether it is better than ``other``."""
        return self.value < other.value if self.better == "lower" else self.value > other.value


@dataclass(frozen=True)
class Accuracy:
    """How an artefact, or the float network itself, does on the evaluation samples."""

    from_float: Difference
    """From the float network: of several outputs the worst of each figure, steps apart."""
    samples: int
    metrics: Mapping[str, Score] = field(default_factory=dict)
    """By name; the first one is that which limits are for."""
    outputs: Mapping[str, Difference] = field(default_factory=dict)
    """By name, where there are several."""

    @property
    def metric(self) -> tuple[str, Score] | None:
        """Name and value of the first metric."""
        return next(iter(self.metrics.items()), None)

    def metric_loss(self, reference: Accuracy) -> float | None:
        """Of the first metric; see :meth:`Score.loss_from`."""
        if self.metric is None:
            return None
        name, found = self.metric
        return found.loss_from(reference.metrics[name])

    def worst_output(self, figure: str) -> str:
        """Name of the output that :attr:`from_float` has ``figure`` (a field's name) from; empty where there is one."""
        value = getattr(self.from_float, figure)
        held = [(n, d) for n, d in self.outputs.items() if d.steps == self.from_float.steps]
        return next((name for name, d in held if getattr(d, figure) == value), "")

    @property
    def steps(self) -> Mapping[str, Difference]:
        """The outputs of integers and booleans that are not in :attr:`from_float`."""
        return {n: d for n, d in self.outputs.items() if d.steps and not self.from_float.steps}


def score(
    outputs: Sequence[Outputs],
    references: Sequence[Outputs],
    metrics: Sequence[Metric] = (),
    names: Sequence[str] = (),
    steps: Sequence[bool] = (),
) -> Accuracy:
    """Score outputs against the float network's, and by ``metrics``.

    Args:
        outputs: of the artefact, one entry per sample.
        references: of the float network.
        metrics: the first is the one that limits are for.
        names: of the network's outputs, where there are several.
        steps: whether each output is of integers or booleans; none is by default.

    Returns:
        Infinite errors where any output is not finite.
    """
    finite = all(np.isfinite(array).all() for sample in outputs for array in sample)
    kinds = steps or [False] * len(references[0])
    columns = zip(zip(*outputs, strict=True), zip(*references, strict=True), kinds, strict=True)
    differences = [Difference.between(o, r, steps=kind) if finite else NOT_FINITE for o, r, kind in columns]
    return Accuracy(
        Difference.worst_of(differences),
        len(outputs),
        {m.name: Score(m.measure(outputs, references) if finite else m.worst, m.better, m.unit) for m in metrics},
        dict(zip(names, differences, strict=True)) if len(differences) > 1 else {},
    )


def constant_like(references: Sequence[Outputs]) -> list[Outputs]:
    """Outputs that are one value everywhere, the mean of the reference: what an artefact must not pass with.

    Maps keep one value for each channel.
    """
    means = []
    for column in zip(*references, strict=True):
        maps = column[0].ndim == 4
        stacked = np.stack([c.mean(axis=_MAP_AXES, keepdims=True) if maps else c.mean() for c in column])
        means.append(stacked.mean(axis=0))
    return [
        tuple(np.broadcast_to(m, r.shape).copy() for m, r in zip(means, sample, strict=True)) for sample in references
    ]


def is_constant(values: Sequence[Array]) -> bool:
    """Whether one output is the same value in all samples, apart from float32's rounding."""
    return _power_about_mean(values) == 0.0
