"""What comes out of the export flow."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from dualpix.capture.pictures.colour_map import Rgb
from dualpix.capture.processor import UNKNOWN
from dualpix.export.artefact import Artefact, ExportError
from dualpix.export.bench import EAGER, Benchmark
from dualpix.export.recipes import Recipe
from dualpix.quantize.gate import Verdict
from dualpix.quantize.score import Accuracy, Outputs, Predict
from dualpix.quantize.speed import speed_notes


@dataclass(frozen=True)
class Picture:
    """A picture for the report."""

    name: str
    """File name, ``*.png``."""
    image: Rgb
    caption: str


@dataclass(frozen=True)
class RecipeResult:
    """One recipe's artefact and how it did; ``None`` where there is none or it cannot be known here."""

    recipe: str
    verdict: Verdict
    artefact: Artefact | None
    accuracy: Accuracy | None


@dataclass(frozen=True)
class ExportResult:
    """Everything one export gave."""

    folder: Path
    model: str
    reference: Accuracy
    results: tuple[RecipeResult, ...]
    benchmark: Benchmark
    notes: tuple[str, ...] = ()
    """What a user should know of all artefacts."""

    @property
    def passed(self) -> bool:
        """Whether the gate passes for every recipe."""
        return all(r.verdict.passed for r in self.results)

    @property
    def speed_notes(self) -> list[str]:
        """Which speed ratios were not judged, and why."""
        return speed_notes({r.recipe: r.verdict.speed for r in self.results})

    def to_json(self) -> dict[str, Any]:
        """The content of ``gate.json``."""
        return {
            "passed": self.passed,
            "model": self.model,
            "processor": self._processor(),
            "notes": list(self.notes),
            "float": _finite(asdict(self.reference)),
            "recipes": [self._entry(r) for r in self.results],
            "speed_notes": self.speed_notes,
            "benchmark": self.benchmark.to_json(),
        }

    def _processor(self) -> dict[str, Any]:
        """Of which class this machine is, and as which PyTorch ran on it."""
        bench = self.benchmark
        return {
            "class": bench.machine.get("class", UNKNOWN),
            "eager_class": bench.classes.get(EAGER, UNKNOWN),
            "eager_held_by": bench.held_by,
        }

    def _entry(self, result: RecipeResult) -> dict[str, Any]:
        artefact, accuracy, verdict = result.artefact, result.accuracy, result.verdict
        delegation = artefact.delegation if artefact else None
        entry: dict[str, Any] = _finite(
            {
                "recipe": result.recipe,
                "file": artefact.path.name if artefact else None,
                "passed": verdict.passed,
                "outcome": verdict.outcome.value,
                "reason": verdict.reason,
                "notes": list(verdict.notes),
                "checks": [asdict(c) | {"passed": c.passed} for c in verdict.checks],
                "size_bytes": artefact.size_bytes if artefact else None,
                "emulated": bool(artefact and artefact.emulated),
                "delegation": None
                if delegation is None
                else asdict(delegation)
                | {"compute_share": delegation.compute_share, "operator_share": delegation.operator_share},
                "accuracy": asdict(accuracy) if accuracy else None,
                "relative_rms": accuracy.from_float.relative_rms if accuracy else None,
                "metric_loss": accuracy.metric_loss(self.reference) if accuracy else None,
                "speedup": {check.over: check.to_json() for check in verdict.speed},
                "details": dict(artefact.details) if artefact else {},
            }
        )
        return entry


@dataclass
class Run:
    """What is known of each recipe while the flow runs."""

    recipe: Recipe
    built: Artefact | ExportError
    outputs: list[Outputs] = field(default_factory=list)
    accuracy: Accuracy | None = None

    @property
    def artefact(self) -> Artefact | None:
        """What was written, if anything was."""
        return self.built if isinstance(self.built, Artefact) else None

    @property
    def predict(self) -> Predict | None:
        """Runs or interprets it, where that can be done here."""
        return self.artefact.predict if self.artefact else None


def _finite(value: Any) -> Any:
    """Plain data with infinities and NaN as ``None``: JSON has neither."""
    if isinstance(value, dict):
        return {k: _finite(v) for k, v in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(v) for v in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
