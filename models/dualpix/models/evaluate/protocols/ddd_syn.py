"""DDDNet's synthetic data: Pan et al., "Dual Pixel Exploration", CVPR 2021, rendered from NYUv2."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np

from dualpix.capture.errors import DualpixError
from dualpix.capture.pictures.display import linear_from_srgb
from dualpix.capture.rgbd.arrays import read_pfm, read_text
from dualpix.capture.types import DualPixelImage
from dualpix.models.evaluate.figures import AFFINE, ratio_figures
from dualpix.models.evaluate.files import read_colour
from dualpix.models.evaluate.pairs import affine_pair_figures
from dualpix.models.evaluate.protocol import Figures, Pending, Protocol, check_found, check_there
from dualpix.models.evaluate.sample import Prediction, Sample

_LIST = "nyu_test.txt"
_LAYOUT = "testing/dp/ID_{l,r}.png and testing/disp/ID_dm.pfm, or nyu_test.txt with lines 'ID LEFT RIGHT SHARP DL DM'"


@dataclass(frozen=True)
class Scene:
    """Where a scene's files are, below the folder."""

    name: str
    left: str
    right: str
    sharp: str
    inverse_depth: str


def scenes_in(folder: Path) -> list[Scene]:
    """Those of the list of their repository, if it is there, else those of the usual names."""
    table = folder / _LIST
    if table.is_file():
        lines = enumerate(read_text(table).splitlines(), start=1)
        return [_listed(table, number, line) for number, line in lines if line.split()]
    names = sorted(path.name.removesuffix("_l.png") for path in folder.glob("testing/dp/*_l.png"))
    parts = ("dp/{}_l.png", "dp/{}_r.png", "gt/{}_m.png", "disp/{}_dm.pfm")
    return [Scene(name, *(f"testing/{part.format(name)}" for part in parts)) for name in names]


def _listed(table: Path, number: int, line: str) -> Scene:
    words = line.split()
    if len(words) < 6:
        found = f"'{table.name}' line {number} has {len(words)} words"
        raise DualpixError(found, expected="ID LEFT RIGHT SHARP DL DM")
    return Scene(words[0], *(words[place].lstrip("/") for place in (1, 2, 3, 5)))


def check_below(folder: Path, scene: Scene) -> None:
    """Raises DualpixError where the list names a file elsewhere."""
    files = (scene.left, scene.right, scene.sharp, scene.inverse_depth)
    if not all((folder / file).resolve().is_relative_to(folder.resolve()) for file in files):
        raise DualpixError(f"scene '{scene.name}' is outside '{folder}'", expected="paths below it")


def read_pair(folder: Path, scene: Scene) -> DualPixelImage:
    """The two views, 8-bit sRGB."""
    files = [folder / scene.left, folder / scene.right]
    check_there(files, folder, _LAYOUT)
    left, right = (linear_from_srgb(read_colour(file)) for file in files)
    if left.shape != right.shape:
        raise DualpixError(f"'{files[1].name}' is {right.shape[:2]} (h, w)", expected=f"{left.shape[:2]} as the left")
    return DualPixelImage(left, right, np.float32(0.5) * (left + right), np.zeros(left.shape[:2], np.bool_))


def _read(folder: Path) -> Sequence[Pending]:
    pending = [Pending(scene.name, partial(_load, folder, scene)) for scene in scenes_in(folder)]
    return check_found(pending, folder, _LAYOUT)


def _load(folder: Path, scene: Scene) -> Sample:
    check_below(folder, scene)
    path = folder / scene.inverse_depth
    check_there([path], folder, _LAYOUT)
    image, truth = read_pair(folder, scene), read_pfm(path)
    if truth.shape != image.size_hw:
        raise DualpixError(f"'{path.name}' is {truth.shape} (h, w)", expected=f"the view's {image.size_hw}")
    with np.errstate(invalid="ignore"):
        return Sample(scene.name, truth, np.asarray(np.isfinite(truth) & (truth > 0)), image)


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
    metrics="AbsRel, SqRel, RMSE, RMSElog, δ 1.25^1..3 of the inverse depth in the files' own unit, without a fit; "
    "figures of edges are not theirs",
    data="500 pairs, by the README of the repository; no licence file; made of NYUv2",
    assumptions=(
        "means are over pairs; theirs are over batches of 8",
        "pixels of a truth of 0 or less would be left out; theirs are not masked",
        "a method that gives a disparity in pixels gets the affine-invariant figures only",
    ),
)
