"""``plan`` and ``calibrate`` from the command line."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from click.testing import CliRunner, Result
from tests.capture.focus.fakes import FakeDrive, make_drive, true_calibration

from dualpix.capture.errors import DualpixError
from dualpix.capture.focus import store
from dualpix.capture.focus.plan import plan_from_json
from dualpix.capture.stack import focus_cli as cli

RANGE = ("--near", "0.5", "--far", "4")


@pytest.fixture(autouse=True)
def data_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("DUALPIX_DATA", str(tmp_path / "data"))
    monkeypatch.setenv("COLUMNS", "160")
    return tmp_path / "data"


def plan(*args: str) -> Result:
    return CliRunner().invoke(cli.plan, args)


def refused(result: Result) -> str:
    """The one line of a user's error."""
    assert isinstance(result.exception, DualpixError)
    assert "\n" not in str(result.exception)
    return str(result.exception)


def test_table_has_every_frame_and_the_figures_of_the_plan() -> None:
    result = plan(*RANGE, "--count", "5", "--apertures", "2.8,5.6", "--all-in-focus")
    assert result.exit_code == 0
    assert "5 stops, 11 frames" in result.output
    assert "6*" in result.output  # the all-in-focus frame
    assert "45.2 px per diopter" in result.output
    assert "1.12" in result.output
    assert "0.889" in result.output


def test_json_holds_plan_and_summary() -> None:
    result = plan(*RANGE, "--count", "5", "--exposure", "1/50", "--json")
    value = json.loads(result.output)
    made = plan_from_json(value["plan"])
    assert made.mode == "diopter"
    assert made.frames[0].exposure.exposure_s == 0.02
    assert value["summary"]["px_per_diopter"] == pytest.approx(45.24, abs=0.01)
    assert len(value["summary"]["frames"]) == 5


def test_plan_and_picture_are_written(tmp_path: Path) -> None:
    out, picture = tmp_path / "new" / "plan.json", tmp_path / "plan.png"
    result = plan("--preset", "zedd", "-o", str(out), "--picture", str(picture))
    assert result.exit_code == 0
    assert len(plan_from_json(json.loads(out.read_text())).frames) == 9
    assert cv2.imread(str(picture)).shape == (640, 1150, 3)


def test_mode_follows_from_what_is_given(tmp_path: Path) -> None:
    depth = tmp_path / "depth.npy"
    np.save(depth, np.linspace(0.6, 3.0, 100, dtype=np.float32).reshape(10, 10))
    for args, mode in (
        ((*RANGE, "--count", "3"), "diopter"),
        ((*RANGE, "--step-px", "9"), "coc"),
        (("--distances", "0.5,1,inf"), "explicit"),
        (("--preset", "ddff12"), "explicit"),
        (("--near", "0.5", "--increment", "5", "--shots", "7"), "camera-bracket"),
        (("--scene", str(depth), "--count", "6"), "scene"),
        (("--mode", "grid", "--preset", "ddff12"), "grid"),
    ):
        result = plan(*args, "--json")
        assert result.exit_code == 0, result.output
        assert json.loads(result.output)["plan"]["mode"] == mode


def test_calibration_adds_what_is_reached(tmp_path: Path) -> None:
    kept = store.save(true_calibration())
    result = plan(*RANGE, "--count", "4", "--calibration", str(kept))
    assert "reached" in result.output
    value = json.loads(plan(*RANGE, "--count", "4", "--calibration", str(kept), "--json").output)
    for frame in value["summary"]["frames"]:
        assert frame["reachable_d"] == pytest.approx(frame["diopters"], abs=0.006)
        assert 0 < frame["uncertainty_d"] <= 0.01
    assert "out of the range" in refused(
        plan("--near", "0.2", "--far", "4", "--count", "3", "--calibration", str(kept))
    )


@pytest.mark.parametrize(
    ("args", "message"),
    [
        (RANGE, "no number of frames"),
        ((*RANGE, "--count", "3", "--min-focus", "0.6"), "out of the range"),
        ((*RANGE, "--count", "3", "--apertures", "wide"), "not a list of numbers"),
        ((*RANGE, "--count", "3", "--exposure", "1/0"), "exposure '1/0'"),
        ((*RANGE, "--count", "3", "--exposure", "long"), "exposure 'long'"),
        ((*RANGE, "--count", "3", "--exposure", "-1"), "exposure '-1'"),
        ((*RANGE, "--count", "3", "--width", "0"), "width_px of the plan"),
        (("--distances", "0.5,x"), "not a list of numbers"),
        (("--scene", "nowhere.npy", "--count", "3"), "nowhere.npy"),
        ((*RANGE, "--count", "3", "--calibration", "nowhere.json"), "nowhere.json"),
    ],
)
def test_wrong_options_are_one_line(args: tuple[str, ...], message: str) -> None:
    assert message in refused(plan(*args))


def test_nothing_is_written_when_the_plan_is_refused(tmp_path: Path) -> None:
    refused(plan("--near", "4", "--far", "0.5", "--count", "3", "-o", str(tmp_path / "plan.json")))
    assert list(tmp_path.iterdir()) == []


class OneLens:
    """A backend with a fake lens."""

    def __init__(self, drive: FakeDrive) -> None:
        self.lens, self.asked, self.closed = drive, [], 0
        drive.close = self._close  # type: ignore[attr-defined]

    def _close(self) -> None:
        self.closed += 1

    def drive(self, address: str | None, options: dict[str, str]) -> FakeDrive:
        self.asked.append((address, options))
        return self.lens


@pytest.fixture
def backend(monkeypatch: pytest.MonkeyPatch) -> OneLens:
    lens = OneLens(make_drive(seed=6))
    monkeypatch.setattr(cli, "backend", lambda name: lens)
    # time passes in the fake only
    original = cli.calibrate

    def quickly(drive: Any, targets: Any, **settings: Any) -> Any:
        return original(drive, targets, clock=lens.lens.clock, sleep=lens.lens.clock.sleep, **settings)

    monkeypatch.setattr(cli, "calibrate", quickly)
    return lens


def target_options(drive: FakeDrive) -> list[str]:
    texts = [f"{t.distance_m}@{','.join(map(str, t.box))}" for t in drive.targets()]
    return [part for text in texts for part in ("--target", text)]


def calibrated(*args: str) -> Result:
    return CliRunner().invoke(cli.calibrate_command, args)


def test_calibration_is_shown_kept_and_found_again(backend: OneLens) -> None:
    common = ("--camera", "canon", "--address", "usb:1", "--option", "a=b=c", "--sweeps", "2")
    result = calibrated(*common, *target_options(backend.lens))
    assert result.exit_code == 0, result.output
    assert backend.asked == [("usb:1", {"a": "b=c"})]
    assert backend.closed == 1
    for shown in ("residual mm", "3.571", "units per step", "backlash", "focus will be known to", "kept as"):
        assert shown in result.output
    assert "calibrating: fine sweep" in result.stderr
    found = store.find("Body 42", "Lens 50", 50.0)
    assert found is not None
    assert len(found.points) == 6
    listed = calibrated("--list")
    assert "Lens 50" in listed.output


def test_tape_error_makes_the_calibration_less_certain(backend: OneLens) -> None:
    args = ("--camera", "canon", "--json", "--sweeps", "1", *target_options(backend.lens))
    sure = json.loads(calibrated(*args, "--target-error-mm", "0").stdout)
    unsure = json.loads(calibrated(*args, "--target-error-mm", "5").stdout)
    assert unsure["covariance"][2][2] > 2 * sure["covariance"][2][2]


@pytest.mark.parametrize(
    ("args", "message"),
    [
        ((), "no camera was named"),
        (("--camera", "canon"), "no target was named"),
        (("--camera", "canon", "--target", "0.5"), "METRES@X,Y,WIDTH,HEIGHT"),
        (("--camera", "canon", "--target", "0.5@1,2"), "METRES@X,Y,WIDTH,HEIGHT"),
        (("--camera", "canon", "--target", "0.5@0.1,0.1,2,2"), "shares of the picture"),
        (("--camera", "canon", "--target", "0.5@0.1,0.1,0.2,0.2"), "1 targets"),
        (("--camera", "canon", "--option", "x"), "KEY=VALUE"),
        (("--camera", "canon", "--target-error-mm", "nan"), "--target-error-mm"),
    ],
)
def test_wrong_calibrations_are_refused_before_anything_moves(
    backend: OneLens, args: tuple[str, ...], message: str
) -> None:
    assert message in refused(calibrated(*args))
    assert backend.lens.drives == 0
    assert store.everything() == []


def test_cameras_without_steps_are_no_choice() -> None:
    assert calibrated("--camera", "android").exit_code == 2


def test_empty_list() -> None:
    assert calibrated("--list").exit_code == 0
