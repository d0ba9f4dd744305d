"""Samples of a TIFF directory, unpacked here: for forms that the libraries read wrongly or not at all.

Strips or tiles, interleaved or planar, plain or compressed by deflate, LZMA or LZW, never unpacked to more than their
place in the picture; integers of 1 to 16 or 32 bits and floats of 16, 24, 32 or 64, with the predictors of TIFF 6
(differences of samples, 2) and of Adobe's TIFF technical note 3 (differences of bytes sorted by their significance, 3),
which DNG also takes over 2 and 4 columns. Floats of 24 bits have a sign, 7 bits of exponent with a bias of 63, and 16
of mantissa (DNG 1.7.1, "Image Data Compression"). LZW is left to OpenCV's libtiff, which is shown each piece as a grey
picture of its bytes.
"""

from __future__ import annotations

import lzma
import struct
import zlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt

from dualpix.capture.errors import DecodeError
from dualpix.capture.raw.containers.native import captured_stderr
from dualpix.capture.raw.containers.tiff import LONG, SHORT, Buffer, Ifd, Order, Tag, ifd_bytes

PLAIN, LZW, LZMA, DEFLATE = 1, 5, 34925, (8, 32946)
UNPACKED = (PLAIN, LZW, LZMA, *DEFLATE)
"""Compressions that are undone here."""
UNSIGNED, FLOATING = 1, 3
"""Of SampleFormat."""
_BYTE_PREDICTORS = {3: 1, 34894: 2, 34895: 4}
_SAMPLE_PREDICTORS = {2: 1, 34892: 2, 34893: 4}
# RowInterleaveFactor, SubTileBlockSize, ColumnInterleaveFactor, FillOrder: bits, rows or columns in another order.
_INTERLEAVING = (0xC71F, 0xC71E, 0xCD43, 0x010A)
_WHOLE_BYTES = (8, 16, 32)
_FLOAT_BITS = (16, 24, 32, 64)
_LZMA_MEMORY = 256 << 20
_LARGEST_TILE = 1 << 22  # pixels, of a picture that is smaller than its tile
Bytes = npt.NDArray[np.uint8]
Samples = npt.NDArray[Any]


@dataclass(frozen=True)
class _Form:
    """How samples lie in the file."""

    height: int
    width: int
    per_pixel: int
    """Samples next to each other in a piece: 1 in a planar file."""
    planes: int
    """Pieces per place of the picture: 1 in an interleaved file."""
    bits: int
    floating: bool
    order: Order
    compression: int
    predictor: int

    @property
    def dtype(self) -> type[np.generic]:
        """Of the samples as they are given."""
        if self.floating or self.bits > 16:
            return np.float32
        return np.uint16 if self.bits > 8 else np.uint8


@dataclass(frozen=True)
class _Piece:
    """A strip or tile: its place in the picture, and in the file."""

    top: int
    left: int
    height: int
    width: int
    """As stored: a tile may reach over the edge of the picture."""
    offset: int
    size: int
    full_height: int
    """Of the other pieces: some writers fill the last strip up to it."""


def is_floating(ifd: Ifd) -> bool:
    """Whether the samples are floating-point numbers."""
    return ifd.integer(0x0153, UNSIGNED) == FLOATING


def is_planar(ifd: Ifd) -> bool:
    """Whether the samples of a pixel lie in planes of their own."""
    return ifd.integer(0x0115, 1) > 1 and ifd.integer(0x011C, 1) == 2


def is_sane_tile(width: int, height: int, pixels: int) -> bool:
    """Whether a tile is of a size that a picture of so many pixels is cut into: memory is taken for it."""
    return 0 < width * height <= 4 * pixels + _LARGEST_TILE


def sample_count(ifd: Ifd) -> int:
    """Samples per pixel."""
    return max(ifd.integer(0x0115, 1), 1)


def unpack(data: Buffer, order: Order, ifd: Ifd, chosen: Sequence[int]) -> Samples:
    """Some samples of each pixel, as stored.

    Args:
        data: the file. Its size was compared with that of the picture: this much memory is taken.
        order: byte order of the file.
        ifd: the directory.
        chosen: which ones of a pixel.

    Returns:
        (H, W, len(chosen)) uint8 or uint16; float32 of floats and of 32-bit integers.

    Raises:
        DecodeError: a form that is not read here, or cut or damaged samples.
    """
    form = _form(ifd, order)
    picture = np.empty((form.height, form.width, len(chosen)), form.dtype)
    planes = enumerate(chosen) if form.planes > 1 else [(slice(None), 0)]
    for target, plane in planes:
        for piece in _pieces(ifd, form, plane):
            values = _values(data, piece, form)[..., 0 if form.planes > 1 else list(chosen)]
            part = picture[piece.top : piece.top + piece.height, piece.left : piece.left + piece.width, target]
            part[...] = values[: part.shape[0], : part.shape[1]]
    return picture


def _form(ifd: Ifd, order: Order) -> _Form:
    floating, bits = is_floating(ifd), ifd.integer(0x0102, 1)
    code, predictor = ifd.integer(0x0103, 1), ifd.integer(0x013D, 1)
    if len(set(ifd.integers(0x0102))) > 1 or any(ifd.integer(tag, 1) != 1 for tag in _INTERLEAVING):
        raise DecodeError("samples of unequal width or in an interleaved order", expected="the order of the picture")
    if code not in UNPACKED:
        raise DecodeError(f"samples of TIFF compression {code}", expected="plain, deflate, LZMA or LZW")
    known = (
        bits in _FLOAT_BITS if floating else ifd.integer(0x0153, UNSIGNED) == UNSIGNED and bits in (*range(1, 17), 32)
    )
    fits = predictor == 1 or predictor in (_BYTE_PREDICTORS if floating else _SAMPLE_PREDICTORS)
    if not known or not fits or (predictor != 1 and not floating and bits not in _WHOLE_BYTES):
        raise DecodeError(
            f"samples of {bits} bits in format {ifd.integer(0x0153, UNSIGNED)} with predictor {predictor}",
            expected="integers of up to 16 or of 32 bits, or floats of 16, 24, 32 or 64",
        )
    samples, planar = sample_count(ifd), is_planar(ifd)
    per_pixel, planes = (1, samples) if planar else (samples, 1)
    height, width = ifd.integer(0x0101), ifd.integer(0x0100)
    return _Form(height, width, per_pixel, planes, bits, floating, order, code, predictor)


def _pieces(ifd: Ifd, form: _Form, plane: int) -> Iterator[_Piece]:
    tiled = 0x0144 in ifd.tags
    offsets, sizes = (ifd.integers(tag) for tag in ((0x0144, 0x0145) if tiled else (0x0111, 0x0117)))
    if tiled:
        width, height = ifd.integer(0x0142), ifd.integer(0x0143)
    else:
        width, height = form.width, min(ifd.integer(0x0116, form.height), form.height)
    if min(width, height) < 1 or not is_sane_tile(width, height, form.width * form.height):
        raise DecodeError(f"pieces of {width}x{height} samples", expected="strips or tiles of the picture")
    across, down = -(-form.width // width), -(-form.height // height)
    first = plane * across * down
    if min(len(offsets), len(sizes)) < first + across * down:
        raise DecodeError(f"{len(offsets)} strips or tiles", expected=f"{first + across * down} for the picture")
    for number in range(across * down):
        top, left = number // across * height, number % across * width
        rows = height if tiled else min(height, form.height - top)
        yield _Piece(top, left, rows, width, offsets[first + number], sizes[first + number], height)


def _values(data: Buffer, piece: _Piece, form: _Form) -> Samples:
    """(height, width, per_pixel) of a piece."""
    row_bytes = -(-piece.width * form.per_pixel * form.bits // 8)
    needed = row_bytes * piece.height
    content = bytes(data[piece.offset : piece.offset + piece.size])
    if form.compression in DEFLATE or form.compression == LZMA:
        content = _inflated(content, needed, row_bytes * piece.full_height, form.compression)
    elif form.compression == LZW:
        content = _by_libtiff(content, piece.height, row_bytes, LZW)
    if len(content) < needed:
        raise DecodeError(
            f"a piece of {len(content)} bytes", expected=f"{needed}", hint="the file is cut, copy it again"
        )
    lines: Bytes = np.frombuffer(content, np.uint8, needed).reshape(piece.height, row_bytes)
    if form.floating:
        values = _floats(lines, form)
    elif form.bits in _WHOLE_BYTES:
        values = _integers(lines, form)
    else:
        bits = np.unpackbits(lines, axis=1)[:, : piece.width * form.per_pixel * form.bits]
        weights = 1 << np.arange(form.bits - 1, -1, -1, dtype=np.uint32)
        values = (bits.reshape(piece.height, -1, form.bits) @ weights).astype(form.dtype)
    return values.reshape(piece.height, piece.width, form.per_pixel)


def _inflated(packed: bytes, needed: int, most: int, code: int) -> bytes:
    """The first ``needed`` bytes; the stream is followed to its end, where its checksum is, but not beyond ``most``."""
    try:
        if code == LZMA:
            xz = lzma.LZMADecompressor(memlimit=_LZMA_MEMORY)
            content = xz.decompress(packed, needed)
            if not xz.eof:
                xz.decompress(b"", most - needed + 1)
            complete = xz.eof
        else:
            stream = zlib.decompressobj()
            content = stream.decompress(packed, needed)
            stream.decompress(stream.unconsumed_tail, most - needed + 1)
            complete = stream.eof
        if len(content) == needed and not complete:
            raise EOFError("more or less than the picture needs")
    except (zlib.error, lzma.LZMAError, EOFError) as error:
        name = "LZMA" if code == LZMA else "deflated"
        raise DecodeError(f"damaged {name} samples ({error})", hint="copy the file again") from error
    return content


def _by_libtiff(packed: bytes, height: int, row_bytes: int, compression: int) -> bytes:
    """Bytes of a piece by a codec that is not ours: the piece is shown as a grey picture of them."""
    tags = {0x0100: row_bytes, 0x0101: height, 0x0116: height, 0x0117: len(packed)}
    codes = {0x0102: 8, 0x0103: compression, 0x0106: 1, 0x0115: 1}
    entries = [Tag(t, LONG, [v]) for t, v in tags.items()] + [Tag(t, SHORT, [v]) for t, v in codes.items()]
    start = 8 + len(ifd_bytes([*entries, Tag(0x0111, LONG, [0])], 8))
    file = struct.pack("<2sHI", b"II", 42, 8) + ifd_bytes([*entries, Tag(0x0111, LONG, [start])], 8) + packed
    with captured_stderr() as complaints:
        try:
            grey = cv2.imdecode(np.frombuffer(file, np.uint8), cv2.IMREAD_UNCHANGED)
        except cv2.error:
            grey = None
    if grey is None or grey.shape != (height, row_bytes) or any("error" in line.lower() for line in complaints):
        raise DecodeError("damaged LZW samples", hint="copy the file again")
    return np.asarray(grey, np.uint8).tobytes()


def _integers(lines: Bytes, form: _Form) -> Samples:
    values = np.ascontiguousarray(lines).view(np.dtype(f"{form.order}u{form.bits // 8}"))
    if form.predictor == 1:
        return values
    distance = form.per_pixel * _SAMPLE_PREDICTORS[form.predictor]
    return _summed(values.astype(values.dtype.newbyteorder("=")), distance)


def _floats(lines: Bytes, form: _Form) -> Samples:
    """Rows of float32."""
    count = form.bits // 8
    if form.predictor == 1:
        parts = lines.reshape(len(lines), -1, count)
        parts = parts if form.order == ">" else parts[..., ::-1]
    else:
        summed = _summed(lines.copy(), form.per_pixel * _BYTE_PREDICTORS[form.predictor])
        parts = np.moveaxis(summed.reshape(len(lines), count, -1), 1, 2)
    parts = np.ascontiguousarray(parts)  # most significant byte first
    if count != 3:
        with np.errstate(over="ignore"):  # what becomes infinite is refused as such
            return np.asarray(parts.view(f">f{count}")[..., 0], np.float32)
    words = parts.astype(np.uint32) @ np.array([1 << 16, 1 << 8, 1], np.uint32)
    return _from_24_bits(words)


def _from_24_bits(words: npt.NDArray[np.uint32]) -> npt.NDArray[np.float32]:
    exponent, mantissa = (words >> 16) & 0x7F, words & 0xFFFF
    one = mantissa + np.where(exponent, 0x10000, 0)  # without exponent there is no hidden bit
    size = np.ldexp(one.astype(np.float64), np.maximum(exponent, 1).astype(np.intc) - (63 + 16))
    size = np.where(exponent == 0x7F, np.where(mantissa, np.nan, np.inf), size)
    return np.where(words >> 23, -size, size).astype(np.float32)


def _summed(values: Samples, distance: int) -> Samples:
    """Differences over ``distance`` along the rows, undone in place, with the wrap-around of the type."""
    for start in range(min(distance, values.shape[1])):
        np.cumsum(values[:, start::distance], axis=1, dtype=values.dtype, out=values[:, start::distance])
    return values
