"""Rewrites of graphs for a converter: by the operators that it gets wrong, and some that more than one gets wrong."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any

from torch import fx

from dualpix.quantize.graph.nodes import ATEN, Maker, argument, calls, cleaned, shape_of

Rewrite = Callable[[fx.GraphModule, fx.Node, Maker], fx.Node | None]
"""(graph, node, maker of nodes before it) to what takes the node's place; None where it stays, or that is done."""


def rewrite_each(graph_module: fx.GraphModule, rewrites: Mapping[Any, Rewrite]) -> fx.GraphModule:
    """Rewrite every call of an operator that has a rewrite; changes and returns the graph."""
    graph = graph_module.graph
    for node in calls(graph, *rewrites):
        with graph.inserting_before(node):
            result = rewrites[node.target](graph_module, node, Maker(graph, node))
        if result is not None:
            node.replace_all_uses_with(result)
    return cleaned(graph_module)


def spell_out_spread(graph_module: fx.GraphModule, node: fx.Node, make: Maker) -> fx.Node | None:
    """Variance and standard deviation, of which the correction over all axes is dropped, with their mean or without."""
    shape, names = shape_of(node.args[0]), {declared.name for declared in node.target._schema.arguments}  # type: ignore[union-attr]
    axes = argument(node, "dim") if "dim" in names else None
    axes = [int(a) % len(shape) for a in axes] if axes else list(range(len(shape)))
    keep = bool(argument(node, "keepdim")) if "keepdim" in names else False
    correction = argument(node, "correction") if "correction" in names else float(argument(node, "unbiased"))
    count = math.prod(shape[a] for a in axes)
    free = count - (1.0 if correction is None else float(correction))
    if free <= 0:
        return None
    mean = make(ATEN.mean.dim, node.args[0], axes, True)
    centred = make(ATEN.sub.Tensor, node.args[0], mean)
    squares = make(ATEN.mean.dim, make(ATEN.mul.Tensor, centred, centred), axes, keep)
    spread = make(ATEN.mul.Tensor, squares, count / free)  # not a sum: Core ML takes some for means
    spread = make(ATEN.sqrt.default, spread) if "std" in str(node.target) else spread
    if "_mean" not in str(node.target):
        return spread
    both = (spread, make(ATEN.mean.dim, node.args[0], axes, keep))
    for user in list(node.users):
        user.replace_all_uses_with(both[user.args[1]])  # type: ignore[index]
    return None


def spell_out_hypotenuse(graph_module: fx.GraphModule, node: fx.Node, make: Maker) -> fx.Node:
    """Of two sides, as the root of the sum of squares."""
    squares = [make(ATEN.mul.Tensor, x, x) for x in (argument(node, "self"), argument(node, "other"))]
    return make(ATEN.sqrt.default, make(ATEN.add.Tensor, *squares))
