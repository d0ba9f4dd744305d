"""What goes into the export flow: a float network with its data and limits, and how to export it."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from torch import nn

from dualpix.capture.colour_map import Rgb, Scale
from dualpix.models.zoo import check_weights as check_weights
from dualpix.quantize.calibration import CalibrationSet, Inputs
from dualpix.quantize.gate import Accuracy, Array, Limits
from dualpix.quantize.ptq import KeepFloat, keep_nothing

if TYPE_CHECKING:
    from dualpix.quantize.sensitivity import Assignment

OnStep = Callable[[str], None]


@dataclass(frozen=True)
class Subject:
    """A float network and what the flow must know of it."""

    name: str
    """Stem of the artefacts' file names."""
    module: nn.Module
    """In eval mode."""
    input_names: tuple[str, ...]
    output_name: str
    calibration: CalibrationSet
    samples: tuple[Inputs, ...]
    """What artefacts are compared on; the first is also timed and stored as reference."""
    score: Callable[[Sequence[Array], Sequence[Array]], Accuracy]
    """(outputs, the float network's outputs) of all samples to scores."""
    limits: Mapping[str, Limits]
    limits_source: str
    facts: Mapping[str, Mapping[str, Any]]
    """For the manifest: "model", "input", "output", "evaluation"."""
    keep_float: KeepFloat = keep_nothing
    scene: Rgb | None = None
    """The first sample for people to look at, (H, W, 3)."""
    unit: str = ""
    """Of the output."""
    scale: Scale = "sequential"
    """Colours of the output."""


@dataclass(frozen=True)
class Options:
    """How to export."""

    threads: int = 1
    """Of the runtime and of the eager network."""
    rounds: int = 15
    """Of the latency measurement."""
    on_step: OnStep = lambda text: None
    """Told what is being done."""
    budget: float | None = None
    """Relative loss allowed for mixed precision: 0.01 is 1 %."""
    assignment: Assignment | None = None
    """Mixed precision that ``dualpix quantize`` found."""
