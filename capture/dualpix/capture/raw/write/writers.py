"""Linear views to files: how light becomes codes, and the containers TIFF, PNG and NPZ.

Light is signed and open at the top, 1.0 = white level. Integer codes are

    light = (code - black) / (white - black) * full_scale

with ``white`` the largest code and one ``full_scale`` for all views of a capture; 8-bit codes go through the sRGB curve
after that, as 8 bits of linear light would band in the shadows. Floats are the light itself.

Views are encoded in strips of rows, so that writing takes little memory beyond the view.
"""

from __future__ import annotations

import math
import shutil
import struct
import zipfile
import zlib
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from types import TracebackType
from typing import Any, Literal, Self

import cv2
import numpy as np
import numpy.typing as npt

from dualpix.capture.errors import OutputError
from dualpix.capture.pictures.display import srgb_codes
from dualpix.capture.raw.containers.native import captured_stderr
from dualpix.capture.raw.containers.tiff import LONG, RATIONAL, SHORT, Tag, ifd_bytes
from dualpix.capture.types import FloatImage

Codes = npt.NDArray[Any]

STRIP_ROWS = 64
_EXIF_POINTER = 0x8769
_PNG_START = 33  # signature and IHDR
_FLOATS: dict[int, np.dtype[Any]] = {16: np.dtype("<f2"), 32: np.dtype("<f4")}
_INTEGERS: dict[int, np.dtype[Any]] = {8: np.dtype("u1"), 16: np.dtype("<u2")}


@dataclass(frozen=True)
class Coding:
    """How light is stored."""

    bit_depth: int
    floating: bool = False
    full_scale: float = 1.0
    """Light of the largest code; 1.0 for floats."""
    black: int = 0
    """Code of no light; codes below it keep the negative half of the noise."""

    @property
    def curve(self) -> Literal["linear", "srgb"]:
        """Tone curve of the codes."""
        return "srgb" if self.bit_depth == 8 else "linear"

    @property
    def dtype(self) -> np.dtype[Any]:
        """Of a stored sample, little-endian."""
        return (_FLOATS if self.floating else _INTEGERS)[self.bit_depth]

    @property
    def white(self) -> int:
        """The largest code."""
        return 1 if self.floating else 2**self.bit_depth - 1

    @property
    def lowest(self) -> float:
        """The least light that can be stored."""
        return -math.inf if self.floating else -self.black / (self.white - self.black) * self.full_scale

    @property
    def meaning(self) -> str:
        """The way back from a stored value to linear light, in one line."""
        if self.floating:
            return "linear light, black-subtracted, signed; 1.0 = white level"
        code = "code" if self.black == 0 else f"(code - {self.black})"
        share = f"{code} / {self.white - self.black}"
        share = share if self.curve == "linear" else f"srgb_to_linear({share})"
        return f"linear light = {share} * {self.full_scale:g}, black-subtracted; 1.0 = white level"

    def encode(self, light: FloatImage) -> Codes:
        """Codes of ``light`` (h, ...), of the same shape; light outside the range becomes the nearest code."""
        if self.floating:
            return light.astype(self.dtype, copy=False)
        flat = np.ascontiguousarray(light).reshape(light.shape[0], -1)
        # Scale, offset, rounding and saturation in one pass; 8 bits are looked up from 16.
        top = 65535.0
        scale = (top if self.bit_depth == 8 else self.white - self.black) / self.full_scale
        codes = cv2.addWeighted(flat, scale, flat, 0.0, float(self.black), dtype=cv2.CV_16U)
        codes = srgb_codes()[codes] if self.bit_depth == 8 else codes
        return codes.reshape(light.shape).astype(self.dtype, copy=False)

    def clipped_below(self, light: FloatImage) -> int:
        """How many samples are so far below the lowest code that more than rounding is lost."""
        if self.floating:
            return 0
        step = self.full_scale / (65535 if self.bit_depth == 8 else self.white - self.black)
        limit = np.float32(self.lowest - step / 2)
        return sum(int(np.count_nonzero(light[rows] < limit)) for rows in row_slices(light.shape[0]))


def full_scale_for(peak: float) -> float:
    """The full scale that holds ``peak`` without clipping: 1.0, or the peak rounded up to thousandths."""
    return max(1.0, math.ceil(peak * 1000) / 1000)


def row_slices(height: int) -> Iterator[slice]:
    """Strips of :data:`STRIP_ROWS` rows from top to bottom."""
    return (slice(top, min(top + STRIP_ROWS, height)) for top in range(0, height, STRIP_ROWS))


def encoded(light: FloatImage, coding: Coding) -> Iterator[Codes]:
    """Strips of codes, contiguous, from top to bottom."""
    return (np.ascontiguousarray(coding.encode(light[rows])) for rows in row_slices(light.shape[0]))


def write_tiff(
    path: Path, light: FloatImage, coding: Coding, *, picture: Sequence[Tag], exif: Sequence[Tag], aspect: float
) -> None:
    """Write a view as an uncompressed TIFF with an EXIF directory.

    Args:
        path: where to; not atomic, the caller's folder is.
        light: (H, W) or (H, W, 3) in R, G, B.
        coding: how.
        picture: tags of the first directory beyond those of the pixels.
        exif: its EXIF directory.
        aspect: height of a pixel over its width, stated as resolution without a unit.
    """
    channels = 3 if light.ndim == 3 else 1
    tags = [
        *picture,
        Tag(0x0106, SHORT, [2 if channels == 3 else 1]),  # PhotometricInterpretation: RGB, or black is zero
        Tag(0x011A, RATIONAL, [1]),  # XResolution
        Tag(0x011B, RATIONAL, [1 / Fraction(aspect).limit_denominator(1000)]),  # YResolution
        Tag(0x0128, SHORT, [1]),  # ResolutionUnit: none, the ratio counts
        Tag(0x0153, SHORT, [3 if coding.floating else 1] * channels),  # SampleFormat
    ]
    write_tiff_file(path, tags, exif, encoded(light, coding), light.shape, coding.dtype)


def write_tiff_file(
    path: Path,
    tags: Sequence[Tag],
    exif: Sequence[Tag],
    strips: Iterable[Codes],
    shape: tuple[int, ...],
    dtype: np.dtype[Any],
    *,
    rows_per_strip: int = STRIP_ROWS,
) -> None:
    """Write one picture as a TIFF: header, directory, EXIF directory, then uncompressed contiguous strips.

    Args:
        path: where to.
        tags: of the first directory, beyond the form of the pixels, their place and the pointer to ``exif``.
        exif: the EXIF directory.
        strips: the pixels from top to bottom, each of ``rows_per_strip`` rows but for the last.
        shape: (H, W) or (H, W, samples per pixel).
        dtype: of a sample.
        rows_per_strip: rows of a strip.
    """
    height, width, samples = (*shape, 1)[:3]
    row_bytes = width * samples * dtype.itemsize
    tops = range(0, height, rows_per_strip)
    sizes = [min(rows_per_strip, height - top) * row_bytes for top in tops]

    def header(exif_at: int, pixels_at: int) -> bytes:
        form = [
            Tag(0x0100, LONG, [width]),
            Tag(0x0101, LONG, [height]),
            Tag(0x0102, SHORT, [8 * dtype.itemsize] * samples),  # BitsPerSample
            Tag(0x0103, SHORT, [1]),  # Compression: none
            Tag(0x0111, LONG, [pixels_at + top * row_bytes for top in tops]),  # StripOffsets
            Tag(0x0115, SHORT, [samples]),
            Tag(0x0116, LONG, [rows_per_strip]),
            Tag(0x0117, LONG, sizes),  # StripByteCounts
            Tag(0x011C, SHORT, [1]),  # PlanarConfiguration: interleaved
            Tag(_EXIF_POINTER, LONG, [exif_at]),
        ]
        return struct.pack("<2sHI", b"II", 42, 8) + ifd_bytes([*tags, *form], 8)

    exif_at = len(header(0, 0))
    directory = ifd_bytes(exif, exif_at)
    pixels_at = (exif_at + len(directory) + 15) // 16 * 16
    with path.open("wb") as file:
        file.write((header(exif_at, pixels_at) + directory).ljust(pixels_at, b"\0"))
        for strip in strips:
            strip.astype(dtype, copy=False).tofile(file)


def write_png(path: Path, light: FloatImage, coding: Coding, exif: bytes) -> None:
    """Write a view as an 8- or 16-bit PNG with an eXIf chunk.

    The encoder needs the whole picture. Its codes take the place of ``light``, strip by strip: a code is at most half
    as long as the float it comes from, so none is overwritten before it is read.

    Args:
        path: where to; not atomic, the caller's folder is.
        light: (H, W) or (H, W, 3) in R, G, B, contiguous; **overwritten**.
        coding: how, integers.
        exif: content of the chunk.

    Raises:
        OutputError: OpenCV cannot write the picture.
    """
    codes = light.reshape(-1).view(coding.dtype)[: light.size].reshape(light.shape)
    for rows, strip in zip(row_slices(light.shape[0]), encoded(light, coding), strict=True):
        codes[rows] = strip[..., ::-1] if strip.ndim == 3 else strip  # OpenCV's B, G, R
    bare = path.with_name(f"bare-{path.name}")
    with captured_stderr():  # libpng's complaint, which is ours to make
        done = cv2.imwrite(str(bare), codes)
    if not done:
        raise OutputError(f"cannot write '{path.name}' of {codes.shape}", hint="free some space or choose another -o")
    # Readers that stream expect the chunk before the pixels.
    with bare.open("rb") as source, path.open("wb") as target:
        target.write(source.read(_PNG_START))
        target.write(_chunk(b"eXIf", exif))
        shutil.copyfileobj(source, target, 1 << 20)
    bare.unlink()


def write_picture(path: Path, picture: npt.NDArray[np.uint8]) -> None:
    """Write an 8-bit picture, (H, W) or (H, W, 3) in R, G, B, as PNG; a gray one is taken for a mask: long runs.

    One filter is named for each kind: left to itself, libpng tries all five on every row, which takes longer than the
    compression and saves nothing.
    """
    data = np.ascontiguousarray(picture[..., ::-1]) if picture.ndim == 3 else picture
    row_filter = cv2.IMWRITE_PNG_FILTER_AVG if picture.ndim == 3 else cv2.IMWRITE_PNG_FILTER_SUB
    quick = [cv2.IMWRITE_PNG_COMPRESSION, 1, cv2.IMWRITE_PNG_STRATEGY, cv2.IMWRITE_PNG_STRATEGY_RLE]
    done, encoded_picture = cv2.imencode(".png", data, [*quick, cv2.IMWRITE_PNG_FILTER, row_filter])
    if not done:
        raise OutputError(f"cannot encode '{path.name}' of {picture.shape}")
    path.write_bytes(encoded_picture.data)


class NpzWriter:
    """``with NpzWriter(path) as npz: npz.add("left", shape, dtype, strips)``: uncompressed, one array at a time."""

    def __init__(self, path: Path) -> None:
        self._zip = zipfile.ZipFile(path, "w", zipfile.ZIP_STORED)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._zip.close()

    def add(self, name: str, shape: tuple[int, ...], dtype: np.dtype[Any], strips: Iterable[Codes]) -> None:
        """Add an array that comes in contiguous pieces along its first axis."""
        header = {"descr": np.lib.format.dtype_to_descr(dtype), "fortran_order": False, "shape": shape}
        # A fixed date: the same capture gives the same file.
        member = zipfile.ZipInfo(f"{name}.npy")
        with self._zip.open(member, "w", force_zip64=True) as file:
            np.lib.format.write_array_header_1_0(file, header)
            for strip in strips:
                file.write(np.ascontiguousarray(strip, dtype).data.cast("B"))

    def add_array(self, name: str, array: Codes) -> None:
        """Add a whole array."""
        pieces = (array[rows] for rows in row_slices(array.shape[0]))
        self.add(name, array.shape, array.dtype, pieces)


def _chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
