"""Samples of a DNG that LibRaw does not read, or reads wrongly: unpacked here, within bounds.

LibRaw 0.22.2 (rawpy 0.28) makes whole numbers of floats, scaled by the larger of their white level and the brightest
one of the file, and takes a white level that is not stated, by the specification 1.0, for the largest integer of as
many bits: of 16 and 24 bits nothing but zeros is left, without a word. It mixes up the samples of a planar file, and
refuses deflated integers and BigTIFF.

All these forms are simple: strips or tiles, plain or deflated (DNG 1.7.1, "Image Data Compression"), with the
predictors of TIFF 6 (differences of samples, 2) and of Adobe's TIFF technical note 3 (differences of bytes sorted by
their significance, 3), which DNG also takes over 2 and 4 columns. Floats of 24 bits have a sign, 7 bits of exponent
with a bias of 63, and 16 of mantissa.
"""

from __future__ import annotations

import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from dualpix.capture.errors import DecodeError
from dualpix.capture.raw.dng_levels import LINEARISATION, is_floating
from dualpix.capture.raw.tiff import Buffer, Ifd

NO_COMPRESSION, DEFLATE = 1, (8, 32946)
_INTEGERS = 1
_BYTE_PREDICTORS = {3: 1, 34894: 2, 34895: 4}
_SAMPLE_PREDICTORS = {2: 1, 34892: 2, 34893: 4}
# RowInterleaveFactor, SubTileBlockSize, ColumnInterleaveFactor: rows or columns lie in another order.
_INTERLEAVING = (0xC71F, 0xC71E, 0xCD43)
Bytes = npt.NDArray[np.uint8]
Samples = npt.NDArray[Any]


@dataclass(frozen=True)
class _Form:
    """How samples lie in the file."""

    height: int
    width: int
    per_pixel: int
    """Samples next to each other in a piece: 1 in a planar file."""
    bits: int
    floating: bool
    order: Literal["<", ">"]
    deflated: bool
    predictor: int


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


def is_unpacked_here(ifd: Ifd, big: bool) -> bool:
    """Whether a raw directory's samples are for this module and not for LibRaw."""
    planar = ifd.integer(0x0115, 1) > 1 and ifd.integer(0x011C, 1) == 2
    deflated = ifd.integer(0x0103, 1) in DEFLATE
    return big or planar or deflated or is_floating(ifd) or ifd.integer(0x0102, 1) == 32


def unpack(data: Buffer, order: Literal["<", ">"], ifd: Ifd, sample: int) -> Samples:
    """One sample of each pixel (H, W): float32 for floats and 32-bit integers, else uint16, linearised.

    Args:
        data: the file, whose pieces and size have been looked at (:func:`.structure.check_whole`).
        order: byte order of the file.
        ifd: the raw directory.
        sample: which one of a pixel.

    Raises:
        DecodeError: a form that is not read here, or cut or damaged samples.
    """
    form = _form(ifd, order)
    planar = form.per_pixel == 1
    picture = np.empty((form.height, form.width), np.uint16 if not form.floating and form.bits <= 16 else np.float32)
    for piece in _pieces(ifd, form, sample if planar else 0):
        values = _values(data, piece, form)[..., 0 if planar else sample]
        part = picture[piece.top : piece.top + piece.height, piece.left : piece.left + piece.width]
        part[...] = values[: part.shape[0], : part.shape[1]]
    table = ifd.integers(LINEARISATION)
    if table and picture.dtype == np.uint16:
        picture = np.asarray(table, np.uint16)[np.minimum(picture, len(table) - 1)]
    return picture


def _form(ifd: Ifd, order: Literal["<", ">"]) -> _Form:
    floating, bits = is_floating(ifd), ifd.integer(0x0102, 1)
    code, predictor = ifd.integer(0x0103, 1), ifd.integer(0x013D, 1)
    if len(set(ifd.integers(0x0102))) > 1 or any(ifd.integer(tag, 1) != 1 for tag in (*_INTERLEAVING, 0x010A)):
        raise DecodeError("samples of unequal width or in an interleaved order", expected="the order of the picture")
    if code != NO_COMPRESSION and code not in DEFLATE:
        raise DecodeError(
            f"a BigTIFF, planar or floating-point DNG with compression {code}",
            expected="none or deflate",
            hint="convert it with Adobe's DNG Converter",
        )
    known = bits in (16, 24, 32) if floating else ifd.integer(0x0153, 1) == _INTEGERS and bits in (*range(8, 17), 32)
    fits = predictor == 1 or predictor in (_BYTE_PREDICTORS if floating else _SAMPLE_PREDICTORS)
    if not known or not fits or (bits not in (8, 16, 24, 32) and predictor != 1):
        raise DecodeError(
            f"samples of {bits} bits in format {ifd.integer(0x0153, 1)} with predictor {predictor}",
            expected="integers of 8 to 16 or 32 bits, or floats of 16, 24 or 32",
        )
    samples = 1 if ifd.integer(0x011C, 1) == 2 else max(ifd.integer(0x0115, 1), 1)
    height, width = ifd.integer(0x0101), ifd.integer(0x0100)
    return _Form(height, width, samples, bits, floating, order, code in DEFLATE, predictor)


def _pieces(ifd: Ifd, form: _Form, plane: int) -> Iterator[_Piece]:
    tiled = 0x0144 in ifd.tags
    offsets, sizes = (ifd.integers(tag) for tag in ((0x0144, 0x0145) if tiled else (0x0111, 0x0117)))
    if tiled:
        width, height = ifd.integer(0x0142), ifd.integer(0x0143)
    else:
        width, height = form.width, min(ifd.integer(0x0116, form.height), form.height)
    if width < 1 or height < 1 or width > form.width + 65535 or height > form.height + 65535:
        raise DecodeError(f"pieces of {width}x{height} samples", expected="strips or tiles of the picture")
    across, down = -(-form.width // width), -(-form.height // height)
    first = plane * across * down
    if min(len(offsets), len(sizes)) < first + across * down:
        raise DecodeError(f"{len(offsets)} strips or tiles", expected=f"{first + across * down} for the picture")
    for number in range(across * down):
        top, left = number // across * height, number % across * width
        rows = height if tiled else min(height, form.height - top)
        yield _Piece(top, left, rows, width, offsets[first + number], sizes[first + number])


def _values(data: Buffer, piece: _Piece, form: _Form) -> Samples:
    """(height, width, per_pixel) of a piece."""
    row_bytes = -(-piece.width * form.per_pixel * form.bits // 8)
    needed = row_bytes * piece.height
    packed = bytes(data[piece.offset : piece.offset + piece.size])
    content = _inflated(packed, needed) if form.deflated else packed
    if len(content) < needed:
        raise DecodeError(
            f"a piece of {len(content)} bytes", expected=f"{needed}", hint="the file is cut, copy it again"
        )
    lines: Bytes = np.frombuffer(content, np.uint8, needed).reshape(piece.height, row_bytes)
    if form.floating:
        values = _floats(lines, form)
    elif form.bits in (8, 16, 32):
        values = _integers(lines, form)
    else:
        bits = np.unpackbits(lines, axis=1)[:, : piece.width * form.per_pixel * form.bits]
        weights = 1 << np.arange(form.bits - 1, -1, -1, dtype=np.uint32)
        values = (bits.reshape(piece.height, -1, form.bits) @ weights).astype(np.uint16)
    return values.reshape(piece.height, piece.width, form.per_pixel)


def _inflated(packed: bytes, needed: int) -> bytes:
    stream = zlib.decompressobj()
    try:
        content = stream.decompress(packed, needed)
        if len(content) == needed:  # to the end, which holds the checksum; the last strip may be filled up
            stream.decompress(stream.unconsumed_tail, needed + 1)
            if not stream.eof:
                raise zlib.error("more or less than the picture needs")
    except zlib.error as error:
        raise DecodeError(f"damaged deflated samples ({error})", hint="copy the file again") from error
    return content


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
