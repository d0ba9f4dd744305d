"""Unpacking within bounds: a megabyte can become a gigabyte, and the libraries that read files take what comes."""

from __future__ import annotations

import lzma
import math
import zlib
from typing import Any

_DEFLATE, _LZMA = (8, 32946), 34925  # as TIFF numbers compressions
_LZMA_MEMORY_BYTES = 256 << 20


def inflated(data: bytes, most_bytes: int) -> bytes | None:
    """What a zlib stream holds, or None where that is more than ``most_bytes``.

    Raises:
        zlib.error: it is damaged. A stream that ends early gives what there is.
    """
    unpacked = zlib.decompressobj().decompress(data, most_bytes + 1)
    return unpacked if len(unpacked) <= most_bytes else None


def unpacks_as_declared(page: Any) -> bool:
    """Whether no strip or tile of a ``tifffile`` page unpacks to more than its header says.

    tifffile hands them to ``zlib.decompress`` and ``lzma.decompress``, which have no bound.

    Raises:
        zlib.error, lzma.LZMAError: a damaged stream.
    """
    code, most = int(page.compression), math.prod(page.chunks) * page.dtype.itemsize
    if code not in (*_DEFLATE, _LZMA):
        return True
    for offset, size in zip(page.dataoffsets, page.databytecounts, strict=False):
        page.parent.filehandle.seek(offset)
        packed = page.parent.filehandle.read(size)
        if code == _LZMA:
            unpacked: bytes | None = lzma.LZMADecompressor(memlimit=_LZMA_MEMORY_BYTES).decompress(packed, most + 1)
        else:
            unpacked = inflated(packed, most)
        if unpacked is None or len(unpacked) > most:
            return False
    return True
