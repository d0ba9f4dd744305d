"""RGB-D data sets behind one type: NYUv2, Hypersim, ARKitScenes, iBims-1, Middlebury, DIODE, TartanAir, any folder.

sources = find_rgbd(Path("data"))
sample = read_rgbd(sources[0])           # image (H, W, 3) linear, depth_m (H, W), valid, intrinsics
filled = fill_holes(sample.depth_m, sample.valid)
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from dualpix.capture.errors import UnknownNameError
from dualpix.capture.rgbd.holes import FILLS, Fill, Filled, fill_holes
from dualpix.capture.rgbd.readers import READERS, Reader
from dualpix.capture.rgbd.sample import (
    METRES,
    DepthUnit,
    Intrinsics,
    RgbdError,
    RgbdSample,
    RgbdSource,
    planar_depth,
)
from dualpix.capture.rgbd.tree import Tree

__all__ = [
    "FILLS", "METRES", "READERS", "DepthUnit", "Fill", "Filled", "Intrinsics", "Reader", "RgbdError", "RgbdSample",
    "RgbdSource", "fill_holes", "find_rgbd", "planar_depth", "read_rgbd", "reader_named",
]  # fmt: skip


def reader_named(name: str) -> Reader:
    """The reader of that name.

    Raises:
        UnknownNameError: there is none.
    """
    for reader in READERS:
        if reader.name == name:
            return reader
    raise UnknownNameError("RGB-D format", name, [reader.name for reader in READERS])


def find_rgbd(root: Path, dataset: str | None = None) -> list[RgbdSource]:
    """The RGB-D samples in a file or below a folder; nothing but names is looked at, but for the count in a ``.mat``.

    Args:
        root: a folder, searched with its sub-folders, or a file that holds many samples.
        dataset: ask this reader alone; by default all, and a file belongs to the first that takes it.

    Raises:
        RgbdError: there is none.
    """
    tree = Tree.below(root)
    taken: set[Path] = set()
    found: list[RgbdSource] = []
    for reader in READERS if dataset is None else (reader_named(dataset),):
        of_this = [source for source in reader.find(tree) if taken.isdisjoint(source.files)]
        found += _once(of_this)
        taken.update(path for source in of_this for path in source.files)
    if not found:
        raise RgbdError(
            f"no RGB-D samples in '{root}'",
            expected=f"one of: {', '.join(reader.name for reader in READERS)}",
            hint="name pairs NAME.png with NAME_depth.png, or list them in index.csv; see --list-formats",
        )
    return found


def read_rgbd(source: RgbdSource, unit: DepthUnit | None = None) -> RgbdSample:
    """Read one sample.

    Args:
        source: of :func:`find_rgbd`.
        unit: of the depth file, where the data set's own is not true.

    Raises:
        RgbdError: sizes differ, hardly any depth, an implausible unit, or a library that is missing.
        DecodeError: a file is damaged, cut or absurdly large.
    """
    return reader_named(source.dataset).read(source, unit)


def _once(sources: Sequence[RgbdSource]) -> list[RgbdSource]:
    """Each image and index once."""
    return list({(source.image, source.index): source for source in reversed(sources)}.values())[::-1]
