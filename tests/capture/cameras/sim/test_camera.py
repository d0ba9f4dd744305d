"""The camera in this process: the same protocol, the same faults, and no way to the truth but by measuring."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

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
from dualpix.capture.cameras import sim
from dualpix.capture.cameras.hidden.faults import Fault, FaultPlan, Kind, Operation
from dualpix.capture.cameras.hidden.lens import lens_truth
from dualpix.capture.cameras.hidden.truth import read_state
from dualpix.capture.cameras.testing.known import known_calibration
from dualpix.capture.errors import DualpixError
from dualpix.capture.focus import calibrate, store
from dualpix.capture.raw import decode

EXPOSURE = Exposure(2.8, 1 / 60, 100.0)
CALIBRATION = known_calibration(lens_truth(0))

Open = Callable[..., sim.SimCamera]


@pytest.fixture
def open_sim(tmp_path: Path) -> Open:
    """``open_sim(Fault(...), ...)``: the camera of seed 0, with its state in ``tmp_path``."""

    def opened(*faults: Fault) -> sim.SimCamera:
        path = tmp_path / "faults.json"
        if not path.exists():
            path.write_text(json.dumps(FaultPlan(faults).to_json()))
        options = {"faults": str(path), "state": str(tmp_path / "state.jsonl")}
        return sim.open_camera("sim", CALIBRATION, options)

    return opened


def test_frames_are_focused_where_the_camera_says(open_sim: Open, tmp_path: Path) -> None:
    camera: Camera = open_sim()
    stops = (0.3, 1.0, 1.8)
    camera.prepare([PlannedFrame(i, d, EXPOSURE) for i, d in enumerate(stops)])
    camera.home()
    claims = []
    for index, diopters in enumerate(stops):
        claims.append(camera.go_to(diopters))
        assert camera.settle().reached
        shot = camera.shoot(tmp_path, f"f{index}", EXPOSURE)
        assert shot.exposure == EXPOSURE and shot.files == (tmp_path / f"f{index}.dng",)
    truths = read_state(tmp_path / "state.jsonl")
    for claim, truth, wanted in zip(claims, truths, stops, strict=True):
        assert claim.diopters == pytest.approx(wanted, abs=0.01)
        assert abs(claim.diopters - truth.diopters) < min(4 * claim.uncertainty_d, 0.03)
    assert decode(tmp_path / "f2.dng").meta.f_number == 2.8
    camera.leave()
    camera.close()


def test_the_focus_is_brought_back_to_where_it_was_found(open_sim: Open) -> None:
    camera = open_sim()
    found = camera._device.camera.lens.diopters
    camera.home()
    camera.go_to(1.9)
    camera.leave()
    camera.settle()
    assert camera._device.camera.lens.diopters == pytest.approx(found, abs=0.1)


def test_settings_are_kept_from_frame_to_frame(open_sim: Open, tmp_path: Path) -> None:
    camera = open_sim()
    first = camera.shoot(tmp_path, "a", Exposure(5.6, 0.02, 400.0))
    second = camera.shoot(tmp_path, "b", Exposure(exposure_s=0.01))
    assert second.exposure == Exposure(5.6, 0.01, 400.0) and first.exposure.exposure_s == 0.02
    assert [shot.iso for shot in read_state(tmp_path / "state.jsonl")] == [400.0, 400.0]
    assert camera.status().free_frames == 998
    with pytest.raises(CameraError, match=r"the lens has no f/3\.3; expected f/1\.8"):
        camera.prepare([PlannedFrame(0, 1.0, Exposure(3.3))])


@pytest.mark.parametrize(
    ("operation", "kind", "error", "lost"),
    [
        ("status", "busy", CameraBusy, False),
        ("live_view", "busy", CameraBusy, False),
        ("live_view", "drop_connection", CameraLost, True),
        ("drive", "busy", CameraBusy, False),
        ("drive", "lost", CameraLost, True),
        ("set", "busy", CameraBusy, False),
        ("shoot", "busy", CameraBusy, False),
        ("shoot", "drop_connection", CameraLost, True),
        ("shoot", "lost", CameraLost, True),
        ("shoot", "card_full", CardFull, False),
        ("download", "busy", CameraBusy, False),
        ("download", "drop_connection", CameraLost, True),
        ("download", "truncated", BadFrame, False),
    ],
)
def test_faults_become_errors_and_leave_no_file(
    open_sim: Open, tmp_path: Path, operation: Operation, kind: Kind, error: type[CameraError], lost: bool
) -> None:
    camera = open_sim(Fault(operation, 1, kind))
    device = camera._device
    folder = tmp_path / "out"
    folder.mkdir()

    def everything() -> None:
        camera.status()
        camera._drive.live_view()
        camera._drive.drive("near", 2)
        camera.shoot(folder, "a", Exposure(4.0, 1 / 60, 100.0))

    with pytest.raises(error) as caught:
        everything()
    assert type(caught.value) is error and caught.value.transient == (error in (CameraBusy, BadFrame))
    assert not list(folder.iterdir())
    if lost:
        with pytest.raises(CameraLost, match="not connected"):
            camera.status()
        if kind == "lost":
            with pytest.raises(CameraLost, match="no answer"):
                open_sim()
        camera = open_sim()
        assert camera._device is device
    everything()
    assert [path.name for path in folder.iterdir()] == ["a.dng"]


def test_a_duplicate_is_handed_on_for_the_runner_to_find(open_sim: Open, tmp_path: Path) -> None:
    camera = open_sim(Fault("download", 2, "duplicate"))
    shots = [camera.shoot(tmp_path, stem, EXPOSURE).files[0].read_bytes() for stem in "abc"]
    assert shots[0] == shots[1] != shots[2]


def test_a_lens_that_sticks_is_noticed_and_comes_free_when_opened_anew(open_sim: Open) -> None:
    camera = open_sim(Fault("drive", 1, "stuck"), Fault("status", 1, "drop_connection"))
    with pytest.raises(LensStuck):
        camera.home()
    with pytest.raises(CameraLost):
        camera.status()
    open_sim().home()


def test_a_refused_connection_counts(open_sim: Open) -> None:
    faults = (Fault("connect", 1, "busy"), Fault("connect", 2, "drop_connection"))
    with pytest.raises(CameraBusy):
        open_sim(*faults)
    with pytest.raises(CameraLost):
        open_sim(*faults)
    assert open_sim(*faults).status().exposure_mode == "manual"


def test_there_is_one_to_be_found_and_seeds_are_cameras_of_their_own() -> None:
    (info,) = sim.find()
    assert (info.backend, info.address) == ("sim", "sim") and "focus_drive" in info.capabilities
    drives = [sim.open_drive(address, {}) for address in ("sim:3", "sim:4")]
    assert drives[0].info.serial != drives[1].info.serial
    drive: FocusDrive = drives[0]
    assert drive.step_sizes == (1, 2, 3) and drive.live_view().ndim == 2
    assert len(sim.targets("sim:3")) >= 5
    for bad in ("sim:", "sim:x", "usb:001,004"):
        with pytest.raises(DualpixError, match="expected sim or sim:SEED"):
            sim.open_drive(bad, {})
    with pytest.raises(DualpixError, match="unknown option 'truth'"):
        sim.open_drive("sim", {"truth": "1"})


def test_a_lens_without_calibration_is_measured_once_and_kept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("DUALPIX_DATA", str(tmp_path))
    drive = sim.open_drive("sim:6", {})
    measured = []

    def quick(given: FocusDrive, targets: list[calibrate.Target], **_: object) -> object:
        measured.append([target.distance_m for target in targets])
        return known_calibration(lens_truth(6), body=calibrate.body_of(given.info), lens=drive.info.lens or "")

    monkeypatch.setattr(calibrate, "calibrate", quick)
    first, second = (sim.open_camera("sim:6", None, {}) for _ in range(2))
    assert measured == [[distance for distance, _ in sim.targets("sim:6")]]
    assert first.calibration == second.calibration and len(store.everything()) == 1
    assert "measuring the lens of 'sim:6'" in capsys.readouterr().err


@pytest.mark.slow
def test_its_own_calibration_is_as_good_as_it_says(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DUALPIX_DATA", str(tmp_path))
    camera = sim.open_camera("sim:2", None, {"state": str(tmp_path / "state.jsonl")})
    misses = []
    for diopters in (0.3, 0.8, 1.3, 1.8, 2.2):
        claim = camera.go_to(diopters)
        camera.settle()
        camera.shoot(tmp_path, "a", EXPOSURE)
        truth = read_state(tmp_path / "state.jsonl")[-1]
        misses.append(abs(claim.diopters - truth.diopters) / claim.uncertainty_d)
        assert abs(claim.diopters - truth.diopters) < 0.02
    assert max(misses) < 3.5
