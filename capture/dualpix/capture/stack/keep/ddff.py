"""Focus stacks of DDFF-12: an HDF5 file with ``stack_train``, ``stack_val`` or ``stack_test``.

Convention: each is of (stacks, slices, H, W, 3) bytes, nearest slice first, refocused evenly in disparity from 0.28 to
0.02 px: 0.5044 to 7.06 m. The stacks of a file are numbered from 0 through all its arrays in the order train, val,
test. Our exports add their own distances, optics and the light of white.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from dualpix.capture.arrays.hdf5 import Hdf5Array, Hdf5File, open_hdf5
from dualpix.capture.errors import DecodeError, DualpixError
from dualpix.capture.optics import diopters as diopters_of
from dualpix.capture.raw.containers.images import check_size
from dualpix.capture.stack.keep.listing import ListedFrame, Listing

SUFFIXES = (".h5", ".hdf5")
KEYS = ("stack_train", "stack_val", "stack_test")
DDFF_FOCAL_PX = 521.4052
DDFF_BASELINE_M = 1982.0250823695178 / 7317.020641763665 * 1e-3
"""Of the data set's light-field camera: disparity in px = focal length * baseline / distance."""
DDFF_DISPARITY_PX = (0.28, 0.02)
"""Of the first and the last slice."""
DDFF_DISTANCES = "focus_distance_m"
"""Data set that our exports add, of (stacks, slices)."""

White = tuple[float, float, float]
_MAX_SLICES = 512


@dataclass(frozen=True)
class DdffStack:
    """One of the stacks of a file."""

    number: int
    """Among all of the file."""
    key: str
    place: int
    """In its array."""

    @property
    def name(self) -> str:
        """As it is asked for and told: ``stack_val:1``."""
        return f"{self.key}:{self.place}"


def ddff_distances_m(slices: int) -> npt.NDArray[np.float64]:
    """(slices,) of the data set, nearest first."""
    return np.asarray(DDFF_FOCAL_PX * DDFF_BASELINE_M / np.linspace(*DDFF_DISPARITY_PX, slices))


def ddff_stacks(path: Path) -> tuple[DdffStack, ...]:
    """The stacks in a file.

    Raises:
        DecodeError: none, or the file is damaged.
    """
    found: list[DdffStack] = []
    with open_hdf5(path) as file:
        for key in KEYS:
            if key in file:
                found += [DdffStack(len(found) + n, key, n) for n in range(_stacks(path, file, key).shape[0])]
    if not found:
        raise DecodeError(f"'{path.name}' has no stack_test, stack_val or stack_train", expected="a DDFF-12 file")
    return tuple(found)


def chosen_stack(path: Path, stacks: tuple[DdffStack, ...], asked: str | None) -> DdffStack:
    """The one that was asked for, by its number or name, or the only one.

    Raises:
        DualpixError: several and none was asked for, or no such stack.
    """
    if asked is None and len(stacks) == 1:
        return stacks[0]
    for stack in stacks:
        if asked in (str(stack.number), stack.name):
            return stack
    there = _told(stacks)
    if asked is None:
        raise DualpixError(
            f"'{path.name}' holds {len(stacks)} stacks: {there}",
            expected="one of them to be named",
            hint="use: dualpix capture import FILE --index N, or --index all",
        )
    raise DualpixError(f"no stack '{asked}' in '{path.name}'", expected=f"{there}, or all")


def _told(stacks: tuple[DdffStack, ...]) -> str:
    """``0 to 2 of stack_train, 3 to 4 of stack_val``."""
    parts = []
    for key in KEYS:
        numbers = [stack.number for stack in stacks if stack.key == key]
        if numbers:
            parts.append(f"{numbers[0]}{f' to {numbers[-1]}' if len(numbers) > 1 else ''} of {key}")
    return ", ".join(parts)


def read_ddff(path: Path, asked: str | None = None) -> Listing | None:
    """The frames of a stack of a file; None where the name is not that of an HDF5 file.

    Raises:
        DualpixError: no such stack, several and none was asked for, or the file is damaged.
    """
    if not (path.is_file() and path.suffix.lower() in SUFFIXES):
        return None
    stack = chosen_stack(path, ddff_stacks(path), asked)
    own_key = f"{DDFF_DISTANCES}_{stack.key.removeprefix('stack_')}"
    with open_hdf5(path) as file:
        data = _stacks(path, file, stack.key)
        slices = data.shape[1]
        own = file.array(own_key, axes=(2,)) if own_key in file else None
        distances = ddff_distances_m(slices) if own is None else _distances_m(path, own, data.shape[:2], stack)
        focal_mm, pitch_um, f_number = (
            _attribute(data, name) for name in ("focal_length_mm", "pixel_pitch_um", "f_number")
        )
        white = _white(path, data)
    frames = tuple(
        ListedFrame(
            path, diopters_of(float(metres)), math.nan, "DDFF-12", index, f_number=f_number, white=white,
            part=(stack.key, stack.place, index),
        )
        for index, metres in enumerate(distances)
    )  # fmt: skip
    return Listing(path.parent, frames, focal_mm, pitch_um)


def _distances_m(path: Path, own: Hdf5Array, expected: tuple[int, ...], stack: DdffStack) -> npt.NDArray[np.float64]:
    fits = own.shape == expected
    distances = np.asarray(own.read(stack.place), np.float64) if fits else np.zeros(0)
    if not fits or not (distances > 0).all():
        raise DecodeError(
            f"'{path.name}' has distances of {own.dtype} {own.shape}", expected=f"{expected}, in m, above 0"
        )
    return distances


def read_ddff_slice(path: Path, key: str, stack: int, index: int) -> npt.NDArray[np.uint8]:
    """(H, W, 3) bytes of one slice.

    Raises:
        DecodeError: damaged.
    """
    with open_hdf5(path) as file:
        data = _stacks(path, file, key)
        check_size(path, data.shape[3], data.shape[2])
        samples = data.read(stack, index)
    # The data set itself stores bytes; some copies of it are float.
    return np.asarray(np.clip(np.rint(np.nan_to_num(samples)), 0, 255), np.uint8)


def _stacks(path: Path, file: Hdf5File, key: str) -> Hdf5Array:
    """An array of stacks, whose bytes are in this file."""
    data = file.array(key, axes=(5,), may_be_empty=True)
    if not data.fits_the_file():
        raise DecodeError(
            f"'{path.name}': {key} claims {data.shape[0]} stacks in a file of {path.stat().st_size} bytes",
            expected="a complete file",
        )
    if data.shape[4] != 3 or not 2 <= data.shape[1] <= _MAX_SLICES:
        raise DecodeError(
            f"'{path.name}': {key} is {data.dtype} {data.shape}",
            expected="numbers (stacks, slices, height, width, 3)",
        )
    return data


def _attribute(data: Hdf5Array, name: str) -> float | None:
    values = data.attribute(name, most=1)
    return float(values[0]) if values is not None and 0 < values[0] < math.inf else None


def _white(path: Path, data: Hdf5Array) -> White:
    if not data.has_attribute("white"):
        return 1.0, 1.0, 1.0
    try:
        return white_of(data.attribute("white"))
    except (ValueError, TypeError) as error:
        raise DecodeError(f"'{path.name}' states a light of white that is none", expected="three numbers") from error


def white_of(values: Any) -> White:
    """Light of white, R, G, B.

    Raises:
        ValueError, TypeError: not three positive numbers.
    """
    red, green, blue = (float(value) for value in values)
    if not all(0 < value < math.inf for value in (red, green, blue)):
        raise ValueError("not positive")
    return red, green, blue
