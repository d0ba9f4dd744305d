"""A ``.pte`` of XNNPACK where it only has to run: what :mod:`.xnnpack` says of that, without the tools that lower.

Those are the compiler, 3 to 5 s of processor time, which ``dualpix depth`` of a program need not wait for.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from dualpix.export.executorch.runtime import PteProgram, registered

if TYPE_CHECKING:
    from dualpix.quantize.score import Predict

BACKEND = "XnnpackBackend"


def can_run() -> str | None:
    """``None``, or why a file does not run here."""
    return registered(BACKEND)


def load(path: Path, input_names: tuple[str, ...], output_names: tuple[str, ...], threads: int = 1) -> Predict | None:
    """A file that was built before; raises :class:`ExportError` where it is damaged."""
    return PteProgram(path, threads)
