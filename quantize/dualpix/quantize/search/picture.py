"""The picture of a search: accuracy against compute and size, and the layers that int8 harms most."""

from __future__ import annotations

import io
from collections.abc import Sequence
from typing import Any

from matplotlib.figure import Figure

from dualpix.quantize.search.assignment import Assignment, FrontierPoint, allowed_loss

_INK, _FRONTIER, _CHOSEN = "#26323d", "#0b62a4", "#b4460a"
_DPI = 150
_BARS = 12


def frontier_picture(assignment: Assignment, loss_name: str = "loss") -> bytes:
    """A PNG with three panels: loss against compute, loss against the weights' size, harm per layer.

    Args:
        assignment: the result of :func:`~.sensitivity.search`.
        loss_name: what the axis calls the loss.
    """
    figure = Figure(figsize=(12.0, 4.2), layout="constrained", facecolor="white")
    left, middle, right = figure.subplots(1, 3)
    _scatter(left, assignment, [p.compute for p in assignment.frontier], "compute, of all in float")
    _scatter(middle, assignment, [p.weight_bytes / 1e6 for p in assignment.frontier], "weights, MB")
    left.set_ylabel(loss_name)
    left.legend(frameon=False, labelcolor=_INK, fontsize=8)
    _bars(right, assignment)
    for axes in (left, middle, right):
        _style(axes)
    out = io.BytesIO()
    figure.savefig(out, format="png", dpi=_DPI, metadata={"Software": None})
    return out.getvalue()


def _scatter(axes: Any, assignment: Assignment, costs: Sequence[float], cost_name: str) -> None:
    points = assignment.frontier
    allowed = allowed_loss(assignment.float_loss, assignment.budget)
    axes.axhspan(min(0.0, assignment.float_loss), allowed, color=_FRONTIER, alpha=0.1, lw=0, label="within the budget")
    best = sorted((c, p.loss) for c, p in zip(costs, points, strict=True) if p.best)
    axes.step(*zip(*best, strict=True), where="post", color=_FRONTIER, lw=1.2, alpha=0.7)
    axes.plot(*zip(*best, strict=True), "o", ms=4, color=_FRONTIER, label="best mixes measured")
    for cost, point in zip(costs, points, strict=True):
        name = _name(point, assignment)
        if name:
            colour = _CHOSEN if name == "chosen" else _INK
            marker = "D" if name == "chosen" else "s"
            axes.plot(cost, point.loss, marker, ms=7, color=colour)
            axes.annotate(name, (cost, point.loss), (6, 7), textcoords="offset points", color=colour, fontsize=9)
    highest = max(p.loss for p in points if p.loss < float("inf"))
    low = min(assignment.float_loss, *(p.loss for p in points))
    if low > 0 and highest / low > 20:
        axes.set_yscale("log")
    else:
        reach = max(highest, allowed) - low
        axes.set_ylim(low - 0.12 * reach, max(highest, allowed) + 0.15 * reach)
    axes.margins(x=0.2)
    axes.set_xlabel(cost_name)


def _name(point: FrontierPoint, assignment: Assignment) -> str:
    if set(point.keep_float) == set(assignment.keep_float):
        return "chosen"
    if not point.keep_float:
        return "int8"
    return "float" if len(point.keep_float) == len(assignment.layers) else ""


def _bars(axes: Any, assignment: Assignment) -> None:
    worst = sorted(assignment.layers, key=lambda s: -s.harm)[:_BARS][::-1]
    kept = set(assignment.keep_float)
    axes.barh(
        [s.path or "(network)" for s in worst],
        [min(s.harm, 1e30) for s in worst],
        color=[_CHOSEN if s.path in kept else _FRONTIER for s in worst],
        height=0.65,
    )
    axes.set_xlabel("loss by int8 in this layer (orange: kept float)")


def _style(axes: Any) -> None:
    axes.tick_params(colors=_INK, labelsize=8)
    for item in (axes.xaxis.label, axes.yaxis.label):
        item.set(color=_INK, size=9)
    for side, spine in axes.spines.items():
        spine.set(visible=side in ("left", "bottom"), color=_INK)
    axes.grid(color=_INK, alpha=0.15)
    axes.set_axisbelow(True)
