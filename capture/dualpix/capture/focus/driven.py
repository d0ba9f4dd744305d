"""Focus in diopters for a lens that only takes steps.

Convention: positions are counted from the far stop, in one direction: towards near. A target behind the current
position means going back to the far stop first; so does anything after which the count may be wrong: a step that
failed, an interruption, a long pause, or a picture that did not change though the lens should have moved.

The far stop is where the picture stops changing. That alone would mistake a lens that is stuck for one that has
arrived, so a lens whose picture never changed on the way is moved towards near, and must show it; and a calibrated
lens is driven on until it has gone further than it can have been away.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from dualpix.capture.camera_protocol import Achieved, CameraError, Direction, FocusDrive, LensStuck, Settled
from dualpix.capture.errors import DualpixError
from dualpix.capture.focus.calibration import LensCalibration
from dualpix.capture.focus.evidence import Bounds, View, Watch
from dualpix.capture.focus.motion import MAX_UNCERTAINTY_D, MotionPlanner, added

_STILL_STEPS = 3
"""So many steps in a row without change make a stop."""
_STILL_LARGE = 2
_MOST_STEPS = 1500
_RESTLESS = 5
"""After so many steps after which the picture would not come to rest, it tells nothing."""
_LONGEST = 1.3
"""Of the travel: after so many steps a calibrated lens is at its stop, whatever the picture says."""
_OVERSHOOT = 1.15
"""How much further than its distance a lens is driven against the far stop."""
_TRIES = 2


@dataclass(frozen=True)
class Found:
    """Where the focus was before it was first moved: so many steps of a size from the far stop."""

    size: int
    count: int


class DrivenFocus:
    """A :class:`~dualpix.capture.camera_protocol.FocusDrive` that goes to diopters.

    Any :class:`~dualpix.capture.camera_protocol.CameraError` of the drive passes through; the next motion then homes.
    """

    def __init__(
        self,
        drive: FocusDrive,
        calibration: LensCalibration | None = None,
        *,
        max_uncertainty_d: float = MAX_UNCERTAINTY_D,
        bounds: Bounds | None = None,
        found: Found | None = None,
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        """Nothing moves yet.

        Args:
            drive: the lens and its live view.
            calibration: without it the lens can be homed and brought back, but not focused.
            max_uncertainty_d: bound to which step sizes are mixed, one standard deviation; finer takes more steps.
            bounds: of waiting for pictures.
            found: where an earlier session of the same capture found the focus; by default the first homing tells.
            clock: seconds, monotonic.
            sleep: waits for seconds.

        Raises:
            DualpixError: the calibration is for another lens drive.
        """
        self.calibration, self.found = calibration, found
        self.watch = Watch(drive, bounds, clock, sleep)
        self._drive, self._clock = drive, clock
        sizes = list(drive.step_sizes)
        self._finest, self._middle, self._large = sizes[0], sizes[min(1, len(sizes) - 1)], sizes[-1]
        self._planner = (
            None if calibration is None else MotionPlanner(_for_drive(calibration, sizes), max_uncertainty_d)
        )
        self._steps: dict[int, int] | None = None
        """Since the far stop; None where the position is not known."""
        self._moved_at = clock()
        self._outward: dict[int, int] = {}
        """Steps towards far while it is not known where the focus was: an interrupted homing has to make them good."""
        self._visible_units = 0.0
        """A way of so many units can be too short to be seen in this scene."""

    @property
    def steps(self) -> Mapping[int, int] | None:
        """Taken since the far stop, by size; None where the position is not known."""
        if self._steps is not None and self._clock() - self._moved_at > self.watch.bounds.stale_s:
            self.forget()
        return self._steps

    def forget(self) -> None:
        """The position is not known any more: the camera slept, or somebody turned the ring."""
        self._steps = None

    def home(self) -> int:
        """Drive to the far stop; the first time, remember how far that was.

        Returns:
            Units travelled, of the finest step; number of steps where the lens is not calibrated.

        Raises:
            LensStuck: the picture does not change, whichever way the lens is driven.
            CameraError: the picture does not stop changing, or the camera failed.
        """
        first, away, earlier = self.found is None, self._farthest_units(), dict(self._outward)
        self._steps = None
        middle, moved = 0, False
        if first:
            before = self.watch.learn_rest()
            middle, moved = self._drive_until_still("far", self._middle, before, _STILL_STEPS, exactly=True)
        # far out of focus a scene hardly changes by one middle step; by large ones it does
        large, moved_more = self._drive_until_still("far", self._large, self.watch.settle()[1], _STILL_LARGE)
        if first and large:
            middle += _STILL_STEPS  # they did move it then
        units = middle * self._units(self._middle) + large * self._units(self._large)
        if not (moved or moved_more):
            self._show_that_it_moves()
        self._drive_on(_OVERSHOOT * away - units)
        self._steps = {}
        if first:
            self.found = self._found_at(middle + earlier.get(self._middle, 0), units + self._units_of(earlier))
        return round(units)

    def go_to(self, diopters: float) -> Achieved:
        """Focus at ``diopters`` from the far side, homing first where that is needed.

        Raises:
            LensStuck: the lens does not move.
            DualpixError: the lens is not calibrated, or does not reach there.
            CameraError: the camera failed.
        """
        planner = self._planned()
        units = planner.calibration.units_at(diopters)
        for attempt in range(_TRIES):
            if self.steps is None or planner.is_behind(units, self.steps):
                self.home()
            unseen = self._go_near(planner.steps_to(units, self.steps or {}))
            if unseen is None:
                break
            if attempt == 0:
                self.forget()  # a step was lost, or cannot be seen here: homing tells whether the lens moves at all
            else:
                self._visible_units = 1.01 * unseen
        steps = dict(self.steps or {})
        return Achieved(
            planner.focus_d(steps),
            planner.calibration.uncertainty_d(steps),
            "calibration",
            round(planner.calibration.units_of(steps)),
        )

    def settle(self) -> Settled:
        """Wait, within the bounds, until the picture is at rest."""
        return self.watch.settle()[0]

    def return_to_start(self) -> None:
        """Bring the focus back to where it was before it was first moved, as well as steps can.

        Raises:
            CameraError: the camera failed; the focus is somewhere else then.
        """
        found, steps = self.found, dict(self._outward)
        if found is not None:
            if self.steps is not None and self._is_at(found):
                return
            self.home()
            steps = {found.size: found.count}
            if self._planner is not None:
                steps = self._planner.steps_to(self._units_of(steps), {})
        self._outward = {}
        for size, count in steps.items():
            self.step("near", size, count)

    def step(self, direction: Direction, size: int, count: int = 1) -> None:
        """Take steps without looking, and count them; towards far the position is lost."""
        steps = self._steps
        self._steps = None  # whatever interrupts the drive leaves the number of steps unknown
        for _ in range(count):
            self._drive.drive(direction, size)
            if self.found is None and direction == "far":
                self._outward = added(self._outward, {size: 1})
        self._moved_at = self._clock()
        if steps is not None and direction == "near":
            self._steps = added(steps, {size: count})

    def _go_near(self, steps: Mapping[int, int]) -> float | None:
        """Take ``steps``, the finest first, and watch the picture follow.

        Returns:
            None if it did; else the units of the shortest way that did not show.
        """
        sizes = self._planned().calibration.units_per_step
        least = max(sizes.get(self._middle, 0.0), self._visible_units)
        order = [size for size in sorted(steps, key=lambda s: sizes[s]) for _ in range(steps[size])]
        parts = _parts([sizes[size] for size in order], least)
        unseen: list[float] = []
        if not parts:
            return None
        before = self.watch.look()
        for number, part in enumerate(parts):
            last = number + 1 == len(parts)
            if number and last:
                before = self.watch.settle()[1]  # else what is still moving hides that the last steps do not
            for size in order[part]:
                self.step("near", size)
            seen, before = self.watch.wait_for_change(before, rested=number == 0 or last)
            way = sum(sizes[size] for size in order[part])
            if not seen and way >= self._visible_units:
                unseen.append(way)
        return min(unseen) if unseen else None

    def _drive_until_still(
        self, direction: Direction, size: int, before: View, still: int, *, exactly: bool = False
    ) -> tuple[int, bool]:
        """(steps until the picture last changed, whether it ever did).

        What a step leaves still moving looks like the motion of the next one; ``exactly`` waits for its end.
        """
        last, restless = 0, 0
        for count in range(1, self._most_steps(size) + 1):
            self.step(direction, size)
            seen, now = self.watch.wait_for_change(before, rested=count == 1)
            if seen and exactly:
                settled, now = self.watch.settle(pairs=1, learn=False)
                restless += not settled.reached
            if seen:
                last, before = count, now
            elif count - last >= still:
                return last, last > 0
            if restless == _RESTLESS:
                break
        if self.calibration is not None:
            return last, True  # the picture will not rest, but no lens is longer than it is driven on now
        raise CameraError(
            f"the picture keeps changing, {last} steps of focus towards {direction} or not",
            hint="take moving things out of the picture, or steady the light",
        )

    def _most_steps(self, size: int) -> int:
        if self.calibration is None:
            return _MOST_STEPS
        return math.ceil(_LONGEST * self.calibration.travel_units / self._units(size)) + _STILL_STEPS

    def _show_that_it_moves(self) -> None:
        """At the far stop a step towards near changes the picture, in a lens that is stuck it does not."""
        before = self.watch.look()
        for _ in range(_STILL_LARGE):
            self.step("near", self._large)
            if self.watch.wait_for_change(before, rested=True)[0]:
                self._drive_until_still("far", self._large, self.watch.look(), _STILL_LARGE)
                return
        raise LensStuck(
            "the lens is driven and the picture does not change",
            hint="check that the lens is in the mode its drive needs (MF or AF), is not blocked, and that live view"
            " shows something with detail",
        )

    def _found_at(self, middle: int, units: float) -> Found:
        """In the finest steps where their size is known; the last middle step ran into the stop, about half of it."""
        if self.calibration is None:
            return Found(self._middle, middle)
        return Found(self._finest, round(max(0.0, units - self._units(self._middle) / 2) / self._units(self._finest)))

    def _is_at(self, found: Found) -> bool:
        off = self._units_of(self._steps or {}) - self._units_of({found.size: found.count})
        return abs(off) <= self._units(self._finest)

    def _drive_on(self, units: float) -> None:
        """Towards the far stop, without looking."""
        if units > 0:
            self.step("far", self._large, math.ceil(units / self._units(self._large)))

    def _farthest_units(self) -> float:
        """How far from the far stop the lens can be."""
        if self.calibration is None:
            return 0.0
        return self.calibration.travel_units if self._steps is None else self._units_of(self._steps)

    def _planned(self) -> MotionPlanner:
        if self._planner is None:
            raise DualpixError(
                f"the lens '{self._drive.info.lens or 'unknown'}' is not calibrated at this focal length",
                hint="run 'dualpix capture calibrate' first",
            )
        return self._planner

    def _units(self, size: int) -> float:
        return 1.0 if self.calibration is None else self.calibration.units_per_step.get(size, 1.0)

    def _units_of(self, steps: Mapping[int, int]) -> float:
        return sum(count * self._units(size) for size, count in steps.items())


def _parts(ways: Sequence[float], least: float) -> list[slice]:
    """Cut steps in a row into parts of at least ``least`` units; a rest that is shorter goes with the last."""
    parts, start, length = [], 0, 0.0
    for end, way in enumerate(ways, 1):
        length += way
        if length >= least:
            parts.append(slice(start, end))
            start, length = end, 0.0
    if start < len(ways):
        parts = [*parts[:-1], slice(parts[-1].start if parts else 0, len(ways))]
    return parts


def _for_drive(calibration: LensCalibration, sizes: list[int]) -> LensCalibration:
    """The calibration, if the drive has the steps it speaks of."""
    if not set(calibration.units_per_step) <= set(sizes):
        raise DualpixError(
            f"the lens calibration of '{calibration.lens}' has step sizes {sorted(calibration.units_per_step)}",
            expected=f"those of this camera: {sizes}",
            hint="calibrate the lens on this camera",
        )
    return calibration
