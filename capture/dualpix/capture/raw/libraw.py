"""Frames of a multi-frame raw through LibRaw.

The frame is selected *before* the file is opened: LibRaw picks the directory (CR2) or the track (CR3) while it
identifies the file, so ``rawpy.imread(path, shot_select=1)``, which selects afterwards, returns frame 0 again without a
word.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import rawpy

from dualpix.capture.errors import DecodeError
from dualpix.capture.raw.dng import Crop
from dualpix.capture.raw.native import captured_stderr

Frame = npt.NDArray[np.uint16]

# Colour numbers of rawpy (0 R, 1 G, 2 B, 3 second G) in the order of the mosaic cell: R, G (first row), G, B (second).
_RGGB = [[0, 1], [3, 2]]
_DAMAGE = ("data corrupted", "Unexpected end of file")


@dataclass(frozen=True)
class RawFrame:
    """One full sensor frame with what the metadata say about it. Per-channel values are in cell order R, G, G, B."""

    samples: Frame
    """(H, W), RGGB from the top left, masked borders included."""
    metadata_black: tuple[float, float, float, float]
    white: int
    crop: Crop
    """The picture area, even offsets and sizes."""
    white_balance: tuple[float, float, float] | None
    """R, G, B multipliers of the camera's white balance, green = 1."""


def read_frame(path: Path, index: int) -> RawFrame:
    """Frame ``index`` of a raw file, bit-exact.

    Raises:
        DecodeError: LibRaw cannot read it, has no such frame, or reports damage.
    """
    raw = rawpy.RawPy()
    try:
        with captured_stderr() as complaints:
            raw.set_unpack_params(shot_select=index)
            raw.open_file(str(path))
            raw.unpack()
        _raise_damage(path, complaints)
        return _frame(path, raw)
    except rawpy.LibRawRequestForNonexistentImageError as error:
        raise no_second_frame(path) from error
    except (rawpy.LibRawError, rawpy.NotSupportedError) as error:
        raise DecodeError(
            f"LibRaw cannot read frame {index} of '{path.name}': {_reason(error)}",
            expected="a complete Dual Pixel RAW",
            hint="the file may be cut or damaged, copy it again",
        ) from error
    finally:
        raw.close()


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
        samples=np.array(samples, np.uint16),
        metadata_black=(black[0], black[1], black[3], black[2]),
        white=int(raw.white_level),
        crop=_even_crop(raw.sizes, samples.shape),
        white_balance=_white_balance(raw.camera_whitebalance),
    )


def _even_crop(sizes: Any, shape: tuple[int, int]) -> Crop:
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


def _raise_damage(path: Path, complaints: list[str]) -> None:
    for line in complaints:
        if any(sign in line for sign in _DAMAGE):
            raise DecodeError(
                f"'{path.name}' is damaged: LibRaw says \"{line.rsplit(': ', 1)[-1]}\"",
                expected="a complete raw file",
                hint="copy it again from the card",
            )


def _reason(error: Exception) -> str:
    argument = error.args[0] if error.args else type(error).__name__
    return argument.decode("utf-8", "replace") if isinstance(argument, bytes) else str(argument)
