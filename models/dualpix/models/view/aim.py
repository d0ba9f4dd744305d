"""What shall be sharp in a picture that is focused anew, and through how wide an aperture; see :mod:`.scene`."""

from __future__ import annotations

from typing import TYPE_CHECKING

from dualpix.capture.errors import DualpixError
from dualpix.models.view.scene import Defocus, Scene

if TYPE_CHECKING:
    from dualpix.models.view.refocus import Sharp


def widening_of(defocus: Defocus, f_number: float | None, blur: float | None) -> float:
    """N0 / N: of a lens that is asked for by its f-number, or by how many times as wide it is, 2 by default.

    Raises:
        DualpixError: by its f-number, and nobody knows that of the capture.
    """
    if f_number is None:
        return 2.0 if blur is None else blur
    if defocus.f_number is None:
        raise DualpixError(
            "--f-number was given, but that of the capture is not known",
            expected="--blur TIMES",
            hint="or find its depth again with --f-number",
        )
    return defocus.f_number / f_number


def coordinate_of(scene: Scene, sharp: Sharp, at: tuple[float, float] | None, focus_m: float | None) -> float:
    """Coordinate of what shall be sharp: what is seen at a place, or what lies at a distance.

    Args:
        scene: the capture.
        sharp: its picture and depth.
        at: column and row of the view.
        focus_m: used where ``at`` is None.

    Raises:
        DualpixError: the place is outside the view, or the capture has no metres.
    """
    if at is None:
        assert focus_m is not None  # noqa: S101 - one of the two was given
        if not sharp.defocus.metric:
            raise DualpixError(
                f"'{scene.name}' has no metres", expected="--at X Y", hint="or find its depth with lens data"
            )
        return sharp.defocus.coordinate_at(focus_m)
    height, width = scene.size_hw
    if not (0 <= at[0] < width and 0 <= at[1] < height):
        raise DualpixError(f"--at {at[0]:g} {at[1]:g} is outside the view", expected=f"within {width}x{height} px")
    return sharp.coordinate_at((at[0] + 0.5) / width, (at[1] + 0.5) / height)
