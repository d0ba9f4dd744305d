"""Convolutions with few output channels, which XNNPACK is slow at.

Its matrix kernels compute :data:`_LANES` output channels at once, whether they are asked for or not.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Hashable

import torch
from torch import Tensor, fx

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

_LANES = 16
"""Output channels that XNNPACK's matrix kernels compute at once; a convolution with fewer pays for all of them."""


def join_narrow_convolutions(
    graph_module: fx.GraphModule, kind: Callable[[fx.Node], Hashable] = lambda node: None
) -> int:
    """Join convolutions of one input that have few output channels each into one; changes the graph.

    Reason: three maps of one channel cost XNNPACK three times sixteen channels.

    Returns:
        How many convolutions were joined into others.
    """
    graph, joined = graph_module.graph, 0
    groups: dict[Hashable, list[fx.Node]] = {}
    for node in calls(graph, ATEN.conv2d.default):
        weight, bias = argument(node, "weight"), argument(node, "bias")
        constant = is_constant(weight) and (bias is None or is_constant(bias))
        if argument(node, "groups") == 1 and constant and shape_of(node)[1] < _LANES:
            key = (node.args[0], shape_of(weight)[2:], str(node.args[3:]), kind(node), bias is None)
            groups.setdefault(key, []).append(node)
    for members in groups.values():
        channels = [int(shape_of(n)[1]) for n in members]
        if len(members) < 2 or sum(channels) > _LANES:
            continue
        _join(graph_module, members, channels)
        joined += len(members) - 1
    cleaned(graph_module)
    return joined


def _join(graph_module: fx.GraphModule, members: list[fx.Node], channels: list[int]) -> None:
    graph, first = graph_module.graph, members[0]
    with graph.inserting_before(first):
        make = Maker(graph, first)
        parameters: list[fx.Node | None] = []
        for kind in ("weight", "bias"):
            parts = [argument(n, kind) for n in members]
            if parts[0] is None:
                parameters.append(None)
                continue
            value = torch.cat([value_of(graph_module, part) for part in parts])
            parameters.append(attribute(graph_module, derived_name("joined", *parts), parts[0], value))
        whole = make(first.target, first.args[0], *parameters, *first.args[3:])
        starts = [sum(channels[:i]) for i in range(len(channels))]
        pieces = [make(ATEN.slice.Tensor, whole, 1, s, s + c) for s, c in zip(starts, channels, strict=True)]
    for node, piece in zip(members, pieces, strict=True):
        piece.meta = dict(node.meta)
        node.replace_all_uses_with(piece)


def widen_narrow_convolutions(graph_module: fx.GraphModule) -> int:
    """Let convolutions of few output channels compute a tile of pixels at once; changes the graph.

    A 3x3 convolution with one output channel is the same as a 6x6 one with stride 4 whose 16 output channels are the
    pixels of a 4x4 tile, followed by a pixel shuffle. It multiplies by many zeros and still takes a quarter of the
    time, because XNNPACK computes 16 channels at once whether they are asked for or not.

    Returns:
        How many were rewritten.
    """
    graph, changed = graph_module.graph, 0
    for node in calls(graph, ATEN.conv2d.default):
        weight, bias = argument(node, "weight"), argument(node, "bias")
        if not is_constant(weight) or not (bias is None or is_constant(bias)):
            continue
        tile = _best_tile(node)
        if tile == 1:
            continue
        name = derived_name(f"wide{tile}", weight, bias)
        with graph.inserting_before(node):
            make = Maker(graph, node)
            wide = attribute(graph_module, name, weight, _tiled(value_of(graph_module, weight), tile))
            wide_bias = None
            if bias is not None:
                repeated = value_of(graph_module, bias).detach().repeat_interleave(tile**2)
                wide_bias = attribute(graph_module, name + "_bias", bias, repeated)
            y = make(ATEN.conv2d.default, node.args[0], wide, wide_bias, [tile, tile], argument(node, "padding"))
            y = make(ATEN.pixel_shuffle.default, y, tile)
        node.replace_all_uses_with(y)
        changed += 1
    cleaned(graph_module)
    return changed


def _best_tile(node: fx.Node) -> int:
    """Side of the tile of pixels that costs the least; 1: leave the convolution alone."""
    channels, _, high, wide = shape_of(argument(node, "weight"))
    if argument(node, "groups") != 1 or {*argument(node, "stride"), *argument(node, "dilation")} != {1}:
        return 1
    if high * wide < 4:  # a 1x1 convolution is a matrix product: its tile would be a sparse one
        return 1
    h, w = shape_of(node)[2:]

    def cost(tile: int) -> float:
        return math.ceil(channels * tile**2 / _LANES) * (high + tile - 1) * (wide + tile - 1) / tile**2

    fitting = [t for t in (1, 2, 4) if h % t == 0 and w % t == 0 and channels * t**2 <= _LANES]
    return min(fitting or [1], key=cost)


def _tiled(weight: Tensor, tile: int) -> Tensor:
    """(O, I, kh, kw) -> (O t^2, I, kh + t - 1, kw + t - 1): the filter once per pixel of the tile, shifted to it."""
    out, inner, high, wide = weight.shape
    tiled = weight.new_zeros(out, tile, tile, inner, high + tile - 1, wide + tile - 1)
    for row in range(tile):
        for column in range(tile):
            tiled[:, row, column, :, row : row + high, column : column + wide] = weight.detach()
    return tiled.reshape(out * tile**2, inner, high + tile - 1, wide + tile - 1)
