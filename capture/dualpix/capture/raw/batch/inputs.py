"""From what a user names on the command line (files, patterns, folders) to the captures to work on."""

from __future__ import annotations

import glob
import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from dualpix.capture.errors import DecodeError, OutputError
from dualpix.capture.raw.decoding import DECODERS, WHOLE_SUFFIXES
from dualpix.capture.raw.formats.dng_pair import DngPairDecoder, sub_name
from dualpix.capture.raw.formats.pair import pair_stem, right_name
from dualpix.capture.raw.formats.plugin import HEAD_BYTES, Source
from dualpix.capture.raw.formats.raw_depth import RawDepthDumpDecoder

# Taken in folders only where their geometry was given.
_DUMPS = frozenset(RawDepthDumpDecoder.suffixes) - WHOLE_SUFFIXES
_RESULT_MARKS = ("decode.json", "depth.json")
_STACK_HINT = "; a focus stack is made of them by: dualpix capture import"


@dataclass(frozen=True)
class Job:
    """One capture and the folder of its results."""

    path: Path
    right: Path | None
    folder: Path
    sub: Path | None = None
    """The second frame's own file."""
    request: Mapping[str, Any] | None = None
    """What is asked for, see :func:`dualpix.capture.raw.batch.resume.request_of`."""

    @property
    def files(self) -> list[Path]:
        """The capture's files: the named ones, and what belongs to them by its name."""
        named = [path for path in (self.right, self.sub) if path is not None]
        return [self.path, *(named or _partners(self.path))]


@dataclass(frozen=True)
class _Input:
    """A file, and where its result goes below the output folder."""

    path: Path
    below: Path = Path()


@dataclass(frozen=True)
class _Found:
    inputs: list[_Input]
    alone: int = 0
    """Pictures without a right partner."""


def find_jobs(
    files: Sequence[Path],
    left: Path | None,
    right: Path | None,
    output: Path,
    *,
    sub: Path | None = None,
    dumps: bool = False,
) -> tuple[list[Job], list[str]]:
    """One job per capture, and notes for the user.

    A pattern that the shell left alone (``"*.CR3"``) is expanded. A folder is searched with its sub-folders for names
    that a decoder takes: hidden ones, earlier results, the output folder and links to folders are left out, as are
    right files and pictures without one. Files and folders named by the user come in his order, the content of patterns
    and folders is sorted; a file that is named twice, or through a link, comes once.

    A capture becomes the folder of its stem, below the same sub-folders as in a folder that was searched. Where another
    file of that stem comes first (``IMG_1.CR3`` after ``IMG_1.DNG``), its suffix joins the name: ``IMG_1_CR3``.

    Args:
        files: files, patterns and folders.
        left: instead of ``files``, the left file of a pair.
        right: the right file, for a single capture.
        output: folder of the result folders.
        sub: the second frame's own file, for a single capture.
        dumps: also take headerless dumps from folders; their geometry was given.

    Raises:
        DecodeError: nothing to do, or the arguments contradict each other.
        OutputError: two captures of one name.
    """
    if left is not None and files:
        raise DecodeError("both FILES and --left were given", expected="one of the two")
    given = [left] if left is not None else list(files)
    if not given:
        raise DecodeError("no input", expected="FILES, or --left A --right B")
    found = [part for path in given for part in _expanded(path, output, dumps)]
    inputs = _without_repeats([item for part in found for item in part.inputs])
    for option, value in (("--right", right), ("--sub", sub)):
        if value is not None and len(inputs) > 1:
            raise DecodeError(f"{option} with {len(inputs)} files", expected="one left file")
    alone = sum(part.alone for part in found)
    notes = [f"left out {alone} picture{'s' * (alone > 1)} without a right partner"] if alone else []
    return _with_folders(inputs, right, sub, output), notes


def _expanded(path: Path, output: Path, dumps: bool) -> Iterator[_Found]:
    """What one argument stands for."""
    for match in _matches(path):
        # os.path, as names that are too long are no folder here; they fail as files, with their own message.
        yield _searched(match, output, dumps) if os.path.isdir(match) else _Found([_Input(match)])  # noqa: PTH112


def _matches(path: Path) -> list[Path]:
    if not glob.has_magic(str(path)) or os.path.lexists(path):
        return [path]
    matches = sorted(glob.glob(str(path), recursive=True))  # noqa: PTH207 - Path.glob takes no absolute pattern
    if not matches:
        raise DecodeError(f"no file matches '{path}'", hint="look at the folder and at upper and lower case")
    return [Path(match) for match in matches]


def _searched(root: Path, output: Path, dumps: bool) -> _Found:
    """The captures in a folder and its sub-folders.

    Raises:
        DecodeError: there is none.
    """
    suffixes = {suffix for decoder in DECODERS for suffix in decoder.suffixes}
    suffixes = suffixes | _DUMPS if dumps else suffixes - _DUMPS
    names = [path for path in _walked(root, output) if path.suffix.lower() in suffixes]
    rights = {path: right_name(path) for path in names if path.suffix.lower() not in WHOLE_SUFFIXES | _DUMPS}
    partners = {path for name in names for path in _partners(name)}
    inputs, alone = [], 0
    for path in names:
        if path not in rights or ((right := rights[path]) is not None and right.is_file()):
            inputs.append(_Input(path, path.parent.relative_to(root)))
        else:
            alone += path not in partners
    if not inputs:
        pictures = f", only {alone} picture{'s' * (alone > 1)} without a right partner" if alone else ""
        raise DecodeError(
            f"'{root}' is a folder without dual-pixel captures{pictures}",
            expected=f"files ending in {' '.join(sorted(suffixes))}",
            hint="name the files of a pair with --left and --right" + _STACK_HINT * (alone > 2) if alone else "",
        )
    return _Found(inputs, alone)


def _walked(root: Path, output: Path) -> Iterator[Path]:
    """Ordinary visible files, folder by folder, sorted."""
    own = os.path.realpath(output)
    for folder, folders, files in os.walk(root):
        if Path(folder) != root and (os.path.realpath(folder) == own or any(mark in files for mark in _RESULT_MARKS)):
            folders.clear()
            continue
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        for name in sorted(files):
            path = Path(folder, name)
            if not name.startswith(".") and path.is_file():
                yield path


def _without_repeats(inputs: list[_Input]) -> list[_Input]:
    """Each real file once, and no file that belongs to another one here (``*.png``)."""
    first: dict[str, _Input] = {}
    for item in inputs:
        first.setdefault(os.path.realpath(item.path), item)
    partners = {os.path.realpath(path) for item in inputs for path in _partners(item.path)}
    return [item for real, item in first.items() if real not in partners]


def _partners(path: Path) -> Iterator[Path]:
    """The other files of the capture that ``path`` is the first file of."""
    if (right := right_name(path)) is not None:
        yield right
    if (sub := sub_name(path)) is not None and _has_sub(path):
        yield sub


def _has_sub(path: Path) -> bool:
    """Whether a DNG needs the one that its name suggests as its second: IMG_1.dng may be a shot of its own."""
    try:
        with path.open("rb") as file:
            return DngPairDecoder().refuses(Source(path, file.read(HEAD_BYTES))) is None
    except OSError:
        return False


def _with_folders(inputs: list[_Input], right: Path | None, sub: Path | None, output: Path) -> list[Job]:
    jobs: dict[Path, Job] = {}
    for item in inputs:
        folder = output / item.below / pair_stem(item.path)
        if folder in jobs and item.path.suffix != jobs[folder].path.suffix:
            folder = folder.with_name(f"{folder.name}_{item.path.suffix.lstrip('.')}")
        if folder in jobs:
            raise OutputError(
                f"'{item.path}' and '{jobs[folder].path}' both become '{folder}'",
                hint="decode one of them with another -o, or name the folder above both",
            )
        jobs[folder] = Job(item.path, right, folder, sub)
    return list(jobs.values())
