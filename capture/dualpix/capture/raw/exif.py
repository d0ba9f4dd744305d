"""EXIF to :class:`CaptureMeta`: only values that are finite, positive and physically possible are taken over."""

from __future__ import annotations

import math
from fractions import Fraction

from dualpix.capture.raw.tiff import Ifd
from dualpix.capture.types import CaptureMeta

_UM_PER_UNIT = {2: 25400.0, 3: 10000.0, 4: 1000.0, 5: 1.0}  # inch, cm; TIFF/EP adds mm and um
_INFINITY = Fraction(0xFFFFFFFF, 1)


def capture_meta(picture: Ifd, exif: Ifd, *, binning: int, provenance: dict[str, str]) -> CaptureMeta:
    """What the file states about the shot.

    Args:
        picture: the directory with Make, Model and Orientation.
        exif: the EXIF directory.
        binning: sensor pixels per pixel of the decoded view along the baseline.
        provenance: goes into the result; gains ``"focus_distance"`` when the lens stood at infinity.
    """
    provenance = dict(provenance)
    distances = exif.numbers(0x9206)
    if distances and distances[0] == _INFINITY:
        provenance["focus_distance"] = "infinity"
    pitch_um = sensor_pitch_um(exif)
    orientation = picture.integer(0x0112, 1)
    return CaptureMeta(
        camera=_camera(picture),
        iso=_iso(exif),
        exposure_s=_number(exif, 0x829A, 1e-7, 1e5),
        f_number=_number(exif, 0x829D, 0.3, 200),
        focal_length_mm=_number(exif, 0x920A, 0.5, 5000),
        focus_distance_m=_number(exif, 0x9206, 1e-3, 1e5),
        pixel_pitch_um=None if pitch_um is None else pitch_um * binning,
        orientation=orientation if 1 <= orientation <= 8 else 1,
        provenance=provenance,
    )


def sensor_pitch_um(exif: Ifd) -> float | None:
    """Sensor pixel pitch from FocalPlaneXResolution and its unit, or None."""
    resolution = _number(exif, 0xA20E, 1e-6, 1e9)
    unit_um = _UM_PER_UNIT.get(exif.integer(0xA210, 2))
    if resolution is None or unit_um is None:
        return None
    pitch_um = unit_um / resolution
    return pitch_um if 0.3 <= pitch_um <= 50 else None


def _camera(picture: Ifd) -> str | None:
    make, model = picture.text(0x010F), picture.text(0x0110)
    if make and model and not model.lower().startswith(make.lower()):
        return f"{make} {model}"
    return model or make


def _iso(exif: Ifd) -> float | None:
    iso = _number(exif, 0x8827, 1, 1e7)
    return _number(exif, 0x8833, 1, 1e7) if iso == 65535 else iso


def _number(ifd: Ifd, tag: int, low: float, high: float) -> float | None:
    values = ifd.numbers(tag)
    value = float(values[0]) if values else math.nan
    return value if low <= value <= high else None
