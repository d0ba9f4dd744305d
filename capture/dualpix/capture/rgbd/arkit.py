"""Apple ARKitScenes, as its three sets are published: ``raw``, ``3dod`` and ``upsampling``.

Facts from its DATA.md, ``raw/README.md`` and loaders: PNG pictures, uint16 depth in mm, one-line ``.pincam`` intrinsics
"width height fx fy cx cy", names ``VIDEO_SECONDS.png``. The assets of one frame may differ by 1 ms in their names; its
loader for ``3dod`` takes the intrinsics of the same time, else of 1 ms before, else after. ``confidence`` is of the
lidar's depth (``lowres_depth``): 0 low, 2 high. ``highres_depth`` is from a laser scanner, 1920 x 1440, for ``wide``
(the README of ``upsampling`` calls it ``color``) of the same size; ``vga_wide`` is the same camera at a third of it.
"""

from __future__ import annotations

import math
from bisect import bisect_left
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from dualpix.capture.raw.containers.images import read_picture
from dualpix.capture.rgbd.arrays import read_depth_file
from dualpix.capture.rgbd.reader import depth_of, numbers_in
from dualpix.capture.rgbd.sample import (
    METRES,
    DepthUnit,
    Intrinsics,
    RgbdError,
    RgbdSample,
    RgbdSource,
    Unused,
    make_sample,
)
from dualpix.capture.rgbd.tables import rows_by
from dualpix.capture.rgbd.tree import Tree

Plane = npt.NDArray[Any]

_TURNS = {"up": 0, "left": 3, "down": 2, "right": 1}  # quarter turns against the clock that bring the sky up
_PAIRS = {"highres_depth": ("wide", "color", "vga_wide"), "lowres_depth": ("lowres_wide",)}
_CONFIDENCE = "confidence"
_INTRINSICS = "_intrinsics"
_TABLE = "metadata.csv"
_TABLE_ABOVE = 4
_TOLERANCE_MS = 1
_LEAST_CONFIDENCE = 1


@dataclass(frozen=True)
class _Frames:
    """The files of one folder by name and by time."""

    by_stem: Mapping[str, Path]
    times_ms: tuple[int, ...]
    """Rising."""
    by_time: Mapping[int, Path]

    @classmethod
    def of(cls, paths: list[Path]) -> _Frames:
        timed = {time: path for path in paths if (time := _time_ms(path.stem)) is not None}
        return cls({path.stem: path for path in paths}, tuple(sorted(timed)), timed)

    def at(self, stem: str) -> Path | None:
        """The file of this name, else the nearest within the tolerance, of two the earlier."""
        exact, time = self.by_stem.get(stem), _time_ms(stem)
        if exact is not None or time is None:
            return exact
        first = bisect_left(self.times_ms, time - _TOLERANCE_MS)
        near = [at for at in self.times_ms[first : first + 2 * _TOLERANCE_MS + 1] if abs(at - time) <= _TOLERANCE_MS]
        return self.by_time[min(near, key=lambda at: abs(at - time))] if near else None


class ArkitScenes:
    """Apple ARKitScenes: see the module's text.

    Pictures lie as the tablet's sensor does; where ``metadata.csv`` (``video_id``, ``sky_direction``) is found, they
    are turned so that the sky is up. Depth of confidence 0 is a hole.
    """

    name = "arkitscenes"
    summary = "wide, color or vga_wide with highres_depth; lowres_wide with lowres_depth; upright by metadata.csv"

    def find(self, tree: Tree) -> Iterator[RgbdSource | Unused]:
        """Images and depths of one time in sibling folders, with intrinsics and confidence where they are."""
        for video, folders in _videos(tree).items():
            table = _table(video)
            for depths, images in _PAIRS.items():
                if depths in folders and any(name in folders for name in images):
                    yield from self._pairs(tree, folders, depths, table)

    def _pairs(
        self, tree: Tree, folders: Mapping[str, _Frames], depths: str, table: Path | None
    ) -> Iterator[RgbdSource | Unused]:
        used: dict[str, set[Path]] = {}
        for stem, depth in folders[depths].by_stem.items():
            chosen = ((name, folders[name].at(stem)) for name in _PAIRS[depths] if name in folders)
            images, image = next(((name, path) for name, path in chosen if path is not None), ("", None))
            if image is None:
                yield Unused(depth, f"{depths} without a picture within {_TOLERANCE_MS} ms")
                continue
            used.setdefault(images, set()).add(image)
            camera = _beside(folders, images + _INTRINSICS, image.stem)
            mask = _beside(folders, _CONFIDENCE, stem) if depths == "lowres_depth" else None
            masks = () if mask is None else (mask,)
            yield RgbdSource(self.name, image, depth, 0, tree.name(image), masks, camera, table)
        for images, taken in used.items():
            for image in folders[images].by_stem.values():
                if image not in taken:
                    yield Unused(image, f"{images} without {depths} within {_TOLERANCE_MS} ms")

    def read(self, source: RgbdSource, unit: DepthUnit | None) -> RgbdSample:
        """Read, bring depth and confidence onto the grid of the picture, and turn it upright."""
        image, stored = read_picture(source.image), read_depth_file(depth_of(source))
        size_hw = (image.shape[0], image.shape[1])
        depth = _reduced(stored, size_hw)
        masks = [_reduced(_confidence(path, stored), size_hw) >= _LEAST_CONFIDENCE for path in source.masks]
        turns = _TURNS.get(_sky(source), 0)
        return make_sample(
            source,
            _turned(image, turns),
            _turned(depth, turns),
            unit_m=METRES[unit or "mm"],
            unit_given=unit is not None,
            valid=_turned(masks[0], turns) if masks else None,
            intrinsics=_intrinsics(source.camera, size_hw, turns),
            warnings=_doubts(source),
        )


def _videos(tree: Tree) -> dict[Path, dict[str, _Frames]]:
    """The folders of each video that hold pictures, depth or what goes with them."""
    pictures = {name for images in _PAIRS.values() for name in images}
    kinds = {**dict.fromkeys((*_PAIRS, *pictures, _CONFIDENCE), ".png")}
    kinds |= {name + _INTRINSICS: ".pincam" for name in pictures}
    files: dict[Path, dict[str, list[Path]]] = {}
    for path in tree.files:
        folder = path.parent
        if kinds.get(folder.name) == path.suffix:
            files.setdefault(folder.parent, {}).setdefault(folder.name, []).append(path)
    return {
        video: {name: _Frames.of(paths) for name, paths in folders.items()}
        for video, folders in files.items()
        if any(depths in folders and any(name in folders for name in _PAIRS[depths]) for depths in _PAIRS)
    }


def _beside(folders: Mapping[str, _Frames], name: str, stem: str) -> Path | None:
    return folders[name].at(stem) if name in folders else None


def _time_ms(stem: str) -> int | None:
    """Of "40753679_6845.806"."""
    try:
        seconds = float(stem.rpartition("_")[2])
    except ValueError:
        return None
    return round(seconds * 1000) if math.isfinite(seconds) else None


def _table(video: Path) -> Path | None:
    above = (folder / _TABLE for folder in list(video.parents)[:_TABLE_ABOVE])
    return next((path for path in above if path.is_file()), None)


def _sky(source: RgbdSource) -> str:
    if source.table is None:
        return ""
    video = source.image.stem.rpartition("_")[0]
    row = rows_by(source.table, "video_id").get(video, {})
    return row.get("sky_direction", "").strip().lower()


def _doubts(source: RgbdSource) -> list[str]:
    """What other samples of the set have and this one has not."""
    missing = []
    folder, depths = source.image.parent, depth_of(source).parent
    if source.camera is None and folder.with_name(folder.name + _INTRINSICS).is_dir():
        missing.append(f"no .pincam within {_TOLERANCE_MS} ms, so its intrinsics are not known")
    if not source.masks and depths.name == "lowres_depth" and depths.with_name(_CONFIDENCE).is_dir():
        missing.append(f"no confidence within {_TOLERANCE_MS} ms, so all its depth counts as measured")
    return missing


def _confidence(path: Path, depth: Plane) -> Plane:
    confidence = read_picture(path)
    if confidence.shape != depth.shape:
        raise RgbdError(
            f"'{path.name}' is {confidence.shape} (h, w), its depth {depth.shape}",
            expected="a confidence for each depth",
        )
    return confidence


def _intrinsics(path: Path | None, size_hw: tuple[int, int], turns: int) -> Intrinsics | None:
    """Of a ``.pincam``, for a picture that may have been resized since."""
    if path is None:
        return None
    width, height, *camera = numbers_in(path, 6)[:6]
    if not (width > 0 and height > 0):
        raise RgbdError(f"'{path}' is of a picture of {width:g}x{height:g} px", expected="its width and height first")
    return Intrinsics(*camera).scaled(size_hw[1] / width, size_hw[0] / height).turned(turns, size_hw)


def _reduced(plane: Plane, size_hw: tuple[int, int]) -> Plane:
    """The samples of a larger plane of the same shape nearest to the pixels of a picture; any other plane as it is.

    A mean of two depths is the depth of none.
    """
    (height, width), (rows, columns) = size_hw, plane.shape[:2]
    if rows < height or rows * width != columns * height:
        return plane
    row, column = ((2 * np.arange(n) + 1) * have // (2 * n) for n, have in ((height, rows), (width, columns)))
    return np.ascontiguousarray(plane[row][:, column])


def _turned(plane: Plane, turns: int) -> Plane:
    return np.ascontiguousarray(np.rot90(plane, turns))
