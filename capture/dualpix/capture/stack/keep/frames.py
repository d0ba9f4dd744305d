"""Frames of a stack, as files and as light: what loading, checking, aligning and exporting share.

Convention: frames decode to linear light (H, W, 3) in R, G, B, upright, 1.0 = white level, unequalised; a raw is taken
as superpixels (H/2, W/2), its first frame alone, which in a Dual Pixel RAW is the light of both photodiodes. Pictures
of 8 bits are sRGB, others linear unless they say otherwise. Which frames there are is said in :mod:`.listing`.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import cv2
import numpy as np
import numpy.typing as npt

from dualpix.capture.errors import DecodeError
from dualpix.capture.pictures.display import linear_from_srgb
from dualpix.capture.raw import opened
from dualpix.capture.raw.containers.exif import capture_meta
from dualpix.capture.raw.containers.images import picture_kind, read_bounded, read_tagged_picture
from dualpix.capture.raw.containers.jpeg import exif_of
from dualpix.capture.raw.containers.makernote import cr2_maker_note
from dualpix.capture.raw.containers.tiff import TiffReader
from dualpix.capture.raw.develop.geometry import upright
from dualpix.capture.raw.develop.layout import develop, develop_mask
from dualpix.capture.raw.develop.planes import Plane
from dualpix.capture.raw.formats.canon import measure
from dualpix.capture.raw.formats.plugin import Source
from dualpix.capture.raw.frames.libraw import read_frames, read_mosaic
from dualpix.capture.raw.frames.structure import DNG_VERSION, check_whole, mapped, raw_kind, readable_ifd, structure_of
from dualpix.capture.raw.write.dng import read_description
from dualpix.capture.stack.keep.ddff import read_ddff_slice
from dualpix.capture.stack.keep.foreign import refuse_foreign, refuse_thumbnail
from dualpix.capture.stack.keep.listing import ListedFrame
from dualpix.capture.stack.look import picture_look, raw_look
from dualpix.capture.types import CaptureMeta, FloatImage, FrameLook, Mask

RAW_BINNING = 2
_EXIF_POINTER = 0x8769
_MAX_PARTS = 4096


@dataclass(frozen=True)
class DecodedFrame:
    """The light of a frame."""

    image: FloatImage
    """(H, W, 3) linear."""
    saturated: Mask
    """(H, W)"""
    meta: CaptureMeta
    """Pitch is that of a pixel of ``image``."""
    binning: float = 1.0
    """Sensor pixels per pixel of ``image``, along each axis."""
    look: FrameLook = field(default_factory=FrameLook)
    """Of the file."""


# --- light --------------------------------------------------------------------------------------------------------


def decode_frame(frame: ListedFrame, max_side_px: int | None = None) -> DecodedFrame:
    """The light of a frame; reduced, where it is larger, so that its long side has ``max_side_px``.

    Raises:
        DecodeError: missing, damaged, or a kind of file that is not read here.
    """
    decoded = _read_slice(frame) if frame.part else read_light(frame.path, frame.orientation)
    if frame.white != (1.0, 1.0, 1.0):
        look = replace(decoded.look, white=frame.white)
        decoded = replace(decoded, image=decoded.image * np.array(frame.white, np.float32), look=look)
    return reduced(decoded, max_side_px)


def read_light(path: Path, orientation: int | None = None) -> DecodedFrame:
    """The light of a raw or picture file, turned upright by its own flag or by another ``orientation``, EXIF 1..8.

    Raises:
        DecodeError: missing, damaged, or a kind of file that is not read here.
    """
    source = _opened(path)
    if _is_raw(source):
        return _read_raw(source, orientation)
    return _read_picture(path, orientation)


def _opened(path: Path) -> Source:
    source = opened(Source(path, b""))
    refuse_foreign(path, source.head)
    return source


def _is_raw(source: Source) -> bool:
    if raw_kind(source.head) != "DNG":
        return True
    if picture_kind(source.head) != "tiff":
        return False
    with mapped(source.path) as data:
        first = readable_ifd(data)
    if first is None or DNG_VERSION in first.tags:
        return True
    refuse_thumbnail(source.path, first)
    return False


def _read_raw(source: Source, orientation: int | None) -> DecodedFrame:
    path = source.path
    structure = structure_of(path, source.head)
    check_whole(path, structure)
    provenance = {"combined": "frame 0"}
    meta = capture_meta(
        structure.picture, structure.exif, makernote=structure.note, binning=RAW_BINNING, provenance=provenance
    )
    if structure.kind == "DNG":
        meta = replace(meta, disparity_gain=read_description(structure.picture.text(0x010E)).disparity_gain)
    plane, saturated = _first_frame(path) if structure.dual else _single_frame(path)
    image = develop(plane, "superpixel")
    mask = develop_mask(saturated, True, "superpixel")
    turn = orientation or meta.orientation
    return DecodedFrame(upright(image, turn), upright(mask, turn), meta, RAW_BINNING, raw_look(path))


def _first_frame(path: Path) -> tuple[Plane, Mask]:
    """Composite of a dual-pixel raw, as :func:`dualpix.capture.raw.decode` takes it."""
    found = read_frames([(path, 0)], measure)[0]
    saturated = np.zeros(found.picture.shape, bool) if found.clipped is None else found.clipped
    return found.plane(_scale(path, found.black.levels, found.frame.white)), saturated


def _single_frame(path: Path) -> tuple[Plane, Mask]:
    """An ordinary Bayer raw of any phase."""
    frame = read_mosaic(path)
    black = frame.metadata_black
    plane = Plane(frame.samples, black, _scale(path, black, frame.white), True, black_rest=frame.black_rest)
    return plane, np.asarray(frame.samples >= frame.white)


def _scale(path: Path, black: Sequence[float], white: float) -> float:
    if not max(black) < white:
        raise DecodeError(f"'{path.name}': white level {white:g} is not above black {tuple(black)}")
    return 1.0 / (white - float(np.mean(black)))


def _read_picture(path: Path, orientation: int | None) -> DecodedFrame:
    picture = read_tagged_picture(path)
    samples = picture.samples
    meta = picture_meta(path)
    light: FloatImage
    saturated = samples >= picture.white
    if samples.dtype == np.uint8 and picture.white == 255:
        light = _linear_codes()[samples]
    else:
        light = np.asarray(samples, np.float32) / np.float32(picture.white)
        encoded = samples.dtype == np.uint8 or picture.hints.tone == "srgb"
        light = linear_from_srgb(light) if encoded else light
    if light.ndim == 2:
        light = np.repeat(light[..., None], 3, axis=2)
    mask = saturated.any(axis=-1) if saturated.ndim == 3 else saturated
    turn = orientation or picture.hints.orientation
    coded = samples.dtype == np.uint8 or picture.hints.tone == "srgb"
    look = picture_look(path, samples, "srgb" if coded else "linear")
    return DecodedFrame(upright(light, turn), upright(np.asarray(mask), turn), meta, look=look)


def _linear_codes() -> npt.NDArray[np.float32]:
    return linear_from_srgb(np.arange(256, dtype=np.float32) / np.float32(255))


def _read_slice(frame: ListedFrame) -> DecodedFrame:
    assert frame.part is not None  # noqa: S101 - the caller asked
    samples = read_ddff_slice(frame.path, *frame.part)
    saturated = np.asarray((samples == 255).any(axis=-1))
    return DecodedFrame(_linear_codes()[samples], saturated, CaptureMeta(), look=FrameLook("srgb"))


def reduced(decoded: DecodedFrame, max_side_px: int | None) -> DecodedFrame:
    """A frame whose long side is at most this; its pitch follows."""
    height, width = decoded.image.shape[:2]
    if max_side_px is None or max(height, width) <= max_side_px:
        return decoded
    shrink = max_side_px / max(height, width)
    size = max(1, round(width * shrink)), max(1, round(height * shrink))
    image = np.asarray(cv2.resize(decoded.image, size, interpolation=cv2.INTER_AREA), np.float32)
    mask = cv2.resize(decoded.saturated.astype(np.float32), size, interpolation=cv2.INTER_AREA) > 0
    factor = width / size[0]
    pitch_um = decoded.meta.pixel_pitch_um
    meta = replace(decoded.meta, pixel_pitch_um=None if pitch_um is None else pitch_um * factor)
    return replace(decoded, image=image, saturated=np.asarray(mask), meta=meta, binning=decoded.binning * factor)


# --- metadata -----------------------------------------------------------------------------------------------------


def frame_meta(path: Path) -> CaptureMeta:
    """What a raw or picture file states about its shot; pitch is that of the decoded frame.

    Raises:
        DecodeError: missing or damaged.
    """
    source = _opened(path)
    if not _is_raw(source):
        return picture_meta(path)
    structure = structure_of(path, source.head)
    return capture_meta(structure.picture, structure.exif, makernote=structure.note, binning=RAW_BINNING, provenance={})


def picture_meta(path: Path) -> CaptureMeta:
    """EXIF and Canon's notes of a JPEG, TIFF or PNG; empty where there are none that can be read."""
    data = read_bounded(path)
    block = _exif_block(data, picture_kind(data[:16]))
    if block is None:
        return CaptureMeta()
    try:
        reader = TiffReader(block)
        picture = reader.ifd(reader.first_offset)
        exif_at = picture.integer(_EXIF_POINTER)
        exif = reader.ifd(exif_at) if exif_at else picture
        # A JPEG's notes are addressed from the start of its EXIF block, as a CR2's from the start of the file.
        note = cr2_maker_note(reader, exif_at) if exif_at and _is_canon(picture.text(0x010F)) else None
    except (DecodeError, struct.error):
        return CaptureMeta()
    return capture_meta(picture, exif, makernote=note, provenance={})


def _is_canon(make: str | None) -> bool:
    return (make or "").lower().startswith("canon")


def _exif_block(data: bytes, kind: str | None) -> bytes | None:
    """The TIFF structure with the metadata of a picture file."""
    if kind == "tiff":
        return data
    if kind == "jpeg":
        return exif_of(data)
    try:
        return next(_png_exif(data), None) if kind == "png" else None
    except struct.error:
        return None


def _png_exif(data: bytes) -> Iterator[bytes]:
    at = 8
    for _ in range(_MAX_PARTS):
        length, kind = struct.unpack_from(">I4s", data, at)
        if kind == b"eXIf":
            yield data[at + 8 : at + 8 + length]
        if kind == b"IEND":
            return
        at += length + 12
