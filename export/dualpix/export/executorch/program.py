"""What a ``.pte`` is made of, read without a runtime: for backends that this machine cannot run."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from dualpix.export.artefact import BuildRequest, Delegation, ExportError
from dualpix.export.executorch.file import check_program_file
from dualpix.export.executorch.runtime import TensorForm
from dualpix.export.executorch.xnnpack import multiply_accumulates
from dualpix.quantize.score import tensors_of

_SCALAR_TYPES = {0: torch.uint8, 1: torch.int8, 4: torch.int64, 5: torch.float16, 6: torch.float32, 11: torch.bool}


@dataclass(frozen=True)
class Delegate:
    """A part of a program that a backend runs."""

    backend: str
    payload: bytes
    takes: tuple[int, ...]
    """Which of the method's inputs, in the order of the delegate's own: it need not be that of the method."""


@dataclass(frozen=True)
class Structure:
    """Method ``forward`` of a program."""

    inputs: tuple[TensorForm, ...]
    outputs: tuple[TensorForm, ...]
    delegates: tuple[Delegate, ...]
    operators: tuple[str, ...]
    """That run outside the delegates, by name."""


def read_structure(path: Path) -> Structure:
    """Inputs, outputs, delegates and left operators of a written program.

    Raises:
        ExportError: the file is damaged or of another version.
    """
    check_program_file(path)
    from executorch.exir._serialize._program import deserialize_pte_binary

    try:
        program = deserialize_pte_binary(path.read_bytes()).program
        plan = next(p for p in program.execution_plan if p.name == "forward")
        return Structure(
            tuple(_form(plan.values[i].val) for i in plan.inputs),
            tuple(_form(plan.values[i].val) for i in plan.outputs),
            tuple(
                Delegate(d.id, bytes(program.backend_delegate_data[d.processed.index].data), _taken(plan, index))
                for index, d in enumerate(plan.delegates)
            ),
            tuple(sorted(o.name.removeprefix("aten::") for o in plan.operators)),
        )
    except Exception as error:  # a flatbuffer of random bytes fails in any way
        raise ExportError(f"'{path.name}' is damaged: {type(error).__name__}") from error


def _taken(plan: Any, delegate: int) -> tuple[int, ...]:
    calls = [instruction.instr_args for chain in plan.chains for instruction in chain.instructions]
    call = next(c for c in calls if getattr(c, "delegate_index", None) == delegate)
    return tuple(plan.inputs.index(value) for value in call.args if value in plan.inputs)


def _form(value: Any) -> TensorForm:
    return TensorForm(tuple(value.sizes), _SCALAR_TYPES[int(value.scalar_type)])


def check_structure(path: Path, request: BuildRequest, expected: Any, backend: str) -> Structure:
    """Whether a program that cannot run here takes and gives what the network does, in ``backend``.

    Args:
        path: of the program.
        request: what it was made from.
        expected: what the network gives.
        backend: that shall run all of it.

    Raises:
        ExportError: it does not.
    """
    found = read_structure(path)
    wanted = tuple(TensorForm(tuple(t.shape), t.dtype) for t in request.inputs)
    if found.inputs != wanted:
        raise ExportError(f"'{path.name}' takes {_listed(found.inputs)}", expected=_listed(wanted))
    shapes = [tuple(t.shape) for t in tensors_of(expected)]
    if [o.shape for o in found.outputs] != shapes:
        raise ExportError(f"'{path.name}' gives {_listed(found.outputs)}", expected=", ".join(map(str, shapes)))
    others = {d.backend for d in found.delegates} - {backend}
    if others or not found.delegates:
        names = ", ".join(sorted(others)) or "no backend"
        raise ExportError(f"'{path.name}' is for {names}", expected=backend)
    return found


def _listed(forms: tuple[TensorForm, ...]) -> str:
    return ", ".join(map(str, forms)) or "nothing"


def lower_for(
    module: torch.nn.Module, inputs: tuple[torch.Tensor, ...], partitioner: Any, total_macs: int
) -> tuple[bytes, Delegation]:
    """Export, partition and serialise for a backend that takes the float graph as it is."""
    from executorch.exir import to_edge_transform_and_lower

    from dualpix.export.executorch.xnnpack import delegation_of

    edge = to_edge_transform_and_lower(torch.export.export(module, inputs), partitioner=[partitioner])
    return bytes(edge.to_executorch().buffer), delegation_of(edge.exported_program().graph_module, total_macs)


def network_macs(module: torch.nn.Module, inputs: tuple[torch.Tensor, ...]) -> int:
    """Multiply-accumulates of one inference."""
    return sum(multiply_accumulates(n) for n in torch.export.export(module, inputs).graph.nodes)
