"""A phone as a camera: the companion app takes the frames of a plan by itself, this end starts it and collects.

Convention: the focus is what the phone reports with each frame (``LENS_FOCUS_DISTANCE``), in diopters where it calls
itself calibrated; see :func:`~dualpix.capture.cameras.android_protocol.uncertainty_d` for what that is taken to be
worth. With a calibration of the lens the reported number is its unit, and the calibration tells the diopters.

The app works through the plan ahead of the host, so ``go_to`` waits for the frame rather than for the lens, and
``shoot`` fetches it. A frame that is asked for again is taken again. Options: ``port`` of the adb server, ``camera`` by
its Camera2 number, ``keep=yes`` to leave the frames on the phone, from which they are removed once they are here whole.
"""

from __future__ import annotations

import hashlib
import json
import math
import re
import secrets
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path

import numpy as np

from dualpix.capture.camera_protocol import (
    Achieved,
    BadFrame,
    CameraBusy,
    CameraError,
    CameraInfo,
    CameraLost,
    CameraStatus,
    CardFull,
    Exposure,
    LensStuck,
    PlannedFrame,
    Settled,
    Shot,
)
from dualpix.capture.cameras import android_protocol as protocol
from dualpix.capture.cameras.android_device import AdbServer, Phone, state_hint
from dualpix.capture.errors import DualpixError
from dualpix.capture.files import atomic_path
from dualpix.capture.focus.calibration import LensCalibration

_OPTIONS = ("port", "camera", "keep")
_CAMERA_ID = re.compile(r"[A-Za-z0-9_.\-]{1,40}")
_START_LIMIT_S = 30.0
_FRAME_LIMIT_S = 20.0
"""For one frame, beyond its exposure and the time the lens may take."""
_END_LIMIT_S = 5.0
_POLL_S = (0.005, 0.05)
"""First and longest pause between two looks into the journal."""
_FETCHES = 2
"""Of one file, before the frame is taken again."""
_THERMAL = ("normal", "light", "moderate", "severe", "critical", "emergency", "shutdown")
_FAILURES: Mapping[str, type[CameraError]] = {
    "busy": CameraBusy, "camera": CameraLost, "capture": BadFrame, "focus": LensStuck, "storage": CardFull,
}  # fmt: skip


def find(port: str | None = None) -> list[CameraInfo]:
    """Phones on adb, in whatever state; nothing is started on them.

    Raises:
        DualpixError: ``adbutils`` is not installed, or there is no adb server.
    """
    found = []
    for phone in AdbServer(port).phones():
        ready = phone.state == "device"
        capabilities = ("absolute_focus",) if ready else ()
        found.append(CameraInfo("android", phone.serial, model=phone.model, capabilities=capabilities))
    return found


@contextmanager
def searching(port: str | None = None) -> Iterator[None]:
    """Around looking who is there: an adb server that had to be started for it is stopped again."""
    try:
        server = AdbServer(port)
    except DualpixError:  # the search itself says so
        yield
        return
    ran = server.runs
    try:
        yield
    finally:
        if not ran:
            server.stop()


def remark(info: CameraInfo, port: str | None = None) -> str:
    """What the phone still lacks: permission to debug, the companion app, the app's permission to use the camera."""
    server = AdbServer(port)
    state = next((phone.state for phone in server.phones() if phone.serial == info.address), "offline")
    if state != "device":
        return f"{state}: {state_hint(state)}"
    try:
        _check_app(server.open(info.address))
    except CameraError as error:
        return str(error)
    return ""


def open_camera(
    address: str | None, calibration: LensCalibration | None = None, options: Mapping[str, str] | None = None
) -> AndroidCamera:
    """Connect to a phone and ask its app who it is.

    Raises:
        CameraError: no phone, no app, no permission, or a focus that cannot be trusted.
        DualpixError: ``adbutils`` is not installed, several phones, an unknown option.
    """
    options = options or {}
    camera_id, keep = _read_options(options)
    phone = AdbServer(options.get("port")).open(address)
    _check_app(phone)
    hello = _ask_who(phone, camera_id)
    camera = hello.camera
    if not camera.min_focus_d:
        raise CameraError(f"camera {camera.id} of this phone has a fixed focus", hint="choose another with camera=ID")
    if calibration is None:
        protocol.uncertainty_d(camera.calibration, 0.0)  # refuses a phone that reports no distance
    return AndroidCamera(phone, hello, calibration, camera_id, keep)


def _read_options(options: Mapping[str, str]) -> tuple[str | None, bool]:
    """(camera, keep)"""
    if unknown := set(options) - set(_OPTIONS):
        raise DualpixError(
            f"unknown option '{min(unknown)}' of camera 'android'", expected="one of: " + ", ".join(_OPTIONS)
        )
    camera_id, keep = options.get("camera"), options.get("keep", "no")
    if camera_id is not None and not _CAMERA_ID.fullmatch(camera_id):
        raise DualpixError(f"camera '{camera_id}'", expected="a number of Camera2, such as 0")
    if keep not in ("yes", "no"):
        raise DualpixError(f"keep={keep}", expected="yes or no")
    return camera_id, keep == "yes"


def _check_app(phone: Phone) -> None:
    if "package:" not in phone.run("pm", "path", protocol.PACKAGE):
        raise CameraError(
            f"the companion app ({protocol.PACKAGE}) is not on phone '{phone.entry.serial}'",
            hint="install it with 'adb install'",
        )
    permission = "android.permission.CAMERA"
    if f"{permission}: granted=true" not in phone.run("dumpsys", "package", protocol.PACKAGE):
        raise CameraError(
            "the companion app may not use the camera",
            hint=f"open it once and allow it, or 'adb shell pm grant {protocol.PACKAGE} {permission}'",
        )


def _ask_who(phone: Phone, camera_id: str | None) -> protocol.Hello:
    session = PhoneSession(phone, protocol.Plan(_new_session(), (), camera_id=camera_id))
    hello = session.begin()
    phone.run("rm", "-rf", session.folder)
    return hello


def _new_session() -> str:
    return f"{datetime.now(UTC):%Y%m%d-%H%M%S}-{secrets.token_hex(3)}"


class PhoneSession:
    """One run of the app: its plan, its journal, its controls."""

    def __init__(self, phone: Phone, plan: protocol.Plan) -> None:
        self.plan = plan
        self.folder = protocol.session_folder(plan.session)
        self.hello: protocol.Hello | None = None
        self.done: dict[int, protocol.FrameDone] = {}
        """The last attempt of each frame."""
        self.failures: dict[int | None, protocol.Failure] = {}
        """Of the frames that have failed since; None: of the session."""
        self.end: protocol.End | None = None
        self._phone = phone
        self._read_bytes = 0
        self._rest = b""
        self._controls = 0
        self._started = False

    def begin(self) -> protocol.Hello:
        """Start the app on the plan and wait for its first line.

        Raises:
            CameraError: it does not start, or says why it cannot.
        """
        phone = self._phone
        phone.write(f"{self.folder}/{protocol.PLAN}", _json_bytes(self.plan.to_json()))
        phone.run("input", "keyevent", "KEYCODE_WAKEUP")
        phone.run("wm", "dismiss-keyguard")
        self._started = True
        said = phone.run(
            "am", "start", "-W", "-n", protocol.ACTIVITY, "--es", protocol.SESSION_EXTRA, self.plan.session
        )
        if any(line.startswith("Error") for line in said.splitlines()):
            raise CameraError(f"the companion app does not start: {said[-200:]}", hint="unlock the phone")
        self.wait(lambda: self.hello is not None, _START_LIMIT_S, "the companion app")
        if self.hello is None or self.hello.session != self.plan.session:
            raise protocol.ProtocolError(f"the app answers for another session than '{self.plan.session}'")
        return self.hello

    def wait(self, there: Callable[[], bool], limit_s: float, what: str) -> None:
        """Follow the journal until ``there()``.

        Raises:
            CameraError: the session has failed or ended first; :class:`CameraBusy` when the time is over.
        """
        give_up, pause = time.monotonic() + limit_s, _POLL_S[0]
        while not there():
            if self.update():
                pause = _POLL_S[0]
                continue
            self._raise_if_over()
            if time.monotonic() > give_up:
                raise CameraBusy(f"nothing from {what} for {limit_s:.0f} s")
            time.sleep(pause)
            pause = min(2 * pause, _POLL_S[1])

    def update(self) -> bool:
        """Read what the app has written since; whether there was anything.

        Raises:
            ProtocolError: it is not of the protocol.
        """
        path = f"{self.folder}/{protocol.JOURNAL}"
        data = self._phone.read_from(path, self._read_bytes, protocol.MAX_JOURNAL_BYTES)
        self._read_bytes += len(data)
        if self._read_bytes > protocol.MAX_JOURNAL_BYTES:
            raise protocol.ProtocolError(f"a journal of more than {protocol.MAX_JOURNAL_BYTES} bytes")
        *lines, self._rest = (self._rest + data).split(b"\n")
        if len(self._rest) > protocol.MAX_LINE_BYTES:
            raise protocol.ProtocolError(f"a line of more than {protocol.MAX_LINE_BYTES} bytes in the journal")
        for line in lines:
            if line.strip():
                self._take(protocol.parse_line(line))
        return bool(data)

    def control(self, command: protocol.Command, frame: int | None = None) -> None:
        """Tell the running app to stop, or to take a frame again."""
        self._controls += 1
        control = protocol.Control(self.plan.session, self._controls, command, frame)
        if frame is not None:
            self.failures.pop(frame, None)
        self._phone.write(f"{self.folder}/{protocol.CONTROL}", _json_bytes(control.to_json()))

    def stop(self) -> None:
        """End the session and wait, within bounds, until the app has let go of the camera."""
        if not self._started:
            return
        self.update()
        if self.end is None:
            self.control("stop")
            with suppress(CameraBusy):  # an app that hangs is ended by the next session, or by the user
                self.wait(lambda: self.end is not None, _END_LIMIT_S, "the companion app")

    def remove(self, files: Sequence[str]) -> None:
        """Take files of this session off the phone."""
        for first in range(0, len(files), 50):
            self._phone.run("rm", "-f", *(f"{self.folder}/{name}" for name in files[first : first + 50]))

    def _take(self, line: protocol.JournalLine) -> None:
        match line:
            case protocol.Hello():
                self.hello = line
            case protocol.FrameDone():
                self.done[line.frame] = line
                self.failures.pop(line.frame, None)
            case protocol.Failure():
                self.failures[line.frame] = line
                if line.frame is not None:
                    self.done.pop(line.frame, None)
            case protocol.End():
                self.end = line

    def _raise_if_over(self) -> None:
        if failure := self.failures.get(None):
            raise error_of(failure)
        if self.end is not None:
            raise CameraLost(f"the companion app has ended: {self.end.reason}")


def error_of(failure: protocol.Failure) -> CameraError:
    """What the app reports, as the error of a camera."""
    where = "" if failure.frame is None else f" at frame {failure.frame}"
    kind = _FAILURES.get(failure.kind, CameraError)
    return kind(f"the phone reports '{failure.kind}'{where}: {failure.message}")


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
            free_frames=_frames_in(free_bytes(run("df", "-k", "/sdcard")), self._raw_bytes),
            raw_format="DNG",
        )

    def prepare(self, frames: Sequence[PlannedFrame]) -> None:
        """Send the plan and start the app on it.

        Raises:
            DualpixError: a frame lies outside what the lens reaches.
        """
        self.leave()
        plan = protocol.Plan(_new_session(), tuple(self._plan_frame(f) for f in frames), camera_id=self._camera_id)
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
            with temporary.open("rb") as file:
                digest = hashlib.file_digest(file, "sha256").hexdigest()
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


def battery_percent(dumpsys: str) -> float | None:
    """From ``dumpsys battery``."""
    level, scale = (_number_after(dumpsys, key) for key in ("level:", "scale:"))
    return None if level is None else 100 * level / (scale or 100)


def thermal_word(dumpsys: str) -> str | None:
    """From ``dumpsys thermalservice``: ``normal``, or Android's word for the heat."""
    status = _number_after(dumpsys, "Thermal Status:")
    return None if status is None or not 0 <= status < len(_THERMAL) else _THERMAL[int(status)]


def free_bytes(df: str) -> int | None:
    """Room on the file system, from ``df -k`` of one path."""
    words = df.splitlines()[-1].split() if df else []
    return int(words[-3]) * 1024 if len(words) >= 6 and words[-3].isdecimal() else None


def _frames_in(free: int | None, frame_bytes: int) -> int | None:
    return None if free is None else free // max(frame_bytes, 1)


def _number_after(text: str, key: str) -> float | None:
    for line in text.splitlines():
        name, found, value = line.strip().partition(key)
        if found and not name and value.strip().isdecimal():
            return float(value)
    return None


def _json_bytes(value: object) -> bytes:
    return json.dumps(value, allow_nan=False).encode()
