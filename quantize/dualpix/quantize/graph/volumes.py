"""3-D convolutions as 2-D ones: XNNPACK has no others, and the runtime's own kernel refuses them.

Convention: volumes are (B, C, D, H, W); the depth axis D is the one that is taken apart.
"""

from __future__ import annotations

from typing import Any

from torch import fx

from dualpix.quantize.graph.nodes import (
    ATEN,
    Maker,
    argument,
    attribute,
    calls,
    cleaned,
    derived_name,
    is_constant,
    shape_of,
    value_of,
)


def volumes_as_pictures(graph_module: fx.GraphModule) -> int:
    """Rewrite 3-D convolutions to 2-D ones over all depths at once; changes the graph.

    A kernel of depth k is a 2-D kernel on k neighbouring slices as channels, and every depth is an entry of the batch.

    Returns:
        How many were rewritten.
    """
    graph, changed = graph_module.graph, 0
    for node in calls(graph, ATEN.conv3d.default):
        weight, bias = argument(node, "weight"), argument(node, "bias")
        if is_constant(weight) and (bias is None or is_constant(bias)):
            with graph.inserting_before(node):
                node.replace_all_uses_with(_as_picture(graph_module, node))
            changed += 1
    cleaned(graph_module)
    return changed


def _as_picture(graph_module: fx.GraphModule, node: fx.Node) -> fx.Node:
    make, source = Maker(graph_module.graph, node), node.args[0]
    weight = value_of(graph_module, argument(node, "weight")).detach()
    stride, padding, dilation = (_three(argument(node, name)) for name in ("stride", "padding", "dilation"))
    batch, channels, _, height, width = shape_of(source)
    depth_out, taps = shape_of(node)[2], weight.shape[2]
    x = source
    if padding[0]:
        x = make(ATEN.pad.default, x, [0, 0, 0, 0, padding[0], padding[0]])
    span = (depth_out - 1) * stride[0] + 1
    slices = [make(ATEN.slice.Tensor, x, 2, k * dilation[0], k * dilation[0] + span, stride[0]) for k in range(taps)]
    rows = [make(ATEN.permute.default, s, [0, 2, 1, 3, 4]) for s in slices]  # (B, D', C, H, W)
    rows = [make(ATEN.reshape.default, r, [batch * depth_out, channels, 1, height * width]) for r in rows]
    stacked = make(ATEN.cat.default, rows, 2) if taps > 1 else rows[0]
    pictures = make(ATEN.reshape.default, stacked, [batch * depth_out, channels * taps, height, width])
    flat = weight.flatten(1, 2)  # (O, C / groups x taps, kh, kw): channel by channel, as the pictures
    held = attribute(graph_module, derived_name("picture", argument(node, "weight")), argument(node, "weight"), flat)
    options: list[Any] = [stride[1:], padding[1:], dilation[1:], argument(node, "groups")]
    y = make(ATEN.conv2d.default, pictures, held, argument(node, "bias"), *options)
    y = make(ATEN.reshape.default, y, [batch, depth_out, *shape_of(y)[1:]])
    return make(ATEN.permute.default, y, [0, 2, 1, 3, 4])


def _three(value: Any) -> list[int]:
    values = [int(v) for v in value]
    return values * 3 if len(values) == 1 else values
