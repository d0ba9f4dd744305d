"""Where the frames of an on-camera bracket are focused, by what their EXIF says.

A distance that a file states (SubjectDistance) is kept; half the last digit that the files give bounds its error. A
frame that states none is put between its neighbours, anywhere within half a step.

Where there are only bounds, one frame alone says too little: Canon's two bounds jump every few motor steps. A bracket's
own steps are even in defocus, so even in diopters to within a few per cent, and a straight line through the bounds of
all frames tells more than those of one. It is taken where it runs close to all bounds; else each frame keeps the middle
of its own. The same goes for distances that repeat because they are rounded more coarsely than the bracket steps: the
line is taken where it stays within what is rounded to each of them; else those that share one are spread over that. The
uncertainty is

    sigma^2 = sigma_line^2 + (half width of the bounds)^2 / 3 + (sensor / 2)^2

The bounds count, as far as known, from the sensor. They are taken to the lens by the thin lens equation; ``sensor`` is
what that changes, of which half is kept as doubt.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from dualpix.capture.errors import DualpixError
from dualpix.capture.optics import diopters as diopters_of
from dualpix.capture.types import CaptureMeta

Bounds = tuple[float, float]
"""(nearest, farthest) focus in m that a camera wrote, up to infinity."""
Array = npt.NDArray[np.float64]

_LEAST_HALF_WIDTH_D = 0.005
_ROUNDING_M = 0.005
"""Bounds are whole centimetres."""
_WITHIN = 2.0
"""Half widths by which the line of least squares may miss the middle of bounds where some line runs within all."""
_METRE_DIGITS, _DIOPTER_DIGITS = 6, 3
"""Decimals to which distances are rounded; what has more is not."""
_DIGIT_ERROR = 1e-3


@dataclass(frozen=True)
class BracketFocus:
    """Where the frames of an on-camera bracket are focused."""

    diopters: tuple[float, ...]
    uncertainty_d: tuple[float, ...]
    """NaN where nothing tells it."""
    even: bool
    """By the line; else each frame by what it states itself."""
    note: str
    between: tuple[int, ...] = ()
    """Frames that state nothing themselves and stand between their neighbours."""


def focus_bounds(meta: CaptureMeta) -> Bounds | float | None:
    """What the camera wrote: one distance from the lens, else bounds from the sensor."""
    near_m, far_m = meta.focus_distance_lower_m, meta.focus_distance_upper_m
    stated = meta.provenance.get("focus_distance", "").startswith("SubjectDistance")
    if near_m is not None and far_m is not None and not stated:
        return near_m, far_m
    return meta.focus_distance_m


def bracket_focus(written: Sequence[Bounds | float | None], focal_length_mm: float | None) -> BracketFocus:
    """Focus of consecutive frames of an on-camera bracket, see the module's text.

    Args:
        written: of each frame, in the order of taking, see :func:`focus_bounds`.
        focal_length_mm: takes bounds from the sensor to the lens; None leaves them.

    Raises:
        DualpixError: fewer than two frames say anything, or nothing tells them apart.
    """
    middle, half, sensor = _intervals(written, focal_length_mm)
    known = np.isfinite(middle)
    if known.sum() < 2:
        raise DualpixError(
            f"{known.sum()} of {len(written)} frames say where they are focused",
            expected="EXIF with a focus distance",
            hint="give --distances, or --first and --last",
        )
    if not any(isinstance(entry, tuple) for entry in written):
        return _by_distances(written, middle, half)
    found = _even(written, middle, half, sensor, _WITHIN)
    if found is not None:
        return found
    steps = np.diff(middle)
    if not known.all() or not (np.all(steps > 0) or np.all(steps < 0)):
        raise _too_coarse()
    sigma = np.sqrt(half**2 / 3 + (sensor / 2) ** 2)
    note = f"steps are not even in diopters: each frame by its own focus distance, +/-{half.min():.3f} D or more"
    return BracketFocus(tuple(map(float, middle)), tuple(map(float, sigma)), False, note)


def _by_distances(written: Sequence[Bounds | float | None], middle: Array, half: Array) -> BracketFocus:
    """Of frames that state distances, without bounds."""
    stated = [entry for entry in written if isinstance(entry, float)]
    if len(set(stated)) < 2 or turns_back(written):
        raise _too_coarse()
    shared = np.array([stated.count(entry) > 1 if isinstance(entry, float) else False for entry in written])
    if shared.any():  # they are as coarse as the smallest difference that is seen
        finest = float(np.diff(np.unique(middle[np.isfinite(middle)])).min())
        half = np.where(shared, np.fmax(half, finest / 2), half)
        found = _even(written, middle, half, np.zeros_like(half), 1.0)
        if found is not None:
            return found
    return _as_stated(written, middle, half)


def _even(
    written: Sequence[Bounds | float | None], middle: Array, half: Array, sensor: Array, within: float
) -> BracketFocus | None:
    """Frames on a straight line, if it stays within so many half widths of what all of them state."""
    known = np.isfinite(middle)
    line, sigma_line = _line(np.arange(len(written), dtype=np.float64), middle, half, known)
    if np.any(np.abs(middle - line)[known] > within * half[known]) or abs(line[-1] - line[0]) <= 1e-6:
        return None
    doubt = np.where(np.isfinite(sensor), sensor, np.nanmedian(sensor)) / 2
    width = float(np.median(half[known]))
    sigma = np.sqrt(sigma_line**2 + width**2 / 3 + doubt**2)
    note = _line_note(written, (line[-1] - line[0]) / (len(line) - 1), width, sigma)
    return BracketFocus(tuple(map(float, line)), tuple(map(float, sigma)), True, note)


def _too_coarse() -> DualpixError:
    return DualpixError(
        "the focus distances in the files are too coarse to tell the frames apart, and their steps are not even",
        expected="an on-camera bracket",
        hint="give --distances, or --first and --last",
    )


def turns_back(written: Sequence[Bounds | float | None]) -> tuple[int, int] | None:
    """Places of a frame and of a later one that is behind it, against the way of the rest; None where none is.

    Frames that all state a distance of their own may have been taken in any order.
    """
    stated = [entry for entry in written if entry is not None]
    if len(set(stated)) == len(stated) and not any(isinstance(entry, tuple) for entry in stated):
        return None
    middle, half, _ = _intervals(written, None)
    known = np.flatnonzero(np.isfinite(middle))
    toward = 1.0 if np.sign(np.diff(middle[known])).sum() >= 0 else -1.0
    row = toward * middle[known]
    back = np.flatnonzero(np.maximum.accumulate(row) - row > _WITHIN * half[known])
    if not back.size:
        return None
    farthest_on = int(np.argmax(row[: back[0]]))
    return int(known[farthest_on]), int(known[back[0]])


def _as_stated(written: Sequence[Bounds | float | None], middle: Array, half: Array) -> BracketFocus:
    """Each frame at the distance that it states itself, the others between them."""
    silent = np.flatnonzero(~np.isfinite(middle))
    spread = _spread(middle, half)
    focus, step = _between(np.arange(len(written), dtype=np.float64), spread)
    sigma = half / math.sqrt(3)
    sigma[[entry == math.inf for entry in written]] = math.nan  # what is rounded to infinity is not known
    sigma[silent] = step[silent] / math.sqrt(12)
    rounding = _rounding_of([entry for entry in written if isinstance(entry, float)])
    note = f"distances as the files state them, {f'{rounding}, ' if rounding.step_m or rounding.step_d else ''}"
    note += f"one standard deviation {np.nanmin(sigma):.3f} to {np.nanmax(sigma):.3f} D"
    shared = sum(written.count(entry) > 1 for entry in written if entry is not None)
    if shared:
        note += f"; {shared} that share one are spread over what is rounded to it"
    if silent.size:
        note += f"; {silent.size} of {len(written)} state none and stand between their neighbours"
    return BracketFocus(
        tuple(map(float, focus)), tuple(map(float, sigma)), False, note, tuple(int(place) for place in silent)
    )


def _spread(middle: Array, half: Array) -> Array:
    """Runs of one value spread evenly over their half widths, on the way of the rest."""
    known = np.flatnonzero(np.isfinite(middle))
    toward = 1.0 if middle[known[-1]] >= middle[known[0]] else -1.0
    spread = middle.copy()
    for value in np.unique(middle[known]):
        run = known[middle[known] == value]
        if len(run) > 1:
            spread[run] += toward * half[run] * ((2 * np.arange(len(run)) + 1) / len(run) - 1)
            spread[run] -= min(0.0, float(spread[run].min()))  # nothing is farther than infinity
    return spread


def _between(places: Array, middle: Array) -> tuple[Array, Array]:
    """Values at all places, straight between those that are known and on beyond them, and the step there."""
    known = np.flatnonzero(np.isfinite(middle))
    slopes = np.diff(middle[known]) / np.diff(places[known])
    right = np.clip(np.searchsorted(known, places), 1, len(known) - 1)
    left, slope = known[right - 1], slopes[right - 1]
    return np.where(np.isfinite(middle), middle, middle[left] + slope * (places - left)), np.abs(slope)


def _line_note(written: Sequence[Bounds | float | None], step_d: float, width_d: float, sigma: Array) -> str:
    of = f"bounds of +/-{width_d:.3f} D"
    if not any(isinstance(entry, tuple) for entry in written):
        stated = [entry for entry in written if isinstance(entry, float)]
        of = f"{len(set(stated))} different distances that {len(stated)} of {len(written)} files state"
    return (
        f"steps taken as even in diopters: {step_d:+.4f} D a frame, from {of}; "
        f"one standard deviation {sigma.min():.3f} to {sigma.max():.3f} D"
    )


def _intervals(written: Sequence[Bounds | float | None], focal_length_mm: float | None) -> tuple[Array, Array, Array]:
    """Middle and half width in diopters, and what taking them to the lens changed; NaN where nothing is written.

    A frame whose bounds are both infinite says only that it is at infinity or beyond: NaN as well.
    """
    rounding = iter(_rounding_d([entry for entry in written if isinstance(entry, float)]))
    rows = []
    for entry in written:
        if isinstance(entry, tuple) and not math.isinf(entry[0]):
            near, far = (1 / m if m > 0 else math.nan for m in entry)
            at_lens = [_from_lens_d(d, focal_length_mm) for d in (near, far)]
            centre = (at_lens[0] + at_lens[1]) / 2
            reach = abs(at_lens[0] - at_lens[1]) / 2 + _ROUNDING_M * near**2
            rows.append((centre, reach, abs(centre - (near + far) / 2)))
        elif isinstance(entry, float):
            rows.append((diopters_of(entry), next(rounding), 0.0))
        else:
            rows.append((math.nan, math.nan, math.nan))
    middle, half, sensor = np.array(rows, np.float64).T
    return middle, np.fmax(half, _LEAST_HALF_WIDTH_D), sensor


def _rounding_d(stated: Sequence[float]) -> Array:
    """Half of what is rounded to each of these distances, in diopters, see :class:`_Rounding`; 0 at infinity."""
    metres = np.asarray(stated, np.float64)
    half = np.zeros(len(metres))
    rounding = _rounding_of(stated)
    finite = np.isfinite(metres)
    if rounding.step_m:
        near_m = np.maximum(metres[finite] - rounding.step_m / 2, metres[finite] / 2)
        half[finite] = (1 / near_m - 1 / (metres[finite] + rounding.step_m / 2)) / 2
    return np.maximum(half, (rounding.step_d or 0.0) / 2)


@dataclass(frozen=True)
class _Rounding:
    """The last digit of stated distances: in m as EXIF has them, or in diopters where it was rounded before."""

    step_m: float | None
    step_d: float | None

    def __str__(self) -> str:
        return f"rounded to {self.step_m:g} m" if self.step_m else f"rounded to {self.step_d:g} D"


def _rounding_of(stated: Sequence[float]) -> _Rounding:
    """The coarsest digit that has all distances; in diopters where metres need more than six."""
    metres = np.array([value for value in stated if math.isfinite(value)])
    step_m = _last_digit(metres, _METRE_DIGITS)
    return _Rounding(step_m, None if step_m else _last_digit(1 / metres, _DIOPTER_DIGITS))


def _last_digit(values: Array, most: int) -> float | None:
    for digits in range(most + 1):
        scaled = values * 10.0**digits
        if np.all(np.abs(scaled - np.rint(scaled)) < _DIGIT_ERROR):
            return float(10.0**-digits)
    return None


def _from_lens_d(diopters: float, focal_length_mm: float | None) -> float:
    """Diopters from the lens of a point that is 1 / diopters m from the sensor: u + u f / (u - f) = distance."""
    if not diopters or focal_length_mm is None:
        return diopters
    distance, f = 1 / diopters, focal_length_mm / 1000
    inside = distance * (distance - 4 * f)
    return 2 / (distance + math.sqrt(inside)) if inside >= 0 else diopters


def _line(x: Array, y: Array, half: Array, known: npt.NDArray[np.bool_]) -> tuple[Array, Array]:
    """Values of a weighted straight line at all x, and their standard deviation."""
    design = np.stack([np.ones_like(x), x], axis=1)
    weight = math.sqrt(3) / half[known]
    covariance = np.linalg.inv((design[known] * weight[:, None] ** 2).T @ design[known])
    coefficients = covariance @ (design[known] * weight[:, None] ** 2).T @ y[known]
    spread = design @ covariance @ design.T
    return design @ coefficients, np.sqrt(np.diag(spread))
