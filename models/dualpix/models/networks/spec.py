"""What is known of a network besides its code; torch is imported when one is built or run."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
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
    parts: tuple[str, ...] = ()
    """Attributes of the module that a run may take from other models: its encoders. See ``branches``."""
    of_options: Callable[[NetworkSpec, Mapping[str, Any]], NetworkSpec] | None = None
    """What options change of all this: another head, a branch alone."""

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


def first_output(output: Any) -> Tensor:
    """Of a network with one or several: that which its task asks for."""
    first: Tensor = next(iter(output)) if isinstance(output, tuple | list) else output
    return first
