"""One rendered sample: a pure function of the settings, the index and the input.

Convention: see :mod:`dualpix.capture.render`. Arrays here are (H, W, C) float32, linear; left + right is the full
aperture, so a half view of white is 0.5.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace

import cv2
import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from dualpix.capture import optics
from dualpix.capture.errors import DualpixError
from dualpix.capture.render import render, render_dual_pixel, render_scene, scene_margin_px
from dualpix.capture.render.gather import gather
from dualpix.capture.rgbd import fill_holes, read_rgbd
from dualpix.capture.scenes import USE_NAMES, Scene, make_varied_scene, scene_seed
from dualpix.capture.scenes.uses import USES
from dualpix.capture.synthesis.blur import blur_of, gain_grid
from dualpix.capture.synthesis.sensor import SensorModel, expose, sensor_model
from dualpix.capture.synthesis.settings import RenderSettings, SampleSpec
from dualpix.capture.types import FloatImage, LensModel, Mask

_SCENE_SIZE = (384, 512)
_OUTLIER_PERCENT = 0.5
_FOCUS_PERCENT = 5.0
_LEAST_DIOPTERS = 1e-4
_FLAT_SHARE = 0.01  # of the nearest diopters: a wall as files and depth cameras have it, whose range is their rounding
_MAX_COC_SHARE = 0.5  # of the shorter side: beyond this the picture is all blur, and kernels outgrow it
_SPAN_LEFT_OUT = f"depths differ by less than {_FLAT_SHARE:.0%}: the lens keeps its aperture, whatever --coc-span says"


@dataclass(frozen=True)
class View:
    """What is rendered: a sharp picture with depth, and the layers behind it where they are known."""

    image: FloatImage
    """(H, W, 3)"""
    depth_m: FloatImage
    """(H, W) > 0 up to infinity, no holes."""
    measured: Mask
    """(H, W) False where a hole was filled."""
    name: str
    source: str
    scene: Scene | None = None
    """Of a canvas ``margin_px`` larger on each side."""
    margin_px: int = 0
    warnings: tuple[str, ...] = ()


@dataclass(frozen=True)
class RenderedSample:
    """A sample with its truth."""

    spec: SampleSpec
    view: View
    lens: LensModel
    """With the aperture and pitch that were rendered."""
    left: FloatImage | None
    right: FloatImage | None
    stack: tuple[FloatImage, ...]
    stack_focus_m: tuple[float, ...]
    gain: FloatImage | None = None
    """kappa on the centres of equal tiles (rows, columns), where it varies over the field."""
    saturated: Mask | None = None
    """(H, W) True where a sample of the pair clipped; a derived half is a lower bound there. None without a sensor."""

    @property
    def coc_px(self) -> FloatImage:
        """(H, W) signed circle of confusion."""
        return np.asarray(optics.circle_of_confusion_px(self.view.depth_m, self.lens), np.float32)

    @property
    def disparity_px(self) -> FloatImage:
        """(H, W) x_right - x_left."""
        if self.gain is None:
            return np.asarray(optics.disparity_px(self.view.depth_m, self.lens), np.float32)
        height, width = self.view.depth_m.shape
        return self.coc_px * np.asarray(cv2.resize(self.gain, (width, height), interpolation=cv2.INTER_LINEAR))


def render_sample(spec: SampleSpec, settings: RenderSettings) -> RenderedSample:
    """Render one sample, on one thread.

    Raises:
        DualpixError: the input cannot be read, or the blur is too large for the picture.
    """
    rng = np.random.default_rng([settings.seed, spec.index])
    with _one_thread(), torch.inference_mode():
        view = _procedural(spec, settings, rng) if spec.source is None else _pictured(spec, settings, rng)
        lens = _lens_for(view, settings, rng)
        if settings.coc_span_px is not None and _flat(_ends_m(view)):
            view = replace(view, warnings=(*view.warnings, f"'{view.name}': {_SPAN_LEFT_OUT}"))
        left = right = saturated = None
        if settings.pair:
            left, right, _, saturated = _recorded(*_render(view, lens, settings), settings, rng)
        distances = _stack_distances(view, settings.stack)
        stack = tuple(_recorded(*halves, settings, rng)[2] for halves in _frames(view, lens, distances, settings))
    gain = gain_grid(settings.camera) if settings.field else None
    return RenderedSample(spec, view, lens, left, right, stack, distances, gain, saturated)


def _procedural(spec: SampleSpec, settings: RenderSettings, rng: np.random.Generator) -> View:
    height, width = settings.size_hw or _SCENE_SIZE
    drawn = USE_NAMES[int(rng.integers(len(USE_NAMES)))]
    use = settings.use or drawn
    margin = _scene_margin(settings, width, min(height, width), (USES[use].near_m, USES[use].far_m))
    scene = make_varied_scene(scene_seed(settings.seed, spec.index), (height + 2 * margin, width + 2 * margin), use)
    inside = (slice(margin, -margin), slice(margin, -margin))
    depth = np.ascontiguousarray(scene.depth_m()[inside])
    image = np.ascontiguousarray(scene.all_in_focus()[inside])
    return View(image, depth, np.ones(depth.shape, bool), f"{use} {spec.key}", "procedural", scene, margin)


def _scene_margin(settings: RenderSettings, width: int, shorter: int, ends_m: tuple[float, float]) -> int:
    """Border for the largest blur that a scene with depths between ``ends_m`` may show.

    Raises:
        DualpixError: it is too large for the picture.
    """
    fixed = settings.focus_distance_m
    inside = fixed is None or bool(settings.stack)  # some focus lies within the scene, at worst at one of its ends
    focuses = (*(ends_m if inside else ()), *(() if fixed is None else (fixed,)))
    lenses = [optics.check_lens(settings.lens(focus, width)) for focus in focuses]
    if settings.coc_span_px is None:
        worst = max(abs(float(optics.circle_of_confusion_px(end, lens))) for lens in lenses for end in ends_m)
    elif fixed is None:
        # The span is that at the focus drawn; a stack's nearest frame magnifies a little more.
        spans = [_coc_span_px(lens, ends_m) for lens in lenses]
        worst = settings.coc_span_px * max(spans) / min(spans)
    else:
        worst = _MAX_COC_SHARE * shorter  # how far outside a fixed focus lies, the scene will tell
    _check_blur(worst, shorter)
    return scene_margin_px(worst, blur_of(settings.camera, settings.field))


def _pictured(spec: SampleSpec, settings: RenderSettings, rng: np.random.Generator) -> View:
    if spec.source is None:
        raise ValueError("a sample without a source is procedural")
    sample = read_rgbd(spec.source, settings.unit)
    filled = fill_holes(sample.depth_m, sample.valid, settings.fill)
    view = View(sample.image, filled.depth_m, filled.measured, sample.name, sample.source, warnings=sample.warnings)
    return view if settings.size_hw is None else _fitted(view, settings.size_hw, rng)


def _fitted(view: View, size_hw: tuple[int, int], rng: np.random.Generator) -> View:
    image, depth_m, measured = fitted(view.image, view.depth_m, view.measured, size_hw, rng)
    return replace(view, image=image, depth_m=depth_m, measured=measured)


def fitted(
    image: FloatImage, depth_m: FloatImage, measured: Mask, size_hw: tuple[int, int], rng: np.random.Generator
) -> tuple[FloatImage, FloatImage, Mask]:
    """A picture with depth scaled to cover ``size_hw``, and a random window of it.

    Depth is taken from the nearest pixel: a mean of two surfaces is none of them.

    Args:
        image: (H, W, 3).
        depth_m: (H, W).
        measured: (H, W).
        size_hw: (height, width) of the window in px.
        rng: chooses the window.
    """
    height, width = depth_m.shape
    scale = max(size_hw[0] / height, size_hw[1] / width)
    size = (max(size_hw[1], round(width * scale)), max(size_hw[0], round(height * scale)))
    top, left = (int(rng.integers(0, have - need + 1)) for have, need in zip(size[::-1], size_hw, strict=True))
    crop = (slice(top, top + size_hw[0]), slice(left, left + size_hw[1]))
    smooth = cv2.INTER_AREA if scale < 1 else cv2.INTER_LINEAR
    nearest = cv2.INTER_NEAREST_EXACT
    return (
        np.ascontiguousarray(cv2.resize(image, size, interpolation=smooth)[crop], np.float32),
        np.ascontiguousarray(cv2.resize(depth_m, size, interpolation=nearest)[crop], np.float32),
        cv2.resize(measured.astype(np.uint8), size, interpolation=nearest)[crop] > 0,
    )


def _lens_for(view: View, settings: RenderSettings, rng: np.random.Generator) -> LensModel:
    proximity = 1.0 / view.depth_m
    drawn = float(rng.random())  # always: what follows must not depend on which options were given
    focus = settings.focus_distance_m
    if focus is None:
        far, near = (float(v) for v in np.percentile(proximity, (_FOCUS_PERCENT, 100 - _FOCUS_PERCENT)))
        focus = 1.0 / max(far + drawn * (near - far), _LEAST_DIOPTERS)
    lens = optics.check_lens(settings.lens(focus, view.depth_m.shape[1]))
    lens = _spanned(lens, settings, _ends_m(view))  # of whatever aperture the blur takes, be it none that can be made
    _check_blur(float(np.abs(optics.circle_of_confusion_px(view.depth_m, lens)).max()), min(view.depth_m.shape))
    return lens


def _spanned(lens: LensModel, settings: RenderSettings, ends_m: tuple[float, float]) -> LensModel:
    """The lens with the aperture that spreads the depth range over ``coc_span_px``, if that was asked for."""
    if settings.coc_span_px is None:
        return lens
    span = _coc_span_px(lens, ends_m)
    if _flat(ends_m) or span < 1e-6:  # stays as the lens shows it
        return lens
    return replace(lens, f_number=lens.f_number * span / settings.coc_span_px)


def _ends_m(view: View) -> tuple[float, float]:
    """Nearest and farthest depth of what is shown."""
    ends = _depth_range(1.0 / view.depth_m) if view.scene is None else view.scene.depth_range_m
    assert ends is not None  # noqa: S101 - varied scenes have a scale
    return ends


def _flat(ends_m: tuple[float, float]) -> bool:
    """Whether no aperture could spread the depths over pixels: all of it would be blur."""
    near_m, far_m = ends_m
    return 1 - near_m / far_m < _FLAT_SHARE


def _coc_span_px(lens: LensModel, ends_m: tuple[float, float]) -> float:
    near, far = (float(optics.circle_of_confusion_px(end, lens)) for end in ends_m)
    return far - near


def _check_blur(coc_px: float, shorter_px: int) -> None:
    limit = _MAX_COC_SHARE * shorter_px
    if not coc_px <= limit:
        raise DualpixError(
            f"the blur reaches {coc_px:.3g} px",
            expected=f"at most {limit:.3g} px in a picture with a side of {shorter_px} px",
            hint="focus farther away, or bound the blur with --coc-span",
        )


def _stack_distances(view: View, count: int) -> tuple[float, ...]:
    """Evenly in diopters, the nearest first."""
    if not count:
        return ()
    near_m, far_m = _depth_range(1.0 / view.depth_m)
    return tuple(float(1.0 / p) for p in np.linspace(1.0 / near_m, 1.0 / far_m, count))


def _depth_range(proximity: FloatImage) -> tuple[float, float]:
    """Nearest and farthest depth in m but for outliers; the sky is 10 km away."""
    far, near = (float(v) for v in np.percentile(proximity, (_OUTLIER_PERCENT, 100 - _OUTLIER_PERCENT)))
    return 1.0 / max(near, _LEAST_DIOPTERS), 1.0 / max(far, _LEAST_DIOPTERS)


def _frames(
    view: View, lens: LensModel, distances_m: tuple[float, ...], settings: RenderSettings
) -> Iterator[tuple[FloatImage, FloatImage]]:
    """Both halves (H, W, 3) at each focus distance; those of a renderer that tells none apart are alike."""
    lenses = [optics.check_focus(replace(lens, focus_distance_m=distance)) for distance in distances_m]
    if settings.method != "gather":
        for focused in lenses:
            yield _render(view, focused, settings)
    elif lenses:
        image, coc_px = _tensors(view, lenses)
        yield from ((_array(frame / 2),) * 2 for frame in gather(image, coc_px)[0])


def _render(view: View, lens: LensModel, settings: RenderSettings) -> tuple[FloatImage, FloatImage]:
    """Both half views, (H, W, 3)."""
    if settings.method == "integral":
        image, coc_px = _tensors(view, [lens])
        left, right = render(image, coc_px=coc_px, method="integral").pair
        return _array(left[0]), _array(right[0])
    psf = blur_of(settings.camera, settings.field)
    if view.scene is not None and view.scene.depth_range_m is not None:
        near, far = (float(optics.circle_of_confusion_px(m, lens)) for m in view.scene.depth_range_m)
        pair = render_scene(view.scene, far, near, psf, view.margin_px, quality="exact")
        return _array(pair.left), _array(pair.right)
    image, coc_px = _tensors(view, [lens])
    left, right = render_dual_pixel(image, coc_px, psf, quality="exact")
    return _array(left[0]), _array(right[0])


def _tensors(view: View, lenses: list[LensModel]) -> tuple[Tensor, Tensor]:
    """The sharp picture (1, 3, H, W) and its signed CoC (1, N, H, W) through N lenses."""
    coc = np.stack([np.asarray(optics.circle_of_confusion_px(view.depth_m, lens), np.float32) for lens in lenses])
    _check_blur(float(np.abs(coc).max()), min(view.depth_m.shape))
    return torch.from_numpy(view.image).permute(2, 0, 1)[None], torch.from_numpy(coc)[None]


def _recorded(
    left: FloatImage, right: FloatImage, settings: RenderSettings, rng: np.random.Generator
) -> tuple[FloatImage, FloatImage, FloatImage, Mask | None]:
    """Left, right, full aperture and saturation as the camera's decoder gives them; the light itself without noise."""
    if not settings.noise:
        return left, right, left + right, None
    sensor = sensor_model(settings.camera.profile)
    light = [np.maximum(half, 0) for half in (left, right)]  # Fourier transforms leave some -1e-8
    seen, saturated = [], np.zeros(left.shape[:2], bool)
    for channel in range(left.shape[2]):
        image = expose(light[0][..., channel], light[1][..., channel], None, _one_colour(sensor, channel), rng)
        seen.append((image.left, image.right, image.combined))
        saturated |= image.saturated
    first, second, full = (np.stack(view, axis=2) for view in zip(*seen, strict=True))
    # Halves that were read, or stored, at their own full range go back to the unit of the full aperture.
    half = np.float32(0.5 if sensor.readout == "halves" or sensor.encoding == "srgb8" else 1.0)
    return first * half, second * half, full, saturated


def _one_colour(sensor: SensorModel, channel: int) -> SensorModel:
    """The samples of one colour: like a pixel of the decoder's half-size view, one here has every colour."""
    shading = sensor.shading
    if shading is not None and shading.left.shape[2] == 3:
        one = slice(channel, channel + 1)
        shading = replace(
            shading,
            left=shading.left[..., one],
            right=shading.right[..., one],
            left_over_right=shading.left_over_right[one],
        )
    return replace(sensor, colour="gray", shading=shading)


def _array(view: Tensor) -> FloatImage:
    array: npt.NDArray[np.float32] = view.permute(1, 2, 0).contiguous().numpy()
    return array


@contextmanager
def _one_thread() -> Iterator[None]:
    """Sums come out the same whatever the machine: threads split them elsewhere."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)
