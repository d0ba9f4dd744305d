"""Dual-pixel DNG: a raw file with two samples per pixel, as Adobe's DNG Converter writes Canon Dual Pixel RAW.

Sample 0 is the composite (both photodiodes, an ordinary raw image), sample 1 is one photodiode. Both are uint16 RGGB
mosaics of the same size, each with its own black level; the other photodiode is the difference. One uncompressed strip,
so that every reader opens it. LibRaw selects a sample with ``shot_select``.

What DNG has no tag for (which half sample 1 is, the measured disparity gain) travels as a small JSON object in
ImageDescription: ``{"dualpix": {"half": "left", "disparity_gain": 0.3}}``.

:func:`write_view_dng` writes one developed view as an ordinary DNG for raw converters: a mosaic, or LinearRaw.
"""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from dualpix.capture.errors import DecodeError
from dualpix.capture.files import atomic_path
from dualpix.capture.raw.containers.tiff import ASCII, BYTE, LONG, RATIONAL, SHORT, SRATIONAL, Tag
from dualpix.capture.raw.develop.geometry import Crop, as_sensor
from dualpix.capture.raw.write.metadata import exif_tags, picture_tags, rational
from dualpix.capture.raw.write.writers import Coding, encoded, write_tiff_file
from dualpix.capture.types import CaptureMeta, FloatImage

Frame = npt.NDArray[np.uint16]
Side = Literal["left", "right"]

SIMULATED_MODEL = "dualpix Simulated Camera"
MAX_DISPARITY_GAIN = 10.0

# CIE XYZ (D65) -> linear sRGB, IEC 61966-2-1: the camera's colour space is sRGB unless the caller says otherwise.
_XYZ_TO_SRGB = ((3.2406, -1.5372, -0.4986), (-0.9689, 1.8758, 0.0415), (0.0557, -0.2040, 1.0570))
_CFA, _LINEAR_RAW = 32803, 34892
_LARGEST = 1000.0  # of white balance and colour matrices; beyond lies damage
_D65 = 21
_MAX_DESCRIPTION = 4096

VIEW_DNG_BLACK = 4096
"""Code of no light in the DNG of a view: 1/16 of the range is left for noise below it."""
Matrix = tuple[tuple[float, ...], ...]
Matrix3 = npt.NDArray[np.float64]


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
    pitch_um = None if meta.pixel_pitch_um is None else meta.pixel_pitch_um / 2
    description = _description(half_side, meta.disparity_gain)
    tags = [
        *_picture_tags(composite.shape, crop, black, white),
        Tag(0x010E, ASCII, description.encode("ascii")),
        Tag(0x010F, ASCII, make.encode("utf-8")),
        Tag(0x0110, ASCII, model.encode("utf-8")),
        Tag(0x0112, SHORT, [meta.orientation]),
        *_model_tags(model),
        *_colour_tags(_XYZ_TO_SRGB, as_shot_neutral),
    ]
    exif = exif_tags(meta, None if pitch_um is None else (pitch_um, pitch_um))
    pixels = np.stack([composite, half], axis=-1)
    with atomic_path(path) as temporary:
        write_tiff_file(temporary, tags, exif, [pixels], pixels.shape, np.dtype("<u2"), rows_per_strip=pixels.shape[0])


@dataclass(frozen=True)
class ViewDng:
    """How one view becomes a DNG, and what it says about it."""

    coding: Coding
    """16-bit integers, with room for noise below black."""
    meta: CaptureMeta
    pitch_xy_um: tuple[float, float] | None
    """Of the upright view's pixels."""
    cfa: str | None
    """Pattern of an upright mosaic view, e.g. "GRBG"."""
    white_balance: tuple[float, float, float] | None
    """R, G, B multipliers as shot, where the view is in camera colour."""
    srgb_from_camera: Matrix | None
    """3x3, from white-balanced camera colour to linear sRGB; None where the view is in sRGB or nothing is known."""
    description: str


def write_view_dng(path: Path, view: FloatImage, how: ViewDng) -> None:
    """Write one view as a single-image DNG: a colour filter array where it is a mosaic, else LinearRaw.

    The picture lies as the sensor does and the Orientation tag turns it upright, as raw converters expect. White level
    is the largest code; BaselineExposure says how much more light than 1.0 that is.

    Args:
        path: where to; not atomic, the caller's folder is.
        view: upright light, (H, W) or (H, W, 3) in R, G, B; a mosaic has even sizes.
        how: levels and metadata.
    """
    orientation = how.meta.orientation
    lying = as_sensor(view, orientation)
    colourful = how.cfa is not None or view.ndim == 3
    model = how.meta.camera or "unknown camera"
    pitch = how.pitch_xy_um[::-1] if how.pitch_xy_um and orientation >= 5 else how.pitch_xy_um
    tags = [
        *picture_tags(how.meta, how.description, orientation),
        *_view_tags(lying.shape, how),
        *_model_tags(model),
        *(_colour_tags(_camera_from_xyz(how), tuple(1 / gain for gain in _balance(how))) if colourful else []),
        Tag(
            0xC62A, SRATIONAL, [Fraction(math.log2(how.coding.full_scale)).limit_denominator(1000)]
        ),  # BaselineExposure
    ]
    strips = encoded(lying, how.coding)
    write_tiff_file(path, tags, exif_tags(how.meta, pitch), strips, lying.shape, how.coding.dtype)


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
    area = [crop.top, crop.left, crop.top + crop.height, crop.left + crop.width]
    return [
        Tag(0x00FE, LONG, [0]),  # NewSubfileType: the main image
        *_mosaic_tags("RGGB"),
        Tag(0xC619, SHORT, [2, 2]),  # BlackLevelRepeatDim
        Tag(0xC61A, SHORT, list(black) * 4),  # BlackLevel: cell by cell, samples innermost
        Tag(0xC61D, LONG, [white, white]),  # WhiteLevel of each sample
        Tag(0xC68D, LONG, area),  # ActiveArea: top, left, bottom, right
        *_crop_tags(crop.width, crop.height),
    ]


def _view_tags(shape: tuple[int, ...], how: ViewDng) -> list[Tag]:
    height, width, samples = (*shape, 1)[:3]
    repeat = 1
    form = [Tag(0x0106, SHORT, [_LINEAR_RAW])]
    if how.cfa is not None:
        repeat = 2
        pattern = as_sensor(np.array(list(how.cfa)).reshape(2, 2), how.meta.orientation)
        form = _mosaic_tags("".join(pattern.ravel()))
    return [
        Tag(0x00FE, LONG, [0]),
        *form,
        Tag(0xC619, SHORT, [repeat, repeat]),
        Tag(0xC61A, SHORT, [how.coding.black] * (repeat * repeat * samples)),
        Tag(0xC61D, LONG, [how.coding.white] * samples),
        *_crop_tags(width, height),
    ]


def _mosaic_tags(pattern: str) -> list[Tag]:
    return [
        Tag(0x0106, SHORT, [_CFA]),  # PhotometricInterpretation: colour filter array
        Tag(0x828D, SHORT, [2, 2]),  # CFARepeatPatternDim
        Tag(0x828E, BYTE, ["RGB".index(colour) for colour in pattern]),  # CFAPattern
        Tag(0xC616, BYTE, [0, 1, 2]),  # CFAPlaneColor
        Tag(0xC617, SHORT, [1]),  # CFALayout: rectangular
    ]


def _crop_tags(width: int, height: int) -> list[Tag]:
    """DefaultCropOrigin, within the active area, and DefaultCropSize."""
    return [Tag(0xC61F, LONG, [0, 0]), Tag(0xC620, LONG, [width, height])]


def _model_tags(model: str) -> list[Tag]:
    return [
        Tag(0xC612, BYTE, [1, 3, 0, 0]),  # DNGVersion
        Tag(0xC613, BYTE, [1, 1, 0, 0]),  # DNGBackwardVersion
        Tag(0xC614, ASCII, model.encode("utf-8")),  # UniqueCameraModel
    ]


def _colour_tags(camera_from_xyz: Sequence[Sequence[float]] | Matrix3, neutral: Sequence[float]) -> list[Tag]:
    matrix = [Fraction(round(float(v) * 10000), 10000) for row in camera_from_xyz for v in row]
    return [
        Tag(0xC621, SRATIONAL, matrix),  # ColorMatrix1
        Tag(0xC628, RATIONAL, [rational(v) for v in neutral]),  # AsShotNeutral
        Tag(0xC65A, SHORT, [_D65]),  # CalibrationIlluminant1
    ]


def _camera_from_xyz(how: ViewDng) -> Matrix3:
    """ColorMatrix1: the inverse of white balance, then ``srgb_from_camera``, so that a converter's white is D65."""
    balanced = np.linalg.inv(np.array(how.srgb_from_camera or np.eye(3))) @ np.array(_XYZ_TO_SRGB)
    raw: Matrix3 = balanced / np.array(_balance(how))[:, None]
    return np.clip(raw, -_LARGEST, _LARGEST)


def _balance(how: ViewDng) -> tuple[float, float, float]:
    """The multipliers, or neutral ones where the file's are no light's."""
    gains = how.white_balance or (1.0, 1.0, 1.0)
    return gains if 1 / _LARGEST <= min(gains) <= max(gains) <= _LARGEST else (1.0, 1.0, 1.0)


def _description(half_side: Side, disparity_gain: float | None) -> str:
    record: dict[str, Any] = {"half": half_side}
    if disparity_gain is not None:
        if not 0 < disparity_gain <= MAX_DISPARITY_GAIN:
            raise ValueError(f"disparity gain {disparity_gain} is not within 0..{MAX_DISPARITY_GAIN}")
        record["disparity_gain"] = disparity_gain
    return json.dumps({"dualpix": record})
