"""Core ML programs (``.mlpackage``): float16, optionally with int8 weights.

Converted on any machine; they run on macOS and iOS alone. Elsewhere the written package is loaded back and its
structure compared with what was asked for: names, shapes, and the operators that must be there. What it computes is
then not checked, and the gate says so.
"""

from __future__ import annotations

import io
import sys
import tempfile
from collections import Counter
from contextlib import redirect_stderr
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from dualpix.capture.errors import OutputError
from dualpix.export.artefact import Artefact, BuildRequest, ExportError, quiet
from dualpix.export.manifest import size_of
from dualpix.quantize.calibration import Inputs
from dualpix.quantize.gate import Predict
from dualpix.quantize.graph import fold_batch_norm

_WEIGHTED = {"conv", "conv_transpose", "linear"}
_CONSTANTS = ("const", "constexpr_")


def build(request: BuildRequest) -> Artefact:
    """Convert ``request.module`` and write a ``.mlpackage`` whose structure was read back, and run on macOS.

    Raises:
        ExportError: the converter refuses the network, or the package lacks what it should hold.
        OutputError: the package cannot be put in its place.
    """
    with quiet(), redirect_stderr(io.StringIO()), torch.no_grad():
        try:
            model = _convert(request)
        except Exception as error:  # the converter raises anything
            reason = (str(error).strip().splitlines() or [""])[0]
            raise ExportError(f"Core ML conversion failed: {type(error).__name__}: {reason}") from error
        # a folder of its own: a package is a folder, and its name must end in .mlpackage to be opened
        with tempfile.TemporaryDirectory(prefix=".coreml.", dir=request.path.parent) as scratch:
            written = Path(scratch) / request.path.name
            model.save(str(written))
            operators = check_package(written, request)
            _replace(written, request.path)
    details = {"operators": operators, "minimum_deployment_target": "iOS17"}
    return Artefact(request.path, size_of(request.path), _predictor(request), None, details)


def _convert(request: BuildRequest) -> Any:
    import coremltools as ct
    import coremltools.optimize.coreml as cto

    exported = torch.export.export(fold_batch_norm(request.module), request.inputs).run_decompositions({})
    named = zip(request.input_names, request.inputs, strict=True)
    model = ct.convert(
        exported,
        inputs=[ct.TensorType(name=name, shape=tensor.shape) for name, tensor in named],
        outputs=[ct.TensorType(name=request.output_name)],
        minimum_deployment_target=ct.target.iOS17,
        compute_precision=ct.precision.FLOAT16,
        convert_to="mlprogram",
        skip_model_load=True,
    )
    if request.precision != "w8":
        return model
    weights = cto.OpLinearQuantizerConfig(mode="linear_symmetric", dtype="int8", granularity="per_channel")
    return cto.linear_quantize_weights(model, cto.OptimizationConfig(global_config=weights))


def check_package(path: Path, request: BuildRequest) -> dict[str, int]:
    """Read a package back and compare its structure with the request.

    Returns:
        How often each operator occurs, constants apart.

    Raises:
        ExportError: a name, a shape, the number of weighted layers or the weights' type is not what was asked for.
    """
    import coremltools as ct

    try:
        spec = ct.models.MLModel(str(path), skip_model_load=True).get_spec()
        block = next(iter(spec.mlProgram.functions["main"].block_specializations.values()))
    except Exception as error:  # the reader raises anything
        raise ExportError(f"'{path.name}' cannot be read back: {type(error).__name__}") from error
    inputs = {i.name: tuple(i.type.multiArrayType.shape) for i in spec.description.input}
    asked = {name: tuple(t.shape) for name, t in zip(request.input_names, request.inputs, strict=True)}
    outputs = [o.name for o in spec.description.output]
    if inputs != asked or outputs != [request.output_name]:
        raise ExportError(f"'{path.name}' takes {inputs}, gives {outputs}", expected=f"{asked}, {request.output_name}")
    every = Counter(str(o.type) for o in block.operations)
    operators = {name: count for name, count in every.items() if not name.startswith(_CONSTANTS)}
    weighted = sum(count for name, count in operators.items() if name in _WEIGHTED)
    layers = sum(isinstance(m, nn.Conv2d | nn.ConvTranspose2d | nn.Linear) for m in request.module.modules())
    if weighted < layers:
        raise ExportError(f"'{path.name}' has {weighted} weighted operators", expected=f"at least {layers}")
    if request.precision == "w8" and not any(name.startswith("constexpr_") for name in every):
        raise ExportError(f"'{path.name}' holds no int8 weights", expected="a dequantising constant per layer")
    return dict(sorted(operators.items()))


def _predictor(request: BuildRequest) -> Predict | None:
    """A function that runs the package, on macOS."""
    if sys.platform != "darwin":
        return None
    import coremltools as ct

    model = ct.models.MLModel(str(request.path))

    def predict(inputs: Inputs) -> Tensor:
        named = {name: t.numpy() for name, t in zip(request.input_names, inputs, strict=True)}
        return torch.from_numpy(model.predict(named)[request.output_name]).float()

    predict(request.inputs)
    return predict


def _replace(written: Path, target: Path) -> None:
    """Put the package in its place, whatever was there before."""
    try:
        if target.exists():
            old = written.with_name("old")
            target.replace(old)
        written.replace(target)
    except OSError as error:
        raise OutputError(
            f"cannot write '{target}': {error.strerror or error}", hint="choose another folder"
        ) from error
