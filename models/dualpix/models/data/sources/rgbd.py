"""Any RGB-D data set, rendered on the fly: each picture through several lenses, see :mod:`..formation`.

For the task ``monocular`` pictures stay as they are, and a "render" is a window of one.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

import numpy as np

from dualpix.capture.errors import DualpixError
from dualpix.capture.rgbd import RgbdSource, fill_holes, read_rgbd, survey_rgbd
from dualpix.models.data.checks import FEWEST_KNOWN
from dualpix.models.data.formation import (
    RgbdView,
    draw_pair,
    fitted,
    form_pair,
    plain_picture,
)
from dualpix.models.data.kept import KeptStacks
from dualpix.models.data.options import SourceOptions
from dualpix.models.data.source import SampleError, Source
from dualpix.models.data.sources.described import Description, read_description
from dualpix.models.data.sources.kind import DUAL_PIXEL, FOCUS_STACK, MONOCULAR, SourceKind, digest_of
from dualpix.models.data.stack_formation import STACK_FORMATION, draw_stack, form_stack
from dualpix.models.tasks.task import Sample

_DRAWS = 11
"""Of the random streams of a sample, that of its window and lens."""
_KINDS_OF_FILES = {
    "rgb", "image", "images", "color", "colour", "depth", "depths", "wide", "vga_wide", "lowres_wide", "image_left",
    "image_right",
}  # fmt: skip
"""Folders that say what a file is, not what it shows."""

_SCENE_WORDS = {
    "hypersim": re.compile(r"(ai_\d{3}_\d{3})/"),
    "diode": re.compile(r"((?:in|out)doors?/scene_\d+)/"),
    "middlebury": re.compile(r"([^/]+?)(?:-(?:im)?perfect)?/im0\.png$"),
}


@dataclass(frozen=True)
class RgbdRenders:
    """Picture ``index // renders`` through the lens of ``index``."""

    name: str
    task: str
    pictures: tuple[RgbdSource, ...]
    options: SourceOptions
    described: Description
    notes: tuple[str, ...] = ()
    """What of the folder is not used."""
    forms: bool = True

    def __len__(self) -> int:
        return len(self.pictures) * self.options.renders

    def scene_of(self, index: int) -> str:
        """As the data set has scenes; else the folder of the picture, where there are several, else its name."""
        picture = self.picture(index)
        if self.described.scene is None and (scene := _scene_of_dataset(picture)):
            return scene
        return scene_named(picture.name, self.described)

    def picture(self, index: int) -> RgbdSource:
        """That sample ``index`` is made of."""
        if not 0 <= index < len(self):
            raise IndexError(index)
        return self.pictures[index // self.options.renders]

    def prepare(self, index: int) -> Sample:
        """Picture, depth and lens, at the size that is rendered."""
        picture = self.picture(index)
        rng = np.random.default_rng([self.options.seed, _DRAWS, index])
        try:
            sample = read_rgbd(picture, self.described.depth_unit)
        except DualpixError as error:
            raise SampleError(
                f"'{picture.image}': {error.found}",
                expected=error.expected or "a picture with its depth",
                hint=error.hint,
            ) from error
        filled = fill_holes(sample.depth_m, sample.valid)
        view = fitted(RgbdView(sample.image, filled.depth_m, filled.measured), self.options.render.size_hw, rng)
        if float(view.measured.mean()) < FEWEST_KNOWN:
            raise SampleError(
                f"'{picture.image}': the window that was drawn has no depth", expected="some in each part"
            )
        if self.task == MONOCULAR:
            return plain_picture(view)
        if self.task == FOCUS_STACK:
            return draw_stack(view, self.options, rng)
        return draw_pair(view, self.options.render, rng)

    def form(self, prepared: Sample) -> Sample:
        """Through the lens."""
        if self.task == MONOCULAR:
            return prepared
        return form_stack(prepared) if self.task == FOCUS_STACK else form_pair(prepared)

    def digest(self) -> str:
        """Of the files' names and sizes and of how they are rendered."""
        options = self.options
        return digest_of(
            {
                "task": self.task,
                "pictures": [(one.dataset, one.name, one.index) for one in self.pictures],
                "bytes": _sizes(self.pictures),
                "render": options.render.digest(),
                "unit": self.described.depth_unit,
                "draws": [options.seed, options.renders, options.frames, options.stacks, STACK_FORMATION],
            }
        )


def _scene_of_dataset(picture: RgbdSource) -> str | None:
    """Of pictures whose data set names scenes: several cameras, scans or exposures of one are no others."""
    if picture.scene:
        return picture.scene
    pattern = _SCENE_WORDS.get(picture.dataset)
    match = None if pattern is None else pattern.search(picture.image.as_posix())
    return match[1] if match else None


def scene_named(name: str, described: Description) -> str:
    """The scene of a sample from its path below the root, without suffix.

    Samples of one folder are of one scene (a video, a room) unless ``dataset.json`` says that each is its own; folders
    that say what a file is, as ``rgb``, do not count, and files that lie in no folder are a scene each.
    """
    folders = [part for part in PurePosixPath(name).parent.parts if part not in _KINDS_OF_FILES]
    by_folder = bool(folders) if described.scene is None else described.scene == "folder"
    return "/".join(folders) if by_folder else name


def _sizes(pictures: Sequence[RgbdSource]) -> list[int]:
    found: dict[Path, int] = {}
    for picture in pictures:
        for path in picture.files:
            if path not in found:
                try:
                    found[path] = path.stat().st_size
                except OSError:  # a list may name what is not there: reading it says so
                    found[path] = -1
    return list(found.values())


def _recognises(path: Path) -> bool:
    try:
        return bool(survey_rgbd(path.absolute()).sources)
    except DualpixError:
        return False


def _open(name: str, path: Path, task: str, options: SourceOptions) -> Source:
    survey = survey_rgbd(path.absolute())
    described = read_description(path if path.is_dir() else path.parent)
    renders = RgbdRenders(name, task, survey.sources, options, described, survey.notes)
    if task != FOCUS_STACK or options.cache_dir is None:
        return renders
    size_hw, digest = options.render.size_hw, renders.digest()
    return KeptStacks.of(renders, options.cache_dir, digest, size_hw, options.frames, sharp=options.sharp)


RGBD = SourceKind(
    "rgbd",
    "pictures with depth (NYUv2, Hypersim, ARKitScenes, iBims-1, Middlebury, DIODE, TartanAir, NAME.png with "
    "NAME_depth.png)",
    (DUAL_PIXEL, FOCUS_STACK, MONOCULAR),
    _recognises,
    _open,
)
