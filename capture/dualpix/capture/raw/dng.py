"""Dual-pixel DNG: a raw file with two samples per pixel, as Adobe's DNG Converter writes Canon Dual Pixel RAW.

Sample 0 is the composite (both photodiodes, an ordinary raw image), sample 1 is one photodiode. Both are uint16 RGGB
mosaics of the same size, each with its own black level; the other photodiode is the difference. One uncompressed strip,
so that every reader opens it. LibRaw selects a sample with ``shot_select``.

What DNG has no tag for (which half sample 1 is, the measured disparity gain) travels as a small JSON object in
ImageDescription: ``{"dualpix": {"half": "left", "disparity_gain": 0.3}}``.
"""

from __future__ import annotations

import json
import math
import struct
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from dualpix.capture.errors import DecodeError
from dualpix.capture.files import atomic_path
from dualpix.capture.raw.tiff import ASCII, BYTE, LONG, RATIONAL, SHORT, SRATIONAL, Tag, ifd_bytes
from dualpix.capture.types import CaptureMeta

Frame = npt.NDArray[np.uint16]
Side = Literal["left", "right"]

SIMULATED_MODEL = "dualpix Simulated Camera"
MAX_DISPARITY_GAIN = 10.0

# CIE XYZ (D65) -> linear sRGB, IEC 61966-2-1: the camera's colour space is sRGB unless the caller says otherwise.
_XYZ_TO_SRGB = ((3.2406, -1.5372, -0.4986), (-0.9689, 1.8758, 0.0415), (0.0557, -0.2040, 1.0570))
_CENTIMETRE = 3
_D65 = 21
_MAX_DESCRIPTION = 4096


@dataclass(frozen=True)
class Crop:
    """The part of the sensor that is the picture, in sensor pixels; everything is even, so the mosaic stays RGGB."""

    left: int
    top: int
    width: int
    height: int


@dataclass(frozen=True)
class Description:
    """What the ImageDescription of our own files states; ``None`` means nothing is said."""

    half: Side | None = None
    disparity_gain: float | None = None


def write_dual_pixel_dng(
    path: Path,
    composite: Frame,
    half: Frame,
    *,
    white: int,
    black: tuple[int, int] = (512, 512),
    model: str = SIMULATED_MODEL,
    make: str = "dualpix",
    meta: CaptureMeta | None = None,
    half_side: Side = "left",
    crop: Crop | None = None,
    as_shot_neutral: tuple[float, float, float] = (1.0, 1.0, 1.0),
) -> None:
    """Write a two-sample dual-pixel DNG; the file appears whole or not at all.

    Args:
        path: the file to write, normally ``*.dng``.
        composite: both photodiodes, uint16 (H, W), RGGB from the top left, H and W even; black level included.
        half: one photodiode, same shape and mosaic.
        white: raw value at which a sample saturates, 1..65535.
        black: raw black level of (composite, half).
        model: camera model, also written as UniqueCameraModel.
        make: camera maker.
        meta: the shot. As everywhere, ``pixel_pitch_um`` is that of the decoded half-size view: the sensor pitch
            written is half of it. ``orientation`` is stored, the mosaics are not rotated. Unknown fields are left out.
        half_side: which half aperture ``half`` is, in sensor orientation; "left" is the one whose picture moves to the
            left for things behind the focus plane.
        crop: the picture area, even offsets and sizes; the whole mosaic by default. Columns left of it are masked ones.
        as_shot_neutral: raw R, G, B of a neutral object, relative to green.

    Raises:
        ValueError: shapes, types, levels or crop do not fit together.
        OutputError: the file cannot be written.
    """
    meta = meta or CaptureMeta()
    crop = crop or Crop(0, 0, composite.shape[1], composite.shape[0])
    _check(composite, half, black, white, crop)
    description = _description(half_side, meta.disparity_gain)
    exif = _exif_tags(meta)

    def header(exif_at: int, pixels_at: int) -> bytes:
        tags = [
            *_picture_tags(composite.shape, crop, black, white),
            *_camera_tags(make, model, description, meta.orientation, as_shot_neutral),
            Tag(0x0111, LONG, [pixels_at]),
            Tag(0x8769, LONG, [exif_at]),
        ]
        return struct.pack("<2sHI", b"II", 42, 8) + ifd_bytes(tags, 8)

    exif_at = len(header(0, 0))
    exif_ifd = ifd_bytes(exif, exif_at)
    pixels_at = (exif_at + len(exif_ifd) + 15) // 16 * 16
    with atomic_path(path) as temporary, temporary.open("wb") as file:
        file.write((header(exif_at, pixels_at) + exif_ifd).ljust(pixels_at, b"\0"))
        np.stack([composite, half], axis=-1).astype("<u2", copy=False).tofile(file)


def read_description(text: str | None) -> Description:
    """What our own files say in ImageDescription; text that is not ours says nothing.

    Raises:
        DecodeError: the text claims to be ours but is malformed or out of range.
    """
    if text is None or not text.lstrip().startswith('{"dualpix"'):
        return Description()
    expected = '{"dualpix": {"half": "left" or "right", "disparity_gain": a number above 0}}'
    try:
        if len(text) > _MAX_DESCRIPTION:
            raise ValueError("too long")
        record = json.loads(text)["dualpix"]
        half, gain = record.get("half"), record.get("disparity_gain")
        if half not in (None, "left", "right"):
            raise ValueError("half")
        gain_ok = isinstance(gain, int | float) and not isinstance(gain, bool) and 0 < gain <= MAX_DISPARITY_GAIN
        if gain is not None and not gain_ok:
            raise ValueError("gain")
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise DecodeError("malformed ImageDescription in a dualpix DNG", expected=expected) from error
    return Description(half, None if gain is None else float(gain))


def _check(composite: Frame, half: Frame, black: tuple[int, int], white: int, crop: Crop) -> None:
    if composite.dtype != np.uint16 or half.dtype != np.uint16 or composite.ndim != 2:
        raise ValueError(f"frames must be 2-D uint16, not {composite.dtype} and {half.dtype}")
    if composite.shape != half.shape:
        raise ValueError(f"frames differ in shape: {composite.shape} and {half.shape}")
    height, width = composite.shape
    if any(n % 2 or n < 0 for n in (height, width, crop.left, crop.top, crop.width, crop.height)):
        raise ValueError(f"sizes and crop must be even: {width}x{height}, {crop}")
    if not (0 < crop.width <= width - crop.left and 0 < crop.height <= height - crop.top):
        raise ValueError(f"{crop} does not fit a mosaic of {width}x{height}")
    if not 0 <= max(black) < white <= 65535 or min(black) < 0:
        raise ValueError(f"levels must satisfy 0 <= black < white <= 65535, not black {black}, white {white}")


def _picture_tags(shape: tuple[int, ...], crop: Crop, black: tuple[int, int], white: int) -> list[Tag]:
    height, width = shape
    area = [crop.top, crop.left, crop.top + crop.height, crop.left + crop.width]
    return [
        Tag(0x00FE, LONG, [0]),  # NewSubfileType: the main image
        Tag(0x0100, LONG, [width]),
        Tag(0x0101, LONG, [height]),
        Tag(0x0102, SHORT, [16, 16]),  # BitsPerSample
        Tag(0x0103, SHORT, [1]),  # Compression: none
        Tag(0x0106, SHORT, [32803]),  # PhotometricInterpretation: colour filter array
        Tag(0x0115, SHORT, [2]),  # SamplesPerPixel
        Tag(0x0116, LONG, [height]),  # RowsPerStrip
        Tag(0x0117, LONG, [height * width * 4]),  # StripByteCounts
        Tag(0x011C, SHORT, [1]),  # PlanarConfiguration: interleaved
        Tag(0x828D, SHORT, [2, 2]),  # CFARepeatPatternDim
        Tag(0x828E, BYTE, [0, 1, 1, 2]),  # CFAPattern: RGGB
        Tag(0xC616, BYTE, [0, 1, 2]),  # CFAPlaneColor
        Tag(0xC617, SHORT, [1]),  # CFALayout: rectangular
        Tag(0xC619, SHORT, [2, 2]),  # BlackLevelRepeatDim
        Tag(0xC61A, SHORT, list(black) * 4),  # BlackLevel: cell by cell, samples innermost
        Tag(0xC61D, LONG, [white, white]),  # WhiteLevel of each sample
        Tag(0xC68D, LONG, area),  # ActiveArea: top, left, bottom, right
        Tag(0xC61F, LONG, [0, 0]),  # DefaultCropOrigin, within the active area
        Tag(0xC620, LONG, [crop.width, crop.height]),  # DefaultCropSize
    ]


def _camera_tags(
    make: str, model: str, description: str, orientation: int, neutral: tuple[float, float, float]
) -> list[Tag]:
    matrix = [Fraction(round(v * 10000), 10000) for row in _XYZ_TO_SRGB for v in row]
    return [
        Tag(0x010E, ASCII, description.encode("ascii")),
        Tag(0x010F, ASCII, make.encode("utf-8")),
        Tag(0x0110, ASCII, model.encode("utf-8")),
        Tag(0x0112, SHORT, [orientation]),
        Tag(0xC612, BYTE, [1, 3, 0, 0]),  # DNGVersion
        Tag(0xC613, BYTE, [1, 1, 0, 0]),  # DNGBackwardVersion
        Tag(0xC614, ASCII, model.encode("utf-8")),  # UniqueCameraModel
        Tag(0xC621, SRATIONAL, matrix),  # ColorMatrix1
        Tag(0xC628, RATIONAL, [_rational(v) for v in neutral]),  # AsShotNeutral
        Tag(0xC65A, SHORT, [_D65]),  # CalibrationIlluminant1
    ]


def _exif_tags(meta: CaptureMeta) -> list[Tag]:
    tags = [Tag(0x9000, 7, b"0232")]  # ExifVersion
    numbers = {
        0x829A: meta.exposure_s,
        0x829D: meta.f_number,
        0x9206: meta.focus_distance_m,  # SubjectDistance
        0x920A: meta.focal_length_mm,
    }
    tags += [Tag(number, RATIONAL, [_rational(value)]) for number, value in numbers.items() if value is not None]
    if meta.iso is not None:
        iso = round(meta.iso)
        tags.append(Tag(0x8827, SHORT, [min(iso, 65535)]))  # PhotographicSensitivity, saturated by the standard
        tags += [Tag(0x8830, SHORT, [3]), Tag(0x8833, LONG, [iso])]  # SensitivityType and ISOSpeed
    if meta.pixel_pitch_um is not None:
        sensor_pitch_um = meta.pixel_pitch_um / 2
        per_centimetre = [_rational(1e4 / sensor_pitch_um)]
        tags += [Tag(0xA20E, RATIONAL, per_centimetre), Tag(0xA20F, RATIONAL, per_centimetre)]
        tags.append(Tag(0xA210, SHORT, [_CENTIMETRE]))  # FocalPlaneResolutionUnit
    return tags


def _rational(value: float) -> Fraction:
    """The closest fraction of two 32-bit numbers; infinity is EXIF's all-ones numerator."""
    if math.isinf(value) and value > 0:
        return Fraction(0xFFFFFFFF, 1)
    if not 0 < value < 2**32:
        raise ValueError(f"cannot be stored as an EXIF rational: {value}")
    return Fraction(value).limit_denominator(min(10**6, int((2**32 - 1) / max(value, 1.0))))


def _description(half_side: Side, disparity_gain: float | None) -> str:
    record: dict[str, Any] = {"half": half_side}
    if disparity_gain is not None:
        if not 0 < disparity_gain <= MAX_DISPARITY_GAIN:
            raise ValueError(f"disparity gain {disparity_gain} is not within 0..{MAX_DISPARITY_GAIN}")
        record["disparity_gain"] = disparity_gain
    return json.dumps({"dualpix": record})
