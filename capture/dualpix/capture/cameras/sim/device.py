"""The hardware of simulated cameras, which goes on existing when a connection breaks, and how it is reached."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path

from dualpix.capture.camera_protocol import CameraBusy, CameraInfo, CameraLost, CardFull
from dualpix.capture.cameras.hidden.body import Body
from dualpix.capture.cameras.hidden.camera import HiddenCamera
from dualpix.capture.cameras.hidden.faults import FaultPlan, Kind, Operation
from dualpix.capture.cameras.opening import refuse_unknown
from dualpix.capture.errors import DualpixError

_ADDRESS = re.compile(r"sim(?::(\d{1,9}))?")
_OPTIONS = ("faults", "state")


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


def connected(address: str | None, options: Mapping[str, str]) -> SimDevice:
    """The device of an address; one whose connection broke is found again as it was left.

    Raises:
        CameraError: the connection is refused, as the faults say.
        DualpixError: address or options are none.
    """
    refuse_unknown(options, _OPTIONS, "the simulated camera")
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


def info_of(address: str, body: Body) -> CameraInfo:
    """Who is there."""
    return CameraInfo(
        backend="sim", address=address, make=body.make, model=body.model, serial=body.serial, firmware=body.firmware,
        lens=body.lens, lens_serial=body.lens_serial, focal_length_mm=body.focal_length_mm,
        min_focus_m=body.min_focus_m, pixel_pitch_um=body.view_pitch_um / 2, f_numbers=body.f_numbers,
        capabilities=("live_view", "focus_drive", "aperture", "dual_pixel_raw"),
    )  # fmt: skip
