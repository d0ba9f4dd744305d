"""What is written down of a frame that counts."""

from __future__ import annotations

import json
from typing import Any

from dualpix.capture.camera_protocol import PlannedFrame
from dualpix.capture.stack.keep.record import FrameRecord, plain
from dualpix.capture.stack.take.checks import Examined, Verdict, exposure_of
from dualpix.capture.stack.take.state import Taken

_MAX_DETAILS = 65536


def record_of(taken: Taken, planned: PlannedFrame, found: Examined, verdict: Verdict, retries: int) -> FrameRecord:
    """A frame that counts, as the record has it.

    Args:
        taken: the shot.
        planned: what was wanted.
        found: in its files.
        verdict: on it.
        retries: attempts that came to nothing before.
    """
    intent = taken.intent
    stated = exposure_of(found.meta)
    f_number, exposure_s, iso = (
        getattr(taken.reported, name) or getattr(stated, name) or getattr(intent.asked, name)
        for name in ("f_number", "exposure_s", "iso")
    )
    return FrameRecord(
        index=intent.index,
        role=planned.role,
        files=found.files,
        sha256=found.sha256,
        bytes=found.bytes,
        requested_d=planned.diopters,
        achieved_d=taken.achieved.diopters,
        uncertainty_d=taken.achieved.uncertainty_d,
        distance_source=taken.achieved.source,
        motor_steps=taken.achieved.motor_steps,
        f_number=f_number,
        exposure_s=exposure_s,
        iso=iso,
        taken_at=taken.taken_at,
        settle_s=round(intent.settled.seconds, 6),
        settle_frames=intent.settled.frames,
        settled=intent.settled.reached,
        sharpness_tiles=found.tiles,
        retries=retries,
        status="suspect" if verdict.doubts else "good",
        notes=(*verdict.doubts, *found.notes),
        focus_distance_lower_m=found.meta.focus_distance_lower_m,
        focus_distance_upper_m=found.meta.focus_distance_upper_m,
        details={
            **taken.details,
            "settle_evidence": intent.settled.evidence,
            "picture_sha256": found.picture_sha256,
            "level": found.level,
        },
    )


def bounded(details: dict[str, Any]) -> dict[str, Any]:
    """What a backend wants kept, as far as it is plain JSON of bearable size."""
    try:
        text = json.dumps(plain(details), allow_nan=False)
    except (TypeError, ValueError):
        return {"dropped": "details that are no plain data"}
    return dict(json.loads(text)) if len(text) <= _MAX_DETAILS else {"dropped": f"{len(text)} characters of details"}
