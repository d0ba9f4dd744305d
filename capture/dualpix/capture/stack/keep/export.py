"""Stacks in the layouts of others: a plain folder, ZEDD's, DDFF-12's; :mod:`.layouts` reads all of them back.

Convention: a plain folder keeps linear light as 16-bit PNG, ``light = code / 65535 * full_scale``; what noise has below
zero is cut off. ZEDD and DDFF-12 hold 8-bit sRGB of one exposure and white balance for all frames, which an added file
or attribute states, so that reading gives the light back to within the rounding.
"""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal, get_args

import cv2
import numpy as np
import numpy.typing as npt

from dualpix.capture.arrays.hdf5 import import_h5py
from dualpix.capture.errors import DualpixError, OutputError
from dualpix.capture.files import atomic_dir, write_json
from dualpix.capture.optics import distance_m
from dualpix.capture.pictures.display import grey_world, srgb_from_linear
from dualpix.capture.raw.write.writers import Coding, full_scale_for
from dualpix.capture.stack.keep.ddff import DDFF_DISTANCES, White, ddff_distances_m
from dualpix.capture.stack.keep.frames import DecodedFrame, decode_frame
from dualpix.capture.stack.keep.layouts import (
    ALL_IN_FOCUS_F_NUMBER,
    COLUMNS,
    FOCUS_CSV,
    ZEDD_DISPLAY,
    ZEDD_METADATA,
)
from dualpix.capture.stack.keep.listing import ListedFrame, Listing
from dualpix.capture.stack.keep.load import choose_aperture, lens_of, loaded_listing
from dualpix.capture.types import FloatImage, LensModel

Layout = Literal["plain", "zedd", "ddff"]
LAYOUTS: tuple[Layout, ...] = get_args(Layout)
PictureFormat = Literal["jpg", "png"]
DDFF_FILE = "ddff-dataset-test.h5"
DDFF_SLICES = 10
SIDECARS = {"plain": FOCUS_CSV, "zedd": ZEDD_METADATA, "ddff": DDFF_FILE}
"""The file that marks an earlier result of each."""
_BRIGHT_PERCENTILE, _BRIGHT = 99.5, 0.9
_JPEG_QUALITY = 97
_SAME_STOP_D = 0.02
_PNG_FAST = [cv2.IMWRITE_PNG_COMPRESSION, 1]


@dataclass(frozen=True)
class Exported:
    """What was written."""

    folder: Path
    files: tuple[str, ...]
    notes: tuple[str, ...] = ()
    """What the layout could not hold."""


def export_stack(
    folder: Path,
    output: Path,
    layout: Layout,
    *,
    f_number: float | None = None,
    aligned: bool = True,
    picture: PictureFormat = "jpg",
) -> Exported:
    """Write a stack in another layout.

    Args:
        folder: of the stack.
        output: made, or replaced where it holds an earlier export of the same layout; appears whole or not at all.
        layout: which.
        f_number: of this aperture only; by default all, of DDFF-12, which holds one, the widest.
        aligned: take the aligned frames where there are any.
        picture: of ZEDD; jpg is what its readers expect, png loses less.

    Raises:
        DualpixError: no stack, no such aperture, or no distances for a layout that states them.
        OutputError: the folder cannot be written.
    """
    listing = loaded_listing(folder, aligned=aligned)
    if f_number is not None or layout == "ddff":
        chosen = choose_aperture(listing, f_number)
        kept = tuple(f for f in listing.frames if f.role != "focus" or f.f_number == chosen)
        listing = replace(listing, frames=kept)
    choose_aperture(listing, None)
    if layout != "plain" and not listing.has_distances:
        raise DualpixError(
            f"nothing says where the frames of '{listing.folder}' are focused, and {layout} states metres",
            expected="a stack with distances",
            hint="use --to plain, or import it again with --distances, or --first and --last",
        )
    notes: list[str] = []
    with atomic_dir(output, SIDECARS[layout]) as temporary:
        if layout == "plain":
            frames = ((frame, decode_frame(frame)) for frame in in_order(listing))
            files = write_plain(temporary, listing, frames)
        elif layout == "zedd":
            files, notes = _write_zedd(temporary, listing, picture)
        else:
            files, notes = _write_ddff(temporary, listing)
    return Exported(output, tuple(files), tuple(notes))


def in_order(listing: Listing) -> list[ListedFrame]:
    """Far to near, then wide to narrow, the all-in-focus frame at its stop."""
    return sorted(listing.frames, key=lambda f: (f.sweep, f.role != "focus", f.f_number or 0.0))


# --- plain --------------------------------------------------------------------------------------------------------


def write_plain(folder: Path, listing: Listing, frames: Iterable[tuple[ListedFrame, DecodedFrame]]) -> list[str]:
    """Pictures ``03_D1.220_F2.8.png`` and ``focus.csv`` into ``folder``; returns their names.

    Args:
        folder: exists.
        listing: for the optics.
        frames: with their light, in the order in which they are numbered.

    Raises:
        OutputError: a picture cannot be encoded.
    """
    rows, names = [], []
    for number, (frame, decoded) in enumerate(frames):
        name = _plain_name(number, frame)
        coding = Coding(16, full_scale=full_scale_for(float(decoded.image.max())))
        (folder / name).write_bytes(_encoded(".png", coding.encode(decoded.image), _PNG_FAST))
        rows.append(_csv_row(name, frame, lens_of(listing, frame.f_number, decoded), coding.full_scale))
        names.append(name)
    text = io.StringIO()
    table = csv.DictWriter(text, COLUMNS, lineterminator="\n")
    table.writeheader()
    table.writerows(rows)
    (folder / FOCUS_CSV).write_text(text.getvalue(), "utf-8")
    return [*names, FOCUS_CSV]


def _plain_name(number: int, frame: ListedFrame) -> str:
    aperture = f"_F{frame.f_number:g}" if frame.f_number else ""
    sharp = "_all_in_focus" if frame.role == "all_in_focus" else ""
    focus = "" if frame.diopters is None else f"_D{frame.diopters:.3f}"
    return f"{number:02}{focus}{aperture}{sharp}.png"


def _csv_row(name: str, frame: ListedFrame, lens: LensModel, full_scale: float) -> dict[str, Any]:
    values: dict[str, Any] = {
        "file": name,
        "role": frame.role,
        "diopters": frame.diopters,
        "distance_m": None if frame.diopters is None else distance_m(frame.diopters),
        "uncertainty_d": frame.uncertainty_d,
        "source": frame.source,
        "f_number": frame.f_number,
        "exposure_s": frame.exposure_s,
        "iso": frame.iso,
        "motor_steps": frame.motor_steps,
        "requested_d": frame.requested_d,
        "focal_length_mm": lens.focal_length_mm,
        "pixel_pitch_um": lens.pixel_pitch_um,
        "full_scale": full_scale,
    }
    return {key: "" if value is None or value != value else value for key, value in values.items()}


# --- ZEDD ---------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Stop:
    """The frames at one distance."""

    frames: tuple[ListedFrame, ...]

    @property
    def diopters(self) -> float:
        return float(np.median([frame.sweep for frame in self.frames]))

    @property
    def spread_d(self) -> float:
        return float(np.ptp([frame.sweep for frame in self.frames]))


def _write_zedd(folder: Path, listing: Listing, picture: PictureFormat) -> tuple[list[str], list[str]]:
    stops = _stops(listing)[::-1]  # its runs count from near to far
    codes = _motor_codes(stops)
    scene = Path("val") / "val_0001"
    pictures = folder / scene / "focus_stack"
    pictures.mkdir(parents=True)
    (folder / scene / "gt").mkdir()
    middle = decode_frame(stops[len(stops) // 2].frames[0])
    white = _white_of(middle.image)
    files = []
    for run, (stop, code) in enumerate(zip(stops, codes, strict=True), 1):
        for frame in stop.frames:
            name = f"img_run_{run}_motor_{code}_aperture_F{_zedd_f_number(frame):.1f}.{picture}"
            shown = _display(decode_frame(frame).image, white)
            quality = [cv2.IMWRITE_JPEG_QUALITY, _JPEG_QUALITY] if picture == "jpg" else _PNG_FAST
            (pictures / name).write_bytes(_encoded(f".{picture}", shown, quality))
            files.append((scene / "focus_stack" / name).as_posix())
    lines = ["# run\tmotor\tfocus distance (m)"]
    lines += [
        f"run_{run}\t{code}\t{distance_m(stop.diopters)!r}"
        for run, (stop, code) in enumerate(zip(stops, codes, strict=True), 1)
    ]
    (folder / ZEDD_METADATA).write_text("\n".join(lines) + "\n", "utf-8")
    write_json(folder / ZEDD_DISPLAY, {"white": list(white), "codes": "light = white * srgb_to_linear(code / 255)"})
    notes = _zedd_notes(stops)
    lens = lens_of(listing, stops[0].frames[0].f_number, middle)
    files += [ZEDD_METADATA, ZEDD_DISPLAY]
    if math.isfinite(lens.focal_length_mm * lens.pixel_pitch_um):
        matrix = camera_matrix(lens, middle.image.shape[:2])
        np.savetxt(folder / scene / "gt" / "K.txt", matrix, fmt="%.6f")
        files.append((scene / "gt" / "K.txt").as_posix())
    else:
        notes.append("focal length or pixel pitch is not known: no K.txt")
    return files, notes


def _stops(listing: Listing) -> list[_Stop]:
    """Frames of one distance together, far to near; apertures of a stop were asked for at one distance."""
    groups: list[list[ListedFrame]] = []
    for frame in in_order(listing):
        near = [group for group in groups if _same_stop(group[0], frame)]
        taken = {(f.f_number, f.role) for f in near[0]} if near else set()
        if near and (frame.f_number, frame.role) not in taken:
            near[0].append(frame)
        else:
            groups.append([frame])
    return sorted((_Stop(tuple(group)) for group in groups), key=lambda stop: stop.diopters)


def _same_stop(first: ListedFrame, other: ListedFrame) -> bool:
    if first.requested_d is not None and other.requested_d is not None:
        return abs(first.requested_d - other.requested_d) < 1e-6
    return abs(first.sweep - other.sweep) < _SAME_STOP_D


def _motor_codes(stops: Sequence[_Stop]) -> list[str]:
    """Motor positions as four hexadecimal digits where each stop has its own, else the number of the run."""
    steps = [stop.frames[0].motor_steps for stop in stops]
    known = [step for step in steps if step is not None and 0 <= step <= 0xFFFF]
    if len(set(known)) == len(stops):
        return [f"{step:04X}" for step in known]
    return [f"{run:04X}" for run in range(1, len(stops) + 1)]


def _zedd_f_number(frame: ListedFrame) -> float:
    """The all-in-focus frame goes by the name that its readers open."""
    if frame.role == "all_in_focus":
        return max(frame.f_number or 0.0, ALL_IN_FOCUS_F_NUMBER)
    return frame.f_number or 1.0


def _zedd_notes(stops: Sequence[_Stop]) -> list[str]:
    notes = []
    spread = max(stop.spread_d for stop in stops)
    if spread > 1e-6:
        notes.append(f"a run has one distance: that of apertures up to {spread:.4f} D apart is their median")
    numbers = [frame.f_number for stop in stops for frame in stop.frames if frame.role == "focus"]
    if any(n is None for n in numbers):
        notes.append("the aperture is not known: files say F1.0")
    elif any(abs(round(n, 1) - n) > 1e-6 for n in numbers if n):
        notes.append("file names have one decimal of the aperture")
    return notes


def camera_matrix(lens: LensModel, size_hw: Sequence[int]) -> npt.NDArray[np.float64]:
    """(3, 3) with the principal point in the middle of the picture."""
    focal_px = lens.focal_length_mm * 1000.0 / lens.pixel_pitch_um
    return np.array([[focal_px, 0, size_hw[1] / 2], [0, focal_px, size_hw[0] / 2], [0, 0, 1]])


# --- DDFF-12 ------------------------------------------------------------------------------------------------------


def _write_ddff(folder: Path, listing: Listing) -> tuple[list[str], list[str]]:
    frames = listing.at_aperture(choose_aperture(listing, None))[::-1]
    distances = np.array([distance_m(frame.sweep) for frame in frames])
    first = decode_frame(frames[len(frames) // 2])
    white, lens = _white_of(first.image), lens_of(listing, frames[0].f_number, first)
    with import_h5py(folder / DDFF_FILE).File(folder / DDFF_FILE, "w") as file:
        height, width = first.image.shape[:2]
        stacks = file.create_dataset("stack_test", (1, len(frames), height, width, 3), np.uint8)
        for index, frame in enumerate(frames):
            stacks[0, index] = _display(_of_size(frame, decode_frame(frame), first), white)
        stacks.attrs["white"] = white
        for name in ("focal_length_mm", "pixel_pitch_um", "f_number"):
            if math.isfinite(getattr(lens, name)):
                stacks.attrs[name] = getattr(lens, name)
        file.create_dataset(f"{DDFF_DISTANCES}_test", data=distances[None])
    return [DDFF_FILE], _ddff_notes(listing, distances)


def _of_size(frame: ListedFrame, decoded: DecodedFrame, first: DecodedFrame) -> FloatImage:
    if decoded.image.shape != first.image.shape:
        raise DualpixError(f"'{frame.name}' has another size than the rest", expected="frames of one size")
    return decoded.image


def _ddff_notes(listing: Listing, distances: npt.NDArray[np.float64]) -> list[str]:
    notes = []
    usual = ddff_distances_m(DDFF_SLICES)
    if distances.shape != usual.shape or np.abs(1 / distances - 1 / usual).max() > _SAME_STOP_D:
        notes.append(
            f"readers of DDFF-12 take 10 slices from {usual[0]:.2f} to {usual[-1]:.2f} m for granted; "
            f"these are {distances.size} from {distances[0]:.2f} to {distances[-1]:.2f} m, "
            f"see {DDFF_DISTANCES}_test in the file"
        )
    if listing.all_in_focus is not None:
        notes.append("the layout has no place for the all-in-focus frame")
    return notes


# --- pictures -----------------------------------------------------------------------------------------------------


def _white_of(image: FloatImage) -> White:
    """Light that becomes white in an 8-bit picture, R, G, B: neutral mid-tones, a little room for highlights."""
    balance = np.array(grey_world(image))
    bright = float(np.percentile((image * balance.astype(np.float32)).max(axis=-1), _BRIGHT_PERCENTILE))
    red, green, blue = (float(v) for v in max(bright, 1e-6) / _BRIGHT / balance)
    return red, green, blue


def _display(image: FloatImage, white: White) -> npt.NDArray[np.uint8]:
    share = np.asarray(np.clip(image / np.array(white, np.float32), 0.0, 1.0), np.float32)
    return np.asarray(np.rint(srgb_from_linear(share) * 255), np.uint8)


def _encoded(suffix: str, codes: npt.NDArray[Any], settings: Sequence[int]) -> bytes:
    done, data = cv2.imencode(suffix, np.ascontiguousarray(codes[..., ::-1]), settings)
    if not done:
        raise OutputError(f"cannot encode a picture of {codes.shape} as {suffix}")
    return data.tobytes()
