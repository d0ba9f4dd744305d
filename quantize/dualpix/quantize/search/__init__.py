"""Which layers must stay float: what int8 costs in each, and the cheapest mix of int8 and float within a budget."""

from __future__ import annotations

from typing import TYPE_CHECKING

from dualpix.models.lazy import offered

if TYPE_CHECKING:
    from dualpix.quantize.search.assignment import Assignment, FrontierPoint, LayerSensitivity, allowed_loss
    from dualpix.quantize.search.choice import search
    from dualpix.quantize.search.losses import Loss, output_loss, task_loss
    from dualpix.quantize.search.prices import CostModel
    from dualpix.quantize.search.sweeps import OnStep, sensitivity

__all__ = [
    "Assignment",
    "CostModel",
    "FrontierPoint",
    "LayerSensitivity",
    "Loss",
    "OnStep",
    "allowed_loss",
    "output_loss",
    "search",
    "sensitivity",
    "task_loss",
]

if not TYPE_CHECKING:
    __getattr__ = offered(__name__, __all__, "assignment", "losses", "sweeps", "prices", "choice")
