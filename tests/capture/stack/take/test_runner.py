"""A capture from the first pre-flight to the camera at rest, and every way in which it may end."""

from __future__ import annotations

import errno
import json
import os
import resource
import signal
import subprocess
import sys
import threading
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from tests.capture.stack.take.scripted import READY, SIGMA_D, Device, Fault, SimplePlan, plan_of

from dualpix.capture.camera_protocol import CameraError, Exposure, PlannedFrame
from dualpix.capture.errors import OutputError
from dualpix.capture.stack.keep.record import StackRecord, read_record
from dualpix.capture.stack.take.frame_files import stem_of
from dualpix.capture.stack.take.journal import read_events
from dualpix.capture.stack.take.preflight import Finding, NotReadyError
from dualpix.capture.stack.take.runner import CaptureStoppedError, Progress, RunnerSettings, run

pytestmark = pytest.mark.usefixtures("no_sync")
QUICK = RunnerSettings(first_wait_s=0.0005, longest_wait_s=0.002)
SMALL = plan_of((0.3, 0.9, 1.5))


def capture(device: Device, folder: Path, plan: SimplePlan = SMALL, **more: Any) -> StackRecord:
    more.setdefault("reopen", device.connect)
    more.setdefault("settings", QUICK)
    return run(device.connect(), plan, folder, **more)


def stopped(device: Device, folder: Path, plan: SimplePlan = SMALL, **more: Any) -> CaptureStoppedError:
    with pytest.raises(CaptureStoppedError) as error:
        capture(device, folder, plan, **more)
    return error.value


def events_of(folder: Path, name: str) -> list[dict[str, Any]]:
    return [event for event in read_events(folder) if event["event"] == name]


def assert_at_rest(device: Device) -> None:
    assert device.log[-1] == "leave"
    assert device.camera.lens.diopters == pytest.approx(device.found_d, abs=0.05)


def test_a_stack(tmp_path: Path) -> None:
    device, told = Device(seed=3), list[Progress]()
    plan = plan_of((0.3, 0.9, 1.5), (2.8, 5.6), sharp=True)
    record = capture(device, tmp_path, plan, on_progress=told.append)
    assert record == read_record(tmp_path) and record.complete and record.plan == json.loads(json.dumps(plan.to_json()))
    assert [frame.index for frame in record.frames] == list(range(7))
    for frame, planned in zip(record.frames, plan.frames, strict=True):
        assert frame.files == (f"{stem_of(planned)}.dng",)
        assert frame.role == planned.role and frame.requested_d == planned.diopters
        assert (frame.f_number, frame.exposure_s, frame.iso) == pytest.approx(
            (planned.exposure.f_number, planned.exposure.exposure_s, 800)
        )
        assert abs(frame.achieved_d - device.truth[frame.sha256[0]]) <= 3 * SIGMA_D
        assert frame.status == "good" and frame.retries == 0 and frame.settled and frame.notes == ()
        assert np.array(frame.sharpness_tiles).shape == (6, 8)
        assert frame.motor_steps == round(1000 * planned.diopters)
    # apertures at each stop, one sweep, far to near
    assert device.log == [
        "connect", "status", "prepare", "status", "home",
        "go_to", "settle", "shoot", "shoot", "go_to", "settle", "shoot", "shoot", "shoot", "go_to", "settle", "shoot",
        "shoot", "leave",
    ]  # fmt: skip
    assert_at_rest(device)
    assert (told[-1].done, told[-1].total) == (7, 7) and sorted(p.done for p in told) == [p.done for p in told]
    assert [event["event"] for event in read_events(tmp_path)][-1] == "finished"
    with Image.open(tmp_path / "strip.jpg") as strip:
        assert strip.size == (44 + 3 * 164, 16 + 3 * 111)
    assert not (tmp_path / "suspect").exists()


def test_names_sort_and_say_the_essentials() -> None:
    assert stem_of(PlannedFrame(3, 1.2204, Exposure(1.4))) == "f003_D1.220_N1.4"
    assert stem_of(PlannedFrame(12, 0.0, Exposure(), "all_in_focus")) == "f012_D0.000_sharp"


def test_the_journal_is_ahead_of_the_files(tmp_path: Path) -> None:
    """Before each release it says what is to come, after it what came."""
    device, seen = Device(), list[list[str]]()
    device.hook = lambda operation: seen.append([operation, *(e["event"] for e in read_events(tmp_path))])
    capture(device, tmp_path)
    shoots = [entry for entry in seen if entry[0] == "shoot"]
    assert len(shoots) == 3
    for number, entry in enumerate(shoots, start=1):
        assert entry.count("intent") == number and entry.count("shot") == number - 1 and entry[-1] == "intent"
    (left,) = [entry for entry in seen if entry[0] == "leave"]
    assert left.count("frame") == 3


def test_settings_that_forbid_it_stop_before_anything_moves(tmp_path: Path) -> None:
    device = Device(status=replace(READY, focus_mode="AF", exposure_mode="Av"))
    with pytest.raises(NotReadyError, match=r"focus mode is 'AF'.*MF"):
        capture(device, tmp_path)
    assert device.log == ["connect", "status"] and list(tmp_path.iterdir()) == []
    device.status = replace(READY, exposure_mode="Av")
    with pytest.raises(NotReadyError, match="or take the risk with --force"):
        capture(device, tmp_path)
    found: list[Finding] = []
    record = capture(device, tmp_path, settings=replace(QUICK, force=True), on_finding=found.append)
    assert record.complete and [f.level for f in found] == ["warning"]
    assert events_of(tmp_path, "warned")[0]["findings"] == [str(found[0])]


def test_what_preparing_did_not_set_stops_before_the_lens_moves(tmp_path: Path) -> None:
    device = Device(status=replace(READY, raw_format="Large JPEG"))
    with pytest.raises(NotReadyError, match="'Large JPEG'"):
        capture(device, tmp_path)
    assert "home" not in device.log and device.log[-1] == "leave"


def test_a_busy_camera_is_asked_again(tmp_path: Path) -> None:
    faults = [Fault(op, 1, "busy") for op in ("status", "prepare", "home", "go_to", "settle", "shoot", "leave")]
    faults += [Fault("shoot", nth, "busy") for nth in (2, 3)]
    device = Device(faults)
    record = capture(device, tmp_path)
    assert record.complete and [frame.retries for frame in record.frames] == [3, 0, 0]
    retries = events_of(tmp_path, "retry")
    assert [event["operation"] for event in retries].count("shoot") == 3
    assert all(event["error"] == "0x2019" for event in retries)
    assert device.calls["connect"] == 1


def test_patience_ends_and_waits_grow(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    waits: list[float] = []
    monkeypatch.setattr(
        "dualpix.capture.stack.take.interrupt.StopSwitch.wait", lambda self, seconds: waits.append(seconds)
    )
    device = Device([Fault("shoot", nth, "busy") for nth in range(2, 10**3)])
    settings = RunnerSettings(busy_tries=5, fruitless_sweeps=1, first_wait_s=0.1, longest_wait_s=0.4)
    error = stopped(device, tmp_path, settings=settings)
    assert "sweeps in a row gave no new frame" in error.reason and "0x2019" in error.reason
    assert waits[:5] == pytest.approx([0.1, 0.2, 0.4, 0.4, 0.4]) and len(error.record.frames) == 1
    assert device.calls["shoot"] == 1 + 3 * 5


def test_a_lost_camera_is_connected_anew_and_homed(tmp_path: Path) -> None:
    device = Device([Fault("shoot", 2, "lost")])
    record = capture(device, tmp_path)
    assert record.complete and device.calls["home"] == 2 and device.calls["connect"] == 3  # one was refused
    assert device.calls["shoot"] == 4
    errors = [abs(f.achieved_d - device.truth[f.sha256[0]]) for f in record.frames]
    assert max(errors) <= 3 * SIGMA_D
    assert_at_rest(device)


def test_a_camera_lost_while_its_settings_are_looked_at(tmp_path: Path) -> None:
    """Calls of status: the first look, the look after connecting anew, the next one, after prepare."""
    device = Device([Fault("status", 1, "lost"), Fault("status", 2, "drop_connection")])
    record = capture(device, tmp_path)
    assert record.complete and device.calls["connect"] >= 3 and device.calls["home"] == 1
    assert_at_rest(device)


def test_only_what_is_missing_is_prepared_again(tmp_path: Path) -> None:
    device = Device([Fault("go_to", 3, "drop_connection")])
    prepared: list[list[int]] = []
    real = device.connect

    def connect() -> Any:
        camera = real()
        prepare = camera.prepare
        camera.prepare = lambda frames: (prepared.append([f.index for f in frames]), prepare(frames))[1]  # type: ignore
        return camera

    run(connect(), SMALL, tmp_path, reopen=connect, settings=QUICK)
    assert prepared == [[0, 1, 2], [2]]


def test_a_lost_camera_ends_it_where_nobody_can_connect_anew(tmp_path: Path) -> None:
    error = stopped(Device([Fault("settle", 2, "drop_connection")]), tmp_path, reopen=None)
    assert "the connection broke" in error.reason and len(error.record.frames) == 1


def test_a_camera_that_never_answers_again_ends_it(tmp_path: Path) -> None:
    faults = [Fault("shoot", 2, "drop_connection"), *(Fault("connect", nth, "drop_connection") for nth in range(2, 99))]
    device = Device(faults)
    error = stopped(device, tmp_path)
    assert "does not answer any more" in error.reason and device.calls["connect"] == 1 + QUICK.reconnect_tries
    assert "1 of 3 frames are kept, go on with: dualpix capture --resume -o" in str(error)
    assert read_record(tmp_path) == error.record and not error.record.complete


@pytest.mark.parametrize(
    ("fault", "words"),
    [
        (Fault("shoot", 2, "card_full"), "no room on the card"),
        (Fault("shoot", 2, "disk_full"), "No space left on device"),
        (Fault("go_to", 2, "stuck"), "the picture does not change"),
    ],
)
def test_what_patience_does_not_cure_ends_it_cleanly(tmp_path: Path, fault: Fault, words: str) -> None:
    device = Device([fault])
    error = stopped(device, tmp_path)
    assert words in error.reason and "--resume" in str(error) and error.signal_number is None
    assert device.log[-1] == "leave"
    (last,) = events_of(tmp_path, "stopped")
    assert words in last["reason"] and last["left"]
    assert read_record(tmp_path) == error.record


def test_a_stuck_lens_makes_the_stop_before_doubtful(tmp_path: Path) -> None:
    """Where on the way to it the lens stuck cannot be seen."""
    device = Device([Fault("go_to", 3, "stuck")])
    error = stopped(device, tmp_path, plan_of((0.3, 0.9, 1.5), (2.8, 5.6)))
    assert [frame.index for frame in error.record.frames] == [0, 1]
    assert [event["index"] for event in events_of(tmp_path, "doubted")] == [2, 3]
    assert len(list((tmp_path / "suspect").iterdir())) == 2


def test_a_lens_that_stands_still_unnoticed_is_noticed(tmp_path: Path) -> None:
    device = Device([Fault("go_to", 2, "still")])
    record = capture(device, tmp_path)
    errors = [abs(f.achieved_d - device.truth[f.sha256[0]]) for f in record.frames]
    assert max(errors) <= 3 * SIGMA_D and device.calls["connect"] == 2
    assert [event["index"] for event in events_of(tmp_path, "doubted")] == [0]


def test_bad_frames_are_taken_again_and_kept_aside(tmp_path: Path) -> None:
    device = Device([Fault("shoot", 2, "bad"), Fault("shoot", 3, "empty"), Fault("shoot", 5, "truncated")])
    record = capture(device, tmp_path)
    assert [frame.retries for frame in record.frames] == [0, 2, 1] and device.calls["home"] == 2
    (rejected,) = events_of(tmp_path, "rejected")
    assert "cut or damaged" in rejected["reason"]
    aside = sorted(path.name for path in (tmp_path / "suspect").iterdir())
    assert aside == ["f001_D0.900_N2.8_1.dng", "f002_D1.500_N2.8_1.dng"]


@pytest.mark.parametrize("kind", ["duplicate", "lag"])
def test_frames_of_earlier_shots_are_not_taken_for_later_ones(tmp_path: Path, kind: str) -> None:
    device = Device([Fault("shoot", 3, kind)])
    record = capture(device, tmp_path, plan_of((0.3, 0.9, 1.5, 2.1)))
    errors = [abs(f.achieved_d - device.truth[f.sha256[0]]) for f in record.frames]
    assert max(errors) <= 3 * SIGMA_D and len({f.sha256 for f in record.frames}) == 4
    assert device.calls["connect"] == 2  # the camera's queue is emptied by that


def test_a_frame_that_never_gets_good_ends_it(tmp_path: Path) -> None:
    device = Device([Fault("shoot", nth, "truncated") for nth in range(3, 99)])
    error = stopped(device, tmp_path)
    assert "frame 2 at 1.500 D was refused 4 times" in error.reason and "cut or damaged" in error.reason
    assert len(error.record.frames) == 2 and len(list((tmp_path / "suspect").iterdir())) == 4


def test_a_doubt_is_worth_one_more_try(tmp_path: Path) -> None:
    once, always = (
        Device([Fault("shoot", 2, "other_exposure")]),
        Device([Fault("shoot", nth, "other_exposure") for nth in range(1, 99)]),
    )
    record = capture(once, tmp_path / "once")
    assert [f.status for f in record.frames] == ["good"] * 3 and [f.retries for f in record.frames] == [0, 1, 0]
    record = capture(always, tmp_path / "always")
    assert record.complete and [f.status for f in record.frames] == ["suspect"] * 3
    assert "the camera took exposure s 0.004 instead of 0.002" in record.frames[0].notes[0]
    assert always.calls["shoot"] == 5  # two were taken again, then it was clear that it is the camera's way


def test_a_picture_that_does_not_come_to_rest_gets_more_time(tmp_path: Path) -> None:
    device = Device([Fault("settle", 1, "restless")])
    record = capture(device, tmp_path)
    assert record.frames[0].settled and record.frames[0].settle_frames == 6 and device.calls["settle"] == 4
    restless = Device([Fault("settle", nth, "restless") for nth in range(1, 9)])
    record = capture(restless, tmp_path / "restless", plan_of((0.3,)))
    assert record.frames[0].status == "suspect" and not record.frames[0].settled


def test_a_backend_that_leaves_files_elsewhere_is_refused(tmp_path: Path) -> None:
    error = stopped(Device([Fault("shoot", 1, "stray")]), tmp_path / "stack")
    assert "elsewhere.dng" in error.reason


def test_a_bug_in_a_backend_is_not_hidden_and_leaves_the_camera_at_rest(tmp_path: Path) -> None:
    device = Device([Fault("go_to", 2, "bug")])
    with pytest.raises(KeyError, match="a bug in a backend"):
        capture(device, tmp_path)
    assert_at_rest(device)
    assert len(read_record(tmp_path).frames) == 1
    assert "a bug in a backend" in events_of(tmp_path, "stopped")[0]["reason"]


def test_a_camera_that_does_not_come_to_rest_is_told(tmp_path: Path) -> None:
    told: list[Progress] = []
    device = Device([Fault("leave", 1, "drop_connection")])
    assert capture(device, tmp_path, on_progress=told.append).complete
    assert "the connection broke" in told[-1].text
    assert events_of(tmp_path, "finished")[0]["left"] is False


@pytest.mark.parametrize("operation", ["status", "prepare", "home", "go_to", "settle", "shoot"])
def test_ctrl_c_finishes_the_frame_and_brings_everything_to_rest(tmp_path: Path, operation: str) -> None:
    nth = 2 if operation in ("go_to", "settle", "shoot") else 1
    before = signal.getsignal(signal.SIGINT)
    device = Device([Fault(operation, nth, "interrupt")])
    error = stopped(device, tmp_path)
    assert signal.getsignal(signal.SIGINT) is before
    assert error.reason == "stopped by the user" and error.signal_number == signal.SIGINT
    taken = {"go_to": 1, "settle": 1, "shoot": 2}.get(operation, 0)
    assert len(error.record.frames) == taken and device.calls["shoot"] == taken
    if operation == "status":  # nothing was touched before
        assert list(tmp_path.iterdir()) == [] and "nothing was taken" in str(error)
        return
    assert read_record(tmp_path) == error.record and not error.record.complete
    assert_at_rest(device)


def test_ctrl_c_while_waiting_for_a_busy_camera(tmp_path: Path) -> None:
    device = Device([Fault("go_to", nth, "busy") for nth in range(1, 99)])
    device.hook = lambda operation: operation == "go_to" and os.kill(os.getpid(), signal.SIGINT)  # type: ignore
    settings = RunnerSettings(first_wait_s=60)
    error = stopped(device, tmp_path, settings=settings)
    assert error.signal_number == signal.SIGINT and device.calls["go_to"] == 1


def test_a_second_ctrl_c_does_not_wait_for_the_frame(tmp_path: Path) -> None:
    device = Device()

    def twice(operation: str) -> None:
        if operation == "shoot" and device.calls["shoot"] == 2:
            os.kill(os.getpid(), signal.SIGINT)
            os.kill(os.getpid(), signal.SIGINT)

    device.hook = twice
    error = stopped(device, tmp_path)
    assert len(error.record.frames) == 1 and error.signal_number == signal.SIGINT
    assert_at_rest(device)


def test_an_ignored_ctrl_c_stays_ignored(tmp_path: Path) -> None:
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        assert capture(Device([Fault("go_to", 2, "interrupt")]), tmp_path).complete
    finally:
        signal.signal(signal.SIGINT, before)


def test_nothing_waits_where_nothing_is_wrong(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each frame costs the camera's own time, a line that is synced, and a file."""
    synced: list[int] = []
    monkeypatch.setattr(os, "fsync", synced.append)
    monkeypatch.setattr("dualpix.capture.stack.take.interrupt.StopSwitch.wait", lambda *_: pytest.fail("waited"))
    device = Device()
    capture(device, tmp_path, plan_of([0.2 + 0.1 * k for k in range(10)]))
    lines = len(read_events(tmp_path))
    assert lines == 3 + 3 * 10
    assert len(synced) == 1 + 3 + 10 + 2 * 10  # the folder, other lines, frames' lines, files with their names
    assert device.calls["status"] == 2 and device.calls["settle"] == 10


def test_whoever_insists_need_not_wait_for_the_camera_to_come_to_rest(tmp_path: Path) -> None:
    device = Device([Fault("go_to", 2, "interrupt")])

    def insists(operation: str) -> None:
        if operation == "leave":
            os.kill(os.getpid(), signal.SIGINT)
            assert device.log[-1] == "leave"  # once more is not enough
            os.kill(os.getpid(), signal.SIGINT)

    device.hook = insists
    error = stopped(device, tmp_path)
    assert len(error.record.frames) == 1 and read_record(tmp_path) == error.record
    assert events_of(tmp_path, "stopped")[0]["left"] is False


def test_another_camera_at_the_same_address_is_not_taken_for_the_first(tmp_path: Path) -> None:
    device, other = Device([Fault("shoot", 2, "drop_connection")]), Device()
    other.info = replace(other.info, serial="777")
    error = stopped(device, tmp_path, reopen=other.connect)
    assert "another camera answers (dualpix Scripted 777)" in error.reason and "dualpix Scripted 123" in error.reason
    assert len(error.record.frames) == 1


def test_sigterm_is_heeded_and_told_from_ctrl_c(tmp_path: Path) -> None:
    device = Device()
    device.hook = lambda operation: operation == "settle" and os.kill(os.getpid(), signal.SIGTERM)  # type: ignore
    error = stopped(device, tmp_path)
    assert error.reason == "stopped by the system" and error.signal_number == signal.SIGTERM


def test_it_runs_in_any_thread(tmp_path: Path) -> None:
    records: list[StackRecord] = []
    thread = threading.Thread(target=lambda: records.append(capture(Device(), tmp_path)))
    thread.start()
    thread.join()
    assert records[0].complete


def test_a_folder_with_a_stack_is_not_written_over(tmp_path: Path) -> None:
    record = capture(Device(), tmp_path)
    with pytest.raises(OutputError, match=r"holds a stack already.*--resume"):
        capture(Device(), tmp_path)
    (tmp_path / "journal.jsonl").unlink()
    device = Device()
    with pytest.raises(OutputError, match="holds a stack already"):
        capture(device, tmp_path)
    assert read_record(tmp_path) == record and device.log == ["connect"]


def test_every_nth_write_may_find_the_disk_full(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Journal, frames, strip and record: whichever write fails, what was written before is kept, and gone on with."""
    plan, nth, complete = plan_of((0.3, 0.9)), 0, False
    while not complete:
        nth += 3
        assert nth < 99
        folder, calls = tmp_path / f"{nth}", 0

        def fails(*_: Any, limit: int = nth) -> bool:
            nonlocal calls
            calls += 1
            return calls >= limit

        with monkeypatch.context() as patch:
            for name in ("write", "fsync", "replace"):
                real = getattr(os, name)
                patch.setattr(os, name, lambda *a, real=real, **k: _full() if fails() else real(*a, **k))
            try:
                complete = capture(Device(seed=nth), folder, plan).complete
            except (CaptureStoppedError, OutputError) as error:
                complete = False
                assert "No space left" in str(error)
        record = capture(Device(seed=nth + 1), folder, plan, resume=True)
        assert record.complete and len(record.frames) == 2
        assert len({f.sha256 for f in record.frames}) == 2


def _full() -> int:
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


_LIMITED = """
import sys, resource
from pathlib import Path
from tests.capture.stack.take.scripted import Device, plan_of
from dualpix.capture.stack.take.runner import CaptureStoppedError, run
def limit(size):
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, resource.RLIM_INFINITY))
device = Device()
release = device.camera.release
def unlimited(*a, **k):  # the camera has room of its own
    limit(resource.RLIM_INFINITY)
    try:
        return release(*a, **k)
    finally:
        limit(int(sys.argv[2]))
device.camera.release = unlimited
limit(int(sys.argv[2]))
try:
    run(device.connect(), plan_of((0.3, 0.9, 1.5)), Path(sys.argv[1]))
except CaptureStoppedError as error:
    print(error.reason, len(error.record.frames), device.log[-1])
"""


@pytest.mark.parametrize("limit", [30_000, 4_000])
def test_a_file_system_that_really_takes_no_more(tmp_path: Path, limit: int) -> None:
    """A limit that a frame exceeds, and one that the journal does, set by the system for a process."""
    folder = tmp_path / "stack"
    done = subprocess.run(
        [sys.executable, "-c", _LIMITED, str(folder), str(limit)],
        capture_output=True, text=True, env={**os.environ, "PYTHONPATH": os.pathsep.join(["capture", "."])},
    )  # fmt: skip
    assert "File too large" in done.stdout and done.stdout.split()[-2:] == ["0", "leave"], done.stderr
    assert all(path.stat().st_size <= limit for path in folder.rglob("*") if path.is_file())
    if limit > 10_000:
        assert "File too large" in events_of(folder, "stopped")[0]["reason"]
        assert sorted(path.name for path in folder.iterdir()) == ["journal.jsonl", "stack.json"]
    assert capture(Device(seed=2), folder, resume=True).complete
    assert resource.getrlimit(resource.RLIMIT_FSIZE)[0] != limit


def test_it_stops_before_a_frame_that_would_not_fit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    device, free = Device(), [10**9]
    usage = type("Usage", (), {"free": property(lambda self: free[0])})
    monkeypatch.setattr("shutil.disk_usage", lambda path: usage())
    device.hook = lambda operation: free.__setitem__(0, 60_000) if device.calls["go_to"] == 2 else None
    error = stopped(device, tmp_path)
    assert "MB are free on the disk" in error.reason and len(error.record.frames) == 2
    assert_at_rest(device)


def test_details_of_a_backend_are_bounded(tmp_path: Path) -> None:
    device = Device()
    camera = device.connect()
    shoot = camera.shoot
    details: list[dict[str, Any]] = [{"x": "y" * 10**6}, {"bad": object()}, {"temperature": 31.5}]
    camera.shoot = lambda *a: replace(shoot(*a), details=details.pop(0))  # type: ignore[method-assign]
    record = run(camera, SMALL, tmp_path, settings=QUICK)
    assert "characters" in record.frames[0].details["dropped"]
    assert "no plain data" in record.frames[1].details["dropped"]
    assert record.frames[2].details["temperature"] == 31.5


def test_distances_that_come_with_the_frame_count(tmp_path: Path) -> None:
    """Phones report the focus of each frame."""
    from dualpix.capture.camera_protocol import Achieved

    camera = Device().connect()
    shoot = camera.shoot
    camera.shoot = lambda *a: replace(shoot(*a), achieved=Achieved(0.77, 0.01, "camera"))  # type: ignore[method-assign]
    record = run(camera, plan_of((0.3,)), tmp_path, settings=QUICK)
    assert (record.frames[0].achieved_d, record.frames[0].distance_source) == (0.77, "camera")


def test_the_camera_is_closed_whatever_happens(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    camera = Device().connect()
    with pytest.raises(OutputError):
        run(camera, SMALL, tmp_path / "file")
    assert camera.closed
    camera = Device().connect()
    run(camera, SMALL, tmp_path / "stack", settings=QUICK)
    assert camera.closed


def test_settings_hold(tmp_path: Path) -> None:
    device = Device([Fault("shoot", nth, "truncated") for nth in range(1, 99)])
    error = stopped(device, tmp_path, plan_of((0.3,)), settings=replace(QUICK, frame_tries=2))
    assert "refused 2 times" in error.reason and isinstance(error.__cause__, CameraError)
