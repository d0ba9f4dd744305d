"""Graphs that are about to be lowered to XNNPACK: int8 codes rather than float values where either would do."""

from __future__ import annotations

from typing import Any

from torch import fx

from dualpix.quantize.graph.nodes import (
    ATEN,
    CODES,
    DEQUANTISE,
    QUANTISE,
    Maker,
    argument,
    attribute,
    calls,
    cleaned,
    derived_name,
    describe,
    is_call,
    is_constant,
    shape_of,
    value_of,
)
from dualpix.quantize.graph.resizing import is_exact, resize_by_products
from dualpix.quantize.graph.scales import harmonise_scales, limit_requantisation, quantiser_before

_RESIZES = ("upsample_bilinear2d", "upsample_nearest2d", "_upsample_bilinear2d_aa")
"""That XNNPACK or the runtime's own kernels do well."""
_MOST_ENTRIES = 1 << 18
"""Of a matrix in the file: 1 MiB."""

_REORDERING = ("aten.permute", "aten.transpose", "aten.view", "aten.reshape", "aten.flatten")
"""Movement of one tensor as a whole, which costs a quarter in int8."""


def tidy_for_xnnpack(graph_module: fx.GraphModule) -> fx.GraphModule:
    """All rewrites of a graph that is to be lowered, quantised or not; changes and returns it."""
    describe(graph_module)
    constant_products_as_linear(graph_module)
    share_quantised_sums(graph_module)
    join_codes(graph_module)
    move_codes(graph_module)
    resize_by_products(graph_module, lambda node: not is_exact(node, _RESIZES), _MOST_ENTRIES)
    return _with_own_dequantisers(graph_module)


def _with_own_dequantisers(graph_module: fx.GraphModule) -> fx.GraphModule:
    """A dequantise node for each reader: the partitioner marks them as part of the operator that reads them, and a
    second, float reader would take the codes for values (``Failed to create cat node``)."""
    graph = graph_module.graph
    for node in list(graph.nodes):
        quantiser = quantiser_before(node)
        if quantiser is not None:
            for user in list(node.users)[1:]:
                user.replace_input_with(node, _restored(graph, quantiser))
    return cleaned(graph_module)


def constant_products_as_linear(graph_module: fx.GraphModule) -> int:
    """Rewrite a batched product with one constant matrix for the whole batch to a linear layer; changes the graph.

    Reason: expanding the constant stays outside the delegate, and the batched product reads it once per batch entry.
    On the int8 graph: before quantisation the linear layer would become int8, and its inputs are often weights of an
    attention. Sums and differences with the expanded constant take the constant itself.

    Returns:
        How many products were rewritten.
    """
    graph, changed = graph_module.graph, 0
    for node in [*calls(graph, ATEN.add.Tensor), *calls(graph, ATEN.sub.Tensor)]:
        left, right = argument(node, "self"), argument(node, "other")
        if is_call(right, "aten.expand.") and isinstance(left, fx.Node) and shape_of(left) == shape_of(node):
            node.args = (left, right.args[0], *node.args[2:])
    for node in calls(graph, ATEN.bmm.default):
        expand = argument(node, "mat2")
        if not is_call(expand, "aten.expand.") or not is_constant(expand.args[0]):
            continue
        source: Any = expand.args[0]
        value = value_of(graph_module, source)
        if value.dim() != 3 or value.shape[0] != 1:
            continue
        with graph.inserting_before(node):
            rows = attribute(graph_module, derived_name("rows", source), source, value[0].detach().T.contiguous())
            linear = Maker(graph, node)(ATEN.linear.default, node.args[0], rows)
        node.replace_all_uses_with(linear)
        changed += 1
    cleaned(graph_module)
    return changed


def share_quantised_sums(graph_module: fx.GraphModule) -> int:
    """Let every reader of an int8 sum read it in int8; changes the graph.

    Reason: a residual sum that one convolution reads in int8 and something else in float is computed in float, four
    times slower, and converted. Its error is that of one more rounding to the same grid.

    Returns:
        How many sums became int8.
    """
    graph, changed = graph_module.graph, 0
    for node in calls(graph, ATEN.add.Tensor):
        quantisers = [u for u in node.users if is_call(u, QUANTISE)]
        others = [u for u in node.users if not is_call(u, QUANTISE)]
        if len(quantisers) != 1 or not others or not all(is_call(x, DEQUANTISE) for x in node.all_input_nodes):
            continue
        node.append(quantisers[0])  # before every reader of the sum
        for user in others:
            user.replace_input_with(node, _restored(graph, quantisers[0]))
        changed += 1
    cleaned(graph_module)
    return changed


def join_codes(graph_module: fx.GraphModule) -> int:
    """Concatenate int8 codes rather than float values that become int8 after it; changes the graph.

    The inputs take the grid of the result, and those that have a grid already share one with it; see
    :func:`harmonise_scales`.

    Returns:
        How many concatenations became int8.
    """
    graph, changed = graph_module.graph, 0
    for node in calls(graph, ATEN.cat.default):
        grids = {str(u.args[1:]) for u in node.users if is_call(u, QUANTISE)}
        floats = [x for x in node.all_input_nodes if not is_call(x, DEQUANTISE)]
        if len(grids) != 1 or not floats or not all(is_call(u, QUANTISE) for u in node.users):
            continue
        for x in floats:
            _round_before(graph, node, x, next(iter(node.users)))
        changed += 1
    cleaned(graph_module)
    while harmonise_scales(graph_module) + limit_requantisation(graph_module):
        continue
    return changed


def move_codes(graph_module: fx.GraphModule) -> int:
    """Reorder and pad int8 codes rather than the float values they stand for; changes the graph, not what it computes.

    Reasons: reordering costs a quarter. Padding with zeros that reads int8 and is read in float does not load (``Failed
    to create StaticConstantPad node``): a pass of executorch makes its output int8 and leaves its input float.

    Returns:
        How many movements became int8.
    """
    graph, changed = graph_module.graph, 0
    for node in list(graph.nodes):  # read int8, written float: quantise behind it
        source = _padded(node) or _reordered(node)
        quantiser = quantiser_before(source) if source is not None else None
        if quantiser is None or any(is_call(u, QUANTISE) for u in node.users):
            continue
        users = list(node.users)
        with graph.inserting_after(node):
            codes = graph.call_function(quantiser.target, (node, *quantiser.args[1:]), dict(quantiser.kwargs))  # type: ignore[arg-type]
        codes.meta = dict(node.meta)
        for user in users:
            user.replace_input_with(node, _restored(graph, codes))
        changed += 1
    for node in reversed(list(graph.nodes)):  # read float, written int8: quantise before it
        source = _reordered(node)
        if source is None or is_call(source, DEQUANTISE) or len(node.users) != 1:
            continue
        user = next(iter(node.users))
        if is_call(user, QUANTISE) and len(source.users) == 1:
            _round_before(graph, node, source, user)
            changed += 1
    cleaned(graph_module)
    return changed


def _reordered(node: fx.Node) -> fx.Node | None:
    """What ``node`` reorders, if it does only that."""
    if node.op != "call_function" or not str(node.target).startswith(_REORDERING) or len(node.all_input_nodes) != 1:
        return None
    return node.all_input_nodes[0]


def _padded(node: fx.Node) -> fx.Node | None:
    """What ``node`` pads with zeros, if it does that."""
    if not (is_call(node, "aten.pad.") or is_call(node, "aten.constant_pad_nd.")):
        return None
    mode = argument(node, "mode") if is_call(node, "aten.pad.") else "constant"
    source: fx.Node = argument(node, "self")
    return source if mode == "constant" and not argument(node, "value") else None


def _restored(graph: fx.Graph, quantiser: fx.Node) -> fx.Node:
    """A dequantise node of its own behind ``quantiser``: the partitioner marks them by what reads them."""
    dequantise = CODES.dequantize_per_tensor.default
    with graph.inserting_after(quantiser):
        node = graph.call_function(dequantise, (quantiser, *quantiser.args[1:]))
    node.meta = dict(quantiser.meta)
    return node


def _round_before(graph: fx.Graph, node: fx.Node, source: fx.Node, like: fx.Node) -> None:
    """Let ``node`` read ``source`` rounded to the grid of the quantise node ``like``."""
    with graph.inserting_before(node):
        codes = graph.call_function(like.target, (source, *like.args[1:]))  # type: ignore[arg-type]
    codes.meta = dict(source.meta)
    node.replace_input_with(source, _restored(graph, codes))
