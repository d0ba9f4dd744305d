"""Frames of a stack, each decoded once; what is kept of it for the checks."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from dualpix.capture.errors import DecodeError
from dualpix.capture.stack.judge.align import WORKING_SIDE_PX
from dualpix.capture.stack.judge.verification import Finding
from dualpix.capture.stack.judge.verify_halves import Disparities, disparities
from dualpix.capture.stack.keep.frames import DecodedFrame, decode_frame, reduced
from dualpix.capture.stack.keep.layouts import RAW_SUFFIXES
from dualpix.capture.stack.keep.listing import ListedFrame, Listing
from dualpix.capture.stack.keep.load import Light, light_of
from dualpix.capture.stack.sharpness import sharpness_with_error
from dualpix.capture.types import FloatImage

Progress = Callable[[int, int, str], None]
ROWS, COLUMNS = 9, 12


@dataclass(frozen=True)
class Seen:
    """What is kept of a decoded frame."""

    listed: ListedFrame
    sharpness: npt.NDArray[np.float64]
    error: npt.NDArray[np.float64]
    light: Light
    small: FloatImage
    """(h, w, 3)"""
    width_px: int
    digest: bytes
    halves: Disparities | None = None


class Decoder:
    """Decodes each frame once and keeps what is needed of it."""

    def __init__(self, listing: Listing, on_progress: Progress | None) -> None:
        self.failures: list[Finding] = []
        self._tell = on_progress or (lambda done, total, text: None)
        self._done, self._total = 0, len(listing.frames)

    def look(self, frame: ListedFrame) -> Seen | None:
        """None, and a failure, where it cannot be decoded."""
        self._done += 1
        self._tell(self._done, self._total, frame.name)
        try:
            own = frame.path.suffix.lower() in RAW_SUFFIXES and frame.orientation is None
            halves = disparities(frame.path) if own else None
            return _seen(frame, decode_frame(frame), halves)
        except (DecodeError, ValueError) as error:
            self.failures.append(Finding("bad", "damaged", f"frame {frame.index}: {error}", (frame.index,)))
            return None


def _seen(frame: ListedFrame, decoded: DecodedFrame, halves: Disparities | None) -> Seen:
    sharpness, error = sharpness_with_error(decoded.image, ROWS, COLUMNS)
    small = reduced(decoded, WORKING_SIDE_PX).image
    digest = hashlib.sha256(decoded.image.tobytes()).digest()
    return Seen(frame, sharpness, error, light_of(frame, decoded), small, decoded.image.shape[1], digest, halves)
