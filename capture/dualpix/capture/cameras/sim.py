"""A camera in this process, for trying out and for tests: a hidden lens and scene, met like any other camera.

Convention: the address is ``sim`` or ``sim:SEED``; a seed is a lens, a scene and the place where the lens happens to
stand. Nothing of the truth reaches the backend: the lens is moved by steps of unknown size, the focus comes from a
calibration and counted steps. What somebody with a tape measure would know, :func:`targets`, is what it is calibrated
on; where no calibration is given and none is stored, opening the camera measures one and stores it.

Options: ``faults`` and ``state``, files as in :mod:`dualpix.capture.cameras.testing`.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path

from dualpix.capture.camera_protocol import (
    Achieved,
    BadFrame,
    CameraBusy,
    CameraError,
    CameraInfo,
    CameraLost,
    CameraStatus,
    CardFull,
    Direction,
    Exposure,
    PlannedFrame,
    Settled,
    Shot,
)
from dualpix.capture.cameras.hidden_camera import Body, Box, HiddenCamera
from dualpix.capture.cameras.testing.faults import FaultPlan, Kind, Operation
from dualpix.capture.errors import DualpixError
from dualpix.capture.files import write_bytes
from dualpix.capture.focus import calibrate, store
from dualpix.capture.focus.calibration import LensCalibration
from dualpix.capture.focus.driven import DrivenFocus
from dualpix.capture.progress import ProgressLine
from dualpix.capture.types import FloatImage

_ADDRESS = re.compile(r"sim(?::(\d{1,9}))?")
_OPTIONS = ("faults", "state")
_DEFAULT = Exposure(2.8, 1 / 60, 100.0)
_SWEEPS = 2
_FRAME_S = 1 / 30


class SimDevice:
    """The hardware: what goes on existing when a connection breaks."""

    def __init__(self, key: tuple[str, ...], camera: HiddenCamera, faults: FaultPlan) -> None:
        self.key, self.camera, self.faults = key, camera, faults
        self.connected = True
        self.refusals = 0
        self.last_file = b""

    @property
    def address(self) -> str:
        """``sim`` or ``sim:SEED``."""
        return self.key[0]

    def connect(self) -> None:
        """Take a connection.

        Raises:
            CameraLost: not this time.
            CameraBusy: not yet.
        """
        kind = self.faults.at("connect")
        if self.refusals or kind in ("lost", "drop_connection"):
            self.refusals = max(0, self.refusals - 1)
            raise CameraLost(f"no answer from '{self.address}'", hint="is it switched on?")
        if kind == "busy":
            raise CameraBusy(f"'{self.address}' is busy")
        self.connected = True
        self.camera.lens.stuck = False  # switching off and on is what frees a lens

    def call(self, operation: Operation) -> Kind | None:
        """Let the fault of this call happen; kinds that strike files are returned.

        Raises:
            CameraError: as the fault says.
        """
        if not self.connected:
            raise CameraLost(f"not connected to '{self.address}'", hint="open the camera again")
        kind = self.faults.at(operation)
        if kind == "busy":
            raise CameraBusy(f"'{self.address}' is busy")
        if kind == "card_full":
            raise CardFull("the card is full", hint="put in another one, or delete what is on it")
        if kind in ("drop_connection", "lost"):
            self._disconnect(gone=kind == "lost")
        if kind == "stuck":
            self.camera.lens.stuck = True
        return kind

    def _disconnect(self, *, gone: bool) -> None:
        self.connected = False
        _BROKEN[self.key] = self
        if gone:
            self.refusals = 1
            self.camera.fall_asleep()
        raise CameraLost(f"the connection to '{self.address}' broke")


_BROKEN: dict[tuple[str, ...], SimDevice] = {}
"""Devices whose connection broke, by address and options: who opens the same finds them as they were left."""


class SimDrive:
    """The lens of a simulated camera, seen through live view: a :class:`~.protocol.FocusDrive`."""

    def __init__(self, device: SimDevice) -> None:
        self._device = device
        self._info = _info(device.address, device.camera.body)

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
    """A :class:`~.protocol.Camera` without a cable."""

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
        taken_at = datetime.now(UTC).isoformat(timespec="milliseconds")
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


def find() -> list[CameraInfo]:
    """The one that is always there."""
    return [_info("sim", HiddenCamera.from_seed(0).body)]


def targets(address: str | None = None) -> tuple[tuple[float, Box], ...]:
    """(distance in m, box in shares of the picture) of the flat targets in view, as a tape measure would tell.

    Raises:
        DualpixError: the address is none.
    """
    return HiddenCamera.from_seed(seed_of(address)).targets


def open_drive(address: str | None, options: Mapping[str, str]) -> SimDrive:
    """The bare lens.

    Raises:
        CameraError: the connection is refused, as the faults say.
        DualpixError: address or options are none.
    """
    return SimDrive(_connected(address, options))


def open_camera(address: str | None, calibration: LensCalibration | None, options: Mapping[str, str]) -> SimCamera:
    """The camera of a seed; one whose connection broke is found again as it was left.

    Raises:
        CameraError: the connection is refused, as the faults say.
        DualpixError: address or options are none.
    """
    device = _connected(address, options)
    return SimCamera(device, calibration or _own_calibration(device))


def _own_calibration(device: SimDevice) -> LensCalibration:
    """The stored one of this lens, else measured on a twin of the device, in time that passes faster, and stored."""
    info = _info(device.address, device.camera.body)
    found = store.find(calibrate.body_of(info), info.lens or "", info.focal_length_mm)
    if found is not None:
        return found
    ProgressLine("sim").say(f"measuring the lens of '{device.address}', once: it is kept")
    clock = _QuickClock()
    twin = SimDevice(device.key, HiddenCamera.from_seed(device.camera.seed, clock=clock), FaultPlan())
    goals = [calibrate.Target(distance, box) for distance, box in twin.camera.targets]
    made = calibrate.calibrate(_QuickDrive(twin, clock), goals, sweeps=_SWEEPS, clock=clock, sleep=clock.sleep)
    store.save(made)
    return made


class _QuickClock:
    """Seconds that pass when somebody waits."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        """Wait."""
        self.now += seconds


class _QuickDrive(SimDrive):
    """A drive whose live view takes its time on a clock that does not run by itself."""

    def __init__(self, device: SimDevice, clock: _QuickClock) -> None:
        super().__init__(device)
        self._clock = clock

    def live_view(self) -> FloatImage:
        """The next frame."""
        self._clock.sleep(_FRAME_S)
        return super().live_view()


def _connected(address: str | None, options: Mapping[str, str]) -> SimDevice:
    unknown = sorted(set(options) - set(_OPTIONS))
    if unknown:
        raise DualpixError(f"unknown option '{unknown[0]}' of the simulated camera", expected=", ".join(_OPTIONS))
    seed = seed_of(address)
    key = (address or "sim", *(options.get(name, "") for name in _OPTIONS))
    device = _BROKEN.get(key)
    if device is None:
        faults, state = (Path(text) if text else None for text in key[1:])
        device = SimDevice(key, HiddenCamera.from_seed(seed, state=state), FaultPlan.read(faults))
        _BROKEN[key] = device  # until it has taken the connection: a refusal counts
    device.connect()
    del _BROKEN[key]
    return device


def seed_of(address: str | None) -> int:
    """Of ``sim`` or ``sim:SEED``.

    Raises:
        DualpixError: the address is none.
    """
    match = _ADDRESS.fullmatch(address or "sim")
    if match is None:
        raise DualpixError(f"no simulated camera '{address}'", expected="sim or sim:SEED, e.g. sim:7")
    return int(match[1] or 0)


def _info(address: str, body: Body) -> CameraInfo:
    return CameraInfo(
        backend="sim", address=address, make=body.make, model=body.model, serial=body.serial, firmware=body.firmware,
        lens=body.lens, lens_serial=body.lens_serial, focal_length_mm=body.focal_length_mm,
        min_focus_m=body.min_focus_m, pixel_pitch_um=body.view_pitch_um / 2, f_numbers=body.f_numbers,
        capabilities=("live_view", "focus_drive", "aperture", "dual_pixel_raw"),
    )  # fmt: skip
