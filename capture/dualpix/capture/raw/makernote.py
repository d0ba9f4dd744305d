"""Canon's maker notes: the few values EXIF has no tag for.

Tags, indices and units after ExifTool's Canon.pm (names are its own). Arrays count from 0 here, as stored.

- CameraSettings 0x0001, int16: [3] Quality, 4 RAW, 7 CRAW.
- ShotInfo 0x0004, uint16: [19], [20] FocusDistanceUpper / Lower in cm, 0 not given, above 65534 infinity.
- FileInfo 0x0093, uint16: [20], [21] the same. Cameras with CR3 files fill these and leave ShotInfo's at 0.
- LensModel 0x0095, text.
- LightingOpt 0x4018, int32: [11] DualPixelRaw, 0 off, 1 on.

In a CR2 the directory is tag 0x927C of EXIF and its offsets count from the start of the file; in a CR3 it is the box
CMT3, a TIFF of its own. The bounds of the focus distance are coarse (2.65 to 2.94 m is a usual pair), not written for
every lens, and as far as known counted from the sensor.
"""

from __future__ import annotations

import math
import struct
from dataclasses import dataclass

from dualpix.capture.errors import DecodeError
from dualpix.capture.raw.tiff import Ifd, TiffReader

_MAKER_NOTE = 0x927C
_FILE_INFO, _SHOT_INFO = (0x0093, 20, 21), (0x0004, 19, 20)
_QUALITY = {4: "RAW", 7: "C-RAW"}
_CM_PER_M = 100
_INFINITE_CM = 65535


@dataclass(frozen=True)
class CanonNote:
    """What is taken from the notes; None where they do not say."""

    focus_distance_upper_m: float | None = None
    """Far bound, up to infinity."""
    focus_distance_lower_m: float | None = None
    """Near bound."""
    dual_pixel_raw: bool | None = None
    """The camera's setting when the picture was taken."""
    quality: str | None = None
    """ "RAW" or "C-RAW"."""
    lens_model: str | None = None


def read_canon_note(note: Ifd) -> CanonNote:
    """The values of Canon's directory; anything out of range is left out."""
    bounds = _focus_bounds_m(note, *_FILE_INFO) or _focus_bounds_m(note, *_SHOT_INFO) or (None, None)
    flag = _element(note, 0x4018, 11)
    quality = _element(note, 0x0001, 3)
    return CanonNote(
        focus_distance_upper_m=bounds[1],
        focus_distance_lower_m=bounds[0],
        dual_pixel_raw=bool(flag) if flag in (0, 1) else None,
        quality=None if quality is None else _QUALITY.get(quality),
        lens_model=note.text(0x0095),
    )


def cr2_maker_note(reader: TiffReader, exif_offset: int) -> Ifd | None:
    """Canon's directory of a CR2, or None where there is none or it is damaged: a picture does without.

    Args:
        reader: of the whole file, which the offsets within the notes count from.
        exif_offset: where the EXIF directory lies.
    """
    try:
        at = _value_offset(reader, exif_offset, _MAKER_NOTE)
        return reader.ifd(at) if at else None
    except DecodeError:
        return None


def cr3_maker_note(blob: bytes | None) -> Ifd | None:
    """Canon's directory of a CR3 from its CMT3 box, or None where there is none or it is damaged."""
    try:
        reader = TiffReader(blob or b"")
        return reader.ifd(reader.first_offset)
    except DecodeError:
        return None


def _focus_bounds_m(note: Ifd, tag: int, upper: int, lower: int) -> tuple[float, float] | None:
    """(near, far) in m; both must be given. The EOS 400D stores them in the other order."""
    bounds = [_element(note, tag, index) for index in (upper, lower)]
    distances_m = [math.inf if cm >= _INFINITE_CM else cm / _CM_PER_M for cm in bounds if cm is not None and cm > 0]
    return (min(distances_m), max(distances_m)) if len(distances_m) == 2 else None


def _element(note: Ifd, tag: int, index: int) -> int | None:
    values = note.numbers(tag)
    return int(values[index]) if len(values) > index and isinstance(values[index], int) else None


def _value_offset(reader: TiffReader, ifd_offset: int, tag: int) -> int | None:
    """Where the value of ``tag`` lies: notes are addressed by it, not by their bytes alone."""
    reader.ifd(ifd_offset)  # checks that the directory lies within the file
    count = struct.unpack_from(reader.order + "H", reader.data, ifd_offset)[0]
    for index in range(count):
        entry = ifd_offset + 2 + 12 * index
        number, _, size = struct.unpack_from(reader.order + "HHI", reader.data, entry)
        if number == tag and size > 4:
            return int(struct.unpack_from(reader.order + "I", reader.data, entry + 8)[0])
    return None
