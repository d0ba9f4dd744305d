"""XNNPACK: CPU of Android, iOS, Linux and macOS, float32 or static int8.

One flow: export, (quantise,) partition and lower, serialise, then load and run the file before it gets its name. A
clean lowering proves nothing: files that do not load, or compute something else, are lowered without a warning.
"""

from __future__ import annotations

import re
from collections import Counter
from typing import Any

import torch
from torch import fx
from torch.export import ExportedProgram

from dualpix.capture.files import atomic_path
from dualpix.export.artefact import Artefact, BuildRequest, Delegation, ExportError, quiet
from dualpix.export.executorch.probe import run_apart
from dualpix.export.executorch.runtime import PteProgram
from dualpix.quantize.graph import fold_batch_norm
from dualpix.quantize.ptq import quantise_static

_BOOKKEEPING = ("getitem", "executorch_call_delegate")


def build(request: BuildRequest) -> Artefact:
    """Lower ``request.module`` and write a ``.pte`` that has been loaded and run.

    Raises:
        ExportError: the network cannot be lowered, or the file does not load, run, or give the network's output shape.
    """
    with quiet(), torch.no_grad():
        expected = request.module(*request.inputs)
        try:
            exported = _exported(request)
            buffer, delegation = lower(exported)
        except Exception as error:  # the compilers raise anything from AssertionError to their own types
            reason = (str(error).strip().splitlines() or [""])[0]
            raise ExportError(f"XNNPACK lowering failed: {type(error).__name__}: {reason}") from error
    with atomic_path(request.path) as temporary:
        temporary.write_bytes(buffer)
        try:
            output = run_apart(temporary, request.inputs, request.threads)
        except ExportError as error:
            raise ExportError(str(error).replace(temporary.name, request.path.name)) from error
        if output.shape != expected.shape or not torch.isfinite(output).all():
            raise ExportError(f"'{request.path.name}' gives {tuple(output.shape)}", expected=f"{tuple(expected.shape)}")
    program = PteProgram(request.path, request.threads)
    return Artefact(request.path, len(buffer), program, delegation, {"delegate": "XnnpackBackend"})


def _exported(request: BuildRequest) -> ExportedProgram:
    if request.precision == "fp32":
        return torch.export.export(fold_batch_norm(request.module), request.inputs)
    graph = quantise_static(request.module, request.calibration.samples, request.keep_float, request.on_sample)
    return torch.export.export(graph, request.inputs)


def lower(exported: ExportedProgram) -> tuple[bytes, Delegation]:
    """Partition for XNNPACK and serialise: the file's bytes and what was delegated."""
    from executorch.backends.xnnpack.partition.xnnpack_partitioner import XnnpackPartitioner
    from executorch.exir import to_edge_transform_and_lower

    total = sum(multiply_accumulates(node) for node in exported.graph.nodes)
    edge = to_edge_transform_and_lower(exported, partitioner=[XnnpackPartitioner()])
    delegation = _delegation(edge.exported_program().graph_module, total)
    return bytes(edge.to_executorch().buffer), delegation


def _delegation(lowered: fx.GraphModule, total_macs: int) -> Delegation:
    from executorch.devtools.backend_debug import get_delegation_info

    info: Any = get_delegation_info(lowered)
    outside = [n for n in lowered.graph.nodes if n.op == "call_function" and _operator(n) not in _BOOKKEEPING]
    left_macs = sum(multiply_accumulates(n) for n in outside)
    left = dict(Counter(_operator(n) for n in outside))
    return Delegation(info.num_delegated_nodes, left, total_macs - left_macs, total_macs)


def _operator(node: fx.Node) -> str:
    """``conv2d`` for ``aten.conv2d.default``, in the ATen and the edge dialect alike."""
    match = re.search(r"(?:aten|quantized_decomposed|dim_order_ops)[.:]+(\w+)", str(node.target))
    return match.group(1) if match else str(getattr(node.target, "__name__", node.target))


def multiply_accumulates(node: fx.Node) -> int:
    """Multiply-accumulates of a convolution or matrix product; 0 for every other node."""
    if node.op != "call_function":
        return 0
    name = _operator(node)
    if re.fullmatch(r"convolution|conv(_transpose)?[123]d", name):
        transposed = "transpose" in name or (name == "convolution" and node.args[6] is True)
        weight = _shape(node, 1)
        # each input value (transposed) or output value meets one filter: all weights but their leading axis
        over = _shape(node, 0) if transposed else node.meta["val"].shape
        return over.numel() * (weight.numel() // weight[0])
    inner = {"linear": (0, -1), "mm": (0, -1), "bmm": (0, -1), "matmul": (0, -1), "addmm": (1, -1)}.get(name)
    return 0 if inner is None else node.meta["val"].numel() * _shape(node, inner[0])[inner[1]]


def _shape(node: fx.Node, argument: int) -> torch.Size:
    source: Any = node.args[argument]
    shape: torch.Size = source.meta["val"].shape
    return shape
