"""Resizing as products with constant matrices, where a backend resizes in another way than torch.

Every resize of torch that is not nearest-with-a-mask is linear and separable: along an axis it is a matrix with one row
per output position. The matrices are made by torch's own operator from a basis, so that they hold whatever it does:
factors that do not divide, aligned corners, antialiasing, bicubic taps.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

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
    shape_of,
)

_KINDS = (
    "upsample_linear1d", "upsample_bilinear2d", "upsample_trilinear3d", "upsample_bicubic2d", "upsample_nearest1d",
    "upsample_nearest2d", "upsample_nearest3d", "_upsample_nearest_exact1d", "_upsample_nearest_exact2d",
    "_upsample_nearest_exact3d", "_upsample_bilinear2d_aa", "_upsample_bicubic2d_aa",
)  # fmt: skip
_RESIZES: dict[Any, str] = {getattr(ATEN, kind).vec: kind for kind in _KINDS}
MATRIX = "resize_matrix"
"""Part of the name of every matrix."""


def is_by_ratio(node: fx.Node) -> bool:
    """Whether a resize samples at the ratio of its sizes, all that backends know.

    ``interpolate(x, scale_factor=1.3)`` makes 15 rows of 12 and still samples every 1 / 1.3 rows, not every 12 / 15.
    """
    factors = argument(node, "scale_factors")
    if factors is None or ("align_corners" in _names(node) and argument(node, "align_corners")):
        return True
    sizes = zip(shape_of(node)[2:], shape_of(node.args[0])[2:], factors, strict=True)
    return all(abs(new / old - factor) < 1e-6 * factor for new, old, factor in sizes)


def is_exact(node: fx.Node, kinds: Sequence[str]) -> bool:
    """Whether a resize is of one of ``kinds`` and by the ratio of its sizes."""
    return _RESIZES[node.target] in kinds and is_by_ratio(node)


def resizes(graph: fx.Graph) -> list[fx.Node]:
    """All resizes of a graph."""
    return calls(graph, *_RESIZES)


def resize_by_products(graph_module: fx.GraphModule, wanted: Callable[[fx.Node], bool], most_entries: int) -> int:
    """Rewrite resizes to a linear layer per axis; changes the graph.

    On the int8 graph: before quantisation the linear layers would become int8.

    Args:
        graph_module: float or quantised.
        wanted: which of them.
        most_entries: of a matrix; a resize that needs a larger one is left alone.

    Returns:
        How many were rewritten.
    """
    graph, changed = graph_module.graph, 0
    for node in resizes(graph):
        if not wanted(node):
            continue
        matrices = [_matrix(node, axis) for axis in range(2, len(shape_of(node)))]
        if max(m.numel() for m in matrices) > most_entries:
            continue
        with graph.inserting_before(node):
            node.replace_all_uses_with(_products(graph_module, node, matrices))
        changed += 1
    cleaned(graph_module)
    return changed


def _names(node: fx.Node) -> set[str]:
    return {declared.name for declared in node.target._schema.arguments}  # type: ignore[union-attr]


def _matrix(node: fx.Node, axis: int) -> Tensor:
    """What the resize does along ``axis``: (new size, old size).

    Taken from the last axis, which the operators treat like all others: the antialiasing ones of torch 2.13 give the
    first row in place of all others along the height of a picture that is one pixel wide.
    """
    old, new, axes = shape_of(node.args[0])[axis], shape_of(node)[axis], len(shape_of(node)) - 2
    factors, ones = argument(node, "scale_factors"), [1] * (axes - 1)
    options: dict[str, Any] = {"output_size": [*ones, new], "scale_factors": None}
    if factors is not None:
        options = {"output_size": None, "scale_factors": [*map(float, ones), factors[axis - 2]]}
    if "align_corners" in _names(node):
        options["align_corners"] = argument(node, "align_corners")
    basis = torch.eye(old).reshape(old, 1, *ones, old)
    resized: Tensor = node.target(basis, **options)  # type: ignore[operator]
    return resized.reshape(old, new).T.contiguous()


def _products(graph_module: fx.GraphModule, node: fx.Node, matrices: Sequence[Tensor]) -> fx.Node:
    make, x = Maker(graph_module.graph, node), node.args[0]
    dtype = node.meta["val"].dtype
    for axis in reversed(range(2, len(matrices) + 2)):
        matrix = matrices[axis - 2]
        if matrix.shape[0] == matrix.shape[1] and bool((matrix == torch.eye(len(matrix))).all()):
            continue
        order = list(range(len(matrices) + 2))
        order[axis], order[-1] = order[-1], order[axis]
        turned = x if order[-1] == axis and axis == len(order) - 1 else make(ATEN.permute.default, x, order)
        sizes = shape_of(turned)
        rows = make(ATEN.reshape.default, turned, [-1, sizes[-1]])
        name = derived_name(MATRIX, node.name, axis)
        y = make(ATEN.linear.default, rows, attribute(graph_module, name, node, matrix.to(dtype)))
        y = make(ATEN.reshape.default, y, [*sizes[:-1], matrix.shape[0]])
        x = y if turned is x else make(ATEN.permute.default, y, order)
    return x  # type: ignore[return-value]
