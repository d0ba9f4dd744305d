"""Scores of networks and of the classical yardstick on data with ground truth, all through one code path.

Convention: every method sees the same decoded capture and gives disparity in pixels of its view
(:mod:`dualpix.models.predict`); the score compares it with the truth inside the window that the truth covers.

The truth of ``pixel4-xin`` is right up to an affine map per scene, so its scores are affine-invariant. That of
``dp119`` is metres: disparities become depth by the camera's profile alone, nothing is fitted to the scene, and errors
of depth come on top. Rendered truth is the disparity itself, so errors in pixels come on top.
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

from dualpix.capture.calibrate.profile import CameraProfile
from dualpix.capture.colour_map import Limits, Panel, Rgb, Scale, default_limits, figure
from dualpix.capture.errors import DualpixError
from dualpix.capture.picture import to_display
from dualpix.capture.profiles import lens_model, load_profile
from dualpix.capture.raw import decode
from dualpix.capture.types import DualPixelImage, FloatImage, LensModel, Mask
from dualpix.models.confidence import CONFIDENT
from dualpix.models.data.rendered import evaluation_set
from dualpix.models.metrics import (
    AffineInvariantScore,
    DepthScore,
    affine_invariant_error,
    bad_pixel_share,
    depth_error,
    mean_absolute_error,
    rank_correlation,
    sparsification,
)
from dualpix.models.predict import DisparityMap, metric_depth
from dualpix.models.prepare import network_inputs
from dualpix.models.tasks.task import EvalSample

Method = Callable[[DualPixelImage], DisparityMap]
_WHITE_SHEETS = ("calibration/white_sheet_left.png", "calibration/white_sheet_right.png")
DP119_PROFILE = "canon-r6m2-rf50"
DP119_RANGE_M = (0.25, 10.0)
"""Depths that the data set's own loader takes; what is outside has no truth, and estimates are clamped to it."""
_DP119_TRUTH = "_depth_mm.png"
_MM_PER_M = 1000
_PANEL_PX = 480
_MEANS = (
    "mae_m", "abs_rel", "rmse_diopters", "clamped", "ai1", "ai2", "one_minus_abs_rho", "one_minus_abs_rho_dense",
    "mae_px", "bad_1px", "ause", "measured",
)  # fmt: skip
P = TypeVar("P", np.float32, np.uint8)


@dataclass(frozen=True)
class MetricTruth:
    """True depth, and the optics that make depth of a method's disparity."""

    depth_m: FloatImage
    """(h, w), from the lens; what it holds where there is no truth does not matter."""
    lens: LensModel
    relative_gain: FloatImage
    """(rows, columns): the camera's gain over the field, as a part of the lens's."""
    range_m: tuple[float, float]
    """Depths that can be; scores clamp estimates to it, those at and beyond infinity to its far end."""

    def depth_of(self, disparity_px: FloatImage) -> FloatImage:
        """Depth (h, w) in m of a disparity (h, w) in px; infinity from the disparity of infinity on."""
        return metric_depth(disparity_px, self.lens, self.relative_gain)


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
    group: str = ""
    """Scenes of one kind, whose means are told apart."""
    metric: MetricTruth | None = None
    """Where depth is known in m; ``target`` is then the defocus in diopters, > 0 behind the focus plane."""

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
    group: str = ""
    depth: DepthScore | None = None
    """Where the truth is in m."""
    ause: float | None = None
    """Of the confidence, where there is one: area under the sparsification error, of the error in px where the truth
    is, in diopters where it is in m, else after the affine fit; as a part of the mean error."""
    measured: float | None = None
    """Share of the pixels with a truth whose confidence is at least 0.5."""

    def to_json(self) -> dict[str, Any]:
        """A flat dictionary; the figures of depth are there where the truth is in m."""
        flat = asdict(self)
        return {**flat.pop("affine"), **(flat.pop("depth") or {}), **flat}


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


def dp119(folder: Path) -> Iterator[Scene]:
    """Scenes in the form of DP119 (Li et al., "Simulating Dual-Pixel Images From Ray Tracing", ICCV 2025).

    Exports of a Canon R6 Mark II with an RF50 at f/4, focused at 1 m. Disparity becomes depth by the profile that ships
    (``DP119_PROFILE``), its gain over the field included, with nothing fitted to a scene. A scene's group is its name
    up to the last "_".

    Args:
        folder: holds ``NAME_l.png``, ``NAME_r.png`` and ``NAME_depth_mm.png`` (16 bits, mm, 0 where unknown).

    Raises:
        DualpixError: no scene is there, or a file is missing or damaged.
    """
    truths = sorted(folder.glob(f"*{_DP119_TRUTH}"))
    if not truths:
        raise DualpixError(
            f"'{folder}' holds no scene with ground truth", expected="NAME_l.png, NAME_r.png and NAME_depth_mm.png"
        )
    profile = load_profile(DP119_PROFILE)
    for path in truths:
        name = path.name.removesuffix(_DP119_TRUTH)
        image = decode(path.with_name(f"{name}_l.png"))
        depth_m = _read_depth(path, image.size_hw)
        metric = _metric_truth(profile, depth_m)
        valid: Mask = (depth_m >= DP119_RANGE_M[0]) & (depth_m < DP119_RANGE_M[1])
        defocus = 1 / metric.lens.focus_distance_m - 1 / np.maximum(depth_m, DP119_RANGE_M[0])
        group = name.rpartition("_")[0]
        yield Scene(name, image, defocus.astype(np.float32), valid, in_pixels=False, group=group, metric=metric)


def rendered(count: int, size_hw: tuple[int, int] = (192, 256), seed: int | None = None) -> Iterator[Scene]:
    """Rendered and augmented scenes that no training has seen, as captures.

    Args:
        count: number of scenes.
        size_hw: (height, width) of each in px, multiples of 32.
        seed: of the set; by default the evaluation seed.
    """
    samples = evaluation_set(count, size_hw) if seed is None else evaluation_set(count, size_hw, seed)
    for index, sample in enumerate(samples):
        truth = sample.arrays()["disparity_px"][0]
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
        known = [name for name in _MEANS if rows[0].get(name) is not None]
        means[method] = {name: float(np.mean([row[name] for row in rows])) for name in known}
    return means


def group_means(scores: Sequence[SceneScore]) -> dict[str, dict[str, dict[str, float]]]:
    """:func:`mean_scores` of each group of scenes, where there are groups."""
    groups = dict.fromkeys(score.group for score in scores if score.group)
    return {group: mean_scores([score for score in scores if score.group == group]) for group in groups}


def comparison_picture(scene: Scene, results: Sequence[Evaluated]) -> Rgb:
    """Input, truth and every method side by side on one scale; affine truths are compared after the robust fit."""
    truth, scale, unit = _shown_truth(scene)
    limits = default_limits(truth, scene.valid, scale)
    panels = [
        Panel(f"{scene.name}: full aperture", scene.window(to_display(scene.image.combined))),
        Panel("ground truth", truth, scale, unit, scene.valid, limits),
    ]
    panels += [_shown_result(scene, result, scale, unit, limits) for result in results]
    return figure(panels, panel_px=_PANEL_PX)


def _shown_truth(scene: Scene) -> tuple[FloatImage, Scale, str]:
    if scene.metric is not None:
        return scene.metric.depth_m, "depth", "m"
    return (scene.target, "diverging", "px") if scene.in_pixels else (scene.target, "sequential", "")


def _shown_result(scene: Scene, result: Evaluated, scale: Scale, unit: str, limits: Limits) -> Panel:
    found, score = scene.window(result.disparity.disparity_px), result.score
    if scene.metric is not None and score.depth is not None:
        error, shown = f"MAE {score.depth.mae_m:.2f} m", scene.metric.depth_of(found)
    elif scene.in_pixels:
        error, shown = f"MAE {score.mae_px:.2f} px", found
    else:
        fit = score.affine
        error, shown = f"AI(1) {fit.ai1:.3f}", np.asarray(fit.scale * found + fit.offset, np.float32)
    return Panel(f"{score.method}: {error}", shown, scale, unit, None, limits)


def _score(scene: Scene, name: str, result: DisparityMap) -> Evaluated:
    found, target, valid = scene.window(result.disparity_px), scene.target, scene.valid
    affine = affine_invariant_error(found, target, valid)
    ause = measured = None
    if result.judgement is not None:
        confidence = scene.window(result.judgement.confidence)
        measured = float((confidence[valid] >= CONFIDENT).mean())
        ause = _ause(_errors(scene, found, affine), confidence, valid)
    return Evaluated(
        SceneScore(
            scene.name,
            name,
            affine,
            1.0 - abs(rank_correlation(found, target, valid, ties="dense")),
            mean_absolute_error(found, target, valid) if scene.in_pixels else None,
            bad_pixel_share(found, target, valid, threshold=1.0) if scene.in_pixels else None,
            scene.group,
            _depth_score(scene.metric, found, valid) if scene.metric is not None else None,
            ause,
            measured,
        ),
        result,
    )


def _errors(scene: Scene, found: FloatImage, affine: AffineInvariantScore) -> npt.NDArray[np.float64]:
    """Of each pixel: in diopters, in px, or in units of the target after the affine fit."""
    if scene.metric is not None:
        with np.errstate(divide="ignore"):
            diopters = 1 / scene.metric.depth_of(found).astype(np.float64) - 1 / scene.metric.depth_m.astype(np.float64)
        return np.asarray(np.abs(diopters))
    fitted = found if scene.in_pixels else affine.scale * found + affine.offset
    return np.abs(np.asarray(fitted, np.float64) - scene.target)


def _ause(error: npt.NDArray[np.float64], confidence: FloatImage, valid: Mask) -> float:
    """0 where there is no error at all."""
    wrong = error[valid & np.isfinite(error)]
    return sparsification(error, confidence, valid).ause if wrong.sum() > 0 else 0.0


def _depth_score(truth: MetricTruth, found_px: FloatImage, valid: Mask) -> DepthScore:
    return depth_error(truth.depth_of(found_px), truth.depth_m, valid, range_m=truth.range_m)


def _metric_truth(profile: CameraProfile, depth_m: FloatImage) -> MetricTruth:
    """Depth (h, w) of a whole view of the profile's camera, at whatever size."""
    width, gain = depth_m.shape[1], profile.gain
    if gain is None or gain.pixel_pitch_um is None:
        raise DualpixError("the profile has no gain of planes at known distance", hint="dualpix calibrate gain")
    lens = lens_model(profile, pixel_pitch_um=gain.pixel_pitch_um * gain.view_width_px / width)
    return MetricTruth(depth_m, lens, gain.relative, DP119_RANGE_M)


def _read_depth(path: Path, size_hw: tuple[int, int]) -> FloatImage:
    depth_mm = cv2.imread(str(path), cv2.IMREAD_UNCHANGED)
    if depth_mm is None or depth_mm.ndim != 2 or depth_mm.dtype != np.uint16:
        raise DualpixError(f"'{path.name}' is not a depth map", expected="a 16-bit gray PNG in mm")
    if depth_mm.shape != size_hw:
        raise DualpixError(f"'{path.name}' is {depth_mm.shape} (h, w)", expected=f"the view's {size_hw}")
    return depth_mm.astype(np.float32) / np.float32(_MM_PER_M)


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
