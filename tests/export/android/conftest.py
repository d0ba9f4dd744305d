"""A private adb server and, behind it, a phone with the app's own Java code."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from safetensors.torch import load_file
from tests.android_demo.conftest import DEMO, Classes, compile_java
from tests.export.android.java_phone import JavaPhone, java_phone, write_engine

from dualpix.capture.cameras.hidden.faults import Fault
from dualpix.capture.cameras.testing.adbd import PrivateAdb
from dualpix.export.flow import ExportResult
from dualpix.export.flow.record import REFERENCE


@pytest.fixture(scope="session")
def app_classes(tmp_path_factory: pytest.TempPathFactory) -> Classes:
    """The app's core and the desktop in front of it, compiled for this run."""
    if shutil.which("javac") is None:
        pytest.skip("no JDK here (Debian: openjdk-17-jdk-headless)")
    made = Classes(tmp_path_factory.mktemp("app"), tmp_path_factory.mktemp("no-tests"))
    compile_java(made.main, DEMO / "core/src/main", DEMO / "double/src/main")
    return made


@pytest.fixture(scope="session")
def adb(tmp_path_factory: pytest.TempPathFactory) -> Iterator[PrivateAdb]:
    """The real adb, as a server that nobody else talks to."""
    adbutils = pytest.importorskip("adbutils", reason="pip install 'dualpix[android]'")
    try:
        subprocess.run([adbutils.adb_path(), "version"], check=True, capture_output=True, timeout=300)
    except (OSError, subprocess.SubprocessError) as error:
        pytest.skip(f"no adb here: {error}")
    with PrivateAdb(tmp_path_factory.mktemp("adb-home")) as server:
        yield server


@dataclass(frozen=True)
class Connected:
    """A phone, and the serial that adb has for it."""

    phone: JavaPhone
    serial: str


Connect = Callable[..., AbstractContextManager[Connected]]


@pytest.fixture
def connect(adb: PrivateAdb, app_classes: Classes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Connect:
    """``with connect(faults...) as at: at.phone, at.serial``."""
    monkeypatch.setenv("ANDROID_ADB_SERVER_PORT", str(adb.port))

    @contextmanager
    def start(*faults: Fault) -> Iterator[Connected]:
        with java_phone(tmp_path, app_classes, *faults) as (phone, server):
            adb.client().connect(server.serial)
            try:
                yield Connected(phone, server.serial)
            finally:
                adb.client().disconnect(server.serial)

    return start


@dataclass(frozen=True)
class Exported:
    """A program of an export, and what it gives for the stored input."""

    pte: Path
    outputs: tuple[npt.NDArray[np.float32], ...]

    def play(self, phone: JavaPhone, **change: Any) -> None:
        """Let the phone's network give that."""
        write_engine(phone.java.scripts, *self.outputs, **change)


@pytest.fixture(scope="session")
def exported(foreign_export: ExportResult) -> Exported:
    """One float32 program in a folder of ``dualpix export``."""
    tensors = load_file(foreign_export.folder / REFERENCE)
    (pte,) = foreign_export.folder.glob("*.pte")
    return Exported(pte, (tensors["output.xnnpack-fp32"].numpy(),))
