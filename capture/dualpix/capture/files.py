"""Files that appear whole or not at all, and JSON that is JSON.

A file or folder in the making is a hidden neighbour ``.NAME.dualpix-HOST-new-RANDOM`` of the result ``NAME`` (a file's
keeps its suffix); its writer holds a lock (``flock``) on it, which the system drops when the process ends, however it
ends. So a later run can tell what a killed one left behind (:func:`remove_leftovers`) from what another process is
writing now.
"""

from __future__ import annotations

import errno
import hashlib
import json
import math
import os
import re
import shutil
import socket
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, Literal

from dualpix.capture.errors import DualpixError, OutputError

try:
    import fcntl
except ImportError:  # Windows: leftovers are told by their age alone
    fcntl = None  # type: ignore[assignment]

_HOST = hashlib.sha256(socket.gethostname().encode()).hexdigest()[:8]
_LEFTOVER = re.compile(r"\.(?P<name>.+)\.dualpix-(?P<host>[0-9a-f]{8})-(?P<kind>new|old)-[^.]{8}(?P<suffix>\.[^.]+)?")
_STALE_S = 24 * 3600.0  # where locks tell nothing: other machines, file systems without them
_DEEPEST = 64  # nesting of JSON; ours has ten levels
_MOST_DIGITS = 40  # of a whole number in JSON; 64 bits have 20


def _read_umask() -> int:
    umask = os.umask(0)
    os.umask(umask)
    return umask


_UMASK = _read_umask()  # once: it can be read only by changing it, for all threads


def make_output_dir(path: Path) -> Path:
    """Create ``path`` with its parents, check that it can be written, and clear it of what killed runs left there.

    Raises:
        OutputError: a file stands in the way or the folder is read-only.
    """
    _make_writable(path)
    remove_leftovers(path)
    return path


def _make_writable(path: Path) -> None:
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


def check_output_dir(path: Path) -> None:
    """Whether :func:`make_output_dir` may be expected to succeed, without making anything: before long work.

    Raises:
        OutputError: a file stands in the way, or the folder it would be made in cannot be written.
    """
    there = next((folder for folder in (path.absolute(), *path.absolute().parents) if _is_there(folder)), path)
    try:
        if not there.is_dir():
            raise NotADirectoryError(errno.ENOTDIR, os.strerror(errno.ENOTDIR))
        with tempfile.TemporaryFile(dir=there):  # permissions do not tell of read-only disks, nor to root
            pass
    except OSError as error:
        raise OutputError(
            f"cannot write to output folder '{path}': '{there}': {error.strerror or error}",
            expected="a folder that can be created and written",
            hint="choose another one with -o",
        ) from error


def _is_there(path: Path) -> bool:
    try:
        return path.exists()
    except OSError:  # not ours to look at, or a name too long: making it will tell
        return False


@contextmanager
def atomic_path(path: Path) -> Iterator[Path]:
    """Yield a temporary name beside ``path``; rename onto it on success, remove it on any failure.

    The temporary name keeps the suffix of ``path``, because image libraries choose the format by it.
    """
    with _new_file(path) as temporary:
        try:
            yield temporary
            temporary.chmod(0o666 & ~_UMASK)  # mkstemp makes it private; the result is an ordinary file
            temporary.replace(path)
        except OSError as error:
            raise OutputError(
                f"cannot write '{path}': {error.strerror or error}", hint="choose another folder"
            ) from error
        finally:
            with suppress(FileNotFoundError):
                temporary.unlink()


@contextmanager
def _new_file(path: Path) -> Iterator[Path]:
    """A temporary file beside ``path`` with a lock on it."""
    while True:
        try:
            prefix = f".{path.stem[:48]}.dualpix-{_HOST}-new-"  # cut: the result's name may be as long as names can be
            handle, name = tempfile.mkstemp(prefix=prefix, suffix=path.suffix, dir=path.parent)
        except OSError as error:
            raise OutputError(
                f"cannot write '{path}': {error.strerror or error}", hint="choose another folder"
            ) from error
        os.close(handle)
        temporary = Path(name)
        with _locked(temporary):
            if temporary.exists():  # else another run took it for a leftover before it was locked
                yield temporary
                return


def read_bounded(
    path: Path, most_bytes: int, named: str, *, expected: str, error: type[DualpixError] = DualpixError
) -> bytes:
    """The content of a file that a user named, or that another program wrote, if it is not too large.

    Args:
        path: the file.
        most_bytes: that are read; some MiB.
        named: how a message calls it, e.g. "the plan 'desk.json'".
        expected: what it should be, in the message about its size.
        error: what is raised.

    Raises:
        DualpixError: of the kind ``error``: it cannot be read, or is too large.
    """
    try:
        with path.open("rb") as file:
            data = file.read(most_bytes + 1)
    except OSError as failed:
        raise error(f"cannot read {named}: {failed.strerror or failed}") from failed
    if len(data) > most_bytes:
        raise error(f"'{path}' has over {most_bytes >> 20} MiB", expected=expected)
    return data


def read_json(
    path: Path,
    most_bytes: int,
    *,
    expected: str,
    error: type[DualpixError] = DualpixError,
    otherwise: str = "does not read",
) -> Any:
    """The JSON in a file that a user named, or that another program wrote: :func:`read_bounded`, :func:`parse_json`.

    Args:
        path: the file.
        most_bytes: that are read; some MiB.
        expected: what it should be, in messages.
        error: what is raised.
        otherwise: how a message says that it cannot be read, after the name of the file.

    Raises:
        DualpixError: of the kind ``error``: it cannot be read, is too large, or is no JSON.
    """
    try:
        return parse_json(read_bounded(path, most_bytes, "it", expected=expected, error=error), "it", expected, error)
    except error as failed:
        raise error(f"'{path}' {otherwise}: {failed.found}", expected=expected) from failed


def parse_json(data: bytes | str, named: str, expected: str, error: type[DualpixError] = DualpixError) -> Any:
    """JSON as the standard has it: no NaN, no infinity (nor numbers that become it), no end of digits or of nesting.

    Args:
        data: UTF-8, with or without a byte order mark.
        named: how a message calls the file, e.g. "the plan 'desk.json'".
        expected: what it should be.
        error: what is raised.

    Raises:
        DualpixError: of the kind ``error``.
    """
    try:
        value = json.loads(data, parse_constant=_finite, parse_float=_finite, parse_int=_whole)
    except (ValueError, RecursionError) as failed:
        reason = "nested too deeply" if isinstance(failed, RecursionError) else str(failed)[:120]
        raise error(f"{named} is no JSON ({reason})", expected=expected) from failed
    if _deeper_than(value, _DEEPEST):  # what is done with it goes down again, and Python has an end to that
        raise error(f"{named} is no JSON (nested too deeply)", expected=expected)
    if _has_half_characters(value):  # such a text can be printed nowhere, and not be written again
        raise error(f"{named} is no JSON (half of a character in a text)", expected=expected)
    return value


def _finite(text: str) -> float:
    value = float(text)
    if not math.isfinite(value):
        raise ValueError(f"{text[:20]} is no number of JSON")
    return value


def _whole(text: str) -> int:
    if len(text) > _MOST_DIGITS:  # whatever is computed from it would fail: no float can be that large
        raise ValueError(f"a number of {len(text)} digits")
    return int(text)


def _deeper_than(value: Any, most: int) -> bool:
    level = [value]
    for _ in range(most):
        level = [item for holder in level for item in _items(holder)]
        if not level:
            return False
    return True


def _items(value: Any) -> list[Any]:
    if isinstance(value, dict):
        return list(value.values())
    return value if isinstance(value, list) else []


def _has_half_characters(value: Any) -> bool:
    """Whether a text holds a surrogate alone, which JSON can spell and UTF-8 cannot."""
    if isinstance(value, str):
        return not value.isascii() and any("\ud800" <= character <= "\udfff" for character in value)
    if isinstance(value, dict):
        return any(map(_has_half_characters, value)) or any(map(_has_half_characters, value.values()))
    return isinstance(value, list) and any(map(_has_half_characters, value))


def json_ready(value: Any, infinity: str | None = None) -> Any:
    """Plain data with what JSON cannot hold put in its place: NaN and infinity become null.

    Args:
        value: dictionaries, lists, tuples, texts and numbers.
        infinity: what positive infinity becomes instead, e.g. "inf" for a focus distance.
    """
    if isinstance(value, Mapping):
        return {key: json_ready(item, infinity) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [json_ready(item, infinity) for item in value]
    if isinstance(value, float) and not math.isfinite(value):
        return infinity if value == math.inf else None
    return value


def sha256_of_file(path: Path) -> str:
    """SHA-256 of a file's content, in hexadecimal."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def write_bytes(path: Path, data: bytes) -> None:
    """Write ``data`` to ``path`` atomically."""
    with atomic_path(path) as temporary:
        temporary.write_bytes(data)


def write_json(path: Path, value: Any) -> None:
    """Write ``value`` as :func:`json_bytes`, atomically."""
    write_bytes(path, json_bytes(value))


def json_bytes(value: Any) -> bytes:
    """``value`` as indented UTF-8 JSON; NaN and infinity are refused (ValueError), they are not JSON."""
    return (json.dumps(value, indent=2, allow_nan=False, ensure_ascii=False) + "\n").encode()


@contextmanager
def atomic_dir(folder: Path, sidecar: str) -> Iterator[Path]:
    """Yield a temporary folder beside ``folder``; put it in its place on success, remove it on any failure.

    Args:
        folder: the result; its parents are made. An earlier result there is replaced as a whole.
        sidecar: name of the file that marks an earlier result; any other folder that is not empty is left alone.

    Raises:
        OutputError: the folder cannot be written or holds something else.
    """
    _make_writable(folder.parent)
    if folder.exists() and not (folder / sidecar).is_file() and not (folder.is_dir() and not any(folder.iterdir())):
        raise OutputError(
            f"'{folder}' exists and is no earlier result", expected="a free name", hint="choose another -o"
        )
    with _new_folder(folder) as temporary:
        try:
            yield temporary
            temporary.chmod(0o777 & ~_UMASK)  # mkdtemp makes it private; the result is an ordinary folder
            _put_in_place(temporary, folder)
        except OSError as error:
            raise OutputError(
                f"cannot write '{folder}': {error.strerror or error}", hint="free some space or choose another -o"
            ) from error
        finally:
            shutil.rmtree(temporary, ignore_errors=True)


def remove_leftovers(parent: Path) -> int:
    """Remove what killed runs left in the making in ``parent``; what a living process writes is left alone.

    An earlier result that a kill caught between its two renames is put back. Leftovers of other machines, and those on
    file systems without locks, are removed when they are a day old.

    Returns:
        The number of leftovers.
    """
    try:
        found = [(match, Path(e.path)) for e in os.scandir(parent) if (match := _LEFTOVER.fullmatch(e.name))]
    except OSError:  # not there, or not ours to list: nothing to remove
        return 0
    removed = 0
    for match, path in found:
        with _locked(path) as held, suppress(OSError):
            ours = held is True and match["host"] == _HOST
            if ours or (held is not False and time.time() - path.stat().st_mtime > _STALE_S):
                _discard(path, match["kind"], parent / match["name"])
                removed += 1
    return removed


def _discard(path: Path, kind: str, folder: Path) -> None:
    if kind == "old" and not folder.exists() and any(path.iterdir()):
        path.replace(folder)
    elif path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink()


@contextmanager
def _new_folder(folder: Path) -> Iterator[Path]:
    """A temporary folder beside ``folder`` with a lock on it."""
    while True:
        temporary = _hidden(folder, "new")
        with _locked(temporary):
            if temporary.exists():  # else another run took it for a leftover before it was locked
                yield temporary
                return


def _hidden(folder: Path, kind: Literal["new", "old"]) -> Path:
    try:
        return Path(tempfile.mkdtemp(prefix=f".{folder.name}.dualpix-{_HOST}-{kind}-", dir=folder.parent))
    except OSError as error:
        raise OutputError(
            f"cannot write '{folder}': {error.strerror or error}", hint="choose another folder"
        ) from error


@contextmanager
def _locked(path: Path) -> Iterator[bool | None]:
    """True: this block holds the lock of ``path``. False: another process does. None: there are no locks here."""
    if fcntl is None:
        yield None
        return
    try:
        handle = os.open(path, os.O_RDONLY | os.O_NONBLOCK)
    except OSError:
        yield None
        return
    try:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
            held: bool | None = True
        except BlockingIOError:
            held = False
        except OSError:
            held = None
        yield held
    finally:
        os.close(handle)


def _put_in_place(temporary: Path, folder: Path) -> None:
    with suppress(OSError):  # nothing there, or an empty folder
        temporary.replace(folder)
        return
    with _locked(folder):
        old = _hidden(folder, "old")
        try:
            folder.replace(old)
            try:
                temporary.replace(folder)
            except OSError:
                old.replace(folder)
                raise
        finally:
            shutil.rmtree(old, ignore_errors=True)
