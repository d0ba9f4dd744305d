"""Installing the app, and what is asked of a phone before."""

from __future__ import annotations

import hashlib
import zipfile
from pathlib import Path

import pytest
from click.testing import CliRunner
from tests.export.android.conftest import Connect

from dualpix.capture.camera_protocol import CameraLost
from dualpix.capture.cameras.android.protocol import PACKAGE
from dualpix.capture.errors import OutputError
from dualpix.export.android.cli import command
from dualpix.export.android.phone import check_apk, install
from dualpix.export.android.phone import connect as phone_at
from dualpix.export.android.protocol import BenchError


@pytest.fixture
def apk(tmp_path: Path) -> Path:
    path = tmp_path / "app.apk"
    with zipfile.ZipFile(path, "w") as archive:
        for name in ("AndroidManifest.xml", "classes.dex", "lib/arm64-v8a/libexecutorch.so"):
            archive.writestr(name, name * 10_000)
    return path


def test_an_apk_is_put_on_the_phone_whole(connect: Connect, apk: Path) -> None:
    with connect() as at:
        at.phone.app = False
        done = CliRunner().invoke(command, ["install", str(apk), "--address", at.serial], catch_exceptions=False)
        assert done.exit_code == 0 and "installed 'app.apk' on Double (arm64-v8a, armeabi-v7a)" in done.stdout
        assert at.phone.installed == [hashlib.sha256(apk.read_bytes()).hexdigest()]
        assert not list(at.phone.root.rglob("*.apk")), "nothing is left on the phone"


@pytest.mark.parametrize(
    ("reason", "said"),
    [
        ("INSTALL_FAILED_UPDATE_INCOMPATIBLE", f"UPDATE_INCOMPATIBLE.*adb uninstall {PACKAGE}"),
        ("INSTALL_FAILED_INSUFFICIENT_STORAGE", "refuses 'app.apk': Failure .INSTALL_FAILED_INSUFFICIENT_STORAGE"),
    ],
)
def test_a_phone_that_refuses_says_why(connect: Connect, apk: Path, reason: str, said: str) -> None:
    with connect() as at:
        at.phone.refuses_apk = reason
        with pytest.raises(BenchError, match=said):
            install(phone_at(at.serial), apk)
        assert not list(at.phone.root.rglob("*.apk"))


def test_a_cable_that_comes_out_is_said(connect: Connect, apk: Path) -> None:
    with connect() as at:
        at.phone.cut_after_bytes = 100_000
        with pytest.raises(CameraLost, match="is gone"):
            install(phone_at(at.serial), apk)
        assert not at.phone.installed


def test_a_phone_of_another_processor_is_told(connect: Connect, apk: Path) -> None:
    with connect() as at:
        at.phone.abis = "x86_64"
        with pytest.raises(BenchError, match="runs x86_64; expected arm64-v8a"):
            install(phone_at(at.serial), apk)


def test_what_is_no_apk_is_refused_before_a_phone_is_looked_for(tmp_path: Path, apk: Path) -> None:
    (tmp_path / "text.apk").write_text("no archive")
    with zipfile.ZipFile(tmp_path / "other.apk", "w") as archive:
        archive.writestr("AndroidManifest.xml", "")
    for name, said in (("none.apk", "there is no file"), ("text.apk", "is no APK"), ("other.apk", "no classes.dex")):
        with pytest.raises(BenchError, match=f"{said}.*build_apk.py"):
            check_apk(tmp_path / name)
    assert check_apk(apk) == apk.stat().st_size


def test_help_of_every_command() -> None:
    for words in (["--help"], ["install", "--help"], ["bench", "--help"]):
        done = CliRunner().invoke(command, words)
        assert done.exit_code == 0 and "Usage:" in done.output
    assert "--resume" in CliRunner().invoke(command, ["capture", "--help"]).output


def test_an_error_of_the_capture_is_one_of_ours() -> None:
    with pytest.raises(OutputError, match="no output folder"):
        CliRunner().invoke(command, ["capture"], catch_exceptions=False)
