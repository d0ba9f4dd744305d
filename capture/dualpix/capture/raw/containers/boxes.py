"""The box structure of a CR3 file (ISO base media, ISO/IEC 14496-12; Canon's boxes after lclevy/canon_cr3).

Only what tells a dual-pixel CR3 from an ordinary one and a whole file from a cut one: the raw tracks with their size
and where their samples lie, and the metadata blobs CMT1 (picture), CMT2 (EXIF) and CMT3 (maker notes), each a small
TIFF file.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from dataclasses import dataclass, replace

from dualpix.capture.errors import DecodeError
from dualpix.capture.raw.containers.tiff import Buffer

_CANON_UUID = bytes.fromhex("85c0b687820f11e08111f4ce462b6a48")
_CONTAINERS = {b"mdia", b"minf", b"stbl"}
_BLOBS = (b"CMT1", b"CMT2", b"CMT3")
_MAX_BOXES = 512


@dataclass(frozen=True)
class RawTrack:
    """A CRX-coded track: its picture, and the bytes of its only sample."""

    width: int
    height: int
    bits: int
    wavelet_levels: int
    """0: lossless (RAW); else wavelet-coded with quantisation (C-RAW)."""
    offset: int = 0
    size: int = 0
    header_bytes: int = 0
    """Of the sample: what comes before the coded samples."""
    pictures: int = 1
    """More than one in a roll (RAW burst): separate shots, of which offset and size are the first's."""


@dataclass(frozen=True)
class Cr3Layout:
    """The raw tracks in file order and the metadata blobs by name."""

    tracks: tuple[RawTrack, ...]
    blobs: dict[bytes, bytes]


def is_cr3(head: bytes) -> bool:
    """Whether a file starting with ``head`` claims to be a CR3."""
    return head[4:12] == b"ftypcrx "


def read_cr3(data: Buffer) -> Cr3Layout:
    """Walk the boxes of a CR3 up to the end of its movie box; what follows are the samples, which may be cut.

    Raises:
        DecodeError: a box reaches beyond the file, a header beyond its track, or there is no movie box.
    """
    movie = next(((start, end) for kind, start, end in _walk(data, 0, len(data)) if kind == b"moov"), None)
    if movie is None:
        raise DecodeError("CR3 without a 'moov' box", expected="a complete CR3 file", hint="copy it again")
    tracks: list[RawTrack] = []
    blobs: dict[bytes, bytes] = {}
    for kind, start, end in _walk(data, *movie):
        if kind == b"trak":
            tracks += _raw_track(data, start, end)
        elif kind == b"uuid" and bytes(data[start : start + 16]) == _CANON_UUID:
            for name, blob_start, blob_end in _walk(data, start + 16, end):
                if name in _BLOBS:
                    blobs[name] = bytes(data[blob_start:blob_end])
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
    track: RawTrack | None = None
    offset = size = count = 0
    pending = [(start, end)]
    while pending:
        for kind, box_start, box_end in _walk(data, *pending.pop()):
            length = box_end - box_start
            if kind in _CONTAINERS:
                pending.append((box_start, box_end))
            elif kind == b"stsd":
                track = _crx_header(bytes(data[box_start : min(box_end, box_start + 1024)]))
            elif kind == b"stsz" and length >= 12:
                uniform, count = struct.unpack_from(">II", data, box_start + 4)
                listed = struct.unpack_from(">I", data, box_start + 12)[0] if count and length >= 16 else 0
                size = uniform or listed
            elif kind == b"co64" and length >= 16:
                offset = struct.unpack_from(">Q", data, box_start + 8)[0]
    if track is None:
        return []
    if track.header_bytes > size:  # LibRaw would take memory for it before it looks
        raise DecodeError(
            f"CR3 is cut or damaged: a header of {track.header_bytes} bytes in a raw track of {size}",
            expected="a complete CR3 file",
            hint="copy it again",
        )
    return [replace(track, offset=offset, size=size, pictures=max(count, 1))]


def _crx_header(description: bytes) -> RawTrack | None:
    """The fields of the CMP1 box, counted from its name.

    Size at 12, bits at 28, wavelet levels in the nibble at 30, size of the sample's header at 32.
    """
    at = description.find(b"CMP1")
    if at < 0 or at + 36 > len(description):
        return None
    width, height = struct.unpack_from(">II", description, at + 12)
    header_bytes = struct.unpack_from(">I", description, at + 32)[0]
    return RawTrack(width, height, description[at + 28], description[at + 30] & 0xF, header_bytes=header_bytes)
