"""Canon CR2 files with the structure of a Dual Pixel RAW of an EOS 5D Mark IV.

IFD0 preview JPEG and EXIF with MakerNote, IFD1 thumbnail, IFD2 small RGB, IFD3 raw, IFD4 raw of one photodiode. The
main header names IFD3; IFD4 hangs behind it and exists in dual-pixel files only.
"""

from __future__ import annotations

import math
import struct
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

import cv2
import numpy as np
import numpy.typing as npt
from tests.support import ljpeg

from dualpix.capture.raw.containers.tiff import ASCII, LONG, RATIONAL, SHORT, SLONG, UNDEFINED, Tag, ifd_bytes
from dualpix.capture.raw.develop.geometry import Crop

Frame = npt.NDArray[np.uint16]
Slices = tuple[int, int, int]
MODEL, MODEL_ID = "Canon EOS 5D Mark IV", 0x80000349
_INFINITY_CM = 65535


@dataclass(frozen=True)
class Shot:
    """Metadata of a fixture: what the file says, true or not."""

    orientation: int = 1
    iso: int = 100
    black: int | tuple[int, ...] = 512
    """One level, or four in cell order R, G, G, B."""
    white: int = 15000
    pitch_um: float = 5.36
    model: str | None = None
    """The container's usual camera if None."""
    model_id: int | None = None
    lens: str | None = None
    focus_m: tuple[float, float] | None = None
    """Upper and lower limit of the focus distance as Canon's notes have it, in whole cm; infinity is possible."""
    dual: bool | None = None
    """The DualPixelRaw flag; None says what the file really holds."""


def write_cr2(
    path: Path,
    composite: Frame,
    half: Frame | None,
    crop: Crop,
    shot: Shot | None = None,
    *,
    slices: Slices | None = None,
    components: int = 4,
) -> None:
    """Write a CR2; without ``half`` an ordinary one.

    ``slices`` is tag 0xC640, two halves by default. Four ``components`` are two sensor rows in one row of the JPEG, as
    the 5D Mark IV writes them; two are one row. LibRaw understands four by the picture being wider than high.
    """
    shot = shot or Shot()
    height, width = composite.shape
    assert components == 2 or width > height
    frames = [composite] if half is None else [composite, half]
    slices = slices or (1, width // 2, width // 2)
    raws = [ljpeg.encode(f, components=components, slices=slices, rows=height * 2 // components) for f in frames]
    jpeg, small = preview_jpeg(), np.full((24, 32, 3), 90, np.uint8).tobytes()
    blobs = [jpeg, jpeg, small, *raws]

    def header(starts: list[int]) -> bytes:
        """All directories with the blobs at ``starts``; its length does not depend on them."""
        out = struct.pack("<2sHI2sHI", b"II", 42, 16, b"CR", 2, 0)
        exif_at = 16 + len(ifd_bytes(_ifd0(shot, starts[0], len(jpeg), 0), 16))
        # A MakerNote is a directory whose offsets count from the start of the file: lay it out once to learn where.
        note_tags = _maker_note(composite.shape, crop, shot, half is not None)
        draft = ifd_bytes(note_tags, 0)
        draft_block = ifd_bytes([*exif_tags(shot), Tag(0x927C, UNDEFINED, draft)], exif_at)
        note = ifd_bytes(note_tags, exif_at + draft_block.index(draft))
        exif_block = ifd_bytes([*exif_tags(shot), Tag(0x927C, UNDEFINED, note)], exif_at)
        raw_ifds = [_raw_ifd(start, len(raw), slices) for start, raw in zip(starts[3:], raws, strict=True)]
        chain = [
            [Tag(0x0201, LONG, [starts[1]]), Tag(0x0202, LONG, [len(jpeg)])],
            _rgb_ifd(starts[2], len(small)),
            *raw_ifds,
        ]
        at = exif_at + len(exif_block)
        out += ifd_bytes(_ifd0(shot, starts[0], len(jpeg), exif_at), 16, at) + exif_block
        for number, tags in enumerate(chain):
            block = ifd_bytes(tags, at)
            last = number == len(chain) - 1
            out += ifd_bytes(tags, at, 0 if last else at + len(block))
            if number == 2:
                out = out[:12] + struct.pack("<I", at) + out[16:]
            at += len(block)
        return out

    at = len(header([0] * len(blobs)))
    starts = []
    for blob in blobs:
        starts.append(at)
        at += len(blob) + len(blob) % 2
    body = b"".join(blob + bytes(len(blob) % 2) for blob in blobs)
    path.write_bytes(header(starts) + body)


def preview_jpeg() -> bytes:
    return bytes(cv2.imencode(".jpg", np.full((48, 64, 3), 90, np.uint8))[1])


def exif_tags(shot: Shot) -> list[Tag]:
    lens = [Tag(0xA434, ASCII, shot.lens.encode())] if shot.lens else []
    return [
        *lens,
        Tag(0x829A, RATIONAL, [Fraction(1, 125)]),
        Tag(0x829D, RATIONAL, [Fraction(14, 5)]),
        Tag(0x8827, SHORT, [shot.iso]),
        Tag(0x9000, UNDEFINED, b"0230"),
        Tag(0x920A, RATIONAL, [Fraction(50)]),
        Tag(0xA20E, RATIONAL, [Fraction(25400 / shot.pitch_um).limit_denominator(1000)]),
        Tag(0xA210, SHORT, [2]),
    ]


def sensor_info(shape: tuple[int, ...], crop: Crop) -> Tag:
    right, bottom = crop.left + crop.width - 1, crop.top + crop.height - 1
    values = [34, shape[1], shape[0], 1, 1, crop.left, crop.top, right, bottom] + [0] * 8
    return Tag(0x00E0, SHORT, values)


def camera_tags(shot: Shot, model: str, model_id: int, dual: bool, *, quality: int, new: bool) -> list[Tag]:
    """The tags of Canon's MakerNote that CR2 and CR3 share (numbers after ExifTool's Canon.pm).

    ``quality`` is 4 for RAW, 7 for CRAW. ``new`` cameras, those with CR3 files, have the focus distance in FileInfo and
    leave that of ShotInfo at 0.
    """
    settings, shot_info, file_info = [100] + [0] * 49, [68] + [0] * 33, [66] + [0] * 32
    settings[3] = quality
    if shot.focus_m is not None:
        limits_cm = [round(m * 100) if m < math.inf else _INFINITY_CM for m in shot.focus_m]
        array, at = (file_info, 20) if new else (shot_info, 19)
        array[at : at + 2] = limits_cm
    tags = [
        Tag(0x0001, SHORT, settings),
        Tag(0x0004, SHORT, shot_info),
        Tag(0x0093, SHORT, file_info),
        Tag(0x0006, ASCII, model.encode()),
        Tag(0x0010, LONG, [model_id]),
        Tag(0x4018, SLONG, [48] + [0] * 10 + [int(dual if shot.dual is None else shot.dual)]),  # 11: DualPixelRaw
    ]
    return [*tags, Tag(0x0095, ASCII, shot.lens.encode())] if shot.lens else tags


def _ifd0(shot: Shot, start: int, size: int, exif_at: int) -> list[Tag]:
    return [
        Tag(0x0100, SHORT, [64]),
        Tag(0x0101, SHORT, [48]),
        Tag(0x0102, SHORT, [8, 8, 8]),
        Tag(0x0103, SHORT, [6]),
        Tag(0x010F, ASCII, b"Canon"),
        Tag(0x0110, ASCII, (shot.model or MODEL).encode()),
        Tag(0x0111, LONG, [start]),
        Tag(0x0112, SHORT, [shot.orientation]),
        Tag(0x0117, LONG, [size]),
        Tag(0x8769, LONG, [exif_at]),
    ]


def _rgb_ifd(start: int, size: int) -> list[Tag]:
    numbers = {0x0100: 32, 0x0101: 24, 0x0103: 1, 0x0106: 2, 0x0115: 3, 0x0116: 24, 0x011C: 1}
    tags = [Tag(tag, SHORT, [value]) for tag, value in numbers.items()]
    return [*tags, Tag(0x0102, SHORT, [8, 8, 8]), Tag(0x0111, LONG, [start]), Tag(0x0117, LONG, [size])]


def _raw_ifd(start: int, size: int, slices: Slices) -> list[Tag]:
    return [
        Tag(0x0103, SHORT, [6]),
        Tag(0x0111, LONG, [start]),
        Tag(0x0117, LONG, [size]),
        Tag(0xC5D8, LONG, [1]),
        Tag(0xC5E0, LONG, [1]),
        Tag(0xC640, SHORT, list(slices)),
        Tag(0xC6C5, LONG, [1]),
    ]


def _maker_note(shape: tuple[int, ...], crop: Crop, shot: Shot, dual: bool) -> list[Tag]:
    colour = np.zeros(1592, np.uint16)
    colour[0] = 13  # ColorData8 of the 5D Mark IV
    colour[0x3F:0x43] = (2000, 1024, 1024, 1600)
    colour[0x30A:0x30E] = shot.black
    colour[0x30E:0x310] = (shot.white - 1000, shot.white)
    return [
        *camera_tags(shot, shot.model or MODEL, shot.model_id or MODEL_ID, dual, quality=4, new=False),
        sensor_info(shape, crop),
        Tag(0x4001, SHORT, colour.tolist()),
    ]
