"""Writing an asset: converted and run in a child process, compared, and only then put in its place."""

from __future__ import annotations

from dataclasses import asdict

import torch

from dualpix.capture.errors import DualpixError, UnknownNameError
from dualpix.export.artefact import Artefact, BuildRequest, ExportError, quiet
from dualpix.export.coreai import version_of
from dualpix.export.coreai.check import check_numerics
from dualpix.export.coreai.child import ConversionError, Names, convert_apart
from dualpix.export.coreai.convert import Prepared, prepare
from dualpix.export.coreai.runtime import AssetProgram
from dualpix.export.manifest import size_of
from dualpix.export.reasons import reason_of
from dualpix.export.staging import beside, put_in_place


def write(request: BuildRequest) -> Artefact:
    """Of :func:`dualpix.export.coreai.build`, where the converter is installed; raises the same."""
    with quiet(), torch.no_grad():
        prepared = _prepared(request)
        with beside(request.path) as scratch:
            written = scratch / request.path.name
            names = Names(request.input_names, request.output_names)
            try:
                output = convert_apart(prepared.program, written, names, request.inputs)
            except ConversionError as error:
                reason = reason_of(ValueError(error.found), request.module, request.inputs).removeprefix("ValueError: ")
                raise ExportError(f"Core AI conversion failed: {reason}") from error
            numerics = check_numerics(written, request, prepared, output)
            put_in_place(written, request.path)
    details = {**prepared.details, "runtime": f"coreai-core {version_of('coreai-core')}", "ran": asdict(numerics)}
    predict = AssetProgram(request.path, request.input_names, request.output_names)
    return Artefact(request.path, size_of(request.path), predict, None, details, note=prepared.note)


def _prepared(request: BuildRequest) -> Prepared:
    try:
        return prepare(request)
    except (ExportError, UnknownNameError):
        raise
    except DualpixError as error:
        raise ExportError(error.found, expected=error.expected, hint=error.hint) from error
    except Exception as error:  # torch.export raises anything
        raise ExportError(f"Core AI: {reason_of(error, request.module, request.inputs)}") from error
