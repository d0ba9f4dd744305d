"""Canon's Camera Control API over real HTTP: requests, refusals, discovery, frames, faults, the camera's bracket."""

from __future__ import annotations

import hashlib
import io
import json
import select
import shutil
import socket
import ssl
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from dualpix.capture.camera_protocol import (
    BadFrame,
    CameraBusy,
    CameraError,
    CameraLost,
    CardFull,
    Exposure,
    LensStuck,
    PlannedFrame,
)
from dualpix.capture.cameras import backend, ccapi
from dualpix.capture.cameras.ccapi import camera as ccapi_camera
from dualpix.capture.cameras.ccapi import discovery as ccapi_discovery
from dualpix.capture.cameras.ccapi import drive as ccapi_drive
from dualpix.capture.cameras.ccapi import words as ccapi_words
from dualpix.capture.cameras.ccapi.address import Address
from dualpix.capture.cameras.ccapi.bracket import Bracket
from dualpix.capture.cameras.ccapi.drive import gray_of_jpeg
from dualpix.capture.cameras.ccapi.link import CcapiLink, content_path
from dualpix.capture.cameras.hidden.body import Body
from dualpix.capture.cameras.hidden.camera import HiddenCamera
from dualpix.capture.cameras.hidden.faults import Fault, FaultPlan, Kind, Operation
from dualpix.capture.cameras.hidden.lens import HiddenLens, LensTruth, lens_truth
from dualpix.capture.cameras.hidden.truth import ShotTruth, read_state
from dualpix.capture.cameras.testing.canon_online import CanonOnline
from dualpix.capture.cameras.testing.ccapi import CcapiServer, serving
from dualpix.capture.cameras.testing.known import known_calibration
from dualpix.capture.cameras.testing.login import Login
from dualpix.capture.cameras.testing.process import ServerProcess
from dualpix.capture.errors import DualpixError
from dualpix.capture.focus.calibration import LensCalibration

BODY = Body(size_hw=(64, 96))
STOPS_D = (0.4, 0.8, 1.2)
F_NUMBERS = (2.8, 5.6)
SEED = 3
Serve = Callable[..., AbstractContextManager[CcapiServer]]


@pytest.fixture
def serve(monkeypatch: pytest.MonkeyPatch) -> Serve:
    """``with serve(faults...) as server``: a camera at ``server.url``, which discovery finds."""

    @contextmanager
    def start(*faults: Fault, body: Body = BODY, jitter: float = 0.0, **more: Any) -> Iterator[CcapiServer]:
        truth = lens_truth(SEED)
        lens = HiddenLens(LensTruth(**{**vars(truth), "jitter": jitter}), seed=SEED, position=0.12 * truth.end)
        camera = CanonOnline(HiddenCamera(lens, SEED, body), FaultPlan(faults), **more)
        with serving(camera) as server:
            monkeypatch.setenv(ccapi_discovery.ENVIRONMENT, server.ssdp)
            yield server

    return start


def known_lens() -> LensCalibration:
    return known_calibration(lens_truth(SEED), body=f"{BODY.model} {BODY.serial}", lens=BODY.lens)


def opened(server: CcapiServer, **options: str) -> ccapi.CcapiCamera:
    return ccapi.open_camera(server.url, known_lens(), options)


def exposure(f_number: float) -> Exposure:
    return Exposure(f_number, 1 / 60 * (f_number / 2.8) ** 2, 100)


def frames(*stops_d: float) -> list[PlannedFrame]:
    wanted = [(d, n) for d in stops_d or STOPS_D for n in F_NUMBERS]
    return [PlannedFrame(index, d, exposure(n)) for index, (d, n) in enumerate(wanted)]


def truth_of(server: CcapiServer, path: Path) -> ShotTruth:
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    (shot,) = (s for s in server.camera.camera.shots if s.sha256 == digest)
    return shot


# requests


@contextmanager
def answering(*answers: bytes) -> Iterator[tuple[str, list[bytes]]]:
    """A port that gives each connection's requests the next raw answer, and what was asked."""
    asked: list[bytes] = []
    left = list(answers)
    with socket.create_server(("127.0.0.1", 0)) as listening:

        def run() -> None:
            while left:
                connection, _ = listening.accept()
                with connection:
                    while left:
                        question = connection.recv(65536)
                        if not question:
                            break
                        asked.append(question)
                        answer = left.pop(0)
                        connection.sendall(answer)
                        if b"close" in answer:
                            break

        thread = threading.Thread(target=run, daemon=True)
        thread.start()
        yield f"http://127.0.0.1:{listening.getsockname()[1]}", asked


def reply(body: Any, status: str = "200 OK", more: str = "") -> bytes:
    data = body if isinstance(body, bytes) else json.dumps(body).encode()
    return f"HTTP/1.1 {status}\r\nContent-Length: {len(data)}\r\n{more}\r\n".encode() + data


OFFERS = {"ver100": [{"path": "/ccapi/ver100/shooting/settings", "get": True, "put": False}]}


def link_to(url: str, **more: Any) -> CcapiLink:
    return CcapiLink(Address.parse(url), timeout_s=60, **more)


@pytest.mark.parametrize(
    ("text", "public"),
    [
        ("http://192.168.1.2:8080", "http://192.168.1.2:8080"),
        ("http://192.168.1.2", "http://192.168.1.2:8080"),
        ("https://camera.local/ccapi", "https://camera.local:443"),
        ("http://me:s%40cret@camera:81/", "http://camera:81"),
        ("http://[fe80::1]:8080", "http://[fe80::1]:8080"),
    ],
)
def test_an_address_is_read_and_shown_without_its_password(text: str, public: str) -> None:
    assert Address.parse(text).public == public


def test_a_password_is_unquoted() -> None:
    address = Address.parse("http://me:s%40cret@camera")
    assert (address.user, address.password) == ("me", "s@cret")


@pytest.mark.parametrize(
    "text",
    ["camera", "ftp://camera", "http://", "http://camera:99999", "http://camera:x", "http://camera:0", "http://a b",
     "http://camera/other", "http://camera?x=1", "http://u:secret@", "http://[::1", "file:///etc/passwd", ""],
)  # fmt: skip
def test_what_is_no_address_is_refused(text: str) -> None:
    with pytest.raises(DualpixError, match="expected http://") as caught:
        Address.parse(text)
    assert "secret" not in str(caught.value)


def test_the_highest_version_that_takes_a_method_is_used() -> None:
    listed = {
        "ver100": [
            {"path": "http://10.0.0.1:8080/ccapi/ver100/shooting/settings", "get": True, "put": True},
            {"path": "/devicestatus/lens", "get": True},
        ],
        "ver110": [{"path": "/ccapi/ver110/shooting/settings", "get": True, "put": False}],
        "ver140": [{"path": "/ccapi/ver140/../../etc", "get": True}, "nonsense", {"path": 7, "get": True}],
        "unknown": [{"path": "/ccapi/ver100/a", "get": True}],
    }
    with answering(reply(listed)) as (url, _):
        link = link_to(url)
        link.connect()
    assert link.path("shooting/settings", "get") == "/ccapi/ver110/shooting/settings"
    assert link.path("shooting/settings", "put") == "/ccapi/ver100/shooting/settings"
    assert (link.version("shooting/settings"), link.version("shooting/settings", "put")) == (110, 100)
    assert link.path("devicestatus/lens", "get") == "/ccapi/ver100/devicestatus/lens"
    assert not link.has("a") and not link.has("devicestatus/lens", "put")
    with pytest.raises(CameraError, match="does not offer 'put functions/x'"):
        link.put("functions/x", 1)


REFUSALS = [
    ("503 Service Unavailable", "Device busy", CameraBusy),
    ("503 Service Unavailable", "During shooting or recording", CameraBusy),
    ("503 Service Unavailable", "Can not write to card", CardFull),
    ("503 Service Unavailable", "Mode not supported", CameraError),
    ("500 Internal Server Error", "Internal error", CameraBusy),
    ("400 Bad Request", "Invalid parameter", CameraError),
    ("401 Unauthorized", "Unauthorized", CameraError),
    ("302 Found", "elsewhere", CameraError),
]


@pytest.mark.parametrize(("status", "message", "error"), REFUSALS)
def test_a_refusal_becomes_an_error_of_the_camera(status: str, message: str, error: type[CameraError]) -> None:
    more = "Location: http://127.0.0.1:9/\r\n"
    with answering(reply(OFFERS), reply({"message": message}, status, more)) as (url, asked):
        link = link_to(url)
        link.connect()
        with pytest.raises(error, match=message) as caught:
            link.get("shooting/settings")
    assert type(caught.value) is error and len(asked) == 2


@pytest.mark.parametrize(
    "answer", [b"", b"HTTP/1.1 200 OK\r\nContent-Le", b"nonsense close", b"HTTP/1.1 99999999 close\r\n"]
)
def test_a_broken_connection_is_a_lost_camera(answer: bytes) -> None:
    with answering(reply(OFFERS), answer + (b"" if answer else b"close")) as (url, asked):
        link = link_to(url)
        link.connect()
        with pytest.raises(CameraLost, match=r"no answer.*--resume"):
            link.get("shooting/settings")
    assert len(asked) == 2, "a request was sent twice"


@pytest.mark.parametrize("body", [b"[]", b"{", b"<html>", b"[" * 10000, b"7"])
def test_an_answer_that_is_no_object_is_refused(body: bytes) -> None:
    with answering(reply(OFFERS), reply(body)) as (url, _):
        link = link_to(url)
        link.connect()
        with pytest.raises(CameraError, match="answer to"):
            link.get("shooting/settings")


def test_a_connection_that_the_camera_closed_is_made_anew_before_asking() -> None:
    closing = reply({"a": 1}).replace(b"\r\n\r\n", b"\r\nX: will-close\r\n\r\n")  # closes without having said so
    with answering(reply(OFFERS), closing, reply({"a": 2})) as (url, asked):
        link = link_to(url)
        link.connect()
        assert link.get("shooting/settings") == {"a": 1}
        assert link._connection is not None and link._connection.sock is not None
        select.select([link._connection.sock], [], [], 10)  # until the end of the connection has arrived
        assert link.get("shooting/settings") == {"a": 2}
    assert len(asked) == 3


def test_a_server_that_is_no_camera_is_said() -> None:
    with (
        answering(reply({"message": "x"}, "404 Not Found")) as (url, _),
        pytest.raises(CameraError, match="activate CCAPI"),
    ):
        link_to(url).connect()
    with answering(reply({"hello": "world"})) as (url, _), pytest.raises(CameraError, match="no shooting settings"):
        link_to(url).connect()


@pytest.mark.parametrize("scheme", ["basic", "digest"])
def test_user_and_password_are_given_as_the_camera_asks(serve: Serve, scheme: Any) -> None:
    with serve(login=Login(scheme, "me", "s@cret:7")) as server:
        host = server.url.removeprefix("http://")
        camera = ccapi.open_camera(f"http://me:s%40cret:7@{host}", known_lens())
        assert camera.status().exposure_mode == "manual"
        assert camera.info.address == server.url, "the password is in the record"
        camera.close()
        for wrong in (f"http://me:no@{host}", f"http://{host}"):
            with pytest.raises(CameraError, match=r"Unauthorized.*USER:PASSWORD") as caught:
                ccapi.open_camera(wrong)
            assert not caught.value.transient


@pytest.mark.parametrize(
    "content",
    ["/etc/passwd", "/ccapi/ver100/contents/../../IMG.CR3", "/ccapi/ver100/contents/sd/100CANON/..", "IMG_0001.CR3",
     "/ccapi/ver100/contents/sd/a/b/c/d/e/IMG.CR3", "/ccapi/ver100/contents/sd/IMG.CR3?kind=x",
     "/ccapi/ver100/contents/sd/a%2f/I.CR3", "/ccapi/ver100/contents/sd/.hidden", "/ccapi/ver100/contents/sd/I\nG.CR3"],
)  # fmt: skip
def test_names_that_are_no_files_on_a_card_are_refused(content: str) -> None:
    with pytest.raises(CameraError, match="names a file"):
        content_path(content)


def test_a_file_of_another_host_is_asked_of_this_one() -> None:
    path, name = content_path("http://evil.example/ccapi/ver110/contents/sd1/100CANON/IMG_0001.CR3")
    assert (path, name) == ("/ccapi/ver110/contents/sd1/100CANON/IMG_0001.CR3", "IMG_0001.CR3")


@pytest.mark.parametrize(
    ("headers", "body"),
    [("Content-Length: 100\r\nConnection: close\r\n", b"x" * 60), ("Content-Length: 0\r\n", b""),
     ("Connection: close\r\n", b"x" * 9), ("Content-Length: 99999999\r\n", b""), ("Content-Length: -5\r\n", b"")],
)  # fmt: skip
def test_a_file_that_is_not_whole_is_a_bad_frame(headers: str, body: bytes) -> None:
    answer = f"HTTP/1.1 200 OK\r\n{headers}\r\n".encode() + body
    with answering(reply(OFFERS), answer) as (url, _):
        link = link_to(url)
        link.connect()
        with pytest.raises(BadFrame):
            link.download("/ccapi/ver100/contents/sd/100CANON/IMG_0001.CR3", io.BytesIO(), 10_000)


def test_a_certificate_that_nobody_knows_is_accepted_on_request_only(serve: Serve, tmp_path: Path) -> None:
    if shutil.which("openssl") is None:
        pytest.skip("no openssl to make a certificate with")
    key, certificate = tmp_path / "key.pem", tmp_path / "certificate.pem"
    subprocess.run(
        ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-subj",
         "/CN=camera", "-days", "2", "-keyout", str(key), "-out", str(certificate)], check=True, capture_output=True,
    )  # fmt: skip
    with serve() as server:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(certificate, key)
        server.socket = context.wrap_socket(server.socket, server_side=True)
        url = server.url.replace("http", "https")
        with pytest.raises(CameraError, match="verify=no"):
            ccapi.open_camera(url)
        camera = ccapi.open_camera(url, None, {"verify": "no"})
        assert camera.info.address == url
        camera.close()


# discovery


def test_a_camera_is_found_on_the_network_with_what_it_can_do(serve: Serve) -> None:
    with serve() as server:
        (info,) = backend("ccapi").find()
        assert (info.address, info.serial, info.lens) == (server.url, BODY.serial, BODY.lens)
        assert info.capabilities == ("live_view", "focus_drive", "aperture", "camera_bracket")
        assert info.f_numbers == BODY.f_numbers and info.focal_length_mm == 50
        assert backend("ccapi").remark(info) == ""
        camera = ccapi.open_camera(None)  # the only one
        assert camera.info == info
        camera.close()


def test_a_camera_that_asks_for_a_password_is_found_and_remarked(serve: Serve) -> None:
    with serve(login=Login("digest", "a", "b")):
        (info,) = ccapi.find()
        assert info.model == BODY.model and info.capabilities == () and "USER:PASSWORD" in ccapi.remark(info)


def test_nobody_on_the_network(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(ccapi_discovery.ENVIRONMENT, "off")
    assert ccapi.find() == []
    with pytest.raises(CameraLost, match="no Canon camera answers"):
        ccapi.open_camera(None)
    monkeypatch.setenv(ccapi_discovery.ENVIRONMENT, "somewhere")
    with pytest.raises(DualpixError, match="HOST:PORT or off"):
        ccapi.find()


def xml(access: str, before: str = "") -> bytes:
    return f'<?xml version="1.0"?>{before}<root><device><modelName>M</modelName><s xmlns:ns="u"><ns:X_accessURL>{access}</ns:X_accessURL></s></device></root>'.encode()  # noqa: E501


LAUGHS = "<!DOCTYPE root [" + '<!ENTITY a "haha">' + '<!ENTITY b "&a;&a;&a;&a;">' + "]>"
HOSTILE = {
    "entities": xml("&b;", LAUGHS),
    "a document type": xml("http://127.0.0.1:8080/ccapi", "<!DOCTYPE root>"),
    "another host": xml("http://10.0.0.1:8080/ccapi"),
    "another scheme": xml("file:///etc/passwd"),
    "no address": xml(""),
    "no xml": b"{}",
    "cut": xml("http://127.0.0.1:8080/ccapi")[:60],
    "endless": b"<root>" + b" " * 100_000,
}


@contextmanager
def describing(document: bytes) -> Iterator[str]:
    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200)
            self.end_headers()
            self.wfile.write(document)

        def log_message(self, format: str, *args: Any) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_address[1]}/d.xml"
        server.shutdown()


@pytest.mark.parametrize("what", HOSTILE)
def test_a_description_that_is_not_one_is_passed_over(what: str) -> None:
    with describing(HOSTILE[what]) as location:
        assert ccapi_discovery.describe(location, "127.0.0.1") is None


def test_a_description_is_read_and_only_from_who_answered() -> None:
    with describing(xml("http://127.0.0.1:8080/ccapi")) as location:
        described = ccapi_discovery.describe(location, "127.0.0.1")
        assert described is not None and described.address.public == "http://127.0.0.1:8080" and described.model == "M"
        assert ccapi_discovery.describe(location, "127.0.0.2") is None
    assert ccapi_discovery.describe("file:///etc/passwd", "") is None
    assert ccapi_discovery.describe("http://127.0.0.1:1/d.xml", "127.0.0.1") is None


# frames


@pytest.mark.parametrize("old", [False, True], ids=["new", "first version"])
def test_a_stack_comes_with_the_true_focus_and_leaves_the_camera_as_it_was(
    serve: Serve, tmp_path: Path, old: bool
) -> None:
    with serve(jitter=0.03, old=old) as server:
        hidden, settings = server.camera.camera, server.camera.settings
        before = json.dumps(settings), hidden.lens.diopters
        camera = opened(server)
        camera.prepare(frames())
        assert server.camera.power_off == "disable" and settings["drive"]["value"] == "single"
        camera.home()
        for frame in frames():
            achieved = camera.go_to(frame.diopters)
            settled = camera.settle()
            shot = camera.shoot(tmp_path, f"f{frame.index}", frame.exposure)
            truth = truth_of(server, shot.files[0])
            assert settled.reached and achieved.source == "calibration" and achieved.motor_steps is not None
            assert abs(achieved.diopters - truth.diopters) <= 0.03
            assert (shot.exposure.f_number, shot.exposure.iso) == (truth.f_number, 100)
            assert shot.exposure.exposure_s == pytest.approx(truth.exposure_s)
            assert truth.f_number == frame.exposure.f_number and shot.files[0].suffix == ".dng"
            assert shot.details["names"] == [truth.file]
        assert sorted(p.name for p in tmp_path.iterdir()) == [f"f{i}.dng" for i in range(6)]
        assert len(server.camera.files) == 6, "files were deleted from the card"
        camera.leave()
        camera.close()
        assert json.dumps(settings) == before[0] and server.camera.power_off == "30" and not server.camera.live
        while hidden.lens.moving:  # the camera is left with the command, not with the arrival
            time.sleep(0.001)
        assert abs(hidden.lens.diopters - before[1]) < 0.15
        assert server.camera.refused_puts == 0


def test_raw_and_jpeg_are_both_fetched_the_raw_first(serve: Serve, tmp_path: Path) -> None:
    with serve() as server:
        server.camera.settings["stillimagequality"]["value"] = {"raw": "craw", "jpeg": "large_fine"}
        camera = opened(server)
        assert camera.status().raw_format == "craw + large_fine"
        camera.prepare(frames(0.5))
        shot = camera.shoot(tmp_path, "both", frames(0.5)[0].exposure)
        assert [path.name for path in shot.files] == ["both.dng", "both.jpg"]
        camera.close()


def test_how_the_camera_is_set_up(serve: Serve) -> None:
    with serve() as server:
        camera = opened(server)
        status = camera.status()
        assert (status.exposure_mode, status.focus_mode, status.temperature) == ("manual", "manual", "normal")
        assert (status.battery_percent, status.raw_format, status.live_view) == (87.0, "large_fine", False)
        server.camera.settings["shootingmodedial"]["value"] = "av"
        assert camera.status().exposure_mode == "av"
        camera.prepare(frames())
        status = camera.status()
        assert (status.raw_format, status.live_view) == ("raw", True)
        camera.close()
    with serve(old=True) as server:
        camera = opened(server)
        assert camera.status().battery_percent == 75.0
        camera.close()


@pytest.mark.parametrize("wanted", [Exposure(f_number=1.2), Exposure(exposure_s=1e-5), Exposure(iso=51)])
def test_what_cannot_be_set_is_refused_before_anything_moves(serve: Serve, wanted: Exposure) -> None:
    with serve() as server:
        camera = opened(server)
        with pytest.raises(CameraError, match="the camera has no"):
            camera.prepare([PlannedFrame(0, 0.5, wanted)])
        assert server.camera.camera.lens.moves == 0 and not server.camera.camera.shots
        camera.close()


def test_words_of_exposures_are_read() -> None:
    words = ["f2.8", "f11", "1/60", '0"5', '8"', '1"3', "100", "auto", "bulb", "", None, "1/0"]
    assert [ccapi_words.number(word) for word in words] == [
        2.8, 11, pytest.approx(1 / 60), 0.5, 8.0, 1.3, 100, None, None, None, None, None,
    ]  # fmt: skip


def test_a_file_of_an_earlier_release_is_not_taken_for_this_one(serve: Serve, tmp_path: Path) -> None:
    with serve() as server:
        camera = opened(server)
        camera.prepare(frames(0.5))
        late = server.camera.camera.release(2.8, 0.01, 100, "IMG_9999.DNG")
        server.camera.files["IMG_9999.DNG"] = late.raw
        server.camera._news.append("/ccapi/ver130/contents/card1/100CANON/IMG_9999.DNG")
        shot = camera.shoot(tmp_path, "f", exposure(2.8))
        assert truth_of(server, shot.files[0]).file != "IMG_9999.DNG"
        camera.close()


FAULTS: list[tuple[Operation, int, int, Kind, type[CameraError]]] = [
    ("connect", 1, 1, "busy", CameraBusy),
    ("connect", 1, 1, "drop_connection", CameraLost),
    ("status", 1, 1, "busy", CameraBusy),
    ("status", 3, 1, "lost", CameraLost),
    ("set", 2, 1, "busy", CameraBusy),
    ("set", 3, 1, "drop_connection", CameraLost),
    ("live_view", 4, 1, "lost", CameraLost),
    ("live_view", 4, 1, "drop_connection", CameraLost),
    ("drive", 9, 1, "drop_connection", CameraLost),
    ("drive", 30, 1, "stuck", LensStuck),
    ("shoot", 2, 1, "busy", CameraBusy),
    ("shoot", 2, 1, "lost", CameraLost),
    ("shoot", 1, 1, "card_full", CardFull),
    ("poll", 4, 1, "drop_connection", CameraLost),
    ("download", 1, 1, "truncated", BadFrame),
    ("download", 2, 1, "drop_connection", CameraLost),
]


@pytest.mark.parametrize(("operation", "nth", "times", "kind", "error"), FAULTS, ids=lambda value: str(value))
def test_a_fault_is_the_right_error_and_leaves_no_file(
    serve: Serve, tmp_path: Path, operation: Operation, nth: int, times: int, kind: Kind, error: type[CameraError]
) -> None:
    with serve(Fault(operation, nth, kind, times)) as server:
        with pytest.raises(CameraError) as caught:
            camera = opened(server)
            camera.status()
            camera.prepare(frames(0.5))
            camera.home()
            for frame in frames(0.5):
                camera.go_to(frame.diopters)
                camera.settle()
                camera.shoot(tmp_path, f"f{frame.index}", frame.exposure)
        assert server.camera.faults.struck, "the fault did not happen"
        assert type(caught.value) is error
        taken = sorted(p.name for p in tmp_path.iterdir())
        assert taken in ([], ["f0.dng"]), "something was left"


PATIENT: list[tuple[Operation, int]] = [("drive", 5), ("live_view", 6), ("download", 1), ("poll", 3)]


@pytest.mark.parametrize(("operation", "nth"), PATIENT)
def test_what_had_no_effect_is_asked_again(serve: Serve, tmp_path: Path, operation: Operation, nth: int) -> None:
    with serve(Fault(operation, nth, "busy", 3)) as server:
        camera = opened(server)
        camera.prepare(frames(0.5))
        camera.home()
        achieved = camera.go_to(0.5)
        shot = camera.shoot(tmp_path, "f", exposure(2.8))
        assert ([k for *_, k in server.camera.faults.struck]) == ["busy"] * 3
        assert abs(truth_of(server, shot.files[0]).diopters - achieved.diopters) < 0.02
        assert len(server.camera.camera.shots) == 1, "released twice"
        camera.close()


def test_a_camera_that_stays_busy_is_not_asked_forever(serve: Serve, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ccapi_drive, "_PATIENCE_S", 0.05)
    with serve(Fault("drive", 1, "busy", 10_000)) as server:
        camera = opened(server)
        with pytest.raises(CameraBusy):
            camera.home()
        camera.close()


def test_a_full_card_is_seen_by_its_room(serve: Serve, tmp_path: Path) -> None:
    with serve(body=Body(size_hw=(64, 96), card_frames=1)) as server:
        camera = opened(server)
        camera.prepare(frames(0.5))
        camera.shoot(tmp_path, "f", exposure(2.8))
        assert camera.status().free_frames == 0
        with pytest.raises(CardFull):
            camera.shoot(tmp_path, "g", exposure(2.8))
        camera.close()


def test_a_release_without_a_file_ends(serve: Serve, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ccapi_camera, "_FILE_LIMIT_S", 0.05)
    with serve() as server:
        monkeypatch.setattr(server.camera, "_release", lambda kind, last: None)
        camera = opened(server)
        camera.prepare(frames(0.5))
        with pytest.raises(BadFrame, match="0 files came within"):
            camera.shoot(tmp_path, "f", exposure(2.8))
        camera.close()


def test_events_that_somebody_left_open_are_closed_first() -> None:
    listed = {
        "ver100": [{"path": "/ccapi/ver100/shooting/settings", "get": True}],
        "ver110": [{"path": "/ccapi/ver110/event/polling", "get": True, "delete": True}],
    }
    started = reply({"message": "Already started"}, "503 Service Unavailable")
    news = reply({"addedcontents": ["/ccapi/ver110/contents/sd/100CANON/IMG_0001.CR3"]})
    settings = reply({"av": {"value": "f4.0", "ability": ["f4.0"]}})
    with answering(reply(listed), settings, started, reply({}), news) as (url, asked):
        link = link_to(url)
        link.connect()
        camera = ccapi.CcapiCamera(link, None)
        assert camera._wait_for_files(1, 0.0) == ["/ccapi/ver110/contents/sd/100CANON/IMG_0001.CR3"]
    assert [question.split()[0] for question in asked[2:]] == [b"GET", b"DELETE", b"GET"]


@pytest.mark.parametrize(
    "options",
    [{"increment": "3"}, {"bracket": "0"}, {"bracket": "11"}, {"bracket": "x"}, {"focal_length_mm": "far"},
     {"focal_length_mm": "0"}, {"verify": "maybe"}],
    ids=str,
)  # fmt: skip
def test_options_that_are_none_are_refused(options: dict[str, str]) -> None:
    with pytest.raises(DualpixError, match="expected"):
        ccapi.open_camera("http://127.0.0.1:1", None, options)


def test_the_camera_runs_as_a_process_with_faults_and_the_truth_in_files(tmp_path: Path) -> None:
    plan, state = tmp_path / "faults.json", tmp_path / "state.jsonl"
    plan.write_text(json.dumps(FaultPlan([Fault("shoot", 1, "busy")]).to_json()))
    arguments = ("--seed", "3", "--faults", str(plan), "--state", str(state))
    with ServerProcess("dualpix.capture.cameras.testing.ccapi", *arguments) as server:
        camera = ccapi.open_camera(str(server.said["url"]))
        camera.prepare(frames(0.5))
        with pytest.raises(CameraBusy):
            camera.shoot(tmp_path, "f", exposure(2.8))
        (path,) = camera.shoot(tmp_path, "f", exposure(2.8)).files
        (truth,) = read_state(state)
        assert truth.sha256 == hashlib.sha256(path.read_bytes()).hexdigest() and truth.busy_s > 0
        camera.close()


# the camera's own bracket


def bracket_frames(*stops_d: float) -> list[PlannedFrame]:
    return [PlannedFrame(i, d, exposure(2.8)) for i, d in enumerate(stops_d)]


# increment 10 at f/2.8 and 50 mm: 2 c N / f^2
STEP_D = 2 * 30e-6 * 2.8 / 0.05**2


def test_the_cameras_own_bracket_is_followed_from_near_to_far(serve: Serve, tmp_path: Path) -> None:
    wanted = bracket_frames(*(0.9 + i * STEP_D for i in range(5)))
    with serve() as server:
        camera = opened(server, bracket="10")
        camera.prepare(wanted)
        camera.home()
        for frame in wanted:
            achieved = camera.go_to(frame.diopters)
            assert camera.settle().reached
            shot = camera.shoot(tmp_path, f"f{frame.index}", frame.exposure)
            truth = truth_of(server, shot.files[0])
            assert achieved == shot.achieved and achieved.source == "bracket"
            assert abs(achieved.diopters - frame.diopters) < 1e-9
            assert abs(truth.diopters - achieved.diopters) <= 2 * achieved.uncertainty_d + 1e-3
        truths = [truth_of(server, tmp_path / f"f{i}.dng") for i in range(5)]
        assert [t.shot for t in truths] == [4, 3, 2, 1, 0]
        assert server.camera.settings["focusbracketing"]["value"] == "enable"
        camera.leave()
        assert server.camera.settings["focusbracketing"]["value"] == "disable"
        assert server.camera.settings["focusbracketing/numberofshots"]["value"] == 100
        camera.close()


def test_of_a_bracket_the_missing_frames_are_taken_again(serve: Serve, tmp_path: Path) -> None:
    missing = bracket_frames(0.9, 0.9 + 2 * STEP_D, 0.9 + 3 * STEP_D)
    with serve() as server:
        camera = opened(server, bracket="10")
        camera.prepare(missing)
        for frame in missing:
            camera.go_to(frame.diopters)
            path = camera.shoot(tmp_path, f"f{frame.index}", frame.exposure).files[0]
            assert abs(truth_of(server, path).diopters - frame.diopters) < 0.02
        assert len(server.camera.camera.shots) == 4
        camera.close()


@pytest.mark.parametrize(
    ("wanted", "words"),
    [(frames(0.5), "several apertures"), (bracket_frames(0.5, 0.6, 0.85), "not evenly spaced")],
)
def test_a_plan_that_is_no_bracket_is_refused(serve: Serve, wanted: list[PlannedFrame], words: str) -> None:
    with serve() as server:
        camera = opened(server, bracket="10")
        with pytest.raises(DualpixError, match=words):
            camera.prepare(wanted)
        assert not server.camera.camera.shots
        camera.close()


def test_steps_of_even_blur_are_a_bracket_though_not_even_in_diopters() -> None:
    # 50 mm by equal extension from 6.3 m to 0.3 m: the nearer, the smaller a step in diopters
    extensions_mm = [0.4 + 0.32 * i for i in range(30)]
    stops_d = [1000 * e / (50 * (50 + e)) for e in extensions_mm]
    assert (stops_d[1] - stops_d[0]) > 1.3 * (stops_d[-1] - stops_d[-2])
    bracket = Bracket.of(bracket_frames(*stops_d), 50.0)
    assert bracket.shots == 30
    bracket.go_to(stops_d[0])
    assert bracket.place() == 29
    missing = Bracket.of(bracket_frames(*stops_d[3:5], stops_d[9]), 50.0)
    assert [place for _, place in missing.places] == [0, 5, 6]
    with pytest.raises(DualpixError, match="not evenly spaced"):
        Bracket.of(bracket_frames(*stops_d))


def test_settings_are_put_back_by_the_connection_that_comes_after_a_loss(serve: Serve) -> None:
    with serve(Fault("live_view", 3, "drop_connection")) as server:
        settings = server.camera.settings
        before = json.dumps(settings)
        camera = opened(server)
        camera.prepare(frames(0.5))
        with pytest.raises(CameraLost):
            camera.home()
        camera.close()
        assert json.dumps(settings) != before
        again = opened(server)
        again.prepare(frames(0.5))
        again.leave()
        again.close()
        assert json.dumps(settings) == before and server.camera.power_off == "30"


def test_a_picture_that_is_none_is_a_bad_frame() -> None:
    for data in (b"", b"\xff\xd8\xff", b"GIF89a", b"\x89PNG\r\n\x1a\n" + bytes(40)):
        with pytest.raises(BadFrame):
            gray_of_jpeg(data)


@contextmanager
def dripping(first: bytes, drop: bytes) -> Iterator[str]:
    """A camera that answers with ``first`` and then ``drop``, again and again, faster than any wait for a byte."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        ended = threading.Event()

        def serve() -> None:
            with suppress(OSError):
                taken, _ = server.accept()
                with taken:
                    taken.recv(65536)
                    taken.sendall(first)
                    while not ended.wait(0.02):
                        taken.sendall(drop)

        thread = threading.Thread(target=serve, daemon=True)
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.getsockname()[1]}"
        finally:
            ended.set()
            thread.join(5)


@pytest.mark.parametrize(
    ("first", "drop"),
    [
        (b"", b"H"),
        (b"HTTP/1.1 200 OK\r\n", b"X-More: x\r\n"),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 1000000\r\n\r\n{", b" "),
        (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n", b"1\r\n \r\n"),
        (b"HTTP/1.1 401 No\r\nContent-Length: 100000\r\n\r\n", b" "),
    ],
    ids=["status", "headers", "body", "chunks", "refusal"],
)
def test_an_answer_that_drips_ends_by_the_deadline(first: bytes, drop: bytes) -> None:
    with dripping(first, drop) as url:
        link = CcapiLink(Address.parse(url), timeout_s=0.2)
        started = time.monotonic()
        with pytest.raises(
            CameraError, match=r"the answer did not end within 0\.8 s|got more than 100 headers"
        ) as lost:
            link.connect()
        assert "\n" not in str(lost.value) and time.monotonic() - started < 30
        link.close()


def test_a_file_that_drips_ends_by_the_deadline() -> None:
    first = b"HTTP/1.1 200 OK\r\nContent-Length: 50000\r\n\r\n"
    with dripping(first, b"x") as url:
        link = CcapiLink(Address.parse(url), timeout_s=0.2)
        with pytest.raises(CameraLost, match=r"the answer did not end within 1\.3 s"):
            link.download("/ccapi/ver110/contents/sd/100CANON/IMG_0001.CR3", io.BytesIO(), 1 << 20)
        link.close()


def test_silence_is_told_apart_from_dripping() -> None:
    with dripping(b"HTTP/1.1 200 OK\r\n", b"") as url:
        link = CcapiLink(Address.parse(url), timeout_s=0.1)
        with pytest.raises(CameraLost, match="timed out"):
            link.connect()
        link.close()
