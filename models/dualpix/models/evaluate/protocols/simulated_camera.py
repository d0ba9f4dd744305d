"""Captures of the simulated cameras, whose scenes are known: all that lies between a lens and its depth map.

``dualpix capture --camera sim --address sim:SEED`` drives a hidden lens by uneven steps, through a calibration that was
measured, photographs a scene with breathing, noise and occlusion, and is told nothing of the truth. So what is scored
has errors of focus as captures have them, and what alignment leaves.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from pathlib import Path

import numpy as np

from dualpix.capture.errors import DualpixError
from dualpix.models.evaluate.depth_maps import DEPTH_COLUMNS, DEPTH_METRICS, depth_map_figures, plausible
from dualpix.models.evaluate.protocol import Figures, Pending, Protocol, check_found
from dualpix.models.evaluate.sample import Prediction, Sample
from dualpix.models.stacks.reading import read_aligned, simulated_truth

RANGE_M = (0.1, 100.0)
_LAYOUT = "folders that dualpix capture --camera sim made"


def _read(folder: Path) -> Sequence[Pending]:
    found = sorted(path.parent for path in (*folder.glob("stack.json"), *folder.glob("*/stack.json")))
    return check_found([Pending(path.resolve().name, partial(_load, path)) for path in found], folder, _LAYOUT)


def _load(folder: Path) -> Sample:
    read = read_aligned(folder)
    truth = simulated_truth(folder, read)
    if truth is None:
        raise DualpixError(f"'{folder}' is of a camera whose scene nobody knows", expected=_LAYOUT)
    truth = np.asarray(truth, np.float32)
    return Sample(folder.resolve().name, truth, plausible(truth, *RANGE_M), stack=read.stack)


def _score(sample: Sample, prediction: Prediction) -> Figures:
    return depth_map_figures(sample, prediction, RANGE_M)


PROTOCOL = Protocol(
    name="simulated-camera",
    title="Captures of simulated cameras",
    takes="stack",
    unit="depth_m",
    read=_read,
    score=_score,
    columns=DEPTH_COLUMNS,
    source="this project: dualpix.capture.cameras.hidden.camera",
    layout=_LAYOUT,
    crop="none",
    mask=f"{RANGE_M[0]:g} m < depth < {RANGE_M[1]:g} m",
    metrics=DEPTH_METRICS + "; frames aligned, focus distances as the camera says",
    data="captured as needed",
    assumptions=("the truth is that of the picture which the others are aligned to",),
    checked_on="itself",
)
