"""Depth from a focus stack without a network: the baseline, and what a capture shows at a glance.

Convention: depth in m from the lens, infinity allowed; diopters in 1/m, below 0 beyond infinity, which depth calls
infinite. Where nothing says how far the frames are focused there are no metres: what is found then is the
``focus_index``, the number of the frame in which a pixel is sharpest, 0 the first, with fractions between frames.
Frames are aligned and of equal exposure (:mod:`.judge.align`, :mod:`.keep.load`).

Three methods, each built on the one before it:

- ``argmax``: the frame in which a window is sharpest; the yardstick.
- ``sharpness``: the peak of sharpness between frames, filled in where there is none (:mod:`.focus_peaks`).
- ``blur``: what the lens would have made of the sharp picture, were it at some depth, is compared with *all* frames
  (:mod:`.focus_blur`). Sharpness alone is misled beside strong edges, whose blur is the sharpest thing that a plain
  surface ever shows; the model knows that this blur belongs to the edge. Where both agree to within a step, their mean
  is taken.

A pixel's confidence is 0 where its sharpness does not change over the stack, whatever the method.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal, get_args

import cv2
import numpy as np

from dualpix.capture.errors import DualpixError
from dualpix.capture.stack.depth.focus_blur import by_blur, find_blur, resized
from dualpix.capture.stack.depth.focus_peaks import Places, filled, noise_of, peaks, rise, roots_of, window_sums
from dualpix.capture.stack.depth.focus_tone import one_tone, toned
from dualpix.capture.stack.sharpness import gray_of
from dualpix.capture.types import FloatImage, FocusStack, LensModel

Method = Literal["blur", "sharpness", "argmax"]
BlurSource = Literal["lens", "found", "given"]
METHODS: tuple[Method, ...] = get_args(Method)

WORKING_SIDE_PX = 1024
CONFIDENT = 0.5
_AROUND_PX, _NOTHING_SURE = 31, 0.1
"""Where blur has told a pixel and its neighbours less than this, smoothing had nothing to spread."""
_SAME_STEPS = 0.75
_SOFT = 0.5
"""Share of a step over which one frame of the all-in-focus picture passes into the next."""


@dataclass(frozen=True)
class _Found:
    """What every stack says."""

    confidence: FloatImage
    """(H, W) 0 to 1: how much better than others this depth explains the pixel; below 0.5 it is a guess."""
    all_in_focus: FloatImage
    """(H, W, 3) linear, of the frames that are focused nearest to each pixel."""
    method: Method
    blur_source: BlurSource | None

    @property
    def measured_fraction(self) -> float:
        """Share of pixels with a confidence of at least 0.5."""
        return float(np.mean(self.confidence >= CONFIDENT))


@dataclass(frozen=True)
class FocusDepth(_Found):
    """What a stack with distances says of the depth."""

    depth_m: FloatImage
    """(H, W) from the lens, up to infinity."""
    diopters: FloatImage
    """(H, W) 1 / depth, unclipped."""
    blur_px_per_d: float | None
    """Circle of confusion per diopter of misfocus, in px of the frames, at the far end; None where the method does
    without."""


@dataclass(frozen=True)
class FocusIndex(_Found):
    """What a stack without distances says: an order, and no depth."""

    focus_index: FloatImage
    """(H, W) number of the frame in which a pixel is sharpest, from 0 to N - 1 with fractions between frames."""
    blur_px_per_frame: float | None
    """Circle of confusion per frame of misfocus, in px; None where the method does without."""


def depth_from_focus(
    stack: FocusStack,
    method: Method = "blur",
    *,
    blur_px_per_d: float | None = None,
    working_side_px: int = WORKING_SIDE_PX,
) -> FocusDepth:
    """Depth of an aligned stack.

    Args:
        stack: at least three frames, two of the method ``argmax``.
        method: see the module's text.
        blur_px_per_d: circle of confusion per diopter of misfocus, in px of the frames, where it is known better than
            by ``stack.lens``.
        working_side_px: larger frames are reduced to this long side for the computation.

    Raises:
        DualpixError: too few frames, or no distances (see :func:`index_from_focus`).
    """
    if stack.focus_distance_m is None:
        raise DualpixError(
            "nothing says where the frames are focused",
            expected="a distance for each frame",
            hint="import them with --distances, or --first and --last",
        )
    focus = stack.sweep
    blur, source = _blur_of(stack.lens, focus, blur_px_per_d) if method == "blur" else (None, None)
    found = _solved(stack, focus, method, blur, source, working_side_px)
    return FocusDepth(
        found.confidence,
        found.all_in_focus,
        method,
        found.blur_source,
        depth_m=_depth_m(found.places),
        diopters=found.places,
        blur_px_per_d=found.blur_px,
    )


def index_from_focus(
    stack: FocusStack, method: Method = "blur", *, working_side_px: int = WORKING_SIDE_PX
) -> FocusIndex:
    """Which frame of an aligned stack shows each pixel sharply: what can be said without distances.

    ``blur`` takes steps between frames as even in diopters, which those of brackets nearly are.

    Args:
        stack: at least three frames; its distances, if any, are not used.
        method: see the module's text.
        working_side_px: larger frames are reduced to this long side for the computation.

    Raises:
        DualpixError: too few frames.
    """
    count = len(stack.frames)
    found = _solved(stack, np.arange(count, dtype=np.float64), method, None, None, working_side_px)
    return FocusIndex(
        found.confidence,
        found.all_in_focus,
        method,
        found.blur_source,
        focus_index=np.clip(found.places, 0, count - 1),
        blur_px_per_frame=found.blur_px,
    )


def blur_px_per_diopter(lens: LensModel, focus: Places) -> Places | None:
    """(N,) circle of confusion per diopter of misfocus, of a lens focused at each of (N,) diopters; None if unknown."""
    known = lens.focal_length_mm, lens.f_number, lens.pixel_pitch_um
    if not all(math.isfinite(value) and value > 0 for value in known):
        return None
    racked_out = 1.0 - lens.focal_length_mm / 1000.0 * np.maximum(focus, 0.0)
    if racked_out.min() <= 0:
        raise DualpixError(
            f"a focus at {focus.max():.2f} D is within the focal length of {lens.focal_length_mm:g} mm",
            expected="distances in m from the lens",
        )
    return np.asarray(lens.focal_length_mm**2 / lens.f_number / lens.pixel_pitch_um / racked_out)


def _blur_of(lens: LensModel, focus: Places, given: float | None) -> tuple[Places | None, BlurSource | None]:
    if given is not None:
        return np.full(len(focus), given), "given"
    known = blur_px_per_diopter(lens, focus)
    return known, None if known is None else "lens"


@dataclass(frozen=True)
class _Solved:
    places: FloatImage
    confidence: FloatImage
    all_in_focus: FloatImage
    blur_px: float | None
    blur_source: BlurSource | None


def _solved(
    stack: FocusStack,
    focus: Places,
    method: Method,
    blur: Places | None,
    source: BlurSource | None,
    working_side_px: int,
) -> _Solved:
    """Where each pixel is on the axis of ``focus`` (N,), rising; ``blur`` (N,) px of the frames per unit of it."""
    if len(stack.frames) < (2 if method == "argmax" else 3):
        raise DualpixError(
            f"{len(stack.frames)} frames",
            expected="three or more for depth from focus",
            hint="two do for a network, or for --stack-method argmax",
        )
    height, width = stack.frames.shape[1:3]
    shrink = min(1.0, working_side_px / max(height, width))
    grays, level = one_tone(np.stack([resized(gray_of(frame), shrink) for frame in stack.frames]))
    roots = roots_of(grays)
    volume = window_sums(roots)
    risen = rise(volume, noise_of(roots))
    contrast, confidence = risen.contrast, risen.confidence
    if method == "argmax":
        found = np.asarray(focus[np.argmax(volume, axis=0)], np.float32)
    else:
        sharpest = peaks(volume, focus)
        found = filled(sharpest, contrast, roots, kept=2 * contrast - 0.5)
    if method == "blur":
        if blur is None:
            blur, source = np.full(len(focus), find_blur(grays, focus, found) / shrink), "found"
        sharp = None if stack.all_in_focus is None else toned(resized(gray_of(stack.all_in_focus), shrink), level)
        found, explained = by_blur(roots, grays, focus, found, blur * shrink, sharp)
        found = _agreed(found, sharpest, contrast, focus)
        confidence = np.minimum(contrast, explained)
        around = cv2.blur(confidence, (_AROUND_PX, _AROUND_PX))
        found = filled(found, confidence, roots, kept=np.asarray(around, np.float32) / np.float32(_NOTHING_SURE))
    places, confidence = (_large(values, (height, width)) for values in (found, confidence))
    return _Solved(
        places,
        np.clip(confidence, 0.0, 1.0),
        blended(stack.frames, focus, places),
        None if blur is None else float(blur[0]),
        source,
    )


def _agreed(by_blur: FloatImage, sharpest: FloatImage, contrast: FloatImage, focus: Places) -> FloatImage:
    """Where both found the same depth, their mean: their errors within a step have nothing to do with each other."""
    same = (np.abs(by_blur - sharpest) < _SAME_STEPS * float(np.median(np.diff(focus)))) & (contrast >= CONFIDENT)
    return np.asarray(np.where(same, (by_blur + sharpest) / 2, by_blur), np.float32)


def blended(frames: FloatImage, focus: Places, places: FloatImage) -> FloatImage:
    """(H, W, C) each pixel from the frame (N, H, W, C) that is focused nearest to its place.

    Half-way between two frames one passes into the other, so that no seams show where they differ a little.
    """
    smooth: FloatImage = np.clip(cv2.medianBlur(places.astype(np.float32), 5), focus[0], focus[-1])
    near = np.clip(np.searchsorted(focus, smooth), 1, len(focus) - 1)
    between = (smooth - focus[near - 1]) / (focus[near] - focus[near - 1])
    share = np.clip((between - 0.5) / _SOFT + 0.5, 0.0, 1.0).astype(np.float32)[..., None]
    low, high = (np.take_along_axis(frames, which[None, ..., None], axis=0)[0] for which in (near - 1, near))
    return np.asarray(low + share * (high - low), np.float32)


def _large(image: FloatImage, size_hw: tuple[int, int]) -> FloatImage:
    if image.shape == size_hw:
        return image
    return np.asarray(cv2.resize(image, size_hw[::-1], interpolation=cv2.INTER_LINEAR), np.float32)


def _depth_m(diopters: FloatImage) -> FloatImage:
    ahead = diopters > 1e-6
    return np.asarray(np.where(ahead, 1.0 / np.where(ahead, diopters, 1.0), np.inf), np.float32)
