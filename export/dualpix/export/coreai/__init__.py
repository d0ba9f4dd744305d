"""Core AI assets (``.aimodel``), Apple's successor of Core ML (iOS 27, macOS 27), at several precisions.

Converted by coreai-torch and run by Apple's own runtime, which the wheel of coreai-core carries: an artefact counts as
written once that runtime computed what the network does. Where there is no such wheel, nothing is made.
"""

from __future__ import annotations

import platform
import sys
from importlib.metadata import PackageNotFoundError, version
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

from dualpix.export.coreai.child import Names, run_apart
from dualpix.export.coreai.runtime import AssetProgram
from dualpix.export.errors import ExportError

if TYPE_CHECKING:  # the child that runs assets imports this package: what converts would cost it seconds
    from dualpix.export.artefact import Artefact, BuildRequest

__all__ = ["AssetProgram", "Names", "build", "can_build", "can_run", "load", "run_apart"]

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
        if (found := version_of(name)) != wanted:
            return f"{name} is {found}; the rewrites were verified with {wanted}: pip install 'dualpix[coreai]'"
    return None


def version_of(package: str) -> str:
    """Of an installed package; ``missing`` where it is not."""
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
    from dualpix.export.coreai.write import write

    return write(request)
