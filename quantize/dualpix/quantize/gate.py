"""The gate: does an exported artefact still do what the float network does, and is it worth shipping?

An artefact is compared with the float network, and by the metrics of its task where it has any, held against the limits
of the model (:mod:`.limits`), and put into one of the categories of :class:`Outcome`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Literal, TypeAlias

from dualpix.quantize.limits import STEPS_DB, Limits
from dualpix.quantize.score import Accuracy, Difference
from dualpix.quantize.speed import SpeedCheck, Timing, judge_speed


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
