"""Pictures of a capture for people: the preview, the disparity at a glance, the animation between the halves.

All are made from views reduced to square pixels, so they cost little beside the views themselves. None is data: colours
are for display, and the disparity is one run of semi-global matching at a small size, good enough to see the sign.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, TypeVar

import cv2
import numpy as np
import numpy.typing as npt

from dualpix.capture.pictures.display import to_display
from dualpix.capture.types import Baseline, FloatImage, Mask

Rgb = npt.NDArray[np.uint8]
Scalar = TypeVar("Scalar", bound=np.generic)

REDUCED_LONG_SIDE_PX = 2016
PREVIEW_LONG_SIDE_PX = 1344
DISPARITY_ACROSS_PX = 600
"""Size across the baseline at which the disparity is matched. Along it nothing more is given away: most dual-pixel
disparities are below a pixel or two, and semi-global matching leans towards whole ones."""
WIGGLE_LONG_SIDE_PX = 640
_DISPARITY_SHOWN_PX = 960
_WIGGLE_FRAME_MS = 150
_WIGGLE_ORDER = ("left", "combined", "right", "combined")
_WEBP_QUALITY = 82


@dataclass(frozen=True)
class Look:
    """How linear light is shown; None is chosen from the picture, see :func:`.pictures.display.to_display`."""

    white_balance: tuple[float, float, float] | None = None
    exposure: float | None = None


def reduced(
    view: FloatImage,
    *,
    cfa: str | None,
    pixel_aspect: float,
    baseline: Baseline,
    long_side_px: int = REDUCED_LONG_SIDE_PX,
) -> FloatImage:
    """A view with square pixels and a long side of at most ``long_side_px``; never aliased by the mosaic.

    Args:
        view: upright (H, W) or (H, W, 3).
        cfa: pattern of a mosaic, e.g. "GRBG"; it is reduced by whole cells, to R, mean of both G, B.
        pixel_aspect: of the capture.
        baseline: of the capture.
        long_side_px: :data:`PREVIEW_LONG_SIDE_PX` where nothing but the preview is made of it.

    Returns:
        float32 (h, w) or (h, w, 3) of its own memory.
    """
    view = view if cfa is None else _cells(view, cfa)
    height, width = view.shape[:2]
    stretched_h, stretched_w = (height * pixel_aspect, width) if baseline == "x" else (height, width * pixel_aspect)
    small = _fitted(view, stretched_h, stretched_w, long_side_px)
    return small.copy() if small is view else small


def disparity_preview(
    left: FloatImage, right: FloatImage, saturated: Mask, baseline: Baseline, view_length_px: int
) -> Rgb:
    """Coloured disparity with its scale, in pixels of the decoded view; grey where nothing was matched.

    Args:
        left: reduced left view of one channel, (h, w).
        right: the right one, alike.
        saturated: (H, W) of the full view; a derived half is wrong there.
        baseline: axis of the disparity.
        view_length_px: size of the full view along the baseline.
    """
    # Not needed by a decode without this picture, and slow to import.
    from dualpix.capture.pictures.colour_map import disparity_picture
    from dualpix.capture.stereo import match_sgbm

    halves = [_along_x(view, baseline) for view in (left, right)]
    height, width = halves[0].shape
    size = (width, min(height, DISPARITY_ACROSS_PX))
    first, second = (_resized(half, size) for half in halves)
    matched, measured = match_sgbm(first, second)
    # Rows are few and matched nearly by themselves: for a picture, the median over a neighbourhood says more.
    matched = _median(matched)
    clipped = cv2.resize(
        _along_x(saturated.view(np.uint8), baseline) * np.uint8(255), size, interpolation=cv2.INTER_AREA
    )
    valid = (measured & (clipped < 128)).view(np.uint8)
    shrink = min(1.0, _DISPARITY_SHOWN_PX / max(height, width))
    shown_size = (round(width * shrink), round(height * shrink))
    disparity_px = cv2.resize(matched, shown_size, interpolation=cv2.INTER_AREA) * np.float32(view_length_px / width)
    shown = cv2.resize(valid, shown_size, interpolation=cv2.INTER_NEAREST).view(np.bool_)
    title = f"disparity along {baseline} (blue: behind the focus plane)"
    return disparity_picture(_along_x(disparity_px, baseline), _along_x(shown, baseline), title=title)


def _median(disparity_px: FloatImage) -> FloatImage:
    """Over 21x21, in steps of 1/8 px: OpenCV's large medians take bytes, so about the picture's own median."""
    middle = float(np.median(disparity_px))
    codes = np.clip(np.rint((disparity_px - middle) * 8) + 128, 0, 255).astype(np.uint8)
    return np.asarray((cv2.medianBlur(codes, 21).astype(np.float32) - 128) / 8 + np.float32(middle))


def one_channel(view: FloatImage) -> FloatImage:
    """Green of a colour view: the channel with the most samples and the least noise."""
    return view if view.ndim == 2 else np.ascontiguousarray(view[..., 1])


def preview_view(view: FloatImage) -> FloatImage:
    """A reduced view at the size of ``preview.png``."""
    height, width = view.shape[:2]
    return _fitted(view, height, width, PREVIEW_LONG_SIDE_PX)


def wiggle_view(view: FloatImage) -> FloatImage:
    """A reduced view at the size of the animation."""
    height, width = view.shape[:2]
    return _fitted(view, height, width, WIGGLE_LONG_SIDE_PX)


def wiggle_frames(views: Mapping[str, FloatImage], look: Look) -> list[Rgb]:
    """The frames left, combined, right, combined as (h, w, 3), all equally bright and with one tone.

    A half holds half the light where the sensor reads the sum: its mean is brought to that of the combined view.

    Args:
        views: left, right and combined as :func:`wiggle_view` gives them.
        look: of the capture.
    """
    light = max(float(views["combined"].mean()), 1e-6)
    levelled = [view * np.float32(light / max(float(view.mean()), 1e-6)) for view in views.values()]
    # One above the other, so that white balance, exposure and highlights are decided for all at once.
    shown = to_display(np.concatenate(levelled), white_balance=look.white_balance, exposure=look.exposure)
    by_name = dict(zip(views, np.split(shown, len(views)), strict=True))
    return [by_name[name] for name in _WIGGLE_ORDER]


def write_animation(path: Path, frames: Sequence[Rgb], kind: Literal["gif", "webp"]) -> None:
    """Write an endless animation."""
    from PIL import Image

    gray = all((frame == frame[..., :1]).all() for frame in frames)
    pictures = [Image.fromarray(np.ascontiguousarray(frame[..., 0]) if gray else frame) for frame in frames]
    options: dict[str, object] = {"quality": _WEBP_QUALITY, "method": 4}
    if kind == "gif":
        options = {"disposal": 1}
    if kind == "gif" and not gray:
        # One palette for all frames: with palettes of their own, flat areas would flicker.
        palette = Image.fromarray(np.concatenate(frames)).quantize(256, Image.Quantize.MEDIANCUT)
        pictures = [picture.quantize(palette=palette, dither=Image.Dither.NONE) for picture in pictures]
    pictures[0].save(
        path,
        kind.upper(),
        save_all=True,
        append_images=pictures[1:],
        duration=_WIGGLE_FRAME_MS,
        loop=0,
        **options,
    )


def _cells(mosaic: FloatImage, cfa: str) -> FloatImage:
    """R, mean of both G, B of each 2x2 cell of a mosaic of even size: (H/2, W/2, 3)."""
    planes: dict[str, list[FloatImage]] = {"R": [], "G": [], "B": []}
    for index, colour in enumerate(cfa):
        planes[colour].append(mosaic[index // 2 :: 2, index % 2 :: 2])
    red, (green, other), blue = planes["R"][0], planes["G"], planes["B"][0]
    cells = np.empty((*red.shape, 3), np.float32)
    cells[..., 0], cells[..., 2] = red, blue
    np.add(green, other, out=cells[..., 1])
    cells[..., 1] *= np.float32(0.5)
    return cells


def _fitted(view: FloatImage, height: float, width: float, long_side_px: int) -> FloatImage:
    """``view`` at ``height`` x ``width``, or smaller where that is longer than ``long_side_px``."""
    shrink = min(1.0, long_side_px / max(height, width))
    size = (max(1, round(width * shrink)), max(1, round(height * shrink)))
    if size == view.shape[1::-1]:
        return view
    return _resized(view, size, cv2.INTER_AREA if shrink < 1.0 else cv2.INTER_LINEAR)


def _resized(view: FloatImage, size_wh: tuple[int, int], how: int = cv2.INTER_AREA) -> FloatImage:
    return np.asarray(cv2.resize(view, size_wh, interpolation=how), np.float32)


def _along_x(image: npt.NDArray[Scalar], baseline: Baseline) -> npt.NDArray[Scalar]:
    """Transposed where the baseline is "y": there and back."""
    return image if baseline == "x" else np.ascontiguousarray(image.T)
