"""What ``dualpix render`` wrote: a folder of samples, or WebDataset shards of them.

Convention: see :mod:`dualpix.capture.synthesis.store`. Views are linear light, the left and the right one half of the
aperture's; networks see green halves. The disparity is that of the depth through the lens that the sample states, by
the gain of its place in the picture.
"""

from __future__ import annotations

import io
import math
import os
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt
import torch

from dualpix.capture import optics
from dualpix.capture.arrays.npy import read_header, read_samples
from dualpix.capture.errors import DualpixError
from dualpix.capture.files import parse_json
from dualpix.capture.raw.containers.images import picture_of, tiff_of
from dualpix.capture.types import FloatImage, LensModel
from dualpix.models.data.options import SourceOptions
from dualpix.models.data.source import SampleError, Source
from dualpix.models.data.sources.kind import DUAL_PIXEL, FOCUS_STACK, SourceKind, digest_of
from dualpix.models.data.sources.stores import ABOUT, EXPECTED, SAMPLE_FILE, FolderStore, Store, TarStore
from dualpix.models.data.tars import index_tars
from dualpix.models.tasks.focus_stack import FARTHEST_M
from dualpix.models.tasks.task import KNOWN, Sample

_MOST_JSON_BYTES = 1 << 20
_MOST_PIXELS = 1 << 28
_MOST_GRID = 64
_LOOKED_AT = 64


@dataclass(frozen=True)
class RenderedFiles:
    """Samples of ``dualpix render``, by task."""

    name: str
    task: str
    store: Store
    notes: tuple[str, ...] = ()
    forms: bool = False

    def __len__(self) -> int:
        return len(self.store)

    def scene_of(self, index: int) -> str:
        """The picture that was rendered, or the scene: one rendered several times is one scene."""
        try:
            about = self.about(index)
        except SampleError:  # it will be skipped wherever it lands
            return self.store.named(index)
        return f"{about.get('source')} {about.get('name')}"

    def about(self, index: int) -> Mapping[str, Any]:
        """The ``json`` of a sample.

        Raises:
            SampleError: it has none, or a damaged one.
        """
        data = self.store.read(index, ABOUT)
        if len(data) > _MOST_JSON_BYTES:
            raise SampleError(f"{self.store.named(index)}: its json has {len(data)} bytes", expected=EXPECTED)
        value = parse_json(data, f"the json of {self.store.named(index)}", EXPECTED, SampleError)
        if not isinstance(value, dict):
            raise SampleError(f"the json of {self.store.named(index)} is a {type(value).__name__}", expected=EXPECTED)
        return value

    def prepare(self, index: int) -> Sample:
        """Views and truth."""
        if not 0 <= index < len(self):
            raise IndexError(index)
        try:
            reading = _Reading(self.store, index, self.about(index))
            return reading.stack() if self.task == FOCUS_STACK else reading.pair()
        except SampleError:
            raise
        except DualpixError as error:
            raise SampleError(
                f"{self.store.named(index)}: {error.found}", expected=error.expected or EXPECTED, hint=error.hint
            ) from error

    def form(self, prepared: Sample) -> Sample:
        """It was rendered before."""
        return prepared

    def digest(self) -> str:
        """Of the files and the task."""
        return digest_of({"task": self.task, "files": self.store.digest()})


@dataclass(frozen=True)
class _Reading:
    """One sample being read."""

    store: Store
    index: int
    about: Mapping[str, Any]

    @property
    def named(self) -> str:
        return self.store.named(self.index)

    @cached_property
    def endings(self) -> frozenset[str]:
        return self.store.endings(self.index)

    @cached_property
    def size_hw(self) -> tuple[int, int]:
        size = self.about.get("size")
        try:
            height, width = int(size["height"]), int(size["width"])  # type: ignore[index]
        except (TypeError, KeyError, ValueError):
            height = width = 0
        if not (height > 0 and width > 0 and height * width <= _MOST_PIXELS):
            raise SampleError(f"the json of {self.named} states the size {size!r:.60}", expected=EXPECTED)
        return height, width

    def pair(self) -> Sample:
        left, right = self.view("left"), self.view("right")
        depth, known = self.depth(), self.mask("measured")
        green = slice(1, 2)
        lens = self.lens()
        gain = self.gain(lens)
        with np.errstate(divide="ignore"):
            disparity = optics.circle_of_confusion_px(depth, lens) * gain
        return {
            "left": left[green],
            "right": right[green],
            "combined": left + right,
            "disparity_px": _plane(disparity),
            KNOWN: known,
            "disparity_gain": torch.tensor(float(np.mean(gain)), dtype=torch.float32),
            **self.sharp(),
        }

    def stack(self) -> Sample:
        """The farthest focus first, as :class:`~dualpix.capture.types.FocusStack` has it."""
        distances = self.about.get("stack_focus_distance_m")
        count = sum(ending.startswith("frame") for ending in self.endings)
        if not isinstance(distances, list) or len(distances) != count or count < 2:
            stated = len(distances) if isinstance(distances, list) else "no"
            raise SampleError(f"{self.named} has {count} frames and {stated} focus distances", expected="2 or more")
        focus = [self.number(distance, "a focus distance") for distance in distances]
        order = sorted(range(count), key=lambda n: -focus[n])
        lens = self.lens()
        return {
            "frames": torch.stack([self.view(f"frame{n:02}") for n in order]),
            "focus_distances_m": torch.tensor([min(focus[n], FARTHEST_M) for n in order], dtype=torch.float32),
            "depth_m": _plane(np.minimum(self.depth(), np.float32(FARTHEST_M))),
            KNOWN: self.mask("measured"),
            "focal_length_mm": torch.tensor(lens.focal_length_mm, dtype=torch.float32),
            "f_number": torch.tensor(lens.f_number, dtype=torch.float32),
            "pixel_pitch_um": torch.tensor(lens.pixel_pitch_um, dtype=torch.float32),
            **self.sharp(),
        }

    def lens(self) -> LensModel:
        stated = self.about.get("lens")
        names = ("focal_length_mm", "f_number", "focus_distance_m", "pixel_pitch_um", "disparity_gain")
        if not isinstance(stated, dict):
            raise SampleError(f"the json of {self.named} states no lens", expected=EXPECTED)
        lens = LensModel(**{name: self.number(stated.get(name), name) for name in names})
        return optics.check_focus(lens)

    def number(self, value: Any, named: str) -> float:
        """A positive number; a distance may be "inf"."""
        number = math.inf if value == "inf" else value
        if isinstance(number, bool) or not isinstance(number, (int, float)) or not number > 0:
            raise SampleError(f"the json of {self.named} states {named} as {value!r:.60}", expected="a number above 0")
        return float(number)

    def gain(self, lens: LensModel) -> FloatImage | float:
        """kappa, over the picture where it varies."""
        grid = self.about.get("disparity_gain_grid")
        if grid is None:
            return lens.disparity_gain
        try:
            values = np.array(grid, np.float32)
        except (TypeError, ValueError, OverflowError):
            values = np.zeros(0, np.float32)
        if (
            values.ndim != 2
            or max(values.shape) > _MOST_GRID
            or not (values > 0).all()
            or not np.isfinite(values).all()
        ):
            raise SampleError(f"the json of {self.named} states no grid of gains", expected=EXPECTED)
        height, width = self.size_hw
        return np.asarray(cv2.resize(values, (width, height), interpolation=cv2.INTER_LINEAR), np.float32)

    def view(self, name: str) -> torch.Tensor:
        """(3, H, W) linear light."""
        codes = self.picture(name)
        if codes.ndim != 3 or codes.dtype != np.uint16:
            raise SampleError(f"'{name}' of {self.named} is {codes.dtype} {codes.shape}", expected="16-bit RGB")
        scale = self.number(self.about.get("full_scale", 1.0), "full_scale")
        light = codes.astype(np.float32) * np.float32(scale / 65535)
        return torch.from_numpy(np.ascontiguousarray(light.transpose(2, 0, 1)))

    def sharp(self) -> Sample:
        there = any(ending.startswith("sharp.") for ending in self.endings)
        return {"sharp": self.view("sharp")} if there else {}

    def picture(self, name: str) -> npt.NDArray[Any]:
        ending = next((f"{name}.{kind}" for kind in ("png", "tiff") if f"{name}.{kind}" in self.endings), None)
        if ending is None:
            raise SampleError(f"{self.named} has no '{name}.png'", expected=EXPECTED)
        path = Path(ending)
        samples = picture_of(path, self.store.read(self.index, ending)).samples
        return self.of_size(samples, ending)

    def of_size(self, samples: npt.NDArray[Any], ending: str) -> npt.NDArray[Any]:
        if samples.shape[:2] != self.size_hw:
            raise SampleError(
                f"'{ending}' of {self.named} is {samples.shape[:2]} (h, w)",
                expected=f"{self.size_hw}, as its json says",
            )
        return samples

    def mask(self, name: str) -> torch.Tensor:
        return _plane(np.asarray(self.picture(name) > 0, np.float32))

    def depth(self) -> FloatImage:
        """(H, W) in m, above 0."""
        depth = self.of_size(self.depth_samples(), "depth")
        if depth.dtype.kind != "f" or depth.ndim != 2:
            raise SampleError(f"the depth of {self.named} is {depth.dtype} {depth.shape}", expected="float32 (H, W)")
        bad = int((~(depth > 0)).sum())
        if bad:
            raise SampleError(f"{bad} depths of {self.named} are NaN, 0 or below", expected="depth in m, without holes")
        return depth.astype(np.float32, copy=False)

    def depth_samples(self) -> npt.NDArray[Any]:
        if "depth.tiff" in self.endings:
            return tiff_of(Path("depth.tiff"), self.store.read(self.index, "depth.tiff"))
        data, path = self.store.read(self.index, "depth.npy"), Path("depth.npy")
        file = io.BytesIO(data)
        return read_samples(path, file, len(data), read_header(path, file))


def _plane(values: npt.NDArray[Any]) -> torch.Tensor:
    return torch.from_numpy(np.ascontiguousarray(values, np.float32))[None]


# --- finding them -------------------------------------------------------------------------------------------------


def _folders(root: Path) -> Iterator[str]:
    """Names of the sample folders of a folder, sorted."""
    with os.scandir(root) as entries:
        names = sorted(entry.name for entry in entries if not entry.name.startswith(".") and entry.is_dir())
    return (name for name in names if (root / name / SAMPLE_FILE).is_file())


def _tars(path: Path) -> list[Path]:
    """The tars of a path: itself, those in a folder, and in the folders of that."""
    if path.is_file():
        return [path] if path.suffix == ".tar" else []
    return sorted(file for pattern in ("*.tar", "*/*.tar") for file in path.glob(pattern) if not _hidden(file, path))


def _hidden(file: Path, root: Path) -> bool:
    return any(part.startswith(".") for part in file.relative_to(root).parts)


def _recognises(path: Path) -> bool:
    if path.is_file():
        return ".tar" in path.suffixes or path.suffix == ".tgz"
    if (path / SAMPLE_FILE).is_file() or bool(_tars(path)):
        return True
    return next(_folders(path), None) is not None


def _open(name: str, path: Path, task: str, options: SourceOptions) -> Source:
    del options
    store, notes = _store_of(path)
    _check_task(name, store, task)
    if any("saturated.png" in _endings(store, sample) for sample in range(min(len(store), _LOOKED_AT))):
        notes = (*notes, f"'{name}' was rendered with --noise: training adds its own noise to it")
    return RenderedFiles(name, task, store, notes)


def _store_of(path: Path) -> tuple[Store, tuple[str, ...]]:
    if path.is_dir() and (path / SAMPLE_FILE).is_file():
        return FolderStore(path.parent, (path.name or path.absolute().name,)), ()
    folders = tuple(_folders(path)) if path.is_dir() else ()
    if folders:
        return FolderStore(path, folders), ()
    tars = _tars(path) if path.is_dir() else [path]
    if not tars:
        raise DualpixError(f"'{path}' holds no sample", expected="folders with sample.json, or tars")
    index = index_tars(tars)
    if not len(index):
        raise DualpixError(f"'{path}' holds no sample", expected="tars with members as 000001.left.png")
    return TarStore(index), index.cut


def _endings(store: Store, sample: int) -> frozenset[str]:
    try:
        return store.endings(sample)
    except SampleError:
        return frozenset()


def _check_task(name: str, store: Store, task: str) -> None:
    """Whether the first sample whose members can be told is one of the task.

    Raises:
        DualpixError: it has no such views.
    """
    wanted: tuple[str, str, Callable[[str], bool]] = (
        ("a focus stack", "--stack N", lambda ending: ending.startswith("frame"))
        if task == FOCUS_STACK
        else ("left and right views", "--pair", lambda ending: ending.startswith("left."))
    )
    what, option, is_one = wanted
    if not any(any(map(is_one, _endings(store, sample))) for sample in range(min(len(store), _LOOKED_AT))):
        raise DualpixError(f"'{name}' has no {what}", expected=f"data rendered with 'dualpix render {option}'")


RENDERED = SourceKind(
    "rendered",
    "what 'dualpix render' wrote, folders or --shards",
    (DUAL_PIXEL, FOCUS_STACK),
    _recognises,
    _open,
)
