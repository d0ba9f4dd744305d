"""A camera to capture with that does what a script says: faithful where it works, and wrong where it is told to be.

Its lens goes to positions, but only after homing; a runner that forgets to home after a connection was lost gets
distances that are wrong. Frames are real dual-pixel DNG files of a scene with depth. What really happened is kept in
``truth``, and in a file that outlives the process.
"""

from __future__ import annotations

import errno
import hashlib
import json
import os
import signal
import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path

import numpy as np

from dualpix.capture.camera_protocol import (
    Achieved,
    BadFrame,
    CameraBusy,
    CameraInfo,
    CameraLost,
    CameraStatus,
    CardFull,
    Exposure,
    LensStuck,
    PlannedFrame,
    Settled,
    Shot,
)
from dualpix.capture.cameras.hidden.body import Body
from dualpix.capture.cameras.hidden.camera import HiddenCamera
from dualpix.capture.cameras.hidden.lens import HiddenLens
from dualpix.capture.files import write_bytes

SIGMA_D = 0.004
OPERATIONS = ("connect", "status", "prepare", "home", "go_to", "settle", "shoot", "leave")
EXPOSURE = Exposure(2.8, 1 / 500, 800.0)
READY = CameraStatus("manual", "manual", False, 90.0, "normal", 500, True, "RAW", True)
_BODY = Body(size_hw=(48, 72), view_pitch_um=100.0)


INFO = CameraInfo(
    "scripted", "test:0", "dualpix", "Scripted", "123", lens="50mm", focal_length_mm=50.0,
    f_numbers=_BODY.f_numbers, capabilities=("live_view", "absolute_focus", "aperture"),
)  # fmt: skip


@dataclass(frozen=True)
class Fault:
    """What goes wrong at the nth call (from 1) of an operation, counted over the life of the camera."""

    operation: str
    nth: int
    kind: str


@dataclass
class Device:
    """The hardware, which outlives connections; all devices look at the same scene, seeds differ in everything else."""

    faults: Sequence[Fault] = ()
    seed: int = 0
    state: Path | None = None
    status: CameraStatus = READY
    info: CameraInfo = INFO
    calls: Counter[str] = field(default_factory=Counter)
    log: list[str] = field(default_factory=list)
    truth: dict[str, float] = field(default_factory=dict)
    """True diopters of each file ever made, by its digest."""
    last_file: bytes = b""
    lagging: bool = False
    refusals: int = 0
    found_d: float = 0.0
    hook: Callable[[str], None] = lambda _: None
    """Called with the name of every operation, before it."""

    def __post_init__(self) -> None:
        lens = HiddenLens(seed=self.seed, position=float(np.random.default_rng(self.seed).uniform(100, 900)))
        self.camera = HiddenCamera(lens, 0, replace(_BODY))
        self.camera._rng = np.random.default_rng([self.seed, 99])  # one scene, but other noise
        self.rng = np.random.default_rng([self.seed, 3])
        self.found_d = lens.diopters

    def fault(self, operation: str) -> str | None:
        """Count the call; the kind of the fault that strikes, if any."""
        self.calls[operation] += 1
        self.log.append(operation)
        self.hook(operation)
        nth = self.calls[operation]
        return next((f.kind for f in self.faults if (f.operation, f.nth) == (operation, nth)), None)

    def connect(self) -> ScriptedCamera:
        """A new connection."""
        kind = self.fault("connect")
        if self.refusals:
            self.refusals -= 1
            raise CameraLost("nobody answers")
        if kind == "busy":
            raise CameraBusy("busy")
        if kind in ("drop_connection", "lost"):
            raise CameraLost("nobody answers")
        self.camera.lens.stuck = False
        self.lagging = False
        return ScriptedCamera(self)

    def remember(self, data: bytes) -> None:
        digest = hashlib.sha256(data).hexdigest()
        self.truth[digest] = self.camera.lens.diopters
        if self.state is not None:
            with self.state.open("a") as file:
                file.write(json.dumps({"sha256": digest, "diopters": self.truth[digest]}) + "\n")


class ScriptedCamera:
    """One connection to a device."""

    def __init__(self, device: Device) -> None:
        self.device, self.connected, self.closed = device, True, False
        self.offset_d: float | None = None
        """Of what the connection believes; known after homing."""

    @property
    def info(self) -> CameraInfo:
        return self.device.info

    def _call(self, operation: str) -> str | None:
        if not self.connected:
            raise CameraLost("not connected")
        kind = self.device.fault(operation)
        if kind in ("kill", "kill_after"):
            self._kill(kind, operation)
        if kind == "busy":
            raise CameraBusy("0x2019")
        if kind in ("drop_connection", "lost"):
            self.connected = False
            if kind == "lost":
                self.device.refusals = 1
                self._move_to(self.device.rng.uniform(0.0, 2.0))
            raise CameraLost("the connection broke")
        if kind in ("stuck", "still"):
            self.device.camera.lens.stuck = True
        if kind == "stuck":
            raise LensStuck("the picture does not change", hint="look at the lens")
        if kind == "interrupt":
            os.kill(os.getpid(), signal.SIGINT)
        if kind == "bug":
            raise KeyError("a bug in a backend")
        return kind

    def _kill(self, kind: str, operation: str) -> None:
        if kind == "kill" or operation != "shoot":
            os.kill(os.getpid(), signal.SIGKILL)

    def _move_to(self, diopters: float) -> None:
        lens = self.device.camera.lens
        a, b, c = lens.truth.coefficients
        lens.move_to((-b + np.sqrt(b * b - 4 * c * (a - diopters))) / (2 * c) + lens.truth.backlash / 2)
        while lens.moving:
            time.sleep(0.0005)

    def status(self) -> CameraStatus:
        self._call("status")
        return self.device.status

    def prepare(self, frames: Sequence[PlannedFrame]) -> None:
        self._call("prepare")
        self.prepared = list(frames)

    def home(self) -> None:
        self._call("home")
        self._move_to(0.0)
        self.offset_d = 0.0

    def go_to(self, diopters: float) -> Achieved:
        self._call("go_to")
        # without homing the position is anybody's guess
        offset_d = 0.3 if self.offset_d is None else self.offset_d
        self._move_to(diopters + offset_d + float(np.clip(self.device.rng.normal(0, SIGMA_D), -0.01, 0.01)))
        return Achieved(diopters, SIGMA_D, "calibration", round(1000 * diopters))

    def settle(self) -> Settled:
        kind = self._call("settle")
        return Settled(0.01, 3, kind != "restless", "difference 1.0 of noise")

    def shoot(self, folder: Path, stem: str, exposure: Exposure) -> Shot:
        kind = self._call("shoot")
        if kind == "card_full":
            raise CardFull("no room on the card", hint="empty it")
        if kind == "disk_full":
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        if kind == "bad":
            raise BadFrame("cut")
        if kind == "other_exposure":
            exposure = replace(exposure, exposure_s=2 * (exposure.exposure_s or 0.0))
        wrong_aperture = kind == "other_aperture"
        f_number = 4.0 if wrong_aperture else float(exposure.f_number or 0)
        still = self.device.camera.release(f_number, float(exposure.exposure_s or 0), float(exposure.iso or 0), "x")
        self.device.remember(still.raw)
        sent = self.device.last_file if (kind == "duplicate" or self.device.lagging) else still.raw
        self.device.lagging |= kind == "lag"
        self.device.last_file = still.raw
        path = folder / f"{stem}.dng"
        write_bytes(path, sent[: len(sent) // 2] if kind == "truncated" else b"" if kind == "empty" else sent)
        if kind == "kill_after":
            os.kill(os.getpid(), signal.SIGKILL)
        files = [path]
        if kind == "stray":
            files = [folder.parent / "elsewhere.dng"]
        taken_at = datetime.now(UTC).isoformat(timespec="milliseconds")
        return Shot(tuple(files), exposure, taken_at, details={"kind": kind or "fine"})

    def leave(self) -> None:
        self._call("leave")
        self._move_to(self.device.found_d)

    def close(self) -> None:
        self.closed = True


@dataclass(frozen=True)
class SimplePlan:
    """Frames, and nothing else."""

    frames: tuple[PlannedFrame, ...]

    def to_json(self) -> dict[str, object]:
        return {"mode": "list", "parameters": {}, "frames": [asdict(frame) for frame in self.frames]}


def plan_of(
    stops: Sequence[float] = (0.3, 0.8, 1.3, 1.8), f_numbers: Sequence[float] = (2.8,), *, sharp: bool = False
) -> SimplePlan:
    """All apertures at each stop; with ``sharp`` an all-in-focus frame at f/16 at the second."""
    wanted: list[tuple[float, Exposure, str]] = []
    for number, diopters in enumerate(stops):
        for f_number in f_numbers:
            wanted.append((diopters, Exposure(f_number, f_number**2 / 2.8**2 / 500, 800.0), "focus"))
        if sharp and number == 1:
            wanted.append((diopters, Exposure(16.0, 16.0**2 / 2.8**2 / 500, 800.0), "all_in_focus"))
    return SimplePlan(
        tuple(PlannedFrame(i, d, exposure, role) for i, (d, exposure, role) in enumerate(wanted))  # type: ignore[arg-type]
    )
