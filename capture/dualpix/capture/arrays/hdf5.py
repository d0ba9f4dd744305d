"""Arrays of numbers from HDF5 files that somebody else wrote.

An HDF5 file can say that its samples lie in any other file (external storage, virtual data sets, external links), can
claim any size, and can unpack a small chunk to any size: HDF5 2.0 takes 1 GiB for a chunk of 64 x 64 bytes whose
deflate stream goes on. So arrays come from this very file alone, sizes are looked at before memory is taken, and only
the filters are run whose output is known in size: deflate, LZF, byte shuffling and checksums.

``h5py`` is optional: ``pip install 'dualpix[rgbd]'``.
"""

from __future__ import annotations

import itertools
import math
import os
import zlib
from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from dualpix.capture.arrays.inflate import inflated
from dualpix.capture.errors import DecodeError, DualpixError

MAGIC = b"\x89HDF\r\n\x1a\n"
_DEFLATE, _SHUFFLE, _FLETCHER32, _LZF = 1, 2, 3, 32000
_ORDER = ({_SHUFFLE}, {_DEFLATE, _LZF}, {_FLETCHER32})
"""In which filters follow when writing: one of each at most."""
_MAX_CHUNK_BYTES = 256 << 20
_MAX_CHUNKS = 1 << 16
_MAX_LINKS = 16
_MAX_TEXT = 256
_LZF_RATIO, _DEFLATE_RATIO = 88, 1032  # 264 bytes of three; 258 of two bits
_MAX_UNPACKED_BYTES = 1 << 30
_CHECKSUM_BYTES = 4
_PACKED_SLACK = 1024  # a stream of noise is a little longer than the noise
_LARGEST_ITEM = 8
_MAX_SHOWN = 80


@contextmanager
def open_hdf5(path: Path, error: type[DualpixError] = DecodeError) -> Iterator[Hdf5File]:
    """The HDF5 file, for reading.

    Raises:
        DualpixError: of the kind ``error``: h5py is not installed, or the file is damaged, also where that shows only
            inside the block.
    """
    h5py = import_h5py(path, error)
    try:
        with h5py.File(path, "r") as file:
            yield Hdf5File(path, file, h5py, error)
    except DualpixError:
        raise
    # h5py chooses the exception by the kind of the HDF5 error.
    except (OSError, LookupError, ValueError, TypeError, RuntimeError) as failed:
        if isinstance(failed, OSError) and failed.errno:
            raise error(f"cannot read '{path}': {os.strerror(failed.errno)}") from failed
        raise error(
            f"the HDF5 file '{path.name}' is damaged or lacks an array ({str(failed)[:_MAX_SHOWN]})",
            expected="a complete file; copy it again",
        ) from failed


def import_h5py(path: Path, error: type[DualpixError] = DecodeError) -> Any:
    """The library, which ``path`` needs.

    Raises:
        DualpixError: of the kind ``error``: it is not installed.
    """
    try:
        return import_module("h5py")
    except ImportError as failed:
        raise error(f"'{path.name}' needs h5py, which is not installed", hint="pip install 'dualpix[rgbd]'") from failed


@dataclass(frozen=True)
class Hdf5File:
    """An open file: its arrays by name."""

    path: Path
    _file: Any
    _h5py: Any
    _error: type[DualpixError]

    def __contains__(self, name: str) -> bool:
        """Whether the top group has something of that name, whatever it is."""
        return bool(self._file.id.links.exists(name.encode()))

    def array(self, name: str, axes: Collection[int], kinds: str = "fui", *, may_be_empty: bool = False) -> Hdf5Array:
        """The array of that name, of which nothing has been read yet.

        Args:
            name: in the top group.
            axes: how many it may have.
            kinds: letters of ``numpy.dtype.kind`` that it may have.
            may_be_empty: whether an array without samples is one.

        Raises:
            DualpixError: of the kind the file was opened with: there is none, its samples lie in another file, it is a
                group, or no numbers of so many axes, or empty.
        """
        data = self._resolved(self._file, name, _MAX_LINKS)
        if not isinstance(data, self._h5py.Dataset):
            raise self._wrong(name, "is a group or a type", "an array")
        if data.is_virtual or data.external:
            raise self._wrong(name, "has its samples in another file, which is not read", "a file that holds its data")
        shape, dtype = data.shape, np.dtype(data.dtype)
        if (
            shape is None
            or len(shape) not in axes
            or dtype.kind not in kinds
            or dtype.itemsize > _LARGEST_ITEM
            or min(shape, default=0) < (0 if may_be_empty else 1)
        ):
            raise self._wrong(name, f"is {str(dtype)[:_MAX_SHOWN]} {shape}", f"numbers of {_either(axes)} axes")
        return Hdf5Array(self, name, tuple(int(n) for n in shape), dtype, data)

    def cell_texts(self, name: str, most: int) -> list[str]:
        """The texts of a MATLAB cell array: references to rows of character codes; none where it is something else."""
        data = self._resolved(self._file, name, _MAX_LINKS)
        if not isinstance(data, self._h5py.Dataset) or data.is_virtual or data.external or not 0 < data.size <= most:
            return []
        if self._h5py.check_dtype(ref=data.dtype) is not self._h5py.Reference:
            return []
        cells = [self._file[reference] for reference in data[()].reshape(-1) if reference]
        texts = [cell for cell in cells if isinstance(cell, self._h5py.Dataset) and cell.dtype.kind == "u"]
        if len(texts) != data.size or any(cell.size > _MAX_TEXT or cell.is_virtual or cell.external for cell in texts):
            return []
        return ["".join(map(chr, np.asarray(cell[()], np.uint16).reshape(-1))) for cell in texts]

    def _resolved(self, group: Any, name: str, hops: int) -> Any:
        """What a name stands for, without ever opening another file."""
        for part in (part for part in name.split("/") if part):
            if not isinstance(group, self._h5py.Group) or not group.id.links.exists(part.encode()):
                raise self._wrong(name, "is missing", "it in the file")
            link = group.get(part, getlink=True)
            if isinstance(link, self._h5py.SoftLink) and hops:
                group = self._resolved(self._file if link.path.startswith("/") else group, link.path, hops - 1)
            elif isinstance(link, self._h5py.HardLink):
                group = group[part]
            else:
                raise self._wrong(name, "is a link to another file, which is not followed", "the array itself")
        return group

    def _wrong(self, name: str, found: str, expected: str) -> DualpixError:
        return self._error(f"'{self.path.name}': '{name}' {found}", expected=expected)


@dataclass(frozen=True)
class Hdf5Array:
    """An array in an open file."""

    file: Hdf5File
    name: str
    shape: tuple[int, ...]
    dtype: np.dtype[Any]
    _data: Any

    def read(self, *index: int, most_bytes: int = 1 << 30) -> npt.NDArray[Any]:
        """The samples, in native byte order.

        Args:
            index: along the first axes; () reads all.
            most_bytes: of the result.

        Raises:
            DualpixError: of the kind the file was opened with: no such index, too large, or packed in a way that is not
                read here; a damaged one raises when the block of :func:`open_hdf5` is left.
        """
        if any(not 0 <= one < size for one, size in zip(index, self.shape, strict=False)):
            raise self.wrong(f"has the shape {self.shape}", f"an entry {index}")
        needed = math.prod(self.shape[len(index) :]) * self.dtype.itemsize
        if needed > most_bytes:
            raise self.wrong(f"would take {needed} bytes", f"at most {most_bytes >> 20} MiB")
        self._check_chunks(index)
        samples = np.asarray(self._data[index])
        return samples.astype(self.dtype.newbyteorder("="), copy=False)

    def fits_the_file(self) -> bool:
        """Whether the file is long enough to hold the samples, were they packed as tightly as deflate can."""
        return math.prod(self.shape) * self.dtype.itemsize <= _DEFLATE_RATIO * self.file.path.stat().st_size

    def has_attribute(self, name: str) -> bool:
        """Whether there is one of that name, whatever it is."""
        return name in self._data.attrs

    def attribute(self, name: str, most: int = 16) -> npt.NDArray[np.float64] | None:
        """The numbers of an attribute, (N,) of at most ``most``; None where there are none."""
        attributes = self._data.attrs
        if name not in attributes:
            return None
        stored = attributes.get_id(name)
        count = stored.get_space().get_simple_extent_npoints()  # 1 of a single number, 0 of none
        if np.dtype(stored.dtype).kind not in "fui" or not 0 < count <= most:
            return None
        return np.asarray(attributes[name], np.float64).reshape(-1)

    def wrong(self, found: str, expected: str) -> DualpixError:
        """What to say of this array."""
        return self.file._error(f"'{self.file.path.name}': '{self.name}' {found}", expected=expected)

    def _check_chunks(self, index: Sequence[int]) -> None:
        """Refuse chunks that unpack to more than they are declared to hold."""
        chunks = self._data.chunks
        if chunks is None:  # one piece, stored as it is
            return
        chunk_bytes = math.prod(chunks) * self.dtype.itemsize
        if chunk_bytes > _MAX_CHUNK_BYTES:
            raise self.wrong(f"is stored in chunks of {chunk_bytes} bytes", f"at most {_MAX_CHUNK_BYTES >> 20} MiB")
        filters = self._filters()
        places = [
            (range(index[axis], index[axis] + 1) if axis < len(index) else range(0, size, step), step)
            for axis, (size, step) in enumerate(zip(self.shape, chunks, strict=True))
        ]
        count = math.prod(len(along) for along, _ in places)
        if count > _MAX_CHUNKS:
            raise self.wrong(f"is cut into {count} chunks", f"at most {_MAX_CHUNKS}")
        for place in itertools.product(*(along for along, _ in places)):
            corner = tuple(at // step * step for at, (_, step) in zip(place, places, strict=True))
            self._check_chunk(corner, chunk_bytes, filters)

    def _filters(self) -> list[int]:
        """Of the array, in the order of writing, if they are those that are read here."""
        properties = self._data.id.get_create_plist()
        described = [properties.get_filter(i) for i in range(properties.get_nfilters())]
        found = [code for code, *_ in described]
        steps = iter(_ORDER)
        if not all(any(code in step for step in steps) for code in found):
            names = ", ".join(f"{code} {bytes(name).decode('ascii', 'replace')[:20]}" for code, *_, name in described)
            raise self.wrong(f"is packed by the filters {names}", "gzip, lzf or none; h5repack -f GZIP=4 packs it anew")
        return found

    def _check_chunk(self, corner: tuple[int, ...], chunk_bytes: int, filters: Sequence[int]) -> None:
        stored = self._data.id.get_chunk_info_by_coord(corner)
        if stored.byte_offset is None:  # never written
            return
        if stored.size > chunk_bytes + chunk_bytes // 8 + _PACKED_SLACK:
            raise self.wrong(f"has a chunk of {stored.size} bytes for {chunk_bytes}", "a complete file")
        used = [code for bit, code in enumerate(filters) if not stored.filter_mask >> bit & 1]
        if _LZF in used and stored.size * _LZF_RATIO > _MAX_UNPACKED_BYTES:
            raise self.wrong(f"has {stored.size} bytes of lzf in one chunk", "smaller chunks, or gzip")
        if _DEFLATE in used:
            packed = self._data.id.read_direct_chunk(corner)[1]
            packed = packed[:-_CHECKSUM_BYTES] if _FLETCHER32 in used else packed
            try:
                fits = inflated(packed, chunk_bytes) is not None
            except zlib.error:
                fits = False
            if not fits:
                raise self.wrong("has a damaged chunk, or one that unpacks to more than it may", "a complete file")


def _either(axes: Collection[int]) -> str:
    return " or ".join(map(str, sorted(axes)))
