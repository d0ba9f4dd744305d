"""Stacks that something else has taken, as a folder with ``stack.json`` like those of ``dualpix capture``.

Taken are the layouts of :mod:`.layouts`; frames with a list of distances, or with the first and the last one; on-camera
focus brackets, raws or JPEGs, by what their EXIF says of the focus (:mod:`.bracket`); and frames that say nothing of
it, which are kept in their order (:mod:`.order`) without distances.
"""

from __future__ import annotations

import hashlib
import math
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from importlib.metadata import version
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from dualpix.capture.camera_protocol import CameraInfo, DistanceSource
from dualpix.capture.errors import DualpixError, OutputError
from dualpix.capture.files import atomic_dir
from dualpix.capture.stack.keep.belonging import BracketOptics, Shot, bracket_optics, check_sizes
from dualpix.capture.stack.keep.bracket import BracketFocus, bracket_focus, focus_bounds, turns_back
from dualpix.capture.stack.keep.ddff import DdffStack, ddff_stacks, read_ddff_slice
from dualpix.capture.stack.keep.foreign import foreign_among, only_foreign
from dualpix.capture.stack.keep.frames import decode_frame, frame_meta
from dualpix.capture.stack.keep.layouts import (
    RAW_SUFFIXES,
    files_of,
    frame_files,
    hdf5_file,
    read_layout,
    with_assumed_uncertainty,
)
from dualpix.capture.stack.keep.listing import ListedFrame, Listing
from dualpix.capture.stack.keep.order import Order, TakenOrder, taken_order
from dualpix.capture.stack.keep.orientation import with_one_orientation
from dualpix.capture.stack.keep.record import STACK, FrameRecord, StackRecord, write_record
from dualpix.capture.stack.sharpness import sharpness_tiles
from dualpix.capture.types import CaptureMeta

Progress = Callable[[int, int, str], None]

BACKEND = "import"
NO_DISTANCE = "none"
ALL_STACKS = "all"
_KEPT_WITHOUT = (
    "kept in this order without distances, so depth will be relative; metres need --distances, or --first and --last"
)
_UNKNOWN_TIME = "1970-01-01T00:00:00Z"
_SOURCES: dict[str, DistanceSource] = {"exif": "exif", "bracket": "bracket", NO_DISTANCE: "none"}


@dataclass(frozen=True)
class Given:
    """What the user says of the frames; None where he says nothing."""

    diopters: tuple[float, ...] | None = None
    """One for each frame, in their order."""
    ends_d: tuple[float, float] | None = None
    """Of the first and the last frame; those between are even in diopters."""
    order: Order | None = None
    """By which frames are put in order."""
    stack: str | None = None
    """Which one of a file of several, by its number or name."""
    uncertainty_d: float | None = None
    focal_length_mm: float | None = None
    pixel_pitch_um: float | None = None
    """Of the full-resolution picture."""
    f_number: float | None = None


@dataclass(frozen=True)
class Imported:
    """What was made."""

    folder: Path
    record: StackRecord
    notes: tuple[str, ...]


def import_stacks(
    sources: Sequence[Path], output: Path, given: Given | None = None, on_progress: Progress | None = None
) -> list[Imported]:
    """As :func:`import_stack`, or each stack of an HDF5 file into a folder of ``output``, where all are asked for.

    Raises:
        DualpixError, OutputError: as :func:`import_stack`; what was made before stays.
    """
    given = given or Given()
    if given.stack != ALL_STACKS:
        return [import_stack(sources, output, given, on_progress)]
    file = hdf5_file(sources[0]) if len(sources) == 1 and sources[0].exists() else None
    if file is None:
        raise DualpixError(f"'{sources[0]}' is no file of several stacks", expected="a DDFF-12 file for --index")
    return [
        import_stack([file], output / folder_name(stack), replace(given, stack=stack.name), on_progress)
        for stack in ddff_stacks(file)
    ]


def folder_name(stack: DdffStack) -> str:
    """Of one stack among those of a file: ``stack_val_003``."""
    return f"{stack.key}_{stack.place:03}"


def import_stack(
    sources: Sequence[Path], output: Path, given: Given | None = None, on_progress: Progress | None = None
) -> Imported:
    """Copy a stack into a folder with a record.

    Args:
        sources: a folder, an HDF5 file of DDFF-12, or the frames themselves.
        output: made, or replaced where it holds an earlier import; appears whole or not at all.
        given: distances and optics that the files do not tell.
        on_progress: called with (done, total, file).

    Raises:
        DualpixError: no frames, some do not belong to the rest, they contradict what is given, or one cannot be
            decoded.
        OutputError: the folder cannot be written.
    """
    given = given or Given()
    listing, notes = list_source(sources, given)
    if len([f for f in listing.frames if f.role == "focus"]) < 2:
        raise DualpixError(f"{len(listing.frames)} frames in '{sources[0]}'", expected="two focus frames or more")
    tell = on_progress or (lambda done, total, text: None)
    ordered = sorted(listing.frames, key=lambda f: (f.sweep, f.role != "focus", f.f_number or 0.0))
    with atomic_dir(output, STACK) as temporary:
        frames, sizes = [], []
        for index, frame in enumerate(ordered):
            tell(index, len(ordered), frame.name)
            record, size = _taken_over(temporary, index, frame)
            frames.append(record)
            sizes.append((frame.name, size))
        check_sizes(sizes)
        record_of_all = _record(listing, tuple(frames), given, notes)
        write_record(temporary, record_of_all)
    tell(len(ordered), len(ordered), "")
    return Imported(output, record_of_all, notes)


def list_source(sources: Sequence[Path], given: Given) -> tuple[Listing, tuple[str, ...]]:
    """The frames with their focus, and what should be known about it.

    Raises:
        DualpixError: no frames, some do not belong to the rest, or they contradict what is given.
    """
    only = sources[0] if len(sources) == 1 else None
    if only is not None and (only / STACK).is_file():
        raise DualpixError(f"'{only}' is a stack already", hint="use: dualpix capture export")
    told = given.diopters is not None or given.ends_d is not None
    found = read_layout(only, given.stack) if only is not None and only.exists() and not told else None
    notes: tuple[str, ...] = ()
    if found is not None:
        listing = _with_given(found, given)
    else:
        listing, notes = _frames_of(sources, only, given)
    frames, turned = with_one_orientation(listing.frames)
    return replace(listing, frames=frames), (*notes, *turned)


def _frames_of(sources: Sequence[Path], only: Path | None, given: Given) -> tuple[Listing, tuple[str, ...]]:
    """Frames as they are, of a folder or named one by one."""
    named = only is None or not only.is_dir()
    files = _without_twins(sources) if named else frame_files(sources[0])
    others = [] if named else foreign_among(files_of(sources[0]))
    if not files:
        if others:
            raise only_foreign(sources[0], others)
        raise DualpixError(f"no frames in '{sources[0]}'", expected="raws or pictures")
    twice = [path for path, times in Counter(files).items() if times > 1]
    if twice:
        raise DualpixError(f"'{twice[0]}' is named twice", expected="each frame once")
    metas = [frame_meta(path) for path in files]
    order = taken_order(files, [meta.date_time for meta in metas], named=named, wanted=given.order)
    shots = [Shot(files[place], metas[place]) for place in order.places]
    told = given.diopters is not None or given.ends_d is not None
    listing, notes = _told(shots, order, given) if told else _bracket(shots, order, given)
    twins = len(sources) - len(files) if named else 0
    beside = [f"{twins} pictures are left out beside the raws of their names"] if twins else []
    return listing, (*notes, *beside, *_left_out(files, others))


def _without_twins(sources: Sequence[Path]) -> list[Path]:
    """Frames as they are named, without pictures that a camera saved beside a raw."""
    raws = {path.with_suffix("") for path in sources if path.suffix.lower() in RAW_SUFFIXES}
    return [path for path in sources if path.suffix.lower() in RAW_SUFFIXES or path.with_suffix("") not in raws]


def _left_out(files: Sequence[Path], others: Sequence[tuple[Path, str]]) -> list[str]:
    """Of pictures that may be frames as well, but for their kind; one beside a frame of its name is that frame."""
    stems = {path.stem.casefold() for path in files}
    alone = [(path, kind) for path, kind in others if path.stem.casefold() not in stems]
    if not alone:
        return []
    many = f"{len(alone)} files are" if len(alone) > 1 else "1 file is"
    return [f"{many} left out, as {alone[0][1]} is not read here: '{alone[0][0].name}'"]


def _told(shots: Sequence[Shot], order: TakenOrder, given: Given) -> tuple[Listing, tuple[str, ...]]:
    """Frames whose distances the user gave."""
    diopters = given.diopters
    if diopters is None:
        assert given.ends_d is not None  # noqa: S101 - one of the two was given
        diopters = tuple(float(d) for d in np.linspace(*given.ends_d, len(shots)))
    if len(shots) != len(diopters):
        raise DualpixError(f"{len(shots)} frames and {len(diopters)} distances", expected="one distance for each frame")
    grid = len(set(diopters)) < len(diopters) and given.f_number is None
    optics = None if grid else _optics(shots, diopters, given)
    frames = [_frame(shot, index, diopters[index], math.nan, "given", optics) for index, shot in enumerate(shots)]
    return _listing(frames, optics, given), (order.note, *(optics.notes if optics else ()))


def _bracket(shots: Sequence[Shot], order: TakenOrder, given: Given) -> tuple[Listing, tuple[str, ...]]:
    """Frames by what their EXIF says of the focus, without distances where that does not tell them apart."""
    focus, note = _exif_focus(shots, given)
    optics = _optics(shots, None if focus is None else focus.diopters, given)
    frames = []
    for index, shot in enumerate(shots):
        if focus is None:
            frames.append(_frame(shot, index, None, math.nan, NO_DISTANCE, optics))
            continue
        source = "bracket" if focus.even or index in focus.between else "exif"
        frames.append(_frame(shot, index, focus.diopters[index], focus.uncertainty_d[index], source, optics))
    return _listing(frames, optics, given), (order.note, note, *optics.notes)


def _exif_focus(shots: Sequence[Shot], given: Given) -> tuple[BracketFocus | None, str]:
    written = [focus_bounds(shot.meta) for shot in shots]
    different = {entry for entry in written if entry is not None}
    if len(different) < 2:
        found = f"all that say it are at {_text(different.pop())}" if different else "no file says where it is focused"
        return None, f"{found}: {_KEPT_WITHOUT}"
    back = turns_back(written)
    if back is not None:
        before, at = (f"'{shots[place].path.name}' at {_text(written[place])}" for place in back)
        raise DualpixError(
            f"the focus turns back, and some frames state the same: {at} comes after {before}",
            expected="one bracket, from one end to the other",
            hint="name its frames, or give --distances",
        )
    try:
        focus = bracket_focus(written, given.focal_length_mm or shots[0].meta.focal_length_mm)
    except DualpixError as error:
        return None, f"{error.found}: {_KEPT_WITHOUT}"
    return focus, focus.note


def _text(entry: tuple[float, float] | float | None) -> str:
    return f"{entry[0]:g} to {entry[1]:g} m" if isinstance(entry, tuple) else f"{entry:g} m"


def _optics(shots: Sequence[Shot], diopters: Sequence[float] | None, given: Given) -> BracketOptics:
    return bracket_optics(shots, diopters, f_number=given.f_number, focal_length_mm=given.focal_length_mm)


def _frame(
    shot: Shot, index: int, diopters: float | None, uncertainty_d: float, source: str, optics: BracketOptics | None
) -> ListedFrame:
    """A frame as its file states it, at the aperture of the whole bracket where there is one."""
    meta = shot.meta
    f_number = meta.f_number if optics is None else optics.f_number
    return ListedFrame(
        shot.path, diopters, uncertainty_d, source, index, "focus", f_number, meta.exposure_s, meta.iso,
        taken_at=meta.date_time, stated_f_number=meta.f_number if meta.f_number != f_number else None,
    )  # fmt: skip


def _listing(frames: Sequence[ListedFrame], optics: BracketOptics | None, given: Given) -> Listing:
    focal_mm = given.focal_length_mm if optics is None else optics.focal_length_mm
    listing = Listing(frames[0].path.parent, with_assumed_uncertainty(frames), focal_mm, None, given.pixel_pitch_um)
    return _with_given(listing, given)


def _with_given(listing: Listing, given: Given) -> Listing:
    frames = listing.frames
    if given.uncertainty_d is not None:
        sigma = given.uncertainty_d
        frames = tuple(replace(f, uncertainty_d=sigma, source=f.source.split(";")[0]) for f in frames)
    if given.f_number is not None:
        frames = tuple(f if f.f_number or f.role != "focus" else replace(f, f_number=given.f_number) for f in frames)
    return replace(
        listing,
        frames=frames,
        focal_length_mm=given.focal_length_mm or listing.focal_length_mm,
        sensor_pitch_um=given.pixel_pitch_um or listing.sensor_pitch_um,
    )


# --- writing ------------------------------------------------------------------------------------------------------


def _taken_over(folder: Path, index: int, frame: ListedFrame) -> tuple[FrameRecord, tuple[int, ...]]:
    """The record of a frame that was copied, and its decoded size (H, W)."""
    decoded = decode_frame(frame)  # before it is copied: what cannot be read is no frame
    data, suffix = _bytes_of(frame)
    aperture = "" if frame.f_number is None else f"_N{frame.f_number:g}"
    focus = "" if frame.diopters is None else f"_D{frame.diopters:.3f}"
    name = f"s0001_f{index:02}{focus}{aperture}{suffix}"
    (folder / name).write_bytes(data)
    try:
        tiles = tuple(tuple(float(v) for v in row) for row in sharpness_tiles(decoded.image))
    except ValueError:  # a tiny picture
        tiles = None
    meta = decoded.meta
    details: dict[str, Any] = {"original": frame.name, "distance": frame.source}
    if frame.white != (1.0, 1.0, 1.0):
        details["white"] = list(frame.white)
    if frame.orientation is not None:
        details["orientation"] = frame.orientation
    if frame.stated_f_number is not None:
        details["stated_f_number"] = frame.stated_f_number
    record = FrameRecord(
        index=index,
        role=frame.role,
        files=(name,),
        sha256=(hashlib.sha256(data).hexdigest(),),
        bytes=(len(data),),
        requested_d=frame.diopters if frame.requested_d is None else frame.requested_d,
        achieved_d=frame.diopters,
        uncertainty_d=None if frame.diopters is None else frame.uncertainty_d,
        distance_source="none" if frame.diopters is None else _SOURCES.get(frame.source.split(";")[0], "calibration"),
        motor_steps=frame.motor_steps,
        f_number=frame.f_number or meta.f_number,
        exposure_s=frame.exposure_s or meta.exposure_s,
        iso=frame.iso or meta.iso,
        taken_at=frame.taken_at or meta.date_time or _UNKNOWN_TIME,
        settle_s=0.0,
        settle_frames=0,
        settled=True,
        sharpness_tiles=tiles,
        retries=0,
        focus_distance_lower_m=meta.focus_distance_lower_m,
        focus_distance_upper_m=meta.focus_distance_upper_m,
        details=details,
    )
    return record, decoded.image.shape[:2]


def _bytes_of(frame: ListedFrame) -> tuple[bytes, str]:
    """Content and suffix: the file as it is, or a slice of an HDF5 file as PNG."""
    if frame.part is None:
        return frame.path.read_bytes(), frame.path.suffix.lower()
    samples = read_ddff_slice(frame.path, *frame.part)
    done, data = cv2.imencode(".png", np.ascontiguousarray(samples[..., ::-1]))
    if not done:
        raise OutputError(f"cannot encode a picture of {samples.shape}")
    return data.tobytes(), ".png"


def _parameters(given: Given, notes: Sequence[str]) -> dict[str, Any]:
    """What the user said of the optics, which is believed before the files; and what was said to the user."""
    said = {"focal_length_mm": given.focal_length_mm, "pixel_pitch_um": given.pixel_pitch_um}
    return {**{name: value for name, value in said.items() if value is not None}, "notes": list(notes)}


def _record(listing: Listing, frames: tuple[FrameRecord, ...], given: Given, notes: Sequence[str]) -> StackRecord:
    first = frame_meta(listing.frames[0].path) if listing.frames[0].part is None else CaptureMeta()
    wanted = [
        {
            "index": frame.index,
            "diopters": frame.requested_d,
            "role": frame.role,
            "exposure": {"f_number": frame.f_number, "exposure_s": frame.exposure_s, "iso": frame.iso},
        }
        for frame in frames
    ]
    camera = CameraInfo(
        backend=BACKEND,
        address=BACKEND,
        model=first.camera,
        lens=first.lens_model,
        focal_length_mm=listing.focal_length_mm or first.focal_length_mm,
        pixel_pitch_um=given.pixel_pitch_um or listing.sensor_pitch_um or listing.pixel_pitch_um,
        f_numbers=tuple(sorted({frame.f_number for frame in frames if frame.f_number})),
    )
    return StackRecord(
        session="s0001",
        created_at=frames[0].taken_at,
        camera=camera,
        plan={"mode": BACKEND, "parameters": _parameters(given, notes), "frames": wanted},
        frames=frames,
        complete=True,
        versions={"dualpix": version("dualpix")},
    )
