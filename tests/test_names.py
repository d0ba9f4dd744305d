"""Dotted names in documents and in files that ship are names that the code has: of documents today's, of files any."""

from __future__ import annotations

import re
import warnings
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[1]
_NAME = re.compile(r"\bdualpix\.(?:capture|models|quantize|export)(?:\.[A-Za-z_]\w*)+")
_MADE_UP = {"dualpix.models.data.sources.plates"}
"""Modules that a reader is shown how to write."""
_PAGES = [
    path
    for pattern in ("*.md", "docs/**/*.md", "*/README.md", "*/dualpix/**/README.md", "examples/*.py")
    for path in sorted(ROOT.glob(pattern))
    if path.name != "CHANGELOG.md"
]


def named_in(path: Path) -> set[str]:
    return set(_NAME.findall(path.read_text(encoding="utf-8"))) - _MADE_UP


def found(name: str) -> Any:
    """The module or what it holds.

    Raises:
        AttributeError: there is no such name.
    """
    parts = name.split(".")
    for count in range(len(parts), 1, -1):
        try:
            place = import_module(".".join(parts[:count]))
        except ModuleNotFoundError as error:
            if error.name is None or not name.startswith(error.name):
                raise
            continue
        for part in parts[count:]:
            place = getattr(place, part)
        return place
    raise AttributeError(name)


def test_names_in_documents_are_those_of_the_code() -> None:
    names = {name for path in _PAGES for name in named_in(path)}
    assert len(names) > 30
    with warnings.catch_warnings():
        warnings.filterwarnings("error", ".* has moved: import", DeprecationWarning)
        for name in sorted(names):
            assert not str(found(name).__doc__).startswith("Moved to "), f"{name} is an old name"


def test_names_in_shipped_files_are_found() -> None:
    names = {name for path in ROOT.glob("models/dualpix/models/zoo/*/*.json") for name in named_in(path)}
    assert "dualpix.models.prepare.network_inputs" in names
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        assert all(found(name) is not None for name in names)


def test_a_name_that_is_not_there_is_said() -> None:
    with pytest.raises(AttributeError, match="nothing_of_this_name"):
        found("dualpix.models.prepare.nothing_of_this_name")
