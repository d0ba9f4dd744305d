"""The lens of a simulated camera, measured once and stored."""

from __future__ import annotations

from dualpix.capture.cameras.hidden.camera import HiddenCamera
from dualpix.capture.cameras.hidden.faults import FaultPlan
from dualpix.capture.cameras.sim.camera import SimDrive
from dualpix.capture.cameras.sim.device import SimDevice, info_of
from dualpix.capture.focus import calibrate, store
from dualpix.capture.focus.calibration import LensCalibration
from dualpix.capture.progress import ProgressLine
from dualpix.capture.types import FloatImage

_SWEEPS = 2
_FRAME_S = 1 / 30


def own_calibration(device: SimDevice) -> LensCalibration:
    """The stored one of this lens, else measured on a twin of the device, in time that passes faster, and stored."""
    info = info_of(device.address, device.camera.body)
    found = store.find(calibrate.body_of(info), info.lens or "", info.focal_length_mm)
    if found is not None:
        return found
    ProgressLine("sim").say(f"measuring the lens of '{device.address}', once: it is kept")
    clock = _QuickClock()
    twin = SimDevice(device.key, HiddenCamera.from_seed(device.camera.seed, clock=clock), FaultPlan())
    goals = [calibrate.Target(distance, box) for distance, box in twin.camera.targets]
    made = calibrate.calibrate(_QuickDrive(twin, clock), goals, sweeps=_SWEEPS, clock=clock, sleep=clock.sleep)
    store.save(made)
    return made


class _QuickClock:
    """Seconds that pass when somebody waits."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        """Wait."""
        self.now += seconds


class _QuickDrive(SimDrive):
    """A drive whose live view takes its time on a clock that does not run by itself."""

    def __init__(self, device: SimDevice, clock: _QuickClock) -> None:
        super().__init__(device)
        self._clock = clock

    def live_view(self) -> FloatImage:
        """The next frame."""
        self._clock.sleep(_FRAME_S)
        return super().live_view()
