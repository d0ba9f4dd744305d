"""PTP over TCP/IP, the camera's side: packets, sessions and the encodings of PTP, on loopback.

Convention: a packet is ``u32 length, u32 type, payload``, little endian, its length included (CIPA DC-005). A client
opens a command connection and, with the number it is given there, an event connection. What a camera does is a
:class:`Responder`; this module only carries it.
"""

from __future__ import annotations

import socket
import struct
import threading
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Protocol

OK = 0x2001
GENERAL_ERROR = 0x2002
NOT_SUPPORTED = 0x2005
INVALID_HANDLE = 0x2009
NO_SUCH_PROPERTY = 0x200A
STORE_FULL = 0x200C
BUSY = 0x2019
INVALID_PARAMETER = 0x201D

_INIT_COMMAND, _INIT_COMMAND_ACK, _INIT_EVENT, _INIT_EVENT_ACK, _INIT_FAIL = 1, 2, 3, 4, 5
_REQUEST, _RESPONSE, _START_DATA, _DATA, _END_DATA = 6, 7, 9, 10, 12
_PING, _PONG = 13, 14
_DATA_OUT = 2
_MAX_PACKET = 1 << 24
_MAX_DATA = 1 << 26
_BLOCK = 1 << 16
_VERSION = 0x10000


class Disconnected(Exception):  # noqa: N818
    """The camera breaks the connection instead of answering."""


@dataclass(frozen=True)
class Reply:
    """Answer to an operation."""

    code: int = OK
    data: bytes | None = None
    """Data phase to the client, if there is one."""
    parameters: tuple[int, ...] = ()


class Responder(Protocol):
    """A camera."""

    name: str

    def connect(self) -> bool:
        """Whether a new client is let in; what an earlier one set up is forgotten."""
        ...

    def operation(self, code: int, parameters: Sequence[int], data: bytes) -> Reply:
        """Carry out one operation.

        Raises:
            Disconnected: the connection breaks.
        """
        ...


class PtpIpServer:
    """Serves one camera, to one client at a time; a new one puts an end to the old one."""

    def __init__(self, camera: Responder, port: int = 0) -> None:
        """Listen on 127.0.0.1.

        Args:
            camera: who answers.
            port: 0 takes a free one, see :attr:`port`.
        """
        self.camera = camera
        self._listener = socket.create_server(("127.0.0.1", port))
        self.port: int = self._listener.getsockname()[1]
        self._open: set[socket.socket] = set()
        self._lock = threading.Lock()
        threading.Thread(target=self._accept, daemon=True).start()

    def close(self) -> None:
        """Stop listening and hang up."""
        self._listener.close()
        self._hang_up()

    def _accept(self) -> None:
        while True:
            try:
                connection, _ = self._listener.accept()
            except OSError:  # closed
                return
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            threading.Thread(target=self._serve, args=(connection,), daemon=True).start()

    def _serve(self, connection: socket.socket) -> None:
        with suppress(OSError, ValueError, struct.error, Disconnected), connection:
            kind, _ = _receive(connection)
            if kind == _INIT_COMMAND:
                self._hang_up()
                if not self.camera.connect():
                    return
                self._remember(connection)
                _send(connection, _INIT_COMMAND_ACK, self._greeting())
            elif kind == _INIT_EVENT:
                self._remember(connection)
                _send(connection, _INIT_EVENT_ACK, b"")
            else:
                _send(connection, _INIT_FAIL, struct.pack("<I", 1))
                return
            try:
                while True:
                    self._answer(connection, *_receive(connection))
            except Disconnected:
                self._hang_up()

    def _greeting(self) -> bytes:
        return (
            struct.pack("<I", 1)
            + b"dualpix test cam"
            + (self.camera.name + "\0").encode("utf-16le")
            + struct.pack("<I", _VERSION)
        )

    def _answer(self, connection: socket.socket, kind: int, payload: bytes) -> None:
        if kind == _PING:
            _send(connection, _PONG, b"")
        if kind != _REQUEST:
            return
        phase, code, transaction = struct.unpack_from("<IHI", payload)
        parameters = struct.unpack_from(f"<{(len(payload) - 10) // 4}I", payload, 10)
        data = _receive_data(connection) if phase == _DATA_OUT else b""
        reply = self.camera.operation(code, parameters, data)
        if reply.data is not None:
            _send_data(connection, transaction, reply.data)
        tail = struct.pack(f"<{len(reply.parameters)}I", *reply.parameters)
        _send(connection, _RESPONSE, struct.pack("<HI", reply.code, transaction) + tail)

    def _remember(self, connection: socket.socket) -> None:
        with self._lock:
            self._open.add(connection)

    def _hang_up(self) -> None:
        with self._lock:
            for connection in self._open:
                with suppress(OSError):
                    connection.shutdown(socket.SHUT_RDWR)
            self._open.clear()


def _receive(connection: socket.socket) -> tuple[int, bytes]:
    length, kind = struct.unpack("<II", _receive_exactly(connection, 8))
    if not 8 <= length <= _MAX_PACKET:
        raise ValueError(f"packet of {length} bytes")
    return kind, _receive_exactly(connection, length - 8)


def _receive_exactly(connection: socket.socket, count: int) -> bytes:
    parts = bytearray()
    while len(parts) < count:
        # libgphoto2 sends an operation and its data in two packets, and the second waits for the first to be
        # acknowledged: 40 ms a setting, if the system takes its time
        if hasattr(socket, "TCP_QUICKACK"):
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_QUICKACK, 1)
        part = connection.recv(count - len(parts))
        if not part:
            raise ConnectionError("the client has hung up")
        parts += part
    return bytes(parts)


def _receive_data(connection: socket.socket) -> bytes:
    kind, _ = _receive(connection)
    data = bytearray()
    while kind != _END_DATA:
        kind, payload = _receive(connection)
        data += payload[4:]
        if len(data) > _MAX_DATA:
            raise ValueError(f"more than {_MAX_DATA} bytes of data")
    return bytes(data)


def _send(connection: socket.socket, kind: int, payload: bytes) -> None:
    connection.sendall(struct.pack("<II", 8 + len(payload), kind) + payload)


def _send_data(connection: socket.socket, transaction: int, data: bytes) -> None:
    number = struct.pack("<I", transaction)
    _send(connection, _START_DATA, number + struct.pack("<Q", len(data)))
    last = max(0, (len(data) - 1) // _BLOCK) * _BLOCK
    for start in range(0, last, _BLOCK):
        _send(connection, _DATA, number + data[start : start + _BLOCK])
    _send(connection, _END_DATA, number + data[last:])


def text(value: str) -> bytes:
    """A PTP string: count of UTF-16 units with the terminator, and they; the empty one is one zero byte."""
    encoded = (value + "\0").encode("utf-16le")
    return b"\0" if not value else bytes([len(encoded) // 2]) + encoded


def array16(values: Sequence[int]) -> bytes:
    """A PTP array of u16."""
    return struct.pack(f"<I{len(values)}H", len(values), *values)


def array32(values: Sequence[int]) -> bytes:
    """A PTP array of u32."""
    return struct.pack(f"<I{len(values)}I", len(values), *values)
