"""The lens of an EOS, through live view; and who it is."""

from __future__ import annotations

import cv2
import numpy as np

from dualpix.capture.camera_protocol import BadFrame, CameraError, CameraInfo, Direction
from dualpix.capture.cameras.canon.link import CanonLink
from dualpix.capture.cameras.words import number, prime_mm
from dualpix.capture.types import FloatImage

_SIZES = (1, 2, 3)
_MOST_PICTURE_BYTES = 1 << 25


class CanonDrive:
    """The lens of an EOS through live view: a :class:`~dualpix.capture.camera_protocol.FocusDrive`."""

    def __init__(self, link: CanonLink, focal_length_mm: float | None = None) -> None:
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

    def drive(self, direction: Direction, size: int) -> None:
        """One step; returns when the camera has taken the command, before the lens has arrived."""
        if size not in _SIZES:
            raise ValueError(f"step size {size}, expected one of {_SIZES}")
        self.start_live_view()
        self._link.set("manualfocusdrive", f"{direction.capitalize()} {size}")

    def live_view(self) -> FloatImage:
        """(H, W) gray in [0, 1].

        Raises:
            BadFrame: what came is no picture.
        """
        self.start_live_view()
        file = self._link.call("live view", "capture_preview")
        data = np.frombuffer(memoryview(file.get_data_and_size()), np.uint8)
        if not 0 < data.size <= _MOST_PICTURE_BYTES:
            raise BadFrame(f"live view of {data.size} bytes", expected="a JPEG")
        picture = cv2.imdecode(data, cv2.IMREAD_GRAYSCALE)
        if picture is None:
            raise BadFrame(f"live view of {data.size} bytes that is no picture", expected="a JPEG")
        return picture.astype(np.float32) / np.float32(255)

    def start_live_view(self) -> None:
        """Switch it on, if this has not been done yet."""
        if self._live:
            return
        link = self._link
        if not link.has("viewfinder"):
            raise CameraError(
                f"'{self._info.model}' has no live view that can be switched on from here",
                expected="a Canon EOS with live view, switched on",
            )
        link.set("viewfinder", 1)
        if link.address.startswith("ptpip:") and "TFT + PC" in link.choices("output"):
            link.set("output", "TFT + PC")
        self._live = True

    def stop_live_view(self) -> None:
        """Switch it off."""
        if self._live:
            self._link.set("viewfinder", 0)
            self._live = False

    @property
    def live(self) -> bool:
        """Whether it is on."""
        return self._live

    def close(self) -> None:
        """Let go of the camera; never raises."""
        self._link.close()


def describe(link: CanonLink, focal_length_mm: float | None) -> CameraInfo:
    """Who is there; ``focal_length_mm`` is what a zoom lens is set to."""
    lens = link.get("lensname") or None
    apertures = (number(choice) for choice in link.choices("aperture"))
    f_numbers = tuple(sorted({f_number for f_number in apertures if f_number}))
    has = {"viewfinder": "live_view", "manualfocusdrive": "focus_drive"}
    return CameraInfo(
        backend="canon",
        address=link.address,
        make=link.get("manufacturer"),
        model=link.get("cameramodel"),
        serial=link.get("eosserialnumber") or link.get("serialnumber"),
        firmware=link.get("deviceversion"),
        lens=lens,
        focal_length_mm=focal_length_mm or prime_mm(lens),
        f_numbers=f_numbers,
        capabilities=(
            *(word for name, word in has.items() if link.has(name)),
            *(("aperture",) if len(f_numbers) > 1 else ()),
        ),
    )
