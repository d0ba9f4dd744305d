"""MATLAB 5 files, made harmless for ``scipy.io.loadmat``.

It unpacks whatever a compressed element holds, and takes memory for the sizes that headers claim. So elements are
unpacked here, within bounds, and every array is looked at: it must have as many values as its dimensions say, and be a
number, a text or a struct of such. (MAT-File Format, MathWorks; sections "Level 5 MAT-File Format".)
"""

from __future__ import annotations

import math
import struct
from collections.abc import Iterator

from dualpix.capture.arrays.inflate import inflated

_HEADER_BYTES, _TAG_BYTES = 128, 8
_INT8, _INT32, _UINT32, _MATRIX, _COMPRESSED = 1, 5, 6, 14, 15
_VALUE_BYTES = {1: 1, 2: 1, 3: 2, 4: 2, 5: 4, 6: 4, 7: 4, 9: 8, 12: 8, 13: 8, 16: 1, 17: 2, 18: 4}
_STRUCT, _CHAR, _NUMERIC = 2, 4, range(6, 16)
_COMPLEX = 0x0800
_MAX_DEPTH = 8
_MAX_FIELDS = 256


def plain_mat5(data: bytes, most_bytes: int) -> bytes:
    """The same file without compression, of at most ``most_bytes``.

    Raises:
        ValueError: no such file, damaged, larger, or with arrays that are none of numbers, texts and structs.
        zlib.error: a damaged stream.
    """
    if len(data) < _HEADER_BYTES or data[126:128] not in (b"IM", b"MI"):
        raise ValueError("no MATLAB 5 file")
    order = "<" if data[126:128] == b"IM" else ">"
    parts, left = [data[:_HEADER_BYTES]], most_bytes
    for kind, body in _elements(data[_HEADER_BYTES:], order, padded=False):
        whole = struct.pack(f"{order}II", kind, len(body)) + body
        if kind == _COMPRESSED:
            unpacked = inflated(body, left)
            if unpacked is None:
                raise ValueError(f"over {most_bytes >> 20} MiB once unpacked")
            whole = unpacked
        left -= len(whole)
        for inner, content in _elements(whole, order):
            if inner != _MATRIX:
                raise ValueError(f"an element of kind {inner}")
            _check_array(content, order, _MAX_DEPTH)
        parts.append(whole)
    return b"".join(parts)


def _elements(data: bytes, order: str, padded: bool = True) -> Iterator[tuple[int, bytes]]:
    """Kind and content of the elements one after the other; small ones hold theirs within their tag."""
    at = 0
    while at + _TAG_BYTES <= len(data):
        kind, size = struct.unpack_from(f"{order}II", data, at)
        if kind >> 16:
            kind, size, start, after = kind & 0xFFFF, kind >> 16, at + 4, at + _TAG_BYTES
            if size > 4:
                raise ValueError("a small element of more than four bytes")
        else:
            start = at + _TAG_BYTES
            after = start + (size + -size % 8 if padded and kind != _COMPRESSED else size)
        if start + size > len(data):
            raise ValueError("it ends early")
        yield kind, data[start : start + size]
        at = after


def _check_array(data: bytes, order: str, depth: int) -> None:
    """An array whose values, or whose fields' values, are all there."""
    elements = list(_elements(data, order))
    if len(elements) < 3 or [kind for kind, _ in elements[:3]] != [_UINT32, _INT32, _INT8] or len(elements[0][1]) < 4:
        raise ValueError("an array without type, dimensions and name")
    flags = struct.unpack_from(f"{order}I", elements[0][1])[0]
    dimensions = struct.unpack(f"{order}{len(elements[1][1]) // 4}i", elements[1][1][: len(elements[1][1]) // 4 * 4])
    if len(dimensions) < 2 or min(dimensions) < 0:
        raise ValueError(f"dimensions {dimensions[:8]}")
    count, kind = math.prod(dimensions), flags & 0xFF
    if kind in _NUMERIC or kind == _CHAR:
        _check_values(elements[3:], count, parts=2 if flags & _COMPLEX else 1)
    elif kind == _STRUCT and depth:
        _check_fields(elements[3:], count, order, depth)
    else:
        raise ValueError(f"an array of class {kind}")


def _check_values(elements: list[tuple[int, bytes]], count: int, parts: int) -> None:
    if len(elements) != parts or any(len(values) != count * _VALUE_BYTES.get(kind, 0) for kind, values in elements):
        raise ValueError(f"an array of {count} values that are not there")


def _check_fields(elements: list[tuple[int, bytes]], count: int, order: str, depth: int) -> None:
    if len(elements) < 2 or [kind for kind, _ in elements[:2]] != [_INT32, _INT8] or len(elements[0][1]) != 4:
        raise ValueError("a struct without names")
    length = struct.unpack(f"{order}i", elements[0][1])[0]
    if not 0 < length <= 64 or len(elements[1][1]) % length:
        raise ValueError("a struct without names")
    fields = len(elements[1][1]) // length
    if fields > _MAX_FIELDS or len(elements) - 2 != fields * count:
        raise ValueError(f"a struct of {count} x {fields} fields that are not there")
    for kind, content in elements[2:]:
        if kind != _MATRIX:
            raise ValueError(f"a field of kind {kind}")
        if content:  # an empty element stands for an empty array
            _check_array(content, order, depth - 1)
