"""A stack on disk, aligned: ``aligned/`` beside its frames, and what was found in its record.

Convention: see :mod:`.align`. The apertures of a stop share the lens's position, so the narrowest one, whose blur is
least, is matched, and its matrices serve the others. ``aligned/`` is a plain stack (:mod:`.keep.layouts`) with
``alignment.json``; :func:`~dualpix.capture.stack.keep.load.load_stack` takes it in place of the frames it was made of.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from dualpix.capture.errors import DualpixError
from dualpix.capture.files import atomic_dir, write_json
from dualpix.capture.stack.judge.align import Alignment, estimate_alignment, warped
from dualpix.capture.stack.keep.export import in_order, write_plain
from dualpix.capture.stack.keep.frames import DecodedFrame, decode_frame
from dualpix.capture.stack.keep.listing import ListedFrame, Listing
from dualpix.capture.stack.keep.load import ALIGNED, ALIGNMENT, exposure_gains, light_of, read_listing
from dualpix.capture.stack.keep.record import write_record
from dualpix.capture.stack.sharpness import gray_of

Progress = Callable[[int, int, str], None]


@dataclass(frozen=True)
class AlignedStack:
    """What was made."""

    folder: Path
    alignment: Alignment
    f_number: float | None
    """That was matched."""
    files: tuple[str, ...]


def align_folder(folder: Path, output: Path | None = None, on_progress: Progress | None = None) -> AlignedStack:
    """Align a stack and write it.

    Args:
        folder: of a capture, or any layout that is read.
        output: where to; ``folder/aligned`` by default, which loading then finds.
        on_progress: called with (done, total, what).

    Raises:
        DualpixError: no stack, frames of different sizes, or a frame is damaged.
        OutputError: it cannot be written.
    """
    listing = read_listing(folder)
    tell = on_progress or (lambda done, total, text: None)
    f_number = _matched_aperture(listing)
    total = len(listing.frames) + 1
    tell(0, total, "matching")
    alignment = _match(listing.at_aperture(f_number))
    target = output or listing.folder / ALIGNED
    with atomic_dir(target, ALIGNMENT) as temporary:
        files = write_plain(temporary, listing, _warped_frames(listing, alignment, tell, total))
        write_json(temporary / ALIGNMENT, {**alignment.to_json(), "f_number": f_number, "sources": sources(listing)})
    if listing.record is not None:
        write_record(listing.folder, replace(listing.record, breathing=alignment.breathing()))
    tell(total, total, "")
    return AlignedStack(target, alignment, f_number, (*files, ALIGNMENT))


def sources(listing: Listing) -> dict[str, str] | None:
    """Digest of each frame by its name, as recorded."""
    record = listing.record
    return None if record is None else {frame.files[0]: frame.sha256[0] for frame in record.frames}


def _matched_aperture(listing: Listing) -> float | None:
    """The narrowest of those with the most stops."""
    stops = {f_number: len(listing.at_aperture(f_number)) for f_number in listing.f_numbers}
    if not stops:
        raise DualpixError(f"'{listing.folder}' has no focus frames", expected="two or more")
    most = max(stops.values())
    return max((n for n, count in stops.items() if count == most), key=lambda n: n or 0.0)


def _match(frames: tuple[ListedFrame, ...]) -> Alignment:
    grays, light = [], []
    for frame in frames:
        decoded = decode_frame(frame)
        grays.append(gray_of(decoded.image))
        light.append(light_of(frame, decoded))
        if grays[-1].shape != grays[0].shape:
            raise DualpixError(f"'{frame.name}' has another size than the rest", expected="frames of one size")
    for gray, gain in zip(grays, exposure_gains(light), strict=True):
        gray *= np.float32(gain)
    known = all(frame.diopters is not None for frame in frames)
    return estimate_alignment(np.stack(grays), [frame.sweep for frame in frames], metric=known)


def _warped_frames(
    listing: Listing, alignment: Alignment, tell: Progress, total: int
) -> Iterator[tuple[ListedFrame, DecodedFrame]]:
    for number, frame in enumerate(in_order(listing), 1):
        tell(number, total, frame.name)
        decoded = decode_frame(frame)
        image = np.maximum(warped(decoded.image, alignment.matrix_at(frame.sweep)), 0)
        yield frame, replace(decoded, image=image)
