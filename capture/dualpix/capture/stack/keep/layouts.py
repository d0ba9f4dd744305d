"""Focus stacks as others lay them out, read as listings.

==========  ==========================================================================================================
plain       pictures and ``focus.csv`` with a column ``file`` and ``distance_m`` or ``diopters``, more if known, both
            empty throughout where distances are not known; or pictures alone whose names say ``_D1.220``
ZEDD        ``metadata.txt`` of lines ``run_1 TAB 6D3E TAB metres``, here or above, and
            ``focus_stack/img_run_1_motor_6D3E_aperture_F2.8.jpg``; ``F16.0`` of one run is the all-in-focus frame;
            ``gt/K.txt`` the camera matrix
DDFF-12     an HDF5 file, or a folder with one, see :mod:`.ddff`
==========  ==========================================================================================================

Distances of others come without their errors. A quarter of the smallest step between frames is assumed for one standard
deviation where nothing is said, and the source says so.
"""

from __future__ import annotations

import csv
import io
import math
import re
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from dualpix.capture.camera_protocol import Role
from dualpix.capture.errors import DualpixError
from dualpix.capture.files import parse_json
from dualpix.capture.optics import diopters as diopters_of
from dualpix.capture.rgbd.arrays import read_text
from dualpix.capture.stack.keep.ddff import SUFFIXES as HDF5_SUFFIXES
from dualpix.capture.stack.keep.ddff import White, read_ddff, white_of
from dualpix.capture.stack.keep.listing import ListedFrame, Listing
from dualpix.capture.stack.keep.record import JOURNAL, STACK, check_name

FOCUS_CSV = "focus.csv"
ZEDD_METADATA = "metadata.txt"
ZEDD_DISPLAY = "display.json"
ALL_IN_FOCUS_F_NUMBER = 16.0
"""From this one on a ZEDD picture is the all-in-focus one."""

PICTURE_SUFFIXES = (".png", ".tif", ".tiff", ".jpg", ".jpeg")
RAW_SUFFIXES = (".dng", ".cr2", ".cr3")
COLUMNS = (
    "file", "role", "diopters", "distance_m", "uncertainty_d", "source", "f_number", "exposure_s", "iso", "motor_steps",
    "requested_d", "focal_length_mm", "pixel_pitch_um", "full_scale",
)  # fmt: skip

_MAX_FRAMES = 10_000
_FEWEST_NAMED = 3
_DIOPTERS_IN_NAME = re.compile(r"(?:^|_)D(-?\d+(?:\.\d+)?)(?=_|$)")
_ZEDD_NAME = re.compile(r"img_run_(\d{1,4})_motor_([0-9A-Fa-f]{1,8})_aperture_F(\d{1,3}(?:\.\d+)?)")
_ASSUMED = "assumed error"


def read_layout(path: Path, stack: str | None = None) -> Listing | None:
    """The stack in a folder or HDF5 file, or None where it is none of the layouts.

    Args:
        path: of the folder or file.
        stack: which one of an HDF5 file, by its number or name; needed where it holds several.

    Raises:
        DualpixError: one of the layouts, but broken, or it holds several stacks.
    """
    file = hdf5_file(path)
    if file is not None and (found := read_ddff(file, stack)) is not None:
        return replace(found, frames=with_assumed_uncertainty(found.frames))
    for read in (_read_csv, _read_zedd, _read_names):
        found = read(path)
        if found is not None:
            return found
    return None


def hdf5_file(path: Path) -> Path | None:
    """The HDF5 file that a path names: itself, or the only one in a folder that is no stack of another layout.

    Raises:
        DualpixError: a folder with several.
    """
    if not path.is_dir():
        return path if path.suffix.lower() in HDF5_SUFFIXES else None
    found = [file for file in files_of(path) if file.suffix.lower() in HDF5_SUFFIXES]
    if not found or (path / FOCUS_CSV).is_file() or (path / ZEDD_METADATA).is_file():
        return None
    if len(found) > 1:
        raise DualpixError(
            f"'{path}' holds {len(found)} HDF5 files: {', '.join(file.name for file in found[:4])}",
            expected="one",
            hint="name one of them",
        )
    return found[0]


def with_assumed_uncertainty(frames: Sequence[ListedFrame]) -> tuple[ListedFrame, ...]:
    """Frames whose uncertainty is not known (NaN) get a quarter of the smallest step, see the module's text."""
    if all(math.isfinite(frame.uncertainty_d) or frame.diopters is None for frame in frames):
        return tuple(frames)
    stops = np.unique([frame.diopters for frame in frames if frame.role == "focus" and frame.diopters is not None])
    steps = np.diff(stops)
    quarter = float(steps[steps > 1e-9].min()) / 4 if (steps > 1e-9).any() else 0.1
    return tuple(
        frame if math.isfinite(frame.uncertainty_d) or frame.diopters is None
        else replace(frame, uncertainty_d=quarter, source=f"{frame.source}; {_ASSUMED}")
        for frame in frames
    )  # fmt: skip


def from_distances(files: Sequence[Path], diopters: Sequence[float], source: str) -> Listing:
    """Files with a focus for each."""
    frames = [
        ListedFrame(path, focus, math.nan, source, index)
        for index, (path, focus) in enumerate(zip(files, diopters, strict=True))
    ]
    return Listing(files[0].parent, with_assumed_uncertainty(frames))


def frame_files(folder: Path) -> list[Path]:
    """Raws, or pictures where there are no raws, of a folder, in the order of their names as texts."""
    names = files_of(folder)
    for suffixes in (RAW_SUFFIXES, PICTURE_SUFFIXES):
        chosen = [path for path in names if path.suffix.lower() in suffixes]
        if chosen:
            return chosen[:_MAX_FRAMES]
    return []


def files_of(folder: Path) -> list[Path]:
    """The files of a folder that are not hidden, in the order of their names as texts.

    Raises:
        DualpixError: it cannot be read.
    """
    try:
        return sorted(path for path in folder.iterdir() if path.is_file() and not path.name.startswith("."))
    except OSError as error:
        raise DualpixError(f"cannot read the folder '{folder}': {error.strerror or error}") from error


# --- plain --------------------------------------------------------------------------------------------------------


def _read_csv(path: Path) -> Listing | None:
    table = path / FOCUS_CSV
    if not table.is_file():
        return None
    try:
        rows = list(csv.DictReader(io.StringIO(read_text(table))))
    except csv.Error as error:
        raise DualpixError(f"'{table}' is no table: {error}", expected="a header and a line for each frame") from error
    if not 0 < len(rows) <= _MAX_FRAMES:
        raise DualpixError(f"'{table}' has {len(rows)} frames", expected="a header and a line for each frame")
    frames = with_assumed_uncertainty([_csv_frame(table, row, index) for index, row in enumerate(rows)])
    _check_csv_focus(table, rows, frames)
    focal_mm, pitch_um = (_csv_number(table, rows[0], name) for name in ("focal_length_mm", "pixel_pitch_um"))
    return Listing(path, frames, focal_mm, pitch_um)


def _csv_frame(table: Path, row: dict[str, Any], index: int) -> ListedFrame:
    distance_m, focus = (_csv_number(table, row, name) for name in ("distance_m", "diopters"))
    if focus is None and distance_m is not None:
        if not distance_m > 0:
            raise DualpixError(f"'{table}' has no focus for frame {index + 1}: {distance_m:g} m", expected="above 0")
        focus = diopters_of(distance_m)
    uncertainty, full_scale, steps = (
        _csv_number(table, row, name) for name in ("uncertainty_d", "full_scale", "motor_steps")
    )
    role: Role = "all_in_focus" if row.get("role") == "all_in_focus" else "focus"
    return ListedFrame(
        path=table.parent / check_name(row.get("file") or "", FOCUS_CSV),
        diopters=focus,
        uncertainty_d=math.nan if uncertainty is None else uncertainty,
        source=row.get("source") or FOCUS_CSV,
        index=index,
        role=role,
        f_number=_csv_number(table, row, "f_number"),
        exposure_s=_csv_number(table, row, "exposure_s"),
        iso=_csv_number(table, row, "iso"),
        requested_d=_csv_number(table, row, "requested_d"),
        motor_steps=None if steps is None else round(steps),
        white=(full_scale or 1.0,) * 3,
    )


def _check_csv_focus(table: Path, rows: Sequence[dict[str, Any]], frames: Sequence[ListedFrame]) -> None:
    """A focus for every frame, or a column of it that is empty for all."""
    focus = [frame for frame in frames if frame.role == "focus"]
    silent = [frame.index for frame in focus if frame.diopters is None]
    has_column = any(name in rows[0] for name in ("distance_m", "diopters"))
    if silent and not (has_column and len(silent) == len(focus)):
        raise DualpixError(
            f"'{table}' has no focus for frame {silent[0] + 1}", expected="a column distance_m or diopters"
        )


def _csv_number(table: Path, row: dict[str, Any], name: str) -> float | None:
    text = (row.get(name) or "").strip()
    if not text:
        return None
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if math.isnan(value) or (math.isinf(value) and name != "distance_m"):
        raise DualpixError(f"'{table}': {name} is {text!r}", expected="a number")
    return value


def is_stack(path: Path) -> bool:
    """Whether a folder is a focus stack rather than a folder of captures."""
    return path.is_dir() and (
        any((path / name).is_file() for name in (STACK, JOURNAL, FOCUS_CSV)) or names_say_focus(path)
    )


def names_say_focus(folder: Path) -> bool:
    """Whether a folder holds three or more pictures, and no raws, whose names all say their diopters."""
    files = frame_files(folder)
    pictures = all(file.suffix.lower() in PICTURE_SUFFIXES for file in files)
    return pictures and len(files) >= _FEWEST_NAMED and all(_DIOPTERS_IN_NAME.search(file.stem) for file in files)


def _read_names(path: Path) -> Listing | None:
    """Pictures whose names all say their diopters."""
    if not path.is_dir():
        return None
    files = frame_files(path)
    found = [_DIOPTERS_IN_NAME.search(file.stem) for file in files]
    if not files or not all(found):
        return None
    return from_distances(files, [float(match[1]) for match in found if match], "file name")


# --- ZEDD ---------------------------------------------------------------------------------------------------------


def _read_zedd(path: Path) -> Listing | None:
    pictures = path / "focus_stack" if (path / "focus_stack").is_dir() else path
    if not pictures.is_dir():
        return None
    named = [(file, match) for file in frame_files(pictures) if (match := _ZEDD_NAME.fullmatch(file.stem))]
    table = next(
        (p / ZEDD_METADATA for p in (path, *path.absolute().parents[:4]) if (p / ZEDD_METADATA).is_file()), None
    )
    if not named or table is None:
        return _only_scene(path)
    distances = _zedd_distances(table)
    white = _zedd_white(table.with_name(ZEDD_DISPLAY))
    frames = [_zedd_frame(file, match, distances, index, white) for index, (file, match) in enumerate(named)]
    return Listing(pictures, with_assumed_uncertainty(frames), *_zedd_optics(pictures.parent / "gt" / "K.txt"))


def _only_scene(path: Path) -> Listing | None:
    """The one scene of a data set's root."""
    if not (path / ZEDD_METADATA).is_file():
        return None
    scenes = sorted(folder.parent for folder in path.glob("*/*/focus_stack") if folder.is_dir())
    if len(scenes) > 1:
        raise DualpixError(
            f"'{path}' holds {len(scenes)} scenes", expected="one", hint=f"name one of them, as {scenes[0]}"
        )
    return _read_zedd(scenes[0]) if scenes else None


def _zedd_distances(table: Path) -> dict[int, float]:
    distances: dict[int, float] = {}
    for line in read_text(table).splitlines():
        words = line.split()
        if not words or words[0].startswith("#"):
            continue
        try:
            run, metres = int(words[0].removeprefix("run_")), float(words[2])
        except (ValueError, IndexError):
            metres = math.nan
        if not metres > 0:
            raise DualpixError(f"'{table}': {line.strip()!r}", expected="lines 'run_1 TAB 6D3E TAB metres'")
        distances[run] = metres
    return distances


def _zedd_frame(file: Path, match: re.Match[str], distances: dict[int, float], index: int, white: White) -> ListedFrame:
    run, f_number = int(match[1]), float(match[3])
    if run not in distances:
        raise DualpixError(f"'{file.name}' is of run {run}", expected=f"its distance in {ZEDD_METADATA}")
    role: Role = "all_in_focus" if f_number >= ALL_IN_FOCUS_F_NUMBER else "focus"
    return ListedFrame(
        file, diopters_of(distances[run]), math.nan, "ZEDD metadata", index, role, f_number,
        motor_steps=int(match[2], 16), white=white,
    )  # fmt: skip


def _zedd_white(path: Path) -> White:
    """Light of white, which our exports say in a file of their own; 1 for others."""
    if not path.is_file():
        return (1.0, 1.0, 1.0)
    try:
        return white_of(parse_json(read_text(path, 1 << 16), "it", "the light of white")["white"])
    except (ValueError, KeyError, TypeError, DualpixError) as error:
        raise DualpixError(f"'{path}' is damaged", expected='{"white": light of white, R, G, B}') from error


def _zedd_optics(matrix: Path) -> tuple[float | None, float | None]:
    """Focal length and pitch as of a sensor 36 mm wide: a camera matrix tells their ratio, and no more."""
    if not matrix.is_file():
        return None, None
    try:
        focal_px, centre_px = (float(read_text(matrix).split()[i]) for i in (0, 2))
    except (ValueError, IndexError):
        focal_px = centre_px = math.nan
    if not (focal_px > 0 and centre_px > 0):
        raise DualpixError(f"'{matrix}' is no camera matrix", expected="three lines of three numbers")
    pitch_um = 36_000.0 / (2 * centre_px)
    return focal_px * pitch_um / 1000.0, pitch_um
