"""A module that changes its buffers, as one that takes them and gives them back: a program keeps nothing between calls.

What runs the program hands each state over: first the value that the module's buffer began with, which lies beside the
programs (``start.NAME`` in ``reference.safetensors``), then what the call before gave as ``next_NAME``. This is the
same for every backend. Core AI's own states are buffers of the caller as well: an asset does not hold what they begin
with.
"""

from __future__ import annotations

import copy
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.func import functional_call

from dualpix.capture.errors import DualpixError
from dualpix.export.bound import Bound, Example, bind, outputs_in, unique
from dualpix.export.flow.subject import Kept
from dualpix.quantize.calibration import Inputs

_NEXT = "next_"


class StatesAsInputs(nn.Module):
    """``module`` with the buffers ``states`` as last inputs, and what forward makes of them as last outputs.

    Args:
        module: in eval mode.
        bound: an example of what its forward is called with.
        states: names of the buffers.
    """

    def __init__(self, module: nn.Module, bound: Bound, states: Sequence[str]) -> None:
        super().__init__()
        self.module, self._bound, self._states = module, bound, tuple(states)
        self._given = len(bound.tensors())
        own = bound.names()
        self.state_names = unique([name.replace(".", "_") for name in states], own)
        self.input_names = (*own, *self.state_names)

    def forward(self, *tensors: Tensor) -> tuple[Tensor, ...]:
        """The module's outputs one by one, then the new states."""
        positional, named = self._bound.with_tensors(tensors[: self._given])
        held = {name: t.clone() for name, t in zip(self._states, tensors[self._given :], strict=True)}
        outputs = outputs_in(functional_call(self.module, held, positional, named))
        return (*(tensor for _, tensor in outputs), *(held[name] for name in self._states))

    def starts(self) -> Inputs:
        """What the states begin with."""
        return tuple(self.module.get_buffer(name).detach().clone() for name in self._states)

    def kept(self) -> dict[str, Kept]:
        """The states, by the input that takes them."""
        starts = zip(self.state_names, self.starts(), strict=True)
        return {name: Kept(start, _NEXT + name) for name, start in starts}


def states_as_inputs(
    module: nn.Module, inputs: Example | list[Example]
) -> tuple[nn.Module, list[Inputs], dict[str, Any]]:
    """A module that changes its buffers in ``forward``, as a function of its inputs and of these.

    Args:
        module: any; it is put into eval mode, and its buffers stay as they are.
        inputs: what forward is called with, or several such in the order of time: each is given the states that those
            before it left behind, so that int8 ranges are measured on states as they are at work.

    Returns:
        (module, inputs, facts), as a factory gives them to ``dualpix export``.

    Raises:
        DualpixError: forward changes no buffer, or does not take the inputs.
    """
    module.eval()
    examples = inputs if isinstance(inputs, list) else [inputs]
    if not examples:
        raise DualpixError("no example inputs of a module with states", expected="at least one")
    bounds = [bind(module, example, f"example {i}") for i, example in enumerate(examples, 1)]
    states, names = _changed(module, bounds[0])
    wrapped = StatesAsInputs(module, bounds[0], states).eval()
    carried, samples = wrapped.starts(), []
    with torch.no_grad():
        for bound in bounds:
            samples.append((*bound.tensors(), *carried))
            carried = tuple(t.detach().clone() for t in wrapped(*samples[-1])[-len(states) :])
    outputs = (*unique(names, wrapped.input_names), *(_NEXT + name for name in wrapped.state_names))
    return wrapped, samples, {"input_names": wrapped.input_names, "output_names": outputs}


def _changed(module: nn.Module, bound: Bound) -> tuple[list[str], list[str]]:
    """Names of the buffers that forward changes, and of what it gives."""
    tried = copy.deepcopy(module)
    before = {name: (id(buffer), buffer._version) for name, buffer in tried.named_buffers()}
    positional, named = bound.with_tensors(bound.tensors())
    with torch.no_grad():
        names = [name for name, _ in outputs_in(tried(*positional, **named))]
    changed = [name for name, buffer in tried.named_buffers() if before.get(name) != (id(buffer), buffer._version)]
    if not changed:
        raise DualpixError(
            f"forward of {type(module).__name__} changes no buffer",
            expected="a state that is registered as a buffer",
            hint="export the module as it is",
        )
    return changed, names
