"""What was asked of a result, kept in its sidecar: so that a later run can tell what is done and need not be repeated.

A request names the input files by name, size and time of last change (contents are not read: captures are large), every
option that changes the result, and the version of dualpix. It says nothing about where things lie, so a folder of
captures or of results can be moved.
"""

from __future__ import annotations

import json
import math
import os
from collections.abc import Mapping, Sequence
from dataclasses import asdict, is_dataclass, replace
from importlib.metadata import version
from pathlib import Path
from typing import Any

from dualpix.capture.raw.batch.inputs import Job

_MAX_SIDECAR_BYTES = 16 * 2**20


def request_of(job: Job, options: Mapping[str, Any]) -> dict[str, Any]:
    """What is asked for, as plain JSON data.

    Args:
        job: the capture.
        options: everything that changes the result; paths in it stand for the files, which are looked at.
    """
    return {
        "dualpix": version("dualpix"),
        "inputs": [_fingerprint(path) for path in job.files],
        "options": {name: _plain(value) for name, value in sorted(options.items())},
    }


def with_requests(jobs: Sequence[Job], options: Mapping[str, Any]) -> list[Job]:
    """The jobs with their :func:`request_of`."""
    return [replace(job, request=request_of(job, options)) for job in jobs]


def earlier_result(folder: Path, request: Mapping[str, Any] | None, sidecar: str) -> dict[str, Any] | None:
    """The sidecar's content if ``folder`` holds the whole result of this very request, else None.

    Whole means that the sidecar, which is written last, is there, and every file that it lists under ``files``.
    """
    path = folder / sidecar
    try:
        if request is None or path.stat().st_size > _MAX_SIDECAR_BYTES:
            return None
        record = json.loads(path.read_bytes())
        if not isinstance(record, dict) or record.get("request") != request:
            return None
        whole = all((folder / entry["name"]).stat().st_size > 0 for entry in record.get("files", ()))
    except (OSError, ValueError, KeyError, AttributeError, TypeError, RecursionError):
        return None  # absent, or not written by us: to be done
    return record if whole else None


def _fingerprint(path: Path) -> dict[str, Any]:
    try:
        status = path.stat()
        if path.is_dir():
            return {"name": path.name, "files": [_fingerprint(item) for item in sorted(path.iterdir())]}
    except (OSError, ValueError):
        return {"name": path.name, "missing": True}
    return {"name": path.name, "size": status.st_size, "mtime_ns": status.st_mtime_ns}


def _plain(value: Any) -> Any:
    """``value`` as it comes back from JSON."""
    if isinstance(value, os.PathLike):
        return _fingerprint(Path(value))
    if is_dataclass(value) and not isinstance(value, type):
        value = asdict(value)
    if isinstance(value, Mapping):
        return {str(name): _plain(item) for name, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(item) for item in value]
    if isinstance(value, float) and not math.isfinite(value):
        return str(value)
    if value is None or isinstance(value, (bool, int, float, str)):
        return value
    raise TypeError(f"{type(value).__name__} in a request")
