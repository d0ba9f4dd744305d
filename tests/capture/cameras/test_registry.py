"""The registry of cameras: lazy, complete, and a search that no backend can hold up."""

from __future__ import annotations

import inspect
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from importlib import import_module
from types import MappingProxyType, ModuleType
from typing import Any

import pytest

from dualpix.capture import cameras
from dualpix.capture.camera_protocol import Camera, CameraInfo, CameraLost, FocusDrive
from dualpix.capture.cameras import BACKENDS, Answer, Backend, backend, find_all
from dualpix.capture.errors import DualpixError, UnknownNameError

CAMERAS = {
    "sim": ("SimCamera", "SimDrive"),
    "canon": ("CanonCamera", "CanonDrive"),
    "ccapi": ("CcapiCamera", "CcapiDrive"),
    "android": ("AndroidCamera", None),
}
"""Of each backend its camera, and its drive where the focus moves by steps."""


def test_every_backend_has_what_the_registry_calls() -> None:
    assert list(BACKENDS) == list(CAMERAS)
    for name, entry in BACKENDS.items():
        module = import_module(entry.module)
        assert entry.name == name and entry.summary
        assert not [p for p in inspect.signature(module.find).parameters.values() if p.default is p.empty]
        assert list(inspect.signature(module.open_camera).parameters) == ["address", "calibration", "options"]
        assert hasattr(module, "open_drive") == entry.drives


def members(protocol: type) -> set[str]:
    return {name for name in vars(protocol) if not name.startswith("_")}


@pytest.mark.parametrize("name", CAMERAS)
def test_cameras_have_what_a_capture_calls(name: str) -> None:
    module, (camera, drive) = import_module(BACKENDS[name].module), CAMERAS[name]
    assert members(Camera) <= set(dir(getattr(module, camera)))
    assert bool(drive) == BACKENDS[name].drives
    if drive:
        assert members(FocusDrive) <= set(dir(getattr(module, drive)))


def test_naming_and_listing_cameras_imports_no_backend_and_no_torch() -> None:
    code = (
        "import sys; import dualpix.capture.cameras as c, dualpix.capture.cameras.cli\n"
        "names = [b.module for b in c.BACKENDS.values()] + ['torch', 'gphoto2', 'adbutils']\n"
        "print([n for n in names if n in sys.modules])"
    )
    assert subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True).stdout == "[]\n"


def test_the_renderers_camera_is_still_found_here() -> None:
    assert cameras.SimulatedCamera.__name__ == "SimulatedCamera"
    with pytest.raises(AttributeError, match="has no attribute 'Nothing'"):
        _ = cameras.Nothing


def test_an_unknown_name_lists_those_that_are_known() -> None:
    with pytest.raises(UnknownNameError, match="unknown camera 'nikon'; expected one of: android, canon, ccapi, sim"):
        backend("nikon")


def test_a_phone_has_no_steps_to_calibrate() -> None:
    with pytest.raises(DualpixError, match=r"'android' has no focus steps.*one of: sim, canon, ccapi"):
        backend("android").drive("x")


Add = Callable[..., None]


@pytest.fixture
def add(monkeypatch: pytest.MonkeyPatch) -> Iterator[Add]:
    """``add("name", find)``: registers a backend whose module has these functions."""
    entries: dict[str, Backend] = {}
    monkeypatch.setattr(cameras, "BACKENDS", MappingProxyType(entries))

    def register(name: str, find: Callable[[], list[CameraInfo]], **functions: Any) -> None:
        module = ModuleType(f"played_{name}")
        vars(module).update(find=find, **functions)
        monkeypatch.setitem(sys.modules, module.__name__, module)
        entries[name] = Backend(name, "played", module.__name__)

    yield register


INFO = CameraInfo("a", "there")


def test_a_search_tells_of_cameras_failures_and_what_is_missing(add: Add) -> None:
    def lost() -> list[CameraInfo]:
        raise CameraLost("nobody")

    def lacking() -> list[CameraInfo]:
        raise cameras.missing_extra("adbutils", "android")

    add("good", lambda: [INFO, INFO], remark=lambda info: f"at {info.address}")
    add("plain", lambda: [INFO])
    add("empty", list)
    add("lost", lost)
    add("lacking", lacking)
    assert find_all() == [
        Answer("good", (INFO, INFO), ("at there", "at there")),
        Answer("plain", (INFO,), ("",)),
        Answer("empty"),
        Answer("lost", error="nobody"),
        Answer("lacking", error="package 'adbutils' is not installed; pip install 'dualpix[android]'"),
    ]
    assert [answer.backend for answer in find_all(["empty", "good"])] == ["empty", "good"]


def test_a_backend_that_hangs_holds_nobody_up(add: Add) -> None:
    forever = threading.Event()

    def hang() -> list[CameraInfo]:
        forever.wait(60)
        return []

    add("hangs", hang)
    add("good", lambda: [INFO])
    try:
        assert find_all(limit_s=0.2) == [
            Answer("hangs", error="no answer within 0.2 s"),
            Answer("good", (INFO,), ("",)),
        ]
    finally:
        forever.set()


def test_a_bug_is_not_passed_off_as_silence(add: Add) -> None:
    def broken() -> list[CameraInfo]:
        raise ZeroDivisionError("ours")

    add("broken", broken)
    with pytest.raises(ZeroDivisionError, match="ours"):
        find_all()
