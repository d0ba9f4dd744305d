"""Reading a saved Core ML package (``.mlpackage``, mlprogram) as plain data, on any operating system.

A package is a folder: ``Manifest.json`` names the model file, the model file is a protobuf ``Model`` whose
``mlProgram`` lists operations, and large constants lie in ``weights/weight.bin``. Nothing in it is trusted: every path
must stay inside the package, every size is bounded, every constant must have as many bytes as its type needs.

Convention: numbers are read as stored, float16 widened to float32 (exact); integers of fewer than 8 bits are packed
from the least significant bit upwards.
"""

from __future__ import annotations

import json
import math
import mmap
import struct
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any, TypeAlias

import numpy as np
import torch
from torch import Tensor

from dualpix.export.artefact import ExportError

MAX_MANIFEST_BYTES = 1 << 20
MAX_MODEL_BYTES = 256 << 20
MAX_WEIGHT_BYTES = 4 << 30
MAX_ELEMENTS = 1 << 28
"""Of any one tensor: 1 GiB of float32."""

Array: TypeAlias = np.ndarray[Any, np.dtype[Any]]

Value: TypeAlias = Tensor | str | tuple[Tensor | str, ...]
"""What flows through a program; floats are float32 whatever their storage type, a tuple is a MIL list."""

_BITS = {
    "float16": 16, "float32": 32, "float64": 64, "bool": 8, "string": 0, "int4": 4, "int8": 8, "int16": 16,
    "int32": 32, "int64": 64, "uint1": 1, "uint2": 2, "uint3": 3, "uint4": 4, "uint6": 6, "uint8": 8, "uint16": 16,
    "uint32": 32, "uint64": 64,
}  # fmt: skip
"""Bits of a value, by data type of the format."""

_BLOB_TYPES = {
    1: "float16", 2: "float32", 3: "uint8", 4: "int8", 6: "int16", 7: "uint16", 8: "int4", 9: "uint1", 10: "uint2",
    11: "uint4", 12: "uint3", 13: "uint6", 14: "int32", 15: "uint32",
}  # fmt: skip
"""Data types by their number in the weight file."""

_BLOB_ENTRY = struct.Struct("<IIQQ")
"""Mark, data type, size in bytes, offset of the data."""
_BLOB_MARK = 0xDEADBEEF


class PackageError(ExportError):
    """A Core ML package is damaged, or holds something that must not be there."""


@dataclass(frozen=True)
class TensorType:
    """Declared type of a value: ``float16 (1, 8, 32, 48)``; ``None`` for a size that is not fixed."""

    dtype: str
    shape: tuple[int | None, ...]

    def __str__(self) -> str:
        return f"{self.dtype} {self.shape}"


@dataclass(frozen=True)
class Reference:
    """An operand that is another operation's result."""

    name: str


Operand: TypeAlias = Reference | Value


@dataclass(frozen=True)
class Operation:
    """One operation; ``inputs`` maps a parameter to its operand, or operands where it takes a list."""

    kind: str
    inputs: Mapping[str, tuple[Operand, ...]]
    outputs: tuple[tuple[str, TensorType], ...]

    @property
    def name(self) -> str:
        """The name of its (first) result, unique in the program."""
        return self.outputs[0][0] if self.outputs else self.kind


@dataclass(frozen=True)
class Program:
    """The main function of an mlprogram."""

    path: Path
    opset: str
    """Such as ``CoreML7``: which definition of the operators holds."""
    inputs: Mapping[str, TensorType]
    operations: tuple[Operation, ...]
    outputs: tuple[str, ...]


def read_package(path: Path) -> Program:
    """Read the program of a package; see the module's text for what is checked.

    Raises:
        PackageError: what is damaged or not allowed.
    """
    spec, model_file = read_spec(path)
    if spec.WhichOneof("Type") != "mlProgram" or "main" not in spec.mlProgram.functions:
        raise PackageError(f"'{path.name}' holds no mlprogram with a function 'main'")
    function = spec.mlProgram.functions["main"]
    if function.opset not in function.block_specializations:
        raise PackageError(f"'{path.name}' has no program for its own opset '{function.opset}'")
    block = function.block_specializations[function.opset]
    reader = _Reader(path, model_file.parent)
    operations = tuple(reader.operations(block))
    inputs = {i.name: _tensor_type(i.type, f"input '{i.name}'") for i in function.inputs}
    return Program(path, function.opset, inputs, operations, tuple(block.outputs))


def read_spec(path: Path) -> tuple[Any, Path]:
    """The protobuf ``Model`` of a package and the file it lies in.

    Raises:
        PackageError: no package, an unreadable model, or a path that leaves the package.
    """
    from coremltools.proto import Model_pb2

    manifest = _read_bounded(path, "Manifest.json", MAX_MANIFEST_BYTES)
    try:
        content = json.loads(manifest)
        relative = content["itemInfoEntries"][content["rootModelIdentifier"]]["path"]
    except (ValueError, KeyError, TypeError) as error:
        raise PackageError(f"'{path.name}' has a Manifest.json that names no model") from error
    relative = str(PurePosixPath("Data") / str(relative))
    data, spec = _read_bounded(path, relative, MAX_MODEL_BYTES), Model_pb2.Model()
    try:
        spec.ParseFromString(data)
    except Exception as error:  # protobuf's DecodeError is no public type
        raise PackageError(f"'{path.name}' has a damaged model file: {type(error).__name__}") from error
    return spec, path / relative


def inside(package: Path, relative: str) -> Path:
    """``relative`` as a file of the package.

    Raises:
        PackageError: it leaves the package, by its name or by a link, or is no file.
    """
    pure = PurePosixPath(relative)
    if pure.is_absolute() or ".." in pure.parts or "\\" in relative or "\0" in relative:
        raise PackageError(f"'{package.name}' names the file '{relative}'", expected="a file inside the package")
    file = package.joinpath(*pure.parts)
    if not file.is_file():
        raise PackageError(f"'{package.name}' lacks its file '{relative}'")
    if not file.resolve().is_relative_to(package.resolve()):
        raise PackageError(f"'{package.name}' links to a file outside itself: '{relative}'")
    return file


def _read_bounded(package: Path, relative: str, limit: int) -> bytes:
    if not package.is_dir():
        raise PackageError(f"'{package.name}' is no Core ML package", expected="an .mlpackage folder")
    file = inside(package, relative)
    size = file.stat().st_size
    if size > limit:
        raise PackageError(f"'{relative}' of '{package.name}' has {size} bytes", expected=f"at most {limit}")
    return file.read_bytes()


class _Reader:
    """Turns the protobuf of a block into operations, with the constants read in."""

    def __init__(self, package: Path, model_folder: Path) -> None:
        self._package = package
        self._model_folder = model_folder
        self._blobs: dict[str, mmap.mmap] = {}

    def operations(self, block: Any) -> Iterator[Operation]:
        for spec in block.operations:
            if spec.blocks:
                raise PackageError(
                    f"'{self._package.name}' has control flow: '{spec.type}'", expected="a straight program"
                )
            inputs = {name: tuple(map(self._operand, given.arguments)) for name, given in spec.inputs.items()}
            # constants and weights that decompress (iOS 16) carry their operands as attributes
            inputs |= {name: (self.value(v),) for name, v in spec.attributes.items() if name != "name"}
            outputs = tuple((o.name, _tensor_type(o.type, f"'{o.name}'")) for o in spec.outputs)
            yield Operation(str(spec.type), inputs, outputs)

    def _operand(self, argument: Any) -> Operand:
        if argument.WhichOneof("binding") == "name":
            return Reference(str(argument.name))
        return self.value(argument.value)

    def value(self, spec: Any) -> Value:
        if spec.type.WhichOneof("type") == "listType":
            return tuple(_scalar(self.value(v)) for v in spec.immediateValue.list.values)
        declared = _tensor_type(spec.type, "a constant")
        if spec.WhichOneof("value") == "blobFileValue":
            return self._stored(spec.blobFileValue, declared)
        return _immediate(spec.immediateValue, declared)

    def _stored(self, reference: Any, declared: TensorType) -> Tensor:
        """A constant out of a weight file."""
        data = self._blob(str(reference.fileName))
        offset = int(reference.offset)
        if offset + _BLOB_ENTRY.size > len(data):
            raise PackageError(f"'{self._package.name}' has a weight at byte {offset}, past the end of its file")
        mark, kind, size, start = _BLOB_ENTRY.unpack_from(data, offset)
        if mark != _BLOB_MARK or _BLOB_TYPES.get(kind) != declared.dtype or start + size > len(data):
            raise PackageError(
                f"'{self._package.name}' has a damaged weight entry at byte {offset}", expected=str(declared)
            )
        return _decoded(data[start : start + size], declared)

    def _blob(self, name: str) -> mmap.mmap:
        if name not in self._blobs:
            prefix = "@model_path/"
            if not name.startswith(prefix):
                raise PackageError(
                    f"'{self._package.name}' keeps weights in '{name}'", expected="a file inside the package"
                )
            folder = self._model_folder.relative_to(self._package)
            file = inside(self._package, str(PurePosixPath(folder) / name.removeprefix(prefix)))
            if not 0 < file.stat().st_size <= MAX_WEIGHT_BYTES:
                raise PackageError(f"'{name}' has {file.stat().st_size} bytes", expected=f"1 to {MAX_WEIGHT_BYTES}")
            with file.open("rb") as stream:
                self._blobs[name] = mmap.mmap(stream.fileno(), 0, access=mmap.ACCESS_READ)
        return self._blobs[name]


def _scalar(value: Value) -> Tensor | str:
    if isinstance(value, tuple):
        raise PackageError("a list of lists is no value of an mlprogram")
    return value


def _tensor_type(spec: Any, what: str) -> TensorType:
    if spec.WhichOneof("type") == "listType":
        return TensorType("list", ())
    if spec.WhichOneof("type") != "tensorType":
        raise PackageError(f"{what} is a {spec.WhichOneof('type')}", expected="a tensor")
    from coremltools.proto import MIL_pb2

    tensor = spec.tensorType
    dtype = MIL_pb2.DataType.Name(tensor.dataType).lower()
    if dtype not in _BITS:
        raise PackageError(f"{what} is of type {dtype}", expected="one of: " + ", ".join(_BITS))
    shape = tuple(d.constant.size if d.WhichOneof("dimension") == "constant" else None for d in tensor.dimensions)
    if math.prod(s for s in shape if s is not None) > MAX_ELEMENTS:
        raise PackageError(f"{what} has the shape {shape}", expected=f"at most {MAX_ELEMENTS} elements")
    return TensorType(dtype, shape)


_FIELDS = {"floats": np.float32, "ints": np.int32, "bools": np.bool_, "longInts": np.int64, "doubles": np.float64}


def _immediate(spec: Any, declared: TensorType) -> Tensor | str:
    """A constant that stands in the model file itself."""
    if spec.WhichOneof("value") != "tensor":
        raise PackageError(f"a constant is a {spec.WhichOneof('value')}", expected="a tensor")
    field = spec.tensor.WhichOneof("value")
    if field == "strings":
        values = spec.tensor.strings.values
        if len(values) != 1:
            raise PackageError(f"a text constant has {len(values)} values", expected="one")
        return bytes(values[0]).decode() if isinstance(values[0], bytes) else str(values[0])
    if field == "bytes":
        return _decoded(spec.tensor.bytes.values, declared)
    if field is None:
        return torch.zeros(_fixed(declared))
    array: Array = np.array(getattr(spec.tensor, field).values, _FIELDS[field])
    return _shaped(_to_tensor(array), declared)


def _decoded(data: bytes, declared: TensorType) -> Tensor:
    """Raw bytes as a tensor of the declared type and shape."""
    bits, count = _BITS[declared.dtype], math.prod(_fixed(declared))
    if not bits or len(data) != math.ceil(count * bits / 8):
        raise PackageError(f"a constant has {len(data)} bytes", expected=str(declared))
    if bits < 8:
        return _shaped(torch.from_numpy(unpack_bits(data, bits, count, declared.dtype.startswith("int"))), declared)
    return _shaped(_to_tensor(np.frombuffer(data, np.dtype(declared.dtype).newbyteorder("<"))), declared)


def unpack_bits(data: bytes, bits: int, count: int, signed: bool = False) -> Array:
    """``count`` integers of ``bits`` bits, packed from the least significant bit upwards: int8 or uint8 (count,)."""
    stream = np.unpackbits(np.frombuffer(data, np.uint8), bitorder="little")
    digits = stream[: count * bits].reshape(count, bits)
    values: Array = (digits << np.arange(bits, dtype=np.uint8)).sum(1, dtype=np.uint8)
    if not signed:
        return values
    negative = values >= 1 << (bits - 1)
    return (values.astype(np.int16) - (negative << np.int16(bits))).astype(np.int8)


def _to_tensor(array: Array) -> Tensor:
    """Floats as float32, wide integers as int64 (torch computes with no unsigned ones), the rest as it is."""
    kind, size = array.dtype.kind, array.dtype.itemsize
    if kind == "f":
        return torch.from_numpy(array.astype(np.float32))
    if (kind == "u" and size > 1) or (kind == "i" and size > 4):
        return torch.from_numpy(array.astype(np.int64))
    return torch.from_numpy(array.astype(array.dtype.newbyteorder("=")))


def _fixed(declared: TensorType) -> tuple[int, ...]:
    if any(s is None for s in declared.shape):
        raise PackageError(f"a constant is declared as {declared}", expected="a fixed shape")
    return tuple(s for s in declared.shape if s is not None)


def _shaped(values: Tensor, declared: TensorType) -> Tensor:
    with suppress(RuntimeError):
        return values.reshape(_fixed(declared))
    raise PackageError(f"a constant has {values.numel()} values", expected=str(declared))
