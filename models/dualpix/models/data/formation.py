"""Training samples of pictures with depth: a random lens on the CPU, its image on the device of the tensors.

Convention: as :mod:`dualpix.capture.render`. *Drawing* chooses lens, focus and blur of a sample from its own random
stream and gives plain tensors; *forming* makes the views of them, and is a pure function of these tensors. Blur is
affine in inverse depth: of pairs, whose truth is in pixels, the circles of confusion at the two ends of the scene are
drawn, as for procedural scenes. Focus stacks, whose truth is in metres, get a lens with all its optics:
:mod:`.stack_formation`.

A renderer has no light from behind an edge of the picture's, so pictures with depth are the lesser data at edges that
uncover much: :mod:`dualpix.capture.render.layered` fills what is hidden from around.
"""

from __future__ import annotations

from dataclasses import astuple, dataclass

import numpy as np
import torch

from dualpix.capture.optics import IDEAL_DISPARITY_GAIN
from dualpix.capture.render import PsfModel, render_dual_pixel, render_integral
from dualpix.capture.render.integral import RECTANGLE_GAIN
from dualpix.capture.synthesis.sample import fitted as fitted_arrays
from dualpix.capture.types import FloatImage, Mask, Quality
from dualpix.models.data.rendered import RenderSettings, draw_coc_range, draw_psf
from dualpix.models.tasks.focus_stack import FARTHEST_M
from dualpix.models.tasks.monocular import PICTURE
from dualpix.models.tasks.monocular import TRUTH as INVERSE_DEPTH
from dualpix.models.tasks.task import KNOWN, Sample

_ENDS_PERCENT = 0.5
_FLAT_SHARE = 0.01


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
        "sharp": picture_tensor(view.image),
        "coc_px": torch.from_numpy(coc.astype(np.float32))[None],
        KNOWN: mask_tensor(view.measured),
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
        PICTURE: picture_tensor(view.image),
        INVERSE_DEPTH: torch.from_numpy(np.ascontiguousarray(inverse, np.float32))[None],
        KNOWN: mask_tensor(view.measured),
    }


def _ends(proximity: FloatImage) -> tuple[float, float]:
    """Farthest and nearest, in diopters, but for outliers."""
    low, high = (float(v) for v in np.percentile(proximity, (_ENDS_PERCENT, 100 - _ENDS_PERCENT)))
    return max(low, 1 / FARTHEST_M), max(high, 1 / FARTHEST_M)


def picture_tensor(image: FloatImage) -> torch.Tensor:
    """(3, H, W) of (H, W, 3)."""
    return torch.from_numpy(np.ascontiguousarray(image.transpose(2, 0, 1), np.float32))


def mask_tensor(known: Mask) -> torch.Tensor:
    """(1, H, W), 1 where it is true."""
    return torch.from_numpy(np.ascontiguousarray(known, np.float32))[None]
