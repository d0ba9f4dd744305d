"""Google's dual-pixel stream (Android RAW_DEPTH) outside PDCapture: headerless dumps, and PNG files of its samples.

- **Dump**: the interleaved image buffer as it is, see :mod:`dualpix.capture.raw.formats.dump`; the user states the
  geometry.
- **PNG trees** of Learning to Autofocus (Herrmann et al., CVPR 2020): ``raw_left_pd/CAP/SLICE/result_pd_left_*.png``
  with the right file in ``raw_right_pd``; 16-bit gray PNG of 2016x756, or of 2016x1512 after a vertical upsampling
  (``raw_up_left_pd``).

Samples are 10 bits wide, stored as they are or stretched to 16 bits as ``trunc(raw * 65535 / 1023)``. Linear, white
1023 (stated by the data set), black 64 (as in PDCapture; neither form stores it). The sign is taken from the names, or
from the even columns being "left".
"""

from __future__ import annotations

import struct
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from dualpix.capture.errors import DecodeError
from dualpix.capture.raw.containers.images import (
    Samples,
    check_size,
    picture_kind,
    read_bounded,
    read_picture,
    whole_range,
)
from dualpix.capture.raw.develop.planes import Plane
from dualpix.capture.raw.formats.dump import Dump
from dualpix.capture.raw.formats.pair import check_pair, find_right, pair_frames
from dualpix.capture.raw.formats.plugin import SensorViews, Source
from dualpix.capture.types import Baseline, CaptureMeta

BLACK, WHITE = 64, 1023
_STRETCHED = 65535
# (width, height) of a view -> axis of the disparity, and extent of a pixel across it over that along it.
_PNG_SIZES: dict[tuple[int, int], tuple[Baseline, float]] = {
    (2016, 756): ("x", 2.0),
    (756, 2016): ("y", 2.0),
    (2016, 1512): ("x", 1.0),
    (1512, 2016): ("y", 1.0),
}


@dataclass(frozen=True)
class _Half:
    stored: Samples
    origin: str


class RawDepthDumpDecoder:
    """Interleaved RAW_DEPTH dumps without a header."""

    name = "raw-depth-dump"
    needs = "a headerless dump, left and right interleaved by sample, with --dump WIDTHxHEIGHT[xBITS][:ROW_BYTES]"
    summary = "Android RAW_DEPTH or RAW_DEPTH10 buffer, even columns left, odd columns right"
    suffixes = (".raw", ".bin", ".dump")
    whole_suffixes = ()  # its geometry is needed

    def refuses(self, source: Source) -> str | None:
        """None when a geometry was given: the file itself says nothing."""
        return None if source.dump is not None else "no geometry given (--dump)"

    def decode(self, source: Source) -> SensorViews:
        """Both views in 10-bit counts. Raises DecodeError for a file of another size or other values."""
        if source.dump is None:
            raise DecodeError(f"'{source.path.name}' has no header", expected=self.needs)
        for option, value in (("--right", source.right), ("--sub", source.sub)):
            if value is not None:
                raise DecodeError(f"a dump holds both halves, {option} was given too", hint=f"leave out {option}")
        samples = _read_dump(source, source.dump)
        halves = _Half(samples[:, 0::2], "even columns"), _Half(samples[:, 1::2], "odd columns")
        counts = ten_bit(samples)
        if counts is None:
            raise DecodeError(
                f"'{source.path.name}' has values up to {samples.max()}, neither 10-bit ones nor such stretched to 16",
                expected="a RAW_DEPTH dump of this geometry",
                hint="look at --dump and at the byte order (little-endian)",
            )
        levels = source.levels.over(BLACK, WHITE)
        said = source.levels.origin("assumed, as PDCapture")
        provenance = {
            "levels": f"black {levels[0]:g}, white {levels[1]:g} of 10 bits ({said})",
            "pixel_aspect": "2 (assumed: half the sensor's columns, a quarter of its rows)",
        }
        form = f"RAW_DEPTH{'10' if source.dump.bits == 10 else ''} dump, {_form(samples, counts)}"
        views = (counts[:, 0::2], counts[:, 1::2])
        return _views(halves, views, form, source.baseline or "x", 2.0, provenance, levels)


class RawDepthPngDecoder:
    """PNG pairs of 10-bit samples, as Learning to Autofocus distributes them."""

    name = "raw-depth-png"
    needs = "a left file in raw_left_pd/ with its right one in raw_right_pd/, or NAME_left.png with NAME_right.png"
    summary = "Learning-to-Autofocus PNG pair: 16-bit gray 2016x756 or 2016x1512 with 10-bit values"
    suffixes = (".png",)
    whole_suffixes = ()

    def refuses(self, source: Source) -> str | None:
        """None for a 16-bit gray PNG of such a size whose every sample is a 10-bit one, stretched or not."""
        if picture_kind(source.head) != "png" or len(source.head) < 26:
            return "not a PNG"
        width, height, bits, colour = struct.unpack_from(">IIBB", source.head, 16)
        if (width, height) not in _PNG_SIZES or (bits, colour) != (16, 0):
            return f"PNG is {width}x{height}, not 16-bit gray 2016x756 or 2016x1512"
        return "values are not 10-bit ones" if ten_bit(whole_range(source.picture)) is None else None

    def decode(self, source: Source) -> SensorViews:
        """Both views in 10-bit counts. Raises DecodeError for a missing, unequal or damaged file."""
        right_path = find_right(source)
        left, right = whole_range(source.picture), read_picture(right_path)
        check_pair(source.path, left, right_path, right)
        counts = ten_bit(left), ten_bit(right)
        if counts[0] is None or counts[1] is None:
            raise DecodeError(f"'{right_path.name}' holds other than 10-bit samples", expected="a file as its left")
        baseline, aspect = _PNG_SIZES[left.shape[1], left.shape[0]]
        halves = _Half(left, f"file {source.path.name}"), _Half(right, f"file {right_path.name}")
        levels = source.levels.over(BLACK, WHITE)
        said = source.levels.origin("assumed, as PDCapture")
        provenance = {"levels": f"white {levels[1]:g} of 10 bits, black {levels[0]:g} ({said})"}
        form = f"RAW_DEPTH PNG, {_form(left, counts[0])}"
        return _views(halves, (counts[0], counts[1]), form, source.baseline or baseline, aspect, provenance, levels)


def ten_bit(samples: Samples) -> npt.NDArray[np.uint16] | None:
    """The 10-bit counts behind ``samples`` (uint16: as read, or stretched to 16 bits), or None for other values."""
    if int(samples.max()) <= WHITE:
        return samples
    # The smallest count whose stretched value is not below the sample: exact, and cheaper than a rounded division.
    counts = ((samples.astype(np.uint32) * WHITE + (_STRETCHED - 1)) // _STRETCHED).astype(np.uint16)
    stretched = counts.astype(np.uint32) * _STRETCHED // WHITE
    return counts if np.array_equal(stretched, samples) else None


def _read_dump(source: Source, dump: Dump) -> npt.NDArray[np.uint16]:
    check_size(source.path, dump.width, dump.height)
    dump.check_file_size(source.path)
    data = read_bounded(source.path)
    if len(data) not in dump.file_sizes:
        raise DecodeError(f"'{source.path.name}' changed while it was read", hint="try again")
    return dump.samples(data)


def _form(stored: Samples, counts: Samples) -> str:
    return "10 bit" if stored is counts else "10 bit stretched to 16"


def _views(
    halves: tuple[_Half, _Half],
    counts: tuple[Samples, Samples],
    form: str,
    baseline: Baseline,
    pixel_aspect: float,
    provenance: Mapping[str, str],
    levels: tuple[float, float],
) -> SensorViews:
    black, white = levels
    left, right = (np.ascontiguousarray(samples) for samples in counts)
    scale = 1 / (white - black)
    return SensorViews(
        left=Plane(left, (float(black),), scale, mosaic=False),
        right=Plane(right, (float(black),), scale, mosaic=False),
        combined=Plane(left + right, (2.0 * black,), scale / 2, mosaic=False),
        saturated=np.asarray((left >= white) | (right >= white)),
        meta=CaptureMeta(
            pixel_aspect=pixel_aspect,
            provenance={"left": halves[0].origin, "right": halves[1].origin, **provenance},
        ),
        baseline=baseline,
        details={"format": form, "black": black, "white": white, "clip": white},
        frames=lambda: pair_frames(halves[0].stored, halves[1].stored),
    )
