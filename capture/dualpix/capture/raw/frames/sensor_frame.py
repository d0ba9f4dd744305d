"""One frame of a sensor as a raw file holds it, and what its colours are worth: what all readers of raws give."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from dualpix.capture.raw.develop.geometry import Crop
from dualpix.capture.raw.develop.planes import BlackRest

Frame = npt.NDArray[np.uint16] | npt.NDArray[np.float32]
Matrix = tuple[tuple[float, float, float], ...]
FourLevels = tuple[float, float, float, float]

# CIE XYZ (D65) from linear sRGB, IEC 61966-2-1.
_XYZ_FROM_SRGB = np.array([[0.4124, 0.3576, 0.1805], [0.2126, 0.7152, 0.0722], [0.0193, 0.1192, 0.9505]])


@dataclass(frozen=True)
class RawFrame:
    """One full sensor frame with what the metadata say about it. Per-channel values are in cell order R, G, G, B."""

    samples: Frame
    """(H, W), RGGB from the top left, masked borders included; read-only."""
    metadata_black: FourLevels
    """Over the crop."""
    white: float
    crop: Crop
    """The picture area, even offsets and sizes."""
    white_balance: tuple[float, float, float] | None
    """R, G, B multipliers of the camera's white balance, green = 1."""
    srgb_from_camera: Matrix | None
    """White-balanced camera colour to linear sRGB, rows sum to 1; None where the colour of the model is not known."""
    black_rest: BlackRest | None = None
    """(H, W): where a DNG states more than four levels."""
    black_source: str = "metadata"

    @property
    def is_floating(self) -> bool:
        """Whether the samples are float32."""
        return self.samples.dtype.kind == "f"


def read_only(samples: npt.NDArray[Any]) -> npt.NDArray[Any]:
    """A view that keeps its memory alive and cannot be written to."""
    samples = samples.view()
    samples.flags.writeable = False
    return samples


def shrunk_to_cells(left: int, top: int, width: int, height: int, shape: tuple[int, int]) -> Crop:
    """A part of a mosaic of ``shape`` shrunk to even numbers and into it; the whole mosaic where nothing is left."""
    right, bottom = min(left + width, shape[1]), min(top + height, shape[0])
    left, top = left + left % 2, top + top % 2
    crop = Crop(left, top, (right - left) // 2 * 2, (bottom - top) // 2 * 2)
    return crop if crop.width > 0 and crop.height > 0 else Crop(0, 0, shape[1] // 2 * 2, shape[0] // 2 * 2)


def white_balance(red: float, green: float, blue: float) -> tuple[float, float, float] | None:
    """The multipliers with green = 1; None where they are none."""
    if not all(np.isfinite(v) and v > 0 for v in (red, green, blue)):
        return None
    return red / green, 1.0, blue / green


def srgb_from_camera(camera_from_xyz: npt.NDArray[Any]) -> Matrix | None:
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
