"""What passes between the export flow and its backends."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import torch
from torch import nn

from dualpix.export.errors import ExportError as ExportError
from dualpix.export.quiet import quiet as quiet
from dualpix.quantize.calibration import CalibrationSet, Inputs
from dualpix.quantize.graph import plain_inputs
from dualpix.quantize.keep import KeepFloat, keep_nothing
from dualpix.quantize.score import Predict

if TYPE_CHECKING:
    from dualpix.quantize.search.assignment import Assignment


@dataclass(frozen=True)
class BuildRequest:
    """What a backend needs to build one file."""

    module: nn.Module
    """Float network in eval mode: takes the inputs one by one, gives a tensor or a tuple of tensors."""
    precision: str
    path: Path
    """File (or folder) to write. It must not appear before it has been loaded, and run where a runtime exists."""
    inputs: Inputs
    """A real input: fixes the size of the artefact and is run through it."""
    input_names: tuple[str, ...]
    output_names: tuple[str, ...]
    calibration: CalibrationSet
    keep_float: KeepFloat = keep_nothing
    threads: int = 1
    on_sample: Callable[[int, int], None] = lambda done, total: None
    budget: float | None = None
    """Relative loss that a mixed precision may cost: 0.01 is 1 %; ``None`` leaves it to the backend."""
    assignment: Assignment | None = None
    """Mixed precision found before; it spares the search."""

    def __post_init__(self) -> None:
        """Hold all inputs in the order of axes in memory that programs take; their values are the same."""
        samples = tuple(plain_inputs(sample) for sample in self.calibration.samples)
        object.__setattr__(self, "inputs", plain_inputs(self.inputs))
        object.__setattr__(self, "calibration", replace(self.calibration, samples=samples))

    def samples(self) -> tuple[Inputs, ...]:
        """To choose by: those that calibrate, or the request's own inputs where there are none."""
        return tuple(self.calibration.samples) or (self.inputs,)


@dataclass(frozen=True)
class Delegation:
    """Which part of a graph the backend took over."""

    delegated_operators: int
    left_operators: Mapping[str, int]
    """Operators that fall back to the portable kernels, by name."""
    delegated_macs: int
    total_macs: int

    @property
    def compute_share(self) -> float:
        """Multiply-accumulates in the delegate, of all: 0..1."""
        return self.delegated_macs / self.total_macs if self.total_macs else 0.0

    @property
    def operator_share(self) -> float:
        """Operators in the delegate, of all: 0..1."""
        total = self.delegated_operators + sum(self.left_operators.values())
        return self.delegated_operators / total if total else 0.0


@dataclass(frozen=True)
class Artefact:
    """A written export that passed its backend's own check."""

    path: Path
    size_bytes: int
    predict: Predict | None
    """Runs the written file; ``None`` where this machine has no runtime for it."""
    delegation: Delegation | None = None
    details: Mapping[str, Any] = field(default_factory=dict)
    """Backend's facts for the manifest; plain data."""
    emulated: bool = False
    """``predict`` interprets the written file operator by operator; it is not the runtime that a phone has."""
    note: str = ""
    """What the reader should know of a file that is right: what its precision left undone."""


class Backend(Protocol):
    """What a backend's module offers."""

    def build(self, request: BuildRequest) -> Artefact:
        """Write the file and check it; raises :class:`ExportError`."""

    def can_build(self) -> str | None:
        """``None``, or one line: why nothing can be produced on this machine and what to install."""

    def can_run(self) -> str | None:
        """``None``, or one line: why the product does not run on this machine."""

    def load(
        self, path: Path, input_names: tuple[str, ...], output_names: tuple[str, ...], threads: int = 1
    ) -> Predict | None:
        """A file that was built before, ready to run or to be interpreted; ``None`` where neither can be done here."""


def type_name(dtype: torch.dtype) -> str:
    """``float32``."""
    return str(dtype).removeprefix("torch.")
