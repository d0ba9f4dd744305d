"""Every kind of dual-pixel raw a user can hold, made from one recipe, with the truth beside it.

``write(path, Recipe(kind="CR3", orientation=6))`` writes a file and returns what a decoder must find in it. The bodies
are real ones: size, official picture area (hence masked columns) and name. Their colours, lenses and scenes are not.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Literal, get_args

import numpy as np
import numpy.typing as npt
from tests.support.cr2 import Shot, Slices, write_cr2
from tests.support.cr3 import write_cr3
from tests.support.dng import write_dng
from tests.support.halves import CROP, SIZE_HW, Frame, Levels, SensorFrames, mosaic_of, sensor_frames

from dualpix.capture.raw.develop.geometry import Crop

FourLevels = tuple[int, int, int, int]
Kind = Literal["CR2", "CR3", "CR3-crop", "C-RAW", "DNG-strip", "DNG-strip-ljpeg", "DNG-tiles-ljpeg"]
KINDS: tuple[Kind, ...] = get_args(Kind)
LOSSLESS_UNITS = 4  # the quantiser of a C-RAW that loses nothing


@dataclass(frozen=True)
class Body:
    """A camera: how its raw files lie."""

    model: str
    model_id: int
    size_hw: tuple[int, int]
    crop: Crop
    pitch_um: float


BODIES = {
    "5D4": Body("Canon EOS 5D Mark IV", 0x80000349, (4544, 6880), Crop(148, 54, 6720, 4480), 5.36),
    "R": Body("Canon EOS R", 0x80000424, (4546, 6888), Crop(156, 58, 6720, 4480), 5.36),
    "R-crop": Body("Canon EOS R", 0x80000424, (2850, 4352), Crop(164, 58, 4176, 2784), 5.36),
    "R5": Body("Canon EOS R5", 0x80000421, (5586, 8352), Crop(144, 112, 8192, 5464), 4.39),
    "R6 II": Body("Canon EOS R6m2", 0x80000481, (4120, 6188), Crop(168, 108, 6000, 4000), 5.98),
    "R7": Body("Canon EOS R7", 0x80000464, (4732, 7128), Crop(156, 84, 6960, 4640), 3.2),
}
FULL_SIZE: dict[Kind, str] = {
    "CR2": "5D4",
    "CR3": "R",
    "CR3-crop": "R-crop",
    "DNG-strip": "5D4",
    "DNG-strip-ljpeg": "5D4",
    "DNG-tiles-ljpeg": "5D4",
}


def small_body(kind: Kind, size_hw: tuple[int, int] = SIZE_HW, crop: Crop = CROP) -> Body:
    """The camera that writes this kind, with a sensor of some other size."""
    return replace(BODIES[FULL_SIZE.get(kind, "R")], size_hw=size_hw, crop=crop)


@dataclass(frozen=True)
class Recipe:
    """What to put into a file. Pairs are frame 0 (both photodiodes) and frame 1 (the left one)."""

    kind: Kind = "CR2"
    body: Body | None = None
    """A small sensor with the name of the kind's camera if None."""
    shot: Shot = field(default_factory=Shot)
    """Exposure, lens, orientation; black, white, camera and pitch follow from the rest of the recipe."""
    black: tuple[Levels, Levels] = (512, 512)
    stated_black: Levels | None = None
    """The black level in the metadata, that of frame 0 if None."""
    clip: tuple[Levels, Levels] = (16383, 16383)
    stated_white: int = 14008
    disparity_px: float = 6.0
    highlight: float = 0.0
    shading: float = 0.0
    read_noise: float = 2.0
    shot_noise: float = 0.0
    full: float = 4000.0
    bits: int = 16
    """Of DNG samples. Canon's own files have 14."""
    tile_wh: tuple[int, int] = (96, 64)
    """Of a tiled DNG."""
    slices: Slices | None = None
    """Of a CR2."""
    components: int = 4
    """Of a CR2's JPEG."""
    tile_columns: int = 2
    """Of a CR3."""
    quantiser: int = LOSSLESS_UNITS
    """Of a C-RAW, see :mod:`tests.support.crx_wavelet`."""
    seed: int = 0


@dataclass(frozen=True)
class Truth:
    """What a recipe's file holds."""

    recipe: Recipe
    body: Body
    sensor: SensorFrames

    @property
    def composite(self) -> Frame:
        """Frame 0, (H, W)."""
        return self.sensor.composite

    @property
    def half(self) -> Frame:
        """Frame 1, (H, W)."""
        return self.sensor.half

    @property
    def crop(self) -> Crop:
        """The official picture area."""
        return self.body.crop

    @property
    def inside(self) -> tuple[slice, slice]:
        """Rows and columns of the picture."""
        crop = self.crop
        return slice(crop.top, crop.top + crop.height), slice(crop.left, crop.left + crop.width)

    @property
    def black(self) -> tuple[FourLevels, FourLevels]:
        """Of each frame, in cell order R, G, G, B."""
        first, second = (four(levels) for levels in self.recipe.black)
        return first, second

    @cached_property
    def other(self) -> npt.NDArray[np.int32]:
        """The photodiode that is not stored, in counts above black, signed: (frame 0 - black) - (frame 1 - black)."""
        step = mosaic_of(self.black[0], self.body.size_hw) - mosaic_of(self.black[1], self.body.size_hw)
        return self.composite.astype(np.int32) - self.half - step.astype(np.int32)

    @cached_property
    def saturated(self) -> npt.NDArray[np.bool_]:
        """(H, W): clipped in either frame."""
        whites = [mosaic_of(four(levels), self.body.size_hw) for levels in self.recipe.clip]
        return (self.composite >= whites[0]) | (self.half >= whites[1])


def four(levels: Levels) -> FourLevels:
    """A level for each pixel of the cell."""
    return (levels,) * 4 if isinstance(levels, int) else levels


def write(path: Path, recipe: Recipe) -> Truth:
    """Write the file and say what is in it."""
    body = recipe.body or small_body(recipe.kind)
    sensor = sensor_frames(
        disparity_px=recipe.disparity_px,
        black=recipe.black,
        highlight=recipe.highlight,
        shading=recipe.shading,
        read_noise=recipe.read_noise,
        shot_noise=recipe.shot_noise,
        white=recipe.clip,
        full=recipe.full,
        crop=body.crop,
        size_hw=body.size_hw,
        seed=recipe.seed,
    )
    write_frames(path, recipe, sensor.composite, sensor.half)
    return Truth(recipe, body, sensor)


def write_frames(path: Path, recipe: Recipe, composite: Frame, half: Frame | None) -> None:
    """Write given frames as a recipe's file; without ``half`` the file of an ordinary shot (CR2 and CR3 only)."""
    body = recipe.body or small_body(recipe.kind)
    shot = replace(
        recipe.shot,
        model=body.model,
        model_id=body.model_id,
        pitch_um=body.pitch_um,
        black=four(recipe.black[0] if recipe.stated_black is None else recipe.stated_black),
        white=recipe.stated_white,
    )
    if recipe.kind == "CR2":
        write_cr2(path, composite, half, body.crop, shot, slices=recipe.slices, components=recipe.components)
    elif recipe.kind in ("CR3", "CR3-crop", "C-RAW"):
        quantiser = recipe.quantiser if recipe.kind == "C-RAW" else None
        write_cr3(path, composite, half, body.crop, shot, tiles=recipe.tile_columns, quantiser=quantiser)
    else:
        assert half is not None
        write_dng(
            path,
            composite,
            half,
            body.crop,
            shot,
            tile_wh=recipe.tile_wh if recipe.kind == "DNG-tiles-ljpeg" else None,
            compressed=recipe.kind != "DNG-strip",
            bits=recipe.bits,
            black=(four(recipe.black[0]), four(recipe.black[1])),
            white=recipe.stated_white,
        )


def suffix(kind: Kind) -> str:
    """The usual file name ending."""
    return {"CR2": ".CR2", "CR3": ".CR3", "CR3-crop": ".CR3", "C-RAW": ".CR3"}.get(kind, ".dng")


def write_full_size(kind: Kind, path: Path, seed: int = 0) -> Truth:
    """A noisy scene at a camera's full size, with a clipped highlight: for benchmarks. Takes about 10 s and 2 GB."""
    body = BODIES[FULL_SIZE[kind]]
    tile = (256, 256)
    shot = Shot(focus_m=(2.41, 2.12), lens="EF50mm f/1.4 USM")
    return write(
        path,
        Recipe(
            kind, body, shot, highlight=2.0, shading=0.2, shot_noise=0.25, disparity_px=8.0, tile_wh=tile, seed=seed
        ),
    )
