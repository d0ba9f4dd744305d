"""Cases that do to their process what a bad input might: they try whether that is found out."""

from __future__ import annotations

import os
import signal
from pathlib import Path
from typing import Any

from tests.fuzz.case import Case


class Trap(Case):
    """By its kind: "kill" ends the process by a fault, "spin" never returns, "eat" wants memory."""

    def arguments(self, folder: Path) -> dict[str, Any]:
        """Misbehave."""
        if self.kind == "kill":
            os.kill(os.getpid(), signal.SIGSEGV)
        while self.kind == "spin":
            pass
        return {"right": folder / str(len(bytearray(3 << 30)))}


def trap(kind: str) -> Trap:
    """A trap without files."""
    return Trap(kind, "a.dng", {})
