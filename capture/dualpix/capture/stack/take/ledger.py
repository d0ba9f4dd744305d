"""The folder of a stack while it grows: what happened, what counts, what is put aside.

Everything goes into the journal before it counts. Frames are examined in a thread of their own and judged in the order
in which they were taken. Whole files are never deleted; those that do not count are in ``suspect/``.

Convention: a *stop* is a focus position with the frames taken there. When the lens is found not to have moved, the stop
before is refused too: where it stuck on the way there cannot be seen.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Protocol

from dualpix.capture.camera_protocol import Achieved, CameraError, CameraInfo, PlannedFrame, Settled, Shot
from dualpix.capture.errors import OutputError
from dualpix.capture.focus.calibration import LensCalibration
from dualpix.capture.stack.keep.record import STACK, RecordError, StackRecord, built, plain, read_record, write_record
from dualpix.capture.stack.take.checks import Candidate, Examined, Judge, examine, exposure_of, fingerprint
from dualpix.capture.stack.take.earlier import candidate_of, orphan, usual_suffixes
from dualpix.capture.stack.take.frame_files import FrameFiles, file_trouble, size_of, stem_of
from dualpix.capture.stack.take.frame_record import bounded, record_of
from dualpix.capture.stack.take.header import check_same, new_header
from dualpix.capture.stack.take.journal import HEADER, Journal, header_of
from dualpix.capture.stack.take.state import StackState, Taken
from dualpix.capture.stack.take.strip import Strip


class Plan(Protocol):
    """What is wanted, see :class:`dualpix.capture.focus.plan.FocusPlan`."""

    @property
    def frames(self) -> Sequence[PlannedFrame]:
        """By rising diopters, all apertures of a stop together."""
        ...

    def to_json(self) -> dict[str, Any]:
        """As it is recorded."""
        ...


class DistrustError(Exception):
    """What the camera does cannot be trusted before it is connected anew and homed."""


@dataclass
class _Pending:
    """A shot that is being examined."""

    taken: Taken
    examined: Future[Examined]
    adopted: bool = False


class Ledger:
    """The record of one capture. Not safe to share between threads."""

    def __init__(self, folder: Path, journal: Journal, plan: Plan, frame_tries: int) -> None:
        self.folder, self.journal = folder, journal
        self.plan, self.frame_tries = plan, frame_tries
        self.planned = {frame.index: frame for frame in plan.frames}
        self.files = FrameFiles(folder, plan.frames)
        self.state = StackState()
        self.pending: deque[_Pending] = deque()
        self._judge = Judge()
        self._strip = Strip(folder, plan.frames)
        self._worker = ThreadPoolExecutor(1, thread_name_prefix="examine")
        self._stops: list[list[int]] = []
        self._fingerprints: set[str] = set()
        self._doubtful = 0
        self._breathing: dict[str, float] | None = None

    # --- begin ----------------------------------------------------------------------------------------------------

    @property
    def started(self) -> bool:
        """Whether the shutter was ever about to be released; before that, nothing binds."""
        return any(event["event"] == "intent" for event in self.journal.events)

    def begin(
        self,
        info: CameraInfo,
        calibration: LensCalibration | None,
        *,
        resume: bool,
        origin: Mapping[str, Any] | None = None,
    ) -> None:
        """Open the record: a new one, or the one that is there, after looking whether its files still are.

        Raises:
            OutputError: there is one and it is not to be resumed.
            RecordError: it is of another plan, camera or calibration, or damaged.
        """
        events = self.journal.events
        foreign = not events and (self.folder / STACK).exists()
        if not resume and (self.started or foreign):
            raise OutputError(
                f"'{self.folder}' holds a stack already",
                expected="a folder without one",
                hint="go on with --resume, or choose another -o",
            )
        calibration_json = None if calibration is None else plain(calibration.to_json())
        plan_json = plain(self.plan.to_json())
        if not self.started:
            self.journal.clear()
            self.note(HEADER, **new_header(info, calibration_json, plan_json, origin or {}))
            return
        check_same(header_of(events, self.folder), self.folder, info, calibration_json, plan_json)
        self.state.apply_all(events)
        unknown = {*self.state.frames, *self.state.intents, *self.state.shots} - self.planned.keys()
        if unknown:
            raise RecordError(f"the journal of '{self.folder}' has frame {min(unknown)}", expected="frames of its plan")
        self.note("resumed", camera=info)
        with suppress(RecordError):  # what was measured of the lens since then holds
            self._breathing = read_record(self.folder).breathing
        self.files.remove_halves()
        self._remember()
        self._recover()

    def _remember(self) -> None:
        """What earlier runs knew: frames whose files are still whole, and every file ever seen."""
        for digest, index in self.state.seen.items():
            self._judge.remember(digest, index)
        for index, frame in sorted(self.state.frames.items()):
            paths = [self.folder / name for name in frame.files]
            if reason := file_trouble(paths, frame):
                self.refuse("doubted", index, reason, frame.files)
                continue
            self._fingerprints.add(fingerprint(paths[0]))
            self._judge.recall(candidate_of(frame, self.planned[index].exposure))
            self._worker.submit(self._show_again, index, paths[0], suspect=frame.status != "good")

    def _recover(self) -> None:
        """Judge shots whose check was cut short; adopt files whose shot's line was, where they can be proven."""
        usual = usual_suffixes(self.state)
        for index in self.missing:
            taken, adopted = self.state.shots.get(index), False
            if taken is None or any(
                size_of(self.folder / n) != s for n, s in zip(taken.files, taken.bytes, strict=True)
            ):
                taken, adopted = orphan(self.state.intents.get(index), self.files.of(index), usual), True
            if taken is None:
                self.files.clear(index)
            else:
                self._fingerprints.add(fingerprint(self.folder / taken.files[0]))
                self._examine(taken, adopted=adopted)
        with suppress(DistrustError):  # this connection is a new one
            self.harvest(wait=True)

    # --- take -----------------------------------------------------------------------------------------------------

    def note(self, event: str, /, **content: Any) -> None:
        """Write an event down, then let it count.

        Raises:
            OutputError: it cannot be written.
        """
        self.state.apply(self.journal.append(event, **content))

    @property
    def missing(self) -> list[int]:
        """Indices of the frames that do not count yet, in the order of the plan."""
        return [frame.index for frame in self.plan.frames if frame.index not in self.state.frames]

    @property
    def done(self) -> int:
        """Frames that count or are being examined."""
        return len(self.state.frames) + len(self.pending)

    @property
    def largest_bytes(self) -> int | None:
        """Of the files of a frame so far."""
        sizes = [frame.bytes for frame in self.state.frames.values()] + [
            shot.bytes for shot in self.state.shots.values()
        ]
        return max(map(sum, sizes), default=None)

    def new_sweep(self) -> None:
        """The lens was homed."""
        self._stops.clear()
        self._judge.new_sweep()

    def new_stop(self) -> None:
        """The lens has moved on."""
        self._stops.append([])

    def intend(self, frame: PlannedFrame, achieved: Achieved, settled: Settled) -> str:
        """The shutter is about to be released; the stem for the files."""
        stem = stem_of(frame)
        self.files.clear(frame.index)
        self.note(
            "intent", index=frame.index, stem=stem, requested_d=frame.diopters, achieved=achieved, settled=settled,
            exposure=frame.exposure,
        )  # fmt: skip
        return stem

    def arrived(self, index: int, shot: Shot) -> None:
        """The files are in the folder.

        Raises:
            DistrustError: they were seen before.
        """
        files = [path.name for path in shot.files]
        self.note(
            "shot",
            index=index,
            files=files,
            bytes=[path.stat().st_size for path in shot.files],
            exposure=shot.exposure,
            taken_at=shot.taken_at,
            achieved=shot.achieved or self.state.intents[index].achieved,
            details=bounded(shot.details),
        )
        self._stops[-1].append(index)
        mark = fingerprint(shot.files[0])
        if mark in self._fingerprints:
            reason = "the camera sent a frame that it had sent before"
            self.refuse("rejected", index, reason, files)
            self._stop_if_hopeless(index)
            raise DistrustError(reason)
        self._fingerprints.add(mark)
        self._examine(self.state.shots[index])

    def harvest(self, *, wait: bool = False) -> None:
        """Judge the frames that were examined, all of them with ``wait``.

        Raises:
            DistrustError: one of them shows that the camera cannot be trusted; what was taken after it is refused.
            CameraError: a frame was refused too often.
        """
        while self.pending and (wait or self.pending[0].examined.done()):
            pending = self.pending.popleft()
            if reason := self._weigh(pending, pending.examined.result()):
                self._refuse_pending(reason)
                raise DistrustError(reason)

    def doubt_last_stop(self, reason: str) -> None:
        """The lens was found stuck: frames of the last stop do not count."""
        if self._stops:
            self._doubt(self._stops[-1], reason)

    # --- judge ----------------------------------------------------------------------------------------------------

    def _examine(self, taken: Taken, *, adopted: bool = False) -> None:
        paths = [self.folder / name for name in taken.files]
        future = self._worker.submit(self._examine_and_show, taken.intent.index, paths)
        self.pending.append(_Pending(taken, future, adopted))

    def _examine_and_show(self, index: int, paths: Sequence[Path]) -> Examined:
        found = examine(paths)
        self._strip.show(index, found.thumbnail)
        return found

    def _show_again(self, index: int, path: Path, *, suspect: bool) -> None:
        self._strip.show(index, examine([path]).thumbnail, suspect=suspect)

    def _weigh(self, pending: _Pending, found: Examined) -> str | None:
        """Let a frame count, or refuse it; why the camera is not to be trusted any more, if so."""
        taken, index = pending.taken, pending.taken.intent.index
        if pending.adopted:
            taken = replace(taken, reported=exposure_of(found.meta))
        settled = taken.intent.settled.reached
        asked, diopters = taken.intent.asked, taken.achieved.diopters
        verdict = self._judge.judge(Candidate(index, asked, taken.reported, diopters, settled, found))
        if pending.adopted and (verdict.doubts or found.tiles is None):
            verdict = replace(verdict, faults=(*verdict.faults, "its line in the journal was lost", *verdict.doubts))
        reason = "; ".join(verdict.faults or verdict.doubts)
        if verdict.faults or (verdict.doubts and self._worth_another(index)):
            self.refuse("rejected", index, reason, taken.files, found.sha256)
            if verdict.unmoved:
                self._doubt_stop_before(index, reason)
            self._stop_if_hopeless(index)
            return reason if verdict.stale else None
        record = record_of(taken, self.planned[index], found, verdict, self.state.retries[index])
        self.note("frame", index=index, frame=record)
        self._strip.mark(index, suspect=bool(verdict.doubts))
        return None

    def _worth_another(self, index: int) -> bool:
        """Whether a doubtful frame is taken again: once each, and not if many are doubtful."""
        self._doubtful += 1
        return self.state.refused[index] == 0 and self._doubtful <= max(2, len(self.planned) // 4)

    def _stop_if_hopeless(self, index: int) -> None:
        refused = self.state.refused[index]
        if refused >= self.frame_tries:
            diopters = self.planned[index].diopters
            raise CameraError(
                f"frame {index} at {diopters:.3f} D was refused {refused} times: {self.state.reasons[index]}"
            )

    def refuse(self, event: str, index: int, reason: str, files: Sequence[str], sha256: Sequence[str] = ()) -> None:
        """Write down that files do not count, then put them aside."""
        self.note(event, index=index, reason=reason, files=list(files), sha256=list(sha256))
        self._judge.drop(index)
        self._strip.remove(index)
        self.files.put_aside([self.folder / name for name in files])

    def _refuse_pending(self, reason: str) -> None:
        """Shots that the camera took after one that shows that it cannot be trusted."""
        while self.pending:
            pending = self.pending.popleft()
            found, taken = pending.examined.result(), pending.taken
            self.refuse("rejected", taken.intent.index, f"taken after: {reason}", taken.files, found.sha256)

    def _doubt_stop_before(self, index: int, reason: str) -> None:
        place = next((place for place, stop in enumerate(self._stops) if index in stop), 0)
        if place:
            self._doubt(self._stops[place - 1], reason)

    def _doubt(self, indices: Sequence[int], reason: str) -> None:
        for index in indices:
            frame = self.state.frames.get(index)
            if frame is not None:
                self.refuse("doubted", index, f"right after it: {reason}", frame.files, frame.sha256)

    # --- end ------------------------------------------------------------------------------------------------------

    def close(self, *, hurry: bool = False) -> StackRecord:
        """Finish what is being examined; the record as it stands, not yet written.

        Args:
            hurry: thumbnails of frames of earlier runs may be missing in the strip.
        """
        self._worker.shutdown(wait=True, cancel_futures=hurry)
        self._strip.save()
        header = self.journal.events[0]
        return StackRecord(
            session=header["session"],
            created_at=header["created_at"],
            camera=built(CameraInfo, header["camera"], "camera"),
            plan=header["plan"],
            frames=tuple(frame for _, frame in sorted(self.state.frames.items())),
            complete=not self.missing,
            calibration=header["calibration"],
            breathing=self._breathing,
            versions=header["versions"],
        )

    def finish(self, record: StackRecord, ending: Mapping[str, Any]) -> None:
        """Write ``stack.json``, and the last event.

        Raises:
            OutputError: one of them cannot be written; the other one was tried.
        """
        try:
            self.note("stopped" if ending["reason"] else "finished", frames=len(record.frames), **ending)
        finally:
            write_record(self.folder, record)

    def discard(self) -> None:
        """Nothing has happened: leave no journal."""
        with suppress(OSError):
            self.journal.path.unlink()
