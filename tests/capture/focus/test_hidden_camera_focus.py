"""Driving and calibrating the lens of the hidden camera that stands behind the test cameras, in real time."""

from __future__ import annotations

import numpy as np
import pytest
from tests.capture.focus.fakes import true_calibration

from dualpix.capture.camera_protocol import CameraInfo, Direction
from dualpix.capture.cameras.hidden.camera import HiddenCamera
from dualpix.capture.focus.calibrate import Target, calibrate
from dualpix.capture.focus.calibration import LensCalibration
from dualpix.capture.focus.driven import DrivenFocus
from dualpix.capture.types import FloatImage


class CameraDrive:
    """The camera's lens and live view alone."""

    def __init__(self, seed: int) -> None:
        self.camera = HiddenCamera.from_seed(seed)

    @property
    def info(self) -> CameraInfo:
        return CameraInfo("hidden", "here", model=self.camera.body.model, lens=self.camera.body.lens)

    @property
    def step_sizes(self) -> tuple[int, ...]:
        return tuple(sorted(self.camera.lens.truth.sizes))

    def drive(self, direction: Direction, size: int) -> None:
        self.camera.drive(direction, size)

    def live_view(self) -> FloatImage:
        return self.camera.live_view()


def stack(drive: CameraDrive, calibration: LensCalibration, stops: int) -> np.ndarray:
    """Errors of a stack over what the scene holds, in stated standard deviations."""
    focus = DrivenFocus(drive, calibration)
    out = []
    for stop in np.linspace(0.2, 2.2, stops):
        achieved = focus.go_to(float(stop))
        assert focus.settle().reached
        out.append((achieved.diopters - drive.camera.lens.diopters) / achieved.uncertainty_d)
    focus.return_to_start()
    return np.array(out)


def test_stack_and_return() -> None:
    drive = CameraDrive(0)
    start = drive.camera.lens.diopters
    assert np.abs(stack(drive, true_calibration(drive.camera.lens.truth), 4)).max() < 4
    DrivenFocus(drive).settle()
    assert drive.camera.lens.diopters == pytest.approx(start, abs=0.1)


@pytest.mark.slow
@pytest.mark.timeout(1800)
@pytest.mark.parametrize("seed", [0, 1, 2])
def test_calibration_on_its_targets(seed: int) -> None:
    drive = CameraDrive(seed)
    truth = drive.camera.lens.truth
    found = calibrate(drive, [Target(distance, box) for distance, box in drive.camera.targets])
    assert found.units_per_step[2] == pytest.approx(truth.sizes[2] / truth.sizes[1], rel=0.02)
    assert found.jitter == pytest.approx(truth.jitter, rel=0.6)
    assert found.backlash_units * truth.sizes[1] == pytest.approx(truth.backlash, abs=3)
    assert np.abs(stack(drive, found, 9)).max() < 4
