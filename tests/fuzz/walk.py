"""Where the numbers, pieces and texts of a file are, so that mutations hit what parsers read.

The walkers follow a format as far as it goes and stop at the first nonsense: they run on mutated files too. Offsets are
bytes from the start of the file.
"""

from __future__ import annotations

import re
import struct
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field

_TIFF_SIZES = {1: 1, 2: 1, 3: 2, 4: 4, 5: 4, 6: 1, 7: 1, 8: 2, 9: 4, 10: 4, 11: 4, 12: 8, 13: 4}
_RATIONALS = (5, 10)
_SUB_IFDS = (0x8769, 0x014A, 0x927C, 0x8825)
_CONTAINERS = {b"moov", b"trak", b"mdia", b"minf", b"stbl", b"CCTP"}
_SKIP_BEFORE_BOXES = {b"uuid": 16, b"stsd": 8, b"CRAW": 82, b"CDI1": 4}
_ZIP_FIELDS = {
    b"PK\3\4": (4, 2, 2, 2, 2, 2, 4, 4, 4, 2, 2),
    b"PK\1\2": (4, 2, 2, 2, 2, 2, 2, 4, 4, 4, 2, 2, 2, 2, 2, 4, 4),
    b"PK\5\6": (4, 2, 2, 2, 2, 4, 4, 2),
}
_MAX_IFDS, _MAX_ELEMENTS, _MAX_DEPTH = 24, 40, 8


@dataclass(frozen=True)
class Number:
    """An unsigned number as stored."""

    offset: int
    size: int
    order: str
    """ "<" or ">"."""


@dataclass
class Map:
    """What a file consists of."""

    numbers: list[Number] = field(default_factory=list)
    pieces: list[tuple[int, int]] = field(default_factory=list)
    """(start, stop) of boxes, chunks, segments, directory entries, strips."""
    texts: list[tuple[int, int]] = field(default_factory=list)

    def number(self, offset: int, size: int, order: str) -> None:
        """Note a number."""
        self.numbers.append(Number(offset, size, order))


def walk(data: bytes) -> Map:
    """The map of a file, by its first bytes."""
    found = Map()
    with suppress(struct.error, IndexError, RecursionError):
        _walker(data)(data, found)
    size = len(data)
    found.numbers = [n for n in found.numbers if n.offset + n.size <= size]
    found.pieces = [(a, b) for a, b in found.pieces if 0 <= a < b <= size]
    found.texts = [(a, b) for a, b in found.texts if 0 <= a < b <= size]
    return found


def _walker(data: bytes) -> Callable[[bytes, Map], None]:
    if data[:2] in (b"II", b"MM"):
        return lambda d, m: _tiff(d, m, 0)
    if data[4:8] == b"ftyp":
        return lambda d, m: _boxes(d, m, 0, len(d), 0)
    if data[:2] == b"\xff\xd8":
        return lambda d, m: _jpeg(d, m, 0)
    if data[1:4] == b"PNG":
        return _png
    if data[:2] == b"PK":
        return _zip
    if data[:6] == b"\x93NUMPY":
        return lambda d, m: _npy(d, m, 0)
    if b"\x89HDF" in (data[:4], data[512:516]):
        return _hdf5
    if data[:8] == b"MATLAB 5":
        return _mat5
    if data[7:9] == b"\0{":
        return _safetensors
    return _plain


def _tiff(data: bytes, found: Map, base: int) -> None:
    """A TIFF whose offsets count from ``base``."""
    order = "<" if data[base : base + 1] == b"I" else ">"
    found.number(base + 2, 2, order)
    found.number(base + 4, 4, order)
    pending = [base + struct.unpack_from(order + "I", data, base + 4)[0]]
    if data[base + 8 : base + 10] == b"CR":
        found.number(base + 12, 4, order)
        pending.append(struct.unpack_from(order + "I", data, base + 12)[0])
    seen: set[int] = set()
    while pending and len(seen) < _MAX_IFDS:
        at = pending.pop(0)
        if base < at < len(data) - 2 and at not in seen:
            seen.add(at)
            pending += _directory(data, found, base, at, order)


def _directory(data: bytes, found: Map, base: int, at: int, order: str) -> list[int]:
    """Notes one directory; gives the offsets of those it names."""
    count = struct.unpack_from(order + "H", data, at)[0]
    end = at + 2 + 12 * count
    if count > 200 or end > len(data):
        return []
    found.number(at, 2, order)
    found.pieces.append((at, end + 4))
    others, listed = [], {}
    for entry in range(at + 2, end, 12):
        tag, kind, length = struct.unpack_from(order + "HHI", data, entry)
        for offset, size in ((0, 2), (2, 2), (4, 4), (8, 4)):
            found.number(entry + offset, size, order)
        found.pieces.append((entry, entry + 12))
        start = _value(data, found, base, entry, order, (kind, length))
        listed[tag] = (start, kind, length)
        if tag == 0x927C:
            others.append(start)
        elif tag in _SUB_IFDS:
            others.append(base + struct.unpack_from(order + "I", data, entry + 8)[0])
    found.number(end, 4, order)
    others.append(base + struct.unpack_from(order + "I", data, end)[0])
    _strips(data, found, order, listed, base)
    return others


def _value(data: bytes, found: Map, base: int, entry: int, order: str, form: tuple[int, int]) -> int:
    """Notes the elements of a tag's value; gives where it starts."""
    kind, length = form
    size = _TIFF_SIZES.get(kind, 1)
    length = length * 2 if kind in _RATIONALS else length
    start = entry + 8 if size * length <= 4 else base + struct.unpack_from(order + "I", data, entry + 8)[0]
    for index in range(min(length, _MAX_ELEMENTS)):
        found.number(start + index * size, size, order)
    if length > 1:
        found.pieces.append((start, start + size * length))
    if kind == 2:
        found.texts.append((start, start + length))
    return start


def _strips(data: bytes, found: Map, order: str, listed: dict[int, tuple[int, int, int]], base: int) -> None:
    for offsets, sizes in ((0x0111, 0x0117), (0x0144, 0x0145), (0x0201, 0x0202)):
        if offsets not in listed or sizes not in listed:
            continue
        for start, size in zip(*(_elements(data, order, *listed[tag]) for tag in (offsets, sizes)), strict=False):
            found.pieces.append((base + start, base + start + size))
            if data[base + start : base + start + 2] == b"\xff\xd8":
                _jpeg(data, found, base + start)


def _elements(data: bytes, order: str, start: int, kind: int, length: int) -> list[int]:
    code = {1: "B", 3: "H", 4: "I"}.get(kind, "I")
    return list(struct.unpack_from(f"{order}{min(length, _MAX_ELEMENTS)}{code}", data, start))


def _jpeg(data: bytes, found: Map, start: int) -> None:
    """Segments up to the scan, whose start is a piece as well."""
    at = start + 2
    for _ in range(64):
        marker, length = struct.unpack_from(">HH", data, at)
        if marker < 0xFF00:
            return
        found.number(at, 2, ">")
        found.number(at + 2, 2, ">")
        found.pieces.append((at, at + 2 + length))
        for offset in range(at + 4, min(at + 2 + length, at + 40)):
            found.number(offset, 1, ">")
        if 0xFFC0 <= marker <= 0xFFCF and marker != 0xFFC4:
            found.number(at + 5, 2, ">")
            found.number(at + 7, 2, ">")
        if data[at + 4 : at + 10] == b"Exif\0\0":
            _tiff(data, found, at + 10)
        at += 2 + length
        if marker == 0xFFDA:
            found.pieces.append((at, min(at + 64, len(data))))
            for offset in range(at, at + 16):
                found.number(offset, 1, ">")
            return


def _boxes(data: bytes, found: Map, start: int, end: int, depth: int) -> None:
    while start + 8 <= end and depth < _MAX_DEPTH:
        size, kind = struct.unpack_from(">I4s", data, start)
        found.number(start, 4, ">")
        found.texts.append((start + 4, start + 8))
        body = start + 8
        if size == 1:
            found.number(body, 8, ">")
            size, body = struct.unpack_from(">Q", data, body)[0], body + 8
        size = size or end - start
        if size < 8 or start + size > end:
            return
        found.pieces.append((start, start + size))
        _payload(data, found, kind, (body, start + size), depth)
        start += size


def _payload(data: bytes, found: Map, kind: bytes, place: tuple[int, int], depth: int) -> None:
    start, end = place
    if kind.startswith(b"CMT"):
        _tiff(data, found, start)
    elif kind == b"mdat":
        _samples(data, found, start, end)
    elif kind in _CONTAINERS:
        _boxes(data, found, start + (12 if kind == b"CCTP" else 0), end, depth + 1)
    else:
        skipped = _SKIP_BEFORE_BOXES.get(kind)
        last = end if skipped is None else start + skipped
        for offset in range(start, min(last, start + 96), 2):
            found.number(offset, 2, ">")
            found.number(offset, 4, ">")
        if kind == b"co64":
            found.number(start + 8, 8, ">")
        if skipped is not None:
            _boxes(data, found, start + skipped, end, depth + 1)


def _samples(data: bytes, found: Map, start: int, end: int) -> None:
    """The headers of CRX tiles, planes and sub-bands, and TIFFs of the timed metadata."""
    for match in re.finditer(rb"\xff[\x01-\x03]\x00[\x08\x10]", data[start:end]):
        at = start + match.start()
        found.pieces.append((at, at + 12))
        for offset, size in ((0, 2), (2, 2), (4, 4), (8, 4), (8, 1), (9, 1), (10, 2), (12, 4)):
            found.number(at + offset, size, ">")
    for match in re.finditer(rb"II\*\0", data[start:end]):
        at = start + match.start()
        for offset in range(max(at - 36, 0), at, 2):
            found.number(offset, 4, "<")
            found.number(offset, 2, "<")
        _tiff(data, found, at)


def _png(data: bytes, found: Map) -> None:
    at = 8
    while at + 12 <= len(data):
        length, kind = struct.unpack_from(">I4s", data, at)
        found.number(at, 4, ">")
        found.texts.append((at + 4, at + 8))
        found.pieces.append((at, at + 12 + length))
        for offset in range(at + 8, at + 8 + min(length, 40)):
            found.number(offset, 1, ">")
        if kind == b"IHDR":
            found.number(at + 8, 4, ">")
            found.number(at + 12, 4, ">")
        elif kind == b"eXIf":
            _tiff(data, found, at + 8)
        at += 12 + length


def _zip(data: bytes, found: Map) -> None:
    starts = [m.start() for m in re.finditer(rb"PK(\x03\x04|\x01\x02|\x05\x06)", data)]
    for at, end in zip(starts, [*starts[1:], len(data)], strict=True):
        found.pieces.append((at, end))
        offset = at
        for size in _ZIP_FIELDS[data[at : at + 4]]:
            found.number(offset, size, "<")
            offset += size
        found.texts.append((offset, offset + 10))
    for match in re.finditer(rb"\x93NUMPY", data):
        _npy(data, found, match.start())


def _npy(data: bytes, found: Map, start: int) -> None:
    found.number(start + 6, 1, "<")
    found.number(start + 7, 1, "<")
    found.number(start + 8, 2, "<")
    length = struct.unpack_from("<H", data, start + 8)[0]
    found.texts.append((start + 10, start + 10 + length))


def _hdf5(data: bytes, found: Map) -> None:
    """The superblock, the first kilobytes of headers, and whatever begins with a signature."""
    starts = [match.start() for match in re.finditer(rb"\x89HDF|OHDR|TREE|SNOD|HEAP|GCOL|FRHP|BTHD|FADB|EADB", data)]
    for start in (*starts, 96, 512 + 96):
        for at in range(start, min(start + 512, len(data)), 2):
            for size in (1, 2, 4, 8):
                found.number(at, size, "<")
        found.pieces.append((start, start + 64))
        found.texts.append((start, start + 4))
    for match in re.finditer(rb"[A-Za-z_]{5,}", data):
        found.texts.append(match.span())


def _mat5(data: bytes, found: Map) -> None:
    """Tags of elements lie on every eighth byte."""
    for at in range(112, min(len(data), 4096), 4):
        found.number(at, 4, "<")
        found.number(at, 2, "<")
    for at in range(128, min(len(data), 4096), 8):
        found.pieces.append((at, at + 8))


def _safetensors(data: bytes, found: Map) -> None:
    found.number(0, 8, "<")
    found.texts.append((8, 8 + struct.unpack_from("<Q", data)[0]))
    found.pieces.append((8, 8 + struct.unpack_from("<Q", data)[0]))


def _plain(data: bytes, found: Map) -> None:
    """PGM and JSON: text all along, or at the start."""
    found.texts.append((0, len(data) if data[:1] == b"{" or data.isascii() else min(48, len(data))))
