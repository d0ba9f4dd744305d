"""What a network is for, as data: what it is shown, what it gives, how that is scored and brought back to the user.

Convention: a *sample* is a dictionary of named float32 tensors, without a batch axis; a *batch* has one in front. A
task's sample is clean: linear light as the lens gave it, with its truth. :attr:`Task.augment` adds what lies between
lens and network, :attr:`Task.inputs_of` makes the network's inputs. Maps are (1, H, W), pictures (C, H, W), what is
one a frame has an axis of frames in front: (N, C, H, W), or (N,) for scalars.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
from torch import Tensor

from dualpix.models.samples import KNOWN as KNOWN
from dualpix.models.samples import Batch as Batch
from dualpix.models.samples import Sample as Sample

FieldKind = Literal["picture", "map", "mask", "scalar"]
Better = Literal["lower", "higher"]


@dataclass(frozen=True)
class Field:
    """One tensor of a sample, or one input of a network."""

    name: str
    kind: FieldKind
    channels: int = 1
    """Of a picture, map or mask."""
    per_frame: bool = False
    """Whether there is one for each frame of a stack."""
    unit: str = ""
    optional: bool = False
    """Whether samples without it are samples of the task too."""

    def shape(self, size_hw: tuple[int, int], frames: int = 1) -> tuple[int, ...]:
        """Without the batch axis."""
        plain = () if self.kind == "scalar" else (self.channels, *size_hw)
        return (frames, *plain) if self.per_frame else plain


@dataclass(frozen=True)
class NetworkOutput:
    """One output of a network of the task."""

    name: str
    """With its unit, as in the house plan: ``disparity_px``, ``depth_m``."""
    unit: str
    meaning: str
    """One line for manifests and model cards."""
    scales_with_picture: bool = False
    """Whether values are lengths in the picture: resized by a factor, they are multiplied by it."""
    signed: bool = False
    """Whether values lie about zero, for pictures."""
    truth: str = ""
    """Name of the sample's field that it is held against; the output's own name if empty."""
    optional: bool = False

    @property
    def truth_field(self) -> str:
        """Name of the field of a sample that holds its truth."""
        return self.truth or self.name


@dataclass(frozen=True)
class TaskMetric:
    """One of the figures that say how well a prediction does against the truth of its sample."""

    name: str
    """As tables show it: ``AI(1)``."""
    better: Better = "lower"
    unit: str = ""


Arrays = Mapping[str, npt.NDArray[np.float32]]
"""By name, without the batch axis."""


@dataclass(frozen=True)
class Task:
    """What all networks of one kind share. One file of this package states one.

    Its functions are those of a module: loading processes are handed the task.
    """

    name: str
    sample: tuple[Field, ...]
    inputs: tuple[Field, ...]
    """Those that networks of the task may take, each by this name; a network names its own among them, in order."""
    outputs: tuple[NetworkOutput, ...]
    """The first is the one that a network must give."""
    inputs_of: Callable[[Batch], Mapping[str, Tensor]]
    """All :attr:`inputs` of a batch."""
    normalisation: str
    """What :attr:`inputs_of` does, in a line for manifests: phones must do the same."""
    layout: str
    """Of the inputs, likewise."""
    augment: Callable[[Sample, np.random.Generator], Sample]
    """What a sensor and a user add to a clean sample; the same generator gives the same sample."""
    loss: Callable[[Sequence[Any], Batch], Tensor]
    """(predictions, batch): what a network gave for training, finest first, against the truth."""
    error: Callable[[Tensor, Batch], Tensor]
    """(first output, batch): what is shown while training, in :attr:`error_unit`."""
    error_unit: str
    guess: Callable[[Batch], Tensor]
    """The first output of who knows nothing of the scene: a network that is no better has learnt nothing."""
    guess_name: str
    metrics: tuple[TaskMetric, ...]
    """The first is that which limits of the gate are for."""
    scores: Callable[[Arrays, Arrays], Mapping[str, float]]
    """(outputs, sample): each of :attr:`metrics` by name, for one sample."""
    summary: str = ""
    samples_of: str = ""
    """Name of the task whose samples it takes, and with them its sources of data; its own if empty."""

    @property
    def data_task(self) -> str:
        """Name of the task that sources of data are asked for."""
        return self.samples_of or self.name

    @property
    def truth(self) -> str:
        """Name of the field that holds the truth of the first output."""
        return self.outputs[0].truth_field

    def output(self, name: str) -> NetworkOutput | None:
        """What is known of an output of that name."""
        return next((o for o in self.outputs if o.name == name), None)

    def field(self, name: str) -> Field:
        """A field of the sample, or an input, by name.

        Raises:
            KeyError: there is none.
        """
        return {f.name: f for f in (*self.inputs, *self.sample)}[name]


@dataclass(frozen=True)
class EvalSample:
    """What networks are compared on: one network's inputs with batch 1, and the sample that they were made of."""

    inputs: tuple[Tensor, ...]
    truth: Batch
    """All fields of the sample, with batch 1."""

    def arrays(self) -> dict[str, npt.NDArray[np.float32]]:
        """The sample's fields without the batch axis."""
        return {name: value[0].numpy() for name, value in self.truth.items()}


def eval_sample(task: Task, sample: Sample, names: Sequence[str] = ()) -> EvalSample:
    """A sample for a network that takes ``names``; by default all inputs of the task."""
    batch = {name: value[None] for name, value in sample.items()}
    made = task.inputs_of(batch)
    return EvalSample(tuple(made[name] for name in names or made), batch)
