"""Pairs of one's own with a truth in px or in metres: what ``dualpix rig label`` writes and ``train --data`` takes.

Nothing is published here: it is the yardstick for captures that were held out of a training.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from pathlib import Path

import numpy as np

from dualpix.capture.arrays.npy import read_npy
from dualpix.capture.errors import DualpixError
from dualpix.capture.types import FloatImage
from dualpix.models.data.options import SourceOptions
from dualpix.models.data.sources.kind import DUAL_PIXEL
from dualpix.models.data.sources.pairs import PAIRS, RealPairs
from dualpix.models.evaluate.figures import AFFINE
from dualpix.models.evaluate.pairs import pixel_figures
from dualpix.models.evaluate.protocol import Figures, Pending, Protocol
from dualpix.models.evaluate.sample import Prediction, Sample

_LAYOUT = "NAME_left.png, NAME_right.png (or a raw) and NAME_disparity_px.npy, or NAME_depth_m.npy and dataset.json"
_WITHIN_PX, _WITHIN_SHARE = 0.2, 0.1


def _read(folder: Path) -> Sequence[Pending]:
    source = PAIRS.open("labelled", folder, DUAL_PIXEL, SourceOptions())
    if not isinstance(source, RealPairs):
        raise TypeError(source)
    return [Pending(files.name, partial(_load, source, index)) for index, files in enumerate(source.files)]


def _load(source: RealPairs, index: int) -> Sample:
    files = source.files[index]
    image, truth = source.read(index)
    valid = np.isfinite(truth)
    if not valid.any():
        raise DualpixError(f"'{files.truth}' is empty", expected="a truth somewhere", hint="take the capture away")
    # a truth with holes has edges where they are: a weight says that it is not dense
    weight = None if valid.all() else _confidence(source.root / f"{files.name}_confidence.npy", valid)
    return Sample(files.name, np.where(valid, truth, 0).astype(np.float32), valid, image, confidence=weight)


def _confidence(path: Path, valid: np.ndarray[tuple[int, ...], np.dtype[np.bool_]]) -> FloatImage:
    if not path.is_file():
        return valid.astype(np.float32)
    values = np.asarray(read_npy(path, expected="the confidence of a truth, (H, W)"), np.float32)
    if values.shape != valid.shape:
        raise DualpixError(f"'{path.name}' is {values.shape} (h, w)", expected=f"{valid.shape}")
    return np.where(valid, np.clip(np.nan_to_num(values), 1e-6, 1), 0).astype(np.float32)


def _score(sample: Sample, prediction: Prediction) -> Figures:
    figures = pixel_figures(sample, prediction)
    error = np.abs(sample.on_truth(prediction.values).astype(np.float64) - sample.truth)[sample.valid]
    allowed = _WITHIN_PX + _WITHIN_SHARE * np.abs(sample.truth[sample.valid])
    return {**figures, "median_px": float(np.median(error)), "within": float(np.mean(error <= allowed))}


PROTOCOL = Protocol(
    name="labelled",
    title="Pairs of your own, labelled in px or metres, such as `dualpix rig label` writes",
    takes="pair",
    unit="disparity_px",
    read=_read,
    score=_score,
    columns={"mae_px": "MAE px", "median_px": "median", "within": "within", **AFFINE},
    source="this project",
    layout=_LAYOUT,
    crop="none",
    mask="finite",
    metrics=f"MAE and median of the error in px, share within {_WITHIN_PX:g} px + {_WITHIN_SHARE:.0%} of the truth; "
    "AI(1), AI(2) and ranks weighted by NAME_confidence.npy",
    data="your own",
    assumptions=("captures of one scene are counted alone: hold whole scenes out of a training",),
)
