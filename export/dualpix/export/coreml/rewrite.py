"""A graph as coremltools converts it right.

coremltools 9.0 converts some operators to others without an error (a factor, a threshold, an antialiasing filter is
dropped), and refuses many that torch itself can spell out. Both are rewritten here; the sweep of the tests runs every
operator through the converter and compares.
"""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import fx
from torch.export import ExportedProgram

from dualpix.export.rewrites import Rewrite, rewrite_each, spell_out_hypotenuse, spell_out_spread
from dualpix.quantize.calibration import Inputs
from dualpix.quantize.graph.nodes import ATEN, Maker, argument, attribute, cleaned, is_call, is_constant, shape_of
from dualpix.quantize.graph.ranks import limit_rank
from dualpix.quantize.graph.resizing import is_exact, resize_by_products
from dualpix.quantize.graph.scales import quantiser_before

MOST_AXES = 5
"""Of a Core ML tensor."""
_RESIZES = ("upsample_linear1d", "upsample_bilinear2d", "upsample_nearest1d", "upsample_nearest2d")
_MOST_ENTRIES = 1 << 24
_SOFTPLUS_EXACT = 15.0
"""From here on log(1 + exp(x)) is x in float32."""

_CONVOLUTIONS = ("aten.conv1d.", "aten.conv2d.", "aten.conv3d.", "aten.conv_transpose", "aten.convolution.")
_FOLDED = tuple(f"aten.{name}." for name in ("add", "sub", "mul", "div", "neg"))

_TAKEN_FOR_MEAN, _TAKEN_FOR_COUNT = 2e-6, 2e-2
"""Twice the tolerances of coremltools' pass ``fuse_reduce_mean``."""

_SPELT_OUT = (
    "addcdiv.default", "addcmul.default", "addr.default", "affine_grid_generator.default", "celu.default",
    "channel_shuffle.default", "cosine_similarity.default", "cross.default", "diff.default", "hardshrink.default",
    "heaviside.default", "kron.default", "linalg_cross.default",
    "logaddexp.default", "norm.ScalarOpt_dim", "pairwise_distance.default", "prelu.default", "_prelu_kernel.default",
    "rms_norm.default", "_fused_rms_norm.default", "rot90.default", "softshrink.default",
    "take_along_dim.default",
    "where.Scalar", "where.ScalarOther", "where.ScalarSelf", "__and__.Tensor",
    "__or__.Tensor",
)  # fmt: skip
"""Operators that the converter refuses and torch decomposes into ones that it knows."""


def exported_for_coreml(graph_module: fx.GraphModule, inputs: Inputs) -> ExportedProgram:
    """A float or quantised graph, rewritten (in place) and exported in the form that coremltools converts."""
    rewrite_for_coreml(graph_module)
    table: Any = torch.export.default_decompositions()
    known = [_operator(name) for name in _SPELT_OUT]
    exported: ExportedProgram = torch.export.export(graph_module, inputs)
    decomposed: ExportedProgram = exported.run_decompositions({op: table[op] for op in known if op in table})
    return decomposed


def _operator(name: str) -> Any:
    packet, _, overload = name.partition(".")
    return getattr(getattr(ATEN, packet), overload)


def rewrite_for_coreml(graph_module: fx.GraphModule) -> fx.GraphModule:
    """All rewrites, none of which changes what the graph computes; changes and returns the graph."""
    limit_rank(graph_module, MOST_AXES)
    resize_by_products(graph_module, lambda node: not is_exact(node, _RESIZES), _MOST_ENTRIES)
    return rewrite_each(graph_module, _REWRITES)


def leave_output_float(graph_module: fx.GraphModule) -> None:
    """Give the output as the last layer computes it, not rounded to int8; changes the graph.

    XNNPACK's int8 layers give int8 and nothing else; Core ML's do not have to, and a depth of 20 m with a relief of
    centimetres keeps the relief.
    """
    graph = graph_module.graph
    (output,) = (n for n in graph.nodes if n.op == "output")
    for restored in list(output.all_input_nodes):
        codes = quantiser_before(restored)
        if codes is not None:
            output.replace_input_with(restored, codes.args[0])
    cleaned(graph_module)


def _one(graph_module: fx.GraphModule, node: fx.Node) -> fx.Node:
    dtype = node.meta["val"].dtype
    name = f"_one_{str(dtype).removeprefix('torch.')}"
    return attribute(graph_module, name, node, torch.ones((), dtype=dtype))


def _reciprocal(graph_module: fx.GraphModule, node: fx.Node, make: Maker) -> fx.Node:
    """The converter's ``inverse`` adds 1e-4 to its operand."""
    if _becomes_convolution(node.args[0]):
        return _inverse_of_convolution(node.args[0], make)
    return make(ATEN.div.Tensor, _one(graph_module, node), node.args[0])


def _becomes_convolution(node: Any) -> bool:
    """Whether a value is a convolution's, or will be once constants around it are folded into its weights."""
    if is_call(node, _CONVOLUTIONS):
        return True
    others = [n for n in node.all_input_nodes if not is_constant(n)] if is_call(node, _FOLDED) else []
    return len(others) == 1 and _becomes_convolution(others[0])


def _inverse_of_convolution(x: Any, make: Maker) -> fx.Node:
    """coremltools 9.0 makes ``x / c`` of ``c / x`` where x is a convolution and c constant (``fuse_conv_scale``); these
    ones depend on x, so that it leaves them alone.
    """
    return make(ATEN.div.Tensor, make(ATEN.ones_like.default, x), x)


def _quotient(graph_module: fx.GraphModule, node: fx.Node, make: Maker) -> fx.Node | None:
    """A constant over a convolution, see :func:`_inverse_of_convolution`; a sum over a number."""
    given, divisor = argument(node, "self"), argument(node, "other")
    if is_constant(given) and _becomes_convolution(divisor):
        return make(ATEN.mul.Tensor, _inverse_of_convolution(divisor, make), given)
    return _scaled_sum(graph_module, node, make)


def _reciprocal_root(graph_module: fx.GraphModule, node: fx.Node, make: Maker) -> fx.Node:
    """The converter's ``rsqrt`` adds 1e-12."""
    return make(ATEN.div.Tensor, _one(graph_module, node), make(ATEN.sqrt.default, node.args[0]))


def _softplus(graph_module: fx.GraphModule, node: fx.Node, make: Maker) -> fx.Node | None:
    """The threshold above which softplus is the identity is dropped."""
    threshold, beta = float(argument(node, "threshold")), argument(node, "beta")
    if threshold >= _SOFTPLUS_EXACT:
        return None
    above = make(ATEN.gt.Scalar, make(ATEN.mul.Tensor, node.args[0], beta), threshold)
    return make(ATEN.where.self, above, node.args[0], make(ATEN.softplus.default, node.args[0], beta))


def _max_pool(graph_module: fx.GraphModule, node: fx.Node, make: Maker) -> fx.Node | None:
    """The converter asks for the stride."""
    stride = argument(node, "stride") or argument(node, "kernel_size")
    names = ("padding", "dilation", "ceil_mode")
    node.args = (node.args[0], argument(node, "kernel_size"), stride, *(argument(node, name) for name in names))
    node.kwargs = {}
    return None


def _average_pool(graph_module: fx.GraphModule, node: fx.Node, make: Maker) -> fx.Node | None:
    """Another divisor than the kernel's size is refused."""
    divisor = argument(node, "divisor_override")
    kernel = [int(k) for k in argument(node, "kernel_size")]
    if divisor is None or argument(node, "ceil_mode"):
        return None
    kernel = kernel * 2 if len(kernel) == 1 else kernel
    options = [argument(node, name) for name in ("stride", "padding")]
    mean = make(ATEN.avg_pool2d.default, node.args[0], kernel, *options, False, True)
    return make(ATEN.mul.Tensor, mean, math.prod(kernel) / divisor)


def _scaled_sum(graph_module: fx.GraphModule, node: fx.Node, make: Maker) -> fx.Node | None:
    """A sum times a small factor is taken for a mean where the factor is within 1e-6 of 1 / count, whatever 1 / count:
    a sum over a million pixels times 1e-7 comes out ten times too large. Over a divisor, within 0.01 of count.
    """
    total, factor = argument(node, "self"), argument(node, "other")
    if not is_call(total, "aten.sum.dim_IntList") or not isinstance(factor, int | float) or not factor:
        return None
    count = math.prod(shape_of(total.args[0])) / math.prod(shape_of(total))
    factor = factor if node.target is ATEN.mul.Tensor else 1.0 / factor
    if abs(factor - 1.0 / count) >= _TAKEN_FOR_MEAN and abs(1.0 / factor - count) >= _TAKEN_FOR_COUNT:
        return None
    mean = make(ATEN.mean.dim, total.args[0], argument(total, "dim"), argument(total, "keepdim"))
    return make(ATEN.mul.Tensor, mean, factor * count)


def _log_of_logistic(graph_module: fx.GraphModule, node: fx.Node, make: Maker) -> fx.Node:
    return make(ATEN.neg.default, make(ATEN.softplus.default, make(ATEN.neg.default, node.args[0])))


def _filled(graph_module: fx.GraphModule, node: fx.Node, make: Maker) -> fx.Node:
    kind = str(node.target)
    value = argument(node, "fill_value") if "full" in kind else float("ones" in kind)
    return make(ATEN.full.default, list(shape_of(node)), value, dtype=node.meta["val"].dtype)


def _truncated(graph_module: fx.GraphModule, node: fx.Node, make: Maker) -> fx.Node:
    return _trunc(make, node.args[0])


def _trunc(make: Maker, x: Any) -> fx.Node:
    return make(ATEN.mul.Tensor, make(ATEN.sign.default, x), make(ATEN.floor.default, make(ATEN.abs.default, x)))


def _fmod(graph_module: fx.GraphModule, node: fx.Node, make: Maker) -> fx.Node:
    x, divisor = argument(node, "self"), argument(node, "other")
    whole = make(ATEN.mul.Tensor, _trunc(make, make(ATEN.div.Tensor, x, divisor)), divisor)
    return make(ATEN.sub.Tensor, x, whole)


def _vector_product(graph_module: fx.GraphModule, node: fx.Node, make: Maker) -> fx.Node | None:
    """A matrix times a vector is refused."""
    left, right = argument(node, "self"), argument(node, "other")
    if len(shape_of(right)) != 1 or len(shape_of(left)) < 2:
        return None
    column = make(ATEN.reshape.default, right, [-1, 1])
    return make(ATEN.reshape.default, make(ATEN.matmul.default, left, column), list(shape_of(node)))


_REWRITES: dict[Any, Rewrite] = {
    ATEN.mul.Tensor: _scaled_sum,
    ATEN.div.Tensor: _quotient,
    ATEN.reciprocal.default: _reciprocal,
    ATEN.rsqrt.default: _reciprocal_root,
    ATEN.softplus.default: _softplus,
    ATEN.max_pool1d.default: _max_pool,
    ATEN.max_pool2d.default: _max_pool,
    ATEN.max_pool3d.default: _max_pool,
    ATEN.max_pool2d_with_indices.default: _max_pool,
    ATEN.avg_pool2d.default: _average_pool,
    ATEN.log_sigmoid.default: _log_of_logistic,
    **dict.fromkeys((ATEN.new_ones.default, ATEN.new_zeros.default, ATEN.new_full.default), _filled),
    **{
        getattr(getattr(ATEN, kind), overload): spell_out_spread
        for kind in ("var", "std", "var_mean", "std_mean")
        for overload in ("default", "dim", "correction")
    },
    ATEN.trunc.default: _truncated,
    ATEN.fmod.Scalar: _fmod,
    ATEN.fmod.Tensor: _fmod,
    ATEN.hypot.default: spell_out_hypotenuse,
    ATEN.matmul.default: _vector_product,
}
