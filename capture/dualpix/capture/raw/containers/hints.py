"""What an exported picture says about itself: its orientation, and whether its samples carry a tone curve.

- **Orientation**: EXIF tag 0x0112 in IFD0 (TIFF), in the APP1 segment (JPEG) or in the eXIf chunk (PNG).
- **Tone**: an ICC profile (its red or gray tone reproduction curve: identity or not), an sRGB chunk (PNG), or EXIF
  ColorSpace. A lone gAMA chunk says nothing: many writers add it to linear data too.

Metadata that cannot be read count as absent: the samples decide whether a picture is damaged, not its remarks.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

from dualpix.capture.errors import DecodeError
from dualpix.capture.raw.containers.jpeg import exif_of
from dualpix.capture.raw.containers.tiff import Ifd, TiffReader

Tone = Literal["srgb", "linear"]

_ORIENTATION, _EXIF_IFD, _COLOR_SPACE, _ICC = 0x0112, 0x8769, 0xA001, 0x8773
_MAX_PROFILE_BYTES = 4 << 20
_MAX_PARTS = 4096
_CURVES = (b"rTRC", b"kTRC")
_TRC_ERROR = 0.01


@dataclass(frozen=True)
class Hints:
    """What a file says; the defaults stand for nothing."""

    orientation: int = 1
    """EXIF orientation 1..8 of the stored samples."""
    tone: Tone | None = None
    tone_source: str = ""
    """Where the tone was read, for the provenance."""


def read_hints(data: bytes, kind: str) -> Hints:
    """The hints in a picture file of ``kind`` ("png", "jpeg", "tiff", else none)."""
    reader = {"png": _png_hints, "jpeg": _jpeg_hints, "tiff": _tiff_hints}.get(kind)
    try:
        return reader(data) if reader else Hints()
    except (DecodeError, struct.error, zlib.error):
        return Hints()


def _tiff_hints(data: bytes) -> Hints:
    reader = TiffReader(data)
    picture = reader.ifd(reader.first_offset)
    orientation = _orientation(picture)
    profile = picture.tags.get(_ICC)
    tone = profile_tone(profile) if isinstance(profile, bytes) else None
    if tone:
        return Hints(orientation, tone, "embedded ICC profile")
    exif_at = picture.integer(_EXIF_IFD)
    try:
        space = reader.ifd(exif_at).integer(_COLOR_SPACE) if exif_at else 0
    except DecodeError:
        space = 0
    # 1 is sRGB; 2, Adobe RGB by many writers, has a curve close to it.
    return Hints(orientation, "srgb", "EXIF ColorSpace") if space in (1, 2) else Hints(orientation)


def _png_hints(data: bytes) -> Hints:
    orientation, source = 1, ""
    tone: Tone | None = None
    for kind, body in _png_chunks(data):
        if kind == b"eXIf":
            orientation = _tiff_hints(body).orientation
        elif kind == b"sRGB" and tone is None:
            tone, source = "srgb", "sRGB chunk"
        elif kind == b"iCCP":
            _, _, packed = body.partition(b"\0")
            profile = zlib.decompressobj().decompress(packed[1:], _MAX_PROFILE_BYTES)
            if said := profile_tone(profile):
                tone, source = said, "embedded ICC profile"
    return Hints(orientation, tone, source)


def _png_chunks(data: bytes) -> Iterator[tuple[bytes, bytes]]:
    """Type and content of the chunks before the pixels."""
    at = 8
    for _ in range(_MAX_PARTS):
        length, kind = struct.unpack_from(">I4s", data, at)
        if kind in (b"IDAT", b"IEND"):
            return
        yield kind, data[at + 8 : at + 8 + length]
        at += length + 12


def _jpeg_hints(data: bytes) -> Hints:
    block = exif_of(data)
    return Hints() if block is None else Hints(_tiff_hints(block).orientation)


def _orientation(picture: Ifd) -> int:
    value = picture.integer(_ORIENTATION, 1)
    return value if 1 <= value <= 8 else 1


def profile_tone(profile: bytes) -> Tone | None:
    """Whether the tone curve of an ICC profile (ICC.1:2022, 10.6 and 10.18) is the identity; None if it has none.

    Any other curve counts as "srgb": the display spaces that exporters embed are all close to it.
    """
    try:
        count = struct.unpack_from(">I", profile, 128)[0]
        for index in range(min(count, _MAX_PARTS)):
            name, offset, size = struct.unpack_from(">4sII", profile, 132 + 12 * index)
            if name in _CURVES:
                return "linear" if _is_identity(profile[offset : offset + size]) else "srgb"
    except struct.error:
        pass
    return None


def _is_identity(curve: bytes) -> bool:
    kind, count = struct.unpack_from(">4s4xI", curve)
    if kind == b"para":  # function type 0 is a plain power; its exponent is 16.16 fixed point
        return count >> 16 == 0 and bool(abs(struct.unpack_from(">i", curve, 12)[0] / 65536 - 1) < _TRC_ERROR)
    if count <= 1:  # none: the identity by definition; one: an exponent, 8.8 fixed point
        return count == 0 or bool(abs(struct.unpack_from(">H", curve, 12)[0] / 256 - 1) < _TRC_ERROR)
    points = struct.unpack_from(f">{min(count, 65536)}H", curve, 12)
    last = len(points) - 1
    return all(abs(value / 65535 - index / last) < _TRC_ERROR for index, value in enumerate(points))
