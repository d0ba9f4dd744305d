"""What is known of a network besides its code; torch is imported when one is built or run."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from torch import Tensor, nn

    from dualpix.models.tasks import Batch, Task


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
    also: tuple[str, ...] = ()
    """Outputs of its task that ``forward`` gives after the first, in their order."""

    @property
    def output_names(self) -> tuple[str, ...]:
        """In the order of what ``forward`` gives."""
        return (self.output, *self.also)

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


def start_weights(network: nn.Module) -> str:
    """Put in what a network's training starts from, where it has such (``start``); where that is from.

    Building a network never does: one whose weights are loaded needs none of the files that it once began with.

    Raises:
        DualpixError: they are not there, or do not fit.
    """
    start = getattr(network, "start", None)
    return "random" if start is None else str(start())


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
