"""Going on with a stack: what can be proven is kept, what is missing is taken, nothing is there twice."""

from __future__ import annotations

import json
import os
import shutil
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from tests.capture.stack.take.faults.harness import QUICK, Outcome, Setup, check
from tests.capture.stack.take.scripted import SIGMA_D, Device, Fault, SimplePlan, plan_of

from dualpix.capture.errors import DualpixError
from dualpix.capture.stack.keep.record import RecordError, StackRecord, read_record, write_record
from dualpix.capture.stack.take.journal import read_events
from dualpix.capture.stack.take.runner import CaptureStoppedError, run

pytestmark = pytest.mark.usefixtures("no_sync")
SMALL = plan_of((0.3, 0.9, 1.5))


def capture(device: Device, folder: Path, plan: SimplePlan = SMALL, **more: Any) -> StackRecord:
    return run(device.connect(), plan, folder, reopen=device.connect, settings=QUICK, **more)


def cut_journal(folder: Path, keep: Callable[[list[dict[str, Any]]], int]) -> list[dict[str, Any]]:
    """Leave the first lines, as a kill would; the events that are left."""
    lines = (folder / "journal.jsonl").read_bytes().splitlines(keepends=True)
    count = keep([json.loads(line) for line in lines])
    (folder / "journal.jsonl").write_bytes(b"".join(lines[:count]))
    (folder / "stack.json").unlink(missing_ok=True)
    return read_events(folder)


def upto(event: str, nth: int, *, inclusive: bool = True) -> Callable[[list[dict[str, Any]]], int]:
    """So many lines as there are up to the nth (from 1) of an event."""

    def count(events: list[dict[str, Any]]) -> int:
        places = [place for place, e in enumerate(events) if e["event"] == event]
        return places[nth - 1] + inclusive

    return count


@pytest.fixture
def finished(tmp_path: Path) -> tuple[Path, Device]:
    """A complete stack, and the camera that took it."""
    device = Device(seed=4)
    capture(device, tmp_path / "stack")
    return tmp_path / "stack", device


def test_a_complete_stack_needs_no_camera(finished: tuple[Path, Device]) -> None:
    folder, _ = finished
    before = read_record(folder)
    again = Device(seed=9)
    assert capture(again, folder, resume=True) == before
    assert again.log == ["connect"]


def test_nothing_to_resume_begins_anew(tmp_path: Path) -> None:
    assert capture(Device(), tmp_path / "stack", resume=True).complete
    (tmp_path / "torn").mkdir()
    (tmp_path / "torn" / "journal.jsonl").write_bytes(b'{"event": "hea')
    assert capture(Device(), tmp_path / "torn", resume=True).complete


def test_only_what_is_missing_is_taken_after_homing(tmp_path: Path) -> None:
    device = Device([Fault("shoot", 3, "card_full")], seed=1)
    with pytest.raises(CaptureStoppedError):
        capture(device, tmp_path)
    before = read_record(tmp_path)
    later = Device(seed=2)
    record = capture(later, tmp_path, resume=True)
    assert record.frames[:2] == before.frames and record.session == before.session
    assert later.log == ["connect", "status", "prepare", "status", "home", "go_to", "settle", "shoot", "leave"]
    truth = device.truth | later.truth
    assert max(abs(f.achieved_d - truth[f.sha256[0]]) for f in record.frames) <= 3 * SIGMA_D


@pytest.mark.parametrize("damage", ["gone", "cut", "changed"])
def test_files_that_are_not_whole_any_more_are_taken_again(finished: tuple[Path, Device], damage: str) -> None:
    folder, device = finished
    path = folder / read_record(folder).frames[1].files[0]
    data = path.read_bytes()
    if damage == "gone":
        path.unlink()
    else:
        path.write_bytes(data[:-1] + (b"" if damage == "cut" else bytes([data[-1] ^ 1])))
    later = Device(seed=9)
    record = capture(later, folder, resume=True)
    assert later.calls["shoot"] == 1 and record.complete
    check(Outcome(record, device.truth | later.truth, []), folder, SMALL)
    aside = folder / "suspect"
    assert aside.exists() == (damage != "gone")


def test_a_shot_that_was_not_judged_is_judged(finished: tuple[Path, Device]) -> None:
    """Killed between the shot's line and the frame's: nothing is taken again."""
    folder, device = finished
    before = read_record(folder)
    cut = cut_journal(folder, upto("frame", 1, inclusive=False))
    later = Device(seed=9)
    record = capture(later, folder, resume=True)
    assert record.frames[0] == before.frames[0]
    shots = [e["event"] for e in cut].count("shot")
    assert later.calls["shoot"] == 3 - shots and shots >= 1
    check(Outcome(record, device.truth | later.truth, []), folder, SMALL)


def test_a_file_whose_line_was_lost_is_adopted_where_it_is_proven(finished: tuple[Path, Device]) -> None:
    """Killed between the rename of the file and the shot's line."""
    folder, device = finished
    before = read_record(folder)
    events = cut_journal(folder, upto("intent", 3))
    assert events[-1]["event"] == "intent" and len(list(folder.glob("*.dng"))) == 3
    later = Device(seed=9)
    record = capture(later, folder, resume=True)
    assert later.calls["shoot"] == 0
    adopted = record.frames[2]
    assert adopted.sha256 == before.frames[2].sha256 and adopted.achieved_d == before.frames[2].achieved_d
    assert "the line in the journal was lost" in adopted.details["adopted"]
    assert adopted.exposure_s == pytest.approx(0.002) and adopted.f_number == pytest.approx(2.8)
    check(Outcome(record, device.truth, []), folder, SMALL)


def _truncate(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-100])


def _repeat(path: Path) -> None:
    shutil.copy(next(p for p in sorted(path.parent.glob("*.dng")) if p != path), path)


def _older(path: Path) -> None:
    os.utime(path, (1e9, 1e9))


def _beside(path: Path) -> None:
    shutil.copy(path, path.with_suffix(".jpg"))


def _other_exposure(path: Path) -> None:
    device = Device(seed=7)
    camera = device.connect()
    camera.home()
    path.unlink()
    camera.shoot(path.parent, path.name.removesuffix(".dng"), replace(SMALL.frames[0].exposure, f_number=5.6))


@pytest.mark.parametrize("change", [_truncate, _repeat, _older, _beside, _other_exposure])
def test_files_that_prove_nothing_are_put_aside_and_taken_again(
    finished: tuple[Path, Device], change: Callable[[Path], None]
) -> None:
    folder, device = finished
    path = folder / read_record(folder).frames[2].files[0]
    cut_journal(folder, upto("intent", 3))
    change(path)
    later = Device(seed=9)
    record = capture(later, folder, resume=True)
    assert later.calls["shoot"] == 1
    assert list((folder / "suspect").iterdir())
    check(Outcome(record, device.truth | later.truth, []), folder, SMALL)


def test_a_slow_check_does_not_make_a_foreign_file_a_shot(finished: tuple[Path, Device]) -> None:
    """On a loaded machine the third shot begins before the first is judged: no frame tells yet what a shot leaves."""
    folder, device = finished
    path = folder / read_record(folder).frames[2].files[0]
    cut_journal(folder, upto("intent", 3))
    journal = folder / "journal.jsonl"
    lines = journal.read_bytes().splitlines(keepends=True)
    journal.write_bytes(b"".join(line for line in lines if json.loads(line)["event"] != "frame"))
    _beside(path)
    later = Device(seed=9)
    record = capture(later, folder, resume=True)
    assert later.calls["shoot"] == 1
    check(Outcome(record, device.truth | later.truth, []), folder, SMALL)


def test_distances_that_would_have_come_with_the_shot_are_not_made_up(finished: tuple[Path, Device]) -> None:
    folder, _ = finished
    cut_journal(folder, upto("intent", 3))
    text = (folder / "journal.jsonl").read_text()
    (folder / "journal.jsonl").write_text(text.replace('"source": "calibration"', '"source": "camera"'))
    later = Device(seed=9)
    capture(later, folder, resume=True)
    assert later.calls["shoot"] >= 1


def test_a_file_without_an_intent_is_put_aside(finished: tuple[Path, Device]) -> None:
    folder, _ = finished
    cut_journal(folder, upto("intent", 3, inclusive=False))
    later = Device(seed=9)
    assert capture(later, folder, resume=True).complete
    assert later.calls["shoot"] == 1 and len(list((folder / "suspect").iterdir())) == 1


@pytest.mark.parametrize("seed", range(3))
def test_a_journal_cut_at_any_line_or_byte(tmp_path: Path, seed: int) -> None:
    """Whatever a kill leaves of the journal, the files being there: every frame once, at the right distance."""
    device = Device([Fault("shoot", 2, "truncated"), Fault("go_to", 3, "lost")], seed=seed)
    whole = tmp_path / "whole"
    capture(device, whole)
    lines = (whole / "journal.jsonl").read_bytes().splitlines(keepends=True)
    for count in range(seed, len(lines), 3):
        folder = tmp_path / f"cut{count}"
        shutil.copytree(whole, folder)
        (folder / "stack.json").unlink()
        torn = lines[count][: len(lines[count]) // 2]
        (folder / "journal.jsonl").write_bytes(b"".join(lines[:count]) + torn)
        later = Device(seed=seed + 50)
        record = capture(later, folder, resume=True)
        check(Outcome(record, device.truth | later.truth, []), folder, SMALL)


def test_halves_of_files_are_removed(finished: tuple[Path, Device]) -> None:
    folder, _ = finished
    for name in (".f001_D0.900_N2.8.x8k2.dng", ".strip.abc.jpg", ".stack.abc.json"):
        (folder / name).write_bytes(b"half")
    (folder / ".mine").write_bytes(b"not ours")
    capture(Device(), folder, resume=True)
    assert [path.name for path in folder.iterdir() if path.name.startswith(".")] == [".mine"]


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"plan": plan_of((0.3, 0.9, 1.6))}, "begun with another plan"),
        ({"serial": "999"}, r"begun with another camera \(dualpix Scripted 123\)"),
        ({"lens": "85mm"}, "begun with another camera"),
    ],
)
def test_another_plan_or_camera_is_refused(finished: tuple[Path, Device], change: dict[str, Any], words: str) -> None:
    folder, _ = finished
    before = {path.name: path.read_bytes() for path in folder.iterdir()}
    plan = change.pop("plan", SMALL)
    device = Device()
    device.info = replace(device.info, **change)
    with pytest.raises(RecordError, match=words):
        capture(device, folder, plan, resume=True)
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == before and device.log == ["connect"]


def test_another_calibration_is_refused(tmp_path: Path) -> None:
    first, other = (Setup("sim", (), seed, tmp_path / "truth").rig() for seed in (0, 1))
    plan = plan_of((0.4,))
    run(first.connect(), plan, tmp_path / "stack", calibration=first.calibration, settings=QUICK)
    with pytest.raises(RecordError, match="another lens calibration"):
        run(first.connect(), plan, tmp_path / "stack", calibration=other.calibration, resume=True, settings=QUICK)


def test_the_same_camera_at_another_address_goes_on(finished: tuple[Path, Device]) -> None:
    folder, _ = finished
    device = Device()
    device.info = replace(device.info, address="test:7", firmware="2.0")
    assert capture(device, folder, resume=True).complete


@pytest.mark.parametrize("content", [b"{}\n", b'{"event": "shot"}\n{"event": "intent"}\n', b"rubbish\n"])
def test_a_damaged_journal_is_told(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "journal.jsonl").write_bytes(content)
    with pytest.raises(DualpixError):
        capture(Device(), tmp_path, resume=True)
    assert (tmp_path / "journal.jsonl").read_bytes() == content


def test_a_malformed_event_is_told(finished: tuple[Path, Device]) -> None:
    folder, _ = finished
    path = folder / "journal.jsonl"
    path.write_text(path.read_text().replace('"stem": "f000', '"stem": "../f000', 1))
    with pytest.raises(RecordError, match="within the folder"):
        capture(Device(), folder, resume=True)


def test_a_frame_that_nobody_planned_is_told(finished: tuple[Path, Device]) -> None:
    folder, _ = finished
    path = folder / "journal.jsonl"
    path.write_text(path.read_text().replace('"index": 2', '"index": 7'))
    with pytest.raises(RecordError, match="has frame 7"):
        capture(Device(), folder, resume=True)


def test_the_strip_is_whole_again(finished: tuple[Path, Device]) -> None:
    folder, _ = finished
    before = (folder / "strip.jpg").stat().st_size
    (folder / read_record(folder).frames[2].files[0]).unlink()
    (folder / "strip.jpg").unlink()
    capture(Device(seed=9), folder, resume=True)
    assert (folder / "strip.jpg").stat().st_size > 0.8 * before


def test_what_was_measured_of_breathing_is_kept(finished: tuple[Path, Device]) -> None:
    folder, _ = finished
    breathing = {"beta": 0.015, "d0": 0.3, "residual_px": 0.05}
    write_record(folder, replace(read_record(folder), breathing=breathing))
    assert capture(Device(), folder, resume=True).breathing == breathing == read_record(folder).breathing


def test_after_a_kill_the_focus_goes_back_to_where_it_was_found_at_first(tmp_path: Path) -> None:
    plan, folder = plan_of((0.4, 0.8), (2.8, 5.6)), tmp_path / "stack"
    near_enough = 0.12  # of a lens that is brought back by steps of 0.07 D
    first = Setup("sim", (Fault("shoot", 2, "lost"),), 3, tmp_path / "truth").rig()
    found_d = _at_rest(first)
    run(first.connect(), plan, folder, calibration=first.calibration, reopen=first.connect, settings=QUICK)
    assert _at_rest(first) == pytest.approx(found_d, abs=near_enough)  # it stood elsewhere when it was connected anew
    for missing in (1, 0):  # also where only coming to rest was cut short
        cut_journal(folder, upto("frame", 4 - missing))
        for path in sorted(folder.glob("*.dng"))[4 - missing :]:
            path.unlink()
        second = Setup("sim", (), 1003 + 1000 * missing, tmp_path / "truth").rig()
        assert abs(_at_rest(second) - found_d) > 3 * near_enough
        run(second.connect(), plan, folder, calibration=first.calibration, resume=True, settings=QUICK)
        assert _at_rest(second) == pytest.approx(found_d, abs=near_enough)
        assert len(second.device.camera.shots) == missing


def _at_rest(rig: Any) -> float:
    """Where the focus is once the lens stands still."""
    lens = rig.device.camera.lens
    while lens.moving:
        time.sleep(0.001)
    return float(lens.diopters)
