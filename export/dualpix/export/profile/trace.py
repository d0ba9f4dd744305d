"""From the runtime's event trace (ETDump) to one time per operator.

A run of the method is one ``Method::execute`` event. It is cut into pieces that follow each other: the kernels, inside
delegates and outside, and what lies between them. After its last kernel an XNNPACK delegate hands the kernels' times to
the tracer (about 1 us per kernel); that piece exists in traced runs only and counts neither as operator nor in the
total. Each piece gets its median over the runs: on a busy machine another program interrupts some piece of nearly every
run, but not the same one, so the median of a piece is its own time where the median of whole runs is not.

    total_s     sum of the pieces' medians without the tracer's: the execute event of an undisturbed run
    operators_s sum of the kernels' medians
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from dualpix.export.errors import ProfileError
from dualpix.export.executorch.stored import Layer, Record, StoredCall, StoredNode, StoredProgram
from dualpix.export.profile.result import Operator, Trace

_TICKS_PER_S = 1e9
_MAX_ALIGNED = 4_000_000
_EXECUTE, _DELEGATE, _OPERATOR, _NATIVE = "Method::execute", "DELEGATE_CALL", "OPERATOR_CALL", "native_call_"
_KERNELS = {
    "Conv2d": ("convolution", "fully connected"),
    "DepthwiseConv2d": ("convolution",),
    "ConvTranspose2d": ("deconvolution",),
    "FullyConnected": ("fully connected",),
    "BatchMatrixMultiply": ("batch matrix",),
    "StaticTranspose": ("transpose",),
    "StaticReshape": ("static reshape", "copy"),
    "StaticConstantPad": ("constant pad", "pad"),
    "StaticSlice": ("slice", "static slice"),
    "StaticResizeBilinear2D": ("resize bilinear",),
    "GlobalAvgPooling2d": ("global average", "mean"),
    "AvgPooling2d": ("average pooling",),
    "MaxPooling2d": ("max pooling",),
    "SquareRoot": ("square root",),
    "ReciprocalSquareRoot": ("reciprocal square",),
    "Hardswish": ("hardswish",),
    "PReLU": ("prelu",),
    "LeakyReLU": ("leaky",),
}
"""Delegate's node -> beginnings of the kernel names that do its work; for the others they begin alike."""


@dataclass(frozen=True)
class Kernel:
    """One kernel over the traced runs."""

    instruction: int
    name: str
    times_s: tuple[float, ...]

    @property
    def median_s(self) -> float:
        """Median over the runs."""
        return float(np.median(self.times_s))


@dataclass(frozen=True)
class Runs:
    """The traced runs, piece by piece."""

    kernels: tuple[Kernel, ...]
    overhead_s: float
    """Median sum of what lies between the kernels, without the tracer's own work."""
    execute_s: tuple[float, ...]
    """Duration of the execute events."""


def read_trace(path: Path, skip: int = 1) -> Runs:
    """The runs in an ETDump file without the first ``skip``, which also set the delegates up.

    Raises:
        ProfileError: no such file, not an ETDump, or a runtime without event tracer.
    """
    from executorch.devtools.etdump.serialize import deserialize_from_etdump_flatcc

    try:
        dump: Any = deserialize_from_etdump_flatcc(path.read_bytes())
    except Exception as error:  # the reader raises anything, its flatbuffer compiler included
        raise ProfileError(
            "the runtime wrote no trace", hint="its wheel must have the event tracer (1.5.1 has)"
        ) from error
    runs = [_events(run) for run in dump.run_data]
    pieces = [_pieces(events) for events in runs if any(e.name == _EXECUTE for e in events)][skip:]
    if not pieces:
        raise ProfileError("the trace holds no run", expected=f"more than {skip} runs")
    names = [(k[0], k[1]) for k in pieces[0][0]]
    pieces = [p for p in pieces if [(k[0], k[1]) for k in p[0]] == names]
    kernels = tuple(Kernel(*name, tuple(p[0][i][2] for p in pieces)) for i, name in enumerate(names))
    gaps = np.median([p[1] for p in pieces], axis=0).sum()
    return Runs(kernels, float(gaps), tuple(p[2] for p in pieces))


def _events(run: Any) -> list[Any]:
    return [e.profile_event for e in run.events if e.profile_event is not None]


def _pieces(events: Sequence[Any]) -> tuple[list[tuple[int, str, float]], list[float], float]:
    """Of one run: kernels (instruction, name, seconds), gaps in seconds, duration of the execute event in seconds."""
    whole: Any = next(e for e in events if e.name == _EXECUTE)
    inner: list[Any] = [e for e in events if e.delegate_debug_id_str or (e.name or "").startswith(_NATIVE)]
    covered = {e.instruction_id for e in inner}
    inner += [e for e in events if e.name in (_OPERATOR, _DELEGATE) and e.instruction_id not in covered]
    inner.sort(key=lambda e: (e.start_time, e.end_time))
    ends = {e.instruction_id: e.end_time for e in events if e.name == _DELEGATE}
    last: dict[int, Any] = {e.instruction_id: e for e in inner if e.delegate_debug_id_str}
    kernels, gaps, at = [], [], whole.start_time
    for event in inner:
        gaps.append(max(0, event.start_time - at) / _TICKS_PER_S)
        kernels.append((event.instruction_id, _name(event), (event.end_time - event.start_time) / _TICKS_PER_S))
        at = max(at, event.end_time)
        if event.delegate_debug_id_str and last[event.instruction_id] is event:
            at = max(at, ends.get(event.instruction_id, at))  # the tracer's own work: skipped
    gaps.append(max(0, whole.end_time - at) / _TICKS_PER_S)
    return kernels, gaps, (whole.end_time - whole.start_time) / _TICKS_PER_S


def _name(event: Any) -> str:
    return str(event.delegate_debug_id_str or event.name).removeprefix(_NATIVE)


def operators(runs: Runs, program: StoredProgram, record: Record) -> tuple[tuple[Operator, ...], Trace]:
    """One row per kernel, with the layer it belongs to where ``record`` knows it, and the totals."""
    summed = sum(k.median_s for k in runs.kernels)
    total = summed + runs.overhead_s
    rows: list[Operator] = []
    for instruction in dict.fromkeys(k.instruction for k in runs.kernels):
        kernels = [k for k in runs.kernels if k.instruction == instruction]
        call = program.calls[instruction] if 0 <= instruction < len(program.calls) else StoredCall("", None, 0, 0)
        rows += _rows(kernels, call, record, instruction, total)
    return tuple(rows), Trace(len(runs.execute_s), total, summed)


def _rows(
    kernels: Sequence[Kernel], call: StoredCall, record: Record, instruction: int, total_s: float
) -> list[Operator]:
    if not call.nodes:
        layer = record.layers.get(record.handles.get(instruction, 0), Layer(call.name.split(".")[0], None, None))
        work = (call.macs, call.bytes) if len(kernels) == 1 and not call.delegated else (None, None)
        backend = call.name if call.delegated and call.name else "portable"
        return [_row(k, layer, backend, work, total_s) for k in kernels]
    found = align([_stem(k.name) for k in kernels], [n.kind for n in call.nodes])
    rows, counted = [], set()
    for kernel, at in zip(kernels, found, strict=True):
        node = StoredNode("", 0, 0, 0) if at is None else call.nodes[at]
        layer = record.layers.get(node.handle, Layer(node.kind or _stem(kernel.name), None, None))
        if "quantize_per" in layer.kind:  # a node that took the handle of the conversion behind it
            layer = replace(layer, kind=node.kind)
        work = (None, None) if at is None else (0, 0) if at in counted else (node.macs, node.bytes)
        counted.add(at)
        rows.append(_row(kernel, layer, call.name, work, total_s))
    return rows


def _row(kernel: Kernel, layer: Layer, backend: str, work: tuple[int | None, int | None], total_s: float) -> Operator:
    median = kernel.median_s
    share = median / total_s if total_s else 0.0
    return Operator(kernel.name, layer.kind, layer.module, layer.source, backend, median, share, *work)


def _stem(name: str) -> str:
    """``fully connected`` of ``Fully Connected (NC, F32) GEMM #3``."""
    return re.split(r" \(| #", name)[0].lower()


def _alike(kernel: str, node: str) -> bool:
    beginnings = _KERNELS.get(node)
    if beginnings is None:
        beginnings = ("copy", "concat") if node.startswith("Concatenate") else (node.lower()[:5],)
    return kernel.replace("-", " ").startswith(beginnings)


def align(kernels: Sequence[str], nodes: Sequence[str]) -> list[int | None]:
    """For each kernel the node it works for: both run in the same order, the longest common row of alike ones.

    A kernel without a node of its own belongs to the one before (a node may need several kernels); nodes without a
    kernel were optimised away.
    """
    n, m = len(kernels), len(nodes)
    if n * m > _MAX_ALIGNED:
        return [None] * n
    like = [[_alike(k, node) for node in dict.fromkeys(nodes)] for k in dict.fromkeys(kernels)]
    row_of, column_of = ({name: i for i, name in enumerate(dict.fromkeys(names))} for names in (kernels, nodes))
    longest = [[0] * (m + 1) for _ in range(n + 1)]
    columns = [column_of[node] for node in nodes]
    for i in range(n - 1, -1, -1):
        allowed, here, below = like[row_of[kernels[i]]], longest[i], longest[i + 1]
        for j in range(m - 1, -1, -1):
            here[j] = max(below[j], here[j + 1], below[j + 1] + 1 if allowed[columns[j]] else 0)
    found: list[int | None] = []
    j = 0
    for i, kernel in enumerate(kernels):
        allowed = like[row_of[kernel]]
        while longest[i][j] > longest[i + 1][j] and not (
            allowed[columns[j]] and longest[i][j] == longest[i + 1][j + 1] + 1
        ):
            j += 1
        if longest[i][j] > longest[i + 1][j]:
            found.append(j)
            j += 1
        else:
            found.append(found[-1] if found else None)
    return found
