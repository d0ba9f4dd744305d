"""Outputs far from zero: a depth of 20 m with a relief of centimetres.

An int8 grid always holds zero, which padding needs to be exact: over 0..20.3 m its step is 8 cm, and of the relief
nothing is left. Where a layer's result goes to float all the same, its offset can be added there.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, fx

from dualpix.quantize.calibration import Inputs
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

_LAYERS = ("aten.conv1d.", "aten.conv2d.", "aten.linear.")
_LEAST_GAIN = 2.0
"""Steps of the grid with the offset outside, of one without."""


@dataclass
class _Range:
    """Of each output channel."""

    low: Tensor
    high: Tensor

    def take(self, values: Tensor) -> None:
        self.low = torch.minimum(self.low, values.amin(1))
        self.high = torch.maximum(self.high, values.amax(1))

    @property
    def centre(self) -> Tensor:
        return (self.low + self.high) / 2

    @property
    def gain(self) -> float:
        """How much finer the grid is around the centres than around zero."""
        with_zero = float(self.high.max().clamp_min(0.0) - self.low.min().clamp_max(0.0))
        around = float((self.high - self.low).max())
        return with_zero / around if around > 0.0 else 1.0


def add_offsets_in_float(graph_module: fx.GraphModule, calibration: Sequence[Inputs]) -> int:
    """Take the mid-range of each channel out of the bias of a last layer and add it behind; changes the graph.

    Only of layers behind which no other layer follows, and where the grid becomes twice as fine: the sum costs one
    float operation a value.

    Args:
        graph_module: float, before ``prepare_pt2e``.
        calibration: inputs on which the ranges are measured.

    Returns:
        How many layers were changed.
    """
    candidates = {n: None for n in graph_module.graph.nodes if _is_last_layer(n)}
    if not candidates:
        return 0
    watch = _Watch(graph_module, set(candidates))
    with torch.no_grad():
        for inputs in calibration:
            watch.run(*inputs)
    changed = 0
    for node, found in watch.ranges.items():
        if found.gain >= _LEAST_GAIN:
            _move_offset(graph_module, node, found.centre)
            changed += 1
    cleaned(graph_module)
    return changed


def _is_last_layer(node: fx.Node) -> bool:
    if not is_call(node, _LAYERS) or not is_constant(argument(node, "bias")):
        return False
    behind, seen = list(node.users), set()
    while behind:
        reader = behind.pop()
        if is_call(reader, (*_LAYERS, "aten.conv", "aten.bmm.", "aten.matmul.", "aten.mm.")):
            return False
        if reader not in seen:
            seen.add(reader)
            behind += reader.users
    return True


class _Watch(fx.Interpreter):
    """Runs a graph and measures the channels of some of its values."""

    def __init__(self, graph_module: fx.GraphModule, nodes: set[fx.Node]) -> None:
        super().__init__(graph_module)
        self._nodes = nodes
        self.ranges: dict[fx.Node, _Range] = {}

    def run_node(self, n: fx.Node) -> object:
        """Run one node and measure its value."""
        value = super().run_node(n)
        if n in self._nodes and isinstance(value, Tensor):
            rows = value.transpose(0, _channel_axis(n)).flatten(1)
            self.ranges.setdefault(n, _Range(rows.amin(1), rows.amax(1))).take(rows)
        return value


def _channel_axis(node: fx.Node) -> int:
    return len(shape_of(node)) - 1 if is_call(node, "aten.linear.") else 1


def _move_offset(graph_module: fx.GraphModule, node: fx.Node, offset: Tensor) -> None:
    graph, bias = graph_module.graph, argument(node, "bias")
    shape = [1] * len(shape_of(node))
    shape[_channel_axis(node)] = -1
    name = derived_name("offset", bias, node.name)
    readers = list(node.users)
    with graph.inserting_before(node):
        rest = attribute(graph_module, name + "_rest", bias, value_of(graph_module, bias).detach() - offset)
    node.args = (*node.args[:2], rest, *node.args[3:])
    with graph.inserting_after(node):
        held = attribute(graph_module, name, bias, offset.reshape(shape))
    with graph.inserting_after(held):
        whole = Maker(graph, node)(ATEN.add.Tensor, node, held)
    for reader in readers:
        reader.replace_input_with(node, whole)
