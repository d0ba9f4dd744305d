"""One input for the decoder: its files and how it is asked; in memory, and as a folder with ``case.json``."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from dualpix.capture.raw.formats.dump import Dump

CORPUS = Path(__file__).parent / "corpus"
SEEDS, FOUND = CORPUS / "seeds", CORPUS / "found"
_CASE = "case.json"
FAILURE = "failure.txt"
"""Beside a case that failed: how."""
_PATHS = ("right", "sub", "shading")


@dataclass(frozen=True)
class Case:
    """Files by name, and the arguments of ``decode_capture`` as plain data."""

    kind: str
    main: str
    files: Mapping[str, bytes]
    options: Mapping[str, Any] = field(default_factory=dict)
    """``dump`` as text; ``right``, ``sub``, ``shading`` and both of ``flat_field`` are names of files."""

    def arguments(self, folder: Path) -> dict[str, Any]:
        """Keyword arguments for the files in ``folder``. Raises DecodeError for an impossible dump geometry."""
        arguments = dict(self.options)
        arguments |= {name: folder / arguments[name] for name in _PATHS if arguments.get(name)}
        if arguments.get("flat_field"):
            left, right = arguments["flat_field"]
            arguments["flat_field"] = (folder / left, folder / right)
        if "dump" in arguments:
            arguments["dump"] = Dump.parse(arguments["dump"])
        return arguments

    def write(self, folder: Path) -> None:
        """Write the files alone."""
        for name, data in self.files.items():
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            (folder / name).write_bytes(data)

    def save(self, folder: Path) -> None:
        """Write the files and ``case.json``."""
        folder.mkdir(parents=True, exist_ok=True)
        self.write(folder)
        record = {"kind": self.kind, "main": self.main, "options": dict(self.options)}
        (folder / _CASE).write_text(json.dumps(record) + "\n")


def load(folder: Path) -> Case:
    """A case as :meth:`Case.save` wrote it."""
    record = json.loads((folder / _CASE).read_text())
    paths = sorted(p for p in folder.rglob("*") if p.is_file() and p.name not in (_CASE, FAILURE))
    files = {path.relative_to(folder).as_posix(): path.read_bytes() for path in paths}
    return Case(record["kind"], record["main"], files, record["options"])


def load_all(folder: Path) -> list[Case]:
    """The cases in the folders below ``folder``, in order of their names."""
    return [load(path.parent) for path in sorted(folder.glob(f"*/{_CASE}"))]
