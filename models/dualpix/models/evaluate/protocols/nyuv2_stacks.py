"""NYUv2 stacks in the form of HybridDepth (WACV 2025), as DualFocus and others use it. It leaks the scene's scale."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from pathlib import Path

import numpy as np

from dualpix.capture.errors import DualpixError
from dualpix.capture.rgbd.arrays import read_text
from dualpix.models.evaluate.depth_maps import DEPTH_COLUMNS, DEPTH_METRICS, depth_map_figures
from dualpix.models.evaluate.files import focus_stack, read_codes, read_colour
from dualpix.models.evaluate.gaussian_stack import gaussian_stack
from dualpix.models.evaluate.protocol import Figures, Pending, Protocol, check_found, check_there
from dualpix.models.evaluate.sample import Prediction, Sample, centre

SIZE_HW, CROP_HW = (480, 640), (384, 512)
FOCAL_MM, F_NUMBER, PITCH_UM, WINDOW_PX, FRAMES = 50.0, 8.0, 12.0, 7, 10
_RANGE_M = (1e-3, 10.0)
_LIST = "nyu_test.txt"
_LAYOUT = "[test/]SCENE/rgb_NNNNN.jpg and SCENE/sync_depth_NNNNN.png (mm), and nyu_test.txt if there"


def _read(folder: Path) -> Sequence[Pending]:
    root = folder / "test" if (folder / "test").is_dir() else folder
    table = next((place / _LIST for place in (folder, root) if (place / _LIST).is_file()), None)
    pairs = _listed(table) if table else _unlisted(root)
    pending = [Pending(_name(rgb), partial(_load, root, rgb, depth)) for rgb, depth in pairs]
    return check_found(pending, folder, _LAYOUT)


def _listed(table: Path) -> list[tuple[str, str]]:
    rows = [line.split() for line in read_text(table).splitlines() if line.strip()]
    short = next((number for number, words in enumerate(rows, start=1) if len(words) < 2), None)
    if short:
        raise DualpixError(f"'{table.name}' line {short} names no depth", expected="RGB DEPTH FOCAL on each line")
    return [(words[0].lstrip("/"), words[1].lstrip("/")) for words in rows]


def _unlisted(root: Path) -> list[tuple[str, str]]:
    found = []
    for rgb in sorted(root.glob("*/rgb_*.jpg")):
        depth = rgb.with_name(rgb.stem.replace("rgb_", "sync_depth_") + ".png")
        if depth.is_file():
            found.append((rgb.relative_to(root).as_posix(), depth.relative_to(root).as_posix()))
    return found


def _name(rgb: str) -> str:
    return rgb.rpartition(".")[0]


def _load(root: Path, rgb: str, depth: str) -> Sample:
    files = [root / rgb, root / depth]
    if not all(file.resolve().is_relative_to(root.resolve()) for file in files):
        raise DualpixError(f"'{rgb}' is outside '{root}'", expected="paths below it")
    check_there(files, root, _LAYOUT)
    picture = read_colour(files[0])
    depth_m = read_codes(files[1], "a depth map", np.uint16).astype(np.float32) / np.float32(1000)
    for file, values in zip(files, (picture, depth_m), strict=True):
        if values.shape[:2] != SIZE_HW:
            raise DualpixError(f"'{file.name}' is {values.shape[:2]} (h, w)", expected=f"{SIZE_HW}")
    picture, truth = centre(picture, CROP_HW), np.ascontiguousarray(centre(depth_m, CROP_HW))
    valid = (truth > _RANGE_M[0]) & (truth < _RANGE_M[1])
    if not valid.any() or float(np.ptp(truth[valid])) == 0:
        raise DualpixError(f"'{rgb}' has no range of depth to focus over", expected="a depth map in mm")
    distances = np.linspace(float(truth[valid].min()), float(truth[valid].max()), FRAMES)
    frames = gaussian_stack(
        np.ascontiguousarray(picture),
        truth,
        distances,
        focal_length_m=FOCAL_MM / 1000,
        f_number=F_NUMBER,
        pixel_pitch_m=PITCH_UM * 1e-6,
        window_px=WINDOW_PX,
    )
    stack = focus_stack(frames, distances, focal_length_mm=FOCAL_MM, f_number=F_NUMBER, pixel_pitch_um=PITCH_UM)
    return Sample(_name(rgb), truth, valid, stack=stack)


def _score(sample: Sample, prediction: Prediction) -> Figures:
    return depth_map_figures(sample, prediction, _RANGE_M)


PROTOCOL = Protocol(
    name="nyuv2-stacks",
    title="NYUv2 stacks, HybridDepth form",
    takes="stack",
    unit="depth_m",
    read=_read,
    score=_score,
    columns={"rmse_m": "RMSE m", **DEPTH_COLUMNS},
    source="github.com/cake-lab/HybridDepth, dataloader/NYU/{loader,labeled}.py, "
    "utils/{metric_cal,synthetic/camera_lib}.py",
    layout=_LAYOUT,
    crop="central 384 x 512 of 480 x 640",
    mask="0.001 m < depth < 10 m",
    metrics=DEPTH_METRICS + "; f/8, 50 mm, 12 um, Gaussian window of 7 px",
    data="654 test pictures of NYUv2 in the split of BTS; no licence stated",
    assumptions=(
        "10 focus distances, the loader's default; papers with other numbers are not comparable",
        "the black border that theirs pads by reflection lies outside the crop",
        "depth 0 is blurred to the whole window, as by theirs",
        "the CUDA kernel that theirs calls is taken for that of Gur and Wolf (CVPR 2019), whose name it has",
        "estimates are clamped to the mask's range",
    ),
    leaks_scale="focus distances run from the least to the largest true depth of each scene",
)
