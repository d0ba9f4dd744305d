"""Core AI assets (``.aimodel``), Apple's successor of Core ML (iOS 27, macOS 27), at several precisions.

Converted by coreai-torch and run by Apple's own runtime, which the wheel of coreai-core carries: an artefact counts as
written once that runtime computed what the network does. Where there is no such wheel, nothing is made.
"""

from __future__ import annotations

import platform
import sys
from dataclasses import asdict
from importlib.metadata import PackageNotFoundError, version
from importlib.util import find_spec
from pathlib import Path

import torch

from dualpix.capture.errors import DualpixError, UnknownNameError
from dualpix.export.artefact import Artefact, BuildRequest, ExportError, quiet
from dualpix.export.coreai.check import check_numerics
from dualpix.export.coreai.child import ConversionError, Names, convert_apart, run_apart
from dualpix.export.coreai.convert import PRECISIONS, Prepared, prepare
from dualpix.export.coreai.runtime import AssetProgram
from dualpix.export.manifest import size_of
from dualpix.export.reasons import reason_of
from dualpix.export.staging import beside, put_in_place

__all__ = ["PRECISIONS", "AssetProgram", "Names", "build", "can_build", "can_run", "load", "run_apart"]

VERSIONS = {"coreai-torch": "0.4.3", "coreai-core": "1.0.0b3"}
"""What the rewrites and limits were verified with."""


def can_build() -> str | None:
    """``None``, or one line: why no asset can be produced on this machine."""
    if find_spec("coreai") is None or find_spec("coreai_torch") is None:
        here = f"{sys.platform} {platform.machine()}"
        if (sys.platform, platform.machine()) not in {("linux", "x86_64"), ("darwin", "arm64")}:
            return f"there is no wheel of coreai-core {VERSIONS['coreai-core']} for {here}: export on Linux x86_64"
        return "coreai-torch is missing: pip install 'dualpix[coreai]'"
    for name, wanted in VERSIONS.items():
        if (found := _version(name)) != wanted:
            return f"{name} is {found}; the rewrites were verified with {wanted}: pip install 'dualpix[coreai]'"
    return None


def _version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return "missing"


def can_run() -> str | None:
    """``None``, or one line: why assets do not run on this machine."""
    return can_build()


def load(
    path: Path, input_names: tuple[str, ...], output_names: tuple[str, ...], threads: int = 1
) -> AssetProgram | None:
    """A written asset in Apple's runtime; ``None`` where that is not installed.

    Raises:
        ExportError: the asset is damaged.
    """
    return AssetProgram(path, input_names, output_names) if can_run() is None else None


def build(request: BuildRequest) -> Artefact:
    """Convert ``request.module`` and write an ``.aimodel`` that Apple's runtime ran, and that was compared.

    Raises:
        UnknownNameError: an unknown precision.
        ExportError: there is no calibration sample for int8 activations, the converter refuses the network or would
            change it without a word, or the asset does not run or computes something else than the network.
        OutputError: the asset cannot be put in its place.
    """
    if (missing := can_build()) is not None:
        raise ExportError(missing)
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
    details = {**prepared.details, "runtime": f"coreai-core {_version('coreai-core')}", "ran": asdict(numerics)}
    predict = load(request.path, request.input_names, request.output_names, request.threads)
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
