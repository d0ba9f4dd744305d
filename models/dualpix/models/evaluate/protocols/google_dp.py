"""Google's dual-pixel data: Garg et al., "Learning Single Camera Depth Estimation using Dual-Pixels", ICCV 2019."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from pathlib import Path

import cv2
import numpy as np

from dualpix.capture.arrays.npy import read_npy
from dualpix.capture.errors import DualpixError
from dualpix.capture.raw import decode
from dualpix.capture.types import FloatImage
from dualpix.models.evaluate.figures import AFFINE, checked
from dualpix.models.evaluate.files import read_codes
from dualpix.models.evaluate.pairs import affine_pair_figures
from dualpix.models.evaluate.protocol import Figures, Pending, Protocol, check_found
from dualpix.models.evaluate.sample import Grid, Prediction, Sample, centre
from dualpix.models.metrics import rank_errors

CROP_HW = (512, 384)
_NO_WEIGHT = np.float32(1e-12)
_LAYOUT = (
    "test/{left_pd,right_pd,merged_depth,merged_conf}/CAPTURE/result_{leftPd,rightPd,merged_depth,merged_conf}_center.*"
)


def _read(folder: Path) -> Sequence[Pending]:
    root = folder / "test" if (folder / "test").is_dir() else folder
    pending = []
    for truth in sorted(root.glob("merged_depth/*/*_center.png")):
        name = truth.parent.name
        left = root / "left_pd" / name / "result_leftPd_center.png"
        confidence = sorted((root / "merged_conf" / name).glob("*_center.npy"))
        pending.append(Pending(name, partial(_load, name, left, truth, confidence[0] if confidence else None)))
    if not pending:  # one capture by itself
        for truth in sorted(root.glob("*merged_depth_center.png")):
            left, confidence_file = root / "result_leftPd_center.png", root / "result_merged_conf_center.npy"
            pending.append(Pending("center", partial(_load, "center", left, truth, confidence_file)))
    return check_found(pending, folder, _LAYOUT)


def _load(name: str, left: Path, path: Path, confidence_file: Path | None) -> Sample:
    if confidence_file is None:
        raise DualpixError(f"'{name}' has no confidence", expected=f"merged_conf/{name}/*_center.npy")
    depth = np.asarray(read_codes(path, "a depth map", np.uint8), np.float32) / np.float32(255)
    confidence = np.asarray(read_npy(confidence_file, expected="the confidence of a depth map, (H, W)"), np.float32)
    if confidence.shape != depth.shape:
        raise DualpixError(f"'{confidence_file.name}' is {confidence.shape} (h, w)", expected=f"{depth.shape}")
    if depth.shape[0] < CROP_HW[0] or depth.shape[1] < CROP_HW[1]:
        raise DualpixError(f"'{path.name}' is {depth.shape} (h, w)", expected=f"at least {CROP_HW}")
    image = decode(left)
    size = (depth.shape[1], depth.shape[0])

    def from_view(values: FloatImage) -> FloatImage:
        return centre(np.asarray(cv2.resize(values, size, interpolation=cv2.INTER_AREA), np.float32), CROP_HW)

    grids = (Grid(image.size_hw, from_view), Grid(depth.shape, lambda values: centre(values, CROP_HW)))
    weight = np.ascontiguousarray(centre(confidence, CROP_HW))
    return Sample(name, centre(depth, CROP_HW), weight > 0, image, confidence=weight, grids=grids)


def _score(sample: Sample, prediction: Prediction) -> Figures:
    """Ranks are among all pixels of the crop, those of no confidence too; these only have no weight in what follows."""
    figures = affine_pair_figures(sample, prediction)
    assert sample.confidence is not None  # noqa: S101 - every sample of this data has it
    found = checked(sample.on_truth(prediction.values), np.ones_like(sample.valid), sample.name)
    ranks = rank_errors(found, sample.truth, confidence=np.maximum(sample.confidence, _NO_WEIGHT))
    return {
        **figures,
        "one_minus_abs_rho": ranks.average,
        "one_minus_abs_rho_dense8": ranks.dense_8bit,
        "one_minus_abs_rho_argsort": ranks.argsort,
    }


PROTOCOL = Protocol(
    name="google-dp",
    title="Google phones, Garg et al. 2019",
    takes="pair",
    unit="affine",
    read=_read,
    score=_score,
    columns=AFFINE,
    source="github.com/google-research/google-research, dual_pixels/eval/{script,get_metrics}.py",
    layout=_LAYOUT,
    crop="central 512 x 384 (h x w) of the depth map",
    mask="weighted by the confidence",
    metrics="AIWE(1), AIWE(2) of codes / 255, weighted; 1-|ρ|: theirs is the argsort one, the better of both signs",
    data="29 GB, storage.googleapis.com/iccv2019-data/test.tgz; licence not stated in the README",
    checked_on="1 capture (as in the CCA repository)",
    assumptions=(
        "predictions of the view's size (2016 x 1512) are reduced by area to the depth map's",
        "argsort is stable here, and a constant has 1; theirs leaves the order of ties to TensorFlow",
    ),
)
