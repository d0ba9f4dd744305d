"""The gate: does an exported artefact still do what the float network does, and is it worth shipping?

An artefact is compared with the float network, and by the metrics of its task where it has any, held against the limits
of the model (``limits.json`` beside its weights), and put into one of the categories of :class:`Outcome`.

``limits.json``::

    {"format": 1,
     "recipes": {"xnnpack-int8": {"metric_loss": 0.03, "delegated_compute": 0.95, "size_bytes": 1100000,
                                  "sqnr_db": 25, "structure_db": 15, "mean_abs_error": 0.2, "relative_rms": 0.05,
                                  "speedup": {"x86-64-avx512-vnni": {"xnnpack-fp32": 1.25, "eager": 2.0}}}}}

Every field may be left out; a recipe that is not named has the limits of :data:`HOUSE_LIMITS`. Lowest speed ratios
stand under the class of processor that they hold for; :mod:`dualpix.quantize.speed` says when they are judged.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields
from enum import StrEnum
from typing import TYPE_CHECKING, Any, Literal, TypeAlias

from dualpix.capture.errors import DualpixError
from dualpix.quantize.speed import HOUSE_SPEED, SpeedCheck, SpeedLimits, Timing, judge_speed, parse_speed_limits

if TYPE_CHECKING:  # the command line reads limits before it imports torch
    from dualpix.quantize.score import Accuracy, Difference

LIMITS_FORMAT = 1
_FORMER = {"ai1_increase": "metric_loss", "mean_abs_error_px": "mean_abs_error"}
_MAX_QUOTED = 80
STEPS_DB = 15.0
"""The most that is asked of an integer or boolean output: 3 of 100 labels of a mask may flip, sparse ones fewer."""


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

    metric_loss: float | None = None
    """By the first metric, relative to the float network: 0.03 allows 3 % more error, or 3 % less of a merit."""
    metric: float | None = None
    """Worst value of the first metric itself."""
    mean_abs_error: float | None = None
    """Mean absolute difference from the float network, in the unit of the output."""
    sqnr_db: float | None = None
    """Lowest signal-to-quantisation-noise ratio against the float network."""
    structure_db: float | None = None
    """The same with the mean of the signal removed: a constant output, which may reach any SQNR, has 0 dB."""
    relative_rms: float | None = None
    """Of the difference from the float network, relative to its output's: what there is without a task's metric."""
    delegated_compute: float | None = None
    """Lowest share of multiply-accumulates in the delegate."""
    size_bytes: int | None = None
    speedup: SpeedLimits = field(default_factory=dict)
    """Lowest speed ratios over other entries of the benchmark, by class of processor."""


HOUSE_LIMITS: Mapping[str, Limits] = {
    "xnnpack-fp32": Limits(
        metric_loss=0.001, sqnr_db=60.0, delegated_compute=0.95, speedup=HOUSE_SPEED["xnnpack-fp32"]
    ),
    "xnnpack-int8": Limits(metric_loss=0.03, delegated_compute=0.95, speedup=HOUSE_SPEED["xnnpack-int8"]),
    "coreml-fp16": Limits(metric_loss=0.01),
    "coreml-w8": Limits(metric_loss=0.01),
}


def parse_limits(data: Mapping[str, Any], source: str) -> dict[str, Limits]:
    """The content of a ``limits.json``, by recipe.

    Raises:
        DualpixError: another format, an unknown field, or a limit that is no number.
    """
    if data.get("format") != LIMITS_FORMAT or not isinstance(data.get("recipes"), dict):
        raise DualpixError(f"{source} is no limits file", expected=f'{{"format": {LIMITS_FORMAT}, "recipes": {{...}}}}')
    return {str(name): _limits(_short(name), _renamed(entry), source) for name, entry in data["recipes"].items()}


def _renamed(entry: Any) -> Any:
    """With today's names for the fields that 0.1.0 called after the one task it knew."""
    return {_FORMER.get(name, name): value for name, value in entry.items()} if isinstance(entry, dict) else entry


def _short(text: str) -> str:
    return text if len(text) <= _MAX_QUOTED else text[:_MAX_QUOTED] + "..."


def _is_finite_number(value: Any) -> bool:
    try:
        return not isinstance(value, bool) and isinstance(value, int | float) and math.isfinite(value)
    except OverflowError:  # JSON's integers have no end
        return False


def _limits(recipe: str, entry: Any, source: str) -> Limits:
    known = [f.name for f in fields(Limits)]
    if not isinstance(entry, dict) or (unknown := [name for name in entry if name not in known]):
        found = _short(unknown[0] if isinstance(entry, dict) else repr(entry))
        raise DualpixError(f"{source}: recipe '{recipe}' has '{found}'", expected="one of: " + ", ".join(known))
    speedup = parse_speed_limits(entry.get("speedup", {}), f"{source}: recipe '{recipe}'")
    plain = [v for name, v in entry.items() if name != "speedup"]
    if not all(map(_is_finite_number, plain)):
        raise DualpixError(f"{source}: recipe '{recipe}' has a limit that is no number", expected="finite numbers")
    return Limits(**{**entry, "speedup": speedup})


@dataclass(frozen=True)
class Check:
    """One measured figure beside its limit."""

    name: str
    measured: float
    limit: float
    relation: Literal["<=", ">="]
    of: str = ""
    """Which metric or output, where there are several or it has a name."""

    @property
    def passed(self) -> bool:
        """Whether the figure keeps the limit; a figure that is not a number does not."""
        return self.measured <= self.limit if self.relation == "<=" else self.measured >= self.limit

    def __str__(self) -> str:
        of = f" of {self.of}" if self.of else ""
        return f"{self.name}{of} {self.measured:.4g}, limit {self.relation} {self.limit:.4g}"


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
    notes: tuple[str, ...] = ()
    """What else should be known of the judgement."""

    @property
    def passed(self) -> bool:
        """An artefact that could not run here passes on its structure or an interpreter; its outcome says so."""
        return self.outcome in (Outcome.VERIFIED, Outcome.EMULATED, Outcome.NOT_RUN_HERE)


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
    return Verdict(candidate.recipe, outcome, checks, "; ".join(str(c) for c in checks if not c.passed), speed)


def constant_passes(constant: Accuracy, reference: Accuracy, limits: Limits) -> str:
    """Whether an output that is one value everywhere keeps what is asked of the numbers, and what it would score.

    Args:
        constant: scores of such an output.
        reference: of the float network.
        limits: of the recipe.

    Returns:
        The checks it passes, or nothing where it fails one of them or nothing is asked.
    """
    checks = _accuracy_checks(constant, reference, limits)
    return "; ".join(map(str, checks)) if all(check.passed for check in checks) else ""


def _right(candidate: Candidate) -> Outcome:
    """How sure a candidate is that keeps all its limits."""
    if candidate.accuracy is None:
        return Outcome.NOT_RUN_HERE
    return Outcome.EMULATED if candidate.emulated else Outcome.VERIFIED


_Row: TypeAlias = (
    tuple[str, float | None, float | None, Literal["<=", ">="]]
    | tuple[str, float | None, float | None, Literal["<=", ">="], str]
)
"""Name, measured figure, limit, relation, and of what."""


def _accuracy_checks(accuracy: Accuracy | None, reference: Accuracy, limits: Limits) -> tuple[Check, ...]:
    if accuracy is None:
        return ()
    gap = accuracy.from_float
    metric, value = accuracy.metric or ("", None)
    structured = accuracy.worst_output("structure_db")
    better: Literal["<=", ">="] = ">=" if value and value.better == "higher" else "<="
    steps: list[_Row] = [
        row
        for name, of in accuracy.steps.items()
        for row in (
            ("sqnr_db", of.sqnr_db, _for_steps(limits.sqnr_db, of), ">=", name),
            ("structure_db", of.structure_db, _for_steps(limits.structure_db, of), ">=", name),
        )
    ]
    return _checks(
        [
            ("metric_loss", accuracy.metric_loss(reference), limits.metric_loss, "<=", metric),
            ("metric", value.value if value else None, limits.metric, better, metric),
            ("mean_abs_error", gap.mean_abs, limits.mean_abs_error, "<=", accuracy.worst_output("mean_abs")),
            ("sqnr_db", gap.sqnr_db, _for_steps(limits.sqnr_db, gap), ">=", accuracy.worst_output("sqnr_db")),
            ("structure_db", gap.structure_db, _for_steps(limits.structure_db, gap), ">=", structured),
            ("relative_rms", gap.relative_rms, limits.relative_rms, "<=", accuracy.worst_output("sqnr_db")),
            *steps,
        ]
    )


def _for_steps(limit_db: float | None, difference: Difference) -> float | None:
    """What is asked of integers and booleans: no precision keeps all of them."""
    return min(limit_db, STEPS_DB) if limit_db is not None and difference.steps else limit_db


def _checks(rows: Sequence[_Row]) -> tuple[Check, ...]:
    """A check for each row that has both a measured figure and a limit."""
    return tuple(
        Check(name, float(measured), float(limit), relation, *of)
        for name, measured, limit, relation, *of in rows
        if measured is not None and limit is not None
    )
