"""A phone's end of adb, on loopback: the real adb client and ``adbutils`` talk to it as to a phone on the network.

Convention: the adb transport protocol, version 0x01000001 (no checksums), without authentication and without the
features ``shell_v2`` and ``stat_v2``, so the client falls back to ``shell:``, ``exec:`` and the first ``sync:``. The
files of the phone lie in a temporary folder; no path leaves it. The port is kept out of 5555 to 5585, where adb looks
for emulators by itself. Faults: ``connect`` strikes the handshake, ``status`` a question of the shell, ``set`` a file
that is sent, ``poll`` a look into the journal, ``download`` a frame that is fetched; ``drive`` and ``shoot`` strike in
the app, see :mod:`dualpix.capture.cameras.testing.companion`.
"""

from __future__ import annotations

import os
import posixpath
import socket
import socketserver
import struct
import subprocess
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, cast

from dualpix.capture.cameras.android import protocol
from dualpix.capture.cameras.testing.companion import PhoneOptics
from dualpix.capture.cameras.testing.phone import Broken, VirtualPhone
from dualpix.capture.cameras.testing.process import announce, options_from, parser_for, wait_for_end
from dualpix.capture.files import write_bytes

_MAX_PAYLOAD = 256 << 10
_VERSION = 0x01000001
_CNXN, _OPEN, _OKAY, _CLSE, _WRTE = (
    int.from_bytes(name, "little") for name in (b"CNXN", b"OPEN", b"OKAY", b"CLSE", b"WRTE")
)
_SYNC_CHUNK = 64 << 10
_MAX_PUSH = 64 << 20
_EMULATOR_PORTS = range(5555, 5586)
_BANNER = b"device::ro.product.name=double;ro.product.model=Double;ro.product.device=double;features=cmd"


class _Connection(socketserver.BaseRequestHandler):
    """One adb server on the other end."""

    server: AdbdServer

    def setup(self) -> None:
        self.phone = self.server.phone
        self.request.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._streams: dict[int, _Stream] = {}
        self._opened = 0
        self._send_lock = threading.Lock()

    def handle(self) -> None:
        if self.phone.refuse_connections:
            self.phone.refuse_connections -= 1
            return
        self.phone.breaks.append(self.cut)
        try:
            while True:
                command, first, second, size = struct.unpack("<4I8x", self.receive(24))
                if size > _MAX_PAYLOAD:
                    return
                self._packet(command, first, second, self.receive(size))
        except (OSError, EOFError, Broken):
            pass
        finally:
            self.phone.breaks.remove(self.cut)
            for stream in list(self._streams.values()):
                stream.end()

    def cut(self) -> None:
        with suppress(OSError):
            self.request.shutdown(socket.SHUT_RDWR)

    def receive(self, size: int) -> bytes:
        data = bytearray()
        while len(data) < size:
            part = self.request.recv(size - len(data))
            if not part:
                raise EOFError
            data += part
        return bytes(data)

    def send(self, command: int, first: int, second: int, data: bytes = b"") -> None:
        header = struct.pack("<6I", command, first, second, len(data), 0, command ^ 0xFFFFFFFF)
        with self._send_lock:
            self.request.sendall(header + data)

    def forget(self, stream: _Stream) -> None:
        self._streams.pop(stream.local_id, None)

    def _packet(self, command: int, first: int, second: int, data: bytes) -> None:
        stream = self._streams.get(second)
        if command == _CNXN:
            self.phone.strike("connect")
            self.send(_CNXN, _VERSION, _MAX_PAYLOAD, _BANNER)
        elif command == _OPEN:
            self._opened += 1
            opened = _Stream(self, self._opened, first, data.rstrip(b"\0").decode("utf-8", "replace"))
            self._streams[self._opened] = opened
            threading.Thread(target=opened.run, daemon=True).start()
        elif command == _WRTE and stream is not None:
            stream.feed(data)
            self.send(_OKAY, stream.local_id, stream.remote_id)
        elif command == _OKAY and stream is not None:
            stream.acknowledged.set()
        elif command == _CLSE and stream is not None:
            self.forget(stream)
            stream.end()
            self.send(_CLSE, stream.local_id, stream.remote_id)


class _Stream:
    """One service that was opened, in a thread of its own."""

    def __init__(self, connection: _Connection, local_id: int, remote_id: int, service: str) -> None:
        self.local_id, self.remote_id = local_id, remote_id
        self.acknowledged = threading.Event()
        self._connection, self._service = connection, service
        self._phone = connection.phone
        self._arrived = threading.Condition()
        self._buffer = bytearray()
        self._accepted = self._ended = False

    def feed(self, data: bytes) -> None:
        with self._arrived:
            self._buffer += data
            self._arrived.notify()

    def end(self) -> None:
        with self._arrived:
            self._ended = True
            self._arrived.notify()
        self.acknowledged.set()

    def run(self) -> None:
        kind, _, argument = self._service.partition(":")
        try:
            if kind in ("shell", "exec"):
                output = self._phone.shell(argument)  # before the stream is accepted: a fault refuses it
                self._accept()
                self._write(output)
            elif kind == "sync":
                self._accept()
                self._sync()
            self._close()
        except (OSError, EOFError):
            pass
        except Broken:
            with suppress(OSError):
                self._close()

    def _accept(self) -> None:
        self._accepted = True
        self._connection.send(_OKAY, self.local_id, self.remote_id)

    def _close(self) -> None:
        self._connection.forget(self)
        # a stream that was never accepted has no number here, or the other end waits for its acceptance
        self._connection.send(_CLSE, self.local_id if self._accepted else 0, self.remote_id)

    def _read(self, size: int) -> bytes:
        with self._arrived:
            self._arrived.wait_for(lambda: len(self._buffer) >= size or self._ended)
            if len(self._buffer) < size:
                raise EOFError
            data = bytes(self._buffer[:size])
            del self._buffer[:size]
            return data

    def _write(self, data: bytes) -> None:
        for start in range(0, len(data), _MAX_PAYLOAD):
            if self._ended:
                raise EOFError
            self.acknowledged.clear()
            self._connection.send(_WRTE, self.local_id, self.remote_id, data[start : start + _MAX_PAYLOAD])
            self.acknowledged.wait()

    def _sync(self) -> None:
        requests: Mapping[bytes, Callable[[str], None]] = {
            b"STAT": self._stat, b"LIST": self._list, b"RECV": self._receive_file, b"SEND": self._send_file,
        }  # fmt: skip
        while True:
            name, size = struct.unpack("<4sI", self._read(8))
            if name not in requests or size > 1024:
                return
            requests[name](self._read(size).decode("utf-8", "replace"))

    def _stat(self, path: str) -> None:
        self._write(b"STAT" + self._mode_size_time(path))

    def _mode_size_time(self, path: str) -> bytes:
        try:
            status = self._phone.local(path).stat()
        except OSError:
            return struct.pack("<3I", 0, 0, 0)
        return struct.pack("<3I", status.st_mode, status.st_size & 0xFFFFFFFF, int(status.st_mtime))

    def _list(self, path: str) -> None:
        with suppress(OSError):
            for entry in sorted(self._phone.local(path).iterdir()):
                name = entry.name.encode()
                about = self._mode_size_time(posixpath.join(path, entry.name))
                self._write(b"DENT" + about + struct.pack("<I", len(name)) + name)
        self._write(b"DONE" + struct.pack("<4I", 0, 0, 0, 0))

    def _receive_file(self, path: str) -> None:
        kind = self._phone.strike("download") if "/frame_" in path else None
        try:
            data = self._phone.local(path).read_bytes()
        except OSError:
            return self._fail("No such file or directory")
        with self._phone.companion.optics.camera.busy():
            if kind == "truncated":
                data = data[: len(data) // 2]
            chunks = (data[start : start + _SYNC_CHUNK] for start in range(0, len(data), _SYNC_CHUNK))
            self._write(b"".join(b"DATA" + struct.pack("<I", len(c)) + c for c in chunks) + b"DONE" + bytes(4))
        return None

    def _send_file(self, argument: str) -> None:
        path = argument.rpartition(",")[0]
        content = bytearray()
        while True:
            name, size = struct.unpack("<4sI", self._read(8))
            if name == b"DONE":
                break
            if name != b"DATA" or size > _SYNC_CHUNK or len(content) + size > _MAX_PUSH:
                return self._fail("bad data")
            content += self._read(size)
        self._phone.strike("set")
        try:
            target = self._phone.local(path)
            target.parent.mkdir(parents=True, exist_ok=True)
            write_bytes(target, bytes(content))
        except OSError as error:
            return self._fail(str(error))
        self._write(b"OKAY" + bytes(4))
        return None

    def _fail(self, message: str) -> None:
        self._write(b"FAIL" + struct.pack("<I", len(message)) + message.encode())


class AdbdServer(socketserver.ThreadingTCPServer):
    """The phone on the network; ``port`` 0 takes a free one."""

    daemon_threads = True

    def __init__(self, phone: VirtualPhone, port: int = 0) -> None:
        self.phone = phone
        super().__init__(("127.0.0.1", port or free_port()), _Connection)

    @property
    def port(self) -> int:
        """Where it listens."""
        return int(self.server_address[1])

    @property
    def serial(self) -> str:
        """What ``adb connect`` takes, and adb calls it then."""
        return f"127.0.0.1:{self.port}"


@contextmanager
def serving(phone: VirtualPhone, port: int = 0) -> Iterator[AdbdServer]:
    """Serve in a thread, until the block ends."""
    with AdbdServer(phone, port) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
        thread.start()
        try:
            yield server
        finally:
            phone.companion.kill()
            server.shutdown()
            thread.join()


def free_port() -> int:
    """A free port on loopback where adb does not look for emulators."""
    while True:
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            port = int(probe.getsockname()[1])
        if port not in _EMULATOR_PORTS:
            return port


class PrivateAdb:
    """``with PrivateAdb(home) as adb``: an adb server of our own, ended with the block; others are left alone."""

    def __init__(self, home: Path) -> None:
        self._home = home
        self.port = 0

    def __enter__(self) -> PrivateAdb:
        import adbutils

        self.port = free_port()
        # no USB: it is somebody's real phone, and adb would first wait 3 s for a bus
        environment = {"PATH": os.environ.get("PATH", ""), "HOME": str(self._home), "ADB_USB": "0", "ADB_MDNS": "0"}
        quiet = subprocess.DEVNULL
        self._process = subprocess.Popen(  # noqa: S603
            [adbutils.adb_path(), "-P", str(self.port), "nodaemon", "server"],
            env=environment, cwd=self._home, stdin=quiet, stdout=quiet, stderr=quiet,
        )  # fmt: skip
        for _ in range(2000):
            with suppress(OSError), socket.create_connection(("127.0.0.1", self.port), 1):
                return self
            if self._process.poll() is not None:
                break
            time.sleep(0.01)
        self.__exit__()
        raise RuntimeError("the adb server does not start")

    def __exit__(self, *reason: object) -> None:
        self._process.terminate()
        try:
            self._process.wait(5)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()

    def client(self) -> Any:
        """An ``adbutils`` client of this server."""
        import adbutils

        return adbutils.AdbClient(port=self.port, socket_timeout=15)


def main() -> None:
    """Serve as a process of its own."""
    parser = parser_for("A phone with the companion app, on adb.")
    parser.add_argument("--quality", choices=("CALIBRATED", "APPROXIMATE", "UNCALIBRATED"), default="CALIBRATED")
    parser.add_argument("--no-app", action="store_true", help="the companion app is not installed")
    arguments = parser.parse_args()
    options = options_from(arguments)
    with tempfile.TemporaryDirectory(prefix="dualpix-phone-") as root:
        quality = cast("protocol.Quality", arguments.quality)
        optics = PhoneOptics(options.seed, quality, state=options.state)
        phone = VirtualPhone(Path(root), optics, options.faults, app=not arguments.no_app)
        with serving(phone, options.port) as server:
            announce(server.port, serial=server.serial)
            wait_for_end()


if __name__ == "__main__":
    main()
