"""A phone that takes the frames of a plan by itself, as a camera: waited for, fetched, checked, taken again."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from dualpix.capture.camera_protocol import (
    Achieved,
    BadFrame,
    CameraBusy,
    CameraError,
    CameraInfo,
    CameraStatus,
    Exposure,
    PlannedFrame,
    Settled,
    Shot,
)
from dualpix.capture.cameras.android import protocol
from dualpix.capture.cameras.android.device import Phone
from dualpix.capture.cameras.android.facts import battery_percent, frames_in, free_bytes, thermal_word
from dualpix.capture.cameras.android.session import PhoneSession, error_of, new_session
from dualpix.capture.errors import DualpixError
from dualpix.capture.files import atomic_path, sha256_of_file
from dualpix.capture.focus.calibration import LensCalibration

_FRAME_LIMIT_S = 20.0
"""For one frame, beyond its exposure and the time the lens may take."""
_FETCHES = 2
"""Of one file, before the frame is taken again."""


@dataclass
class _Wanted:
    """A planned frame and how far it is."""

    planned: PlannedFrame
    attempt: int = 0
    """That is being waited for."""
    delivered: bool = False
    failed: bool = False
    fetches: int = 0
    """Of this attempt that did not work out."""


@dataclass
class _Progress:
    """The frames of a session."""

    wanted: dict[int, _Wanted] = field(default_factory=dict)
    on_phone: list[str] = field(default_factory=list)
    """Files that are here by now, and may go there."""


class AndroidCamera:
    """See :class:`~dualpix.capture.camera_protocol.Camera`."""

    def __init__(
        self,
        phone: Phone,
        hello: protocol.Hello,
        calibration: LensCalibration | None,
        camera_id: str | None = None,
        keep: bool = False,
    ) -> None:
        self._phone, self._hello, self._calibration = phone, hello, calibration
        self._camera_id, self._keep = camera_id, keep
        self._session: PhoneSession | None = None
        self._progress = _Progress()
        self._diopters: float | None = None
        self._raw_bytes = 2 * hello.camera.array_px[0] * hello.camera.array_px[1]

    @property
    def info(self) -> CameraInfo:
        """Who is there."""
        device, camera = self._hello.device, self._hello.camera
        nearest_d = self._range_d()[1]
        return CameraInfo(
            backend="android",
            address=self._phone.entry.serial,
            make=device.make,
            model=device.model,
            serial=device.serial or self._phone.entry.serial,
            firmware=f"Android {device.android}, app {self._hello.app}",
            lens=f"camera {camera.id}",
            focal_length_mm=camera.focal_length_mm,
            min_focus_m=1 / nearest_d if nearest_d > 0 else None,
            pixel_pitch_um=camera.pixel_pitch_um,
            f_numbers=camera.f_numbers,
            capabilities=("absolute_focus", "aperture") if len(camera.f_numbers) > 1 else ("absolute_focus",),
        )

    def status(self) -> CameraStatus:
        """How it is set up now: the app sets everything by hand, so what remains is battery, heat and room."""
        run = self._phone.run
        return CameraStatus(
            exposure_mode="manual",
            focus_mode="manual",
            stabiliser=not self._hello.camera.stabiliser_off,
            battery_percent=battery_percent(run("dumpsys", "battery")),
            temperature=thermal_word(run("dumpsys", "thermalservice")),
            free_frames=frames_in(free_bytes(run("df", "-k", "/sdcard")), self._raw_bytes),
            raw_format="DNG",
        )

    def prepare(self, frames: Sequence[PlannedFrame]) -> None:
        """Send the plan and start the app on it.

        Raises:
            DualpixError: a frame lies outside what the lens reaches.
        """
        self.leave()
        plan = protocol.Plan(new_session(), tuple(self._plan_frame(f) for f in frames), camera_id=self._camera_id)
        session = PhoneSession(self._phone, plan)
        self._progress = _Progress({frame.index: _Wanted(frame) for frame in frames})
        self._diopters = None
        self._session = session
        self._hello = session.begin()

    def home(self) -> None:
        """Nothing: positions are absolute."""

    def go_to(self, diopters: float) -> Achieved:
        """Wait for the first frame at this focus that is not here yet."""
        at_stop = self._at(diopters)
        wanted = next((w for w in at_stop if not w.delivered), at_stop[-1])
        self._diopters = diopters
        return self._achieved(self._wait_done(wanted))

    def settle(self) -> Settled:
        """What the app saw of the lens before it took the frame."""
        at_stop = self._at(self._current())
        done = self._wait_done(next((w for w in at_stop if not w.delivered), at_stop[-1]))
        reached = done.lens_state == "stationary"
        evidence = f"LENS_STATE {done.lens_state} in {done.settle_results} results"
        return Settled(done.settle_ms / 1000, done.settle_results, reached, evidence)

    def shoot(self, folder: Path, stem: str, exposure: Exposure) -> Shot:
        """Fetch the frame; one that was fetched before is taken again."""
        wanted = self._choose(exposure)
        if wanted.delivered or wanted.fetches >= _FETCHES:
            self._again(wanted)
        done = self._wait_done(wanted)
        try:
            path = self._fetch(done, folder, stem)
        except BadFrame:
            wanted.fetches += 1
            raise
        wanted.delivered = True
        self._raw_bytes = max(self._raw_bytes, done.bytes)
        self._progress.on_phone.append(done.file)
        return Shot(
            files=(path,),
            exposure=Exposure(done.f_number, done.exposure_ns / 1e9, float(done.iso)),
            taken_at=done.time,
            achieved=self._achieved(done),
            details={
                "lens_state": done.lens_state,
                "reported_diopters": done.diopters,
                "calibration_quality": self._hello.camera.calibration,
                "physical_camera": done.physical_id,
                "sensor_timestamp_ns": done.timestamp_ns,
                "attempt": done.attempt,
            },
        )

    def leave(self) -> None:
        """End the session; what is here whole is removed from the phone, unless it is to be kept."""
        if (session := self._session) is None:
            return
        try:
            session.stop()
            if not self._keep:
                session.remove(self._progress.on_phone)
        except CameraBusy:
            raise  # it can still be ended
        except CameraError:
            self._session = None  # the next session ends it
            raise
        self._session = None

    def close(self) -> None:
        """Nothing: every command has a connection of its own."""

    def _at(self, diopters: float) -> list[_Wanted]:
        at_stop = [w for w in self._progress.wanted.values() if math.isclose(w.planned.diopters, diopters)]
        if self._session is None or not at_stop:
            raise CameraError(f"no frame at {diopters:g} D in the plan on the phone", hint="prepare the frames first")
        return at_stop

    def _current(self) -> float:
        if self._diopters is None:
            raise CameraError("the focus was not chosen yet", expected="go_to before settle and shoot")
        return self._diopters

    def _choose(self, exposure: Exposure) -> _Wanted:
        matching = [w for w in self._at(self._current()) if w.planned.exposure == exposure]
        if not matching:
            raise CameraError(f"no frame with {exposure} at {self._diopters:g} D in the plan on the phone")
        return next((w for w in matching if not w.delivered), matching[-1])

    def _again(self, wanted: _Wanted) -> None:
        wanted.attempt += 1
        wanted.failed = wanted.delivered = False
        wanted.fetches = 0
        self._running().control("retry", wanted.planned.index)

    def _wait_done(self, wanted: _Wanted) -> protocol.FrameDone:
        session, index = self._running(), wanted.planned.index
        if wanted.failed:
            self._again(wanted)

        def news() -> protocol.FrameDone | protocol.Failure | None:
            line = session.done.get(index) or session.failures.get(index)
            return line if line and line.attempt >= wanted.attempt else None

        session.wait(lambda: news() is not None, self._limit_s(wanted), f"frame {index}")
        line = news()
        if isinstance(line, protocol.FrameDone):
            return line
        wanted.failed = True
        raise error_of(session.failures[index])

    def _limit_s(self, wanted: _Wanted) -> float:
        """For all frames up to this one: the app takes them in order."""
        rule = self._running().plan.settle
        lens_s = (rule.retries + 1) * rule.timeout_ms / 1000
        ahead = [
            w for w in self._progress.wanted.values() if not w.delivered and w.planned.index < wanted.planned.index
        ]
        exposures_s = sum(w.planned.exposure.exposure_s or 1.0 for w in (*ahead, wanted))
        return _FRAME_LIMIT_S + exposures_s + (1 + len(ahead)) * lens_s

    def _running(self) -> PhoneSession:
        if self._session is None:
            raise CameraError("no session on the phone", hint="prepare the frames first")
        return self._session

    def _fetch(self, done: protocol.FrameDone, folder: Path, stem: str) -> Path:
        path = folder / f"{stem}{Path(done.file).suffix}"
        with atomic_path(path) as temporary:
            with temporary.open("wb") as file:
                size = self._phone.fetch(f"{self._running().folder}/{done.file}", file, done.bytes)
            if size != done.bytes:
                raise BadFrame(f"'{done.file}' came with {size} bytes", expected=str(done.bytes))
            digest = sha256_of_file(temporary)
            if digest != done.sha256:
                raise BadFrame(f"'{done.file}' came with digest {digest[:12]}", expected=done.sha256[:12])
        return path

    def _plan_frame(self, frame: PlannedFrame) -> protocol.PlanFrame:
        farthest_d, nearest_d = self._range_d()
        if not max(farthest_d, 0.0) - 1e-9 <= frame.diopters <= nearest_d + 1e-9:
            raise DualpixError(
                f"frame {frame.index} at {frame.diopters:g} D",
                expected=f"{max(farthest_d, 0.0):.2f} to {nearest_d:.2f} D, which the lens of this phone reaches",
            )
        value = self._reported_at(frame.diopters)
        exposure = frame.exposure
        return protocol.PlanFrame(
            index=frame.index,
            diopters=value,
            tolerance_d=0.02 + 0.01 * value,
            exposure_ns=round(exposure.exposure_s * 1e9) if exposure.exposure_s else None,
            iso=round(exposure.iso) if exposure.iso else None,
            f_number=exposure.f_number,
        )

    def _range_d(self) -> tuple[float, float]:
        """(farthest, nearest) in diopters."""
        most = self._hello.camera.min_focus_d
        if self._calibration is None:
            return 0.0, most
        farthest_d, nearest_d = self._calibration.range_d
        return farthest_d, min(nearest_d, self._calibration.diopters_at(most))

    def _reported_at(self, diopters: float) -> float:
        """What the phone has to report for this focus."""
        return diopters if self._calibration is None else max(0.0, self._calibration.units_at(diopters))

    def _achieved(self, done: protocol.FrameDone) -> Achieved:
        calibration = self._calibration
        if calibration is None:
            quality = self._hello.camera.calibration
            return Achieved(done.diopters, protocol.uncertainty_d(quality, done.diopters), "camera")
        powers = np.array([1.0, done.diopters, done.diopters**2])
        variance = float(powers @ np.asarray(calibration.covariance) @ powers)
        sigma_d = math.hypot(math.sqrt(max(variance, 0.0)), calibration.residual_d)
        return Achieved(calibration.diopters_at(done.diopters), sigma_d, "calibration")
