"""Infinigen Defocus: ray-traced stacks of Zuo et al., arXiv 2603.26658."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from pathlib import Path

import numpy as np

from dualpix.capture.arrays.npy import read_npy
from dualpix.capture.errors import DualpixError
from dualpix.capture.files import read_json
from dualpix.models.evaluate.depth_maps import DEPTH_COLUMNS, DEPTH_METRICS, depth_map_figures, plausible
from dualpix.models.evaluate.files import focus_stack, read_colour
from dualpix.models.evaluate.protocol import Figures, Pending, Protocol, check_found, check_there
from dualpix.models.evaluate.sample import Prediction, Sample

F_NUMBER = 1.4
FOCUS_M = (0.8, 1.7, 3.0, 4.7, 8.0)
_RANGE_M = (0.01, 1000.0)
_SPLIT = "val.json"
_MOST_BYTES = 16 << 20
_LAYOUT = "SCENE/{depth.npy,image_ap_1.40_fd_{0.80,1.70,3.00,4.70,8.00}.png}, and val.json of the splits if there"


def _read(folder: Path) -> Sequence[Pending]:
    scenes = sorted(path.parent for path in folder.glob("*/depth.npy"))
    if (folder / _SPLIT).is_file():
        chosen = _split(folder / _SPLIT)
        scenes = [scene for scene in scenes if scene.name in chosen]
    return check_found([Pending(scene.name, partial(_load, scene)) for scene in scenes], folder, _LAYOUT)


def _split(path: Path) -> set[str]:
    """Names of the scene folders that their list names."""
    expected = "an object with 'files', each with 'depth'"
    found = read_json(path, _MOST_BYTES, expected=expected)
    try:
        return {Path(str(entry["depth"])).parent.name for entry in found["files"]}
    except (KeyError, TypeError) as error:
        raise DualpixError(f"'{path.name}' is no list of files", expected=expected) from error


def _load(scene: Path) -> Sample:
    files = [scene / f"image_ap_{F_NUMBER:.2f}_fd_{distance:.2f}.png" for distance in FOCUS_M]
    check_there(files, scene, _LAYOUT)
    truth = np.asarray(read_npy(scene / "depth.npy", expected="a depth map in m, (H, W)"), np.float32)
    frames = [read_colour(file) for file in files]
    for file, frame in zip(files, frames, strict=True):
        if frame.shape[:2] != truth.shape:
            raise DualpixError(f"'{file.name}' is {frame.shape[:2]} (h, w)", expected=f"{truth.shape} as depth.npy")
    stack = focus_stack(np.stack(frames), FOCUS_M, names=tuple(file.name for file in files), f_number=F_NUMBER)
    return Sample(scene.name, truth, plausible(truth, *_RANGE_M), stack=stack)


def _score(sample: Sample, prediction: Prediction) -> Figures:
    return depth_map_figures(sample, prediction, _RANGE_M)


PROTOCOL = Protocol(
    name="infinigen-defocus",
    title="Infinigen Defocus, F1.4, 5 frames",
    takes="stack",
    unit="depth_m",
    read=_read,
    score=_score,
    columns=DEPTH_COLUMNS,
    source="github.com/princeton-vl/FOSSA, dataset/infinigen_defocus.py and config/validation_configs.py",
    layout=_LAYOUT,
    crop="none",
    mask="finite, 0.01 m < depth < 1000 m",
    metrics=DEPTH_METRICS + "; focus .8 1.7 3 4.7 8 m at F1.4, no alignment",
    data="huggingface.co/datasets/venkatsubra/InfinigenDefocus, 200 stacks; BSD-3-Clause by its card",
    assumptions=(
        "without val.json all scene folders are scored",
        "estimates are clamped to 0.01 ... 1000 m",
        "the focal length in cam_*.npz is not read",
    ),
)
