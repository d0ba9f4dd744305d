"""A phone behind the real adb: the adb client and adbutils drive the played companion app through a private server."""

from __future__ import annotations

import hashlib
import json
import subprocess
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

import adbutils
import pytest

from dualpix.capture.camera_protocol import (
    BadFrame,
    CameraBusy,
    CameraError,
    CameraLost,
    CardFull,
    Exposure,
    LensStuck,
    PlannedFrame,
)
from dualpix.capture.cameras import android, backend
from dualpix.capture.cameras.android import protocol
from dualpix.capture.cameras.android.device import Phone
from dualpix.capture.cameras.hidden.body import Body
from dualpix.capture.cameras.hidden.faults import Fault, FaultPlan, Kind, Operation
from dualpix.capture.cameras.hidden.truth import ShotTruth, read_state
from dualpix.capture.cameras.testing.adbd import AdbdServer, PrivateAdb, serving
from dualpix.capture.cameras.testing.companion import PhoneOptics
from dualpix.capture.cameras.testing.phone import VirtualPhone
from dualpix.capture.cameras.testing.process import ServerProcess
from dualpix.capture.errors import DualpixError
from dualpix.capture.focus.calibration import LensCalibration

SMALL = Body(size_hw=(32, 48))
STOPS_D = (0.2, 0.5, 0.9)
F_NUMBERS = (2.8, 5.6)
Serve = Callable[..., AbstractContextManager[VirtualPhone]]


@pytest.fixture(scope="module")
def adb(tmp_path_factory: pytest.TempPathFactory) -> Iterator[PrivateAdb]:
    with PrivateAdb(tmp_path_factory.mktemp("adb-home")) as server:
        yield server


@pytest.fixture
def serve(adb: PrivateAdb, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Serve]:
    """``with serve(faults...) as phone``: a phone at ``phone.serial`` on the private adb server."""
    monkeypatch.setenv("ANDROID_ADB_SERVER_PORT", str(adb.port))

    @contextmanager
    def start(
        *faults: Fault, quality: protocol.Quality = "CALIBRATED", connect: bool = True, seed: int = 3, **more: Any
    ) -> Iterator[VirtualPhone]:
        number = len(list(tmp_path.glob("phone*")))
        phone = VirtualPhone(
            tmp_path / f"phone{number}", PhoneOptics(seed, quality, body=SMALL), FaultPlan(faults), **more
        )
        with serving(phone) as server:
            phone.server = server  # type: ignore[attr-defined]
            if connect:
                adb.client().connect(server.serial)
            try:
                yield phone
            finally:
                adb.client().disconnect(server.serial)

    yield start


def serial(phone: VirtualPhone) -> str:
    return cast("AdbdServer", phone.server).serial  # type: ignore[attr-defined]


def opened(phone: VirtualPhone, calibration: LensCalibration | None = None, **options: str) -> android.AndroidCamera:
    return android.open_camera(serial(phone), calibration, options)


def exposure(f_number: float) -> Exposure:
    return Exposure(f_number, 1 / 60 * (f_number / 2.8) ** 2, 100)


def frames(*stops_d: float) -> list[PlannedFrame]:
    wanted = [(d, n) for d in stops_d or STOPS_D for n in F_NUMBERS]
    return [PlannedFrame(index, d, exposure(n)) for index, (d, n) in enumerate(wanted)]


def truth_of(phone: VirtualPhone, path: Path) -> ShotTruth:
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    (shot,) = (s for s in phone.companion.optics.camera.shots if s.sha256 == digest)
    return shot


def take(camera: android.AndroidCamera, frame: PlannedFrame, folder: Path) -> Path:
    camera.go_to(frame.diopters)
    camera.settle()
    return camera.shoot(folder, f"f{frame.index}", frame.exposure).files[0]


def take_all(phone: VirtualPhone, folder: Path, log: list[CameraError], lives: int = 5) -> dict[int, Path]:
    """What a runner does: again after what passes, a new connection after a loss, and only what is missing."""
    taken: dict[int, Path] = {}

    def patiently(what: Callable[[], Any]) -> Any:
        for _ in range(4):
            try:
                return what()
            except CameraError as error:
                log.append(error)
                if not error.transient:
                    raise
        raise AssertionError(f"four times: {log[-1]}")

    for _ in range(lives):
        try:
            camera = patiently(lambda: opened(phone))
            patiently(camera.status)
            missing = [f for f in frames() if f.index not in taken]
            patiently(lambda camera=camera, missing=missing: camera.prepare(missing))
            for frame in missing:
                taken[frame.index] = patiently(lambda c=camera, f=frame: take(c, f, folder))
            patiently(camera.leave)
            return taken
        except (CameraLost, LensStuck):
            continue
    raise AssertionError(f"not done after {lives} lives: {log}")


def test_the_real_adb_client_sees_a_phone(adb: PrivateAdb, serve: Serve, tmp_path: Path) -> None:
    def run(*arguments: str) -> bytes:
        command = [adbutils.adb_path(), "-P", str(adb.port), "-s", serial(phone), *arguments]
        return subprocess.run(command, check=True, capture_output=True, timeout=300).stdout

    data = bytes(range(256)) * 5000
    (tmp_path / "there").write_bytes(data)
    with serve() as phone:
        assert run("shell", "getprop", "ro.product.model") == b"Double\n"
        run("push", str(tmp_path / "there"), "/sdcard/a/file.bin")
        run("pull", "/sdcard/a/file.bin", str(tmp_path / "back"))
        assert (tmp_path / "back").read_bytes() == data
        assert run("exec-out", "cat", "/sdcard/a/file.bin") == data
        device = adb.client().device(serial(phone))
        assert device.shell2(["ls", "/sdcard/a"]).output == "file.bin\n"
        assert device.shell2(["reboot"]).returncode == 127
        assert [entry.path for entry in device.sync.iter_directory("/sdcard/a")] == ["file.bin"]


@pytest.mark.parametrize("path", ["/../outside", "/sdcard/../../outside", "relative", ""])
def test_no_path_leaves_the_phone(serve: Serve, tmp_path: Path, path: str) -> None:
    with serve(connect=False) as phone:
        (tmp_path / "outside").write_text("secret")
        try:
            local = phone.local(path)
        except FileNotFoundError:
            return
        assert local.is_relative_to(phone.root) and not local.exists()


def test_a_stack_comes_with_the_true_focus(serve: Serve, tmp_path: Path) -> None:
    with serve() as phone:
        camera = opened(phone)
        camera.prepare(frames())
        for frame in frames():
            achieved = camera.go_to(frame.diopters)
            settled = camera.settle()
            shot = camera.shoot(tmp_path, f"f{frame.index}", frame.exposure)
            truth = truth_of(phone, shot.files[0])
            assert settled.reached and settled.frames >= 2 and "stationary" in settled.evidence
            assert shot.achieved is not None and shot.achieved.source == achieved.source == "camera"
            assert abs(shot.achieved.diopters - truth.diopters) <= 0.02
            assert abs(shot.achieved.diopters - frame.diopters) <= 0.025
            assert shot.exposure == Exposure(frame.exposure.f_number, pytest.approx(frame.exposure.exposure_s), 100)
            assert truth.f_number == frame.exposure.f_number
            assert shot.details["lens_state"] == "stationary" and shot.details["physical_camera"] == "2"
        assert sorted(p.name for p in tmp_path.glob("f*")) == [f"f{i}.dng" for i in range(6)]
        (folder,) = (p.parent for p in phone.root.rglob("plan.json"))
        camera.leave()
        assert not list(folder.glob("frame_*")), "what is here is not removed there"
        stack = protocol.parse_stack((folder / "stack.json").read_bytes())
        assert stack.complete and [f.frame for f in stack.frames] == list(range(6))
        camera.close()


def test_the_frames_stay_on_the_phone_on_request(serve: Serve, tmp_path: Path) -> None:
    with serve() as phone:
        camera = opened(phone, keep="yes")
        camera.prepare(frames(0.4))
        for frame in frames(0.4):
            take(camera, frame, tmp_path)
        camera.leave()
        assert len(list(phone.root.rglob("frame_*.dng"))) == 2


def test_what_the_phone_is_and_how_it_is(serve: Serve) -> None:
    with serve() as phone:
        camera = opened(phone)
        info, status = camera.info, camera.status()
        assert (info.backend, info.address, info.model) == ("android", serial(phone), "Double")
        assert info.pixel_pitch_um == SMALL.view_pitch_um / 2 and info.f_numbers == SMALL.f_numbers
        assert info.capabilities == ("absolute_focus", "aperture")
        assert info.min_focus_m == pytest.approx(1 / phone.companion.optics.nearest, rel=1e-3)
        assert (status.exposure_mode, status.focus_mode, status.stabiliser) == ("manual", "manual", False)
        assert (status.battery_percent, status.temperature) == (87.0, "normal")
        assert status.free_frames == 4_000_000 * 1024 // (2 * 64 * 96)
        phone.thermal_status, phone.battery_percent = 3, 4
        assert (camera.status().temperature, camera.status().battery_percent) == ("severe", 4.0)


def test_a_frame_that_is_asked_for_again_is_taken_again(serve: Serve, tmp_path: Path) -> None:
    with serve() as phone:
        camera = opened(phone)
        camera.prepare(frames())
        first, second = frames()[:2]
        old = truth_of(phone, take(camera, first, tmp_path))
        take(camera, second, tmp_path)
        camera.go_to(first.diopters)
        shot = camera.shoot(tmp_path, "again", first.exposure)
        new = truth_of(phone, shot.files[0])
        assert shot.details["attempt"] == 1 and new.shot > old.shot and new.f_number == old.f_number
        assert shot.achieved is not None and abs(shot.achieved.diopters - new.diopters) < 0.02


def test_exposure_that_is_left_to_the_phone_is_metered_once(serve: Serve, tmp_path: Path) -> None:
    with serve() as phone:
        camera = opened(phone)
        free = [PlannedFrame(i, d, Exposure()) for i, d in enumerate((0.3, 0.6))]
        camera.prepare(free)
        shots = []
        for frame in free:
            camera.go_to(frame.diopters)
            shots.append(camera.shoot(tmp_path, f"f{frame.index}", frame.exposure))
        assert shots[0].exposure == shots[1].exposure and shots[0].exposure.exposure_s == pytest.approx(1 / 60)


FAULTS: list[tuple[Operation, int, Kind, type[CameraError]]] = [
    ("status", 1, "busy", CameraBusy),
    ("status", 3, "lost", CameraLost),
    ("set", 1, "busy", CameraBusy),
    ("set", 2, "drop_connection", CameraLost),
    ("poll", 2, "busy", CameraBusy),
    ("poll", 3, "drop_connection", CameraLost),
    ("drive", 2, "busy", CameraBusy),
    ("drive", 3, "lost", CameraLost),
    ("drive", 4, "stuck", LensStuck),
    ("shoot", 5, "busy", CameraBusy),
    ("shoot", 4, "drop_connection", CameraLost),
    ("download", 2, "busy", CameraBusy),
    ("download", 3, "truncated", BadFrame),
    ("download", 6, "drop_connection", CameraLost),
]


@pytest.mark.parametrize(("operation", "nth", "kind", "error"), FAULTS, ids=lambda value: str(value))
def test_after_a_fault_every_frame_is_there_once_at_its_focus(
    serve: Serve, tmp_path: Path, operation: Operation, nth: int, kind: Kind, error: type[CameraError]
) -> None:
    log: list[CameraError] = []
    with serve(Fault(operation, nth, kind)) as phone:
        taken = take_all(phone, tmp_path, log)
        assert phone.faults.struck, "the fault did not happen"
        assert {type(e) for e in log} == {error}
        assert sorted(taken) == list(range(6))
        for frame in frames():
            truth = truth_of(phone, taken[frame.index])
            assert abs(truth.diopters - frame.diopters) < 0.04 and truth.f_number == frame.exposure.f_number
        assert len({truth_of(phone, path).shot for path in taken.values()}) == 6


def test_a_phone_that_refuses_the_first_connection_is_called_again(serve: Serve, tmp_path: Path) -> None:
    log: list[CameraError] = []
    with serve(Fault("connect", 1, "drop_connection"), connect=False) as phone:
        assert sorted(take_all(phone, tmp_path, log)) == list(range(6))


def test_no_room_left_is_a_full_card(serve: Serve, tmp_path: Path) -> None:
    with serve(Fault("shoot", 2, "card_full")) as phone:
        camera = opened(phone)
        camera.prepare(frames())
        take(camera, frames()[0], tmp_path)
        with pytest.raises(CardFull, match="no room left"):
            take(camera, frames()[1], tmp_path)
        camera.leave()


def test_a_duplicate_arrives_as_it_is_for_the_runner_to_see(serve: Serve, tmp_path: Path) -> None:
    with serve(Fault("shoot", 2, "duplicate")) as phone:
        camera = opened(phone)
        camera.prepare(frames())
        first, second = (take(camera, frame, tmp_path) for frame in frames()[:2])
        assert first.read_bytes() == second.read_bytes()
        again = camera.shoot(tmp_path, "again", frames()[1].exposure).files[0]
        assert truth_of(phone, again).f_number == frames()[1].exposure.f_number


def test_a_file_that_never_comes_whole_is_taken_again(serve: Serve, tmp_path: Path) -> None:
    with serve(Fault("download", 1, "truncated", times=2)) as phone:
        camera = opened(phone)
        camera.prepare(frames())
        camera.go_to(STOPS_D[0])
        for _ in range(2):
            with pytest.raises(BadFrame, match="bytes"):
                camera.shoot(tmp_path, "f", frames()[0].exposure)
            assert not list(tmp_path.glob("*f*.dng")), "something was left"
        assert camera.shoot(tmp_path, "f", frames()[0].exposure).details["attempt"] == 1


def test_an_uncalibrated_phone_is_refused_without_a_calibration(serve: Serve) -> None:
    with serve(quality="UNCALIBRATED") as phone, pytest.raises(CameraError, match="UNCALIBRATED"):
        opened(phone)


def test_an_uncalibrated_phone_works_with_a_calibration(serve: Serve, tmp_path: Path) -> None:
    calibration = LensCalibration(
        "Double PHONEDOUBLE01", "camera 0", 50.0, (0.0, 1 / 3.7, 0.0), ((1e-4, 0, 0), (0, 0, 0), (0, 0, 0)), {1: 1.0},
        0.0, 11.0, 0.0, 0.01, ((0.0, 0.0), (3.7, 1.0)), "2026-11-21T00:00:00Z", "targets",
    )  # fmt: skip
    with serve(quality="UNCALIBRATED") as phone:
        camera = opened(phone, calibration)
        camera.prepare(frames())
        for frame in frames():
            achieved = camera.go_to(frame.diopters)
            truth = truth_of(phone, camera.shoot(tmp_path, f"f{frame.index}", frame.exposure).files[0])
            assert achieved.source == "calibration" and abs(truth.diopters - frame.diopters) < 0.03
            assert achieved.uncertainty_d == pytest.approx((1e-4 + 0.01**2) ** 0.5)


def test_an_approximate_phone_says_that_it_is_less_certain(serve: Serve) -> None:
    with serve(quality="APPROXIMATE") as phone:
        camera = opened(phone)
        camera.prepare(frames())
        assert camera.go_to(0.9).uncertainty_d > 0.1


@pytest.mark.parametrize("diopters", [-0.1, 50.0])
def test_a_focus_out_of_reach_is_refused_before_anything_starts(serve: Serve, diopters: float) -> None:
    with serve() as phone:
        camera = opened(phone)
        with pytest.raises(DualpixError, match=r"which the lens of this phone reaches"):
            camera.prepare([PlannedFrame(0, diopters, Exposure())])
        assert not phone.companion.optics.camera.shots


@pytest.mark.parametrize(
    ("more", "words"),
    [({"app": False}, "companion app .* is not on phone"), ({"permission": False}, "may not use the camera")],
)
def test_what_the_phone_lacks_is_said(serve: Serve, more: dict[str, bool], words: str) -> None:
    with serve(**more) as phone:
        with pytest.raises(CameraError, match=words):
            opened(phone)
        (info,) = android.find()
        assert info.address == serial(phone) and words.split()[0] in android.remark(info)


def test_a_ready_phone_has_no_remark(serve: Serve) -> None:
    with serve() as phone:
        (info,) = backend("android").find()
        assert info.model == "Double" and info.capabilities == ("absolute_focus",)
        assert backend("android").remark(info) == ""
        assert "offline" in android.remark(replace(info, address="gone"))
        assert not phone.companion.optics.camera.shots


def test_of_two_phones_one_has_to_be_chosen(serve: Serve) -> None:
    with ExitStack() as stack:
        phones = [stack.enter_context(serve()) for _ in range(2)]
        with pytest.raises(DualpixError, match=r"2 phones on adb.*--address"):
            android.open_camera(None)
        assert opened(phones[1]).info.address == serial(phones[1])


def test_nobody_there_is_said(serve: Serve) -> None:
    with pytest.raises(CameraLost, match="no phone on adb"):
        android.open_camera(None)
    with pytest.raises(CameraLost, match="no phone 'R5CT'"):
        android.open_camera("R5CT")


@pytest.mark.parametrize(
    "options",
    [
        {"prot": "1"},
        {"port": "0"},
        {"port": "99999"},
        {"port": "-P 1"},
        {"port": "1e3"},
        {"keep": "1"},
        {"camera": "a b"},
    ],
    ids=str,
)
def test_options_that_are_none_are_refused(serve: Serve, options: dict[str, str]) -> None:
    with pytest.raises(DualpixError, match="expected"):
        android.open_camera(None, None, options)


def test_the_phone_runs_as_a_process_with_faults_and_the_truth_in_files(
    adb: PrivateAdb, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ANDROID_ADB_SERVER_PORT", str(adb.port))
    plan, state = tmp_path / "faults.json", tmp_path / "state.jsonl"
    plan.write_text(json.dumps(FaultPlan([Fault("shoot", 1, "busy")]).to_json()))
    arguments = ("--seed", "3", "--faults", str(plan), "--state", str(state))
    with ServerProcess("dualpix.capture.cameras.testing.adbd", *arguments) as server:
        camera = android.open_camera(str(server.said["serial"]))
        camera.prepare(frames(0.5))
        with pytest.raises(CameraBusy):
            camera.go_to(0.5)
        path = take(camera, frames(0.5)[0], tmp_path)
        digest = hashlib.sha256(path.read_bytes()).hexdigest()
        camera.leave()
        assert [s.sha256 for s in read_state(state)].count(digest) == 1
        adb.client().disconnect(str(server.said["serial"]))


def lines_of(*lines: protocol.JournalLine | str) -> bytes:
    return "".join(line if isinstance(line, str) else protocol.line_text(line) for line in lines).encode()


GOLDEN = Path(__file__).parents[3] / "golden" / "android"
HELLO, START, DONE = (protocol.parse_line(line) for line in (GOLDEN / "journal.jsonl").read_text().splitlines()[:3])
TIME = "2026-11-21T16:05:12Z"


class PlayedPhone:
    """Stands for :class:`Phone`: a journal that grows as it is told to, and commands that are noted."""

    def __init__(self, *grows: bytes) -> None:
        self.grows, self.journal = list(grows), b""
        self.ran: list[tuple[str, ...]] = []
        self.written: dict[str, bytes] = {}
        self.said = "Status: ok"

    def run(self, *command: str) -> str:
        self.ran.append(command)
        return self.said

    def write(self, path: str, content: bytes) -> None:
        self.written[path] = content

    def read_from(self, path: str, offset: int, limit: int) -> bytes:
        if self.grows:
            self.journal += self.grows.pop(0)
        return self.journal[offset : offset + limit]


def session(phone: PlayedPhone) -> android.PhoneSession:
    assert isinstance(HELLO, protocol.Hello)
    return android.PhoneSession(cast("Phone", phone), protocol.Plan(HELLO.session, ()))


def test_a_line_that_is_still_being_written_is_waited_for() -> None:
    whole = lines_of(HELLO, START, DONE)
    phone = PlayedPhone(*(whole[i : i + 100] for i in range(0, len(whole), 100)))
    run = session(phone)
    assert run.begin() == HELLO
    run.wait(lambda: 0 in run.done, 5, "frame 0")
    assert run.done[0] == DONE


def test_the_app_is_started_by_words_and_a_checked_name() -> None:
    phone = PlayedPhone(lines_of(HELLO))
    session(phone).begin()
    assert isinstance(HELLO, protocol.Hello)
    assert phone.ran[-1] == (
        "am", "start", "-W", "-n", "com.dualpix.companion/.CaptureActivity", "--es", "session", HELLO.session,
    )  # fmt: skip
    assert protocol.parse_plan(next(iter(phone.written.values()))).session == HELLO.session


HOSTILE = {
    "a file elsewhere": protocol.line_text(DONE).replace("frame_000.dng", "../../frame_000.dng"),
    "a file of another frame": protocol.line_text(DONE).replace("frame_000.dng", "frame_007.dng"),
    "an endless line": "x" * (protocol.MAX_LINE_BYTES + 1),
    "an endless file": protocol.line_text(DONE).replace("25068544", "99999999999999"),
    "no json": "{]\n",
    "another protocol": protocol.line_text(HELLO).replace('"version": 1', '"version": 9'),
}


@pytest.mark.parametrize("what", HOSTILE)
def test_what_is_not_of_the_protocol_ends_the_session(what: str) -> None:
    run = session(PlayedPhone(lines_of(HELLO), HOSTILE[what].encode()))
    run.begin()
    with pytest.raises(protocol.ProtocolError):
        run.wait(lambda: False, 5, "frame 0")


def test_an_app_that_answers_for_another_session_is_refused() -> None:
    assert isinstance(HELLO, protocol.Hello)
    with pytest.raises(protocol.ProtocolError, match="another session"):
        session(PlayedPhone(lines_of(replace(HELLO, session="other-1")))).begin()


def test_an_activity_that_does_not_start_is_said() -> None:
    phone = PlayedPhone()
    phone.said = "Starting: Intent { }\nError type 3\nError: Activity class does not exist."
    with pytest.raises(CameraError, match=r"does not start.*Activity class"):
        session(phone).begin()


def test_an_app_that_falls_silent_is_not_waited_for_forever() -> None:
    run = session(PlayedPhone(lines_of(HELLO)))
    run.begin()
    with pytest.raises(CameraBusy, match="nothing from frame 0"):
        run.wait(lambda: False, 0.05, "frame 0")


def test_an_app_that_has_ended_is_a_lost_camera() -> None:
    run = session(PlayedPhone(lines_of(HELLO, protocol.End(TIME, "idle"))))
    run.begin()
    with pytest.raises(CameraLost, match="has ended: idle"):
        run.wait(lambda: False, 5, "frame 0")


KINDS = [
    ("busy", CameraBusy), ("camera", CameraLost), ("capture", BadFrame), ("focus", LensStuck), ("storage", CardFull),
    ("permission", CameraError), ("plan", CameraError), ("thermal", CameraError),
]  # fmt: skip


@pytest.mark.parametrize(("kind", "error"), KINDS, ids=lambda value: str(value))
def test_what_the_app_reports_becomes_an_error_of_the_camera(
    kind: protocol.FailureKind, error: type[CameraError]
) -> None:
    run = session(PlayedPhone(lines_of(HELLO, protocol.Failure(TIME, kind, "for a reason"))))
    run.begin()
    with pytest.raises(error, match="for a reason") as caught:
        run.wait(lambda: False, 5, "frame 0")
    assert type(caught.value) is error


def test_numbers_are_read_from_what_the_phone_prints() -> None:
    assert android.battery_percent("  AC powered: false\n  level: 37\n  scale: 50\n") == 74.0
    assert android.battery_percent("  Charge counter: 5\n  sublevel: 9\n") is None
    assert android.thermal_word("IsStatusOverride: false\nThermal Status: 0\n") == "normal"
    assert android.thermal_word("Thermal Status: 4\n") == "critical"
    assert android.thermal_word("Thermal Status: 40\n") is None and android.thermal_word("") is None
    df = "Filesystem      1K-blocks     Used Available Use% Mounted on\n/dev/fuse  111 22 {} 45% /storage/emulated\n"
    assert android.free_bytes(df.format(54321)) == 54321 * 1024
    assert android.free_bytes("df: /sdcard: Permission denied") is None and android.free_bytes("") is None


def test_without_adbutils_the_pip_line_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    import sys

    monkeypatch.setitem(sys.modules, "adbutils", None)
    with pytest.raises(DualpixError, match=r"pip install 'dualpix\[android\]'"):
        android.find()
