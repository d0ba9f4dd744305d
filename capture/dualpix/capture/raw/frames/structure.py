"""The pictures within a raw file, from its directories (CR2, DNG) or boxes (CR3): nothing is unpacked.

Frames are numbered as LibRaw numbers them. In a Dual Pixel RAW 0 is the composite of both photodiodes and 1 is one of
them: two image directories behind each other (CR2), two tracks of full size (CR3), two samples per pixel (DNG).
"""

from __future__ import annotations

import mmap
import struct
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

from dualpix.capture.errors import DecodeError
from dualpix.capture.raw.containers.boxes import RawTrack, is_cr3, read_cr3
from dualpix.capture.raw.containers.images import MAX_PIXELS
from dualpix.capture.raw.containers.makernote import cr2_maker_note, cr3_maker_note, dng_maker_note
from dualpix.capture.raw.containers.tiff import Buffer, Ifd, TiffReader, is_tiff
from dualpix.capture.raw.containers.tiff_samples import is_floating
from dualpix.capture.raw.frames.dng_levels import black_source, dng_levels, picture_area

COMPOSITE, HALF, SINGLE, SHOT, PREVIEW, LINEAR = (
    "both photodiodes",
    "one photodiode",
    "single raw frame",
    "separate shot",
    "preview",
    "demosaiced",
)

DNG_VERSION = 0xC612
_CFA, _LINEAR_RAW, _EXIF = 32803, 34892, 0x8769
COMPRESSIONS = {1: "none", 6: "JPEG", 7: "lossless JPEG", 8: "deflate", 34892: "lossy JPEG", 52546: "JPEG XL"}
_MAX_SUB_IFDS = 16
_MAX_JPEG_MARKERS = 64
_EMPTY = Ifd({}, 0)


@dataclass(frozen=True)
class FrameInfo:
    """One picture within a file, or one file of a pair."""

    role: str
    """:data:`COMPOSITE`, :data:`HALF`, :data:`SINGLE`, :data:`SHOT`, :data:`PREVIEW`, :data:`LINEAR`, "left view" or
    "right view"."""
    width: int | None = None
    height: int | None = None
    bits: int | None = None
    """Per sample, as coded."""
    compression: str | None = None
    size_bytes: int | None = None
    index: int | None = None
    """LibRaw's number of a raw frame; None for a preview."""
    file: str | None = None
    """The file it lies in, where that is another one: 1 of the frames split into two DNG files lies at 0 there."""
    black: tuple[float, ...] | None = None
    """Raw value of no light in cell order R, G, G, B, or one value."""
    black_source: str | None = None
    white: float | None = None
    clip: tuple[float, ...] | None = None
    """Raw value from which samples clip, measured, in the order of ``black``."""


@dataclass(frozen=True)
class Structure:
    """What a raw file consists of."""

    kind: str
    """ "CR2", "CR3", "CR3 C-RAW" or "DNG"."""
    frames: tuple[FrameInfo, ...]
    dual: bool
    why: str
    """What ``dual`` rests on."""
    picture: Ifd
    exif: Ifd
    note: Ifd | None = None
    """Canon's maker notes."""
    raw: Ifd | None = None
    """The directory of a DNG's raw picture."""
    broken: str | None = None
    """What is cut, by the file's own lists."""

    @property
    def lossy(self) -> bool:
        """C-RAW: both frames are quantised."""
        return self.kind == "CR3 C-RAW"

    @property
    def raw_frames(self) -> tuple[FrameInfo, ...]:
        """Those with an index."""
        return tuple(frame for frame in self.frames if frame.index is not None)


@contextmanager
def mapped(path: Path) -> Iterator[memoryview]:
    """The bytes of a file without reading them all."""
    with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as mapping:
        view = memoryview(mapping)
        try:
            yield view
        finally:
            view.release()


def structure_of(path: Path, head: bytes) -> Structure:
    """The structure of a file, which may be cut.

    Raises:
        DecodeError: it cannot be followed, or has no raw frame.
    """
    with mapped(path) as data:
        found = read_structure(head, data)
    if not found.raw_frames:
        raise DecodeError(f"'{path.name}': {found.why}", expected="a Dual Pixel RAW")
    return found


def check_whole(path: Path, structure: Structure) -> None:
    """Raise DecodeError where raw frames lie beyond the end of the file or have an impossible size."""
    if structure.broken:
        raise DecodeError(
            f"'{path.name}' is cut or damaged: {structure.broken.removeprefix('cut: ')}",
            expected="a complete raw file",
            hint="copy it again from the card",
        )


def raw_kind(head: bytes) -> str:
    """ "CR3" or "CR2" by the first bytes, else "DNG"."""
    return "CR3" if is_cr3(head) else "CR2" if head[:4] == b"II*\0" and head[8:10] == b"CR" else "DNG"


def read_structure(head: bytes, data: Buffer) -> Structure:
    """What the raw file ``data``, starting with ``head``, consists of.

    Raises:
        DecodeError: its directories or boxes cannot be followed.
    """
    if raw_kind(head) == "CR3":
        return _cr3(data)
    reader = TiffReader(data)
    picture = reader.ifd(reader.first_offset)
    if raw_kind(head) == "CR2" and DNG_VERSION not in picture.tags:
        return _cr2(reader, picture)
    return _dng(reader, picture)


def _cr3(data: Buffer) -> Structure:
    layout = read_cr3(data)
    picture, exif = (_first_ifd(layout.blobs.get(name)) for name in (b"CMT1", b"CMT2"))
    largest = max((t.width * t.height for t in layout.tracks), default=0)
    full = [t for t in layout.tracks if t.width * t.height == largest]
    lossy = any(t.wavelet_levels for t in full)
    roll = max((t.pictures for t in full), default=0)
    if roll > 1:
        dual, why, roles = False, f"a roll of {roll} separate shots", [SHOT] * len(full)
    else:
        dual, why, roles = _judge(len(full), "raw track of full size", "raw tracks of full size")
    raw = {id(track): (index, roles[index]) for index, track in enumerate(full)}
    frames = []
    for track in layout.tracks:
        index, role = raw.get(id(track), (None, PREVIEW))
        frames.append(FrameInfo(role, track.width, track.height, track.bits, _crx(track), track.size, index))
    broken = _broken([(t.offset, t.size) for t in full], len(data)) or _absurd(frames)
    note = cr3_maker_note(layout.blobs.get(b"CMT3"))
    kind = "CR3 C-RAW" if lossy else "CR3"
    return Structure(kind, tuple(frames), dual, why, picture, exif, note, broken=broken)


def _crx(track: RawTrack) -> str:
    return f"C-RAW, {track.wavelet_levels} wavelet levels" if track.wavelet_levels else "lossless CRX"


def _cr2(reader: TiffReader, picture: Ifd) -> Structure:
    """A chain of directories: preview, thumbnail, small RGB, raw ones; the header points to the first of the last."""
    raw_at = int.from_bytes(reader.data[12:16], "little")
    raws = [ifd for ifd in reader.chain(raw_at) if ifd.numbers(0x0111)] if raw_at else []
    dual, why, roles = _judge(len(raws), "raw image directory", "raw image directories")
    frames = [FrameInfo(PREVIEW, *_size(picture), 8, "JPEG", sum(picture.integers(0x0117)))]
    extents = []
    for index, (ifd, role) in enumerate(zip(raws, roles, strict=True)):
        strips = strip_extents(ifd)
        extents += strips
        bits = _lossless_jpeg_bits(reader.data, strips[0][0]) if strips else None
        frames.append(FrameInfo(role, None, None, bits, "lossless JPEG", sum(size for _, size in strips), index))
    exif_at = picture.integer(_EXIF)
    note = cr2_maker_note(reader, exif_at) if exif_at else None
    exif = reader.ifd(exif_at) if exif_at else _EMPTY
    broken = _broken(extents, len(reader.data))
    return Structure("CR2", tuple(frames), dual, why, picture, exif, note, broken=broken)


def _dng(reader: TiffReader, picture: Ifd) -> Structure:
    pictures = _pictures(reader)
    main = _main(pictures)
    samples = main.integer(0x0115, 1) if main else 0
    dual, why = samples == 2, f"SamplesPerPixel {samples}"
    if main is None:
        linear = any(ifd.integer(0x0106) == _LINEAR_RAW for ifd in pictures)
        why = "no mosaic: already demosaiced" if linear else "no raw image in it"
    frames: list[FrameInfo] = []
    wrong = None
    for ifd in pictures:
        info = _tiff_frame(ifd)
        roles = [(COMPOSITE, 0), (HALF, 1)] if dual else [(SINGLE, 0)]
        if ifd is main:
            own = [replace(info, role=role, index=index) for role, index in roles]
            try:
                own = [_with_dng_levels(frame, ifd) for frame in own]
            except DecodeError as error:
                wrong = f"{error.found}, not {error.expected}"
            frames += own
        elif info.width:
            frames.append(info)
    broken = _absurd(frames)
    if main is not None:
        broken = broken or _broken(strip_extents(main), len(reader.data)) or _short(main, samples) or wrong
    exif_at = picture.integer(_EXIF)
    exif = reader.ifd(exif_at) if exif_at else picture
    note = dng_maker_note(reader, picture, exif_at)
    return Structure("DNG", tuple(frames), dual, why, picture, exif, note, main, broken)


def _pictures(reader: TiffReader) -> list[Ifd]:
    """The directories of a DNG: of its chain, and those below them."""
    chain = list(reader.chain())
    return [*chain, *(reader.ifd(at) for ifd in chain for at in ifd.integers(0x014A)[:_MAX_SUB_IFDS])]


def _main(pictures: Sequence[Ifd]) -> Ifd | None:
    """The largest mosaic."""
    mosaics = [ifd for ifd in pictures if ifd.integer(0x0106) == _CFA]
    return max(mosaics, key=lambda ifd: ifd.integer(0x0100) * ifd.integer(0x0101), default=None)


def dng_directory(data: Buffer) -> tuple[TiffReader, Ifd] | None:
    """The raw directory of a DNG, and the reader of its file; None for any other file.

    Raises:
        DecodeError: a DNG whose directories cannot be followed.
    """
    if raw_kind(bytes(data[:16])) == "CR3" or not is_tiff(bytes(data[:4])):
        return None
    reader = TiffReader(data)
    if DNG_VERSION not in reader.ifd(reader.first_offset).tags:
        return None
    main = _main(_pictures(reader))
    return None if main is None else (reader, main)


def _tiff_frame(ifd: Ifd) -> FrameInfo:
    width, height = _size(ifd)
    role = LINEAR if ifd.integer(0x0106) == _LINEAR_RAW else PREVIEW
    coded_bytes = sum(size for _, size in strip_extents(ifd))
    return FrameInfo(role, width, height, ifd.integer(0x0102, 1), compression_name(ifd), coded_bytes)


def compression_name(ifd: Ifd) -> str:
    """How the samples of a TIFF directory are coded."""
    code = ifd.integer(0x0103, 1)
    name = COMPRESSIONS.get(code, f"TIFF compression {code}")
    return f"{name}, floating point" if is_floating(ifd) else name


def _with_dng_levels(info: FrameInfo, ifd: Ifd) -> FrameInfo:
    """Black and white of one sample. Raises DecodeError where the tags contradict each other."""
    levels = dng_levels(ifd, info.index or 0)
    part = picture_area(ifd)
    black = tuple(round(level, 3) for level in levels.cell(part))
    return replace(info, black=black, black_source=black_source(levels, part), white=levels.white)


def _judge(count: int, one: str, many: str) -> tuple[bool, str, list[str]]:
    """Whether so many full-size frames are a dual-pixel capture, why, and the role of each."""
    if count == 2:
        return True, f"two {many}", [COMPOSITE, HALF]
    if count > 2:
        return False, f"{count} {many}: separate shots", [SHOT] * count
    return False, f"one {one}" if count else f"no {one}", [SINGLE] * count


def _first_ifd(blob: bytes | None) -> Ifd:
    if not blob:
        return _EMPTY
    reader = TiffReader(blob)
    return reader.ifd(reader.first_offset)


def strip_extents(ifd: Ifd) -> list[tuple[int, int]]:
    """(offset, size) of each strip or tile."""
    offsets, sizes = ifd.integers(0x0111), ifd.integers(0x0117)
    if not offsets:
        offsets, sizes = ifd.integers(0x0144), ifd.integers(0x0145)
    return list(zip(offsets, sizes, strict=False))


def _size(ifd: Ifd) -> tuple[int | None, int | None]:
    return ifd.integer(0x0100) or None, ifd.integer(0x0101) or None


def _broken(extents: Sequence[tuple[int, int]], file_size: int) -> str | None:
    if not extents:
        return "no pixel data are listed"
    end = max(offset + size for offset, size in extents)
    if end > file_size:
        return f"cut: its pixel data end at byte {end}, the file has {file_size} bytes"
    return "empty pixel data are listed" if min(size for _, size in extents) <= 0 else None


def _short(ifd: Ifd, samples: int) -> str | None:
    """Uncompressed pixels that are too few for the size."""
    width, height = _size(ifd)
    listed = sum(size for _, size in strip_extents(ifd))
    needed = (width or 0) * (height or 0) * samples * ifd.integer(0x0102, 1) // 8
    if ifd.integer(0x0103, 1) != 1 or listed >= needed:
        return None
    return f"cut: {listed} bytes of pixels are listed, {needed} are needed"


def _absurd(frames: Sequence[FrameInfo]) -> str | None:
    raw = [frame for frame in frames if frame.index is not None]
    for width, height in ((f.width or 0, f.height or 0) for f in raw):
        if width < 4 or height < 4 or width * height > MAX_PIXELS:
            return f"it claims a picture of {width}x{height} pixels"
    return None


def _lossless_jpeg_bits(data: Buffer, start: int) -> int | None:
    """Sample precision of the lossless JPEG (SOF3) at ``start``; its marker segments are few and come first."""
    at = start + 2
    for _ in range(_MAX_JPEG_MARKERS):
        if at + 5 > len(data) or data[at] != 0xFF:
            return None
        marker, length = struct.unpack_from(">HH", data, at)
        if marker == 0xFFC3:
            return int(data[at + 4])
        at += 2 + length
    return None


def readable_ifd(data: Buffer) -> Ifd | None:
    """The first directory of a TIFF, or None where it cannot be read."""
    try:
        reader = TiffReader(data)
        return reader.ifd(reader.first_offset)
    except DecodeError:
        return None
