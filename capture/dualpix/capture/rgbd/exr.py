"""OpenEXR files of one plane of numbers, as renderers write depth, read by the ``OpenEXR`` package.

``pip install 'dualpix[exr]'``: not by OpenCV, whose wheels are built without it from 5.0.0 on and before
that read it only where ``OPENCV_IO_ENABLE_OPENEXR`` is set. The size that a file claims is looked at before memory is
taken. Of several channels the depth is the one called ``Z`` or ``V`` (in any layer), else ``Y``, else ``R``.
"""

from __future__ import annotations

from collections.abc import Mapping
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from dualpix.capture.raw.containers.images import check_size, read_bounded
from dualpix.capture.rgbd.sample import RgbdError

MAGIC = b"\x76\x2f\x31\x01"
_DEPTH_NAMES = (("Z", "V"), ("Y",), ("R",))
_MOST_PACKED = 1032
"""Deflate packs no more than this; the other ways pack less."""


def read_exr(path: Path) -> npt.NDArray[Any]:
    """The depth channel (H, W), of whatever unit: float32, or uint32.

    Raises:
        RgbdError: no such file, cut or damaged, no channel of depth, or the ``OpenEXR`` package is not there.
        DecodeError: it cannot be read, or claims an absurd size.
    """
    size = len(data := read_bounded(path))
    if not data.startswith(MAGIC):
        raise RgbdError(f"'{path.name}' is no OpenEXR file", expected="a depth map")
    del data
    exr = _package(path)
    try:
        with exr.File(str(path), header_only=True) as file:
            (left, top), (right, bottom) = file.header()["dataWindow"]
    except Exception as error:  # the bindings raise plain RuntimeError and TypeError of many kinds
        raise _damaged(path, error) from error
    width, height = int(right - left) + 1, int(bottom - top) + 1
    check_size(path, width, height)
    if width * height > _MOST_PACKED * size:
        raise RgbdError(
            f"'{path.name}' claims {width}x{height} pixels in {size} bytes", expected="a complete file; copy it again"
        )
    try:
        with exr.File(str(path), separate_channels=True) as file:
            channels = {name: np.array(channel.pixels) for name, channel in file.channels().items()}
    except Exception as error:
        raise _damaged(path, error) from error
    plane = _depth(path, channels)
    if plane.shape != (height, width):
        raise RgbdError(f"'{path.name}' has a channel of {plane.shape}", expected=f"({height}, {width}), all pixels")
    return plane.astype(np.float32) if plane.dtype.kind == "f" else plane


def _package(path: Path) -> Any:
    try:
        return import_module("OpenEXR")
    except ImportError as error:
        raise RgbdError(
            f"'{path.name}' is an OpenEXR file", expected="the OpenEXR package", hint="pip install 'dualpix[exr]'"
        ) from error


def _depth(path: Path, channels: Mapping[str, npt.NDArray[Any]]) -> npt.NDArray[Any]:
    if len(channels) == 1:  # alone, whatever it is called
        return next(iter(channels.values()))
    for wanted in _DEPTH_NAMES:
        found = [name for name in channels if name.rpartition(".")[2] in wanted]
        if len(found) == 1:
            return channels[found[0]]
        if found:
            raise RgbdError(f"'{path.name}' has channels {', '.join(sorted(found))}", expected="one of depth")
    raise RgbdError(
        f"'{path.name}' has channels {', '.join(sorted(channels))}"[:200], expected="one of depth: Z, V, Y or R"
    )


def _damaged(path: Path, error: Exception) -> RgbdError:
    reason = (str(error).splitlines() or [type(error).__name__])[0][:80]
    return RgbdError(f"'{path.name}' is cut or damaged ({reason})", expected="a complete file; copy it again")
