"""Focus stacks whose depth is known: rendered ones, captures of the simulated camera, and data at hand.

Convention: a truth is in diopters on the grid of the aligned stack, NaN where there is none. Stacks of data sets that
state no distances have one slice per 0.1 D, the first at 0.5 D: errors are given in steps between frames, which that
leaves as they are.

Rendered stacks breathe: what the lens shows at D diopters is enlarged by 1 + beta (D - D0). They are aligned as users'
stacks are, and their truth is warped with the frame that everything is aligned to.
"""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
import numpy.typing as npt
import torch
from tests.support.lightfield import load_light_field
from tests.support.stack_folders import shoot_stack

from dualpix.capture.pictures.display import linear_from_srgb
from dualpix.capture.render import render_stack
from dualpix.capture.scenes import UseName, make_varied_scene
from dualpix.capture.stack.judge.align import align_stack
from dualpix.capture.stack.keep.frames import read_light
from dualpix.capture.stack.keep.load import load_stack
from dualpix.capture.types import FloatImage, FocusStack, LensModel

UNKNOWN_LENS = LensModel(math.nan, math.nan, 1.0, math.nan)
_SLICE_D, _FIRST_D = 0.1, 0.5
_BREATHING = 0.01
_SIZE_HW = (240, 320)
_FRAMES = 11
_WELL = 6000.0
"""Electrons of white: noise of a phone at its base sensitivity, of a camera at ISO 1600."""
_READ = 4.0
_SCENES: tuple[tuple[int, UseName], ...] = (
    (3, "desk"),
    (5, "desk"),
    (7, "macro"),
    (11, "room"),
    (13, "macro"),
    (17, "room"),
)
_RGBD = (
    "middlebury2005/Art", "middlebury2005/Books", "middlebury2005/Reindeer", "middlebury2014_q/Motorcycle",
    "middlebury2014_q/PlaytableP", "middlebury2014_q/Pipes", "sintel/temple_2_0001",
)  # fmt: skip
_CAPTURES = (0, 2, 4)


@dataclass(frozen=True)
class Known:
    """An aligned stack and what is true of it."""

    group: str
    name: str
    stack: FocusStack
    truth_d: FloatImage
    """(H, W) diopters, NaN where it is not known."""
    sharp: FloatImage | None = None
    """(H, W, 3) what a pinhole sees, where the source has it."""

    @property
    def step_d(self) -> float:
        """Median step between frames."""
        return float(np.median(np.diff(1 / self.stack.focus_distance_m)))


def shared_data() -> Path | None:
    """The folder of data sets, if there is one."""
    named = os.environ.get("DUALPIX_TEST_DATA")
    return Path(named) if named and Path(named).is_dir() else None


def rendered(lens_known: bool) -> Iterator[Known]:
    """Procedural scenes."""
    for seed, use in _SCENES:
        scene = make_varied_scene(seed, _SIZE_HW, use)
        sharp, depth_m = scene.all_in_focus(), scene.depth_m()
        yield _rendered("procedural", f"{use} {seed}", sharp, depth_m, seed, lens_known)


def rendered_rgbd(data: Path, lens_known: bool) -> Iterator[Known]:
    """Photographs with measured depth, holes left out of the error."""
    for seed, name in enumerate(_RGBD):
        picture = cv2.imread(str(data / "rgbd" / f"{name}.jpg"))
        depth = cv2.imread(str(data / "rgbd" / f"{name}.depth.png"), cv2.IMREAD_UNCHANGED)
        shrink = max(_SIZE_HW) / max(depth.shape)
        size = round(depth.shape[1] * shrink), round(depth.shape[0] * shrink)
        light = linear_from_srgb(
            cv2.resize(picture, size, interpolation=cv2.INTER_AREA)[..., ::-1].astype(np.float32) / 255
        )
        depth_m = cv2.resize(depth, size, interpolation=cv2.INTER_NEAREST).astype(np.float32) / 1000
        yield _rendered("photographs", name, light, depth_m, seed, lens_known)


def _rendered(group: str, name: str, sharp: FloatImage, depth_m: FloatImage, seed: int, lens_known: bool) -> Known:
    known = depth_m > 0
    filled = np.where(known, depth_m, np.median(depth_m[known])).astype(np.float32)
    truth = np.asarray(1 / filled, np.float32)
    low, high = (float(v) for v in np.percentile(truth[known], (1, 99)))
    step = (high - low) / (_FRAMES - 2)
    focus = np.linspace(max(low - step / 2, step / 10), high + step / 2, _FRAMES)
    # the largest circle of confusion is a twentieth of the picture
    blur_px_per_d = max(sharp.shape) / 20 / float(np.ptp(focus))
    focal_mm = 50.0 if high < 8 else 15.0
    pitch_um = focal_mm**2 / 2.0 / blur_px_per_d
    lens = LensModel(focal_mm, 2.0, 1 / float(focus[0]), pitch_um)
    sharp = np.asarray(sharp * (0.7 / np.percentile(sharp, 99)), np.float32)
    image = torch.from_numpy(np.ascontiguousarray(sharp.transpose(2, 0, 1)))[None]
    with torch.inference_mode():
        stack = render_stack(image, torch.from_numpy(filled)[None, None], list(1 / focus), lens)[0]
    frames = stack.permute(0, 2, 3, 1).numpy()
    scales = 1 + _BREATHING * (focus - focus[0])
    rng = np.random.default_rng(seed)
    frames = np.stack([_noisy(_enlarged(frame, scale), rng) for frame, scale in zip(frames, scales, strict=True)])
    plain = FocusStack(frames, 1 / focus, np.full(_FRAMES, 0.01), lens if lens_known else UNKNOWN_LENS)
    aligned, alignment = align_stack(plain)
    scale = scales[alignment.reference]
    truth = _enlarged(np.where(known, truth, np.nan).astype(np.float32), scale, cv2.INTER_NEAREST)
    return Known(f"{group}, lens {'known' if lens_known else 'unknown'}", name, aligned, truth, _enlarged(sharp, scale))


def _enlarged(image: FloatImage, scale: float, how: int = cv2.INTER_CUBIC) -> FloatImage:
    height, width = image.shape[:2]
    centre = np.array([(width - 1) / 2, (height - 1) / 2])
    matrix = np.column_stack([scale * np.eye(2), (1 - scale) * centre])
    moved = cv2.warpAffine(image, matrix, (width, height), flags=how, borderMode=cv2.BORDER_REPLICATE)
    return np.asarray(moved, np.float32)


def _noisy(light: FloatImage, rng: np.random.Generator) -> FloatImage:
    """Shot and read noise, and the sensor's white."""
    electrons = rng.normal(np.maximum(light, 0) * _WELL, np.sqrt(np.maximum(light, 0) * _WELL + _READ**2))
    return np.asarray(np.clip(electrons / _WELL, -0.01, 1.0), np.float32)


def captured(folder: Path) -> Iterator[Known]:
    """Raws of the simulated camera, which breathes, read and aligned as a user's."""
    for seed in _CAPTURES:
        shot = shoot_stack(folder / f"sim{seed}", seed=seed)
        aligned, alignment = align_stack(load_stack(shot.folder))
        truth = np.asarray(1 / shot.camera.depth_at_m(1 + 0.015 * alignment.d0), np.float32)
        yield Known("simulated captures", f"seed {seed}", aligned, truth)


def textured_surfaces(data: Path) -> Iterator[Known]:
    """``generated_stacks``: JPEGs of a surface with texture everywhere."""
    for folder in sorted((data / "focus" / "generated_stacks").iterdir()):
        frames = np.stack([read_light(path).image for path in sorted(folder.glob("*.jpg"))])
        focus = _FIRST_D + _SLICE_D * np.arange(len(frames))
        slices = -np.load(folder / "reference.npy")
        truth = np.full(frames.shape[1:3], np.nan, np.float32)
        top = (truth.shape[0] - slices.shape[0]) // 2
        truth[top : top + slices.shape[0], top : top + slices.shape[1]] = _FIRST_D + _SLICE_D * slices
        stack, _ = align_stack(FocusStack(frames, 1 / focus, np.full(len(focus), 0.01), UNKNOWN_LENS))
        yield Known("textured surfaces", folder.name, stack, truth)


def refocused(data: Path) -> Iterator[Known]:
    """A light field's views summed: real occlusion. Focus and truth are in disparity, which diopters are linear in."""
    folder = data / "lightfield" / "antinous"
    field = load_light_field(folder)
    disparity = np.asarray(field.coc_px.numpy() / -8.0, np.float32)
    views = field.views.permute(0, 2, 3, 1).numpy()
    for count in (9, 17):
        planes = np.linspace(-3.25, 2.75, count)
        frames = np.stack([_half(_sum_at(views, float(plane))) for plane in planes])
        focus = _FIRST_D + _SLICE_D * np.arange(count)
        truth = _FIRST_D + _SLICE_D * (_half(disparity) - planes[0]) / (planes[1] - planes[0])
        stack = FocusStack(frames, 1 / focus, np.full(count, 0.01), UNKNOWN_LENS)
        centre = _half(field.centre.permute(1, 2, 0).numpy())
        yield Known("light field", f"{count} frames", stack, np.asarray(truth, np.float32), centre)


def _sum_at(views: npt.NDArray[np.float32], disparity: float) -> FloatImage:
    """The mean of the views, each moved so that points of this disparity coincide: I_u(x) = I_c(x + u d)."""
    height, width = views.shape[1:3]
    total = np.zeros(views.shape[1:], np.float64)
    for index, view in enumerate(views):
        v, u = divmod(index, 9)
        matrix = np.array([[1.0, 0, -(u - 4) * disparity], [0, 1.0, -(v - 4) * disparity]])
        how = cv2.INTER_CUBIC | cv2.WARP_INVERSE_MAP
        total += cv2.warpAffine(view, matrix, (width, height), flags=how, borderMode=cv2.BORDER_REFLECT)
    return np.asarray(total / len(views), np.float32)


def _half(image: npt.NDArray[np.float32]) -> FloatImage:
    return np.asarray(cv2.resize(image, None, fx=0.5, fy=0.5, interpolation=cv2.INTER_AREA), np.float32)


def sources(scratch: Path, data: Path | None) -> list[Callable[[], Iterator[Known]]]:
    """All that is at hand."""
    found: list[Callable[[], Iterator[Known]]] = [
        lambda: rendered(True),
        lambda: rendered(False),
        lambda: captured(scratch),
    ]
    if data is not None:
        found += [
            lambda: rendered_rgbd(data, True),
            lambda: rendered_rgbd(data, False),
            lambda: textured_surfaces(data),
            lambda: refocused(data),
        ]
    return found
