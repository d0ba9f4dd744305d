"""What a camera profile can hold beside its shading: disparity gain, blur, sensor.

Convention: grids are (rows, columns) on the centres of equal cells that tile the picture (or the stated part of it), as
the sensor lies. Pixels are those of the view the fact was measured in, whose width is stated.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from dualpix.capture.optics import LENS_RANGES
from dualpix.capture.profiles.entries import MAX_GRID, Entry, infinite, numbers
from dualpix.capture.types import FloatImage

MAX_PLANES = 256
MAX_KERNEL_PX = 127
MAX_KERNEL_VALUES = 1 << 19

Readout = Literal["halves", "composite"]
Colour = Literal["gray", "bayer"]
Encoding = Literal["raw", "srgb8"]


@dataclass(frozen=True)
class PlaneFit:
    """One capture of a plane and how the gain explains it; means over the field."""

    name: str
    distance_m: float
    focus_distance_m: float
    disparity_px: float
    predicted_px: float
    sigma_px: float

    def to_json(self) -> dict[str, Any]:
        """Plain data."""
        return {
            "name": self.name,
            "distance_m": self.distance_m,
            "focus_distance_m": infinite(self.focus_distance_m),
            "disparity_px": round(self.disparity_px, 4),
            "predicted_px": round(self.predicted_px, 4),
            "sigma_px": round(self.sigma_px, 4),
        }


@dataclass(frozen=True)
class GainField:
    """disparity = slope * relative(position) * (1 / focus distance - 1 / distance), in px of the view."""

    slope_px_per_diopter: float
    """Mean over the field; > 0."""
    relative: FloatImage
    """(rows, columns), mean 1."""
    focus_distance_m: float
    """From the lens plane: as given, or as the planes agree best with."""
    focus_fitted: bool
    residual_px: float
    """Rms over all cells of all planes."""
    view_width_px: int
    """Width of the view whose pixels are meant, as the sensor lies."""
    pixel_pitch_um: float | None = None
    """Of that view."""
    planes: tuple[PlaneFit, ...] = ()

    @property
    def slope_px(self) -> float:
        """a of disparity = a (P_f - P) / P_f: the disparity of infinity."""
        return self.slope_px_per_diopter / self.focus_distance_m

    def to_json(self) -> dict[str, Any]:
        """Plain data in the form of the profile's schema."""
        pitch = {} if self.pixel_pitch_um is None else {"pixel_pitch_um": self.pixel_pitch_um}
        return {
            "slope_px_per_diopter": self.slope_px_per_diopter,
            "focus_distance_m": infinite(self.focus_distance_m),
            "focus_fitted": self.focus_fitted,
            "residual_px": self.residual_px,
            "view_width_px": self.view_width_px,
            **pitch,
            "rows": self.relative.shape[0],
            "columns": self.relative.shape[1],
            "relative": numbers(self.relative),
            "planes": [plane.to_json() for plane in self.planes],
        }


@dataclass(frozen=True)
class PsfGrid:
    """Blur of both halves over the field, measured, and the parameters of ``render.PsfModel`` that come closest.

    The diameter is that of a uniform disc with the second moment of the full kernel, sqrt(8 <r^2>); ``gain`` is the
    distance of the halves' centroids over it. ``coc_px`` is the diameter of the model's disc, to which its soft edge
    and its rim come on top; the model's own gain is ``separation_px / coc_px``.
    """

    diameter_px: FloatImage
    separation_px: FloatImage
    """Centroid of the right kernel minus that of the left, along the baseline; < 0 in front of the focus plane."""
    coc_px: FloatImage
    """Signed like the separation."""
    edge_relative: FloatImage
    rim: FloatImage
    split_offset: FloatImage
    residual: FloatImage
    """Rms error of the model over the rms of the kernels."""
    edge_px: float
    view_width_px: int
    """Width of the view whose pixels are meant, as the sensor lies."""
    field: tuple[float, float, float, float] = (0.0, 0.0, 1.0, 1.0)
    """Top, left, bottom, right of the part of the picture that the cells tile, in parts of it."""
    kernels: tuple[FloatImage, FloatImage] | None = None
    """Left, right: (rows, columns, n, n), each summing to 1, one value per ``kernel_step_px``."""
    kernel_step_px: float = 1.0

    @property
    def gain(self) -> FloatImage:
        """Centroid distance over blur diameter, (rows, columns)."""
        return np.asarray(np.abs(self.separation_px) / self.diameter_px, np.float32)

    def to_json(self) -> dict[str, Any]:
        """Plain data in the form of the profile's schema."""
        out: dict[str, Any] = {
            "rows": self.diameter_px.shape[0],
            "columns": self.diameter_px.shape[1],
            "field": [round(v, 6) for v in self.field],
            "view_width_px": self.view_width_px,
            "edge_px": self.edge_px,
        }
        out |= {name: numbers(getattr(self, name)) for name in _PSF_GRIDS}
        if self.kernels is not None:
            left, right = (numbers(k) for k in self.kernels)
            out["kernels"] = {
                "size": self.kernels[0].shape[-1], "step_px": self.kernel_step_px, "left": left, "right": right
            }  # fmt: skip
        return out


@dataclass(frozen=True)
class SensorFacts:
    """How the camera's samples come to be: what a simulation of it needs beside noise and shading."""

    readout: Readout
    """halves: both are read (Pixel); composite: the sum and the left half are read, right is the difference (Canon)."""
    colour: Colour
    bits: int
    black_dn: float
    white_dn: float
    encoding: Encoding = "raw"
    """Of the files: raw samples, or 8-bit sRGB pictures."""

    def to_json(self) -> dict[str, Any]:
        """Plain data in the form of the profile's schema."""
        return {
            "readout": self.readout,
            "colour": self.colour,
            "bits": self.bits,
            "black_dn": self.black_dn,
            "white_dn": self.white_dn,
            "encoding": self.encoding,
        }


_PSF_GRIDS: Mapping[str, tuple[float, float]] = {
    "diameter_px": (1e-3, 1e4),
    "separation_px": (-1e4, 1e4),
    "coc_px": (-1e4, 1e4),
    "edge_relative": (0.0, 2.0),
    "rim": (-1.0, 10.0),
    "split_offset": (-3.0, 3.0),
    "residual": (0.0, 10.0),
}


def read_gain(entry: Entry) -> GainField:
    """The ``gain`` entry of a profile."""
    entry.only(
        "slope_px_per_diopter", "focus_distance_m", "focus_fitted", "residual_px", "view_width_px", "pixel_pitch_um",
        "rows", "columns", "relative", "planes",
    )  # fmt: skip
    shape = (entry["rows"].whole(1, MAX_GRID), entry["columns"].whole(1, MAX_GRID))
    planes = entry["planes"]
    return GainField(
        slope_px_per_diopter=entry["slope_px_per_diopter"].number(0, 1e5, above=True),
        relative=entry["relative"].grid(shape, 0.01, 100),
        focus_distance_m=entry["focus_distance_m"].distance_m(),
        focus_fitted=entry["focus_fitted"].flag(),
        residual_px=entry["residual_px"].number(0, 1e4),
        view_width_px=entry["view_width_px"].whole(1, 1 << 16),
        pixel_pitch_um=entry.optional("pixel_pitch_um", LENS_RANGES["pixel_pitch_um"].high),
        planes=tuple(
            _plane(Entry(value, f"{planes.name}[{i}]")) for i, value in enumerate(planes.items(most=MAX_PLANES))
        ),
    )


def _plane(entry: Entry) -> PlaneFit:
    entry.only("name", "distance_m", "focus_distance_m", "disparity_px", "predicted_px", "sigma_px")
    return PlaneFit(
        name=entry["name"].text(),
        distance_m=entry["distance_m"].number(0, 1e9, above=True),
        focus_distance_m=entry["focus_distance_m"].distance_m(),
        disparity_px=entry["disparity_px"].number(-1e4, 1e4),
        predicted_px=entry["predicted_px"].number(-1e4, 1e4),
        sigma_px=entry["sigma_px"].number(0, 1e4),
    )


def read_psf(entry: Entry) -> PsfGrid:
    """The ``psf`` entry of a profile."""
    entry.only("rows", "columns", "field", "view_width_px", "edge_px", "kernels", *_PSF_GRIDS)
    shape = (entry["rows"].whole(1, MAX_GRID), entry["columns"].whole(1, MAX_GRID))
    field = entry["field"].grid((4,), 0, 1)
    if not (field[0] < field[2] and field[1] < field[3]):
        raise entry["field"].wrong("top < bottom, left < right")
    kernels, step_px = None, 1.0
    if entry.has("kernels"):
        kernels, step_px = _kernels(entry["kernels"], shape)
    return PsfGrid(
        **{name: entry[name].grid(shape, *limits) for name, limits in _PSF_GRIDS.items()},
        edge_px=entry["edge_px"].number(0, 100),
        view_width_px=entry["view_width_px"].whole(1, 1 << 16),
        field=tuple(round(v, 6) for v in field.astype(float).tolist()),
        kernels=kernels,
        kernel_step_px=step_px,
    )


def _kernels(entry: Entry, cells: tuple[int, int]) -> tuple[tuple[FloatImage, FloatImage], float]:
    entry.only("size", "step_px", "left", "right")
    size = entry["size"].whole(1, MAX_KERNEL_PX)
    if size % 2 == 0 or cells[0] * cells[1] * size**2 > MAX_KERNEL_VALUES:
        raise entry["size"].wrong(f"an odd size, and at most {MAX_KERNEL_VALUES} values in all")
    left, right = (entry[half].grid((*cells, size, size), 0, 1) for half in ("left", "right"))
    return (left, right), entry["step_px"].number(0, 1000, above=True)


def read_sensor(entry: Entry) -> SensorFacts:
    """The ``sensor`` entry of a profile."""
    entry.only("readout", "colour", "bits", "black_dn", "white_dn", "encoding")
    black = entry["black_dn"].number(0, 65535)
    white = entry["white_dn"]
    if white.number(0, 65535, above=True) <= black:
        raise white.wrong(f"more than black, {black:g}")
    readout = entry["readout"].one_of("halves", "composite")
    colour, encoding = entry["colour"].one_of("gray", "bayer"), entry["encoding"].one_of("raw", "srgb8")
    return SensorFacts(
        readout="halves" if readout == "halves" else "composite",
        colour="gray" if colour == "gray" else "bayer",
        bits=entry["bits"].whole(1, 16),
        black_dn=black,
        white_dn=white.number(0, 65535),
        encoding="raw" if encoding == "raw" else "srgb8",
    )


def at_cell(grid: npt.NDArray[Any], field: tuple[float, float, float, float], y: float, x: float) -> float:
    """Value of a (rows, columns) grid at a place of the picture, y and x in 0..1; bilinear, held at the borders."""
    rows, columns = grid.shape
    top, left, bottom, right = field
    row = np.clip((y - top) / (bottom - top) * rows - 0.5, 0, rows - 1)
    column = np.clip((x - left) / (right - left) * columns - 0.5, 0, columns - 1)
    r, c = min(int(row), max(rows - 2, 0)), min(int(column), max(columns - 2, 0))
    r2, c2 = min(r + 1, rows - 1), min(c + 1, columns - 1)
    a, b = row - r, column - c
    upper = (1 - b) * grid[r, c] + b * grid[r, c2]
    lower = (1 - b) * grid[r2, c] + b * grid[r2, c2]
    return float((1 - a) * upper + a * lower)
