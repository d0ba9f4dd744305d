"""FoD500: synthetic stacks of DefocusNet (Maximov et al., CVPR 2020), scored as DFV (Yang et al., CVPR 2022) does."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from pathlib import Path

import numpy as np

from dualpix.capture.errors import DualpixError
from dualpix.models.evaluate.depth_maps import depth_on_truth
from dualpix.models.evaluate.figures import bumpiness, checked, depth_figures, ratio_figures
from dualpix.models.evaluate.files import MAP_SUFFIXES, focus_stack, read_colour, read_map
from dualpix.models.evaluate.protocol import Figures, Pending, Protocol, check_found
from dualpix.models.evaluate.sample import Prediction, Sample

FOCUS_M = (0.1, 0.15, 0.3, 0.7, 1.5)
FOCAL_MM, F_NUMBER, SENSOR_MM = 2.9, 1.0, 3.1
_FIRST = 400
"""Of the last 100 of 500, which are not for training."""
_MOST_M = 1.5
_LEAST_M = 1e-3
_LAYOUT = "[fs_6/]NNNNNN_*All.tif, five a scene in the order of focus, and NNNNNNDpt.exr; scenes from 400 on are scored"


def _read(folder: Path) -> Sequence[Pending]:
    root = folder / "fs_6" if (folder / "fs_6").is_dir() else folder
    pending = []
    for truth in sorted(path for path in root.glob("*Dpt.*") if path.suffix.lower() in MAP_SUFFIXES):
        number = truth.name[:6]
        if number.isdecimal() and int(number) >= _FIRST:
            pending.append(Pending(number, partial(_load, number, truth)))
    return check_found(pending, folder, _LAYOUT)


def _load(number: str, path: Path) -> Sample:
    files = sorted(path.parent.glob(f"{number}*All.tif"))
    if len(files) != len(FOCUS_M):
        raise DualpixError(f"scene {number} has {len(files)} frames", expected=f"{len(FOCUS_M)}: {number}*All.tif")
    truth = np.asarray(read_map(path), np.float32)
    if truth.ndim != 2:
        raise DualpixError(f"'{path.name}' has {truth.shape[2]} channels", expected="one depth per pixel, in m")
    frames = [read_colour(file) for file in files]
    for file, frame in zip(files, frames, strict=True):
        if frame.shape[:2] != truth.shape:
            raise DualpixError(f"'{file.name}' is {frame.shape[:2]} (h, w)", expected=f"{truth.shape} as '{path.name}'")
    clipped = np.clip(truth, 0, np.float32(_MOST_M))
    pitch_um = SENSOR_MM * 1000 / max(truth.shape)
    stack = focus_stack(
        np.stack(frames),
        FOCUS_M,
        names=tuple(file.name for file in files),
        focal_length_mm=FOCAL_MM,
        f_number=F_NUMBER,
        pixel_pitch_um=pitch_um,
    )
    return Sample(number, clipped, np.asarray(clipped > 0), stack=stack)


def _score(sample: Sample, prediction: Prediction) -> Figures:
    found = checked(depth_on_truth(sample, prediction), sample.valid, sample.name, infinite=True)
    clipped = np.clip(found, 0, np.float32(_MOST_M))
    figures = depth_figures(found, np.maximum(sample.truth, _LEAST_M), sample.valid, (_LEAST_M, _MOST_M))
    return {
        **figures,
        **ratio_figures(clipped, sample.truth, sample.valid),
        "bumpiness": bumpiness(clipped, sample.truth, sample.valid),
    }


PROTOCOL = Protocol(
    name="fod500",
    title="FoD500 (DefocusNet), last 100 stacks, DFV form",
    takes="stack",
    unit="depth_m",
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
    source="github.com/fuy34/DFV, eval_FoD500.py and dataloader/FoD500.py; github.com/dvl-tum/defocus-net",
    layout=_LAYOUT,
    crop="none: 256 x 256",
    mask="truth above 0, after clipping to 0 ... 1.5 m",
    metrics="of depth, clipped to 0 ... 1.5 m, per stack, then mean: MSE, RMS, logRMS, AbsRel, SqRel, δ 1.25^1..3, "
    "bumpiness; focus .1 .15 .3 .7 1.5 m",
    data="by the README of defocus-net; its code is MIT",
    assumptions=(
        "depths are not rounded to 0.1 mm as their PNGs are",
        "the sensor is 3.1 mm wide at f/1, for methods that take the lens",
        "truth may also be .npy, .tiff, .png or .pfm in m beside the frames, where OpenEXR is not at hand",
    ),
)
