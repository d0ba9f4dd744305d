"""Scales of int8 tensors, after ``convert_pt2e``."""

from __future__ import annotations

import operator
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import torch
from torch import fx

from dualpix.quantize.graph.nodes import DEQUANTISE, QUANTISE, argument, attribute, is_call, is_constant, value_of

_DEQUANTISE_CHANNELS = "quantized_decomposed.dequantize_per_channel.default"
_WEIGHTED = ("aten.conv", "aten.linear.")
_ACTIVATIONS = ("aten.relu.", "aten.hardtanh.", "aten.clamp.")
_RATIO_LIMIT = 128.0
"""XNNPACK refuses 256."""
_BIAS_LIMIT = 2.0**30
"""Half of what an int32 holds."""

_MOVEMENT = (
    "aten.cat", "aten.slice", "aten.permute", "aten.transpose", "aten.view", "aten.reshape", "aten.flatten",
    "aten.unsqueeze", "aten.squeeze", "aten.pad", "aten.constant_pad_nd", "aten.relu.", "aten.hardtanh", "aten.clamp",
    "aten.max_pool2d", "aten.pixel_shuffle", "aten.pixel_unshuffle", "aten.contiguous", "aten.clone", "aten.split",
    "aten.chunk", "aten.stack", "aten.select",
)  # fmt: skip
"""Operators that pass quantised values through unchanged: their inputs and outputs must share one scale."""


@dataclass(frozen=True)
class _Range:
    """The real interval an int8 grid covers; always holds zero, which padding needs to be exact."""

    low: float
    high: float

    @classmethod
    def around(cls, quantisers: Iterable[fx.Node]) -> _Range:
        """The union of what the quantise nodes cover."""
        low, high = 0.0, 0.0
        for node in quantisers:
            scale, zero, code_min, code_max = (float(a) for a in node.args[1:5])  # type: ignore[arg-type]
            low, high = min(low, (code_min - zero) * scale), max(high, (code_max - zero) * scale)
        return cls(low, high)

    def grid(self, code_min: int, code_max: int) -> tuple[float, int]:
        """(scale, zero point) that spread the codes over the range."""
        scale = (self.high - self.low) / (code_max - code_min)
        return scale, max(code_min, min(code_max, round(code_min - self.low / scale)))


class _Groups:
    """Union-find over quantise nodes that must share a scale."""

    def __init__(self) -> None:
        self._parent: dict[fx.Node, fx.Node] = {}

    def root(self, node: fx.Node) -> fx.Node:
        while self._parent.setdefault(node, node) is not node:
            node = self._parent[node]
        return node

    def join(self, nodes: list[fx.Node]) -> None:
        for other in nodes[1:]:
            self._parent[self.root(other)] = self.root(nodes[0])

    def members(self) -> list[list[fx.Node]]:
        groups: dict[fx.Node, list[fx.Node]] = {}
        for node in list(self._parent):
            groups.setdefault(self.root(node), []).append(node)
        return list(groups.values())


def quantiser_before(node: fx.Node) -> fx.Node | None:
    """The quantise node whose value a dequantise node ``node`` restores."""
    if not is_call(node, DEQUANTISE) or not is_call(node.args[0], QUANTISE):
        return None
    return node.args[0]  # type: ignore[return-value]


def _quantisers_after(node: fx.Node) -> list[fx.Node]:
    found: list[fx.Node] = []
    for user in node.users:
        if is_call(user, QUANTISE):
            found.append(user)
        elif user.target is operator.getitem:
            found += _quantisers_after(user)
    return found


def _movement_groups(graph: fx.Graph) -> list[list[fx.Node]]:
    groups = _Groups()
    for node in graph.nodes:
        if node.op != "call_function" or not str(node.target).startswith(_MOVEMENT):
            continue
        before, after = [quantiser_before(x) for x in node.all_input_nodes], _quantisers_after(node)
        if after and all(q is not None for q in before):
            groups.join([q for q in before if q is not None] + after)
    return groups.members()


def harmonise_scales(graph_module: fx.GraphModule) -> int:
    """Give quantised values that only move (cat, slice, view, ...) one scale; changes the graph.

    Reason: XNNPACK's quantised movement operators copy codes, so every input and output must mean the same by a code;
    where observers measured each edge for itself the file does not load (``Failed to create cat2 node``). The widest
    range of a group wins: nothing clips that did not clip before.

    Returns:
        How many quantise nodes were in groups that had more than one scale.
    """
    changed = 0
    for group in _movement_groups(graph_module.graph):
        if len({(q.args[1], q.args[2]) for q in group}) < 2:
            continue
        code_min, code_max = group[0].args[3:5]
        grid = _Range.around(group).grid(code_min, code_max)  # type: ignore[arg-type]
        for quantiser in group:
            _set_grid(quantiser, grid)
        changed += len(group)
    graph_module.recompile()
    return changed


def limit_requantisation(graph_module: fx.GraphModule) -> int:
    """Keep int8 convolutions and linears within what XNNPACK can requantise; changes the graph.

    A kernel adds up int32 in units of (input scale x weight scale) and multiplies by the ratio of that unit to the
    scale of its output. Two rules of XNNPACK (executorch 1.5.1), and no other (in particular none about the size of a
    scale by itself, so that a tensor may have any unit):

    * the ratio is below 256, or the file does not load (``XNN Runtime creation failed``). It is higher where an output
      has hardly any range: a layer that gave nothing but zeros in calibration. The output's scale is raised.
    * the bias is stored in the same units: where the weights of a channel are next to nothing beside its bias, it would
      saturate without an error. The weights' scale is raised.

    Returns:
        How many scales were raised.
    """
    changed = 0
    for node in graph_module.graph.nodes:
        source, weight = _int8_operands(node)
        if source is not None and weight is not None:
            changed += _raise_weight_scale(graph_module, node, source, weight)
            changed += _raise_output_scale(graph_module, node, source, weight)
    graph_module.recompile()
    return changed


def _int8_operands(node: fx.Node) -> tuple[fx.Node | None, fx.Node | None]:
    """The quantise node before a static int8 layer and the dequantise node of its weight."""
    if not is_call(node, _WEIGHTED):
        return None, None
    weight: fx.Node = argument(node, "weight")
    return quantiser_before(node.all_input_nodes[0]), weight if is_call(weight, _DEQUANTISE_CHANNELS) else None


def _raise_weight_scale(graph_module: fx.GraphModule, node: fx.Node, source: fx.Node, weight: fx.Node) -> int:
    bias: fx.Node | None = argument(node, "bias")
    if bias is None or not is_constant(bias):
        return 0
    codes, scale = (value_of(graph_module, weight.args[i]) for i in (0, 1))
    least = value_of(graph_module, bias).detach().abs().to(scale.dtype) / (_BIAS_LIMIT * float(source.args[1]))  # type: ignore[arg-type]
    if least.shape != scale.shape or not (least > scale).any():
        return 0
    raised, shape = torch.maximum(scale, least), [1] * codes.dim()
    shape[int(weight.args[3])] = -1  # type: ignore[arg-type]
    rounded = (codes * (scale / raised).reshape(shape)).round().to(codes.dtype)
    with graph_module.graph.inserting_before(weight):
        own = [
            attribute(graph_module, f"_{weight.name}_{kind}", weight.args[i], value)  # type: ignore[arg-type]
            for i, (kind, value) in enumerate((("codes", rounded), ("scale", raised)))
        ]
    weight.args = (*own, *weight.args[2:])
    return 1


def _raise_output_scale(graph_module: fx.GraphModule, node: fx.Node, source: fx.Node, weight: fx.Node) -> int:
    least = float(source.args[1]) * float(value_of(graph_module, weight.args[1]).max()) / _RATIO_LIMIT  # type: ignore[arg-type]
    changed, readers = 0, list(node.users)
    while readers:
        reader = readers.pop()
        if is_call(reader, _ACTIVATIONS):
            readers += reader.users
        elif is_call(reader, QUANTISE) and float(reader.args[1]) < least:  # type: ignore[arg-type]
            _set_grid(reader, (least, reader.args[2]))
            changed += 1
    return changed


def _set_grid(quantiser: fx.Node, grid: tuple[Any, Any]) -> None:
    """(scale, zero point) of a quantise node and of all that restore its value."""
    for node in [quantiser, *(u for u in quantiser.users if is_call(u, DEQUANTISE))]:
        node.args = (node.args[0], *grid, *node.args[3:])
