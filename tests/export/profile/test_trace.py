from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise
from types import SimpleNamespace as Event

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from dualpix.export.executorch.stored import Layer, Record, StoredCall, StoredNode, StoredProgram
from dualpix.export.profile.trace import Kernel, Runs, _pieces, align, operators

_MS = 1_000_000


def _event(name: str, start: float, end: float, instruction: int = 0, kernel: str | None = None) -> Event:
    return Event(
        name=None if kernel else name,
        delegate_debug_id_str=kernel,
        instruction_id=instruction,
        start_time=int(start * _MS),
        end_time=int(end * _MS),
    )


def test_a_run_is_cut_into_pieces_that_leave_out_only_the_tracers_own_work() -> None:
    events = [
        _event("native_call_cumsum.out", 1.5, 3, 0),
        _event("OPERATOR_CALL", 1.2, 3.1, 0),
        _event("", 4, 6, 1, "Convolution (NHWC, F32) IGEMM #1"),
        _event("", 6, 6.5, 1, "Add (ND) #1"),
        _event("DELEGATE_CALL", 3.5, 8, 1),
        _event("Method::execute", 1, 8.25),
    ]
    kernels, gaps, execute_s = _pieces(events)
    assert [(i, n) for i, n, _ in kernels] == [
        (0, "cumsum.out"),
        (1, "Convolution (NHWC, F32) IGEMM #1"),
        (1, "Add (ND) #1"),
    ]
    assert [s for *_, s in kernels] == pytest.approx([1.5e-3, 2e-3, 0.5e-3])
    assert gaps == pytest.approx([0.5e-3, 1e-3, 0, 0.25e-3])
    assert execute_s == pytest.approx(7.25e-3)
    tracer_s = 1.5e-3  # from the end of the last kernel to the end of the delegate call
    assert sum(s for *_, s in kernels) + sum(gaps) + tracer_s == pytest.approx(execute_s)


def test_a_delegate_that_tells_no_kernels_is_one_row() -> None:
    events = [_event("DELEGATE_CALL", 1, 5, 0), _event("Method::execute", 0, 6)]
    kernels, gaps, _ = _pieces(events)
    assert kernels == [(0, "DELEGATE_CALL", pytest.approx(4e-3))]
    assert gaps == pytest.approx([1e-3, 1e-3])


def test_medians_of_the_pieces_leave_out_what_other_programs_took() -> None:
    # every run is interrupted once, each time in another kernel: the median whole run is 8 ms too long
    kernels = tuple(
        Kernel(0, f"Convolution (NHWC, F32) IGEMM #{k}", tuple(10e-3 if run == k else 2e-3 for run in range(5)))
        for k in range(5)
    )
    nodes = tuple(StoredNode("Conv2d", 10 + k, 1000, 100) for k in range(5))
    program = StoredProgram(((1,),), 0, (StoredCall("XnnpackBackend", nodes, 5000, 500),))
    record = Record({10 + k: Layer("convolution", f"layer{k}", f"net.py:{k}") for k in range(5)})
    rows, trace = operators(Runs(kernels, 0.1e-3, (18.1e-3,) * 5), program, record)
    assert trace.total_s == pytest.approx(10.1e-3)
    assert trace.coverage == pytest.approx(10 / 10.1)
    assert [(r.module, r.source) for r in rows] == [(f"layer{k}", f"net.py:{k}") for k in range(5)]
    assert sum(r.share for r in rows) == pytest.approx(trace.coverage)
    assert sum(r.macs or 0 for r in rows) == 5000


def test_kernels_find_their_nodes_through_lost_and_extra_ones() -> None:
    nodes = [
        "StaticTranspose",
        "Conv2d",
        "Add",
        "StaticReshape",
        "Concatenate2",
        "DepthwiseConv2d",
        "StaticResizeBilinear2D",
    ]
    kernels = ["convolution", "add", "copy", "copy", "convolution", "resize bilinear"]
    assert align(kernels, nodes) == [1, 2, 3, 4, 5, 6]
    assert align(["convolution", "transpose", "add"], ["Conv2d", "Add"]) == [0, 0, 1], "extra: the one before"
    assert align(["fully connected"], []) == [None]


@dataclass(frozen=True)
class _Kind:
    node: str
    kernel: str


_KINDS = [
    _Kind("Conv2d", "convolution"),
    _Kind("Conv2d", "fully connected"),
    _Kind("Add", "add"),
    _Kind("StaticTranspose", "transpose"),
    _Kind("Convert", "convert"),
    _Kind("BatchMatrixMultiply", "batch matrix multiply"),
    _Kind("Multiply", "multiply"),
    _Kind("Softmax", "softmax"),
]


@settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.lists(st.tuples(st.sampled_from(_KINDS), st.booleans()), max_size=40))
def test_every_kernel_of_a_thinned_graph_gets_a_node_of_its_kind_in_order(plan: list[tuple[_Kind, bool]]) -> None:
    nodes = [kind.node for kind, _ in plan]
    kept = [kind for kind, runs in plan if runs]
    found = align([kind.kernel for kind in kept], nodes)
    assert [nodes[i] for i in found if i is not None] == [kind.node for kind in kept]
    assert all(a is not None and b is not None and a < b for a, b in pairwise(found))
