"""Exported pictures with the remarks that exporters embed: EXIF orientation, ColorSpace, ICC profile, PNG chunks."""

from __future__ import annotations

import struct
import zlib
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt

from dualpix.capture.raw.containers.tiff import BYTE, LONG, SHORT, UNDEFINED, Tag, ifd_bytes

Samples = npt.NDArray[Any]


def exif(orientation: int) -> bytes:
    """A TIFF structure with nothing but the orientation."""
    return struct.pack("<2sHI", b"II", 42, 8) + ifd_bytes([Tag(0x0112, SHORT, [orientation])], 8)


def icc(curve: bytes, name: bytes = b"rTRC") -> bytes:
    """An ICC profile reduced to one tone curve."""
    table = struct.pack(">I4sII", 1, name, 144, len(curve))
    return struct.pack(">I", 144 + len(curve)).ljust(128, b"\0") + table + curve


def curve_gamma(gamma: float) -> bytes:
    return struct.pack(">4s4xIH", b"curv", 1, round(gamma * 256))


def curve_parametric(gamma: float) -> bytes:
    return struct.pack(">4s4xHHi", b"para", 0, 0, round(gamma * 65536))


def curve_table(points: npt.NDArray[np.floating]) -> bytes:
    return struct.pack(">4s4xI", b"curv", len(points)) + np.round(points * 65535).astype(">u2").tobytes()


def write_tiff(
    path: Path,
    image: Samples,
    *,
    orientation: int = 1,
    profile: bytes | None = None,
    colour_space: int | None = None,
) -> None:
    """An uncompressed TIFF of unsigned samples, (H, W) or (H, W, 3)."""
    height, width = image.shape[:2]
    channels = 3 if image.ndim == 3 else 1
    pixels = image.astype(image.dtype.newbyteorder("<")).tobytes()

    def header(exif_at: int, pixels_at: int) -> bytes:
        tags = [
            Tag(0x0100, LONG, [width]),
            Tag(0x0101, LONG, [height]),
            Tag(0x0102, SHORT, [8 * image.itemsize] * channels),
            Tag(0x0103, SHORT, [1]),
            Tag(0x0106, SHORT, [2 if channels == 3 else 1]),
            Tag(0x0111, LONG, [pixels_at]),
            Tag(0x0112, SHORT, [orientation]),
            Tag(0x0115, SHORT, [channels]),
            Tag(0x0116, LONG, [height]),
            Tag(0x0117, LONG, [len(pixels)]),
        ]
        tags += [Tag(0x8769, LONG, [exif_at])] if colour_space is not None else []
        tags += [Tag(0x8773, UNDEFINED, profile)] if profile is not None else []
        return struct.pack("<2sHI", b"II", 42, 8) + ifd_bytes(tags, 8)

    exif_at = len(header(0, 0))
    below = ifd_bytes([Tag(0xA001, SHORT, [colour_space]), Tag(0x9000, BYTE, [1])], exif_at) if colour_space else b""
    pixels_at = exif_at + len(below)
    path.write_bytes(header(exif_at, pixels_at) + below + pixels)


def write_png(path: Path, image: Samples, *chunks: tuple[bytes, bytes]) -> None:
    """A PNG with extra chunks behind its header."""
    data = _encoded(".png", image)
    extra = b"".join(
        struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body)) for kind, body in chunks
    )
    path.write_bytes(data[:33] + extra + data[33:])


def iccp(profile: bytes) -> tuple[bytes, bytes]:
    """The iCCP chunk of a profile."""
    return b"iCCP", b"name\0\0" + zlib.compress(profile)


def write_jpeg(path: Path, image: Samples, orientation: int) -> None:
    """A JPEG with an EXIF segment."""
    body = b"Exif\0\0" + exif(orientation)
    data = _encoded(".jpg", image)
    path.write_bytes(data[:2] + b"\xff\xe1" + struct.pack(">H", len(body) + 2) + body + data[2:])


def _encoded(suffix: str, image: Samples) -> bytes:
    ok, data = cv2.imencode(suffix, image[..., ::-1] if image.ndim == 3 else image)
    assert ok
    return bytes(data)
