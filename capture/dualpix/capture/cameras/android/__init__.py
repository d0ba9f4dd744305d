"""A phone as a camera: the companion app takes the frames of a plan by itself, this end starts it and collects.

Convention: the focus is what the phone reports with each frame (``LENS_FOCUS_DISTANCE``), in diopters where it calls
itself calibrated; see :func:`~dualpix.capture.cameras.android.protocol.uncertainty_d` for what that is taken to be
worth. With a calibration of the lens the reported number is its unit, and the calibration tells the diopters.

The app works through the plan ahead of the host, so ``go_to`` waits for the frame rather than for the lens, and
``shoot`` fetches it. A frame that is asked for again is taken again. Options: ``port`` of the adb server, ``camera`` by
its Camera2 number, ``keep=yes`` to leave the frames on the phone, from which they are removed once they are here whole.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager

from dualpix.capture.camera_protocol import CameraError, CameraInfo
from dualpix.capture.cameras.android import protocol
from dualpix.capture.cameras.android.camera import AndroidCamera
from dualpix.capture.cameras.android.device import AdbServer, Phone, state_hint
from dualpix.capture.cameras.android.facts import battery_percent, free_bytes, thermal_word
from dualpix.capture.cameras.android.session import PhoneSession, new_session
from dualpix.capture.cameras.opening import refuse_unknown, yes_or_no
from dualpix.capture.errors import DualpixError
from dualpix.capture.focus.calibration import LensCalibration

__all__ = [
    "AndroidCamera",
    "PhoneSession",
    "battery_percent",
    "find",
    "free_bytes",
    "open_camera",
    "remark",
    "searching",
    "thermal_word",
]
_OPTIONS = ("port", "camera", "keep")
_CAMERA_ID = re.compile(r"[A-Za-z0-9_.\-]{1,40}")


def find(port: str | None = None) -> list[CameraInfo]:
    """Phones on adb, in whatever state; nothing is started on them.

    Raises:
        DualpixError: ``adbutils`` is not installed, or there is no adb server.
    """
    found = []
    for phone in AdbServer(port).phones():
        ready = phone.state == "device"
        capabilities = ("absolute_focus",) if ready else ()
        found.append(CameraInfo("android", phone.serial, model=phone.model, capabilities=capabilities))
    return found


@contextmanager
def searching(port: str | None = None) -> Iterator[None]:
    """Around looking who is there: an adb server that had to be started for it is stopped again."""
    try:
        server = AdbServer(port)
    except DualpixError:  # the search itself says so
        yield
        return
    ran = server.runs
    try:
        yield
    finally:
        if not ran:
            server.stop()


def remark(info: CameraInfo, port: str | None = None) -> str:
    """What the phone still lacks: permission to debug, the companion app, the app's permission to use the camera."""
    server = AdbServer(port)
    state = next((phone.state for phone in server.phones() if phone.serial == info.address), "offline")
    if state != "device":
        return f"{state}: {state_hint(state)}"
    try:
        _check_app(server.open(info.address))
    except CameraError as error:
        return str(error)
    return ""


def open_camera(
    address: str | None, calibration: LensCalibration | None = None, options: Mapping[str, str] | None = None
) -> AndroidCamera:
    """Connect to a phone and ask its app who it is.

    Raises:
        CameraError: no phone, no app, no permission, or a focus that cannot be trusted.
        DualpixError: ``adbutils`` is not installed, several phones, an unknown option.
    """
    options = options or {}
    camera_id, keep = _read_options(options)
    phone = AdbServer(options.get("port")).open(address)
    _check_app(phone)
    hello = _ask_who(phone, camera_id)
    camera = hello.camera
    if not camera.min_focus_d:
        raise CameraError(f"camera {camera.id} of this phone has a fixed focus", hint="choose another with camera=ID")
    if calibration is None:
        protocol.uncertainty_d(camera.calibration, 0.0)  # refuses a phone that reports no distance
    return AndroidCamera(phone, hello, calibration, camera_id, keep)


def _read_options(options: Mapping[str, str]) -> tuple[str | None, bool]:
    """(camera, keep)"""
    refuse_unknown(options, _OPTIONS, "camera 'android'")
    camera_id = options.get("camera")
    if camera_id is not None and not _CAMERA_ID.fullmatch(camera_id):
        raise DualpixError(f"camera '{camera_id}'", expected="a number of Camera2, such as 0")
    return camera_id, yes_or_no(options, "keep", default=False)


def _check_app(phone: Phone) -> None:
    if "package:" not in phone.run("pm", "path", protocol.PACKAGE):
        raise CameraError(
            f"the companion app ({protocol.PACKAGE}) is not on phone '{phone.entry.serial}'",
            hint="install it with 'adb install'",
        )
    permission = "android.permission.CAMERA"
    if f"{permission}: granted=true" not in phone.run("dumpsys", "package", protocol.PACKAGE):
        raise CameraError(
            "the companion app may not use the camera",
            hint=f"open it once and allow it, or 'adb shell pm grant {protocol.PACKAGE} {permission}'",
        )


def _ask_who(phone: Phone, camera_id: str | None) -> protocol.Hello:
    session = PhoneSession(phone, protocol.Plan(new_session(), (), camera_id=camera_id))
    hello = session.begin()
    phone.run("rm", "-rf", session.folder)
    return hello
