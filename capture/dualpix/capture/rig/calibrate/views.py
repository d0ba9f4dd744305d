"""Whether a view is one of the camera that was calibrated."""

from __future__ import annotations

from dualpix.capture.errors import DualpixError
from dualpix.capture.rig.calibrate.store import Rig
from dualpix.capture.rig.pairs.session import View


def check_fits(rig: Rig, view: View, side: str) -> View:
    """``view``, if it has the size of the calibration and comes from its camera, as far as both say.

    Raises:
        DualpixError: another size, or another model.
    """
    camera = rig.geometry.a if side == "a" else rig.geometry.b
    if view.size_hw != camera.size_hw:
        raise DualpixError(
            f"'{view.path}' is {view.size_hw[1]}x{view.size_hw[0]} px",
            expected=f"{camera.size_hw[1]}x{camera.size_hw[0]}, as camera {side} was calibrated with",
            hint="take pictures in the same mode, or calibrate again in this one",
        )
    known, other = rig.cameras if side == "a" else rig.cameras[::-1]
    if view.camera is not None and known is not None and view.camera != known:
        exchanged = "; it is camera " + "ba"[side == "b"] if view.camera == other else ""
        raise DualpixError(
            f"'{view.path}' was taken by {view.camera}{exchanged}",
            expected=f"{known}, which was calibrated as camera {side}",
            hint="exchange the folders a and b" if exchanged else "calibrate this rig",
        )
    return view
