"""What a written picture says about its shot: EXIF from :class:`CaptureMeta`, for TIFF, PNG and DNG alike.

Focal plane resolution is that of the written picture, so that pitch = 1 cm / resolution holds for whoever reads it.
Bounds of the focus distance have no tag outside the makers' own notes; they stand in the sidecar.
"""

from __future__ import annotations

import math
import re
import struct
from collections.abc import Sequence
from datetime import datetime
from fractions import Fraction
from importlib.metadata import version

from dualpix.capture.raw.containers.tiff import ASCII, LONG, RATIONAL, SHORT, UNDEFINED, Tag, ifd_bytes
from dualpix.capture.types import Baseline, CaptureMeta

_CENTIMETRE = 3
_EXIF_VERSION = b"0232"
_COLOUR_SRGB, _COLOUR_UNCALIBRATED = 1, 0xFFFF
_EXIF_POINTER = 0x8769
_INFINITY = Fraction(0xFFFFFFFF, 1)


def picture_tags(meta: CaptureMeta, description: str, orientation: int = 1) -> list[Tag]:
    """Tags of a first directory: ImageDescription, Make, Model, Orientation, Software.

    Make is the first word of ``meta.camera``, Model all of it, as most makers write it themselves.
    """
    tags = [
        Tag(0x010E, ASCII, description.encode()),
        Tag(0x0112, SHORT, [orientation]),
        Tag(0x0131, ASCII, f"dualpix {version('dualpix')}".encode()),
    ]
    if meta.camera:
        tags += [Tag(0x010F, ASCII, meta.camera.split()[0].encode()), Tag(0x0110, ASCII, meta.camera.encode())]
    return tags


def exif_tags(meta: CaptureMeta, pitch_xy_um: tuple[float, float] | None, *, srgb: bool = False) -> list[Tag]:
    """The EXIF directory of a picture.

    Args:
        meta: the shot; what is not known is left out.
        pitch_xy_um: extent of a pixel of the written picture along x and y, on the sensor.
        srgb: samples are display-ready sRGB.

    Raises:
        ValueError: a value that EXIF cannot hold.
    """
    tags = [
        Tag(0x9000, UNDEFINED, _EXIF_VERSION),
        Tag(0xA000, UNDEFINED, b"0100"),  # FlashpixVersion: required by the standard
        Tag(0xA001, SHORT, [_COLOUR_SRGB if srgb else _COLOUR_UNCALIBRATED]),
        *_text_tags(meta),
        *_iso_tags(meta),
    ]
    numbers = {
        0x829A: meta.exposure_s,
        0x829D: meta.f_number,
        0x9206: meta.focus_distance_m,  # SubjectDistance
        0x920A: meta.focal_length_mm,
    }
    tags += [Tag(number, RATIONAL, [rational(value)]) for number, value in numbers.items() if value is not None]
    if pitch_xy_um is not None:
        along_x, along_y = (rational(1e4 / pitch_um) for pitch_um in pitch_xy_um)
        tags += [Tag(0xA20E, RATIONAL, [along_x]), Tag(0xA20F, RATIONAL, [along_y])]
        tags.append(Tag(0xA210, SHORT, [_CENTIMETRE]))  # FocalPlaneResolutionUnit
    return tags


def exif_block(picture: Sequence[Tag], exif: Sequence[Tag]) -> bytes:
    """Both directories as a TIFF without a picture: the content of a PNG's eXIf chunk."""
    start = struct.pack("<2sHI", b"II", 42, 8)
    exif_at = 8 + len(ifd_bytes([*picture, Tag(_EXIF_POINTER, LONG, [0])], 8))
    return start + ifd_bytes([*picture, Tag(_EXIF_POINTER, LONG, [exif_at])], 8) + ifd_bytes(exif, exif_at)


def pitch_xy_um(meta: CaptureMeta, baseline: Baseline) -> tuple[float, float] | None:
    """Extent of a pixel of the upright view along x and y."""
    if meta.pixel_pitch_um is None:
        return None
    along, across = meta.pixel_pitch_um, meta.pixel_pitch_um * meta.pixel_aspect
    return (along, across) if baseline == "x" else (across, along)


def rational(value: float) -> Fraction:
    """The closest fraction of two 32-bit numbers; infinity is EXIF's all-ones numerator.

    Raises:
        ValueError: not above 0, or too large.
    """
    if math.isinf(value) and value > 0:
        return _INFINITY
    if not 0 < value < 2**32:
        raise ValueError(f"cannot be stored as an EXIF rational: {value}")
    return Fraction(value).limit_denominator(min(10**6, int((2**32 - 1) / max(value, 1.0))))


def _text_tags(meta: CaptureMeta) -> list[Tag]:
    tags = [Tag(0xA434, ASCII, meta.lens_model.encode())] if meta.lens_model else []
    if meta.date_time is not None:
        taken = datetime.fromisoformat(meta.date_time)
        tags.append(Tag(0x9003, ASCII, taken.strftime("%Y:%m:%d %H:%M:%S").encode()))  # DateTimeOriginal
        fraction = re.search(r"\.(\d+)", meta.date_time)
        if fraction is not None:
            tags.append(Tag(0x9291, ASCII, fraction[1].encode()))  # SubSecTimeOriginal
        if taken.utcoffset() is not None:
            tags.append(Tag(0x9011, ASCII, taken.isoformat()[-6:].encode()))  # OffsetTimeOriginal
    return tags


def _iso_tags(meta: CaptureMeta) -> list[Tag]:
    """PhotographicSensitivity, which the standard saturates at 65535, and ISOSpeed, which goes on."""
    if meta.iso is None:
        return []
    iso = round(meta.iso)
    return [Tag(0x8827, SHORT, [min(iso, 65535)]), Tag(0x8830, SHORT, [3]), Tag(0x8833, LONG, [iso])]
