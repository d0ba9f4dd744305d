"""DPD-Disp in the form of FMDP (Lee et al., MVA 2025): nearly the whole picture, at 896 x 1568 px."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from pathlib import Path

import cv2
import numpy as np

from dualpix.capture.errors import DualpixError
from dualpix.capture.raw import decode
from dualpix.capture.types import FloatImage
from dualpix.models.evaluate.figures import AFFINE
from dualpix.models.evaluate.pairs import affine_pair_figures
from dualpix.models.evaluate.protocol import Figures, Pending, Protocol, check_found
from dualpix.models.evaluate.protocols.dpd_disp_iccp import LAYOUT, pairs_in, read_truth
from dualpix.models.evaluate.sample import Grid, Prediction, Sample
from dualpix.models.metrics import bad_pixel_share, least_squares

CROP_HW, SCORED_HW, BORDER_PX = (2940, 5145), (896, 1568), 32
THRESHOLDS = {"ai2_bad_003": 0.003, "ai2_bad_005": 0.005, "ai2_bad_01": 0.01, "ai2_bad_03": 0.03, "ai2_bad_05": 0.05}
_LAYOUT = f"test_{{l,r,c}}/source/seq_*/*.jpg and test_c/target_depth/seq_*/*.TIF, or {LAYOUT}"


def _read(folder: Path) -> Sequence[Pending]:
    lefts = sorted(folder.glob("test_l/source/seq_*/*.jpg"))
    truths = sorted(folder.glob("test_c/target_depth/seq_*/*.TIF"))
    if len(lefts) != len(truths):
        raise DualpixError(f"'{folder}' has {len(lefts)} left views and {len(truths)} truths", expected=_LAYOUT)
    found = [(left.stem.removesuffix("_L"), left, truth) for left, truth in zip(lefts, truths, strict=True)]
    pending = [Pending(name, partial(_load, name, left, truth)) for name, left, truth in found or pairs_in(folder)]
    return check_found(pending, folder, _LAYOUT)


def _load(name: str, left: Path, path: Path) -> Sample:
    codes, image = read_truth(path), decode(left)
    if codes.shape != image.size_hw:
        raise DualpixError(f"'{path.name}' is {codes.shape} (h, w)", expected=f"the view's {image.size_hw}")
    if codes.shape[0] < CROP_HW[0] or codes.shape[1] < CROP_HW[1]:
        raise DualpixError(f"'{path.name}' is {codes.shape} (h, w)", expected=f"at least {CROP_HW}")
    truth = _inner(_cut(np.asarray(codes, np.float32) / np.float32(255)))
    grids = (Grid(image.size_hw, lambda values: _inner(_cut(values))), Grid(SCORED_HW, _inner))
    return Sample(name, truth, np.ones(truth.shape, np.bool_), image, grids=grids)


def _cut(values: FloatImage) -> FloatImage:
    """As theirs: from h // 2 - crop // 2 on, then bilinear without antialiasing."""
    top, left = (side // 2 - crop // 2 for side, crop in zip(values.shape[:2], CROP_HW, strict=True))
    part = values[top : top + CROP_HW[0], left : left + CROP_HW[1]]
    return np.asarray(cv2.resize(part, SCORED_HW[::-1], interpolation=cv2.INTER_LINEAR), np.float32)


def _inner(values: FloatImage) -> FloatImage:
    return values[BORDER_PX:-BORDER_PX, BORDER_PX:-BORDER_PX]


def _score(sample: Sample, prediction: Prediction) -> Figures:
    figures = affine_pair_figures(sample, prediction)
    found = sample.on_truth(prediction.values)
    scale, offset = least_squares(found, sample.truth)
    fitted = scale * found.astype(np.float64) + offset
    bad = {name: bad_pixel_share(fitted, sample.truth, threshold=limit) for name, limit in THRESHOLDS.items()}
    return {**figures, **bad}


PROTOCOL = Protocol(
    name="dpd-disp-fmdp",
    title="DPD-Disp in the form of FMDP, Canon 5D Mark IV",
    takes="pair",
    unit="affine",
    read=_read,
    score=_score,
    columns={**AFFINE, "ai2_bad_01": "> .01", "ai2_bad_05": "> .05"},
    source="github.com/cjsj166/mono-qpd (branch of the paper's first author), evaluate_mono_qpd.py, metrics/",
    layout=_LAYOUT,
    crop="central 2940 x 5145, bilinear to 896 x 1568, 32 px off each side",
    mask="none",
    metrics="AI(1) of 5 fits, AI(2), share off by more than .003 ... .05 after the fit of AI(2); "
    "their rank figure is signed and dense without quantisation (one_minus_abs_rho_dense); edges are not theirs",
    data="as dpd-disp-iccp; the folder names are theirs",
    assumptions=(
        "the repository is taken for the paper's code: its parameter count is that of the paper",
        "methods see the whole view; theirs sees the crop at 896 x 1568",
    ),
)
