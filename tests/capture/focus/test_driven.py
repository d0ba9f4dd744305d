"""A lens that takes steps, driven to diopters: what it claims against where it is, and what it does in trouble."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest
from tests.capture.focus.fakes import FakeDrive, make_drive, true_calibration

from dualpix.capture.camera_protocol import CameraError, LensStuck
from dualpix.capture.cameras.hidden.lens import LensTruth
from dualpix.capture.errors import DualpixError
from dualpix.capture.focus.driven import DrivenFocus, Found
from dualpix.capture.focus.evidence import Bounds

STOPS = np.linspace(0.1, 2.4, 9)


def driven(drive: FakeDrive, calibrated: bool = True, **settings: object) -> DrivenFocus:
    calibration = true_calibration(drive.lens.truth) if calibrated else None
    return DrivenFocus(drive, calibration, clock=drive.clock, sleep=drive.clock.sleep, **settings)  # type: ignore[arg-type]


def at_rest(drive: FakeDrive) -> float:
    """The truth, once the lens has arrived."""
    drive.clock.sleep(0.1)
    return drive.lens.diopters


@pytest.mark.parametrize("noise", [0.0, 0.006])
@pytest.mark.parametrize("start", [0.0, 30.0, 400.0, 1200.0])
def test_home_finds_the_far_stop_from_anywhere(start: float, noise: float) -> None:
    drive = make_drive(noise=noise)
    drive.lens.move_to(start)
    drive.clock.sleep(1.0)
    focus = driven(drive, calibrated=False)
    focus.home()
    drive.clock.sleep(0.1)
    assert drive.lens.position == 0.0
    assert focus.found is not None
    assert focus.found.size == 2
    assert focus.found.count * 24 == pytest.approx(start, abs=120 if noise else 50)
    assert focus.steps == {}


def test_home_in_flickering_light() -> None:
    drive = make_drive(flicker=0.05)
    driven(drive, calibrated=False).home()
    assert drive.lens.position == 0.0


def test_claims_hold_for_a_whole_stack_without_homing_in_between() -> None:
    errors, claimed = [], []
    for seed in range(12):
        drive = make_drive(seed=seed)
        focus = driven(drive)
        for stop in STOPS:
            achieved = focus.go_to(float(stop))
            assert focus.settle().reached
            assert achieved.source == "calibration"
            assert achieved.diopters == pytest.approx(stop, abs=0.006)
            errors.append(achieved.diopters - at_rest(drive))
            claimed.append(achieved.uncertainty_d)
        assert focus.steps is not None
        assert achieved.motor_steps == round(true_calibration().units_of(focus.steps))
    assert max(claimed) <= 0.01
    assert np.percentile(np.abs(errors), 95) <= 0.02
    assert 0.7 < np.sqrt(np.mean(np.square(np.array(errors) / claimed))) < 1.3


def test_motion_is_towards_near_only_and_a_target_behind_homes() -> None:
    drive = make_drive()
    focus = driven(drive)
    directions: list[str] = []
    original = drive.lens.drive
    drive.lens.drive = lambda direction, size: (directions.append(direction), original(direction, size))[1]  # type: ignore[method-assign]
    focus.go_to(0.5)
    directions.clear()
    focus.go_to(1.5)
    assert set(directions) == {"near"}
    focus.go_to(1.5)
    directions.clear()
    focus.go_to(0.5)
    assert directions[0] == "far"
    assert directions == sorted(directions)  # all of far, then all of near
    assert at_rest(drive) == pytest.approx(0.5, abs=0.03)


def test_tighter_bound_is_kept_by_finer_steps() -> None:
    used = []
    for bound in (0.007, 0.02):
        drive = make_drive(seed=4)
        focus = driven(drive, max_uncertainty_d=bound)
        assert focus.go_to(2.2).uncertainty_d <= bound
        used.append(sum((focus.steps or {}).values()))
    assert used[0] > 1.5 * used[1]


def test_focus_out_of_range_is_refused_before_anything_moves() -> None:
    drive = make_drive()
    focus = driven(drive)
    for diopters in (-0.5, 3.5):
        with pytest.raises(DualpixError, match="out of the range"):
            focus.go_to(diopters)
    assert drive.drives == 0


def test_uncalibrated_lens_is_not_focused() -> None:
    drive = make_drive()
    with pytest.raises(DualpixError, match="'Lens 50' is not calibrated"):
        driven(drive, calibrated=False).go_to(1.0)
    with pytest.raises(DualpixError, match="has step sizes"):
        DrivenFocus(drive, true_calibration(units_per_step={1: 1.0, 9: 50.0}))


@pytest.mark.parametrize("calibrated", [True, False])
def test_return_to_where_it_was_found(calibrated: bool) -> None:
    misses = []
    for seed in range(6):
        drive = make_drive(seed=seed)
        drive.lens.move_to(0.0)
        drive.lens.move_to(100.0 + 150 * seed)
        start = at_rest(drive)
        focus = driven(drive, calibrated)
        focus.home()
        if calibrated:
            focus.go_to(1.0)
            focus.go_to(2.0)
        focus.return_to_start()
        misses.append(at_rest(drive) - start)
        moved = drive.drives
        focus.return_to_start()
        assert drive.drives == moved  # it is there
    assert np.abs(misses).max() < 0.07
    assert abs(np.mean(misses)) < 0.03


def test_return_without_having_moved_does_nothing() -> None:
    drive = make_drive()
    driven(drive).return_to_start()
    assert drive.drives == 0


@pytest.mark.parametrize("calibrated", [True, False])
def test_homing_that_was_interrupted_does_not_forget_the_start(calibrated: bool) -> None:
    drive = make_drive(seed=1)
    start = at_rest(drive)
    focus = driven(drive, calibrated)
    drive.fail_at_drive = 9
    with pytest.raises(CameraError, match="step refused"):
        focus.home()
    given_up = at_rest(drive)
    assert given_up < start - 0.3
    focus.home()
    focus.return_to_start()
    assert at_rest(drive) == pytest.approx(start, abs=0.09)
    other = driven(drive, calibrated)
    drive.fail_at_drive = drive.drives + 9
    with pytest.raises(CameraError, match="step refused"):
        other.home()
    other.return_to_start()  # as far back as it went
    assert at_rest(drive) == pytest.approx(start, abs=0.12)


def test_start_of_an_earlier_session_is_taken_over() -> None:
    drive = make_drive()
    focus = driven(drive, found=Found(2, 30))
    focus.go_to(0.5)
    assert focus.found == Found(2, 30)
    focus.return_to_start()
    assert drive.lens.position == pytest.approx(30 * 24, abs=20)


def test_stuck_lens_is_told_from_one_at_the_stop() -> None:
    stuck = make_drive()
    stuck.lens.stuck = True
    with pytest.raises(LensStuck, match="the picture does not change"):
        driven(stuck).home()
    at_stop = make_drive()
    at_stop.lens.move_to(0.0)
    at_stop.clock.sleep(1.0)
    driven(at_stop).home()
    assert at_stop.lens.position == 0.0


@pytest.mark.parametrize("after", [0, 1, 5, 9, 14])
def test_lens_that_gets_stuck_on_the_way_makes_no_wrong_claim(after: int) -> None:
    drive = make_drive(seed=after)
    focus = driven(drive)
    focus.go_to(0.4)
    focus.settle()
    at = drive.drives + after
    drive.lose_drives = frozenset(range(at, at + 10_000))
    with pytest.raises(LensStuck):
        focus.go_to(1.2)
    drive.lose_drives = frozenset()
    achieved = focus.go_to(1.2)
    focus.settle()
    assert achieved.diopters == pytest.approx(at_rest(drive), abs=0.03)


def test_lost_middle_step_is_noticed_and_made_good() -> None:
    for lost in range(1, 40, 3):
        drive = make_drive(seed=lost)
        focus = driven(drive)
        focus.home()
        drive.lose_drives = frozenset({drive.drives + lost})
        achieved = focus.go_to(1.2)
        focus.settle()
        # a lost step of the finest size, 0.008 D, cannot be seen and does not matter
        assert achieved.diopters == pytest.approx(at_rest(drive), abs=0.03)


def test_failed_step_leaves_the_position_unknown_and_the_next_motion_homes() -> None:
    drive = make_drive()
    focus = driven(drive)
    focus.go_to(0.5)
    drive.fail_at_drive = drive.drives + 4
    with pytest.raises(CameraError, match="step refused"):
        focus.go_to(1.5)
    assert focus.steps is None
    achieved = focus.go_to(1.5)
    focus.settle()
    assert achieved.diopters == pytest.approx(at_rest(drive), abs=0.03)


def test_interruption_leaves_the_position_unknown() -> None:
    drive = make_drive()
    focus = driven(drive)
    start = at_rest(drive)
    focus.home()
    original, calls = drive.drive, []

    def interrupted(direction: str, size: int) -> None:
        calls.append(size)
        original(direction, size)  # type: ignore[arg-type]
        if len(calls) == 5:
            raise KeyboardInterrupt

    drive.drive = interrupted  # type: ignore[assignment,method-assign]
    with pytest.raises(KeyboardInterrupt):
        focus.go_to(1.5)
    assert focus.steps is None
    focus.return_to_start()
    assert at_rest(drive) == pytest.approx(start, abs=0.08)


def test_long_pause_homes_again() -> None:
    drive = make_drive()
    focus = driven(drive, bounds=Bounds(stale_s=60.0))
    focus.go_to(0.5)
    assert focus.steps
    drive.lens.move_to(900.0)  # the camera slept, and woke with the lens elsewhere
    drive.clock.sleep(61.0)
    assert focus.steps is None
    achieved = focus.go_to(1.0)
    focus.settle()
    assert achieved.diopters == pytest.approx(at_rest(drive), abs=0.03)


def test_scene_that_never_stops_changing_is_said() -> None:
    drive = make_drive()
    original = drive.live_view
    # something begins to move when the lens does
    drive.live_view = lambda: np.roll(original(), 7 * drive.looks if drive.drives else 0, axis=1)  # type: ignore[method-assign]
    with pytest.raises(CameraError, match="keeps changing"):
        driven(drive, calibrated=False, bounds=Bounds(settle_s=0.02)).home()


def test_small_steps_of_a_macro_stack() -> None:
    drive = make_drive(seed=2, px_per_diopter=60.0)
    focus = driven(drive)
    claimed = [focus.go_to(1.0 + 0.015 * k) for k in range(20)]
    assert all(b.diopters >= a.diopters for a, b in pairwise(claimed))
    assert claimed[-1].diopters == pytest.approx(at_rest(drive), abs=0.03)


def test_lens_with_one_step_size() -> None:
    truth = LensTruth(sizes={1: 25.0}, end=900.0)
    drive = make_drive(truth)
    focus = driven(drive)
    achieved = focus.go_to(1.0)
    focus.settle()
    assert achieved.diopters == pytest.approx(at_rest(drive), abs=0.03)


def test_calibrated_lens_is_homed_by_count_before_a_restless_scene() -> None:
    drive = make_drive(seed=1)
    drive.lens.move_to(1150.0)
    drive.clock.sleep(1.0)
    original = drive.live_view
    drive.live_view = lambda: np.roll(original(), 7 * drive.looks if drive.drives else 0, axis=1)  # type: ignore[method-assign]
    driven(drive, bounds=Bounds(settle_s=0.02)).home()
    assert drive.lens.position == 0.0
