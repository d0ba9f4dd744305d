"""Pairs of NumPy arrays: ``NAME_left.npy`` with ``NAME_right.npy``, or one ``.npz`` with arrays ``left`` and ``right``.

(H, W) or (H, W, 3) in R, G, B; uint8 (taken as sRGB, like pictures), uint16 (linear, white 65535), or floats of 16, 32
or 64 bits (linear, white 1.0). The header is parsed and the size checked before a single sample is read, and objects
are never unpickled.
"""

from __future__ import annotations

import zipfile
import zlib
from pathlib import Path
from typing import IO, Any

import numpy as np
import numpy.typing as npt

from dualpix.capture.arrays.npy import MAGIC, damaged, read_header, read_samples
from dualpix.capture.errors import DecodeError
from dualpix.capture.raw.containers.hints import Hints
from dualpix.capture.raw.containers.images import check_finite, check_size
from dualpix.capture.raw.formats.pair import Half, check_pair, exported_views, find_right
from dualpix.capture.raw.formats.plugin import SensorViews, Source

_ZIP_MAGIC = b"PK\x03\x04"
_TYPES = ("uint8", "uint16", "float16", "float32", "float64")
_MAX_REASON = 80  # of what a damaged file makes long: names that zipfile quotes
# An array in a compressed archive can be a thousand times larger than the file: 89 megapixels of RGB float32.
_MAX_ARCHIVED_BYTES = 1 << 30


class NumpyPairDecoder:
    """Left / right pairs of NumPy arrays."""

    name = "numpy"
    needs = "NAME_left.npy with NAME_right.npy, or one .npz with the arrays left and right"
    summary = "NumPy arrays (H, W) or (H, W, 3): uint8, uint16 or floats"
    suffixes = (".npy", ".npz")
    whole_suffixes = (".npz",)

    def refuses(self, source: Source) -> str | None:
        """None for an .npy file, and for a ZIP archive named .npz."""
        archive = source.head.startswith(_ZIP_MAGIC) and source.path.suffix.lower() == ".npz"
        return None if archive or source.head.startswith(MAGIC) else "not an .npy or .npz"

    def decode(self, source: Source) -> SensorViews:
        """Both views. Raises DecodeError for a missing, unequal or damaged array, or one that holds objects."""
        if source.head.startswith(_ZIP_MAGIC):
            halves = _archived(source)
            right_path = source.path
        else:
            right_path = find_right(source)
            halves = tuple(Half(_read_npy(path), f"file {path.name}") for path in (source.path, right_path))
        left, right = halves
        check_pair(source.path, left.samples, right_path, right.samples)
        return exported_views(source, (left, right), Hints())


def _archived(source: Source) -> tuple[Half, ...]:
    path = source.path
    if source.right is not None:
        raise DecodeError(
            f"'{path.name}' holds both halves, a right file was given too", expected="an .npz", hint="leave out --right"
        )
    try:
        with zipfile.ZipFile(path) as archive:
            return tuple(Half(_member(path, archive, side), f"{side} of {path.name}") for side in ("left", "right"))
    # RuntimeError: encrypted; NotImplementedError: a compression of its own; ValueError: absurd offsets.
    except (zipfile.BadZipFile, zlib.error, EOFError, OSError, RuntimeError, ValueError) as error:
        raise damaged(path, f"unreadable archive ({str(error)[:_MAX_REASON]})") from error


def _member(path: Path, archive: zipfile.ZipFile, side: str) -> npt.NDArray[Any]:
    names = archive.namelist()
    if f"{side}.npy" not in names:
        found = ", ".join(sorted(name.removesuffix(".npy") for name in names)[:8])
        raise DecodeError(f"'{path.name}' has no array '{side}'", expected=f"left and right, not: {found}")
    entry = archive.getinfo(f"{side}.npy")
    if entry.file_size > _MAX_ARCHIVED_BYTES:
        raise DecodeError(f"'{path.name}': array '{side}' has {entry.file_size} bytes", expected="at most 1 GiB")
    if entry.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):  # others pack without any bound
        raise DecodeError(
            f"'{path.name}': array '{side}' is compressed by method {entry.compress_type}",
            expected="stored or deflated, as NumPy writes it",
        )
    with archive.open(entry) as file:
        return _read_array(path, file, entry.file_size)


def _read_npy(path: Path) -> npt.NDArray[Any]:
    try:
        with path.open("rb") as file:
            return _read_array(path, file, path.stat().st_size)
    except OSError as error:
        raise DecodeError(f"cannot read '{path}': {error.strerror or error}") from error


def _read_array(path: Path, file: IO[bytes], size: int) -> npt.NDArray[Any]:
    """The array in ``file``, which has ``size`` bytes, after a look at its header."""
    header = read_header(path, file)
    shape, dtype = header.shape, header.dtype
    if dtype.hasobject:
        raise DecodeError(f"'{path.name}' holds Python objects, never unpickled here", expected="an array of numbers")
    if dtype.newbyteorder("=") not in map(np.dtype, _TYPES) or len(shape) not in (2, 3) or shape[2:] not in ((), (3,)):
        raise DecodeError(
            f"'{path.name}' holds an array of {header}", expected=f"(H, W) or (H, W, 3) of {', '.join(_TYPES)}"
        )
    check_size(path, shape[1], shape[0])
    samples = read_samples(path, file, size, header)
    samples = samples.astype(np.float32) if samples.dtype == np.float16 else samples
    check_finite(path, samples)
    return samples
