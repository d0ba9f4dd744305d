"""The app: its manifest is what the host asks for, and it builds from packages alone."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest
from tests.android_demo.conftest import DEMO

from dualpix.capture.cameras.android import protocol

MANIFEST = DEMO / "app/src/main/AndroidManifest.xml"
PROPERTIES = dict(re.findall(r"^dualpix\.(\w+)=(\S+)$", (DEMO / "gradle.properties").read_text(), re.MULTILINE))


def named(tag: str) -> list[str]:
    """Names of the manifest's elements of a kind, without the application's id."""
    names = re.findall(rf'<{tag}\s[^>]*?android:name="([^"]+)"', MANIFEST.read_text())
    return [name.replace("${applicationId}", "") for name in names]


def test_the_app_is_the_one_that_the_host_asks_for() -> None:
    assert PROPERTIES["applicationId"] == protocol.PACKAGE
    assert protocol.ACTIVITY.removeprefix(protocol.PACKAGE + "/") in named("activity-alias")
    assert ".BenchActivity" in named("activity-alias")
    messages = (DEMO / "core/src/main/java/org/dualpix/demo/core/Messages.java").read_text()
    assert f'SESSION_EXTRA = "{protocol.SESSION_EXTRA}"' in messages and f"VERSION = {protocol.VERSION};" in messages


def test_it_asks_for_the_camera_alone() -> None:
    assert named("uses-permission") == ["android.permission.CAMERA"]


def test_core_knows_no_android_and_the_app_no_androidx() -> None:
    for path in (DEMO / "core").rglob("*.java"):
        assert not re.search(r"^import (android|androidx|org\.pytorch)\.", path.read_text(), re.MULTILINE), path
    for path in (DEMO / "app").rglob("*.java"):
        assert "import androidx." not in path.read_text(), path


def test_what_is_missing_is_said_with_what_to_install(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    run = subprocess.run(
        [sys.executable, str(DEMO / "build_apk.py"), "-o", str(tmp_path / "a.apk"), "--cache", str(tmp_path / "cache")],
        capture_output=True, text=True, timeout=120, env={"PATH": str(tmp_path / "empty")},
    )  # fmt: skip
    assert run.returncode == 2 and run.stderr.count("\n") == 1
    assert "apt-get install aapt" in run.stderr and "openjdk-17-jdk-headless" in run.stderr
    assert not (tmp_path / "a.apk").exists()


@pytest.mark.slow
def test_a_signed_apk_from_a_clean_copy(tmp_path: Path) -> None:
    """With the real Java classes of ExecuTorch, which ``Engine.java`` is compiled against as it stands."""
    tools = ("javac", "aapt", "aapt2", "zipalign", "apksigner", "dexdump", "npm")
    if missing := [tool for tool in tools if shutil.which(tool) is None]:
        pytest.skip(f"no {', '.join(missing)} here; build_apk.py says what to install")
    copy = tmp_path / "android_demo"
    shutil.copytree(DEMO, copy, ignore=shutil.ignore_patterns("build", "__pycache__"))
    cache = os.environ.get("DUALPIX_ANDROID_CACHE", str(Path.home() / ".cache" / "dualpix-android"))
    out = tmp_path / "demo.apk"
    run = subprocess.run(
        [sys.executable, str(copy / "build_apk.py"), "-o", str(out), "--cache", cache],
        capture_output=True, text=True, timeout=1800,
    )  # fmt: skip
    assert run.returncode == 0, run.stderr
    assert "signed v2 and v3" in run.stdout and "0 findings" in run.stdout
    with zipfile.ZipFile(out) as apk:
        names = set(apk.namelist())
        dex = apk.read("classes.dex")
    assert {f"lib/arm64-v8a/{n}.so" for n in ("libexecutorch", "libfbjni", "libc++_shared")} <= names
    assert dex.startswith(b"dex\n038")
    for name in (
        b"org/dualpix/demo/app/Engine;",
        b"org/pytorch/executorch/Module;",
        b"org/dualpix/demo/core/FrameTaker;",
    ):
        assert name in dex
    assert b"org/dualpix/demo/desktop" not in dex and sorted(p.name for p in copy.glob("*.apk")) == []
