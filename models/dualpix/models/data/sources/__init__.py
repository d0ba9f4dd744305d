"""Kinds of training data, in one table, and the way from what a user writes to a source.

``SOURCE[:weight]`` is ``procedural``, ``procedural-simple``, ``procedural-large``, or a file or folder, whose kind is
found out (``KIND=PATH`` names it). Only a number at the end is a weight: ``C:\\data``, ``C:\\data:2`` and a folder
``run:3`` are what they look like.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator
from pathlib import Path

from dualpix.capture.errors import DualpixError, UnknownNameError
from dualpix.models.data.options import SourceOptions
from dualpix.models.data.skipped import require_one_that_reads
from dualpix.models.data.source import Source
from dualpix.models.data.sources.focus_stacks import FOCUS_STACKS
from dualpix.models.data.sources.kind import SourceKind
from dualpix.models.data.sources.pairs import PAIRS
from dualpix.models.data.sources.procedural import PROCEDURAL, PROCEDURAL_LARGE, PROCEDURAL_SIMPLE
from dualpix.models.data.sources.rendered_files import RENDERED
from dualpix.models.data.sources.rgbd import RGBD

__all__ = ["KINDS", "SourceKind", "SourceOptions", "open_source", "split_weight"]

KINDS: tuple[SourceKind, ...] = (PROCEDURAL, PROCEDURAL_SIMPLE, PROCEDURAL_LARGE, RENDERED, PAIRS, FOCUS_STACKS, RGBD)
"""In the order in which they are asked; a folder belongs to the first that recognises it."""
_WORDS = {kind.name: kind for kind in (PROCEDURAL, PROCEDURAL_SIMPLE, PROCEDURAL_LARGE)}
"""Sources that are no file or folder."""

_WEIGHT = re.compile(r"(?P<source>.+):(?P<weight>[-+]?(?:\d+\.?\d*|\.\d+)(?:e[-+]?\d+)?|[-+]?inf|nan)", re.I | re.S)
_LEAST_WEIGHT, _MOST_WEIGHT = 1e-4, 1e4


def open_source(text: str, task: str, options: SourceOptions | None = None) -> tuple[Source, float]:
    """The source that ``text`` names, with its weight.

    Args:
        text: ``SOURCE[:weight]``.
        task: name of the task whose samples are wanted.
        options: what all sources of the run are asked for.

    Raises:
        DualpixError: no such file or folder, of no known kind, without samples for the task, or a weight that is none.
    """
    name, weight = split_weight(text)
    try:
        return _opened(name, task, options or SourceOptions()), weight
    except OSError as error:
        raise DualpixError(
            f"cannot read '{error.filename or name}': {error.strerror or error}", expected="files that can be read"
        ) from error


def _opened(name: str, task: str, options: SourceOptions) -> Source:
    kind, path = _kind_of(name, task)
    if task not in kind.tasks:
        has = [other.name for other in KINDS if task in other.tasks]
        raise DualpixError(
            f"'{name}' ({kind.name}) has no samples of the task '{task}'", expected=f"a source of: {', '.join(has)}"
        )
    source = kind.open(name, path, task, options)
    if kind.name not in _WORDS:
        require_one_that_reads(source)
    return source


def split_weight(text: str) -> tuple[str, float]:
    """``SOURCE[:weight]`` in its parts; the weight is 1 where none is given.

    Raises:
        DualpixError: an empty source, a weight out of range, or both ``SOURCE`` and ``SOURCE:weight`` are there.
    """
    match = _WEIGHT.fullmatch(text)
    if match is None or (_is_there(text) and not _is_there(match["source"])):
        if not text.strip():
            raise DualpixError("an empty source", expected="procedural, or a file or folder, as data/nyu:0.5")
        return text, 1.0
    if _is_there(text):
        raise DualpixError(
            f"'{text}' and '{match['source']}' are both there",
            expected="one of them",
            hint=f"write '{text}:1' for the first, '{match['source']}/:{match['weight']}' for the second with a weight",
        )
    weight = float(match["weight"])
    if not _LEAST_WEIGHT <= weight <= _MOST_WEIGHT or not math.isfinite(weight):
        raise DualpixError(
            f"'{text}' has a weight of {weight:g}",
            expected=f"{_LEAST_WEIGHT:g} to {_MOST_WEIGHT:g}",
            hint="leave out a source that shall not be drawn",
        )
    return match["source"], weight


def _kind_of(name: str, task: str) -> tuple[SourceKind, Path]:
    known = {kind.name: kind for kind in KINDS}
    if name in _WORDS:
        return _WORDS[name], Path()
    prefix, equals, rest = name.partition("=")
    if equals and rest and prefix in known and not _is_there(name):
        return known[prefix], _existing(rest)
    if equals and rest and prefix.isidentifier() and not _is_there(name) and _is_there(rest):
        raise UnknownNameError("kind of source", prefix, list(known))
    path = _existing(name)
    fitting = [kind for kind in KINDS if task in kind.tasks]
    for kind in (*fitting, *(kind for kind in KINDS if kind not in fitting)):
        if kind.recognises(path):
            return kind, path
    for kind in fitting:
        if lacking := kind.lacking(path):
            raise DualpixError(f"'{name}' holds {lacking}", expected=kind.layout)
    raise DualpixError(f"'{name}' is no training data that is read here", expected="; ".join(_layouts()))


def _layouts() -> Iterator[str]:
    return (f"{kind.name}: {kind.layout}" for kind in KINDS)


def _existing(name: str) -> Path:
    if not _is_there(name):
        raise DualpixError(
            f"no file or folder '{name}'",
            expected=f"'{PROCEDURAL.name}', or a file or folder of training data",
        )
    return Path(name)


def _is_there(name: str) -> bool:
    try:
        return Path(name).exists()
    except (OSError, ValueError):  # longer than a name can be, or with a zero byte
        return False
