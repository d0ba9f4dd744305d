"""TIFF and DNG files of any form that other programs write: what a reader meets and our own writer never makes.

Both byte orders, classic and BigTIFF, strips and tiles, interleaved and planar samples, integers and floats of 8 to 32
bits, plain or deflated, with the predictors of TIFF 6 (2), of Adobe's TIFF technical note 3 (3) and of DNG (34892 to
34895: the same two over 2 and 4 columns).
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

BYTE, ASCII, SHORT, LONG, RATIONAL, UNDEFINED, SRATIONAL, DOUBLE, LONG8 = 1, 2, 3, 4, 5, 7, 10, 12, 16
_CODES = {1: "B", 3: "H", 4: "I", 9: "i", 11: "f", 12: "d", 16: "Q"}
_SIZES = {1: 1, 2: 1, 3: 2, 4: 4, 5: 8, 7: 1, 9: 4, 10: 8, 11: 4, 12: 8, 16: 8}
_EXIF = 0x8769
Values = bytes | Sequence[Any]
Tags = Mapping[int, tuple[int, Values]]


@dataclass(frozen=True)
class Form:
    """How samples lie in a file."""

    order: str = "<"
    big: bool = False
    """BigTIFF."""
    tile_hw: tuple[int, int] | None = None
    rows_per_strip: int | None = None
    planar: bool = False
    compression: int = 1
    """1 none, 8 deflate, 32946 its old number."""
    predictor: int = 1
    float_bits: int | None = None
    """16, 24 or 32 for samples given as floats."""
    int_bits: int | None = None
    """10, 12 or 14: packed from the top bit, rows padded to whole bytes."""


def write_tiff(
    path: Path,
    samples: npt.NDArray[Any],
    tags: Tags,
    form: Form | None = None,
    exif: Tags | None = None,
    pieces: Sequence[bytes] | None = None,
) -> None:
    """One image.

    Args:
        path: the file.
        samples: (H, W) or (H, W, S).
        tags: further tags of its directory, by number: type and values; they replace those made of the samples.
        form: how to store the samples.
        exif: an EXIF directory.
        pieces: the coded strips or tiles, where another program made them.
    """
    form = form or Form()
    samples = samples[..., None] if samples.ndim == 2 else samples
    height, width, channels = samples.shape
    pieces = pieces or [_packed(piece, form) for piece in _pieces(samples, form)]
    bits = form.float_bits or form.int_bits or 8 * samples.dtype.itemsize
    kind = {"u": 1, "i": 2, "f": 3, "c": 6}[samples.dtype.kind]
    every: dict[int, tuple[int, Values]] = {
        0x0100: (LONG, [width]),
        0x0101: (LONG, [height]),
        0x0102: (SHORT, [bits] * channels),
        0x0103: (SHORT, [form.compression]),
        0x0106: (SHORT, [2 if channels >= 3 else 1]),
        0x0115: (SHORT, [channels]),
        0x011C: (SHORT, [2 if form.planar else 1]),
        0x0153: (SHORT, [kind] * channels),
    }
    if form.predictor != 1:
        every[0x013D] = (SHORT, [form.predictor])
    place = _place(form, height)
    every |= {place[1]: (LONG, [len(p) for p in pieces]), **place[2], **tags}
    if exif is not None:
        every[_EXIF] = (LONG, [0])
    head = _header(form)
    lead = len(head) + len(directory({**every, place[0]: (LONG, [0] * len(pieces))}, len(head), form))
    exif_bytes = b"" if exif is None else directory(exif, lead, form)
    if exif is not None:
        every[_EXIF] = (LONG, [lead])
    starts = (lead + len(exif_bytes) + np.cumsum([0, *[len(p) + len(p) % 2 for p in pieces[:-1]]])).tolist()
    every[place[0]] = (LONG, starts)
    body = b"".join(piece + bytes(len(piece) % 2) for piece in pieces)
    path.write_bytes(head + directory(every, len(head), form) + exif_bytes + body)


def dng_tags(
    *,
    cfa: str = "RGGB",
    model: str = "Acme One",
    make: str = "Acme",
    black: tuple[int, Values] | None = None,
    repeat: tuple[int, int] | None = None,
    white: Sequence[int] | None = None,
    **further: tuple[int, Values],
) -> dict[int, tuple[int, Values]]:
    """The tags that make a mosaic a DNG. ``further`` by hexadecimal number, as ``xC68D=(LONG, [...])``."""
    tags: dict[int, tuple[int, Values]] = {
        0x00FE: (LONG, [0]),
        0x0106: (SHORT, [32803]),
        0x010F: (ASCII, make.encode()),
        0x0110: (ASCII, model.encode()),
        0x828D: (SHORT, [2, 2]),
        0x828E: (BYTE, ["RGB".index(colour) for colour in cfa]),
        0xC612: (BYTE, [1, 4, 0, 0]),
        0xC614: (ASCII, model.encode()),
        0xC621: (SRATIONAL, [1, 0, 0, 0, 1, 0, 0, 0, 1]),
        0xC628: (RATIONAL, [Fraction(1, 2), 1, Fraction(2, 3)]),
        0xC65A: (SHORT, [21]),
    }
    if repeat is not None:
        tags[0xC619] = (SHORT, list(repeat))
    if black is not None:
        tags[0xC61A] = black
    if white is not None:
        tags[0xC61D] = (LONG, list(white))
    return tags | {int(number[1:], 16): value for number, value in further.items()}


def fp24(values: npt.NDArray[np.floating[Any]]) -> npt.NDArray[np.uint32]:
    """DNG's 24-bit floats: a sign, 7 bits of exponent with a bias of 63, 16 of mantissa; truncated, normal numbers."""
    bits = np.asarray(values, np.float32).view(np.uint32)
    sign, exponent, mantissa = bits >> 31, ((bits >> 23) & 0xFF).astype(np.int64) - 127 + 63, (bits & 0x7FFFFF) >> 7
    assert ((exponent > 0) & (exponent < 127) | (values == 0)).all()
    return np.where(values == 0, 0, (sign << 23) | (exponent.astype(np.uint32) << 16) | mantissa).astype(np.uint32)


def _place(form: Form, height: int) -> tuple[int, int, dict[int, tuple[int, Values]]]:
    """Numbers of the offsets and sizes, and the tags of the geometry."""
    if form.tile_hw is not None:
        return 0x0144, 0x0145, {0x0142: (LONG, [form.tile_hw[1]]), 0x0143: (LONG, [form.tile_hw[0]])}
    return 0x0111, 0x0117, {0x0116: (LONG, [form.rows_per_strip or height])}


def _pieces(samples: npt.NDArray[Any], form: Form) -> list[npt.NDArray[Any]]:
    """(h, w, s) strips or tiles in the order of the file; tiles are filled up with the last row and column."""
    height, width, channels = samples.shape
    planes = [samples[..., i : i + 1] for i in range(channels)] if form.planar else [samples]
    if form.tile_hw is None:
        step = form.rows_per_strip or height
        return [plane[top : top + step] for plane in planes for top in range(0, height, step)]
    high, wide = form.tile_hw
    padded = [np.pad(p, ((0, -height % high), (0, -width % wide), (0, 0)), mode="edge") for p in planes]
    return [
        plane[top : top + high, left : left + wide]
        for plane in padded
        for top in range(0, height, high)
        for left in range(0, width, wide)
    ]


def _packed(piece: npt.NDArray[Any], form: Form) -> bytes:
    data = _coded(piece, form)
    return zlib.compress(data) if form.compression in (8, 32946) else data


def _coded(piece: npt.NDArray[Any], form: Form) -> bytes:
    if form.int_bits:
        lines = piece.reshape(len(piece), -1)
        shifts = np.arange(form.int_bits - 1, -1, -1)
        return np.packbits((lines[..., None] >> shifts & 1).astype(np.uint8).reshape(len(piece), -1), axis=1).tobytes()
    columns = {34892: 2, 34893: 4, 34894: 2, 34895: 4}.get(form.predictor, 1)
    if form.predictor in (2, 34892, 34893):
        step = np.array(piece)
        step[:, columns:] -= piece[:, :-columns]
        return step.astype(piece.dtype.newbyteorder(form.order)).tobytes()
    planes = _significant_bytes(piece, form.float_bits)
    if form.predictor == 1:
        return (planes if form.order == ">" or planes.shape[-1] == 1 else planes[..., ::-1]).tobytes()
    # bytes of one significance side by side along the row, the top one first; then differences over a pixel's bytes
    lines = np.moveaxis(planes.reshape(len(piece), -1, planes.shape[-1]), -1, 1).reshape(len(piece), -1)
    distance = piece.shape[2] * columns
    lines[:, distance:] = lines[:, distance:] - lines[:, :-distance]
    return lines.tobytes()


def _significant_bytes(piece: npt.NDArray[Any], float_bits: int | None) -> npt.NDArray[np.uint8]:
    """(h, w, s, bytes), the most significant first."""
    if float_bits == 24:
        words = fp24(piece).astype(">u4")
        return words.view(np.uint8).reshape(*piece.shape, 4)[..., 1:].copy()
    dtype = piece.dtype if float_bits is None else np.dtype({16: "f2", 32: "f4"}[float_bits])
    words = np.ascontiguousarray(piece.astype(dtype.newbyteorder(">")))
    return words.view(np.uint8).reshape(*piece.shape, dtype.itemsize).copy()


def _header(form: Form) -> bytes:
    order = {"<": b"II", ">": b"MM"}[form.order]
    if form.big:
        return order + struct.pack(form.order + "HHHQ", 43, 8, 0, 16)
    return order + struct.pack(form.order + "HI", 42, 8)


def directory(tags: Tags, at: int, form: Form) -> bytes:
    """A directory at offset ``at`` and its values behind it; of even length."""
    entry, inline, count_code = (20, 8, "Q") if form.big else (12, 4, "I")
    table = struct.pack(form.order + ("Q" if form.big else "H"), len(tags))
    values_at = at + len(table) + entry * len(tags) + inline
    values = b""
    for number, (kind, content) in sorted(tags.items()):
        data = _value(kind, content, form.order)
        table += struct.pack(form.order + "HH" + count_code, number, kind, len(data) // _SIZES[kind])
        if len(data) <= inline:
            table += data.ljust(inline, b"\0")
            continue
        table += struct.pack(form.order + count_code, values_at + len(values))
        values += data + bytes(len(data) % 2)
    result = table + bytes(inline) + values
    return result + bytes(len(result) % 2)


def _value(kind: int, content: Values, order: str) -> bytes:
    if isinstance(content, bytes):
        return content + (b"\0" if kind == ASCII else b"")
    if kind in (RATIONAL, SRATIONAL):
        code = "II" if kind == RATIONAL else "ii"
        pairs = [
            v if isinstance(v, tuple) else Fraction(v).limit_denominator(10**4).as_integer_ratio() for v in content
        ]
        return b"".join(struct.pack(order + code, *pair) for pair in pairs)
    return struct.pack(f"{order}{len(content)}{_CODES[kind]}", *content)
