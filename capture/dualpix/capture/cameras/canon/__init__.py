"""Canon EOS through libgphoto2 (the ``gphoto2`` package): USB, and PTP/IP where the camera offers it.

Addresses are libgphoto2's ports: ``usb:001,004``, or ``ptpip:HOST`` with a port or two (``ptpip:127.0.0.1:15740``).
Options: ``target`` = ``ram`` (default: frames go straight to the host, the card stays empty) or ``card``;
``focal_length_mm``, which a zoom lens does not tell.

Canon tells no focus distance: positions are counted steps through a calibration. Nor can dual-pixel raw be switched on
or seen from here: it is a menu setting, and shows in the files.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import suppress

from dualpix.capture.camera_protocol import CameraError, CameraInfo
from dualpix.capture.cameras.canon.camera import TARGETS, CanonCamera
from dualpix.capture.cameras.canon.connect import connect, gphoto2, on_usb
from dualpix.capture.cameras.canon.drive import CanonDrive
from dualpix.capture.cameras.opening import focal_length_of, refuse_unknown
from dualpix.capture.errors import DualpixError
from dualpix.capture.focus.calibration import LensCalibration

__all__ = ["CanonCamera", "CanonDrive", "find", "open_camera", "open_drive"]
_OPTIONS = ("target", "focal_length_mm")


def find(addresses: Sequence[str] = ()) -> list[CameraInfo]:
    """Canon cameras on USB, by name alone, and those of ``addresses`` that answer.

    Cameras on USB are listed without opening them, which would take them from their user. Those on PTP/IP announce
    nothing that could be listed: they are found where their address is given.

    Raises:
        DualpixError: the ``gphoto2`` package is missing.
    """
    gp = gphoto2()
    found = [CameraInfo("canon", port, make="Canon", model=model) for model, port in on_usb(gp)]
    for address in addresses:
        with suppress(CameraError):
            drive = open_drive(address, {})
            found.append(drive.info)
            drive.close()
    return found


def open_drive(address: str | None, options: Mapping[str, str]) -> CanonDrive:
    """The bare lens of a camera.

    Raises:
        CameraError: nobody there, or it refuses.
        DualpixError: address or options are none, several cameras answer, or the ``gphoto2`` package is missing.
    """
    _, focal_length_mm = _read_options(options)
    return CanonDrive(connect(address), focal_length_mm)


def open_camera(address: str | None, calibration: LensCalibration | None, options: Mapping[str, str]) -> CanonCamera:
    """Connect to a camera; nothing on it is changed yet.

    Raises:
        CameraError: nobody there, or it refuses.
        DualpixError: address or options are none, several cameras answer, or the ``gphoto2`` package is missing.
    """
    target, focal_length_mm = _read_options(options)
    return CanonCamera(connect(address), calibration, target, focal_length_mm)


def _read_options(options: Mapping[str, str]) -> tuple[str, float | None]:
    refuse_unknown(options, _OPTIONS, "a Canon camera")
    target = options.get("target", "ram")
    if target not in TARGETS:
        raise DualpixError(f"unknown target '{target}'", expected=" or ".join(TARGETS))
    return target, focal_length_of(options)
