"""Hypersim (Roberts et al., ICCV 2021): radiance and ray lengths in HDF5 files, one set of cameras per scene.

Facts from the data set's README and its ``contrib/mikeroberts3000``: ``depth_meters`` is the distance from the camera
**along the ray**. Most scenes were rendered with a horizontal field of view of 60 degrees and square pixels; some with
the tilt and shift of a view camera. ``metadata_camera_parameters.csv`` has them all: the matrix ``M_cam_from_uv`` takes
(u, v, 1), u from -1 at the left to 1 at the right edge, v from -1 at the bottom to 1 at the top, to the direction of
the ray in camera space (x right, y up, z backwards).

Planar depth is the distance along the camera's axis, ``distance * -ray_z / |ray|``.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from dualpix.capture.arrays.hdf5 import open_hdf5
from dualpix.capture.raw.containers.images import check_size
from dualpix.capture.rgbd.reader import depth_of
from dualpix.capture.rgbd.sample import (
    METRES,
    DepthUnit,
    Intrinsics,
    RgbdError,
    RgbdSample,
    RgbdSource,
    Unused,
    make_sample,
)
from dualpix.capture.rgbd.tables import rows_by
from dualpix.capture.rgbd.tree import Tree
from dualpix.capture.types import FloatImage

TABLE = "metadata_camera_parameters.csv"
_TABLE_FOLDERS = ("", "contrib/mikeroberts3000")
_TABLE_ABOVE = 5
_SCENE = re.compile(r"ai_\d{3}_\d{3}")
_USUAL_FIELD_RAD = math.radians(60.0)
_ASSUMED = "60 degrees of horizontal field are assumed"
_SAME_ASPECT = 0.005
_SHIFTS = ("horizontal_offset", "horizontal_shift", "lens_shift", "vertical_offset")


@dataclass(frozen=True)
class RayCamera:
    """Directions of the rays of a picture."""

    cam_from_uv: npt.NDArray[np.float64]
    """(3, 3), see the module's text; any scale."""

    @classmethod
    def of_field(cls, field_rad: float, size_hw: tuple[int, int]) -> RayCamera:
        """Straight ahead, with square pixels."""
        half = math.tan(field_rad / 2)
        return cls(np.diag([half, half * size_hw[0] / size_hw[1], -1.0]))

    def planar_depth(self, distance: FloatImage) -> FloatImage:
        """Lengths of rays (H, W) to depths along the camera's axis."""
        height, width = distance.shape
        u = (2 * np.arange(width) + 1) / width - 1
        v = 1 - (2 * np.arange(height) + 1) / height
        x, y, z = (m[0] * u[None] + m[1] * v[:, None] + m[2] for m in self.cam_from_uv)
        with np.errstate(invalid="ignore"):  # NaN is a hole
            return np.asarray(distance * (-z / np.sqrt(x * x + y * y + z * z)), np.float32)

    def intrinsics(self, size_hw: tuple[int, int]) -> Intrinsics | None:
        """As a pinhole whose picture is at right angles to its axis; None where it is tilted or skewed."""
        (a, skew, c), (shear, b, d), (*tilts, _) = self.cam_from_uv / -self.cam_from_uv[2, 2]
        if max(map(abs, (skew, shear, *tilts))) > 1e-9:
            return None
        height, width = size_hw
        fx, fy = width / (2 * a), height / (2 * b)
        return Intrinsics(fx, fy, (width - 1) / 2 - fx * c, (height - 1) / 2 + fy * d)


class Hypersim:
    """``frame.IIII.color.hdf5`` (unbounded radiance) and ``frame.IIII.depth_meters.hdf5``, array "dataset" in both.

    Radiance is exposed as the data set's tone mapping does: the 90th percentile of brightness becomes 0.8 after a curve
    of 1/2.2. Where no table of the cameras lies beside or above the scene, or it does not have the scene, 60 degrees
    are assumed, and the sample says so.
    """

    name = "hypersim"
    summary = f"scene_cam_XX_final_hdf5 and scene_cam_XX_geometry_hdf5 (needs h5py); fields of view from {TABLE}"
    _depth_end, _color_end = ".depth_meters.hdf5", ".color.hdf5"

    def find(self, tree: Tree) -> Iterator[RgbdSource | Unused]:
        """Depth frames with their colour frame, in the folder beside or in the same."""
        tables: dict[Path, Path | None] = {}
        for depth in tree.named(self._depth_end):
            color = depth.name.removesuffix(self._depth_end) + self._color_end
            folder = depth.parent
            beside = folder.with_name(folder.name.replace("_geometry_hdf5", "_final_hdf5"))
            image = tree.first(beside / color, folder / color)
            if image is None:
                yield Unused(depth, "depth_meters without a color.hdf5")
                continue
            if folder not in tables:
                tables[folder] = _table_above(folder)
            name = tree.name(image).removesuffix(".color")
            yield RgbdSource(self.name, image, depth, 0, name, table=tables[folder])

    def read(self, source: RgbdSource, unit: DepthUnit | None) -> RgbdSample:
        """Read, expose and make planar."""
        radiance = _dataset(source.image, axes=3)
        distance = _dataset(depth_of(source), axes=2)
        size_hw = (distance.shape[0], distance.shape[1])
        camera, warnings = _camera(source, size_hw)
        return make_sample(
            source,
            _exposed(radiance),
            camera.planar_depth(distance),
            unit_m=METRES[unit or "m"],
            unit_given=unit is not None,
            intrinsics=camera.intrinsics(size_hw),
            warnings=warnings,
        )


def _table_above(folder: Path) -> Path | None:
    above = (parent / beside / TABLE for parent in list(folder.parents)[:_TABLE_ABOVE] for beside in _TABLE_FOLDERS)
    return next((path for path in above if path.is_file()), None)


def _scene_of(image: Path) -> str:
    """The name of the scene, by its form; else the folder that holds ``images``."""
    named = [part for part in image.parts if _SCENE.fullmatch(part)]
    return named[-1] if named else image.parents[2].name if len(image.parents) > 2 else ""


def _camera(source: RgbdSource, size_hw: tuple[int, int]) -> tuple[RayCamera, list[str]]:
    """The camera of a scene, and what is to be said of it."""
    usual = RayCamera.of_field(_USUAL_FIELD_RAD, size_hw)
    if source.table is None:
        return usual, [f"{_ASSUMED}: there is no {TABLE} beside or above the scene"]
    scene = _scene_of(source.image)
    row = rows_by(source.table, "scene_name").get(scene)
    if row is None:
        return usual, [f"{_ASSUMED}: '{source.table.name}' has no scene '{scene}'"]
    matrix, field_rad = _matrix(row), _field_rad(row)
    warnings = _of_another_shape(row, size_hw)
    if matrix is not None:
        if abs(np.linalg.det(matrix)) < 1e-9 or not matrix[2, 2] < 0:
            raise RgbdError(f"'{source.table}', scene '{scene}': M_cam_from_uv is no camera", expected="rays along -z")
        return RayCamera(matrix), warnings
    if field_rad is None:
        return usual, [f"{_ASSUMED}: '{source.table.name}' has no field of view for scene '{scene}'"]
    if any(_number(row, f"camera_physical_{name}") for name in _SHIFTS):
        warnings.append(f"the camera of scene '{scene}' is shifted, which needs the columns M_cam_from_uv_00 to _22")
    return RayCamera.of_field(field_rad, size_hw), warnings


def _matrix(row: Mapping[str, str]) -> npt.NDArray[np.float64] | None:
    numbers = [_number(row, f"M_cam_from_uv_{i}{j}") for i in range(3) for j in range(3)]
    return None if None in numbers else np.array(numbers, np.float64).reshape(3, 3)


def _field_rad(row: Mapping[str, str]) -> float | None:
    physical = row.get("use_camera_physical", "").strip().lower() in ("true", "1", "1.0")
    names = ("camera_physical_fov", "settings_camera_fov") if physical else ("settings_camera_fov",)
    return next((value for name in names if (value := _number(row, name)) is not None and 0 < value < math.pi), None)


def _of_another_shape(row: Mapping[str, str], size_hw: tuple[int, int]) -> list[str]:
    """What to say where the picture is a part of the one that the table is of."""
    width, height = (_number(row, f"settings_output_img_{name}") for name in ("width", "height"))
    if not width or not height or abs(width / height * size_hw[0] / size_hw[1] - 1) < _SAME_ASPECT:
        return []
    found = f"{size_hw[1]}x{size_hw[0]} px"
    return [f"the picture is {found}, its camera {width:g}x{height:g} px: taken as the whole field, stretched"]


def _number(row: Mapping[str, str], name: str) -> float | None:
    try:
        value = float(row.get(name, ""))
    except ValueError:
        return None
    return value if math.isfinite(value) else None


def _dataset(path: Path, axes: int) -> FloatImage:
    with open_hdf5(path, RgbdError) as file:
        array = file.array("dataset", (axes,))
        check_size(path, array.shape[1], array.shape[0])
        if array.shape[2:] not in ((), (3,), (4,)):
            raise array.wrong(f"is {array.shape}", "(height, width, 3)")
        with np.errstate(over="ignore"):
            return array.read().astype(np.float32)


def _exposed(radiance: FloatImage) -> FloatImage:
    with np.errstate(over="ignore", invalid="ignore"):
        brightness = radiance[..., :3] @ np.array([0.3, 0.59, 0.11], np.float32)
    lit = brightness[np.isfinite(brightness) & (brightness > 0)]
    level = float(np.percentile(lit, 90)) if lit.size else 1.0
    with np.errstate(over="ignore", invalid="ignore"):
        return (radiance * np.float32(0.8**2.2 / level)).astype(np.float32)
