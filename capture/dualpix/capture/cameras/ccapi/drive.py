"""The lens of a camera through live view, by the Camera Control API."""

from __future__ import annotations

import io
import time
from collections.abc import Callable
from contextlib import suppress
from typing import TypeVar

import numpy as np
from PIL import Image

from dualpix.capture.camera_protocol import BadFrame, CameraBusy, CameraError, CameraInfo, Direction
from dualpix.capture.cameras.ccapi.facts import LIVE_VIEW, describe
from dualpix.capture.cameras.ccapi.link import CcapiLink
from dualpix.capture.types import FloatImage

T = TypeVar("T")
_SIZES = (1, 2, 3)
_MAX_PICTURE_BYTES = 16 << 20
_MAX_PICTURE_PIXELS = 4096 * 4096
_PATIENCE_S = 3.0
"""How long a step or a file that the camera refuses for the moment is asked for."""


class CcapiDrive:
    """The lens of a camera through live view: a :class:`~dualpix.capture.camera_protocol.FocusDrive`."""

    def __init__(self, link: CcapiLink, focal_length_mm: float | None = None) -> None:
        """Ask who is there; nothing is changed yet.

        Raises:
            CameraError: of the kind the failure is.
        """
        self._link = link
        self._info = describe(link, focal_length_mm)
        self._live = False

    @property
    def info(self) -> CameraInfo:
        """Who is there."""
        return self._info

    @property
    def step_sizes(self) -> tuple[int, ...]:
        """1, 2, 3."""
        return _SIZES

    @property
    def live(self) -> bool:
        """Whether live view is on."""
        return self._live

    def drive(self, direction: Direction, size: int) -> None:
        """One step; returns when the camera has taken it, before the lens has arrived.

        Raises:
            CameraBusy: not within some seconds.
            CameraError: of the kind the failure is.
        """
        if size not in _SIZES:
            raise ValueError(f"step size {size}, expected one of {_SIZES}")
        self.start_live_view()
        patiently(lambda: self._link.post("shooting/control/drivefocus", {"value": f"{direction}{size}"}))

    def live_view(self) -> FloatImage:
        """(H, W) gray in [0, 1].

        Raises:
            BadFrame: what came is no picture.
            CameraError: of the kind the failure is.
        """
        self.start_live_view()
        data = patiently(lambda: self._link.picture(f"{LIVE_VIEW}/flip", _MAX_PICTURE_BYTES))
        return gray_of_jpeg(data)

    def start_live_view(self) -> None:
        """Switch it on, if this has not been done yet."""
        if not self._live:
            patiently(lambda: self._link.post(LIVE_VIEW, {"liveviewsize": "medium", "cameradisplay": "keep"}))
            self._live = True

    def stop_live_view(self) -> None:
        """Switch it off."""
        if self._live:
            self._link.post(LIVE_VIEW, {"liveviewsize": "off", "cameradisplay": "keep"})
            self._live = False

    def close(self) -> None:
        """Let go of the connection; never raises."""
        with suppress(CameraError):
            self.stop_live_view()
        self._link.close()


def patiently(what: Callable[[], T]) -> T:
    """Ask again while the camera is busy, for some seconds."""
    give_up, pause = time.monotonic() + _PATIENCE_S, 0.01
    while True:
        try:
            return what()
        except CameraBusy:
            if time.monotonic() > give_up:
                raise
        time.sleep(pause)
        pause = min(2 * pause, 0.25)


def gray_of_jpeg(data: bytes) -> FloatImage:
    """(H, W) in [0, 1] of a JPEG.

    Raises:
        BadFrame: it is none, or too large.
    """
    try:
        with Image.open(io.BytesIO(data), formats=("JPEG",)) as picture:
            if picture.width * picture.height > _MAX_PICTURE_PIXELS:
                raise BadFrame(f"live view of {picture.width} x {picture.height}")
            return np.asarray(picture.convert("L"), np.float32) / np.float32(255)
    except (OSError, ValueError) as error:
        raise BadFrame(f"live view of {len(data)} bytes that is no picture", expected="a JPEG") from error
