"""A graph as coreai-torch converts it right.

coreai-torch 0.4.3 converts some operators to others without an error (a factor, a padding, a ratio is dropped), and
refuses some that are made of ones that it knows. Both are rewritten here; what cannot be is refused by name. The sweep
of the tests runs every operator through the converter and Apple's runtime and compares.
"""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import fx
from torch._decomp import decomposition_table
from torch.export import ExportedProgram

from dualpix.export.artefact import ExportError
from dualpix.export.rewrites import Rewrite, rewrite_each, spell_out_hypotenuse, spell_out_spread
from dualpix.quantize.calibration import Inputs
from dualpix.quantize.graph.nodes import (
    ATEN,
    Maker,
    argument,
    attribute,
    derived_name,
    is_call,
    shape_of,
)
from dualpix.quantize.graph.resizing import is_by_ratio, resize_by_products, resizes
from dualpix.quantize.keep import module_path

_MOST_ENTRIES = 1 << 24
_BILINEAR = ("aten.upsample_linear1d.vec", "aten.upsample_bilinear2d.vec", "aten.upsample_trilinear3d.vec")
_NEAREST = ("aten.upsample_nearest1d.vec", "aten.upsample_nearest2d.vec", "aten.upsample_nearest3d.vec")

_LOG_TERMS, _LOG_SMALL = 7, 0.05
"""Terms of the series, and up to where: the first one left out is 2e-10 of the first, the rounded sum 1e-6 beyond."""
_CANCELS = 0.01
_LARGEST = float(torch.finfo(torch.float32).max)

_SPELT_OUT = (
    ATEN.isnan.default, ATEN.nan_to_num.default, ATEN.grid_sampler_2d.default,
)  # fmt: skip
"""Operators that the converter refuses and torch decomposes into ones that it knows."""


def exported_for_coreai(graph_module: fx.GraphModule, inputs: Inputs) -> ExportedProgram:
    """A graph, rewritten (in place) and exported in the form that coreai-torch converts.

    Raises:
        ExportError: it holds what the converter would change without a word.
    """
    return decomposed(rewrite_for_coreai(graph_module), inputs)


def decomposed(graph_module: fx.GraphModule, inputs: Inputs) -> ExportedProgram:
    """A graph, exported as operators that the converter has."""
    import coreai_torch

    table: Any = coreai_torch.get_decomp_table()
    own = {op: decomposition_table[op] for op in _SPELT_OUT if op in decomposition_table}
    exported: ExportedProgram = torch.export.export(graph_module, inputs)
    spelt: ExportedProgram = exported.run_decompositions({**table, **own})
    return spelt


def rewrite_for_coreai(graph_module: fx.GraphModule) -> fx.GraphModule:
    """All rewrites, none of which changes what the graph computes; changes and returns the graph.

    Raises:
        ExportError: it holds what the converter would change without a word.
    """
    resize_by_products(graph_module, lambda node: not _is_resized_right(node), _MOST_ENTRIES)
    _refuse_wrong_resizes(graph_module.graph)
    return rewrite_each(graph_module, _REWRITES)


def _is_resized_right(node: fx.Node) -> bool:
    """Whether the converter samples where torch does.

    Its nearest takes the middle of each output pixel, torch's the upper left corner: the same where each pixel is
    repeated a whole number of times.
    """
    kind = str(node.target)
    if kind in _BILINEAR:
        return is_by_ratio(node)
    sizes = zip(shape_of(node)[2:], shape_of(node.args[0])[2:], strict=True)
    return kind in _NEAREST and is_by_ratio(node) and all(new % old == 0 for new, old in sizes)


def _refuse_wrong_resizes(graph: fx.Graph) -> None:
    for node in resizes(graph):
        if not _is_resized_right(node):
            raise _refused(node, f"resizes to {shape_of(node)}, too large for products with matrices")


def _refused(node: fx.Node, why: str) -> ExportError:
    name, path = str(node.target).removeprefix("aten.").split(".")[0], module_path(node)
    where = f" in '{path}'" if path else ""
    return ExportError(f"operator {name}{where} {why}", expected="what coreai-torch 0.4.3 converts unchanged")


def _pool(graph_module: fx.GraphModule, node: fx.Node, make: Maker) -> fx.Node | None:
    """A mean over a window whose divisor is not the window's size, as a plain one times a map of factors.

    The converter counts the padding whether asked to or not, and has neither a ceiling nor a divisor of one's own.
    """
    source: Any = node.args[0]
    axes = int(str(node.target).split("avg_pool")[1][0])
    kernel, stride, padding = (_each(argument(node, name), axes) for name in ("kernel_size", "stride", "padding"))
    stride = stride or kernel
    divisor = argument(node, "divisor_override") if axes > 1 else None
    uncounted = any(padding) and not argument(node, "count_include_pad")
    if not (uncounted or argument(node, "ceil_mode") or divisor is not None):
        return None
    shape, wanted = shape_of(source)[2:], shape_of(node)[2:]
    reach = [(n - 1) * s + k for n, s, k in zip(wanted, stride, kernel, strict=True)]
    behind = [max(0, r - size - p) for r, size, p in zip(reach, shape, padding, strict=True)]
    pads = [side for p, b in zip(reversed(padding), reversed(behind), strict=True) for side in (p, b)]
    plain = getattr(ATEN, f"avg_pool{axes}d").default

    mean = make(plain, make(ATEN.constant_pad_nd.default, source, pads) if any(pads) else source, kernel, stride)
    for axis, size in enumerate(wanted, 2):  # padding that the last window leaves over may hold one more
        if shape_of(mean)[axis] != size:
            mean = make(ATEN.slice.Tensor, mean, axis, 0, size)
    ones = torch.ones(1, 1, *shape)
    by_window = plain(torch.nn.functional.pad(ones, pads), kernel, stride)[(..., *map(slice, wanted))]
    factors = node.target(ones, *node.args[1:], **node.kwargs) / by_window  # type: ignore[operator]
    held = attribute(graph_module, derived_name("pool_factors", node.name), node, factors.to(node.meta["val"].dtype))
    return make(ATEN.mul.Tensor, mean, held)


def _each(value: Any, axes: int) -> list[int]:
    """A size for each axis, as torch reads one for all."""
    sizes = [int(v) for v in (value if isinstance(value, list | tuple) else [value])]
    return sizes * axes if len(sizes) == 1 else sizes


def _indexed_max_pool(graph_module: fx.GraphModule, node: fx.Node, make: Maker) -> None:
    """The converter gives zeros for where the largest values were."""
    if any(user.args[1] == 1 and user.users for user in node.users):
        raise _refused(node, "gives the places of the largest values, for which the converter gives zeros")


def _log_near_one(graph_module: fx.GraphModule, node: fx.Node, make: Maker) -> fx.Node:
    """log(1 + x), by its series where x is small: the converter takes the logarithm of the rounded sum, 25 dB at 1e-6.

    Forms that need the rounding of 1 + x itself do not survive it, see :func:`_fenced`.
    """
    x, series = node.args[0], 1.0 / _LOG_TERMS
    value: Any = series
    for k in range(_LOG_TERMS - 1, 0, -1):  # 1 - x / 2 + x^2 / 3 - ... by Horner's rule
        value = make(ATEN.add.Tensor, make(ATEN.mul.Tensor, make(ATEN.mul.Tensor, x, -1.0), value), 1.0 / k)
    near = make(ATEN.mul.Tensor, x, value)
    is_small = make(ATEN.lt.Scalar, make(ATEN.abs.default, x), _LOG_SMALL)
    return make(ATEN.where.self, is_small, near, make(ATEN.log.default, make(ATEN.add.Tensor, x, 1.0)))


def _fenced(graph_module: fx.GraphModule, node: fx.Node, make: Maker) -> fx.Node | None:
    """(x + a) - b, where that rounds on purpose: the converter makes x + (a - b) of it, and (x + 1) - 1 is x.

    A limit that no number exceeds keeps the two apart.
    """
    first, b = argument(node, "self"), argument(node, "other")
    if not isinstance(b, int | float) or not is_call(first, ("aten.add.", "aten.sub.")):
        return None
    a = argument(first, "other")
    if not isinstance(a, int | float) or not first.meta["val"].is_floating_point():
        return None
    a, b = (-float(v) if is_call(n, "aten.sub.") else float(v) for n, v in ((first, a), (node, b)))
    if abs(a + b) > _CANCELS * max(abs(a), abs(b)):
        return None
    fence = make(ATEN.clamp.default, first, -_LARGEST, _LARGEST)
    return make(node.target, fence, *node.args[1:], **node.kwargs)


def _power_less_one(graph_module: fx.GraphModule, node: fx.Node, make: Maker) -> fx.Node:
    """exp(x) - 1 = tanh(x / 2) (exp(x) + 1), which does not cancel."""
    x = node.args[0]
    half = make(ATEN.tanh.default, make(ATEN.mul.Tensor, x, 0.5))
    return make(ATEN.mul.Tensor, half, make(ATEN.add.Tensor, make(ATEN.exp.default, x), 1.0))


def _elu(graph_module: fx.GraphModule, node: fx.Node, make: Maker) -> fx.Node:
    x = argument(node, "self")
    names = ("alpha", "scale", "input_scale") if node.target is ATEN.elu.default else ("alpha",)
    alpha, scale, inner = [*(float(argument(node, name)) for name in names), 1.0, 1.0][:3]
    if node.target is ATEN.celu.default:
        inner = 1.0 / alpha
    below = make(ATEN.minimum.default, x, make(ATEN.full_like.default, x, 0.0))
    grown = _power_less_one(graph_module, _Single(make(ATEN.mul.Tensor, below, inner)), make)  # type: ignore[arg-type]
    negative = make(ATEN.mul.Tensor, grown, alpha * scale)
    return make(ATEN.where.self, make(ATEN.gt.Scalar, x, 0.0), make(ATEN.mul.Tensor, x, scale), negative)


class _Single:
    """Stands for a call of one argument."""

    def __init__(self, value: fx.Node) -> None:
        self.args = (value,)


def _smallest_place(graph_module: fx.GraphModule, node: fx.Node, make: Maker) -> fx.Node:
    negated = make(ATEN.neg.default, node.args[0])
    return make(ATEN.argmax.default, negated, *node.args[1:], **node.kwargs)


def _remainder(graph_module: fx.GraphModule, node: fx.Node, make: Maker) -> fx.Node | None:
    divisor = argument(node, "other")
    if isinstance(divisor, fx.Node) or not math.isfinite(float(divisor)):
        return None
    return make(
        ATEN.remainder.Tensor, argument(node, "self"), make(ATEN.full_like.default, argument(node, "self"), divisor)
    )


_REWRITES: dict[Any, Rewrite] = {
    ATEN.avg_pool1d.default: _pool,
    ATEN.avg_pool2d.default: _pool,
    ATEN.avg_pool3d.default: _pool,
    ATEN.max_pool1d_with_indices.default: _indexed_max_pool,
    ATEN.max_pool2d_with_indices.default: _indexed_max_pool,
    ATEN.max_pool3d_with_indices.default: _indexed_max_pool,
    **dict.fromkeys((ATEN.add.Tensor, ATEN.sub.Tensor, ATEN.add.Scalar, ATEN.sub.Scalar), _fenced),
    ATEN.log1p.default: _log_near_one,
    ATEN.expm1.default: _power_less_one,
    ATEN.elu.default: _elu,
    ATEN.celu.default: _elu,
    ATEN.hypot.default: spell_out_hypotenuse,
    ATEN.argmin.default: _smallest_place,
    ATEN.remainder.Scalar: _remainder,
    **{
        getattr(getattr(ATEN, kind), overload): spell_out_spread
        for kind in ("var", "std", "var_mean", "std_mean")
        for overload in ("default", "dim", "correction")
    },
}
