"""What the host and the companion app on the phone write for each other. Version 1.

Convention: everything happens through files in ``FILES/SESSION/`` on the phone, JSON in UTF-8, with the names and forms
below (schema: ``android.schema.json``). Focus is ``diopters`` as in ``LENS_FOCUS_DISTANCE``: 1/m from the lens, 0 at
infinity, and without a unit where the phone calls itself ``UNCALIBRATED``. Times of exposure are integer nanoseconds,
as in Camera2; times of waiting integer milliseconds.

=================  =======================  =================================================================
file               written by               what it says
=================  =======================  =================================================================
``plan.json``      host, before the start   :class:`Plan`: the frames that are wanted, in order
``control.json``   host, while it runs      :class:`Control`: stop, or take one frame again
``journal.jsonl``  app, appended, synced    :class:`Hello` once, then :class:`FrameStart`, :class:`FrameDone`,
                                            :class:`Failure`, at last :class:`End`; one object a line
``frame_000.dng``  app                      a frame; ``frame_000_r1.dng`` when it was taken again
``stack.json``     app, at the end          :class:`PhoneStack`: who, and the frames that count
=================  =======================  =================================================================

A session goes like this:

1. The host writes ``plan.json`` and starts the app's activity with the name of the session. A plan without frames asks
   who is there: the app writes ``hello`` and ``end``.
2. The app says ``hello`` and takes the frames in their order without waiting for the host. It moves the lens, and takes
   the frame once ``settle.stationary_results`` capture results in a row say ``LENS_STATE_STATIONARY`` at less than
   ``tolerance_d`` from where it should be. After ``settle.timeout_ms``, or ``settle.stuck_results`` in a row that are
   stationary elsewhere, it sends the lens again, ``settle.retries`` times. Exposure and sensitivity that are null are
   metered once, before the first frame, and kept.
3. A file is whole, and its digest known, before the ``done`` line that names it is written. A file that was named is
   never written again.
4. After a failure of a frame, and after the last frame, the app waits ``linger_ms`` for a control, then ends.
5. A control counts if its ``sequence`` is higher than any before. ``retry`` takes the frame again as the next attempt,
   and goes on with those that have none. ``stop`` ends.
6. Starting the activity with another session ends the one before.

Either side replaces a file by writing ``NAME.part`` and renaming it. Readers ignore keys they do not know, and the text
after the last line break of a journal, which is still being written.
"""

from __future__ import annotations

import math
from pathlib import Path

from dualpix.capture.camera_protocol import CameraError
from dualpix.capture.cameras.android.messages import (
    ACTIVITY,
    CONTROL,
    FILES,
    JOURNAL,
    MAX_FRAME_BYTES,
    MAX_FRAMES,
    MAX_JOURNAL_BYTES,
    MAX_LINE_BYTES,
    PACKAGE,
    PLAN,
    SESSION_EXTRA,
    STACK,
    VERSION,
    Command,
    Control,
    Device,
    End,
    EndReason,
    Failure,
    FailureKind,
    FrameDone,
    FrameStart,
    Hello,
    JournalLine,
    LensState,
    PhoneCamera,
    PhoneStack,
    Plan,
    PlanFrame,
    ProtocolError,
    Quality,
    SettleRule,
    check_session,
    frame_file,
    line_json,
    line_text,
    session_folder,
)
from dualpix.capture.cameras.android.reading import parse_control, parse_line, parse_plan, parse_stack

__all__ = [
    "ACTIVITY",
    "CONTROL",
    "FILES",
    "JOURNAL",
    "MAX_FRAMES",
    "MAX_FRAME_BYTES",
    "MAX_JOURNAL_BYTES",
    "MAX_LINE_BYTES",
    "PACKAGE",
    "PLAN",
    "SCHEMA",
    "SESSION_EXTRA",
    "STACK",
    "VERSION",
    "Command",
    "Control",
    "Device",
    "End",
    "EndReason",
    "Failure",
    "FailureKind",
    "FrameDone",
    "FrameStart",
    "Hello",
    "JournalLine",
    "LensState",
    "PhoneCamera",
    "PhoneStack",
    "Plan",
    "PlanFrame",
    "ProtocolError",
    "Quality",
    "SettleRule",
    "check_session",
    "frame_file",
    "line_json",
    "line_text",
    "parse_control",
    "parse_line",
    "parse_plan",
    "parse_stack",
    "session_folder",
    "uncertainty_d",
]
SCHEMA = Path(__file__).with_name("android.schema.json")


def uncertainty_d(quality: Quality, diopters: float) -> float:
    """Standard deviation of a reported focus, by what the phone says of its own calibration.

    Camera2 puts no figure on the words: ``CALIBRATED`` promises the real distance "with good accuracy", ``APPROXIMATE``
    diopters that depend on how the phone is held, its age and its temperature. The figures are assumptions, a constant
    and a relative part, to be replaced by a calibration of the phone at hand.

    Raises:
        CameraError: an uncalibrated phone reports no distance.
    """
    parts = {"CALIBRATED": (0.02, 0.01), "APPROXIMATE": (0.10, 0.05)}
    if quality not in parts:
        raise CameraError(
            "this phone reports its focus without a unit (UNCALIBRATED)",
            hint="calibrate its lens and give the calibration",
        )
    constant, relative = parts[quality]
    return math.hypot(constant, relative * diopters)
