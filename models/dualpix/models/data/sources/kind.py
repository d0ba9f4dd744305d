"""What a kind of training data is, and what its sources are asked for."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from dualpix.models import tasks
from dualpix.models.data.options import SourceOptions
from dualpix.models.data.source import Source

DUAL_PIXEL, FOCUS_STACK, MONOCULAR = tasks.DUAL_PIXEL.name, tasks.FOCUS_STACK.name, tasks.MONOCULAR.name


@dataclass(frozen=True)
class SourceKind:
    """A kind of training data: one file states one, and the registry lists it."""

    name: str
    layout: str
    """What it looks like, in a line: for messages and ``--list``."""
    tasks: tuple[str, ...]
    """Names of the tasks that it has samples for."""
    recognises: Callable[[Path], bool]
    """Whether a file or folder is of this kind, from names and a few headers."""
    open: Callable[[str, Path, str, SourceOptions], Source]
    """(name, path, task, options): the source. Raises DualpixError where there is nothing to train with."""
    lacking: Callable[[Path], str | None] = lambda path: None
    """What a path that no kind recognises has of this one, and what it lacks, for messages; None: nothing of it."""


def never(path: Path) -> bool:
    """``recognises`` of a kind that is no file or folder."""
    del path
    return False


def digest_of(facts: Mapping[str, Any]) -> str:
    """Sixteen hex digits of plain data."""
    return hashlib.sha256(json.dumps(facts, sort_keys=True, default=str).encode()).hexdigest()[:16]
