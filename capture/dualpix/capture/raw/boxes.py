"""The box structure of a CR3 file (ISO base media, ISO/IEC 14496-12; Canon's boxes after lclevy/canon_cr3).

Only what tells a dual-pixel CR3 from an ordinary one and a whole file from a cut one: the raw tracks with their size
and where their samples lie, and the metadata blobs CMT1 (picture) and CMT2 (EXIF), which are small TIFF files.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from dataclasses import dataclass

from dualpix.capture.errors import DecodeError
from dualpix.capture.raw.tiff import Buffer

_CANON_UUID = bytes.fromhex("85c0b687820f11e08111f4ce462b6a48")
_CONTAINERS = {b"mdia", b"minf", b"stbl"}
_MAX_BOXES = 512


@dataclass(frozen=True)
class RawTrack:
    """A CRX-coded track: picture size, and the bytes of its only sample."""

    width: int
    height: int
    offset: int
    size: int


@dataclass(frozen=True)
class Cr3Layout:
    """The raw tracks in file order and the metadata blobs by name."""

    tracks: tuple[RawTrack, ...]
    blobs: dict[bytes, bytes]


def is_cr3(head: bytes) -> bool:
    """Whether a file starting with ``head`` claims to be a CR3."""
    return head[4:12] == b"ftypcrx "


def read_cr3(data: Buffer) -> Cr3Layout:
    """Walk the boxes of a CR3.

    Raises:
        DecodeError: a box reaches beyond the file, or there is no movie box.
    """
    tracks: list[RawTrack] = []
    blobs: dict[bytes, bytes] = {}
    found_movie = False
    for kind, start, end in _walk(data, 0, len(data)):
        if kind != b"moov":
            continue
        found_movie = True
        for inner, inner_start, inner_end in _walk(data, start, end):
            if inner == b"trak":
                tracks += _raw_track(data, inner_start, inner_end)
            elif inner == b"uuid" and bytes(data[inner_start : inner_start + 16]) == _CANON_UUID:
                for name, blob_start, blob_end in _walk(data, inner_start + 16, inner_end):
                    if name in (b"CMT1", b"CMT2"):
                        blobs[name] = bytes(data[blob_start:blob_end])
    if not found_movie:
        raise DecodeError("CR3 without a 'moov' box", expected="a complete CR3 file", hint="copy it again")
    return Cr3Layout(tuple(tracks), blobs)


def _walk(data: Buffer, start: int, end: int) -> Iterator[tuple[bytes, int, int]]:
    """(type, payload start, payload end) of each box in ``data[start:end]``."""
    for _ in range(_MAX_BOXES):
        if start + 8 > end:
            return
        size, kind = struct.unpack_from(">I4s", data, start)
        header = 8
        if size == 1 and start + 16 <= end:
            size, header = struct.unpack_from(">Q", data, start + 8)[0], 16
        elif size == 0:
            size = end - start
        if size < header or start + size > end:
            name = kind.decode("latin-1")
            raise DecodeError(
                f"CR3 is cut or damaged: box {name!r} at byte {start} claims {size} bytes, {end - start} are left",
                expected="a complete CR3 file",
                hint="copy it again",
            )
        yield kind, start + header, start + size
        start += size


def _raw_track(data: Buffer, start: int, end: int) -> list[RawTrack]:
    """The track as a list of none or one: none when it is not CRX-coded."""
    size_wh: tuple[int, int] | None = None
    offset = size = 0
    pending = [(start, end)]
    while pending:
        for kind, box_start, box_end in _walk(data, *pending.pop()):
            length = box_end - box_start
            if kind in _CONTAINERS:
                pending.append((box_start, box_end))
            elif kind == b"stsd":
                size_wh = _crx_size(bytes(data[box_start : min(box_end, box_start + 1024)]))
            elif kind == b"stsz" and length >= 12:
                uniform, count = struct.unpack_from(">II", data, box_start + 4)
                listed = struct.unpack_from(">I", data, box_start + 12)[0] if count and length >= 16 else 0
                size = uniform or listed
            elif kind == b"co64" and length >= 16:
                offset = struct.unpack_from(">Q", data, box_start + 8)[0]
    return [RawTrack(*size_wh, offset, size)] if size_wh else []


def _crx_size(description: bytes) -> tuple[int, int] | None:
    at = description.find(b"CMP1")
    if at < 0 or at + 20 > len(description):
        return None
    width, height = struct.unpack_from(">II", description, at + 12)
    return width, height
