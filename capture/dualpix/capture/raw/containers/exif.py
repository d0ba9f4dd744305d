"""EXIF and Canon's maker notes to :class:`CaptureMeta`.

Only values that are finite, positive and physically possible are taken over, and text without control characters: it
will be printed on somebody's terminal. Names and serial numbers of people, bodies and lenses are never read.
"""

from __future__ import annotations

import math
import re
from datetime import datetime
from fractions import Fraction

from dualpix.capture.optics import LENS_RANGES
from dualpix.capture.raw.containers.makernote import CanonNote, read_canon_note
from dualpix.capture.raw.containers.tiff import Ifd
from dualpix.capture.types import CaptureMeta

_UM_PER_UNIT = {2: 25400.0, 3: 10000.0, 4: 1000.0, 5: 1.0}  # inch, cm; TIFF/EP adds mm and um
_FRACTION = re.compile(r"\d{1,6}", re.ASCII)
_OFFSET = re.compile(r"[+-](0\d|1[0-4]):[0-5]\d", re.ASCII)
_INFINITY = Fraction(0xFFFFFFFF, 1)
_MAX_TEXT = 128
_F_NUMBERS, _FOCAL_LENGTHS_MM = (
    (LENS_RANGES[name].low, LENS_RANGES[name].high) for name in ("f_number", "focal_length_mm")
)
_SUBJECT_DISTANCE, _FOCUS_RANGE_M = 0x9206, (1e-3, 1e5)


def capture_meta(
    picture: Ifd, exif: Ifd, *, makernote: Ifd | None = None, binning: int = 1, provenance: dict[str, str]
) -> CaptureMeta:
    """What the file states about the shot.

    Args:
        picture: the directory with Make, Model and Orientation.
        exif: the EXIF directory.
        makernote: Canon's own directory, where there is one.
        binning: sensor pixels per pixel of the decoded view along the baseline; 1 gives the pitch of the sensor.
        provenance: goes into the result; gains ``"focus_distance"`` where one is known.
    """
    note = read_canon_note(makernote) if makernote is not None else CanonNote()
    focus_distance_m, origin = _focus_distance_m(exif, note)
    pitch_um = sensor_pitch_um(exif)
    orientation = picture.integer(0x0112, 1)
    return CaptureMeta(
        camera=_camera(picture),
        lens_model=clean_text(exif.text(0xA434)) or clean_text(note.lens_model),
        date_time=_date_time(picture, exif),
        iso=_iso(exif),
        exposure_s=_number(exif, 0x829A, 1e-7, 1e5),
        f_number=_number(exif, 0x829D, *_F_NUMBERS),
        focal_length_mm=_number(exif, 0x920A, *_FOCAL_LENGTHS_MM),
        focus_distance_m=focus_distance_m,
        focus_distance_upper_m=note.focus_distance_upper_m,
        focus_distance_lower_m=note.focus_distance_lower_m,
        pixel_pitch_um=None if pitch_um is None else pitch_um * binning,
        orientation=orientation if 1 <= orientation <= 8 else 1,
        provenance={**provenance, **({"focus_distance": origin} if origin else {})},
    )


def sensor_pitch_um(exif: Ifd) -> float | None:
    """Sensor pixel pitch from FocalPlaneXResolution and its unit, or None."""
    resolution = _number(exif, 0xA20E, 1e-6, 1e9)
    unit_um = _UM_PER_UNIT.get(exif.integer(0xA210, 2))
    if resolution is None or unit_um is None:
        return None
    pitch_um = unit_um / resolution
    return pitch_um if 0.3 <= pitch_um <= 50 else None


def clean_text(text: str | None) -> str | None:
    """One printable line of at most 128 characters, or None where nothing is left."""
    line = " ".join("".join(c if c.isprintable() else " " for c in text or "").split())
    return line[:_MAX_TEXT].rstrip() or None


def _focus_distance_m(exif: Ifd, note: CanonNote) -> tuple[float | None, str | None]:
    """Where the lens was focused, and how that is known.

    SubjectDistance is the standard's own tag. Canon's cameras leave it out and record two bounds instead; the depth of
    field is even in diopters, so their middle is taken there.
    """
    stated = exif.numbers(_SUBJECT_DISTANCE)
    if stated and stated[0] == _INFINITY:
        return math.inf, "SubjectDistance: infinity"
    distance_m = _number(exif, _SUBJECT_DISTANCE, *_FOCUS_RANGE_M)
    if distance_m is not None:
        return distance_m, "SubjectDistance"
    upper_m, lower_m = note.focus_distance_upper_m, note.focus_distance_lower_m
    if upper_m is None or lower_m is None:
        return None, None
    middle_diopters = (1 / upper_m + 1 / lower_m) / 2
    bounds = f"middle in diopters of Canon's {lower_m:g}..{upper_m:g} m"
    return 1 / middle_diopters if middle_diopters else math.inf, (
        f"{bounds}; coarse, and as far as known counted from the sensor, not from the lens"
    )


def _camera(picture: Ifd) -> str | None:
    make, model = clean_text(picture.text(0x010F)), clean_text(picture.text(0x0110))
    if make and model and not model.lower().startswith(make.lower()):
        return f"{make} {model}"
    return model or make


def _date_time(picture: Ifd, exif: Ifd) -> str | None:
    """DateTimeOriginal, else DateTimeDigitized, else DateTime, as ISO 8601.

    With the fraction of a second, in as many digits as are stated, and the offset from UTC, where the camera states
    them of this time or of another that is the same.
    """
    stated = [
        (exif.text(0x9003), 0x9291, 0x9011),
        (exif.text(0x9004), 0x9292, 0x9012),
        (picture.text(0x0132), 0x9290, 0x9010),
    ]
    for text, _, _ in stated:
        try:
            taken = datetime.strptime(text or "", "%Y:%m:%d %H:%M:%S")
        except ValueError:
            continue
        same = [(fraction, offset) for other, fraction, offset in stated if other == text]
        part = next((f".{f}" for tag, _ in same if _FRACTION.fullmatch(f := exif.text(tag) or "")), "")
        zone = next((z for _, tag in same if _OFFSET.fullmatch(z := exif.text(tag) or "")), "")
        return f"{taken.isoformat()}{part}{zone}"
    return None


def _iso(exif: Ifd) -> float | None:
    iso = _number(exif, 0x8827, 1, 1e7)
    return _number(exif, 0x8833, 1, 1e7) if iso == 65535 else iso


def _number(ifd: Ifd, tag: int, low: float, high: float) -> float | None:
    values = ifd.numbers(tag)
    value = float(values[0]) if values else math.nan
    return value if low <= value <= high else None
