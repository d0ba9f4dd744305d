"""What an earlier run of a capture left, as far as it can be proven: shots without their line, frames that count."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path

from dualpix.capture.camera_protocol import Exposure
from dualpix.capture.stack.keep.record import FrameRecord
from dualpix.capture.stack.take.checks import Candidate, Examined
from dualpix.capture.stack.take.journal import iso
from dualpix.capture.stack.take.state import Intent, StackState, Taken

_CLOCK_SLACK_S = 2.0


def usual_suffixes(state: StackState) -> set[tuple[str, ...]]:
    """Of the files of a frame, as they came so far."""
    # of shots as well: a slow check leaves frames without their line when the next shot is taken
    known = [frame.files for frame in state.frames.values()] + [shot.files for shot in state.shots.values()]
    return {tuple(Path(name).suffix for name in files) for files in known}


def orphan(intent: Intent | None, files: Sequence[Path], usual: set[tuple[str, ...]]) -> Taken | None:
    """A shot that arrived after its intent was written, before it could be written that it did.

    Args:
        intent: the last of its frame, if there is one whose shot is not known to have arrived.
        files: that lie where its would.
        usual: see :func:`usual_suffixes`.
    """
    if intent is None or not files or not intent.settled.reached or intent.achieved.source == "camera":
        return None
    begun_s = datetime.fromisoformat(intent.at).timestamp() - _CLOCK_SLACK_S
    states = [path.stat() for path in files]
    foreign = usual and tuple(path.suffix for path in files) not in usual
    if foreign or any(state.st_mtime < begun_s for state in states):
        return None
    return Taken(
        intent,
        tuple(path.name for path in files),
        tuple(state.st_size for state in states),
        Exposure(),
        iso(datetime.fromtimestamp(states[0].st_mtime, UTC)),
        intent.achieved,
        {"adopted": "the file was whole, the line in the journal was lost"},
    )


def candidate_of(frame: FrameRecord, asked: Exposure) -> Candidate:
    """A frame of an earlier run, as the judge knew it."""
    picture, level = frame.details.get("picture_sha256"), frame.details.get("level")
    found = Examined(
        frame.files,
        frame.sha256,
        frame.bytes,
        picture_sha256=picture if isinstance(picture, str) else None,
        level=level if isinstance(level, float) else None,
        tiles=frame.sharpness_tiles,
    )
    reported = Exposure(frame.f_number, frame.exposure_s, frame.iso)
    assert frame.achieved_d is not None  # noqa: S101 - the journal takes no other frames
    return Candidate(frame.index, asked, reported, frame.achieved_d, frame.settled, found)
