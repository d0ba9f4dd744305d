"""Scores of networks and of the classical yardstick on data with ground truth, all through one code path.

Convention: every method sees the same decoded capture and gives disparity in pixels of its view
(:mod:`dualpix.models.predict`); the score compares it with the truth inside the window that the truth covers.

Real truth (``pixel4-xin``) is right up to an affine map per scene, so its scores are affine-invariant; rendered truth
is the disparity itself, so errors in pixels come on top.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, TypeVar

import cv2
import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from dualpix.capture.colour_map import Panel, Rgb, Scale, default_limits, figure
from dualpix.capture.errors import DualpixError
from dualpix.capture.picture import to_display
from dualpix.capture.raw import decode
from dualpix.capture.types import DualPixelImage, FloatImage, Mask
from dualpix.models.data.rendered import EvalSample, evaluation_set
from dualpix.models.metrics import (
    AffineInvariantScore,
    affine_invariant_error,
    bad_pixel_share,
    mean_absolute_error,
    rank_correlation,
)
from dualpix.models.predict import DisparityMap
from dualpix.models.prepare import network_inputs

Method = Callable[[DualPixelImage], DisparityMap]
_WHITE_SHEETS = ("calibration/white_sheet_left.png", "calibration/white_sheet_right.png")
_PANEL_PX = 480
P = TypeVar("P", np.float32, np.uint8)


@dataclass(frozen=True)
class Scene:
    """A capture with its ground truth."""

    name: str
    image: DualPixelImage
    target: FloatImage
    """(h, w), covering the central h x w pixels of the view."""
    valid: Mask
    """(h, w): where there is a truth."""
    in_pixels: bool
    """True where ``target`` is the disparity in pixels of the view; else it is known up to an affine map."""

    def window(self, view: npt.NDArray[P]) -> npt.NDArray[P]:
        """The part of a map of the view's size that the truth covers."""
        (height, width), (h, w) = view.shape[:2], self.target.shape
        top, left = (height - h) // 2, (width - w) // 2
        return view[top : top + h, left : left + w]


@dataclass(frozen=True)
class SceneScore:
    """One method on one scene; ``nan`` is never a value here."""

    scene: str
    method: str
    affine: AffineInvariantScore
    one_minus_abs_rho_dense: float
    """As ``affine.one_minus_abs_rho`` but with dense ranks, which some papers print."""
    mae_px: float | None
    """Mean absolute error in pixels, where the truth is in pixels."""
    bad_1px: float | None
    """Share of pixels off by more than one, likewise."""

    def to_json(self) -> dict[str, Any]:
        """A flat dictionary."""
        flat = asdict(self)
        return {**flat.pop("affine"), **flat}


@dataclass(frozen=True)
class Evaluated:
    """A score with the map it belongs to, for pictures."""

    score: SceneScore
    disparity: DisparityMap


def pixel4_xin(folder: Path) -> Iterator[Scene]:
    """The scenes of Xin et al., "Defocus Map Estimation and Deblurring from a Single Dual-Pixel Image", ICCV 2021.

    Protocol: halves flat-fielded by the white sheets, highlights unclipped; ``NNN_gt_defocus.png`` / 255 with 0 taken
    as no truth, covering the centre of the view.

    Args:
        folder: holds ``NNN_left.png``, ``NNN_right.png``, ``NNN_gt_defocus.png`` and ``calibration/white_sheet_*.png``.

    Raises:
        DualpixError: no scene is there, or a file is missing or damaged.
    """
    lefts = sorted(p for p in folder.glob("*_left.png") if _truth_of(p).is_file())
    sheets = (folder / _WHITE_SHEETS[0], folder / _WHITE_SHEETS[1])
    missing = [p.relative_to(folder).as_posix() for p in sheets if not p.is_file()]
    if not lefts or missing:
        what = f"lacks {' and '.join(missing)}" if missing else "holds no scene with ground truth"
        expected = "NNN_{left,right,gt_defocus}.png and calibration/white_sheet_{left,right}.png"
        raise DualpixError(f"'{folder}' {what}", expected=expected)
    for left in lefts:
        image = decode(left, flat_field=sheets)
        truth = _read_truth(_truth_of(left), image.size_hw)
        yield Scene(left.stem.removesuffix("_left"), image, truth, truth > 0, in_pixels=False)


def rendered(count: int, size_hw: tuple[int, int] = (192, 256), seed: int | None = None) -> Iterator[Scene]:
    """Rendered and augmented scenes that no training has seen, as captures.

    Args:
        count: number of scenes.
        size_hw: (height, width) of each in px, multiples of 32.
        seed: of the set; by default the evaluation seed.
    """
    samples = evaluation_set(count, size_hw) if seed is None else evaluation_set(count, size_hw, seed)
    for index, sample in enumerate(samples):
        truth = sample.disparity_px[0, 0].numpy()
        yield Scene(f"{index:03d}", capture_of(sample), truth, np.isfinite(truth), in_pixels=True)


def capture_of(sample: EvalSample) -> DualPixelImage:
    """The linear capture behind network inputs; up to exposure, and to what their encoding clipped, it is the same."""
    zero = torch.zeros(1, 1, 1, 1)
    black = network_inputs(zero, zero, zero)[0][0, 0, 0, 0]
    combined, left, right = (_linear(x, black) for x in sample.inputs)
    # All views of a capture have the same channels; of a colour half the methods take green, which these are.
    return DualPixelImage(left.repeat(3, 2), right.repeat(3, 2), combined, np.zeros(left.shape[:2], np.bool_))


def evaluate(scenes: Iterable[Scene], methods: dict[str, Method]) -> Iterator[tuple[Scene, list[Evaluated]]]:
    """Score every method on every scene, one scene at a time.

    Raises:
        DualpixError: a capture cannot be predicted or has no truth.
    """
    for scene in scenes:
        yield scene, [_score(scene, name, method(scene.image)) for name, method in methods.items()]


def mean_scores(scores: Sequence[SceneScore]) -> dict[str, dict[str, float]]:
    """Mean over the scenes of each figure, by method."""
    means: dict[str, dict[str, float]] = {}
    for method in dict.fromkeys(s.method for s in scores):
        rows = [s.to_json() for s in scores if s.method == method]
        names = ("ai1", "ai2", "one_minus_abs_rho", "one_minus_abs_rho_dense", "mae_px", "bad_1px")
        means[method] = {n: float(np.mean([r[n] for r in rows])) for n in names if rows[0][n] is not None}
    return means


def comparison_picture(scene: Scene, results: Sequence[Evaluated]) -> Rgb:
    """Input, truth and every method side by side on one scale; affine truths are compared after the robust fit."""
    scale: Scale = "diverging" if scene.in_pixels else "sequential"
    unit = "px" if scene.in_pixels else ""
    limits = default_limits(scene.target, scene.valid, scale)
    panels = [
        Panel(f"{scene.name}: full aperture", scene.window(to_display(scene.image.combined))),
        Panel("ground truth", scene.target, scale, unit, scene.valid, limits),
    ]
    for result in results:
        found, fit = scene.window(result.disparity.disparity_px), result.score.affine
        shown = found if scene.in_pixels else np.asarray(fit.scale * found + fit.offset, np.float32)
        error = f"MAE {result.score.mae_px:.2f} px" if scene.in_pixels else f"AI(1) {fit.ai1:.3f}"
        panels.append(Panel(f"{result.score.method}: {error}", shown, scale, unit, None, limits))
    return figure(panels, panel_px=_PANEL_PX)


def _score(scene: Scene, name: str, result: DisparityMap) -> Evaluated:
    found, target, valid = scene.window(result.disparity_px), scene.target, scene.valid
    return Evaluated(
        SceneScore(
            scene.name,
            name,
            affine_invariant_error(found, target, valid),
            1.0 - abs(rank_correlation(found, target, valid, ties="dense")),
            mean_absolute_error(found, target, valid) if scene.in_pixels else None,
            bad_pixel_share(found, target, valid, threshold=1.0) if scene.in_pixels else None,
        ),
        result,
    )


def _truth_of(left: Path) -> Path:
    return left.with_name(left.stem.removesuffix("_left") + "_gt_defocus.png")


def _read_truth(path: Path, size_hw: tuple[int, int]) -> FloatImage:
    codes = cv2.imread(str(path), cv2.IMREAD_UNCHANGED)
    if codes is None or codes.ndim != 2 or codes.dtype != np.uint8:
        raise DualpixError(f"'{path.name}' is not a defocus map", expected="an 8-bit gray PNG")
    if codes.shape[0] > size_hw[0] or codes.shape[1] > size_hw[1]:
        raise DualpixError(f"'{path.name}' is {codes.shape} (h, w)", expected=f"at most the view's {size_hw}")
    return codes.astype(np.float32) / np.float32(255)


def _linear(encoded: Tensor, black: Tensor) -> FloatImage:
    """(1, C, H, W) network input to (H, W, C) linear light."""
    return np.asarray(((encoded[0] - black) ** 2).permute(1, 2, 0).contiguous().numpy(), np.float32)
