"""Rendered data as captures: the plain evaluation set, and validation sets as cameras differ.

Convention: as :mod:`dualpix.models.data.rendered`; the truth is the disparity in pixels.

The sets ``rendered:phone``, ``rendered:fullframe`` and ``rendered:macro`` are what weights are chosen on. Each scene is
seen by a camera of its own: a shipped profile whose aperture split (gain, edge, rim, offset), shading, what equalising
leaves of it, vignetting and noise are drawn anew around what was measured, because two cameras of one kind differ, and
a network that is chosen on one profile is chosen for it. Scene, camera and noise of number ``i`` are a function of the
set and ``i``, in a seed space (``SEEDS``) that no training, calibration or other evaluation draws from.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial

import numpy as np
import torch
from torch import Tensor

from dualpix.capture.errors import DualpixError
from dualpix.capture.optics import IDEAL_DISPARITY_GAIN
from dualpix.capture.profiles import load_profile
from dualpix.capture.profiles.blur import random_psf
from dualpix.capture.render import PsfModel, render_scene, scene_margin_px
from dualpix.capture.scenes import UseName, make_varied_scene
from dualpix.capture.synthesis.sensor import DnNoise, SensorModel, expose, sensor_model, tilted_shading
from dualpix.capture.types import DualPixelImage, FloatImage
from dualpix.models.data.rendered import EVALUATION_SEED, evaluation_sample
from dualpix.models.evaluate.figures import AFFINE, SHARP
from dualpix.models.evaluate.pairs import pixel_figures
from dualpix.models.evaluate.protocol import Pending, Protocol
from dualpix.models.evaluate.sample import Sample
from dualpix.models.prepare import image_gain, network_inputs
from dualpix.models.tasks.task import EvalSample

_MULTIPLE = 32
_COLUMNS = {"mae_px": "MAE px", "bad_1px": "> 1 px", "edge_mae_px": "edge\nMAE px", "edge_f1": "edge F1", **AFFINE}
_METRICS = (
    "mean absolute error, also within 8 px of edges, and share off by more than 1, in px; boundary F1; AI(1), AI(2), "
    "three rank variants; of a picture in focus everywhere PSNR and SSIM with the sRGB curve, beside those of the "
    "blurred one"
)


@dataclass(frozen=True)
class CameraKind:
    """What one validation set is of."""

    profiles: tuple[str, ...]
    uses: tuple[UseName, ...]
    coc_span_px: tuple[float, float]
    """Log-uniform: between the nearest and the farthest point, in px of the view."""
    focus: tuple[float, float]
    """Where the focus lies between the far end (0) and the near end (1); beyond them outside the scene."""
    exposure: tuple[float, float] = (0.15, 0.9)
    """Log-uniform: of the mean, as a part of white."""
    noise: tuple[float, float] = (0.5, 8.0)
    """Log-uniform factor of the profile's noise variance: ISO."""


KINDS: dict[str, CameraKind] = {
    "phone": CameraKind(("pixel4", "generic-phone"), ("desk", "room", "outdoor"), (2.0, 12.0), (-0.1, 1.1)),
    "fullframe": CameraKind(
        ("canon-r6m2-rf50", "generic-full-frame"), ("desk", "room", "outdoor"), (6.0, 34.0), (0.0, 1.1)
    ),
    "macro": CameraKind(("generic-phone", "generic-full-frame"), ("macro",), (12.0, 60.0), (0.2, 0.9)),
}
SEEDS = {kind: EVALUATION_SEED + 10_000 + 1000 * place for place, kind in enumerate(KINDS)}
_MOST_COC_PX = 36.0
"""Of a scene's blur; the span is shrunk to it."""
_GAIN_SIGMA, _EDGE_SIGMA, _RIM_SIGMA, _OFFSET_SIGMA, _RESIDUAL_SIGMA = 0.15, 0.3, 0.2, 0.1, 0.03
_TILT, _FALLOFF = (-0.2, 0.2), (0.1, 0.55)
_LEAST_NOISE_DN = DnNoise(0.02, 1.0)
"""Of a profile that knows none: exported pictures."""


def rendered(count: int, size_hw: tuple[int, int] = (192, 256), seed: int | None = None) -> list[Pending]:
    """Rendered and augmented scenes that no training has seen, as captures.

    Args:
        count: number of scenes.
        size_hw: (height, width) of each in px, multiples of 32.
        seed: of the set; by default the evaluation seed.
    """
    chosen = EVALUATION_SEED if seed is None else seed

    def load(index: int) -> Sample:
        sample = evaluation_sample(index, size_hw, chosen, sharp=True)
        truth = sample.arrays()["disparity_px"][0]
        sharp = sample.truth["sharp"] * image_gain(sample.truth["combined"])  # as bright as the capture
        picture = np.ascontiguousarray(sharp[0].permute(1, 2, 0).numpy())
        return Sample(_name(index), truth, np.isfinite(truth), capture_of(sample), sharp=picture)

    _check_size(size_hw)
    return [Pending(_name(index), partial(load, index)) for index in range(count)]


def rendered_camera(kind: str, count: int, size_hw: tuple[int, int] = (192, 256)) -> list[Pending]:
    """Scenes of a validation set, each seen by a camera of its own; see the module's text.

    Args:
        kind: a key of ``KINDS``.
        count: number of scenes.
        size_hw: (height, width) of each in px, multiples of 32.
    """
    _check_size(size_hw)
    return [Pending(_name(index), partial(_camera_sample, kind, index, size_hw)) for index in range(count)]


def rendered_protocol(kind: str = "") -> Protocol:
    """The plain set, or one of ``KINDS``, as a protocol; its samples need no folder."""
    name = f"rendered:{kind}" if kind else "rendered"
    seed = SEEDS[kind] if kind else EVALUATION_SEED
    return Protocol(
        name=name,
        title=f"Rendered scenes{f', {kind} cameras as they differ' if kind else ''}",
        takes="pair",
        unit="disparity_px",
        read=lambda folder: (),
        score=pixel_figures,
        columns={**_COLUMNS, **SHARP},
        source=f"this project, seed {seed}",
        layout="no folder: scenes are rendered",
        crop="none",
        mask="all pixels",
        metrics=_METRICS,
        data="made as needed",
        checked_on="itself",
    )


def capture_of(sample: EvalSample) -> DualPixelImage:
    """The linear capture behind network inputs; up to exposure, and to what their encoding clipped, it is the same."""
    zero = torch.zeros(1, 1, 1, 1)
    black = network_inputs(zero, zero, zero)[0][0, 0, 0, 0]
    combined, left, right = (_linear(x, black) for x in sample.inputs)
    # All views of a capture have the same channels; of a colour half the methods take green, which these are.
    return DualPixelImage(left.repeat(3, 2), right.repeat(3, 2), combined, np.zeros(left.shape[:2], np.bool_))


def draw_camera(kind: CameraKind, rng: np.random.Generator) -> tuple[PsfModel, SensorModel]:
    """A camera like one of the kind's profiles: how it splits its aperture at some place, and its sensor."""
    profile = load_profile(kind.profiles[int(rng.integers(len(kind.profiles)))])
    psf = random_psf(profile, rng)
    around = replace(
        psf,
        disparity_gain=min(psf.disparity_gain * math.exp(rng.normal(0, _GAIN_SIGMA)), IDEAL_DISPARITY_GAIN),
        edge_px=float(rng.uniform(0.25, 0.9)),
        edge_relative=max(0.01, psf.edge_relative * math.exp(rng.normal(0, _EDGE_SIGMA))),
        rim=max(-0.8, psf.rim + float(rng.normal(0, _RIM_SIGMA))),
        split_offset=float(np.clip(psf.split_offset + rng.normal(0, _OFFSET_SIGMA), -0.6, 0.6)),
    )
    sensor, variance = sensor_model(profile), math.exp(rng.uniform(*np.log(kind.noise)))
    return around, replace(
        sensor,
        left_noise=_noisier(sensor.left_noise, variance),
        right_noise=_noisier(sensor.right_noise, variance),
        shading=tilted_shading(float(rng.uniform(*_TILT)), float(rng.uniform(*_FALLOFF))),
        tilt_left=float(rng.normal(0, _RESIDUAL_SIGMA)),
    )


def _camera_sample(name: str, index: int, size_hw: tuple[int, int]) -> Sample:
    kind, rng = KINDS[name], np.random.default_rng([SEEDS[name], index])
    psf, sensor = draw_camera(kind, rng)
    span = math.exp(rng.uniform(*np.log(kind.coc_span_px)))
    focus = float(rng.uniform(*kind.focus))
    far, near = span * focus, span * (focus - 1)
    shrink = min(1.0, _MOST_COC_PX / max(abs(far), abs(near)))
    margin = scene_margin_px(shrink * max(abs(far), abs(near)), psf)
    margin += -margin % 8  # even canvas sides: a mosaic needs them, and the FFT is fast
    use = kind.uses[int(rng.integers(len(kind.uses)))]
    scene = make_varied_scene(int(rng.integers(1 << 62)), (size_hw[0] + 2 * margin, size_hw[1] + 2 * margin), use)
    pair = render_scene(scene, shrink * far, shrink * near, psf, margin, quality="exact")
    left, right = (np.maximum(view.permute(1, 2, 0).numpy(), 0) for view in (pair.left, pair.right))
    exposure = math.exp(rng.uniform(*np.log(kind.exposure))) / max(float((left + right).mean()), 1e-4)
    image = expose(left, right, None, sensor, rng, exposure=exposure)
    truth = np.asarray(psf.disparity_gain * pair.coc_px[0].numpy(), np.float32)
    in_focus = np.maximum(scene.all_in_focus()[margin:-margin, margin:-margin], 0)
    sharp = _through(in_focus, sensor, exposure)
    return Sample(_name(index), truth, np.ones(truth.shape, np.bool_), image, group=use, sharp=sharp)


def _through(light: FloatImage, sensor: SensorModel, exposure: float) -> FloatImage:
    """The full-aperture view of a scene without blur, as bright and as shaded as the capture is, without its noise."""
    quiet = replace(sensor, left_noise=DnNoise(), right_noise=DnNoise(), jpeg_quality=None)
    half = light * np.float32(0.5)
    return expose(half, half, None, quiet, np.random.default_rng(0), exposure=exposure).combined


def _noisier(noise: DnNoise, variance: float) -> DnNoise:
    known = noise if noise.shot_dn or noise.read_dn else _LEAST_NOISE_DN
    return DnNoise(known.shot_dn * variance, known.read_dn * math.sqrt(variance))


def _check_size(size_hw: Sequence[int]) -> None:
    if any(side % _MULTIPLE for side in size_hw):
        raise DualpixError(f"rendered scenes of {size_hw[0]} x {size_hw[1]} px", expected=f"multiples of {_MULTIPLE}")


def _name(index: int) -> str:
    return f"{index:03d}"


def _linear(encoded: Tensor, black: Tensor) -> FloatImage:
    """(1, C, H, W) network input to (H, W, C) linear light."""
    return np.asarray(((encoded[0] - black) ** 2).permute(1, 2, 0).contiguous().numpy(), np.float32)
