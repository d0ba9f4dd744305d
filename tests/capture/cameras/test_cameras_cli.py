"""``dualpix cameras``: the table and its JSON, from servers on loopback, and what it says where nothing is."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from dualpix.capture import cameras
from dualpix.capture.camera_protocol import CameraInfo
from dualpix.capture.cameras import Answer, cli
from dualpix.capture.cameras.android.device import AdbServer
from dualpix.capture.cameras.ccapi.discovery import ENVIRONMENT
from dualpix.capture.cameras.hidden.body import Body
from dualpix.capture.cameras.hidden.camera import HiddenCamera
from dualpix.capture.cameras.hidden.faults import FaultPlan
from dualpix.capture.cameras.testing.adbd import AdbdServer, PrivateAdb, free_port
from dualpix.capture.cameras.testing.adbd import serving as serving_phone
from dualpix.capture.cameras.testing.canon_online import CanonOnline
from dualpix.capture.cameras.testing.ccapi import CcapiServer, serving
from dualpix.capture.cameras.testing.companion import PhoneOptics
from dualpix.capture.cameras.testing.phone import VirtualPhone
from dualpix.capture.errors import DualpixError

SMALL = Body(size_hw=(32, 48))


@pytest.fixture(autouse=True)
def own_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("HOME", "XDG_CONFIG_HOME", "XDG_DATA_HOME"):
        monkeypatch.setenv(name, str(tmp_path))
    monkeypatch.setenv(ENVIRONMENT, "off")


@pytest.fixture
def canon(monkeypatch: pytest.MonkeyPatch) -> Iterator[CcapiServer]:
    with serving(CanonOnline(HiddenCamera(seed=1, body=SMALL), FaultPlan())) as server:
        monkeypatch.setenv(ENVIRONMENT, server.ssdp)
        yield server


@pytest.fixture
def phone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[AdbdServer]:
    played = VirtualPhone(tmp_path / "phone", PhoneOptics(1, "CALIBRATED", body=SMALL), FaultPlan(), app=False)
    with PrivateAdb(tmp_path) as adb, serving_phone(played) as server:
        monkeypatch.setenv("ANDROID_ADB_SERVER_PORT", str(adb.port))
        adb.client().connect(server.serial)
        yield server


def run(*arguments: str) -> Any:
    return CliRunner().invoke(cli.command, arguments, env={"COLUMNS": "200"}, catch_exceptions=False)


def test_what_is_connected_and_what_each_can_do(canon: CcapiServer, phone: AdbdServer) -> None:
    result = run("--camera", "sim", "--camera", "ccapi", "--camera", "android")
    assert result.exit_code == 0
    lines = {line.split()[0]: line for line in result.output.splitlines() if line.strip()}
    assert "focus by steps" in lines["sim"] and "Hidden 50mm" in lines["sim"]
    assert canon.url in lines["ccapi"] and "own focus bracket" in lines["ccapi"] and "f/1.8 to f/16" in lines["ccapi"]
    assert phone.serial in lines["android"] and "companion app" in lines["android"]


def test_the_same_for_machines(canon: CcapiServer) -> None:
    (record,) = json.loads(run("--camera", "ccapi", "--json").output)
    (found,) = record["cameras"]
    assert (record["backend"], record["error"], found["remark"]) == ("ccapi", None, None)
    assert found["address"] == canon.url and found["f_numbers"] == list(SMALL.f_numbers)
    assert found["capabilities"] == ["live_view", "focus_drive", "aperture", "camera_bracket"]


def test_a_camera_that_no_search_finds_is_asked_by_its_address(
    canon: CcapiServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(ENVIRONMENT, "off")
    assert "none found" in run("--camera", "ccapi").output
    assert canon.url in run("--camera", "ccapi", "--address", canon.url).output
    with pytest.raises(DualpixError, match="--address without a camera"):
        run("--address", canon.url)


def test_what_is_missing_is_a_row_with_the_pip_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "adbutils", None)
    monkeypatch.setitem(sys.modules, "gphoto2", None)
    result = run("--camera", "android", "--camera", "canon")
    assert result.exit_code == 0
    assert "pip install 'dualpix[android]'" in result.output and "pip install 'dualpix[canon]'" in result.output
    records = json.loads(run("--camera", "android", "--json").output)
    assert records == [
        {
            "backend": "android",
            "error": "package 'adbutils' is not installed; pip install 'dualpix[android]'",
            "cameras": [],
        }
    ]


def test_what_a_camera_says_of_itself_is_no_markup_and_no_control(monkeypatch: pytest.MonkeyPatch) -> None:
    info = CameraInfo("sim", "sim", model="[red]x[/red]\x1b[2J\n", capabilities=("live_view",))
    monkeypatch.setattr(cli, "find_all", lambda names, limit_s: [Answer("sim", (info,), ("",))])
    output = run().output
    assert "[red]x[/red]?[2J?" in output and "\x1b" not in output


def test_the_command_is_there_and_needs_no_torch(tmp_path: Path) -> None:
    code = "import sys; from dualpix.capture.cli import main\nmain(['cameras', '--camera', 'sim', '--json'])\n"
    guarded = f"import sys; sys.modules['torch'] = None\n{code}"
    done = subprocess.run([sys.executable, "-c", guarded], capture_output=True, text=True, check=True)
    assert json.loads(done.stdout)[0]["cameras"][0]["model"]


def test_the_summary_of_every_backend_is_shown_where_nothing_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cli, "find_all", lambda names, limit_s: [Answer(name) for name in cameras.BACKENDS])
    output = " ".join(run().output.split())
    assert all(b.summary in output for b in cameras.BACKENDS.values())


@pytest.mark.parametrize("words", [["--json"], ["--address", "nobody"]])
def test_an_adb_server_that_was_not_there_is_not_left_behind(
    words: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The real adb, on a port where nobody listens; without USB: it is somebody's real phone."""
    port = free_port()
    for name, value in (("ANDROID_ADB_SERVER_PORT", str(port)), ("ADB_USB", "0"), ("ADB_MDNS", "0")):
        monkeypatch.setenv(name, value)
    started: list[str] = []
    find, stop = AdbServer.phones, AdbServer.stop
    monkeypatch.setattr(AdbServer, "phones", lambda self: started.append("asked") or find(self))
    monkeypatch.setattr(AdbServer, "stop", lambda self: started.append(f"runs {self.runs}") or stop(self))
    done = CliRunner().invoke(cli.command, ["--camera", "android", *words])
    if "--json" in words:
        assert json.loads(done.stdout)[0]["error"] is None
    else:
        assert "no phone 'nobody' on adb" in str(done.exception)
    assert started == ["asked", "runs True"]
    assert _listens_no_more(port)


@pytest.mark.skipif(sys.platform == "win32", reason="as the shells of Unix close them")
@pytest.mark.parametrize("stream", ["<&-", ">&-", "2>&-"])
def test_adb_is_started_where_a_standard_stream_is_closed(stream: str, tmp_path: Path) -> None:
    """As of a job without a terminal: adb 29.0.6 itself does not start its server then."""
    words = "cameras --camera android --address nobody"
    code = f"from dualpix.capture.cli import main; main({words.split()!r})"
    changed = {"ANDROID_ADB_SERVER_PORT": str(free_port()), "ADB_USB": "0", "ADB_MDNS": "0"}
    done = subprocess.run(  # noqa: S602
        f'{sys.executable} -c "{code}" {stream}', shell=True, capture_output=True, text=True,
        env=os.environ | changed, cwd=tmp_path,
    )  # fmt: skip
    assert done.returncode == 2
    assert "2>" in stream or "no phone 'nobody' on adb" in done.stderr


def test_an_adb_server_that_was_there_stays(phone: AdbdServer) -> None:
    assert phone.serial in run("--camera", "android").output
    with pytest.raises(DualpixError):
        run("--camera", "android", "--address", "nobody")
    assert AdbServer(os.environ["ANDROID_ADB_SERVER_PORT"]).runs


def _listens_no_more(port: int) -> bool:
    for _ in range(200):
        try:
            socket.create_connection(("127.0.0.1", port), 1).close()
        except OSError:
            return True
        time.sleep(0.05)
    return False
