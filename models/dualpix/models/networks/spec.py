"""What is known of a network besides its code; torch is imported when one is built or run."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeAlias

if TYPE_CHECKING:
    from torch import Tensor, nn

    from dualpix.models.tasks import Batch, Task

    Loss: TypeAlias = Callable[[Sequence[Any], Batch], Tensor]


@dataclass(frozen=True)
class NetworkSpec:
    """How to build a network and what it takes."""

    build: Callable[[dict[str, Any]], nn.Module]
    inputs: tuple[tuple[str, int], ...]
    """(name, channels) of each input, in the order of ``forward``: of those of its task."""
    output: str
    """Kind of depth the network gives, one of the names in the house plan: ``disparity_px`` ..."""
    size_multiple: int
    """Height and width must be multiples of this."""
    paper: str
    task: str = "dual_pixel"
    loss: Callable[[Sequence[Any], Batch], Tensor] | None = None
    """Of its own; None takes the task's."""
    loss_of_options: Callable[[Mapping[str, Any]], Loss] | None = None
    """The loss of a network whose options weigh its terms, in place of ``loss``."""
    further_outputs: tuple[str, ...] = ()
    """Names of what ``forward`` gives after ``output``, in order: outputs of its task."""
    working_long_side_px: int | None = None
    """Of focus stacks: the long side at which it works best, to which smaller frames are enlarged, up to twice; None
    works at the frames' own size, within bounds."""
    wanted: tuple[str, ...] = ()
    """Optional fields of its task's samples that its loss is made of: sources are asked for them."""

    parts: tuple[str, ...] = ()
    """Attributes of the module that a run may take from other models: its encoders. See ``branches``."""
    of_options: Callable[[NetworkSpec, Mapping[str, Any]], NetworkSpec] | None = None
    """What options change of all this: another head, a branch alone."""

    @property
    def outputs(self) -> tuple[str, ...]:
        """All that ``forward`` gives, in order."""
        return (self.output, *self.further_outputs)

    def loss_for(self, options: Mapping[str, Any]) -> Loss:
        """What a network of these options is trained by: (predictions, batch) to one number."""
        if self.loss_of_options is not None:
            return self.loss_of_options(options)
        return self.loss or self.of_task().loss

    def with_options(self, options: object) -> NetworkSpec:
        """Of the network with these options; what are none are refused when it is built."""
        if self.of_options is None or not isinstance(options, Mapping):
            return self
        return self.of_options(self, options)

    @property
    def input_names(self) -> tuple[str, ...]:
        """In the order of ``forward``."""
        return tuple(name for name, _ in self.inputs)

    def of_task(self) -> Task:
        """The task it is for.

        Raises:
            UnknownNameError: there is none of that name.
        """
        from dualpix.models.tasks import task_named

        return task_named(self.task)

    def inputs_of(self, batch: Batch) -> tuple[Tensor, ...]:
        """What ``forward`` is called with for a batch of its task."""
        made = self.of_task().inputs_of(batch)
        return tuple(made[name] for name in self.input_names)


def training_outputs(network: nn.Module, inputs: Sequence[Tensor]) -> list[Any]:
    """What a network gives for its loss, finest first: ``forward_scales`` where it has one, else its output."""
    scales = getattr(network, "forward_scales", None)
    if scales is not None:
        return list(scales(*inputs))
    return [first_output(network(*inputs))]


def start_weights(network: nn.Module) -> str | None:
    """Put in what a network's training starts from, where it has such (``start``); where that is from, or None.

    Building a network never does: one whose weights are loaded needs none of the files that it once began with.

    Raises:
        DualpixError: they are not there, or do not fit.
    """
    start = getattr(network, "start", None)
    return None if start is None else start()


def confidence_output(output: Any) -> Tensor | None:
    """Of a network of the task ``dual_pixel`` that gives one: how sure its disparity is, 0 to 1, of the same shape.

    Outputs come in the task's order, in which the confidence follows the disparity; a picture has other channels.
    """
    if not isinstance(output, tuple | list) or len(output) < 2:
        return None
    first, second = output[0], output[1]
    same: bool = getattr(second, "shape", None) == first.shape
    return second if same else None


def fix_size(network: nn.Module, inputs: Sequence[Tensor]) -> None:
    """Have a network keep what depends on the size of its inputs alone, where it can (``fix_size``), before export.

    In the graph it would be computed anew for each picture, outside the delegates. Eager mode never reads it.
    """
    fix = getattr(network, "fix_size", None)
    if fix is not None and inputs:
        fix(tuple(inputs[0].shape[-2:]))


def first_output(output: Any) -> Tensor:
    """Of a network with one or several: that which its task asks for."""
    first: Tensor = next(iter(output)) if isinstance(output, tuple | list) else output
    return first
