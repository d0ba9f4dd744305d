"""Frames of a raw file: both of a dual-pixel one at once, or the only one of an ordinary raw.

LibRaw unpacks them, but for the forms of DNG that it does not read right (:mod:`.containers.tiff_samples`); levels of a
DNG are always those of its own tags (:mod:`.dng_levels`).

The frame is selected *before* the file is opened: LibRaw picks the directory (CR2) or the track (CR3) while it
identifies the file, so ``rawpy.imread(path, shot_select=1)``, which selects afterwards, returns frame 0 again without a
word.

LibRaw releases the interpreter's lock while it unpacks, so the two frames of a file are read in two threads. The
samples stay where LibRaw put them: at 30 megapixels a copy would cost as much as the subtraction.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar

import numpy as np

from dualpix.capture.errors import DecodeError
from dualpix.capture.raw.containers.images import MAX_PIXELS
from dualpix.capture.raw.containers.native import captured_stderr
from dualpix.capture.raw.develop.geometry import Crop
from dualpix.capture.raw.frames.dng_frame import dng_of
from dualpix.capture.raw.frames.dng_levels import Area
from dualpix.capture.raw.frames.sensor_frame import (
    Frame,
    RawFrame,
    read_only,
    shrunk_to_cells,
    srgb_from_camera,
    white_balance,
)
from dualpix.capture.raw.frames.structure import compression_name

# Colour numbers of rawpy (0 R, 1 G, 2 B, 3 second G) in the order of the mosaic cell: R, G (first row), G, B (second).
_RGGB = [[0, 1], [3, 2]]
# A lossless raw has more than half a byte for a pixel of both frames, a C-RAW of darkness some hundredths.
_MAX_PIXELS_PER_BYTE = 64
# TIFF compressions: none, lossless JPEG.
_USUAL = (1, 7)
_CONVERT = "convert it with Adobe's DNG Converter, without lossy compression"
_DAMAGE = ("data corrupted", "Unexpected end of file")
T = TypeVar("T")


def read_frame(path: Path, index: int) -> RawFrame:
    """Frame ``index`` of a raw file, bit-exact.

    Raises:
        DecodeError: it cannot be read, has no such frame, or damage is reported.
    """
    return read_frames([(path, index)], lambda frame: frame)[0]


def read_frames(wanted: Sequence[tuple[Path, int]], then: Callable[[RawFrame], T]) -> list[T]:
    """Some frames, each read in a thread of its own, which goes on to ``then``.

    Args:
        wanted: (file, index of the frame in it), a few.
        then: what to do with a frame in its thread.

    Raises:
        DecodeError: one cannot be read, there is no such frame, or damage is reported; also what ``then`` raises.
    """
    with captured_stderr() as complaints, ThreadPoolExecutor(len(wanted)) as pool:
        results = list(pool.map(lambda which: then(_read_frame(*which)), wanted))
    _raise_damage(wanted[0][0], complaints)
    return results


def read_mosaic(path: Path) -> RawFrame:
    """The visible part of an ordinary Bayer raw of any phase, cut so that it begins with red.

    Raises:
        DecodeError: it cannot be read, has no Bayer mosaic, or damage is reported.
    """
    dng = dng_of(path)
    if dng is not None and dng.unpacked_here:
        return dng.mosaic()
    with captured_stderr() as complaints, _opened(path, 0, "a complete raw file") as raw:
        frame, place = _visible(path, raw)
    _raise_damage(path, complaints)
    return frame if dng is None else dng.with_levels(frame, 0, place)


def frame_size(path: Path, index: int) -> tuple[int, int, Crop]:
    """Height and width of a frame and its picture area, from the header alone.

    Raises:
        DecodeError: it cannot be opened.
    """
    import rawpy

    dng = dng_of(path)
    if dng is not None and dng.unpacked_here:
        return dng.size
    raw = rawpy.RawPy()
    try:
        with captured_stderr():
            raw.set_unpack_params(shot_select=index)
            raw.open_file(str(path))  # the only thing rawpy tells without unpacking is the sizes
        sizes = raw.sizes
    except (rawpy.LibRawError, rawpy.NotSupportedError) as error:
        raise DecodeError(f"LibRaw cannot open frame {index}{_coding(path)}: {reason_of(error)}") from error
    return sizes.raw_height, sizes.raw_width, even_crop(sizes, (sizes.raw_height, sizes.raw_width))


def _read_frame(path: Path, index: int) -> RawFrame:
    dng = dng_of(path)
    if dng is not None and dng.unpacked_here:
        return dng.frame(index)
    with _opened(path, index, "a complete Dual Pixel RAW") as raw:
        frame = _frame(path, raw)
    return frame if dng is None else dng.with_levels(frame, index)


@contextmanager
def _opened(path: Path, index: int, expected: str) -> Iterator[Any]:
    """A raw whose frame is unpacked within the block."""
    import rawpy  # here: training reads pictures where LibRaw is not installed

    raw = rawpy.RawPy()
    try:
        raw.set_unpack_params(shot_select=index)
        raw.open_file(str(path))
        _check_size(path, raw.sizes)
        raw.unpack()
        yield raw
    except rawpy.LibRawRequestForNonexistentImageError as error:
        raise no_second_frame(path) from error
    except (rawpy.LibRawError, rawpy.NotSupportedError) as error:
        coding = _coding(path)
        raise DecodeError(
            f"LibRaw cannot read frame {index} of '{path.name}'{coding}: {reason_of(error)}",
            expected=expected,
            hint=_CONVERT if coding else "the file may be cut or damaged, copy it again",
        ) from error


def _coding(path: Path) -> str:
    """How a DNG's samples are coded, where that goes beyond the plain ones and lossless JPEG of every converter."""
    dng = dng_of(path)
    if dng is None or dng.ifd.integer(0x0103, 1) in _USUAL:
        return ""
    return f", whose samples are {compression_name(dng.ifd)}"


def _check_size(path: Path, sizes: Any) -> None:
    """Refuse what no sensor takes, or too few bytes can hold, before memory is taken for it."""
    pixels = sizes.raw_width * sizes.raw_height
    if pixels > min(MAX_PIXELS, _MAX_PIXELS_PER_BYTE * path.stat().st_size):
        raise DecodeError(
            f"'{path.name}' claims {sizes.raw_width}x{sizes.raw_height} pixels in {path.stat().st_size} bytes",
            expected="a complete raw file",
            hint="its header is damaged, copy it again",
        )


def no_second_frame(path: Path) -> DecodeError:
    """The error for an ordinary raw."""
    return DecodeError(
        f"'{path.name}' holds one frame, the second photodiode is missing",
        expected="a Dual Pixel RAW with two frames",
        hint="turn on Dual Pixel RAW in the camera before shooting",
    )


def _frame(path: Path, raw: Any) -> RawFrame:
    samples = raw.raw_image
    pattern = raw.raw_pattern
    if samples is None or samples.ndim != 2 or pattern is None or pattern.tolist() != _RGGB:
        found = "no mosaic" if samples is None or pattern is None else f"colour pattern {pattern.tolist()}"
        raise DecodeError(f"'{path.name}' has {found}", expected="an RGGB Bayer mosaic")
    return _framed(raw, read_only(samples), even_crop(raw.sizes, samples.shape))


def _visible(path: Path, raw: Any) -> tuple[RawFrame, Area]:
    """The visible samples from red on, and where they lie in the stored picture."""
    visible, pattern = raw.raw_image_visible, raw.raw_pattern
    if visible is None or visible.ndim != 2 or pattern is None or pattern.shape != (2, 2):
        raise DecodeError(f"'{path.name}' has no Bayer mosaic", expected="an ordinary raw")
    row, column = (int(places[0]) for places in np.nonzero(raw.raw_colors_visible[:2, :2] == 0))
    margins = Area(raw.sizes.top_margin, raw.sizes.left_margin, *visible.shape)
    place = margins.moved(row, column).whole_cells
    samples = np.array(visible[row : row + place.height, column : column + place.width])
    return _framed(raw, read_only(samples), Crop(0, 0, place.width, place.height)), place


def _framed(raw: Any, samples: Frame, crop: Crop) -> RawFrame:
    black = raw.black_level_per_channel
    return RawFrame(
        samples=samples,
        metadata_black=(black[0], black[1], black[3], black[2]),
        white=int(raw.white_level),
        crop=crop,
        white_balance=white_balance(*map(float, raw.camera_whitebalance[:3])),
        srgb_from_camera=srgb_from_camera(raw.rgb_xyz_matrix),
    )


def even_crop(sizes: Any, shape: tuple[int, int]) -> Crop:
    """The official crop, else LibRaw's visible area; shrunk to even numbers and into the mosaic."""
    if sizes.crop_width and sizes.crop_height:
        place = sizes.crop_left_margin, sizes.crop_top_margin, sizes.crop_width, sizes.crop_height
    else:
        place = sizes.left_margin, sizes.top_margin, sizes.width, sizes.height
    return shrunk_to_cells(*place, shape)


def _raise_damage(path: Path, complaints: list[str]) -> None:
    for line in complaints:
        if any(sign in line for sign in _DAMAGE):
            raise DecodeError(
                f"'{path.name}' is damaged: LibRaw says \"{line.rsplit(': ', 1)[-1]}\"",
                expected="a complete raw file",
                hint="copy it again from the card",
            )


def reason_of(error: Exception) -> str:
    """LibRaw's own words."""
    argument = error.args[0] if error.args else type(error).__name__
    return argument.decode("utf-8", "replace") if isinstance(argument, bytes) else str(argument)
