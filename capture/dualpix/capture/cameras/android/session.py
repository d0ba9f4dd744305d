"""One run of the companion app on the phone: begun, followed through its journal, steered, ended."""

from __future__ import annotations

import json
import secrets
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from datetime import UTC, datetime

from dualpix.capture.camera_protocol import BadFrame, CameraBusy, CameraError, CameraLost, CardFull, LensStuck
from dualpix.capture.cameras.android import protocol
from dualpix.capture.cameras.android.device import Phone

_START_LIMIT_S = 30.0
_END_LIMIT_S = 5.0
_POLL_S = (0.005, 0.05)
"""First and longest pause between two looks into the journal."""
_FAILURES: Mapping[str, type[CameraError]] = {
    "busy": CameraBusy, "camera": CameraLost, "capture": BadFrame, "focus": LensStuck, "storage": CardFull,
}  # fmt: skip


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


def new_session() -> str:
    """A name for a session that no other has."""
    return f"{datetime.now(UTC):%Y%m%d-%H%M%S}-{secrets.token_hex(3)}"


def _json_bytes(value: object) -> bytes:
    return json.dumps(value, allow_nan=False).encode()
