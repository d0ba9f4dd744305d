"""A simulated camera, met like any other: the lens is moved by steps of unknown size, frames come as files."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from dualpix.capture.camera_protocol import (
    Achieved,
    BadFrame,
    CameraError,
    CameraInfo,
    CameraStatus,
    Direction,
    Exposure,
    PlannedFrame,
    Settled,
    Shot,
)
from dualpix.capture.cameras.received import utc_now
from dualpix.capture.cameras.sim.device import SimDevice, info_of
from dualpix.capture.files import write_bytes
from dualpix.capture.focus.calibration import LensCalibration
from dualpix.capture.focus.driven import DrivenFocus
from dualpix.capture.types import FloatImage

_DEFAULT = Exposure(2.8, 1 / 60, 100.0)


class SimDrive:
    """The lens, seen through live view: a :class:`~dualpix.capture.camera_protocol.FocusDrive`."""

    def __init__(self, device: SimDevice) -> None:
        self._device = device
        self._info = info_of(device.address, device.camera.body)

    @property
    def info(self) -> CameraInfo:
        """Who is there."""
        return self._info

    @property
    def step_sizes(self) -> tuple[int, ...]:
        """Finest first."""
        return tuple(sorted(self._device.camera.lens.truth.sizes))

    def drive(self, direction: Direction, size: int) -> None:
        """One step; returns at once."""
        self._device.call("drive")
        self._device.camera.drive(direction, size)

    def live_view(self) -> FloatImage:
        """(H, W) gray in [0, 1]."""
        self._device.call("live_view")
        return self._device.camera.live_view()


class SimCamera:
    """A :class:`~dualpix.capture.camera_protocol.Camera` without a cable."""

    def __init__(self, device: SimDevice, calibration: LensCalibration) -> None:
        self._device = device
        self._drive = SimDrive(device)
        self.focus = DrivenFocus(self._drive, calibration)
        self._exposure = _DEFAULT
        self.calibration = calibration
        """Given, found in the store, or measured on opening."""

    @property
    def info(self) -> CameraInfo:
        """Who is there."""
        return self._drive.info

    @property
    def busy_s(self) -> float:
        """Time that the device itself took so far."""
        return self._device.camera.busy_s

    def status(self) -> CameraStatus:
        """Always ready, until the card is full."""
        self._device.call("status")
        return CameraStatus(
            exposure_mode="manual", focus_mode="manual", stabiliser=False, battery_percent=100.0, temperature="normal",
            free_frames=self._device.camera.free_frames, live_view=True, raw_format="DNG", dual_pixel_raw=True,
        )  # fmt: skip

    def prepare(self, frames: Sequence[PlannedFrame]) -> None:
        """Nothing to do; refuses apertures that the lens does not have."""
        known = self._device.camera.body.f_numbers
        for wanted in sorted({frame.exposure.f_number for frame in frames if frame.exposure.f_number is not None}):
            if not any(abs(wanted - f_number) < 1e-6 for f_number in known):
                raise CameraError(f"the lens has no f/{wanted:g}", expected=", ".join(f"f/{n:g}" for n in known))

    def home(self) -> None:
        """To the far stop."""
        self.focus.home()

    def go_to(self, diopters: float) -> Achieved:
        """By steps, through the calibration."""
        return self.focus.go_to(diopters)

    def settle(self) -> Settled:
        """Until live view stands still."""
        return self.focus.settle()

    def shoot(self, folder: Path, stem: str, exposure: Exposure) -> Shot:
        """Release and write ``folder/stem.dng``.

        Raises:
            BadFrame: the file came cut.
            CameraError: see :mod:`~dualpix.capture.camera_protocol`.
            OutputError: the file cannot be written.
        """
        now = self._set(exposure)
        device = self._device
        device.call("shoot")
        name = f"IMG_{len(device.camera.shots) + 1:04d}.DNG"
        taken_at = utc_now()
        still = device.camera.release(now[0], now[1], now[2], name)
        path = folder / f"{stem}.dng"
        write_bytes(path, self._download(still.raw))
        return Shot((path,), self._exposure, taken_at, details={"name": name})

    def _set(self, exposure: Exposure) -> tuple[float, float, float]:
        values = [
            old if new is None else new
            for old, new in (
                (self._exposure.f_number, exposure.f_number),
                (self._exposure.exposure_s, exposure.exposure_s),
                (self._exposure.iso, exposure.iso),
            )
        ]
        if (wanted := Exposure(*values)) != self._exposure:
            self._device.call("set")
            self._exposure = wanted
        f_number, exposure_s, iso = (float(value or 0.0) for value in values)
        return f_number, exposure_s, iso

    def _download(self, data: bytes) -> bytes:
        device = self._device
        kind = device.call("download")
        sent = device.last_file if kind == "duplicate" and device.last_file else data
        device.last_file = data
        if kind == "truncated":
            sent = sent[: len(sent) // 2]
        if len(sent) != len(data):
            raise BadFrame(f"{len(sent)} bytes arrived", expected=f"{len(data)}")
        return sent

    def leave(self) -> None:
        """Focus back to where it was found."""
        self.focus.return_to_start()

    def close(self) -> None:
        """Nothing to let go of."""
