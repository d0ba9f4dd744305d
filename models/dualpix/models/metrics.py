"""Scores of a depth or disparity prediction against ground truth.

Convention: arrays of any one shape; pixels that are valid, finite in both and of positive confidence count. Where a
prediction is right up to an unknown affine map only (dual pixels without lens data), it is fitted to the target first:
``target ~ scale * prediction + offset``.

The affine-invariant form is that of Garg et al., "Learning Single Camera Depth Estimation using Dual-Pixels", ICCV
2019, as their released evaluation code computes it: rows of the least squares are multiplied by the square root of the
confidence, residuals averaged with the confidence. Some later dual-pixel papers multiply rows by the confidence itself;
both agree where it is 1. (The ridge of 1e-5 in their call has no effect: ``tf.linalg.lstsq`` leaves it out where
``fast=False``. So the scores are exactly invariant.) The MATLAB code of Punnappurath et al., ICCP 2020, reweights once
more: six fits, not five.

Rank correlations depend on how ties are ranked, several-fold where an 8-bit ground truth has few levels; compare only
within one variant. :func:`rank_errors` gives the three that papers print, which belong side by side.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from dualpix.capture.errors import DualpixError

Array = npt.NDArray[np.float64]
Ties = Literal["average", "dense", "ordinal"]

IRLS_ITERATIONS = 5
IRLS_FLOOR = 1e-3
"""Residuals below this, in units of the target, weigh alike: keeps the reweighting finite."""
_CONSTANT = 1e-12
"""A spread this small beside the values themselves is rounding, not signal."""


@dataclass(frozen=True)
class AffineInvariantScore:
    """Errors after the best affine fit, in units of the target; lower is better."""

    ai1: float
    """Mean absolute residual of the robust (IRLS) fit."""
    ai2: float
    """Root mean square residual of the least-squares fit."""
    one_minus_abs_rho: float
    """1 - |Spearman's rank correlation|."""
    scale: float
    """Of the robust fit: its sign tells whether prediction and target run the same way."""
    offset: float
    pixels: int
    ties: Ties
    """How tied values were ranked."""


@dataclass(frozen=True)
class RankErrors:
    """1 - |rank correlation| in the three forms that papers print; on an 8-bit truth they differ several-fold."""

    average: float
    """Spearman's own: tied values share their mean rank."""
    dense_8bit: float
    """Dense ranks of the prediction quantised to 8 bits (its range over the scored pixels to 0..255) against those of
    the truth as it is: ICCP 2020's ``srcc_calc.m``, whose maps come from 8-bit files."""
    argsort: float
    """Ties ranked by position, the better of both signs of the prediction: ICCV 2019's ``get_metrics.py``. Equal values
    get an order that they do not have, so maps of few values can look better than they are; a constant has 1."""


@dataclass(frozen=True)
class DepthScore:
    """Errors of metric depth without any fit; lower is better."""

    mae_m: float
    """Mean absolute error."""
    abs_rel: float
    """Mean of |prediction - target| / target."""
    rmse_diopters: float
    """Root mean square error of 1 / depth: what blur and disparity are proportional to."""
    clamped: float
    """Share of the pixels whose prediction is at an end of the range it was clamped to."""


@dataclass(frozen=True)
class Sparsification:
    """How the error falls when the least sure pixels are left out; see :func:`sparsification`."""

    kept: Array
    """Shares of the pixels that are kept, from 1 down."""
    error: Array
    """Mean error of the surest such share, as a part of the mean over all pixels."""
    oracle: Array
    """The same where the error itself says which to leave out: no confidence can be better."""
    ause: float
    """Area between both; 0 is perfect, below ``chance`` is of use."""
    chance: float
    """The same of a confidence that knows nothing: the area between 1 and the oracle."""

    @property
    def of_chance(self) -> float | None:
        """``ause`` as a part of ``chance``: 0 as the oracle, 1 as leaving pixels out at random; None where all errors
        are alike, so that there is no order to find."""
        return self.ause / self.chance if self.chance > _CONSTANT else None


@dataclass(frozen=True)
class _Samples:
    prediction: Array
    target: Array
    weight: Array


def affine_invariant_error(
    prediction: npt.ArrayLike,
    target: npt.ArrayLike,
    valid: npt.ArrayLike | None = None,
    confidence: npt.ArrayLike | None = None,
    *,
    ties: Ties = "average",
    iterations: int = IRLS_ITERATIONS,
) -> AffineInvariantScore:
    """AI(1), AI(2) and rank correlation of ``prediction`` against ``target`` (ICCV 2019 form, see the module text).

    Args:
        prediction: any shape, any unit.
        target: same shape; its unit is that of the errors (an 8-bit ground truth is customarily divided by 255).
        valid: same shape, bool; pixels to score.
        confidence: same shape, >= 0; weight of each pixel.
        ties: rank of tied values: their "average" (Spearman's own), "dense" (1 2 2 3) or "ordinal" (by position).
        iterations: fits of AI(1), the first of them plain least squares.

    Raises:
        DualpixError: fewer than two pixels can be scored.
        ValueError: shapes differ.
    """
    s = _samples(prediction, target, valid, confidence)
    scale2, offset2 = _weighted_fit(s.prediction, s.target, s.weight)
    residual2 = s.target - scale2 * s.prediction - offset2
    scale, offset = _robust_fit(s, iterations)
    residual1 = np.abs(s.target - scale * s.prediction - offset)
    return AffineInvariantScore(
        ai1=_mean(residual1, s.weight),
        ai2=float(np.sqrt(_mean(residual2**2, s.weight))),
        one_minus_abs_rho=1.0 - abs(_pearson(_ranks(s.prediction, ties), _ranks(s.target, ties), s.weight)),
        scale=scale,
        offset=offset,
        pixels=s.target.size,
        ties=ties,
    )


def least_squares(
    prediction: npt.ArrayLike, target: npt.ArrayLike, valid: npt.ArrayLike | None = None
) -> tuple[float, float]:
    """Scale and offset of the fit that AI(2) is of. Arguments as in :func:`affine_invariant_error`."""
    s = _samples(prediction, target, valid, None)
    return _weighted_fit(s.prediction, s.target, s.weight)


def rank_correlation(
    prediction: npt.ArrayLike, target: npt.ArrayLike, valid: npt.ArrayLike | None = None, *, ties: Ties = "average"
) -> float:
    """Spearman's rho in [-1, 1]; 0 where either side is constant. Arguments as in :func:`affine_invariant_error`."""
    s = _samples(prediction, target, valid, None)
    return _pearson(_ranks(s.prediction, ties), _ranks(s.target, ties), s.weight)


def rank_errors(
    prediction: npt.ArrayLike,
    target: npt.ArrayLike,
    valid: npt.ArrayLike | None = None,
    confidence: npt.ArrayLike | None = None,
) -> RankErrors:
    """The three variants of 1 - |rank correlation|. Arguments as in :func:`affine_invariant_error`."""
    s = _samples(prediction, target, valid, confidence)
    low, spread = float(s.prediction.min()), float(np.ptp(s.prediction))
    codes = np.rint((s.prediction - low) * (255 / spread)) if spread > 0 else np.zeros_like(s.prediction)
    by_position = _ranks(s.target, "ordinal")
    signs = (_pearson(_ranks(sign * s.prediction, "ordinal"), by_position, s.weight) for sign in (1.0, -1.0))
    return RankErrors(
        average=1.0 - abs(_pearson(_ranks(s.prediction, "average"), _ranks(s.target, "average"), s.weight)),
        dense_8bit=1.0 - abs(_pearson(_ranks(codes, "dense"), _ranks(s.target, "dense"), s.weight)),
        argsort=1.0 - max(signs),
    )


def mean_absolute_error(prediction: npt.ArrayLike, target: npt.ArrayLike, valid: npt.ArrayLike | None = None) -> float:
    """Mean of |prediction - target| in their common unit, without any fit."""
    s = _samples(prediction, target, valid, None)
    return float(np.abs(s.prediction - s.target).mean())


def bad_pixel_share(
    prediction: npt.ArrayLike, target: npt.ArrayLike, valid: npt.ArrayLike | None = None, *, threshold: float = 1.0
) -> float:
    """Share in [0, 1] of pixels that are off by more than ``threshold``, in the unit of the arrays."""
    s = _samples(prediction, target, valid, None)
    return float((np.abs(s.prediction - s.target) > threshold).mean())


def depth_error(
    prediction_m: npt.ArrayLike,
    target_m: npt.ArrayLike,
    valid: npt.ArrayLike | None = None,
    *,
    range_m: tuple[float, float],
) -> DepthScore:
    """Errors of depth in m against ground truth.

    Args:
        prediction_m: any shape, > 0, infinity allowed; clamped to ``range_m``.
        target_m: same shape, > 0 where valid.
        valid: same shape, bool; pixels to score.
        range_m: nearest and farthest depth that can be.

    Raises:
        DualpixError: fewer than two pixels can be scored.
        ValueError: shapes differ.
    """
    s = _samples(np.clip(np.asarray(prediction_m, np.float64), *range_m), target_m, valid, None)
    error = np.abs(s.prediction - s.target)
    return DepthScore(
        mae_m=float(error.mean()),
        abs_rel=float((error / s.target).mean()),
        rmse_diopters=float(np.sqrt(((1 / s.prediction - 1 / s.target) ** 2).mean())),
        clamped=float(((s.prediction <= range_m[0]) | (s.prediction >= range_m[1])).mean()),
    )


def sparsification(
    error: npt.ArrayLike, confidence: npt.ArrayLike, valid: npt.ArrayLike | None = None, *, steps: int = 50
) -> Sparsification:
    """Sparsification curve and AUSE (Ilg et al., "Uncertainty Estimates ... for Optical Flow", ECCV 2018).

    AUSE grows with what there is to gain: a heavy tail of errors has a larger one at the same order. Its share of the
    area of random order, ``of_chance``, does not (1 less Poggi et al.'s area under the random gain, CVPR 2020, as a
    part of the largest that there could be).

    Pixels of equal confidence leave together in the mean: they count with their mean error, so that a constant
    confidence keeps the error as it is.

    Args:
        error: any shape, >= 0, any unit.
        confidence: same shape, more is surer.
        valid: same shape, bool; pixels that count. Those whose error is not finite do not.
        steps: shares of pixels left out, 0 to 1 - 1 / steps.

    Raises:
        DualpixError: no pixel counts, or none has an error.
        ValueError: shapes differ.
    """
    e, c = np.asarray(error, np.float64), np.asarray(confidence, np.float64)
    use = np.ones(e.shape, np.bool_) if valid is None else np.asarray(valid, np.bool_)
    if not e.shape == c.shape == use.shape:
        raise ValueError(f"shapes differ: error {e.shape}, confidence {c.shape}, {use.shape}")
    use = use & np.isfinite(e)
    if not use.any() or not e[use].sum() > 0:
        raise DualpixError("no error to sparsify", expected="pixels with a truth, and an error")
    e, c = e[use], c[use]
    order = np.argsort(-c, kind="stable")
    _, group, count = np.unique(-c[order], return_inverse=True, return_counts=True)
    ranked = (np.bincount(group, e[order]) / count)[group]
    kept = 1 - np.arange(steps) / steps
    last = np.maximum(np.ceil(kept * e.size).astype(np.intp), 1)
    curves = [(np.cumsum(values)[last - 1] / last) / e.mean() for values in (ranked, np.sort(e))]
    ause, chance = (float(np.trapezoid(curve - curves[1], 1 - kept)) for curve in (curves[0], np.ones_like(kept)))
    return Sparsification(kept, curves[0], curves[1], ause, chance)


def _samples(
    prediction: npt.ArrayLike, target: npt.ArrayLike, valid: npt.ArrayLike | None, confidence: npt.ArrayLike | None
) -> _Samples:
    p, t = np.asarray(prediction, np.float64), np.asarray(target, np.float64)
    weight = np.ones(t.shape) if confidence is None else np.asarray(confidence, np.float64)
    use = np.ones(t.shape, np.bool_) if valid is None else np.asarray(valid, np.bool_)
    if not p.shape == t.shape == weight.shape == use.shape:
        raise ValueError(f"shapes differ: prediction {p.shape}, target {t.shape}, {weight.shape}, {use.shape}")
    use = use & np.isfinite(p) & np.isfinite(t) & (weight > 0)
    if np.count_nonzero(use) < 2:
        raise DualpixError("fewer than two pixels can be scored", expected="valid, finite pixels in both maps")
    return _Samples(p[use], t[use], weight[use])


def _mean(x: Array, weight: Array) -> float:
    return float((weight * x).sum() / weight.sum())


def _spread(x: Array, weight: Array) -> tuple[Array, float]:
    """``x`` about its weighted mean, and the variance, exactly 0 where only rounding varies."""
    centred = x - _mean(x, weight)
    variance = _mean(centred**2, weight)
    return centred, variance if variance > (_CONSTANT * float(np.abs(x).max())) ** 2 else 0.0


def _weighted_fit(x: Array, y: Array, weight: Array) -> tuple[float, float]:
    """Least squares y ~ scale * x + offset; a constant ``x`` gets scale 0."""
    centred, variance = _spread(x, weight)
    scale = _mean(centred * y, weight) / variance if variance else 0.0
    return scale, _mean(y, weight) - scale * _mean(x, weight)


def _robust_fit(s: _Samples, iterations: int) -> tuple[float, float]:
    """L1 fit by iteratively reweighted least squares; the first of the iterations is plain least squares."""
    weight = s.weight
    for _ in range(iterations):
        scale, offset = _weighted_fit(s.prediction, s.target, weight)
        residual = np.abs(s.target - scale * s.prediction - offset)
        weight = s.weight / np.maximum(IRLS_FLOOR, residual)
    return scale, offset


def _ranks(x: Array, ties: Ties) -> Array:
    if ties == "ordinal":
        ranks = np.zeros(x.size)
        if not np.ptp(x) > 0:  # one value has no order; by position a constant would match a truth that is sorted
            return ranks
        ranks[np.argsort(x, kind="stable")] = np.arange(x.size)
        return ranks
    _, group, count = np.unique(x, return_inverse=True, return_counts=True)
    per_group: npt.NDArray[Any] = np.arange(count.size) if ties == "dense" else np.cumsum(count) - 0.5 * (count + 1)
    return per_group[group].astype(np.float64)


def _pearson(x: Array, y: Array, weight: Array) -> float:
    (cx, vx), (cy, vy) = _spread(x, weight), _spread(y, weight)
    if not vx or not vy:
        return 0.0
    return float(np.clip(_mean(cx * cy, weight) / np.sqrt(vx * vy), -1.0, 1.0))
