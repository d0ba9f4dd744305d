"""Sweeps through focus and what is read from them: where targets are sharpest, and which place a picture shows.

Convention: a sweep starts at the far stop and goes towards near by steps of one size; positions in it are counted in
these steps, fractions between stops included. Sharpness is the logarithm of
:func:`~dualpix.capture.focus.evidence.sharpness`. A *signature* is the sharpness of the tiles of a picture: it changes
smoothly with focus and hardly with anything else, so it tells where in another sweep of the same scene a picture was
taken, finer than the step.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from dualpix.capture.camera_protocol import CameraError
from dualpix.capture.errors import DualpixError
from dualpix.capture.focus.driven import DrivenFocus
from dualpix.capture.focus.evidence import Box, View, inside, sharpness
from dualpix.capture.types import FloatImage

Array = npt.NDArray[np.float64]

_ROWS, _COLUMNS = 4, 6
_DARKEST = 1e-9
_WINDOW_DROP = 1.2  # of log sharpness: what is fitted around a maximum
_MOST_AROUND = 7
_LEAST_CONTRAST = 0.3
_PEAK_FLOOR = 0.03
"""Of the distance between stops: a maximum is not exactly a parabola."""
_MOST_STOPS = 2000


@dataclass(frozen=True)
class Sweep:
    """Sharpness at the stops of a sweep."""

    size: int
    steps: Array
    """(N,) taken since the far stop; the near stop itself is not among them."""
    signature: Array
    """(N, tiles)"""
    targets: Array
    """(N, T)"""
    end: float | None
    """Steps to the near stop; None if the sweep ended before."""


@dataclass(frozen=True)
class Peak:
    """Where a target is sharpest."""

    steps: float
    sd: float
    """Of ``steps``, from the pictures alone."""


def read_sharpness(picture: FloatImage, boxes: Sequence[Box]) -> tuple[Array, Array]:
    """Signature (tiles,) and log sharpness (T,) of a picture in its boxes."""
    tiles = [part for rows in np.array_split(picture, _ROWS, axis=0) for part in np.array_split(rows, _COLUMNS, axis=1)]
    both = ([sharpness(t) for t in tiles], [sharpness(inside(picture, box)) for box in boxes])
    signature, targets = (np.log(np.maximum(np.array(values, np.float64), _DARKEST)) for values in both)
    return signature, targets


def take_sweep(
    focus: DrivenFocus,
    size: int,
    boxes: Sequence[Box],
    *,
    stride: int = 1,
    window: int = 6,
    most_steps: int | None = None,
    on_stop: Callable[[], None] = lambda: None,
) -> Sweep:
    """Home, then stop after every ``stride`` steps until the near stop.

    Args:
        focus: the lens.
        size: of the steps.
        boxes: of the targets.
        stride: steps between stops.
        window: the near stop is reached when so many stops in a row show the same picture.
        most_steps: go no further than this.
        on_stop: called after each stop.

    Raises:
        CameraError: the picture keeps changing.
    """
    focus.home()
    steps = 0
    seen: list[tuple[int, Array, Array]] = []
    recent: list[View] = []
    while True:
        _, view = focus.watch.settle()
        seen.append((steps, *read_sharpness(view.full, boxes)))
        recent = [*recent[-window:], view]
        on_stop()
        arrived = len(recent) > window and not focus.watch.changed(recent[0], view)
        if arrived or (most_steps is not None and steps >= most_steps):
            break
        if len(seen) > _MOST_STOPS:
            raise CameraError("the picture still changes at the end of focus", hint="steady the light and the scene")
        focus.step("near", size, stride)
        steps += stride
    end = None
    if arrived:
        still = 1 + max((n for n, v in enumerate(recent) if focus.watch.changed(v, view)), default=-1)
        first = len(seen) - len(recent) + still
        end, seen = float(seen[first][0]), seen[:first]
    taken, signature, targets = (np.array(column, np.float64) for column in zip(*seen, strict=True))
    return Sweep(size, taken, signature, targets, end)


def peak(sweep: Sweep, target: int, name: str) -> Peak:
    """Where a target is sharpest: the top of a parabola through the logarithm around the largest value.

    Args:
        sweep: through the target.
        target: its number.
        name: what to call it in an error.

    Raises:
        DualpixError: it is not in focus anywhere inside the sweep, or has no detail.
    """
    values, steps = sweep.targets[:, target], sweep.steps
    top = int(values.argmax())
    if values[top] - np.percentile(values, 10) < _LEAST_CONTRAST:
        raise DualpixError(f"{name} never becomes sharper", hint="give the box of something with detail, in good light")
    if not 0 < top < len(values) - 1:
        raise DualpixError(
            f"{name} is sharpest at the {'far' if top == 0 else 'near'} stop",
            expected="a target inside the range of the lens",
        )
    around = 1
    while around < _MOST_AROUND and _high(values, top, around + 1):
        around += 1
    low, high = max(top - around, 0), min(top + around, len(values) - 1) + 1
    x, y = steps[low:high] - steps[top], values[low:high]
    spacing = float(np.median(np.diff(steps)))
    # the flanks are steeper than a parabola; they count less
    weights = np.exp(0.7 * (y - y.max()))
    design = np.vander(x / spacing, 3)
    coefficients, *_ = np.linalg.lstsq(design * weights[:, None], y * weights, rcond=None)
    curve, slope = float(coefficients[0]), float(coefficients[1])
    centre = -slope / (2 * curve) if curve < 0 else 0.0
    free = len(x) - 3
    rest = (y - design @ coefficients) * weights
    noise = float((rest**2).sum() / free) if free > 0 else 0.0
    # covariance of the weighted fit, carried to its top
    inverse = np.linalg.inv((design * weights[:, None] ** 2).T @ design)
    gradient = np.array([slope / (2 * curve**2), -1 / (2 * curve), 0.0]) if curve < 0 else np.zeros(3)
    sd = np.sqrt(noise * float(gradient @ inverse @ gradient) + _PEAK_FLOOR**2)
    return Peak(float(steps[top] + np.clip(centre, -1, 1) * spacing), float(sd * spacing))


def places_in(reference: Sweep, signatures: Array, expected: Array, within: float) -> Array:
    """Where in ``reference`` pictures were taken, in its steps.

    Args:
        reference: a sweep of the same scene.
        signatures: (M, tiles).
        expected: (M,) about where.
        within: how far from there to search, as a share of the place itself, at least three stops.

    Returns:
        (M,) places, NaN where the pictures around change too little to tell.
    """
    spacing = float(np.median(np.diff(reference.steps)))
    tangents = np.gradient(reference.signature, reference.steps, axis=0)
    out = np.full(len(signatures), np.nan)
    for number, (signature, about) in enumerate(zip(signatures, expected, strict=True)):
        near = np.abs(reference.steps - about) <= max(within * about, 3 * spacing)
        if not near.any():
            continue
        distance = np.square(reference.signature - signature).sum(axis=1)
        best = int(np.where(near, distance, np.inf).argmin())
        tangent = tangents[best]
        strength = float(tangent @ tangent)
        if strength * spacing**2 < _LEAST_CONTRAST**2 / 10:
            continue
        shift = float(tangent @ (signature - reference.signature[best])) / strength
        out[number] = reference.steps[best] + np.clip(shift, -spacing, spacing)
    return out


def _high(values: Array, top: int, around: int) -> bool:
    """Whether both values ``around`` places from the top are there and still belong to the maximum."""
    if top - around < 0 or top + around >= len(values):
        return False
    return bool(min(values[top - around], values[top + around]) > values[top] - _WINDOW_DROP)
