"""Depth from a focus stack without a network: the baseline, and what a capture shows at a glance.

Convention: depth in m from the lens, infinity allowed; diopters in 1/m, below 0 beyond infinity, which depth calls
infinite. Frames are aligned and of equal exposure (:mod:`.align`, :mod:`.load`).

Three methods, each built on the one before it:

- ``argmax``: the focus of the frame in which a window is sharpest; the yardstick.
- ``sharpness``: the peak of sharpness over focus, between frames by a parabola through its reciprocals, which the law
  of blur makes nearly one; what has no peak is filled from what has, along edges, by a guided filter (He, Sun and Tang,
  TPAMI 2013) weighted with the confidence.
- ``blur``: what the lens would have made of the sharp picture, were it at some depth, is compared with *all* frames:
  the circle of confusion of frame k at diopters P is ``s_k |P_k - P|`` px, with s_k of the lens
  (:mod:`dualpix.capture.optics`), or one s for all, found as the one that explains the frames best. Costs are smoothed
  by semi-global matching (Hirschmüller, TPAMI 2008).

The sharp picture is at first the all-in-focus frame where the stack has one, else each pixel from its sharpest frame;
then each pixel from the frame nearest to the depth that was found, as the all-in-focus frame has blur of its own.
Sharpness alone is misled beside strong edges, whose blur is the sharpest thing that a plain surface ever shows; the
model knows that this blur belongs to the edge. Where both agree to within a step, their mean is taken.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, get_args

import cv2
import numpy as np
import numpy.typing as npt
import tifffile

from dualpix.capture.colour_map import Panel, Rgb, figure, save_picture
from dualpix.capture.errors import DualpixError
from dualpix.capture.files import atomic_dir, write_json
from dualpix.capture.picture import to_display
from dualpix.capture.raw.writers import write_picture
from dualpix.capture.stack.sharpness import gray_of
from dualpix.capture.types import FloatImage, FocusStack, LensModel

Method = Literal["blur", "sharpness", "argmax"]
BlurSource = Literal["lens", "found", "given"]
METHODS: tuple[Method, ...] = get_args(Method)

SIDECAR = "depth.json"
WORKING_SIDE_PX = 1024
WINDOW_PX = 15
"""Over which sharpness is summed."""
COST_WINDOW_PX = 7
"""Over which squared differences are summed."""
MAX_HYPOTHESES = 56
PER_STEP = 4
"""Depths tried between two frames."""
SMALL_STEP, LARGE_STEP = 0.7, 7.0
"""Costs of a change of depth between neighbours, by one hypothesis and by any; in the logarithm of squared error."""
PASSES = 2
"""Each with the sharp picture that the one before gives."""
CONFIDENT = 0.5
_EPSILON = 1e-4
"""Light below which the square root is not steep."""
_NOTHING = 10.0
_SAME_STEPS = 0.75
_GUIDE_RADII_PX = (6, 12, 24, 48, 96, 192)
_GUIDE_EPSILON = 1e-3
_DISC_SAMPLES = 5
_PREVIEW_SIDE_PX = 720
_LADDER = 1.06
_SMALLEST_CIRCLE_PX, _SMALL_DISC_PX = 0.2, 2.5
_LARGEST_CIRCLE_SHARE = 0.25
"""Of the picture's shorter side: more is all the same."""
_FOUND_SIDE_PX = 288
_FOUND_RATIOS = tuple(float(r) for r in np.geomspace(0.004, 0.08, 9))
"""Blur across the whole sweep, over the picture's long side, that are tried where the lens is not known."""


@dataclass(frozen=True)
class FocusDepth:
    """What a stack says of the depth."""

    depth_m: FloatImage
    """(H, W) from the lens, up to infinity."""
    diopters: FloatImage
    """(H, W) 1 / depth, unclipped."""
    confidence: FloatImage
    """(H, W) 0 to 1: how much better than others this depth explains the pixel; below 0.5 it is a guess."""
    all_in_focus: FloatImage
    """(H, W, 3) linear, each pixel from the frame that is focused nearest to it."""
    method: Method
    blur_px_per_d: float | None
    """Circle of confusion per diopter of misfocus, in px of the frames, at the far end; None where the method does
    without."""
    blur_source: BlurSource | None

    @property
    def measured_fraction(self) -> float:
        """Share of pixels with a confidence of at least 0.5."""
        return float(np.mean(self.confidence >= CONFIDENT))


def depth_from_focus(
    stack: FocusStack,
    method: Method = "blur",
    *,
    blur_px_per_d: float | None = None,
    working_side_px: int = WORKING_SIDE_PX,
) -> FocusDepth:
    """Depth of an aligned stack.

    Args:
        stack: at least three frames.
        method: see the module's text.
        blur_px_per_d: circle of confusion per diopter of misfocus, in px of the frames, where it is known better than
            by ``stack.lens``.
        working_side_px: larger frames are reduced to this long side for the computation.

    Raises:
        DualpixError: too few frames, or no distances.
    """
    if len(stack.frames) < 3:
        raise DualpixError(f"{len(stack.frames)} frames", expected="three or more for depth from focus")
    if stack.focus_distance_m is None:
        raise DualpixError(
            "nothing says where the frames are focused",
            expected="a distance for each frame",
            hint="import them with --distances, or --first and --last",
        )
    focus = stack.sweep
    height, width = stack.frames.shape[1:3]
    shrink = min(1.0, working_side_px / max(height, width))
    grays = np.stack([_small(gray_of(frame), shrink) for frame in stack.frames])
    roots = np.sqrt(np.maximum(grays, 0) + np.float32(_EPSILON))
    volume, noise = _window_sums(roots, WINDOW_PX), noise_of(roots)
    blur: npt.NDArray[np.float64] | None = None
    source: BlurSource | None = None
    peaks, confidence = _peaks(volume, focus), _contrast(volume, noise)
    if method == "argmax":
        found = np.asarray(focus[np.argmax(volume, axis=0)], np.float32)
    else:
        found = _filled(peaks, confidence, roots)
    if method == "blur":
        sharp = None if stack.all_in_focus is None else _small(gray_of(stack.all_in_focus), shrink)
        blur, source = _blur_of(stack.lens, focus, blur_px_per_d)
        if blur is None:
            blur, source = np.full(len(focus), find_blur(grays, focus, found) / shrink), "found"
        for number in range(PASSES):
            picture = composite(grays, focus, found) if number or sharp is None else sharp
            found, explained = _by_blur(roots, focus, picture, blur * shrink)
        found, confidence = _agreed(found, peaks, confidence, focus), explained
    diopters, confidence = (_large(values, (height, width)) for values in (found, confidence))
    return FocusDepth(
        depth_m=_depth_m(diopters),
        diopters=diopters,
        confidence=np.clip(confidence, 0.0, 1.0),
        all_in_focus=composite(stack.frames, focus, diopters),
        method=method,
        blur_px_per_d=None if blur is None else float(blur[0]),
        blur_source=source,
    )


def composite(frames: FloatImage, focus: npt.NDArray[np.float64], diopters: FloatImage) -> FloatImage:
    """(H, W, ...) each pixel from the frame (N, H, W, ...) that is focused nearest to its depth."""
    middles = (focus[1:] + focus[:-1]) / 2
    nearest = np.searchsorted(middles, cv2.medianBlur(diopters.astype(np.float32), 5))
    which = nearest[None] if frames.ndim == 3 else nearest[None, ..., None]
    return np.asarray(np.take_along_axis(frames, which, axis=0)[0], np.float32)


def blur_px_per_diopter(lens: LensModel, focus: npt.NDArray[np.float64]) -> npt.NDArray[np.float64] | None:
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


def _blur_of(
    lens: LensModel, focus: npt.NDArray[np.float64], given: float | None
) -> tuple[npt.NDArray[np.float64] | None, BlurSource | None]:
    if given is not None:
        return np.full(len(focus), given), "given"
    known = blur_px_per_diopter(lens, focus)
    return known, None if known is None else "lens"


# --- sharpness ----------------------------------------------------------------------------------------------------


def _window_sums(roots: FloatImage, window_px: int) -> FloatImage:
    """(N, H, W) sharpness over a window, noise cancelled as in :mod:`.sharpness`, > 0."""
    sums = np.stack([cv2.blur(_products(root), (window_px, window_px)) for root in roots])
    return np.maximum(sums, np.float32(1e-10))


def _products(root: FloatImage) -> FloatImage:
    """(H, W) squared gradient from the product of neighbouring rows and columns, each shared between its two."""
    along_x = np.pad(0.5 * (root[:, 2:] - root[:, :-2]), ((0, 0), (1, 1)))
    along_y = np.pad(0.5 * (root[2:] - root[:-2]), ((1, 1), (0, 0)))
    in_x, in_y = 0.5 * along_x[1:] * along_x[:-1], 0.5 * along_y[:, 1:] * along_y[:, :-1]
    out = np.zeros_like(root)
    out[:-1] += in_x
    out[1:] += in_x
    out[:, :-1] += in_y
    out[:, 1:] += in_y
    return out


def _peaks(volume: FloatImage, focus: npt.NDArray[np.float64]) -> FloatImage:
    """(H, W) focus of the peak."""
    best = np.argmax(volume, axis=0)
    inner = np.clip(best, 1, len(volume) - 2)
    low, top, high = (
        -1.0 / np.take_along_axis(volume, (inner + k)[None], axis=0)[0].astype(np.float64) for k in (-1, 0, 1)
    )
    offset = parabola_peak(focus[inner - 1] - focus[inner], focus[inner + 1] - focus[inner], low - top, high - top)
    found = np.where(best == inner, focus[inner] + offset, focus[best])
    return np.asarray(found, np.float32)


def parabola_peak(
    x_low: npt.NDArray[np.float64],
    x_high: npt.NDArray[np.float64],
    y_low: npt.NDArray[np.float64],
    y_high: npt.NDArray[np.float64],
) -> npt.NDArray[np.float64]:
    """Where the parabola through (x_low, y_low), (0, 0), (x_high, y_high) peaks, 0 where it does not; x_low < 0."""
    scale = x_low * x_high * (x_low - x_high)
    bend = (x_high * y_low - x_low * y_high) / scale
    slope = (x_low**2 * y_high - x_high**2 * y_low) / scale
    peaks = bend < 0
    return np.clip(np.where(peaks, -slope / np.where(peaks, 2 * bend, 1.0), 0.0), x_low / 2, x_high / 2)


def _contrast(volume: FloatImage, noise: float) -> FloatImage:
    """How far the peak stands out of what is typical of a pixel, against what noise would do."""
    stands_out = volume.max(axis=0) - np.median(volume, axis=0)
    chance = np.float32(_NOTHING * noise**2 / WINDOW_PX)
    return np.asarray(stands_out / (stands_out + chance), np.float32)


def noise_of(roots: FloatImage) -> float:
    """Standard deviation of the noise in the square roots, by Immerkaer's mask, where there is least else to see."""
    mask = np.array([[1, -2, 1], [-2, 4, -2], [1, -2, 1]], np.float32) / 6.0
    spreads = [float(np.median(np.abs(cv2.filter2D(root, cv2.CV_32F, mask)))) for root in roots]
    return 1.4826 * min(spreads) + 1e-5


def _filled(diopters: FloatImage, confidence: FloatImage, roots: FloatImage) -> FloatImage:
    """Depth where it is confident, else from around: by ever wider guided filters."""
    guide = np.asarray(roots.mean(axis=0), np.float32)
    weight = np.maximum(confidence, 1e-4) ** 4
    filled, found = np.zeros_like(diopters), np.zeros_like(diopters)
    for radius in _GUIDE_RADII_PX:
        window = (2 * radius + 1, 2 * radius + 1)
        support = cv2.blur(weight, window)
        share = np.clip(support / 0.05, 0.0, 1.0) * (1.0 - found)
        filled += share * guided_filter(guide, diopters, weight, radius)
        found += share
        if min(guide.shape) < 4 * radius:
            break
    smooth = (filled + _EPSILON * np.float32(np.median(diopters))) / (found + _EPSILON)
    blend = np.clip(2 * confidence - 0.5, 0.0, 1.0)
    return np.asarray(blend * diopters + (1 - blend) * smooth, np.float32)


def guided_filter(guide: FloatImage, values: FloatImage, weight: FloatImage, radius: int) -> FloatImage:
    """Values (H, W) as the locally affine function of the guide that fits them best, in weighted least squares."""
    window = (2 * radius + 1, 2 * radius + 1)

    def mean(image: FloatImage) -> FloatImage:
        return np.asarray(cv2.blur(image, window), np.float32)

    total = mean(weight) + np.float32(1e-9)
    mean_guide, mean_values = mean(weight * guide) / total, mean(weight * values) / total
    covariance = mean(weight * guide * values) / total - mean_guide * mean_values
    variance = np.maximum(mean(weight * guide * guide) / total - mean_guide**2, 0)
    slope = covariance / (variance + np.float32(_GUIDE_EPSILON))
    offset = mean_values - slope * mean_guide
    spread = mean(total)
    return np.asarray((mean(slope * total) * guide + mean(offset * total)) / spread, np.float32)


# --- blur ---------------------------------------------------------------------------------------------------------


def find_blur(grays: FloatImage, focus: npt.NDArray[np.float64], diopters: FloatImage) -> float:
    """Circle of confusion per diopter, in px, under which some depth for each pixel explains the frames best.

    Args:
        grays: (N, H, W) linear.
        focus: (N,) diopters.
        diopters: (H, W) first guess, for the sharp picture.
    """
    shrink = min(1.0, _FOUND_SIDE_PX / max(grays.shape[1:]))
    small = np.stack([_small(gray, shrink) for gray in grays])
    sharp = composite(small, focus, _small(diopters, shrink))
    roots = np.sqrt(np.maximum(small, 0) + np.float32(_EPSILON))
    textured = _contrast(_window_sums(roots, WINDOW_PX), noise_of(roots)) > CONFIDENT
    textured |= not textured.any()
    span = float(np.ptp(focus))
    tried = np.array(_FOUND_RATIOS) * max(small.shape[1:]) / span
    costs = np.array([_explained(roots, focus, sharp, float(blur), textured) for blur in tried])
    best = int(np.clip(np.argmin(costs), 1, len(tried) - 2))
    three = slice(best - 1, best + 2)
    x, y = np.log(tried[three] / tried[best]), -(costs[three] - costs[best])
    offset = float(parabola_peak(np.array(x[0]), np.array(x[2]), np.array(y[0]), np.array(y[2])))
    return float(tried[best] * math.exp(offset) / shrink)


def _explained(
    roots: FloatImage, focus: npt.NDArray[np.float64], sharp: FloatImage, blur: float, textured: npt.NDArray[np.bool_]
) -> float:
    _, costs = _cost_volume(roots, focus, sharp, np.full(len(focus), blur))
    return float(np.mean(costs.min(axis=0)[textured]))


def _by_blur(
    roots: FloatImage, focus: npt.NDArray[np.float64], sharp: FloatImage, blur: npt.NDArray[np.float64]
) -> tuple[FloatImage, FloatImage]:
    """Depth and confidence by the model of blur."""
    tried, costs = _cost_volume(roots, focus, sharp, blur)
    smooth = semi_global(costs, SMALL_STEP, LARGE_STEP)
    best = np.argmin(smooth, axis=0)
    inner = np.clip(best, 1, len(tried) - 2)
    low, top, high = (-np.take_along_axis(smooth, (inner + k)[None], axis=0)[0].astype(np.float64) for k in (-1, 0, 1))
    step = np.full(best.shape, tried[1] - tried[0])
    offset = parabola_peak(-step, step, low - top, high - top)
    found = np.where(best == inner, tried[inner] + offset, tried[best])
    chosen = np.take_along_axis(costs, best[None], axis=0)[0]
    return np.asarray(found, np.float32), np.asarray(1.0 - np.exp(chosen - np.median(costs, axis=0)), np.float32)


def _agreed(
    by_blur: FloatImage, peaks: FloatImage, confidence: FloatImage, focus: npt.NDArray[np.float64]
) -> FloatImage:
    """Where both found the same depth, their mean: their errors within a step have nothing to do with each other."""
    same = (np.abs(by_blur - peaks) < _SAME_STEPS * float(np.median(np.diff(focus)))) & (confidence >= CONFIDENT)
    return np.asarray(np.where(same, (by_blur + peaks) / 2, by_blur), np.float32)


def hypotheses(focus: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """Depths that are tried, even in diopters: half a step beyond the ends, but not beyond half the far end's."""
    step = float(np.median(np.diff(focus)))
    far = focus[0] - step / 2 if focus[0] <= 0 else max(focus[0] - step / 2, focus[0] / 2)
    near = focus[-1] + step / 2
    count = round((near - far) / step * PER_STEP) + 1
    return np.linspace(far, near, int(np.clip(count, 8, max(MAX_HYPOTHESES, len(focus) + 2))))


def _cost_volume(
    roots: FloatImage, focus: npt.NDArray[np.float64], sharp: FloatImage, blur: npt.NDArray[np.float64]
) -> tuple[npt.NDArray[np.float64], FloatImage]:
    """Depths tried, and (M, H, W) the logarithm of how badly each explains the frames."""
    tried = hypotheses(focus)
    circles = np.minimum(blur * np.abs(tried[:, None] - focus[None]), _LARGEST_CIRCLE_SHARE * min(sharp.shape))
    rungs = _ladder(float(circles.max()))
    nearest = np.argmin(np.abs(np.log((circles[..., None] + 0.5) / (rungs + 0.5))), axis=-1)
    blurred = {
        int(rung): np.sqrt(np.maximum(blurred_by(sharp, float(rungs[rung])), 0) + np.float32(_EPSILON))
        for rung in np.unique(nearest)
    }
    costs = np.empty((len(tried), *sharp.shape), np.float32)
    window = (COST_WINDOW_PX, COST_WINDOW_PX)
    for index, row in enumerate(nearest):
        error = np.zeros(sharp.shape, np.float32)
        for root, rung in zip(roots, row, strict=True):
            cv2.accumulateSquare(root - blurred[int(rung)], error)
        costs[index] = cv2.blur(error, window)
    floor = float(np.median(costs.min(axis=0))) + 1e-9
    return tried, np.log(costs + np.float32(floor))


def _ladder(largest_px: float) -> npt.NDArray[np.float64]:
    """Diameters so close that the next one looks the same."""
    count = math.ceil(math.log(max((largest_px + 0.5) / 0.5, 1.0)) / math.log(_LADDER)) + 1
    return np.asarray(0.5 * _LADDER ** np.arange(count) - 0.5)


def blurred_by(image: FloatImage, circle_px: float) -> FloatImage:
    """(H, W) spread by a disc of this diameter."""
    if circle_px < _SMALLEST_CIRCLE_PX:
        return image
    return np.asarray(cv2.filter2D(image, cv2.CV_32F, _disc(circle_px), borderType=cv2.BORDER_REFLECT), np.float32)


def _disc(circle_px: float) -> FloatImage:
    """(S, S) of sum 1, S odd; a small one has three taps of its variance, (circle / 4)^2 along each axis."""
    if circle_px < _SMALL_DISC_PX:
        beside = (circle_px / 4) ** 2 / 2
        taps = np.array([beside, 1 - 2 * beside, beside], np.float32)
        return np.asarray(taps[:, None] * taps[None])
    radius = circle_px / 2
    size = 2 * math.ceil(radius + 0.5) + 1
    axis = (np.arange(size * _DISC_SAMPLES) + 0.5) / _DISC_SAMPLES - size / 2
    inside = np.clip((radius - np.hypot(axis[:, None], axis[None])) * _DISC_SAMPLES + 0.5, 0, 1)
    disc = inside.reshape(size, _DISC_SAMPLES, size, _DISC_SAMPLES).sum(axis=(1, 3))
    return np.asarray(disc / disc.sum(), np.float32)


def semi_global(costs: FloatImage, small_step: float, large_step: float) -> FloatImage:
    """Costs (M, H, W) plus the least cost of getting there from the border along each of four directions.

    Args:
        costs: of M hypotheses in order.
        small_step: cost of a change by one hypothesis from pixel to pixel.
        large_step: of any larger change.
    """
    total = np.zeros_like(costs)
    for axis in (1, 2):
        for backwards in (False, True):
            # (scan, M, across): pixels of a line across the scan are independent
            lines = np.moveaxis(costs, axis, 0)
            out = np.moveaxis(total, axis, 0)
            order = range(len(lines) - 1, -1, -1) if backwards else range(len(lines))
            _scan(lines, out, list(order), np.float32(small_step), np.float32(large_step))
    return total


def _scan(lines: FloatImage, out: FloatImage, order: Sequence[int], small: np.float32, large: np.float32) -> None:
    before = np.zeros_like(lines[order[0]])
    for index in order:
        least = before.min(axis=0)
        reach = np.minimum(before, least + large)
        np.minimum(reach[1:], before[:-1] + small, out=reach[1:])
        np.minimum(reach[:-1], before[1:] + small, out=reach[:-1])
        before = lines[index] + (reach - least)
        out[index] += before


# --- writing ------------------------------------------------------------------------------------------------------


def write_focus_depth(
    folder: Path, stack: FocusStack, result: FocusDepth, details: dict[str, Any] | None = None
) -> dict[str, Any]:
    """Write a result as a folder, which appears whole or not at all.

    ``depth_m.tiff`` (float32, m, infinity allowed), ``depth_m.npy`` the same, ``depth.png`` with a scale,
    ``confidence.png`` (255 = 1), ``all_in_focus.png``, and ``depth.json``.

    Args:
        folder: made, or replaced where it holds an earlier result.
        stack: that the depth is of.
        result: what was found.
        details: goes into the JSON as it is.

    Returns:
        The content of ``depth.json``.

    Raises:
        OutputError: the folder cannot be written.
    """
    record = {**_summary(stack, result), **(details or {})}
    with atomic_dir(folder, SIDECAR) as temporary:
        tifffile.imwrite(temporary / "depth_m.tiff", result.depth_m, photometric="minisblack", compression="zlib")
        np.save(temporary / "depth_m.npy", result.depth_m, allow_pickle=False)
        save_picture(temporary / "depth.png", depth_preview(stack, result))
        write_picture(temporary / "confidence.png", np.asarray(np.rint(result.confidence * 255), np.uint8))
        write_picture(temporary / "all_in_focus.png", to_display(result.all_in_focus))
        write_json(temporary / SIDECAR, record)
    return record


def depth_preview(stack: FocusStack, result: FocusDepth) -> Rgb:
    """The sharp picture and the depth beside it, on one scale from the first focus to the last."""
    focus = [float(place) for place in stack.sweep]
    half = (focus[-1] - focus[0]) / (len(focus) - 1) / 2
    repeat = max(1, round(_PREVIEW_SIDE_PX / 2 / max(result.depth_m.shape)))  # a small map would crowd its scale
    sharp, depth = (
        image.repeat(repeat, axis=0).repeat(repeat, axis=1)
        for image in (to_display(result.all_in_focus), result.depth_m)
    )
    panels = [
        Panel("all in focus", sharp),
        Panel("depth from the lens", depth, "depth", "m", limits=(focus[0] - half, focus[-1] + half)),
    ]
    return figure(panels, panel_px=_PREVIEW_SIDE_PX)


def _summary(stack: FocusStack, result: FocusDepth) -> dict[str, Any]:
    height, width = result.depth_m.shape
    low, middle, high = (float(d) for d in np.percentile(result.diopters, (1, 50, 99)))
    return {
        "kind": "depth_m",
        "method": f"focus stack, {result.method}",
        "frames": len(stack.frames),
        "size": {"width": width, "height": height},
        "focus_distance_m": [_json_m(float(d)) for d in _listed(stack.focus_distance_m)],
        "uncertainty_d": [float(d) for d in _listed(stack.uncertainty_d)],
        "f_number": stack.lens.f_number if math.isfinite(stack.lens.f_number) else None,
        "depth_m": {"p1": _json_m(_metres(high)), "p50": _json_m(_metres(middle)), "p99": _json_m(_metres(low))},
        "measured_fraction": round(result.measured_fraction, 4),
        "blur_px_per_d": result.blur_px_per_d,
        "blur_source": result.blur_source,
        "all_in_focus_frame": stack.all_in_focus is not None,
    }


def _listed(values: npt.NDArray[np.float64] | None) -> list[float]:
    return [] if values is None else [float(value) for value in values]


def _metres(diopters: float) -> float:
    return 1.0 / diopters if diopters > 1e-6 else math.inf


def _json_m(distance_m: float) -> float | str:
    return distance_m if math.isfinite(distance_m) else "inf"


# --- sizes --------------------------------------------------------------------------------------------------------


def _small(image: FloatImage, shrink: float) -> FloatImage:
    if shrink >= 1:
        return np.ascontiguousarray(image, np.float32)
    size = max(8, round(image.shape[1] * shrink)), max(8, round(image.shape[0] * shrink))
    return np.asarray(cv2.resize(image, size, interpolation=cv2.INTER_AREA), np.float32)


def _large(image: FloatImage, size_hw: tuple[int, int]) -> FloatImage:
    if image.shape == size_hw:
        return image
    return np.asarray(cv2.resize(image, size_hw[::-1], interpolation=cv2.INTER_LINEAR), np.float32)


def _depth_m(diopters: FloatImage) -> FloatImage:
    ahead = diopters > 1e-6
    return np.asarray(np.where(ahead, 1.0 / np.where(ahead, diopters, 1.0), np.inf), np.float32)
