"""Frames of a multi-frame raw through LibRaw, both at once.

The frame is selected *before* the file is opened: LibRaw picks the directory (CR2) or the track (CR3) while it
identifies the file, so ``rawpy.imread(path, shot_select=1)``, which selects afterwards, returns frame 0 again without a
word.

LibRaw releases the interpreter's lock while it unpacks, so the two frames of a file are read in two threads. The
samples stay where LibRaw put them: at 30 megapixels a copy would cost as much as the subtraction.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import numpy.typing as npt
import rawpy

from dualpix.capture.errors import DecodeError
from dualpix.capture.raw.dng import Crop
from dualpix.capture.raw.native import captured_stderr
from dualpix.capture.raw.plugin import MAX_PIXELS

Frame = npt.NDArray[np.uint16]

# Colour numbers of rawpy (0 R, 1 G, 2 B, 3 second G) in the order of the mosaic cell: R, G (first row), G, B (second).
_RGGB = [[0, 1], [3, 2]]
# A lossless raw has more than half a byte for a pixel of both frames, a C-RAW of darkness some hundredths.
_MAX_PIXELS_PER_BYTE = 64
_DAMAGE = ("data corrupted", "Unexpected end of file")
# CIE XYZ (D65) from linear sRGB, IEC 61966-2-1.
_XYZ_FROM_SRGB = np.array([[0.4124, 0.3576, 0.1805], [0.2126, 0.7152, 0.0722], [0.0193, 0.1192, 0.9505]])
Matrix = tuple[tuple[float, float, float], ...]
T = TypeVar("T")


@dataclass(frozen=True)
class RawFrame:
    """One full sensor frame with what the metadata say about it. Per-channel values are in cell order R, G, G, B."""

    samples: Frame
    """(H, W), RGGB from the top left, masked borders included; read-only."""
    metadata_black: tuple[float, float, float, float]
    white: int
    crop: Crop
    """The picture area, even offsets and sizes."""
    white_balance: tuple[float, float, float] | None
    """R, G, B multipliers of the camera's white balance, green = 1."""
    srgb_from_camera: Matrix | None
    """White-balanced camera colour to linear sRGB, rows sum to 1; None where the colour of the model is not known."""


def read_frame(path: Path, index: int) -> RawFrame:
    """Frame ``index`` of a raw file, bit-exact.

    Raises:
        DecodeError: LibRaw cannot read it, has no such frame, or reports damage.
    """
    return read_frames([(path, index)], lambda frame: frame)[0]


def read_frames(wanted: Sequence[tuple[Path, int]], then: Callable[[RawFrame], T]) -> list[T]:
    """Some frames, each read in a thread of its own, which goes on to ``then``.

    Args:
        wanted: (file, index of the frame in it), a few.
        then: what to do with a frame in its thread.

    Raises:
        DecodeError: LibRaw cannot read one, it has no such frame, or damage is reported; also what ``then`` raises.
    """
    with captured_stderr() as complaints, ThreadPoolExecutor(len(wanted)) as pool:
        results = list(pool.map(lambda which: then(_read_frame(*which)), wanted))
    _raise_damage(wanted[0][0], complaints)
    return results


def _read_frame(path: Path, index: int) -> RawFrame:
    raw = rawpy.RawPy()
    try:
        raw.set_unpack_params(shot_select=index)
        raw.open_file(str(path))
        _check_size(path, raw.sizes)
        raw.unpack()
        return _frame(path, raw)
    except rawpy.LibRawRequestForNonexistentImageError as error:
        raise no_second_frame(path) from error
    except (rawpy.LibRawError, rawpy.NotSupportedError) as error:
        raise DecodeError(
            f"LibRaw cannot read frame {index} of '{path.name}': {reason_of(error)}",
            expected="a complete Dual Pixel RAW",
            hint="the file may be cut or damaged, copy it again",
        ) from error


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
    black = raw.black_level_per_channel
    return RawFrame(
        samples=_readonly(samples),
        metadata_black=(black[0], black[1], black[3], black[2]),
        white=int(raw.white_level),
        crop=even_crop(raw.sizes, samples.shape),
        white_balance=_white_balance(raw.camera_whitebalance),
        srgb_from_camera=_srgb_from_camera(raw.rgb_xyz_matrix),
    )


def _readonly(samples: Frame) -> Frame:
    """A view that keeps LibRaw's memory alive."""
    samples = samples.view()
    samples.flags.writeable = False
    return samples


def even_crop(sizes: Any, shape: tuple[int, int]) -> Crop:
    """The official crop, else LibRaw's visible area; shrunk to even numbers and into the mosaic."""
    height, width = shape
    left, top, w, h = sizes.left_margin, sizes.top_margin, sizes.width, sizes.height
    if sizes.crop_width and sizes.crop_height:
        left, top, w, h = sizes.crop_left_margin, sizes.crop_top_margin, sizes.crop_width, sizes.crop_height
    right, bottom = min(left + w, width), min(top + h, height)
    left, top = left + left % 2, top + top % 2
    crop = Crop(left, top, (right - left) // 2 * 2, (bottom - top) // 2 * 2)
    return crop if crop.width > 0 and crop.height > 0 else Crop(0, 0, width // 2 * 2, height // 2 * 2)


def _white_balance(multipliers: list[float]) -> tuple[float, float, float] | None:
    red, green, blue = (float(v) for v in multipliers[:3])
    if not all(np.isfinite(v) and v > 0 for v in (red, green, blue)):
        return None
    return red / green, 1.0, blue / green


def _srgb_from_camera(camera_from_xyz: npt.NDArray[np.float32]) -> Matrix | None:
    """The inverse of the model's XYZ -> camera matrix after sRGB -> XYZ, with rows that keep white (as dcraw does)."""
    camera_from_srgb = np.asarray(camera_from_xyz[:3], np.float64) @ _XYZ_FROM_SRGB
    sums = camera_from_srgb.sum(axis=1, keepdims=True)
    if not np.isfinite(sums).all() or (np.abs(sums) < 1e-6).any():
        return None
    camera_from_srgb /= sums
    if abs(np.linalg.det(camera_from_srgb)) < 1e-6:
        return None
    red, green, blue = np.linalg.inv(camera_from_srgb).tolist()
    return tuple(red), tuple(green), tuple(blue)


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
