"""Focus stacks of pictures with depth and of procedural scenes, as clean samples of the task ``focus_stack``.

Convention: as :mod:`dualpix.capture.render`; frames have the farthest focus first. Two ways of forming them:

- ``faithful``: linear light through the whole aperture, with occlusion (:mod:`dualpix.capture.render.layered`, quality
  ``exact``); lenses of phones and of about 50 mm; lists of distances of which few follow the scene; what alignment
  leaves of breathing and motion, and distances that are not quite what the camera says (:mod:`.stack_camera`). Noise,
  exposure and mirroring are the task's augmentation.
- ``published``: as the public generators of FOSSA and DfDNet make theirs: a sharp picture blurred by its depth on
  display-referred values (:mod:`.published_blur`), one kernel, aperture and list of distances per *sample*, where
  FOSSA's code draws them per batch. What is measured is what is said.

A picture shows no scale: how far its nearest and farthest point are is drawn anew for each sample, so that only focus
can tell. A procedural scene's proximity is affine in inverse depth whatever both ends are; pictures with depth are
scaled as a whole.
"""

from __future__ import annotations

from dataclasses import astuple, dataclass, replace

import numpy as np
import numpy.typing as npt
import torch

from dualpix.capture import optics
from dualpix.capture.pictures.display import linear_from_srgb, srgb_from_linear
from dualpix.capture.render import PsfModel, render_scene_stack, render_whole, scene_margin_px
from dualpix.capture.scenes import make_varied_scene, scene_seed
from dualpix.capture.types import FloatImage, LensModel
from dualpix.models.data.focus_lists import MIXED, PUBLISHED, Diopters, draw_list
from dualpix.models.data.formation import RgbdView, mask_tensor, picture_tensor
from dualpix.models.data.options import SourceOptions
from dualpix.models.data.published_blur import neighbour_gather
from dualpix.models.data.rendered import draw_psf
from dualpix.models.data.stack_camera import (
    Misalignment,
    coc_ends_px,
    draw_lens,
    draw_misalignment,
    largest_coc_px,
    moved,
    published_lens,
    said_focus,
    within_blur,
)
from dualpix.models.tasks.focus_stack import FARTHEST_M
from dualpix.models.tasks.task import KNOWN, Sample

STACK_FORMATION = 2
"""Changes with what this module makes of the same scene."""
NEAREST_M = (0.3, 2.5)
"""Of the nearest point of a scene, log-uniformly."""
FARTHEST_OF_NEAREST, LEAST_FARTHEST_M, MOST_FARTHEST_M = 1.25, 1.0, 12.0
_ENDLESS = 0.08
"""Share of scenes whose farthest point is at infinity."""
_ADAPTIVE_PERCENT = 5.0
_OUTLIER_PERCENT = 0.5
_MOST_COC_SHARE = 0.25
"""Of the shorter side of the sample."""
_POWERS = (1.0, 5.0)
"""Binary logarithms of the exponents of the published kernel."""


# --- any picture with depth ---------------------------------------------------------------------------------------


def draw_stack(view: RgbdView, options: SourceOptions, rng: np.random.Generator) -> Sample:
    """Picture, depth, lens and list: what :func:`form_stack` needs."""
    if options.stacks == "published":
        return _drawn_as_published(view, options, rng)
    scaled = replace(view, depth_m=_rescaled(view.depth_m, rng))
    shot = _draw_shot(options, rng, _ends_d(scaled.depth_m), _percentiles_d(scaled.depth_m))
    return {
        **_common(scaled, shot),
        "true_focus_d": torch.from_numpy(shot.focus_d.astype(np.float32)),
        "scale": torch.from_numpy(shot.misalignment.scale.astype(np.float32)),
        "shift_px": torch.from_numpy(shot.misalignment.shift_px.astype(np.float32)),
        "psf": torch.tensor(list(astuple(shot.psf)), dtype=torch.float32),
        "most_coc_px": torch.tensor(_most_coc_px(options), dtype=torch.float32),
    }


def form_stack(prepared: Sample) -> Sample:
    """A sample of the task ``focus_stack``, on the device of the tensors."""
    frames = _published_frames(prepared) if "power" in prepared else _faithful_frames(prepared)
    kept = (KNOWN, "depth_m", "sharp", "focus_distances_m", "focal_length_mm", "f_number", "pixel_pitch_um")
    return {"frames": frames, **{name: prepared[name] for name in kept}}


def _faithful_frames(prepared: Sample) -> torch.Tensor:
    limit, image = float(prepared["most_coc_px"]), prepared["sharp"][None]
    lens = _lens_in(prepared)
    gain, *shape = prepared["psf"].tolist()
    psf = PsfModel(min(gain, optics.IDEAL_DISPARITY_GAIN), *shape)  # float32 may have rounded it up
    frames = []
    with torch.inference_mode():
        for focus, scale, shift in zip(
            prepared["true_focus_d"].tolist(), prepared["scale"].tolist(), prepared["shift_px"].tolist(), strict=True
        ):
            focused = replace(lens, focus_distance_m=1 / focus if focus > 0 else float("inf"))
            # outliers of depth would ask for kernels larger than the picture
            coc = optics.circle_of_confusion_px(prepared["depth_m"], focused).clamp(-limit, limit)
            frames.append(_moved_tensor(render_whole(image, coc[None], psf)[0], scale, np.array(shift)))
    return torch.stack(frames).clamp_min(0).clone()


def _moved_tensor(frame: torch.Tensor, scale: float, shift_px: npt.NDArray[np.float64]) -> torch.Tensor:
    if scale == 1.0 and not shift_px.any():
        return frame
    array = np.ascontiguousarray(frame.permute(1, 2, 0).cpu().numpy())
    return torch.from_numpy(moved(array, scale, shift_px)).permute(2, 0, 1).to(frame.device)


# --- procedural scenes, whose objects go on behind one another ----------------------------------------------------


def scene_stack(options: SourceOptions, seed: int, index: int, rng: np.random.Generator) -> Sample:
    """Frames of procedural scene ``index`` of ``seed``, faithful: what objects hide is there when blur uncovers it."""
    near_m, far_m = draw_range_m(rng)
    ends = (1 / far_m, 1 / near_m)
    # the percentiles of an adaptive list are only known with the scene, whose margin the list decides; the share of
    # the range that they leave out is drawn instead
    cut = rng.uniform(0.0, 0.25, 2) * (ends[1] - ends[0])
    shot = _draw_shot(options, rng, ends, (ends[0] + float(cut[0]), ends[1] - float(cut[1])))
    height, width = options.render.size_hw
    margin = scene_margin_px(largest_coc_px(shot.lens, shot.focus_d, ends), shot.psf)
    margin += -margin % 8  # even canvas sides keep the FFT fast
    made = make_varied_scene(scene_seed(seed, index), (height + 2 * margin, width + 2 * margin))
    scene = replace(made, depth_range_m=(near_m, far_m))
    coc = [coc_ends_px(shot.lens, float(focus), ends) for focus in shot.focus_d]
    with torch.inference_mode():
        rendered = render_scene_stack(scene, coc, shot.psf, margin).clamp_min(0)
    places = zip(rendered, shot.misalignment.scale, shot.misalignment.shift_px, strict=True)
    inside = (slice(margin, -margin), slice(margin, -margin))
    view = RgbdView(scene.all_in_focus()[inside], scene.depth_m()[inside], np.ones((height, width), np.bool_))
    common = _common(view, shot)
    return {"frames": torch.stack([_moved_tensor(*place) for place in places]).clamp_min(0), **common}


def draw_range_m(rng: np.random.Generator) -> tuple[float, float]:
    """Nearest and farthest point of a scene, in m; the farthest may be infinite."""
    near = float(np.exp(rng.uniform(*np.log(NEAREST_M))))
    least = max(FARTHEST_OF_NEAREST * near, LEAST_FARTHEST_M)
    far = float(np.exp(rng.uniform(np.log(least), np.log(MOST_FARTHEST_M))))
    return near, float(np.inf) if rng.random() < _ENDLESS else far


# --- what is drawn ------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Shot:
    """How a stack is taken."""

    lens: LensModel
    focus_d: Diopters
    """(N,) where the frames are focused."""
    said_d: Diopters
    """(N,) where the camera says that they are."""
    misalignment: Misalignment
    psf: PsfModel


def _draw_shot(
    options: SourceOptions, rng: np.random.Generator, ends_d: tuple[float, float], adaptive_d: tuple[float, float]
) -> _Shot:
    lens = draw_lens(rng)
    focus = draw_list(MIXED, options.frames, rng, adaptive_d)
    lens = within_blur(lens, focus, ends_d, _most_coc_px(options))
    said, misalignment = said_focus(focus, rng), draw_misalignment(focus, rng)
    return _Shot(lens, focus, said, misalignment, draw_psf(options.render, rng))


def _drawn_as_published(view: RgbdView, options: SourceOptions, rng: np.random.Generator) -> Sample:
    lens = published_lens(rng, options.render.size_hw)
    focus = draw_list(PUBLISHED, options.frames, rng, _percentiles_d(view.depth_m))
    shot = _Shot(lens, focus, focus, Misalignment.none(options.frames), _ANY_PSF)
    power = 2.0 ** float(rng.uniform(*_POWERS))
    return {**_common(view, shot), "power": torch.tensor(power, dtype=torch.float32)}


def _published_frames(prepared: Sample) -> torch.Tensor:
    lens, depth = _lens_in(prepared), prepared["depth_m"]
    distances = prepared["focus_distances_m"].tolist()
    coc = [optics.circle_of_confusion_px(depth, replace(lens, focus_distance_m=d)) for d in distances]
    shown = srgb_from_linear(prepared["sharp"].clamp(0, 1).cpu().numpy())
    with torch.inference_mode():
        blurred = neighbour_gather(
            torch.from_numpy(shown).to(depth.device), torch.cat(coc).abs() / 2, float(prepared["power"])
        )
    linear = np.asarray(linear_from_srgb(blurred.clamp(0, 1).cpu().numpy()), np.float32)
    return torch.from_numpy(linear).to(depth.device)


_ANY_PSF = PsfModel()


def _common(view: RgbdView, shot: _Shot) -> Sample:
    """What samples of both ways have: all but the frames."""
    depth = np.minimum(view.depth_m, np.float32(FARTHEST_M)).astype(np.float32)
    distances = 1 / np.maximum(shot.said_d, 1 / FARTHEST_M)
    return {
        "sharp": picture_tensor(view.image),
        "depth_m": torch.from_numpy(np.ascontiguousarray(depth))[None],
        KNOWN: mask_tensor(view.measured),
        "focus_distances_m": torch.from_numpy(distances.astype(np.float32)),
        "focal_length_mm": torch.tensor(shot.lens.focal_length_mm, dtype=torch.float32),
        "f_number": torch.tensor(shot.lens.f_number, dtype=torch.float32),
        "pixel_pitch_um": torch.tensor(shot.lens.pixel_pitch_um, dtype=torch.float32),
    }


def _lens_in(prepared: Sample) -> LensModel:
    focal, f_number, pitch = (float(prepared[name]) for name in ("focal_length_mm", "f_number", "pixel_pitch_um"))
    return LensModel(focal, f_number, 1.0, pitch, 1.0)


def _rescaled(depth_m: FloatImage, rng: np.random.Generator) -> FloatImage:
    """As if all of the scene were nearer or farther."""
    nearest = float(np.percentile(depth_m, _OUTLIER_PERCENT))
    wanted = float(np.exp(rng.uniform(*np.log(NEAREST_M))))
    return depth_m * np.float32(wanted / nearest)


def _ends_d(depth_m: FloatImage) -> tuple[float, float]:
    """Farthest and nearest but for outliers, in diopters."""
    return _between(depth_m, _OUTLIER_PERCENT)


def _percentiles_d(depth_m: FloatImage) -> tuple[float, float]:
    """Ends of an adaptive list."""
    return _between(depth_m, _ADAPTIVE_PERCENT)


def _between(depth_m: FloatImage, percent: float) -> tuple[float, float]:
    low, high = (float(v) for v in np.percentile(1 / depth_m, (percent, 100 - percent)))
    return max(low, 1 / FARTHEST_M), max(high, 1 / FARTHEST_M)


def _most_coc_px(options: SourceOptions) -> float:
    return min(options.render.max_coc_px, _MOST_COC_SHARE * min(options.render.size_hw))
