"""Any folder of pictures with depth: pairs by name, or listed in an ``index.csv``."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path, PurePosixPath

from dualpix.capture.rgbd.reader import depth_of
from dualpix.capture.rgbd.sample import METRES, DepthUnit, RgbdError, RgbdSample, RgbdSource, Unused, make_sample
from dualpix.capture.rgbd.shown import read_shown
from dualpix.capture.rgbd.tables import Table, read_table, shown
from dualpix.capture.rgbd.tree import IMAGE_SUFFIXES, Tree

_FILE_WORDS = ("", "_path", "_file", "_filename", "_name", "_image", "_img", "_map", "_png")
_IMAGE_WORDS = ("image", "img", "rgb", "color", "colour", "picture", "photo")
_COLUMNS = {
    "image": [word + end for end in _FILE_WORDS for word in _IMAGE_WORDS],
    "depth": ["depth" + end for end in _FILE_WORDS] + ["depth_map_path", "depthmap", "gt_depth", "depth_gt"],
}


class Generic:
    """Any folder: an image and a depth file of one name, or the rows of an ``index.csv``.

    Names: ``NAME.png`` with ``NAME.depth.png``, ``NAME_depth.png`` or ``NAME-depth.png``, or the same name in sibling
    folders ``rgb`` (``image``, ``images``, ``color``, ``colour``) and ``depth`` (``depths``). Images are PNG, JPEG or
    TIFF, turned as their orientation tag says (:mod:`.shown`); integers are taken as sRGB, floats as linear. Depth is
    PNG, TIFF, NPY, PFM or OpenEXR; integers are mm and floats m unless told otherwise.

    An ``index.csv`` (:mod:`.tables`) has a column of images and one of depths, called ``image`` and ``depth`` or alike,
    or is nothing but rows of two files. Its names count from its own folder, else from the folder that was searched.
    """

    name = "generic"
    summary = "image with depth PNG / TIFF (uint16 mm), NPY, TIFF, PFM or EXR (float m); or index.csv with image,depth"
    _depth_ends = (".depth", "_depth", "-depth")
    _depth_suffixes = (".png", ".tif", ".tiff", ".npy", ".pfm", ".exr")
    _depth_folders, _image_folders = ("depth", "depths"), ("rgb", "image", "images", "color", "colour")
    _image_suffixes = (*IMAGE_SUFFIXES, *(suffix.upper() for suffix in IMAGE_SUFFIXES))
    _max_rows = 1_000_000

    def find(self, tree: Tree) -> Iterator[RgbdSource | Unused]:
        """The rows of index files first, then names."""
        for index in tree.named("index.csv"):
            yield from self._listed(tree, index)
        for depth in tree.files:
            if depth.suffix.lower() in self._depth_suffixes:
                image = tree.first(*self._images(depth))
                if image is not None:
                    yield RgbdSource(self.name, image, depth, 0, tree.name(image))

    def read(self, source: RgbdSource, unit: DepthUnit | None) -> RgbdSample:
        """Read one pair."""
        for path in source.files if source.listed else ():
            if not _is_file(path):
                raise RgbdError(f"{source.listed} names '{path}'", expected="a file that is there")
        pair = read_shown(source.image, depth_of(source))
        usual: DepthUnit = "m" if pair.depth.dtype.kind == "f" else "mm"
        return make_sample(
            source,
            pair.image,
            pair.depth,
            unit_m=METRES[unit or usual],
            unit_given=unit is not None,
            warnings=pair.warnings,
        )

    def _images(self, depth: Path) -> Iterator[Path]:
        for end in self._depth_ends:
            if depth.stem.endswith(end):
                stem = depth.stem.removesuffix(end)
                yield from (depth.with_name(stem + suffix) for suffix in self._image_suffixes)
        if depth.parent.name in self._depth_folders:
            for folder in self._image_folders:
                beside = depth.parent.with_name(folder)
                yield from (beside / (depth.stem + suffix) for suffix in self._image_suffixes)

    def _listed(self, tree: Tree, index: Path) -> Iterator[RgbdSource | Unused]:
        table = read_table(index, _COLUMNS)
        folders = (index.parent, tree.root)
        named = table.named(_COLUMNS)
        if named is None:
            table, named = _without_header(table, folders)
        if not named:
            columns = shown(table.columns) or "none"
            yield Unused(index, f"its columns are {columns}; a list of pairs has columns image and depth")
            return
        seen: dict[Path, Path] = {}
        for number, (line, row) in enumerate(table.rows()):
            cells = row[named["image"]], row[named["depth"]]
            if number >= self._max_rows or not all(cells):
                raise RgbdError(f"'{index}' row {line} lacks a file name", expected="columns image,depth")
            image, depth = (_file_named(cell, folders) for cell in cells)
            if seen.setdefault(image, depth) != depth:
                yield Unused(depth, f"'{index.name}' lists its picture with another depth before")
                continue
            name = index.parent.relative_to(tree.root).as_posix(), PurePosixPath(cells[0].replace("\\", "/"))
            yield RgbdSource(
                self.name, image, depth, 0, (PurePosixPath(name[0]) / name[1].parent / name[1].stem).as_posix(),
                listed=f"'{index.name}' row {line}",
            )  # fmt: skip


def _without_header(table: Table, folders: tuple[Path, Path]) -> tuple[Table, dict[str, str]]:
    """The table with names for its first two columns, if its first line names two files that are there."""
    files = [_is_file(_file_named(cell, folders)) for cell in table.columns[:2]]
    if files != [True, True]:
        return table, {}
    columns = ("image", "depth", *(f"column {n}" for n in range(3, len(table.columns) + 1)))
    return replace(table, columns=columns, start=table.start - 1), {"image": "image", "depth": "depth"}


def _file_named(cell: str, folders: tuple[Path, Path]) -> Path:
    """What a cell stands for: the first there is of the spellings and folders; the first of all where there is none."""
    candidates = [folder / spelled for spelled in (cell, cell.replace("\\", "/")) for folder in folders]
    return next((path for path in candidates if _is_file(path)), candidates[0])


def _is_file(path: Path) -> bool:
    try:
        return path.is_file()
    except (OSError, ValueError):  # a name that no file can have
        return False
