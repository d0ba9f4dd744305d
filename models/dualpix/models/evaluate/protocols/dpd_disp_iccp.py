"""DPD-Disp as its authors score it: Punnappurath et al., "Modeling Defocus-Disparity in Dual-Pixel Sensors", ICCP 2020.

Their method works on patches of 111 px with a stride of 33 px at half size and leaves a border out; their truth is cut
to match, and another 100 px off. All map sizes on that way are taken, so that files made for their script fit.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from pathlib import Path

import cv2
import numpy as np
import numpy.typing as npt
from PIL import Image

from dualpix.capture.errors import DualpixError
from dualpix.capture.raw import decode
from dualpix.capture.types import FloatImage
from dualpix.models.evaluate.figures import AFFINE, EDGES
from dualpix.models.evaluate.files import read_codes
from dualpix.models.evaluate.pairs import affine_pair_figures
from dualpix.models.evaluate.protocol import Figures, Pending, Protocol, check_found
from dualpix.models.evaluate.sample import Grid, Prediction, Sample

_PATCH_PX, _STRIDE_PX, _BORDER_PX = 111, 33, 100
_IRLS_FITS = 6
"""One plain and five reweighted."""
LAYOUT = "NNN_L.jpg, NNN_R.jpg and NNN_D.TIF (8 bits)"


def pairs_in(folder: Path) -> list[tuple[str, Path, Path]]:
    """Name, left view and truth of each scene that has one."""
    lefts = sorted(path for path in folder.glob("*_L.*") if path.suffix.lower() in (".jpg", ".jpeg", ".png", ".tif"))
    named = [(path.stem.removesuffix("_L"), path) for path in lefts]
    truths = {path.stem.removesuffix("_D"): path for path in folder.glob("*_D.*") if path.suffix.lower() == ".tif"}
    return [(name, left, truths[name]) for name, left in named if name in truths]


def read_truth(path: Path) -> npt.NDArray[np.uint8]:
    """Codes (H, W) of the inverse depth."""
    return np.asarray(read_codes(path, "an inverse depth", np.uint8), np.uint8)


def halved(codes: npt.NDArray[np.uint8]) -> npt.NDArray[np.uint8]:
    """``imresize(gt, 0.5, 'bicubic')``: Pillow's bicubic has the kernel (a = -0.5) and the antialiasing of MATLAB's."""
    height, width = codes.shape
    size = ((width + 1) // 2, (height + 1) // 2)
    return np.asarray(Image.fromarray(codes).resize(size, Image.Resampling.BICUBIC))


def covered(length: int) -> slice:
    """The part of a side of ``length`` px that their patches cover."""
    half, reach = (_PATCH_PX - 1) // 2, (_STRIDE_PX - 1) // 2
    centres = range(half, length - half, _STRIDE_PX)
    return slice(centres[0] - reach, centres[-1] + reach + 1) if len(centres) else slice(0, 0)


def _read(folder: Path) -> Sequence[Pending]:
    pending = [Pending(name, partial(_load, name, left, truth)) for name, left, truth in pairs_in(folder)]
    return check_found(pending, folder, LAYOUT)


def _load(name: str, left: Path, path: Path) -> Sample:
    full = read_truth(path)
    codes = halved(full)
    rows, columns = covered(codes.shape[0]), covered(codes.shape[1])
    inner = slice(_BORDER_PX, -_BORDER_PX)
    truth = np.asarray(codes[rows, columns][inner, inner], np.float32) / np.float32(255)
    if not truth.size:
        raise DualpixError(
            f"'{path.name}' is {full.shape} (h, w)", expected="2940 x 5180, of which a border is cut off"
        )
    image = decode(left)
    if image.size_hw != full.shape:
        raise DualpixError(f"'{path.name}' is {full.shape} (h, w)", expected=f"the view's {image.size_hw}")

    def from_patches(values: FloatImage) -> FloatImage:
        return values[inner, inner]

    def from_half(values: FloatImage) -> FloatImage:
        return from_patches(values[rows, columns])

    def from_view(values: FloatImage) -> FloatImage:
        size = (codes.shape[1], codes.shape[0])
        return from_half(np.asarray(cv2.resize(values, size, interpolation=cv2.INTER_AREA), np.float32))

    patches = codes[rows, columns].shape
    grids = (
        Grid((full.shape[0], full.shape[1]), from_view),
        Grid((codes.shape[0], codes.shape[1]), from_half),
        Grid((patches[0], patches[1]), from_patches),
    )
    return Sample(name, truth, np.ones(truth.shape, np.bool_), image, grids=grids)


def _score(sample: Sample, prediction: Prediction) -> Figures:
    return affine_pair_figures(sample, prediction, iterations=_IRLS_FITS)


PROTOCOL = Protocol(
    name="dpd-disp-iccp",
    title="DPD-Disp in the form of ICCP 2020, Canon 5D Mark IV",
    takes="pair",
    unit="affine",
    read=_read,
    score=_score,
    columns={**AFFINE, **EDGES},
    source="github.com/abhijithpunnappurath/dual-pixel-defocus-disparity, evaluate/demo.m and eval_funcs",
    layout=LAYOUT,
    crop="half size (bicubic); rows and columns that patches of 111 px at a stride of 33 cover; 100 px off each side",
    mask="none",
    metrics="AI(1) of 1 plain and 5 reweighted fits, AI(2), of codes / 255; 1-|ρ|: theirs is the 8-bit dense one; "
    "figures of edges are not theirs",
    data="100 scenes, by the README of the repository above; no licence file",
    assumptions=(
        "a prediction of the view's size is halved by area",
        "for 8-bit dense ranks a prediction is scaled by its least and largest value: theirs come in 8 bits already",
        "the public pictures are 8-bit JPEG; the paper's were 16-bit TIFF",
    ),
)
