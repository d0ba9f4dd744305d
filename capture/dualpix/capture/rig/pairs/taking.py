"""Both phones at once: every pair with the skew of its releases.

Convention: see :mod:`.clock`; ``skew_s`` is the middle of b's exposure minus that of a's. What was taken too far apart
is taken again, and kept in ``again/``.
"""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from threading import Barrier
from typing import Any, TypeVar

from dualpix.capture.camera_protocol import CameraError, Exposure, PlannedFrame, Shot
from dualpix.capture.cameras import android
from dualpix.capture.cameras.android.device import AdbServer
from dualpix.capture.errors import DualpixError
from dualpix.capture.files import make_output_dir, write_json
from dualpix.capture.rig.pairs.clock import ClockOffset, clock_offset
from dualpix.capture.rig.pairs.session import SESSION_FILE, SIDES, Skew, session_json

_FOREIGN_CLOCK_S = 30.0
_AGAIN = "again"
T = TypeVar("T")


@dataclass(frozen=True)
class Taken:
    """A pair on this machine."""

    name: str
    skew: Skew | None
    """None where the phones' timestamps are of a clock that cannot be read."""
    shots: tuple[Shot, Shot]


class Taker:
    """``with Taker(...) as taker: taker.take("pair000")``: two phones on one holder."""

    def __init__(self, serials: tuple[str, str], exposure: Exposure, diopters: float, port: str | None = None) -> None:
        if serials[0] == serials[1]:
            raise DualpixError(f"'{serials[0]}' twice", expected="the serials of two phones", hint="see 'adb devices'")
        self._exposure, self._frame = exposure, PlannedFrame(0, diopters, exposure)
        self._pool = ThreadPoolExecutor(2)
        options = {} if port is None else {"port": port}
        server = AdbServer(port)
        self._phones = [server.open(serial) for serial in serials]
        self._cameras = self._both(lambda n: android.open_camera(serials[n], None, options))
        self.offsets: list[ClockOffset] = []

    def __enter__(self) -> Taker:
        self.offsets = self._both(lambda n: clock_offset(lambda: self._phones[n].run("cat", "/proc/uptime")))
        self._both(lambda n: self._cameras[n].prepare([self._frame]))
        return self

    def __exit__(self, *reason: object) -> None:
        try:
            self._both(lambda n: self._cameras[n].leave())
        finally:
            self._pool.shutdown()

    def about(self, side: int) -> dict[str, Any]:
        """Who a phone is, for the record."""
        info = self._cameras[side].info
        offset = self.offsets[side]
        return {
            "serial": info.serial,
            "model": info.model,
            "lens": info.lens,
            "clock_offset_s": offset.seconds,
            "clock_uncertainty_s": offset.uncertainty_s,
        }

    def take(self, folder: Path, name: str, max_skew_s: float, tries: int) -> Taken:
        """Release both, fetch both; again while they are too far apart, and tries are left.

        Raises:
            CameraError: a phone did not take it.
        """
        for attempt in range(tries):
            last = attempt + 1 == tries
            taken = self._release(folder, name)
            if taken.skew is None or abs(taken.skew.seconds) <= max_skew_s or last:
                return taken
            for side, shot in zip(SIDES, taken.shots, strict=True):
                kept = make_output_dir(folder / _AGAIN / side)
                for file in shot.files:
                    file.replace(kept / f"{file.stem}_{attempt}{file.suffix}")
        raise AssertionError("tries is at least 1")

    def _release(self, folder: Path, name: str) -> Taken:
        barrier = Barrier(2, timeout=60)

        def one(side: int) -> Shot:
            camera = self._cameras[side]
            camera.go_to(self._frame.diopters)
            barrier.wait()
            return camera.shoot(make_output_dir(folder / SIDES[side]), name, self._exposure)

        shots = self._both(one)
        return Taken(name, self._skew(shots[0], shots[1]), (shots[0], shots[1]))

    def _skew(self, a: Shot, b: Shot) -> Skew | None:
        times = [
            shot.details["sensor_timestamp_ns"] / 1e9 - offset.seconds + (shot.exposure.exposure_s or 0.0) / 2
            for shot, offset in zip((a, b), self.offsets, strict=True)
        ]
        skew = times[1] - times[0]
        if abs(skew) > _FOREIGN_CLOCK_S:
            return None
        return Skew(skew, sum(offset.uncertainty_s for offset in self.offsets))

    def _both(self, work: Callable[[int], T]) -> list[T]:
        """On both phones at once; the first error of either, once both are done."""
        futures = [self._pool.submit(work, side) for side in (0, 1)]
        errors = [error for error in (future.exception() for future in futures) if error is not None]
        own = [error for error in errors if isinstance(error, CameraError)]
        if errors:
            raise (own or errors)[0]
        return [future.result() for future in futures]


def write_session(folder: Path, taker: Taker, taken: list[Taken]) -> None:
    """``session.json``, after every pair: nothing that was measured is lost."""
    skews = {one.name: one.skew for one in taken}
    write_json(folder / SESSION_FILE, session_json(taker.about(0), taker.about(1), skews))
