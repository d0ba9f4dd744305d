"""The companion app, played: it obeys ``plan.json`` and ``control.json`` and writes the journal, before a hidden lens.

Convention: as in :mod:`dualpix.capture.cameras.android.protocol`. The lens of a phone goes to a position and has no
backlash; what it reports differs from the hidden truth by an error that is fixed for the phone, as a calibration at the
factory leaves one, and it stops a little beside where it was sent.
"""

from __future__ import annotations

import hashlib
import json
import threading
import time
from collections import deque
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import numpy as np

from dualpix.capture.camera_protocol import CameraError, CardFull
from dualpix.capture.cameras.android import protocol
from dualpix.capture.cameras.hidden.body import Body
from dualpix.capture.cameras.hidden.camera import HiddenCamera
from dualpix.capture.cameras.hidden.faults import FaultPlan, Kind
from dualpix.capture.cameras.hidden.lens import HiddenLens, lens_truth
from dualpix.capture.files import write_bytes

_RESULT_S = 0.002
"""Between two capture results; a real phone takes 33 ms."""
_AIM_D = 0.003
"""Standard deviation of where the lens stops."""
_WRONG_D = {"CALIBRATED": 0.005, "APPROXIMATE": 0.05, "UNCALIBRATED": 0.0}
"""Standard deviation of the error in what is reported; an uncalibrated phone reports something else altogether."""
_UNITLESS = 3.7
"""What an uncalibrated phone reports per diopter."""
_METERED = (1 / 60, 100, 2.8)
"""Exposure in s and ISO at this f-number, for frames that leave them to the phone."""


class PhoneOptics:
    """The phone's camera: a hidden lens that is sent to positions, and what it says of itself."""

    def __init__(self, seed: int, quality: protocol.Quality, *, state: Path | None = None, body: Body | None = None):
        truth = replace(lens_truth(seed), backlash=0.0)
        self._rng = np.random.default_rng([seed, 17])
        start = float(self._rng.uniform(0.1, 0.9)) * truth.end
        self.camera = HiddenCamera(HiddenLens(truth, seed=seed, position=start), seed, body, state=state)
        self.quality = quality
        offset, slope = self._rng.normal(0.0, _WRONG_D[quality], 2)
        self._offset_d, self._slope = float(offset), float(slope) / 2

    @property
    def reported(self) -> float:
        """LENS_FOCUS_DISTANCE at this moment."""
        return max(0.0, self._reported_of(self.camera.lens.diopters))

    @property
    def nearest(self) -> float:
        """LENS_INFO_MINIMUM_FOCUS_DISTANCE."""
        return self._reported_of(self._diopters_of(self.camera.lens.truth.end))

    def send(self, value: float) -> None:
        """Move to where ``value`` is reported, nearly."""
        lens = self.camera.lens
        aim = value + float(self._rng.normal(0.0, _AIM_D)) * self._scale
        low, high = 0.0, lens.truth.end
        for _ in range(50):
            middle = (low + high) / 2
            low, high = (middle, high) if self._reported_of(self._diopters_of(middle)) < aim else (low, middle)
        lens.move_to((low + high) / 2)
        self.camera.account_move()

    def describe(self) -> protocol.PhoneCamera:
        """Its characteristics."""
        body = self.camera.body
        height, width = body.size_hw
        shortest, longest = body.exposures_s
        return protocol.PhoneCamera(
            id="0",
            calibration=self.quality,
            min_focus_d=round(self.nearest, 4),
            focal_length_mm=body.focal_length_mm,
            pixel_pitch_um=body.view_pitch_um / 2,
            f_numbers=body.f_numbers,
            array_px=(2 * width, 2 * height),
            exposure_range_ns=(round(shortest * 1e9), round(longest * 1e9)),
            iso_range=(round(body.isos[0]), round(body.isos[1])),
            stabiliser_off=True,
        )

    @property
    def _scale(self) -> float:
        return _UNITLESS if self.quality == "UNCALIBRATED" else 1.0

    def _reported_of(self, diopters: float) -> float:
        return (diopters * (1 + self._slope) + self._offset_d) * self._scale

    def _diopters_of(self, position: float) -> float:
        a, b, c = self.camera.lens.truth.coefficients
        return a + b * position + c * position**2


class Companion:
    """The app on the phone, with its folder; one session at a time."""

    def __init__(
        self,
        files: Path,
        optics: PhoneOptics,
        faults: FaultPlan | None = None,
        on_break: Callable[[Kind], None] = lambda kind: None,
        booted_before_s: float = 0.0,
    ) -> None:
        """Install it.

        Args:
            files: its folder.
            optics: the phone's camera.
            faults: strikes ``drive`` and ``shoot``.
            on_break: called where a fault breaks the connection of the phone.
            booted_before_s: by how much longer the phone has been running than this machine.
        """
        self.files, self.optics, self.faults = files, optics, faults or FaultPlan()
        self.on_break = on_break
        self.booted_before_s = booted_before_s
        self._session: _Session | None = None
        self._lock = threading.Lock()

    def start(self, session: str) -> None:
        """What the activity does with an intent."""
        with self._lock:
            if self._session is not None:
                self._session.over.set()
                self._session.thread.join()
            self.optics.camera.lens.stuck = False  # the camera is opened anew
            self._session = _Session(self, self.files / protocol.check_session(session))
            self._session.thread.start()

    def kill(self) -> None:
        """As if the phone had died: nothing more is written. May be called by the session itself."""
        if (session := self._session) is not None:
            session.over.set()


class _Stopped(Exception):  # noqa: N818 - no error: the way out of a session
    def __init__(self, reason: protocol.EndReason | None) -> None:
        self.reason = reason


class _Failed(Exception):  # noqa: N818 - becomes a line of the journal
    def __init__(self, kind: protocol.FailureKind, message: str) -> None:
        super().__init__(message)
        self.kind = kind


class _Session:
    """A plan at work, in a thread of its own."""

    def __init__(self, app: Companion, folder: Path) -> None:
        self.app, self.folder = app, folder
        self.over = threading.Event()
        self.thread = threading.Thread(target=self._run, daemon=True)
        self._seen_control = 0
        self._done: dict[int, protocol.FrameDone] = {}
        self._last_raw = b""
        self._metered: tuple[float, int] | None = None

    def _run(self) -> None:
        try:
            plan = protocol.parse_plan((self.folder / protocol.PLAN).read_bytes())
        except (OSError, CameraError) as error:
            self._say(protocol.Failure(_now(), "plan", str(error)[:500]))
            self._say(protocol.End(_now(), "failed"))
            return
        hello = protocol.Hello(_now(), plan.session, "1.0-double", _DEVICE, self.app.optics.describe())
        self._say(hello)
        reason: protocol.EndReason | None = "complete"
        try:
            if plan.frames:
                self._work(plan)
        except _Stopped as stopped:
            reason = stopped.reason
        if reason is not None and not self.over.is_set():
            if plan.frames:
                self._record(plan, hello)
            self._say(protocol.End(_now(), reason))

    def _work(self, plan: protocol.Plan) -> None:
        frames = {frame.index: frame for frame in plan.frames}
        attempts = dict.fromkeys(frames, 0)
        pending = deque(frames)
        paused, idle_until = False, 0.0
        while True:
            if (control := self._control(plan.session)) is not None:
                if control.command == "stop":
                    raise _Stopped("complete" if len(self._done) == len(frames) else "stopped")
                if control.frame in frames:
                    attempts[control.frame] += 1
                    pending.appendleft(control.frame)
                    paused = False
            elif pending and not paused:
                index = pending.popleft()
                paused = not self._frame(plan.settle, frames[index], attempts[index])
                idle_until = time.monotonic() + plan.linger_ms / 1000
            elif time.monotonic() > idle_until:
                raise _Stopped("idle")
            elif self.over.wait(_RESULT_S):
                raise _Stopped(None)
            if self.over.is_set():
                raise _Stopped(None)

    def _frame(self, rule: protocol.SettleRule, frame: protocol.PlanFrame, attempt: int) -> bool:
        """Take it; whether it worked."""
        self._say(protocol.FrameStart(_now(), frame.index, attempt))
        try:
            settle_s, results = self._focus(rule, frame)
            done = self._shoot(frame, attempt, settle_s, results)
        except _Failed as failed:
            self._say(protocol.Failure(_now(), failed.kind, str(failed), frame.index, attempt))
            return False
        self._done[frame.index] = done
        self._say(done)
        return True

    def _focus(self, rule: protocol.SettleRule, frame: protocol.PlanFrame) -> tuple[float, int]:
        """(seconds, results) until the lens was there."""
        optics = self.app.optics
        kind = self._strike("drive")
        if kind == "stuck":
            optics.camera.lens.stuck = True
        started, results = time.monotonic(), 0
        for _ in range(rule.retries + 1):
            optics.send(frame.diopters)
            there = elsewhere = 0
            sent = time.monotonic()
            while there < rule.stationary_results and elsewhere < rule.stuck_results:
                if time.monotonic() - sent > rule.timeout_ms / 1000:
                    break
                if self.over.wait(_RESULT_S):
                    raise _Stopped(None)
                results += 1
                near = abs(optics.reported - frame.diopters) < frame.tolerance_d
                moving = optics.camera.lens.moving
                there = there + 1 if near and not moving else 0
                elsewhere = elsewhere + 1 if not near and not moving else 0
            if there >= rule.stationary_results:
                return time.monotonic() - started, results
        raise _Failed("focus", f"lens at {optics.reported:.3f}, sent to {frame.diopters:.3f}")

    def _shoot(self, frame: protocol.PlanFrame, attempt: int, settle_s: float, results: int) -> protocol.FrameDone:
        optics, kind = self.app.optics, self._strike("shoot")
        f_number = frame.f_number or _METERED[2]
        exposure_s, iso = self._exposure(frame, f_number)
        name = protocol.frame_file(frame.index, attempt)
        try:
            raw = optics.camera.release(f_number, exposure_s, iso, name).raw
        except CardFull as error:
            raise _Failed("storage", str(error)) from error
        except CameraError as error:
            raise _Failed("plan", str(error)) from error
        if kind == "duplicate" and self._last_raw:
            raw = self._last_raw
        self._last_raw = raw
        write_bytes(self.folder / name, raw)
        return protocol.FrameDone(
            time=_now(),
            frame=frame.index,
            attempt=attempt,
            file=name,
            bytes=len(raw),
            sha256=hashlib.sha256(raw).hexdigest(),
            diopters=round(optics.reported, 5),
            lens_state="moving" if optics.camera.lens.moving else "stationary",
            settle_ms=round(1000 * settle_s),
            settle_results=results,
            exposure_ns=round(exposure_s * 1e9),
            iso=iso,
            f_number=f_number,
            timestamp_ns=time.monotonic_ns() + round(1e9 * self.app.booted_before_s),
            physical_id="2",
        )

    def _exposure(self, frame: protocol.PlanFrame, f_number: float) -> tuple[float, int]:
        if self._metered is None:
            self._metered = _METERED[0] * (f_number / _METERED[2]) ** 2, _METERED[1]
        exposure_s = frame.exposure_ns / 1e9 if frame.exposure_ns else self._metered[0]
        return exposure_s, frame.iso or self._metered[1]

    def _strike(self, operation: str) -> Kind | None:
        kind = self.app.faults.at("drive" if operation == "drive" else "shoot")
        if kind in ("drop_connection", "lost"):
            self.app.on_break(kind)
        if self.over.is_set():
            raise _Stopped(None)
        if kind == "busy":
            raise _Failed("busy", "another app has the camera")
        if kind == "card_full":
            raise _Failed("storage", "no room left")
        return kind

    def _control(self, session: str) -> protocol.Control | None:
        try:
            control = protocol.parse_control((self.folder / protocol.CONTROL).read_bytes())
        except (OSError, CameraError):
            return None
        if control.session != session or control.sequence <= self._seen_control:
            return None
        self._seen_control = control.sequence
        return control

    def _say(self, line: protocol.JournalLine) -> None:
        if not self.over.is_set():
            self.folder.mkdir(parents=True, exist_ok=True)
            with (self.folder / protocol.JOURNAL).open("a", encoding="utf-8") as file:
                file.write(protocol.line_text(line))

    def _record(self, plan: protocol.Plan, hello: protocol.Hello) -> None:
        frames = tuple(self._done[index] for index in sorted(self._done))
        complete = len(frames) == len(plan.frames)
        stack = protocol.PhoneStack(plan.session, hello.app, hello.device, hello.camera, frames, complete)
        write_bytes(self.folder / protocol.STACK, json.dumps(stack.to_json()).encode())


_DEVICE = protocol.Device("dualpix", "Double", "16", "PHONEDOUBLE01")


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
