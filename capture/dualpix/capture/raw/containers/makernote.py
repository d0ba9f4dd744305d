"""Canon's maker notes: the few values EXIF has no tag for.

Tags, indices and units after ExifTool's Canon.pm (names are its own). Arrays count from 0 here, as stored.

- CameraSettings 0x0001, int16: [3] Quality, 4 RAW, 7 CRAW.
- ShotInfo 0x0004, uint16: [19], [20] FocusDistanceUpper / Lower in cm, 0 not given, above 65534 infinity.
- FileInfo 0x0093, uint16: [20], [21] the same. Cameras with CR3 files fill these and leave ShotInfo's at 0.
- LensModel 0x0095, text.
- LightingOpt 0x4018, int32: [11] DualPixelRaw, 0 off, 1 on.

In a CR2 the directory is tag 0x927C of EXIF and its offsets count from the start of the file; in a CR3 it is the box
CMT3, a TIFF of its own. In a DNG it is tag 0x927C again, or lies in DNGPrivateData as Adobe's converter keeps it: the
word "Adobe" and a zero, then records of a name, a big-endian length and content, padded to even lengths; the content of
"MakN" is the byte order, the big-endian offset that the notes had in the camera's file, and the notes. A converter that
copies tag 0x927C leaves the offsets as they were too, which is seen from Canon's own footer (a TIFF header with the
offset of the notes), or from values that lie outside the notes. The byte order of the notes is the camera's.

The bounds of the focus distance are coarse (2.65 to 2.94 m is a usual pair), not written for every lens, and as far as
known counted from the sensor.
"""

from __future__ import annotations

import math
import struct
from dataclasses import dataclass

from dualpix.capture.errors import DecodeError
from dualpix.capture.raw.containers.tiff import Buffer, Ifd, Order, TiffReader, Value

_MAKER_NOTE, _PRIVATE_DATA = 0x927C, 0xC634
_ADOBE = b"Adobe\0"
_LARGEST_TYPE = 13
_ORDERS: dict[bytes, Order] = {b"II": "<", b"MM": ">"}
_BOTH: tuple[Order, Order] = ("<", ">")
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
    """Canon's directory in tag 0x927C of EXIF, or None where there is none or it is damaged: a picture does without.

    Args:
        reader: of the whole file, which the offsets within the notes count from unless the notes were copied as they
            are into another file.
        exif_offset: where the EXIF directory lies.
    """
    try:
        places = {tag: (start, size) for tag, start, size in reader.places(exif_offset)}
        at, size = places.get(_MAKER_NOTE, (0, 0))
        return _notes_at(reader.data, at, size) if size > 4 else None
    except (DecodeError, struct.error):
        return None


def dng_maker_note(reader: TiffReader, picture: Ifd, exif_offset: int) -> Ifd | None:
    """Canon's directory of a DNG that says it is a Canon's, or None.

    Args:
        reader: of the whole file.
        picture: its first directory.
        exif_offset: where the EXIF directory lies; 0 for none.
    """
    if not is_canon(picture):
        return None
    found = cr2_maker_note(reader, exif_offset) if exif_offset else None
    return found or _adobe_note(picture.tags.get(_PRIVATE_DATA))


def is_canon(picture: Ifd) -> bool:
    """Whether the maker is Canon: other makers' notes have the same tag."""
    return (picture.text(0x010F) or "").lower().startswith("canon")


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


def _adobe_note(private: Value | None) -> Ifd | None:
    """The notes in the record MakN of Adobe's DNGPrivateData."""
    data = bytes(int(v) for v in private) if isinstance(private, tuple) else private
    if not isinstance(data, bytes) or not data.startswith(_ADOBE):
        return None
    at = len(_ADOBE)
    while at + 8 <= len(data):
        name, size = struct.unpack_from(">4sI", data, at)
        if name == b"MakN":
            return _camera_note(data[at + 8 : at + 8 + size])
        at += 8 + size + size % 2
    return None


def _camera_note(record: bytes) -> Ifd | None:
    """The notes behind their byte order and the offset they had."""
    order = _ORDERS.get(record[:2])
    if order is None or len(record) < 8:
        return None
    original = struct.unpack_from(">I", record, 2)[0]
    try:
        return TiffReader.of_notes(record, order, 6 - original).ifd(6)
    except DecodeError:
        return None


def _notes_at(data: Buffer, at: int, size: int) -> Ifd | None:
    """The notes of ``size`` bytes at ``at``, whatever their byte order, and wherever their offsets count from."""
    note = bytes(data[at : at + size])
    for order in _BOTH:
        count, _, kind = struct.unpack_from(order + "HHH", note)
        if count > 0 and 2 + 12 * count <= len(note) and kind <= _LARGEST_TYPE:
            reader = TiffReader.of_notes(data, order, 0)
            reader.shift = _shift(reader, at, note)
            return reader.ifd(at)
    return None


def _shift(reader: TiffReader, at: int, note: bytes) -> int:
    """What to add to the offsets in the notes, for them to count from the start of the file they lie in."""
    places = reader.places(at)
    starts = [start for _, start, size in places if size > 4]
    if not starts:
        return 0
    footer, after_directory = note[-8:], at + 2 + 12 * len(places) + 4  # where Canon puts the first value
    shifts = [0, after_directory - min(starts)]
    if footer[:4] in (b"II*\0", b"MM\0*"):
        shifts.insert(0, at - int(struct.unpack_from(_ORDERS[footer[:2]] + "I", footer, 4)[0]))
    return next((shift for shift in shifts if all(at < start + shift < at + len(note) for start in starts)), 0)
