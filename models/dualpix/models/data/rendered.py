"""Rendered dual-pixel pairs with exact truth: the embedded training data.

Convention: sample ``i`` of a seed is a pure function of both, clean (noise-free) and cacheable; what a sensor and a
user add to it (noise, exposure, residual shading, gamma, 8 bits, mirroring) is drawn at training time from ``(seed,
epoch, i)``. So a run that was killed goes on with exactly the samples it would have seen.
"""

from __future__ import annotations

import hashlib
import json
import math
import sys
from collections.abc import Iterator
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import get_args

import numpy as np
import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save
from torch import Tensor
from torch.utils.data import Dataset, Sampler

from dualpix.capture.errors import UnknownNameError
from dualpix.capture.files import make_output_dir, write_bytes
from dualpix.capture.optics import IDEAL_DISPARITY_GAIN
from dualpix.capture.picture import linear_from_srgb, srgb_from_linear
from dualpix.capture.profiles import load_profile
from dualpix.capture.profiles.blur import random_psf
from dualpix.capture.render import PsfModel, RenderedPair, render_integral, render_scene, scene_margin_px
from dualpix.capture.render.integral import RECTANGLE_GAIN
from dualpix.capture.scenes import Scene, make_scene, make_varied_scene
from dualpix.models.data.kinds import Optics, Quality, Scenes
from dualpix.models.prepare import network_inputs

_MEASURED = ("pixel4", "canon-r6m2-rf50")
_GAIN_JITTER = 0.15
_HEADER_BYTES = 4096
"""Of a kept scene: names and shapes."""
EVALUATION_SEED = 20_260_001
"""Seeds from here on are for evaluation and calibration; training refuses them."""


@dataclass(frozen=True)
class RenderSettings:
    """The distribution of the rendered scenes; its digest is part of a cache's name and of a checkpoint."""

    size_hw: tuple[int, int] = (192, 256)
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
class CleanSample:
    """Noise-free linear views (float32): left, right (1, H, W) green; combined (3, H, W); disparity_px (1, H, W)."""

    left: Tensor
    right: Tensor
    combined: Tensor
    disparity_px: Tensor


@dataclass(frozen=True)
class EvalSample:
    """Network inputs with batch 1 and the true disparity (1, 1, H, W) in px."""

    inputs: tuple[Tensor, Tensor, Tensor]
    disparity_px: Tensor


def render_sample(settings: RenderSettings, seed: int, index: int) -> CleanSample:
    """Render sample ``index`` of ``seed``."""
    rng = np.random.default_rng([seed, index])
    far, near = draw_coc_range(settings, rng)
    psf = draw_psf(settings, rng)
    margin = scene_margin_px(max(abs(far), abs(near)), psf)
    height, width = settings.size_hw
    # even canvas sides keep the FFT fast and the scene independent of the exact margin
    margin += -margin % 8
    make = make_scene if settings.scenes == "simple" else make_varied_scene
    scene = make(int(rng.integers(1 << 62)), (height + 2 * margin, width + 2 * margin))
    if settings.optics == "rectangle":
        gain, pair = RECTANGLE_GAIN, _render_rectangles(scene, far, near, margin)
    else:
        gain = psf.disparity_gain
        pair = render_scene(scene, far, near, psf, margin, quality=settings.quality)
    green = slice(1, 2)
    return CleanSample(pair.left[green], pair.right[green], pair.combined, gain * pair.coc_px)


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


class RenderedDataset(Dataset[CleanSample]):
    """``count`` clean samples, rendered on demand or read from ``cache_dir`` (half precision, one file per sample)."""

    def __init__(
        self, count: int, *, settings: RenderSettings | None = None, seed: int = 0, cache_dir: Path | None = None
    ):
        self.count, self.seed = count, seed
        self.settings = settings or RenderSettings()
        self.folder = cache_dir / f"{self.settings.digest()}-{seed}" if cache_dir else None
        if self.folder:
            make_output_dir(self.folder)

    def __len__(self) -> int:
        return self.count

    def __getitem__(self, index: int) -> CleanSample:
        """Sample ``index``; raises IndexError outside [0, count)."""
        if not 0 <= index < self.count:
            raise IndexError(index)
        if self.folder is None:
            return render_sample(self.settings, self.seed, index)
        path = self.folder / f"{index:06d}.safetensors"
        if path.is_file():
            if kept := _read_kept(path, self.settings.size_hw):
                return kept
            print(f"'{path}' is damaged; its scene is rendered anew", file=sys.stderr, flush=True)
        halves = {k: v.half().contiguous() for k, v in vars(render_sample(self.settings, self.seed, index)).items()}
        write_bytes(path, save(halves))
        return CleanSample(**{k: v.float() for k, v in halves.items()})


def _read_kept(path: Path, size_hw: tuple[int, int]) -> CleanSample | None:
    """A scene as it was kept, or None where the file does not hold one: cut, of another form, or not finite."""
    views = {"left": (1, *size_hw), "right": (1, *size_hw), "combined": (3, *size_hw), "disparity_px": (1, *size_hw)}
    try:
        if path.stat().st_size > 2 * sum(math.prod(shape) for shape in views.values()) + _HEADER_BYTES:
            return None
        found = load_file(path)
    except (OSError, SafetensorError):
        return None
    if {k: (tuple(v.shape), v.dtype) for k, v in found.items()} != {k: (s, torch.float16) for k, s in views.items()}:
        return None
    if not all(torch.isfinite(v).all() for v in found.values()):
        return None
    return CleanSample(**{k: v.float() for k, v in found.items()})


def augment(sample: CleanSample, rng: np.random.Generator) -> CleanSample:
    """What lies between the lens and the network: exposure, noise, shading left over, clipping, 8 bits, mirroring."""
    left, right, combined, disparity = sample.left, sample.right, sample.combined, sample.disparity_px
    if rng.random() < 0.5:  # a mirrored world: the halves change places, the disparity keeps its sign
        left, right = right.flip(-1), left.flip(-1)
        combined, disparity = combined.flip(-1), disparity.flip(-1)
    if rng.random() < 0.5:
        left, right, combined, disparity = (v.flip(-2) for v in (left, right, combined, disparity))
    exposure = float(np.exp(rng.uniform(np.log(0.06), np.log(0.5)))) / float(combined.mean().clamp_min(1e-4))
    shot, read = float(np.exp(rng.uniform(-12.0, -7.0))), float(np.exp(rng.uniform(-9.0, -6.0)))
    clip = 1.0 if rng.random() < 0.7 else float(rng.uniform(0.5, 1.0))
    gamma_8bit = rng.random() < 0.2
    seeds = torch.Generator().manual_seed(int(rng.integers(1 << 62)))

    def expose(view: Tensor, share: float) -> Tensor:
        """``share``: white level of the view relative to the full aperture's."""
        linear = (view * exposure).clamp_max(clip * share)
        noise = torch.randn(linear.shape, generator=seeds) * torch.sqrt(shot * linear.clamp_min(0) + read**2)
        noisy = linear + noise
        return share * _through_srgb_8bit(noisy / share) if gamma_8bit else noisy

    left, right = expose(left, 0.5), expose(right, 0.5)
    right = right * _shading(rng, right.shape[-1])
    # Green-only sensors feed the full-aperture view of the same samples to the image branch.
    combined = (left + right) if rng.random() < 0.5 else expose(combined, 1.0)
    return CleanSample(left, right, combined.expand(3, -1, -1), disparity)


def _crop(sample: CleanSample, crop_hw: tuple[int, int], rng: np.random.Generator) -> CleanSample:
    (height, width), (h, w) = sample.left.shape[-2:], crop_hw
    top, left = int(rng.integers(0, height - h + 1)), int(rng.integers(0, width - w + 1))
    return CleanSample(**{k: v[..., top : top + h, left : left + w] for k, v in vars(sample).items()})


def _shading(rng: np.random.Generator, width: int) -> Tensor:
    """(1, W) gain of the right view that equalisation left over: a few per cent, smooth in x."""
    x = torch.linspace(-1.0, 1.0, width)
    a, b, c = rng.normal(0.0, (0.015, 0.03, 0.015))
    return torch.exp(a + b * x + c * x * x)[None]


def _through_srgb_8bit(linear: Tensor) -> Tensor:
    """sRGB encoding, 8 bits, and back: what a JPEG or an 8-bit export leaves of a linear view."""
    code = np.round(srgb_from_linear(linear.clamp(0.0, 1.0).numpy()) * 255) / np.float32(255)
    return torch.from_numpy(linear_from_srgb(code))


class AugmentedDataset(Dataset[tuple[Tensor, Tensor, Tensor, Tensor]]):
    """Batches' source: key (epoch, index) -> network inputs image, left, right and disparity, without the batch axis.

    ``crop_hw`` takes a random window of the rendered scene: matching is local, and steps of a quarter of the pixels
    are four times as many.
    """

    def __init__(self, clean: RenderedDataset, crop_hw: tuple[int, int] | None = None) -> None:
        self.clean, self.crop_hw = clean, crop_hw

    def __len__(self) -> int:
        return len(self.clean)

    def __getitem__(self, key: tuple[int, int]) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """The augmented sample of ``key``."""
        epoch, index = key
        rng = np.random.default_rng([self.clean.seed, 1 + epoch, index])
        s = augment(self.clean[index], rng)
        if self.crop_hw:
            s = _crop(s, self.crop_hw, rng)
        image, left, right = network_inputs(s.left[None], s.right[None], s.combined[None])
        return image[0], left[0], right[0], s.disparity_px


class ResumableSampler(Sampler[list[tuple[int, int]]]):
    """Batches of (epoch, index) keys for steps ``first_step`` to ``last_step``: step k is the same from any start."""

    def __init__(self, count: int, batch_size: int, first_step: int, last_step: int, seed: int) -> None:
        self.count, self.batch_size, self.seed = count, batch_size, seed
        self.first_step, self.last_step = first_step, last_step

    def __len__(self) -> int:
        return self.last_step - self.first_step

    def __iter__(self) -> Iterator[list[tuple[int, int]]]:
        """Yield one batch of keys per step."""
        per_epoch = max(1, self.count // self.batch_size)
        order, shuffled_epoch = np.arange(self.count), -1
        for step in range(self.first_step, self.last_step):
            epoch, at = divmod(step, per_epoch)
            if epoch != shuffled_epoch:
                order, shuffled_epoch = np.random.default_rng([self.seed, epoch]).permutation(self.count), epoch
            chosen = order[at * self.batch_size : (at + 1) * self.batch_size]
            yield [(epoch, int(i)) for i in chosen]


def evaluation_set(count: int, size_hw: tuple[int, int] = (192, 256), seed: int = EVALUATION_SEED) -> list[EvalSample]:
    """The first ``count`` of :func:`evaluation_sample`."""
    return [evaluation_sample(index, size_hw, seed) for index in range(count)]


def evaluation_sample(index: int, size_hw: tuple[int, int] = (192, 256), seed: int = EVALUATION_SEED) -> EvalSample:
    """Scene ``index`` of a fixed set of rendered and augmented scenes that training never sees.

    Args:
        index: from 0 on.
        size_hw: (height, width) in px, multiples of 32.
        seed: at least ``EVALUATION_SEED``; another seed gives another set (calibration, say).
    """
    clean = RenderedDataset(index + 1, settings=RenderSettings(size_hw=size_hw), seed=seed)
    image, left, right, disparity = AugmentedDataset(clean)[0, index]
    return EvalSample((image[None], left[None], right[None]), disparity[None])
