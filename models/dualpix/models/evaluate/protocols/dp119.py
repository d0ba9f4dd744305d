"""DP119: Li et al., "Simulating Dual-Pixel Images From Ray Tracing For Depth Estimation", ICCV 2025.

Exports of a Canon R6 Mark II with an RF50 at f/4, focused at 1 m. Disparity becomes depth by the profile that ships
(``PROFILE``), its gain over the field included, with nothing fitted to a scene.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from pathlib import Path

import cv2
import numpy as np

from dualpix.capture.errors import DualpixError
from dualpix.capture.profiles import lens_model, load_profile
from dualpix.capture.raw import decode
from dualpix.capture.types import FloatImage
from dualpix.models.confidence import CONFIDENT
from dualpix.models.evaluate.depth_maps import depth_on_truth
from dualpix.models.evaluate.figures import AFFINE, affine_figures, checked, confidence_figures, depth_figures
from dualpix.models.evaluate.protocol import Figures, Pending, Protocol, check_found
from dualpix.models.evaluate.sample import MetricTruth, Prediction, Sample

PROFILE = "canon-r6m2-rf50"
RANGE_M = (0.25, 10.0)
"""Depths that the data set's own loader takes; what is outside has no truth, and estimates are clamped to it."""
_TRUTH = "_depth_mm.png"
_LAYOUT = "NAME_l.png, NAME_r.png and NAME_depth_mm.png, or as published: .../ID/{l,r,d}.png and flat/MM/f4/{l,r}.*"
_FULL_SCALE_M = 10.0  # of an 8-bit depth


def _read(folder: Path) -> Sequence[Pending]:
    pending = [
        Pending(path.name.removesuffix(_TRUTH), partial(_load, folder, path.with_name(_beside(path, "l")), path))
        for path in sorted(folder.glob(f"*{_TRUTH}"))
    ]
    for truth in sorted(folder.rglob("d.png")):
        lefts = sorted(truth.parent.glob("l.*"))
        if lefts:
            name = truth.parent.relative_to(folder).as_posix()
            pending.append(Pending(name, partial(_load, folder, lefts[0], truth)))
    for left in sorted(folder.rglob("flat/*/f4/l.*")):
        if left.parent.parent.name.isdecimal():  # infinity has no depth in the range
            pending.append(
                Pending(left.parent.parent.relative_to(folder).as_posix(), partial(_load, folder, left, None))
            )
    return check_found(pending, folder, _LAYOUT)


def _beside(truth: Path, half: str) -> str:
    return truth.name.removesuffix(_TRUTH) + f"_{half}.png"


def _load(folder: Path, left: Path, truth: Path | None) -> Sample:
    image = decode(left)
    if truth is None:
        place = left.parent.parent
        depth_m = np.full(image.size_hw, float(place.name) / 1000, np.float32)
        name, group = place.relative_to(folder).as_posix(), "flat"
    elif truth.name == "d.png":
        name = truth.parent.relative_to(folder).as_posix()
        depth_m, group = _read_depth(truth, image.size_hw), name.rpartition("/")[0]
    else:
        name = truth.name.removesuffix(_TRUTH)
        depth_m, group = _read_depth(truth, image.size_hw), name.rpartition("_")[0]
    valid = np.asarray((depth_m >= RANGE_M[0]) & (depth_m < RANGE_M[1]))
    return Sample(name, depth_m, valid, image, group=group, metric=_metric_truth(depth_m))


def _read_depth(path: Path, size_hw: tuple[int, int]) -> FloatImage:
    """Depth in m: mm of 16 bits, or tenths of 10 m of 8 bits, as the published files have it."""
    codes = cv2.imread(str(path), cv2.IMREAD_UNCHANGED)
    eight_bits = path.name == "d.png" and codes is not None and codes.dtype == np.uint8
    if codes is not None and codes.ndim == 3 and eight_bits:
        codes = codes[..., 0]
    if codes is None or codes.ndim != 2 or not (codes.dtype == np.uint16 or eight_bits):
        raise DualpixError(f"'{path.name}' is not a depth map", expected="a 16-bit gray PNG in mm")
    if codes.shape != size_hw:
        raise DualpixError(f"'{path.name}' is {codes.shape} (h, w)", expected=f"the view's {size_hw}")
    if eight_bits:
        return codes.astype(np.float32) * np.float32(_FULL_SCALE_M / 255)
    return codes.astype(np.float32) / np.float32(1000)


def _metric_truth(depth_m: FloatImage) -> MetricTruth:
    """Depth (h, w) of a whole view of the profile's camera, at whatever size."""
    profile, width = load_profile(PROFILE), depth_m.shape[1]
    gain = profile.gain
    if gain is None or gain.pixel_pitch_um is None:
        raise DualpixError("the profile has no gain of planes at known distance", hint="dualpix calibrate gain")
    lens = lens_model(profile, pixel_pitch_um=gain.pixel_pitch_um * gain.view_width_px / width)
    return MetricTruth(depth_m, lens, gain.relative, RANGE_M)


def defocus_diopters(sample: Sample) -> FloatImage:
    """(h, w): what the disparity is proportional to, > 0 behind the focus plane."""
    assert sample.metric is not None  # noqa: S101 - every sample of this data has it
    return np.asarray(1 / sample.metric.lens.focus_distance_m - 1 / np.maximum(sample.truth, RANGE_M[0]), np.float32)


def _score(sample: Sample, prediction: Prediction) -> Figures:
    valid, target = sample.valid, defocus_diopters(sample)
    depth_m = checked(depth_on_truth(sample, prediction), valid, sample.name, infinite=True)
    if prediction.unit == "depth_m":
        found = np.asarray(-1 / np.clip(depth_m, *RANGE_M), np.float32)
    else:
        found = sample.on_truth(prediction.values)
    confidence = None if prediction.confidence is None else sample.on_truth(prediction.confidence)
    with np.errstate(divide="ignore"):
        error = np.abs(1 / depth_m.astype(np.float64) - 1 / sample.truth.astype(np.float64))
    flat = float(np.ptp(target[valid])) == 0
    return {
        **(dict.fromkeys(affine_figures(target, target, valid)) if flat else affine_figures(found, target, valid)),
        **depth_figures(depth_m, sample.truth, valid, RANGE_M),
        "mae_px": None,
        "bad_1px": None,
        **confidence_figures(np.asarray(error), confidence, valid, CONFIDENT),
    }


PROTOCOL = Protocol(
    name="dp119",
    title="DP119: Canon R6 Mark II, RF50 f/4 focused at 1 m, Li et al. 2025",
    takes="pair",
    unit="depth_m",
    read=_read,
    score=_score,
    columns={"mae_m": "MAE m", "abs_rel": "AbsRel", "rmse_diopters": "RMSE 1/m", **AFFINE},
    source="Li et al., ICCV 2025; github.com/LinYark/Sdirt, dfdp/dataset.py and metrics.py",
    layout=_LAYOUT,
    crop="none: 512 x 768",
    mask="0.25 m <= depth < 10 m",
    metrics="MAE in m, AbsRel, RMSE of 1/m, all without a fit; AI(1), AI(2) and ranks of the disparity",
    data="part in real_sample_set of github.com/LinYark/Sdirt, MIT; the whole by its README",
    checked_on="7 scenes: 3 box, 2 iphone, 2 orbbec",
    assumptions=(
        "depth nearer than 0.25 m is left out (the authors clip it in training, and take all above 0 in tests)",
        "estimates are clamped to 0.25 ... 10 m",
        "planes at infinity are left out",
    ),
)
