"""Compressed weights that float16 holds badly, times powers of two.

Core ML programs compute in float16, and scales of int8 weights and palettes are float16 as well: normal numbers begin
at 6.1e-5, and below that there are steps of 6e-8. A head that gives kilometres has weights of 1e-4 and so scales of
1e-6, rounded by up to 3 %: programs lose up to 15 dB to the unit. The weights of such a layer are multiplied by powers
of two, channel by channel, and its result by the inverses; both are exact.
"""

from __future__ import annotations

import torch
from torch import Tensor, fx

from dualpix.quantize.graph.nodes import (
    ATEN,
    Maker,
    argument,
    attribute,
    cleaned,
    derived_name,
    is_call,
    is_constant,
    shape_of,
    value_of,
)

_LAYERS = ("aten.conv1d.", "aten.conv2d.", "aten.conv3d.", "aten.linear.")
_RESTORED = "quantized_decomposed.dequantize_per_channel.default"
_CODES = 127.0
_SMALL = 2.0**-9
"""A channel whose largest weight is below it has an int8 scale that float16 rounds by more than 0.2 %."""
_WANTED = 2.0**-3
_MOST_BITS = 14
"""The inverse is a normal number of float16, too."""
_LARGEST_BIAS = 2.0**12


def lift_small_weights(graph_module: fx.GraphModule) -> int:
    """Multiply weights that are small for float16 and divide the layers' results; changes the graph.

    Args:
        graph_module: float, or int8 after ``convert_pt2e``.

    Returns:
        How many layers were changed.
    """
    layers = [n for n in graph_module.graph.nodes if is_call(n, _LAYERS)]
    changed = sum(_lift(graph_module, node) for node in layers)
    if changed:
        cleaned(graph_module)
    return changed


def _lift(graph_module: fx.GraphModule, node: fx.Node) -> bool:
    weight, bias = argument(node, "weight"), argument(node, "bias")
    restored = is_call(weight, _RESTORED) and weight.args[3] == 0
    held = weight.args[1] if restored else weight  # what has the unit of the weights: their scales, or they themselves
    shape = _shape_of_inverse(node)
    if not is_constant(held) or not (bias is None or is_constant(bias)) or shape is None:
        return False
    value = value_of(graph_module, held).detach()
    largest = value.abs().reshape(len(value), -1).amax(1) * (_CODES if restored else 1.0)
    offset = torch.zeros_like(largest) if bias is None else value_of(graph_module, bias).detach().abs().to(value.dtype)
    factor = torch.exp2(_bits(largest, offset))
    if (factor == 1.0).all():
        return False
    graph, name = graph_module.graph, derived_name("lifted", held, bias)
    with graph.inserting_before(weight if restored else node):
        own = attribute(graph_module, name, held, value * factor.reshape([-1] + [1] * (value.dim() - 1)))
    with graph.inserting_before(node):
        if restored:
            own = Maker(graph, weight)(weight.target, weight.args[0], own, *weight.args[2:])
        own_bias = bias
        if bias is not None:
            raised = value_of(graph_module, bias).detach() * factor.float()
            own_bias = attribute(graph_module, f"{name}_bias", bias, raised)
        make = Maker(graph, node)
        result = make(node.target, node.args[0], own, own_bias, *node.args[3:], **node.kwargs)
        spread = (1.0 / factor.float()).reshape([-1] + [1] * (len(shape) - 1)).expand(shape).contiguous()
        inverse = attribute(graph_module, derived_name("inverse", held, bias, *shape), result, spread)
        product = make(ATEN.mul.Tensor, result, inverse)
    node.replace_all_uses_with(product)
    return True


def _bits(largest: Tensor, offset: Tensor) -> Tensor:
    """By how many bits the weights of each channel are raised."""
    wanted = torch.floor(torch.log2(_WANTED / largest))
    allowed = torch.floor(torch.log2(_LARGEST_BIAS / offset))
    bits = torch.minimum(wanted, allowed).clamp(0, _MOST_BITS)
    return torch.where((largest > 0) & (largest < _SMALL), bits, torch.zeros_like(bits))


def _shape_of_inverse(node: fx.Node) -> tuple[int, ...] | None:
    """Of the factors of a layer's result; ``None`` where they could not stay apart from the weights.

    A linear layer's channels come last. A convolution's come before its spatial axes, and the factors are repeated
    along one of those: coremltools would multiply one factor a channel back into the weights (``fuse_conv_scale``).
    """
    result = shape_of(node)
    if is_call(node, "aten.linear."):
        return result[-1:]
    spatial = len(shape_of(argument(node, "weight"))) - 2
    sizes = result[-spatial:]
    widest = max(range(spatial), key=lambda axis: sizes[axis])
    if sizes[widest] == 1:
        return None
    return (result[-spatial - 1], *(size if axis == widest else 1 for axis, size in enumerate(sizes)))
