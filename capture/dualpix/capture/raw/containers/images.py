"""Picture files of a pair: PNG, TIFF, JPEG and PGM, read within bounds.

The size is taken from the header and checked before anything is decoded, and a file that ends too early is refused
rather than read as a half-grey picture. What follows the end of a picture, as the video of a motion photo, is left.

Samples are given as stored: an EXIF orientation is reported beside them, never applied, because the disparity lies
along the stored rows and has to be turned with the picture. (OpenCV by itself turns a TIFF, but no PNG or JPEG.) TIFF
files have a reader of their own, :mod:`.tiff_picture`.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt

from dualpix.capture.errors import DecodeError
from dualpix.capture.raw.containers import jpeg
from dualpix.capture.raw.containers.hints import Hints, read_hints
from dualpix.capture.raw.containers.native import captured_stderr
from dualpix.capture.raw.containers.tiff import TiffReader, is_tiff
from dualpix.capture.raw.containers.tiff_picture import read_tiff_picture

Samples = npt.NDArray[Any]

# The largest dual-pixel sensors have about 50 megapixels; the bound is checked before anything is allocated.
MAX_PIXELS = 128_000_000

_MAX_FILE_BYTES = 2 << 30
_MAX_PNG_CHUNKS = 1 << 20
_LEAST_JPEG_FRAME = 6
_LARGEST = 1e9
# Deflate packs no more; memory is taken for what a header claims, so a small file must not claim much.
_MAX_PIXELS_PER_BYTE = 1032
_PNG = b"\x89PNG\r\n\x1a\n"


@dataclass(frozen=True)
class Picture:
    """A decoded picture file and what it says about itself."""

    samples: Samples
    """(H, W) or (H, W, 3) in R, G, B; uint8, uint16 or float32, as stored."""
    hints: Hints
    white: float = 1.0
    """Code of full light: the largest of an integer sample, by its type or, where it says less, by the file (a PGM, a
    TIFF of 10 to 14 bits); 1.0 of floats."""


def picture_kind(head: bytes) -> str | None:
    """ "png", "jpeg", "tiff" or "pgm" by the first bytes, else None."""
    if head.startswith(_PNG):
        return "png"
    if head.startswith(b"\xff\xd8\xff"):
        return "jpeg"
    if is_tiff(head):
        return "tiff"
    return "pgm" if head[:2] == b"P5" and head[2:3].isspace() else None


def read_picture(path: Path) -> Samples:
    """The samples of a picture: (H, W) or (H, W, 3) in R, G, B; uint8, uint16 or float32. Alpha is dropped.

    Integers use the whole range of their type: those of a PGM of another maximum, or packed in 10 to 14 bits, are
    stretched.

    Raises:
        DecodeError: unreadable, cut, absurdly large, not finite, or of a sample type without meaning here.
    """
    return whole_range(read_tagged_picture(path))


def whole_range(picture: Picture) -> Samples:
    """The samples, integers stretched to the whole range of their type."""
    samples, full = picture.samples, _full_scale(picture.samples)
    if picture.white == full:
        return samples
    return np.rint(samples * np.float64(full / picture.white)).astype(samples.dtype)


def read_tagged_picture(path: Path) -> Picture:
    """As :func:`read_picture`, with the orientation and tone curve that the file states."""
    return picture_of(path, read_bounded(path))


def picture_of(path: Path, data: bytes) -> Picture:
    """The picture in ``data``, the content of a file or of a member of an archive that ``path`` names in messages.

    Raises:
        DecodeError: as :func:`read_picture`.
    """
    kind = picture_kind(data[:16])
    if kind is None:
        raise DecodeError(f"'{path.name}' is not a picture", expected="PNG, TIFF, JPEG or binary PGM")
    if kind == "pgm":
        grey, maximum = _pgm_of(path, data)
        return Picture(grey.astype(np.uint8) if maximum < 256 else grey, Hints(), float(maximum))
    {"png": _check_png, "tiff": _check_tiff, "jpeg": _check_jpeg}[kind](path, data)
    hints = read_hints(data, kind)
    if kind == "tiff":
        tiff = read_tiff_picture(path, data)
        check_finite(path, tiff.samples)
        white = 1.0 if tiff.samples.dtype.kind == "f" else float((1 << tiff.bits) - 1)
        return Picture(np.ascontiguousarray(tiff.samples), hints, white)
    with captured_stderr() as complaints:
        try:
            image = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_UNCHANGED)
        except cv2.error:
            image = None
    if image is None or any("error" in line.lower() for line in complaints):
        raise _damaged(path, kind.upper())
    samples = _checked(path, np.asarray(image))
    return Picture(samples, hints, _full_scale(samples))


def _full_scale(samples: Samples) -> float:
    return 1.0 if samples.dtype.kind == "f" else float(np.iinfo(samples.dtype).max)


def read_tiff(path: Path) -> Samples:
    """The samples of a TIFF as stored, NaN and infinity included: a depth map has them where nothing was measured.

    Raises:
        DecodeError: as :func:`read_picture`, but for samples that are not finite.
    """
    return tiff_of(path, read_bounded(path))


def tiff_of(path: Path, data: bytes) -> Samples:
    """As :func:`read_tiff`, of a file's content; ``path`` is named in messages."""
    if picture_kind(data[:16]) != "tiff":
        raise DecodeError(f"'{path.name}' is not a TIFF")
    _check_tiff(path, data)
    return np.ascontiguousarray(read_tiff_picture(path, data).samples)


def read_pgm(path: Path) -> tuple[npt.NDArray[np.uint16], int]:
    """The samples (H, W) of a binary PGM and its maximum value; 16-bit samples are big-endian, as Netpbm says.

    Raises:
        DecodeError: no such header, absurd size, or the file length does not fit it.
    """
    return _pgm_of(path, read_bounded(path))


def _pgm_of(path: Path, data: bytes) -> tuple[npt.NDArray[np.uint16], int]:
    expected = "'P5 width height maximum' with a maximum of 1..65535"
    fields, at = _pgm_header(data)
    if len(fields) != 4 or fields[0] != b"P5" or not all(f.isdigit() and len(f) < 10 for f in fields[1:]):
        raise DecodeError(f"'{path.name}' has a broken PGM header", expected=expected)
    width, height, maximum = (int(f) for f in fields[1:])
    if not 1 <= maximum <= 65535:
        raise DecodeError(f"'{path.name}' has a PGM maximum of {maximum}", expected=expected)
    check_size(path, width, height)
    dtype = np.dtype(">u2" if maximum > 255 else "u1")
    needed = width * height * dtype.itemsize
    if len(data) - at != needed:
        raise DecodeError(
            f"'{path.name}' has {len(data) - at} bytes of pixels",
            expected=f"{needed} for {width}x{height}",
            hint="the file is cut or damaged, copy it again",
        )
    samples = np.frombuffer(data, dtype, offset=at).reshape(height, width).astype(np.uint16)
    return samples, maximum


def read_bounded(path: Path) -> bytes:
    """The whole file, if it is of a sane size.

    Raises:
        DecodeError: missing, unreadable, empty or larger than 2 GiB.
    """
    try:
        size = path.stat().st_size
        if size > _MAX_FILE_BYTES:
            raise DecodeError(f"'{path.name}' has {size} bytes", expected="at most 2 GiB")
        return path.read_bytes()
    except OSError as error:
        raise DecodeError(f"cannot read '{path}': {error.strerror or error}") from error


def check_size(path: Path, width: int, height: int) -> None:
    """Refuse an empty or absurd picture size before memory is taken.

    Raises:
        DecodeError: no pixels, or more than any dual-pixel sensor has.
    """
    if width < 1 or height < 1 or width * height > MAX_PIXELS:
        raise DecodeError(
            f"'{path.name}' claims {width}x{height} pixels",
            expected=f"1 to {MAX_PIXELS} pixels",
            hint="the header is damaged",
        )


def _pgm_header(data: bytes) -> tuple[list[bytes], int]:
    """The four fields and the offset of the first sample: exactly one white space ends the header."""
    fields: list[bytes] = []
    at, limit = 0, min(len(data), 1024)
    while len(fields) < 4 and at < limit:
        if data[at : at + 1].isspace():
            at += 1
        elif data[at : at + 1] == b"#":
            while at < limit and data[at : at + 1] not in (b"\n", b"\r"):
                at += 1
        else:
            start = at
            while at < limit and not data[at : at + 1].isspace():
                at += 1
            fields.append(data[start:at])
    return fields, at + 1


def _checked(path: Path, image: Samples) -> Samples:
    if image.dtype not in (np.uint8, np.uint16, np.float32):
        raise DecodeError(f"'{path.name}' has {image.dtype} samples", expected="8 or 16 bits or 32-bit float")
    if image.ndim == 3 and image.shape[2] in (3, 4):
        image = image[..., 2::-1]  # OpenCV's B, G, R(, A)
    elif image.ndim == 3:
        image = image[..., 0]
    check_finite(path, image)
    return np.ascontiguousarray(image)


def check_finite(path: Path, samples: Samples) -> None:
    """Refuse floating-point samples that are no light: float32 must hold what is computed from them.

    Raises:
        DecodeError: some are NaN, infinite or absurdly large.
    """
    if samples.dtype.kind != "f" or (np.abs(samples) <= _LARGEST).all():
        return
    bad = int((~(np.abs(samples) <= _LARGEST)).sum())
    raise DecodeError(
        f"'{path.name}' has {bad} values that are NaN or infinite, or beyond {_LARGEST:g}",
        expected="finite values, white at 1",
        hint="export it again",
    )


def _check_png(path: Path, data: bytes) -> None:
    if len(data) >= 24:
        width, height = struct.unpack_from(">II", data, 16)
        _check_packed_size(path, width, height, len(data))
    at = len(_PNG)
    for _ in range(_MAX_PNG_CHUNKS):
        if at + 12 > len(data):
            break
        length, kind = struct.unpack_from(">I4s", data, at)
        at += length + 12
        if kind == b"IEND" and at <= len(data):
            return
    raise _cut(path, "PNG")


def _check_tiff(path: Path, data: bytes) -> None:
    reader = TiffReader(data)
    ifd = reader.ifd(reader.first_offset)
    _check_packed_size(path, ifd.integer(0x0100), ifd.integer(0x0101), len(data))


def _check_jpeg(path: Path, data: bytes) -> None:
    last, sized = None, False
    for segment in jpeg.segments(data):
        last = segment.marker
        if last in jpeg.FRAMES and segment.end - segment.start >= _LEAST_JPEG_FRAME:
            height, width = struct.unpack_from(">HH", data, segment.start + 1)
            _check_packed_size(path, width, height, len(data))
            sized = True
    if last != jpeg.EOI:
        raise _cut(path, "JPEG")
    if not sized:
        raise _damaged(path, "JPEG")


def _check_packed_size(path: Path, width: int, height: int, file_bytes: int) -> None:
    check_size(path, width, height)
    if width * height > _MAX_PIXELS_PER_BYTE * file_bytes:
        raise DecodeError(
            f"'{path.name}' claims {width}x{height} pixels in {file_bytes} bytes",
            expected="a complete picture",
            hint="the header is damaged",
        )


def _damaged(path: Path, kind: str) -> DecodeError:
    return DecodeError(f"'{path.name}' is a damaged {kind}", expected="a complete picture")


def _cut(path: Path, kind: str) -> DecodeError:
    return DecodeError(f"'{path.name}' is a cut {kind}", expected="a complete picture", hint="copy it again")
