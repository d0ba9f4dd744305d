"""float16 inside a graph, float32 at its ends and wherever float16 would be wrong without a word.

coreai-opt 0.3.0 casts everything: a factor of 1 / 65535 becomes 0, a norm squares in float16, a variance of 1e-6 in a
batch norm gives NaN. Here a value is kept in both types where both are asked for, and cast where it is first needed.

In float32 stay: sums, means, norms, powers and running sums (their terms and partial results leave float16's range, or
lose a term each time); products of long matrices, which Apple's runtime adds up in float16; operators with a factor
that float16 does not hold; constants that float16 does not hold, with whatever reads them; what quantises and restores
int8 values by such a scale; and what is done with such results one by one. So do the islands that
:mod:`~dualpix.quantize.rounding` finds: what compares nearly equal things, with whatever reads it.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator
from typing import Any

import torch
from torch import Tensor, fx

from dualpix.quantize.graph.nodes import (
    ATEN,
    attribute,
    cleaned,
    derived_name,
    is_call,
    is_constant,
    shape_of,
    value_of,
)

LEAST_NORMAL, LARGEST = 6.104e-5, 65504.0
"""Of float16's normal numbers."""

_FLOAT32_ALONE = tuple(
    f"aten.{name}."
    for name in (
        "sum", "mean", "var", "std", "var_mean", "std_mean", "norm", "linalg_vector_norm", "logsumexp", "cumsum",
        "prod", "pow", "rsqrt", "reciprocal", "square", "exp2", "layer_norm", "native_layer_norm", "group_norm",
        "native_group_norm", "instance_norm", "batch_norm", "_native_batch_norm_legit", "rms_norm",
        "cosine_similarity", "pairwise_distance", "log", "log2", "log10", "log1p",
    )
)  # fmt: skip
_CREATE = tuple(f"aten.{name}." for name in ("arange", "full", "zeros", "ones", "eye", "linspace", "scalar_tensor"))
_ANY_SCALAR = ("aten.pad.", "aten.constant_pad_nd.", "aten.clamp", "aten.hardtanh.", "aten.full_like.")
"""Operators that put a number in place of a value: 1e-9 becomes 0, which is as far off as any rounding."""
_LONG = 1024
"""Terms of a matrix product from which on float16 loses more than it should: 2048 of one sign come out 4 % off."""
_VALUE = re.compile("Tensor|number|float|Scalar")
"""In the name of an argument's type."""


def to_float16(graph_module: fx.GraphModule, wide: Collection[str] = ()) -> fx.GraphModule:
    """Compute in float16 where that is right; changes and returns the graph, which takes and gives the same tensors.

    Args:
        graph_module: float32.
        wide: names of nodes whose values are nowhere to be rounded.
    """
    _Narrowing(graph_module, wide).run()
    return cleaned(graph_module)


def rounded_values(graph_module: fx.GraphModule, wide: Collection[str] = ()) -> frozenset[str]:
    """Names of the nodes whose values :func:`to_float16` would round, there or where they are read."""
    graph = fx.Graph()
    copies: dict[fx.Node, fx.Node] = {}
    graph.output(graph.graph_copy(graph_module.graph, copies))
    narrowing = _Narrowing(fx.GraphModule(graph_module, graph), {copies[n].name for n in copies if n.name in wide})
    narrowing.run()
    return frozenset(node.name for node, copy in copies.items() if narrowing.rounds(copy))


class _Narrowing:
    def __init__(self, graph_module: fx.GraphModule, wide: Collection[str]) -> None:
        self._module, self._graph, self._wide = graph_module, graph_module.graph, wide
        self._constants: set[fx.Node] = set()
        """Those that became float16 ones."""
        self._types: dict[fx.Node, torch.dtype] = {}
        """In which type a node that was float32 now is."""
        self._casts: dict[tuple[fx.Node, torch.dtype], fx.Node] = {}

    def run(self) -> None:
        for node in list(self._graph.nodes):
            if node.op == "output":
                self._read_as(node, torch.float32)
            elif node.op == "get_attr" and _is_float32(node):
                self._narrow_constant(node)
            elif node.op == "placeholder" and _is_float32(node):
                self._types[node] = torch.float32
            elif node.op == "call_function":
                self._narrow_call(node)

    def rounds(self, node: fx.Node) -> bool:
        """Whether a node of the graph as it was given has its value rounded."""
        narrowed = node in self._constants or self._types.get(node) is torch.float16
        return narrowed or (node, torch.float16) in self._casts

    def _narrow_constant(self, node: fx.Node) -> None:
        value = value_of(self._module, node)
        if node.name in self._wide or not holds(value):
            self._types[node] = torch.float32
            return
        self._constants.add(node)
        with self._graph.inserting_before(node):
            own = attribute(self._module, derived_name("half", node), node, value.detach().half())
        node.replace_all_uses_with(own)
        self._types[own] = torch.float16

    def _narrow_call(self, node: fx.Node) -> None:
        if any(n in self._types for n in node.all_input_nodes):
            kept = self._stays_float32(node)
            self._read_as(node, torch.float32 if kept else torch.float16)
            if _gives_float32(node):
                self._types[node] = torch.float32 if kept or _names_float32(node) else torch.float16
        elif _gives_float32(node):
            self._types[node] = torch.float32  # made of integers, or of nothing

    def _stays_float32(self, node: fx.Node) -> bool:
        large = [n for n in node.all_input_nodes if is_constant(n) and self._types.get(n) is torch.float32]
        made = [n for n in node.all_input_nodes if is_call(n, _CREATE)]
        if torch.Tag.pointwise in getattr(node.target, "tags", ()) and self._reads_only_float32(node):
            return True
        if large or made or _names_float32(node) or not _factors_hold(node):
            return True
        if any(n.name in self._wide for n in (node, *node.all_input_nodes)):
            return True
        return is_call(node, _FLOAT32_ALONE) or _is_long_product(node)

    def _reads_only_float32(self, node: fx.Node) -> bool:
        """Whether all that a call reads was computed in float32: its values may be beyond float16 (a sum, before it is
        divided by a number).
        """
        read = [n for n in node.all_input_nodes if n in self._types]
        return bool(read) and all(n.op == "call_function" and self._types[n] is torch.float32 for n in read)

    def _read_as(self, node: fx.Node, dtype: torch.dtype) -> None:
        """Give ``node`` its inputs in ``dtype``."""
        for source in node.all_input_nodes:
            own = self._types.get(source)
            if own is not None and own is not dtype:
                node.replace_input_with(source, self._cast(source, dtype))

    def _cast(self, source: fx.Node, dtype: torch.dtype) -> fx.Node:
        if (source, dtype) not in self._casts:
            with self._graph.inserting_after(source):
                cast = self._graph.call_function(ATEN._to_copy.default, (source,), {"dtype": dtype})
            cast.meta = {k: v for k, v in source.meta.items() if k != "val"}
            cast.meta["val"] = source.meta["val"].to(dtype)
            self._casts[source, dtype] = cast
        return self._casts[source, dtype]


def holds(value: Tensor) -> bool:
    """Whether float16 holds a constant: nothing overflows, and its largest value is a normal number."""
    largest = float(value.detach().abs().max()) if value.numel() else 0.0
    return largest == 0.0 or LEAST_NORMAL <= largest <= LARGEST


def _is_long_product(node: fx.Node) -> bool:
    """Matrix products, linear layers among them, whose terms the runtime adds up in float16; convolutions are right."""
    added = is_call(node, ("aten.addmm.", "aten.baddbmm."))
    if not (added or is_call(node, ("aten.linear.", "aten.matmul.", "aten.mm.", "aten.bmm."))):
        return False
    return shape_of(node.args[1 if added else 0])[-1] >= _LONG


def _factors_hold(node: fx.Node) -> bool:
    if is_call(node, _ANY_SCALAR):
        return all(abs(s) <= LARGEST or abs(s) == float("inf") for s in _scalars(node))
    return all(s == 0 or LEAST_NORMAL <= abs(s) <= LARGEST for s in _scalars(node))


def _scalars(node: fx.Node) -> Iterator[float]:
    """The numbers among a call's arguments that are values, as sizes and axes are not."""
    declared = getattr(getattr(node.target, "_schema", None), "arguments", ())
    for index, argument in enumerate(declared):
        value: Any = node.args[index] if index < len(node.args) else node.kwargs.get(argument.name)
        if isinstance(value, int | float) and not isinstance(value, bool) and _VALUE.search(str(argument.type)):
            yield float(value)


def _is_float32(node: fx.Node) -> bool:
    value = node.meta.get("val")
    return isinstance(value, Tensor) and value.dtype is torch.float32


def _gives_float32(node: fx.Node) -> bool:
    """Whether a call's result, or one of its results, is float32; a choice of one is asked of what it chooses from."""
    value: Any = node.meta.get("val")
    values = value if isinstance(value, list | tuple) else (value,)
    return any(isinstance(v, Tensor) and v.dtype is torch.float32 for v in values)


def _names_float32(node: fx.Node) -> bool:
    """Whether a call asks for float32 itself (``x.float()``)."""
    return torch.float32 in (*node.args, *node.kwargs.values())
