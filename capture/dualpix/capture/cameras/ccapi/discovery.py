"""Canon cameras on the network that offer the Camera Control API, by SSDP.

Convention: a question by multicast, answered with the place of a description in XML, which names the interface. Who
answers is not trusted: the place and the interface must be on the machine that answered, the description is bounded,
and one with a document type, which could define entities, is refused.

``DUALPIX_SSDP`` names another place to ask than the multicast group, ``HOST:PORT``, or ``off``.
"""

from __future__ import annotations

import http.client
import os
import re
import select
import socket
import struct
import time
import xml.parsers.expat
from collections.abc import Iterator
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from urllib.parse import urlsplit

from dualpix.capture.cameras.ccapi.address import Address
from dualpix.capture.errors import DualpixError

ENVIRONMENT = "DUALPIX_SSDP"
SERVICE = "urn:schemas-canon-com:service:ICPO-CameraControlAPIService:1"
_GROUP = ("239.255.255.250", 1900)
_WAIT_S = 1.5
_DESCRIPTION_S = 2.0
_MAX_DESCRIPTION_BYTES = 64 << 10
_MAX_TEXT = 200
_MAX_ANSWERS = 32
_PLACE = re.compile(r"([A-Za-z0-9.\-]{1,253}):(\d{1,5})")


@dataclass(frozen=True)
class Described:
    """What a camera says of itself."""

    address: Address
    model: str | None
    serial: str | None


def discover(wait_s: float = _WAIT_S) -> list[Described]:
    """Cameras that answer within ``wait_s``, each once.

    Raises:
        DualpixError: ``DUALPIX_SSDP`` is not of its form.
    """
    place = os.environ.get(ENVIRONMENT, "")
    if place == "off":
        return []
    match = _PLACE.fullmatch(place)
    if place and match is None:
        raise DualpixError(f"{ENVIRONMENT}='{place}'", expected="HOST:PORT or off")
    to = (match[1], int(match[2])) if match else _GROUP
    found: dict[str, Described] = {}
    for location, host in _answers(to, wait_s, one=match is not None):
        described = describe(location, host)
        if described is not None:
            found[described.address.public] = described
    return list(found.values())


def describe(location: str, host: str) -> Described | None:
    """What the description at ``location`` says, if it is on ``host`` and speaks for it; else None."""
    with suppress(OSError, http.client.HTTPException, ValueError, KeyError, DualpixError):
        parts = urlsplit(location)
        if parts.scheme == "http" and parts.hostname == host and parts.port != 0:
            said = _texts(_fetched(host, parts.port or 80, parts.path or "/"))
            address = Address.parse(said["X_accessURL"])
            if address.host == host:
                model = said.get("modelName") or said.get("friendlyName")
                return Described(address, model, said.get("serialNumber") or None)
    return None


def _answers(to: tuple[str, int], wait_s: float, *, one: bool) -> Iterator[tuple[str, str]]:
    """(location, host that answered), each once; the first only, where one is asked."""
    question = (
        f'M-SEARCH * HTTP/1.1\r\nHOST: {to[0]}:{to[1]}\r\nMAN: "ssdp:discover"\r\nMX: 1\r\nST: {SERVICE}\r\n\r\n'
    ).encode()
    with ExitStack() as stack:
        sockets = [stack.enter_context(s) for s in _sockets(to)]
        for asking in list(sockets):
            try:
                asking.sendto(question, to)
            except OSError:  # this network is down, or has no multicast
                sockets.remove(asking)
        seen: set[tuple[str, str]] = set()
        give_up = time.monotonic() + wait_s
        while sockets and len(seen) < _MAX_ANSWERS and (left := give_up - time.monotonic()) > 0:
            for ready in select.select(sockets, [], [], left)[0]:
                with suppress(OSError):
                    data, sender = ready.recvfrom(4096)
                    location = _header(data.decode("utf-8", "replace"), "location")
                    if location and (location, sender[0]) not in seen:
                        seen.add((location, sender[0]))
                        yield location, sender[0]
                        if one:
                            return


def _sockets(to: tuple[str, int]) -> Iterator[socket.socket]:
    """One for each network, because the camera's may not be the default one."""
    indices = [0]
    if to == _GROUP:
        with suppress(OSError, AttributeError):
            indices = [index for index, name in socket.if_nameindex() if name != "lo"] or [0]
    for index in indices:
        out = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        out.setblocking(False)
        out.setsockopt(socket.IPPROTO_IP, socket.IP_MULTICAST_TTL, 2)
        if index:
            with suppress(OSError):
                out.setsockopt(
                    socket.IPPROTO_IP, socket.IP_MULTICAST_IF, struct.pack("@4s4si", bytes(4), bytes(4), index)
                )
        yield out


def _header(text: str, name: str) -> str:
    for line in text.splitlines():
        key, _, value = line.partition(":")
        if key.strip().lower() == name:
            return value.strip()
    return ""


def _fetched(host: str, port: int, path: str) -> bytes:
    connection = http.client.HTTPConnection(host, port, timeout=_DESCRIPTION_S)
    try:
        connection.request("GET", path)
        response = connection.getresponse()
        data = response.read(_MAX_DESCRIPTION_BYTES + 1)
    finally:
        connection.close()
    if response.status != 200 or len(data) > _MAX_DESCRIPTION_BYTES:
        raise ValueError(f"{response.status}, {len(data)} bytes")
    return data


def _texts(document: bytes) -> dict[str, str]:
    """Text of each element by its name without prefix, the first of each.

    Raises:
        ValueError: no XML, or one with a document type.
    """
    texts: dict[str, str] = {}
    parts: list[str] = []

    def refuse(*declared: object) -> None:
        raise ValueError("a document type")

    def start(name: str, attributes: dict[str, str]) -> None:
        parts.clear()

    def end(name: str) -> None:
        text = "".join(parts).strip()
        if text:
            texts.setdefault(name.rpartition(":")[2], text[:_MAX_TEXT])
        parts.clear()

    parser = xml.parsers.expat.ParserCreate()
    parser.StartDoctypeDeclHandler = refuse
    parser.StartElementHandler, parser.EndElementHandler = start, end
    parser.CharacterDataHandler = parts.append
    try:
        parser.Parse(document, True)
    except xml.parsers.expat.ExpatError as error:
        raise ValueError(str(error)) from error
    return texts
