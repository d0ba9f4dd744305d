"""Shell and files of a phone, which lie in a temporary folder: no path leaves it."""

from __future__ import annotations

import posixpath
import shlex
import shutil
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from dualpix.capture.cameras.android import protocol
from dualpix.capture.cameras.hidden.faults import FaultPlan, Kind, Operation
from dualpix.capture.cameras.testing.companion import Companion, PhoneOptics

_EXIT_CODE = "; echo X4EXIT:$?"  # how adbutils asks for it where there is no shell_v2


class Broken(Exception):  # noqa: N818 - a fault, not an error
    """The connection is to break now."""


class VirtualPhone:
    """Shell and files of a phone."""

    def __init__(
        self,
        root: Path,
        optics: PhoneOptics,
        faults: FaultPlan,
        *,
        app: bool = True,
        permission: bool = True,
        booted_before_s: float = 0.0,
    ):
        self.root, self.faults = root, faults
        self.app, self.permission = app, permission
        self.battery_percent, self.thermal_status, self.free_kib = 87, 0, 4_000_000
        self.refuse_connections = 0
        self.breaks: list[Callable[[], None]] = []
        """Cut the connections there are."""
        files = self.local(protocol.FILES)
        files.mkdir(parents=True)
        self.booted_before_s = booted_before_s
        """By how much longer the phone has been running than this machine."""
        self.companion = Companion(files, optics, faults, self.break_by, booted_before_s)

    def local(self, path: str) -> Path:
        """Where a file of the phone really lies.

        Raises:
            FileNotFoundError: the path would leave the phone.
        """
        clean = posixpath.normpath(path)
        if not clean.startswith("/") or ".." in clean.split("/"):
            raise FileNotFoundError(path)
        return self.root / clean.lstrip("/")

    def strike(self, operation: Operation) -> Kind | None:
        """The fault of this call, after those that break the connection have done so."""
        kind = self.faults.at(operation)
        if kind in ("busy", "drop_connection", "lost"):
            if kind != "busy":
                self.break_by(kind)
            raise Broken
        return kind

    def break_by(self, kind: Kind) -> None:
        """Cut all connections; a phone that is lost has ended the app, and refuses the next connection."""
        if kind == "lost":
            self.companion.kill()
            self.companion.optics.camera.fall_asleep()
            self.refuse_connections = 1
        for cut in list(self.breaks):
            cut()

    def shell(self, line: str) -> bytes:
        """Run a command line.

        Raises:
            Broken: by a fault.
        """
        asks_code = line.endswith(_EXIT_CODE)
        words = [word for word in shlex.split(line.removesuffix(_EXIT_CODE)) if word != "2>/dev/null"]
        output, code = self._command(words)
        return output + (f"X4EXIT:{code}\n".encode() if asks_code else b"")

    def _command(self, words: Sequence[str]) -> tuple[bytes, int]:
        commands: Mapping[str, Callable[[Sequence[str]], bytes]] = {
            "am": self._am, "cat": self._cat, "df": self._df, "dumpsys": self._dumpsys, "echo": self._echo,
            "getprop": self._getprop, "input": self._nothing, "ls": self._ls, "mv": self._mv, "pm": self._pm,
            "rm": self._rm, "tail": self._tail, "wm": self._nothing,
        }  # fmt: skip
        if not words or words[0] not in commands:
            return f"/system/bin/sh: {words[0] if words else ''}: inaccessible or not found\n".encode(), 127
        if words[0] in ("dumpsys", "df", "getprop", "pm"):
            self.strike("status")
        try:
            return commands[words[0]](words[1:]), 0
        except (OSError, ValueError, IndexError) as error:
            return f"{words[0]}: {error}\n".encode() if words[0] != "tail" else b"", 1

    def _am(self, words: Sequence[str]) -> bytes:
        if words[0] != "start" or words[words.index("-n") + 1] != protocol.ACTIVITY or not self.app:
            return b"Error type 3\nError: Activity class does not exist.\n"
        key, session = words[words.index("--es") + 1 :][:2]
        if key != protocol.SESSION_EXTRA:
            return b"Error: no session\n"
        self.companion.start(session)
        return f"Starting: Intent {{ cmp={protocol.ACTIVITY} }}\nStatus: ok\nLaunchState: COLD\nComplete\n".encode()

    def _pm(self, words: Sequence[str]) -> bytes:
        there = self.app and list(words) == ["path", protocol.PACKAGE]
        return f"package:/data/app/{protocol.PACKAGE}/base.apk\n".encode() if there else b""

    def _dumpsys(self, words: Sequence[str]) -> bytes:
        granted = str(self.permission).lower()
        texts = {
            "battery": f"Current Battery Service state:\n  level: {self.battery_percent}\n  scale: 100\n",
            "thermalservice": f"IsStatusOverride: false\nThermal Status: {self.thermal_status}\n",
            "package": f"  runtime permissions:\n    android.permission.CAMERA: granted={granted}, flags=[]\n",
        }
        return texts[words[0]].encode()

    def _df(self, words: Sequence[str]) -> bytes:
        return (
            f"Filesystem 1K-blocks Used Available Use% Mounted on\n/dev/fuse 9 9 {self.free_kib} 9% /sdcard\n".encode()
        )

    def _getprop(self, words: Sequence[str]) -> bytes:
        return {"ro.product.model": b"Double\n"}.get(words[0], b"\n")

    def _echo(self, words: Sequence[str]) -> bytes:
        return " ".join(words).encode() + b"\n"

    def _nothing(self, words: Sequence[str]) -> bytes:
        return b""

    def _ls(self, words: Sequence[str]) -> bytes:
        return b"".join(f"{entry.name}\n".encode() for entry in sorted(self.local(words[-1]).iterdir()))

    def _cat(self, words: Sequence[str]) -> bytes:
        if words[-1] == "/proc/uptime":
            hundredths = int(100 * (time.monotonic() + self.booted_before_s))  # cut off, as Linux does
            return f"{hundredths // 100}.{hundredths % 100:02} 0.00\n".encode()
        return self.local(words[-1]).read_bytes()

    def _mv(self, words: Sequence[str]) -> bytes:
        self.local(words[-2]).replace(self.local(words[-1]))
        return b""

    def _rm(self, words: Sequence[str]) -> bytes:
        for word in words:
            if word == "-rf":
                continue
            path = self.local(word) if not word.startswith("-") else None
            if path is not None and path.is_dir():
                shutil.rmtree(path)
            elif path is not None:
                path.unlink(missing_ok=True)
        return b""

    def _tail(self, words: Sequence[str]) -> bytes:
        self.strike("poll")
        first = int(words[words.index("-c") + 1])
        with self.local(words[-1]).open("rb") as file:
            file.seek(first - 1)
            return file.read()
