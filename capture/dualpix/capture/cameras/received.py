"""Files of a release on their way into a folder: the raw one first, all of them or none."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path

PICTURES = (".jpg", ".hif")
"""Suffixes of what lies beside the raw file."""


@contextmanager
def all_or_none() -> Iterator[list[Path]]:
    """A list for files as they are written: whatever ends the block early, takes them away again."""
    written: list[Path] = []
    try:
        yield written
    except BaseException:
        for path in written:
            path.unlink(missing_ok=True)
        raise


def utc_now() -> str:
    """ISO 8601 in UTC, to the millisecond: when a release was asked for."""
    return datetime.now(UTC).isoformat(timespec="milliseconds")
