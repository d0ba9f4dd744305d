"""Canon's Camera Control API as requests: one kept connection, what the camera offers, and its refusals as errors.

Convention: an *endpoint* is what follows the version, ``shooting/settings/av``. Which versions of it there are, and
what can be done with it, is what the camera lists at ``/ccapi``; the highest version that takes a method is used, and
nothing that is not listed is ever asked for. A request is sent once: whether a release that was not answered was
heard is not known here.
"""

from __future__ import annotations

import http.client
import json
import re
import select
import ssl
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from functools import partial
from typing import Any, BinaryIO, Literal

from dualpix.capture.camera_protocol import BadFrame, CameraBusy, CameraError, CameraLost, CardFull
from dualpix.capture.cameras.ccapi.address import Address
from dualpix.capture.cameras.ccapi.deadline import Deadline, TimedResponse
from dualpix.capture.cameras.ccapi.login import Login
from dualpix.capture.errors import DualpixError
from dualpix.capture.files import parse_json

Method = Literal["get", "put", "post", "delete"]
_TIMEOUT_S = 15.0
_SLOWEST_BYTES_PER_S = 100_000
"""A file may take longer by its size at this rate, a tenth of what a camera's Wi-Fi does at the edge of its range."""
_MAX_JSON_BYTES = 4 << 20
_CHUNK = 1 << 18
_METHODS: tuple[Method, ...] = ("get", "put", "post", "delete")
_ENTRY = re.compile(r"(?:https?://[^/]+)?(?:/ccapi/ver(\d{3}))?/([a-z0-9_/]{1,200})", re.IGNORECASE)
_VERSION_KEY = re.compile(r"ver(\d{3})")
_CONTENT = re.compile(
    r"(?:https?://[^/]+)?"
    r"(/ccapi/ver\d{3}/contents/(?:[A-Za-z0-9_\-]{1,64}/){1,4}([A-Za-z0-9_]{1,64}\.[A-Za-z0-9]{2,4}))"
)


class CcapiLink:
    """A connection that is kept, to a camera whose offers are known."""

    def __init__(self, address: Address, *, verify: bool = True, timeout_s: float = _TIMEOUT_S) -> None:
        """Nothing is sent yet.

        Args:
            address: of the camera.
            verify: check its certificate (https); cameras sign theirs themselves, which no check passes.
            timeout_s: longest wait for an answer to begin or to go on; one takes four times that at most, files more.
        """
        self.address = address
        self._timeout_s, self._verify = timeout_s, verify
        self._deadline = Deadline(timeout_s)
        self._connection: http.client.HTTPConnection | None = None
        self._login = Login(address.user, address.password) if address.user is not None else None
        self._paths: dict[tuple[str, Method], str] = {}

    def connect(self) -> None:
        """Ask what the camera offers.

        Raises:
            CameraError: it does not answer, or not as a camera with this interface does.
        """
        try:
            listed = self._json("get", "/ccapi")
        except CameraError as error:
            if isinstance(error, CameraBusy | CameraLost) or "404" not in str(error):
                raise
            raise CameraError(
                f"'{self.address.public}' answers, but offers no Camera Control API",
                hint="activate CCAPI on the camera with Canon's tool, and switch it on in its menu",
            ) from error
        self._paths = _offers(listed)
        if not self.has("shooting/settings", "get"):
            raise CameraError(
                f"'{self.address.public}' lists {len(self._paths)} functions, but no shooting settings",
                expected="a Canon camera with the Camera Control API",
            )

    def has(self, endpoint: str, method: Method = "get") -> bool:
        """Whether the camera offers this."""
        return (endpoint, method) in self._paths

    def path(self, endpoint: str, method: Method) -> str:
        """Where it does.

        Raises:
            CameraError: it does not.
        """
        if not self.has(endpoint, method):
            raise CameraError(f"this camera does not offer '{method} {endpoint}'")
        return self._paths[endpoint, method]

    def version(self, endpoint: str, method: Method = "get") -> int:
        """Of the endpoint that is used: 100, 110, ..."""
        match = re.match(r"/ccapi/ver(\d{3})/", self.path(endpoint, method))
        return int(match[1]) if match else 100

    def get(self, endpoint: str, query: str = "") -> dict[str, Any]:
        """What the camera answers.

        Raises:
            CameraError: of the kind the failure is.
        """
        return self._json("get", self.path(endpoint, "get") + (f"?{query}" if query else ""))

    def put(self, endpoint: str, value: Any) -> None:
        """Set ``value``; errors as :meth:`get`."""
        self._json("put", self.path(endpoint, "put"), {"value": value})

    def post(self, endpoint: str, body: Mapping[str, Any]) -> None:
        """Do something; errors as :meth:`get`."""
        self._json("post", self.path(endpoint, "post"), body)

    def delete(self, endpoint: str) -> None:
        """End something; errors as :meth:`get`."""
        self._json("delete", self.path(endpoint, "delete"))

    def picture(self, endpoint: str, limit: int) -> bytes:
        """A picture of at most ``limit`` bytes.

        Raises:
            BadFrame: it is larger, or ended early.
            CameraError: as :meth:`get`.
        """
        with self._request("get", self.path(endpoint, "get"), None) as response:
            data = response.read(limit + 1)
            length = response.getheader("Content-Length")
            if len(data) > limit or (length is not None and int(length) != len(data)):
                self.close()
                raise BadFrame(f"a live picture of {len(data)} bytes", expected=f"{length}, at most {limit}")
        return data

    def download(self, content: str, file: BinaryIO, limit: int) -> int:
        """Copy a file of the card, by the name the camera gave it; the number of bytes.

        Raises:
            BadFrame: it ended early, or is empty or larger than ``limit``.
            CameraError: as :meth:`get`.
        """
        path, name = content_path(content)
        with self._request("get", path, None) as response:
            length = response.getheader("Content-Length", "")
            if not length.isdecimal() or not 0 < int(length) <= limit:
                self.close()
                raise BadFrame(f"'{name}' of '{length}' bytes on the camera", expected=f"1 to {limit}")
            self._deadline.extend(int(length) / _SLOWEST_BYTES_PER_S)
            size = 0
            while size < int(length) and (chunk := response.read(min(_CHUNK, int(length) - size))):
                file.write(chunk)
                size += len(chunk)
            if size != int(length):
                self.close()
                raise BadFrame(f"'{name}' ended after {size} bytes", expected=length)
        return size

    def close(self) -> None:
        """Let go of the connection; the next request makes a new one."""
        if self._connection is not None:
            self._connection.close()
            self._connection = None

    def _json(self, method: Method, path: str, body: Mapping[str, Any] | None = None) -> dict[str, Any]:
        with self._request(method, path, body) as response:
            return self._read_json(response, path)

    def _read_json(self, response: http.client.HTTPResponse, path: str) -> dict[str, Any]:
        data = response.read(_MAX_JSON_BYTES + 1)
        if not data and response.status == 200 and response.getheader("Content-Length") is None:
            raise http.client.HTTPException("the answer ended before its text")
        if not data.strip():
            return {}
        try:
            if len(data) > _MAX_JSON_BYTES:
                raise CameraError(f"answer to '{path}' has more than {_MAX_JSON_BYTES} bytes")
            value = parse_json(data, f"answer to '{path}'", "an object", CameraError)
        except CameraError:
            self.close()
            raise
        if not isinstance(value, dict):
            raise CameraError(f"answer to '{path}' is {type(value).__name__}", expected="an object")
        return value

    @contextmanager
    def _request(self, method: Method, path: str, body: Mapping[str, Any] | None) -> Iterator[http.client.HTTPResponse]:
        """The answer, if it is a good one.

        Raises:
            CameraError: of the kind the failure is.
        """
        self._deadline.start()
        try:
            response = self._send(method, path, body)
            if (
                response.status == 401
                and self._login
                and self._login.learn(response.headers.get_all("WWW-Authenticate"))
            ):
                response.read(_MAX_JSON_BYTES)
                response = self._send(method, path, body)
            if response.status >= 300:
                raise self._refusal(method, path, response)
            yield response
        except DualpixError:
            raise
        except ssl.SSLCertVerificationError as error:
            self.close()
            raise CameraError(
                f"the certificate of '{self.address.public}' is not known: {error.verify_message}",
                hint="if it is the camera's own, accept it with option verify=no",
            ) from error
        except http.client.IncompleteRead as error:
            self.close()
            raise BadFrame(f"answer to '{path}' ended after {len(error.partial)} bytes") from error
        except (OSError, http.client.HTTPException) as error:
            self.close()
            raise CameraLost(
                f"no answer from '{self.address.public}': {str(error) or type(error).__name__}",
                hint="check that the camera is awake and on the network, then go on with --resume",
            ) from error

    def _send(self, method: Method, path: str, body: Mapping[str, Any] | None) -> http.client.HTTPResponse:
        connection = self._open()
        headers = {"Accept": "*/*"}
        data = None
        if body is not None:
            data, headers["Content-Type"] = json.dumps(body).encode(), "application/json"
        if self._login and (authorization := self._login.header(method.upper(), path)):
            headers["Authorization"] = authorization
        if connection.sock is not None:
            connection.sock.settimeout(self._deadline.next_wait_s())
        connection.request(method.upper(), path, data, headers)
        return connection.getresponse()

    def _open(self) -> http.client.HTTPConnection:
        connection = self._connection
        # a connection that the camera has closed meanwhile is readable: at its end
        if connection is not None and connection.sock is not None and select.select([connection.sock], [], [], 0)[0]:
            self.close()
        if self._connection is None:
            host, port = self.address.host, self.address.port
            if self.address.scheme == "https":
                context = ssl.create_default_context()
                if not self._verify:
                    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
                self._connection = http.client.HTTPSConnection(host, port, timeout=self._timeout_s, context=context)
            else:
                self._connection = http.client.HTTPConnection(host, port, timeout=self._timeout_s)
            answers: Any = partial(TimedResponse, deadline=self._deadline)
            self._connection.response_class = answers
        return self._connection

    def _refusal(self, method: Method, path: str, response: http.client.HTTPResponse) -> CameraError:
        status, words = response.status, response.reason
        with suppress(CameraError):
            words = str(self._read_json(response, path).get("message", words))
        text = f"'{method} {path}' was refused: {words} ({status})"
        if status == 401:
            return CameraError(text, hint="give user and password: --address http://USER:PASSWORD@HOST:PORT")
        if status in (500, 503):
            return _busy_or_worse(text, words.lower())
        return BadFrame(text) if status == 404 and "/contents/" in path else CameraError(text)


def content_path(content: str) -> tuple[str, str]:
    """(path, file name) of a file on the card, by the camera's word for it.

    Raises:
        CameraError: it is not the path of a file on a card.
    """
    match = _CONTENT.fullmatch(content)
    if match is None:
        raise CameraError(
            f"the camera names a file '{content[:120]}'", expected="/ccapi/verNNN/contents/CARD/FOLDER/NAME"
        )
    return match[1], match[2]


def _busy_or_worse(text: str, words: str) -> CameraError:
    if "card" in words or "storage" in words:
        return CardFull(text, hint="make room on the card, or put in another one")
    if "mode not supported" in words:
        return CameraError(text, hint="set the camera to a still mode (M), and leave its menu and playback")
    return CameraBusy(text)


def _offers(listed: Mapping[str, Any]) -> dict[tuple[str, Method], str]:
    """(endpoint, method) -> path, of the highest version, from the list at ``/ccapi``."""
    found: dict[tuple[str, Method], tuple[int, str]] = {}
    for key, entries in listed.items():
        version = _VERSION_KEY.fullmatch(key)
        for entry in entries if version and isinstance(entries, list) else []:
            match = _ENTRY.fullmatch(str(entry.get("path", ""))) if isinstance(entry, dict) else None
            if version is None or match is None:
                continue
            number, endpoint = int(match[1] or version[1]), match[2]
            for method in _METHODS:
                if entry.get(method) is True and found.get((endpoint, method), (0, ""))[0] < number:
                    found[endpoint, method] = number, f"/ccapi/ver{number}/{endpoint}"
    return {key: path for key, (_, path) in found.items()}
