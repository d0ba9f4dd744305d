"""A Core ML program run on any operating system: the saved package, operator by operator, in torch.

What is modelled: the program and the weights as they lie in the package, decompressed as the format says; each
operator's definition; the rounding of every operator's result to the type it is declared with (float16, int8, ...),
overflow included; the declared shapes, which every result must have.

What is not modelled: the arithmetic inside an operator, which is float32 here and float16 with float16 or float32
accumulators on a Neural Engine or GPU; fusions that skip a rounding; operators that a device moves elsewhere. An
interpreted result is therefore evidence about the conversion, not about a device.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import torch
from torch import Tensor

from dualpix.export.coreml.operators import OPERATORS, Call, OperatorError
from dualpix.export.coreml.package import Operation, PackageError, Reference, TensorType, Value, read_package

_STORED = {
    "float16": torch.float32, "float32": torch.float32, "float64": torch.float32, "bool": torch.bool,
    "int4": torch.int8, "int8": torch.int8, "int16": torch.int16, "int32": torch.int32, "int64": torch.int64,
    "uint1": torch.uint8, "uint2": torch.uint8, "uint3": torch.uint8, "uint4": torch.uint8, "uint6": torch.uint8,
    "uint8": torch.uint8, "uint16": torch.int64, "uint32": torch.int64, "uint64": torch.int64,
}  # fmt: skip
"""The type that a value is held in, by its type in the program."""


def coverage() -> dict[str, tuple[str, ...]]:
    """All MIL operators that the interpreter knows, each with the parameters it models; sorted."""
    return {name: tuple(sorted(OPERATORS[name].parameters)) for name in sorted(OPERATORS)}


class Interpreter:
    """A loaded package; call it with named inputs.

    Raises:
        PackageError: the package is damaged; see :func:`~dualpix.export.coreml.package.read_package`.
        OperatorError: it uses an operator, or a parameter of one, that is not modelled. Found before anything runs.
    """

    def __init__(self, path: Path) -> None:
        self.program = read_package(path)
        for operation in self.program.operations:
            _require_known(operation)
        self._constants: dict[str, Value] = {}
        self.steps: tuple[Operation, ...] = ()
        """The operations that compute something, in order; constants are decompressed when the package is loaded."""
        steps = []
        with torch.no_grad():
            for operation in self.program.operations:
                if operation.kind == "const" or operation.kind.startswith("constexpr_"):
                    self._constants |= _execute(operation, self._constants)
                else:
                    steps.append(operation)
        self.steps = tuple(steps)
        self._last_use = {
            reference.name: index
            for index, operation in enumerate(self.steps)
            for reference in _references(operation)
            if reference.name not in self._constants and reference.name not in self.program.outputs
        }

    def constant(self, name: str) -> Value:
        """A constant of the program, decompressed.

        Raises:
            PackageError: there is none of that name.
        """
        if name not in self._constants:
            raise PackageError(f"'{self.program.path.name}' has no constant '{name}'")
        return self._constants[name]

    def __call__(self, inputs: Mapping[str, Tensor], keep: dict[str, Tensor] | None = None) -> dict[str, Tensor]:
        """Run the program.

        Args:
            inputs: a tensor of the declared shape by input name.
            keep: filled with every operator's result by name, for a comparison operator by operator.

        Returns:
            The outputs by name; floats as float32.

        Raises:
            PackageError: an input is missing or of another shape, or a result is not what the program declares.
        """
        values: dict[str, Value] = dict(self._constants) | self._feed(inputs)
        with torch.no_grad():
            for index, operation in enumerate(self.steps):
                results = _execute(operation, values)
                values |= results
                if keep is not None:
                    keep |= {name: value for name, value in results.items() if isinstance(value, Tensor)}
                for reference in _references(operation):
                    if self._last_use.get(reference.name) == index:
                        values.pop(reference.name, None)
        outputs = {name: _resolve(Reference(name), values, "the output") for name in self.program.outputs}
        return {name: value for name, value in outputs.items() if isinstance(value, Tensor)}

    def _feed(self, inputs: Mapping[str, Tensor]) -> dict[str, Value]:
        declared = self.program.inputs
        if set(inputs) != set(declared):
            raise PackageError(f"given {sorted(inputs)}", expected=f"the inputs {sorted(declared)}")
        return {name: _store(tensor, declared[name], f"input '{name}'") for name, tensor in inputs.items()}


def _require_known(operation: Operation) -> None:
    known = OPERATORS.get(operation.kind)
    if known is None:
        raise OperatorError(f"operator '{operation.kind}' at '{operation.name}' is not known to the interpreter")
    extra = sorted(set(operation.inputs) - known.parameters)
    if extra:
        raise OperatorError(
            f"operator '{operation.kind}' at '{operation.name}' has the parameter '{extra[0]}', which is not modelled"
        )


def _references(operation: Operation) -> list[Reference]:
    return [operand for given in operation.inputs.values() for operand in given if isinstance(operand, Reference)]


def _execute(operation: Operation, values: Mapping[str, Value]) -> dict[str, Value]:
    """The operation's results by name, rounded to their declared types."""
    where = f"operator '{operation.kind}' at '{operation.name}'"
    operands = {
        parameter: tuple(_resolve(o, values, where) if isinstance(o, Reference) else o for o in given)
        for parameter, given in operation.inputs.items()
    }
    if operation.kind == "const":
        constant = operands.get("val", ())
        if len(constant) == 1 and not isinstance(constant[0], Tensor):  # text and lists have no tensor to check
            return {operation.name: constant[0]}
    try:
        result = OPERATORS[operation.kind].run(Call(operation.kind, operation.name, operands))
    except (RuntimeError, IndexError, ValueError, TypeError) as error:  # torch refuses the operands
        reason = (str(error).strip().splitlines() or [type(error).__name__])[0]
        raise OperatorError(f"{where} does not run: {reason}") from error
    results = [result] if isinstance(result, Tensor) else list(result)
    if len(results) < len(operation.outputs):
        raise OperatorError(f"{where} gives {len(results)} results, {len(operation.outputs)} are declared")
    return {name: _store(r, declared, where) for r, (name, declared) in zip(results, operation.outputs, strict=False)}


def _resolve(reference: Reference, values: Mapping[str, Value], where: str) -> Value:
    if reference.name not in values:
        raise PackageError(f"{where} uses '{reference.name}', which nothing before it makes")
    return values[reference.name]


def _store(value: Tensor, declared: TensorType, where: str) -> Tensor:
    """``value`` as its declared type keeps it."""
    shape = tuple(value.shape)
    agrees = len(shape) == len(declared.shape) and all(
        want in (None, got) for got, want in zip(shape, declared.shape, strict=True)
    )
    floats = declared.dtype.startswith("float")
    if not agrees or declared.dtype not in _STORED or value.is_floating_point() != floats:
        raise PackageError(f"{where} gives {value.dtype} {shape}".replace("torch.", ""), expected=f"{declared}")
    if declared.dtype == "float16":
        return value.half().float()
    return value.to(_STORED[declared.dtype])
