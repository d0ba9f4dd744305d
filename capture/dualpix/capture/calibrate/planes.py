"""Disparity of a textured plane over the field: what `dualpix calibrate gain` and `psf` start from.

Convention: disparity is ``x_right - x_left`` in px of the view, > 0 behind the focus plane; the field is divided into
equal cells, which lie as the sensor does (see :mod:`.profiles.profile`). Where both halves see the same plane,
``right(x) = left(x - d)`` but for their blur, so about a first guess

    left - right = d m' + a m + b,    m = (left + right) / 2,

is solved by weighted least squares in each cell; a and b take up what equalisation has left. Warping by the result and
solving again removes the error of linearising, from coarse to fine. Weights are those of shot noise. Unlike
semi-global matching, whose 1/16 px steps lock to whole pixels on blurred texture, this has no favourite values.

The blur kernels of the halves are each other's mirror image, not shifted copies, so fine detail is displaced by more
than the distance of their centroids, which is what the disparity gain is defined by: by a part that grows with the
square of the frequency. The result of two smoothings, sigma and 2 sigma, is therefore taken to infinitely coarse detail
(Richardson's extrapolation).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import cv2
import numpy as np
import numpy.typing as npt

from dualpix.capture.errors import DualpixError
from dualpix.capture.raw import decode_capture
from dualpix.capture.raw.develop.geometry import as_sensor, upright_baseline
from dualpix.capture.raw.develop.levels import Levels
from dualpix.capture.stereo import match_sgbm
from dualpix.capture.types import Baseline, CaptureMeta, FloatImage, Mask

Floats = npt.NDArray[np.float64]

_HALVES: tuple[Literal["left"], Literal["right"]] = ("left", "right")
CELLS = (6, 8)
"""Rows and columns of the field, as the sensor lies."""
MAX_DISTANCE_M = 100.0
_COARSEST_PX, _WIDTHS = 8.0, 96  # first smoothing: at least this, and a 96th of the width
_FINEST_PX = 2.0
_BLUR_PER_DISPARITY = 1.5  # the halves' blur is several times their disparity
_SMOOTHINGS_PER_CELL = 16  # at most as coarse as that in the end
_MIN_SAMPLES = 4.0  # independent ones in a cell
_PASSES = 2
_DERIVATIVE = np.array([[1, -8, 0, 8, -1]], np.float32) / 12  # exact up to the fourth order
_MIN_USABLE = 0.97  # of the light that smoothing brings to a pixel
_SHOT_FLOOR = 0.05  # of the mean light
_MATCHED_PIXELS = 4 << 20
_MIN_CELL_PX = 16
_MAX_CLIPPED = 0.3
_MAX_SIGMA_PX, _MAX_SIGMA_RELATIVE = 0.1, 0.15
_MIN_CELLS = 12
_MIN_TILT_PX, _MIN_TILT = 0.15, 0.45


class PlaneError(DualpixError):
    """A capture is no usable plane."""


@dataclass(frozen=True)
class PlaneViews:
    """A decoded plane as the sensor lies; transposed where its baseline is "y", so that the disparity is along x."""

    name: str
    left: FloatImage
    """(h, w) light"""
    right: FloatImage
    usable: Mask
    """(h, w), not clipped."""
    baseline: Baseline
    """As the sensor lies."""
    size_hw: tuple[int, int]
    """Of the picture in samples, as the sensor lies."""
    meta: CaptureMeta
    warnings: tuple[str, ...] = ()
    """Of the decoder."""

    @property
    def cells(self) -> tuple[int, int]:
        """Rows and columns of these views that are ``CELLS`` on the sensor."""
        return CELLS if self.baseline == "x" else CELLS[::-1]

    @property
    def width_on_sensor_px(self) -> int:
        """Width of the views as the sensor lies."""
        return int(self.left.shape[1 if self.baseline == "x" else 0])

    def on_sensor(self, cells: npt.NDArray[Any]) -> npt.NDArray[Any]:
        """Cells (rows, columns) of these views, as the sensor lies."""
        return cells if self.baseline == "x" else np.ascontiguousarray(cells.T)


@dataclass(frozen=True)
class Plane:
    """A plane at a known distance and its disparity in each cell of the field."""

    name: str
    distance_m: float
    focus_distance_m: float | None
    disparity_px: Floats
    """``CELLS``, as the sensor lies; NaN where the texture does not tell."""
    sigma_px: Floats
    """Its standard error; NaN likewise."""
    matched_px: float | None
    """Mean disparity by semi-global matching, which on blurred texture is biased: for comparison. None for views over
    four megapixels."""
    size_hw: tuple[int, int]
    baseline: Baseline
    """As the sensor lies."""
    meta: CaptureMeta


def read_views(
    path: Path, right: Path | None = None, baseline: Baseline | None = None, levels: Levels | None = None
) -> PlaneViews:
    """Decode a textured plane; a mosaic by its greens, a picture by its green channel.

    Args:
        path: a capture, or the left file of a pair.
        right: the right file of a pair.
        baseline: axis of the disparity of a pair whose form does not tell.
        levels: black and white of such a pair.

    Raises:
        DecodeError: cannot be decoded.
        PlaneError: clipped or too small.
    """
    capture = decode_capture(path, right=right, levels=levels, baseline=baseline, layout="green")
    orientation, sensor_baseline = capture.meta.orientation, capture.views.baseline
    left, other = (as_sensor(_channel(capture.view(half)), orientation) for half in _HALVES)
    usable = ~as_sensor(capture.saturated, orientation)
    if upright_baseline(sensor_baseline, orientation)[1]:
        left, other = other, left  # turning upright exchanged them
    if sensor_baseline == "y":
        left, other, usable = left.T, other.T, usable.T
    clipped = 1.0 - float(usable.mean())
    if clipped > _MAX_CLIPPED:
        raise PlaneError(
            f"{100 * clipped:.0f} % of '{path.name}' is clipped",
            expected=f"at most {100 * _MAX_CLIPPED:g} %",
            hint="expose the plane less",
        )
    if min(left.shape) < _MIN_CELL_PX * max(CELLS):
        raise PlaneError(
            f"'{path.name}' has {left.shape[1]}x{left.shape[0]} pixels",
            expected=f"at least {_MIN_CELL_PX * max(CELLS)} along each side",
        )
    return PlaneViews(
        name=path.name,
        left=np.ascontiguousarray(left),
        right=np.ascontiguousarray(other),
        usable=np.ascontiguousarray(usable),
        baseline=sensor_baseline,
        size_hw=capture.views.left.size_hw,
        meta=capture.meta,
        warnings=capture.views.warnings,
    )


def measure_plane(views: PlaneViews, distance_m: float, focus_distance_m: float | None = None) -> Plane:
    """Disparity of a plane in each cell.

    Raises:
        PlaneError: no texture, or not fronto-parallel.
    """
    disparity, sigma = local_disparity(views.left, views.right, views.usable, views.cells)
    limit = np.maximum(_MAX_SIGMA_PX, _MAX_SIGMA_RELATIVE * np.abs(disparity))
    known = np.isfinite(sigma) & (sigma < limit)
    if known.sum() < _MIN_CELLS:
        raise PlaneError(
            f"'{views.name}' has no texture to measure in {known.size - int(known.sum())} of {known.size} places",
            expected=f"texture in at least {_MIN_CELLS}",
            hint="use a printed page, gravel, a poster: detail all over the frame",
        )
    disparity, sigma = (np.where(known, v, np.nan) for v in (disparity, sigma))
    _check_fronto_parallel(views.name, disparity, sigma)
    return Plane(
        name=views.name,
        distance_m=distance_m,
        focus_distance_m=focus_distance_m,
        disparity_px=views.on_sensor(disparity),
        sigma_px=views.on_sensor(sigma),
        matched_px=_matched(views),
        size_hw=views.size_hw,
        baseline=views.baseline,
        meta=views.meta,
    )


def _matched(views: PlaneViews) -> float | None:
    if views.left.size > _MATCHED_PIXELS:
        return None
    disparity, measured = match_sgbm(views.left, views.right)
    return float(disparity[measured].mean()) if measured.any() else None


def check_distances(distances_m: Sequence[float], what: str = "distance") -> None:
    """Refuse distances that no plane has, above all millimetres given for metres.

    Raises:
        PlaneError: not positive, or over 100 m.
    """
    for value in distances_m:
        if not value > 0:
            raise PlaneError(f"{what} {value:g} m", expected="a positive distance in m")
        if value > MAX_DISTANCE_M:
            raise PlaneError(
                f"{what} {value:g} m",
                expected=f"metres, at most {MAX_DISTANCE_M:g}",
                hint=f"{value:g} mm would be {value / 1000:g}",
            )


def local_disparity(left: FloatImage, right: FloatImage, usable: Mask, cells: tuple[int, int]) -> tuple[Floats, Floats]:
    """Sub-pixel disparity along x in equal cells that tile the views, and its standard error.

    Args:
        left: (h, w) linear light.
        right: (h, w), equally bright but for a smooth factor.
        usable: (h, w), False where clipped.
        cells: rows and columns.

    Returns:
        Disparity and sigma in px, both of shape ``cells``; NaN where there is no usable texture.
    """
    width = left.shape[1]
    room_px = min(left.shape[0] / cells[0], width / cells[1]) / _SMOOTHINGS_PER_CELL
    found, sigma_px, finest = np.zeros(cells), max(_COARSEST_PX, width / _WIDTHS), _FINEST_PX
    while sigma_px > finest:
        found = _filled(_solved_at(left, right, usable, found, sigma_px)[0])
        finest = min(max(_FINEST_PX, _BLUR_PER_DISPARITY * float(np.median(np.abs(found)))), max(room_px, _FINEST_PX))
        sigma_px /= 2
    scales = []
    for sigma_px in (2 * finest, finest):
        for _ in range(_PASSES):
            found, error = _solved_at(left, right, usable, _filled(found), sigma_px)
        scales.append((found, error))
    (coarse, coarse_error), (fine, fine_error) = scales
    return (4 * coarse - fine) / 3, np.hypot(4 * coarse_error, fine_error) / 3


def _solved_at(
    left: FloatImage, right: FloatImage, usable: Mask, guess: Floats, sigma_px: float
) -> tuple[Floats, Floats]:
    """One round of warping and solving: a better guess and its standard error."""
    step, error = _residual(left, right, usable, guess, sigma_px)
    return guess + np.clip(step, -2 * sigma_px, 2 * sigma_px), error


def _residual(
    left: FloatImage, right: FloatImage, usable: Mask, guess: Floats, sigma_px: float
) -> tuple[Floats, Floats]:
    """What is left of the disparity after warping both views by half the guess each, and its standard error."""
    height, width = left.shape
    field = cv2.resize(guess.astype(np.float32), (width, height), interpolation=cv2.INTER_LINEAR)
    half = np.asarray(field / 2, np.float32)
    views = [_shifted(_blurred(left, sigma_px), -half), _shifted(_blurred(right, sigma_px), half)]
    mean = (views[0] + views[1]) / 2
    slope = cv2.filter2D(mean, -1, _DERIVATIVE, borderType=cv2.BORDER_REFLECT_101)
    good = cv2.GaussianBlur(usable.astype(np.float32), (0, 0), sigma_px) > _MIN_USABLE
    border = 2 + int(np.abs(guess).max() / 2)
    good[:, :border] = good[:, width - border :] = False
    weight = good / (np.maximum(mean, 0) + _SHOT_FLOOR * max(float(mean.mean()), 1e-9))
    terms: Floats = np.stack([slope, mean, np.ones_like(mean), views[0] - views[1]], -1).astype(np.float64)
    per_sample = max(1.0, 4 * np.pi * sigma_px**2)  # neighbours that smoothing made one
    out = np.full((2, *guess.shape), np.nan)
    for row in range(guess.shape[0]):
        for column in range(guess.shape[1]):
            cell = cell_slices(guess.shape, (height, width), row, column)
            out[:, row, column] = _solved(
                terms[cell].reshape(-1, 4), weight[cell].ravel().astype(np.float64), per_sample
            )
    return out[0], out[1]


def cell_slices(
    cells: tuple[int, ...], size_hw: tuple[int, int], row: int, column: int, margin: int = 0
) -> tuple[slice, slice]:
    """Rows and columns of one of ``cells`` that tile a picture, with a margin on each side where there is room."""
    edges = (
        (n * i // c - margin, n * (i + 1) // c + margin) for n, c, i in zip(size_hw, cells, (row, column), strict=True)
    )
    first, second = (slice(max(a, 0), b) for a, b in edges)
    return first, second


def _shifted(view: FloatImage, by_px: FloatImage) -> FloatImage:
    """``view`` at x + by_px, by Keys' cubic convolution; OpenCV's remap rounds positions to fractions of a pixel."""
    width = view.shape[1]
    position = np.arange(width, dtype=np.float32) + by_px
    whole = np.floor(position)
    t = position - whole
    start = whole.astype(np.int32) - 1
    weights = (
        ((-0.5 * t + 1) * t - 0.5) * t,
        (1.5 * t - 2.5) * t * t + 1,
        ((-1.5 * t + 2) * t + 0.5) * t,
        (0.5 * t - 0.5) * t * t,
    )
    out = np.zeros_like(view)
    for tap, weight in enumerate(weights):
        out += weight * np.take_along_axis(view, np.clip(start + tap, 0, width - 1), axis=1)
    return out


def _blurred(view: FloatImage, sigma_px: float) -> FloatImage:
    return np.asarray(cv2.GaussianBlur(view, (0, 0), sigma_px), np.float32)


def _solved(terms: Floats, weight: Floats, per_sample: float) -> tuple[float, float]:
    """(d, its standard error) of one cell; NaN where there is nothing to solve."""
    kept = weight > 0
    effective = kept.sum() / per_sample
    if effective < _MIN_SAMPLES:
        return np.nan, np.nan
    a, b, w = terms[kept, :3], terms[kept, 3], weight[kept]
    normal = a.T @ (a * w[:, None])
    scale = np.sqrt(np.diag(normal))
    if not np.all(scale > 0):
        return np.nan, np.nan
    inverse = np.linalg.pinv(normal / np.outer(scale, scale), rcond=1e-9) / np.outer(scale, scale)
    solution = inverse @ (a.T @ (b * w))
    variance = float(w @ (b - a @ solution) ** 2) / (effective - 3)
    return float(solution[0]), float(np.sqrt(max(variance * inverse[0, 0], 0.0)))


def _filled(cells: Floats) -> Floats:
    """NaN by the median: a start for cells without texture, whose error stays NaN."""
    known = np.isfinite(cells)
    return np.where(known, cells, np.median(cells[known]) if known.any() else 0.0)


def _check_fronto_parallel(name: str, disparity: Floats, sigma: Floats) -> None:
    """The gain varies evenly about the centre; what rises from one side to the other is a tilt of the plane."""
    design = field_terms(disparity.shape, tilt=True)
    known = np.isfinite(disparity)
    coefficients = robust_fit(design[known], disparity[known], 1 / np.maximum(sigma[known], 0.01))
    change = 2 * coefficients[1:3]
    middle = float(np.median(disparity[known]))
    limit = max(_MIN_TILT_PX, _MIN_TILT * abs(middle))
    if np.abs(change).max() > limit:
        along = "left to right" if abs(change[0]) > abs(change[1]) else "top to bottom"
        raise PlaneError(
            f"'{name}' is not parallel to the sensor: its disparity changes by "
            f"{change[np.abs(change).argmax()]:+.2f} px from {along}, at {middle:+.2f} px",
            expected=f"at most {limit:.2f} px",
            hint="square the camera to the plane, and show nothing else",
        )


def field_terms(cells: tuple[int, ...], *, tilt: bool) -> Floats:
    """Polynomials over the field at the centres of cells, x and y in -1..1: (rows, columns, terms).

    1, then x and y where ``tilt``, then x^2, y^2, x^4: along the baseline the gain falls off faster than a parabola.
    """
    y, x = np.meshgrid(*((np.arange(n) * 2 + 1) / n - 1 for n in cells), indexing="ij")
    linear = [x, y] if tilt else []
    return np.stack([np.ones_like(x), *linear, x**2, y**2, x**4], -1)


def robust_fit(design: Floats, values: Floats, weight: Floats) -> Floats:
    """Least squares with Huber's weights at 1.5 times the median error, twelve rounds.

    Args:
        design: (n, terms).
        values: (n,)
        weight: (n,) reciprocal standard errors.
    """
    used = weight.copy()
    for _ in range(12):
        solution = np.linalg.lstsq(design * used[:, None], values * used, rcond=None)[0]
        error = np.abs(values - design @ solution)
        used = weight / np.sqrt(np.maximum(1.0, error / max(1.5 * float(np.median(error)), 1e-9)))
    return np.asarray(solution)


def _channel(view: FloatImage) -> FloatImage:
    return np.ascontiguousarray(view[..., 1]) if view.ndim == 3 else view
