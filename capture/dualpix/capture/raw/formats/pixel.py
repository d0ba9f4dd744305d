"""Google Pixel dual-pixel pairs: green only, two files per capture.

Both forms are linear, and their left / right names already follow the house sign: on real captures things behind the
focus plane have ``x_right - x_left > 0`` in the files as named (measured on Pixel 4 scenes with known defocus, on a
PDCapture pair, and, along y, on a portrait capture of Garg et al. 2019), so nothing is swapped.

- **PDCapture** (google-research/dual_pixels): ``P5 2016 756 65535``, big-endian, 10-bit samples stretched to 16 bits
  as ``trunc(raw * 65535 / 1023)``; black 64. Half the sensor's horizontal sampling, a quarter of its vertical one: the
  views keep that, ``meta.pixel_aspect`` 2 says that a view pixel is twice as high as wide.
- **Pixel 4 PNG** (Xin et al., ICCV 2021): 2016x1512, 16-bit PNG holding 14-bit samples, black 1024; merged from a
  burst, so values run up to 16464.
"""

from __future__ import annotations

import struct
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import numpy.typing as npt

from dualpix.capture.errors import DecodeError
from dualpix.capture.raw.containers.images import Samples, picture_kind, read_pgm, read_picture, whole_range
from dualpix.capture.raw.develop.planes import Plane
from dualpix.capture.raw.formats.pair import check_pair, find_right, pair_frames
from dualpix.capture.raw.formats.plugin import SensorViews, Source
from dualpix.capture.types import ANY_PIXEL, Baseline, CaptureMeta, Mask

PDCAPTURE_BLACK, PDCAPTURE_WHITE = 64, 1023
PIXEL4_BLACK, PIXEL4_WHITE = 1024, 16383
PIXEL4 = "Google Pixel 4"
_PIXEL4_SIZES: dict[tuple[int, int], Baseline] = {(2016, 1512): "x", (1512, 2016): "y"}
# Noise reaches a little below black, merging a little above white.
_PIXEL4_RANGE = (PIXEL4_BLACK - 256, PIXEL4_WHITE + 128)


class PdCaptureDecoder:
    """The PGM pairs of Google's PDCapture app."""

    name = "pixel-pdcapture"
    needs = "TIME_left.pgm with TIME_right.pgm, as PDCapture writes them"
    summary = "Google PDCapture pair (Pixel 3 and 4)"
    suffixes = (".pgm",)
    whole_suffixes = ()

    def refuses(self, source: Source) -> str | None:
        """None for a PGM whose every sample is a stretched 10-bit one."""
        if picture_kind(source.head) != "pgm":
            return "not a PGM"
        if b"65535" not in source.head[:32].split():
            return "PGM maximum is not 65535"
        samples, _ = read_pgm(source.path)
        return (
            None if np.array_equal(_stretch(_unstretch(samples)), samples) else "samples are not stretched 10-bit ones"
        )

    def decode(self, source: Source) -> SensorViews:
        """Both views in 10-bit counts above black. Raises DecodeError for a missing, unequal or damaged file."""
        right_path = find_right(source)
        left, right = read_pgm(source.path)[0], read_pgm(right_path)[0]
        check_pair(source.path, left, right_path, right)
        raw_left, raw_right = _unstretch(left), _unstretch(right)
        if not np.array_equal(_stretch(raw_right), right):
            raise DecodeError(
                f"'{right_path.name}' holds other than stretched 10-bit samples",
                expected="a PDCapture file as its left",
            )
        details = {"format": "PDCapture PGM, 10 bit"}
        return _views(
            (source.path, raw_left),
            (right_path, raw_right),
            source.levels.over(PDCAPTURE_BLACK, PDCAPTURE_WHITE),
            details,
            "x",
            (left, right),
            pixel_aspect=2.0,
        )


class Pixel4PngDecoder:
    """16-bit PNG pairs of a Pixel 4, in the form of Xin et al. 2021."""

    name = "pixel4-png"
    needs = "NNN_left.png with NNN_right.png, 16-bit gray 2016x1512"
    summary = "Google Pixel 4 pair in the form of Xin et al. 2021"
    suffixes = (".png",)
    whole_suffixes = ()

    def refuses(self, source: Source) -> str | None:
        """None for a 16-bit gray PNG of the Pixel's size whose values lie in the sensor's range."""
        if picture_kind(source.head) != "png" or len(source.head) < 26:
            return "not a PNG"
        width, height, bits, colour = struct.unpack_from(">IIBB", source.head, 16)
        if (width, height) not in _PIXEL4_SIZES or (bits, colour) != (16, 0):
            return f"PNG is {width}x{height}, not 16-bit gray 2016x1512"
        samples = whole_range(source.picture)
        low, high = int(samples.min()), int(samples.max())
        in_range = _PIXEL4_RANGE[0] <= low and high <= _PIXEL4_RANGE[1]
        return None if in_range else f"values {low}..{high} are not 14-bit above black {PIXEL4_BLACK}"

    def decode(self, source: Source) -> SensorViews:
        """Both views. Raises DecodeError for a missing, unequal or damaged file."""
        right_path = find_right(source)
        left, right = whole_range(source.picture), read_picture(right_path)
        check_pair(source.path, left, right_path, right)
        baseline = source.baseline or _PIXEL4_SIZES[left.shape[1], left.shape[0]]
        details = {"format": "Pixel 4 PNG, 14 bit"}
        levels = source.levels.over(PIXEL4_BLACK, PIXEL4_WHITE)
        pair = (source.path, left), (right_path, right)
        return _views(*pair, levels, details, baseline, (left, right), camera=PIXEL4)


def _views(
    left: tuple[Path, Samples],
    right: tuple[Path, Samples],
    levels: tuple[float, float],
    details: Mapping[str, object],
    baseline: Baseline,
    stored: tuple[Samples, Samples],
    *,
    pixel_aspect: float = 1.0,
    camera: str = ANY_PIXEL,
) -> SensorViews:
    black, white = levels
    scale = 1 / (white - black)
    halves = [Plane(samples, (float(black),), scale, mosaic=False) for _, samples in (left, right)]
    total = Plane(np.add(left[1], right[1], dtype=np.uint32), (2.0 * black,), scale / 2, mosaic=False)
    saturated: Mask = (left[1] >= white) | (right[1] >= white)
    provenance = {
        "left": f"file {left[0].name}",
        "right": f"file {right[0].name}",
        "sign": "the files' own left and right, measured: behind focus x_right - x_left > 0",
    }
    return SensorViews(
        left=halves[0],
        right=halves[1],
        combined=total,
        saturated=saturated,
        meta=CaptureMeta(camera=camera, pixel_aspect=pixel_aspect, provenance=provenance),
        baseline=baseline,
        details={**details, "black": black, "white": white, "clip": white},
        frames=lambda: pair_frames(*stored),
    )


def _unstretch(samples: npt.NDArray[np.uint16]) -> npt.NDArray[np.uint16]:
    return np.round(samples.astype(np.float64) * (1023 / 65535)).astype(np.uint16)


def _stretch(raw: npt.NDArray[np.uint16]) -> npt.NDArray[np.uint16]:
    return (raw.astype(np.uint32) * 65535 // 1023).astype(np.uint16)
