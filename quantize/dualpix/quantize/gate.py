"""The gate: does an exported artefact still do what the float network does, and is it worth shipping?

An artefact is compared with the float network on scenes with true disparity, held against the limits of the model
(``limits.json`` beside its weights), and put into one of the categories of :class:`Outcome`.

``limits.json``::

    {"format": 1,
     "recipes": {"xnnpack-int8": {"ai1_increase": 0.03, "delegated_compute": 0.95, "size_bytes": 1100000,
                                  "mean_abs_error_px": 0.2, "relative_rms": 0.05,
                                  "speedup": {"x86-64-avx512-vnni": {"xnnpack-fp32": 1.25, "eager": 2.0}}}}}

Every field may be left out; a recipe that is not named has the limits of :data:`HOUSE_LIMITS`. Lowest speed ratios
stand under the class of processor that they hold for; :mod:`dualpix.quantize.speed` says when they are judged.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, fields
from enum import StrEnum
from typing import Any, Literal, TypeAlias

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from dualpix.capture.errors import DualpixError
from dualpix.models.metrics import affine_invariant_error
from dualpix.quantize.calibration import EvaluationSet, Inputs
from dualpix.quantize.speed import HOUSE_SPEED, SpeedCheck, SpeedLimits, Timing, judge_speed, parse_speed_limits

Predict = Callable[[Inputs], Tensor]
Array = npt.NDArray[np.float64]

LIMITS_FORMAT = 1
EXACT_SQNR_DB = 200.0
"""Reported where two outputs agree to the last bit: JSON has no infinity."""


class Outcome(StrEnum):
    """What came of an export recipe, from worst to best."""

    NOT_WRITTEN = "not written"
    """The conversion failed, or the file does not load or run in the real runtime."""
    NOT_DELEGATED = "runs but not delegated"
    WRONG = "runs, delegated, wrong"
    OVER_BUDGET = "runs, delegated, right, over budget"
    """Too large or too slow."""
    NOT_RUN_HERE = "converted, not run here"
    """No runtime for it on this machine; its structure was checked, its numbers were not."""
    EMULATED = "converted, right when interpreted"
    """No runtime for it on this machine; an interpreter of the written file gives the right numbers."""
    VERIFIED = "runs, delegated, right"


@dataclass(frozen=True)
class Limits:
    """What an artefact may cost; ``None`` asks for nothing."""

    ai1_increase: float | None = None
    """Of the mean AI(1) error, relative to the float network's: 0.03 allows 3 % more."""
    mean_abs_error_px: float | None = None
    """Mean absolute difference from the float network."""
    sqnr_db: float | None = None
    """Lowest signal-to-quantisation-noise ratio against the float network."""
    relative_rms: float | None = None
    """Of the difference from the float network, relative to its output's: what there is without a task's metric."""
    delegated_compute: float | None = None
    """Lowest share of multiply-accumulates in the delegate."""
    size_bytes: int | None = None
    speedup: SpeedLimits = field(default_factory=dict)
    """Lowest speed ratios over other entries of the benchmark, by class of processor."""


HOUSE_LIMITS: Mapping[str, Limits] = {
    "xnnpack-fp32": Limits(
        ai1_increase=0.001, sqnr_db=60.0, delegated_compute=0.95, speedup=HOUSE_SPEED["xnnpack-fp32"]
    ),
    "xnnpack-int8": Limits(ai1_increase=0.03, delegated_compute=0.95, speedup=HOUSE_SPEED["xnnpack-int8"]),
    "coreml-fp16": Limits(ai1_increase=0.01),
    "coreml-w8": Limits(ai1_increase=0.03),
}


def parse_limits(data: Mapping[str, Any], source: str) -> dict[str, Limits]:
    """The content of a ``limits.json``, by recipe.

    Raises:
        DualpixError: another format, an unknown field, or a limit that is no number.
    """
    if data.get("format") != LIMITS_FORMAT or not isinstance(data.get("recipes"), dict):
        raise DualpixError(f"{source} is no limits file", expected=f'{{"format": {LIMITS_FORMAT}, "recipes": {{...}}}}')
    return {str(name): _limits(name, entry, source) for name, entry in data["recipes"].items()}


def _limits(recipe: str, entry: Any, source: str) -> Limits:
    known = [f.name for f in fields(Limits)]
    if not isinstance(entry, dict) or (unknown := [name for name in entry if name not in known]):
        found = unknown[0] if isinstance(entry, dict) else repr(entry)
        raise DualpixError(f"{source}: recipe '{recipe}' has '{found}'", expected="one of: " + ", ".join(known))
    speedup = parse_speed_limits(entry.get("speedup", {}), f"{source}: recipe '{recipe}'")
    plain = [v for name, v in entry.items() if name != "speedup"]
    if any(isinstance(v, bool) or not isinstance(v, int | float) or not math.isfinite(v) for v in plain):
        raise DualpixError(f"{source}: recipe '{recipe}' has a limit that is no number", expected="finite numbers")
    return Limits(**{**entry, "speedup": speedup})


def sqnr_db(reference: Tensor, output: Tensor) -> float:
    """Power of the reference over the power of the difference, in dB; -inf where the output is not finite."""
    if not torch.isfinite(output).all():
        return -math.inf
    signal, noise = (float(t.double().square().mean()) for t in (reference, reference.double() - output.double()))
    return _decibels(signal, noise)


def _decibels(signal_power: float, noise_power: float) -> float:
    if noise_power <= signal_power * 10 ** (-EXACT_SQNR_DB / 10):
        return EXACT_SQNR_DB
    return 10 * math.log10(max(signal_power, 1e-30) / noise_power)


@dataclass(frozen=True)
class Difference:
    """How far two outputs are apart."""

    max_abs_px: float
    mean_abs_px: float
    sqnr_db: float

    @property
    def relative_rms(self) -> float:
        """Of the difference, relative to the reference's: 0.01 is 40 dB."""
        return float(10.0 ** (-self.sqnr_db / 20.0))

    @classmethod
    def between(cls, outputs: Sequence[Array], references: Sequence[Array]) -> Difference:
        """Over all pixels of all outputs."""
        gap = np.concatenate([(o - r).ravel() for o, r in zip(outputs, references, strict=True)])
        signal = np.concatenate([r.ravel() for r in references])
        noise_power, signal_power = float(np.mean(gap**2)), float(np.mean(signal**2))
        return cls(float(np.max(np.abs(gap))), float(np.mean(np.abs(gap))), _decibels(signal_power, noise_power))


@dataclass(frozen=True)
class Accuracy:
    """Mean scores against the true disparity, and the difference from the float network."""

    ai1: float
    ai2: float
    one_minus_abs_rho: float
    from_float: Difference
    samples: int

    def ai1_increase(self, reference: Accuracy) -> float:
        """Relative to ``reference``: 0.03 is 3 % more error."""
        return self.ai1 / max(reference.ai1, 1e-9) - 1.0


@dataclass(frozen=True)
class Check:
    """One measured figure beside its limit."""

    name: str
    measured: float
    limit: float
    relation: Literal["<=", ">="]

    @property
    def passed(self) -> bool:
        """Whether the figure keeps the limit; a figure that is not a number does not."""
        return self.measured <= self.limit if self.relation == "<=" else self.measured >= self.limit


@dataclass(frozen=True)
class Candidate:
    """What is known of an artefact before it is judged; ``None`` where it could not be measured here."""

    recipe: str
    accuracy: Accuracy | None
    delegated_compute: float | None
    size_bytes: int | None
    timing: Timing | None = None
    failure: str | None = None
    """Why there is no artefact."""
    emulated: bool = False
    """The accuracy comes from an interpreter of the written file, not from the runtime it is for."""


@dataclass(frozen=True)
class Verdict:
    """The gate's answer for one recipe."""

    recipe: str
    outcome: Outcome
    checks: tuple[Check, ...]
    reason: str = ""
    speed: tuple[SpeedCheck, ...] = ()
    """Every speed ratio; those that are judged are among the checks."""

    @property
    def passed(self) -> bool:
        """An artefact that could not run here passes on its structure or an interpreter; its outcome says so."""
        return self.outcome in (Outcome.VERIFIED, Outcome.EMULATED, Outcome.NOT_RUN_HERE)


def outputs_of(predict: Predict, evaluation: EvaluationSet) -> list[Array]:
    """``predict`` on each scene: disparity (H, W) in px, float64."""
    return [predict(s.inputs).detach().numpy().astype(np.float64)[0, 0] for s in evaluation.samples]


def score(outputs: Sequence[Array], references: Sequence[Array], evaluation: EvaluationSet) -> Accuracy:
    """Score outputs (H, W) against the truth and against the float network's outputs.

    A prediction that is not finite everywhere gets infinite errors.
    """
    if not all(np.isfinite(o).all() for o in outputs):
        nothing = Difference(math.inf, math.inf, -math.inf)
        return Accuracy(math.inf, math.inf, 1.0, nothing, len(outputs))
    truths = [s.disparity_px.numpy()[0, 0] for s in evaluation.samples]
    scores = [affine_invariant_error(o, t) for o, t in zip(outputs, truths, strict=True)]
    return Accuracy(
        ai1=float(np.mean([s.ai1 for s in scores])),
        ai2=float(np.mean([s.ai2 for s in scores])),
        one_minus_abs_rho=float(np.mean([s.one_minus_abs_rho for s in scores])),
        from_float=Difference.between(outputs, references),
        samples=len(outputs),
    )


def judge(candidate: Candidate, reference: Accuracy, limits: Limits) -> Verdict:
    """Hold a candidate against its limits; ``reference`` are the float network's scores on the same scenes."""
    if candidate.failure is not None:
        return Verdict(candidate.recipe, Outcome.NOT_WRITTEN, (), candidate.failure)
    delegated = _checks([("delegated_compute", candidate.delegated_compute, limits.delegated_compute, ">=")])
    right = _accuracy_checks(candidate.accuracy, reference, limits)
    speed = judge_speed(candidate.timing, limits.speedup) if candidate.timing else ()
    ratios: list[_Row] = [(f"speedup over {s.over}", s.ratio.median, s.limit, ">=") for s in speed if s.judged]
    budget = _checks([("size_bytes", candidate.size_bytes, limits.size_bytes, "<="), *ratios])
    checks = (*delegated, *right, *budget)
    groups = ((Outcome.NOT_DELEGATED, delegated), (Outcome.WRONG, right), (Outcome.OVER_BUDGET, budget))
    worst = next((outcome for outcome, group in groups if not all(check.passed for check in group)), None)
    outcome = worst or _right(candidate)
    failed = [f"{c.name} {c.measured:.4g}, limit {c.relation} {c.limit:.4g}" for c in checks if not c.passed]
    return Verdict(candidate.recipe, outcome, checks, "; ".join(failed), speed)


def _right(candidate: Candidate) -> Outcome:
    """How sure a candidate is that keeps all its limits."""
    if candidate.accuracy is None:
        return Outcome.NOT_RUN_HERE
    return Outcome.EMULATED if candidate.emulated else Outcome.VERIFIED


_Row: TypeAlias = tuple[str, float | None, float | None, Literal["<=", ">="]]
"""Name, measured figure, limit, relation."""


def _accuracy_checks(accuracy: Accuracy | None, reference: Accuracy, limits: Limits) -> tuple[Check, ...]:
    if accuracy is None:
        return ()
    return _checks(
        [
            ("ai1_increase", accuracy.ai1_increase(reference), limits.ai1_increase, "<="),
            ("mean_abs_error_px", accuracy.from_float.mean_abs_px, limits.mean_abs_error_px, "<="),
            ("sqnr_db", accuracy.from_float.sqnr_db, limits.sqnr_db, ">="),
            ("relative_rms", accuracy.from_float.relative_rms, limits.relative_rms, "<="),
        ]
    )


def _checks(rows: Sequence[_Row]) -> tuple[Check, ...]:
    """A check for each row that has both a measured figure and a limit."""
    return tuple(
        Check(name, float(measured), float(limit), relation)
        for name, measured, limit, relation in rows
        if measured is not None and limit is not None
    )
