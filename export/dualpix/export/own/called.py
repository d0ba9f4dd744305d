"""A user's module as the export flow runs it: run twice, its inputs and outputs named, described and checked."""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from dualpix.capture.errors import DualpixError
from dualpix.export.artefact import type_name
from dualpix.export.bound import NAME, Bound, Example, Parts, Positional, bind, outputs_in, own_path, unique
from dualpix.export.flow.precheck import State, check_any_first, check_repeats
from dualpix.export.flow.subject import Output
from dualpix.models.blocks.channels import float_islands
from dualpix.quantize.calibration import Inputs
from dualpix.quantize.keep import KeepFloat, keep_modules

INPUT_TYPES = (torch.float32, torch.int64, torch.int32, torch.uint8, torch.bool)
OUTPUT_TYPES = INPUT_TYPES


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
        """``keep_float`` on the paths within :attr:`module`, and what its blocks name themselves."""
        islands = keep_modules(*float_islands(self.own))
        return lambda path: any(keep(own_path(self.module, path)) for keep in (keep_float, islands))

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
        given, constants = dict(bound.constants()), dict(self.first.constants())
        for name in given.keys() ^ constants.keys():
            raise DualpixError(f"{where} has {'no ' if name in constants else ''}'{name}'", expected="the same in all")
        for name, value in given.items():
            if value != (first := constants[name]):
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
    """Run ``module`` twice on ``example`` and find out what its inputs and outputs are.

    Args:
        module: any; it is put into eval mode.
        example: what its forward is called with.
        name: stem of the files.
        input_names: instead of those of forward's parameters.
        output_names: instead of the keys or places in what it gives.
        units: of all outputs, or by name.

    Raises:
        DualpixError: it does not run, takes or gives something that no program can, gives something else when it runs
            again, or the names do not fit.
    """
    module.eval()
    first = bind(module, example, f"the first example of '{name}'")
    inputs = first.tensors()
    for part, value in first.constants():
        if not isinstance(value, int | float | str | None):
            raise DualpixError(
                f"'{part}' is a {type(value).__name__} in the first example of '{name}'",
                expected="a tensor, or a number or text that becomes part of the programs",
                hint="torch.from_numpy makes a tensor of an array",
            )
    if not inputs:
        raise DualpixError(f"the example inputs of '{name}' hold no tensor", expected="at least one")
    names = check_names(input_names, len(inputs), "input") if input_names else first.names()
    for input_name, tensor in zip(names, inputs, strict=True):
        check_input(input_name, tensor, f"the first example of '{name}'")
    fresh, state, given = _copy_of(module), State.of(module), tuple(t.clone() for t in inputs)
    output = _ran(module, first, given, name)
    parts = _outputs(output, name)
    wrapped = Positional(module, first, copies=True)
    flat = tuple(t for _, t in parts)
    check_repeats(wrapped, name, inputs, flat, state)
    if fresh is not None and (change := state.changes(module)):
        check_any_first(Positional(fresh, first, copies=True), name, inputs, flat, change)
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


def _copy_of(module: nn.Module) -> nn.Module | None:
    """A copy that has not run, of a module that can be copied."""
    try:
        return copy.deepcopy(module)
    except Exception:  # a user's module may hold anything
        return None


def _described(name: str, tensor: Tensor, units: str | Mapping[str, str]) -> Output:
    unit = units if isinstance(units, str) else units.get(name, "")
    return Output(name, unit, dtype=type_name(tensor.dtype))


def _is_flat(output: Any) -> bool:
    return isinstance(output, Tensor) or (
        isinstance(output, tuple | list) and len(output) > 1 and all(isinstance(t, Tensor) for t in output)
    )


def _ran(module: nn.Module, first: Bound, given: Inputs, name: str) -> Any:
    positional, named = first.with_tensors(given)
    try:
        with torch.no_grad():  # what a module keeps of this run must be of use to torch.export: no inference tensors
            return module(*positional, **named)
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


def check_names(names: Sequence[str], count: int, what: str) -> tuple[str, ...]:
    """Names that a user chose.

    Raises:
        DualpixError: another number, one that is no identifier, or one that stands twice.
    """
    if len(names) != count:
        raise DualpixError(f"{len(names)} {what} names", expected=f"{count}, one for each {what}")
    bad = [name for name in names if not isinstance(name, str) or not NAME.fullmatch(name)]
    if bad or len(set(names)) != len(names):
        found = f"'{bad[0]}'" if bad else "one twice"
        raise DualpixError(f"{what} names hold {found}", expected="different ones of letters, digits and '_'")
    return tuple(names)
