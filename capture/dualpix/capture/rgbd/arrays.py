"""Depth files: PNG, TIFF, NPY, PFM and OpenEXR.

Sizes are checked before memory is taken, and nothing is ever unpickled.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import tifffile

from dualpix.capture.arrays import npy
from dualpix.capture.arrays.inflate import unpacks_as_declared
from dualpix.capture.errors import DualpixError
from dualpix.capture.raw.containers.images import check_size, read_bounded, read_picture, read_tiff
from dualpix.capture.rgbd.exr import read_exr
from dualpix.capture.rgbd.sample import RgbdError

_PFM_HEADER = re.compile(rb"(P[fF])\s+(\d{1,9})\s+(\d{1,9})\s+([-+.\deE]{1,32})\s")
_NUMBERS = "fui"
_WHOLE_FILE = "a complete file; copy it again"


def read_depth_file(path: Path) -> npt.NDArray[Any]:
    """The numbers (H, W) of a depth file, in whatever unit: uint16, other integers, or floats with NaN and infinity.

    Raises:
        RgbdError: a format that is not read, or no single plane of numbers.
        DecodeError: damaged, cut or absurdly large.
    """
    readers = {
        ".png": read_picture, ".tif": _read_tiff, ".tiff": _read_tiff, ".npy": read_npy, ".pfm": read_pfm,
        ".exr": read_exr,
    }  # fmt: skip
    reader = readers.get(path.suffix.lower())
    if reader is None:
        raise RgbdError(
            f"'{path.name}' is no depth file that is read here",
            expected=f"one of {' '.join(sorted(readers))}",
            hint="write it as float32 TIFF or NPY",
        )
    depth = reader(path)
    if depth.ndim == 3 and depth.shape[2] == 1:
        depth = depth[..., 0]
    if depth.ndim != 2:
        raise RgbdError(f"'{path.name}' has {depth.shape[2]} channels", expected="one depth per pixel, not a picture")
    if depth.dtype == np.uint8:
        raise RgbdError(
            f"'{path.name}' has 8 bits, which cannot hold depth in m or mm", expected="16-bit integers or floats"
        )
    return depth


def read_npy(path: Path) -> npt.NDArray[Any]:
    """The array (H, W) or (H, W, C) of numbers or booleans in an ``.npy`` file.

    Raises:
        RgbdError: objects, another shape, or a damaged file.
    """
    array = npy.read_npy(
        path, axes=(2, 3), kinds="fuib", expected="an .npy of one number a pixel, (H, W)", error=RgbdError
    )
    check_size(path, array.shape[1], array.shape[0])
    if array.ndim == 3 and array.shape[2] > 4:
        raise RgbdError(f"'{path.name}' has {array.shape[2]} channels", expected="one depth per pixel")
    return array


def read_pfm(path: Path) -> npt.NDArray[np.float32]:
    """The samples (H, W) or (H, W, 3), from the top row down, of a portable float map; its rows lie bottom up.

    Raises:
        RgbdError: a broken header, or the length of the file does not fit it.
    """
    data = read_bounded(path)
    match = _PFM_HEADER.match(data[:256])
    try:
        scale = float(match[4]) if match else 0.0
    except ValueError:
        scale = 0.0
    if match is None or scale == 0.0:
        raise RgbdError(f"'{path.name}' has a broken PFM header", expected="'Pf', width height, scale")
    width, height, channels = int(match[2]), int(match[3]), 3 if match[1] == b"PF" else 1
    check_size(path, width, height)
    needed = 4 * width * height * channels
    if len(data) - match.end() != needed:
        raise RgbdError(
            f"'{path.name}' has {len(data) - match.end()} bytes of samples", expected=f"{needed} for {width}x{height}"
        )
    samples = np.frombuffer(data, "<f4" if scale < 0 else ">f4", offset=match.end())
    shape = (height, width, channels) if channels == 3 else (height, width)
    return np.ascontiguousarray(samples.reshape(shape)[::-1]).astype(np.float32)


def read_text(path: Path, limit: int = 1 << 20) -> str:
    """A small text file.

    Raises:
        RgbdError: missing, larger than ``limit`` bytes, or no text.
    """
    try:
        with path.open("rb") as file:
            data = file.read(limit + 1)
        if len(data) > limit:
            raise RgbdError(f"'{path.name}' has over {limit} bytes", expected="a small text file")
        return data.decode("utf-8-sig")
    except OSError as error:
        raise RgbdError(f"cannot read '{path}': {error.strerror or error}") from error
    except UnicodeDecodeError as error:
        raise RgbdError(f"'{path.name}' is no text") from error


def _read_tiff(path: Path) -> npt.NDArray[Any]:
    try:
        with tifffile.TiffFile(path) as file:
            page = file.pages[0]
            shape, dtype = page.shape, page.dtype
            if dtype is None or dtype.kind not in _NUMBERS or len(shape) not in (2, 3) or shape[2:] not in ((), (1,)):
                raise RgbdError(
                    f"'{path.name}' holds {dtype} {shape}", expected="one plane of 16-bit integers or floats"
                )
            check_size(path, shape[1], shape[0])
            if not unpacks_as_declared(page):
                raise RgbdError(f"'{path.name}' unpacks to more than its header says", expected=_WHOLE_FILE)
            return np.asarray(page.asarray())
    except OSError as error:
        raise RgbdError(f"cannot read '{path}': {error.strerror or error}") from error
    except DualpixError:
        raise
    except Exception as error:  # tifffile and its codecs raise what they trip over
        if "imagecodecs" in str(error) or isinstance(error, ImportError):  # what it lacks a codec for
            return read_tiff(path)
        raise RgbdError(f"'{path.name}' is a damaged TIFF", expected=_WHOLE_FILE) from error
