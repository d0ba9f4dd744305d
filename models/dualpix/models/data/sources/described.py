"""``dataset.json``: what a folder of real captures does not say by itself.

    {"camera": "canon-r6m2-rf50", "focus_distance_m": 1.0, "f_number": 4.0, "depth_unit": "mm"}

``camera`` is a shipped profile or the path of one's own, from the folder on. ``depth_range_m`` bounds the depths that
count as known. ``scene`` says which samples belong together when a share is held out: ``folder`` for those of one
folder, ``sample`` for each by itself.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, get_args

from dualpix.capture.errors import DualpixError
from dualpix.capture.files import read_json
from dualpix.capture.optics import LENS_RANGES, check_lens_value
from dualpix.capture.rgbd.sample import METRES, DepthUnit

NAME = "dataset.json"
SceneRule = Literal["folder", "sample"]
_MOST_BYTES = 1 << 20
_LENS = ("focal_length_mm", "f_number", "focus_distance_m", "pixel_pitch_um", "disparity_gain")
_EXPECTED = "an object with camera, focus_distance_m, f_number, ...; see docs/train.md"


@dataclass(frozen=True)
class Description:
    """What is said; None where nothing is."""

    camera: str | None = None
    """A shipped profile's name, or the path of a profile."""
    lens: Mapping[str, float] | None = None
    """By the names of :class:`~dualpix.capture.types.LensModel`."""
    baseline: Literal["x", "y"] | None = None
    depth_unit: DepthUnit | None = None
    depth_range_m: tuple[float, float] = (1e-4, math.inf)
    """Depths outside are no truth."""
    scene: SceneRule | None = None


def read_description(folder: Path) -> Description:
    """Of a folder, or nothing where it has no ``dataset.json``.

    Raises:
        DualpixError: it is no such file, or says what cannot be.
    """
    path = folder / NAME
    if not path.is_file():
        return Description()
    value = read_json(path, _MOST_BYTES, expected=_EXPECTED)
    if not isinstance(value, dict):
        raise DualpixError(f"'{path}' holds a {type(value).__name__}", expected=_EXPECTED)
    known = {"camera", "baseline", "depth_unit", "depth_range_m", "scene", *_LENS}
    if unknown := sorted(set(value) - known):
        raise DualpixError(f"'{path}' has '{unknown[0]}'", expected="one of: " + ", ".join(sorted(known)))
    lens = {name: _number(path, name, value[name]) for name in _LENS if name in value}
    return Description(
        _camera(path, value.get("camera")),
        lens,
        _choice(path, value, "baseline", ("x", "y")),
        _choice(path, value, "depth_unit", tuple(METRES)),
        _range(path, value.get("depth_range_m")),
        _choice(path, value, "scene", get_args(SceneRule)),
    )


def _camera(path: Path, value: Any) -> str | None:
    if value is None:
        return None
    if not isinstance(value, str) or not value:
        raise DualpixError(f"'{path}': camera is {value!r}", expected="a profile's name, or its path")
    beside = path.parent / value
    return str(beside) if value.endswith(".json") and beside.is_file() else value


def _number(path: Path, name: str, value: Any) -> float:
    if value == "inf" and name == "focus_distance_m":
        return float("inf")
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        raise DualpixError(f"'{path}': {name} is {value!r}", expected=str(LENS_RANGES[name]))
    return check_lens_value(name, float(value), f"'{path}': {name}")


def _range(path: Path, value: Any) -> tuple[float, float]:
    if value is None:
        return Description.depth_range_m
    numbers = value if isinstance(value, list) and all(type(v) in (int, float) for v in value) else []
    if len(numbers) != 2 or not 0 < numbers[0] < numbers[1]:
        raise DualpixError(f"'{path}': depth_range_m is {value!r}", expected="two rising numbers in m, as [0.25, 10]")
    return float(numbers[0]), float(numbers[1])


def _choice(path: Path, value: Mapping[str, Any], name: str, choices: tuple[Any, ...]) -> Any:
    found = value.get(name)
    if found is not None and found not in choices:
        raise DualpixError(f"'{path}': {name} is {found!r}", expected="one of: " + ", ".join(map(str, choices)))
    return found
