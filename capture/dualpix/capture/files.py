"""Files that appear whole or not at all."""

from __future__ import annotations

import json
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from dualpix.capture.errors import OutputError


def make_output_dir(path: Path) -> Path:
    """Create ``path`` with its parents and check that it can be written.

    Raises:
        OutputError: a file stands in the way or the folder is read-only.
    """
    try:
        path.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=path):
            pass
    except OSError as error:
        raise OutputError(
            f"cannot write to output folder '{path}': {error.strerror or error}",
            expected="a folder that can be created and written",
            hint="choose another one with -o",
        ) from error
    return path


@contextmanager
def atomic_path(path: Path) -> Iterator[Path]:
    """Yield a temporary name beside ``path``; rename onto it on success, remove it on any failure.

    The temporary name keeps the suffix of ``path``, because image libraries choose the format by it.
    """
    try:
        handle, name = tempfile.mkstemp(prefix=f".{path.stem}.", suffix=path.suffix, dir=path.parent)
    except OSError as error:
        raise OutputError(f"cannot write '{path}': {error.strerror or error}", hint="choose another folder") from error
    os.close(handle)
    temporary = Path(name)
    umask = os.umask(0)
    os.umask(umask)
    try:
        yield temporary
        temporary.chmod(0o666 & ~umask)  # mkstemp makes it private; the result is an ordinary file
        temporary.replace(path)
    except OSError as error:
        raise OutputError(f"cannot write '{path}': {error.strerror or error}", hint="choose another folder") from error
    finally:
        with suppress(FileNotFoundError):
            temporary.unlink()


def write_bytes(path: Path, data: bytes) -> None:
    """Write ``data`` to ``path`` atomically."""
    with atomic_path(path) as temporary:
        temporary.write_bytes(data)


def write_json(path: Path, value: Any) -> None:
    """Write ``value`` as indented UTF-8 JSON, atomically; NaN and infinity are refused, they are not JSON."""
    write_bytes(path, (json.dumps(value, indent=2, allow_nan=False, ensure_ascii=False) + "\n").encode())


@contextmanager
def atomic_dir(folder: Path, sidecar: str) -> Iterator[Path]:
    """Yield a temporary folder beside ``folder``; put it in its place on success, remove it on any failure.

    Args:
        folder: the result; its parents are made. An earlier result there is replaced as a whole.
        sidecar: name of the file that marks an earlier result; any other folder that is not empty is left alone.

    Raises:
        OutputError: the folder cannot be written or holds something else.
    """
    make_output_dir(folder.parent)
    if folder.exists() and not (folder / sidecar).is_file() and not (folder.is_dir() and not any(folder.iterdir())):
        raise OutputError(
            f"'{folder}' exists and is no earlier result", expected="a free name", hint="choose another -o"
        )
    temporary = Path(tempfile.mkdtemp(prefix=f".{folder.name}.", dir=folder.parent))
    umask = os.umask(0)
    os.umask(umask)
    try:
        yield temporary
        temporary.chmod(0o777 & ~umask)  # mkdtemp makes it private; the result is an ordinary folder
        _put_in_place(temporary, folder)
    except OSError as error:
        raise OutputError(
            f"cannot write '{folder}': {error.strerror or error}", hint="free some space or choose another -o"
        ) from error
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def _put_in_place(temporary: Path, folder: Path) -> None:
    if not folder.exists():
        temporary.replace(folder)
        return
    old = Path(tempfile.mkdtemp(prefix=f".{folder.name}.old.", dir=folder.parent))
    folder.replace(old)
    try:
        temporary.replace(folder)
    except OSError:
        old.replace(folder)
        raise
    shutil.rmtree(old, ignore_errors=True)
