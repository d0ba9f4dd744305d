"""Where in depth a scene is, from a depth map, a disparity map or a coarse sweep, and frames where it is.

Convention: what is in a scene is a list of diopters, one a pixel or tile; its ends are percentiles, because maps have
outliers. A gap in which nothing is costs no frames: stops are even along what is occupied.
"""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import tifffile

from dualpix.capture import optics
from dualpix.capture.errors import DualpixError
from dualpix.capture.types import FloatImage, LensModel, Mask

Array = npt.NDArray[np.float64]

_PERCENTILES = (1.0, 99.0)
_BINS = 256
_LEAST_SHARE = 0.2
"""Of the mean share of a bin: below, it is empty."""
_STACK = "stack.json"
_MOST_BYTES = 1 << 30
_MOST_PIXELS = 1 << 28
_PEAK_CONTRAST = 1.5
"""A tile whose sharpness varies by less than this factor over the sweep shows nothing that could be focused."""


def scene_from_depth(depth_m: FloatImage, valid: Mask | None = None) -> Array:
    """Diopters (N,) of a depth map (H, W) in m, infinity allowed.

    Raises:
        DualpixError: no pixel has a depth.
    """
    depth = np.asarray(depth_m, np.float64)
    known = depth[(depth > 0) & (np.ones_like(depth, bool) if valid is None else valid)]
    return _not_empty(1 / known, "the depth map has no valid depth")


def scene_from_disparity(disparity_px: FloatImage, lens: LensModel, valid: Mask | None = None) -> Array:
    """Diopters (N,) of the signed disparity (H, W) of a dual-pixel frame; ``lens`` as it was focused for it.

    Raises:
        DualpixError: no pixel has a disparity.
    """
    found = np.asarray(optics.diopters_from_disparity(np.asarray(disparity_px, np.float64), lens))
    known = found[np.isfinite(found) & (np.ones_like(found, bool) if valid is None else valid)]
    return _not_empty(np.maximum(known, 0.0), "the disparity map has no valid disparity")


def scene_from_sweep(diopters: Array, sharpness: Array) -> Array:
    """Diopters at which the tiles of a coarse sweep are sharpest.

    Args:
        diopters: (N,) focus of the frames, rising, N >= 3.
        sharpness: (N, ...) of their tiles, > 0.

    Returns:
        One focus for each tile that is sharper somewhere than elsewhere, between the frames where a parabola through
        the logarithm of the largest three has its top; at the ends of the sweep, the end.

    Raises:
        DualpixError: fewer than three frames, or no tile has detail.
    """
    curves = np.log(np.maximum(np.asarray(sharpness, np.float64).reshape(len(diopters), -1), 1e-12))
    if len(diopters) < 3 or np.any(np.diff(diopters) <= 0):
        raise DualpixError(f"a sweep of {len(diopters)} frames", expected="3 at least, at rising diopters")
    telling = curves.max(axis=0) - curves.min(axis=0) > math.log(_PEAK_CONTRAST)
    tops = [_top(diopters, curve) for curve in curves.T[telling]]
    return _not_empty(np.array(tops), "no tile of the sweep is sharper in one frame than in another")


def occupied_stops(samples: Array, margin: float, *, count: int | None = None, step: float | None = None) -> Array:
    """Stops even along what is occupied, from a margin before its first end to a margin behind its last.

    Args:
        samples: (N,) places of what is there, in a coordinate that is even in blur.
        margin: added at both ends, and around what lies alone, > 0.
        count: number of stops, >= 2; or
        step: largest distance between stops.

    Returns:
        Rising places, none below 0, which is infinity.
    """
    if count is not None and count < 2:
        raise DualpixError(f"{count} frames", expected="2 at least")
    low, high = (float(v) for v in np.percentile(samples, _PERCENTILES))
    start, end = max(0.0, low - margin), high + margin
    edges = np.linspace(start, end, _BINS + 1)
    share = np.histogram(samples, edges)[0] / len(samples)
    occupied = share >= _LEAST_SHARE / _BINS
    centres = (edges[1:] + edges[:-1]) / 2
    places = centres[occupied]
    nearest = np.abs(centres[:, None] - places[None]).min(axis=1) if len(places) else np.zeros(_BINS)
    length = np.where(nearest <= margin, np.diff(edges), 0.0)
    along = np.concatenate([[0.0], np.cumsum(length)])
    number = count if count is not None else max(2, math.ceil(along[-1] / _positive(step) - 1e-9) + 1)
    wanted = np.linspace(0, along[-1], number)
    bins = np.clip(np.searchsorted(along, wanted, side="left") - 1, 0, _BINS - 1)
    stops = edges[bins] + (wanted - along[bins])
    return np.asarray(stops, np.float64)


def read_scene(path: Path) -> Array:
    """What is in a scene, from a file.

    Args:
        path: depth in m as TIFF or NPY (H, W), such as ``depth_m.tiff`` of ``dualpix depth``, a folder with one, or
            the ``stack.json`` of a coarse focus stack, or its folder.

    Raises:
        DualpixError: none of these, damaged, or larger than any picture.
    """
    if path.is_dir():
        held = [path / name for name in (_STACK, "depth_m.tiff") if (path / name).is_file()]
        if not held:
            raise DualpixError(f"no {_STACK} or depth_m.tiff in '{path}'", hint="give a stack or the output of depth")
        path = held[0]
    try:
        if path.stat().st_size > _MOST_BYTES:
            raise DualpixError(
                f"'{path}' has more than {_MOST_BYTES >> 20} MiB", expected="a depth map or a stack.json"
            )
        if path.suffix == ".json":
            return _sweep_of(path, json.loads(path.read_bytes()))
        depth = _depth_map(path)
    except (OSError, ValueError, EOFError, tifffile.TiffFileError) as error:
        raise DualpixError(
            f"cannot read the scene '{path}': {error}", expected="depth in m (.tiff, .npy) or stack.json"
        ) from error
    return scene_from_depth(depth)


def _depth_map(path: Path) -> FloatImage:
    """(H, W); nothing is allocated before the size is known to be that of a picture."""
    if path.suffix == ".npy":
        depth = np.load(path, mmap_mode="r", allow_pickle=False)
        if depth.size > _MOST_PIXELS:
            raise ValueError(f"{depth.shape} values")
    else:
        with tifffile.TiffFile(path) as file:
            page = file.pages[0]
            if math.prod(page.shape) > _MOST_PIXELS:
                raise ValueError(f"{page.shape} values")
            depth = page.asarray()
    if depth.ndim != 2 or depth.dtype.kind not in "fiu":
        raise ValueError(f"{depth.dtype} {depth.shape} is not one number a pixel")
    return np.asarray(depth, np.float32)


def _sweep_of(path: Path, value: Any) -> Array:
    """Of a stack's record: one aperture's frames with their sharpness."""
    try:
        frames = [f for f in value["frames"] if f["role"] == "focus" and f["sharpness_tiles"] is not None]
        widest = min((f["f_number"] or 0.0 for f in frames), default=0.0)
        rows = {f["achieved_d"]: f["sharpness_tiles"] for f in frames if (f["f_number"] or 0.0) == widest}
        diopters = sorted(rows)
        return scene_from_sweep(np.array(diopters, np.float64), np.array([rows[d] for d in diopters], np.float64))
    except (KeyError, TypeError, ValueError, IndexError) as error:
        raise DualpixError(f"'{path}' is not the record of a focus stack", expected="frames with sharpness") from error


def _positive(step: float | None) -> float:
    if step is None or not step > 0:
        raise DualpixError(f"a step of {step}", expected="above 0")
    return step


def _not_empty(values: Any, otherwise: str) -> Array:
    if not len(values):
        raise DualpixError(otherwise)
    return np.asarray(values, np.float64)


def _top(x: Array, y: Array) -> float:
    best = int(y.argmax())
    if best in (0, len(x) - 1):
        return float(x[best])
    curve, slope, _ = np.polyfit(x[best - 1 : best + 2] - x[best], y[best - 1 : best + 2], 2)
    return float(np.clip(x[best] - slope / (2 * curve), x[best - 1], x[best + 1])) if curve < 0 else float(x[best])
