"""OpenEXR files of one plane of numbers, as renderers write depth: scan lines, stored plainly or by RLE, ZIPS or ZIP.

Facts from the "OpenEXR File Layout" of its project. Sizes are checked against the file before memory is taken. Tiles,
several parts, deep data, and what is compressed in another way (PIZ, PXR24, B44, DWA) are refused by name. Of several
channels the depth is the one called ``Z`` or ``V`` (in any layer), else ``Y``, else ``R``.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from dualpix.capture.raw.images import check_size, read_bounded
from dualpix.capture.rgbd.sample import RgbdError

MAGIC = b"\x76\x2f\x31\x01"
_TILED, _DEEP, _PARTS = 0x200, 0x800, 0x1000
_TYPES: Mapping[int, np.dtype[Any]] = {0: np.dtype("<u4"), 1: np.dtype("<f2"), 2: np.dtype("<f4")}
_LINES = {0: 1, 1: 1, 2: 1, 3: 16}
"""Scan lines of a block, by compression."""
_NAMES = {4: "PIZ", 5: "PXR24", 6: "B44", 7: "B44A", 8: "DWAA", 9: "DWAB"}
_NONE, _RLE = 0, 1
_MOST_NAME, _MOST_ATTRIBUTES, _MOST_CHANNELS = 256, 256, 64
_MOST_PACKED = 1032
_WHOLE = "a complete file; copy it again"


@dataclass(frozen=True)
class _Channel:
    name: str
    dtype: np.dtype[Any]


@dataclass(frozen=True)
class _Header:
    channels: tuple[_Channel, ...]
    compression: int
    width: int
    top: int
    height: int
    end: int
    """Offset of what follows."""

    @property
    def line_bytes(self) -> int:
        return self.width * sum(channel.dtype.itemsize for channel in self.channels)


def read_exr(path: Path) -> npt.NDArray[Any]:
    """The depth channel (H, W), of whatever unit: float32, or uint32.

    Raises:
        RgbdError: no such file, cut or damaged, or of a form that is not read; says which.
        DecodeError: it cannot be read, or claims an absurd size.
    """
    data = read_bounded(path)
    if not data.startswith(MAGIC):
        raise RgbdError(f"'{path.name}' is no OpenEXR file", expected="a depth map")
    try:
        header = _header(path, data)
        plane = _plane(path, data, header)
    except (struct.error, IndexError, ValueError, zlib.error) as error:
        raise RgbdError(f"'{path.name}' is cut or damaged ({str(error)[:60]})", expected=_WHOLE) from error
    return plane.astype(np.float32) if plane.dtype.kind == "f" else plane


def _header(path: Path, data: bytes) -> _Header:
    (flags,) = struct.unpack_from("<I", data, 4)
    for bit, form in ((_TILED, "tiles"), (_DEEP, "deep data"), (_PARTS, "several parts")):
        if flags & bit:
            raise RgbdError(f"'{path.name}' is an OpenEXR file of {form}", expected="one part of scan lines")
    found: dict[str, bytes] = {}
    at = 8
    for _ in range(_MOST_ATTRIBUTES):
        name, at = _text(data, at)
        if not name:
            return _understood(path, found, at)
        _, at = _text(data, at)
        (size,) = struct.unpack_from("<I", data, at)
        if at + 4 + size > len(data):
            raise ValueError("an attribute that goes on behind the end")
        found[name] = data[at + 4 : at + 4 + size]
        at += 4 + size
    raise ValueError("a header without end")


def _understood(path: Path, found: Mapping[str, bytes], end: int) -> _Header:
    if missing := {"channels", "compression", "dataWindow"} - set(found):
        raise ValueError(f"no {sorted(missing)[0]}")
    compression = found["compression"][0]
    if compression not in _LINES:
        raise RgbdError(
            f"'{path.name}' is compressed by {_NAMES.get(compression, 'a way of its own')}",
            expected="ZIP, ZIPS, RLE or none",
            hint="write it again with ZIP, or as float32 TIFF",
        )
    left, top, right, bottom = struct.unpack_from("<4i", found["dataWindow"])
    width, height = right - left + 1, bottom - top + 1
    check_size(path, width, height)
    return _Header(tuple(_channels(path, found["channels"])), compression, width, top, height, end)


def _channels(path: Path, data: bytes) -> Iterator[_Channel]:
    at = 0
    for _ in range(_MOST_CHANNELS):
        name, at = _text(data, at)
        if not name:
            return
        kind, across, along = (struct.unpack_from("<I", data, at + skip)[0] for skip in (0, 8, 12))
        if (across, along) != (1, 1) or kind not in _TYPES:
            raise RgbdError(
                f"'{path.name}' has a channel '{name[:40]}' of fewer samples", expected="one for each pixel"
            )
        yield _Channel(name, _TYPES[kind])
        at += 16
    raise RgbdError(f"'{path.name}' has over {_MOST_CHANNELS} channels", expected="one of depth")


def _text(data: bytes, at: int) -> tuple[str, int]:
    end = data.index(b"\0", at, at + _MOST_NAME)
    return data[at:end].decode("utf-8", "replace"), end + 1


def _plane(path: Path, data: bytes, header: _Header) -> npt.NDArray[Any]:
    channel, offset = _depth_channel(path, header)
    lines = _LINES[header.compression]
    blocks = -(-header.height // lines)
    # each block has an entry in the table and a head, and deflate packs no more than this
    if header.end + blocks * 16 > len(data) or header.height * header.line_bytes > _MOST_PACKED * len(data):
        raise ValueError(f"{header.width}x{header.height} pixels in {len(data)} bytes")
    plane = np.zeros((header.height, header.width), channel.dtype)
    seen = np.zeros(header.height, bool)
    for start in struct.unpack_from(f"<{blocks}Q", data, header.end):
        if start + 8 > len(data):
            raise ValueError("a block behind the end")
        y, size = struct.unpack_from("<iI", data, start)
        first = y - header.top
        rows = min(lines, header.height - first)
        if not 0 <= first < header.height or first % lines or start + 8 + size > len(data):
            raise ValueError("a block out of place")
        raw = _unpacked(data[start + 8 : start + 8 + size], rows * header.line_bytes, header.compression)
        for row in range(rows):
            at = row * header.line_bytes + offset
            plane[first + row] = np.frombuffer(raw, channel.dtype, header.width, at)
        seen[first : first + rows] = True
    if not seen.all():
        raise ValueError(f"no line {int(np.argmin(seen))}")
    return plane.astype(channel.dtype.newbyteorder("="), copy=False)


def _depth_channel(path: Path, header: _Header) -> tuple[_Channel, int]:
    """With where its samples begin in a line."""
    offsets, at = [], 0
    for channel in header.channels:
        offsets.append(at)
        at += header.width * channel.dtype.itemsize
    if len(header.channels) == 1:
        return header.channels[0], 0
    last = [channel.name.rpartition(".")[2].upper() for channel in header.channels]
    for wanted in ("Z", "V", "Y", "R"):
        if wanted in last:
            place = last.index(wanted)
            return header.channels[place], offsets[place]
    names = ", ".join(channel.name[:20] for channel in header.channels[:6]) or "none"
    raise RgbdError(f"'{path.name}' has no channel of depth", expected=f"Z, V, Y or R, not: {names}")


def _unpacked(packed: bytes, needed: int, compression: int) -> bytes:
    """Of a block; one that does not become smaller is stored as it is."""
    if compression == _NONE or len(packed) == needed:
        raw = packed
    else:
        coded = _runs(packed, needed) if compression == _RLE else zlib.decompressobj().decompress(packed, needed)
        raw = _undone(coded)
    if len(raw) != needed:
        raise ValueError(f"{len(raw)} bytes of a block of {needed}")
    return raw


def _runs(packed: bytes, needed: int) -> bytes:
    """Run lengths: n < 0 copies -n bytes, n >= 0 repeats one n + 1 times."""
    out, at = bytearray(), 0
    while at < len(packed) and len(out) <= needed:
        count = packed[at] - 256 if packed[at] > 127 else packed[at]
        if count < 0:
            out += packed[at + 1 : at + 1 - count]
            at += 1 - count
        else:
            out += packed[at + 1 : at + 2] * (count + 1)
            at += 2
    return bytes(out)


def _undone(coded: bytes) -> bytes:
    """Differences summed up, then the two halves of the bytes interleaved."""
    steps = np.frombuffer(coded, np.uint8).astype(np.int64)
    steps[1:] -= 128
    values = np.cumsum(steps).astype(np.uint8)
    half = (len(values) + 1) // 2
    out = np.empty(len(values), np.uint8)
    out[0::2], out[1::2] = values[:half], values[half:]
    return out.tobytes()
