"""A phone on adb: commands as lists, files whole, and every failure as a camera's.

Convention: ``adbutils`` talks to the adb server of this machine (``ANDROID_ADB_SERVER_PORT``, 5037 by default), which
the first call starts where there is none, as ``adb`` does. A connection is bound to the transport it began with: a
phone that went and came back counts as lost, because what was running on it may have ended.
"""

from __future__ import annotations

import re
import shlex
import socket
import struct
import subprocess
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass
from typing import Any, BinaryIO

from dualpix.capture.camera_protocol import BadFrame, CameraBusy, CameraError, CameraLost
from dualpix.capture.cameras.opening import missing_extra, only_one
from dualpix.capture.errors import DualpixError

_TIMEOUT_S = 15.0
_START_S = 20.0
_DAEMON_S = 2.0
"""For a daemon that is on its way."""
_LOOK_S = 1.0
_SERVER_PORTS = range(1, 65536)
_MAX_OUTPUT_BYTES = 4 << 20
_NETWORK_SERIAL = re.compile(r"[A-Za-z0-9.\-]+:\d{1,5}|\[[0-9a-fA-F:]+\]:\d{1,5}")


@dataclass(frozen=True)
class PhoneEntry:
    """A line of ``adb devices -l``."""

    serial: str
    state: str
    """``device`` when it can be used; ``unauthorized``, ``offline``."""
    model: str | None
    transport_id: int | None


def adbutils() -> Any:
    """The package, which is optional.

    Raises:
        DualpixError: it is not installed.
    """
    try:
        import adbutils as module
    except ImportError as error:
        raise missing_extra("adbutils", "android") from error
    return module


class AdbServer:
    """The adb server of this machine."""

    def __init__(self, port: str | None = None) -> None:
        if port is not None and not (port.isdecimal() and int(port) in _SERVER_PORTS):
            raise DualpixError(f"adb server port '{port}'", expected="a number from 1 to 65535")
        self._client = adbutils().AdbClient(port=int(port) if port else None, socket_timeout=_TIMEOUT_S)

    @property
    def runs(self) -> bool:
        """Whether it does; asking starts none."""
        try:
            with socket.create_connection((self._client.host, self._client.port), _LOOK_S):
                return True
        except OSError:
            return False

    def stop(self) -> None:
        """End it, if it runs; whoever else uses it would be cut off."""
        with suppress(Exception):  # it has ended meanwhile, or will be there when it is asked for next
            self._client.server_kill()

    @staticmethod
    def _start() -> None:
        """With three standard streams: adb's daemon (29.0.6) ends at once where one was closed before it began, as
        those of a job without a terminal may be; and adbutils hands on whatever there is.
        """
        nowhere = subprocess.DEVNULL
        with suppress(OSError, subprocess.SubprocessError):  # asking it then says that there is none
            command = [adbutils().adb_path(), "start-server"]
            subprocess.run(command, stdin=nowhere, stdout=nowhere, stderr=nowhere, timeout=_START_S, check=False)  # noqa: S603

    def phones(self) -> list[PhoneEntry]:
        """Who is there, in whatever state.

        Raises:
            CameraError: there is no adb server and none can be started.
        """
        if not self.runs:
            self._start()
        with _server_errors():
            try:
                return [_entry(info) for info in self._client.list(extended=True)]
            except Exception:  # on a busy machine adb gives its daemon up before it is there
                time.sleep(_DAEMON_S)
                return [_entry(info) for info in self._client.list(extended=True)]

    def open(self, address: str | None) -> Phone:
        """Connect to a phone by its serial, or to the only one.

        A phone on the network (``HOST:PORT``) that is not there is called once more.

        Raises:
            CameraError: it is not there or does not let us in.
            DualpixError: there are several and none was chosen.
        """
        entry = self._choose(address)
        if (entry is None or entry.state != "device") and address and _NETWORK_SERIAL.fullmatch(address):
            with _server_errors():
                self._client.disconnect(address)
                self._client.connect(address, timeout=_TIMEOUT_S)
            entry = self._choose(address)
        if entry is None:
            raise CameraLost(f"no phone '{address}' on adb" if address else "no phone on adb", hint="see 'adb devices'")
        if entry.state != "device" or entry.transport_id is None:
            raise CameraLost(f"phone '{entry.serial}' is {entry.state}", hint=state_hint(entry.state))
        return Phone(self._client.device(transport_id=entry.transport_id), entry)

    def _choose(self, address: str | None) -> PhoneEntry | None:
        phones = self.phones()
        if address:
            return next((phone for phone in phones if phone.serial == address), None)
        return only_one({phone.serial: phone for phone in phones}, "phones on adb")


class Phone:
    """One connected phone. Failures of the connection are :class:`CameraLost`."""

    def __init__(self, device: Any, entry: PhoneEntry) -> None:
        self._device = device
        self.entry = entry

    def run(self, *command: str) -> str:
        """Output of a command, which is given word by word and quoted here.

        Raises:
            CameraLost: the phone is gone.
            CameraBusy: it is there but did not take the command.
        """
        return self._output(f"shell:{_command_line(command)}", _MAX_OUTPUT_BYTES).decode("utf-8", "replace").strip()

    def read_from(self, path: str, offset: int, limit: int) -> bytes:
        """What a file holds from a byte on, up to ``limit`` bytes; nothing where there is no such file yet.

        Raises:
            CameraLost, CameraBusy: as :meth:`run`.
        """
        # exec, not shell: no terminal, so no line breaks are changed and bytes can be counted
        command = _command_line(("tail", "-c", f"+{offset + 1}", path))
        return self._output(f"exec:{command} 2>/dev/null", limit)

    def write(self, path: str, content: bytes) -> None:
        """Put a file on the phone, whole: under another name first.

        Raises:
            CameraLost, CameraBusy: as :meth:`run`.
        """
        with self._errors():
            self._device.sync.push(content, f"{path}.part", mode=0o644)
        self.run("mv", "-f", f"{path}.part", path)

    def fetch(self, path: str, target: BinaryIO, limit: int) -> int:
        """Copy a file of the phone to ``target``; the number of bytes.

        Raises:
            BadFrame: it is not there, or larger than ``limit``.
            CameraLost, CameraBusy: as :meth:`run`.
        """
        size = 0
        with self._errors():
            try:
                for chunk in self._device.sync.iter_content(path):
                    size += len(chunk)
                    if size > limit:
                        raise BadFrame(f"'{path}' on the phone is larger than {limit} bytes")
                    target.write(chunk)
            except adbutils().AdbError as error:
                if "No such file" not in str(error):
                    raise
                raise BadFrame(f"'{path}' is not on the phone") from error
        return size

    @property
    def connected(self) -> bool:
        """Whether the phone still answers on this connection."""
        try:
            return bool(self._device.get_state() == "device")
        except Exception:  # whatever the reason: it does not answer
            return False

    def _output(self, service: str, limit: int) -> bytes:
        with self._errors():
            connection = self._device.open_transport(timeout=_TIMEOUT_S)
            # the socket itself: closing through adbutils sleeps, and the journal is read often
            with closing(connection.conn) as stream:
                connection.send_command(service)
                connection.check_okay()
                parts, size = [], 0
                while size < limit and (chunk := stream.recv(min(65536, limit - size))):
                    parts.append(chunk)
                    size += len(chunk)
                return b"".join(parts)

    @contextmanager
    def _errors(self) -> Iterator[None]:
        try:
            yield
        except DualpixError:
            raise
        # adbutils asserts and unpacks what it reads, so a cut connection shows as any of these
        except (adbutils().AdbError, OSError, EOFError, AssertionError, ValueError, struct.error) as error:
            said = " ".join(str(part) for part in error.args if part) or type(error).__name__
            if self.connected:
                raise CameraBusy(f"phone '{self.entry.serial}' refused: {said}") from error
            raise CameraLost(f"phone '{self.entry.serial}' is gone: {said}", hint="check the cable") from error


def state_hint(state: str) -> str:
    """What to do about a phone in this state; empty for one that can be used."""
    hints: Mapping[str, str] = {
        "device": "",
        "unauthorized": "allow USB debugging on its screen",
        "offline": "plug it in again",
        "no": "give this user access to the USB device (udev rules)",
    }
    return hints.get(state, "wait until it has started, or plug it in again")


def _command_line(command: Sequence[str]) -> str:
    if not command or any("\0" in word or "\n" in word for word in command):
        raise ValueError(f"command {command!r}")
    return shlex.join(command)


def _entry(info: Any) -> PhoneEntry:
    tags: Mapping[str, str] = info.tags
    number = tags.get("transport_id", "")
    model = tags.get("model")
    return PhoneEntry(
        str(info.serial), str(info.state), model.replace("_", " ") if model else None,
        int(number) if number.isdecimal() else None,
    )  # fmt: skip


@contextmanager
def _server_errors() -> Iterator[None]:
    try:
        yield
    except DualpixError:
        raise
    except Exception as error:  # adbutils starts a program, reads its answers, and lets all that can go wrong pass
        raise CameraError(f"no adb server: {error}", hint="try 'adb start-server'") from error
