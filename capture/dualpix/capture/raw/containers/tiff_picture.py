"""Pictures in TIFF files: grey or R, G, B, of whatever form other programs write.

tifffile reads them, with imagecodecs where that is installed (``dualpix[tiff]``). What is compressed by deflate, LZMA
or LZW, packed integers and 24-bit floats are unpacked by :mod:`.tiff_samples`: tifffile 2026.3 unpacks a piece to
whatever size it has, and without imagecodecs lacks LZW, the predictor of floats, and such samples. JPEG, YCbCr and fax
pictures are for OpenCV, whose libtiff makes 8-bit grey or R, G, B of them. It is asked for nothing else, because
OpenCV 5.0 reads

- planar samples of more than 8 bits as if they were interleaved, with two thirds of the picture lost, and planar tiles
  of 8 bits not at all,
- grey of 16 bits with an alpha channel as 8 bits, and R, G, B of 8 bits multiplied by their alpha,
- grey whose zero is white as stored where it has 16 bits, inverted where it has 8,
- integers of 10 to 14 bits shifted up to 16, colour filter arrays and half floats not at all.

The first picture of a file counts. Alpha and other extra samples are left out, never multiplied in.
"""

from __future__ import annotations

import io
import logging
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt
import tifffile

from dualpix.capture.errors import DecodeError
from dualpix.capture.raw.containers.native import captured_stderr
from dualpix.capture.raw.containers.tiff import Buffer, Ifd, TiffReader
from dualpix.capture.raw.containers.tiff_samples import (
    FLOATING,
    PLAIN,
    UNPACKED,
    UNSIGNED,
    is_planar,
    is_sane_tile,
    sample_count,
    unpack,
)

Samples = npt.NDArray[Any]

_WHITE_IS_ZERO, _BLACK_IS_ZERO, _RGB, _PALETTE, _YCBCR = 0, 1, 2, 3, 6
_OTHER_COLOURS = {
    4: "a transparency mask",
    5: "CMYK",
    8: "CIE L*a*b*",
    9: "ICC L*a*b*",
    10: "ITU L*a*b*",
    32803: "the mosaic of a colour filter array",
    32844: "LogL",
    32845: "LogLuv",
    34892: "LinearRaw",
}
_SAMPLE_TYPES = {2: "signed integers", 4: "samples of no stated type", 5: "complex integers", 6: "complex numbers"}
_COMPRESSIONS = {
    2: "fax", 3: "fax", 4: "fax", 5: "LZW", 6: "old JPEG", 7: "JPEG", 8: "deflate", 32773: "PackBits",
    32946: "deflate", 33003: "JPEG 2000", 33005: "JPEG 2000", 34712: "JPEG 2000", 34887: "LERC", 34925: "LZMA",
    34926: "Zstandard", 34927: "WebP", 34933: "PNG", 34934: "JPEG XR", 50000: "Zstandard", 50001: "WebP",
    50002: "JPEG XL", 52546: "JPEG XL",
}  # fmt: skip
_FOR_LIBTIFF = (2, 3, 4, 6, 7)
_PLAIN_BITS = (1, 8, 16, 32, 64)
_MAX_SAMPLES = 8
_MAX_BYTES = 2 << 30
_ORIENTATION = 0x0112

# tifffile tells of what it mends; whatever matters here is an error.
logging.getLogger("tifffile").addHandler(logging.NullHandler())


@dataclass(frozen=True)
class TiffPicture:
    """Samples as stored, but for their order."""

    samples: Samples
    """(H, W) or (H, W, 3) in R, G, B; uint8, uint16 or float32."""
    bits: int
    """Of an integer sample: the largest is ``2**bits - 1``."""


def read_tiff_picture(path: Path, data: bytes) -> TiffPicture:
    """The first picture of a TIFF.

    Args:
        path: for messages.
        data: the file, whose claimed size was looked at.

    Raises:
        DecodeError: cut or damaged, or a kind of colour, sample or compression that is not read; it is named.
    """
    reader = TiffReader(data)
    ifd = reader.ifd(reader.first_offset)
    _check_kind(path, ifd)
    _check_pieces(path, ifd, len(data))
    kind, bits = ifd.integer(0x0106, _BLACK_IS_ZERO), ifd.integer(0x0102, 1)
    code = ifd.integer(0x0103, 1)
    if kind == _YCBCR or code in _FOR_LIBTIFF:
        if bits not in (1, 8):
            name = _COMPRESSIONS.get(code, "YCbCr")
            raise DecodeError(f"'{path.name}' is a {name} picture of {bits} bits", expected="8", hint="export it again")
        return TiffPicture(_by_libtiff(path, reader, data), 8)
    samples = _samples(path, reader, ifd)
    samples = samples.astype(np.uint8) if samples.dtype == np.bool_ else samples
    if kind == _PALETTE:
        return TiffPicture(_coloured(path, ifd, samples[..., 0]), 8)
    samples = samples[..., :3] if kind == _RGB or samples.shape[2] in (3, 4) else samples[..., 0]
    if samples.dtype.kind == "f":
        return TiffPicture(_single(path, samples), 32)
    if kind == _WHITE_IS_ZERO:
        samples = samples.dtype.type((1 << bits) - 1) - samples
    if bits < 8:
        return TiffPicture(np.rint(samples * (255 / ((1 << bits) - 1))).astype(np.uint8), 8)
    return TiffPicture(samples, bits)


def _check_kind(path: Path, ifd: Ifd) -> None:
    kind, samples = ifd.integer(0x0106, _BLACK_IS_ZERO), sample_count(ifd)
    widths, form = set(ifd.integers(0x0102)) or {1}, set(ifd.integers(0x0153)) or {UNSIGNED}
    if kind not in (_WHITE_IS_ZERO, _BLACK_IS_ZERO, _RGB, _PALETTE, _YCBCR):
        found = _OTHER_COLOURS.get(kind, f"colour of kind {kind}")
        raise DecodeError(f"'{path.name}' is {found}", expected="grey or R, G, B", hint="export it again")
    least, most = (3, _MAX_SAMPLES) if kind in (_RGB, _YCBCR) else (1, 4)
    if not least <= samples <= most:
        raise DecodeError(f"'{path.name}' has {samples} samples per pixel", expected=f"{least} to {most}")
    bits = max(widths)
    if ifd.integer(0x0100) * ifd.integer(0x0101) * samples * bits > 8 * _MAX_BYTES:
        raise DecodeError(f"'{path.name}' claims more than {_MAX_BYTES >> 30} GiB of samples", expected="a picture")
    if len(widths) > 1 or len(form) > 1:
        raise DecodeError(f"'{path.name}' has samples of {sorted(widths)} bits", expected="the same in all channels")
    if form == {FLOATING} and bits in (16, 24, 32, 64) and kind in (_BLACK_IS_ZERO, _RGB):
        return
    if form == {UNSIGNED} and kind == _PALETTE and bits > 8:
        raise DecodeError(f"'{path.name}' has a palette of {bits} bits", expected="8", hint="export it again")
    if form != {UNSIGNED} or not 1 <= bits <= 16:
        what = _SAMPLE_TYPES.get(min(form), "floats" if form == {FLOATING} else "unsigned integers")
        raise DecodeError(
            f"'{path.name}' has {what} of {bits} bits",
            expected="unsigned integers of up to 16 bits, or floats",
            hint="export it again",
        )


def _check_pieces(path: Path, ifd: Ifd, file_bytes: int) -> None:
    """Missing strips and tiles would be black."""
    tiled = 0x0144 in ifd.tags
    offsets, sizes = (ifd.integers(tag) for tag in ((0x0144, 0x0145) if tiled else (0x0111, 0x0117)))
    width, height = ifd.integer(0x0100), ifd.integer(0x0101)
    if tiled:
        wide, high = ifd.integer(0x0142), ifd.integer(0x0143)
        if min(wide, high) < 1 or not is_sane_tile(wide, high, width * height):
            raise _damaged(path)
        needed = -(-width // wide) * -(-height // high)
    else:
        needed = -(-height // max(min(ifd.integer(0x0116, height), height), 1))
    needed *= sample_count(ifd) if is_planar(ifd) else 1
    ends = [offset + size for offset, size in zip(offsets, sizes, strict=False)]
    if len(ends) < needed or max(ends) > file_bytes or min(sizes[:needed]) < 1:
        raise DecodeError(f"'{path.name}' is a cut TIFF", expected="a complete picture", hint="copy it again")


def _samples(path: Path, reader: TiffReader, ifd: Ifd) -> Samples:
    """(H, W, S) as stored, at most four of a pixel."""
    code, bits = ifd.integer(0x0103, 1), ifd.integer(0x0102, 1)
    if code in UNPACKED and (code != PLAIN or bits not in _PLAIN_BITS):
        try:
            return unpack(reader.data, reader.order, ifd, range(min(sample_count(ifd), 4)))
        except DecodeError as error:
            raise DecodeError(f"'{path.name}' has {error.found}", expected=error.expected, hint=error.hint) from error
    try:
        return _by_tifffile(reader.data)
    except Exception as error:  # tifffile and its codecs raise what they trip over
        missing = isinstance(error, ImportError) or "imagecodecs" in str(error)
        raise (_needs_codec(path, code) if missing else _damaged(path)) from error


def _by_tifffile(data: Buffer) -> Samples:
    # closed here: tifffile's objects refer to each other and would keep the bytes until they are collected
    with io.BytesIO(data) as stream, tifffile.TiffFile(stream) as file:
        page = file.pages[0]
        height, width, count = page.imagelength, page.imagewidth, page.samplesperpixel
        planar = count > 1 and page.planarconfig == tifffile.PLANARCONFIG.SEPARATE
        samples = np.asarray(page.asarray()).reshape((count, height, width) if planar else (height, width, count))
    return np.moveaxis(samples, 0, -1) if planar else samples


def _needs_codec(path: Path, code: int) -> DecodeError:
    name = _COMPRESSIONS.get(code, f"TIFF compression {code}")
    return DecodeError(
        f"'{path.name}' is compressed with {name}, which the package imagecodecs reads and which is not installed",
        expected="plain, deflate, LZW, PackBits, LZMA or JPEG",
        hint="pip install 'dualpix[tiff]', or export it again",
    )


def _by_libtiff(path: Path, reader: TiffReader, data: bytes) -> Samples:
    """8-bit grey, or R, G, B."""
    with captured_stderr() as complaints:
        try:
            image = cv2.imdecode(np.frombuffer(_as_stored(reader, data), np.uint8), cv2.IMREAD_UNCHANGED)
        except cv2.error:
            image = None
    if image is None or image.dtype != np.uint8 or any("error" in line.lower() for line in complaints):
        raise _damaged(path)
    image = np.asarray(image)
    return image if image.ndim == 2 else image[..., 2::-1] if image.shape[2] >= 3 else image[..., 0]


def _as_stored(reader: TiffReader, data: bytes) -> bytes:
    """The file with its first Orientation set to 1, so that OpenCV does not turn the samples."""
    changed = bytearray(data)
    for tag, start, size in reader.places(reader.first_offset):
        if tag == _ORIENTATION and size <= 4:
            changed[start : start + size] = (1).to_bytes(size, "little" if reader.order == "<" else "big")
    return bytes(changed)


def _coloured(path: Path, ifd: Ifd, codes: Samples) -> npt.NDArray[np.uint8]:
    """Of a palette: 16-bit colours, all red ones first; of some writers 8-bit ones, as libtiff takes it."""
    colours = np.array(ifd.integers(0x0140), np.uint16)
    if colours.size != 3 << ifd.integer(0x0102, 1):
        raise _damaged(path)
    bytes_only = colours.max() < 256
    return np.asarray((colours if bytes_only else colours >> 8).reshape(3, -1).T[codes], np.uint8)


def _single(path: Path, samples: Samples) -> npt.NDArray[np.float32]:
    with np.errstate(over="ignore"):  # what becomes infinite is refused as such
        return samples.astype(np.float32)


def _damaged(path: Path) -> DecodeError:
    return DecodeError(f"'{path.name}' is a damaged TIFF", expected="a complete picture", hint="copy it again")
