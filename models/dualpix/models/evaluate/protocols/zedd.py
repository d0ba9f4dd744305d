"""ZEDD validation: Zuo et al., "Zero-Shot Depth from Defocus" (FOSSA), arXiv 2603.26658."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from pathlib import Path

import numpy as np
from PIL import Image

from dualpix.capture.arrays.npy import read_npy
from dualpix.capture.errors import DualpixError
from dualpix.capture.rgbd.arrays import read_text
from dualpix.capture.types import FloatImage
from dualpix.models.evaluate.depth_maps import DEPTH_COLUMNS, DEPTH_METRICS, depth_map_figures, plausible
from dualpix.models.evaluate.files import focus_stack, read_colour
from dualpix.models.evaluate.protocol import Figures, Pending, Protocol, check_found, check_there
from dualpix.models.evaluate.sample import Prediction, Sample

HEIGHT_PX, WIDTH_PX = 480, 640
F_NUMBER = 2.8
_RUNS = (1, 3, 5, 7, 9)
_RANGE_M = (0.01, 1000.0)
_SENSOR_MM = 36.0
_LAYOUT = "metadata.txt and val/val_NNNN/{focus_stack/img_run_R_motor_HEX_aperture_F2.8.jpg,gt/depth.npy,gt/K.txt}"


def _read(folder: Path) -> Sequence[Pending]:
    scenes = sorted(path.parent.parent for path in folder.glob("val/*/gt/depth.npy"))
    if scenes:
        check_there([folder / "metadata.txt"], folder, _LAYOUT)
        runs = _metadata(folder / "metadata.txt")
        return [Pending(scene.name, partial(_load, scene, runs)) for scene in scenes]
    return check_found([], folder, _LAYOUT)


def _metadata(path: Path) -> dict[int, tuple[str, float]]:
    """Motor code and focus distance in m of each run."""
    runs: dict[int, tuple[str, float]] = {}
    for number, line in enumerate(read_text(path).splitlines(), start=1):
        if not line.strip() or line.lstrip().startswith("#"):
            continue
        try:
            run, code, distance = line.split("\t")
            runs[int(run.removeprefix("run_"))] = code.strip(), float(distance)
        except ValueError as error:
            raise DualpixError(
                f"'{path.name}' line {number} does not read", expected="RUN<tab>HEX<tab>METRES"
            ) from error
    missing = [str(run) for run in _RUNS if run not in runs]
    if missing:
        raise DualpixError(f"'{path.name}' lacks run {', '.join(missing)}", expected="runs 1 to 9")
    return runs


def _load(scene: Path, runs: dict[int, tuple[str, float]]) -> Sample:
    names = [f"img_run_{run}_motor_{runs[run][0]}_aperture_F{F_NUMBER:.1f}.jpg" for run in _RUNS]
    files = [scene / "focus_stack" / name for name in names]
    check_there(files, scene, _LAYOUT)
    depth_m = np.asarray(read_npy(scene / "gt" / "depth.npy", expected="a depth map in m, (H, W)"), np.float32)
    truth = _cut(_resized(depth_m))
    frames = [_cut(_resized(read_colour(file))) for file in files]
    if frames[0].shape[:2] != truth.shape:
        raise DualpixError(
            f"'{scene.name}' has pictures of {frames[0].shape[:2]}, depth of {truth.shape}", expected="one aspect ratio"
        )
    full_width = round(depth_m.shape[1] * HEIGHT_PX / depth_m.shape[0])
    pitch_um = _SENSOR_MM * 1000 / full_width
    stack = focus_stack(
        np.stack(frames),
        [runs[run][1] for run in _RUNS],
        names=tuple(names),
        focal_length_mm=_focal_px(scene / "gt" / "K.txt") / depth_m.shape[1] * _SENSOR_MM,
        f_number=F_NUMBER,
        pixel_pitch_um=pitch_um,
    )
    return Sample(scene.name, truth, plausible(truth, *_RANGE_M), stack=stack)


def _focal_px(path: Path) -> float:
    """Mean focal length of a 3 x 3 matrix."""
    try:
        numbers = np.array(
            [[float(word) for word in line.split()] for line in read_text(path).splitlines() if line.strip()]
        )
    except ValueError as error:
        raise DualpixError(f"'{path.name}' is no matrix", expected="3 x 3 numbers") from error
    if numbers.shape != (3, 3):
        raise DualpixError(f"'{path.name}' is {numbers.shape}", expected="3 x 3 numbers")
    return float(numbers[0, 0] + numbers[1, 1]) / 2


def _resized(values: FloatImage) -> FloatImage:
    """To 480 px height: pictures by Lanczos of their 8-bit codes, depth by the nearest, as theirs."""
    height, width = values.shape[:2]
    if height == HEIGHT_PX:
        return values
    size = (int(width * (HEIGHT_PX / height)), HEIGHT_PX)
    if values.ndim == 3:
        codes = np.rint(values * 255).astype(np.uint8)
        return np.asarray(Image.fromarray(codes).resize(size, Image.Resampling.LANCZOS), np.float32) / np.float32(255)
    return np.asarray(Image.fromarray(values).resize(size, Image.Resampling.NEAREST), np.float32)


def _cut(values: FloatImage) -> FloatImage:
    left = max(0, (values.shape[1] - WIDTH_PX) // 2)
    return values[:, left : left + WIDTH_PX]


def _score(sample: Sample, prediction: Prediction) -> Figures:
    return depth_map_figures(sample, prediction, _RANGE_M)


PROTOCOL = Protocol(
    name="zedd",
    title="ZEDD validation, F2.8, 5 frames",
    takes="stack",
    unit="depth_m",
    read=_read,
    score=_score,
    columns=DEPTH_COLUMNS,
    source="github.com/princeton-vl/FOSSA, dataset/zedd.py and config/validation_configs.py",
    layout=_LAYOUT,
    crop="height to 480 (Lanczos; depth nearest), central 640",
    mask="finite, 0.01 m < depth < 1000 m",
    metrics=DEPTH_METRICS + "; runs 1 3 5 7 9 at F2.8, no alignment",
    data="huggingface.co/datasets/venkatsubra/ZEDD, 50 validation scenes with truth; CC BY 4.0",
    assumptions=(
        "estimates are clamped to 0.01 ... 1000 m",
        "the sensor is 36 mm wide, for methods that take the lens",
    ),
)
