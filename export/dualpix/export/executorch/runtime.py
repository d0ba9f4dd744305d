"""Running a ``.pte`` in the ExecuTorch runtime that ships with the wheel.

A file is looked at before the runtime sees it, and inputs are compared with what the program says it takes: the
runtime's own answers to a damaged file or a tensor of another shape range from a number (0x23) to a crash.
"""

from __future__ import annotations

import os
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from dualpix.capture.errors import DualpixError
from dualpix.export.artefact import ExportError, quiet, type_name
from dualpix.export.executorch.file import check_program_file
from dualpix.quantize.calibration import Inputs
from dualpix.quantize.graph import plain_inputs

DTYPES = (
    torch.uint8, torch.int8, torch.int16, torch.int32, torch.int64, torch.float16, torch.float32, torch.float64,
    torch.complex32, torch.complex64, torch.complex128, torch.bool,
)  # fmt: skip
"""By ExecuTorch's number of a scalar type."""

_threads_in_use: list[int] = []


def registered(backend: str) -> str | None:
    """``None``, or that the runtime in the wheel was built without ``backend``."""
    try:
        with quiet():
            names = bindings()._get_registered_backend_names()
    except ImportError as error:
        return f"{error.name or error} is not installed: pip install executorch"
    if backend in names:
        return None
    return f"the runtime of the executorch wheel was built without {backend}; it has {', '.join(sorted(names))}"


def bindings() -> Any:
    """The runtime itself: ExecuTorch's extension module, after torch's libraries, which it needs.

    ``executorch.runtime`` is a thin wrapper of it, but imports the ahead-of-time compiler for the sake of one warning
    class: 3 s of processor time before a program is read (``findings/executorch-runtime-imports-compiler.sh``). The
    module is not public; the version is pinned, and tests compare both ways.

    Raises:
        ImportError: ExecuTorch is not installed, or has no such module.
    """
    from executorch.extension.pybindings import _C

    return _C


def set_threads(count: int) -> None:
    """Size the runtime's thread pool; only before the first program is loaded.

    Reason: XNNPACK keeps pointers into the pool, and replacing it under a loaded method is a segmentation fault. The
    pool is therefore fixed by the first program that a process loads.

    Raises:
        DualpixError: a program already runs with another count.
    """
    if _threads_in_use and _threads_in_use[0] != count:
        raise DualpixError(
            f"the runtime already has {_threads_in_use[0]} threads in this process",
            expected="one thread count per process",
            hint=f"start another process for {count}",
        )
    if not _threads_in_use:
        bindings()._unsafe_reset_threadpool(count)
        _threads_in_use.append(count)


@dataclass(frozen=True)
class TensorForm:
    """Shape and type of an input or output as a program states it."""

    shape: tuple[int, ...]
    dtype: torch.dtype

    def __str__(self) -> str:
        return f"{self.shape} {type_name(self.dtype)}"


class PteProgram:
    """A loaded ``.pte``; call it with the network's inputs.

    Args:
        path: the file.
        threads: of the runtime; one count per process.
        etdump: where :meth:`save_etdump` shall write the times of each operator; ``None`` measures nothing.

    Raises:
        ExportError: the file is damaged, of another version, or the runtime refuses it.
        DualpixError: a program already runs with another thread count.
    """

    def __init__(self, path: Path, threads: int = 1, etdump: Path | None = None) -> None:
        check_program_file(path)
        runtime = bindings()
        self._etdump = etdump
        # What the runtime says it writes to the process's stderr, past Python: noise, or the only reason of a failure.
        with tempfile.TemporaryFile() as messages, _native_stderr_to(messages.fileno()):
            set_threads(threads)
            try:
                # The method refers to memory of its program: both must live as long as this object.
                self._program: Any = runtime._load_program(
                    str(path),
                    enable_etdump=etdump is not None,
                    program_verification=runtime.Verification.InternalConsistency,
                )
                names = {self._program.get_method_name(index) for index in range(self._program.num_methods())}
                if "forward" not in names:
                    raise ExportError(f"'{path.name}' has no method 'forward'")
                self._method: Any = self._program.load_method("forward")
            except (RuntimeError, ValueError) as error:
                messages.seek(0)
                reason = _first_failure(messages.read().decode(errors="replace")) or _first_line(error)
                raise ExportError(f"'{path.name}' does not load: {reason}") from error
        if self._method is None:
            raise ExportError(f"'{path.name}' does not load: no method 'forward'")
        self.inputs = _forms(self._method.method_meta(), "input")
        self.outputs = _forms(self._method.method_meta(), "output")

    def __call__(self, inputs: Inputs) -> Any:
        """What the program gives: a tensor, or a tuple of tensors, contiguous.

        Args:
            inputs: in any order of axes in memory: they are put into the program's own, which the runtime does not do
                (it takes a channels-last tensor for a contiguous one, or refuses it with a number).

        Raises:
            ExportError: the inputs have another number, shape or type than the program takes, or the runtime fails.
        """
        given = tuple(TensorForm(tuple(t.shape), t.dtype) for t in inputs)
        if given != self.inputs:
            raise ExportError(
                f"the program was given {', '.join(map(str, given)) or 'nothing'}",
                expected=", ".join(map(str, self.inputs)),
            )
        given_back = self._execute(plain_inputs(inputs))
        if not all(isinstance(value, Tensor) for value in given_back):
            raise ExportError("the program gives something else than tensors")
        # the runtime reuses its buffers at the next call
        outputs = tuple(value.clone(memory_format=torch.contiguous_format) for value in given_back)
        return outputs[0] if len(outputs) == 1 else outputs

    def _execute(self, inputs: Inputs) -> Any:
        try:
            return self._method(inputs)
        except RuntimeError as first:
            # once more, to hear what the runtime says: listening costs more than a small network
            with tempfile.TemporaryFile() as messages:
                with _native_stderr_to(messages.fileno()), suppress(RuntimeError):
                    self._method(inputs)
                messages.seek(0)
                reason = _first_failure(messages.read().decode(errors="replace")) or _first_line(first)
            raise ExportError(f"the program does not run: {reason}") from first

    def save_etdump(self) -> Path:
        """Write the times of the calls so far.

        Raises:
            DualpixError: the program was loaded without ``etdump``, or the runtime has no event tracer.
        """
        if self._etdump is None:
            raise DualpixError("the program was loaded without an event tracer", expected="etdump=PATH")
        with tempfile.TemporaryDirectory() as scratch:
            self._program.write_etdump_result_to_file(str(self._etdump), str(Path(scratch) / "debug.bin"))
        if not self._etdump.is_file():
            raise DualpixError(
                "the runtime wrote no times", hint="executorch 1.5.1 has the event tracer, 1.4.1 has not"
            )
        return self._etdump


def _forms(metadata: Any, side: str) -> tuple[TensorForm, ...]:
    count: int = getattr(metadata, f"num_{side}s")()
    tensors = [getattr(metadata, f"{side}_tensor_meta")(index) for index in range(count)]
    return tuple(TensorForm(tuple(t.sizes()), DTYPES[t.dtype()]) for t in tensors)


@contextmanager
def _native_stderr_to(target: int) -> Iterator[None]:
    """Point file descriptor 2 at ``target`` meanwhile."""
    sys.stderr.flush()
    kept = os.dup(2)
    try:
        os.dup2(target, 2)
        yield
    finally:
        os.dup2(kept, 2)
        os.close(kept)


def _first_failure(messages: str) -> str:
    """The runtime's first line about a failure: ``[XNNCompiler.cpp:968] Failed to create convolution node ...``."""
    signs = ("XNN", "rror", "issing operator", "not registered", "verification")
    return next((line.strip() for line in messages.splitlines() if any(s in line for s in signs)), "")


def _first_line(error: Exception) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0]
