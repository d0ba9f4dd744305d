"""What a search found: which submodules stay float, why, and what that costs and saves; as data and as JSON.

Convention: losses are relative to nothing; lower is better. Budgets are relative to the float network's loss; where
that is nothing, the budget is the loss itself (:func:`allowed_loss`).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, fields
from typing import Any

from dualpix.capture.errors import DualpixError

ASSIGNMENT_FORMAT = 1


_NOTHING = 1e-3
"""A float loss below this part of the budget counts as zero."""


_MAX_LAYERS = 10_000


@dataclass(frozen=True)
class LayerSensitivity:
    """One layer and what int8 does to it."""

    path: str
    macs: int
    weights: int
    channels: int
    saved: float | None = None
    """Loss that the int8 network loses when this layer alone is float (keep-one-float)."""
    added: float | None = None
    """Loss that the float network gains when this layer alone is int8 (quantise-one)."""

    @property
    def harm(self) -> float:
        """Mean of what was measured, at least 0."""
        known = [max(0.0, v) if math.isfinite(v) else math.inf for v in (self.saved, self.added) if v is not None]
        return sum(known) / len(known) if known else 0.0

    @property
    def harm_per_mac(self) -> float:
        """The order in which layers are kept float."""
        return self.harm / max(self.macs, 1)


@dataclass(frozen=True)
class FrontierPoint:
    """A choice that was measured on the search data."""

    keep_float: tuple[str, ...]
    loss: float
    compute: float
    """Cost of the multiply-accumulates by the cost model, 1 for all in float."""
    weight_bytes: int
    int8_share: float
    """Of the network's multiply-accumulates, 0..1."""
    best: bool
    """Nothing that was measured is both cheaper and more accurate."""


@dataclass(frozen=True)
class Assignment:
    """Which submodules stay float, why, and what that costs and saves."""

    keep_float: tuple[str, ...]
    """Dotted paths, for :func:`~.ptq.keep_modules`."""
    budget: float
    float_loss: float
    int8_loss: float
    """With every layer in int8, on the search data."""
    loss: float
    """Of the graph that is exported, on the search data."""
    held_back_float_loss: float | None
    held_back_int8_loss: float | None
    held_back_loss: float | None
    int8_share: float
    """Of the network's multiply-accumulates, 0..1."""
    total_macs: int
    layers: tuple[LayerSensitivity, ...]
    frontier: tuple[FrontierPoint, ...]
    """The best choices measured, cheapest first, with uniform int8 and float in any case."""

    @property
    def within_budget(self) -> bool:
        """On the search data, and on the held-back data where there are any."""
        held = self.held_back_loss is None or self.held_back_float_loss is None
        return self.loss <= allowed_loss(self.float_loss, self.budget) and (
            held or self.held_back_loss <= allowed_loss(self.held_back_float_loss, self.budget)  # type: ignore[operator,arg-type]
        )

    def to_json(self) -> dict[str, Any]:
        """Plain data; a loss that is not finite becomes null."""
        plain: dict[str, Any] = _without_infinity({"format": ASSIGNMENT_FORMAT, **asdict(self)})
        return plain

    @classmethod
    def from_json(cls, data: Mapping[str, Any], source: str = "assignment") -> Assignment:
        """The inverse of :meth:`to_json`.

        Raises:
            DualpixError: another format, a field that is missing, unknown or of another kind.
        """
        if not isinstance(data, Mapping) or data.get("format") != ASSIGNMENT_FORMAT:
            raise DualpixError(f"{source} is no assignment of layers", expected=f'"format": {ASSIGNMENT_FORMAT}')
        plain = {name: value for name, value in data.items() if name != "format"}
        layers = _entries(LayerSensitivity, plain.pop("layers", None), source)
        frontier = _entries(FrontierPoint, plain.pop("frontier", None), source)
        assignment: Assignment = _record(cls, plain | {"layers": layers, "frontier": frontier}, source)
        return assignment


def _without_infinity(value: Any) -> Any:
    if isinstance(value, dict):
        return {k: _without_infinity(v) for k, v in value.items()}
    if isinstance(value, list | tuple):
        return [_without_infinity(v) for v in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def _entries(kind: Any, entries: Any, source: str) -> tuple[Any, ...]:
    if not isinstance(entries, list) or len(entries) > _MAX_LAYERS or not all(isinstance(e, dict) for e in entries):
        raise DualpixError(f"{source} has no list of layers or points", expected="'layers' and 'frontier'")
    return tuple(_record(kind, entry, source) for entry in entries)


_CHECKS: dict[str, Callable[[Any], bool]] = {
    "str": lambda v: isinstance(v, str),
    "bool": lambda v: isinstance(v, bool),
    "int": lambda v: isinstance(v, int) and not isinstance(v, bool),
    "float": lambda v: v is None or (isinstance(v, int | float) and not isinstance(v, bool) and math.isfinite(v)),
    "float | None": lambda v: (
        v is None or (isinstance(v, int | float) and not isinstance(v, bool) and math.isfinite(v))
    ),
    "tuple[str, ...]": lambda v: isinstance(v, list) and all(isinstance(path, str) for path in v),
}


def _record(kind: Any, entry: Mapping[str, Any], source: str) -> Any:
    """A frozen dataclass from plain data, each field checked by its annotation."""
    types = {f.name: str(f.type) for f in fields(kind)}
    if misfit := set(types).symmetric_difference(entry):
        raise DualpixError(f"{source}: '{min(misfit)}' is missing or unknown", expected=", ".join(types))
    values = dict(entry)
    for name, annotation in types.items():
        check = _CHECKS.get(annotation)
        if check is not None and not check(entry[name]):
            raise DualpixError(f"{source}: '{name}' is {entry[name]!r:.60}", expected=annotation)
        if annotation == "tuple[str, ...]":
            values[name] = tuple(entry[name])
        elif annotation == "float":
            values[name] = math.inf if entry[name] is None else float(entry[name])
    return kind(**values)


def allowed_loss(float_loss: float, budget: float) -> float:
    """The largest loss within ``budget`` (0.01: 1 %) of the float network's."""
    return budget if float_loss <= _NOTHING * budget else float_loss * (1.0 + budget)
