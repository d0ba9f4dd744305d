"""Canon Dual Pixel RAW: CR2, CR3, and the two-sample DNG of Adobe's converter and of :mod:`.write.dng`.

Such a file holds two full mosaics: frame 0 is the sum of both photodiodes (AB), frame 1 is one photodiode (A). The
other one is the difference, ``B = (AB - black0) - (A - black1)``, signed: noise may be negative. Where AB is clipped, B
is only a lower bound, so ``saturated`` marks every sample that is clipped in AB or in A. 1.0 is the white level of AB.

Which half frame 1 is, Canon does not say. Known models are looked up in ``STORED_HALF``, a file of ours states it; all
others are taken as "left" and the provenance says "assumed".
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import numpy.typing as npt

from dualpix.capture.errors import DecodeError
from dualpix.capture.raw.containers.boxes import is_cr3
from dualpix.capture.raw.containers.exif import capture_meta
from dualpix.capture.raw.containers.tiff import TiffReader, is_tiff
from dualpix.capture.raw.develop.levels import not_of_raws
from dualpix.capture.raw.develop.planes import CELL, BlackRest, Plane
from dualpix.capture.raw.formats.plugin import SensorViews, Source
from dualpix.capture.raw.frames.libraw import no_second_frame, read_frames
from dualpix.capture.raw.frames.sensor_frame import Frame, RawFrame
from dualpix.capture.raw.frames.structure import DNG_VERSION, Structure, check_whole, mapped, structure_of
from dualpix.capture.raw.write.dng import Description, Side, read_description
from dualpix.capture.types import CaptureMeta, Mask

# Which half aperture frame 1 is, by EXIF model, once someone has measured it (known-far background must have
# x_right - x_left > 0). No genuine file has been measured yet, so the table is empty and "left" is assumed.
STORED_HALF: dict[str, Side] = {}

Scalar = TypeVar("Scalar", bound=np.generic)

_C_RAW = "C-RAW: both frames are quantised by themselves, the derived half carries both errors"

# The masked columns next to the picture and at the very edge leak light or belong to the readout.
_MASK_SKIP_LEFT, _MASK_SKIP_RIGHT = 4, 8
_MASK_MIN_SAMPLES = 256
_MASK_MAX_NOISE = 256.0
# Statistics of a picture need no more samples than this: of a larger one some rows are read.
_ENOUGH_SAMPLES = 1_000_000


@dataclass(frozen=True)
class BlackLevel:
    """Black of one frame in cell order R, G, G, B and where it comes from."""

    levels: tuple[float, float, float, float]
    source: str
    noise_dn: float | None = None
    """Standard deviation of a masked sample; None where none were looked at."""


@dataclass(frozen=True)
class Measured:
    """One frame with what its own samples say about its levels."""

    frame: RawFrame
    picture: Frame
    """(h, w): the samples within the crop."""
    black: BlackLevel
    clip: tuple[float, float, float, float]
    """Raw value from which a sample counts as clipped, in cell order."""
    clipped: Mask | None
    """(h, w); None where nothing clipped."""
    peak: float
    """Largest sample of the picture."""

    @property
    def black_rest(self) -> BlackRest | None:
        """What black has beyond ``black``, over the picture."""
        crop, rest = self.frame.crop, self.frame.black_rest
        return None if rest is None else rest.within(crop.top, crop.left, crop.height, crop.width)

    def plane(self, scale: float) -> Plane:
        """The picture as light: ``scale`` is that of a count."""
        return Plane(self.picture, self.black.levels, scale, True, self.black.noise_dn, self.black_rest)


class CanonDecoder:
    """CR2, CR3 and two-sample DNG."""

    name = "canon"
    needs = "one Dual Pixel RAW file: CR2, CR3 or a two-sample DNG"
    summary = "Canon Dual Pixel RAW (composite and one photodiode)"
    suffixes = whole_suffixes = (".cr2", ".cr3", ".dng")

    def refuses(self, source: Source) -> str | None:
        """None for a CR3, a CR2 or a DNG."""
        head = source.head
        if is_cr3(head) or (head[:4] == b"II*\0" and head[8:10] == b"CR"):
            return None
        if not is_tiff(head):
            return "not a CR2, CR3 or DNG"
        try:
            with mapped(source.path) as data:
                reader = TiffReader(data)
                is_dng = DNG_VERSION in reader.ifd(reader.first_offset).tags
        except DecodeError as error:
            return f"broken TIFF: {error.found}"
        return None if is_dng else "a TIFF, but neither CR2 nor DNG"

    def decode(self, source: Source) -> SensorViews:
        """Both frames, the derived half, the mask. Raises DecodeError for a damaged or single-frame file."""
        if source.right is not None:
            raise DecodeError(
                f"'{source.path.name}' holds both halves, a right file was given too",
                expected=self.needs,
                hint="leave out --right",
            )
        structure = structure_of(source.path, source.head)
        if not structure.dual:
            raise _no_halves(source.path, structure)
        check_whole(source.path, structure)
        composite, half = read_frames([(source.path, 0), (source.path, 1)], measure)
        views = dual_views(source.path, structure, (composite, half))
        return replace(views, warnings=views.warnings + not_of_raws(source.levels))


def _no_halves(path: Path, structure: Structure) -> DecodeError:
    if len(structure.raw_frames) < 2:
        return no_second_frame(path)
    return DecodeError(
        f"'{path.name}' holds {structure.why}", expected="a Dual Pixel RAW: composite and one photodiode"
    )


def dual_views(path: Path, structure: Structure, both: tuple[Measured, Measured]) -> SensorViews:
    """The views of two measured frames: composite and one photodiode.

    Args:
        path: for messages.
        structure: of the file of frame 0.
        both: frame 0 (both photodiodes) and frame 1 (one of them).

    Raises:
        DecodeError: the frames do not belong together.
    """
    composite, half = both
    _check_pair(path, both)
    frame, crop = composite.frame, composite.frame.crop
    black = (composite.black.levels, half.black.levels)
    scale = 1 / (frame.white - float(np.mean(black[0])))
    if not 0 < scale < math.inf:
        raise DecodeError(f"'{path.name}': white level {frame.white} is not above black {black[0]}")
    total, stored = composite.plane(scale), half.plane(scale)
    difference = tuple(first - second for first, second in zip(*black, strict=True))
    total_dn, stored_dn = (m.black.noise_dn for m in both)
    derived_dn = None if total_dn is None or stored_dn is None else math.hypot(total_dn, stored_dn)
    rest = _rest_difference(frame, half.frame)
    crop_rest = None if rest is None else rest.within(crop.top, crop.left, crop.height, crop.width)
    derived = Plane(_difference(composite, half), difference, scale, True, derived_dn, crop_rest)
    saturated = clipped_in_either(composite, half)
    _check_ratio(path, total, stored, saturated)
    side, assumed, meta = _naming(structure)
    left, right = (stored, derived) if side == "left" else (derived, stored)
    details = {
        "format": structure.kind,
        "black": {f"frame{i}": [round(v, 3) for v in m.black.levels] for i, m in enumerate(both)},
        "black_source": {f"frame{i}": m.black.source for i, m in enumerate(both)},
        "white": frame.white,
        "clip": {f"frame{i}": list(m.clip) for i, m in enumerate(both)},
        "crop": {"left": crop.left, "top": crop.top, "width": crop.width, "height": crop.height},
        "channels": "black and clip in the order R, G, G, B of the 2x2 cell",
    }

    samples = composite.frame.samples, half.frame.samples  # all that frames() keeps: the masks need not live on

    def frames() -> dict[str, npt.NDArray[np.generic]]:
        return {"frame0": samples[0], "frame1": samples[1], "other": derived_mosaic(*samples, *black, rest)}

    return SensorViews(
        left,
        right,
        total,
        saturated,
        meta,
        details=details,
        frames=frames,
        white_balance=frame.white_balance,
        srgb_from_camera=frame.srgb_from_camera,
        half_assumed=assumed,
        warnings=(_C_RAW,) if structure.lossy else (),
    )


def measure(frame: RawFrame) -> Measured:
    """Black, clip levels and clipped samples of one frame. Raises DecodeError where no black level is possible."""
    crop = frame.crop
    picture = frame.samples[crop.top : crop.top + crop.height, crop.left : crop.left + crop.width]
    peak = picture.max().item()
    clip = (frame.white,) * 4 if frame.is_floating else clip_levels(picture, int(frame.white), peak)
    clipped = _clipped(picture, clip) if peak >= min(clip) else None
    return Measured(frame, picture, black_level(frame), clip, clipped, peak)


def clipped_in_either(composite: Measured, half: Measured) -> Mask:
    """(h, w): the samples that clipped in one of two frames; may take the memory of their masks."""
    first, second = composite.clipped, half.clipped
    if first is None or second is None:
        both = first if second is None else second
        return np.zeros(composite.picture.shape, bool) if both is None else both
    return np.logical_or(first, second, out=first)


def _rest_difference(composite: RawFrame, half: RawFrame) -> BlackRest | None:
    """Of the blacks of two frames, beyond their levels."""
    first, second = composite.black_rest, half.black_rest
    nothing = BlackRest.none(composite.samples.shape)
    return None if first is second is None else (first or nothing).minus(second or nothing)


def _difference(composite: Measured, half: Measured) -> npt.NDArray[Any]:
    """AB - A, exact: 14-bit samples fit 16 signed bits and take half the memory."""
    if composite.frame.is_floating or half.frame.is_floating:
        return np.subtract(composite.picture, half.picture, dtype=np.float32)
    if max(composite.peak, half.peak) > np.iinfo(np.int16).max:
        return np.subtract(composite.picture, half.picture, dtype=np.int32, casting="unsafe")
    difference = np.empty_like(composite.picture, order="C")
    middle = len(difference) // 2

    def subtract(rows: slice) -> None:
        np.subtract(composite.picture[rows], half.picture[rows], out=difference[rows])

    with ThreadPoolExecutor(2) as pool:  # new memory is what takes the time, and two threads touch it faster
        list(pool.map(subtract, (slice(0, middle), slice(middle, None))))
    return difference.view(np.int16)  # wraps to the signed difference


def _check_pair(path: Path, both: tuple[Measured, Measured]) -> None:
    first, second = (measured.frame.samples for measured in both)
    if first.shape != second.shape:
        raise DecodeError(f"'{path.name}' has frames of {first.shape} and {second.shape}", expected="equal sizes")
    few = slice(None, None, 64)  # real frames differ in the first rows looked at
    if np.array_equal(first[few], second[few]) and np.array_equal(first, second):
        raise DecodeError(
            f"'{path.name}': both frames are the same picture", expected="the composite and one photodiode"
        )


def _check_ratio(path: Path, total: Plane, stored: Plane, saturated: Mask) -> None:
    """One photodiode holds about half the light; anything else is another kind of multi-frame raw, or damage."""
    ratio = light_ratio(total, stored, saturated)
    if ratio is not None and not 0.25 <= ratio <= 0.75:
        raise DecodeError(
            f"'{path.name}': frame 1 has {ratio:.2f} of the light of frame 0",
            expected="0.25 to 0.75, one photodiode of two",
            hint="the file is damaged or its frames are separate shots",
        )


def light_ratio(total: Plane, stored: Plane, saturated: Mask) -> float | None:
    """Light of ``stored`` over that of ``total`` where nothing clipped; None where it is too dark to tell.

    A part of the rows is enough.
    """
    step = max(saturated.size // _ENOUGH_SAMPLES, 1)
    rows = np.arange(len(saturated)).reshape(-1, 2)[::step].ravel()
    good = ~saturated[rows]
    if not good.any():
        return None
    light, part = (float(plane.light(rows)[good].mean()) for plane in (total, stored))
    return part / light if light >= 0.002 else None  # a capped lens: the ratio would be noise


def _some_cells(samples: npt.NDArray[Any], step: int) -> npt.NDArray[Any]:
    height, width = samples.shape
    return samples.reshape(height // 2, 2, width)[::step].reshape(-1, width)


def _naming(structure: Structure) -> tuple[Side, bool, CaptureMeta]:
    """Which half frame 1 is, whether that is only assumed, and the metadata with that said in the provenance."""
    picture = structure.picture
    said = read_description(picture.text(0x010E)) if structure.kind.startswith("DNG") else Description()
    model = picture.text(0x0110) or ""
    if said.half:
        side, why = said.half, "stated by the file"
    elif model in STORED_HALF:
        side, why = STORED_HALF[model], "measured for this model"
    else:
        side, why = "left", "assumed: Canon does not document it, see --focused-on and --swap"
    other: Side = "right" if side == "left" else "left"
    provenance: dict[str, str] = {side: f"frame 1 ({why})", other: "derived: frame 0 - frame 1"}
    meta = capture_meta(picture, structure.exif, makernote=structure.note, provenance=provenance)
    return side, why.startswith("assumed"), replace(meta, disparity_gain=said.disparity_gain)


def black_level(frame: RawFrame) -> BlackLevel:
    """Black per mosaic channel, measured on the masked left columns; the metadata where these do not look masked.

    The two frames have offsets of their own and LibRaw measures them for known sizes only, so this is done here. Where
    a DNG states a black that varies beyond the cell, the few masked columns cannot tell more than it does.

    Raises:
        DecodeError: neither gives a possible level.
    """
    strip = frame.samples[frame.crop.top :, _MASK_SKIP_LEFT : max(frame.crop.left - _MASK_SKIP_RIGHT, 0)]
    strip = strip[:, : strip.shape[1] // 2 * 2]
    cells = [strip[row::2, column::2] for row, column in CELL]
    measurable = frame.black_rest is None and not frame.is_floating
    if measurable and min(c.size for c in cells) >= _MASK_MIN_SAMPLES:
        means, spreads = zip(*(_masked_level(c) for c in cells), strict=True)
        expected = float(np.mean(frame.metadata_black))
        near = expected <= 0 or abs(float(np.mean(means)) - expected) <= max(0.35 * expected, 160)
        if max(spreads) <= _MASK_MAX_NOISE and near and max(means) < 0.5 * frame.white:
            r, g1, g2, b = means
            return BlackLevel((r, g1, g2, b), "masked columns", float(np.sqrt(np.mean(np.square(spreads)))))
    if not 0 <= min(frame.metadata_black) <= max(frame.metadata_black) < 0.5 * frame.white:
        raise DecodeError(
            f"black level {frame.metadata_black} at a white level of {frame.white}",
            expected="a black level below half the white level",
            hint="the metadata are damaged",
        )
    return BlackLevel(frame.metadata_black, frame.black_source)


def _masked_level(values: Frame) -> tuple[float, float]:
    """Mean and standard deviation without hot pixels: of what lies within 4 robust deviations of the median."""
    counts = np.bincount(values.ravel())
    middle = int(np.searchsorted(np.cumsum(counts), values.size / 2))
    distance = np.abs(np.arange(counts.size) - middle)
    by_distance = np.argsort(distance, kind="stable")
    nearer_half = int(np.searchsorted(np.cumsum(counts[by_distance]), values.size / 2))
    reach = 4 * max(1.4826 * int(distance[by_distance[nearer_half]]), 1.0)
    inner = np.where(distance <= reach, counts, 0)
    offset = np.arange(counts.size) - middle
    mean = float(inner @ offset) / int(inner.sum())
    return middle + mean, math.sqrt(max(float(inner @ offset**2) / int(inner.sum()) - mean**2, 0.0))


def clip_levels(picture: Frame, white: int, peak: int) -> tuple[int, int, int, int]:
    """The raw value from which a sample counts as clipped, per mosaic channel (cell order R, G, G, B).

    Sensors clip below the nominal white at some sensitivities, and each frame at its own level: a level where samples
    pile up is taken, else the nominal white. ``peak`` is the largest sample.
    """
    low = max(int(0.75 * white), 1)  # no sensor clips below
    if peak < low:
        return white, white, white, white
    if peak > white:  # the stated white is a specular one, as Canon's 14008 is: the converter goes on to its last code
        white = (1 << peak.bit_length()) - 1
    cells = _some_cells(picture, max(picture.size // _ENOUGH_SAMPLES, 1))
    r, g1, g2, b = (_pile_up(cells[row::2, column::2], low, white) for row, column in CELL)
    return r, g1, g2, b


def _pile_up(values: Frame, low: int, white: int) -> int:
    counts = np.bincount(values.ravel(), minlength=white + 2)
    above = np.cumsum(counts[::-1])[::-1]  # samples at this level or higher
    for level in (low + np.flatnonzero(counts[low:] >= max(16, values.size // 20000)))[::-1]:
        below = counts[max(level - 64, 0) : level].mean()
        if counts[level] > 8 * max(below, 1.0) and above[level] - counts[level] <= 0.1 * counts[level]:
            return int(level)
    return white


def derived_mosaic(
    composite: Frame, half: Frame, black0: Sequence[float], black1: Sequence[float], rest: BlackRest | None = None
) -> npt.NDArray[np.int32] | npt.NDArray[np.float32]:
    """The other photodiode as a full mosaic in raw counts, signed: ``(AB - black0) - (A - black1)``.

    Args:
        composite: both photodiodes (H, W).
        half: one of them.
        black0: of ``composite``, per channel.
        black1: of ``half``.
        rest: difference of what the blacks have beyond that.

    Returns:
        int32, the difference of the blacks rounded to whole counts; float32 for samples in floating point.
    """
    floating = composite.dtype.kind == "f"
    other = np.asarray(composite.astype(np.float32 if floating else np.int32) - half)
    varying = None if rest is None else rest.of()
    for first, second, (row, column) in zip(black0, black1, CELL, strict=True):
        offset = np.float32(first - second)
        offsets = offset if varying is None else varying[row::2, column::2] + offset
        other[row::2, column::2] -= offsets if floating else np.rint(offsets).astype(np.int32)
    return other


def _clipped(picture: Frame, clip: Sequence[float]) -> Mask:
    """(H, W): True where a sample reaches the clip level of its channel."""
    if len(set(clip)) == 1:
        return np.asarray(picture >= clip[0])
    mask = np.empty(picture.shape, bool)
    for level, (row, column) in zip(clip, CELL, strict=True):
        np.greater_equal(picture[row::2, column::2], level, out=mask[row::2, column::2])
    return mask
