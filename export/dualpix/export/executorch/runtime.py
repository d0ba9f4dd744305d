"""Running a ``.pte`` in the ExecuTorch runtime that ships with the wheel."""

from __future__ import annotations

import os
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from torch import Tensor

from dualpix.capture.errors import DualpixError
from dualpix.export.artefact import ExportError
from dualpix.quantize.calibration import Inputs

_threads_in_use: list[int] = []


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
        from executorch.extension.pybindings import portable_lib

        portable_lib._unsafe_reset_threadpool(count)
        _threads_in_use.append(count)


class PteProgram:
    """A loaded ``.pte``; call it with the network's inputs."""

    def __init__(self, path: Path, threads: int = 1) -> None:
        from executorch.runtime import Runtime

        # What the runtime says it writes to the process's stderr, past Python: noise, or the only reason of a failure.
        with tempfile.TemporaryFile() as messages, _native_stderr_to(messages.fileno()):
            set_threads(threads)
            try:
                # The method refers to memory of its program: both must live as long as this object.
                self._program: Any = Runtime.get().load_program(path)
                self._method: Any = self._program.load_method("forward")
            except (RuntimeError, ValueError) as error:
                messages.seek(0)
                reason = _first_failure(messages.read().decode(errors="replace")) or _first_line(error)
                raise ExportError(f"'{path.name}' does not load: {reason}") from error
        if self._method is None:
            raise ExportError(f"'{path.name}' has no method 'forward'")

    def __call__(self, inputs: Inputs) -> Tensor:
        """The first output.

        Raises:
            ExportError: the runtime refuses the inputs or fails.
        """
        try:
            output = self._method.execute(inputs)[0]
        except RuntimeError as error:
            raise ExportError(f"the program does not run: {_first_line(error)}") from error
        assert isinstance(output, Tensor)  # noqa: S101 - our networks return one tensor
        return output.clone()  # the runtime reuses its output buffer at the next call


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
    return next((line.strip() for line in messages.splitlines() if "XNN" in line or "rror" in line), "")


def _first_line(error: Exception) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0]
