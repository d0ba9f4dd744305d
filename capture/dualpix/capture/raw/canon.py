"""Canon Dual Pixel RAW: CR2, CR3, and the two-sample DNG of Adobe's converter and of :mod:`dualpix.capture.raw.dng`.

Such a file holds two full mosaics: frame 0 is the sum of both photodiodes (AB), frame 1 is one photodiode (A). The
other one is the difference, ``B = (AB - black0) - (A - black1)``, signed: noise may be negative. Where AB is clipped, B
is only a lower bound, so ``saturated`` marks every superpixel with a clipped sample in AB or in A.

Views are half-size superpixels (R, mean of both G, B), not interpolated: (H/2, W/2, 3). 1.0 is the white level of AB.

Which half frame 1 is, Canon does not say. Known models are looked up in ``STORED_HALF``, a file of ours states it; all
others are taken as "left" and the provenance says "assumed".
"""

from __future__ import annotations

import mmap
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import numpy.typing as npt

from dualpix.capture.errors import DecodeError
from dualpix.capture.raw.boxes import is_cr3, read_cr3
from dualpix.capture.raw.dng import Crop, Description, Side, read_description
from dualpix.capture.raw.exif import capture_meta
from dualpix.capture.raw.libraw import Frame, RawFrame, no_second_frame, read_frame
from dualpix.capture.raw.plugin import MAX_PIXELS, SensorViews, Source
from dualpix.capture.raw.tiff import Buffer, Ifd, TiffReader
from dualpix.capture.types import CaptureMeta, FloatImage, Mask

# Which half aperture frame 1 is, by EXIF model, once someone has measured it (known-far background must have
# x_right - x_left > 0). No genuine file has been measured yet, so the table is empty and "left" is assumed.
STORED_HALF: dict[str, Side] = {}

_CELL = ((0, 0), (0, 1), (1, 0), (1, 1))  # R, G, G, B
_CFA = 32803
_DNG_VERSION = 0xC612

# The masked columns next to the picture and at the very edge leak light or belong to the readout.
_MASK_SKIP_LEFT, _MASK_SKIP_RIGHT = 4, 8
_MASK_MIN_SAMPLES = 256
_MASK_MAX_NOISE = 256.0


@dataclass(frozen=True)
class _Header:
    """What the file says before LibRaw decodes it."""

    kind: str
    picture: Ifd
    exif: Ifd


@dataclass(frozen=True)
class BlackLevel:
    """Black of one frame in cell order R, G, G, B and where it comes from."""

    levels: tuple[float, float, float, float]
    source: str


class CanonDecoder:
    """CR2, CR3 and two-sample DNG."""

    name = "canon"
    needs = "one Dual Pixel RAW file: CR2, CR3 or a two-sample DNG"

    def refuses(self, source: Source) -> str | None:
        """None for a CR3, a CR2 or a DNG."""
        head = source.head
        if is_cr3(head) or (head[:4] == b"II*\0" and head[8:10] == b"CR"):
            return None
        if head[:4] not in (b"II*\0", b"MM\0*"):
            return "not a CR2, CR3 or DNG"
        try:
            with _mapped(source.path) as data:
                reader = TiffReader(data)
                is_dng = _DNG_VERSION in reader.ifd(reader.first_offset).tags
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
        with _mapped(source.path) as data:
            header = _read_header(source.path, source.head, data)
        both = (read_frame(source.path, 0), read_frame(source.path, 1))
        return _views(source.path, header, both)


@contextmanager
def _mapped(path: Path) -> Iterator[memoryview]:
    with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as mapped:
        view = memoryview(mapped)
        try:
            yield view
        finally:
            view.release()


def _read_header(path: Path, head: bytes, data: Buffer) -> _Header:
    """Check the structure: two frames of a possible size whose bytes all lie within the file."""
    if is_cr3(head):
        return _cr3_header(path, data)
    reader = TiffReader(data)
    chain = list(reader.chain())
    if not chain:
        raise DecodeError(f"'{path.name}' has no image directory", expected="a complete CR2 or DNG")
    exif_at = chain[0].integer(0x8769)
    exif = reader.ifd(exif_at) if exif_at else Ifd({}, 0)
    if head[8:10] == b"CR" and _DNG_VERSION not in chain[0].tags:
        _check_cr2(path, reader)
        return _Header("CR2", chain[0], exif)
    _check_dng(path, reader, chain)
    return _Header("DNG", chain[0], exif)


def _cr3_header(path: Path, data: Buffer) -> _Header:
    layout = read_cr3(data)
    if not layout.tracks:
        raise DecodeError(f"'{path.name}' has no raw track", expected="a Dual Pixel RAW CR3")
    largest = max(t.width * t.height for t in layout.tracks)
    full_size = [t for t in layout.tracks if t.width * t.height == largest]
    _check_size(path, full_size[0].width, full_size[0].height)
    if len(full_size) < 2:
        raise no_second_frame(path)
    _check_extents(path, [(t.offset, t.size) for t in full_size], len(data))
    picture, exif = (_first_ifd(layout.blobs.get(name)) for name in (b"CMT1", b"CMT2"))
    return _Header("CR3", picture, exif)


def _first_ifd(blob: bytes | None) -> Ifd:
    if not blob:
        return Ifd({}, 0)
    reader = TiffReader(blob)
    return reader.ifd(reader.first_offset)


def _check_cr2(path: Path, reader: TiffReader) -> None:
    """The header points to the raw directory; a dual-pixel file chains a second one behind it."""
    raw_at = int.from_bytes(reader.data[12:16], "little")
    frames = [ifd for ifd in reader.chain(raw_at) if ifd.numbers(0x0111)] if raw_at else []
    if len(frames) < 2:
        raise no_second_frame(path)
    for ifd in frames:
        _check_extents(path, _strips(ifd), len(reader.data))


def _check_dng(path: Path, reader: TiffReader, chain: Sequence[Ifd]) -> None:
    below = [reader.ifd(at) for ifd in chain for at in ifd.integers(0x014A)[:16]]
    mosaics = [ifd for ifd in (*chain, *below) if ifd.integer(0x0106) == _CFA]
    if not mosaics:
        raise DecodeError(f"'{path.name}' has no mosaic image", expected="a DNG with a colour filter array")
    main = max(mosaics, key=lambda ifd: ifd.integer(0x0100) * ifd.integer(0x0101))
    width, height = main.integer(0x0100), main.integer(0x0101)
    _check_size(path, width, height)
    if main.integer(0x0115, 1) < 2:
        raise no_second_frame(path)
    strips = _strips(main)
    _check_extents(path, strips, len(reader.data))
    if main.integer(0x0103, 1) == 1 and sum(size for _, size in strips) < width * height * 4:
        raise _cut(path, f"{width * height * 4} bytes of pixels", f"{sum(size for _, size in strips)} are listed")


def _strips(ifd: Ifd) -> list[tuple[int, int]]:
    """(offset, size) of each strip or tile."""
    offsets, sizes = ifd.integers(0x0111), ifd.integers(0x0117)
    if not offsets:
        offsets, sizes = ifd.integers(0x0144), ifd.integers(0x0145)
    return list(zip(offsets, sizes, strict=False))


def _check_extents(path: Path, extents: Sequence[tuple[int, int]], file_size: int) -> None:
    if not extents:
        raise _cut(path, "pixel data", "none are listed")
    end = max(offset + size for offset, size in extents)
    if end > file_size or min(size for _, size in extents) <= 0:
        raise _cut(path, f"pixel data up to byte {end}", f"the file has {file_size} bytes")


def _cut(path: Path, needed: str, there: str) -> DecodeError:
    return DecodeError(
        f"'{path.name}' is cut or damaged: it needs {needed}, {there}",
        expected="a complete raw file",
        hint="copy it again from the card",
    )


def _check_size(path: Path, width: int, height: int) -> None:
    if width < 4 or height < 4 or width * height > MAX_PIXELS:
        raise DecodeError(
            f"'{path.name}' claims a picture of {width}x{height} pixels", expected=f"at most {MAX_PIXELS} pixels"
        )


def _views(path: Path, header: _Header, both: tuple[RawFrame, RawFrame]) -> SensorViews:
    composite, half = both
    crop = composite.crop
    _check_pair(path, both)
    black = (black_level(composite), black_level(half))
    picture = [_picture(frame.samples, crop) for frame in both]
    clip = [clip_levels(samples, composite.white) for samples in picture]
    saturated = _clipped(picture[0], clip[0]) | _clipped(picture[1], clip[1])
    scale = 1 / (composite.white - float(np.mean(black[0].levels)))
    if not 0 < scale < 1:
        raise DecodeError(f"'{path.name}': white level {composite.white} is not above black {black[0].levels}")
    total, stored = (superpixels(p, b.levels, scale) for p, b in zip(picture, black, strict=True))
    _check_ratio(path, total, stored, saturated)
    derived = total - stored
    side, meta = _naming(header)
    if side == "right":
        stored, derived = derived, stored
    details = {
        "format": header.kind,
        "black": {f"frame{i}": [round(v, 3) for v in b.levels] for i, b in enumerate(black)},
        "black_source": {f"frame{i}": b.source for i, b in enumerate(black)},
        "white": composite.white,
        "clip": {f"frame{i}": c for i, c in enumerate(clip)},
        "crop": {"left": crop.left, "top": crop.top, "width": crop.width, "height": crop.height},
        "channels": "R, mean of both G, B of each 2x2 cell; levels above in the order R, G, G, B",
        "white_balance": composite.white_balance,
    }

    def frames() -> dict[str, npt.NDArray[np.generic]]:
        other = derived_mosaic(composite.samples, half.samples, black[0].levels, black[1].levels)
        return {"frame0": composite.samples, "frame1": half.samples, "other": other}

    return SensorViews(stored, derived, total, saturated, meta, "x", details, frames)


def _check_pair(path: Path, both: tuple[RawFrame, RawFrame]) -> None:
    first, second = (frame.samples for frame in both)
    if first.shape != second.shape:
        raise DecodeError(f"'{path.name}' has frames of {first.shape} and {second.shape}", expected="equal sizes")
    if np.array_equal(first, second):
        raise DecodeError(
            f"'{path.name}': both frames are the same picture", expected="the composite and one photodiode"
        )


def _check_ratio(path: Path, total: FloatImage, stored: FloatImage, saturated: Mask) -> None:
    """One photodiode holds about half the light; anything else is another kind of multi-frame raw, or damage."""
    light = float(total[~saturated].mean()) if not saturated.all() else 0.0
    if light < 0.002:  # a capped lens: the ratio would be noise
        return
    ratio = float(stored[~saturated].mean()) / light
    if not 0.25 <= ratio <= 0.75:
        raise DecodeError(
            f"'{path.name}': frame 1 has {ratio:.2f} of the light of frame 0",
            expected="0.25 to 0.75, one photodiode of two",
            hint="the file is damaged or its frames are separate shots",
        )


def _naming(header: _Header) -> tuple[Side, CaptureMeta]:
    """Which half frame 1 is, and the metadata with that said in the provenance."""
    said = read_description(header.picture.text(0x010E)) if header.kind == "DNG" else Description()
    model = header.picture.text(0x0110) or ""
    if said.half:
        side, why = said.half, "stated by the file"
    elif model in STORED_HALF:
        side, why = STORED_HALF[model], "measured for this model"
    else:
        side, why = "left", "assumed: Canon does not document it, use --swap if far things have negative disparity"
    other: Side = "right" if side == "left" else "left"
    provenance: dict[str, str] = {side: f"frame 1 ({why})", other: "derived: frame 0 - frame 1"}
    meta = capture_meta(header.picture, header.exif, binning=2, provenance=provenance)
    return side, replace(meta, disparity_gain=said.disparity_gain)


def black_level(frame: RawFrame) -> BlackLevel:
    """Black per mosaic channel, measured on the masked left columns; the metadata where these do not look masked.

    The two frames have offsets of their own and LibRaw measures them for known sizes only, so this is done here.

    Raises:
        DecodeError: neither gives a possible level.
    """
    strip = frame.samples[frame.crop.top :, _MASK_SKIP_LEFT : max(frame.crop.left - _MASK_SKIP_RIGHT, 0)]
    strip = strip[:, : strip.shape[1] // 2 * 2]
    cells = [strip[row::2, column::2] for row, column in _CELL]
    if min(c.size for c in cells) >= _MASK_MIN_SAMPLES:
        middles = [float(np.median(c)) for c in cells]
        noise = max(1.4826 * float(np.median(np.abs(c - m))) for c, m in zip(cells, middles, strict=True))
        expected = float(np.mean(frame.metadata_black))
        near = expected <= 0 or abs(float(np.mean(middles)) - expected) <= max(0.25 * expected, 64)
        if noise <= _MASK_MAX_NOISE and near and max(middles) < 0.5 * frame.white:
            r, g1, g2, b = (_inner_mean(c, m, noise) for c, m in zip(cells, middles, strict=True))
            return BlackLevel((r, g1, g2, b), "masked columns")
    if not 0 <= min(frame.metadata_black) <= max(frame.metadata_black) < 0.5 * frame.white:
        raise DecodeError(
            f"black level {frame.metadata_black} at a white level of {frame.white}",
            expected="a black level below half the white level",
            hint="the metadata are damaged",
        )
    return BlackLevel(frame.metadata_black, "metadata")


def _inner_mean(values: Frame, middle: float, noise: float) -> float:
    """Mean without hot pixels: finer than the median, which only knows whole numbers."""
    inner = values[np.abs(values - middle) <= 4 * max(noise, 1.0)]
    return float(inner.mean())


def clip_levels(picture: Frame, white: int) -> list[int]:
    """The raw value from which a sample counts as clipped, per mosaic channel (cell order R, G, G, B).

    Sensors clip below the nominal white at some sensitivities, and each frame at its own level: a level where samples
    pile up is taken, else the nominal white.
    """
    return [_pile_up(picture[row::2, column::2], white) for row, column in _CELL]


def _pile_up(values: Frame, white: int) -> int:
    counts = np.bincount(values.ravel(), minlength=white + 2)
    low = max(int(0.75 * white), 1)
    above = np.cumsum(counts[::-1])[::-1]  # samples at this level or higher
    for level in (low + np.flatnonzero(counts[low:] >= max(16, values.size // 20000)))[::-1]:
        below = counts[max(level - 64, 0) : level].mean()
        if counts[level] > 8 * max(below, 1.0) and above[level] - counts[level] <= 0.1 * counts[level]:
            return int(level)
    return white


def superpixels(picture: Frame, black: Sequence[float], scale: float) -> FloatImage:
    """(H, W) RGGB mosaic -> (H/2, W/2, 3): R, mean of both G, B; black-subtracted, times ``scale``, signed."""
    red, green1, green2, blue = (
        picture[row::2, column::2].astype(np.float32) - np.float32(black[index])
        for index, (row, column) in enumerate(_CELL)
    )
    return np.stack([red, (green1 + green2) * np.float32(0.5), blue], axis=-1) * np.float32(scale)


def derived_mosaic(
    composite: Frame, half: Frame, black0: Sequence[float], black1: Sequence[float]
) -> npt.NDArray[np.int32]:
    """The other photodiode as a full mosaic in raw counts: ``(AB - black0) - (A - black1)``, int32, signed.

    Blacks are taken per channel and their difference is rounded to whole counts.
    """
    other = composite.astype(np.int32) - half
    for index, (row, column) in enumerate(_CELL):
        other[row::2, column::2] -= round(black0[index] - black1[index])
    return other


def _picture(samples: Frame, crop: Crop) -> Frame:
    return samples[crop.top : crop.top + crop.height, crop.left : crop.left + crop.width]


def _clipped(picture: Frame, clip: Sequence[int]) -> Mask:
    """(H/2, W/2): True where any of the four samples of a superpixel reaches its clip level."""
    mask = np.zeros((picture.shape[0] // 2, picture.shape[1] // 2), bool)
    for level, (row, column) in zip(clip, _CELL, strict=True):
        mask |= picture[row::2, column::2] >= level
    return mask
