"""Calibrating hidden lenses: what is found against the truth, coverage of the stated uncertainty, and refusals."""

from __future__ import annotations

import os
from dataclasses import replace

import numpy as np
import pytest
from tests.capture.focus.fakes import FakeDrive, make_drive

from dualpix.capture.camera_protocol import CameraBusy, CameraError, Direction, LensStuck
from dualpix.capture.cameras.hidden.lens import LensTruth, lens_truth
from dualpix.capture.errors import DualpixError
from dualpix.capture.focus.calibrate import Target, calibrate
from dualpix.capture.focus.calibration import LensCalibration
from dualpix.capture.focus.driven import DrivenFocus
from dualpix.capture.focus.sweep import Sweep, peak, places_in, take_sweep

FRAMES = 9
LENSES = int(os.environ.get("DUALPIX_TEST_LENSES", "200"))


def measure(drive: FakeDrive, **settings: object) -> LensCalibration:
    return calibrate(drive, drive.targets(), clock=drive.clock, sleep=drive.clock.sleep, **settings)  # type: ignore[arg-type]


def stack_errors(drive: FakeDrive, calibration: LensCalibration) -> tuple[np.ndarray, np.ndarray]:
    """Error and stated uncertainty, in diopters, of a stack over the range of the lens up to 2.5 D."""
    focus = DrivenFocus(drive, calibration, clock=drive.clock, sleep=drive.clock.sleep)
    errors, claimed = [], []
    for stop in np.linspace(0.05, min(2.5, calibration.range_d[1]) - 0.02, FRAMES):
        achieved = focus.go_to(float(stop))
        focus.settle()
        errors.append(achieved.diopters - drive.lens.diopters)
        claimed.append(achieved.uncertainty_d)
    return np.array(errors), np.array(claimed)


@pytest.fixture(scope="module")
def default_lens() -> tuple[FakeDrive, LensCalibration]:
    drive = make_drive(seed=5)
    return drive, measure(drive)


def test_everything_about_a_lens_is_found(default_lens: tuple[FakeDrive, LensCalibration]) -> None:
    drive, found = default_lens
    truth = drive.lens.truth
    assert found.units_per_step[1] == 1.0
    assert found.units_per_step[2] == pytest.approx(6.0, rel=0.01)
    assert found.units_per_step[3] == pytest.approx(37.5, rel=0.03)
    assert found.jitter == pytest.approx(truth.jitter, rel=0.5)
    assert found.backlash_units * 4 == pytest.approx(truth.backlash, abs=2.5)
    assert found.travel_units * 4 == pytest.approx(truth.end, abs=40)
    a, b, c = truth.coefficients
    for units in np.linspace(20, 290, 7):
        glass = 4 * units - truth.backlash / 2
        sd = np.sqrt(found.curve_variance_d2({1: round(units)}))
        assert abs(found.diopters_at(units) - (a + b * glass + c * glass**2)) < 3.5 * sd < 0.03
    assert found.residual_d < 0.004
    assert (found.body, found.lens, found.focal_length_mm) == ("Body 42", "Lens 50", 50.0)
    assert found.method == "targets at 6 distances"
    assert [d for _, d in found.points] == pytest.approx(drive.targets_d)


def test_focus_ends_where_it_was_found(default_lens: tuple[FakeDrive, LensCalibration]) -> None:
    drive, _ = default_lens
    assert drive.lens.position == pytest.approx(400, abs=45)


def test_calibrated_stack_is_within_the_bound(default_lens: tuple[FakeDrive, LensCalibration]) -> None:
    drive, calibration = default_lens
    errors, claimed = stack_errors(drive, calibration)
    assert np.abs(errors).max() < 0.03
    assert claimed.max() <= 0.0105
    assert np.sqrt(np.mean(np.square(errors / claimed))) < 2.5


def coverage(seeds: range) -> tuple[np.ndarray, np.ndarray]:
    """(lenses, frames) errors and stated uncertainties of random lenses, calibrated and then used."""
    rows = []
    for seed in seeds:
        rng = np.random.default_rng([seed, 99])
        truth = replace(lens_truth(seed), jitter=float(rng.uniform(0.005, 0.03)), backlash=float(rng.uniform(0, 12)))
        drive = make_drive(truth, seed)
        rows.append(stack_errors(drive, measure(drive)))
    errors, claimed = (np.array(part) for part in zip(*rows, strict=True))
    return errors, claimed


@pytest.mark.slow
@pytest.mark.timeout(7200)
def test_stated_uncertainty_covers_the_truth_of_random_lenses() -> None:
    errors, claimed = coverage(range(1000, 1000 + LENSES))
    z = errors / claimed
    for frame in range(FRAMES):
        within_1, within_2 = ((np.abs(z[:, frame]) <= k).mean() for k in (1, 2))
        p95 = np.percentile(np.abs(errors[:, frame]), 95)
        print(
            f"frame {frame}: stated {claimed[:, frame].mean():.4f} D, 95 % of errors below {p95:.4f} D,"
            f" {100 * within_1:.1f} % within one and {100 * within_2:.1f} % within two standard deviations"
        )
    within_1, within_2 = ((np.abs(z) <= k).mean() for k in (1, 2))
    print(
        f"all: {100 * within_1:.1f} % and {100 * within_2:.1f} %, 95 % below {np.percentile(np.abs(errors), 95):.4f} D"
    )
    assert np.percentile(np.abs(errors[:, -1]), 95) <= 0.02
    assert np.percentile(np.abs(errors), 95) <= 0.02
    # binomial errors of so many lenses; the frames of one share their errors
    assert abs(within_1 - 0.683) <= 2 * np.sqrt(0.68 * 0.32 / LENSES)
    assert abs(within_2 - 0.954) <= 2 * np.sqrt(0.95 * 0.05 / LENSES)


@pytest.mark.slow
@pytest.mark.timeout(7200)
def test_worst_jitter_and_backlash_keep_to_two_hundredths_of_a_diopter() -> None:
    rows = []
    for seed in range(2000, 2000 + LENSES // 2):
        drive = make_drive(LensTruth(jitter=0.03, backlash=9.0), seed)
        rows.append(stack_errors(drive, measure(drive))[0])
    errors = np.abs(np.array(rows))
    print("95 % by frame:", np.round(np.percentile(errors, 95, axis=0), 4))
    assert np.percentile(errors, 95, axis=0).max() <= 0.02


def test_two_sweeps_less_take_less_time_and_say_more_uncertainty(
    default_lens: tuple[FakeDrive, LensCalibration],
) -> None:
    _, thorough = default_lens
    drive = make_drive(seed=5)
    quick = measure(drive, sweeps=1)
    assert drive.looks < 1800
    steps = {1: 60, 2: 25}
    assert quick.curve_variance_d2(steps) > thorough.curve_variance_d2(steps)
    assert quick.jitter == pytest.approx(0.03, rel=0.7)


def test_lens_with_one_step_size() -> None:
    assert measure(make_drive(LensTruth(sizes={1: 20.0}), seed=1), sweeps=1).jitter == 0.03  # nothing tells
    drive = make_drive(LensTruth(sizes={1: 20.0}), seed=1)
    found = measure(drive, sweeps=3)
    assert dict(found.units_per_step) == {1: 1.0}
    errors, claimed = stack_errors(drive, found)
    assert (np.abs(errors) < 4 * claimed).all()


def test_progress_is_told() -> None:
    said: list[tuple[str, int]] = []
    measure(make_drive(seed=2), sweeps=1, on_progress=lambda what, stops: said.append((what, stops)))
    assert [stops for _, stops in said] == list(range(1, len(said) + 1))
    assert {what for what, _ in said} == {"sweep 1", "step sizes", "fine sweep", "backlash"}


class BusyDrive(FakeDrive):
    """Refuses every seventh request."""

    asked = 0
    always = False

    def _refuse(self) -> None:
        self.asked += 1
        if self.always or self.asked % 7 == 0:
            raise CameraBusy("not now")

    def drive(self, direction: Direction, size: int) -> None:
        self._refuse()
        super().drive(direction, size)


def test_busy_camera_is_asked_again_and_one_that_stays_busy_is_given_up() -> None:
    template = make_drive(seed=3)
    drive = BusyDrive(template.lens, template.clock, 3)
    assert measure(drive, sweeps=1).units_per_step[2] == pytest.approx(6.0, rel=0.03)
    drive.always = True
    with pytest.raises(CameraBusy):
        measure(drive, sweeps=1)


def test_stuck_lens_and_lost_camera_are_said_and_the_first_error_stays() -> None:
    drive = make_drive()
    drive.lens.stuck = True
    with pytest.raises(LensStuck):
        measure(drive)
    lost = make_drive()
    lost.fail_at_drive = 60
    with pytest.raises(CameraError, match="step refused"):
        measure(lost)
    assert lost.lens.position == pytest.approx(400, abs=60)  # and the focus is brought back


def test_target_beyond_the_range_or_without_detail_is_named() -> None:
    beyond = make_drive(targets_d=(0.3, 0.9, 1.5, 3.4))
    with pytest.raises(DualpixError, match=r"the target at 0\.294118 m is sharpest at the near stop"):
        measure(beyond, sweeps=1)
    drive = make_drive(targets_d=(0.3, 0.9, 1.5, 2.2, 2.0))
    blank = [*drive.targets()[:4], Target(0.7, (0.7, 0.55, 0.28, 0.4))]  # the sixth field is empty
    with pytest.raises(DualpixError, match=r"the target at 0\.7 m never becomes sharper"):
        calibrate(drive, blank, sweeps=1, clock=drive.clock, sleep=drive.clock.sleep)


def test_distances_in_the_wrong_order_are_refused() -> None:
    drive = make_drive()
    targets = drive.targets()
    swapped = [Target(a.distance_m, b.box) for a, b in zip(targets, reversed(targets), strict=True)]
    with pytest.raises(DualpixError, match="which distance belongs to which box"):
        calibrate(drive, swapped, sweeps=1, clock=drive.clock, sleep=drive.clock.sleep)


@pytest.mark.parametrize(
    ("distance", "box", "message"),
    [
        (0.0, (0.1, 0.1, 0.2, 0.2), "a target at 0 m"),
        (float("nan"), (0.1, 0.1, 0.2, 0.2), "a target at nan m"),
        (float("inf"), (0.1, 0.1, 0.2, 0.2), "a target at inf m"),
        (0.5, (0.9, 0.1, 0.2, 0.2), "shares of the picture"),
        (0.5, (0.1, 0.1, 0.0, 0.2), "shares of the picture"),
        (0.5, (10.0, 20.0, 64.0, 64.0), "shares of the picture"),
    ],
)
def test_senseless_targets_are_refused(distance: float, box: tuple[float, float, float, float], message: str) -> None:
    with pytest.raises(DualpixError, match=message):
        Target(distance, box)


def test_one_target_is_too_few() -> None:
    drive = make_drive()
    with pytest.raises(DualpixError, match="1 targets"):
        calibrate(drive, drive.targets()[:1])
    assert drive.drives == 0


@pytest.fixture(scope="module")
def two_sweeps() -> tuple[FakeDrive, Sweep, Sweep, np.ndarray, np.ndarray]:
    """A middle and a fine sweep of one lens, and where the motor truly was at each stop."""
    drive = make_drive(seed=8)
    focus = DrivenFocus(drive, clock=drive.clock, sleep=drive.clock.sleep)
    boxes = [t.box for t in drive.targets()]
    places: list[float] = []
    middle = take_sweep(focus, 2, boxes, on_stop=lambda: places.append(drive.lens.position))
    of_middle, places = np.array(places), []
    fine = take_sweep(focus, 1, boxes, stride=3, window=12, on_stop=lambda: places.append(drive.lens.position))
    return drive, middle, fine, of_middle[: len(middle.steps)], np.array(places)[: len(fine.steps)]


def test_sweep_ends_at_the_near_stop(two_sweeps: tuple[FakeDrive, Sweep, Sweep, np.ndarray, np.ndarray]) -> None:
    _, middle, fine, true_middle, true_fine = two_sweeps
    assert middle.end == pytest.approx(50, abs=3)
    assert fine.end == pytest.approx(300, abs=12)
    assert max(true_middle[-1], true_fine[-1]) < 1200
    assert middle.targets.shape == (len(middle.steps), 6)


def test_peaks_are_where_the_lens_truly_focuses_the_targets(
    two_sweeps: tuple[FakeDrive, Sweep, Sweep, np.ndarray, np.ndarray],
) -> None:
    drive, middle, fine, true_middle, true_fine = two_sweeps
    a, b, c = drive.lens.truth.coefficients
    off = []
    for target, diopters in enumerate(drive.targets_d):
        motor = (-b + np.sqrt(b * b + 4 * c * (diopters - a))) / (2 * c) + drive.lens.truth.backlash / 2
        for sweep, truth in ((middle, true_middle), (fine, true_fine)):
            found = peak(sweep, target, "target")
            off.append((found.steps - np.interp(motor, truth, sweep.steps)) / found.sd)
            assert found.sd < 0.5
    assert np.abs(off).max() < 4
    assert np.sqrt(np.mean(np.square(off))) < 1.6


def test_pictures_are_found_in_another_sweep_finer_than_its_stops(
    two_sweeps: tuple[FakeDrive, Sweep, Sweep, np.ndarray, np.ndarray],
) -> None:
    _, middle, fine, true_middle, true_fine = two_sweeps
    places = places_in(fine, middle.signature, middle.steps * 6.2, 0.15)
    expected = np.interp(true_middle, true_fine, fine.steps)
    inner = np.isfinite(places) & (middle.steps > 2) & (middle.steps < 45)
    assert inner.sum() > 35
    assert np.sqrt(np.mean(np.square(places - expected)[inner])) < 0.4  # stops are 3 apart
