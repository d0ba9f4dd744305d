"""From an address to a connection: ``usb:001,004``, ``ptpip:HOST`` with a port or two, or the only camera there is."""

from __future__ import annotations

import re
from importlib import import_module
from typing import Any

from dualpix.capture.camera_protocol import CameraBusy, CameraError, CameraLost
from dualpix.capture.cameras.canon.link import IN_PROGRESS, CanonLink
from dualpix.capture.cameras.opening import missing_extra, only_one
from dualpix.capture.errors import DualpixError

_ADDRESS = re.compile(r"usb:\d{1,3},\d{1,3}|(?P<host>ptpip:[A-Za-z0-9.\-]{1,253})(?::(\d{1,5}))?(?::(\d{1,5}))?")
_DEFAULT_PORT = "15740"
_UNKNOWN_MODEL, _USB_CLAIM = -105, -53


def gphoto2() -> Any:
    """The package, which is optional.

    Raises:
        DualpixError: it is not installed.
    """
    try:
        return import_module("gphoto2")
    except ImportError as error:
        raise missing_extra("gphoto2", "canon") from error


def on_usb(gp: Any) -> list[tuple[str, str]]:
    """(model, port) of the Canon cameras on USB."""
    cameras = gp.Camera.autodetect()
    found = [(str(cameras.get_name(i)), str(cameras.get_value(i))) for i in range(cameras.count())]
    return [(model, port) for model, port in found if model.startswith("Canon")]


def connect(address: str | None) -> CanonLink:
    """Connect to the camera at ``address``, or to the only one on USB.

    Raises:
        CameraError: nobody there, or it refuses.
        DualpixError: no address, several cameras, or the ``gphoto2`` package is missing.
    """
    gp = gphoto2()
    return open_port(gp, *_whom(gp, address))


def open_port(gp: Any, model: str, port: str) -> CanonLink:
    """Connect by libgphoto2's own names.

    Raises:
        CameraError: nobody there, or it refuses.
    """
    ports, abilities, camera = gp.PortInfoList(), gp.CameraAbilitiesList(), gp.Camera()
    try:
        ports.load()
        abilities.load()
        camera.set_abilities(abilities[abilities.lookup_model(model)])
        camera.set_port_info(ports[ports.lookup_path(port)])
        camera.init()
    except gp.GPhoto2Error as error:
        raise _refused(port, error.code, error.string) from error
    return CanonLink(gp, camera, port)


def _refused(port: str, code: int, words: str) -> CameraError:
    text = f"cannot open the camera at '{port}': {words} ({code})"
    if code == IN_PROGRESS:
        return CameraBusy(text)
    hints = {
        _USB_CLAIM: "another program holds it: close it, or stop gvfs-gphoto2-volume-monitor",
        _UNKNOWN_MODEL: "see 'dualpix cameras' for those that are connected",
    }
    return CameraLost(text, hint=hints.get(code, "is it switched on and awake?"))


def _whom(gp: Any, address: str | None) -> tuple[str, str]:
    """(libgphoto2's model, its port) of an address, or of the only camera there is."""
    if address is None:
        only = only_one({port: (model, port) for model, port in on_usb(gp)}, "Canon cameras on USB")
        if only is None:
            raise CameraLost("no Canon camera on USB", hint="switch it on, or give its --address")
        return only
    match = _ADDRESS.fullmatch(address)
    if match is None:
        raise DualpixError(
            f"'{address}' is no address of a Canon camera", expected="usb:BUS,DEVICE or ptpip:HOST[:PORT]"
        )
    if match["host"] is None:
        for model, port in on_usb(gp):
            if port == address:
                return model, port
        raise CameraLost(f"no Canon camera at '{address}'", hint="see 'dualpix cameras' for those that are connected")
    command = match[2] or _DEFAULT_PORT
    return "PTP/IP Camera", f"{match['host']}:{command}:{match[3] or command}"
