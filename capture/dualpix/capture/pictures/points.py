"""Points in space of a depth map, and PLY files of them.

Convention: the camera's axes as computer vision has them, x to the right, y down, z away from the camera, in m; depth
is z, from the lens. A thin lens focused at ``d_f`` has its sensor at ``v = 1 / (1 / f - 1 / d_f)`` behind it, so a
pixel ``u`` px from the axis sees points at ``x = z u pitch / v``. The axis goes through the middle of the picture, as
no file says where else; pixels are at whole coordinates, so the middle is at ((width - 1) / 2, (height - 1) / 2).
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from dualpix.capture.files import atomic_path
from dualpix.capture.types import FloatImage, LensModel, Mask

PLY_VERTEX = np.dtype(
    [("x", "<f4"), ("y", "<f4"), ("z", "<f4"), ("red", "u1"), ("green", "u1"), ("blue", "u1"), ("confidence", "<f4")]
)
"""Of a vertex in a file, packed; the names are those that MeshLab, CloudCompare, Open3D and Blender look for."""
_PLY_TYPES = {"<f4": "float", "|u1": "uchar"}
_MM_PER_M, _UM_PER_MM = 1000.0, 1000.0


@dataclass(frozen=True)
class Pinhole:
    """Where the points of a picture's pixels lie."""

    fx_px: float
    fy_px: float
    cx_px: float
    cy_px: float

    def points(self, depth_m: FloatImage, chosen: Mask) -> npt.NDArray[np.float32]:
        """(N, 3) x, y, z in m of the chosen pixels, row by row; see :meth:`pixels`.

        Args:
            depth_m: (H, W) > 0, finite where chosen.
            chosen: (H, W).
        """
        rows, columns = np.nonzero(chosen)
        z = depth_m[chosen].astype(np.float64)
        x = z * (columns - self.cx_px) / self.fx_px
        y = z * (rows - self.cy_px) / self.fy_px
        return np.stack([x, y, z], axis=1).astype(np.float32)

    def pixels(self, points_m: npt.NDArray[np.float32]) -> npt.NDArray[np.float64]:
        """(N, 2) column and row of the pixels that see the points (N, 3): the inverse of :meth:`points`."""
        x, y, z = points_m.astype(np.float64).T
        return np.stack([x / z * self.fx_px + self.cx_px, y / z * self.fy_px + self.cy_px], axis=1)


def pinhole_of(lens: LensModel, size_hw: tuple[int, int], pixel_aspect: float = 1.0, baseline: str = "x") -> Pinhole:
    """Of a lens where it is focused.

    Args:
        lens: its pitch is that of the picture, along the baseline.
        size_hw: of the picture.
        pixel_aspect: extent of a pixel across the baseline over that along it.
        baseline: x or y.
    """
    height, width = size_hw
    behind_mm = 1.0 / (1.0 / lens.focal_length_mm - 1.0 / (lens.focus_distance_m * _MM_PER_M))
    along = behind_mm * _UM_PER_MM / lens.pixel_pitch_um
    across = along / pixel_aspect
    fx, fy = (along, across) if baseline == "x" else (across, along)
    return Pinhole(fx, fy, (width - 1) / 2, (height - 1) / 2)


def write_ply(
    path: Path,
    points_m: npt.NDArray[np.float32],
    colours: npt.NDArray[np.uint8],
    confidence: npt.NDArray[np.float32],
    comments: tuple[str, ...] = (),
) -> None:
    """A binary little-endian PLY file (Turk 1994) of points with colour and confidence, atomically.

    Args:
        path: of the file.
        points_m: (N, 3).
        colours: (N, 3) R, G, B for display.
        confidence: (N,) 0 to 1.
        comments: a line each, ASCII.

    Raises:
        ValueError: counts differ, or a comment has several lines.
        OutputError: the file cannot be written.
    """
    if not len(points_m) == len(colours) == len(confidence):
        raise ValueError(f"{len(points_m)} points, {len(colours)} colours, {len(confidence)} confidences")
    if any("\n" in comment or "\r" in comment for comment in comments):
        raise ValueError("a comment is one line")
    vertices = np.empty(len(points_m), PLY_VERTEX)
    for axis, name in enumerate("xyz"):
        vertices[name] = points_m[:, axis]
    for channel, name in enumerate(("red", "green", "blue")):
        vertices[name] = colours[:, channel]
    vertices["confidence"] = confidence
    properties = [f"property {_PLY_TYPES[PLY_VERTEX[name].str]} {name}" for name in PLY_VERTEX.names or ()]
    lines = [
        "ply",
        "format binary_little_endian 1.0",
        *(f"comment {comment}" for comment in comments),
        f"element vertex {len(vertices)}",
        *properties,
        "end_header",
    ]
    with atomic_path(path) as temporary, temporary.open("wb") as file:
        file.write(("\n".join(lines) + "\n").encode("ascii", "replace"))
        vertices.tofile(file)
