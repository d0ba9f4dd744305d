"""By how much the clocks of two phones differ, from what adb can ask.

Convention: seconds since boot, sleep included, as ``SENSOR_TIMESTAMP`` counts them where the phone says
``TIMESTAMP_SOURCE_REALTIME``, and ``/proc/uptime`` to the hundredth (cut off, not rounded). A question that left at
``t0`` and was answered at ``t1`` with ``u`` bounds ``phone - host`` to [u - t1, u + 0.01 - t0]; many of them bound it
to what they share, without a guess of how long the way there took.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass

from dualpix.capture.camera_protocol import CameraError

_QUESTIONS = 24
_STEP_S = 0.0037
"""Between questions: against the hundredths, so that they fall all over one."""
_TICK_S = 0.01


@dataclass(frozen=True)
class ClockOffset:
    """Clock of a phone minus that of this machine."""

    seconds: float
    uncertainty_s: float
    """Half the interval it lies in."""


def clock_offset(ask: Callable[[], str], *, questions: int = _QUESTIONS) -> ClockOffset:
    """From ``cat /proc/uptime`` on the phone.

    Raises:
        CameraError: the answers are no uptime, or contradict each other: the phone's clock jumped.
    """
    low, high = -float("inf"), float("inf")
    for _ in range(questions):
        before = time.monotonic()
        said = ask()
        after = time.monotonic()
        up = _uptime_s(said)
        low, high = max(low, up - after), min(high, up + _TICK_S - before)
        time.sleep(_STEP_S)
    if low > high:
        raise CameraError("the phone's clock jumped while it was being read", hint="try again")
    return ClockOffset((low + high) / 2, (high - low) / 2)


def _uptime_s(said: str) -> float:
    try:
        return float(said.split()[0])
    except (IndexError, ValueError) as error:
        raise CameraError(
            f"/proc/uptime of the phone says '{said[:40]}'", expected="seconds since its start"
        ) from error
