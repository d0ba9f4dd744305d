"""The files below a folder, listed once for all readers."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from dualpix.capture.rgbd.sample import RgbdError

IMAGE_SUFFIXES = (".png", ".jpg", ".jpeg", ".tif", ".tiff")
_RESULT_MARKS = ("render.json", "decode.json", "depth.json", "manifest.json")
_MAX_FILES = 5_000_000


@dataclass(frozen=True)
class Tree:
    """Ordinary visible files below ``root``, sorted."""

    root: Path
    files: tuple[Path, ...]
    known: frozenset[Path]

    @classmethod
    def below(cls, root: Path) -> Tree:
        """List a folder with its sub-folders, or a single file. Hidden names and our own results are left out.

        Raises:
            RgbdError: neither a file nor a folder.
        """
        if not root.exists():
            raise RgbdError(f"no file or folder '{root}'")
        files = [root] if root.is_file() else list(_walked(root))
        return cls(root if root.is_dir() else root.parent, tuple(files), frozenset(files))

    def named(self, ending: str) -> Iterator[Path]:
        """Files whose names end like this."""
        return (path for path in self.files if path.name.endswith(ending))

    def first(self, *candidates: Path) -> Path | None:
        """The first of the candidates that is there."""
        return next((path for path in candidates if path in self.known), None)

    def name(self, path: Path) -> str:
        """The path below the root without suffix, as a name: "kitchen/0001"."""
        return path.relative_to(self.root).with_suffix("").as_posix()


def _walked(root: Path) -> Iterator[Path]:
    count = 0
    for folder, folders, files in os.walk(root):
        if Path(folder) != root and any(mark in files for mark in _RESULT_MARKS):
            folders.clear()
            continue
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        count += len(files)
        if count > _MAX_FILES:
            raise RgbdError(f"'{root}' has over {_MAX_FILES} files", hint="name a folder further down")
        yield from (Path(folder, name) for name in sorted(files) if not name.startswith("."))
