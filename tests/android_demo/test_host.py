"""The host's camera, over the real adb, against the app's own core in a JVM behind a phone that is played."""

from __future__ import annotations

import hashlib
import json
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any, cast

import pytest
from tests.android_demo.conftest import Classes
from tests.android_demo.test_double import SCRIPT

from dualpix.capture.camera_protocol import BadFrame, CameraLost, Exposure, LensStuck, PlannedFrame
from dualpix.capture.cameras import android
from dualpix.capture.cameras.android import protocol
from dualpix.capture.cameras.hidden.faults import FaultPlan
from dualpix.capture.cameras.testing.adbd import PrivateAdb, serving
from dualpix.capture.cameras.testing.companion import Companion, PhoneOptics
from dualpix.capture.cameras.testing.phone import VirtualPhone

pytestmark = pytest.mark.slow
STOPS_D = (0.2, 0.5, 0.9)
FRAMES = [PlannedFrame(i, d, Exposure(1.68, 0.008, 55)) for i, d in enumerate(STOPS_D)]


class JvmCompanion:
    """The app's core in place of the companion that Python plays."""

    def __init__(self, command: list[str], optics: PhoneOptics) -> None:
        self.optics = optics  # nobody looks through it; what sends files marks its camera as busy
        self.process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        self._read()

    def start(self, session: str) -> None:
        assert self.process.stdin
        self.process.stdin.write(f"capture {protocol.check_session(session)}\n")
        self.process.stdin.flush()
        assert self._read()["error"] is None

    def _read(self) -> Any:
        assert self.process.stdout
        return json.loads(self.process.stdout.readline())

    def kill(self) -> None:
        self.process.kill()
        self.process.communicate()


class Bench:
    """A phone on a private adb server."""

    def __init__(self, classes: Classes, folder: Path) -> None:
        self.classes, self.folder = classes, folder

    def serve(self, faults: list[dict[str, Any]]) -> Iterator[str]:
        frames = self.folder / "frames"
        frames.mkdir()
        for d in STOPS_D:
            (frames / f"{d}.dng").write_bytes(f"DNG at {d}".encode() * 5000)
        (self.folder / "camera.json").write_text(json.dumps(SCRIPT | {"faults": faults}))
        phone = VirtualPhone(self.folder / "phone", PhoneOptics(3, "CALIBRATED"), FaultPlan([]))
        options = {"root": phone.local(protocol.FILES), "camera": self.folder / "camera.json", "frames": frames}
        words = [word for key, value in options.items() for word in (f"--{key}", str(value))]
        played = JvmCompanion(
            self.classes.java("org.dualpix.demo.desktop.Main", *words, "serve"), phone.companion.optics
        )
        phone.companion = cast("Companion", played)
        try:
            with (
                PrivateAdb(self.folder / "adb-home") as adb,
                serving(phone) as server,
                pytest.MonkeyPatch.context() as m,
            ):
                m.setenv("ANDROID_ADB_SERVER_PORT", str(adb.port))
                serial = server.serial
                adb.client().connect(serial)
                yield serial
        finally:
            played.kill()


@pytest.fixture
def phone(request: pytest.FixtureRequest, classes: Classes, tmp_path: Path) -> Iterator[str]:
    (tmp_path / "adb-home").mkdir()
    yield from Bench(classes, tmp_path).serve(getattr(request, "param", []))


def take(camera: android.AndroidCamera, frame: PlannedFrame, folder: Path) -> Path:
    camera.go_to(frame.diopters)
    assert camera.settle().reached
    return camera.shoot(folder, f"f{frame.index}", frame.exposure).files[0]


def test_a_stack_through_adb(phone: str, tmp_path: Path) -> None:
    camera = android.open_camera(phone)
    assert camera.info.model == "Desktop" and camera.info.min_focus_m == pytest.approx(0.1)
    camera.prepare(FRAMES)
    for frame in FRAMES:
        path = take(camera, frame, tmp_path)
        expected = (tmp_path / "frames" / f"{frame.diopters}.dng").read_bytes()
        assert hashlib.sha256(path.read_bytes()).digest() == hashlib.sha256(expected).digest()
    camera.go_to(0.5)
    again = camera.shoot(tmp_path, "again", FRAMES[1].exposure)
    assert again.details["attempt"] == 1 and again.achieved is not None
    assert abs(again.achieved.diopters - 0.5) < 0.02
    camera.leave()
    (stack,) = (tmp_path / "phone").rglob(protocol.STACK)
    assert protocol.parse_stack(stack.read_bytes()).complete


FAULTS = [
    ("send", "never_stationary", 9, LensStuck), ("send", "wrong_distance", 9, LensStuck),
    ("still", "dropped_image", 3, BadFrame), ("still", "timestamp_mismatch", 3, BadFrame),
    ("still", "camera_closed", 1, CameraLost),
]  # fmt: skip


@pytest.mark.parametrize(
    ("phone", "error"),
    [([{"at": at, "nth": 2, "times": times, "kind": kind}], error) for at, kind, times, error in FAULTS],
    indirect=["phone"],
    ids=[kind for _, kind, _, _ in FAULTS],
)
def test_a_fault_of_the_phone_is_the_error_that_the_host_knows(phone: str, error: type, tmp_path: Path) -> None:
    camera = android.open_camera(phone)
    camera.prepare(FRAMES)
    take(camera, FRAMES[0], tmp_path)
    with pytest.raises(error):
        take(camera, FRAMES[1], tmp_path)
