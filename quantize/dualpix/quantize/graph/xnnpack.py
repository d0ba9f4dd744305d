"""Operators that XNNPACK computes wrongly or slowly, on the float graph."""

from __future__ import annotations

from collections.abc import Callable, Hashable

import torch
from torch import fx

from dualpix.quantize.graph.narrow import join_narrow_convolutions, widen_narrow_convolutions
from dualpix.quantize.graph.nodes import ATEN, Maker, argument, attribute, calls, cleaned, is_call, shape_of
from dualpix.quantize.graph.ranks import limit_rank
from dualpix.quantize.graph.volumes import volumes_as_pictures

MOST_AXES = 6
"""Of a tensor that XNNPACK holds."""


def rewrite_for_xnnpack(
    graph_module: fx.GraphModule, kind: Callable[[fx.Node], Hashable] = lambda node: None
) -> fx.GraphModule:
    """All rewrites of the float graph, none of which changes what it computes; changes and returns the graph.

    Args:
        graph_module: of :func:`~.portable.float_graph`.
        kind: convolutions of different kinds (one to be quantised, the other not) are not joined.
    """
    reshapes_by_name(graph_module)
    extremes_in_place(graph_module)
    volumes_as_pictures(graph_module)
    patches_as_slices(graph_module)
    limit_rank(graph_module, MOST_AXES)
    attention_as_products(graph_module)
    softmax_on_three_axes(graph_module)
    layer_norm_in_float32(graph_module)
    join_narrow_convolutions(graph_module, kind)
    widen_narrow_convolutions(graph_module)
    return graph_module


def reshapes_by_name(graph_module: fx.GraphModule) -> None:
    """Call every change of shape a reshape; changes the graph.

    Reason: XNNPACK takes ``squeeze`` and ``unsqueeze`` of the last axis alone, reshapes of any.
    """
    for node in graph_module.graph.nodes:
        if is_call(node, ("aten.squeeze.", "aten.unsqueeze.", "aten.flatten.", "aten.unflatten.")):
            node.target, node.kwargs = ATEN.reshape.default, {}
            node.args = (node.args[0], list(shape_of(node)))
    graph_module.recompile()


def extremes_in_place(graph_module: fx.GraphModule) -> int:
    """Rewrite the largest or least value along an axis, without its position, to keep the axis; changes the graph.

    Reason: the partitioner takes the others too, and the lowering then fails (``only supports keep_dim == True``).

    Returns:
        How many were rewritten.
    """
    graph, changed = graph_module.graph, 0
    for node in calls(graph, *_EXTREMES):
        readers = [node] if node.target in (ATEN.amax.default, ATEN.amin.default) else list(node.users)
        if any(r is not node and r.args[1] != 0 for r in readers) or (readers == [node] and argument(node, "keepdim")):
            continue
        axes = argument(node, "dim")
        with graph.inserting_before(node):
            make = Maker(graph, node)
            kept = make(_EXTREMES[node.target], node.args[0], [axes] if isinstance(axes, int) else axes, True)
        for reader in readers:
            with graph.inserting_before(reader):
                reader.replace_all_uses_with(make(ATEN.reshape.default, kept, list(shape_of(reader))))
        changed += 1
    cleaned(graph_module)
    return changed


_EXTREMES = {
    ATEN.max.dim: ATEN.amax.default,
    ATEN.min.dim: ATEN.amin.default,
    ATEN.amax.default: ATEN.amax.default,
    ATEN.amin.default: ATEN.amin.default,
}


def patches_as_slices(graph_module: fx.GraphModule) -> int:
    """Rewrite ``unfold`` to padding and slices; changes the graph.

    Reason: its decomposition gathers by computed indices outside the delegate, thirty times slower than torch, and
    beside int8 the file does not load.

    Returns:
        How many were rewritten.
    """
    graph, changed = graph_module.graph, 0
    for node in calls(graph, ATEN.im2col.default):
        source, (high, wide) = argument(node, "self"), argument(node, "kernel_size")
        (dy, dx), (py, px), (sy, sx) = (argument(node, name) for name in ("dilation", "padding", "stride"))
        batch, channels, height, width = shape_of(source)
        rows = (height + 2 * py - dy * (high - 1) - 1) // sy + 1
        columns = (width + 2 * px - dx * (wide - 1) - 1) // sx + 1
        with graph.inserting_before(node):
            make = Maker(graph, node)
            x = make(ATEN.pad.default, source, [px, px, py, py]) if py or px else source
            bands = [make(ATEN.slice.Tensor, x, 2, i * dy, i * dy + (rows - 1) * sy + 1, sy) for i in range(high)]
            starts = [j * dx for j in range(wide)]
            parts = [make(ATEN.slice.Tensor, b, 3, s, s + (columns - 1) * sx + 1, sx) for b in bands for s in starts]
            parts = [make(ATEN.reshape.default, p, [batch, channels, 1, rows * columns]) for p in parts]
            y = make(ATEN.cat.default, parts, 2) if len(parts) > 1 else parts[0]
            y = make(ATEN.reshape.default, y, list(shape_of(node)))
        node.replace_all_uses_with(y)
        changed += 1
    cleaned(graph_module)
    return changed


def softmax_on_three_axes(graph_module: fx.GraphModule) -> int:
    """Rewrite softmax on other than the last of three axes to (1, rows, values); changes the graph.

    Reason: XNNPACK takes the softmax of the innermost axis in memory. Beside a convolution a 4-D tensor lies in
    channels-last order, and the result is that of another axis: no error, 8 to 20 dB of signal left, in float32 too.
    A softmax over another axis than the last is not delegated at all.

    Returns:
        How many were rewritten.
    """
    graph, changed = graph_module.graph, 0
    for node in calls(graph, ATEN.softmax.int, ATEN._softmax.default):
        shape = list(shape_of(node))
        rank, axis = len(shape), int(argument(node, "dim")) % len(shape)
        if rank < 3 or (rank == 3 and axis == 2):
            continue
        order = [i for i in range(rank) if i != axis] + [axis]
        back = [order.index(i) for i in range(rank)]
        with graph.inserting_before(node):
            make = Maker(graph, node)
            x = node.args[0] if axis == rank - 1 else make(ATEN.permute.default, node.args[0], order)
            x = make(ATEN.reshape.default, x, [1, -1, shape[axis]])
            x = make(node.target, x, 2, *node.args[2:], **node.kwargs)
            x = make(ATEN.reshape.default, x, [shape[i] for i in order])
            x = x if axis == rank - 1 else make(ATEN.permute.default, x, back)
        node.replace_all_uses_with(x)
        changed += 1
    cleaned(graph_module)
    return changed


def layer_norm_in_float32(graph_module: fx.GraphModule) -> int:
    """Let a float16 layer norm compute in float32; changes the graph.

    Reason: XNNPACK does not take it, and the runtime's own kernel adds a row up in float16: of 384 values 3 dB of
    signal are left, without an error (of 64 values all of it).

    Returns:
        How many were rewritten.
    """
    graph, changed = graph_module.graph, 0
    for node in calls(graph, ATEN.layer_norm.default):
        if node.meta["val"].dtype != torch.float16:
            continue
        with graph.inserting_before(node):
            node.args = tuple(
                graph.call_function(ATEN.to.dtype, (x, torch.float32)) if isinstance(x, fx.Node) else x
                for x in node.args
            )
        with graph.inserting_after(node):
            half = graph.call_function(ATEN.to.dtype, (node, torch.float16))
        half.meta = dict(node.meta)
        node.replace_all_uses_with(half, lambda user, half=half: user is not half)  # type: ignore[misc]
        changed += 1
    cleaned(graph_module)
    return changed


def attention_as_products(graph_module: fx.GraphModule) -> int:
    """Rewrite ``scaled_dot_product_attention`` to two batched products on 3-D tensors; changes the graph.

    Reason: its own decomposition masks rows of minus infinity with operators that no delegate takes, which doubles the
    time of a vision transformer. Calls with a mask, with dropout, or causal ones are left alone.

    Returns:
        How many were rewritten.
    """
    graph, changed = graph_module.graph, 0
    for node in calls(graph, ATEN.scaled_dot_product_attention.default):
        query, key, value = (argument(node, name) for name in ("query", "key", "value"))
        shape, scale = list(shape_of(query)), argument(node, "scale")
        plain = all(argument(node, name) in (None, 0.0, False) for name in _SDPA_OPTIONS)
        if not plain or list(shape_of(key)[:-2]) != shape[:-2] or list(shape_of(value)[:-2]) != shape[:-2]:
            continue
        factor = torch.tensor(shape[-1] ** -0.5 if scale is None else float(scale), dtype=query.meta["val"].dtype)
        with graph.inserting_before(node):
            make = Maker(graph, node)
            q, k, v = (make(ATEN.reshape.default, x, [-1, *shape_of(x)[-2:]]) for x in (query, key, value))
            scores = make(ATEN.mul.Tensor, q, attribute(graph_module, f"_{node.name}_scale", query, factor))
            scores = make(ATEN.bmm.default, scores, make(ATEN.permute.default, k, [0, 2, 1]))
            products = make(ATEN.bmm.default, make(ATEN.softmax.int, scores, -1), v)
            out = make(ATEN.reshape.default, products, [*shape[:-1], shape_of(value)[-1]])
        node.replace_all_uses_with(out)
        graph.erase_node(node)  # dropout makes it look as if it had an effect: it would not be cleaned away
        changed += 1
    cleaned(graph_module)
    return changed


_SDPA_OPTIONS = ("attn_mask", "dropout_p", "is_causal")
