"""DDFF-12 in the form of DFV: Yang et al., "Deep Depth from Focus with Differential Focus Volume", CVPR 2022.

Convention: disparity of the light field camera in px between neighbouring views, f b / depth, with f = 521.4052 px and
b = 0.27088 mm; focus is given in the same unit.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from pathlib import Path

import numpy as np

from dualpix.capture.arrays.hdf5 import open_hdf5
from dualpix.capture.errors import DualpixError
from dualpix.capture.types import FloatImage
from dualpix.models.evaluate.figures import bumpiness, checked, depth_figures, ratio_figures
from dualpix.models.evaluate.files import focus_stack
from dualpix.models.evaluate.protocol import Figures, Pending, Protocol, contents, wrong_unit
from dualpix.models.evaluate.sample import Prediction, Sample

FOCAL_PX, BASELINE_M = 521.4052, 2.7088e-4
_FILES = ("my_ddff_trainVal.h5", "dfv_trainVal.h5")
_STACK, _TRUTH = "stack_val", "disp_val"
_LAYOUT = "my_ddff_trainVal.h5 (or dfv_trainVal.h5) with stack_val (N, 10, H, W, 3) and disp_val (N, H, W)"
_FOCUS = np.linspace(0.28, 0.02, 10)
_CHOSEN = np.linspace(0, 9, 5).astype(int)
"""0 2 4 6 9: the fractions are cut off when they index."""
_RANGE_M = (0.05, 100.0)


def _read(folder: Path) -> Sequence[Pending]:
    candidates = [folder] if folder.is_file() else [folder / name for name in _FILES]
    path = next((candidate for candidate in candidates if candidate.is_file()), None)
    if path is None:
        raise DualpixError(f"'{folder}' holds no file of DDFF-12 ({contents(folder)})", expected=_LAYOUT)
    with open_hdf5(path) as file:
        stacks, truths = file.array(_STACK, (5,)), file.array(_TRUTH, (3,))
        if stacks.shape[:1] + stacks.shape[2:4] != truths.shape or stacks.shape[1:5:3] != (10, 3):
            raise DualpixError(f"'{path.name}' has {_STACK} {stacks.shape}, {_TRUTH} {truths.shape}", expected=_LAYOUT)
        count = stacks.shape[0]
    return [Pending(f"{index:03d}", partial(_load, path, index)) for index in range(count)]


def _load(path: Path, index: int) -> Sample:
    with open_hdf5(path) as file:
        frames = np.asarray(file.array(_STACK, (5,)).read(index), np.float32)[_CHOSEN] / np.float32(255)
        truth = np.asarray(file.array(_TRUTH, (3,)).read(index), np.float32)
    stack = focus_stack(frames, FOCAL_PX * BASELINE_M / _FOCUS[_CHOSEN])
    return Sample(f"{index:03d}", truth, np.asarray(np.isfinite(truth) & (truth > 0)), stack=stack)


def _disparity(values: FloatImage) -> FloatImage:
    """Between disparity in px and depth in m, either way; 0 of infinity."""
    with np.errstate(divide="ignore"):
        return np.asarray(FOCAL_PX * BASELINE_M / values, np.float32)


def _score(sample: Sample, prediction: Prediction) -> Figures:
    if prediction.unit not in ("depth_m", "light_field_disparity_px"):
        raise wrong_unit(prediction, "disparity of the light field in px, or depth_m")
    values = checked(sample.on_truth(prediction.values), sample.valid, sample.name, infinite=True)
    found = _disparity(values) if prediction.unit == "depth_m" else values
    depth_m = _disparity(np.maximum(found, np.float32(1e-6)))
    metric = depth_figures(depth_m, _disparity(sample.truth), sample.valid, _RANGE_M)
    renamed = {f"depth_{name}" if name in ("abs_rel", "sq_rel", "rmse_log") else name: v for name, v in metric.items()}
    bump = bumpiness(np.where(np.isfinite(found), found, 0), sample.truth, sample.valid)
    return {**renamed, **ratio_figures(found, sample.truth, sample.valid), "bumpiness": bump}


PROTOCOL = Protocol(
    name="ddff12",
    title="DDFF-12 validation, DFV form",
    takes="stack",
    unit="light_field_disparity_px",
    read=_read,
    score=_score,
    columns={
        "mse": "MSE",
        "rmse": "RMS",
        "rmse_log": "logRMS",
        "abs_rel": "AbsRel",
        "sq_rel": "SqRel",
        "d1": "δ1",
        "bumpiness": "bump",
        "mae_diopters": "MAE 1/m",
    },
    source="github.com/fuy34/DFV, eval_DDFF12.py and dataloader/DDFF12.py",
    layout=_LAYOUT,
    crop="none: 383 x 552 (theirs pads to 384 x 576 by reflection for the network, and cuts back)",
    mask="truth above 0",
    metrics="of disparity, per stack, then mean: MSE, RMS, logRMS, AbsRel, SqRel, δ 1.25^1..3, bumpiness; "
    "5 of 10 frames, numbers 0 2 4 6 9 of focus .28 ... .02 px",
    data="12.6 GB, by the README of DFV; licence of the data not found (toolbox: GPL-3)",
    assumptions=(
        "Scharr's derivatives reflect at the border, as in scikit-image from 0.18 on",
        "a prediction at or below 0 is near no truth; with theirs a negative one counts as near",
        "depth in m is f b / disparity; its errors are not in the paper",
    ),
)
