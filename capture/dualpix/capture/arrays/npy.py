"""NumPy's ``.npy`` files of numbers, whoever wrote them.

The header is parsed within bounds, and the size compared with that of the file, before a single sample is read: memory
is taken for what is there, never for what a header claims. Objects are never unpickled. (``numpy.load`` reads a header
of any length that it claims, opens a ZIP archive or a pickle under the name of an ``.npy``, and raises what its parser
trips over, ``EOFError`` for an empty file.)
"""

from __future__ import annotations

import io
import math
import stat
import warnings
from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, Literal

import numpy as np
import numpy.typing as npt
from numpy.lib import format as npy_format

from dualpix.capture.errors import DecodeError, DualpixError

MAGIC = b"\x93NUMPY"
_ZIP_MAGIC, _PICKLE_MAGIC = b"PK", b"\x80"
_MAX_HEADER = 4096
_MAX_REASON = 80  # of what a damaged file makes long: types with many fields
_LARGEST_ITEM = 8  # bytes: a long double is another number on every machine


@dataclass(frozen=True)
class NpyHeader:
    """What a file says of its array."""

    shape: tuple[int, ...]
    fortran_order: bool
    dtype: np.dtype[Any]
    start: int
    """Offset of the first sample."""

    @property
    def sample_bytes(self) -> int:
        """Length of the samples."""
        return math.prod(self.shape) * self.dtype.itemsize

    def __str__(self) -> str:
        return f"{str(self.dtype)[:_MAX_REASON]} {str(self.shape)[:_MAX_REASON]}"


def read_npy(
    path: Path,
    *,
    axes: Collection[int] = (2,),
    kinds: str = "fui",
    expected: str = "an .npy with one number a pixel, (H, W)",
    most_bytes: int = 1 << 30,
    error: type[DualpixError] = DecodeError,
    otherwise: str = "is no plane of numbers",
) -> npt.NDArray[Any]:
    """The array of numbers in an ``.npy`` file, in native byte order and C order; NaN and infinity are kept.

    Args:
        path: the file.
        axes: how many axes it may have.
        kinds: letters of ``numpy.dtype.kind`` that it may have: real numbers by default, "b" for booleans. Complex and
            structured ones, texts, dates and objects are none.
        expected: what should be there, in messages.
        most_bytes: of samples.
        error: the kind of DualpixError that is raised.
        otherwise: what a message says of an array of another kind.

    Raises:
        DualpixError: of the kind ``error``: not readable, no ``.npy``, damaged or cut, empty, too large, or an array of
            another kind.
    """
    try:
        size = _size_of(path, error)
        with path.open("rb") as file:
            header = read_header(path, file, error)
            if header.dtype.hasobject:
                raise _objects(path, error)
            if not _is_of_kind(header, axes, kinds):
                raise error(f"'{path.name}' {otherwise}: {header}", expected=expected)
            if min(header.shape, default=1) < 1:
                raise error(f"'{path.name}' holds an empty array, {header}", expected=expected)
            if header.sample_bytes > most_bytes:
                raise error(
                    f"'{path.name}' claims {header.sample_bytes} bytes of samples",
                    expected=f"at most {most_bytes >> 20} MiB",
                )
            return read_samples(path, file, size, header, error)
    except OSError as failed:
        raise error(f"cannot read '{path}': {failed.strerror or failed}") from failed


def read_header(path: Path, file: IO[bytes], error: type[DualpixError] = DecodeError) -> NpyHeader:
    """The header at the start of ``file``; leaves it at the first sample. ``path`` is named in messages.

    Raises:
        DualpixError: of the kind ``error``: no ``.npy``, or a header that cannot be understood.
    """
    # NumPy would read as many bytes as the header claims to have, so it gets a few and no more.
    start = file.read(_MAX_HEADER)
    if not start.startswith(MAGIC):
        raise _foreign(path, start, error)
    head = io.BytesIO(start)
    try:
        version = npy_format.read_magic(head)
        readers = {(1, 0): npy_format.read_array_header_1_0, (2, 0): npy_format.read_array_header_2_0}
        if version not in readers:
            raise ValueError(f"version {version}")
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # Python 2 wrote (480L, 640L), which NumPy understands and complains about
            shape, fortran_order, dtype = readers[version](head, max_header_size=_MAX_HEADER)
    # NumPy parses a literal: what that raises on nonsense is not documented, so anything means a broken header.
    except Exception as failed:
        raise damaged(path, "a broken .npy header", error=error) from failed
    file.seek(head.tell())
    return NpyHeader(tuple(int(n) for n in shape), fortran_order, dtype, head.tell())


def read_samples(
    path: Path, file: IO[bytes], size: int, header: NpyHeader, error: type[DualpixError] = DecodeError
) -> npt.NDArray[Any]:
    """The samples after the header, in native byte order and C order.

    Args:
        path: named in messages.
        file: at the first sample.
        size: of the whole file, in bytes.
        header: of :func:`read_header`, whose type and shape were looked at.
        error: the kind of DualpixError that is raised.

    Raises:
        DualpixError: of the kind ``error``: objects, or the length of the file is not what the header says.
    """
    if header.dtype.hasobject:
        raise _objects(path, error)
    needed = header.sample_bytes
    if size != header.start + needed:
        expected = f"{needed} for {header.shape} {header.dtype}"
        raise damaged(path, f"{size - header.start} bytes of samples", expected, error)
    data = file.read(needed)
    if len(data) != needed:
        raise damaged(path, f"{len(data)} bytes of samples", str(needed), error)
    order: Literal["F", "C"] = "F" if header.fortran_order else "C"
    samples = np.frombuffer(data, header.dtype).reshape(header.shape, order=order)
    return np.ascontiguousarray(samples.astype(header.dtype.newbyteorder("="), copy=False))


def damaged(
    path: Path, found: str, expected: str = "a complete file", error: type[DualpixError] = DecodeError
) -> DualpixError:
    """What to say of a file that is not whole."""
    return error(f"'{path.name}' has {found}", expected=expected, hint="it is cut or damaged, copy it again")


def _size_of(path: Path, error: type[DualpixError]) -> int:
    status = path.stat()
    if not (stat.S_ISREG(status.st_mode) or stat.S_ISDIR(status.st_mode)):  # a pipe would be waited for
        raise error(f"'{path.name}' is no ordinary file", expected="an .npy file")
    return status.st_size


def _foreign(path: Path, start: bytes, error: type[DualpixError]) -> DualpixError:
    if not start or MAGIC.startswith(start):
        return damaged(path, f"{len(start)} bytes", error=error)
    for magic, what in ((_ZIP_MAGIC, "a ZIP archive"), (_PICKLE_MAGIC, "a Python pickle, never unpickled here")):
        if start.startswith(magic):
            return error(
                f"'{path.name}' is {what}", expected="an .npy file", hint="write one array with numpy.save(path, array)"
            )
    return error(f"'{path.name}' is no .npy file", expected="an array that numpy.save wrote")


def _is_of_kind(header: NpyHeader, axes: Collection[int], kinds: str) -> bool:
    return header.dtype.kind in kinds and header.dtype.itemsize <= _LARGEST_ITEM and len(header.shape) in axes


def _objects(path: Path, error: type[DualpixError]) -> DualpixError:
    return error(f"'{path.name}' holds Python objects, never unpickled here", expected="an array of numbers")
