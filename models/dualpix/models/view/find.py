"""What a user named on the command line, sorted into captures and what was found in them.

Results say which files they are of by name and size, not where those lie, so that folders can be moved. The capture of
a result is taken from what was named with it; else it is looked for in the working folder, in the result's, and in the
three folders above that.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from dualpix.capture.errors import DecodeError, DualpixError
from dualpix.capture.files import read_json
from dualpix.capture.raw.batch.inputs import Job, find_jobs
from dualpix.capture.stack.keep.layouts import is_stack

SIDECAR, DECODED = "depth.json", "decode.json"
_MOST_RECORD_BYTES = 16 << 20
_MOST_FOLDERS = 20_000
_NOWHERE = Path("/nonexistent")
_EXPECTED = "what `dualpix depth` wrote"

Kind = Literal["dual-pixel", "stack"]


@dataclass(frozen=True)
class ResultFolder:
    """A folder that ``dualpix depth`` wrote."""

    folder: Path
    record: Mapping[str, Any]

    @property
    def kind(self) -> Kind:
        """What it is a result of."""
        return "dual-pixel" if self.record["kind"] == "disparity_px" else "stack"

    @property
    def size_hw(self) -> tuple[int, int]:
        """Of its maps."""
        return self.record["size"]["height"], self.record["size"]["width"]


@dataclass
class Subject:
    """One capture or stack, and the results of it, each once."""

    name: str
    kind: Kind
    capture: Job | None = None
    stack: Path | None = None
    results: list[ResultFolder] = field(default_factory=list)


def find_subjects(paths: Sequence[Path]) -> list[Subject]:
    """What the paths stand for, in their order.

    Args:
        paths: captures, stacks, folders that ``dualpix depth`` or ``dualpix decode`` wrote, or folders of these.

    Raises:
        DualpixError: a path is none of them, or a result is damaged.
    """
    results = [result for path in paths for result in _results_in(path)]
    subjects: dict[tuple[Kind, str], Subject] = {}
    for result in results:
        name = str(result.record["inputs"][0])
        subject = subjects.setdefault((result.kind, name), Subject(name, result.kind))
        if all(known.folder.resolve() != result.folder.resolve() for known in subject.results):
            subject.results.append(result)
    for path in paths:
        holds_results = any(path == known.folder or path in known.folder.parents for known in results)
        stacks = _stacks_in(path)
        for stack in stacks:
            key: tuple[Kind, str] = ("stack", stack.resolve().name)
            subjects.setdefault(key, Subject(key[1], "stack")).stack = stack
        for job in _captures_in(path, optional=holds_results or bool(stacks)):
            if any(stack in job.path.parents for stack in stacks):  # a frame, which may have halves of its own
                continue
            key = ("dual-pixel", job.path.name)
            subjects.setdefault(key, Subject(key[1], "dual-pixel")).capture = job
    for subject in subjects.values():
        if subject.kind == "dual-pixel" and subject.capture is None:
            subject.capture = _capture_of(subject.results[0])
    return list(subjects.values())


def read_result(folder: Path) -> ResultFolder:
    """A folder of ``dualpix depth``, by its ``depth.json``.

    Raises:
        DualpixError: it is damaged.
    """
    path = folder / SIDECAR
    record = read_json(path, _MOST_RECORD_BYTES, expected=_EXPECTED)
    try:
        size = record["size"]["height"], record["size"]["width"]
        well_formed = (
            record["kind"] in ("disparity_px", "depth_m", "focus_index")
            and all(isinstance(side, int) and 0 < side < 1 << 20 for side in size)
            and isinstance(record["inputs"], list)
            and bool(record["inputs"])
            and all(isinstance(name, str) for name in record["inputs"])
            and isinstance(record["method"], str)
        )
    except (KeyError, TypeError):
        well_formed = False
    if not well_formed:
        raise DualpixError(f"'{path}' is damaged", expected=_EXPECTED, hint="run dualpix depth again")
    return ResultFolder(folder, record)


def _results_in(path: Path) -> Iterator[ResultFolder]:
    if not path.is_dir():
        return
    if (path / SIDECAR).is_file():
        yield read_result(path)
        return
    for folder in _folders_below(path):
        if (folder / SIDECAR).is_file():
            yield read_result(folder)


def _stacks_in(path: Path) -> list[Path]:
    if not path.is_dir() or (path / SIDECAR).is_file():
        return []
    if is_stack(path):
        return [path]
    return [folder for folder in _folders_below(path) if is_stack(folder) and folder.name != "aligned"]


def _folders_below(path: Path) -> Iterator[Path]:
    """Folders that are not hidden, without going into results and stacks; sorted."""
    waiting, seen = [path], 0
    while waiting and seen < _MOST_FOLDERS:
        folder = waiting.pop()
        seen += 1
        if folder != path:
            yield folder
            if (folder / SIDECAR).is_file() or is_stack(folder):
                continue
        try:
            inside = sorted((item for item in folder.iterdir() if not item.name.startswith(".")), reverse=True)
        except OSError:
            continue
        waiting += [item for item in inside if item.is_dir() and not item.is_symlink()]


def _captures_in(path: Path, *, optional: bool) -> list[Job]:
    """Captures that a path names; a folder of results or stacks need not hold any."""
    if path.is_dir():
        if (path / SIDECAR).is_file() or is_stack(path):
            return []
        if (path / DECODED).is_file():
            return [_decoded(path)]
    try:
        return find_jobs([path], None, None, _NOWHERE)[0]
    except DecodeError:
        if optional:
            return []
        raise


def _decoded(folder: Path) -> Job:
    """The halves that ``dualpix decode`` wrote, as a pair.

    Raises:
        DualpixError: they are not there, or in one file.
    """
    for suffix in (".tiff", ".png"):
        left, right = folder / f"left{suffix}", folder / f"right{suffix}"
        if left.is_file() and right.is_file():
            return Job(left, right, _NOWHERE / folder.resolve().name)
    raise DualpixError(
        f"'{folder}' holds no left and right view",
        expected="left.tiff and right.tiff, or .png",
        hint="name the capture itself",
    )


def _capture_of(result: ResultFolder) -> Job | None:
    """The files that a result is of, where they lie near it and have the size that they had."""
    request = result.record.get("request")
    known = request.get("inputs") if isinstance(request, dict) else None
    if not isinstance(known, list):
        return None
    sizes = {entry["name"]: entry.get("size") for entry in known if isinstance(entry, dict) and "name" in entry}
    names = list(result.record["inputs"])
    if any(Path(name).name != name for name in names):  # names alone: nothing is opened by a path from a file
        return None
    here = result.folder.resolve()
    for folder in dict.fromkeys((Path(), here, *here.parents[:3])):
        files = [folder / name for name in names]
        if all(file.is_file() and file.stat().st_size == sizes.get(file.name) for file in files):
            right = files[1] if len(files) == 2 and _is_pair(files) else None
            return Job(files[0], right, _NOWHERE / result.folder.resolve().name)
    return None


def _is_pair(files: Sequence[Path]) -> bool:
    """Two files of one kind are halves; else the second belongs to the first by its name."""
    return files[0].suffix.lower() == files[1].suffix.lower() and files[0].suffix.lower() != ".dng"
