"""Takes a stack: moves, settles, shoots and downloads, and has everything written down before anything else happens.

A capture is a row of *sweeps*. A sweep homes the lens and takes, in one direction, every frame that is still missing;
whatever goes wrong on the way, the next sweep makes good. So there is one way to go on after a lost connection, after a
frame that turned out bad, and after a kill: home, and take what is missing. Positions are never carried over.

Frames are checked while the lens moves on, see :mod:`.ledger`. A camera that hands out frames again, or whose lens
seems to stand still, is connected anew before the next sweep.
"""

from __future__ import annotations

import shlex
import shutil
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import groupby
from pathlib import Path
from typing import Any, NoReturn, TypeVar

from dualpix.capture.camera_protocol import (
    Achieved,
    BadFrame,
    Camera,
    CameraError,
    CameraLost,
    LensStuck,
    PlannedFrame,
    Settled,
    Shot,
)
from dualpix.capture.errors import DualpixError, OutputError
from dualpix.capture.files import make_output_dir
from dualpix.capture.focus.calibration import LensCalibration
from dualpix.capture.focus.driven import DrivenFocus, Found
from dualpix.capture.stack.keep.record import StackRecord
from dualpix.capture.stack.take.header import check_camera
from dualpix.capture.stack.take.interrupt import InterruptedCaptureError, StopSwitch
from dualpix.capture.stack.take.journal import Journal
from dualpix.capture.stack.take.ledger import DistrustError, Ledger, Plan
from dualpix.capture.stack.take.preflight import Finding, NotReadyError, Room, check_before, check_prepared, ready

T = TypeVar("T")
_EXPECTED = (DualpixError, OSError, DistrustError, InterruptedCaptureError, KeyboardInterrupt)
"""What ends a capture without being a bug."""


@dataclass(frozen=True)
class RunnerSettings:
    """How patient a capture is."""

    force: bool = False
    """Take the risks that can be taken, see :mod:`.preflight`."""
    busy_tries: int = 8
    """Of one operation, before the camera is connected anew."""
    frame_tries: int = 4
    """Of one frame, before the capture stops."""
    fruitless_sweeps: int = 4
    """In a row without a new frame, before the capture stops."""
    reconnect_tries: int = 6
    first_wait_s: float = 0.1
    """Before the second try; each further one waits twice as long."""
    longest_wait_s: float = 8.0


@dataclass(frozen=True)
class Progress:
    """How far a capture is."""

    done: int
    """Frames that count or are being checked."""
    total: int
    text: str
    important: bool = True
    """Not one of the many small steps."""


class CaptureStoppedError(DualpixError):
    """The capture ended before it was complete; what was taken is kept, and it can be resumed."""

    def __init__(self, reason: str, record: StackRecord, hint: str, signal_number: int | None) -> None:
        self.record, self.reason = record, reason
        self.signal_number = signal_number
        """Of Ctrl-C or SIGTERM, if it was one."""
        super().__init__(reason, hint=hint)


def run(
    camera: Camera,
    plan: Plan,
    folder: Path,
    *,
    calibration: LensCalibration | None = None,
    resume: bool = False,
    settings: RunnerSettings | None = None,
    reopen: Callable[[], Camera] | None = None,
    origin: Mapping[str, Any] | None = None,
    on_progress: Callable[[Progress], None] | None = None,
    on_finding: Callable[[Finding], None] | None = None,
) -> StackRecord:
    """Take a stack, or what is missing of it.

    Args:
        camera: connected; it is left at rest and closed, however this ends.
        plan: every frame that is wanted.
        folder: of the stack; made if need be.
        calibration: of the lens, where it moves by steps.
        resume: go on with the stack in ``folder``. Its plan, camera and lens calibration must be the same. In a folder
            without one it begins anew.
        settings: patience.
        reopen: connects to the same camera again after it was lost; without it, that ends the capture.
        origin: plain JSON about how the camera is reached, kept in the journal's header for whoever resumes.
        on_progress: told after every step, in this thread.
        on_finding: told what speaks against the camera's settings without forbidding the capture.

    Returns:
        The record, complete; also in ``folder/stack.json``.

    Raises:
        CaptureStoppedError: it could not be completed: Ctrl-C, card or disk full, lens stuck, camera lost for good.
        NotReadyError: settings of the camera forbid the capture; nothing has moved.
        OutputError: the folder cannot be written or holds another stack.
        RecordError: the stack in ``folder`` is another one, or its journal is damaged.
    """
    settings = settings or RunnerSettings()
    link = _Link(camera, reopen)
    try:
        make_output_dir(folder)
        with Journal(folder) as journal, StopSwitch() as switch:
            ledger = Ledger(folder, journal, plan, settings.frame_tries)
            capture = _Capture(link, ledger, switch, settings, calibration)
            capture.on_progress = on_progress or capture.on_progress
            capture.on_finding = on_finding or capture.on_finding
            ledger.begin(camera.info, calibration, resume=resume, origin=origin)
            link.restore(ledger.state.found)
            return capture.run()
    finally:
        link.close()


class _Link:
    """The connection to the camera, which may be another one after a loss."""

    def __init__(self, camera: Camera, reopen: Callable[[], Camera] | None) -> None:
        self.camera, self.reopen = camera, reopen
        self.touched = False
        """Whether the camera was asked to do anything that has to be undone."""
        self._open = True

    @property
    def found(self) -> Found | None:
        """Where the focus was before the camera moved it, if it moves by steps and was homed."""
        focus = getattr(self.camera, "focus", None)
        return focus.found if isinstance(focus, DrivenFocus) else None

    def restore(self, found: Found | None) -> None:
        """Tell the camera where the focus is to be brought back to, if it was moved before this connection."""
        focus = getattr(self.camera, "focus", None)
        if isinstance(focus, DrivenFocus) and found is not None:
            focus.found, self.touched = found, True

    def close(self) -> None:
        if self._open:
            self.camera.close()
        self._open = self.touched = False

    def connect(self) -> None:
        """Anew. Raises CameraError."""
        found = self.found
        self.close()
        assert self.reopen is not None  # noqa: S101 - the caller has looked
        self.camera = self.reopen()
        self._open = self.touched = True
        self.restore(found)


class _Capture:
    """One run of a capture: what happens at the camera."""

    def __init__(
        self,
        link: _Link,
        ledger: Ledger,
        switch: StopSwitch,
        settings: RunnerSettings,
        calibration: LensCalibration | None,
    ) -> None:
        self.link, self.ledger, self.switch = link, ledger, switch
        self.settings, self.calibration = settings, calibration
        self.on_progress: Callable[[Progress], None] = lambda _: None
        self.on_finding: Callable[[Finding], None] = lambda _: None
        self._looked = False
        """Whether the settings of the camera of this connection were looked at."""

    @property
    def camera(self) -> Camera:
        return self.link.camera

    def run(self) -> StackRecord:
        """Until nothing is missing or nothing helps; then bring everything to rest."""
        failure: BaseException | None = None
        try:
            self._until_complete()
        except BaseException as error:  # also bugs: the camera is brought to rest first
            failure = error
        return self._wind_up(failure)

    # --- sweeps ---------------------------------------------------------------------------------------------------

    def _until_complete(self) -> None:
        fruitless = 0
        while missing := self.ledger.missing:
            trouble = self._sweep_or_trouble(missing)
            fruitless = 0 if len(self.ledger.missing) < len(missing) else fruitless + 1
            if fruitless > self.settings.fruitless_sweeps:
                raise CameraError(f"{fruitless} sweeps in a row gave no new frame", hint=str(trouble or ""))
            if trouble is not None:
                self._reconnect(trouble)

    def _sweep_or_trouble(self, missing: Sequence[int]) -> Exception | None:
        try:
            if not self._looked:
                self._preflight()
            self._sweep(missing)
        except (CameraLost, DistrustError) as error:
            return self._quietly(lambda: self.ledger.harvest(wait=True), DistrustError) or error
        return None

    def _sweep(self, missing: Sequence[int]) -> None:
        """Home, and take the missing frames in one direction."""
        wanted = set(missing)
        frames = [frame for frame in self.ledger.plan.frames if frame.index in wanted]
        self.ledger.new_sweep()
        self.switch.check()
        self.link.touched = True
        self._try("prepare", lambda: self.camera.prepare(frames))
        self._weigh(check_prepared(self.camera.info, self._try("status", self.camera.status), len(frames)))
        self._tell("homing the lens")
        self._try("home", self.camera.home)
        self.ledger.note("homed", frames=[frame.index for frame in frames], found=self.link.found)
        for diopters, stop in groupby(frames, key=lambda frame: frame.diopters):
            self._take_stop(diopters, list(stop))
        self.ledger.harvest(wait=True)

    def _take_stop(self, diopters: float, frames: Sequence[PlannedFrame]) -> None:
        self._tell(f"to {diopters:.3f} D", important=False)
        self._check_disk()
        achieved = self._try("go_to", lambda: self.camera.go_to(diopters))
        settled = self._settle()
        self.ledger.new_stop()
        for frame in frames:
            self._take(frame, achieved, settled)
            self.ledger.harvest()

    def _settle(self) -> Settled:
        first = self._try("settle", self.camera.settle)
        if first.reached:
            return first
        again = self._try("settle", self.camera.settle)
        return replace(again, seconds=first.seconds + again.seconds, frames=first.frames + again.frames)

    def _take(self, frame: PlannedFrame, achieved: Achieved, settled: Settled) -> None:
        self.switch.check()
        stem = self.ledger.intend(frame, achieved, settled)
        shot = self._try("shoot", lambda: self._shoot(frame, stem), frame.index)
        self.ledger.arrived(frame.index, shot)
        self._tell(f"{stem} taken")

    def _shoot(self, frame: PlannedFrame, stem: str) -> Shot:
        self.ledger.files.clear(frame.index)
        shot = self.camera.shoot(self.ledger.folder, stem, frame.exposure)
        for path in shot.files:
            ours = path.parent == self.ledger.folder and path.name.startswith(f"{stem}.")
            if not ours or path.is_symlink() or not path.is_file():
                raise CameraError(f"the camera left '{path}'", expected=f"files '{stem}.*' in the stack's folder")
        if not shot.files or any(path.stat().st_size == 0 for path in shot.files):
            raise BadFrame("the camera sent no frame, or an empty one")
        return shot

    # --- patience -------------------------------------------------------------------------------------------------

    def _try(self, operation: str, call: Callable[[], T], index: int | None = None) -> T:
        """``call``, again after ever longer waits while the camera says that it may work later.

        Raises:
            DistrustError: it did not work for so long that the connection is blamed.
        """
        wait_s = self.settings.first_wait_s
        for attempt in range(1, self.settings.busy_tries + 1):
            self.switch.check()
            try:
                return call()
            except CameraError as error:
                event = "retry" if error.transient else "failed"
                self.ledger.note(event, operation=operation, attempt=attempt, error=str(error), index=index)
                if not error.transient:
                    raise
                last = error
            self.switch.wait(wait_s)
            wait_s = min(2 * wait_s, self.settings.longest_wait_s)
        raise DistrustError(f"{operation} failed {self.settings.busy_tries} times: {last}")

    def _reconnect(self, trouble: Exception) -> None:
        """Connect anew, within bounds, and look at the settings again."""
        self.ledger.note("lost", reason=str(trouble))
        if self.link.reopen is None:
            if isinstance(trouble, DistrustError):
                return  # homing has to do
            raise trouble
        self._tell(f"connecting again: {trouble}")
        wait_s = self.settings.first_wait_s
        for attempt in range(1, self.settings.reconnect_tries + 1):
            self.switch.check()
            try:
                self.link.connect()
                break
            except CameraError as error:
                self.ledger.note("retry", operation="connect", attempt=attempt, error=str(error))
                if attempt == self.settings.reconnect_tries:
                    raise CameraLost(f"the camera does not answer any more ({error})") from error
            self.switch.wait(wait_s)
            wait_s = min(2 * wait_s, self.settings.longest_wait_s)
        self._looked = False

    def _preflight(self) -> None:
        check_camera(self.ledger.journal.events[0], self.camera.info)
        frames = [self.ledger.planned[index] for index in self.ledger.missing]
        room = Room(shutil.disk_usage(self.ledger.folder).free, self.ledger.largest_bytes)
        status = self._try("status", self.camera.status)
        self._weigh(check_before(self.camera.info, status, frames, self.calibration, room))
        self._looked = True

    def _weigh(self, findings: Sequence[Finding]) -> None:
        warnings = ready(findings, force=self.settings.force)
        for finding in warnings:
            self.on_finding(finding)
        if warnings:
            self.ledger.note("warned", findings=[str(finding) for finding in warnings])

    def _check_disk(self) -> None:
        """Stop before a frame that would not fit, rather than in it."""
        free, largest = shutil.disk_usage(self.ledger.folder).free, self.ledger.largest_bytes or 0
        if free < 2 * largest:
            raise OutputError(f"{free / 1e6:.0f} MB are free on the disk, a frame takes {largest / 1e6:.0f} MB")

    def _tell(self, text: str, *, important: bool = True) -> None:
        self.on_progress(Progress(self.ledger.done, len(self.ledger.planned), text, important))

    # --- end ------------------------------------------------------------------------------------------------------

    def _wind_up(self, failure: BaseException | None) -> StackRecord:
        """Judge what is left, bring the camera to rest, and write the record; then raise why it is not complete."""
        self.switch.patient = True
        started = self.link.touched or self.ledger.started
        unjudged, not_left = self._quietly(lambda: self.ledger.harvest(wait=True)), self._quietly(self._leave)
        problems = [unjudged, not_left]
        stuck = next((e for e in (failure, *problems) if isinstance(e, LensStuck)), None)
        if stuck is not None:
            problems.append(self._quietly(lambda: self.ledger.doubt_last_stop(str(stuck))))
        self.link.close()
        record = self.ledger.close(hurry=failure is not None)
        told = [str(problem) for problem in problems if problem]
        if failure is None and not record.complete:
            failure = next((problem for problem in problems if problem), CameraError("frames are missing"))
        if started:
            ending = {"reason": self._reason(failure), "problems": told, "left": not_left is None}
            unwritten = self._quietly(lambda: self.ledger.finish(record, ending))
            failure = failure or unwritten
        else:
            self.ledger.discard()
        if failure is not None:
            self._raise(failure, record)
        for problem in told:
            self._tell(f"complete, but: {problem}")
        return record

    def _quietly(self, what: Callable[[], object], *kinds: type[Exception]) -> Exception | None:
        """Do one thing of several that have to be done whatever becomes of the others; what went wrong."""
        handled = kinds or _EXPECTED
        try:
            what()
        except handled as error:
            return error if isinstance(error, Exception) else InterruptedCaptureError()
        return None

    def _leave(self) -> None:
        """The camera at rest, the focus where it was found; busy cameras are asked again."""
        wait_s = self.settings.first_wait_s
        for attempt in range(self.settings.busy_tries if self.link.touched else 0):
            try:
                self.camera.leave()
                return
            except CameraError as error:
                if not error.transient or attempt == self.settings.busy_tries - 1:
                    raise
            time.sleep(wait_s)
            wait_s = min(2 * wait_s, self.settings.longest_wait_s)

    def _raise(self, failure: BaseException, record: StackRecord) -> NoReturn:
        """As the caller is told: a capture that stopped, or settings that forbid it, or a bug as it is."""
        if not isinstance(failure, _EXPECTED) or (isinstance(failure, NotReadyError) and not record.frames):
            raise failure
        signalled = isinstance(failure, InterruptedCaptureError | KeyboardInterrupt)
        number = self.switch.signal_number if signalled else None
        hint = "nothing was taken"
        if self.ledger.started:
            kept = f"{len(record.frames)} of {len(self.ledger.planned)} frames are kept"
            hint = f"{kept}, go on with: dualpix capture --resume -o {shlex.quote(str(self.ledger.folder))}"
        raise CaptureStoppedError(self._reason(failure), record, hint, number) from failure

    def _reason(self, failure: BaseException | None) -> str:
        if failure is None:
            return ""
        if isinstance(failure, InterruptedCaptureError | KeyboardInterrupt):
            return "stopped by the user" if self.switch.by_user else "stopped by the system"
        if isinstance(failure, OSError):
            return f"cannot write to '{self.ledger.folder}': {failure.strerror or failure}"
        return str(failure) or type(failure).__name__
