"""Maps of a result: read, with the colours of their values, and held against a truth.

Convention: see :mod:`.scene`. An error of depth is told in diopters, as blur and disparity have it: 1 / found - 1 /
true.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import numpy.typing as npt

from dualpix.capture.errors import DualpixError
from dualpix.capture.pictures.colour_map import Rgb, Scale, default_limits
from dualpix.capture.raw.containers.images import read_picture
from dualpix.capture.rgbd.arrays import read_depth_file
from dualpix.capture.types import FloatImage
from dualpix.models.stacks.truth import read_truth
from dualpix.models.view.codes import Digits
from dualpix.models.view.scene import Estimate, MapName, ValueMap

DISPARITY_DIGITS = Digits("fixed", 3)
DEPTH_DIGITS = Digits("significant", 4)
_LARGEST = 1e6
"""Of a disparity in px: no view is wider."""
_NEAREST_M = 1e-4
"""Less is no depth; its diopters would have no end."""


def value_map(
    name: MapName, label: str, values: FloatImage, valid: npt.NDArray[np.bool_], unit: str, scale: Scale, digits: Digits
) -> ValueMap:
    """A map whose colours span its valid values."""
    limits = default_limits(values, valid if valid.any() else None, scale)
    return ValueMap(name, label, values, unit, scale, digits, limits)


def confidence_map(values: FloatImage) -> ValueMap:
    """0 to 1."""
    return ValueMap("confidence", "confidence", values, "", "sequential", Digits("fixed", 3), (0.0, 1.0))


def judged(maps: list[ValueMap], truth: Path, size_hw: tuple[int, int]) -> list[ValueMap]:
    """A truth from a file, and the error against it: of depth, or of disparity where there are no metres."""
    depth = next((known for known in maps if known.name == "depth"), None)
    if depth is not None:
        true = read_truth(truth, size_hw).depth_m
        return against(depth.values, np.where(true > 0, true, np.float32(np.nan)))
    true = read_map(truth, size_hw)
    disparity = maps[0].values
    error = disparity - true
    return [
        replace(maps[0], name="truth", label="true disparity", values=true),
        value_map("error", "disparity - truth", error, ~np.isnan(error), "px", "diverging", DISPARITY_DIGITS),
    ]


def against(depth_m: FloatImage, true_m: FloatImage) -> list[ValueMap]:
    """A true depth, and the error against it."""
    with np.errstate(divide="ignore", invalid="ignore"):
        error = np.asarray(1 / np.where(depth_m >= _NEAREST_M, depth_m, np.nan) - 1 / true_m, np.float32)
    known = ~np.isnan(true_m)
    if not known.any():
        raise DualpixError("the truth is empty", expected="depths above 0")
    label = "error in diopters (> 0: too near)"
    return [
        value_map("truth", "true depth", true_m, known, "m", "depth", DEPTH_DIGITS),
        value_map("error", label, error, ~np.isnan(error), "1/m", "diverging", Digits("fixed", 4)),
    ]


def on_one_scale(estimates: tuple[Estimate, ...]) -> tuple[Estimate, ...]:
    """The methods' maps with the colours of the first one: the same colour is the same value."""
    limits: dict[str, tuple[float, float]] = {}
    for estimate in estimates:
        for known in estimate.maps:
            limits.setdefault("depth" if known.name == "truth" and known.unit == "m" else known.name, known.limits)
    return tuple(
        replace(
            estimate,
            maps=tuple(
                replace(known, limits=limits["depth" if known.name == "truth" and known.unit == "m" else known.name])
                for known in estimate.maps
            ),
        )
        for estimate in estimates
    )


def read_map(path: Path, size_hw: tuple[int, int]) -> FloatImage:
    """Floats of the size of the result, in px no larger than a view can have them."""
    values = read_depth_file(path)
    if values.shape != size_hw or values.dtype.kind != "f":
        raise DualpixError(
            f"'{path}' is {values.dtype} {'x'.join(map(str, values.shape[::-1]))}",
            expected=f"floats, {size_hw[1]}x{size_hw[0]}",
        )
    finite = values[np.isfinite(values)]
    if not path.name.startswith("depth_m") and finite.size and np.abs(finite).max() > _LARGEST:
        raise DualpixError(f"'{path}' holds {np.abs(finite).max():.3g}", expected=f"values up to {_LARGEST:g}")
    return np.asarray(values, np.float32)


def read_rgb(path: Path, size_hw: tuple[int, int]) -> Rgb:
    """8 bits, of that size."""
    rgb = read_picture(path)
    if rgb.dtype != np.uint8 or rgb.shape[:2] != size_hw:
        raise DualpixError(f"'{path}' is {rgb.dtype} {rgb.shape}", expected=f"8 bits, {size_hw[1]}x{size_hw[0]}")
    return np.ascontiguousarray(np.broadcast_to(rgb.reshape(*size_hw, -1)[..., :3], (*size_hw, 3)))
