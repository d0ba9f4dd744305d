"""Focus breathing and small motion between the frames of a stack, and frames without them.

Convention: pixel centres have whole coordinates, (0, 0) top left, x to the right, y down. The matrix of a frame takes a
point of the *reference* picture to where it is seen *in the frame*,

    p_frame = scale R (p - c) + c + t,    c = ((W - 1) / 2, (H - 1) / 2),    scale = 1 + beta (D - D0)

with D the focus of the frame in diopters and D0 that of the reference; R and t are what is left, as of a tripod that
was touched. Warping a frame by the inverse map gives what the reference would show. The reference is the frame that
shows least of the scene, so that nothing is missing at the border of the others but what motion takes.

Neighbours are matched as affine maps by ``cv2.findTransformECC``, outwards from the middle frame: blur, being
symmetrical, does not bias them, and what it hides behind near things changes little from frame to frame. One ``beta``
is fitted to the scales of all frames that match well enough; rotation and shift are then those of the affine map. Where
scales do not follow the line, each frame keeps its own.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt

from dualpix.capture.errors import DualpixError
from dualpix.capture.stack.sharpness import gray_of
from dualpix.capture.types import FloatImage, FocusStack

Points = npt.NDArray[np.float64]
"""(..., 2) x and y in px."""
Matrix = npt.NDArray[np.float64]
"""(2, 3), see the module's text."""

WORKING_SIDE_PX = 1024
"""Frames are matched no larger: a hundredth of such a pixel is found."""
MIN_CORRELATION = 0.6
MAX_SCALE = 0.25
"""Breathing beyond this share is a mismatch."""
MAX_STRETCH = 0.01
"""So is a map that stretches one axis more than the other."""
LINEAR_PX = 0.25
"""Scales that lie farther than this from the line, as an RMS over picture and frames, are kept as they are."""
_ITERATIONS, _EPSILON = 100, 1e-6
_ECC_BLUR_PX = 5
_GRID = 9
_MIN_SIDE_PX = 32
_SAME_FOCUS_D = 1e-6


@dataclass(frozen=True)
class Alignment:
    """How the frames of a stack lie to its reference."""

    beta: float
    """Change of scale per diopter, relative to the reference."""
    d0: float
    """Focus of the reference in diopters."""
    reference: int
    matrices: npt.NDArray[np.float64]
    """(N, 2, 3), reference to frame."""
    correlation: tuple[float, ...]
    """With the neighbour; NaN where nothing was found."""
    scales: tuple[float, ...]
    """Of each frame relative to the reference, as matched: what ``beta`` was fitted to."""
    trusted: tuple[bool, ...]
    """False: too little matched; the frame has the scale of the model and nothing else."""
    linear: bool
    """The scales follow the line."""
    residual_px: float
    """RMS over the picture between the affine maps that were found and the matrices."""
    size_hw: tuple[int, int]
    diopters: tuple[float, ...]
    """Of the focus of each frame; their places in the sweep where ``metric`` is False."""
    metric: bool = True
    """False: nothing says how far the frames are focused, and ``beta`` and ``d0`` count places instead of diopters."""

    def matrix_at(self, diopters: float) -> Matrix:
        """(2, 3) of a frame at some focus: scale of the model, rotation and shift of the nearest frame that matched."""
        apart = np.abs(np.array(self.diopters) - diopters) + np.where(self.trusted, 0.0, 1e6)
        nearest = int(np.argmin(apart))
        if apart[nearest] < _SAME_FOCUS_D:
            return np.asarray(self.matrices[nearest])
        scale = _scale_of(self.matrices[nearest]) + self.beta * (diopters - self.diopters[nearest])
        return _similarity(self.matrices[nearest], self.size_hw, scale)

    def to_frame(self, index: int, points: Points) -> Points:
        """Where points of the reference are seen in a frame."""
        matrix = self.matrices[index]
        return np.asarray(points @ matrix[:, :2].T + matrix[:, 2])

    def to_reference(self, index: int, points: Points) -> Points:
        """The inverse of :meth:`to_frame`."""
        matrix = self.matrices[index]
        return np.asarray((points - matrix[:, 2]) @ np.linalg.inv(matrix[:, :2]).T)

    @property
    def shift_px(self) -> Points:
        """(N, 2) of the picture's centre: motion without breathing."""
        centre = _centre(self.size_hw)
        return np.array([self.to_frame(index, centre) - centre for index in range(len(self.matrices))])

    @property
    def rotation_deg(self) -> npt.NDArray[np.float64]:
        """(N,)"""
        return np.asarray(np.degrees(np.arctan2(self.matrices[:, 1, 0], self.matrices[:, 0, 0])))

    @property
    def breathing_px(self) -> float:
        """How far a corner moves from the farthest to the nearest focus, by the model."""
        spread = max(self.diopters) - min(self.diopters)
        return abs(self.beta) * spread * math.hypot(*self.size_hw) / 2

    def breathing(self) -> dict[str, float] | None:
        """As the record keeps it; None where it is not known per diopter."""
        if not self.metric:
            return None
        return {"beta": self.beta, "d0": self.d0, "residual_px": self.residual_px}

    def to_json(self) -> dict[str, Any]:
        """Plain data."""
        frames = [
            {
                "diopters" if self.metric else "place": self.diopters[index],
                "matrix": [[float(v) for v in row] for row in self.matrices[index]],
                "correlation": None if math.isnan(self.correlation[index]) else self.correlation[index],
                "trusted": self.trusted[index],
            }
            for index in range(len(self.matrices))
        ]
        return {
            **(self.breathing() or {"beta_per_place": self.beta, "residual_px": self.residual_px}),
            "reference": self.reference,
            "linear": self.linear,
            "size": {"width": self.size_hw[1], "height": self.size_hw[0]},
            "convention": "p_frame = matrix (p_reference, 1); pixel centres are whole numbers, x to the right, y down",
            "frames": frames,
        }


def estimate_alignment(grays: FloatImage, diopters: Sequence[float], *, metric: bool = True) -> Alignment:
    """How frames lie to one another.

    Args:
        grays: (N, H, W) linear, of equal exposure.
        diopters: (N,) of the focus of each; their places where it is not known.
        metric: they are diopters.

    Returns:
        See :class:`Alignment`; the first result of a stack without texture has no trusted frames and ``beta`` 0.

    Raises:
        DualpixError: fewer than two frames, or smaller than 32 px.
    """
    count, height, width = grays.shape
    if count < 2 or min(height, width) < _MIN_SIDE_PX:
        raise DualpixError(
            f"{count} frames of {width}x{height}", expected=f"two or more of at least {_MIN_SIDE_PX} px to align"
        )
    focus = np.asarray(diopters, np.float64)
    middle = int(np.argmin(np.abs(focus - focus.mean())))
    found = _match_all([_working(gray) for gray in grays], middle)
    shrink = _shrink(height, width)
    maps = [_enlarged(one.matrix, shrink) for one in found]
    trusted = tuple(one.trusted for one in found)
    beta, linear = _fit_breathing(maps, trusted, focus, middle, (height, width))
    scales = 1.0 + beta * (focus - focus[middle])
    matrices = [
        _similarity(matrix, (height, width), float(scale) if linear else None)
        if good
        else _scaling(float(scale), (height, width))
        for matrix, scale, good in zip(maps, scales, trusted, strict=True)
    ]
    residual = _rms_between(maps, matrices, trusted, (height, width))
    found_scales = [_scale_of(matrix) for matrix in maps]
    reference = int(np.argmax([_scale_of(matrix) for matrix in matrices]))
    back = np.asarray(cv2.invertAffineTransform(matrices[reference]), np.float64)
    return Alignment(
        beta=beta / float(scales[reference]),
        d0=float(focus[reference]),
        reference=reference,
        matrices=np.stack([_composed(matrix, back) for matrix in matrices]),
        correlation=tuple(one.correlation for one in found),
        scales=tuple(scale / found_scales[reference] for scale in found_scales),
        trusted=trusted,
        linear=linear,
        residual_px=residual,
        size_hw=(height, width),
        diopters=tuple(float(d) for d in focus),
        metric=metric,
    )


def align_stack(stack: FocusStack) -> tuple[FocusStack, Alignment]:
    """The stack as seen through its reference frame, the all-in-focus frame too.

    Raises:
        DualpixError: as :func:`estimate_alignment`.
    """
    grays = np.stack([gray_of(frame) for frame in stack.frames])
    known = stack.focus_distance_m is not None
    alignment = estimate_alignment(grays, [float(place) for place in stack.sweep], metric=known)
    frames = np.stack([warped(image, matrix) for image, matrix in zip(stack.frames, alignment.matrices, strict=True)])
    sharp = stack.all_in_focus
    if sharp is not None:
        sharp = warped(sharp, match(grays[alignment.reference], gray_of(sharp)))
    return replace(stack, frames=frames, all_in_focus=sharp), alignment


def match(reference: FloatImage, gray: FloatImage) -> Matrix:
    """(2, 3) similarity from the reference to another picture of any blur; identity where they do not match."""
    found, rho = _ecc(_working(reference), _working(gray), np.eye(2, 3))
    size_hw = gray.shape[0], gray.shape[1]
    matrix = _enlarged(found, _shrink(*size_hw))
    return _similarity(matrix, size_hw, None) if _trusted(matrix, rho) else np.eye(2, 3)


def warped(image: FloatImage, matrix: Matrix) -> FloatImage:
    """(H, W, ...) as the reference would show it; the border is repeated where the frame does not reach."""
    height, width = image.shape[:2]
    how = cv2.INTER_CUBIC | cv2.WARP_INVERSE_MAP
    return np.asarray(
        cv2.warpAffine(image, matrix, (width, height), flags=how, borderMode=cv2.BORDER_REPLICATE), np.float32
    )


# --- matching -----------------------------------------------------------------------------------------------------


def _working(gray: FloatImage) -> FloatImage:
    """As it is matched: reduced, and its square root, in which noise is even and highlights do not rule."""
    shrink = _shrink(*gray.shape)
    if shrink < 1:
        height, width = gray.shape
        size = round(width * shrink), round(height * shrink)
        gray = np.asarray(cv2.resize(gray, size, interpolation=cv2.INTER_AREA), np.float32)
    return np.sqrt(np.maximum(gray, 0))


def _shrink(height: int, width: int) -> float:
    return min(1.0, WORKING_SIDE_PX / max(height, width))


@dataclass(frozen=True)
class _Match:
    """From the middle picture to another."""

    matrix: Matrix
    correlation: float
    """With the picture it was matched with."""
    trusted: bool


def _match_all(pictures: Sequence[FloatImage], middle: int) -> list[_Match]:
    """Affine maps from the middle picture to each.

    Each is matched with its neighbour, or the nearest one beyond that matched: between neighbours blur changes least,
    and with it what blur hides and uncovers at the edges of near things.
    """
    found = {middle: _Match(np.eye(2, 3), 1.0, trusted=True)}
    for step, end in ((-1, -1), (1, len(pictures))):
        anchor = middle
        for index in range(middle + step, end, step):
            matrix, rho = _ecc(pictures[anchor], pictures[index], np.eye(2, 3))
            trusted = _trusted(matrix, rho)
            found[index] = _Match(_composed(matrix, found[anchor].matrix), rho, trusted)
            anchor = index if trusted else anchor
    return [found[index] for index in range(len(pictures))]


def _ecc(reference: FloatImage, picture: FloatImage, start: Matrix) -> tuple[Matrix, float]:
    stop = (cv2.TERM_CRITERIA_EPS | cv2.TERM_CRITERIA_COUNT, _ITERATIONS, _EPSILON)
    first = start.astype(np.float32)
    try:
        rho, matrix = cv2.findTransformECC(
            reference, picture, first, cv2.MOTION_AFFINE, stop, np.empty(0, np.uint8), _ECC_BLUR_PX
        )
    except cv2.error:  # no texture, or it wandered off
        return start, math.nan
    return np.asarray(matrix, np.float64), float(rho)


def _trusted(matrix: Matrix, rho: float) -> bool:
    """Whether this is breathing and motion, or nonsense."""
    if not rho >= MIN_CORRELATION or not np.isfinite(matrix).all():
        return False
    stretches = np.linalg.svd(matrix[:, :2], compute_uv=False)
    even = stretches[0] / max(stretches[1], 1e-9) - 1 < MAX_STRETCH
    return bool(even and abs(math.log(_scale_of(matrix))) < MAX_SCALE)


def _enlarged(matrix: Matrix, shrink: float) -> Matrix:
    """A map between reduced pictures as one between the whole ones: x_reduced = shrink (x + 1/2) - 1/2."""
    linear = matrix[:, :2]
    offset = 0.5 * shrink - 0.5
    shift = (linear @ np.full(2, offset) + matrix[:, 2] - offset) / shrink
    return np.column_stack([linear, shift])


def _fit_breathing(
    maps: Sequence[Matrix],
    trusted: Sequence[bool],
    focus: npt.NDArray[np.float64],
    middle: int,
    size_hw: tuple[int, int],
) -> tuple[float, bool]:
    """beta relative to the middle frame, and whether the scales follow it."""
    away = focus - focus[middle]
    usable = np.array(trusted) & (np.abs(away) > 1e-9)
    if not usable.any():
        return 0.0, True
    off = np.array([_scale_of(matrix) for matrix in maps])[usable] - 1.0
    slopes = off / away[usable]
    # a weighted median of slopes through (D0, 1) is not moved by a frame that went astray
    beta = _weighted_median(slopes, np.abs(away[usable]))
    close = np.abs(off - beta * away[usable]) * _radius_px(size_hw) < max(LINEAR_PX * 4, 1e-9)
    if close.any():
        beta = float((off * away[usable])[close].sum() / (away[usable][close] ** 2).sum())
    miss = (off - beta * away[usable]) * _radius_px(size_hw)
    return beta, bool(np.sqrt(np.mean(miss**2)) < LINEAR_PX)


def _weighted_median(values: npt.NDArray[np.float64], weights: npt.NDArray[np.float64]) -> float:
    order = np.argsort(values)
    cumulative = np.cumsum(weights[order])
    return float(values[order][np.searchsorted(cumulative, cumulative[-1] / 2)])


# --- maps ---------------------------------------------------------------------------------------------------------


def _similarity(matrix: Matrix, size_hw: tuple[int, int], scale: float | None) -> Matrix:
    """The map of one scale (its own if None), rotation and shift that is closest to an affine one over the picture."""
    points = _grid(size_hw)
    centre = points.mean(axis=0)
    seen = points @ matrix[:, :2].T + matrix[:, 2]
    x, y = (points - centre).T
    u, v = (seen - seen.mean(axis=0)).T
    angle = math.atan2(float((x * v - y * u).sum()), float((x * u + y * v).sum()))
    if scale is None:
        turned_x, turned_y = x * math.cos(angle) - y * math.sin(angle), x * math.sin(angle) + y * math.cos(angle)
        scale = float((turned_x * u + turned_y * v).sum() / (x**2 + y**2).sum())
    linear = scale * np.array([[math.cos(angle), -math.sin(angle)], [math.sin(angle), math.cos(angle)]])
    return np.column_stack([linear, seen.mean(axis=0) - linear @ centre])


def _scaling(scale: float, size_hw: tuple[int, int]) -> Matrix:
    centre = _centre(size_hw)
    return np.column_stack([scale * np.eye(2), (1 - scale) * centre])


def _composed(outer: Matrix, inner: Matrix) -> Matrix:
    return np.column_stack([outer[:, :2] @ inner[:, :2], outer[:, :2] @ inner[:, 2] + outer[:, 2]])


def _scale_of(matrix: Matrix) -> float:
    return math.sqrt(max(abs(float(np.linalg.det(matrix[:, :2]))), 1e-12))


def _rms_between(
    maps: Sequence[Matrix], others: Sequence[Matrix], which: Sequence[bool], size_hw: tuple[int, int]
) -> float:
    pairs = [(a, b) for a, b, use in zip(maps, others, which, strict=True) if use]
    return math.sqrt(float(np.mean([distance_px(a, b, size_hw) ** 2 for a, b in pairs]))) if pairs else 0.0


def distance_px(first: Matrix, second: Matrix, size_hw: tuple[int, int]) -> float:
    """RMS over the picture of how far two maps put a point apart."""
    difference = first - second
    apart = _grid(size_hw) @ difference[:, :2].T + difference[:, 2]
    return math.sqrt(float((apart**2).sum(axis=1).mean()))


def _grid(size_hw: tuple[int, int]) -> Points:
    height, width = size_hw
    x, y = np.meshgrid(np.linspace(0, width - 1, _GRID), np.linspace(0, height - 1, _GRID))
    return np.stack([x.ravel(), y.ravel()], axis=1)


def _centre(size_hw: tuple[int, int]) -> Points:
    return np.array([(size_hw[1] - 1) / 2, (size_hw[0] - 1) / 2])


def _radius_px(size_hw: tuple[int, int]) -> float:
    """RMS distance of a pixel from the centre."""
    return math.hypot(*size_hw) / math.sqrt(12.0)
