"""Frames of a DNG: the levels of its own tags for what LibRaw unpacks, and whole frames of what it reads wrongly.

LibRaw 0.22.2 (rawpy 0.28) makes whole numbers of floats, scaled by the larger of their white level and the brightest
one of the file, and takes a white level that is not stated, by the specification 1.0, for the largest integer of as
many bits: of 16 and 24 bits nothing but zeros is left, without a word. It mixes up the samples of a planar file, and
refuses deflated integers and BigTIFF.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from dualpix.capture.errors import DecodeError
from dualpix.capture.raw.containers.images import MAX_PIXELS
from dualpix.capture.raw.containers.tiff import Ifd, TiffReader
from dualpix.capture.raw.containers.tiff_samples import DEFLATE, PLAIN, is_floating, is_planar, unpack
from dualpix.capture.raw.develop.geometry import Crop
from dualpix.capture.raw.frames.dng_levels import (
    LINEARISATION,
    Area,
    black_source,
    cell_colours,
    dng_levels,
    picture_area,
    red_area,
)
from dualpix.capture.raw.frames.sensor_frame import Matrix, RawFrame, read_only, srgb_from_camera, white_balance
from dualpix.capture.raw.frames.structure import compression_name, dng_directory, mapped

_RGGB = (0, 1, 1, 2)
# Deflate packs no more.
_MAX_PIXELS_PER_BYTE = 1032
_LARGEST = 1e9
# AsShotNeutral; ColorMatrix, CameraCalibration and CalibrationIlluminant of two illuminants.
_NEUTRAL = 0xC628
_CALIBRATIONS = ((0xC621, 0xC623, 0xC65A), (0xC622, 0xC624, 0xC65B))
_D65 = 21


@dataclass(frozen=True)
class DngDirectory:
    """The raw directory of a DNG file."""

    path: Path
    ifd: Ifd
    unpacked_here: bool
    """Its samples are not for LibRaw."""

    def with_levels(self, frame: RawFrame, index: int, origin: Area | None = None) -> RawFrame:
        """A frame with black and white of the file's own tags.

        Args:
            frame: as read.
            index: of the sample per pixel that it holds.
            origin: which part of the stored picture the frame is; all of it by default.

        Raises:
            DecodeError: the tags contradict each other.
        """
        try:
            levels = dng_levels(self.ifd, index)
        except DecodeError as error:
            raise DecodeError(f"'{self.path.name}': {error.found}", expected=error.expected) from error
        height, width = frame.samples.shape
        whole = origin or Area(0, 0, height, width)
        crop = frame.crop
        part = Area(whole.top + crop.top, whole.left + crop.left, crop.height, crop.width)
        cell = levels.cell(part)
        varies = levels.rest(part, cell) is not None
        return replace(
            frame,
            metadata_black=cell,
            white=levels.white,
            black_rest=levels.rest(whole, cell) if varies else None,
            black_source=black_source(levels, part),
            srgb_from_camera=frame.srgb_from_camera or _matrix(self.ifd),  # LibRaw has that of known models
        )

    def frame(self, index: int) -> RawFrame:
        """A whole frame, masked borders included, RGGB from its top left.

        Raises:
            DecodeError: damaged samples, a form that is not read, or another colour pattern.
        """
        area, picture = red_area(self.ifd), picture_area(self.ifd)
        if area.top % 2 or area.left % 2:
            raise self._no_mosaic()
        samples = self._samples(index)
        height, width = (n // 2 * 2 for n in samples.shape)
        crop = Crop(picture.left, picture.top, picture.width, picture.height)
        return self.with_levels(self._framed(samples[:height, :width], crop), index)

    def mosaic(self) -> RawFrame:
        """The active area of the first frame, from its first red sample on.

        Raises:
            DecodeError: as :meth:`frame`.
        """
        area = red_area(self.ifd)
        samples = self._samples(0)[area.top : area.top + area.height, area.left : area.left + area.width]
        crop = Crop(0, 0, area.width, area.height)
        return self.with_levels(self._framed(np.ascontiguousarray(samples), crop), 0, area)

    @property
    def size(self) -> tuple[int, int, Crop]:
        """Height and width of the stored picture, and its crop."""
        part = picture_area(self.ifd)
        crop = Crop(part.left, part.top, part.width, part.height)
        return self.ifd.integer(0x0101), self.ifd.integer(0x0100), crop

    def _framed(self, samples: npt.NDArray[Any], crop: Crop) -> RawFrame:
        return RawFrame(read_only(samples), (0.0,) * 4, 1.0, crop, _balance(self.ifd), _matrix(self.ifd))

    def _samples(self, index: int) -> npt.NDArray[Any]:
        height, width = self.ifd.integer(0x0101), self.ifd.integer(0x0100)
        bytes_there = self.path.stat().st_size
        if not 0 < width * height <= min(MAX_PIXELS, _MAX_PIXELS_PER_BYTE * bytes_there):
            raise DecodeError(
                f"'{self.path.name}' claims {width}x{height} pixels in {bytes_there} bytes",
                expected="a complete raw file",
                hint="its header is damaged, copy it again",
            )
        if cell_colours(self.ifd) != _RGGB:
            raise self._no_mosaic()
        if self.ifd.integer(0x0103, 1) not in (PLAIN, *DEFLATE):  # what the specification has for these forms
            raise DecodeError(
                f"'{self.path.name}' is a BigTIFF, planar or floating-point DNG of {compression_name(self.ifd)}",
                expected="plain or deflated samples",
                hint="convert it with Adobe's DNG Converter",
            )
        try:
            with mapped(self.path) as data:
                samples = unpack(data, TiffReader(data).order, self.ifd, (index,))[..., 0]
        except DecodeError as error:
            found = f"'{self.path.name}' has {error.found}"
            raise DecodeError(found, expected=error.expected, hint=error.hint) from error
        if samples.dtype.kind == "f" and not (np.abs(samples) <= _LARGEST).all():
            raise DecodeError(f"'{self.path.name}' has samples that are NaN or beyond {_LARGEST:g}", expected="light")
        table = self.ifd.integers(LINEARISATION)
        if table and samples.dtype.kind == "u":
            samples = np.asarray(table, np.uint16)[np.minimum(samples, len(table) - 1)]
        return samples.astype(np.uint16, copy=False) if samples.dtype.kind == "u" else samples

    def _no_mosaic(self) -> DecodeError:
        found = f"colour pattern {list(self.ifd.integers(0x828E))[:8]}"
        return DecodeError(f"'{self.path.name}' has {found}", expected="an RGGB Bayer mosaic")


def dng_of(path: Path) -> DngDirectory | None:
    """The raw directory of a DNG; None for any other kind of file.

    Raises:
        DecodeError: a DNG whose directories cannot be followed.
    """
    with mapped(path) as data:
        found = dng_directory(data)
    if found is None:
        return None
    reader, ifd = found
    return DngDirectory(path, ifd, reader.big or _is_beyond_libraw(ifd))


def _is_beyond_libraw(ifd: Ifd) -> bool:
    deflated, long = ifd.integer(0x0103, 1) in DEFLATE, ifd.integer(0x0102, 1) == 32
    return is_planar(ifd) or deflated or long or is_floating(ifd)


def _balance(ifd: Ifd) -> tuple[float, float, float] | None:
    neutral = [float(v) for v in ifd.numbers(_NEUTRAL)]
    if len(neutral) != 3 or not all(np.isfinite(v) and v > 0 for v in neutral):
        return None
    red, green, blue = (1 / v for v in neutral)
    return white_balance(red, green, blue)


def _matrix(ifd: Ifd) -> Matrix | None:
    """From the colour matrix for daylight, or the one there is (DNG 1.7.1, "Mapping Camera Color Space to CIE XYZ")."""
    found = [(ifd.integer(light), _three(ifd, colour), _three(ifd, own)) for colour, own, light in _CALIBRATIONS]
    known = [(light == _D65, colour, own) for light, colour, own in found if colour is not None]
    if not known:
        return None
    _, colour, own = max(known, key=lambda entry: entry[0])
    return srgb_from_camera(colour if own is None else own @ colour)  # AnalogBalance is undone by the rows' sum of 1


def _three(ifd: Ifd, tag: int) -> npt.NDArray[np.float64] | None:
    values = np.array([float(v) for v in ifd.numbers(tag)], np.float64)
    return values.reshape(3, 3) if values.size == 9 and np.isfinite(values).all() else None
