"""Calibrating a lens that moves by steps: focus in diopters over motor units, from targets at known distances.

What happens: the lens is homed at the far stop and swept towards near, several times by a middle step and once by the
finest; in each sweep every target is sharpest somewhere, and :mod:`~dualpix.capture.focus.fit` makes the curve and its
covariance of that. How far steps scatter is read from the pictures: those of one sweep are found in another, and the
difference wanders off with the square root of the way. The largest steps, too coarse for a sweep, are measured the same
way, and so is the backlash: how far the lens is driven back until the picture follows.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime

import numpy as np
import numpy.typing as npt

from dualpix.capture.camera_protocol import CameraBusy, CameraInfo, Direction, FocusDrive
from dualpix.capture.errors import DualpixError
from dualpix.capture.focus.calibration import LensCalibration, check
from dualpix.capture.focus.driven import DrivenFocus
from dualpix.capture.focus.evidence import Bounds, Box
from dualpix.capture.focus.fit import Curve, Sighting, fit_curve, scatter_of_steps
from dualpix.capture.focus.sweep import Sweep, peak, places_in, read_sharpness, take_sweep
from dualpix.capture.types import FloatImage

Array = npt.NDArray[np.float64]

SWEEPS = 4
_WINDOW = 6
_LARGE_SWEEPS = 3
_INSIDE = 0.95
_PLACE_SD = 0.5
"""Units to which a single picture tells its place, at worst."""
_BACKLASH_PLACES = (0.3, 0.5, 0.7)
_BACK, _MOST_BACKLASH = 12, 120
_PROBE, _MOST_PROBE, _ENOUGH_STEPS = 24, 480, 2.5
_FIRST_JITTER = 0.03
_SEARCH = 0.15
_RETRIES, _FIRST_PAUSE_S = 6, 0.05


@dataclass(frozen=True)
class Target:
    """Something with detail at a known distance."""

    distance_m: float
    """From the lens."""
    box: Box
    """x, y, width, height in shares of the picture, from the top left."""
    uncertainty_m: float = 0.0
    """Of the distance, one standard deviation."""

    def __post_init__(self) -> None:
        x, y, w, h = self.box
        if not (math.isfinite(self.distance_m) and self.distance_m > 0 and self.uncertainty_m >= 0):
            raise DualpixError(f"a target at {self.distance_m:g} m", expected="a distance in m from the lens")
        if not (0 <= x < x + w <= 1.001 and 0 <= y < y + h <= 1.001):
            raise DualpixError(
                f"the box {', '.join(f'{v:g}' for v in self.box)} of the target at {self.distance_m:g} m",
                expected="x,y,width,height in shares of the picture, 0 to 1",
            )

    @property
    def name(self) -> str:
        """For people."""
        return f"the target at {self.distance_m:g} m"


def calibrate(
    drive: FocusDrive,
    targets: Sequence[Target],
    *,
    sweeps: int = SWEEPS,
    bounds: Bounds | None = None,
    on_progress: Callable[[str, int], None] = lambda what, stops: None,
    clock: Callable[[], float] = time.monotonic,
    sleep: Callable[[float], None] = time.sleep,
) -> LensCalibration:
    """Measure a lens. The focus ends where it was found.

    Args:
        drive: the lens, live view on, in manual focus, nothing else moving.
        targets: at two distances at least, better five or more, spread over the range of the lens.
        sweeps: by the middle step; more make it more certain, and take longer.
        bounds: of waiting for pictures.
        on_progress: called with what is being done and the number of stops so far.
        clock: seconds, monotonic.
        sleep: waits for seconds.

    Raises:
        DualpixError: too few targets, one of them cannot be focused, or their order contradicts their distances.
        LensStuck: the lens does not move.
        CameraError: the camera failed.
    """
    if len({t.distance_m for t in targets}) < 2 or sweeps < 1:
        raise DualpixError(
            f"{len(targets)} targets, {sweeps} sweeps", expected="targets at 2 distances at least and a sweep"
        )
    focus = DrivenFocus(_Patient(drive, sleep), bounds=bounds, clock=clock, sleep=sleep)
    try:
        return _Session(focus, drive, targets, on_progress).run(sweeps)
    finally:
        with suppress(DualpixError):
            focus.return_to_start()


class _Patient:
    """A drive that asks again when the camera is busy, with growing pauses."""

    def __init__(self, drive: FocusDrive, sleep: Callable[[float], None]) -> None:
        self._drive, self._sleep = drive, sleep

    @property
    def info(self) -> CameraInfo:
        return self._drive.info

    @property
    def step_sizes(self) -> tuple[int, ...]:
        return self._drive.step_sizes

    def drive(self, direction: Direction, size: int) -> None:
        self._pause_until_not_busy(lambda: self._drive.drive(direction, size))

    def live_view(self) -> FloatImage:
        pictures: list[FloatImage] = []
        self._pause_until_not_busy(lambda: pictures.append(self._drive.live_view()))
        return pictures[-1]

    def _pause_until_not_busy(self, ask: Callable[[], None]) -> None:
        for attempt in range(_RETRIES):
            try:
                return ask()
            except CameraBusy:
                self._sleep(_FIRST_PAUSE_S * 2**attempt)
        return ask()


class _Session:
    """The measurements of one calibration."""

    def __init__(
        self,
        focus: DrivenFocus,
        drive: FocusDrive,
        targets: Sequence[Target],
        on_progress: Callable[[str, int], None],
    ) -> None:
        self.focus, self.info, self.targets = focus, drive.info, targets
        self.boxes = [t.box for t in targets]
        sizes = list(drive.step_sizes)
        self.finest, self.middle, self.coarser = sizes[0], sizes[min(1, len(sizes) - 1)], sizes[2:]
        self._on_progress, self._stops = on_progress, 0

    def run(self, sweeps: int) -> LensCalibration:
        """Measure everything."""
        coarse = [self._sweep(self.middle, f"sweep {k + 1}") for k in range(sweeps)]
        ratio = 1.0 if self.middle == self.finest else self._rough_ratio(coarse[0])
        fine = coarse[0] if self.middle == self.finest else self._fine_sweep(coarse[0], ratio)
        each = [*coarse] if self.middle == self.finest else [*coarse, fine]
        sightings = [self._sighting(k, sweep, t) for k, sweep in enumerate(each) for t in range(len(self.targets))]
        guess = {self.finest: 1.0, self.middle: ratio}
        distances = self._distances()
        curve = fit_curve(sightings, *distances, guess, _FIRST_JITTER)
        jitter = self._jitter(coarse, fine, curve.units_per_step[self.middle])
        curve = fit_curve(sightings, *distances, curve.units_per_step, jitter)
        measured = {size: self._large_step(size, fine, jitter) for size in self.coarser}
        larger = {size: found for size, found in measured.items() if found is not None}
        units = curve.units_per_step[self.middle]
        backlashes = [self._backlash(share, fine, units) for share in _BACKLASH_PLACES]
        ends = [sweep.end * curve.units_per_step[sweep.size] for sweep in each if sweep.end is not None]
        return self._result(curve, jitter, larger, _median(backlashes), float(np.mean(ends)))

    def _sweep(self, size: int, what: str, *, stride: int = 1, window: int = _WINDOW, most: int | None = None) -> Sweep:
        return take_sweep(
            self.focus,
            size,
            self.boxes,
            stride=stride,
            window=window,
            most_steps=most,
            on_stop=lambda: self._stop(what),
        )

    def _stop(self, what: str) -> None:
        self._stops += 1
        self._on_progress(what, self._stops)

    def _look(self, what: str) -> Array:
        """(1, tiles) signature of the picture as it is now."""
        _, view = self.focus.watch.settle()
        self._stop(what)
        return read_sharpness(view.full, [])[0][None]

    def _rough_ratio(self, sweep: Sweep) -> float:
        """Finest steps in a middle one, by finding where in a sweep some of them lead."""
        self.focus.home()
        for taken in range(_PROBE, _MOST_PROBE + 1, _PROBE):
            self.focus.step("near", self.finest, _PROBE)
            place = float(_anywhere(sweep, self._look("step sizes"))[0])
            if place > _ENOUGH_STEPS:
                return taken / place
        raise DualpixError(
            f"{_MOST_PROBE} of the finest focus steps do not show in live view",
            hint="put one of the targets farther away, so that the picture changes from the far stop on",
        )

    def _fine_sweep(self, coarse: Sweep, ratio: float) -> Sweep:
        stride = max(1, round(ratio / 2))
        most = None if coarse.end is None else math.ceil(1.3 * coarse.end * ratio)
        window = math.ceil(_WINDOW * ratio / stride)
        return self._sweep(self.finest, "fine sweep", stride=stride, window=window, most=most)

    def _sighting(self, number: int, sweep: Sweep, target: int) -> Sighting:
        found = peak(sweep, target, self.targets[target].name)
        return Sighting(number, sweep.size, target, found.steps, found.sd)

    def _distances(self) -> tuple[Array, Array]:
        """Diopters (T,) of the targets, and their standard deviations."""
        distance = np.array([t.distance_m for t in self.targets])
        return 1 / distance, np.array([t.uncertainty_m for t in self.targets]) / distance**2

    def _jitter(self, coarse: Sequence[Sweep], fine: Sweep, units: float) -> float:
        """Scatter of a step relative to its travel, from how sweeps by the same steps wander away from each other."""
        if len(coarse) == 1 and coarse[0] is fine:
            return _FIRST_JITTER
        stops = min(len(sweep.steps) for sweep in coarse)
        steps = coarse[0].steps[:stops]
        places = np.array([places_in(fine, s.signature[:stops], steps * units, _SEARCH) for s in coarse])
        known = np.isfinite(places).all(axis=0) & (steps > 0)
        steps, places = steps[known], places[:, known] / units
        if len(places) == 1:  # then against the fine sweep itself, which scatters less
            places = np.stack([steps + (places[0] - steps) / math.sqrt((1 + 1 / units) / 2), steps])
        return scatter_of_steps(steps, places)

    def _large_step(self, size: int, fine: Sweep, jitter: float) -> tuple[float, float] | None:
        """Units of a step too large to sweep with, and their variance; None where the pictures do not tell."""
        ways, taken = 0.0, 0
        for _ in range(_LARGE_SWEEPS):
            self.focus.home()
            steps, place = 0, 0.0
            while True:
                self.focus.step("near", size)
                signature = self._look("step sizes")
                step = place / steps if steps else math.nan
                found = _anywhere(fine, signature) if not steps else places_in(fine, signature, _one(place + step), 0.3)
                if not (math.isfinite(found[0]) and found[0] < _INSIDE * fine.steps[-1] and found[0] > place):
                    break
                steps, place = steps + 1, float(found[0])
            ways, taken = ways + place, taken + steps
        if not taken:
            return None
        units = ways / taken
        return units, (jitter * units) ** 2 / taken * (1 + 1 / units) + _PLACE_SD**2 / taken**2

    def _backlash(self, share: float, fine: Sweep, units: float) -> float:
        """Units driven towards far from a place on the way before the picture follows; NaN where it does not tell."""
        self.focus.home()
        self.focus.step("near", self.middle, max(1, round(share * fine.steps[-1] / units)))
        before = float(_anywhere(fine, self._look("backlash"))[0])
        driven = 0
        while driven < _MOST_BACKLASH:
            driven += _BACK
            self.focus.step("far", self.finest, _BACK)
            after = float(_anywhere(fine, self._look("backlash"))[0])
            if before - after > _BACK / 2:
                return max(0.0, driven - (before - after))
        return math.nan

    def _result(
        self, curve: Curve, jitter: float, larger: dict[int, tuple[float, float]], backlash: float, travel: float
    ) -> LensCalibration:
        covariance = curve.covariance
        steps = {
            size: (*(float(v) for v in covariance[3 + k, :3]), float(covariance[3 + k, 3 + k]))
            for k, size in enumerate(curve.free_sizes)
        }
        steps |= {size: (0.0, 0.0, 0.0, variance) for size, (_, variance) in larger.items()}
        info = self.info
        return check(
            LensCalibration(
                body=body_of(info),
                lens=info.lens or "",
                focal_length_mm=info.focal_length_mm,
                coefficients=curve.coefficients,
                covariance=tuple((float(a), float(b), float(c)) for a, b, c in covariance[:3, :3]),
                units_per_step={**curve.units_per_step, **{size: units for size, (units, _) in larger.items()}},
                jitter=jitter,
                travel_units=travel,
                backlash_units=backlash,
                residual_d=float(np.sqrt(np.mean(curve.residuals_d**2))),
                points=tuple((float(n), 1 / t.distance_m) for n, t in zip(curve.units, self.targets, strict=True)),
                made_at=datetime.now(UTC).isoformat(timespec="seconds"),
                method=f"targets at {len({t.distance_m for t in self.targets})} distances",
                step_covariance=steps,  # type: ignore[arg-type]
            )
        )


def body_of(info: CameraInfo) -> str:
    """How a calibration names a camera: model and serial number."""
    return " ".join(part for part in (info.model or "unknown camera", info.serial) if part)


def _one(place: float) -> Array:
    return np.array([place])


def _median(values: Sequence[float]) -> float:
    """Of those that are known; 0 where none is."""
    known = [v for v in values if math.isfinite(v)]
    return float(np.median(known)) if known else 0.0


def _anywhere(sweep: Sweep, signature: Array) -> Array:
    """The place of a picture that may be anywhere in a sweep."""
    return places_in(sweep, signature, _one(float(sweep.steps[-1])), 1.0)
