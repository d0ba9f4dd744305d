"""Which samples are in a folder, and which files that belong to a data set make none."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from dualpix.capture.errors import DualpixError, UnknownNameError
from dualpix.capture.rgbd.readers import READERS, Reader
from dualpix.capture.rgbd.sample import RgbdError, RgbdSource, Unused
from dualpix.capture.rgbd.tree import Tree


@dataclass(frozen=True)
class Survey:
    """What was found."""

    sources: tuple[RgbdSource, ...]
    notes: tuple[str, ...]
    """What is not used, a line for each reason, with how many files and the first of them."""


def reader_named(name: str) -> Reader:
    """The reader of that name.

    Raises:
        UnknownNameError: there is none.
    """
    for reader in READERS:
        if reader.name == name:
            return reader
    raise UnknownNameError("RGB-D format", name, [reader.name for reader in READERS])


def survey_rgbd(root: Path, dataset: str | None = None) -> Survey:
    """The RGB-D samples in a file or below a folder; nothing but names is looked at, but for lists and HDF5 headers.

    Args:
        root: a folder, searched with its sub-folders, or a file that holds many samples.
        dataset: ask this reader alone; by default all, and a file belongs to the first that takes it.

    Raises:
        RgbdError: there is none.
    """
    tree = Tree.below(root)
    taken: set[Path] = set()
    found: list[RgbdSource] = []
    unused: list[Unused] = []
    for reader in READERS if dataset is None else (reader_named(dataset),):
        of_this: list[RgbdSource] = []
        for one in reader.find(tree):
            if isinstance(one, Unused):
                unused.append(one)
            elif taken.isdisjoint(one.files):
                of_this.append(one)
        found += _once(of_this)
        taken.update(path for source in of_this for path in source.files)
    left = [one for one in unused if one.path not in taken]
    if not found:
        raise _nothing(root, left)
    return Survey(tuple(found), tuple(_notes(left, root)))


def _once(sources: Sequence[RgbdSource]) -> list[RgbdSource]:
    """Each image and index once, as it is named first."""
    first: dict[tuple[Path, int], RgbdSource] = {}
    for source in sources:
        first.setdefault((source.image, source.index), source)
    return list(first.values())


def _nothing(root: Path, unused: Sequence[Unused]) -> DualpixError:
    damaged = next((one.error for one in unused if one.error is not None), None)
    if damaged is not None:
        return damaged
    why = f": {next(iter(_notes(unused, root)))}" if unused else ""
    return RgbdError(
        f"no RGB-D samples in '{root}'{why}",
        expected=f"one of: {', '.join(reader.name for reader in READERS)}",
        hint="name pairs NAME.png with NAME_depth.png, or list them in index.csv; see --list-formats",
    )


def _notes(unused: Iterable[Unused], root: Path) -> list[str]:
    reasons: dict[str, list[Path]] = {}
    for one in unused:
        reasons.setdefault(one.reason, []).append(one.path)
    return [f"{_count(paths, root)} not used: {reason}" for reason, paths in reasons.items()]


def _count(paths: Sequence[Path], root: Path) -> str:
    first = paths[0].relative_to(root) if paths[0].is_relative_to(root) else Path(paths[0].name)
    return f"'{first}'" if len(paths) == 1 else f"{len(paths)} files (first '{first}')"
