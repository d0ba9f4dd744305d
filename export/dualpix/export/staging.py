"""An export folder changes from one complete export to the next, or has no manifest: never half of each.

An export is written into a hidden folder inside the output folder and moved out of it at the end: the former manifest
goes first, the new one comes last. A run that was interrupted before that leaves the former export whole; what it left
behind is removed by the next run, or finished where only the moving was left. The same for an artefact that is a folder
itself (``.mlpackage``, ``.aimodel``).
"""

from __future__ import annotations

import json
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from dualpix.capture.errors import OutputError
from dualpix.capture.files import atomic_dir, make_output_dir, remove_leftovers
from dualpix.export.manifest import MANIFEST

_READY = ".export"
_FORMER = ".former.json"
"""The former manifest while its files are being removed: a later run finishes what a kill cut short."""


@contextmanager
def staged(out: Path) -> Iterator[Path]:
    """Yield a folder to write an export into; on success it takes the place of the former export in ``out``.

    Other files in ``out`` are left alone. On any failure ``out`` is as it was.

    Raises:
        OutputError: ``out`` cannot be written.
    """
    existed = out.exists()
    make_output_dir(out)
    try:
        remove_leftovers(out)
        ready = out / _READY
        if (ready / MANIFEST).is_file():
            _move_in(ready, out)
        elif [path.name for path in _files_in(ready)] == [_FORMER]:  # all of it had been moved
            remove(ready)
        with atomic_dir(ready, MANIFEST) as temporary:
            yield temporary
        _move_in(ready, out)
    finally:
        if not existed:
            with suppress(OSError):  # it holds something
                out.rmdir()


def _move_in(ready: Path, out: Path) -> None:
    names = sorted(p.name for p in ready.iterdir() if p.name != _FORMER)
    try:
        if (out / MANIFEST).is_file():
            (out / MANIFEST).replace(ready / _FORMER)
        for name in sorted(_named_by(ready / _FORMER) - _named_by(ready / MANIFEST)):
            remove(out / name)
        for name in sorted(names, key=lambda n: n == MANIFEST):
            remove(out / name)
            (ready / name).replace(out / name)
    except OSError as error:
        raise OutputError(f"cannot write '{out}': {error.strerror or error}", hint="choose another -o") from error
    with suppress(OSError):
        remove(ready)


def _files_in(folder: Path) -> list[Path]:
    return list(folder.iterdir()) if folder.is_dir() else []


def _named_by(path: Path) -> set[str]:
    """What a manifest names, as far as it lies directly in its folder."""
    try:
        manifest = json.loads(path.read_text())
        named = [str(entry["file"]) for entry in (*manifest["artefacts"], *manifest.get("files", ()))]
    except (OSError, ValueError, KeyError, TypeError, RecursionError):
        return set()
    return {name for name in named if name == Path(name).name and name not in ("", "..")}


def remove(path: Path) -> None:
    """Remove a file, a link or a folder, if it is there."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


@contextmanager
def beside(target: Path) -> Iterator[Path]:
    """A folder beside ``target`` to write it in: an artefact that is a folder is opened by the end of its own name.

    Raises:
        OutputError: there is no writing there.
    """
    try:
        scratch = tempfile.TemporaryDirectory(prefix=".making.", dir=target.parent)
    except OSError as error:
        raise _unwritable(target, error) from error
    with scratch as folder:
        yield Path(folder)


def put_in_place(written: Path, target: Path) -> None:
    """Put a folder in its place; what was there before stays if that fails.

    Raises:
        OutputError: it fails.
    """
    old = written.with_name("old")
    try:
        if target.exists():
            target.replace(old)
        written.replace(target)
    except OSError as error:
        if old.exists():
            remove(target)
            old.replace(target)
        raise _unwritable(target, error) from error


def _unwritable(target: Path, error: OSError) -> OutputError:
    return OutputError(f"cannot write '{target}': {error.strerror or error}", hint="choose another folder")
