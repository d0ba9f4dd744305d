"""What the test servers have in common as processes: their arguments, the line that announces them, their end.

Convention: a server prints one JSON object, ``{"port": ..., "pid": ...}``, on standard output once it listens, and
ends when its standard input does, so that it never outlives who started it. A line on standard input is a JSON list of
faults that replaces those it has; calls are counted anew from there, and the number of faults comes back as a line.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import threading
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Self

from dualpix.capture.cameras.hidden.camera import HiddenCamera
from dualpix.capture.cameras.hidden.faults import Fault, FaultPlan

_START_LIMIT_S = 60.0
_END_LIMIT_S = 10.0


@dataclass(frozen=True)
class ServerOptions:
    """How a server was called."""

    port: int
    seed: int
    faults: FaultPlan
    state: Path | None

    def camera(self) -> HiddenCamera:
        """The lens, scene and shutter of this seed."""
        return HiddenCamera.from_seed(self.seed, state=self.state)


def parser_for(description: str) -> argparse.ArgumentParser:
    """The arguments that all servers take; a server may add its own."""
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument("--port", type=int, default=0, help="on 127.0.0.1; 0: any free one")
    parser.add_argument("--seed", type=int, default=0, help="of the lens and the scene")
    parser.add_argument("--faults", type=Path, help="JSON list of faults")
    parser.add_argument("--state", type=Path, help="the hidden truth is appended to this file, one JSON object a shot")
    return parser


def options_from(arguments: argparse.Namespace) -> ServerOptions:
    """What :func:`parser_for` has parsed.

    Raises:
        DualpixError: the faults cannot be read.
    """
    return ServerOptions(arguments.port, arguments.seed, FaultPlan.read(arguments.faults), arguments.state)


def announce(port: int, **more: object) -> None:
    """Tell on standard output where the server listens."""
    print(json.dumps({"port": port, "pid": os.getpid(), **more}), flush=True)


def wait_for_end(faults: FaultPlan | None = None) -> None:
    """Return when whoever started this process has closed its standard input, or is gone; take new faults meanwhile."""
    for line in sys.stdin:
        if faults is not None:
            faults.replace(Fault(**row) for row in json.loads(line))
            print(len(faults.faults), flush=True)


class ServerProcess:
    """``with ServerProcess("dualpix.capture.cameras.testing.eos", "--seed", "3") as server: server.port``."""

    def __init__(self, module: str, *arguments: str) -> None:
        self._command: Sequence[str] = (sys.executable, "-m", module, *arguments)
        self.port = 0
        self.said: dict[str, object] = {}
        """The whole line it announced itself with."""

    def __enter__(self) -> Self:
        self._process = subprocess.Popen(self._command, stdin=subprocess.PIPE, stdout=subprocess.PIPE)  # noqa: S603
        late = threading.Timer(_START_LIMIT_S, self._process.kill)
        late.start()
        try:
            line = self._process.stdout.readline() if self._process.stdout else b""
        finally:
            late.cancel()
        if not line:
            self._end()
            raise RuntimeError(f"{' '.join(self._command)} ended with {self._process.returncode} before it listened")
        self.said = json.loads(line)
        self.port = int(str(self.said["port"]))
        return self

    def set_faults(self, *faults: Fault) -> None:
        """Replace the faults of the running server, and count calls anew; only of servers that take them."""
        assert self._process.stdin and self._process.stdout  # noqa: S101 - opened as pipes
        self._process.stdin.write(json.dumps(FaultPlan(faults).to_json()).encode() + b"\n")
        self._process.stdin.flush()
        if not self._process.stdout.readline():
            raise RuntimeError(f"{' '.join(self._command)} has ended")

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._end()

    def _end(self) -> None:
        for pipe in (self._process.stdin, self._process.stdout):
            if pipe:
                pipe.close()
        self._process.terminate()
        try:
            self._process.wait(_END_LIMIT_S)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
