"""XNNPACK: CPU of Android, iOS, Linux and macOS, from float32 to 4 bit.

One flow: export, rewrite what XNNPACK computes wrongly or slowly, (quantise,) partition and lower, serialise, then load
the file in another process, run it and compare. A clean lowering proves nothing: files that do not load, or compute
something else, are lowered without a warning, and some of those mistakes the emulation of int8 does not show either.
"""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, fx, nn
from torch.export import ExportedProgram

from dualpix.capture.errors import DualpixError
from dualpix.capture.files import atomic_path
from dualpix.export.artefact import Artefact, BuildRequest, Delegation, ExportError, quiet
from dualpix.export.executorch.blame import layer_named_in
from dualpix.export.executorch.flushing import check_flushed
from dualpix.export.executorch.probe import run_apart
from dualpix.export.executorch.runner import BACKEND as BACKEND
from dualpix.export.executorch.runner import can_run as can_run
from dualpix.export.executorch.runner import load as load
from dualpix.export.executorch.runtime import PteProgram
from dualpix.export.executorch.stored import RECORD_SUFFIX, save_record
from dualpix.export.mixed import searched
from dualpix.export.reasons import reason_of
from dualpix.quantize.calibration import Inputs
from dualpix.quantize.graph import (
    float_graph,
    fold_batch_norm,
    rewrite_for_xnnpack,
    run_eager,
    tidy_for_xnnpack,
)
from dualpix.quantize.keep import KeepFloat, keep_modules, keep_nothing, module_path
from dualpix.quantize.ptq import quantise_dynamic, quantise_linear_4w8da, quantise_static
from dualpix.quantize.score import sqnr_db, tensors_of

_BOOKKEEPING = ("getitem", "executorch_call_delegate")
_FLOAT_DB = {"fp32": 60.0, "fp16": 25.0}
_AGREEMENT_DB = 15.0
"""Below this a runtime computes something else than a float graph of any precision."""
_ROUNDING_DB, _LARGEST_ROUNDING_DB = 6.0, 40.0
"""Runtime and emulation of a quantised graph differ by rounding, hence by no more than quantising has put the emulation
from the network (twice that here), and by nothing that matters beyond the second figure."""


@dataclass(frozen=True)
class _Plan:
    """What is to be lowered, and what it computes before that."""

    graph: nn.Module
    emulated: Any = None
    """What the quantised graph gives; ``None`` for a float graph, which is compared with the network itself."""
    details: Mapping[str, Any] = field(default_factory=dict)


def can_build() -> str | None:
    """``None``, or what is missing to produce a file here."""
    try:
        import executorch.backends.xnnpack.partition.xnnpack_partitioner  # noqa: F401
    except ImportError as error:
        return f"{error.name or error} is not installed: pip install executorch torchao"
    return None


def build(request: BuildRequest) -> Artefact:
    """Lower ``request.module`` and write a ``.pte`` that has been loaded, run and compared.

    ``NAME.etrecord`` beside it names the network's layers to ``dualpix profile``.

    Raises:
        ExportError: the network cannot be quantised or lowered, or the file does not load, does not run, or computes
            something else than the network (float) or the emulation of its quantised graph.
    """
    if request.precision not in _PLANS:
        raise ExportError(f"XNNPACK has no precision '{request.precision}'", expected=f"one of {', '.join(_PLANS)}")
    with quiet(), torch.no_grad():
        expected = run_eager(request.module, request.inputs)
        plan, buffer, record, delegation = _lowered(request)
    with atomic_path(request.path) as temporary:
        temporary.write_bytes(buffer)
        try:
            output = run_apart(temporary, request.inputs, request.threads)
        except ExportError as error:
            where = layer_named_in(str(error), temporary, record, request.module)
            raise ExportError(str(error).replace(temporary.name, request.path.name) + where) from error
        agreement_db = check_output(request, output, expected, plan.emulated)
    save_record(record, request.path.with_suffix(RECORD_SUFFIX))
    details = {"delegate": BACKEND, "agreement_db": round(agreement_db, 1), **plan.details}
    return Artefact(request.path, len(buffer), PteProgram(request.path, request.threads), delegation, details)


def _lowered(request: BuildRequest) -> tuple[_Plan, bytes, Any, Delegation]:
    try:
        plan = _PLANS[request.precision](request)
        total = sum(multiply_accumulates(n) for n in torch.export.export(request.module, request.inputs).graph.nodes)
        buffer, record, delegation = lower_with_record(torch.export.export(plan.graph, request.inputs), total)
    except ExportError:
        raise
    except DualpixError as error:
        raise ExportError(error.found, expected=error.expected, hint=error.hint) from error
    except Exception as error:  # the compilers raise anything from AssertionError to their own types
        reason = reason_of(error, request.module, request.inputs)
        raise ExportError(f"XNNPACK lowering failed: {reason}") from error
    return plan, buffer, record, delegation


def check_output(request: BuildRequest, output: Any, expected: Any, emulated: Any) -> float:
    """Signal-to-noise ratio in dB of what the runtime gave, against what it should have computed.

    Args:
        request: for its precision and file name.
        output: of the runtime: a tensor, or a tuple of tensors.
        expected: of the float network.
        emulated: of the quantised graph, or ``None``.

    Raises:
        ExportError: another shape, values that are not finite, or a different result.
    """
    name = request.path.name
    outputs, wanted = tensors_of(output), tensors_of(expected)
    if [t.shape for t in outputs] != [t.shape for t in wanted]:
        shapes = (", ".join(str(tuple(t.shape)) for t in tensors) for tensors in (outputs, wanted))
        raise ExportError(f"'{name}' gives {next(shapes)}", expected=next(shapes))
    for place in outputs:
        if not torch.isfinite(place).all():
            share = float((~torch.isfinite(place)).float().mean())
            raise ExportError(f"'{name}' gives values that are not finite ({share:.1%} of the output)")
    if emulated is None:
        found_db, floor_db = sqnr_db(expected, output), _FLOAT_DB.get(request.precision, _AGREEMENT_DB)
        if found_db < floor_db:
            raise ExportError(
                f"'{name}' computes something else than the network: {found_db:.1f} dB", expected=f">= {floor_db:g} dB"
            )
        return found_db
    found_db, emulation_db = sqnr_db(emulated, output), sqnr_db(expected, emulated)
    # a graph that quantisation has spoilt may also amplify rounding: that is the gate's matter, not a wrong conversion
    if found_db < min(_LARGEST_ROUNDING_DB, emulation_db - _ROUNDING_DB):
        raise ExportError(
            f"'{name}' computes something else than its emulation: {found_db:.1f} dB, while the emulation is "
            f"{emulation_db:.1f} dB from the network",
            hint="XNNPACK handles an operator of the network wrongly",
        )
    return found_db


# ---------------------------------------------------------------------------------------------------------------------
# precisions


def rewritten(module: nn.Module, inputs: Inputs, keep_float: KeepFloat = keep_nothing) -> fx.GraphModule:
    """The network as a float graph that computes the same, in a form that XNNPACK does well; see ``quantize.graph``."""
    return rewrite_for_xnnpack(float_graph(module, inputs), lambda node: keep_float(module_path(node)))


def _float32(request: BuildRequest) -> _Plan:
    return _Plan(tidy_for_xnnpack(rewritten(request.module, request.inputs)))


class _Half(nn.Module):
    """float16 inside, float32 outside: a program of any precision takes and gives the same tensors."""

    def __init__(self, module: nn.Module) -> None:
        super().__init__()
        self.module = module

    def forward(self, *inputs: Tensor) -> Any:
        outputs = tensors_of(self.module(*(t.half() if t.is_floating_point() else t for t in inputs)))
        widened = tuple(t.float() if t.is_floating_point() else t for t in outputs)
        return widened[0] if len(widened) == 1 else widened


def _float16(request: BuildRequest) -> _Plan:
    half = _Half(fold_batch_norm(request.module, request.inputs).half())
    graph = tidy_for_xnnpack(rewritten(half.eval(), request.inputs))
    check_flushed(graph, request.inputs, run_eager(request.module, request.inputs), _FLOAT_DB[request.precision])
    return _Plan(graph)


def _int8(request: BuildRequest) -> _Plan:
    return _static(request, request.keep_float)


def _static(request: BuildRequest, keep_float: KeepFloat, details: Mapping[str, Any] | None = None) -> _Plan:
    graph = rewritten(request.module, request.inputs, keep_float)
    quantised = quantise_static(graph, request.calibration.samples, keep_float, request.on_sample)
    return _quantised(quantised, request, details)


def _quantised(graph: nn.Module, request: BuildRequest, details: Mapping[str, Any] | None = None) -> _Plan:
    tidy = tidy_for_xnnpack(graph) if isinstance(graph, fx.GraphModule) else graph
    return _Plan(tidy, tidy(*request.inputs), details or {})


def _int8_mixed(request: BuildRequest) -> _Plan:
    assignment = request.assignment or searched(request)
    details = {"keep_float": list(assignment.keep_float), "int8_share": round(assignment.int8_share, 4)}
    return _static(request, keep_modules(*assignment.keep_float), details)


def _int8_dynamic(request: BuildRequest) -> _Plan:
    graph = rewritten(request.module, request.inputs, request.keep_float)
    samples = request.calibration.samples
    return _quantised(quantise_dynamic(graph, request.inputs, request.keep_float, samples, request.on_sample), request)


def _4w8da(request: BuildRequest) -> _Plan:
    quantised = quantise_linear_4w8da(fold_batch_norm(request.module, request.inputs), request.keep_float)
    emulated = run_eager(quantised, request.inputs)
    # as torchao spells it: the delegate looks for the very pattern, which other passes would take apart
    graph = torch.export.export(quantised, request.inputs).module()
    return _Plan(tidy_for_xnnpack(rewrite_for_xnnpack(graph)), emulated)


_PLANS: dict[str, Callable[[BuildRequest], _Plan]] = {
    "fp32": _float32,
    "fp16": _float16,
    "int8": _int8,
    "int8-mixed": _int8_mixed,
    "int8-dynamic": _int8_dynamic,
    "4w8da": _4w8da,
}


# ---------------------------------------------------------------------------------------------------------------------
# lowering


def lower(exported: ExportedProgram, total_macs: int | None = None) -> tuple[bytes, Delegation]:
    """Partition for XNNPACK and serialise: the file's bytes and what was delegated.

    ``total_macs`` are those of the network where ``exported`` was rewritten to compute the same with more.
    """
    program, delegation = _to_executorch(exported, total_macs, record=False)
    return bytes(program.buffer), delegation


def lower_with_record(exported: ExportedProgram, total_macs: int | None = None) -> tuple[bytes, Any, Delegation]:
    """Like :func:`lower`, with the ``ETRecord`` by which the runtime's events are traced to the network's layers."""
    program, delegation = _to_executorch(exported, total_macs, record=True)
    return bytes(program.buffer), program.get_etrecord(), delegation


def _to_executorch(exported: ExportedProgram, total_macs: int | None, *, record: bool) -> tuple[Any, Delegation]:
    from executorch.exir import to_edge_transform_and_lower

    from dualpix.export.executorch.partition import partitioner

    total = total_macs or sum(multiply_accumulates(node) for node in exported.graph.nodes)
    edge = to_edge_transform_and_lower(exported, partitioner=[partitioner()], generate_etrecord=record)
    return edge.to_executorch(), delegation_of(edge.exported_program().graph_module, total)


def delegation_of(lowered: fx.GraphModule, total_macs: int) -> Delegation:
    """What a partitioned graph leaves outside its delegates."""
    from executorch.devtools.backend_debug import get_delegation_info

    info: Any = get_delegation_info(lowered)
    outside = [n for n in lowered.graph.nodes if n.op == "call_function" and _operator(n) not in _BOOKKEEPING]
    left_macs = min(total_macs, sum(multiply_accumulates(n) for n in outside))
    left = dict(Counter(_operator(n) for n in outside))
    return Delegation(info.num_delegated_nodes, left, total_macs - left_macs, total_macs)


def _operator(node: fx.Node) -> str:
    """``conv2d`` for ``aten.conv2d.default``, in the ATen and the edge dialect alike."""
    match = re.search(r"(?:aten|quantized_decomposed|dim_order_ops)[.:]+(\w+)", str(node.target))
    return match.group(1) if match else str(getattr(node.target, "__name__", node.target))


def multiply_accumulates(node: fx.Node) -> int:
    """Multiply-accumulates of a convolution, matrix product or attention; 0 for every other node."""
    if node.op != "call_function":
        return 0
    name = _operator(node)
    if re.fullmatch(r"convolution|conv(_transpose)?[123]d", name):
        transposed = "transpose" in name or (name == "convolution" and node.args[6] is True)
        weight = _shape(node, 1)
        # each input value (transposed) or output value meets one filter: all weights but their leading axis
        over = _shape(node, 0) if transposed else node.meta["val"].shape
        return over.numel() * (weight.numel() // weight[0])
    if name == "scaled_dot_product_attention":
        tokens, value_size = _shape(node, 2)[-2:]
        return _shape(node, 0).numel() * tokens + math.prod(_shape(node, 0)[:-1]) * tokens * value_size
    inner = {"linear": (0, -1), "mm": (0, -1), "bmm": (0, -1), "matmul": (0, -1), "addmm": (1, -1)}.get(name)
    return 0 if inner is None else node.meta["val"].numel() * _shape(node, inner[0])[inner[1]]


def _shape(node: fx.Node, argument: int) -> torch.Size:
    source: Any = node.args[argument]
    shape: torch.Size = source.meta["val"].shape
    return shape
