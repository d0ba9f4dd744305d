"""Training samples of pictures with depth: a random lens on the CPU, its image on the device of the tensors.

Convention: as :mod:`dualpix.capture.render`. *Drawing* chooses lens, focus and blur of a sample from its own random
stream and gives plain tensors; *forming* makes the views of them, and is a pure function of these tensors. Blur is
affine in inverse depth: of pairs, whose truth is in pixels, the circles of confusion at the two ends of the scene are
drawn, as for procedural scenes; focus stacks, whose truth is in metres, get a lens with all its optics.

A renderer has no light from behind an edge of the picture's, so pictures with depth are the lesser data at edges that
uncover much: :mod:`dualpix.capture.render.layered` fills what is hidden from around.
"""

from __future__ import annotations

import math
from dataclasses import astuple, dataclass, replace

import numpy as np
import torch

from dualpix.capture import optics
from dualpix.capture.optics import IDEAL_DISPARITY_GAIN, LENS_RANGES
from dualpix.capture.render import GatherPsf, PsfModel, render_dual_pixel, render_integral
from dualpix.capture.render.gather import gather
from dualpix.capture.render.integral import RECTANGLE_GAIN
from dualpix.capture.synthesis.camera import CAMERAS, camera_named
from dualpix.capture.synthesis.sample import fitted as fitted_arrays
from dualpix.capture.types import FloatImage, LensModel, Mask, Quality
from dualpix.models.data.rendered import RenderSettings, draw_coc_range, draw_psf
from dualpix.models.data.sources.kind import SourceOptions
from dualpix.models.tasks.focus_stack import FARTHEST_M
from dualpix.models.tasks.monocular import PICTURE
from dualpix.models.tasks.monocular import TRUTH as INVERSE_DEPTH
from dualpix.models.tasks.task import KNOWN, Sample

STACK_FORMATION = 1
"""Changes with what :func:`draw_stack` and :func:`form_stack` make of the same scene."""
_ENDS_PERCENT = 0.5
_FLAT_SHARE = 0.01
_BESIDE = 0.8
"""Of the diopters of a wall: where the frames of its stack begin."""
_JITTER = 0.25
"""Of the step between the frames of a stack, in diopters."""
_F_NUMBERS = (0.95, 22.0)
"""Of lenses that are made."""
_POWERS = (1.0, 5.0)
"""Binary logarithms of the exponents of a stack's blur kernel, see :mod:`dualpix.capture.render.gather`."""
_MOST_COC_SHARE = 0.5
"""Of the shorter side: beyond this the picture is all blur."""
_UM_PER_MM = 1000.0


@dataclass(frozen=True)
class RgbdView:
    """A sharp picture with the depth of each pixel."""

    image: FloatImage
    """(H, W, 3) linear."""
    depth_m: FloatImage
    """(H, W) > 0 up to infinity, no holes."""
    measured: Mask
    """(H, W) False where a hole was filled."""


def fitted(view: RgbdView, size_hw: tuple[int, int], rng: np.random.Generator) -> RgbdView:
    """See :func:`dualpix.capture.synthesis.sample.fitted`."""
    return RgbdView(*fitted_arrays(view.image, view.depth_m, view.measured, size_hw, rng))


# --- pairs --------------------------------------------------------------------------------------------------------


def draw_pair(view: RgbdView, settings: RenderSettings, rng: np.random.Generator) -> Sample:
    """Picture, circles of confusion and aperture split: what :func:`form_pair` needs."""
    far, near = draw_coc_range(settings, rng)
    psf = draw_psf(settings, rng)
    proximity = 1.0 / view.depth_m
    low, high = _ends(proximity)
    if high - low < _FLAT_SHARE * high:  # a wall: all of it at one blur
        coc = np.full_like(proximity, rng.uniform(near, far))
    else:
        coc = far + (near - far) * (proximity - low) / (high - low)
    # outliers would ask for kernels larger than any that training sees
    coc = np.clip(coc, -settings.max_coc_px, settings.max_coc_px)
    split = [RECTANGLE_GAIN] if settings.optics == "rectangle" else list(astuple(psf))
    return {
        "sharp": _planes(view.image),
        "coc_px": torch.from_numpy(coc.astype(np.float32))[None],
        KNOWN: _mask(view.measured),
        "split": torch.tensor(split, dtype=torch.float32),
        "exact": torch.tensor(float(settings.quality == "exact")),
    }


def form_pair(prepared: Sample) -> Sample:
    """A sample of the task ``dual_pixel``, on the device of the tensors."""
    image, coc = prepared["sharp"][None], prepared["coc_px"][None]
    rectangle = len(prepared["split"]) == 1
    with torch.inference_mode():
        if rectangle:
            border = int(float(coc.abs().max())) // 2 + 2
            pad = (border,) * 4
            padded = (torch.nn.functional.pad(plane, pad, mode="replicate") for plane in (image, coc))
            left, right = (view[..., border:-border, border:-border] for view in render_integral(*padded))
        else:
            quality: Quality = "exact" if float(prepared["exact"]) else "standard"
            left, right = render_dual_pixel(image, coc, _psf(prepared["split"]), quality=quality)
    left, right = (view[0].float().clone() for view in (left, right))
    green = slice(1, 2)
    return {
        "left": left[green],
        "right": right[green],
        "combined": left + right,
        "disparity_px": prepared["coc_px"] * float(prepared["split"][0]),
        KNOWN: prepared[KNOWN],
        "sharp": prepared["sharp"],
        "disparity_gain": prepared["split"][0].clone(),
    }


def _psf(split: torch.Tensor) -> PsfModel:
    gain, *shape = split.tolist()
    return PsfModel(min(gain, IDEAL_DISPARITY_GAIN), *shape)  # float32 may have rounded it up


# --- pictures alone -----------------------------------------------------------------------------------------------


def plain_picture(view: RgbdView) -> Sample:
    """A sample of the task ``monocular``: sharp picture and inverse depth, through no lens at all."""
    inverse = np.float32(1.0) / view.depth_m  # 0 at infinity
    return {
        PICTURE: _planes(view.image),
        INVERSE_DEPTH: torch.from_numpy(np.ascontiguousarray(inverse, np.float32))[None],
        KNOWN: _mask(view.measured),
    }


# --- focus stacks -------------------------------------------------------------------------------------------------


def draw_stack(view: RgbdView, options: SourceOptions, rng: np.random.Generator) -> Sample:
    """Picture, depth and lens: what :func:`form_stack` needs; the farthest focus comes first."""
    height, width = view.depth_m.shape
    depth = np.minimum(view.depth_m, np.float32(FARTHEST_M)).astype(np.float32)
    low, high = _ends(np.float32(1.0) / depth)
    if high - low < _FLAT_SHARE * high:  # a wall: focused in front of it and behind
        low, high = low * _BESIDE, high / _BESIDE
    lens = _draw_lens(options.render, width, (low, high), rng)
    steps = np.linspace(low, high, options.frames)
    jitter = rng.uniform(-_JITTER, _JITTER, options.frames) * (steps[1] - steps[0])
    focus = np.sort(np.maximum(steps + jitter, 1 / FARTHEST_M))
    return {
        "sharp": _planes(view.image),
        "depth_m": torch.from_numpy(np.ascontiguousarray(depth, np.float32))[None],
        KNOWN: _mask(view.measured),
        "focus_distances_m": torch.from_numpy((1.0 / focus).astype(np.float32)),
        "focal_length_mm": torch.tensor(lens.focal_length_mm, dtype=torch.float32),
        "f_number": torch.tensor(lens.f_number, dtype=torch.float32),
        "pixel_pitch_um": torch.tensor(lens.pixel_pitch_um, dtype=torch.float32),
        "power": torch.tensor(2.0 ** float(rng.uniform(*_POWERS)), dtype=torch.float32),
        "split": torch.tensor(list(astuple(draw_psf(options.render, rng))), dtype=torch.float32),
        "layered": torch.tensor(float(options.stacks == "layered")),
        "most_coc_px": torch.tensor(_MOST_COC_SHARE * min(height, width), dtype=torch.float32),
    }


def form_stack(prepared: Sample) -> Sample:
    """A sample of the task ``focus_stack``, on the device of the tensors."""
    depth, limit = prepared["depth_m"], float(prepared["most_coc_px"])
    lens = LensModel(
        float(prepared["focal_length_mm"]), float(prepared["f_number"]), 1.0, float(prepared["pixel_pitch_um"]), 1.0
    )
    focused = [replace(lens, focus_distance_m=distance) for distance in prepared["focus_distances_m"].tolist()]
    coc = torch.cat([optics.circle_of_confusion_px(depth, one) for one in focused]).clamp(-limit, limit)
    image = prepared["sharp"][None]
    with torch.inference_mode():
        if float(prepared["layered"]):
            psf = _psf(prepared["split"])
            pairs = [render_dual_pixel(image, one[None, None], psf, quality="exact") for one in coc]
            frames = torch.cat([left + right for left, right in pairs])
        else:
            frames = gather(image, coc[None], GatherPsf(float(prepared["power"])))[0]
    kept = (KNOWN, "depth_m", "sharp", "focus_distances_m", "focal_length_mm", "f_number", "pixel_pitch_um")
    return {"frames": frames.float().clone(), **{name: prepared[name] for name in kept}}


def _draw_lens(
    settings: RenderSettings, width_px: int, ends_d: tuple[float, float], rng: np.random.Generator
) -> LensModel:
    """A camera's focal length and sensor, and the aperture that blurs the farthest point by as much as is drawn, of a
    frame that is focused on the nearest one. The camera is one that such a lens could be made for, if there is one."""
    wanted_px = min(float(np.exp(rng.uniform(*np.log(settings.coc_span_px)))), settings.max_coc_px)
    lenses = []
    for name in rng.permutation(np.array(CAMERAS)):
        camera = camera_named(str(name))
        # nearer than twice the focal length is macro photography, which none of these lenses does
        nearest_m = max(1 / ends_d[1], 2e-3 * camera.focal_length_mm)
        pitch_um = camera.sensor_width_mm * _UM_PER_MM / width_px
        wide_open = LensModel(camera.focal_length_mm, 1.0, nearest_m, pitch_um, 1.0)
        blur_px = abs(float(optics.circle_of_confusion_px(1 / ends_d[0], wide_open)))
        lenses.append(replace(wide_open, f_number=blur_px / wanted_px))
    lens = min(
        lenses, key=lambda lens: abs(math.log(lens.f_number / min(max(lens.f_number, _F_NUMBERS[0]), _F_NUMBERS[1])))
    )
    allowed = LENS_RANGES["f_number"]
    return replace(lens, f_number=float(np.clip(lens.f_number, allowed.low, allowed.high)))


def _ends(proximity: FloatImage) -> tuple[float, float]:
    """Farthest and nearest, in diopters, but for outliers."""
    low, high = (float(v) for v in np.percentile(proximity, (_ENDS_PERCENT, 100 - _ENDS_PERCENT)))
    return max(low, 1 / FARTHEST_M), max(high, 1 / FARTHEST_M)


def _planes(image: FloatImage) -> torch.Tensor:
    return torch.from_numpy(np.ascontiguousarray(image.transpose(2, 0, 1), np.float32))


def _mask(known: Mask) -> torch.Tensor:
    return torch.from_numpy(np.ascontiguousarray(known, np.float32))[None]
