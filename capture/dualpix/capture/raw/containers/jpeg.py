"""The segments of a JPEG file, for whatever is read beside its picture.

After ITU-T T.81, B.1.1: a marker is a byte FF and a code, before it any number of fill bytes FF may stand; most markers
open a segment with its length. Entropy-coded data follow the header of a scan; in them FF is followed by 0, or by one
of the restart codes D0 to D7. A picture ends with EOI, a file need not: motion photos append a video, multi-picture
files and gain maps a second JPEG, cameras padding and data of their own.

As libjpeg does, stray bytes before a marker are passed over.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass

SOI, EOI, SOS, APP1 = 0xD8, 0xD9, 0xDA, 0xE1
FRAMES = frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}
"""SOF0 to SOF15; the rest of them are tables and extensions."""
_ALONE = frozenset({0x01, *range(0xD0, 0xD8)})  # TEM and the restarts have no length
_LEAST = 0xC0  # markers below are reserved, but for TEM
_MAX_SEGMENTS = 1 << 16
_MARKER = re.compile(rb"\xff[^\x00\xff]")
_AFTER_SCAN = re.compile(rb"\xff[^\x00\xd0-\xd7\xff]")
_EXIF = b"Exif\0"


@dataclass(frozen=True)
class Segment:
    """A marker, and where its content lies behind the length."""

    marker: int
    start: int
    end: int


def segments(data: bytes) -> Iterator[Segment]:
    """The segments of the first picture in order, across its scans, up to and with EOI.

    Ends early where a segment is cut off or broken: a picture is complete if the last segment is EOI.
    """
    found = _MARKER.search(data, 2)
    for _ in range(_MAX_SEGMENTS):
        if found is None:
            return
        marker, at = data[found.end() - 1], found.end()
        if marker == EOI:
            yield Segment(EOI, at, at)
            return
        if marker not in _ALONE:
            length = int.from_bytes(data[at : at + 2], "big")
            if marker < _LEAST or marker == SOI or length < 2 or at + length > len(data):
                return
            yield Segment(marker, at + 2, at + length)
            at += length
        found = (_AFTER_SCAN if marker == SOS else _MARKER).search(data, at)


def exif_of(data: bytes) -> bytes | None:
    """The TIFF structure in the first EXIF segment, or None where there is none."""
    for segment in segments(data):
        if segment.marker == SOS:
            break
        if segment.marker == APP1 and data.startswith(_EXIF, segment.start):
            return data[segment.start + 6 : segment.end]
    return None
