"""What a written asset must compute before it counts as written, and which operator is to blame where it does not."""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, fx

from dualpix.export.artefact import BuildRequest, ExportError
from dualpix.export.coreai.child import Names, convert_apart
from dualpix.export.coreai.convert import Prepared, precision_of
from dualpix.export.coreai.half import LARGEST, LEAST_NORMAL
from dualpix.export.coreai.rewrite import decomposed
from dualpix.export.layers import LayerDifference, first_far, inside, none_far
from dualpix.quantize import graph as passes
from dualpix.quantize.graph import run_eager
from dualpix.quantize.keep import module_path
from dualpix.quantize.score import sqnr_db, tensors_of


@dataclass(frozen=True)
class Numerics:
    """How far the asset, run by Apple's runtime, is from the float network on the request's inputs."""

    sqnr_db: float
    max_abs: float
    from_graph_db: float
    """SQNR against the graph that was converted, run by torch."""


def check_numerics(asset: Path, request: BuildRequest, prepared: Prepared, output: Sequence[Tensor]) -> Numerics:
    """Compare what the asset gave with the network's output, and with that of the graph it was made from.

    Raises:
        ExportError: the output is further away than the precision explains; names the operator where the values part.
    """
    precision = precision_of(request.precision)
    wanted = tensors_of(run_eager(request.module, request.inputs))
    found = tuple(output)
    if [t.shape for t in found] != [t.shape for t in wanted]:
        shapes = (", ".join(str(tuple(t.shape)) for t in tensors) for tensors in (found, wanted))
        raise ExportError(f"'{asset.name}' gives {next(shapes)}", expected=next(shapes))
    with torch.no_grad():
        by_graph = tensors_of(prepared.graph(*request.inputs))
    from_graph, sqnr = sqnr_db(by_graph, found), sqnr_db(wanted, found)
    judged_db, least_db = (
        (sqnr, precision.least_sqnr_db) if not precision.activations_int8 else (from_graph, precision.least_graph_db)
    )
    if not judged_db >= least_db:
        if precision.is_float16:
            _check_range(asset, request)
        raise ExportError(
            f"'{asset.name}' computes something else: {judged_db:.1f} dB from the network; "
            f"{_first_far(request, prepared)}",
            expected=f"at least {least_db:g} dB for {request.precision}",
        )
    gaps = (float((f.double() - w.double()).abs().max()) for f, w in zip(found, wanted, strict=True))
    return Numerics(sqnr, max(gaps), from_graph)


def layer_differences(request: BuildRequest, prepared: Prepared) -> tuple[LayerDifference, ...]:
    """Each operator's result in the runtime against torch's, in the order of the graph.

    The runtime's own logger gives the values of compiled instructions, several operators each, and nothing by the
    network's names. Here the graph is converted once more with every operator's result as an output.
    """
    tapped, nodes = _tapped(prepared.graph)
    names = Names(request.input_names, tuple(f"tap_{k}" for k in range(len(nodes))))
    with torch.no_grad():
        expected = tapped(*request.inputs)
        program = decomposed(tapped, request.inputs)
    with tempfile.TemporaryDirectory() as folder:
        found = convert_apart(program, Path(folder) / "tapped.aimodel", names, request.inputs)
    return tuple(
        LayerDifference(node.name, _kind(node), module_path(node), sqnr_db(wanted, value))
        for node, wanted, value in zip(nodes, expected, found, strict=True)
    )


def _tapped(graph_module: fx.GraphModule) -> tuple[fx.GraphModule, list[fx.Node]]:
    """A copy of a graph that gives every operator's float result, and the operators."""
    graph = fx.Graph()
    values: dict[fx.Node, fx.Node] = {}
    graph.graph_copy(graph_module.graph, values)
    taps = [old for old in graph_module.graph.nodes if _is_compared(old)]
    graph.output(tuple(values[node] for node in taps))
    tapped = fx.GraphModule(graph_module, graph)
    return tapped, taps


def _is_compared(node: fx.Node) -> bool:
    """Views of another value, which would be the same output, are left out."""
    value: Any = node.meta.get("val")
    is_view = any(str(node.target).startswith(f"aten.{name}.") for name in ("view", "reshape", "alias", "clone"))
    return (
        node.op == "call_function" and isinstance(value, Tensor) and value.is_floating_point() and not is_view
    ) and any(n.op != "get_attr" for n in node.all_input_nodes)


def _kind(node: fx.Node) -> str:
    return str(node.target).split(".")[-2] if "." in str(node.target) else str(node.target)


def _first_far(request: BuildRequest, prepared: Prepared) -> str:
    """The first operator that Apple's runtime computes otherwise than torch, in words."""
    try:
        layers = layer_differences(request, prepared)
    except ExportError as error:
        return f"its operators cannot be looked at: {error.found}"
    return first_far(layers) or f"{none_far(layers)}: the asset is not what was converted"


def _check_range(asset: Path, request: BuildRequest) -> None:
    """Whether the network's own values fit into float16.

    Raises:
        ExportError: one does not; names the input or the layer.
    """
    graph = passes.float_graph(request.module, request.inputs)
    tapped, nodes = _tapped(graph)
    with torch.no_grad():
        values = tapped(*request.inputs)
    inputs = {f"input '{name}'": t for name, t in zip(request.input_names, request.inputs, strict=True)}
    layers = {f"'{node.name}'{inside(module_path(node))}": value for node, value in zip(nodes, values, strict=True)}
    for name, value in (inputs | layers).items():
        largest = float(value.abs().max()) if value.is_floating_point() and value.numel() else 0.0
        if largest > LARGEST or 0.0 < largest < LEAST_NORMAL:
            raise ExportError(
                f"'{asset.name}' computes something else: {name} holds values up to {largest:.6g}",
                expected=f"{LEAST_NORMAL:.2g} to {LARGEST:g}, what float16 holds",
                hint="choose another unit for it, or coreai-fp32",
            )
