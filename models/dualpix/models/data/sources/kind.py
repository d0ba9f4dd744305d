"""What a kind of training data is, and what its sources are asked for."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, get_args

from dualpix.capture.errors import DualpixError, UnknownNameError
from dualpix.models import tasks
from dualpix.models.data.kinds import StackGenerator
from dualpix.models.data.rendered import RenderSettings
from dualpix.models.data.source import Source

DUAL_PIXEL, FOCUS_STACK, MONOCULAR = tasks.DUAL_PIXEL.name, tasks.FOCUS_STACK.name, tasks.MONOCULAR.name
_MOST_FRAMES = 100


@dataclass(frozen=True)
class SourceOptions:
    """What all sources of a run are asked for.

    Raises:
        DualpixError: numbers out of range.
    """

    seed: int = 0
    samples: int = 4096
    """Of procedural scenes."""
    renders: int = 4
    """Of each RGB-D picture, through as many lenses."""
    frames: int = 5
    """Of focus stacks that are rendered on the fly."""
    render: RenderSettings = field(default_factory=RenderSettings)
    """Size and lenses of what is rendered on the fly."""
    cache_dir: Path | None = None
    """Where procedural pairs and focus stacks are kept once rendered; None renders them each time."""
    sharp: bool = False
    """Whether procedural pairs bring their picture in focus everywhere; of other sources, what has one brings it."""
    stacks: StackGenerator = "faithful"
    """How focus stacks are formed, see :mod:`dualpix.models.data.stack_formation`."""

    def __post_init__(self) -> None:
        for name, low, high in (("samples", 1, 10**7), ("renders", 1, 10**4), ("frames", 2, _MOST_FRAMES)):
            value = getattr(self, name)
            if not low <= value <= high:
                raise DualpixError(f"{value} {name}", expected=f"{low} to {high}")
        if self.stacks not in get_args(StackGenerator):
            raise UnknownNameError("way to form stacks", str(self.stacks), list(get_args(StackGenerator)))


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
