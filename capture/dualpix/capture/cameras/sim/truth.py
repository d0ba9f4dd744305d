"""What a simulated camera hides from whoever drives it: the depth of the scene in front of it.

Convention: depth in m from the lens, as seen in a picture of a given focus, whose magnification is that of the lens.
For judging captures of ``--camera sim`` only; no backend looks here.
"""

from __future__ import annotations

from dualpix.capture.camera_protocol import CameraInfo
from dualpix.capture.cameras.hidden.camera import HiddenCamera
from dualpix.capture.cameras.sim.device import seed_of
from dualpix.capture.types import FloatImage

BACKEND = "sim"


def simulated_depth_m(camera: CameraInfo, focus_d: float) -> FloatImage | None:
    """(H, W) of the decoded half-size view in which the lens is focused at ``focus_d`` diopters.

    None where the camera is no simulated one.
    """
    if camera.backend != BACKEND:
        return None
    hidden = HiddenCamera.from_seed(seed_of(camera.address))
    return hidden.depth_at_m(1.0 + hidden.lens.truth.breathing * focus_d)
