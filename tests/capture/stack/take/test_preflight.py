"""What is found before anything moves, how it is said, and what can be forced."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from tests.capture.stack.take.scripted import INFO, READY, plan_of

from dualpix.capture.camera_protocol import CameraInfo, CameraStatus
from dualpix.capture.focus.calibration import LensCalibration
from dualpix.capture.stack.take.preflight import Finding, NotReadyError, Room, check_before, check_prepared, ready

FRAMES = plan_of((0.3, 0.9, 1.5), (2.8, 5.6)).frames
STEPPER = replace(INFO, capabilities=("live_view", "focus_drive", "aperture"))


def calibration(**changes: Any) -> LensCalibration:
    values: dict[str, Any] = {
        "body": "Scripted 123", "lens": "50mm", "focal_length_mm": 50.0, "coefficients": (0.0, 2e-3, 0.0),
        "covariance": ((1e-6, 0.0, 0.0), (0.0, 1e-12, 0.0), (0.0, 0.0, 0.0)), "units_per_step": {1: 1.0},
        "jitter": 0.03, "travel_units": 1000.0, "backlash_units": 0.0, "residual_d": 0.001,
        "points": ((0.0, 0.0), (900.0, 1.8)), "made_at": "2026-01-01T00:00:00Z", "method": "test",
    }  # fmt: skip
    return LensCalibration(**{**values, **changes})


def found(info: CameraInfo = INFO, status: CameraStatus = READY, **more: Any) -> list[Finding]:
    return check_before(info, status, FRAMES, **more)


def test_a_ready_camera_gives_no_findings() -> None:
    assert found(room=Room(10**12, 10**6)) == []
    assert found(STEPPER, calibration=calibration()) == []
    assert check_prepared(STEPPER, READY, 6) == []


@pytest.mark.parametrize(
    ("change", "level", "forceable", "words"),
    [
        ({"exposure_mode": "Av"}, "error", True, ("'Av'", "turn the dial to M")),
        ({"focus_mode": "One-Shot AF"}, "error", False, ("One-Shot AF", "MF")),
        ({"stabiliser": True}, "error", True, ("stabiliser is on", "tripod")),
        ({"battery_percent": 15.0}, "warning", True, ("15 %", "charge")),
        ({"battery_percent": 3.0}, "error", True, ("3 %", "charge")),
        ({"temperature": "warning"}, "warning", False, ("'warning'", "cool down")),
        ({"temperature": "disableliveview"}, "error", False, ("disableliveview", "cool down")),
    ],
)
def test_settings_of_the_camera(change: dict[str, Any], level: str, forceable: bool, words: tuple[str, ...]) -> None:
    (finding,) = found(status=replace(READY, **change))
    assert (finding.level, finding.forceable) == (level, forceable)
    assert all(word in str(finding) for word in words)


def test_what_the_camera_does_not_say_is_one_warning() -> None:
    (finding,) = found(status=CameraStatus())
    assert finding.level == "warning"
    assert str(finding).startswith("the camera does not say: exposure mode (M), focus mode (MF), stabiliser (off)")


def test_room_on_this_machine() -> None:
    (known,) = found(room=Room(5_000_000, 1_000_000))
    assert known.level == "error" and "5 MB are free on this machine, 6 frames take about 6 MB" in str(known)
    (guessed,) = found(room=Room(5_000_000))
    assert guessed.level == "warning"


def test_apertures_that_the_lens_lacks() -> None:
    (finding,) = found(replace(INFO, f_numbers=(4.0, 5.6)))
    assert finding.level == "error" and "the lens has no f/2.8" in str(finding)
    assert found(replace(INFO, f_numbers=())) == []
    assert found(replace(INFO, f_numbers=(2.83, 5.66))) == []  # as cameras round


def test_a_camera_that_cannot_move_the_focus() -> None:
    (finding,) = found(replace(INFO, capabilities=("live_view", "aperture")))
    assert finding.level == "error" and "cannot move the focus" in str(finding)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"lens": "85mm"}, "the calibration is of '85mm', the lens is '50mm'"),
        ({"focal_length_mm": 35.0}, "made at 35 mm, the lens is at 50 mm"),
        ({"travel_units": 600.0}, "the plan goes to 1.5 D, the lens from 0 to 1.2 D"),
        ({"coefficients": (0.5, 2e-3, 0.0)}, "the lens from 0.5 to 2.5 D"),
    ],
)
def test_calibrations_that_do_not_fit(changes: dict[str, Any], words: str) -> None:
    (finding,) = found(STEPPER, calibration=calibration(**changes))
    assert finding.level == "error" and not finding.forceable and words in str(finding)


def test_a_lens_with_steps_needs_a_calibration() -> None:
    (finding,) = found(STEPPER)
    assert finding.level == "error" and "dualpix capture calibrate" in str(finding)
    assert found(INFO) == []  # positions are absolute
    brackets = replace(STEPPER, capabilities=(*STEPPER.capabilities, "camera_bracket"))
    (finding,) = found(brackets)
    assert finding.level == "warning" and "only the camera's own bracket" in str(finding)


@pytest.mark.parametrize(
    ("change", "level", "words"),
    [
        ({"live_view": False}, "error", "live view is off"),
        ({"raw_format": "L fine"}, "error", "quality is 'L fine'"),
        ({"dual_pixel_raw": False}, "warning", "Dual Pixel RAW is off"),
        ({"free_frames": 5}, "error", "the card has room for 5 of 6 frames: empty it"),
    ],
)
def test_what_preparing_should_have_set(change: dict[str, Any], level: str, words: str) -> None:
    (finding,) = check_prepared(STEPPER, replace(READY, **change), 6)
    assert finding.level == level and words in str(finding)


@pytest.mark.parametrize("name", ["RAW", "cRAW", "RAW + L", "DNG", "CR2", "CR3", "raw_sensor"])
def test_raw_by_many_names(name: str) -> None:
    assert check_prepared(INFO, replace(READY, raw_format=name), 6) == []


def test_force_takes_the_risks_that_can_be_taken() -> None:
    risky = found(status=replace(READY, exposure_mode="P", stabiliser=True))
    with pytest.raises(NotReadyError) as error:
        ready(risky)
    assert str(error.value).startswith("not ready: the exposure mode is 'P'") and "--force" in str(error.value)
    assert [f.level for f in ready(risky, force=True)] == ["warning", "warning"]
    wrong = [*risky, *found(status=replace(READY, focus_mode="AF"))]
    with pytest.raises(NotReadyError) as error:
        ready(wrong, force=True)
    assert [f.level for f in error.value.findings].count("error") == 1
    assert "focus mode" in str(error.value) and "exposure mode" not in str(error.value)
    assert "--force" not in str(error.value)
