"""DDDNet's synthetic data: Pan et al., "Dual Pixel Exploration", CVPR 2021, rendered from NYUv2."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from pathlib import Path

import numpy as np

from dualpix.capture.errors import DualpixError
from dualpix.capture.picture import linear_from_srgb
from dualpix.capture.rgbd.arrays import read_pfm, read_text
from dualpix.capture.types import DualPixelImage
from dualpix.models.evaluate.figures import AFFINE, ratio_figures
from dualpix.models.evaluate.files import read_colour
from dualpix.models.evaluate.pairs import affine_pair_figures
from dualpix.models.evaluate.protocol import Figures, Pending, Protocol, check_found, check_there
from dualpix.models.evaluate.sample import Prediction, Sample

_LIST = "nyu_test.txt"
_LAYOUT = "testing/dp/ID_{l,r}.png and testing/disp/ID_dm.pfm, or nyu_test.txt with lines 'ID LEFT RIGHT SHARP DL DM'"


def _read(folder: Path) -> Sequence[Pending]:
    table = folder / _LIST
    rows = _listed(table) if table.is_file() else _unlisted(folder)
    pending = [Pending(name, partial(_load, folder, name, paths)) for name, paths in rows]
    return check_found(pending, folder, _LAYOUT)


def _listed(table: Path) -> list[tuple[str, tuple[str, str, str]]]:
    rows = []
    for number, line in enumerate(read_text(table).splitlines(), start=1):
        words = line.split()
        if words and len(words) < 6:
            raise DualpixError(
                f"'{table.name}' line {number} has {len(words)} words", expected="ID LEFT RIGHT SHARP DL DM"
            )
        if words:
            rows.append((words[0], (words[1].lstrip("/"), words[2].lstrip("/"), words[5].lstrip("/"))))
    return rows


def _unlisted(folder: Path) -> list[tuple[str, tuple[str, str, str]]]:
    names = sorted(path.name.removesuffix("_l.png") for path in folder.glob("testing/dp/*_l.png"))
    return [
        (name, (f"testing/dp/{name}_l.png", f"testing/dp/{name}_r.png", f"testing/disp/{name}_dm.pfm"))
        for name in names
    ]


def _load(folder: Path, name: str, paths: tuple[str, str, str]) -> Sample:
    files = [folder / path for path in paths]
    if not all(file.resolve().is_relative_to(folder.resolve()) for file in files):
        raise DualpixError(f"scene '{name}' is outside '{folder}'", expected="paths below it")
    check_there(files, folder, _LAYOUT)
    left, right = (linear_from_srgb(read_colour(file)) for file in files[:2])
    truth = read_pfm(files[2])
    if truth.shape != left.shape[:2]:
        raise DualpixError(f"'{files[2].name}' is {truth.shape} (h, w)", expected=f"the view's {left.shape[:2]}")
    image = DualPixelImage(left, right, np.float32(0.5) * (left + right), np.zeros(truth.shape, np.bool_))
    with np.errstate(invalid="ignore"):
        return Sample(name, truth, np.asarray(np.isfinite(truth) & (truth > 0)), image)


def _score(sample: Sample, prediction: Prediction) -> Figures:
    figures = affine_pair_figures(sample, prediction)
    if prediction.unit == "inverse_depth":
        figures |= ratio_figures(sample.on_truth(prediction.values), sample.truth, sample.valid)
    return figures


PROTOCOL = Protocol(
    name="ddd-syn",
    title="DDDNet synthetic, Pan et al. 2021",
    takes="pair",
    unit="inverse_depth",
    read=_read,
    score=_score,
    columns={"abs_rel": "AbsRel", "rmse": "RMSE", "rmse_log": "RMSElog", "d1": "δ1", "d2": "δ2", **AFFINE},
    source="github.com/panpanfei/Dual-Pixel-Exploration-..., DDDNet/dual_pixel_test{,_datasets}.py",
    layout=_LAYOUT,
    crop="none: 480 x 640",
    mask="none",
    metrics="AbsRel, SqRel, RMSE, RMSElog, δ 1.25^1..3 of the inverse depth in the files' own unit, without a fit",
    data="500 pairs, by the README of the repository; no licence file; made of NYUv2",
    assumptions=(
        "means are over pairs; theirs are over batches of 8",
        "pixels of a truth of 0 or less would be left out; theirs are not masked",
        "a method that gives a disparity in pixels gets the affine-invariant figures only",
    ),
)
