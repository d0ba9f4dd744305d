"""Pictures focused anew: a sharp picture and its depth through a synthetic thin lens, by the exact renderer.

Convention: see :mod:`.scene` for the law of blur and :mod:`dualpix.capture.render.layered` ("exact") for occlusion.
Light is linear while it is spread; what comes in and goes out is sRGB for people. Blur is a disc with a soft edge of
6 % of its radius, and a pixel in focus stays as it is.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import ceil

import cv2
import numpy as np
import torch

from dualpix.capture.errors import DualpixError
from dualpix.capture.pictures.colour_map import Rgb
from dualpix.capture.pictures.display import linear_from_srgb, square_pixels, srgb_from_linear
from dualpix.capture.render import PsfModel, render_whole
from dualpix.capture.render.inputs import MEMORY_LIMIT_BYTES
from dualpix.capture.render.layered import coc_ladder
from dualpix.capture.types import FloatImage
from dualpix.models.view.scene import COORDINATE_MAPS, Defocus, Estimate, Scene

APERTURE = PsfModel(edge_px=0.0)
"""Of the synthetic lens; its split has no effect."""
_LARGEST_COC_SHARE = 0.5
"""Of the long side: more is fog."""
_NEAR_PX = 2
_LEAST_LEVELS_PX = 0.01


@dataclass(frozen=True)
class Sharp:
    """What is needed to focus a picture anew, at the size in which it is done."""

    light: FloatImage
    """(H, W, 3) linear, 1.0 = white, square pixels."""
    coordinate: FloatImage
    """(H, W) without holes; see :class:`~dualpix.models.view.scene.Defocus`."""
    defocus: Defocus
    pixels: float
    """Of this picture for one px of the view along the baseline, which ``defocus`` counts in."""

    @property
    def size_hw(self) -> tuple[int, int]:
        """(height, width)."""
        return self.light.shape[0], self.light.shape[1]

    def coordinate_at(self, x_share: float, y_share: float) -> float:
        """Of a place, (0, 0) the upper left corner and (1, 1) the lower right: the median of 5 x 5 px."""
        height, width = self.size_hw
        column, row = min(int(x_share * width), width - 1), min(int(y_share * height), height - 1)
        rows = slice(max(0, row - _NEAR_PX), row + _NEAR_PX + 1)
        columns = slice(max(0, column - _NEAR_PX), column + _NEAR_PX + 1)
        return float(np.median(self.coordinate[rows, columns]))

    def ends(self) -> tuple[float, float]:
        """Coordinates of the nearest and of the farthest 1 %."""
        near, far = np.percentile(self.coordinate, (1, 99))
        return float(near), float(far)


def sharp_of(scene: Scene, estimate: Estimate, long_side_px: int | None = None) -> Sharp:
    """The picture and the depth of a scene, brought to one size.

    Args:
        scene: with a picture.
        estimate: of it.
        long_side_px: reduce to this; the picture's own size if it is smaller, or None.

    Raises:
        DualpixError: there is no picture, or no depth.
    """
    picture = estimate.sharp or scene.picture
    if picture is None:
        raise DualpixError(f"'{scene.name}' has no picture at hand", hint="name the capture beside its result")
    if estimate.defocus is None:
        raise DualpixError(f"'{scene.name}' has no depth to focus by")
    known = estimate.map_named(COORDINATE_MAPS[estimate.defocus.coordinate])
    if known is None:
        raise DualpixError(f"'{scene.name}' has no {COORDINATE_MAPS[estimate.defocus.coordinate]} map")
    height, width = scene.square_hw
    shrink = min(1.0, (long_side_px or max(height, width)) / max(height, width))
    size = max(1, round(width * shrink)), max(1, round(height * shrink))
    codes = picture.rgb.astype(np.float32) / np.float32(255)
    light = linear_from_srgb(codes)
    coordinate = square_pixels(_dense(estimate.defocus.coordinate_of(known.values)), scene.pixel_aspect, scene.baseline)
    if (light.shape[1], light.shape[0]) != size:
        light = np.asarray(cv2.resize(light, size, interpolation=cv2.INTER_AREA), np.float32)
    if (coordinate.shape[1], coordinate.shape[0]) != size:
        # no value between those of an object and of what is behind it
        coordinate = np.asarray(cv2.resize(coordinate, size, interpolation=cv2.INTER_NEAREST), np.float32)
    along_px = scene.size_hw[1] if scene.baseline == "x" else scene.size_hw[0]
    pixels = (size[0] if scene.baseline == "x" else size[1]) / along_px
    return Sharp(light, coordinate, estimate.defocus, pixels)


def refocused(sharp: Sharp, focus: float, widening: float) -> Rgb:
    """The picture with a plane in focus.

    Args:
        sharp: the picture and its depth.
        focus: coordinate of the plane in focus.
        widening: how many times as wide the aperture is as the one that the depth's blur is of.

    Returns:
        uint8 (H, W, 3) sRGB.

    Raises:
        DualpixError: the blur would be wider than half the picture.
    """
    coc_px = sharp.defocus.coc_px(sharp.coordinate, focus, widening) * np.float32(sharp.pixels)
    largest = float(np.abs(coc_px).max())
    limit = _LARGEST_COC_SHARE * max(sharp.size_hw)
    if not largest <= limit:
        raise DualpixError(
            f"blur of {largest:.0f} px in a picture of {sharp.size_hw[1]}x{sharp.size_hw[0]}",
            expected=f"at most {limit:.0f} px",
            hint="choose a larger --f-number, or a smaller --blur",
        )
    _check_memory(sharp.size_hw, float(coc_px.min()), float(coc_px.max()))
    image = torch.from_numpy(np.ascontiguousarray(sharp.light.transpose(2, 0, 1)))[None]
    if largest < _LEAST_LEVELS_PX:
        light = sharp.light
    else:
        with torch.no_grad():
            rendered = render_whole(image, torch.from_numpy(coc_px)[None, None], APERTURE)
        light = rendered[0].numpy().transpose(1, 2, 0)
    return np.asarray(np.rint(np.clip(srgb_from_linear(light), 0, 1) * 255), np.uint8)


def _check_memory(size_hw: tuple[int, int], low_px: float, high_px: float) -> None:
    """By what the renderer holds: colour and coverage of every cut, on a canvas with a border, twice while cutting."""
    border = ceil(max(abs(low_px), abs(high_px)))
    planes = 4 * len(coc_ladder(low_px, high_px)) * 2 + 40
    needed = 4.0 * planes * (size_hw[0] + 2 * border) * (size_hw[1] + 2 * border)
    if needed > MEMORY_LIMIT_BYTES:
        raise DualpixError(
            f"to focus {size_hw[1]}x{size_hw[0]} px anew would take about {needed / 2**30:.1f} GiB",
            expected=f"at most {MEMORY_LIMIT_BYTES / 2**30:.1f} GiB",
            hint="choose a smaller --size",
        )


def _dense(coordinate: FloatImage) -> FloatImage:
    """What has no coordinate gets that of the nearest pixel before it in reading order, as the page does."""
    flat = coordinate.ravel().copy()
    known = np.isfinite(flat)
    if not known.any():
        return np.zeros_like(coordinate)
    before = np.maximum.accumulate(np.where(known, np.arange(flat.size), -1))
    before[before < 0] = int(np.argmax(known))
    return np.asarray(flat[before].reshape(coordinate.shape), np.float32)
