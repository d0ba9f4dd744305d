"""What depends on weights alone is computed once, when a network is exported."""

from __future__ import annotations

import torch
from torch import Tensor, fx

from dualpix.quantize.graph.nodes import attribute, cleaned, is_constant, value_of

_SMALL = 4096
"""Values that a constant may have even where it is larger than what it is made from: positions, masks, scalars."""


def fold_constants(graph_module: fx.GraphModule) -> int:
    """Replace what depends on no input by a tensor that the module holds; changes the graph.

    Reason: delegates take a weight only where it is constant. Standardised weights, low-rank updates and weights on a
    scale (``weight * gain``) are so only once they have been computed. A result that is larger than its sources
    (expanded, repeated) would be in the file as often as it is repeated, and is left to the program.

    Returns:
        How many tensors were made.
    """
    graph = graph_module.graph
    constant = _independent(graph)
    folder = _Folder(graph_module, constant)
    for node in list(constant):
        if node.op == "call_function" and any(user not in folder.constant for user in node.users):
            folder.fold(node)
    cleaned(graph_module)
    return folder.made


def _independent(graph: fx.Graph) -> dict[fx.Node, None]:
    """The nodes that depend on no input, in order."""
    found: dict[fx.Node, None] = {}
    for node in graph.nodes:
        made = node.op == "call_function" and _is_pure(node) and all(x in found for x in node.all_input_nodes)
        if (is_constant(node) and isinstance(node.meta.get("val"), Tensor)) or made:
            found[node] = None
    return found


def _is_pure(node: fx.Node) -> bool:
    """Whether a call gives one tensor, the same one each time, and does nothing else."""
    target = node.target
    if not isinstance(target, torch._ops.OpOverload) or not isinstance(node.meta.get("val"), Tensor):
        return False
    return not target._schema.is_mutable and torch.Tag.nondeterministic_seeded not in target.tags


class _Folder:
    def __init__(self, graph_module: fx.GraphModule, constant: dict[fx.Node, None]) -> None:
        self._graph_module, self.constant, self.made = graph_module, constant, 0
        self._values: dict[fx.Node, Tensor] = {}

    def fold(self, node: fx.Node) -> None:
        """Make ``node`` a tensor of the module, or else what it reads."""
        if node.op != "call_function":
            return
        if node.meta["val"].numel() > max(_SMALL, sum(n.meta["val"].numel() for n in self._sources(node))):
            for source in node.all_input_nodes:
                self.fold(source)
            return
        graph = self._graph_module.graph
        name = f"_folded_{node.name}"
        with graph.inserting_before(node):
            held = attribute(self._graph_module, name, node, self._value(node).contiguous())
        node.replace_all_uses_with(held)
        self._values[held], self.constant[held] = self._value(node), None
        self.made += 1

    def _sources(self, node: fx.Node) -> set[fx.Node]:
        """The module's own tensors that ``node`` is made from."""
        inner = [self._sources(n) for n in node.all_input_nodes]
        return {node} if node.op == "get_attr" else set().union(*inner)

    def _value(self, node: fx.Node) -> Tensor:
        if node not in self._values:
            read = value_of if node.op == "get_attr" else self._computed
            self._values[node] = read(self._graph_module, node)
        return self._values[node]

    def _computed(self, graph_module: fx.GraphModule, node: fx.Node) -> Tensor:
        args, kwargs = fx.map_arg((node.args, node.kwargs), self._value)
        with torch.no_grad():
            value: Tensor = node.target(*args, **kwargs)  # type: ignore[operator]
        return value
