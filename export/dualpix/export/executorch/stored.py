"""What a ``.pte`` says about itself, and what the record of its export adds: layers and source lines.

A ``.pte`` holds the graph of every XNNPACK delegate with shapes, types and one debug handle per node. The record of the
export (``NAME.etrecord`` beside ``NAME.pte``) holds the network's graph, whose nodes carry the same handles together
with the module path and the stack trace. Only its JSON is read here: its weights are pickles, and are not touched.

Convention: a multiply-accumulate counts once; bytes count inputs, weights and outputs of a node once each.
"""

from __future__ import annotations

import json
import math
import re
import tempfile
import zipfile
import zlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from importlib import resources
from pathlib import Path
from typing import Any

from dualpix.capture.files import atomic_path
from dualpix.export.errors import ProfileError
from dualpix.export.executorch.file import check_program_file
from dualpix.export.executorch.runtime import DTYPES, TensorForm

RECORD_SUFFIX = ".etrecord"
MAX_PTE_BYTES = 2 << 30
_MAX_RECORD_BYTES = 1 << 30
_METHOD = "forward"
_GRAPH, _HANDLES = f"edge_dialect_exported_program/{_METHOD}", "debug_handle_map"
_NO_VALUE, _MAX_CONVERSIONS = 0xFFFFFFFF, 8
_BITS = {
    "fp32": 32, "pfp32": 32, "fp16": 16, "bf16": 16, "int32": 32, "qint32": 32, "qcint32": 32, "qcint4": 4, "qbint4": 4,
}  # fmt: skip
_SCALAR_BYTES = {0: 1, 1: 1, 2: 2, 3: 4, 4: 8, 5: 2, 6: 4, 7: 8, 11: 1, 15: 2}
_INF = re.compile(r"(?<=[\s:\[,])(-?)(inf|nan)\b")


@dataclass(frozen=True)
class StoredNode:
    """One node of a delegate's graph, in order of execution."""

    kind: str
    handle: int
    macs: int
    bytes: int


@dataclass(frozen=True)
class StoredCall:
    """One instruction of the program."""

    name: str
    """Operator ("expand_copy.out"), or the delegate's name."""
    nodes: tuple[StoredNode, ...] | None
    """Of an XNNPACK delegate; ``None`` for a kernel and for other delegates."""
    macs: int
    bytes: int

    @property
    def delegated(self) -> bool:
        """Whether a delegate does this work."""
        return "." not in self.name


@dataclass(frozen=True)
class StoredProgram:
    """The method ``forward`` of a ``.pte``."""

    inputs: tuple[TensorForm, ...]
    arena_bytes: int
    calls: tuple[StoredCall, ...]
    """By instruction; what moves no data (jumps) has the name "" and no work."""
    outputs: int = 1

    @property
    def input_shapes(self) -> tuple[tuple[int, ...], ...]:
        """In order."""
        return tuple(form.shape for form in self.inputs)

    def shares(self) -> tuple[float | None, float | None]:
        """Delegated (macs, operators) of all; ``None`` where a delegate hides what is in it."""
        if any(c.delegated and c.name and c.nodes is None for c in self.calls):
            return None, None
        inside = [n for c in self.calls for n in c.nodes or ()]
        outside = [c for c in self.calls if c.name and c.nodes is None]
        macs, left = sum(n.macs for n in inside), sum(c.macs for c in outside)
        count = len(inside) + len(outside)
        return macs / (macs + left) if macs + left else None, len(inside) / count if count else None


@dataclass(frozen=True)
class Layer:
    """Where an operator of the network's graph comes from."""

    kind: str
    module: str | None
    source: str | None


@dataclass(frozen=True)
class Record:
    """What the record of an export says."""

    layers: Mapping[int, Layer] = field(default_factory=dict)
    """By debug handle."""
    handles: Mapping[int, int] = field(default_factory=dict)
    """Instruction -> debug handle, for those that are one operator."""


def read_program(path: Path) -> StoredProgram:
    """The stored program of ``path``.

    Raises:
        ExportError: no such file, empty, no ``.pte``, truncated, or of another version.
        ProfileError: too large, damaged, without ``forward``, or with inputs that are no tensors.
    """
    data = _pte_bytes(path)
    from executorch.exir._serialize._program import deserialize_pte_binary

    try:
        program: Any = deserialize_pte_binary(data).program
    except Exception as error:  # the reader raises anything, its flatbuffer compiler included
        raise ProfileError(f"'{path}' cannot be read: it is damaged, or of another ExecuTorch version") from error
    plan = next((p for p in program.execution_plan if p.name == _METHOD), None)
    if plan is None or not plan.chains:
        raise ProfileError(f"'{path}' has no method '{_METHOD}'")
    values = [v.val for v in plan.values]
    forms = tuple(_input_form(values[index], path) for index in plan.inputs)
    calls = tuple(_call(i.instr_args, plan, program, values) for i in plan.chains[0].instructions)
    return StoredProgram(forms, sum(plan.non_const_buffer_sizes[1:]), calls, len(plan.outputs))


def _pte_bytes(path: Path) -> bytes:
    check_program_file(path)
    size = path.stat().st_size
    if size > MAX_PTE_BYTES:
        raise ProfileError(f"'{path.name}' has {size} bytes", expected=f"at most {MAX_PTE_BYTES}")
    return path.read_bytes()


def _input_form(value: Any, path: Path) -> TensorForm:
    if type(value).__name__ != "Tensor" or not 0 <= int(value.scalar_type) < len(DTYPES):
        raise ProfileError(f"'{path}' takes inputs that are no tensors of a known type")
    return TensorForm(tuple(int(n) for n in value.sizes), DTYPES[int(value.scalar_type)])


def _call(instruction: Any, plan: Any, program: Any, values: list[Any]) -> StoredCall:
    kind = type(instruction).__name__
    if kind == "KernelCall":
        operator = plan.operators[instruction.op_index]
        tensors = [values[index] for index in instruction.args]
        name = operator.name.split("::")[-1]
        sizes = [t for t in tensors if type(t).__name__ == "Tensor"]
        moved = sum(
            _numel(t.sizes) * _SCALAR_BYTES.get(int(t.scalar_type), 4) for t in {id(t): t for t in sizes}.values()
        )
        return StoredCall(f"{name}.{operator.overload or 'default'}", None, _kernel_macs(name, tensors), moved)
    if kind == "DelegateCall":
        delegate = plan.delegates[instruction.delegate_index]
        blob = bytes(program.backend_delegate_data[delegate.processed.index].data)
        nodes = _xnnpack_nodes(blob) if delegate.id == "XnnpackBackend" else None
        return StoredCall(delegate.id, nodes, sum(n.macs for n in nodes or ()), sum(n.bytes for n in nodes or ()))
    return StoredCall("", None, 0, 0)


def _kernel_macs(name: str, arguments: list[Any]) -> int:
    """Of a portable kernel; its last argument is the output."""
    shapes = [tuple(a.sizes) if type(a).__name__ == "Tensor" else () for a in arguments]
    if name == "convolution" and len(shapes) > 1 and shapes[1]:
        transposed = len(arguments) > 6 and getattr(arguments[6], "bool_val", False) is True
        return _numel(shapes[0] if transposed else shapes[-1]) * _numel(shapes[1][1:])
    inner = {"mm": 0, "bmm": 0, "linear": 0, "addmm": 1}.get(name)
    return 0 if inner is None or not shapes[inner] else _numel(shapes[-1]) * shapes[inner][-1]


def _numel(shape: Any) -> int:
    return math.prod(int(n) for n in shape)


def _xnnpack_nodes(blob: bytes) -> tuple[StoredNode, ...] | None:
    """The delegate's graph, ``None`` where its form is not the known one."""
    graph = _xnnpack_graph(blob)
    if graph is None:
        return None
    try:
        values = {}
        for value in graph["xvalues"]:
            tensor = value["xvalue_union"]
            tensor = tensor.get("tensor_value", tensor)
            values[int(tensor["id_out"])] = tensor
        return tuple(_xnnpack_node(node, values) for node in graph["xnodes"])
    except (KeyError, TypeError, ValueError):
        return None


def _xnnpack_graph(blob: bytes) -> dict[str, Any] | None:
    import executorch.backends.xnnpack.serialization as serialization
    from executorch.backends.xnnpack.serialization.xnnpack_graph_serialize import XNNHeader
    from executorch.exir._serialize._flatbuffer import _flatc_decompile

    try:
        header: Any = XNNHeader.from_bytes(blob[: XNNHeader.EXPECTED_LENGTH])
        start = header.flatbuffer_offset
        with tempfile.TemporaryDirectory() as folder:
            schema, binary = Path(folder, "schema.fbs"), Path(folder, "graph.bin")
            schema.write_bytes(resources.files(serialization).joinpath("schema.fbs").read_bytes())
            binary.write_bytes(blob[start : start + header.flatbuffer_size])
            _flatc_decompile(folder, str(schema), str(binary), ["--raw-binary"])
            text = Path(folder, "graph.json").read_text()
        graph = json.loads(_INF.sub(lambda m: m[1] + {"inf": "Infinity", "nan": "NaN"}[m[2]], text))
    except Exception:  # a private form of the delegate: without it the table has the kernels' names alone
        return None
    return graph if isinstance(graph, dict) else None


def _xnnpack_node(node: Mapping[str, Any], values: Mapping[int, Mapping[str, Any]]) -> StoredNode:
    union = node["xnode_union"]
    used = {
        int(v) for k, v in union.items() if re.fullmatch(r"(input\d?|filter|bias|output|query|key|value|mask)_id", k)
    }
    moved = sum(_tensor_bytes(values[i]) for i in used if i != _NO_VALUE and i in values)
    kind = str(node["xnode_union_type"]).removeprefix("XNN")
    return StoredNode(kind, int(node["debug_handle"]), _xnnpack_macs(kind, union, values), moved)


def tensor_handles(path: Path, tensor: int) -> tuple[int, ...]:
    """Debug handles of the delegates' nodes that make or use the tensor of that number, those that make it first."""
    from executorch.exir._serialize._program import deserialize_pte_binary

    program: Any = deserialize_pte_binary(_pte_bytes(path)).program
    made: list[int] = []
    used: list[int] = []
    for blob in program.backend_delegate_data:
        for node in (_xnnpack_graph(bytes(blob.data)) or {"xnodes": ()})["xnodes"]:
            ids = {k: v for k, v in node["xnode_union"].items() if k.endswith("_id") and v == tensor}
            (made if "output_id" in ids else used).extend([int(node["debug_handle"])] * bool(ids))
    return (*made, *used)


def _tensor_bytes(tensor: Mapping[str, Any]) -> int:
    kind = str(tensor["datatype"]).removeprefix("xnn_datatype_")
    return -(-_numel(tensor["dims"]) * _BITS.get(kind, 8) // 8)


def _xnnpack_macs(kind: str, union: Mapping[str, Any], values: Mapping[int, Mapping[str, Any]]) -> int:
    def shape(name: str) -> list[int]:
        return [int(n) for n in values[int(union[name])]["dims"]]

    if kind in ("Conv2d", "DepthwiseConv2d", "ConvTranspose2d"):
        channels = int(union["group_output_channels"]) * int(union["groups"])
        # each output value (transposed: input value) meets one filter
        over = "input1_id" if kind == "ConvTranspose2d" else "output_id"
        if kind == "ConvTranspose2d":
            channels = int(union["group_input_channels"]) * int(union["groups"])
        return _numel(shape(over)) * _numel(shape("filter_id")) // max(channels, 1)
    if kind == "FullyConnected":
        weights = shape("filter_id")
        return _numel(shape("output_id")) * weights[-1]
    if kind == "BatchMatrixMultiply":
        return _numel(shape("output_id")) * shape("input1_id")[-1]
    return 0


def record_of(path: Path) -> Path | None:
    """The record beside ``path``, if there is one."""
    record = path.with_suffix(RECORD_SUFFIX)
    return record if record.is_file() else None


def read_record(path: Path) -> Record:
    """Layers and source lines by debug handle.

    Raises:
        ProfileError: no record of an export, or too large.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            graph, handles = (json.loads(_entry(archive, name, path)) for name in (_GRAPH, _HANDLES))
        layers = _layers(graph["graph_module"]["graph"]["nodes"])
        single = {int(k): v for k, v in handles[_METHOD].items() if isinstance(v, int)}
    # zipfile: RuntimeError for an encrypted entry, NotImplementedError for a compression of its own
    except (OSError, zipfile.BadZipFile, zlib.error, EOFError, RuntimeError) as error:
        raise ProfileError(f"'{path}' cannot be unpacked", hint="export again, or remove it") from error
    except (ValueError, TypeError, AttributeError, LookupError) as error:
        raise ProfileError(f"'{path}' is no record of an export", hint="export again, or remove it") from error
    return Record(layers, single)


def save_record(etrecord: Any, path: Path) -> None:
    """Keep of an export's ``ETRecord`` what names layers, and no weights: ``path`` is ``NAME.etrecord``.

    Args:
        etrecord: of ``executorch.xnnpack.lower_with_record``.
        path: beside ``NAME.pte``; replaced atomically.
    """
    with tempfile.TemporaryDirectory() as folder, atomic_path(path) as temporary:
        whole = Path(folder) / "whole.etrecord"
        etrecord.save(str(whole))
        with zipfile.ZipFile(whole) as source, zipfile.ZipFile(temporary, "w", zipfile.ZIP_DEFLATED) as target:
            for name in (_GRAPH, _HANDLES):
                target.writestr(name, source.read(name))


def _entry(archive: zipfile.ZipFile, name: str, path: Path) -> bytes:
    entry = archive.getinfo(name)
    if entry.file_size > _MAX_RECORD_BYTES:
        raise ProfileError(f"'{path}' holds {entry.file_size} bytes of graph", expected=f"at most {_MAX_RECORD_BYTES}")
    if entry.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):  # others unpack without any bound
        raise ProfileError(f"'{path}' is packed by method {entry.compress_type}", expected="a record of an export")
    return archive.read(entry)


def _handle(node: Mapping[str, Any]) -> int:
    text = str(node.get("metadata", {}).get("debug_handle", ""))
    return int(text) if text.isdecimal() else 0


def _layers(nodes: list[Mapping[str, Any]]) -> dict[int, Layer]:
    """By debug handle; what only quantises or dequantises belongs to the layer that made its input."""
    made_by = {o["as_tensor"]["name"]: node for node in nodes for o in node["outputs"] if "as_tensor" in o}

    def source(node: Mapping[str, Any]) -> Mapping[str, Any]:
        for _ in range(_MAX_CONVERSIONS):
            inputs = [i["arg"]["as_tensor"]["name"] for i in node["inputs"] if "as_tensor" in i["arg"]]
            if "quantize_per" not in str(node["target"]) or not inputs or inputs[0] not in made_by:
                break
            node = made_by[inputs[0]]
        return node

    return {_handle(node): _layer(node, source(node)) for node in nodes if _handle(node)}


def _layer(node: Mapping[str, Any], source: Mapping[str, Any]) -> Layer:
    meta = source["metadata"]
    kind = str(node["target"]).rsplit(".ops.", 1)[-1].removesuffix(".default")
    kind = ".".join(kind.split(".")[1:]) or kind  # without the namespace: "convolution", "add.Tensor"
    stack = [entry.split(",") for entry in str(meta.get("nn_module_stack", "")).split(";")]
    path = stack[-1][1] if len(stack[-1]) > 1 else ""
    return Layer(kind, path or None, source_line(str(meta.get("stack_trace", ""))))


def source_line(stack_trace: str) -> str | None:
    """``file:line`` of the innermost frame that is not PyTorch's own."""
    frames = re.findall(r'File "([^"]+)", line (\d+)', stack_trace)
    own = [(f, n) for f, n in frames if not re.search(r"[/\\]torch[/\\]", f)]
    if not own:
        return None
    file, line = own[-1]
    return f"{_short(file)}:{line}"


def _short(file: str) -> str:
    """From the package on: ``dualpix/models/blocks.py``; else the last two parts."""
    parts = Path(file).parts
    start = max((i for i, part in enumerate(parts) if part == "dualpix"), default=len(parts) - 2)
    return "/".join(parts[max(start, 0) :])
