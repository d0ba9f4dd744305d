"""Rendered dual-pixel pairs with exact truth: the embedded training data.

Convention: sample ``i`` of a seed is a pure function of both, clean (noise-free) and cacheable; what a sensor and a
user add to it (noise, exposure, residual shading, gamma, 8 bits, mirroring) is drawn at training time from ``(seed,
epoch, i)``. So a run that was killed goes on with exactly the samples it would have seen.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import get_args

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset

from dualpix.capture.errors import UnknownNameError
from dualpix.capture.files import make_output_dir
from dualpix.capture.optics import IDEAL_DISPARITY_GAIN
from dualpix.capture.profiles import load_profile
from dualpix.capture.profiles.blur import random_psf
from dualpix.capture.render import PsfModel, RenderedPair, render_integral, render_scene, scene_margin_px
from dualpix.capture.render.integral import RECTANGLE_GAIN
from dualpix.capture.scenes import Scene, make_scene, make_varied_scene
from dualpix.models.data.kept import Stored, keep, kept_or_none
from dualpix.models.data.kinds import SCENE_HW, Optics, Quality, Scenes
from dualpix.models.samples import DISPARITY_GAIN, SHARP
from dualpix.models.tasks.dual_pixel import DUAL_PIXEL
from dualpix.models.tasks.task import EvalSample, Sample, eval_sample

_MEASURED = ("pixel4", "canon-r6m2-rf50")
_GAIN_JITTER = 0.15
EVALUATION_SEED = 20_260_001
"""Seeds from here on are for evaluation and calibration; training refuses them."""


@dataclass(frozen=True)
class RenderSettings:
    """The distribution of the rendered scenes; its digest is part of a cache's name and of a checkpoint."""

    size_hw: tuple[int, int] = SCENE_HW
    coc_span_px: tuple[float, float] = (3.0, 34.0)
    """Log-uniform range of CoC between the nearest and the farthest point."""
    max_coc_px: float = 36.0
    disparity_gain: tuple[float, float] = (0.06, 0.42)
    """Log-uniform: Canon R6 II with a 50 mm lens measures 0.06, Pixel 4 0.21, the ideal half disc gives 0.424."""
    edge_px: tuple[float, float] = (0.25, 0.9)
    edge_relative: tuple[float, float] = (0.02, 0.2)
    rim: tuple[float, float] = (-0.5, 2.0)
    split_offset_sigma: float = 0.2
    scenes: Scenes = "simple"
    """Procedural scenes: :func:`make_scene`, or :func:`make_varied_scene` of all uses."""
    quality: Quality = "standard"
    """Of the renderer: "exact" agrees with ray tracing at depth edges, see :func:`render_scene`."""
    optics: Optics = "model"
    """How the aperture is split, one draw per sample: ``model`` from the ranges above; ``cameras`` two in three times
    as a measured camera does at a random place of its picture, else as ``model``; ``half_disc`` and ``rectangle`` are
    the ideal halves of the literature, for comparison."""

    def __post_init__(self) -> None:
        choices = (("scenes", get_args(Scenes)), ("quality", get_args(Quality)), ("optics", get_args(Optics)))
        for name, known in choices:
            if getattr(self, name) not in known:
                raise UnknownNameError(name, getattr(self, name), list(known))

    def digest(self) -> str:
        """Twelve hex digits that change when any setting does, or the profile of a measured camera."""
        settings: dict[str, object] = asdict(self)
        if self.optics == "cameras":
            rng = np.random.default_rng(0)
            settings["profiles"] = [repr(random_psf(load_profile(name), rng)) for name in _MEASURED]
        return hashlib.sha256(json.dumps(settings, sort_keys=True).encode()).hexdigest()[:12]


@dataclass(frozen=True)
class _Drawn:
    """What a sample is of: all that is random in it."""

    coc_far_px: float
    coc_near_px: float
    psf: PsfModel
    gain: float
    """Disparity per CoC."""
    margin_px: int
    scene_seed: int
    settings: RenderSettings

    def scene(self) -> Scene:
        """With its margin; takes a large part of the time of a sample."""
        height, width = self.settings.size_hw
        make = make_scene if self.settings.scenes == "simple" else make_varied_scene
        return make(self.scene_seed, (height + 2 * self.margin_px, width + 2 * self.margin_px))


def _draw(settings: RenderSettings, seed: int, index: int) -> _Drawn:
    rng = np.random.default_rng([seed, index])
    far, near = draw_coc_range(settings, rng)
    psf = draw_psf(settings, rng)
    margin = scene_margin_px(max(abs(far), abs(near)), psf)
    # even canvas sides keep the FFT fast and the scene independent of the exact margin
    margin += -margin % 8
    gain = RECTANGLE_GAIN if settings.optics == "rectangle" else psf.disparity_gain
    return _Drawn(far, near, psf, gain, margin, int(rng.integers(1 << 62)), settings)


def render_sample(settings: RenderSettings, seed: int, index: int, *, sharp: bool = False) -> Sample:
    """Render sample ``index`` of ``seed``: noise-free linear views, see :data:`~..tasks.dual_pixel.DUAL_PIXEL`.

    Args:
        settings: the distribution.
        seed: of the set.
        index: of the sample.
        sharp: whether to add what a pinhole sees, and the gain; nothing else of the sample changes.
    """
    drawn = _draw(settings, seed, index)
    scene, margin = drawn.scene(), drawn.margin_px
    if settings.optics == "rectangle":
        pair = _render_rectangles(scene, drawn.coc_far_px, drawn.coc_near_px, margin)
    else:
        pair = render_scene(scene, drawn.coc_far_px, drawn.coc_near_px, drawn.psf, margin, quality=settings.quality)
    green = slice(1, 2)
    views = {
        "left": pair.left[green],
        "right": pair.right[green],
        "combined": pair.combined,
        "disparity_px": drawn.gain * pair.coc_px,
    }
    return views | (_in_focus(drawn, scene) if sharp else {})


def _in_focus(drawn: _Drawn, scene: Scene) -> Sample:
    """The picture without blur on the pixels of the views, and the disparity per CoC."""
    m = drawn.margin_px
    picture = torch.from_numpy(scene.all_in_focus()[m:-m, m:-m]).permute(2, 0, 1).contiguous()
    return {SHARP: picture, DISPARITY_GAIN: torch.tensor(drawn.gain, dtype=torch.float32)}


def draw_coc_range(settings: RenderSettings, rng: np.random.Generator) -> tuple[float, float]:
    """Signed CoC in px of the farthest and of the nearest point of a scene."""
    span = float(np.exp(rng.uniform(*np.log(settings.coc_span_px))))
    # a third each: focus inside the scene, on its near side (phones, close-ups), on its far side
    focus = rng.choice([rng.uniform(0.0, 1.0), rng.uniform(0.9, 1.15), rng.uniform(-0.15, 0.1)])
    far, near = span * focus, span * (focus - 1.0)
    shrink = min(1.0, settings.max_coc_px / max(abs(far), abs(near)))
    return shrink * far, shrink * near


def draw_psf(settings: RenderSettings, rng: np.random.Generator) -> PsfModel:
    """How the aperture of a sample is split."""
    if settings.optics == "half_disc":
        return PsfModel(IDEAL_DISPARITY_GAIN, edge_px=float(rng.uniform(*settings.edge_px)), edge_relative=0.0)
    if settings.optics == "cameras" and rng.random() < 2 / 3:
        name = _MEASURED[int(rng.integers(len(_MEASURED)))]
        measured = random_psf(load_profile(name), rng)
        gain = measured.disparity_gain * float(np.exp(rng.normal(0.0, _GAIN_JITTER)))
        # the edge at focus is that of the picture's resolution, which a profile does not know
        return replace(
            measured,
            disparity_gain=min(gain, max(settings.disparity_gain)),
            edge_px=float(rng.uniform(*settings.edge_px)),
        )
    return PsfModel(
        disparity_gain=float(np.exp(rng.uniform(*np.log(settings.disparity_gain)))),
        edge_px=float(rng.uniform(*settings.edge_px)),
        edge_relative=float(rng.uniform(*settings.edge_relative)),
        rim=float(rng.uniform(*settings.rim)),
        split_offset=float(np.clip(rng.normal(0.0, settings.split_offset_sigma), -0.6, 0.6)),
    )


def _render_rectangles(scene: Scene, coc_far_px: float, coc_near_px: float, margin_px: int) -> RenderedPair:
    """What DDDNet trains on: the sharp picture splatted by its depth, nothing hidden and nothing revealed."""
    image = torch.from_numpy(scene.all_in_focus()).permute(2, 0, 1)[None]
    coc = coc_far_px + (coc_near_px - coc_far_px) * torch.from_numpy(scene.proximity())[None, None]
    inside = (..., slice(margin_px, -margin_px), slice(margin_px, -margin_px))
    left, right = render_integral(image, coc)
    return RenderedPair(left[0][inside], right[0][inside], coc[0][inside])


class RenderedDataset(Dataset[Sample]):
    """``count`` clean samples, rendered on demand or read from ``cache_dir`` (half precision, one file per sample).

    With ``sharp`` a sample also has the picture in focus everywhere, kept in a file of its own: what was rendered
    without it stays good, and a run that has no use for it reads none.
    """

    def __init__(
        self,
        count: int,
        *,
        settings: RenderSettings | None = None,
        seed: int = 0,
        cache_dir: Path | None = None,
        sharp: bool = False,
    ):
        self.count, self.seed, self.sharp = count, seed, sharp
        self.settings = settings or RenderSettings()
        self.folder = cache_dir / f"{self.settings.digest()}-{seed}" if cache_dir else None
        if self.folder:
            make_output_dir(self.folder)

    def __len__(self) -> int:
        return self.count

    def __getitem__(self, index: int) -> Sample:
        """Sample ``index``; raises IndexError outside [0, count)."""
        if not 0 <= index < self.count:
            raise IndexError(index)
        if self.folder is None:
            return render_sample(self.settings, self.seed, index, sharp=self.sharp)
        path, size = self.folder / f"{index:06d}.safetensors", self.settings.size_hw
        views = kept_or_none(path, _planes({"left": 1, "right": 1, "combined": 3, "disparity_px": 1}, size))
        if views is None:
            made = render_sample(self.settings, self.seed, index, sharp=self.sharp)
            extra = {name: made.pop(name) for name in (SHARP, DISPARITY_GAIN) if name in made}
            views = keep(path, made)
            return views | self._with_sharp(path, index, extra.get(SHARP)) if extra else views
        return views | self._with_sharp(path, index, None) if self.sharp else views

    def _with_sharp(self, path: Path, index: int, picture: Tensor | None) -> Sample:
        """The picture in focus everywhere, beside the views of ``path``; ``picture`` is it where it was just made."""
        beside = path.with_suffix(f".{SHARP}{path.suffix}")
        drawn = _draw(self.settings, self.seed, index)
        kept = None if picture is not None else kept_or_none(beside, _planes({SHARP: 3}, self.settings.size_hw))
        if kept is None:
            kept = keep(beside, {SHARP: _in_focus(drawn, drawn.scene())[SHARP] if picture is None else picture})
        return kept | {DISPARITY_GAIN: torch.tensor(drawn.gain, dtype=torch.float32)}


def _planes(channels: dict[str, int], size_hw: tuple[int, int]) -> dict[str, Stored]:
    """Shapes of what is kept, in half precision."""
    return {name: Stored((count, *size_hw)) for name, count in channels.items()}


class AugmentedDataset(Dataset[Sample]):
    """Key (epoch, index) -> a sample as a sensor would have recorded it: what judges, and calibrates."""

    def __init__(self, clean: RenderedDataset) -> None:
        self.clean = clean

    def __len__(self) -> int:
        return len(self.clean)

    def __getitem__(self, key: tuple[int, int]) -> Sample:
        """The augmented sample of ``key``."""
        epoch, index = key
        rng = np.random.default_rng([self.clean.seed, 1 + epoch, index])
        return DUAL_PIXEL.augment(self.clean[index], rng)


def evaluation_set(count: int, size_hw: tuple[int, int] = (192, 256), seed: int = EVALUATION_SEED) -> list[EvalSample]:
    """The first ``count`` of :func:`evaluation_sample`."""
    return [evaluation_sample(index, size_hw, seed) for index in range(count)]


def evaluation_sample(
    index: int, size_hw: tuple[int, int] = (192, 256), seed: int = EVALUATION_SEED, *, sharp: bool = False
) -> EvalSample:
    """Scene ``index`` of a fixed set of rendered and augmented scenes that training never sees.

    Args:
        index: from 0 on.
        size_hw: (height, width) in px, multiples of 32.
        seed: at least ``EVALUATION_SEED``; another seed gives another set (calibration, say).
        sharp: whether to add the picture in focus everywhere; nothing else changes.
    """
    clean = RenderedDataset(index + 1, settings=RenderSettings(size_hw=size_hw), seed=seed, sharp=sharp)
    return eval_sample(DUAL_PIXEL, AugmentedDataset(clean)[0, index])
