"""Real focus stacks with depth: every layout that ``dualpix depth`` reads, with a truth beside the frames.

A stack is a folder that :func:`~dualpix.capture.stack.keep.load.load_stack` reads (a capture of ours, ``focus.csv``,
names that say diopters, a ZEDD scene) with ``depth.npy`` (``.tiff``, ``.png``, ``.pfm``, ``.exr``) in it, in ``gt/`` or
``truth/``; one of a DDFF-12 file, whose ``disp_train`` is disparity in px; or of a flat folder as DefocusNet's,
``000001_01All.tif`` to ``000001_05All.tif`` with ``000001Dpt``, at the distances it was rendered for. Depth is in m
from the lens (integers in mm).
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt
import torch

from dualpix.capture.arrays.hdf5 import open_hdf5
from dualpix.capture.errors import DualpixError
from dualpix.capture.raw.containers.images import read_picture
from dualpix.capture.rgbd.arrays import read_depth_file
from dualpix.capture.rgbd.sample import METRES, DepthUnit, implausible, linear_rgb
from dualpix.capture.stack.keep.ddff import DDFF_BASELINE_M, DDFF_FOCAL_PX, SUFFIXES, ddff_stacks
from dualpix.models.data.options import SourceOptions
from dualpix.models.data.source import SampleError, Source
from dualpix.models.data.sources.described import NAME, Description, read_description
from dualpix.models.data.sources.kind import FOCUS_STACK, SourceKind, digest_of
from dualpix.models.data.sources.rgbd import scene_named
from dualpix.models.tasks.focus_stack import FARTHEST_M
from dualpix.models.tasks.task import KNOWN, Sample

FOD_DISTANCES_M = (0.1, 0.15, 0.3, 0.7, 1.5)
"""Focus distances of DefocusNet's stacks (Maximov et al., "Focus on Defocus", CVPR 2020), nearest first."""
_FOD_FRAME = re.compile(r"(?P<stem>.+)_(?P<number>\d{2})All\.(?:tiff?|png)", re.I)
_FOD_LENS = {"focal_length_mm": 2.9, "f_number": 1.0}
_SUFFIXES = (".npy", ".tiff", ".tif", ".png", ".pfm", ".exr")
_TRUTH_NAMES = ("depth", "depth_m", "depth_mm", "gt/depth", "truth/depth", "../gt/depth")
_MOST_FOLDERS = 1_000_000
_NEAREST_M = 1e-3


class _Stack(Protocol):
    """One stack: where it is, and its sample."""

    @property
    def name(self) -> str:
        """Below the root."""

    @property
    def files(self) -> tuple[Path, ...]:
        """That tell whether it is the same."""

    def sample(self, described: Description) -> Sample:
        """Read."""


@dataclass(frozen=True)
class FocusStacks:
    """The stacks of a folder or file."""

    name: str
    stacks: tuple[_Stack, ...]
    described: Description
    notes: tuple[str, ...] = ()
    task: str = FOCUS_STACK
    forms: bool = False

    def __len__(self) -> int:
        return len(self.stacks)

    def scene_of(self, index: int) -> str:
        """Of its folder, or its own."""
        return scene_named(self.stacks[index].name, self.described)

    def prepare(self, index: int) -> Sample:
        """Frames, the farthest focus first, and depth."""
        if not 0 <= index < len(self):
            raise IndexError(index)
        stack = self.stacks[index]
        try:
            return stack.sample(self.described)
        except SampleError:
            raise
        except DualpixError as error:
            raise SampleError(f"'{stack.files[0]}': {error.found}", expected=error.expected, hint=error.hint) from error

    def form(self, prepared: Sample) -> Sample:
        """A camera did."""
        return prepared

    def digest(self) -> str:
        """Of names and sizes."""
        sizes = [path.stat().st_size if path.is_file() else -1 for stack in self.stacks for path in stack.files]
        return digest_of({"stacks": [s.name for s in self.stacks], "bytes": sizes, "described": repr(self.described)})


@dataclass(frozen=True)
class FolderStack:
    """A folder of frames, with its truth."""

    name: str
    folder: Path
    truth: Path

    @property
    def files(self) -> tuple[Path, ...]:
        """The truth; the folder is named in messages."""
        return self.folder, self.truth

    def sample(self, described: Description) -> Sample:
        """Decoded."""
        from dualpix.capture.stack.keep.load import load_stack

        stack = load_stack(self.folder)
        if stack.focus_distance_m is None:
            raise SampleError(f"nothing says where the frames in '{self.folder}' are focused", expected="focus.csv")
        depth, known = _depth_of(self.truth, stack.frames.shape[1:3], described)
        lens = {name: getattr(stack.lens, name) for name in ("focal_length_mm", "f_number", "pixel_pitch_um")}
        lens |= {name: value for name, value in (described.lens or {}).items() if name in lens}
        sharp = None if stack.all_in_focus is None else stack.all_in_focus
        return _sample(stack.frames, stack.focus_distance_m, depth, known, lens, sharp)


@dataclass(frozen=True)
class DdffStackFiles:
    """A stack of a DDFF-12 file, whose truth is a disparity of its light-field camera."""

    name: str
    path: Path
    key: str
    place: int

    @property
    def files(self) -> tuple[Path, ...]:
        """The file."""
        return (self.path,)

    def sample(self, described: Description) -> Sample:
        """Decoded; depth = focal length * baseline / disparity."""
        from dualpix.capture.stack.keep.frames import decode_frame
        from dualpix.capture.stack.keep.layouts import read_layout

        del described
        listing = read_layout(self.path, f"{self.key}:{self.place}")
        if listing is None:
            raise SampleError(f"'{self.path}' is no DDFF-12 file")
        frames = sorted(listing.frames, key=lambda frame: frame.diopters or 0.0)
        images = np.stack([decode_frame(frame).image for frame in frames])
        focus = [1 / frame.diopters if frame.diopters else FARTHEST_M for frame in frames]
        disparity = self._disparity(images.shape[1:3])
        known = np.isfinite(disparity) & (disparity > DDFF_FOCAL_PX * DDFF_BASELINE_M / FARTHEST_M)
        depth = DDFF_FOCAL_PX * DDFF_BASELINE_M / np.where(known, disparity, 1)
        lens = {"focal_length_mm": listing.focal_length_mm, "pixel_pitch_um": listing.pixel_pitch_um}
        return _sample(images, np.array(focus), depth, known, lens, None)

    def _disparity(self, size_hw: tuple[int, ...]) -> npt.NDArray[np.float32]:
        with open_hdf5(self.path, SampleError) as file:
            data = file.array(self.key.replace("stack_", "disp_"), axes=(3, 4, 5))
            if not data.fits_the_file():
                raise data.wrong(f"claims {data.shape}", "a complete file")
            values = np.squeeze(data.read(self.place))
        if values.shape != tuple(size_hw):
            raise SampleError(
                f"'{self.path}': the disparity of {self.key}:{self.place} is {values.shape}", expected=f"{size_hw}"
            )
        return values.astype(np.float32)


@dataclass(frozen=True)
class FodStack:
    """Frames and depth of DefocusNet's flat folders."""

    name: str
    frames: tuple[Path, ...]
    truth: Path

    @property
    def files(self) -> tuple[Path, ...]:
        """All of them."""
        return (*self.frames, self.truth)

    def sample(self, described: Description) -> Sample:
        """Decoded, the farthest focus first."""
        pictures = [linear_rgb(read_picture(path)) for path in self.frames]
        shapes = {picture.shape for picture in pictures}
        if len(shapes) > 1:
            raise SampleError(f"the frames of '{self.name}' have sizes {sorted(shapes)}", expected="one size")
        depth, known = _depth_of(self.truth, pictures[0].shape[:2], described)
        return _sample(np.stack(pictures)[::-1], np.array(FOD_DISTANCES_M[::-1]), depth, known, _FOD_LENS, None)


def _sample(
    frames: npt.NDArray[Any],
    focus_m: npt.NDArray[Any],
    depth_m: npt.NDArray[Any],
    known: npt.NDArray[np.bool_],
    lens: dict[str, Any],
    sharp: npt.NDArray[Any] | None,
) -> Sample:
    """Frames (N, H, W, 3); what is not known of the lens is left out."""
    planes = np.ascontiguousarray(frames.transpose(0, 3, 1, 2), np.float32)
    found: Sample = {
        "frames": torch.from_numpy(planes),
        "focus_distances_m": torch.from_numpy(np.minimum(focus_m, FARTHEST_M).astype(np.float32)),
        "depth_m": torch.from_numpy(np.where(known, np.minimum(depth_m, FARTHEST_M), 0).astype(np.float32))[None],
        KNOWN: torch.from_numpy(known.astype(np.float32))[None],
    }
    for name, value in lens.items():
        if value is not None and np.isfinite(value):
            found[name] = torch.tensor(float(value), dtype=torch.float32)
    if sharp is not None:
        found["sharp"] = torch.from_numpy(np.ascontiguousarray(sharp.transpose(2, 0, 1), np.float32))
    return found


def _depth_of(
    path: Path, size_hw: tuple[int, ...], described: Description
) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.bool_]]:
    values = read_depth_file(path)
    if values.shape != tuple(size_hw):
        raise SampleError(f"'{path}' is {values.shape} (h, w)", expected=f"the size of the frames, {tuple(size_hw)}")
    named: DepthUnit | None = "mm" if path.stem.endswith("_mm") else None
    unit: DepthUnit = named or described.depth_unit or ("m" if values.dtype.kind == "f" else "mm")
    near, far = described.depth_range_m
    with np.errstate(invalid="ignore", over="ignore"):
        depth = (values * METRES[unit]).astype(np.float32)
        known = (depth >= max(near, _NEAREST_M)) & (depth <= far)
    if unlikely := implausible(depth[known], METRES[unit]):
        raise SampleError(f"'{path}': {unlikely}", expected=f"depth in m or mm; say it with depth_unit in {NAME}")
    return np.where(known, depth, np.float32(0)), np.asarray(known)


# --- finding them -------------------------------------------------------------------------------------------------


def _find(root: Path) -> Iterator[_Stack]:
    if root.is_file():
        if root.suffix.lower() in SUFFIXES:
            yield from _ddff(root, root.parent)
        return
    folders = [root, *sorted(path for path in root.rglob("*") if path.is_dir())]
    if len(folders) > _MOST_FOLDERS:
        raise DualpixError(f"'{root}' has over {_MOST_FOLDERS} folders", hint="name a folder further down")
    for folder in folders:
        if any(part.startswith(".") for part in folder.relative_to(root).parts):
            continue
        truth = _truth_in(folder)
        if truth is not None and _holds_frames(folder):
            yield FolderStack(_below(folder, root), folder, truth)
        yield from _fod(folder, root)
        for file in sorted(folder.iterdir()):
            if file.suffix.lower() in SUFFIXES and file.is_file():
                yield from _ddff(file, root)


def _below(path: Path, root: Path) -> str:
    """The stack's folder as the name of a file in its scene's folder."""
    name = path.relative_to(root).as_posix()
    return "stack" if name == "." else name


def _truth_in(folder: Path) -> Path | None:
    names = (f"{name}{suffix}" for name in _TRUTH_NAMES if not name.startswith("..") for suffix in _SUFFIXES)
    return next((path for name in names if (path := folder / name).is_file()), None)


def _holds_frames(folder: Path) -> bool:
    """Whether the folder is a stack: read within the layouts, from names and tables alone."""
    from dualpix.capture.stack.keep.load import read_listing

    if not _may_be_stack(folder):
        return False
    try:
        return len(read_listing(folder).frames) > 1
    except DualpixError:
        return (folder / "focus.csv").is_file() or (folder / "stack.json").is_file()  # reading says what is wrong


def _may_be_stack(folder: Path) -> bool:
    from dualpix.capture.stack.keep.layouts import names_say_focus

    tables = ("stack.json", "focus.csv")
    return (
        any((folder / name).is_file() for name in tables)
        or (folder / "focus_stack").is_dir()
        or names_say_focus(folder)
    )


def _ddff(path: Path, root: Path) -> Iterator[_Stack]:
    for stack in _ddff_stacks(path):
        name = f"{path.relative_to(root).with_suffix('').as_posix()}:{stack.name}"
        yield DdffStackFiles(name, path, stack.key, stack.place)


def _ddff_stacks(path: Path) -> list[Any]:
    """Those of a file that have a truth."""
    try:
        stacks = ddff_stacks(path)
        with open_hdf5(path) as file:
            return [stack for stack in stacks if stack.key.replace("stack_", "disp_") in file]
    except DualpixError:
        return []


def _fod(folder: Path, root: Path) -> Iterator[_Stack]:
    frames: dict[str, dict[int, Path]] = {}
    for path in sorted(folder.iterdir()):
        match = _FOD_FRAME.fullmatch(path.name)
        if match:
            frames.setdefault(match["stem"], {})[int(match["number"])] = path
    for stem, numbered in frames.items():
        truth = next((p for s in _SUFFIXES if (p := folder / f"{stem}Dpt{s}").is_file()), None)
        if truth is not None and sorted(numbered) == [1, 2, 3, 4, 5]:
            name = (folder / stem).relative_to(root).as_posix()
            yield FodStack(name, tuple(numbered[n] for n in range(1, 6)), truth)


def _recognises(path: Path) -> bool:
    return next(_find(path), None) is not None


def _lacking(path: Path) -> str | None:
    if path.is_file():
        return "stacks without a truth (disp_train)" if path.suffix.lower() in SUFFIXES else None
    folders = (path, *(folder for folder in sorted(path.rglob("*")) if folder.is_dir()))
    return "focus stacks without a depth" if any(map(_holds_frames, folders)) else None


def _open(name: str, path: Path, task: str, options: SourceOptions) -> Source:
    del task, options
    stacks = tuple(_find(path))
    if not stacks:
        raise DualpixError(
            f"'{name}' holds no focus stack with depth",
            expected="folders with stack.json or focus.csv and depth.npy, a DDFF-12 file with disp_train, or "
            "DefocusNet's _01All.tif with Dpt",
        )
    return FocusStacks(name, stacks, read_description(path if path.is_dir() else path.parent))


FOCUS_STACKS = SourceKind(
    "stacks",
    "focus stacks with depth.npy (captures, focus.csv, ZEDD), DDFF-12 files, DefocusNet's folders",
    (FOCUS_STACK,),
    _recognises,
    _open,
    _lacking,
)
