"""Whether a ``.pte`` is a whole program of our version: what its first bytes tell, without torch or a runtime."""

from __future__ import annotations

import struct
from importlib.metadata import version
from pathlib import Path

from dualpix.export.errors import ExportError

SCHEMA = b"ET12"
"""Identifier of the program format that executorch 1.5 reads and writes, at byte 4 of a file."""
SCHEMA_VERSION = 0

_HEADER_MAGIC = b"eh00"


def check_program_file(path: Path) -> None:
    """Whether ``path`` is a whole ExecuTorch program of the version that this runtime reads.

    Raises:
        ExportError: it does not exist, is empty, truncated, something else, or of another version.
    """
    try:
        size = path.stat().st_size
        with path.open("rb") as file:
            head = file.read(4096)
    except OSError as error:
        raise ExportError(f"'{path.name}' does not read: {error.strerror}") from error
    if not head:
        raise ExportError(f"'{path.name}' is empty", expected="an ExecuTorch program")
    if len(head) < 8 or head[4:6] != SCHEMA[:2]:
        raise ExportError(f"'{path.name}' is no ExecuTorch program", expected=f"'{SCHEMA.decode()}' at byte 4")
    if head[4:8] != SCHEMA:
        found = head[4:8].decode("ascii", errors="replace")
        raise _other_version(path, f"program format '{found}'", f"'{SCHEMA.decode()}'")
    expected = _expected_size(head)
    if expected > size:
        raise ExportError(f"'{path.name}' is truncated: {size} bytes", expected=f"{expected} bytes")
    if (schema := _schema_version(head)) not in (None, SCHEMA_VERSION):
        raise _other_version(path, f"schema version {schema}", str(SCHEMA_VERSION))


def _other_version(path: Path, found: str, expected: str) -> ExportError:
    return ExportError(
        f"'{path.name}' is of another ExecuTorch: {found}",
        expected=f"{expected}, which executorch {version('executorch')} reads",
        hint="export it again, or install the release that wrote it",
    )


def _expected_size(head: bytes) -> int:
    """Bytes that the extended header announces; 0 where there is none."""
    if len(head) < 32 or head[8:12] != _HEADER_MAGIC:
        return 0
    length, program_size, segments_at = struct.unpack_from("<IQQ", head, 12)
    segments_size = struct.unpack_from("<Q", head, 32)[0] if length >= 32 and len(head) >= 40 else 0
    return int(max(program_size, segments_at + segments_size if segments_at else 0))


def _schema_version(head: bytes) -> int | None:
    """``Program.version``, the first field of the root table; ``None`` where the table lies beyond ``head``."""
    try:
        (table,) = struct.unpack_from("<I", head, 0)
        (back,) = struct.unpack_from("<i", head, table)
        length, _, field = struct.unpack_from("<HHH", head, table - back)
        return int(struct.unpack_from("<I", head, table + field)[0]) if length > 4 and field else 0
    except struct.error:
        return None
