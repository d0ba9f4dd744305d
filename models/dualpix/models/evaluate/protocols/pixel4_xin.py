"""Pixel 4: Xin et al., "Defocus Map Estimation and Deblurring from a Single Dual-Pixel Image", ICCV 2021."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np

from dualpix.capture.errors import DualpixError
from dualpix.capture.raw import decode
from dualpix.capture.types import FloatImage
from dualpix.models.evaluate.figures import AFFINE, EDGES, SHARP
from dualpix.models.evaluate.files import read_codes
from dualpix.models.evaluate.pairs import affine_pair_figures
from dualpix.models.evaluate.protocol import Pending, Protocol, check_found, check_there
from dualpix.models.evaluate.sample import Sample

_SHEETS = ("calibration/white_sheet_left.png", "calibration/white_sheet_right.png")
_LAYOUT = "NNN_{left,right,gt_defocus}.png and calibration/white_sheet_{left,right}.png"


def _read(folder: Path) -> Sequence[Pending]:
    lefts = sorted(path for path in folder.glob("*_left.png") if _truth_of(path).is_file())
    sheets = (folder / _SHEETS[0], folder / _SHEETS[1])
    check_there(sheets, folder, _LAYOUT)
    pending = [Pending(left.stem.removesuffix("_left"), partial(_load, left, sheets)) for left in lefts]
    return check_found(pending, folder, _LAYOUT)


def _load(left: Path, sheets: tuple[Path, Path]) -> Sample:
    image, path = decode(left, flat_field=sheets), _truth_of(left)
    codes = read_codes(path, "a defocus map", np.uint8)
    if codes.shape[0] > image.size_hw[0] or codes.shape[1] > image.size_hw[1]:
        raise DualpixError(f"'{path.name}' is {codes.shape} (h, w)", expected=f"at most the view's {image.size_hw}")
    truth = codes.astype(np.float32) / np.float32(255)
    sample = Sample(left.stem.removesuffix("_left"), truth, truth > 0, image)
    picture = _beside(left, "_gt_sharp.png")
    return replace(sample, sharp=_sharp(picture, sample)) if picture.is_file() else sample


def _sharp(path: Path, sample: Sample) -> FloatImage:
    """All in focus, linear as the capture is, and as bright: blur keeps the mean, and a few per cent are between."""
    codes = read_codes(path, "an all-in-focus picture", np.uint16)
    if codes.shape != sample.truth.shape:
        raise DualpixError(f"'{path.name}' is {codes.shape} (h, w)", expected=f"the truth's {sample.truth.shape}")
    assert sample.pair is not None  # noqa: S101 - it was made of one
    light = codes.astype(np.float32)
    seen = sample.on_truth(sample.pair.combined)
    return light * np.float32(seen.mean() / max(float(light.mean()), 1.0))


def _truth_of(left: Path) -> Path:
    return _beside(left, "_gt_defocus.png")


def _beside(left: Path, ending: str) -> Path:
    return left.with_name(left.stem.removesuffix("_left") + ending)


PROTOCOL = Protocol(
    name="pixel4-xin",
    title="Google Pixel 4, Xin et al. 2021",
    takes="pair",
    unit="affine",
    read=_read,
    score=affine_pair_figures,
    columns={**AFFINE, **EDGES, **SHARP},
    source="Xin et al., ICCV 2021 (data); affine-invariant form of Garg et al., ICCV 2019",
    layout=_LAYOUT,
    crop="the central 1008 x 1344 of 1512 x 2016, which the truth covers",
    mask="codes above 0",
    metrics="AI(1), AI(2) of codes / 255; 1-|ρ| in three variants; error of the same fit within 8 px of edges, "
    "boundary F1; of methods that restore the picture its PSNR and SSIM, green, sRGB curve, beside those of the input",
    data="17 scenes, github.com/cmu-ci-lab/dual_pixel_defocus_estimation_deblurring; no licence file",
    checked_on="5 scenes",
    assumptions=(
        "code 0 has no truth",
        "halves are flat-fielded by the white sheets and not clipped",
        "NNN_gt_sharp.png, where it is there, is linear light of the truth's size and of the capture's mean",
    ),
)
