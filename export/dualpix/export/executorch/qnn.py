"""Qualcomm's Hexagon by QNN, float16 or static int8: not produced without Qualcomm's SDK, which cannot be shipped here.

The lowering code of executorch downloads 1.3 GB when it is called without the SDK, and on AMD processors its import
switches oneDNN off, which spoils every later timing: it is not touched before the SDK has been found.
Until someone with the SDK has run it, what follows that check is written to the documentation alone.
"""

from __future__ import annotations

import os
from pathlib import Path

import torch

from dualpix.capture.files import atomic_path
from dualpix.export.artefact import Artefact, BuildRequest, Delegation, ExportError, quiet
from dualpix.export.executorch.file import check_program_file
from dualpix.export.executorch.program import check_structure, network_macs
from dualpix.export.executorch.xnnpack import delegation_of
from dualpix.export.reasons import reason_of
from dualpix.quantize.graph import float_graph, run_eager
from dualpix.quantize.score import Predict

SDK_VARIABLE = "QNN_SDK_ROOT"
_COMPILER = Path("lib/x86_64-linux-clang/libQnnHtp.so")
_INSTALL = (
    "install the Qualcomm AI Engine Direct SDK 2.37 (qualcomm.com/developer/software/qualcomm-ai-engine-direct-sdk) "
    f"and set {SDK_VARIABLE} to its folder"
)


BACKEND = "QnnBackend"
PRECISIONS = ("fp16", "int8")


def can_build() -> str | None:
    """``None``, or what has to be installed."""
    root = os.environ.get(SDK_VARIABLE)
    if not root:
        return f"{SDK_VARIABLE} is not set: {_INSTALL}"
    if not (Path(root) / _COMPILER).is_file():
        return f"{SDK_VARIABLE} is '{root}', which has no {_COMPILER}: {_INSTALL}"
    return None


def can_run() -> str | None:
    """Why a file does not run here."""
    return "Hexagon is part of Snapdragon phones; the file runs there"


def load(path: Path, input_names: tuple[str, ...], output_names: tuple[str, ...], threads: int = 1) -> Predict | None:
    """``None``: not run here; raises :class:`ExportError` where the file is damaged."""
    check_program_file(path)
    return None


def build(request: BuildRequest) -> Artefact:
    """Lower ``request.module`` for Snapdragon 8 Gen 2 (SM8550) and check the structure of the file.

    Raises:
        ExportError: the SDK is missing, or the network cannot be lowered.
    """
    if request.precision not in PRECISIONS:
        raise ExportError(f"QNN has no precision '{request.precision}'", expected=f"one of {', '.join(PRECISIONS)}")
    if (missing := can_build()) is not None:
        raise ExportError("QNN files cannot be produced here", hint=missing)
    one_dnn = torch.backends.mkldnn.enabled
    try:
        with quiet(), torch.no_grad():
            expected = run_eager(request.module, request.inputs)
            buffer, delegation = _lowered(request)
    except Exception as error:  # the compilers raise anything from AssertionError to their own types
        reason = reason_of(error, request.module, request.inputs)
        raise ExportError(f"QNN lowering failed: {reason}") from error
    finally:
        torch.backends.mkldnn.enabled = one_dnn
    with atomic_path(request.path) as temporary:
        temporary.write_bytes(buffer)
        structure = check_structure(temporary, request, expected, BACKEND)
    details = {"delegate": BACKEND, "delegates": len(structure.delegates), "not_run_here": can_run()}
    return Artefact(request.path, len(buffer), None, delegation, details)


def _lowered(request: BuildRequest) -> tuple[bytes, Delegation]:
    from executorch.backends.qualcomm.quantizer.quantizer import QnnQuantizer
    from executorch.backends.qualcomm.serialization.qc_schema import QcomChipset
    from executorch.backends.qualcomm.utils import utils
    from torchao.quantization.pt2e.quantize_pt2e import convert_pt2e, prepare_pt2e

    module = float_graph(request.module, request.inputs)
    if request.precision == "int8":
        prepared = prepare_pt2e(module, QnnQuantizer())
        for inputs in request.calibration.samples:
            prepared(*inputs)
        module = convert_pt2e(prepared)
    options = utils.generate_htp_compiler_spec(use_fp16=request.precision == "fp16")
    specs = utils.generate_qnn_executorch_compiler_spec(QcomChipset.SM8550, options)
    edge = utils.to_edge_transform_and_lower_to_qnn(module, request.inputs, specs)
    total = network_macs(request.module, request.inputs)
    return bytes(edge.to_executorch().buffer), delegation_of(edge.exported_program().graph_module, total)
