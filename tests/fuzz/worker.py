"""Processes that try inputs, and that may die of them.

A child tries one case at a time under a limit of memory and reports; its parent sees to the time, starts it again when
it dies, and knows which input it was.
"""

from __future__ import annotations

import faulthandler
import importlib
import multiprocessing
import os
import resource
import shutil
import tempfile
import time
from contextlib import suppress
from dataclasses import dataclass
from multiprocessing.connection import Connection
from pathlib import Path

from tests.fuzz.case import Case
from tests.fuzz.check import Outcome

MAX_SECONDS = 10.0
MAX_BYTES = 2 << 30
CHECK = "tests.fuzz.check:check"
GRACE_SECONDS = 5.0  # for the imports of a fresh child
_WALL_FACTOR = 6  # a busy machine gives a process a part of its time: processor time decides, up to this
_FAULTS, _TEMPORARY = "faults.txt", "temporary"


@dataclass(frozen=True)
class Tried:
    """An outcome with what it took."""

    outcome: Outcome
    cpu_s: float
    peak_bytes: int
    """Resident memory beyond that of an idle child."""


def _serve(connection: Connection, folder: Path, check_name: str) -> None:
    """Try cases as they come; None ends it."""
    import cv2

    module, _, function = check_name.partition(":")
    check = getattr(importlib.import_module(module), function)
    (folder / _TEMPORARY).mkdir(exist_ok=True)
    tempfile.tempdir = str(folder / _TEMPORARY)
    with (folder / _FAULTS).open("w") as faults:
        faulthandler.enable(faults)
        cv2.setNumThreads(1)
        idle = _status_bytes("VmRSS")
        limit = _status_bytes("VmData") + MAX_BYTES
        resource.setrlimit(resource.RLIMIT_DATA, (limit, limit))
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
        while (case := connection.recv()) is not None:
            place = folder / "case"
            place.mkdir()
            case.write(place)
            _reset_peak()
            started = time.process_time()
            outcome = check(case, place)
            cpu_s = time.process_time() - started
            connection.send(Tried(_judged(outcome, cpu_s), cpu_s, max(_status_bytes("VmHWM") - idle, 0)))
            shutil.rmtree(place)


def _judged(outcome: Outcome, cpu_s: float) -> Outcome:
    return Outcome("hung", f"{cpu_s:.1f} s of processor time") if cpu_s > MAX_SECONDS else outcome


def _status_bytes(name: str, pid: int | str = "self") -> int:
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith(f"{name}:"):
            return int(line.split()[1]) << 10
    return 0


def _reset_peak() -> None:
    Path("/proc/self/clear_refs").write_text("5")


class Worker:
    """A child and its connection; started again whenever it was lost."""

    def __init__(self, check: str = CHECK) -> None:
        """``check``: "module:function" of what a child does with a case, see :func:`tests.fuzz.check.check`."""
        self._check = check
        self.folder = Path(tempfile.mkdtemp(prefix="fuzz-"))
        self.case: Case | None = None
        self._start()

    def _start(self) -> None:
        shutil.rmtree(self.folder / "case", ignore_errors=True)
        context = multiprocessing.get_context("spawn")
        self.connection, theirs = context.Pipe()
        self.process = context.Process(target=_serve, args=(theirs, self.folder, self._check), daemon=True)
        self.process.start()
        theirs.close()
        self.since = time.monotonic()

    def submit(self, case: Case) -> None:
        """Start on a case; ask :meth:`poll` for the result."""
        self.case, self.since = case, time.monotonic()
        self._cpu_before = _cpu_s(self.process.pid)
        with suppress(OSError):  # died between two cases: poll tells
            self.connection.send(case)

    def poll(self) -> Tried | None:
        """The result of the case, or None while it runs. A child that died or takes too long is replaced."""
        if self.connection.poll():
            try:
                tried: Tried = self.connection.recv()
            except (EOFError, OSError):
                return self._lost("died")
            self.case = None
            return tried
        if not self.process.is_alive():
            return self._lost("died")
        waited = time.monotonic() - self.since
        used = _cpu_s(self.process.pid) - self._cpu_before if waited > MAX_SECONDS else 0.0
        if used > MAX_SECONDS + GRACE_SECONDS or waited > MAX_SECONDS * _WALL_FACTOR + GRACE_SECONDS:
            return self._lost("hung")
        return None

    def try_one(self, case: Case) -> Tried:
        """Submit and wait."""
        self.submit(case)
        while (tried := self.poll()) is None:
            self.connection.poll(0.2)
        return tried

    def close(self) -> None:
        """End the child."""
        with suppress(OSError):
            self.connection.send(None)
        self.process.join(2)
        if self.process.is_alive():
            self.process.kill()
            self.process.join()
        shutil.rmtree(self.folder, ignore_errors=True)

    def _lost(self, result: str) -> Tried:
        seconds = time.monotonic() - self.since
        self.process.kill()
        self.process.join()
        faults = (self.folder / _FAULTS).read_text(errors="replace") if (self.folder / _FAULTS).exists() else ""
        first = next((line for line in faults.splitlines() if line), f"exit {self.process.exitcode}")
        self.connection.close()
        self._start()
        self.case = None
        return Tried(Outcome(result, first, faults), seconds, 0)


def _cpu_s(pid: int | None) -> float:
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return 0.0
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")
