"""Tensors of more axes than a backend holds.

XNNPACK holds 6 (``Failed to define tensor``), Core ML 5. A convex upsampling has 7, most of which an operator treats
alike: axes that lie side by side and share their fate are one axis to it, axes of one value are none.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any, TypeAlias

import torch
from torch import Tensor, fx

from dualpix.quantize.graph.nodes import ATEN, Maker, argument, cleaned, is_call, shape_of

Shape: TypeAlias = tuple[int, ...]

_RESHAPES = (
    "aten.reshape.", "aten.view.default", "aten.flatten.", "aten.unsqueeze.", "aten.squeeze.", "aten.unflatten.",
)  # fmt: skip
_REDUCTIONS = ("aten.sum.dim_IntList", "aten.mean.dim", "aten.amax.", "aten.amin.")
_ALONG = ("aten.softmax.int", "aten._softmax.", "aten.log_softmax.int", "aten._log_softmax.", "aten.slice.Tensor")


def limit_rank(graph_module: fx.GraphModule, most_axes: int) -> int:
    """Let operators on tensors of more than ``most_axes`` axes work on fewer; changes the graph.

    What cannot be expressed with fewer stays as it is.

    Returns:
        How many operators were rewritten.
    """
    graph, changed = graph_module.graph, 0
    for node in list(graph.nodes):
        if not _is_over(node, most_axes):
            continue
        with graph.inserting_before(node):
            result = _with_fewer(node, Maker(graph, node))
        if result is not None:
            node.replace_all_uses_with(result)
            changed += 1
    if changed:
        _join_reshapes(graph)
    cleaned(graph_module)
    return changed


def _is_over(node: fx.Node, most_axes: int) -> bool:
    values = [n.meta.get("val") for n in (node, *node.all_input_nodes)]
    tensors = [v for v in values if isinstance(v, Tensor)]
    return node.op == "call_function" and len(tensors) == len(values) and max(v.dim() for v in tensors) > most_axes


def _with_fewer(node: fx.Node, make: Maker) -> fx.Node | None:
    if is_call(node, _RESHAPES):
        return make(ATEN.reshape.default, node.args[0], list(shape_of(node)))
    if is_call(node, "aten.permute.") or is_call(node, "aten.transpose.int"):
        return _permuted(node, make)
    if is_call(node, _REDUCTIONS):
        return _reduced(node, make)
    if is_call(node, _ALONG) and len(node.args) > 1:
        return _along(node, make)
    if is_call(node, "aten.expand."):
        return _broadcast(node, make, lambda inputs, shape: make(ATEN.expand.default, inputs[0], list(shape)))
    if torch.Tag.pointwise in getattr(node.target, "tags", ()) and not node.kwargs:

        def apply(inputs: Sequence[fx.Node], shape: Shape) -> fx.Node:
            left = iter(inputs)
            arguments = [next(left) if isinstance(a, fx.Node) else a for a in node.args]
            return make(node.target, *arguments)

        return _broadcast(node, make, apply)
    return None


def _shaped(make: Maker, x: Any, shape: Sequence[int]) -> fx.Node:
    return make(ATEN.reshape.default, x, list(shape))


def _merged(shape: Shape, runs: Sequence[Sequence[int]]) -> Shape:
    """``shape`` with each run of axes as one."""
    return tuple(math.prod(shape[axis] for axis in run) for run in runs)


def _runs(count: int, alike: Callable[[int, int], bool]) -> list[list[int]]:
    """Axes 0..count-1 in runs of neighbours that are alike."""
    runs: list[list[int]] = []
    for axis in range(count):
        if runs and alike(axis - 1, axis):
            runs[-1].append(axis)
        else:
            runs.append([axis])
    return runs


def _broadcast(node: fx.Node, make: Maker, apply: Callable[[Sequence[fx.Node], Shape], fx.Node]) -> fx.Node:
    full = shape_of(node)
    inputs = [a for a in node.args if isinstance(a, fx.Node)]
    shapes = [(1,) * (len(full) - len(shape_of(x))) + shape_of(x) for x in inputs]
    kinds = [tuple(s[axis] == 1 for s in shapes) for axis in range(len(full))]
    first = next((kind for kind, size in zip(kinds, full, strict=True) if size > 1), kinds[0])
    for axis, size in enumerate(full):  # an axis of one value goes with either neighbour
        if size == 1:
            kinds[axis] = kinds[axis - 1] if axis else first
    runs = _runs(len(full), lambda a, b: kinds[a] == kinds[b])
    parts = [_shaped(make, x, _merged(s, runs)) for x, s in zip(inputs, shapes, strict=True)]
    return _shaped(make, apply(parts, _merged(full, runs)), full)


def _permuted(node: fx.Node, make: Maker) -> fx.Node:
    shape = shape_of(node.args[0])
    order = list(range(len(shape)))
    if is_call(node, "aten.permute."):
        order = [int(a) % len(shape) for a in argument(node, "dims")]
    else:
        a, b = (int(argument(node, name)) % len(shape) for name in ("dim0", "dim1"))
        order[a], order[b] = order[b], order[a]
    kept = [axis for axis in order if shape[axis] > 1] or order[:1]
    runs: list[list[int]] = []
    large = sorted(kept)
    for axis in kept:
        follows = runs and large.index(axis) == large.index(runs[-1][-1]) + 1
        if follows:
            runs[-1].append(axis)
        else:
            runs.append([axis])
    sources = sorted(runs)
    y = _shaped(make, node.args[0], _merged(shape, sources))
    y = make(ATEN.permute.default, y, [sources.index(run) for run in runs])
    return _shaped(make, y, shape_of(node))


def _reduced(node: fx.Node, make: Maker) -> fx.Node | None:
    shape = shape_of(node.args[0])
    axes = {int(a) % len(shape) for a in (argument(node, "dim") or range(len(shape)))}
    if node.kwargs or len(node.args) > 3:  # another type of the sum
        return None
    runs = _runs(len(shape), lambda a, b: (a in axes) == (b in axes))
    y = _shaped(make, node.args[0], _merged(shape, runs))
    y = make(node.target, y, [i for i, run in enumerate(runs) if run[0] in axes], False)
    return _shaped(make, y, shape_of(node))


def _along(node: fx.Node, make: Maker) -> fx.Node:
    """An operator that treats one axis apart."""
    shape = shape_of(node.args[0])
    axis = int(argument(node, "dim")) % len(shape)
    runs = [list(range(axis)), [axis], list(range(axis + 1, len(shape)))]
    y = _shaped(make, node.args[0], _merged(shape, runs))
    arguments = [1 if i == 0 else a for i, a in enumerate(node.args[1:])]
    return _shaped(make, make(node.target, y, *arguments, **node.kwargs), shape_of(node))


def _join_reshapes(graph: fx.Graph) -> None:
    for node in graph.nodes:
        if is_call(node, "aten.reshape."):
            while is_call(node.args[0], _RESHAPES):
                node.args = (node.args[0].args[0], list(shape_of(node)))
