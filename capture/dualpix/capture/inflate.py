"""Deflate within bounds: a megabyte of it can become a gigabyte, and libraries that unpack it take what comes."""

from __future__ import annotations

import zlib


def inflated(data: bytes, most_bytes: int) -> bytes | None:
    """What a zlib stream holds, or None where that is more than ``most_bytes``.

    Raises:
        zlib.error: it is damaged. A stream that ends early gives what there is.
    """
    unpacked = zlib.decompressobj().decompress(data, most_bytes + 1)
    return unpacked if len(unpacked) <= most_bytes else None
