"""Files of frames in the folder of a stack: their names, whether they are whole, where those go that do not count."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

from dualpix.capture.camera_protocol import PlannedFrame
from dualpix.capture.errors import OutputError
from dualpix.capture.files import sha256_of_file
from dualpix.capture.stack.keep.record import FrameRecord

SUSPECT = "suspect"
_LAST_SUFFIXES = (".jpg", ".jpeg")  # of files beside the raw one


class FrameFiles:
    """Files of the planned frames in the folder of a stack. Whole ones are never deleted, but put aside."""

    def __init__(self, folder: Path, frames: Sequence[PlannedFrame]) -> None:
        self.folder = folder
        self._stems = {frame.index: stem_of(frame) for frame in frames}

    def of(self, index: int) -> list[Path]:
        """Those of a planned frame that lie in the folder, the raw one first."""
        stem = self._stems[index]
        found = [path for path in self.folder.glob(f"{stem}.*") if path.is_file() and not path.is_symlink()]
        return sorted(found, key=lambda path: (path.suffix.lower() in _LAST_SUFFIXES, path.name))

    def clear(self, index: int) -> None:
        """Put aside whatever lies where the files of a frame are to be."""
        self.put_aside(self.of(index))

    def put_aside(self, paths: Sequence[Path]) -> None:
        """Into ``suspect/``, under names that are free.

        Raises:
            OutputError: they cannot be moved.
        """
        aside = self.folder / SUSPECT
        try:
            for path in filter(Path.exists, paths):
                aside.mkdir(exist_ok=True)
                number = 1
                while (target := aside / f"{path.stem}_{number}{path.suffix}").exists():
                    number += 1
                path.rename(target)
        except OSError as error:
            raise OutputError(f"cannot put files aside in '{aside}': {error.strerror or error}") from error

    def remove_halves(self) -> None:
        """Files that a kill caught while they were written: hidden, beside the name they never got."""
        for stem in (*self._stems.values(), "strip", "stack"):
            for path in self.folder.glob(f".{stem}.*"):
                with suppress(OSError):
                    path.unlink()


def stem_of(frame: PlannedFrame) -> str:
    """Name of a frame's files without suffix: sorts by index, and says the essentials."""
    aperture = "" if frame.exposure.f_number is None else f"_N{frame.exposure.f_number:g}"
    role = "_sharp" if frame.role == "all_in_focus" else ""
    return f"f{frame.index:03d}_D{frame.diopters:.3f}{aperture}{role}"


def file_trouble(paths: Sequence[Path], frame: FrameRecord) -> str | None:
    """Why files are not those of the record any more."""
    for path, size, digest in zip(paths, frame.bytes, frame.sha256, strict=True):
        if size_of(path) is None:
            return f"{path.name} is gone"
        if size_of(path) != size or digest != sha256_of_file(path):
            return f"{path.name} was changed"
    return None


def size_of(path: Path) -> int | None:
    """In bytes; None where it is not there."""
    try:
        return path.stat().st_size
    except OSError:
        return None
