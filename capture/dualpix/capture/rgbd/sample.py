"""The type behind all RGB-D data sets, and the checks that every sample passes.

Convention: ``depth_m`` is planar depth z in m (not the length of the ray) on the grid of the image; ``inf`` is
infinitely far and valid (the sky); a hole is 0, and False in ``valid``. The image is linear light, 1.0 = white.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from dualpix.capture.errors import DualpixError
from dualpix.capture.pictures.display import linear_from_srgb
from dualpix.capture.types import FloatImage, Mask

DepthUnit = Literal["m", "cm", "mm"]
METRES: dict[DepthUnit, float] = {"m": 1.0, "cm": 0.01, "mm": 0.001}

# No room or street has its middle beyond this; the sea does, but who focuses a dual-pixel camera by it.
_FARTHEST_MEDIAN_M = 300.0
_NEAREST_MEDIAN_M = 0.02
# Depths in m are fractions; whole numbers of this size are mm.
_WHOLE_MEDIAN_M = 20.0
_FEWEST_VALID = 0.02


class RgbdError(DualpixError):
    """An RGB-D file or folder cannot be used."""


@dataclass(frozen=True)
class Intrinsics:
    """A pinhole camera: ``x = fx X / Z + cx`` in px, pixel centres at integers."""

    fx: float
    fy: float
    cx: float
    cy: float

    def scaled(self, x: float, y: float) -> Intrinsics:
        """Of the picture resized by these factors."""
        return Intrinsics(self.fx * x, self.fy * y, (self.cx + 0.5) * x - 0.5, (self.cy + 0.5) * y - 0.5)

    def turned(self, quarter_turns: int, size_hw: tuple[int, int]) -> Intrinsics:
        """After so many quarter turns against the clock (as ``np.rot90``) of a picture of ``size_hw``."""
        turned, (height, width) = self, size_hw
        for _ in range(quarter_turns % 4):
            turned = Intrinsics(turned.fy, turned.fx, turned.cy, width - 1 - turned.cx)
            height, width = width, height
        return turned


@dataclass(frozen=True)
class RgbdSource:
    """Where a sample is; plain data that can go to other processes."""

    dataset: str
    """Name of the reader."""
    image: Path
    """The image, or the file that holds everything."""
    depth: Path | None = None
    index: int = 0
    """Of the sample within a file of many."""
    name: str = ""
    """Unique within the folder that was searched, without suffix."""
    masks: tuple[Path, ...] = ()
    """Pictures or arrays that are 0 where depth is not to be trusted."""
    camera: Path | None = None
    """The file with the intrinsics of this image."""
    table: Path | None = None
    """A table of the whole data set that says something about this image."""
    scene: str = ""
    """What is shown, where the data set says it: pictures of one scene have one name."""
    listed: str = ""
    """Where the files were named, if a list did it: "index.csv row 3"."""

    @property
    def files(self) -> tuple[Path, ...]:
        """Image and depth."""
        return (self.image,) if self.depth is None else (self.image, self.depth)

    @property
    def inputs(self) -> tuple[Path, ...]:
        """All files that the sample depends on."""
        others = [path for path in (self.camera, self.table) if path is not None]
        return (*self.files, *self.masks, *others)


@dataclass(frozen=True)
class Unused:
    """A file that belongs to a data set and makes no sample."""

    path: Path
    reason: str
    """Equal for all that are left out for one reason."""
    error: DualpixError | None = None
    """What is wrong with it, where something is."""


@dataclass(frozen=True)
class RgbdSample:
    """An image with the depth of each pixel."""

    image: FloatImage
    """(H, W, 3) linear, >= 0, 1.0 = white."""
    depth_m: FloatImage
    """(H, W) planar depth, > 0 up to infinity; 0 in holes."""
    valid: Mask
    """(H, W) False in holes."""
    intrinsics: Intrinsics | None
    """``None`` where the data set does not say, or is known to say it wrong."""
    name: str
    source: str
    """The data set."""
    warnings: tuple[str, ...] = ()

    @property
    def size_hw(self) -> tuple[int, int]:
        """(height, width) in px."""
        height, width = self.valid.shape
        return height, width

    @property
    def hole_fraction(self) -> float:
        """Share of pixels without depth."""
        return 1.0 - float(self.valid.mean())


def make_sample(
    source: RgbdSource,
    image: npt.NDArray[Any],
    depth: npt.NDArray[Any],
    *,
    unit_m: float,
    unit_given: bool = False,
    valid: Mask | None = None,
    intrinsics: Intrinsics | None = None,
    warnings: Sequence[str] = (),
) -> RgbdSample:
    """Bring what a file holds into the one form, and check it.

    Args:
        source: names the files in messages.
        image: (H, W) or (H, W, 3); integers are sRGB codes of their full range, floats linear light.
        depth: (H, W) numbers; NaN, zero and negative values are holes, infinity is infinitely far.
        unit_m: of ``depth``, in m.
        unit_given: the user said so: an implausible depth is a warning then, not an error.
        valid: (H, W) further holes are False.
        intrinsics: of the camera.
        warnings: what else is to be said of the sample.

    Raises:
        RgbdError: sizes differ, hardly any depth, or one of an implausible size.
    """
    if depth.shape != image.shape[:2]:
        raise RgbdError(
            f"'{source.name}': the depth is {_size(depth)} px, the image {_size(image)}",
            expected="the depth of each pixel",
            hint="register and resize the depth to the image",
        )
    if valid is not None and valid.shape != depth.shape:
        raise RgbdError(
            f"'{source.name}': the mask is {_size(valid)} px, the depth {_size(depth)}", expected="one of each size"
        )
    with np.errstate(invalid="ignore", over="ignore"):
        depth_m = (depth.astype(np.float32) * np.float32(unit_m)).astype(np.float32, copy=False)
        known = depth_m > 0 if valid is None else (depth_m > 0) & valid  # False for NaN
    if float(known.mean()) < _FEWEST_VALID:
        raise RgbdError(
            f"'{source.name}': only {100 * float(known.mean()):.2g} % of the pixels have a depth",
            expected="numbers above 0; NaN, 0 and negative ones are holes",
        )
    warning = implausible(depth_m[known], unit_m)
    if warning and not unit_given:
        raise RgbdError(f"'{source.name}': {warning}", hint="say it with --depth-unit m, cm or mm")
    return RgbdSample(
        linear_rgb(image),
        np.where(known, depth_m, np.float32(0)),
        np.asarray(known),
        intrinsics,
        source.name,
        source.dataset,
        tuple(f"'{source.name}': {text}" for text in (*warnings, *filter(None, [warning]))),
    )


def implausible(depths_m: npt.NDArray[np.float32], unit_m: float) -> str | None:
    """What is wrong with valid depths (N,), in m, read in a unit of ``unit_m``; None if they may be right."""
    finite = depths_m[np.isfinite(depths_m)]
    if not finite.size:
        return None
    median = float(np.median(finite))
    whole = unit_m == 1.0 and median > _WHOLE_MEDIAN_M and bool(np.all(finite == np.rint(finite)))
    if whole or median > _FARTHEST_MEDIAN_M:
        looks = f"; as mm it would be {median / unit_m / 1000:.3g} m" if unit_m > METRES["mm"] else ""
        return f"the median depth is {median:.4g} m{', all of them whole numbers' if whole else ''}{looks}"
    if median < _NEAREST_MEDIAN_M:
        looks = f"; as m it would be {median / unit_m:.3g} m" if unit_m < 1 else ""
        return f"the median depth is {1000 * median:.3g} mm{looks}"
    return None


def linear_rgb(image: npt.NDArray[Any]) -> FloatImage:
    """(H, W) or (H, W, 3), integer sRGB codes or linear floats, to linear float32 (H, W, 3), finite and >= 0."""
    if image.dtype.kind == "u":
        light = linear_from_srgb((image / np.float32(np.iinfo(image.dtype).max)).astype(np.float32))
    else:
        light = np.maximum(np.nan_to_num(image.astype(np.float32), nan=0.0, posinf=0.0, neginf=0.0), 0)
    return np.ascontiguousarray(np.repeat(light[..., None], 3, axis=2) if light.ndim == 2 else light[..., :3])


def planar_depth(distance: FloatImage, camera: Intrinsics) -> FloatImage:
    """Lengths of rays (H, W) to depths along the axis: ``z = distance / |((x - cx) / fx, (y - cy) / fy, 1)|``."""
    height, width = distance.shape
    x = (np.arange(width, dtype=np.float32) - camera.cx) / camera.fx
    y = (np.arange(height, dtype=np.float32) - camera.cy) / camera.fy
    return np.asarray(distance / np.sqrt(x[None] ** 2 + y[:, None] ** 2 + 1), np.float32)


def _size(array: npt.NDArray[Any]) -> str:
    return f"{array.shape[1]}x{array.shape[0]}" if array.ndim >= 2 else str(array.shape)
