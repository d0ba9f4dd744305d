"""Pictures and maps of data sets and of predictions, read within bounds."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from dualpix.capture.arrays.npy import read_npy
from dualpix.capture.errors import DualpixError
from dualpix.capture.pictures.display import linear_from_srgb
from dualpix.capture.raw.containers.images import read_picture
from dualpix.capture.rgbd.arrays import read_depth_file, read_pfm
from dualpix.capture.rgbd.exr import read_exr
from dualpix.capture.rgbd.sample import RgbdError
from dualpix.capture.types import FloatImage, FocusStack, LensModel

MAP_SUFFIXES = (".npy", ".tif", ".tiff", ".png", ".pfm", ".exr")
_UNKNOWN = float("nan")


def read_map(path: Path) -> npt.NDArray[Any]:
    """The numbers (H, W), or (H, W, 3) of a colour picture, of a file of one of ``MAP_SUFFIXES``, as they are.

    Raises:
        DualpixError: another format, damaged, or absurdly large.
    """
    suffix = path.suffix.lower()
    if suffix == ".npy":
        array = read_npy(path, axes=(2, 3, 4), expected="an .npy of one number a pixel, (H, W)")
        while array.ndim > 2 and array.shape[0] == 1:  # of a batch, and of channels before the picture
            array = array[0]
        array = array[..., 0] if array.ndim == 3 and array.shape[2] == 1 else array
        if array.ndim > 3:
            raise DualpixError(f"'{path.name}' is {array.shape}", expected="one map, (H, W)")
        return array
    if suffix == ".pfm":
        return read_pfm(path)
    if suffix == ".exr":
        return read_exr(path)
    if suffix in (".tif", ".tiff"):
        try:
            return read_depth_file(path)  # floats, with NaN where nothing was found
        except RgbdError:  # 8 bits, or a picture
            return read_picture(path)
    return read_picture(path)


def read_codes(path: Path, what: str, dtype: type[np.uint8 | np.uint16]) -> npt.NDArray[Any]:
    """The codes (H, W) of a grey picture of a data set.

    Raises:
        DualpixError: it is no such picture.
    """
    codes = read_picture(path)
    if codes.ndim != 2 or codes.dtype != dtype:
        bits = np.iinfo(dtype).bits
        expected = f"{'an' if bits == 8 else 'a'} {bits}-bit gray picture"
        raise DualpixError(f"'{path.name}' is not {what}", expected=expected)
    return codes


def read_colour(path: Path) -> FloatImage:
    """A picture (H, W, 3), R, G, B, 0..1, as its codes are; grey is repeated."""
    samples = read_picture(path)
    scale = 1.0 if samples.dtype.kind == "f" else np.iinfo(samples.dtype).max
    values = np.asarray(samples, np.float32) / np.float32(scale)
    return np.repeat(values[..., None], 3, axis=2) if values.ndim == 2 else values


def focus_stack(
    frames: Iterable[FloatImage],
    focus_distance_m: npt.ArrayLike,
    *,
    names: tuple[str, ...] = (),
    focal_length_mm: float = _UNKNOWN,
    f_number: float = _UNKNOWN,
    pixel_pitch_um: float = _UNKNOWN,
    all_in_focus: FloatImage | None = None,
) -> FocusStack:
    """A stack of display-referred pictures, in whatever order.

    Args:
        frames: (N, H, W, 3), 0..1, with the sRGB curve, which data sets of pictures are taken to have.
        focus_distance_m: (N,) from the lens.
        names: (N,) of the frames.
        focal_length_mm: of the lens, in the unit of ``pixel_pitch_um``; NaN where it is not known.
        f_number: likewise.
        pixel_pitch_um: likewise.
        all_in_focus: (H, W, 3), 0..1, with the same curve.
    """
    distances = np.asarray(focus_distance_m, np.float64)
    farthest_first = np.argsort(-distances, kind="stable")
    lens = LensModel(focal_length_mm, f_number, float(distances[farthest_first[0]]), pixel_pitch_um)
    linear = np.stack([linear_from_srgb(np.clip(frame, 0, 1)) for frame in frames])
    return FocusStack(
        linear[farthest_first],
        distances[farthest_first],
        np.zeros(len(distances)),
        lens,
        None if all_in_focus is None else linear_from_srgb(np.clip(all_in_focus, 0, 1)),
        names=tuple(names[i] for i in farthest_first) if names else (),
    )
