"""The part of TIFF that raw files are made of: reading within bounds, and writing a few IFDs.

The reader serves CR2 and DNG headers, pictures, the TIFF blobs inside a CR3 and maker notes; classic TIFF and BigTIFF.
It never trusts a count or an offset: everything is checked against the buffer, every list has a limit, so a hostile
header costs a :class:`DecodeError` and no more.
"""

from __future__ import annotations

import math
import struct
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import Literal, Self

from dualpix.capture.errors import DecodeError

Buffer = bytes | memoryview
Number = int | float | Fraction
Value = str | bytes | tuple[Number, ...]
Order = Literal["<", ">"]

BYTE, ASCII, SHORT, LONG, RATIONAL, UNDEFINED, SLONG, SRATIONAL = 1, 2, 3, 4, 5, 7, 9, 10
# 16 to 18 are BigTIFF's 64-bit integers.
_SIZES = {1: 1, 2: 1, 3: 2, 4: 4, 5: 8, 6: 1, 7: 1, 8: 2, 9: 4, 10: 8, 11: 4, 12: 8, 13: 4, 16: 8, 17: 8, 18: 8}
_FORMATS = {1: "B", 3: "H", 4: "I", 6: "b", 8: "h", 9: "i", 11: "f", 12: "d", 13: "I", 16: "Q", 17: "q", 18: "Q"}
_CLASSIC, _BIG = 42, 43
_ORDERS: dict[bytes, Order] = {b"II": "<", b"MM": ">"}
_MAX_ENTRIES = 4096
_MAX_IFDS = 32
_MAX_VALUE_BYTES = 16 << 20


def is_tiff(head: bytes) -> bool:
    """Whether a file starting with ``head`` is a TIFF or BigTIFF."""
    return head[:4] in (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")


@dataclass(frozen=True)
class Ifd:
    """One image file directory: tag -> value, and where the next directory lies (0 = none)."""

    tags: Mapping[int, Value]
    next_offset: int

    def numbers(self, tag: int) -> tuple[Number, ...]:
        """The numeric values of ``tag``, or an empty tuple."""
        value = self.tags.get(tag, ())
        return value if isinstance(value, tuple) else ()

    def integers(self, tag: int) -> tuple[int, ...]:
        """The values of ``tag`` as integers (0 for what is no number, as 0/0), or an empty tuple."""
        return tuple(int(v) if math.isfinite(v) else 0 for v in self.numbers(tag))

    def integer(self, tag: int, default: int = 0) -> int:
        """The first value of ``tag`` as an integer."""
        values = self.integers(tag)
        return values[0] if values else default

    def text(self, tag: int) -> str | None:
        """The text of ``tag``, or None."""
        value = self.tags.get(tag)
        return value if isinstance(value, str) and value else None


class TiffReader:
    """Reads IFDs of a TIFF held in ``data``.

    Attributes:
        order: "<" or ">".
        big: BigTIFF, whose offsets and counts have 64 bits.
        shift: added to where an entry says that its value lies: maker notes keep the offsets they had in another file.

    Raises:
        DecodeError: not a TIFF header.
    """

    def __init__(self, data: Buffer) -> None:
        self.data, self.shift = data, 0
        order: Order | None = _ORDERS.get(bytes(data[:2]))
        version = struct.unpack_from(order + "H", data, 2)[0] if order and len(data) >= 8 else 0
        self.big = version == _BIG
        if order is None or version not in (_CLASSIC, _BIG) or (self.big and len(data) < 16):
            raise DecodeError("no TIFF header", expected="'II*' or 'MM*' at the start")
        self.order: Order = order
        code, at = ("Q", 8) if self.big else ("I", 4)
        self.first_offset = int(struct.unpack_from(order + code, data, at)[0])

    @classmethod
    def of_notes(cls, data: Buffer, order: Order, shift: int) -> Self:
        """For directories within ``data`` that have no TIFF header of their own."""
        reader = cls.__new__(cls)
        reader.data, reader.order, reader.shift, reader.big, reader.first_offset = data, order, shift, False, 0
        return reader

    def ifd(self, offset: int) -> Ifd:
        """The directory at ``offset``; entries that point outside the file are left out.

        Raises:
            DecodeError: the directory itself lies outside the file or is absurdly long.
        """
        tags: dict[int, Value] = {}
        entries, end = self._entries(offset)
        for at in entries:
            tag, value = self._entry(at)
            if value is not None:
                tags.setdefault(tag, value)  # of two with one number libtiff takes the first as well
        code, size = ("Q", 8) if self.big else ("I", 4)
        next_offset = struct.unpack_from(self.order + code, self.data, end)[0] if end + size <= len(self.data) else 0
        return Ifd(tags, int(next_offset))

    def chain(self, offset: int | None = None) -> Iterator[Ifd]:
        """The directories linked from ``offset`` (the file's first by default); stops at a loop."""
        seen: set[int] = set()
        at = self.first_offset if offset is None else offset
        while at and at not in seen and len(seen) < _MAX_IFDS:
            seen.add(at)
            ifd = self.ifd(at)
            yield ifd
            at = ifd.next_offset

    def places(self, offset: int) -> list[tuple[int, int, int]]:
        """(tag, where its value lies, bytes of it) of each entry of the directory at ``offset``, in its order.

        Raises:
            DecodeError: as :meth:`ifd`.
        """
        entries, _ = self._entries(offset)
        return [(tag, start, size) for tag, _, _, start, size in map(self._place, entries)]

    def _entries(self, offset: int) -> tuple[range, int]:
        """Where the entries lie, and where they end."""
        lead, entry = (8, 20) if self.big else (2, 12)
        if not 0 < offset <= len(self.data) - lead:
            raise DecodeError(f"image directory at byte {offset} lies outside the file of {len(self.data)} bytes")
        count = struct.unpack_from(self.order + ("Q" if self.big else "H"), self.data, offset)[0]
        end = offset + lead + entry * count
        if count > _MAX_ENTRIES or end > len(self.data):
            raise DecodeError(f"image directory of {count} entries at byte {offset} does not fit the file")
        return range(offset + lead, end, entry), end

    def _place(self, at: int) -> tuple[int, int, int, int, int]:
        """Tag, type, count, offset and size of the value of the entry at ``at``."""
        code, inline = ("Q", 8) if self.big else ("I", 4)
        tag, kind, count = struct.unpack_from(self.order + "HH" + code, self.data, at)
        size, field = _SIZES.get(kind, 0) * count, at + 4 + inline
        start = field if size <= inline else struct.unpack_from(self.order + code, self.data, field)[0] + self.shift
        return tag, kind, count, start, size

    def _entry(self, at: int) -> tuple[int, Value | None]:
        tag, kind, count, start, size = self._place(at)
        if not 0 < size <= _MAX_VALUE_BYTES or not 0 <= start <= len(self.data) - size:
            return tag, None
        return tag, self._value(kind, count, bytes(self.data[start : start + size]))

    def _value(self, kind: int, count: int, raw: bytes) -> Value:
        if kind == ASCII:
            return raw.split(b"\0", 1)[0].decode("utf-8", "replace").strip()
        if kind == UNDEFINED:
            return raw
        if kind in (RATIONAL, SRATIONAL):
            parts = struct.unpack(f"{self.order}{2 * count}{'I' if kind == RATIONAL else 'i'}", raw)
            pairs = zip(parts[::2], parts[1::2], strict=True)
            return tuple(Fraction(n, d) if d else float("nan") for n, d in pairs)
        return struct.unpack(f"{self.order}{count}{_FORMATS[kind]}", raw)


@dataclass(frozen=True)
class Tag:
    """A tag to write: its number, its TIFF type and its values (``bytes`` are taken as they are)."""

    number: int
    kind: int
    values: bytes | Sequence[int] | Sequence[Fraction]

    def payload(self) -> bytes:
        """The little-endian bytes of the value."""
        if isinstance(self.values, bytes):
            return self.values + (b"\0" if self.kind == ASCII else b"")
        if self.kind in (RATIONAL, SRATIONAL):
            code = "<II" if self.kind == RATIONAL else "<ii"
            return b"".join(struct.pack(code, v.numerator, v.denominator) for v in map(Fraction, self.values))
        return struct.pack(f"<{len(self.values)}{_FORMATS[self.kind]}", *(int(v) for v in self.values))


def ifd_bytes(tags: Sequence[Tag], offset: int, next_offset: int = 0) -> bytes:
    """A little-endian directory with its values, as it stands at ``offset`` (which must be even)."""
    ordered = sorted(tags, key=lambda t: t.number)
    table = struct.pack("<H", len(ordered))
    values_at = offset + 2 + 12 * len(ordered) + 4
    values = b""
    for tag in ordered:
        payload = tag.payload()
        table += struct.pack("<HHI", tag.number, tag.kind, len(payload) // _SIZES[tag.kind])
        if len(payload) <= 4:
            table += payload.ljust(4, b"\0")
        else:
            table += struct.pack("<I", values_at + len(values))
            values += payload + b"\0" * (len(payload) % 2)
    return table + struct.pack("<I", next_offset) + values
