"""A folder of frames to one :class:`~dualpix.capture.types.FocusStack`.

Convention: see :mod:`.frames`. Frames are brought to the exposure of the farthest one: by what was set, then by what is
seen, the median over tiles of the ratio of their mean light, which defocus does not change. Where ``dualpix capture
align`` has aligned the stack, its frames are taken; a stack that is not a capture of ours is read in any layout of
:mod:`.layouts`.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from pathlib import Path

import numpy as np
import numpy.typing as npt

from dualpix.capture.camera_protocol import Exposure
from dualpix.capture.errors import DualpixError
from dualpix.capture.files import parse_json
from dualpix.capture.optics import IDEAL_DISPARITY_GAIN, distance_m
from dualpix.capture.stack.keep.belonging import Shot, bracket_optics, check_sizes
from dualpix.capture.stack.keep.frames import DecodedFrame, decode_frame
from dualpix.capture.stack.keep.layouts import read_layout
from dualpix.capture.stack.keep.listing import ListedFrame, Listing, listing_of
from dualpix.capture.stack.keep.orientation import with_one_orientation
from dualpix.capture.stack.keep.record import JOURNAL, STACK, read_record
from dualpix.capture.stack.sharpness import gray_of, tile_means
from dualpix.capture.types import FloatImage, FocusStack, FrameLook, LensModel

ALIGNED = "aligned"
ALIGNMENT = "alignment.json"
MEMORY_LIMIT_BYTES = 8 << 30
_SAME_F_NUMBER = 0.03
_SAME_FOCUS_D = 1e-9
_FAR_M, _TOLD_APART_PX = 30.0, 0.5
"""From where on distances must be told apart by more than half a pixel of blur, or they are no metres."""
_NEAR_M = 2e-3


@dataclass(frozen=True)
class Light:
    """How bright a frame is, tile by tile, where nothing clipped."""

    tiles: npt.NDArray[np.float64]
    """(rows, columns) mean light; NaN where more than 1 % of a tile clipped, or it is dark."""
    stated: float
    """Exposure as set, relative: time x sensitivity / N^2; NaN where it is not known."""


def read_listing(folder: Path) -> Listing:
    """The frames of a stack: of ``stack.json`` where there is one, else of another layout.

    Raises:
        DualpixError: nothing there that could be a stack.
    """
    listing = _read_listing(Path(folder))
    frames, _ = with_one_orientation(listing.frames)
    return replace(listing, frames=frames)


def _read_listing(folder: Path) -> Listing:
    if (folder / STACK).is_file():
        return listing_of(folder, read_record(folder))
    if (folder / JOURNAL).is_file():
        raise DualpixError(
            f"'{folder}' is a capture that was stopped", expected=STACK, hint="finish it with: dualpix capture --resume"
        )
    found = read_layout(folder) if folder.exists() else None
    if found is None:
        raise DualpixError(
            f"'{folder}' is no focus stack",
            expected=f"a folder with {STACK}, focus.csv or names as 03_D1.220.png, a ZEDD scene or a DDFF-12 file",
            hint="use: dualpix capture import",
        )
    return found


def load_stack(
    folder: Path, f_number: float | None = None, *, aligned: bool = True, max_side_px: int | None = None
) -> FocusStack:
    """Decode a stack.

    Args:
        folder: of a capture, or any layout that is read here.
        f_number: which aperture, where there are several; the widest by default.
        aligned: take the aligned frames where ``dualpix capture align`` has made them.
        max_side_px: reduce larger frames so that their long side is this; pitch follows.

    Returns:
        Frames of one aperture, farthest first; where distances are not known, as they were taken and without them. What
        is not known of the lens is NaN there.

    Raises:
        DualpixError: no stack, no such aperture, fewer than two frames, two at one distance, frames of different sizes,
            or of a plain folder of different cameras or optics, or more than 8 GiB of them.
        DecodeError: a frame is missing or damaged.
    """
    original = read_listing(folder)
    listing = (_aligned_listing(original) if aligned else None) or original
    chosen = choose_aperture(listing, f_number)
    frames = listing.at_aperture(chosen)
    _check_distances(frames)
    decoded = [decode_frame(frames[0], max_side_px)]
    _check_memory(decoded[0], len(frames))
    decoded += [decode_frame(frame, max_side_px) for frame in frames[1:]]
    check_sizes([(frame.name, shown.image.shape[:2]) for frame, shown in zip(frames, decoded, strict=True)])
    if listing.record is None:
        _check_optics(frames, decoded)
    light = [light_of(frame, shown) for frame, shown in zip(frames, decoded, strict=True)]
    gains = exposure_gains(light)
    images = np.stack([shown.image for shown in decoded])
    images *= np.asarray(gains, np.float32)[:, None, None, None]
    focus_m = [distance_m(frame.diopters) for frame in frames if frame.diopters is not None]
    lens = lens_of(listing, chosen, decoded[0])
    _check_unit(focus_m, lens)
    return FocusStack(
        frames=images,
        focus_distance_m=np.array(focus_m, np.float64) if focus_m else None,
        uncertainty_d=np.array([frame.uncertainty_d for frame in frames], np.float64) if focus_m else None,
        lens=lens,
        all_in_focus=_all_in_focus(listing, decoded[0].image.shape, light[0], max_side_px),
        provenance=tuple(frame.source for frame in frames),
        names=tuple(frame.name for frame in frames),
        look=decoded[0].look if listing is original else _look_of(original, chosen),
    )


def loaded_listing(folder: Path, *, aligned: bool) -> Listing:
    """The frames of a stack, or the aligned ones that were made of them, if they are wanted and there.

    Raises:
        DualpixError: no stack, or the aligned frames were made of other ones.
    """
    listing = read_listing(folder)
    return (_aligned_listing(listing) if aligned else None) or listing


def choose_aperture(listing: Listing, f_number: float | None) -> float | None:
    """The listed aperture nearest to what was asked for; the widest if nothing was.

    Raises:
        DualpixError: no frame is of that aperture.
    """
    known = listing.f_numbers
    if not known:
        raise DualpixError(f"'{listing.folder}' has no focus frames", expected="two or more")
    if f_number is None:
        return known[0]
    near = [n for n in known if n is not None and abs(math.log(n / f_number)) < _SAME_F_NUMBER] if f_number > 0 else []
    if not near:
        have = ", ".join("unknown" if n is None else f"{n:g}" for n in known)
        raise DualpixError(f"no frames at f/{f_number:g} in '{listing.folder}'", expected=f"one of: {have}")
    return near[0]


def lens_of(listing: Listing, f_number: float | None, first: DecodedFrame) -> LensModel:
    """Optics of the decoded frames, from the user, else the frame itself, else the record; NaN where none knows."""
    meta, given = first.meta, listing.given
    focal_mm = given.focal_length_mm or meta.focal_length_mm or listing.focal_length_mm
    pitch_um = given.pixel_pitch_um * first.binning if given.pixel_pitch_um else meta.pixel_pitch_um
    if pitch_um is None and listing.pixel_pitch_um is not None:
        pitch_um = listing.pixel_pitch_um * first.binning
    if pitch_um is None and listing.sensor_pitch_um is not None:
        pitch_um = listing.sensor_pitch_um * first.binning
    known = [f.diopters for f in listing.at_aperture(f_number) or listing.frames if f.diopters is not None]
    return LensModel(
        focal_length_mm=_or_nan(focal_mm),
        f_number=_or_nan(f_number if f_number is not None else meta.f_number),
        focus_distance_m=distance_m(min(known)) if known else math.nan,
        pixel_pitch_um=_or_nan(pitch_um),
        disparity_gain=IDEAL_DISPARITY_GAIN if meta.disparity_gain is None else meta.disparity_gain,
    )


def light_of(frame: ListedFrame, decoded: DecodedFrame) -> Light:
    """Mean light of the tiles of a frame."""
    tiles = tile_means(gray_of(decoded.image))
    clipped = tile_means(decoded.saturated.astype(np.float32))
    dark = tiles <= 1e-4 * max(float(tiles.max()), 1e-12)
    meta = decoded.meta
    settings = Exposure(frame.f_number or meta.f_number, frame.exposure_s or meta.exposure_s, frame.iso or meta.iso)
    return Light(np.where(dark | (clipped > 0.01), np.nan, tiles), _relative_exposure(settings))


def exposure_gains(light: Sequence[Light]) -> list[float]:
    """Factors that bring frames to the light of the first one, see the module's text."""
    return [_gain(light[0], other) for other in light]


def exposure_drift(reference: Light, other: Light) -> float:
    """How much brighter a frame is than the reference one, relative, after what was set is taken out."""
    stated = other.stated / reference.stated
    expected = stated if math.isfinite(stated) and stated > 0 else 1.0
    return 1.0 / (_gain(reference, other) * expected) - 1.0


def _gain(reference: Light, other: Light) -> float:
    ratios = reference.tiles / other.tiles
    known = ratios[np.isfinite(ratios)]
    if known.size:
        return float(np.median(known))
    stated = reference.stated / other.stated
    return stated if math.isfinite(stated) else 1.0


def _relative_exposure(settings: Exposure) -> float:
    if not (settings.exposure_s and settings.iso):
        return math.nan
    return settings.exposure_s * settings.iso / (settings.f_number or 1.0) ** 2


def _all_in_focus(
    listing: Listing, shape: tuple[int, ...], reference: Light, max_side_px: int | None
) -> FloatImage | None:
    frame = listing.all_in_focus
    if frame is None:
        return None
    decoded = decode_frame(frame, max_side_px)
    if decoded.image.shape != shape:
        raise _different_size(frame, decoded.image.shape, shape)
    return decoded.image * np.float32(_gain(reference, light_of(frame, decoded)))


def _aligned_listing(listing: Listing) -> Listing | None:
    """The aligned frames, if they were made of these ones."""
    folder = listing.folder / ALIGNED
    if listing.record is None or not (folder / ALIGNMENT).is_file():
        return None
    try:
        sources = parse_json((folder / ALIGNMENT).read_bytes(), "it", ALIGNMENT)["sources"]
        fits = sources == {frame.files[0]: frame.sha256[0] for frame in listing.record.frames}
    except (OSError, KeyError, TypeError, DualpixError):
        fits = False
    if not fits:
        raise DualpixError(
            f"'{folder}' was not made of the frames in '{listing.folder}'", hint="run dualpix capture align again"
        )
    return read_layout(folder)


def _check_distances(frames: Sequence[ListedFrame]) -> None:
    if len(frames) < 2:
        raise DualpixError(f"{len(frames)} focus frames of one aperture", expected="two or more")
    for far, near in pairwise(frames):
        if far.diopters is None or near.diopters is None:
            continue
        beyond = near.diopters <= 0
        if beyond or near.diopters - far.diopters < _SAME_FOCUS_D:
            where = "beyond infinity" if beyond else f"at {near.diopters:.4f} D"
            raise DualpixError(
                f"'{far.name}' and '{near.name}' are both {where}",
                expected="a distance of its own for each frame",
                hint="look at it with: dualpix capture verify",
            )


def _check_unit(focus_m: Sequence[float], lens: LensModel) -> None:
    """Whether distances can be metres.

    Raises:
        DualpixError: all are so far away that the lens, or a usual one where it is not known, could not tell them
            apart; or all are nearer than any lens focuses.
    """
    known = [distance for distance in focus_m if math.isfinite(distance)]
    if not known:
        return
    near, far = min(known), max(known)
    shown = f"the frames are focused at {near:g} to {far:g} m"
    if near >= _FAR_M and not _told_apart_px(near, far, lens) >= _TOLD_APART_PX:
        raise DualpixError(
            f"{shown}, where one distance looks like another",
            expected=f"metres; as mm it would be {near / 1000:.3g} to {far / 1000:.3g} m",
            hint="give them in m: dualpix capture import --distances M,M,...",
        )
    if far <= _NEAR_M:
        raise DualpixError(
            f"{shown}, nearer than a lens focuses",
            expected="metres from the lens",
            hint="give them in m: dualpix capture import --distances M,M,...",
        )


def _told_apart_px(near_m: float, far_m: float, lens: LensModel) -> float:
    """Blur of the one distance in a frame that is focused at the other; NaN where the lens is not known."""
    return lens.focal_length_mm**2 / lens.f_number / lens.pixel_pitch_um * (1 / near_m - 1 / far_m)


def _check_memory(first: DecodedFrame, count: int) -> None:
    needed = first.image.nbytes * 2 * (count + 1)
    if needed > MEMORY_LIMIT_BYTES:
        raise DualpixError(
            f"{count} frames of {first.image.shape[1]}x{first.image.shape[0]} take {needed / 2**30:.1f} GiB",
            expected=f"at most {MEMORY_LIMIT_BYTES >> 30} GiB",
            hint="load them reduced, with max_side_px",
        )


def _check_optics(frames: Sequence[ListedFrame], decoded: Sequence[DecodedFrame]) -> None:
    """Whether frames that no record vouches for are of one camera, lens, focal length and aperture, by their EXIF.

    Raises:
        DualpixError: some are of another, by their names.
    """
    shots = [Shot(frame.path, shown.meta) for frame, shown in zip(frames, decoded, strict=True)]
    known = [frame.diopters for frame in frames if frame.diopters is not None]
    bracket_optics(shots, known if len(known) == len(frames) else None, f_number=frames[0].f_number)


def _look_of(original: Listing, f_number: float | None) -> FrameLook | None:
    """Of the frames that the aligned ones were made of, which are linear whatever those are."""
    frames = original.at_aperture(f_number) or original.frames
    return decode_frame(frames[0]).look if frames else None


def _different_size(frame: ListedFrame, shape: tuple[int, ...], expected: tuple[int, ...]) -> DualpixError:
    return DualpixError(
        f"'{frame.name}' has {shape[1]}x{shape[0]} pixels", expected=f"{expected[1]}x{expected[0]} as the first frame"
    )


def _or_nan(value: float | None) -> float:
    return math.nan if value is None else value
