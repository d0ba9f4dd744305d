"""Frames of one stack whose orientation flags differ.

A camera that looks down or up cannot tell which way it is turned: its flag flips from frame to frame while the samples
lie alike. So a flag that differs from most is compared with the picture: whether the samples look like those of the
nearest frame with the usual flag as they lie, or only when each is turned by its own flag, as where a program has
turned them. In the first case the usual flag is taken, and said.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import replace

import cv2
import numpy as np

from dualpix.capture.errors import DecodeError
from dualpix.capture.raw.develop.geometry import upright
from dualpix.capture.stack.keep.frames import frame_meta, read_light
from dualpix.capture.stack.keep.listing import ListedFrame
from dualpix.capture.stack.sharpness import gray_of
from dualpix.capture.types import FloatImage

_COMPARED_SIDE_PX = 64
AS_STORED = 1


def with_one_orientation(frames: Sequence[ListedFrame]) -> tuple[tuple[ListedFrame, ...], tuple[str, ...]]:
    """Frames that are all turned alike where their samples lie alike, and a note for each flag that is not believed.

    Frames that cannot be read stay as they are: whoever decodes them says so.
    """
    open_ones = [place for place, frame in enumerate(frames) if frame.part is None and frame.orientation is None]
    flags = {place: flag for place in open_ones if (flag := flag_of(frames[place])) is not None}
    if len(set(flags.values())) < 2:
        return tuple(frames), ()
    usual, _ = Counter(flags.values()).most_common(1)[0]
    alike = [place for place, flag in flags.items() if flag == usual]
    turned, notes = list(frames), []
    for place, flag in flags.items():
        if flag == usual:
            continue
        near = min(alike, key=lambda other: abs(other - place))
        if _lie_alike(frames[place], frames[near], flag, usual):
            turned[place] = replace(frames[place], orientation=usual)
            notes.append(
                f"'{frames[place].name}' is flagged as orientation {flag}, {len(alike)} of {len(flags)} frames as "
                f"{usual}, and its samples lie as theirs: {usual} is taken"
            )
    return tuple(turned), tuple(notes)


def flag_of(frame: ListedFrame) -> int | None:
    """The orientation that a file states of itself, EXIF 1..8; None where it cannot be read."""
    try:
        return frame_meta(frame.path).orientation
    except DecodeError:
        return None


def _lie_alike(frame: ListedFrame, other: ListedFrame, flag: int, usual: int) -> bool:
    """Whether the samples of two frames match better as they are stored than turned by their flags."""
    try:
        one, two = (gray_of(read_light(f.path, AS_STORED).image) for f in (frame, other))
    except DecodeError:
        return False
    return _correlation(one, two) >= _correlation(upright(one, flag), upright(two, usual))


def _correlation(one: FloatImage, two: FloatImage) -> float:
    """Of two pictures as thumbnails, whose defocus hardly differs; -1 where they are of different shapes."""
    if one.shape != two.shape:
        return -1.0
    a, b = (_thumbnail(image) for image in (one, two))
    norm = float(np.linalg.norm(a) * np.linalg.norm(b))
    return float((a * b).sum()) / norm if norm else 0.0


def _thumbnail(gray: FloatImage) -> FloatImage:
    """Square roots without their mean, so that no highlight decides."""
    shrink = min(1.0, _COMPARED_SIDE_PX / max(gray.shape))
    size = max(1, round(gray.shape[1] * shrink)), max(1, round(gray.shape[0] * shrink))
    small = np.sqrt(np.maximum(cv2.resize(gray, size, interpolation=cv2.INTER_AREA), 0))
    return np.asarray(small - small.mean(), np.float32)
