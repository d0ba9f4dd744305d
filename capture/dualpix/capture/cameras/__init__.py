"""Cameras by name: how to find them, open them and drive their focus.

A camera is added by a line in ``BACKENDS`` and a room of the form::

    find() -> list[CameraInfo]                                  bounded in time, changes nothing on the camera
    open_camera(address, calibration, options) -> Camera
    open_drive(address, options) -> FocusDrive                  only where the focus moves by steps
    remark(info) -> str                                         optional: what a found camera still lacks

Rooms are named as text and imported when they are used: listing cameras imports no torch.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from importlib import import_module
from types import MappingProxyType, ModuleType
from typing import TYPE_CHECKING, Any, cast

from dualpix.capture.errors import DualpixError, UnknownNameError

if TYPE_CHECKING:
    from dualpix.capture.camera_protocol import Camera, CameraInfo, FocusDrive
    from dualpix.capture.cameras.opening import missing_extra as missing_extra
    from dualpix.capture.cameras.sim.single_shot import SimulatedCamera as SimulatedCamera
    from dualpix.capture.cameras.sim.single_shot import SimulatedSensor as SimulatedSensor
    from dualpix.capture.cameras.sim.single_shot import SimulatedShot as SimulatedShot
    from dualpix.capture.focus.calibration import LensCalibration

__all__ = [
    "BACKENDS", "Answer", "Backend", "SimulatedCamera", "SimulatedSensor", "SimulatedShot", "backend", "find_all",
    "missing_extra",
]  # fmt: skip

_WHEN_ASKED_FOR = {
    "missing_extra": "dualpix.capture.cameras.opening",
    # renders with torch
    **dict.fromkeys(("SimulatedCamera", "SimulatedSensor", "SimulatedShot"), "dualpix.capture.cameras.sim.single_shot"),
}


@dataclass(frozen=True)
class Backend:
    """One way to reach cameras."""

    name: str
    summary: str
    module: str
    drives: bool = True
    """Whether the focus moves by steps, so that there is something to calibrate."""
    brackets: bool = False
    """Whether its option ``bracket=INCREMENT`` has the camera take a stack by its own focus bracketing."""

    def searching(self) -> AbstractContextManager[None]:
        """Around a search: what has to be started for it is ended again."""
        around = getattr(self._load(), "searching", nullcontext)
        return cast("AbstractContextManager[None]", around())

    def find(self) -> list[CameraInfo]:
        """Who answers now.

        Raises:
            DualpixError: a package is missing, or the search itself failed.
        """
        return cast("list[CameraInfo]", self._load().find())

    def open(
        self,
        address: str | None = None,
        calibration: LensCalibration | None = None,
        options: Mapping[str, str] | None = None,
    ) -> Camera:
        """Connect to the camera at ``address``, or to the only one there is.

        Raises:
            CameraError: nobody there, or it refuses.
            DualpixError: a package is missing, several cameras answer, or an option is unknown.
        """
        return cast("Camera", self._load().open_camera(address, calibration, dict(options or {})))

    def drive(self, address: str | None = None, options: Mapping[str, str] | None = None) -> FocusDrive:
        """The bare focus drive of a camera, as calibration needs it.

        Raises:
            DualpixError: this backend moves to positions, not by steps; else as :meth:`open`.
        """
        if not self.drives:
            raise DualpixError(
                f"camera '{self.name}' has no focus steps to calibrate",
                expected="one of: " + ", ".join(b.name for b in BACKENDS.values() if b.drives),
            )
        return cast("FocusDrive", self._load().open_drive(address, dict(options or {})))

    def remark(self, info: CameraInfo) -> str:
        """What a camera that was found still lacks before it can capture; empty where nothing is known to."""
        remark = getattr(self._load(), "remark", None)
        return str(remark(info)) if remark else ""

    def _load(self) -> ModuleType:
        return import_module(self.module)


BACKENDS: Mapping[str, Backend] = MappingProxyType(
    {
        b.name: b
        for b in (
            Backend("sim", "a lens and a scene in this process", "dualpix.capture.cameras.sim"),
            Backend("canon", "Canon EOS on USB or PTP/IP, through libgphoto2", "dualpix.capture.cameras.canon"),
            Backend("ccapi", "Canon over the network (CCAPI)", "dualpix.capture.cameras.ccapi", brackets=True),
            Backend("android", "phone with the companion app, over adb", "dualpix.capture.cameras.android", False),
        )
    }
)


@dataclass(frozen=True)
class Answer:
    """What the search of one backend came to."""

    backend: str
    cameras: tuple[CameraInfo, ...] = ()
    remarks: tuple[str, ...] = ()
    """Per camera what it still lacks, empty where nothing is known to."""
    error: str | None = None
    """Why nothing could be searched."""


def find_all(names: Sequence[str] | None = None, limit_s: float = 10.0) -> list[Answer]:
    """Search all backends at once; one that fails, or does not come back in time, says so in its answer.

    Args:
        names: of the backends, all by default.
        limit_s: for all of them together.

    Raises:
        UnknownNameError: there is no such backend.
    """
    searches = [_Search(backend(name)) for name in (BACKENDS if names is None else names)]
    give_up = time.monotonic() + limit_s
    for search in searches:
        search.thread.join(max(0.0, give_up - time.monotonic()))
        if search.bug is not None:
            raise search.bug
    late = f"no answer within {limit_s:g} s"
    return [search.answer or Answer(search.name, error=late) for search in searches]


class _Search:
    """One backend's, in a thread that nobody waits for longer than agreed."""

    def __init__(self, searched: Backend) -> None:
        self.name, self._searched = searched.name, searched
        self.answer: Answer | None = None
        self.bug: Exception | None = None
        self.thread = threading.Thread(target=self._run, daemon=True)
        self.thread.start()

    def _run(self) -> None:
        try:
            with self._searched.searching():
                cameras = tuple(self._searched.find())
                remarks = tuple(self._searched.remark(info) for info in cameras)
            self.answer = Answer(self.name, cameras, remarks)
        except DualpixError as error:
            self.answer = Answer(self.name, error=str(error))
        except Exception as error:
            self.bug = error  # raised where somebody sees it


def backend(name: str) -> Backend:
    """The backend of a name.

    Raises:
        UnknownNameError: there is none.
    """
    if name not in BACKENDS:
        raise UnknownNameError("camera", name, list(BACKENDS))
    return BACKENDS[name]


def __getattr__(name: str) -> Any:
    if name in _WHEN_ASKED_FOR:
        return getattr(import_module(_WHEN_ASKED_FOR[name]), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
