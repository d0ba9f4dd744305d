"""Small files that claim to be enormous, made from the seeds: what a decoder must refuse before it takes memory."""

from __future__ import annotations

import io
import re
import struct
import zipfile
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace

import numpy as np
import tifffile
from tests.fuzz.case import Case
from tests.fuzz.mutate import png_chunk

_SIDE = 16000
_CLAIM = r"claims (a picture of )?\d+x\d+ pixels"


def hostile_cases(seeds: Mapping[str, Case]) -> Iterator[tuple[Case, str]]:
    """Cases by name, and a pattern of the refusal each must get."""
    for kind, name, change in (
        ("jpeg", "jpeg-of-900-megapixels", _jpeg),
        ("png-16", "png-of-256-megapixels", _png),
        ("tiff-deflate-float", "tiff-with-two-widths", _two_sizes),
        ("cr2", "cr2-of-256-megapixels", _lossless_jpeg),
        ("cr3-one-tile", "cr3-of-256-megapixels", _cmp1),
        ("dng-strip-ljpeg", "dng-of-256-megapixels", _ifd),
    ):
        yield _changed(seeds[kind], name, change), _CLAIM
    yield _changed(seeds["cr3"], "crx-header-of-2-gib", _crx_header), "a header of 2147483632 bytes"
    yield _changed(seeds["tiff-deflate-float"], "float-beyond-range", _huge_floats), "beyond 1e"
    yield Case("npz-lzma", "a.npz", {"a.npz": _packed_zeros()}), "compressed by method 14"


def _changed(seed: Case, name: str, change: Callable[[bytes], bytes]) -> Case:
    files = {file: change(data) for file, data in seed.files.items()}
    if files == dict(seed.files):
        raise AssertionError(f"{name}: nothing to change in the seed")
    return replace(seed, kind=name, files=files)


def _jpeg(data: bytes) -> bytes:
    at = data.index(b"\xff\xc0") + 5
    return data[:at] + struct.pack(">HH", 30000, 30000) + data[at + 4 :]


def _png(data: bytes) -> bytes:
    return data[:8] + png_chunk(b"IHDR", struct.pack(">IIBBBBB", _SIDE, _SIDE, 16, 0, 0, 0, 0)) + data[33:]


def _two_sizes(data: bytes) -> bytes:
    """Large ImageWidth and ImageLength before the true ones: libtiff takes the first of two."""
    at = struct.unpack_from("<I", data, 4)[0]
    entries = [data[at + 2 + 12 * i : at + 14 + 12 * i] for i in range(struct.unpack_from("<H", data, at)[0])]
    more = [struct.pack("<HHII", tag, 4, 1, _SIDE) for tag in (0x0100, 0x0101)]
    entries = sorted([*more, *entries], key=lambda entry: struct.unpack_from("<H", entry)[0])
    table = struct.pack("<H", len(entries)) + b"".join(entries) + bytes(4)
    return data[:4] + struct.pack("<I", len(data)) + data[8:] + table


def _lossless_jpeg(data: bytes) -> bytes:
    return re.sub(rb"(\xff\xc3..\x0e)....", rb"\g<1>" + struct.pack(">HH", 8000, 8000), data, flags=re.S)


def _cmp1(data: bytes) -> bytes:
    at = [match.start() + 12 for match in re.finditer(b"CMP1", data)]
    largest = max(struct.unpack_from(">II", data, a) for a in at)
    return data.replace(struct.pack(">4I", *largest, *largest), struct.pack(">4I", *[_SIDE] * 4))


def _ifd(data: bytes) -> bytes:
    for tag in (0x0100, 0x0101):
        at = data.index(struct.pack("<HHI", tag, 4, 1))
        data = data[: at + 8] + struct.pack("<I", _SIDE) + data[at + 12 :]
    return data


def _crx_header(data: bytes) -> bytes:
    at = data.rindex(b"CMP1") + 32
    return data[:at] + struct.pack(">I", 0x7FFFFFF0) + data[at + 4 :]


def _huge_floats(data: bytes) -> bytes:
    """Uncompressed samples near the largest float32: an exponent turns them into infinity."""
    del data
    buffer = io.BytesIO()
    tifffile.imwrite(buffer, np.full((24, 32), 3e38, np.float32), metadata=None)
    return buffer.getvalue()


def _packed_zeros() -> bytes:
    """LZMA packs zeros seven thousand times."""
    header, buffer = io.BytesIO(), io.BytesIO()
    np.lib.format.write_array_header_1_0(header, {"descr": "|u1", "fortran_order": False, "shape": (1000, 1000, 3)})
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_LZMA) as archive:
        for side in ("left", "right"):
            archive.writestr(f"{side}.npy", header.getvalue() + bytes(3_000_000))
    return buffer.getvalue()
