"""What every pass needs to read and change a graph.

Convention: a graph is what ``torch.export.export(...).module()`` gives, of fixed shapes: ``get_attr`` nodes are tensors
that do not depend on the inputs, ``node.meta["val"]`` is the value of a node without its data.
"""

from __future__ import annotations

import hashlib
from typing import Any

import torch
from torch import Tensor, fx

ATEN: Any = torch.ops.aten
CODES: Any = torch.ops.quantized_decomposed
QUANTISE = "quantized_decomposed.quantize_per_tensor.default"
DEQUANTISE = "quantized_decomposed.dequantize_per_tensor.default"


class Maker:
    """Creates nodes at the graph's insertion point that belong to the same submodule as ``like``.

    The value of a new node (shape and type) is computed from those of its arguments.
    """

    def __init__(self, graph: fx.Graph, like: fx.Node) -> None:
        self._graph, self._like = graph, like

    def __call__(self, target: Any, *arguments: Any, **options: Any) -> fx.Node:
        """A call of the operator ``target``."""
        node = self._graph.call_function(target, arguments, options)
        node.meta = dict(self._like.meta)
        node.meta["val"] = _computed(node)
        return node


def _computed(node: fx.Node) -> Any:
    """Shape and type of a call's result, from those of its arguments."""
    args, kwargs = fx.map_arg((node.args, node.kwargs), lambda n: n.meta["val"])
    with torch.no_grad():
        return node.target(*args, **kwargs)  # type: ignore[operator]


def describe(graph_module: fx.GraphModule) -> None:
    """Give every node a value (shape and type) that a tool left without."""
    graph = graph_module.graph
    like = next((n for n in graph.nodes if n.op == "placeholder"), None)
    for node in graph.nodes:
        if isinstance(node.meta.get("val"), Tensor) or node.op not in ("get_attr", "call_function"):
            continue
        if node.op == "get_attr" and like is not None:
            node.meta["val"] = _described(value_of(graph_module, node), like)
        elif node.op == "call_function" and all("val" in n.meta for n in node.all_input_nodes):
            node.meta["val"] = _computed(node)


def calls(graph: fx.Graph, *targets: Any) -> list[fx.Node]:
    """The nodes that call one of ``targets``, in order."""
    return [n for n in graph.nodes if n.op == "call_function" and n.target in targets]


def is_call(node: object, prefix: str | tuple[str, ...]) -> bool:
    """Whether ``node`` calls an operator whose name starts so: ``aten.conv2d.``."""
    return isinstance(node, fx.Node) and node.op == "call_function" and str(node.target).startswith(prefix)


def is_constant(node: object) -> bool:
    """Whether ``node`` is a tensor that the module holds."""
    return isinstance(node, fx.Node) and node.op == "get_attr"


def argument(node: fx.Node, name: str) -> Any:
    """The argument ``name`` of a call, however it was given; its default where it was not.

    Raises:
        LookupError: the operator has no such argument.
    """
    schema: Any = node.target
    for index, declared in enumerate(schema._schema.arguments):
        if declared.name == name:
            return node.args[index] if index < len(node.args) else node.kwargs.get(name, declared.default_value)
    raise LookupError(f"{node.target} has no argument '{name}'")


def shape_of(node: Any) -> tuple[int, ...]:
    """Shape of a node's value."""
    return tuple(int(size) for size in node.meta["val"].shape)


def value_of(graph_module: fx.GraphModule, node: Any) -> Tensor:
    """The tensor that a ``get_attr`` node names."""
    value: Any = graph_module
    for part in str(node.target).split("."):
        value = getattr(value, part)
    tensor: Tensor = value
    return tensor


def derived_name(prefix: str, *sources: object) -> str:
    """Of a tensor made from ``sources`` (nodes, or anything with a name): the same for the same ones."""
    names = [str(s.target) if isinstance(s, fx.Node) else str(s) for s in sources]
    digest = hashlib.sha256("|".join(names).encode()).hexdigest()[:8]
    return f"_{prefix}_{names[0].replace('.', '_')}_{digest}"


def attribute(graph_module: fx.GraphModule, name: str, like: fx.Node, value: Tensor | None = None) -> fx.Node:
    """A node for the module's tensor ``name`` at the graph's insertion point; ``value`` is registered if it is new."""
    if value is not None and not hasattr(graph_module, name):
        graph_module.register_buffer(name, value.detach())
    node = graph_module.graph.get_attr(name)
    node.meta = dict(like.meta)
    node.meta["val"] = _described(getattr(graph_module, name), like)
    return node


def _described(value: Tensor, like: fx.Node) -> Any:
    """``value`` without its data, in the fake mode of the graph."""
    mode = getattr(like.meta.get("val"), "fake_mode", None)
    return value if mode is None else mode.from_tensor(value, static_shapes=True)


def cleaned(graph_module: fx.GraphModule) -> fx.GraphModule:
    """The graph without unused nodes, the module without the tensors they held, which would end up in the file."""
    graph_module.graph.eliminate_dead_code()
    graph_module.graph.lint()
    graph_module.recompile()
    used = {str(n.target) for n in graph_module.graph.nodes if n.op == "get_attr"}
    held = [*graph_module.named_parameters(remove_duplicate=False), *graph_module.named_buffers(remove_duplicate=False)]
    inside = tuple(f"{name}." for name in used)  # of submodules that the graph calls as a whole
    for name in {name for name, _ in held if not name.startswith(inside)} - used:
        path, _, leaf = name.rpartition(".")
        delattr(graph_module.get_submodule(path), leaf)
    return graph_module
