"""Real dual-pixel pairs with truth: in pixels of the view, or in metres, which optics turn into pixels.

A capture is anything that ``dualpix decode`` reads: ``NAME_left.png`` with ``NAME_right.png`` (``_l``, ``_r``; sibling
folders ``left`` and ``right``), or a raw. Its truth lies beside, or in a folder of its name next to that of the pair:

=====================  =============================================================================================
``NAME_disparity_px``  x_right - x_left of the decoded view, > 0 behind focus, float32; NaN where it is not known
``NAME_depth``         depth from the lens, floats in m and integers in mm; 0 and NaN where it is not known.
                       ``_depth_m`` and ``_depth_mm`` say the unit
=====================  =============================================================================================

Depth needs the lens: of ``dataset.json`` (:mod:`.described`), a camera profile named there, or the capture itself. A
truth that is right up to an affine map (8-bit defocus or inverse depth) says nothing in pixels: it is refused.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import cv2
import numpy as np
import numpy.typing as npt
import torch

from dualpix.capture import optics
from dualpix.capture.errors import DualpixError
from dualpix.capture.optics import IDEAL_DISPARITY_GAIN
from dualpix.capture.raw import WHOLE_SUFFIXES
from dualpix.capture.raw.formats.pair import pair_stem, right_name
from dualpix.capture.rgbd.arrays import read_depth_file
from dualpix.capture.rgbd.sample import METRES, DepthUnit, implausible
from dualpix.capture.stereo import without_clipped
from dualpix.capture.types import FloatImage, LensModel
from dualpix.models.data.options import SourceOptions
from dualpix.models.data.source import SampleError, Source
from dualpix.models.data.sources.described import NAME, Description, read_description
from dualpix.models.data.sources.kind import DUAL_PIXEL, SourceKind, digest_of
from dualpix.models.data.sources.rgbd import scene_named
from dualpix.models.tasks.task import KNOWN, Sample

if TYPE_CHECKING:
    from dualpix.capture.profiles.profile import CameraProfile
    from dualpix.capture.types import DualPixelImage

TruthKind = Literal["disparity_px", "depth"]
_TRUTHS: tuple[tuple[str, TruthKind], ...] = (
    ("disparity_px", "disparity_px"), ("depth_mm", "depth"), ("depth_m", "depth"), ("depth", "depth"),
)  # fmt: skip
_UNITS: dict[str, DepthUnit] = {"depth_mm": "mm", "depth_m": "m"}
_TRUTH_SUFFIXES = (".npy", ".tiff", ".tif", ".png", ".pfm", ".exr")
_PICTURES = (".png", ".tif", ".tiff", ".jpg", ".jpeg", ".pgm", ".npy")
_AFFINE = re.compile(r"gt_defocus|merged_depth|inverse_depth|invdepth|disp(arity)?_affine", re.I)
_MOST_FILES = 1_000_000
_MOST_SHIFT_SHARE = 0.25
"""Of the width: a larger disparity is one in another unit."""


@dataclass(frozen=True)
class PairFiles:
    """A capture and its truth, by paths below the root."""

    name: str
    capture: str
    truth: str
    word: str
    """By which the truth is called: "depth_mm"."""
    kind: TruthKind


@dataclass(frozen=True)
class RealPairs:
    """Captures of a folder."""

    name: str
    root: Path
    files: tuple[PairFiles, ...]
    described: Description
    notes: tuple[str, ...] = ()
    task: str = DUAL_PIXEL
    forms: bool = False

    def __len__(self) -> int:
        return len(self.files)

    def scene_of(self, index: int) -> str:
        """Of its folder, or its own."""
        return scene_named(self.files[index].name, self.described)

    @cached_property
    def profile(self) -> CameraProfile | None:
        """Of the camera that ``dataset.json`` names."""
        from dualpix.capture.profiles import load_profile

        return None if self.described.camera is None else load_profile(self.described.camera)

    def prepare(self, index: int) -> Sample:
        """Decoded, equalised, baseline along x, with its truth in px."""
        return _sample(*self.read(index))

    def read(self, index: int) -> tuple[DualPixelImage, FloatImage]:
        """The decoded view, and its disparity (H, W) in px, NaN where it is not known.

        Raises:
            SampleError: one of the two cannot be used.
        """
        from dualpix.capture.raw import decode  # LibRaw comes with raws

        if not 0 <= index < len(self):
            raise IndexError(index)
        files = self.files[index]
        capture, truth = self.root / files.capture, self.root / files.truth
        try:
            image = decode(capture, baseline=self.described.baseline)
            disparity = self._disparity(files, truth, image)
        except SampleError:
            raise
        except DualpixError as error:
            raise SampleError(f"'{capture}': {error.found}", expected=error.expected, hint=error.hint) from error
        if image.meta.pixel_aspect != 1:
            raise SampleError(
                f"'{capture}' has pixels of aspect {image.meta.pixel_aspect:g}", expected="square ones; stretch it"
            )
        return image, disparity

    def form(self, prepared: Sample) -> Sample:
        """A camera did."""
        return prepared

    def digest(self) -> str:
        """Of names, sizes and what is said of the lens."""
        sizes = [_size(self.root / path) for one in self.files for path in (one.capture, one.truth)]
        named = [(one.name, one.truth) for one in self.files]
        return digest_of({"pairs": named, "bytes": sizes, "described": repr(self.described)})

    def _disparity(self, files: PairFiles, path: Path, image: DualPixelImage) -> FloatImage:
        """(H, W) of the upright view, NaN where it is not known."""
        values = read_depth_file(path)
        if values.shape != image.size_hw:
            raise SampleError(f"'{path}' is {values.shape} (h, w)", expected=f"the size of the view, {image.size_hw}")
        if files.kind == "disparity_px":
            return _checked_disparity(path, values, image)
        unit: DepthUnit = (
            _UNITS.get(files.word) or self.described.depth_unit or ("m" if values.dtype.kind == "f" else "mm")
        )
        depth = values.astype(np.float32) * np.float32(METRES[unit])
        near, far = self.described.depth_range_m
        with np.errstate(invalid="ignore"):
            known = (depth >= near) & (depth < far if np.isfinite(far) else True)
        if unlikely := implausible(depth[known], METRES[unit]):
            raise SampleError(f"'{path}': {unlikely}", expected=f"depth in m or mm; say it with depth_unit in {NAME}")
        lens, relative = self.lens_of(image)
        gain = np.float32(1.0) if relative is None else _over(relative, image)
        with np.errstate(divide="ignore"):
            disparity = optics.disparity_px(np.where(known, depth, np.float32(1)), lens) * gain
        return np.where(known, disparity, np.nan).astype(np.float32)

    def lens_of(self, image: DualPixelImage) -> tuple[LensModel, FloatImage | None]:
        """The lens in pixels of the view, and its gain over the field where the camera's profile has it.

        Raises:
            DualpixError: nothing says what it is.
        """
        said, meta, profile = dict(self.described.lens or {}), image.meta, self.profile
        gain = profile.gain if profile is not None else None
        width = image.size_hw[1] if image.baseline == "x" else image.size_hw[0]
        if gain is not None and gain.pixel_pitch_um is not None:
            said.setdefault("pixel_pitch_um", gain.pixel_pitch_um * gain.view_width_px / width)
        for name in ("focal_length_mm", "f_number", "focus_distance_m", "pixel_pitch_um", "disparity_gain"):
            stated = getattr(meta, name)
            # a gain is that of the profile, which was measured, where there is one
            if stated is not None and not (name == "disparity_gain" and profile is not None):
                said.setdefault(name, stated)
        given_gain = said.pop("disparity_gain", None)
        if profile is not None:
            from dualpix.capture.profiles import lens_model

            lens = lens_model(profile, **said)
            lens = lens if given_gain is None else replace(lens, disparity_gain=given_gain)
        else:
            needed = ("focal_length_mm", "f_number", "focus_distance_m", "pixel_pitch_um")
            missing = [name for name in needed if name not in said] + ["disparity_gain"] * (given_gain is None)
            if missing:
                raise DualpixError(
                    f"depth, and nothing says {', '.join(missing)}",
                    expected=f"them, or a camera, in '{self.root / NAME}'",
                    hint='write {"camera": "PROFILE", "focus_distance_m": 1.0} there; see docs/train.md',
                )
            lens = optics.check_lens(LensModel(**said, disparity_gain=given_gain or IDEAL_DISPARITY_GAIN))
        return lens, None if gain is None else gain.relative


def _over(relative: FloatImage, image: DualPixelImage) -> FloatImage:
    """The gain over the field, laid over the view as :func:`~dualpix.models.predict.disparity.metric_depth` does."""
    height, width = image.size_hw
    return np.asarray(cv2.resize(relative, (width, height), interpolation=cv2.INTER_LINEAR), np.float32)


def _checked_disparity(path: Path, values: npt.NDArray[Any], image: DualPixelImage) -> FloatImage:
    if values.dtype.kind != "f":
        raise SampleError(f"'{path}' holds {values.dtype}", expected="float32 disparity in px, NaN where unknown")
    disparity = values.astype(np.float32)
    known = disparity[np.isfinite(disparity)]
    limit = _MOST_SHIFT_SHARE * image.size_hw[1]
    if known.size and float(np.abs(known).max()) > limit:
        raise SampleError(
            f"'{path}' has disparities up to {float(np.abs(known).max()):.4g} px",
            expected=f"at most {limit:.4g} px in a view {image.size_hw[1]} px wide",
        )
    return disparity


def _sample(image: DualPixelImage, disparity: FloatImage) -> Sample:
    """Green halves; transposed where the baseline is the other axis."""
    known = np.isfinite(disparity)
    combined = image.combined if image.combined.ndim == 3 else np.repeat(image.combined[..., None], 3, axis=2)
    along_x = image.baseline == "x"

    def plane(values: npt.NDArray[Any]) -> torch.Tensor:
        upright = values if along_x else values.T
        return torch.from_numpy(np.ascontiguousarray(upright, np.float32))[None]

    left, right = without_clipped(_green(image.left), _green(image.right), image.saturated)
    return {
        "left": plane(left),
        "right": plane(right),
        "combined": torch.cat([plane(combined[..., channel]) for channel in range(3)]),
        "disparity_px": plane(np.where(known, disparity, 0)),
        KNOWN: plane(known),
    }


def _green(view: FloatImage) -> FloatImage:
    return view if view.ndim == 2 else view[..., 1]


def _size(path: Path) -> int:
    try:
        return path.stat().st_size
    except OSError:
        return -1


# --- finding them -------------------------------------------------------------------------------------------------


def _find(root: Path) -> Iterator[PairFiles]:
    """Captures with a truth, in the order of their names."""
    truths = {path for path in _files(root) if path.suffix.lower() in _TRUTH_SUFFIXES}
    for capture in _files(root):
        for truth, word, kind in _candidates(capture):
            if truth in truths:
                name = (capture.parent / pair_stem(capture)).relative_to(root).as_posix()
                yield PairFiles(name, str(capture.relative_to(root)), str(truth.relative_to(root)), word, kind)
                break


def _candidates(capture: Path) -> Iterator[tuple[Path, str, TruthKind]]:
    """Where the truth of a capture may be, if it is one."""
    if capture.suffix.lower() in WHOLE_SUFFIXES:
        stem = capture.stem
    elif capture.suffix.lower() in _PICTURES:
        right = right_name(capture)
        if right is None or not right.is_file():
            return
        stem = pair_stem(capture)
    else:
        return
    for word, kind in _TRUTHS:
        for suffix in _TRUTH_SUFFIXES:
            yield capture.with_name(f"{stem}_{word}{suffix}"), word, kind
            for name in dict.fromkeys((stem, capture.stem)):
                yield capture.parent.parent / word / f"{name}{suffix}", word, kind


def _files(root: Path) -> list[Path]:
    found: list[Path] = []
    for path in sorted(root.rglob("*")):
        if path.is_file() and not any(part.startswith(".") for part in path.relative_to(root).parts):
            found.append(path)
        if len(found) > _MOST_FILES:
            raise DualpixError(f"'{root}' has over {_MOST_FILES} files", hint="name a folder further down")
    return found


def _affine_only(root: Path) -> Path | None:
    """A truth that is known up to an affine map, beside a pair."""
    files = _files(root)
    affine = next((path for path in files if _AFFINE.search(path.stem)), None)
    has_pair = affine is not None and any(
        (right := right_name(path)) is not None and right.is_file() for path in files if path.suffix in _PICTURES
    )
    return affine if has_pair else None


def _recognises(path: Path) -> bool:
    if not path.is_dir():
        return False
    return next(_find(path), None) is not None or _affine_only(path) is not None


def _lacking(path: Path) -> str | None:
    if not path.is_dir():
        return None
    files = [file for file in _files(path) if file.suffix.lower() in _PICTURES]
    has_pair = any((right := right_name(file)) is not None and right.is_file() for file in files)
    return "pairs without a truth" if has_pair else None


def _open(name: str, path: Path, task: str, options: SourceOptions) -> Source:
    del task, options
    if not path.is_dir():
        raise DualpixError(f"'{path}' is a file", expected="a folder of pairs with their truth")
    files = tuple(_find(path))
    if not files:
        affine = _affine_only(path)
        if affine is not None:
            raise DualpixError(
                f"the truth '{affine.name}' is known up to an affine map only: it says no disparity in px",
                expected="NAME_disparity_px.npy in px of the view, or NAME_depth in m or mm",
                hint="score a model on it instead: dualpix evaluate",
            )
        raise DualpixError(
            f"'{path}' holds no pair with truth",
            expected="NAME_left.png, NAME_right.png and NAME_disparity_px.npy or NAME_depth.npy",
        )
    return RealPairs(name, path, files, read_description(path))


PAIRS = SourceKind(
    "pairs",
    "captures with NAME_disparity_px.npy, or NAME_depth and optics",
    (DUAL_PIXEL,),
    _recognises,
    _open,
    _lacking,
)
