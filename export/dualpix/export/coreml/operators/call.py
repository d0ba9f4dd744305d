"""What an operator's implementation is given, and the table of implementations."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import NoReturn, TypeAlias

from torch import Tensor

from dualpix.export.coreml.package import MAX_ELEMENTS, PackageError, Value


class OperatorError(PackageError):
    """An operator that the interpreter does not know, or is used in a way that it does not model."""


@dataclass(frozen=True)
class Call:
    """One operation with its operands' values. An accessor fails, naming the operation, on a value of another kind."""

    kind: str
    name: str
    operands: Mapping[str, tuple[Value, ...]]

    def fail(self, reason: str) -> NoReturn:
        """Refuse the operation.

        Raises:
            OperatorError: always.
        """
        raise OperatorError(f"operator '{self.kind}' at '{self.name}': {reason}")

    def tensor(self, parameter: str) -> Tensor:
        """A required tensor."""
        value = self.optional(parameter)
        return self.fail(f"'{parameter}' is missing") if value is None else value

    def optional(self, parameter: str) -> Tensor | None:
        """A tensor, or ``None`` where it is left out."""
        if parameter not in self.operands:
            return None
        values = self.operands[parameter]
        if len(values) != 1 or not isinstance(values[0], Tensor):
            self.fail(f"'{parameter}' is no tensor")
        return values[0]

    def tensors(self, parameter: str) -> list[Tensor]:
        """A list of tensors."""
        values = self.operands.get(parameter, ())
        found = [v for v in values if isinstance(v, Tensor)]
        if not found or len(found) != len(values):
            self.fail(f"'{parameter}' is no list of tensors")
        return found

    def ints(self, parameter: str, default: Sequence[int] | None = None) -> list[int]:
        """A vector of whole numbers; required without a default."""
        value = self.optional(parameter)
        if value is None:
            return self.fail(f"'{parameter}' is missing") if default is None else list(default)
        if value.is_floating_point():
            self.fail(f"'{parameter}' is not whole")
        return [int(v) for v in value.reshape(-1).tolist()]

    def integer(self, parameter: str, default: int | None = None) -> int:
        """One whole number."""
        values = self.ints(parameter, None if default is None else [default])
        return values[0] if len(values) == 1 else self.fail(f"'{parameter}' has {len(values)} values")

    def flags(self, parameter: str, default: Sequence[bool]) -> list[bool]:
        """A vector of truth values."""
        return [bool(v) for v in self.ints(parameter, default)]

    def flag(self, parameter: str, default: bool = False) -> bool:
        """One truth value."""
        return bool(self.integer(parameter, default))

    def number(self, parameter: str, default: float | None = None) -> float:
        """One real number."""
        value = self.optional(parameter)
        if value is None:
            return self.fail(f"'{parameter}' is missing") if default is None else default
        return float(value) if value.numel() == 1 else self.fail(f"'{parameter}' has {value.numel()} values")

    def text(self, parameter: str, default: str | None = None) -> str:
        """A word out of a fixed vocabulary."""
        values = self.operands.get(parameter, () if default is None else (default,))
        if len(values) != 1 or not isinstance(values[0], str):
            self.fail(f"'{parameter}' is no text")
        return values[0]

    def bounded(self, shape: Sequence[int]) -> list[int]:
        """``shape``, refused where a tensor of it would be too large to make."""
        if any(s < 0 for s in shape) or math.prod(shape) > MAX_ELEMENTS:
            self.fail(f"makes a tensor of shape {tuple(shape)}; at most {MAX_ELEMENTS} elements")
        return list(shape)


Result: TypeAlias = Tensor | Sequence[Tensor]
Implementation: TypeAlias = Callable[[Call], Result]


@dataclass(frozen=True)
class Operator:
    """An implementation and the parameters that it models; an operation with any other parameter is refused."""

    run: Implementation
    parameters: frozenset[str]


OPERATORS: dict[str, Operator] = {}
"""The implementations by MIL operator name."""


def operator(kinds: str, parameters: str) -> Callable[[Implementation], Implementation]:
    """Register an implementation under one or more operator names, separated by spaces."""

    def register(run: Implementation) -> Implementation:
        for kind in kinds.split():
            OPERATORS[kind] = Operator(run, frozenset(parameters.split()))
        return run

    return register
