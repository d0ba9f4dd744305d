"""Canon over the network, by the Camera Control API: HTTP requests on whatever the camera lists.

Addresses: ``http://HOST:8080`` as the camera shows it, with ``USER:PASSWORD@`` where it asks for them, or https.
Options: ``verify=no`` accepts the camera's own certificate; ``focal_length_mm``, which a zoom lens does not tell;
``bracket=INCREMENT`` (1 to 10) lets the camera shoot the stack by itself, by its focus bracketing.

Focus steps need live view. A step that the camera refuses for the moment is sent again for a while here, because it has
had no effect, and starting over would home the lens; so is a question for the file of a release that has happened. All
else that is refused is the caller's to try again. Files stay on the card.

To the first frame of a bracket of the camera's own, the nearest, the lens is brought through its calibration; without
one it is taken to stand there, to within a step, where the photographer has put it. See
:mod:`~dualpix.capture.cameras.ccapi.bracket` for what is known of the others.

Canon tells no focus distance, and dual-pixel raw can neither be switched on nor seen from here.
"""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass

from dualpix.capture.camera_protocol import CameraError, CameraInfo, CameraLost
from dualpix.capture.cameras.ccapi.address import Address
from dualpix.capture.cameras.ccapi.camera import CcapiCamera
from dualpix.capture.cameras.ccapi.discovery import discover
from dualpix.capture.cameras.ccapi.drive import CcapiDrive
from dualpix.capture.cameras.ccapi.facts import describe
from dualpix.capture.cameras.ccapi.link import CcapiLink
from dualpix.capture.cameras.opening import focal_length_of, only_one, refuse_unknown, yes_or_no
from dualpix.capture.errors import DualpixError
from dualpix.capture.focus.calibration import LensCalibration

__all__ = ["CcapiCamera", "CcapiDrive", "find", "open_camera", "open_drive", "remark"]
_OPTIONS = ("verify", "focal_length_mm", "bracket")
_FIND_S = 3.0


def find() -> list[CameraInfo]:
    """Cameras that answer on the network, with what they offer where they tell it.

    Raises:
        DualpixError: see :func:`~dualpix.capture.cameras.ccapi.discovery.discover`.
    """
    found = []
    for described in discover():
        link = CcapiLink(described.address, timeout_s=_FIND_S)
        info = CameraInfo("ccapi", described.address.public, "Canon", described.model, described.serial)
        with suppress(CameraError):
            link.connect()
            info = describe(link, None)
        link.close()
        found.append(info)
    return found


def remark(info: CameraInfo) -> str:
    """Why a camera that was found did not tell what it can do; empty where it did."""
    if info.capabilities:
        return ""
    link = CcapiLink(Address.parse(info.address), timeout_s=_FIND_S)
    try:
        link.connect()
    except CameraError as error:
        return str(error)
    finally:
        link.close()
    return "offers neither live view nor focus from here"


def open_drive(address: str | None, options: Mapping[str, str]) -> CcapiDrive:
    """The bare lens of a camera.

    Raises:
        CameraError: nobody there, or it refuses.
        DualpixError: address or options are none, or several cameras answer.
    """
    settings = _Settings.of(options)
    return CcapiDrive(_connected(address, settings), settings.focal_length_mm)


def open_camera(
    address: str | None, calibration: LensCalibration | None = None, options: Mapping[str, str] | None = None
) -> CcapiCamera:
    """Connect to a camera; nothing on it is changed yet.

    Raises:
        CameraError: nobody there, or it refuses.
        DualpixError: address or options are none, or several cameras answer.
    """
    settings = _Settings.of(options or {})
    return CcapiCamera(_connected(address, settings), calibration, settings.focal_length_mm, settings.increment)


@dataclass(frozen=True)
class _Settings:
    verify: bool
    focal_length_mm: float | None
    increment: int | None

    @staticmethod
    def of(options: Mapping[str, str]) -> _Settings:
        refuse_unknown(options, _OPTIONS, "camera 'ccapi'")
        verify, focal_length_mm = yes_or_no(options, "verify", default=True), focal_length_of(options)
        increment = options.get("bracket")
        if increment is not None and not (increment.isdecimal() and 1 <= int(increment) <= 10):
            raise DualpixError(f"focus increment '{increment}'", expected="a whole number from 1 to 10")
        return _Settings(verify, focal_length_mm, int(increment) if increment else None)


def _connected(address: str | None, settings: _Settings) -> CcapiLink:
    link = CcapiLink(_only_one() if address is None else Address.parse(address), verify=settings.verify)
    try:
        link.connect()
    except CameraError:
        link.close()
        raise
    return link


def _only_one() -> Address:
    only = only_one({described.address.public: described.address for described in discover()}, "Canon cameras answer")
    if only is None:
        raise CameraLost("no Canon camera answers on the network", hint="give its --address http://HOST:8080")
    return only
