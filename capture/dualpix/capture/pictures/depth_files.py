"""A depth map as files that other programs open: PNG in mm, OpenEXR, glTF (GLB), LAS.

Convention: see :mod:`.points` for the camera's axes (x right, y down, z away, m). Formats have their own: glTF has y up
and looks along -z; LAS has z up, so there x is right, y away from the camera and z up. Depth is z, from the lens.
OpenEXR, trimesh and laspy are extras (``pip install 'dualpix[exr,glb,las]'``), looked for before any work is done.
"""

from __future__ import annotations

import io
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from importlib import import_module
from math import ceil, sqrt
from pathlib import Path
from typing import Any, Literal, get_args

import cv2
import numpy as np
import numpy.typing as npt

from dualpix.capture.errors import DualpixError, OutputError
from dualpix.capture.files import atomic_path, write_bytes
from dualpix.capture.pictures.colour_map import Rgb
from dualpix.capture.pictures.points import Pinhole
from dualpix.capture.types import FloatImage, Mask

Format = Literal["png", "exr", "glb", "las"]
FORMATS: tuple[Format, ...] = get_args(Format)
FILES: dict[Format, str] = {"png": "depth_mm.png", "exr": "depth.exr", "glb": "surface.glb", "las": "points.las"}
_PACKAGES: dict[Format, tuple[str, str]] = {
    "exr": ("OpenEXR", "exr"),
    "glb": ("trimesh", "glb"),
    "las": ("laspy", "las"),
}
"""Module, and the extra of dualpix that installs it."""
_NEEDS_LENS: tuple[Format, ...] = ("glb", "las")
_MM_PER_M, _MOST_MM = 1000.0, 65535
_MOST_VERTICES = 250_000
"""Of a surface: viewers on phones and in browsers turn it smoothly."""
_MOST_STEP = 0.05
"""Relative change of depth from one vertex to the next beyond which a surface is torn: an edge, not a slope."""
_TEXTURE_LONG_SIDE_PX, _TEXTURE_QUALITY = 2048, 90
_LAS_STEP_M = 1e-4
"""LAS stores whole multiples of it."""


@dataclass(frozen=True)
class DepthPicture:
    """A depth map with its picture."""

    depth_m: FloatImage
    """(H, W) m from the lens; NaN where it is not known, infinity allowed."""
    confidence: FloatImage
    """(H, W) 0 to 1."""
    measured: Mask
    """(H, W): what becomes points and surfaces; the rest may be a guess."""
    light: FloatImage
    """(H, W) or (H, W, 3) R, G, B, linear."""
    rgb: Rgb
    """(H, W, 3) for people."""
    pinhole: Pinhole | None
    """None where the lens is not known."""
    pixel_width_over_height: float = 1.0

    @property
    def in_space(self) -> Mask:
        """(H, W), True where a point can be placed."""
        return np.asarray(self.measured & np.isfinite(self.depth_m) & (self.depth_m > 0))


def check_formats(formats: Sequence[Format]) -> None:
    """Whether the packages that write them are there: asked before long work.

    Raises:
        DualpixError: one is not.
    """
    for name in formats:
        if name in _PACKAGES:
            _package(name)


def _package(name: Format) -> Any:
    module, extra = _PACKAGES[name]
    try:
        return import_module(module)
    except ImportError as error:
        raise DualpixError(
            f"--also {name} needs the {module} package", expected="it", hint=f"pip install 'dualpix[{extra}]'"
        ) from error


def write_depth_files(
    folder: Path, formats: Sequence[Format], picture: DepthPicture | None
) -> tuple[dict[str, Any], list[str]]:
    """Write what can be written.

    Args:
        folder: where to.
        formats: which.
        picture: None where there are no metres.

    Returns:
        What each file holds, by its name; and a line for each that was asked for and is not there.

    Raises:
        DualpixError: a package is missing.
        OutputError: a file cannot be written.
    """
    written: dict[str, Any] = {}
    lacking = []
    for name in dict.fromkeys(formats):
        file = FILES[name]
        if picture is None:
            lacking.append(f"{file} was not written: it needs metres")
        elif name in _NEEDS_LENS and picture.pinhole is None:
            lacking.append(f"{file} was not written: it needs focal length and pixel pitch")
        elif name in _NEEDS_LENS and not picture.in_space.any():
            lacking.append(f"{file} was not written: nothing has metres that are sure")
        else:
            written[file] = _WRITERS[name](folder / file, picture)
    return written, lacking


def _write_png(path: Path, picture: DepthPicture) -> dict[str, Any]:
    """As TUM, ScanNet, RealSense and Open3D have depth: 16 bits, mm, 0 where nothing is known."""
    with np.errstate(invalid="ignore"):
        mm = np.rint(picture.depth_m.astype(np.float64) * _MM_PER_M)
        fits = picture.measured & (mm >= 1) & (mm <= _MOST_MM)
        beyond = picture.measured & (mm > _MOST_MM)
    done, data = cv2.imencode(".png", np.where(fits, mm, 0).astype(np.uint16))
    if not done:
        raise OutputError(f"cannot encode '{path.name}' of {mm.shape}")
    write_bytes(path, data.tobytes())
    return {
        "unit": "mm; 0: not measured, or farther than 65.535 m",
        "pixels": int(np.count_nonzero(fits)),
        "beyond": int(np.count_nonzero(beyond)),
    }


def _write_exr(path: Path, picture: DepthPicture) -> dict[str, Any]:
    exr = _package("exr")
    light = picture.light if picture.light.ndim == 3 else np.repeat(picture.light[..., None], 3, axis=2)
    half = np.clip(light, -65504, 65504).astype(np.float16)
    channels = {name: np.ascontiguousarray(half[..., index]) for index, name in enumerate("RGB")}
    channels["Z"] = np.ascontiguousarray(picture.depth_m, np.float32)
    channels["confidence.Y"] = np.ascontiguousarray(picture.confidence, np.float32)
    header = {
        "compression": exr.ZIP_COMPRESSION,
        "type": exr.scanlineimage,
        "pixelAspectRatio": float(picture.pixel_width_over_height),
        "comments": "Z: depth from the lens in m, NaN where not measured; R, G, B: linear light",
    }
    with atomic_path(path) as temporary, exr.File(header, channels) as file:
        file.write(str(temporary))
    return {
        "channels": {"R, G, B": "float16, linear light", "Z": "float32, m", "confidence.Y": "float32, 0 to 1"},
        "unknown": "NaN in Z",
    }


def _write_glb(path: Path, picture: DepthPicture) -> dict[str, Any]:
    trimesh = _package("glb")
    from PIL import Image

    vertices, faces, uv, stride = _surface(picture)
    data, shown = io.BytesIO(), Image.fromarray(picture.rgb)
    shown.thumbnail((_TEXTURE_LONG_SIDE_PX, _TEXTURE_LONG_SIDE_PX))
    shown.save(data, "JPEG", quality=_TEXTURE_QUALITY)
    material = trimesh.visual.material.PBRMaterial(
        baseColorTexture=Image.open(data), metallicFactor=0.0, roughnessFactor=1.0, doubleSided=True
    )
    visual = trimesh.visual.TextureVisuals(uv=uv, material=material)
    mesh = trimesh.Trimesh(vertices, faces, visual=visual, process=False)
    write_bytes(path, mesh.export(file_type="glb"))
    return {
        "axes": "x right, y up, z towards the camera, m", "vertices": len(vertices), "faces": len(faces),
        "every_pixel": stride,
    }  # fmt: skip


def _surface(
    picture: DepthPicture,
) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.int64], npt.NDArray[np.float64], int]:
    """Vertices (N, 3) in glTF's axes, triangles (M, 3), texture coordinates (N, 2) from the lower left, and stride."""
    assert picture.pinhole is not None  # noqa: S101 - the caller looked
    height, width = picture.depth_m.shape
    stride = max(1, ceil(sqrt(np.count_nonzero(picture.in_space) / _MOST_VERTICES)))
    chosen = np.zeros_like(picture.in_space)
    chosen[::stride, ::stride] = picture.in_space[::stride, ::stride]
    vertices = picture.pinhole.points(picture.depth_m, chosen) * np.array([1, -1, -1], np.float32)
    rows, columns = np.nonzero(chosen)
    uv = np.stack([(columns + 0.5) / width, 1 - (rows + 0.5) / height], axis=1)
    grid = np.full(chosen.shape, -1, np.int64)
    grid[chosen] = np.arange(len(vertices))
    grid = grid[::stride, ::stride]
    a, b, c, d = grid[:-1, :-1], grid[:-1, 1:], grid[1:, :-1], grid[1:, 1:]
    # counter-clockwise as the camera sees them
    corners = np.concatenate([np.stack(t, axis=-1).reshape(-1, 3) for t in ((a, c, b), (b, c, d))])
    corners = corners[(corners >= 0).all(axis=1)]
    z = -vertices[corners, 2]
    faces = corners[z.max(axis=1) <= z.min(axis=1) * (1 + _MOST_STEP)]
    return vertices, faces, uv, stride


def _write_las(path: Path, picture: DepthPicture) -> dict[str, Any]:
    laspy = _package("las")
    assert picture.pinhole is not None  # noqa: S101 - the caller looked
    chosen = picture.in_space
    x, y, z = picture.pinhole.points(picture.depth_m, chosen).astype(np.float64).T
    header = laspy.LasHeader(point_format=2, version="1.2")
    header.add_extra_dim(laspy.ExtraBytesParams(name="confidence", type=np.float32, description="0 to 1"))
    header.scales, header.offsets = np.full(3, _LAS_STEP_M), np.zeros(3)
    header.generating_software = "dualpix"
    points = laspy.LasData(header)
    points.x, points.y, points.z = x, z, -y
    codes = picture.rgb[chosen].astype(np.uint16) * np.uint16(257)  # 8 bits spread over 16
    points.red, points.green, points.blue = codes.T
    points.confidence = picture.confidence[chosen]
    with atomic_path(path) as temporary:
        points.write(str(temporary))
    return {"axes": "x right, y away from the camera, z up, m", "points": len(x), "step_m": _LAS_STEP_M}


_WRITERS: Mapping[Format, Callable[[Path, DepthPicture], dict[str, Any]]] = {
    "png": _write_png,
    "exr": _write_exr,
    "glb": _write_glb,
    "las": _write_las,
}
