"""A camera in this process, for trying out and for tests: a hidden lens and scene, met like any other camera.

Convention: the address is ``sim`` or ``sim:SEED``; a seed is a lens, a scene and the place where the lens happens to
stand. Nothing of the truth reaches the backend: the lens is moved by steps of unknown size, the focus comes from a
calibration and counted steps. What somebody with a tape measure would know, :func:`targets`, is what it is calibrated
on; where no calibration is given and none is stored, opening the camera measures one and stores it.

Options: ``faults``, a file as in :mod:`dualpix.capture.cameras.hidden.faults`, and ``state``, a file to which the truth
of each shot is appended, see :mod:`dualpix.capture.cameras.hidden.truth`.
"""

from __future__ import annotations

from collections.abc import Mapping

from dualpix.capture.camera_protocol import CameraInfo
from dualpix.capture.cameras.hidden.camera import HiddenCamera
from dualpix.capture.cameras.hidden.scene import Box
from dualpix.capture.cameras.sim.calibration import own_calibration
from dualpix.capture.cameras.sim.camera import SimCamera, SimDrive
from dualpix.capture.cameras.sim.device import SimDevice, connected, info_of, seed_of
from dualpix.capture.focus.calibration import LensCalibration

__all__ = ["SimCamera", "SimDevice", "SimDrive", "find", "open_camera", "open_drive", "seed_of", "targets"]


def find() -> list[CameraInfo]:
    """The one that is always there."""
    return [info_of("sim", HiddenCamera.from_seed(0).body)]


def targets(address: str | None = None) -> tuple[tuple[float, Box], ...]:
    """(distance in m, box in shares of the picture) of the flat targets in view, as a tape measure would tell.

    Raises:
        DualpixError: the address is none.
    """
    return HiddenCamera.from_seed(seed_of(address)).targets


def open_drive(address: str | None, options: Mapping[str, str]) -> SimDrive:
    """The bare lens.

    Raises:
        CameraError: the connection is refused, as the faults say.
        DualpixError: address or options are none.
    """
    return SimDrive(connected(address, options))


def open_camera(address: str | None, calibration: LensCalibration | None, options: Mapping[str, str]) -> SimCamera:
    """The camera of a seed; one whose connection broke is found again as it was left.

    Raises:
        CameraError: the connection is refused, as the faults say.
        DualpixError: address or options are none.
    """
    device = connected(address, options)
    return SimCamera(device, calibration or own_calibration(device))
