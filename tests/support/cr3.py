"""Canon CR3 files with the structure of a Dual Pixel RAW of an EOS R (boxes after lclevy/canon_cr3).

Tracks: 1 JPEG, 2 small CRX, 3 full CRX, 4 timed metadata, and in dual-pixel files 5, the CRX of one photodiode,
announced by a fourth CCDT entry in CCTP.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt
from tests.support import crx, crx_wavelet
from tests.support.cr2 import Shot, camera_tags, exif_tags, preview_jpeg, sensor_info

from dualpix.capture.raw.containers.tiff import ASCII, SHORT, UNDEFINED, Tag, ifd_bytes
from dualpix.capture.raw.develop.geometry import Crop

Frame = npt.NDArray[np.uint16]
MODEL, MODEL_ID = "Canon EOS R", 0x80000424
_UUID_CANON = bytes.fromhex("85c0b687820f11e08111f4ce462b6a48")
_BITS = 14


def write_cr3(
    path: Path,
    composite: Frame,
    half: Frame | None,
    crop: Crop,
    shot: Shot | None = None,
    *,
    tiles: int = 2,
    quantiser: int | None = None,
) -> None:
    """Write a CR3; without ``half`` an ordinary one.

    ``tiles`` is the number of tile columns. ``quantiser`` makes it a C-RAW, see :mod:`tests.support.crx_wavelet`.
    """
    shot = shot or Shot()
    small = (np.arange(64, dtype=np.uint16) * 7 + 5000)[None].repeat(48, 0)
    jpeg = preview_jpeg()
    samples, entries = {}, {}
    samples[1], entries[1] = jpeg, _craw(64, 48, _box(b"JPEG", bytes(4)), raw=False)
    samples[2], entries[2] = _raw_entry(small, crop, 1, None)
    samples[3], entries[3] = _raw_entry(composite, crop, tiles, quantiser)
    samples[4], entries[4] = _timed_metadata(shot), _box(b"CTMD", struct.pack(">6xH", 1), bytes(60))
    if half is not None:
        samples[5], entries[5] = _raw_entry(half, crop, tiles, quantiser)

    def movie(starts: dict[int, int]) -> bytes:
        tracks = [_trak(i, entries[i], len(samples[i]), starts[i]) for i in samples]
        header = struct.pack(">6I", 0, 0, 1, 1, 0x10000, 0x1000000) + bytes(68) + struct.pack(">I", len(tracks) + 1)
        notes = _canon_uuid(composite.shape, crop, shot, half is not None, quantiser is not None)
        return _box(b"moov", notes, _full(b"mvhd", header), *tracks)

    start = _box(b"ftyp", b"crx \0\0\0\1crx isom")
    at = len(start) + len(movie(dict.fromkeys(samples, 0))) + 16
    starts, body = {}, b""
    for index, data in samples.items():
        starts[index] = at + len(body)
        body += data + bytes(-len(data) % 8)
    path.write_bytes(start + movie(starts) + struct.pack(">I4sQ", 1, b"mdat", len(body) + 16) + body)


def _box(kind: bytes, *parts: bytes) -> bytes:
    body = b"".join(parts)
    return struct.pack(">I4s", len(body) + 8, kind) + body


def _full(kind: bytes, *parts: bytes) -> bytes:
    return _box(kind, bytes(4), *parts)


def _tiff(tags: Sequence[Tag]) -> bytes:
    data = struct.pack("<2sHI", b"II", 42, 8) + ifd_bytes(tags, 8)
    return data + bytes(-len(data) % 4)


def _canon_uuid(shape: tuple[int, ...], crop: Crop, shot: Shot, dual: bool, lossy: bool) -> bytes:
    kinds = [(0x10, 0, 1), (1, 0, 2), (0, 0, 3), *([(4, 1, 5)] if dual else [])]
    entries = [_box(b"CCDT", struct.pack(">QII", *kind)) for kind in kinds]
    picture = [
        Tag(0x0100, SHORT, [crop.width]),
        Tag(0x0101, SHORT, [crop.height]),
        Tag(0x0103, SHORT, [6]),
        Tag(0x010F, ASCII, b"Canon"),
        Tag(0x0110, ASCII, (shot.model or MODEL).encode()),
        Tag(0x0112, SHORT, [shot.orientation]),
    ]
    note = [
        *camera_tags(shot, shot.model or MODEL, shot.model_id or MODEL_ID, dual, quality=7 if lossy else 4, new=True),
        sensor_info(shape, crop),
    ]
    return _box(
        b"uuid",
        _UUID_CANON,
        _box(b"CNCV", b"CanonCR3_001/00.09.00/00.00.00"),
        _box(b"CCTP", struct.pack(">III", 0, 1, len(kinds)), *entries),
        _box(b"CTBO", bytes(84)),
        _box(b"CMT1", _tiff(picture)),
        _box(b"CMT2", _tiff(exif_tags(shot))),
        _box(b"CMT3", _tiff(note)),
        _box(b"CMT4", _tiff([Tag(0, UNDEFINED, b"\2\3\0\0")])),
    )


def _timed_metadata(shot: Shot) -> bytes:
    """Record 8 carries ColorData9 with black and white levels."""
    colour = np.zeros(1824, np.uint16)
    colour[0], at = 17, 0x47
    colour[at : at + 4] = (2000, 1024, 1024, 1600)
    colour[at + 0x102 : at + 0x106] = shot.black
    colour[at + 0x2D1 : at + 0x2D5] = shot.black
    colour[at + 0x2D5 : at + 0x2D7] = (shot.white - 1000, shot.white)
    note = _tiff([Tag(0x4001, SHORT, colour.tolist())])
    inner = struct.pack("<II", len(note) + 8, 0x927C) + note
    first = struct.pack("<IHBBHH", 24, 1, 0, 1, 0xFFFF, 0xFFFF) + bytes(12)
    return first + struct.pack("<IHBBHH", 12 + len(inner), 8, 0, 1, 0xFFFF, 0xFFFF) + inner


def _raw_entry(frame: Frame, crop: Crop, tiles: int, quantiser: int | None) -> tuple[bytes, bytes]:
    """A CRX sample and its sample description."""
    height, width = frame.shape
    if quantiser is None:
        levels, (sample, header_size, tile_width) = 0, crx.encode_track(frame, _BITS, tiles)
    else:
        levels, (sample, header_size, tile_width) = 3, crx_wavelet.encode_track(frame, _BITS, tiles, quantiser)
    coding = bytes([_BITS, 4 << 4, levels, 0x80 if tiles > 1 else 0])
    cmp1 = struct.pack(">hHHHIIII", -1, 0x30, 0x100, 0, width, height, tile_width, height) + coding
    cmp1 += struct.pack(">I", header_size) + bytes(4) + b"\1\1\0\0" * 4
    right, bottom = crop.left + crop.width - 1, crop.top + crop.height - 1
    area = [0, 0, width, height, 1, 2, 1, 0, crop.left, crop.top, right, bottom] + [0] * 12
    iad1 = _box(b"IAD1", struct.pack(f">{len(area)}H", *area))
    return sample, _craw(width, height, _box(b"CMP1", cmp1) + _full(b"CDI1", iad1), raw=True)


def _craw(width: int, height: int, inner: bytes, *, raw: bool) -> bytes:
    kind = (1, 1) if raw else (3, 0)
    return _box(
        b"CRAW", struct.pack(">6xH16xHHHHHHIH32xHhHH", 1, width, height, 72, 0, 72, 0, 0, 1, 24, -1, *kind), inner
    )


def _trak(index: int, entry: bytes, size: int, start: int) -> bytes:
    handler = b"meta" if index == 4 else b"vide"
    table = _box(
        b"stbl",
        _full(b"stsd", struct.pack(">I", 1), entry),
        _full(b"stts", struct.pack(">III", 1, 1, 1)),
        _full(b"stsc", struct.pack(">IIII", 1, 1, 1, 1)),
        _full(b"stsz", struct.pack(">II", size, 1)),
        _full(b"co64", struct.pack(">IQ", 1, start)),
    )
    media = _box(
        b"mdia",
        _full(b"mdhd", struct.pack(">5I", 0, 0, 1, 1, 0x15C70000)),
        _full(b"hdlr", struct.pack(">I4s12x", 0, handler) + b"\0"),
        _box(b"minf", _box(b"vmhd", struct.pack(">IHHHH", 1, 0, 0, 0, 0)), table),
    )
    return _box(b"trak", _box(b"tkhd", struct.pack(">IIII", 7, 0, 0, index) + bytes(68)), media)
