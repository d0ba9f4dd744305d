"""What an artefact may cost, by recipe: ``limits.json`` beside a model's weights, and the house's own. Without torch.

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
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from typing import Any

from dualpix.capture.errors import DualpixError
from dualpix.quantize.speed import HOUSE_SPEED, SpeedLimits, parse_speed_limits

LIMITS_FORMAT = 1
_FORMER = {"ai1_increase": "metric_loss", "mean_abs_error_px": "mean_abs_error"}
_MAX_QUOTED = 80
STEPS_DB = 15.0
"""The most that is asked of an integer or boolean output: 3 of 100 labels of a mask may flip, sparse ones fewer."""


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
