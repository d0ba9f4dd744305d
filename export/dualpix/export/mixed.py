"""Which layers stay float where a recipe mixes int8 with float, found on the samples that calibrate."""

from __future__ import annotations

from typing import TYPE_CHECKING

from dualpix.quantize.keep import KeepFloat, keep_modules, keep_nothing

if TYPE_CHECKING:
    from dualpix.export.artefact import BuildRequest
    from dualpix.quantize.search.assignment import Assignment

MIXED_BUDGET = 0.05
"""RMS of the difference over RMS of the output that mixed precision may cost where the request names no budget."""
INT8_BUDGET = 0.03
"""The same of a recipe that is int8 throughout but for what needs float: in the zoo a loss of less than 1 % by the
metric of the task."""
_RANKING_SAMPLES = 2
"""Layers are ranked by this many; what is chosen is measured on all."""


def kept_float(request: BuildRequest) -> tuple[KeepFloat, tuple[str, ...]]:
    """Whether the activations of a layer stay float, and which layers those are: what the request says, and what a
    search finds to need it.
    """
    assignment = request.assignment or searched(request, request.keep_float, INT8_BUDGET)
    found = keep_modules(*assignment.keep_float)
    return lambda path: request.keep_float(path) or found(path), assignment.keep_float


def searched(request: BuildRequest, keep_float: KeepFloat = keep_nothing, budget: float = MIXED_BUDGET) -> Assignment:
    """Search on one half of the calibration samples, hold the budget on the other.

    Args:
        request: its module, samples and budget.
        keep_float: layers that stay float in any case.
        budget: where the request names none.
    """
    from dualpix.quantize.search.choice import search
    from dualpix.quantize.search.losses import output_loss

    samples = request.calibration.samples
    half = max(1, len(samples) // 2)
    seen, held_back = samples[:half], samples[half:]
    loss = output_loss(request.module, seen)
    check = output_loss(request.module, held_back) if held_back else None
    ranking = output_loss(request.module, seen[:_RANKING_SAMPLES])
    allowed = request.budget or budget
    return search(request.module, seen, loss, allowed, check, ranking_loss=ranking, keep_float=keep_float)
