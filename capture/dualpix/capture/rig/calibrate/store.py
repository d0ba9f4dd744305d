"""``rig.json``: a calibrated rig in a file.

Convention: :mod:`dualpix.capture.rig.geometry`; numbers are written in full, so that what is read is what was found.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from dualpix.capture.errors import DualpixError
from dualpix.capture.files import read_json, write_json
from dualpix.capture.rig.calibrate.board import Board
from dualpix.capture.rig.calibrate.calibration import Sighting
from dualpix.capture.rig.calibrate.solve import Solution
from dualpix.capture.rig.geometry import NAMES, PER_CAMERA, RIG_PARAMETERS, Array, RigGeometry
from dualpix.capture.types import Baseline

FORMAT = 1
_MOST_BYTES = 1 << 20
_MOST_SIDE_PX = 100_000
_EXPECTED = "a rig.json of `dualpix rig calibrate`"


@dataclass(frozen=True)
class Rig:
    """A calibrated rig, as it is kept."""

    geometry: RigGeometry
    covariance: Array
    """(24, 24)"""
    cameras: tuple[str | None, str | None]
    dual_pixel_axis: Baseline | None
    rms_px: float
    board: Board
    pairs: int

    @property
    def axis_angle_deg(self) -> float | None:
        """Of the baseline against the axis along which a's halves are apart, -90 to 90; None where that is not known.

        At 0 stereo and dual pixels see the same edges, at 90 each the other's.
        """
        if self.dual_pixel_axis is None:
            return None
        angle = self.geometry.baseline_angle_deg - (90.0 if self.dual_pixel_axis == "y" else 0.0)
        return (angle + 90) % 180 - 90


def rig_of(sighting: Sighting, solution: Solution) -> Rig:
    """What was found, as it is kept."""
    return Rig(
        solution.geometry,
        solution.covariance,
        sighting.cameras,
        sighting.dual_pixel_axis,
        solution.rms_px,
        sighting.board,
        len(sighting.pairs),
    )


def rig_json(rig: Rig) -> dict[str, Any]:
    """The content of ``rig.json``."""
    g, sigmas = rig.geometry, np.sqrt(np.diag(rig.covariance))
    unit = g.translation_m / g.baseline_m
    return {
        "format": FORMAT,
        "a": _camera(g.a.size_hw, g.a.parameters, sigmas[:PER_CAMERA], rig.cameras[0]),
        "b": _camera(g.b.size_hw, g.b.parameters, sigmas[PER_CAMERA:18], rig.cameras[1]),
        "rotation_vector_rad": g.parameters[18:21].tolist(),
        "translation_m": g.translation_m.tolist(),
        "baseline_mm": 1e3 * g.baseline_m,
        "baseline_sigma_mm": 1e3 * float(np.sqrt(unit @ rig.covariance[21:, 21:] @ unit)),
        "rotation_sigma_deg": float(np.degrees(np.linalg.norm(sigmas[18:21]))),
        "mount_deg": g.mount_deg,
        "roll_deg": g.roll_deg,
        "baseline_angle_deg": g.baseline_angle_deg,
        "dual_pixel_axis": rig.dual_pixel_axis,
        "axis_angle_deg": rig.axis_angle_deg,
        "rms_px": rig.rms_px,
        "pairs": rig.pairs,
        "board": {"kind": rig.board.kind, "squares": list(rig.board.squares), "square_m": rig.board.square_m},
        "covariance": rig.covariance.tolist(),
    }


def write_rig(path: Path, rig: Rig) -> None:
    """Write it, whole or not at all."""
    write_json(path, rig_json(rig))


def read_rig(path: Path) -> Rig:
    """A rig of :func:`write_rig`.

    Raises:
        DualpixError: it is none, or holds what no rig can have.
    """
    value = read_json(path, _MOST_BYTES, expected=_EXPECTED)
    try:
        if not isinstance(value, dict) or value["format"] != FORMAT:
            raise ValueError("another format")
        sizes = [_size(value[side]) for side in "ab"]
        parameters = np.concatenate(
            [
                *(_numbers([value[side][name] for name in NAMES], (PER_CAMERA,)) for side in "ab"),
                _numbers(value["rotation_vector_rad"], (3,)),
                _numbers(value["translation_m"], (3,)),
            ]
        )
        geometry = RigGeometry.of(sizes[0], sizes[1], parameters)
        if not (geometry.baseline_m > 1e-5 and min(parameters[[0, 1, 9, 10]]) > 1):
            raise ValueError("no baseline, or no focal length")
        board = value["board"]
        return Rig(
            geometry,
            _numbers(value["covariance"], (RIG_PARAMETERS, RIG_PARAMETERS)),
            tuple(str(c) if (c := value[side].get("camera")) is not None else None for side in "ab"),  # type: ignore[arg-type]
            value["dual_pixel_axis"] if value["dual_pixel_axis"] in ("x", "y") else None,
            float(value["rms_px"]),
            Board(board["kind"], (int(board["squares"][0]), int(board["squares"][1])), float(board["square_m"])),
            int(value["pairs"]),
        )
    except (KeyError, TypeError, ValueError, IndexError, AttributeError) as error:
        raise DualpixError(f"'{path}' is no rig ({type(error).__name__}: {error})", expected=_EXPECTED) from error


def _camera(size_hw: tuple[int, int], parameters: Array, sigmas: Array, camera: str | None) -> dict[str, Any]:
    named = dict(zip(NAMES, parameters.tolist(), strict=True))
    return {
        "camera": camera,
        "width": size_hw[1],
        "height": size_hw[0],
        **named,
        "sigma": dict(zip(NAMES, sigmas.tolist(), strict=True)),
    }


def _size(camera: Any) -> tuple[int, int]:
    height, width = camera["height"], camera["width"]
    if not all(type(n) is int and 1 <= n <= _MOST_SIDE_PX for n in (height, width)):
        raise ValueError(f"a size of {width!r}x{height!r}")
    return height, width


def _numbers(values: Any, shape: tuple[int, ...]) -> Array:
    array = np.array(values, np.float64)
    if array.shape != shape or not all(math.isfinite(v) for v in array.ravel()):
        raise ValueError(f"numbers of shape {array.shape}, expected {shape}")
    return array
