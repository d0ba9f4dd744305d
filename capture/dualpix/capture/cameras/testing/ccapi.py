"""A Canon camera on the network, on loopback: the Camera Control API over real HTTP, before the hidden camera.

Convention: :mod:`.canon_online` answers. ``--old`` plays a camera of the first version: addresses in full, no
``ver110``.

Faults: ``connect`` strikes a new connection, ``status`` a question for the state or the settings, ``set`` a change of
one, the others what they are called. A request that a fault strikes has no effect.
"""

from __future__ import annotations

import json
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from dualpix.capture.camera_protocol import CameraError
from dualpix.capture.cameras.ccapi.discovery import SERVICE
from dualpix.capture.cameras.testing.canon_online import CanonOnline, Cut, Refused
from dualpix.capture.cameras.testing.process import announce, options_from, parser_for, wait_for_end

_MAX_BODY = 64 << 10


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: CcapiServer

    def setup(self) -> None:
        super().setup()
        self.camera = self.server.camera
        self.connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.camera.breaks.append(self.cut)
        self._greeted = False

    def finish(self) -> None:
        self.camera.breaks.remove(self.cut)
        with suppress(OSError):
            super().finish()

    def cut(self) -> None:
        self.close_connection = True
        with suppress(OSError):
            self.connection.shutdown(socket.SHUT_RDWR)

    def log_message(self, format: str, *args: Any) -> None:
        """Quiet."""

    def do_GET(self) -> None:
        if self.path == "/upnp/CameraDevDesc.xml":
            self._reply(200, self.server.description(), "text/xml")
        else:
            self._answer("get")

    def do_PUT(self) -> None:
        self._answer("put")

    def do_POST(self) -> None:
        self._answer("post")

    def do_DELETE(self) -> None:
        self._answer("delete")

    def _answer(self, method: str) -> None:
        size = int(self.headers.get("Content-Length") or 0)
        if size > _MAX_BODY:
            self.cut()
            return
        text = self.rfile.read(size)
        try:
            if not self._greeted:
                self._greeted = True
                self.camera.connected()
            login = self.camera.login
            if login and not login.accepts(self.command, self.path, self.headers.get("Authorization")):
                raise Refused(401, "Unauthorized")
            self._send(self.camera.answer(method, self.path, json.loads(text) if text else {}))
        except Refused as refused:
            self._reply(refused.status, json.dumps({"message": str(refused)}).encode())
        except (CameraError, ValueError) as error:
            self._reply(400, json.dumps({"message": str(error)}).encode())
        except Cut:
            self.cut()

    def _send(self, answer: dict[str, Any] | bytes | tuple[bytes, int]) -> None:
        if isinstance(answer, dict):
            # slashes as the cameras write them
            self._reply(200, json.dumps(answer).replace("/", "\\/").encode())
            return
        with self.camera.camera.busy():
            if isinstance(answer, bytes):
                self._reply(200, answer, "application/octet-stream")
            else:
                self._reply(200, answer[0], "application/octet-stream", promised=answer[1])
                self.cut()

    def _reply(self, status: int, data: bytes, kind: str = "application/json", promised: int | None = None) -> None:
        with suppress(OSError):
            self.send_response(status)
            if status == 401 and self.camera.login:
                self.send_header("WWW-Authenticate", self.camera.login.challenge)
            self.send_header("Content-Type", kind)
            self.send_header("Content-Length", str(promised or len(data)))
            self.end_headers()
            self.wfile.write(data)


class CcapiServer(ThreadingHTTPServer):
    """The camera at a port of 127.0.0.1, and who answers when it is looked for."""

    daemon_threads = True

    def __init__(self, camera: CanonOnline, port: int = 0) -> None:
        self.camera = camera
        super().__init__(("127.0.0.1", port), _Handler)
        self._ssdp = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self._ssdp.bind(("127.0.0.1", 0))

    @property
    def url(self) -> str:
        """The camera's address."""
        return f"http://127.0.0.1:{self.server_address[1]}"

    @property
    def ssdp(self) -> str:
        """Where to ask for it."""
        return f"127.0.0.1:{self._ssdp.getsockname()[1]}"

    def description(self) -> bytes:
        """What it says of itself, in XML."""
        body = self.camera.camera.body
        prefix = 'xmlns:ns="urn:schemas-canon-com:schema-upnp"'
        return (
            '<?xml version="1.0"?>\n<root xmlns="urn:schemas-upnp-org:device-1-0"><device>'
            f"<friendlyName>{body.model}</friendlyName><manufacturer>Canon</manufacturer>"
            f"<modelName>{body.model}</modelName><serialNumber>{body.serial}</serialNumber>"
            f"<serviceList><service><serviceType>{SERVICE}</serviceType>"
            f"<ns:X_onService {prefix}>0</ns:X_onService>"
            f"<ns:X_accessURL {prefix}>{self.url}/ccapi</ns:X_accessURL>"
            "</service></serviceList></device></root>\n"
        ).encode()

    def answer_searches(self) -> None:
        """Until :meth:`server_close`."""
        with suppress(OSError):
            while True:
                question, sender = self._ssdp.recvfrom(4096)
                if question.startswith(b"M-SEARCH") and SERVICE.encode() in question:
                    self._ssdp.sendto(
                        f"HTTP/1.1 200 OK\r\nLocation: {self.url}/upnp/CameraDevDesc.xml\r\n"
                        f"ST: {SERVICE}\r\nUSN: uuid:0::{SERVICE}\r\n\r\n".encode(),
                        sender,
                    )

    def server_close(self) -> None:
        """Let go of both ports."""
        super().server_close()
        with suppress(OSError):
            self._ssdp.shutdown(socket.SHUT_RDWR)
        self._ssdp.close()


@contextmanager
def serving(camera: CanonOnline, port: int = 0) -> Iterator[CcapiServer]:
    """Serve in threads, until the block ends."""
    with CcapiServer(camera, port) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
        thread.start()
        threading.Thread(target=server.answer_searches, daemon=True).start()
        try:
            yield server
        finally:
            for cut in list(camera.breaks):
                cut()
            server.shutdown()
            thread.join()


def main() -> None:
    """Serve as a process of its own."""
    parser = parser_for("A Canon camera with the Camera Control API.")
    parser.add_argument("--old", action="store_true", help="of the first version of the interface")
    arguments = parser.parse_args()
    options = options_from(arguments)
    camera = CanonOnline(options.camera(), options.faults, old=arguments.old)
    with serving(camera, options.port) as server:
        announce(int(server.server_address[1]), url=server.url, ssdp=server.ssdp)
        wait_for_end()


if __name__ == "__main__":
    main()
