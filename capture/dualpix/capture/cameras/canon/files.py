"""Files of a release as a Canon camera hands them over."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from dualpix.capture.cameras.received import all_or_none
from dualpix.capture.files import write_bytes


@dataclass(frozen=True)
class CanonFile:
    """A file of a release."""

    name: str
    """On the camera."""
    suffix: str
    data: bytes


def suffix_of(data: bytes, name: str) -> str:
    """From what the file is: in the camera's memory files have made-up names."""
    if data.startswith(b"\xff\xd8\xff"):
        return ".jpg"
    if data[:4] in (b"II*\0", b"MM\0*"):
        return ".cr2" if data[8:10] == b"CR" else ".dng"
    if data[4:11] == b"ftypcrx":
        return ".cr3"
    if data[4:8] == b"ftyp":
        return ".hif"
    suffix = Path(name).suffix.lower()
    return suffix if re.fullmatch(r"\.[a-z0-9]{2,4}", suffix) else ".bin"


def write_all(folder: Path, stem: str, files: Sequence[CanonFile]) -> tuple[Path, ...]:
    """Put them into a folder, all of them or none.

    Raises:
        OutputError: one cannot be written.
    """
    with all_or_none() as written:
        for file in files:
            path = folder / f"{stem}{file.suffix}"
            write_bytes(path, file.data)
            written.append(path)
    return tuple(written)
