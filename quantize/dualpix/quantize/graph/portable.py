"""The float graph that every backend starts from, in operators that all of them understand alike."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import fx, nn

from dualpix.quantize.calibration import Inputs
from dualpix.quantize.graph.batch_norm import fold_batch_norm_graph
from dualpix.quantize.graph.capture import captured
from dualpix.quantize.graph.nodes import ATEN, Maker, argument, calls, cleaned, is_call, shape_of


def float_graph(module: nn.Module, inputs: Inputs) -> fx.GraphModule:
    """``module`` in eval mode as a graph that computes the same, without side effects and with batch norms folded.

    Args:
        module: any network, or a graph; it is unchanged.
        inputs: one input of the size that the graph will take.

    Raises:
        DualpixError: the module cannot be copied, or what it gives depends on a buffer that it changes.
    """
    graph_module = captured(module, inputs)
    spell_out_padding(graph_module)
    give_batch_axis(graph_module)
    fold_batch_norm_graph(graph_module)
    spell_out_factors(graph_module)
    return cleaned(graph_module)


# ---------------------------------------------------------------------------------------------------------------------
# factors


def spell_out_factors(graph_module: fx.GraphModule) -> int:
    """Rewrite operators with a factor inside (``add(x, y, alpha=0.1)``), and others that backends know only by
    parts, to what they are; changes the graph.

    Reason: coremltools 9.0 drops the factor of ``add``, ``sub`` and ``rsub`` without an error, and XNNPACK leaves such
    an operator outside the delegate. Both compute GELU by the error function where its approximation by tanh is asked
    for.

    Returns:
        How many were rewritten.
    """
    graph, changed = graph_module.graph, 0
    for node in calls(graph, *_FACTORED):
        with graph.inserting_before(node):
            result = _FACTORED[node.target](node, Maker(graph, node))
        if result is not None:
            node.replace_all_uses_with(result)
            changed += 1
    cleaned(graph_module)
    return changed


def _times(make: Maker, value: Any, factor: Any) -> Any:
    if factor == 1:
        return value
    return make(ATEN.mul.Tensor, value, factor) if isinstance(value, fx.Node) else value * factor


def _sum(node: fx.Node, make: Maker) -> fx.Node | None:
    if argument(node, "alpha") == 1:
        return None
    return make(node.target, argument(node, "self"), _times(make, argument(node, "other"), argument(node, "alpha")))


def _reversed_difference(node: fx.Node, make: Maker) -> fx.Node | None:
    taken, other = _times(make, argument(node, "self"), argument(node, "alpha")), argument(node, "other")
    if isinstance(other, fx.Node):
        return make(ATEN.sub.Tensor, other, taken)
    return make(ATEN.add.Tensor, make(ATEN.mul.Tensor, taken, -1.0), other)


def _added_product(node: fx.Node, make: Maker) -> fx.Node | None:
    operation = ATEN.mul.Tensor if node.target is ATEN.addcmul.default else ATEN.div.Tensor
    product = make(operation, argument(node, "tensor1"), argument(node, "tensor2"))
    return make(ATEN.add.Tensor, argument(node, "self"), _times(make, product, argument(node, "value")))


_PRODUCTS = {
    ATEN.addmm.default: (ATEN.mm.default, ("mat1", "mat2")),
    ATEN.baddbmm.default: (ATEN.bmm.default, ("batch1", "batch2")),
    ATEN.addbmm.default: (ATEN.bmm.default, ("batch1", "batch2")),
    ATEN.addmv.default: (ATEN.mv.default, ("mat", "vec")),
}


def _added_matrix_product(node: fx.Node, make: Maker) -> fx.Node | None:
    alpha, beta = argument(node, "alpha"), argument(node, "beta")
    if alpha == beta == 1 and node.target is ATEN.addmm.default:  # a linear layer, as the backends know it
        return None
    operation, names = _PRODUCTS[node.target]
    product = make(operation, *(argument(node, name) for name in names))
    if node.target is ATEN.addbmm.default:
        product = make(ATEN.sum.dim_IntList, product, [0])
    product = _times(make, product, alpha)
    return product if beta == 0 else make(ATEN.add.Tensor, product, _times(make, argument(node, "self"), beta))


def _between(node: fx.Node, make: Maker) -> fx.Node:
    start, end = argument(node, "self"), argument(node, "end")
    return make(
        ATEN.add.Tensor, start, make(ATEN.mul.Tensor, make(ATEN.sub.Tensor, end, start), argument(node, "weight"))
    )


def _smooth_gate(node: fx.Node, make: Maker) -> fx.Node | None:
    """GELU by tanh, as a logistic function of twice its argument."""
    if argument(node, "approximate") != "tanh":
        return None
    x = argument(node, "self")
    cube = make(ATEN.mul.Tensor, make(ATEN.mul.Tensor, x, x), 0.044715)
    inner = make(ATEN.mul.Tensor, make(ATEN.add.Tensor, cube, 1.0), x)
    gate = make(ATEN.sigmoid.default, make(ATEN.mul.Tensor, inner, math.sqrt(8.0 / math.pi)))
    return make(ATEN.mul.Tensor, x, gate)


def _cropped(node: fx.Node, make: Maker) -> fx.Node | None:
    """Padding by less than nothing is a slice, which is what backends know it by."""
    pads, x = [int(p) for p in argument(node, "pad")], node.args[0]
    if min(pads, default=0) >= 0:
        return None
    shape = shape_of(x)
    for k in range(len(pads) // 2):
        axis, (before, after) = len(shape) - 1 - k, pads[2 * k : 2 * k + 2]
        if min(before, after) < 0:
            x = make(ATEN.slice.Tensor, x, axis, max(-before, 0), shape[axis] + min(after, 0))
    left = [max(p, 0) for p in pads]
    options = node.args[2:] if node.target is ATEN.pad.default else ("constant", argument(node, "value"))
    return make(ATEN.pad.default, x, left, *options) if any(left) else x  # type: ignore[return-value]


_FACTORED: dict[Any, Any] = {
    ATEN.pad.default: _cropped,
    ATEN.constant_pad_nd.default: _cropped,
    ATEN.gelu.default: _smooth_gate,
    ATEN.lerp.Scalar: _between,
    ATEN.lerp.Tensor: _between,
    ATEN.add.Tensor: _sum,
    ATEN.sub.Tensor: _sum,
    ATEN.rsub.Tensor: _reversed_difference,
    ATEN.rsub.Scalar: _reversed_difference,
    ATEN.addcmul.default: _added_product,
    ATEN.addcdiv.default: _added_product,
    **dict.fromkeys(_PRODUCTS, _added_matrix_product),
}


# ---------------------------------------------------------------------------------------------------------------------
# padding

_PADDED = {
    ATEN.conv1d.padding: ATEN.conv1d.default,
    ATEN.conv2d.padding: ATEN.conv2d.default,
    ATEN.conv3d.padding: ATEN.conv3d.default,
}


def spell_out_padding(graph_module: fx.GraphModule) -> int:
    """Rewrite convolutions with ``padding="same"`` to such with numbers; changes the graph.

    Reason: the quantizer knows only the latter and would leave them float without a word.

    Returns:
        How many were rewritten.
    """
    graph, changed = graph_module.graph, 0
    for node in calls(graph, *_PADDED):
        axes = len(shape_of(argument(node, "weight"))) - 2
        kernel = shape_of(argument(node, "weight"))[2:]
        dilation = [int(d) for d in argument(node, "dilation")]
        dilation = dilation * axes if len(dilation) == 1 else dilation
        same = argument(node, "padding") == "same"
        total = [d * (k - 1) if same else 0 for d, k in zip(dilation, kernel, strict=True)]
        source = argument(node, "input")
        with graph.inserting_before(node):
            make = Maker(graph, node)
            if any(t % 2 for t in total):  # the odd one goes behind
                pads = [p for t in reversed(total) for p in (0, t % 2)]
                source = make(ATEN.pad.default, source, pads)
            rest = [argument(node, name) for name in ("weight", "bias", "stride")]
            padding = [t // 2 for t in total]
            y = make(_PADDED[node.target], source, *rest, padding, dilation, argument(node, "groups"))
        node.replace_all_uses_with(y)
        changed += 1
    cleaned(graph_module)
    return changed


# ---------------------------------------------------------------------------------------------------------------------
# the batch axis

_SPATIAL_AXES = {
    **{f"aten.{kind}{axes}d.": axes for axes in (1, 2, 3) for kind in ("conv", "conv_transpose")},
    "aten.im2col.": 2,
    **{f"aten.{kind}_pool{axes}d.": axes for axes in (1, 2, 3) for kind in ("max", "avg", "adaptive_avg")},
}
"""Operators that torch also takes without a batch axis, with their spatial axes."""


def give_batch_axis(graph_module: fx.GraphModule) -> int:
    """Let convolutions and poolings of (C, H, W) work on (1, C, H, W); changes the graph.

    Reason: torch takes both, backends only the latter. Elementwise operators between two of them keep the axis, so that
    a convolution and its activation stay neighbours.

    Returns:
        How many operators got the axis.
    """
    lift = _Lift(graph_module.graph)
    for node in list(graph_module.graph.nodes):
        if node.op == "call_function" and isinstance(node.meta.get("val"), torch.Tensor):
            lift.visit(node)
    cleaned(graph_module)
    return lift.changed


class _Lift:
    def __init__(self, graph: fx.Graph) -> None:
        self._graph, self.changed = graph, 0
        self._lifted: dict[fx.Node, fx.Node] = {}
        """Value without the axis -> with it."""

    def visit(self, node: fx.Node) -> None:
        axes = next((axes for name, axes in _SPATIAL_AXES.items() if is_call(node, name)), None)
        source: Any = node.args[0]
        if axes is not None and len(shape_of(source)) == axes + 1:
            self._replace(node, (self._with_axis(source), *node.args[1:]))
            self.changed += 1
        elif is_call(node, "aten.unsqueeze.") and node.args[1] == 0 and source in self._lifted:
            node.replace_all_uses_with(self._lifted[source])
        elif is_call(node, "aten.cat.") and all(x in self._lifted for x in source):
            axis = int(argument(node, "dim"))
            self._replace(node, ([self._lifted[x] for x in source], axis + 1 if axis >= 0 else axis))
        elif torch.Tag.pointwise in getattr(node.target, "tags", ()) and self._carries(node):
            # whatever else it reads has no more axes, and is broadcast from the last one
            self._replace(node, fx.map_arg(node.args, lambda n: self._lifted.get(n, n)))

    def _carries(self, node: fx.Node) -> bool:
        rank = len(shape_of(node))
        return any(x in self._lifted and len(shape_of(x)) == rank for x in node.all_input_nodes)

    def _with_axis(self, source: fx.Node) -> fx.Node:
        if source not in self._lifted:
            with self._graph.inserting_after(source):
                self._lifted[source] = Maker(self._graph, source)(ATEN.reshape.default, source, [1, *shape_of(source)])
        return self._lifted[source]

    def _replace(self, node: fx.Node, arguments: Any) -> None:
        with self._graph.inserting_before(node):
            make = Maker(self._graph, node)
            lifted = make(node.target, *arguments, **node.kwargs)
            plain = make(ATEN.reshape.default, lifted, list(shape_of(node)))
        node.replace_all_uses_with(plain)
        self._lifted[plain] = lifted
