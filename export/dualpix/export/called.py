"""How a user's module is called, and what it gives: a program has a flat list of tensors on either side.

Inputs are the tensors in what ``forward`` is called with, named after its parameters (and the keys or places in a
dictionary, list or tuple); outputs are the tensors in what it returns, named after keys, fields or places. Everything
else among the arguments (numbers, texts, ``None``) becomes part of the programs, as ``torch.export`` has it, and must
be the same in all examples.
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
from dualpix.export.artefact import type_name
from dualpix.export.subject import Output
from dualpix.quantize.calibration import Inputs
from dualpix.quantize.ptq import KeepFloat

Example = Tensor | tuple[Any, ...] | Mapping[str, Any]
"""What ``forward`` is called with: one argument, positional arguments, or arguments by name."""
Parts = tuple[tuple[str, Any], ...]
"""(name, leaf)"""

INPUT_TYPES = (torch.float32, torch.int64, torch.int32, torch.uint8, torch.bool)
OUTPUT_TYPES = INPUT_TYPES
OUTPUT = "output"
_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]{0,99}")


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
        plain_name = plain_name if _NAME.fullmatch(plain_name) else f"_{plain_name}"
        count, candidate = 1, plain_name
        while candidate in found or candidate in taken:
            count += 1
            candidate = f"{plain_name}_{count}"
        found.append(candidate)
    return tuple(found)


def check_names(names: Sequence[str], count: int, what: str) -> tuple[str, ...]:
    """Names that a user chose.

    Raises:
        DualpixError: another number, one that is no identifier, or one that stands twice.
    """
    if len(names) != count:
        raise DualpixError(f"{len(names)} {what} names", expected=f"{count}, one for each {what}")
    bad = [name for name in names if not isinstance(name, str) or not _NAME.fullmatch(name)]
    if bad or len(set(names)) != len(names):
        found = f"'{bad[0]}'" if bad else "one twice"
        raise DualpixError(f"{what} names hold {found}", expected="different ones of letters, digits and '_'")
    return tuple(names)


class Positional(nn.Module):
    """Calls ``module`` as ``bound`` does, with other tensors given one by one; gives a flat tuple of tensors."""

    def __init__(self, module: nn.Module, bound: Bound, *, copies: bool) -> None:
        super().__init__()
        self.module = module
        self._bound, self._copies = bound, copies

    def forward(self, *tensors: Tensor) -> Tensor | tuple[Tensor, ...]:
        """The outputs; a single one by itself."""
        given = iter([t.clone() for t in tensors] if self._copies else tensors)
        positional, named = _with_tensors(self._bound.positional, given), _with_tensors(dict(self._bound.named), given)
        outputs = tuple(tensor for _, tensor in outputs_in(self.module(*positional, **named)))
        return outputs[0] if len(outputs) == 1 else outputs


def own_path(module: nn.Module, path: str) -> str:
    """The path of a submodule or buffer of ``module`` as the user knows it, without :class:`Positional`'s."""
    return path.removeprefix("module").removeprefix(".") if isinstance(module, Positional) else path


@dataclass(frozen=True)
class Called:
    """A user's module as the export flow runs it."""

    name: str
    module: nn.Module
    """Takes the inputs one by one, gives a tensor or a tuple of tensors; in eval mode."""
    own: nn.Module
    """As the user gave it."""
    first: Bound
    """The example that says what the inputs are."""
    input_names: tuple[str, ...]
    outputs: tuple[Output, ...]
    notes: tuple[str, ...]

    def kept(self, keep_float: KeepFloat) -> KeepFloat:
        """``keep_float`` on the paths within :attr:`module`."""
        return lambda path: keep_float(own_path(self.module, path))

    def inputs_of(self, example: Example, where: str) -> Inputs:
        """The inputs of another example.

        Args:
            example: of the same form as the first.
            where: names it in a message.

        Raises:
            DualpixError: it has another form, size or type, other constants, or values that are not finite.
        """
        bound = bind(self.own, example, where)
        inputs = bound.tensors()
        if bound.names() != self.first.names():
            raise DualpixError(f"{where} gives {', '.join(bound.names())}", expected=", ".join(self.first.names()))
        for (name, value), (_, first) in zip(bound.constants(), self.first.constants(), strict=True):
            if value != first:
                raise DualpixError(
                    f"'{name}' is {value!r} in {where} and {first!r} in the first: what is no tensor becomes part of "
                    "the programs",
                    expected="the same in all",
                    hint=f"give '{name}' as a tensor, such as torch.tensor({value!r})",
                )
        for name, tensor, first in zip(self.input_names, inputs, self.first.tensors(), strict=True):
            if (tensor.shape, tensor.dtype) != (first.shape, first.dtype):
                raise DualpixError(
                    f"input '{name}' is {form(tensor)} in {where}", expected=f"{form(first)}, the one size and type"
                )
            check_input(name, tensor, where)
        return inputs


def form(tensor: Tensor) -> str:
    """Shape and type: ``(1, 3, 32, 48) float32``."""
    return f"{tuple(tensor.shape)} {type_name(tensor.dtype)}"


def check_input(name: str, tensor: Tensor, where: str) -> None:
    """Whether a program can take it.

    Raises:
        DualpixError: another type or device, no values, or values that are not finite.
    """
    if tensor.dtype not in INPUT_TYPES or tensor.device.type != "cpu" or tensor.layout != torch.strided:
        raise DualpixError(
            f"input '{name}' is {form(tensor)} on {tensor.device} in {where}",
            expected=f"{', '.join(map(type_name, INPUT_TYPES))} tensors on the CPU",
        )
    if not tensor.numel():
        raise DualpixError(f"input '{name}' is {form(tensor)} in {where}", expected="at least one value")
    if tensor.is_floating_point() and not torch.isfinite(tensor).all():
        raise DualpixError(f"input '{name}' holds values that are not finite in {where}", expected="finite inputs")


def called(
    module: nn.Module,
    example: Example,
    *,
    name: str,
    input_names: Sequence[str] = (),
    output_names: Sequence[str] = (),
    units: str | Mapping[str, str] = "",
) -> Called:
    """Run ``module`` once on ``example`` and find out what its inputs and outputs are.

    Args:
        module: any; it is put into eval mode.
        example: what its forward is called with.
        name: stem of the files.
        input_names: instead of those of forward's parameters.
        output_names: instead of the keys or places in what it gives.
        units: of all outputs, or by name.

    Raises:
        DualpixError: it does not run, takes or gives something that no program can, or the names do not fit.
    """
    module.eval()
    first = bind(module, example, f"the first example of '{name}'")
    inputs = first.tensors()
    if not inputs:
        raise DualpixError(f"the example inputs of '{name}' hold no tensor", expected="at least one")
    names = check_names(input_names, len(inputs), "input") if input_names else first.names()
    for input_name, tensor in zip(names, inputs, strict=True):
        check_input(input_name, tensor, f"the first example of '{name}'")
    wrapped = Positional(module, first, copies=False)
    given = tuple(t.clone() for t in inputs)
    output = _ran(wrapped, first, given, name)
    parts = _outputs(output, name)
    changed = [n for n, before, after in zip(names, inputs, given, strict=True) if not torch.equal(before, after)]
    notes = [f"forward changes its input '{n}' in place; the programs work on a copy of it" for n in changed]
    notes += [f"{n}={v!r} is part of the programs" for n, v in first.constants()]
    is_plain = first.is_flat and not changed and _is_flat(output)
    found = check_names(output_names, len(parts), "output") if output_names else unique([n for n, _ in parts], names)
    if not isinstance(units, str) and (unknown := [n for n in units if n not in found]):
        raise DualpixError(f"a unit of output '{unknown[0]}'", expected="outputs out of " + ", ".join(found))
    return Called(
        name,
        module if is_plain else Positional(module, first, copies=bool(changed)).eval(),
        module,
        first,
        names,
        tuple(_described(n, t, units) for n, (_, t) in zip(found, parts, strict=True)),
        tuple(notes),
    )


def _described(name: str, tensor: Tensor, units: str | Mapping[str, str]) -> Output:
    unit = units if isinstance(units, str) else units.get(name, "")
    return Output(name, unit, dtype=type_name(tensor.dtype))


def _is_flat(output: Any) -> bool:
    return isinstance(output, Tensor) or (
        isinstance(output, tuple | list) and len(output) > 1 and all(isinstance(t, Tensor) for t in output)
    )


def _ran(wrapped: Positional, first: Bound, given: Inputs, name: str) -> Any:
    tensors = iter(given)
    positional, named = _with_tensors(first.positional, tensors), _with_tensors(dict(first.named), tensors)
    try:
        with torch.no_grad():
            return wrapped.module(*positional, **named)
    except Exception as error:  # the user's module raises anything
        shapes = ", ".join(str(tuple(t.shape)) for t in given)
        raise DualpixError(
            f"'{name}' does not run on its example inputs {shapes}: {type(error).__name__}: {error}",
            expected="inputs that its forward takes",
        ) from error


def _outputs(output: Any, name: str) -> Parts:
    try:
        parts = outputs_in(output)
    except DualpixError as error:
        raise DualpixError(f"'{name}' {error.found}", expected=error.expected) from error
    if not parts:
        raise DualpixError(f"'{name}' gives no tensor", expected="at least one")
    for part, tensor in parts:
        if tensor.dtype not in OUTPUT_TYPES or not tensor.numel():
            raise DualpixError(
                f"'{name}' gives {form(tensor)} as '{part}'",
                expected="values of " + ", ".join(map(type_name, OUTPUT_TYPES)),
            )
    return parts
