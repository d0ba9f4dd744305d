"""Rendered captures by which confidence is calibrated and checked: with exact truth, and as poor as captures can be.

Convention: as :mod:`dualpix.models.data.rendered`. No seed of these is one of training, of the evaluation set, or of
the calibration of quantisation. Two in three scenes are as in evaluation; a quarter have lost contrast, down to a
hundredth (haze, veiling glare, faint texture: an affine map of light, which no disparity feels); one in ten is flat, a
grey card with nothing to see but noise, at the disparities of any scene. One in twenty is striped, the same along the
whole baseline, and one in twelve displaced: its halves lie 4 to 16 px farther apart, sharp as they are, as no lens
makes them. Of these a network that learnt from lenses alone knows nothing, least of all that it does not.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
import torch

from dualpix.capture.types import DualPixelImage, FloatImage
from dualpix.models.data.rendered import EVALUATION_SEED, AugmentedDataset, RenderedDataset, RenderSettings
from dualpix.models.evaluate.rendered_pairs import capture_of
from dualpix.models.tasks.dual_pixel import DUAL_PIXEL
from dualpix.models.tasks.task import Sample, eval_sample

Kind = Literal["plain", "faded", "flat", "striped", "displaced"]
FIT_SEED, TABLE_SEED, CHECK_SEED = (EVALUATION_SEED + k for k in (1000, 2000, 3000))
"""Of the weights, of the table, and of what neither has seen."""
SIZES_HW = ((192, 256), (384, 512), (576, 768))
_FADED, _FLAT, _STRIPED, _DISPLACED = 0.25, 0.1, 0.05, 0.08
_HALF_STEPS_PX = (2, 8)
"""How far each half of a displaced capture is moved."""
_LEAST_CONTRAST = 0.01


@dataclass(frozen=True)
class ValidationScene:
    """A capture with its truth."""

    name: str
    kind: Kind
    image: DualPixelImage
    disparity_px: FloatImage
    """(H, W)"""


def validation_scenes(seed: int, counts: Sequence[int]) -> Iterator[ValidationScene]:
    """Scenes of every size in ``SIZES_HW``, half of simple scenes, half of varied ones through measured cameras.

    Args:
        seed: one of the above.
        counts: of scenes of each size and of each of the two sorts.
    """
    cameras = RenderSettings(scenes="varied", quality="exact", optics="cameras")
    for sort, settings in {"simple": RenderSettings(), "cameras": cameras}.items():
        for index, (size_hw, count) in enumerate(zip(SIZES_HW, counts, strict=True)):
            clean = _Poor(count, settings=replace(settings, size_hw=size_hw), seed=seed + index)
            augmented = AugmentedDataset(clean)
            for number in range(count):
                sample = eval_sample(DUAL_PIXEL, augmented[0, number])
                name = f"{sort} {size_hw[1]}x{size_hw[0]} {number:03d}"
                truth = sample.arrays()["disparity_px"][0]
                yield ValidationScene(name, clean.kind_of(number)[0], capture_of(sample), truth)


class _Poor(RenderedDataset):
    """Some of whose samples show less than a lens and a scene would give, or nothing, or what no lens makes."""

    def kind_of(self, index: int) -> tuple[Kind, float]:
        """Of a sample, and its contrast."""
        drawn, strength = np.random.default_rng([self.seed, index, 1]).random(2)
        if drawn < _FLAT:
            return "flat", 0.0
        if drawn < _FLAT + _FADED:
            return "faded", float(_LEAST_CONTRAST**strength)
        if drawn < 1 - _STRIPED - _DISPLACED:
            return "plain", 1.0
        return ("striped" if drawn < 1 - _DISPLACED else "displaced"), 1.0

    def __getitem__(self, index: int) -> Sample:
        """Sample ``index``."""
        sample, (kind, contrast) = super().__getitem__(index), self.kind_of(index)
        if kind == "displaced":
            return sample | self._displaced(sample, index)
        mean_of: int | tuple[int, int] = -1 if kind == "striped" else (-2, -1)
        kept = 0.0 if kind == "striped" else contrast
        changed = {
            name: sample[name].mean(mean_of, keepdim=True) * (1 - kept) + sample[name] * kept
            for name in ("left", "right", "combined")
        }
        return sample | changed

    def _displaced(self, sample: Sample, index: int) -> Sample:
        """Each half moved the other way, and the truth with them; around the picture, where it comes in again."""
        draw = np.random.default_rng([self.seed, index, 2])
        step = int(draw.integers(*_HALF_STEPS_PX, endpoint=True)) * (1 if draw.random() < 0.5 else -1)
        left, right = torch.roll(sample["left"], -step, -1), torch.roll(sample["right"], step, -1)
        return {
            "left": left,
            "right": right,
            "combined": (torch.roll(sample["combined"], -step, -1) + torch.roll(sample["combined"], step, -1)) / 2,
            "disparity_px": sample["disparity_px"] + 2 * step,
        }
