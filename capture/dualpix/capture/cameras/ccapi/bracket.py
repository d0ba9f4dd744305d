"""A stack that a camera shoots by itself, by its focus bracketing.

Convention: the camera goes from near to far by steps of constant blur: constant in the lens's extension, which goes
with D / (1 - f D) in diopters. What an increment is worth is not published, so the focus of its frames is what the plan
says, with an uncertainty that grows from the first frame outwards by ``SHARE`` of the way, which is an assumption.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import pairwise

from dualpix.capture.camera_protocol import Achieved, CameraError, PlannedFrame
from dualpix.capture.errors import DualpixError

SHARE = 0.3
_UNEVEN = 0.35
"""By which share of a step a gap may differ from whole steps: where the focal length is not known, diopters are taken
for the extension."""
_FEWEST_SHOTS = 2


@dataclass
class Bracket:
    """Frames in the order of their taking, the nearest first."""

    places: tuple[tuple[float, int], ...]
    """(diopters, place from 0) of the frames that are wanted; those between them are taken as well."""
    step_d: float
    """Between two frames, the smallest."""
    contents: list[str] = field(default_factory=list)
    """Files that the camera has told of."""
    start_sigma_d: float | None = None
    """Of the first frame's focus, where it was gone to through a calibration."""
    begun_at: str = ""
    _current_d: float | None = None

    @staticmethod
    def of(frames: Sequence[PlannedFrame], focal_length_mm: float | None = None) -> Bracket:
        """The bracket that holds these frames.

        Raises:
            DualpixError: they have several exposures or apertures, or are not evenly spaced.
        """
        if len({frame.exposure for frame in frames}) > 1:
            raise DualpixError(
                "a plan with several apertures or exposures", expected="one, for the camera's own focus bracketing"
            )
        stops_d = sorted({frame.diopters for frame in frames}, reverse=True)
        step_d = min((near - far for near, far in pairwise(stops_d)), default=1.0)
        extensions = [d / (1 - (focal_length_mm or 0.0) / 1000 * d) for d in stops_d]
        gaps = [near - far for near, far in pairwise(extensions)]
        places = [0]
        for gap in gaps:
            steps = gap / min(gaps)
            if abs(steps - round(steps)) > _UNEVEN:
                raise DualpixError(
                    "a plan that is not evenly spaced", expected="equal steps, as focus bracketing takes them"
                )
            places.append(places[-1] + round(steps))
        return Bracket(tuple(zip(stops_d, places, strict=True)), step_d)

    @property
    def start_d(self) -> float:
        """Focus of the first frame, the nearest."""
        return self.places[0][0]

    @property
    def shots(self) -> int:
        """That the camera has to take."""
        return max(_FEWEST_SHOTS, self.places[-1][1] + 1)

    def go_to(self, diopters: float) -> Achieved:
        """Make the frame of this focus the current one.

        Raises:
            CameraError: there is none.
        """
        self._current_d = diopters
        return self.achieved()

    def place(self) -> int:
        """Of the current frame.

        Raises:
            CameraError: there is none.
        """
        if self._current_d is None:
            raise CameraError("the focus was not chosen yet", expected="go_to before shoot")
        for diopters, place in self.places:
            if math.isclose(diopters, self._current_d, abs_tol=1e-9):
                return place
        raise CameraError(f"no frame at {self._current_d:g} D in this bracket", hint="prepare the frames first")

    def achieved(self) -> Achieved:
        """The plan's word for the current frame, and how far the lens has gone on trust."""
        place = self.place()
        diopters = next(d for d, p in self.places if p == place)
        start = self.step_d if self.start_sigma_d is None else self.start_sigma_d
        return Achieved(diopters, math.hypot(start, SHARE * (self.start_d - diopters)), "bracket")
