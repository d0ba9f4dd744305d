"""Stacks that something else has taken, as a folder with ``stack.json`` like those of ``dualpix capture``.

Taken are the layouts of :mod:`.layouts`; frames with a list of distances, or with the first and the last one; and
on-camera focus brackets: consecutive raws or JPEGs, by what their EXIF says of the focus.

What cameras write is coarse: Canon's two bounds jump every few motor steps. A bracket's own steps are even in defocus,
so even in diopters to within a few per cent, and a straight line through the bounds of all frames tells more than those
of one. It is taken where it runs close to all bounds; else each frame keeps the middle of its own. Their uncertainty is

    sigma^2 = sigma_line^2 + (half width of the bounds)^2 / 3 + (sensor / 2)^2

The bounds count, as far as known, from the sensor. They are taken to the lens by the thin lens equation; ``sensor`` is
what that changes, of which half is kept as doubt.
"""

from __future__ import annotations

import hashlib
import math
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from importlib.metadata import version
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt

from dualpix.capture.cameras.protocol import CameraInfo, DistanceSource
from dualpix.capture.errors import DualpixError, OutputError
from dualpix.capture.files import atomic_dir
from dualpix.capture.optics import diopters as diopters_of
from dualpix.capture.stack.frames import ListedFrame, Listing, decode_frame, frame_meta
from dualpix.capture.stack.layouts import (
    frame_files,
    from_distances,
    read_ddff_slice,
    read_layout,
    with_assumed_uncertainty,
)
from dualpix.capture.stack.record import STACK, FrameRecord, StackRecord, write_record
from dualpix.capture.stack.sharpness import sharpness_tiles
from dualpix.capture.types import CaptureMeta

Bounds = tuple[float, float]
"""(nearest, farthest) focus in m that a camera wrote, up to infinity."""
Progress = Callable[[int, int, str], None]

BACKEND = "import"
_NUMBER = re.compile(r"(\d+)")
NO_DISTANCE = "none"
_NO_DISTANCES = (
    "no file says where it is focused: kept in this order without distances, so depth will be relative; "
    "metres need --distances, or --first and --last"
)
_UNKNOWN_TIME = "1970-01-01T00:00:00Z"
_SOURCES: dict[str, DistanceSource] = {"exif": "exif", "bracket": "bracket"}
_LEAST_HALF_WIDTH_D = 0.005
_ROUNDING_M = 0.005
"""Bounds are whole centimetres."""
_WITHIN = 2.0
"""Half widths by which the line of least squares may miss the middle of bounds where some line runs within all."""


@dataclass(frozen=True)
class Given:
    """What the user says of the frames; None where he says nothing."""

    diopters: tuple[float, ...] | None = None
    """One for each frame, in the order of their names."""
    ends_d: tuple[float, float] | None = None
    """Of the first and the last frame; those between are even in diopters."""
    uncertainty_d: float | None = None
    focal_length_mm: float | None = None
    pixel_pitch_um: float | None = None
    """Of the full-resolution picture."""
    f_number: float | None = None


@dataclass(frozen=True)
class BracketFocus:
    """Where the frames of an on-camera bracket are focused."""

    diopters: tuple[float, ...]
    uncertainty_d: tuple[float, ...]
    even: bool
    """By the line; else each frame by its own bounds."""
    note: str


@dataclass(frozen=True)
class Imported:
    """What was made."""

    folder: Path
    record: StackRecord
    notes: tuple[str, ...]


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
        DualpixError: no frames, distances are not known, or a frame cannot be decoded.
        OutputError: the folder cannot be written.
    """
    given = given or Given()
    listing, notes = list_source(sources, given)
    if len([f for f in listing.frames if f.role == "focus"]) < 2:
        raise DualpixError(f"{len(listing.frames)} frames in '{sources[0]}'", expected="two focus frames or more")
    tell = on_progress or (lambda done, total, text: None)
    ordered = sorted(listing.frames, key=lambda f: (f.sweep, f.role != "focus", f.f_number or 0.0))
    with atomic_dir(output, STACK) as temporary:
        frames = []
        for index, frame in enumerate(ordered):
            tell(index, len(ordered), frame.name)
            frames.append(_taken_over(temporary, index, frame))
        record = _record(listing, tuple(frames), given)
        write_record(temporary, record)
    tell(len(ordered), len(ordered), "")
    return Imported(output, record, notes)


def list_source(sources: Sequence[Path], given: Given) -> tuple[Listing, tuple[str, ...]]:
    """The frames with their focus, and what should be known about it.

    Raises:
        DualpixError: no frames, or distances are not known.
    """
    only = sources[0] if len(sources) == 1 else None
    if only is not None and (only / STACK).is_file():
        raise DualpixError(f"'{only}' is a stack already", hint="use: dualpix capture export")
    told = given.diopters is not None or given.ends_d is not None
    found = read_layout(only) if only is not None and only.exists() and not told else None
    if found is not None:
        return _with_given(found, given), ()
    files = frame_files(only) if only is not None and only.is_dir() else sorted(sources, key=_natural)
    if not files:
        raise DualpixError(f"no frames in '{sources[0]}'", expected="raws or pictures")
    if told:
        return _with_given(from_distances(files, _given_diopters(given, len(files)), "given"), given), ()
    return _bracket(files, given)


def _given_diopters(given: Given, count: int) -> Sequence[float]:
    if given.diopters is not None:
        return given.diopters
    assert given.ends_d is not None  # noqa: S101 - one of the two was given
    return [float(d) for d in np.linspace(*given.ends_d, count)]


def _with_given(listing: Listing, given: Given) -> Listing:
    frames = listing.frames
    if given.uncertainty_d is not None:
        sigma = given.uncertainty_d
        frames = tuple(replace(f, uncertainty_d=sigma, source=f.source.split(";")[0]) for f in frames)
    if given.f_number is not None:
        frames = tuple(f if f.f_number or f.role != "focus" else replace(f, f_number=given.f_number) for f in frames)
    focal_mm = given.focal_length_mm or listing.focal_length_mm
    return replace(
        listing,
        frames=frames,
        focal_length_mm=focal_mm,
        sensor_pitch_um=given.pixel_pitch_um or listing.sensor_pitch_um,
    )


def _natural(path: Path) -> tuple[Any, ...]:
    """So that IMG_9 comes before IMG_10."""
    return tuple(int(part) if part.isdigit() else part for part in _NUMBER.split(path.name))


# --- on-camera brackets -------------------------------------------------------------------------------------------


def _bracket(files: Sequence[Path], given: Given) -> tuple[Listing, tuple[str, ...]]:
    """Frames in the order in which they were taken, by their EXIF."""
    shots = sorted(
        ((frame_meta(path), path) for path in files), key=lambda shot: (shot[0].date_time or "", _natural(shot[1]))
    )
    metas = [meta for meta, _ in shots]
    _check_same(metas)
    first = metas[0]
    focal_mm = given.focal_length_mm or first.focal_length_mm
    written = [focus_bounds(meta) for meta in metas]
    focus = None if all(entry is None for entry in written) else bracket_focus(written, focal_mm)
    source = NO_DISTANCE if focus is None else "bracket" if focus.even else "exif"
    frames = [
        ListedFrame(
            path, focus.diopters[index] if focus else None, focus.uncertainty_d[index] if focus else math.nan, source,
            index, "focus", meta.f_number or given.f_number, meta.exposure_s, meta.iso, taken_at=meta.date_time,
        )
        for index, (meta, path) in enumerate(shots)
    ]  # fmt: skip
    listing = Listing(files[0].parent, with_assumed_uncertainty(frames), focal_mm, None, given.pixel_pitch_um)
    return _with_given(listing, given), (_NO_DISTANCES if focus is None else focus.note,)


def _check_same(metas: Sequence[CaptureMeta]) -> None:
    """One camera, one focal length, one aperture."""
    for name, what in (("camera", "cameras"), ("focal_length_mm", "focal lengths"), ("f_number", "apertures")):
        values = {getattr(meta, name) for meta in metas}
        if len(values) > 1:
            shown = ", ".join(sorted(str(value) for value in values)[:4])
            raise DualpixError(
                f"the frames are of {len(values)} {what}: {shown}",
                expected="one",
                hint="name the frames of one bracket",
            )


def focus_bounds(meta: CaptureMeta) -> Bounds | float | None:
    """What the camera wrote: bounds from the sensor, or one distance from the lens."""
    if meta.focus_distance_lower_m is not None and meta.focus_distance_upper_m is not None:
        return meta.focus_distance_lower_m, meta.focus_distance_upper_m
    return meta.focus_distance_m


def bracket_focus(written: Sequence[Bounds | float | None], focal_length_mm: float | None) -> BracketFocus:
    """Focus of consecutive frames of an on-camera bracket, see the module's text.

    Args:
        written: of each frame, in the order of taking, see :func:`focus_bounds`.
        focal_length_mm: takes bounds from the sensor to the lens; None leaves them.

    Raises:
        DualpixError: fewer than two frames say anything, or nothing tells them apart.
    """
    middle, half, sensor = _intervals(written, focal_length_mm)
    known = np.isfinite(middle)
    if known.sum() < 2:
        raise DualpixError(
            f"{known.sum()} of {len(written)} frames say where they are focused",
            expected="EXIF with a focus distance",
            hint="give --distances, or --first and --last",
        )
    places = np.arange(len(written), dtype=np.float64)
    line, sigma_line = _line(places, middle, half, known)
    width = float(np.median(half[known]))
    if np.all(np.abs(middle - line)[known] <= _WITHIN * half[known]) and abs(line[-1] - line[0]) > 1e-6:
        doubt = np.where(np.isfinite(sensor), sensor, np.nanmedian(sensor)) / 2
        sigma = np.sqrt(sigma_line**2 + width**2 / 3 + doubt**2)
        note = f"steps taken as even in diopters: {(line[-1] - line[0]) / (len(line) - 1):+.4f} D a frame, from bounds "
        note += f"of +/-{width:.3f} D; one standard deviation {sigma.min():.3f} to {sigma.max():.3f} D"
        return BracketFocus(tuple(map(float, line)), tuple(map(float, sigma)), True, note)
    steps = np.diff(middle)
    if not known.all() or not (np.all(steps > 0) or np.all(steps < 0)):
        raise DualpixError(
            "the focus distances in the files are too coarse to tell the frames apart, and their steps are not even",
            expected="an on-camera bracket",
            hint="give --distances, or --first and --last",
        )
    sigma = np.sqrt(half**2 / 3 + (sensor / 2) ** 2)
    note = f"steps are not even in diopters: each frame by its own focus distance, +/-{half.min():.3f} D or more"
    return BracketFocus(tuple(map(float, middle)), tuple(map(float, sigma)), False, note)


def _intervals(
    written: Sequence[Bounds | float | None], focal_length_mm: float | None
) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64], npt.NDArray[np.float64]]:
    """Middle and half width in diopters, and what taking them to the lens changed; NaN where nothing is written.

    A frame whose bounds are both infinite says only that it is at infinity or beyond: NaN as well.
    """
    rows = []
    for entry in written:
        if isinstance(entry, tuple) and not math.isinf(entry[0]):
            near, far = (1 / m if m > 0 else math.nan for m in entry)
            at_lens = [_from_lens_d(d, focal_length_mm) for d in (near, far)]
            centre = (at_lens[0] + at_lens[1]) / 2
            reach = abs(at_lens[0] - at_lens[1]) / 2 + _ROUNDING_M * near**2
            rows.append((centre, reach, abs(centre - (near + far) / 2)))
        elif isinstance(entry, float) and entry > 0:
            rows.append((diopters_of(entry), math.nan, 0.0))
        else:
            rows.append((math.nan, math.nan, math.nan))
    middle, half, sensor = np.array(rows, np.float64).T
    # One distance alone: as fine as the smallest difference that is seen.
    seen = np.unique(np.round(middle[np.isfinite(middle)], 9))
    finest = float(np.diff(seen).min()) if seen.size > 1 else 0.0
    half = np.where(np.isnan(half) & np.isfinite(middle), finest / 2, half)
    return middle, np.maximum(half, _LEAST_HALF_WIDTH_D), sensor


def _from_lens_d(diopters: float, focal_length_mm: float | None) -> float:
    """Diopters from the lens of a point that is 1 / diopters m from the sensor: u + u f / (u - f) = distance."""
    if not diopters or focal_length_mm is None:
        return diopters
    distance, f = 1 / diopters, focal_length_mm / 1000
    inside = distance * (distance - 4 * f)
    return 2 / (distance + math.sqrt(inside)) if inside >= 0 else diopters


def _line(
    x: npt.NDArray[np.float64], y: npt.NDArray[np.float64], half: npt.NDArray[np.float64], known: npt.NDArray[np.bool_]
) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
    """Values of a weighted straight line at all x, and their standard deviation."""
    design = np.stack([np.ones_like(x), x], axis=1)
    weight = math.sqrt(3) / half[known]
    covariance = np.linalg.inv((design[known] * weight[:, None] ** 2).T @ design[known])
    coefficients = covariance @ (design[known] * weight[:, None] ** 2).T @ y[known]
    spread = design @ covariance @ design.T
    return design @ coefficients, np.sqrt(np.diag(spread))


# --- writing ------------------------------------------------------------------------------------------------------


def _taken_over(folder: Path, index: int, frame: ListedFrame) -> FrameRecord:
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
    return FrameRecord(
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


def _bytes_of(frame: ListedFrame) -> tuple[bytes, str]:
    """Content and suffix: the file as it is, or a slice of an HDF5 file as PNG."""
    if frame.part is None:
        return frame.path.read_bytes(), frame.path.suffix.lower()
    samples = read_ddff_slice(frame.path, *frame.part)
    done, data = cv2.imencode(".png", np.ascontiguousarray(samples[..., ::-1]))
    if not done:
        raise OutputError(f"cannot encode a picture of {samples.shape}")
    return data.tobytes(), ".png"


def _record(listing: Listing, frames: tuple[FrameRecord, ...], given: Given) -> StackRecord:
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
        plan={"mode": BACKEND, "parameters": {}, "frames": wanted},
        frames=frames,
        complete=True,
        versions={"dualpix": version("dualpix")},
    )
