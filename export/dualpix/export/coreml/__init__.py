"""Core ML programs (``.mlpackage``) at several precisions.

Converted on any machine; they run on macOS and iOS alone. On macOS the written package is run. Elsewhere it is
interpreted operator by operator (see :mod:`.interpret` for what that proves), and the artefact says so.
"""

from __future__ import annotations

import io
import logging
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, redirect_stderr
from dataclasses import asdict
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import torch

from dualpix.capture.errors import DualpixError, UnknownNameError
from dualpix.export.artefact import Artefact, BuildRequest, ExportError, quiet
from dualpix.export.coreml.check import Numerics, check_numerics, check_package, interpreted, layer_differences
from dualpix.export.coreml.convert import MINIMUM_TARGET, PRECISIONS, convert, save
from dualpix.export.coreml.forms import as_core_ml_takes, core_ml_request
from dualpix.export.coreml.interpret import Interpreter, coverage
from dualpix.export.coreml.package import PackageError
from dualpix.export.manifest import size_of
from dualpix.export.reasons import reason_of
from dualpix.export.staging import beside, put_in_place
from dualpix.quantize.calibration import Inputs
from dualpix.quantize.score import Predict

__all__ = [
    "PRECISIONS", "Interpreter", "Numerics", "PackageError", "build", "can_build", "can_run", "check_numerics",
    "check_package", "coverage", "interpreted", "layer_differences", "load",
]  # fmt: skip

_ON_A_MAC = sys.platform == "darwin"


def can_build() -> str | None:
    """``None``, or one line: why no package can be produced on this machine."""
    return None if find_spec("coremltools") else "coremltools is missing: pip install coremltools==9.0"


def can_run() -> str | None:
    """``None``, or one line: why packages do not run on this machine."""
    return None if _ON_A_MAC else "Core ML needs macOS or iOS; here the saved program is interpreted"


def load(path: Path, input_names: tuple[str, ...], output_names: tuple[str, ...], threads: int = 1) -> Predict:
    """A written package, ready to be run (macOS) or interpreted (elsewhere).

    Raises:
        ExportError: the package is damaged, or holds what the interpreter does not model.
    """
    return _runtime(path, input_names, output_names) if _ON_A_MAC else interpreted(path, input_names, output_names)


def build(request: BuildRequest) -> Artefact:
    """Convert ``request.module`` and write a ``.mlpackage`` that was read back, interpreted and compared.

    Raises:
        UnknownNameError: an unknown precision.
        ExportError: there is no calibration sample for int8 activations, the converter refuses the network, or the
            package lacks what it should hold or computes something else than the network.
        OutputError: the package cannot be put in its place.
    """
    request = core_ml_request(request)
    with _converter() as said, torch.no_grad():
        try:
            converted = convert(request)
        except (ExportError, UnknownNameError):
            raise
        except DualpixError as error:
            raise ExportError(error.found, expected=error.expected, hint=error.hint) from error
        except Exception as error:  # the converter raises anything
            reason = reason_of(error, request.module, request.inputs, "\n".join(said))
            raise ExportError(f"Core ML conversion failed: {reason}") from error
        with beside(request.path) as scratch:
            written, plain = scratch / request.path.name, None
            save(converted.model, written)
            if converted.plain is not None:
                plain = scratch / "plain.mlpackage"
                save(converted.plain, plain)
            operators = check_package(written, request, converted)
            quantised = converted.graph if PRECISIONS[request.precision].activations_int8 else None
            numerics = check_numerics(written, request, plain, quantised)
            put_in_place(written, request.path)
    details = {"operators": operators, "minimum_deployment_target": MINIMUM_TARGET, "interpreted": asdict(numerics)}
    if converted.islands:
        details["float32_islands"] = sorted(converted.islands)
    if converted.kept:
        details["keep_float"] = list(converted.kept)
    predict = load(request.path, request.input_names, request.output_names, request.threads)
    size = size_of(request.path)
    return Artefact(request.path, size, predict, None, details, emulated=not _ON_A_MAC, note=converted.uncompressed)


@contextmanager
def _converter() -> Iterator[list[str]]:
    """Hold back progress bars and what the converter says about itself; yields what it says of errors."""
    said: list[str] = []
    handler = logging.Handler()
    handler.emit = lambda record: said.append(record.getMessage())  # type: ignore[method-assign]
    logger = logging.getLogger("coremltools")
    propagate, logger.propagate = logger.propagate, False
    logger.addHandler(handler)
    try:
        with quiet(), redirect_stderr(io.StringIO()):
            yield said
    finally:
        logger.removeHandler(handler)
        logger.propagate = propagate


def _runtime(path: Path, input_names: Sequence[str], output_names: Sequence[str]) -> Predict:
    import coremltools as ct

    model: Any = ct.models.MLModel(str(path))

    def predict(inputs: Inputs) -> Any:
        given = model.predict({n: t.numpy() for n, t in zip(input_names, as_core_ml_takes(inputs), strict=True)})
        outputs = tuple(torch.from_numpy(given[name]) for name in output_names)
        return outputs[0] if len(outputs) == 1 else outputs

    return predict
