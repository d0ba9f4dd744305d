"""What a user's ``forward`` is called with and gives, as flat lists of tensors, which is what a program has.

Inputs are the tensors in what ``forward`` is called with, named after its parameters (and the keys or places in a
dictionary, list or tuple); outputs are the tensors in what it returns, named after keys, fields or places. Everything
else among the arguments (numbers, texts, ``None``) becomes part of the programs, as ``torch.export`` has it.
"""

from __future__ import annotations

import dataclasses
import inspect
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from dualpix.capture.errors import DualpixError
from dualpix.quantize.calibration import Inputs

Example = Tensor | tuple[Any, ...] | Mapping[str, Any]
"""What ``forward`` is called with: one argument, positional arguments, or arguments by name."""
Parts = tuple[tuple[str, Any], ...]
"""(name, leaf)"""

OUTPUT = "output"
NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]{0,99}")


@dataclass(frozen=True)
class Bound:
    """One example as arguments of ``forward``."""

    arguments: Mapping[str, Any]
    """By parameter, in order."""
    positional: tuple[Any, ...]
    named: Mapping[str, Any]

    def parts(self) -> Parts:
        """All leaves with their names."""
        return tuple(leaf for name, value in self.arguments.items() for leaf in _leaves(name, value))

    def tensors(self) -> Inputs:
        """The inputs, each contiguous and apart from autograd."""
        return tuple(plain(value) for _, value in self.parts() if isinstance(value, Tensor))

    def with_tensors(self, tensors: Sequence[Tensor]) -> tuple[tuple[Any, ...], dict[str, Any]]:
        """Positional and named arguments with other tensors in the places of its own."""
        given = iter(tensors)
        return _with_tensors(self.positional, given), _with_tensors(dict(self.named), given)

    def names(self) -> tuple[str, ...]:
        """Of the inputs."""
        return unique([name for name, value in self.parts() if isinstance(value, Tensor)])

    def constants(self) -> Parts:
        """What is no tensor."""
        return tuple((name, value) for name, value in self.parts() if not isinstance(value, Tensor))

    @property
    def is_flat(self) -> bool:
        """Whether it is nothing but tensors in their places."""
        return not self.named and all(isinstance(value, Tensor) for value in self.positional)


def plain(tensor: Tensor) -> Tensor:
    """A copy with the values in order of the axes, apart from autograd: what a program takes."""
    if tensor.layout != torch.strided:  # sparse: to be refused, by name
        return tensor
    return tensor.detach().clone(memory_format=torch.contiguous_format)


def bind(module: nn.Module, example: Example, where: str) -> Bound:
    """``example`` as arguments of ``module.forward``.

    Raises:
        DualpixError: ``forward`` has other parameters.
    """
    signature = inspect.signature(module.forward)
    tries: list[tuple[tuple[Any, ...], Mapping[str, Any]]] = [
        ((), example) if isinstance(example, Mapping) else (example if isinstance(example, tuple) else (example,), {})
    ]
    if isinstance(example, Mapping):
        tries.append(((dict(example),), {}))  # a forward that takes the dictionary itself
    for positional, named in tries:
        try:
            bound = signature.bind(*positional, **named)
        except TypeError:
            continue
        arguments: dict[str, Any] = {}
        for name, value in bound.arguments.items():  # those of **kwargs stand by their own names
            variadic = signature.parameters[name].kind is inspect.Parameter.VAR_KEYWORD
            arguments |= value if variadic else {name: value}
        return Bound(arguments, bound.args, bound.kwargs)
    found = "arguments " + ", ".join(example) if isinstance(example, Mapping) else f"{len(tries[0][0])} arguments"
    raise DualpixError(f"{where} gives {found}", expected=f"what forward takes: {signature}")


def _leaves(name: str, value: Any) -> Iterator[tuple[str, Any]]:
    if isinstance(value, Mapping):
        for key, inner in value.items():
            yield from _leaves(f"{name}_{key}", inner)
    elif isinstance(value, tuple | list):
        fields = getattr(value, "_fields", range(len(value)))
        for key, inner in zip(fields, value, strict=True):
            yield from _leaves(f"{name}_{key}", inner)
    else:
        yield name, value


def _with_tensors(value: Any, tensors: Iterator[Tensor]) -> Any:
    """``value`` with its tensors replaced, in the order of :func:`_leaves`."""
    if isinstance(value, Mapping):
        return {key: _with_tensors(inner, tensors) for key, inner in value.items()}
    if isinstance(value, tuple | list):
        items = [_with_tensors(inner, tensors) for inner in value]
        return type(value)(*items) if hasattr(value, "_fields") else type(value)(items)
    return next(tensors) if isinstance(value, Tensor) else value


def outputs_in(output: Any, name: str = "") -> Parts:
    """The tensors in what a module gave, with names; ``None`` is left out.

    Raises:
        DualpixError: there is something else in it.
    """
    if output is None:
        return ()
    if isinstance(output, Tensor):
        return ((name or OUTPUT, output),)
    if isinstance(output, Mapping):
        items: Sequence[tuple[Any, Any]] = tuple(output.items())
    elif isinstance(output, tuple | list):
        fields = getattr(output, "_fields", None)
        items = tuple(zip(fields or [f"{OUTPUT}_{i}" for i in range(len(output))], output, strict=True))
        if name and not fields:
            items = tuple(enumerate(output))
    elif dataclasses.is_dataclass(output) and not isinstance(output, type):
        items = tuple((f.name, getattr(output, f.name)) for f in dataclasses.fields(output))
    else:
        raise DualpixError(
            f"gives a {type(output).__name__}" + (f" as '{name}'" if name else ""),
            expected="a tensor, or a tuple or dictionary of tensors",
        )
    return tuple(leaf for key, inner in items for leaf in outputs_in(inner, f"{name}_{key}" if name else str(key)))


def unique(names: Sequence[str], taken: Sequence[str] = ()) -> tuple[str, ...]:
    """Names as identifiers that differ from each other and from those ``taken``: Core ML asks for both."""
    found: list[str] = []
    for name in names:
        plain_name = re.sub(r"\W", "_", name, flags=re.ASCII)[:80]
        plain_name = plain_name if NAME.fullmatch(plain_name) else f"_{plain_name}"
        count, candidate = 1, plain_name
        while candidate in found or candidate in taken:
            count += 1
            candidate = f"{plain_name}_{count}"
        found.append(candidate)
    return tuple(found)


class Positional(nn.Module):
    """Calls ``module`` as ``bound`` does, with other tensors given one by one; gives a flat tuple of tensors."""

    def __init__(self, module: nn.Module, bound: Bound, *, copies: bool) -> None:
        super().__init__()
        self.module = module
        self._bound, self._copies = bound, copies

    def forward(self, *tensors: Tensor) -> Tensor | tuple[Tensor, ...]:
        """The outputs; a single one by itself."""
        positional, named = self._bound.with_tensors([t.clone() for t in tensors] if self._copies else tensors)
        outputs = tuple(tensor for _, tensor in outputs_in(self.module(*positional, **named)))
        return outputs[0] if len(outputs) == 1 else outputs


def own_path(module: nn.Module, path: str) -> str:
    """The path of a submodule or buffer of ``module`` as the user knows it, without :class:`Positional`'s."""
    return path.removeprefix("module").removeprefix(".") if isinstance(module, Positional) else path
