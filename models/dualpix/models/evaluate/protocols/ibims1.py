"""iBims-1 stacks with a fixed focus list (DfDNet): Koch et al., "Evaluation of CNN-based Single-Image Depth Estimation
Methods", ECCV-W 2018 (data); stacks are made of the sharp picture and its depth.

The list is the same for all scenes, so it says nothing of a scene's scale; compare ``ibims1-adaptive``.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path

import cv2
import numpy as np
import numpy.typing as npt

from dualpix.capture.errors import DualpixError
from dualpix.capture.rgbd.arrays import read_text
from dualpix.capture.types import FloatImage, Mask
from dualpix.models.evaluate.depth_maps import DEPTH_COLUMNS, DEPTH_METRICS, depth_map_figures
from dualpix.models.evaluate.files import focus_stack, read_codes, read_colour
from dualpix.models.evaluate.gaussian_stack import gaussian_stack
from dualpix.models.evaluate.protocol import Figures, Pending, Protocol, check_found, check_there
from dualpix.models.evaluate.sample import Prediction, Sample

FocusList = Callable[[FloatImage], npt.NDArray[np.float64]]
"""Depth (h, w) without holes to focus distances (N,) in m."""
F_NUMBER, SENSOR_MM, WINDOW_PX = 1.4, 36.0, 15
FIXED_M = (0.5, 0.63, 0.86, 1.33, 7.06)
RANGE_M = (0.01, 1000.0)
LAYOUT = "ibims1_core_raw/{rgb,depth,mask_invalid,mask_transp}/NAME.png and calib/NAME.txt"
ASSUMPTIONS = (
    "holes of the depth are filled by the nearest known pixel before blurring (theirs: OMNI-DC), and not scored",
    "valid is depth > 0 outside mask_invalid and mask_transp",
    "blur is that of gaussian_stack: 15 px window, p = 2, on display-referred values",
    "estimates are clamped to 0.01 ... 1000 m",
)
DATA = "mediatum.ub.tum.de/1455541, 100 pictures; licence not confirmed"


def read_with(focus: FocusList, folder: Path) -> Sequence[Pending]:
    """The samples of a folder, focused as ``focus`` says."""
    root = folder / "ibims1_core_raw" if (folder / "ibims1_core_raw").is_dir() else folder
    names = sorted(path.stem for path in root.glob("rgb/*.png"))
    return check_found([Pending(name, partial(_load, root, name, focus)) for name in names], folder, LAYOUT)


def _load(root: Path, name: str, focus: FocusList) -> Sample:
    parts = {part: root / part / f"{name}.png" for part in ("rgb", "depth", "mask_invalid", "mask_transp")}
    calib = root / "calib" / f"{name}.txt"
    check_there([*parts.values(), calib], root, LAYOUT)
    picture = read_colour(parts["rgb"])
    truth = read_codes(parts["depth"], "a depth map", np.uint16).astype(np.float32) * np.float32(50 / 65535)
    masks = [read_colour(parts[mask])[..., 0] > 0 for mask in ("mask_invalid", "mask_transp")]
    for part, values in (("depth", truth), ("mask_invalid", masks[0]), ("mask_transp", masks[1])):
        if values.shape != picture.shape[:2]:
            raise DualpixError(f"{part} of '{name}' is {values.shape} (h, w)", expected=f"{picture.shape[:2]} as rgb")
    valid: Mask = (truth > RANGE_M[0]) & masks[0] & masks[1]
    if not valid.any():
        raise DualpixError(f"'{name}' has no depth", expected=LAYOUT)
    filled = nearest_filled(truth, truth > RANGE_M[0])
    distances = focus(filled)
    pitch_mm = SENSOR_MM / max(truth.shape)
    focal_mm = _focal_px(calib) * pitch_mm
    frames = gaussian_stack(
        picture,
        filled,
        distances,
        focal_length_m=focal_mm / 1000,
        f_number=F_NUMBER,
        pixel_pitch_m=pitch_mm / 1000,
        window_px=WINDOW_PX,
    )
    stack = focus_stack(frames, distances, focal_length_mm=focal_mm, f_number=F_NUMBER, pixel_pitch_um=pitch_mm * 1000)
    return Sample(name, truth, valid, stack=stack, group=name.rpartition("_")[0])


def _focal_px(path: Path) -> float:
    """Mean of fx and fy: the first two of "fx,fy,cx,cy"."""
    words = read_text(path).replace(",", " ").split()
    try:
        return (float(words[0]) + float(words[1])) / 2
    except (IndexError, ValueError) as error:
        raise DualpixError(f"'{path.name}' does not read", expected="fx,fy,cx,cy in px") from error


def nearest_filled(depth_m: FloatImage, known: Mask) -> FloatImage:
    """Depth (h, w) whose holes have the value of the nearest known pixel; there must be one."""
    if known.all():
        return depth_m
    _, labels = cv2.distanceTransformWithLabels(
        (~known).astype(np.uint8), cv2.DIST_L2, cv2.DIST_MASK_5, labelType=cv2.DIST_LABEL_PIXEL
    )
    values = np.zeros(int(labels.max()) + 1, np.float32)
    values[labels[known]] = depth_m[known]
    return np.asarray(values[labels], np.float32)


def fixed_list(depth_m: FloatImage) -> npt.NDArray[np.float64]:
    """The same for all scenes."""
    del depth_m
    return np.array(FIXED_M)


def score(sample: Sample, prediction: Prediction) -> Figures:
    """Depth in m, without a fit."""
    return depth_map_figures(sample, prediction, RANGE_M)


PROTOCOL = Protocol(
    name="ibims1",
    title="iBims-1, F1.4, fixed focus list",
    takes="stack",
    unit="depth_m",
    read=partial(read_with, fixed_list),
    score=score,
    columns=DEPTH_COLUMNS,
    source="DfDNet (Princeton, fixed list); metrics and blur of github.com/princeton-vl/FOSSA",
    layout=LAYOUT,
    crop="none: 480 x 640",
    mask="depth > 0.01 m, outside mask_invalid and mask_transp",
    metrics=DEPTH_METRICS + "; focus .5 .63 .86 1.33 7.06 m at F1.4, no alignment",
    data=DATA,
    assumptions=ASSUMPTIONS,
)
