"""Many pictures as one file: GIF and WebP by Pillow, MP4 by OpenCV.

An MP4 holds VP9, which browsers and players show. OpenCV's wheels have no encoder for H.264, and the MPEG-4 Part 2
that they do have (``mp4v``) is shown by no browser; its writer tells of a failure by not being open, so the file is
read back.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

import cv2
import numpy as np
from PIL import Image

from dualpix.capture.errors import OutputError
from dualpix.capture.files import atomic_path
from dualpix.capture.pictures.colour_map import Rgb

SUFFIXES = (".gif", ".webp", ".mp4")
_VP9 = "vp09"
_GIF_TICK_MS = 10
_WEBP_QUALITY = 85
"""A GIF has none, and takes no notice."""


def there_and_back(frames: Sequence[Rgb]) -> list[Rgb]:
    """Frames to the last and back, neither end twice: an endless loop."""
    return [*frames, *frames[-2:0:-1]]


def even_sided(frame: Rgb) -> Rgb:
    """Without the last row or column where their number is odd: what OpenCV's writer leaves of it, without a word."""
    height, width = frame.shape[:2]
    return frame[: max(2, height & ~1), : max(2, width & ~1)]


def write_animation(path: Path, frames: Sequence[Rgb], per_second: float) -> None:
    """Write frames (H, W, 3) of one size as an animation that repeats (MP4: players decide), atomically.

    Args:
        path: ending in one of :data:`SUFFIXES`.
        frames: uint8 R, G, B; of an MP4 of even width and height (:func:`even_sided`).
        per_second: how many are shown in a second; a GIF counts in hundredths of a second.

    Raises:
        OutputError: the file cannot be written.
    """
    with atomic_path(path) as temporary:
        if path.suffix.lower() == ".mp4":
            _write_mp4(temporary, path, frames, per_second)
            return
        pictures = [Image.fromarray(frame) for frame in frames]
        duration_ms = max(2 * _GIF_TICK_MS, round(1000 / per_second / _GIF_TICK_MS) * _GIF_TICK_MS)
        pictures[0].save(
            temporary, save_all=True, append_images=pictures[1:], duration=duration_ms, loop=0, quality=_WEBP_QUALITY
        )


def _write_mp4(temporary: Path, path: Path, frames: Sequence[Rgb], per_second: float) -> None:
    height, width = frames[0].shape[:2]
    writer = cv2.VideoWriter(str(temporary), cv2.VideoWriter.fourcc(*_VP9), per_second, (width, height))
    try:
        for frame in _bgr(frames) if writer.isOpened() else ():
            writer.write(frame)
    finally:
        writer.release()
    reader = cv2.VideoCapture(str(temporary))
    written = int(reader.get(cv2.CAP_PROP_FRAME_COUNT)) if reader.isOpened() else 0
    reader.release()
    if written != len(frames):
        raise OutputError(f"OpenCV cannot write '{path.name}' here", hint="name it .gif or .webp")


def _bgr(frames: Sequence[Rgb]) -> Iterator[Rgb]:
    return (np.ascontiguousarray(frame[..., ::-1]) for frame in frames)
