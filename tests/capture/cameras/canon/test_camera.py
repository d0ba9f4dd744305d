"""The Canon backend through the real libgphoto2: a test camera on loopback, and the virtual one that gphoto2 brings."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import suppress
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest

from dualpix.capture.camera_protocol import (
    BadFrame,
    Camera,
    CameraBusy,
    CameraError,
    CameraLost,
    CardFull,
    Exposure,
    FocusDrive,
    LensStuck,
    PlannedFrame,
)
from dualpix.capture.cameras import canon
from dualpix.capture.cameras.canon.files import CanonFile, suffix_of, write_all
from dualpix.capture.cameras.hidden.faults import Fault, Kind, Operation
from dualpix.capture.cameras.hidden.lens import lens_truth
from dualpix.capture.cameras.hidden.truth import ShotTruth, read_state
from dualpix.capture.cameras.testing.known import known_calibration
from dualpix.capture.cameras.testing.process import ServerProcess
from dualpix.capture.cameras.words import prime_mm
from dualpix.capture.errors import DualpixError
from dualpix.capture.raw import decode

gp = pytest.importorskip("gphoto2")

EOS = "dualpix.capture.cameras.testing.eos"
CALIBRATION = known_calibration(lens_truth(0))
WIDE, SMALL = Exposure(2.8, 1 / 60, 100.0), Exposure(5.6, 1 / 15, 100.0)


class Eos:
    """A running test camera."""

    def __init__(self, server: ServerProcess, state: Path) -> None:
        self.server, self._state = server, state
        self.address = f"ptpip:127.0.0.1:{server.port}"

    def truths(self) -> list[ShotTruth]:
        return read_state(self._state)

    def open(self, **options: str) -> canon.CanonCamera:
        return canon.open_camera(self.address, CALIBRATION, options)


@pytest.fixture(scope="module", autouse=True)
def own_settings(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """libgphoto2 keeps settings, which must be neither the user's nor another test's."""
    home = str(tmp_path_factory.mktemp("home"))
    with pytest.MonkeyPatch.context() as patch:
        for name in ("HOME", "XDG_CONFIG_HOME"):
            patch.setenv(name, home)
        yield


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Eos]:
    state = tmp_path_factory.mktemp("eos") / "state.jsonl"
    with ServerProcess(EOS, "--state", str(state)) as server:
        yield Eos(server, state)


@pytest.fixture
def eos(running: Eos) -> Eos:
    """The camera without faults."""
    running.server.set_faults()
    return running


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Callable[..., Eos]]:
    """``start("--quality", "L")``: a camera that is set up in another way."""
    servers: list[ServerProcess] = []

    def started(*arguments: str) -> Eos:
        server = ServerProcess(EOS, "--state", str(tmp_path / "state.jsonl"), *arguments)
        servers.append(server.__enter__())
        return Eos(server, tmp_path / "state.jsonl")

    yield started
    for server in servers:
        server.__exit__(None, None, None)


def test_the_camera_says_who_it_is_and_how_it_is_set(eos: Eos) -> None:
    camera: Camera = eos.open()
    info, status = camera.info, camera.status()
    camera.close()
    assert (info.backend, info.make, info.model) == ("canon", "Canon Inc.", "Canon EOS R5")
    assert (info.lens, info.focal_length_mm, info.serial) == ("Hidden 50mm F1.8", 50.0, "000000000000")
    assert info.f_numbers == (1.8, 2.0, 2.8, 4.0, 5.6, 8.0, 11.0, 16.0)
    assert set(info.capabilities) == {"live_view", "focus_drive", "aperture"}
    assert info.address == f"{eos.address}:{eos.server.port}"  # a port for events, too
    assert (status.exposure_mode, status.focus_mode, status.battery_percent) == ("manual", "manual", 80.0)
    assert (status.raw_format, status.live_view) == ("RAW", False)
    assert [found.model for found in canon.find([eos.address]) if found.address == info.address] == [info.model]


def test_frames_are_focused_exposed_and_named_as_asked(eos: Eos, tmp_path: Path) -> None:
    camera = eos.open()
    before = len(eos.truths())
    frames = [PlannedFrame(i, d, e) for i, (d, e) in enumerate((d, e) for d in (0.4, 1.5) for e in (WIDE, SMALL))]
    camera.prepare(frames)
    claims = {}
    for frame in frames:
        if frame.diopters not in claims:
            claims[frame.diopters] = camera.go_to(frame.diopters)
            assert camera.settle().reached
        shot = camera.shoot(tmp_path, f"f{frame.index}", frame.exposure)
        assert shot.exposure == frame.exposure and shot.files == (tmp_path / f"f{frame.index}.dng",)
    camera.leave()
    assert camera.status().live_view is False
    camera.close()
    truths = eos.truths()[before:]
    assert [(t.f_number, t.exposure_s) for t in truths] == [
        (f.exposure.f_number, f.exposure.exposure_s) for f in frames
    ]
    for frame, truth in zip(frames, truths, strict=True):
        claim = claims[frame.diopters]
        assert claim.source == "calibration"
        assert abs(claim.diopters - truth.diopters) < min(4 * claim.uncertainty_d, 0.03)
    assert decode(tmp_path / "f1.dng").meta.f_number == 5.6


def test_each_step_moves_the_lens_and_live_view_shows_it(eos: Eos) -> None:
    """A widget that is kept would send only the first of equal steps."""
    drive: FocusDrive = canon.open_drive(eos.address, {})
    for _ in range(30):
        drive.drive("far", 3)
    pictures = []
    for _ in range(6):
        drive.drive("near", 3)
        pictures.append([drive.live_view() for _ in range(25)][-1])
    assert all(picture.dtype == np.float32 and 0 <= picture.min() < picture.max() <= 1 for picture in pictures)
    changes = [float(np.abs(after - before).mean()) for before, after in pairwise(pictures)]
    assert min(changes) > 0.004
    with pytest.raises(ValueError, match="step size 4"):
        drive.drive("near", 4)
    canon.CanonDrive.close(drive)  # type: ignore[arg-type]


def test_settings_are_found_again_as_they_were(eos: Eos, tmp_path: Path) -> None:
    names = ("aperture", "shutterspeed", "iso", "autopoweroff", "capturetarget")
    camera = eos.open()
    before = {name: camera._link.get(name) for name in names}
    camera.prepare([PlannedFrame(0, 1.0, Exposure(8.0, 0.5, 800.0))])
    camera.shoot(tmp_path, "a", Exposure(8.0, 0.02, 800.0))
    assert camera._link.get("output") == "TFT + PC"
    assert camera._link.get("aperture") == "8" != before["aperture"] and camera._link.get("autopoweroff") == "0"
    camera.leave()
    assert {name: camera._link.get(name) for name in names} == before
    assert camera._link.get("output") == "Off"
    camera.close()


@pytest.mark.parametrize("target", ["ram", "card"])
def test_raw_and_jpeg_both_come_the_raw_file_first(eos: Eos, tmp_path: Path, target: str) -> None:
    camera = eos.open(target=target)
    camera._change("imageformat", "RAW + L")
    camera.prepare([PlannedFrame(0, 1.0, WIDE)])
    shots = [camera.shoot(tmp_path, stem, WIDE) for stem in ("a", "b")]
    camera.leave()
    camera.close()
    assert [path.name for shot in shots for path in shot.files] == ["a.dng", "a.jpg", "b.dng", "b.jpg"]
    assert shots[0].files[0].read_bytes() != shots[1].files[0].read_bytes()


def test_a_camera_that_is_set_otherwise_says_so_and_is_set_to_raw(start: Callable[..., Eos], tmp_path: Path) -> None:
    eos = start("--quality", "L", "--battery", "7", "--exposure-mode", "Av", "--focus-mode", "AF")
    camera = eos.open()
    status = camera.status()
    assert (status.exposure_mode, status.focus_mode, status.battery_percent) == ("AV", "One Shot", 7.0)
    camera.prepare([PlannedFrame(0, 1.0, WIDE)])
    assert [path.suffix for path in camera.shoot(tmp_path, "a", WIDE).files] == [".dng"]
    camera.leave()
    assert camera.status().raw_format == "L"
    camera.close()


@pytest.mark.parametrize(
    ("wanted", "words"),
    [
        (Exposure(3.3), "the camera has no aperture 3.3; expected one of 1.8, 2,"),
        (Exposure(exposure_s=1e-5), "the camera has no shutterspeed 1e-05"),
        (Exposure(iso=125.0), "the camera has no iso 125"),
    ],
)
def test_an_exposure_that_cannot_be_set_is_refused_before_anything_moves(
    eos: Eos, wanted: Exposure, words: str
) -> None:
    camera = eos.open()
    with pytest.raises(CameraError, match=words.replace(".", r"\.")):
        camera.prepare([PlannedFrame(0, 1.0, WIDE), PlannedFrame(1, 1.0, wanted)])
    camera.close()


FAULTS: list[tuple[Operation, int, Kind, str, type[CameraError] | None]] = [
    ("connect", 1, "drop_connection", "ram", CameraLost),
    ("status", 2, "busy", "ram", CameraBusy),
    ("status", 2, "drop_connection", "ram", CameraLost),
    ("set", 2, "busy", "ram", CameraBusy),
    ("set", 2, "drop_connection", "ram", CameraLost),
    ("drive", 1, "busy", "ram", CameraBusy),
    ("drive", 1, "lost", "ram", CameraLost),
    ("live_view", 1, "busy", "ram", None),  # libgphoto2 asks again
    ("live_view", 2, "drop_connection", "ram", CameraLost),
    ("shoot", 1, "busy", "ram", CameraBusy),
    ("shoot", 1, "drop_connection", "ram", CameraLost),
    ("shoot", 1, "lost", "ram", CameraLost),
    ("shoot", 1, "card_full", "ram", CardFull),
    ("shoot", 1, "card_full", "card", CardFull),
    ("poll", 2, "busy", "ram", None),  # the release has happened: waiting goes on
    ("poll", 2, "drop_connection", "ram", CameraLost),
    ("download", 1, "busy", "ram", BadFrame),
    ("download", 1, "busy", "card", CameraBusy),
    ("download", 1, "truncated", "ram", BadFrame),
    ("download", 1, "truncated", "card", BadFrame),
    ("download", 1, "drop_connection", "ram", CameraLost),
    ("download", 1, "lost", "card", CameraLost),
]


@pytest.mark.parametrize(("operation", "nth", "kind", "target", "error"), FAULTS)
def test_faults_become_errors_leave_no_file_and_are_got_over(
    eos: Eos, tmp_path: Path, operation: Operation, nth: int, kind: Kind, target: str, error: type[CameraError] | None
) -> None:
    eos.server.set_faults(Fault(operation, nth, kind))
    folder = tmp_path / "out"
    folder.mkdir()

    def everything() -> None:
        camera = eos.open(target=target)
        try:
            camera.status()
            camera.prepare([PlannedFrame(0, 1.0, WIDE)])
            camera._drive.drive("near", 2)
            for _ in range(2):
                camera._drive.live_view()
            camera.shoot(folder, "a", WIDE)
        finally:
            camera.close()

    if error is None:
        everything()
        assert [path.name for path in folder.iterdir()] == ["a.dng"]
        return
    with pytest.raises(error) as caught:
        everything()
    assert type(caught.value) is error and caught.value.transient == (error in (CameraBusy, BadFrame))
    assert not list(folder.iterdir())
    for _ in range(3):
        try:
            everything()
            break
        except (CameraLost, CameraBusy):  # asleep, or still busy with the release that was cut off
            continue
    assert [path.name for path in folder.iterdir()] == ["a.dng"]
    assert (folder / "a.dng").read_bytes()[:4] == b"II*\0"


def test_what_was_lost_stays_lost_until_opened_anew(eos: Eos, tmp_path: Path) -> None:
    eos.server.set_faults(Fault("shoot", 1, "drop_connection"))
    camera = eos.open()
    with pytest.raises(CameraLost, match="go on with --resume"):
        camera.shoot(tmp_path, "a", WIDE)
    with pytest.raises(CameraLost, match="not connected to the camera at 'ptpip:"):
        camera.status()
    camera.close()
    camera = eos.open()
    assert camera.status().exposure_mode == "manual"
    camera.close()


def test_a_file_that_came_too_late_is_not_taken_for_the_next_one(eos: Eos, tmp_path: Path) -> None:
    camera = eos.open()
    camera._change("capturetarget", "Internal RAM")
    before = len(eos.truths())
    camera._release()
    while len(eos.truths()) == before:
        camera._link.check()
    camera.shoot(tmp_path, "a", WIDE)
    camera.close()
    truths = eos.truths()[before:]
    assert len(truths) == 2 and _sha256(tmp_path / "a.dng") == truths[1].sha256


def test_a_duplicate_has_the_right_size_and_is_left_to_the_runner(eos: Eos, tmp_path: Path) -> None:
    eos.server.set_faults(Fault("download", 2, "duplicate"))
    camera = eos.open()
    camera.prepare([PlannedFrame(0, 1.0, WIDE)])
    shots = [camera.shoot(tmp_path, stem, WIDE).files[0].read_bytes() for stem in "abc"]
    camera.close()
    assert shots[0] == shots[1] != shots[2]


@pytest.mark.slow
def test_a_lens_that_sticks_is_noticed(eos: Eos) -> None:
    eos.server.set_faults(Fault("drive", 1, "stuck"))
    camera = eos.open()
    with pytest.raises(LensStuck):
        camera.home()
    camera.close()


def test_one_release_of_a_bracket_in_the_camera_is_many_files(start: Callable[..., Eos]) -> None:
    eos = start("--bracket", "4", "--bracket-step", "2")
    camera = eos.open(target="card")
    camera.prepare([])
    camera._release()
    names = camera._wait_for_files(4, 1.0)
    camera.close()
    assert [name for _, name in names] == [f"IMG_{n:04d}.DNG" for n in range(1, 5)]
    focus = [truth.diopters for truth in eos.truths()]
    assert len(focus) == 4 and focus == sorted(focus) and focus[0] < focus[-1]


def test_nonsense_on_the_wire_does_not_disturb_the_test_camera(eos: Eos) -> None:
    for nonsense in (b"GET / HTTP/1.1\r\n\r\n", b"\xff" * 64, b"\x08\0\0\0\x06\0\0\0"):
        with (
            suppress(OSError),  # hung up on with something left unread, or before the shutdown (ENOTCONN)
            socket.create_connection(("127.0.0.1", eos.server.port), timeout=120) as connection,
        ):
            connection.sendall(nonsense)
            connection.shutdown(socket.SHUT_WR)
            while connection.recv(1024):
                pass
    camera = eos.open()
    assert camera.status().battery_percent == 80.0
    camera.close()


@pytest.mark.parametrize(
    ("address", "words"),
    [
        ("usb:1", "no address of a Canon camera; expected usb:BUS,DEVICE or ptpip:HOST"),
        ("ptpip:host:1:2:3", "no address of a Canon camera"),
        ("ptpip:../x", "no address of a Canon camera"),
        ("usb:099,099", "no Canon camera at 'usb:099,099'"),
        ("ptpip:127.0.0.1:1", "cannot open the camera at 'ptpip:127.0.0.1:1:1'"),
    ],
)
def test_addresses_that_lead_nowhere(address: str, words: str) -> None:
    with pytest.raises(DualpixError, match=words):
        canon.open_camera(address, None, {})


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"colour": "red"}, "unknown option 'colour' of a Canon camera; expected target, focal_length_mm"),
        ({"target": "moon"}, "unknown target 'moon'; expected ram or card"),
        ({"focal_length_mm": "wide"}, "focal length 'wide'"),
    ],
)
def test_options_that_make_no_sense(options: dict[str, str], words: str) -> None:
    with pytest.raises(DualpixError, match=words):
        canon.open_drive("ptpip:127.0.0.1", options)


def test_without_the_package_the_message_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "gphoto2", None)
    with pytest.raises(DualpixError, match=r"pip install 'dualpix\[canon\]'"):
        canon.find()


@pytest.mark.parametrize(
    ("name", "mm"),
    [("RF50mm F1.2 L USM", 50.0), ("EF-S24mm f/2.8 STM", 24.0), ("RF24-105mm F4 L IS USM", None), ("", None)],
)
def test_the_focal_length_of_a_prime_is_in_its_name(name: str, mm: float | None) -> None:
    assert prime_mm(name) == mm


@pytest.mark.parametrize(
    ("data", "name", "suffix"),
    [
        (b"\0\0\0\x18ftypcrx ", "capt0000.jpg", ".cr3"),
        (b"II*\0\x10\0\0\0CR\x02\0", "capt0000.cr3", ".cr2"),
        (b"II*\0\x10\0\0\0", "capt0000.cr3", ".dng"),
        (b"\xff\xd8\xff\xe1", "x", ".jpg"),
        (b"\0\0\0\x18ftypheix", "IMG_1.HIF", ".hif"),
        (b"????", "IMG_1.CRW", ".crw"),
        (b"????", "../../x/.bashrc", ".bin"),
    ],
)
def test_files_are_called_what_they_are(data: bytes, name: str, suffix: str) -> None:
    assert suffix_of(data, name) == suffix


def test_a_second_file_that_cannot_be_written_takes_the_first_with_it(tmp_path: Path) -> None:
    files = [CanonFile("a", ".dng", b"x"), CanonFile("b", "/no/such.jpg", b"x")]
    with pytest.raises(DualpixError, match="cannot write"):
        write_all(tmp_path, "f0", files)
    assert not list(tmp_path.iterdir())


VIRTUAL = """
import json, sys
from pathlib import Path
import gphoto2 as gp
from dualpix.capture.cameras import canon
from dualpix.capture.cameras.canon.connect import open_port
from dualpix.capture.camera_protocol import CameraError, Exposure

found = gp.Camera.autodetect()
model, port = found.get_name(0), found.get_value(0)
camera = canon.CanonCamera(open_port(gp, model, port), None, "card")
said = {"model": camera.info.model, "canons": len(canon.find()), "capabilities": camera.info.capabilities}
for name, ask in (("live view", camera._drive.live_view), ("status", camera.status)):
    try:
        said[name] = str(ask())
    except CameraError as error:
        said[name] = str(error)
camera._link.call("the release", "trigger_capture")
said["event"] = camera._link.call("waiting", "wait_for_event", 100)[0]
camera.close()
print(json.dumps(said))
"""


def test_the_virtual_camera_of_the_gphoto2_package_can_be_talked_to(tmp_path: Path) -> None:
    """A Nikon without live view: another driver than the one we serve ourselves, and refusals in plain words."""
    from PIL import Image

    card = tmp_path / "card" / "DCIM" / "100NIKON"
    card.mkdir(parents=True)
    Image.new("RGB", (8, 8)).save(card / "DSC_0001.JPG")
    environment = {**os.environ, "VCAMERADIR": str(tmp_path / "card"), "HOME": str(tmp_path)}
    environment |= {"XDG_CONFIG_HOME": str(tmp_path)}
    done = subprocess.run(
        [sys.executable, "-c", VIRTUAL], env=environment, capture_output=True, timeout=300, check=False
    )
    assert done.returncode == 0, done.stderr.decode()
    said = json.loads(done.stdout)
    assert said["model"] and said["canons"] == 0 and "focus_drive" not in said["capabilities"]
    assert "has no live view that can be switched on from here" in said["live view"]


def _sha256(path: Path) -> str:
    import hashlib

    return hashlib.sha256(path.read_bytes()).hexdigest()
