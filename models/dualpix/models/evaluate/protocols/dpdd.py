"""DPDD: the sharp picture. Abuolaim and Brown, "Defocus Deblurring Using Dual-Pixel Data", ECCV 2020."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from pathlib import Path

import numpy as np

from dualpix.capture.errors import DualpixError
from dualpix.capture.pictures.display import linear_from_srgb
from dualpix.capture.types import DualPixelImage
from dualpix.models.evaluate.figures import checked, image_figures
from dualpix.models.evaluate.files import read_colour
from dualpix.models.evaluate.protocol import Figures, Pending, Protocol, check_found, wrong_unit
from dualpix.models.evaluate.sample import Prediction, Sample

_SUFFIXES = (".png", ".jpg", ".tif")
_LAYOUT = "test_{c,l,r}/source/*.png and test_c/target/*.png"
_FOLDERS = ("test_c/source", "test_l/source", "test_r/source", "test_c/target")


def _read(folder: Path) -> Sequence[Pending]:
    found = [sorted(p for p in (folder / part).glob("*.*") if p.suffix.lower() in _SUFFIXES) for part in _FOLDERS]
    if len({len(files) for files in found}) != 1:
        counts = ", ".join(f"{len(files)} in {part}" for files, part in zip(found, _FOLDERS, strict=True))
        raise DualpixError(f"'{folder}' has {counts} pictures", expected=f"as many of each: {_LAYOUT}")
    pending = [Pending(files[0].stem, partial(_load, files)) for files in zip(*found, strict=True)]
    return check_found(pending, folder, _LAYOUT)


def _load(files: tuple[Path, ...]) -> Sample:
    pictures = [read_colour(file) for file in files]
    for file, picture in zip(files, pictures, strict=True):
        if picture.shape != pictures[0].shape:
            sizes = (f"{h} x {w}" for h, w in (picture.shape[:2], pictures[0].shape[:2]))
            raise DualpixError(f"'{file.name}' is {next(sizes)} px", expected=f"{next(sizes)} as '{files[0].name}'")
    combined, left, right = (linear_from_srgb(picture) for picture in pictures[:3])
    size = combined.shape[:2]
    image = DualPixelImage(left, right, combined, np.zeros(size, np.bool_))
    return Sample(files[0].stem, pictures[3], np.ones(size, np.bool_), image)


def _score(sample: Sample, prediction: Prediction) -> Figures:
    if prediction.unit != "image":
        raise wrong_unit(prediction, "a sharp picture, R, G, B")
    found = checked(sample.on_truth(prediction.values), sample.valid, sample.name)
    return image_figures(np.clip(found, 0, 1), sample.truth)


PROTOCOL = Protocol(
    name="dpdd",
    title="DPDD, sharp picture, Canon 5D Mark IV",
    takes="pair",
    unit="image",
    read=_read,
    score=_score,
    columns={"psnr_db": "PSNR dB", "ssim": "SSIM", "mae": "MAE"},
    source="github.com/Abdullah-Abuolaim/defocus-deblurring-dual-pixel, DPDNet/{metrics,data}.py",
    layout=_LAYOUT,
    crop="none: 1120 x 1680",
    mask="none",
    metrics="PSNR and SSIM of codes / 65535, all channels; MAE. A picture without error has 100 dB",
    data="76 test scenes, by the README of the repository; its licence is MIT, that of the data is not stated apart",
    assumptions=(
        "predictions are clipped to 0..1",
        "16-bit codes have the sRGB curve, for methods that take linear light; scores are of the codes",
    ),
)
