"""ExecuTorch on Core ML: a ``.pte`` whose delegate is a Core ML program. Produced on any machine, run on Apple's.

The program inside is a ``.mlpackage``. Where the runtime is missing it is taken out of the written file and interpreted
operator by operator (see ``export.coreml``), so that a wrong conversion is seen without a Mac.
"""

from __future__ import annotations

import io
import json
import re
import tempfile
from contextlib import redirect_stderr
from pathlib import Path
from typing import Any

import torch

from dualpix.capture.files import atomic_path
from dualpix.export.artefact import Artefact, BuildRequest, ExportError, quiet
from dualpix.export.coreml.rewrite import rewrite_for_coreml
from dualpix.export.executorch.program import Structure, check_structure, lower_for, network_macs, read_structure
from dualpix.export.executorch.runtime import PteProgram, registered
from dualpix.export.executorch.xnnpack import check_output
from dualpix.export.reasons import reason_of
from dualpix.quantize.calibration import Inputs
from dualpix.quantize.graph import float_graph, run_eager
from dualpix.quantize.score import Predict

BACKEND = "CoreMLBackend"
PRECISIONS = ("fp16", "fp32")
_PACKAGE, _METADATA = "model.mlpackage", "metadata.json"
_DIRECTORY_LIMIT = 1 << 22
"""Bytes at the end of a payload that hold its directory."""


def can_build() -> str | None:
    """``None``, or what is missing to produce a file here."""
    try:
        import coremltools  # noqa: F401
        import executorch.backends.apple.coreml.partition  # noqa: F401
    except ImportError as error:
        return f"{error.name or error} is not installed: pip install executorch coremltools"
    return None


def can_run() -> str | None:
    """``None``, or why a file does not run here."""
    missing = registered(BACKEND)
    return missing and f"{missing}; Core ML runs on macOS and iOS"


def load(path: Path, input_names: tuple[str, ...], output_names: tuple[str, ...], threads: int = 1) -> Predict | None:
    """A file that was built before: run on macOS, interpreted elsewhere.

    Raises:
        ExportError: the file is damaged, or holds more than one Core ML program.
    """
    return PteProgram(path, threads) if can_run() is None else _interpreted(path, read_structure(path))


def build(request: BuildRequest) -> Artefact:
    """Lower ``request.module`` and write a ``.pte`` whose structure, and where possible result, has been checked.

    Raises:
        ExportError: the network cannot be lowered, or the file does not compute what the network does.
    """
    if request.precision not in PRECISIONS:
        known = ", ".join(PRECISIONS)
        raise ExportError(f"the Core ML delegate has no precision '{request.precision}'", expected=f"one of {known}")
    if (missing := can_build()) is not None:
        raise ExportError(missing)
    with quiet(), torch.no_grad():
        expected = run_eager(request.module, request.inputs)
        graph = rewrite_for_coreml(float_graph(request.module, request.inputs))
        total = network_macs(request.module, request.inputs)
        try:
            with redirect_stderr(io.StringIO()):  # the converter's progress bars
                buffer, delegation = lower_for(graph, request.inputs, _partitioner(request.precision), total)
        except Exception as error:  # the compilers raise anything from AssertionError to their own types
            reason = reason_of(error, request.module, request.inputs)
            raise ExportError(f"Core ML lowering failed: {reason}") from error
    with atomic_path(request.path) as temporary:
        temporary.write_bytes(buffer)
        structure = check_structure(temporary, request, expected, BACKEND)
        predict = PteProgram(temporary, request.threads) if can_run() is None else _interpreted(temporary, structure)
        agreement_db = check_output(request, predict(request.inputs), expected, None)
    details = {"delegate": BACKEND, "delegates": len(structure.delegates), "agreement_db": round(agreement_db, 1)}
    emulated = can_run() is not None
    return Artefact(request.path, len(buffer), predict, delegation, details, emulated=emulated)


def _partitioner(precision: str) -> Any:
    import coremltools
    from executorch.backends.apple.coreml.compiler import CoreMLBackend
    from executorch.backends.apple.coreml.partition import CoreMLPartitioner

    specs = CoreMLBackend.generate_compile_specs(
        compute_precision=getattr(coremltools.precision, {"fp16": "FLOAT16", "fp32": "FLOAT32"}[precision]),
        minimum_deployment_target=coremltools.target.iOS17,
        compute_unit=coremltools.ComputeUnit.ALL,
    )
    return CoreMLPartitioner(compile_specs=specs)


def _interpreted(path: Path, structure: Structure) -> Predict:
    """A function that interprets the Core ML program inside a ``.pte``."""
    if len(structure.delegates) != 1 or structure.operators:
        left = ", ".join(structure.operators) or "nothing"
        raise ExportError(
            f"'{path.name}' holds {len(structure.delegates)} Core ML programs and leaves {left} outside",
            expected="the whole network in one, all that can be interpreted here",
        )
    from dualpix.export.coreml.interpret import Interpreter

    (delegate,) = structure.delegates
    with tempfile.TemporaryDirectory() as scratch:
        names = unpack(delegate.payload, Path(scratch))
        interpreter = Interpreter(Path(scratch) / _PACKAGE)  # holds its weights: the folder may go

    def predict(inputs: Inputs) -> Any:
        given = interpreter({name: inputs[i] for name, i in zip(names, delegate.takes, strict=True)})
        pairs = zip(given.values(), structure.outputs, strict=True)
        outputs = tuple(value.to(form.dtype).reshape(form.shape) for value, form in pairs)
        return outputs[0] if len(outputs) == 1 else outputs

    return predict


def unpack(payload: bytes, folder: Path) -> tuple[str, ...]:
    """Write the files of a delegate's payload into ``folder``; returns the names of the program's inputs, in order.

    A payload is the files one after the other, then their directory as JSON, root last, written backwards.

    Raises:
        ExportError: the directory is damaged, or a name in it would leave ``folder``.
    """
    try:
        text = payload[: -_DIRECTORY_LIMIT - 1 : -1].decode("latin-1")
        nodes = json.JSONDecoder().raw_decode(text)[0]["nodes"]
        _write(nodes, len(nodes) - 1, payload, folder, len(nodes))
        names = json.loads((folder / _METADATA).read_text())["inputNames"]
        return tuple(str(name) for name in names)
    except (ValueError, KeyError, IndexError, TypeError, OSError) as error:
        raise ExportError(f"the Core ML program inside is damaged: {type(error).__name__}") from error


def _write(nodes: list[dict[str, Any]], index: int, payload: bytes, folder: Path, depth: int) -> None:
    if depth < 0:
        raise ValueError("the directory refers to itself")
    for name, child in nodes[index]["children"].items():
        if not re.fullmatch(r"[\w-][\w.-]{0,99}", name):
            raise ValueError(f"file name {name!r}")
        if nodes[child]["kind"] == 0:
            region = nodes[child]["dataRegion"]
            start, size = int(region["offset"]), int(region["size"])
            if start < 0 or size < 0 or start + size > len(payload):
                raise ValueError("a file beyond the end")
            (folder / name).write_bytes(payload[start : start + size])
        else:
            (folder / name).mkdir()
            _write(nodes, int(child), payload, folder / name, depth - 1)
