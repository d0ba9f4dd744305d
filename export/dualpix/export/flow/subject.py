"""What goes into the export flow: a float network with its data and limits, and how to export it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from torch import Tensor, nn

from dualpix.capture.pictures.colour_map import Rgb, Scale
from dualpix.models.tasks.task import Field
from dualpix.models.zoo import check_weights as check_weights
from dualpix.quantize.calibration import CalibrationSet, Inputs
from dualpix.quantize.keep import KeepFloat, keep_nothing
from dualpix.quantize.limits import Limits
from dualpix.quantize.score import Metric

if TYPE_CHECKING:
    from dualpix.quantize.search.assignment import Assignment

OnStep = Callable[[str], None]


@dataclass(frozen=True)
class Output:
    """One output of a network, as the manifest describes it."""

    name: str
    unit: str = ""
    """Empty where nobody has said."""
    sign: str = ""
    """What its sign means; empty as above."""
    dtype: str = "float32"


@dataclass(frozen=True)
class Kept:
    """A state that an input holds: who runs the program gives back what the call before gave."""

    start: Tensor
    """Before the first call."""
    given_by: str
    """Output that is the state after a call."""


@dataclass(frozen=True)
class Subject:
    """A float network and what the flow must know of it."""

    name: str
    """Of the model."""
    module: nn.Module
    """In eval mode; takes the inputs one by one, gives a tensor or a tuple of tensors."""
    input_names: tuple[str, ...]
    outputs: tuple[Output, ...]
    calibration: CalibrationSet
    samples: tuple[Inputs, ...]
    """What artefacts are compared on; the first is also timed and stored as reference."""
    limits: Mapping[str, Limits]
    limits_source: str
    facts: Mapping[str, Mapping[str, Any]]
    """For the manifest: "model", "input", "evaluation"."""
    metrics: tuple[Metric, ...] = ()
    """Of its task; the first is the one that limits are for. Without any, the difference from float is all there is."""
    keep_float: KeepFloat = keep_nothing
    scene: Rgb | None = None
    """The first sample for people to look at, (H, W, 3)."""
    scale: Scale = "sequential"
    """Colours of the output."""
    variant: str = ""
    """What programs of this network differ in beside their size, in file names: ``3-frames``. Empty where nothing."""
    input_fields: tuple[Field, ...] = ()
    """What each input holds, where its task says so: the app on a phone makes them by it."""
    kept: Mapping[str, Kept] = field(default_factory=dict)
    """Inputs that hold a state from one call to the next."""
    notes: tuple[str, ...] = ()
    """What a user should know of how it is exported."""

    @property
    def stem(self) -> str:
        """Of the artefacts' file names."""
        return f"{self.name}-{self.variant}" if self.variant else self.name

    @property
    def output_names(self) -> tuple[str, ...]:
        """In the order in which the module gives them."""
        return tuple(output.name for output in self.outputs)


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
