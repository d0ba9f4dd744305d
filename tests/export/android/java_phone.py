"""A phone whose app is the app: the core's Java code in a JVM behind the real adb client.

Convention: :class:`~dualpix.capture.cameras.testing.phone.VirtualPhone` is the phone's end of adb, its folder is the
one that the JVM has as the app's. ``am start`` becomes a line on the JVM's input, as an intent becomes a call of the
activity; the camera's frames are pictures that were made before, and the network is played by a script.
"""

from __future__ import annotations

import hashlib
import json
import subprocess
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from tests.android_demo.conftest import Classes

from dualpix.capture.cameras.android import protocol as capture_protocol
from dualpix.capture.cameras.hidden.body import Body
from dualpix.capture.cameras.hidden.faults import Fault, FaultPlan, Kind
from dualpix.capture.cameras.testing import adbd
from dualpix.capture.cameras.testing.adbd import AdbdServer, serving
from dualpix.capture.cameras.testing.companion import PhoneOptics
from dualpix.capture.cameras.testing.phone import VirtualPhone
from dualpix.export.android import protocol

SMALL = Body(size_hw=(32, 48))
F_NUMBER, EXPOSURE_S, ISO = 2.8, 1 / 120, 100
STOPS_D = tuple(round(0.1 * k, 1) for k in range(1, 21))
_END_S = 10.0


class JavaApp:
    """The app's core as a process; stands where the phone expects its app."""

    def __init__(self, classes: Classes, files: Path, scripts: Path, optics: PhoneOptics) -> None:
        self.files, self.scripts, self.optics = files, scripts, optics
        self._classes = classes
        self._process: subprocess.Popen[str] | None = None
        self._lock = threading.Lock()

    @property
    def running(self) -> bool:
        """Whether the process lives."""
        return self._process is not None and self._process.poll() is None

    def start(self, session: str) -> None:
        """A capture; what the phone's own ``am start`` calls."""
        self.command("capture", session)

    def command(self, what: str, name: str) -> None:
        """An intent for one of the activities; the process is started with the first."""
        with self._lock:
            if not self.running:
                self._launch()
            assert self._process and self._process.stdin and self._process.stdout
            self._process.stdin.write(f"{what} {name}\n")
            self._process.stdin.flush()
            self._process.stdout.readline()

    def kill(self) -> None:
        """As when Android ends a process."""
        process, self._process = self._process, None
        if process is not None:
            process.kill()
            process.wait(_END_S)
            for pipe in (process.stdin, process.stdout):
                if pipe:
                    pipe.close()

    def _launch(self) -> None:
        options = {"root": self.files, "camera": self.scripts / "camera.json", "frames": self.scripts / "frames",
                   "state": self.scripts / "state.jsonl", "engine": self.scripts / "engine.json"}  # fmt: skip
        words = [word for key, path in options.items() for word in (f"--{key}", str(path))]
        command = self._classes.java("org.dualpix.demo.desktop.Main", *words, "serve")
        self._process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        assert self._process.stdout
        assert json.loads(self._process.stdout.readline()) == {"ready": True}


class JavaPhone(VirtualPhone):
    """A phone with that app, and what the host asks of one beside the camera's questions."""

    def __init__(self, root: Path, scripts: Path, classes: Classes, faults: Sequence[Fault] = ()) -> None:
        super().__init__(root, PhoneOptics(3, "CALIBRATED", body=SMALL), FaultPlan(faults))
        self.java = JavaApp(classes, self.local(capture_protocol.FILES), scripts, self.companion.optics)
        self.companion = self.java  # type: ignore[assignment]
        self.abis = "arm64-v8a,armeabi-v7a"
        self.cpu_features: str | None = "fp asimd evtstrm aes crc32 atomics fphp asimdhp cpuid asimdrdm asimddp"
        """Of ``/proc/cpuinfo``, here of a Cortex-A76; ``None`` where the shell must not see it."""
        self.installed: list[str] = []
        self.refuses_apk = ""
        self.on_bench: Callable[[], None] | None = None
        """Instead of starting the benchmark."""
        self.spoil: Callable[[bytes], bytes] | None = None
        """What becomes of a result on its way."""
        self.corrupt_model = False
        self.cut_after_bytes: int | None = None
        """Of a file that is being sent, then the cable is out."""

    def _command(self, words: Sequence[str]) -> tuple[bytes, int]:
        more = {"sha256sum": self._sha256sum, "pidof": self._pidof}
        if words and words[0] in more:
            return more[words[0]](words[1:]), 0
        return super()._command(words)

    def _cat(self, words: Sequence[str]) -> bytes:
        if words[-1] != "/proc/cpuinfo":
            return super()._cat(words)
        if self.cpu_features is None:
            raise PermissionError("/proc/cpuinfo: Permission denied")
        return f"processor\t: 0\nBogoMIPS\t: 38.40\nFeatures\t: {self.cpu_features}\n\n".encode()

    def _am(self, words: Sequence[str]) -> bytes:
        if words[0] == "force-stop":
            self.java.kill()
            return b""
        if words[0] == "start" and words[words.index("-n") + 1] == protocol.ACTIVITY and self.app:
            key, run = words[words.index("--es") + 1 :][:2]
            assert key == protocol.RUN_EXTRA
            (self.on_bench or (lambda: self.java.command("bench", run)))()
            return b"Status: ok\nComplete\n"
        return super()._am(words)

    def _pm(self, words: Sequence[str]) -> bytes:
        if words[0] == "install":
            if self.refuses_apk:
                return f"Failure [{self.refuses_apk}]\n".encode()
            self.installed.append(hashlib.sha256(self.local(words[-1]).read_bytes()).hexdigest())
            self.app = True
            return b"Success\n"
        return super()._pm(words)

    def _getprop(self, words: Sequence[str]) -> bytes:
        if words[0] == "ro.product.cpu.abilist":
            return f"{self.abis}\n".encode()
        return super()._getprop(words)

    def _sha256sum(self, words: Sequence[str]) -> bytes:
        lines = []
        for word in words:
            path = self.local(word)
            if self.corrupt_model and path.name == protocol.MODEL:
                path.write_bytes(path.read_bytes()[:-1] + b"?")
            if path.is_file():
                lines.append(f"{hashlib.sha256(path.read_bytes()).hexdigest()}  {word}\n")
            else:
                lines.append(f"sha256sum: {word}: No such file or directory\n")
        return "".join(lines).encode()

    def _pidof(self, words: Sequence[str]) -> bytes:
        return b"4711\n" if self.java.running else b""

    def _tail(self, words: Sequence[str]) -> bytes:
        content = super()._tail(words)
        return self.spoil(content) if self.spoil and words[-1].endswith(protocol.RESULT) else content

    def break_by(self, kind: Kind) -> None:
        """Cut all connections."""
        if kind == "lost":
            self.java.kill()
            self.refuse_connections = 1
        for cut in list(self.breaks):
            cut()


class _CutConnection(adbd._Connection):
    """Breaks in the middle of what is sent to the phone."""

    def receive(self, size: int) -> bytes:
        phone = self.phone
        if isinstance(phone, JavaPhone) and phone.cut_after_bytes is not None and size > 24:
            phone.cut_after_bytes -= size
            if phone.cut_after_bytes < 0:
                phone.cut_after_bytes = None
                phone.break_by("drop_connection")
                raise EOFError
        return super().receive(size)


@contextmanager
def java_phone(folder: Path, classes: Classes, *faults: Fault) -> Iterator[tuple[JavaPhone, AdbdServer]]:
    """The phone and its server, with frames and scripts in ``folder``; the app is ended with the block."""
    scripts = folder / "scripts"
    write_camera(scripts)
    write_engine(scripts, np.zeros(1, np.float32))
    phone = JavaPhone(folder / "phone", scripts, classes, faults)
    with serving(phone) as server:
        server.RequestHandlerClass = _CutConnection
        try:
            yield phone, server
        finally:
            phone.java.kill()


def write_camera(scripts: Path, faults: Sequence[dict[str, Any]] = ()) -> None:
    """The camera's script, and its frames: pictures of a hidden camera at known stops."""
    frames = scripts / "frames"
    if not frames.is_dir():
        frames.mkdir(parents=True)
        optics = PhoneOptics(3, "CALIBRATED", body=SMALL)
        for stop in STOPS_D:
            optics.send(stop)
            while optics.camera.lens.moving:
                time.sleep(0.001)
            picture = optics.camera.release(F_NUMBER, EXPOSURE_S, ISO, f"{stop}.dng").raw
            (frames / f"{stop}.dng").write_bytes(picture)
    camera = {
        "id": "0", "calibration": "CALIBRATED", "min_focus_d": 8.0, "focal_length_mm": SMALL.focal_length_mm,
        "pixel_pitch_um": SMALL.view_pitch_um / 2, "f_numbers": [F_NUMBER], "array_px": [96, 64],
        "exposure_range_ns": [13000, 1000000000], "iso_range": [21, 7656], "stabiliser_off": True, "hyperfocal_d": 0.2,
    }  # fmt: skip
    script = {
        "device": {"make": "dualpix", "model": "Desktop", "android": "16", "serial": "DESKTOP01"},
        "camera": camera,
        "metered": {"exposure_ns": round(EXPOSURE_S * 1e9), "iso": ISO, "f_number": F_NUMBER},
        "result_ms": 1,
        "lens": {"start_d": 1.0, "moving_results": 3, "error_d": 0.003, "seed": 4},
        "frames": [{"file": f"{stop}.dng", "diopters": stop} for stop in STOPS_D],
        "faults": list(faults),
    }  # fmt: skip
    (scripts / "camera.json").write_text(json.dumps(script))


def write_engine(scripts: Path, *outputs: npt.NDArray[np.float32], **change: Any) -> None:
    """A network that gives ``outputs``; read anew by every benchmark."""
    entries = []
    for index, output in enumerate(outputs):
        (scripts / f"output_{index}.bin").write_bytes(output.astype("<f4").tobytes())
        entries.append({"file": f"output_{index}.bin", "shape": list(output.shape)})
    script = {
        "outputs": entries, "offset": 0.0, "load_ms": 2, "run_ms": [1, 2, 3],
        "backends": "XnnpackBackend", "fault": None,
    }  # fmt: skip
    (scripts / "engine.json").write_text(json.dumps(script | change))
