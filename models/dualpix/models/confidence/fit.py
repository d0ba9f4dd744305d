"""Weights and table of a confidence, from evidence whose errors are known.

Convention: ``terms`` are (N, names) in the order of the names given; ``error`` is (N,) the absolute error in
tolerances: up to 1 a pixel is right.

Weights are the maximum likelihood of a logistic regression among those of the right sign: no evidence that a map is
wrong may make it surer, as it would where a capture is like none of those that were fitted to. The table is made on
captures that the weights were not fitted to: pixels are sorted by their score into equally large bins; the share of
the right ones and the error that 68 % are within are made monotone by pooling neighbours (isotonic regression, Ayer
et al. 1955), because more evidence is never worth less.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from dualpix.models.confidence.calibration import Calibration
from dualpix.models.confidence.evidence import Tolerance

Floats = npt.NDArray[np.float64]

_BINS = 24
_ROUNDS = 30
_RIDGE = 1e-3
_DIGITS = 5
_SIGNS = {"misfit": -1.0, "noise_px": -1.0, "spread_px": -1.0, "roughness": -1.0, "support": 1.0, "learned": 1.0}
"""Which way each kind of evidence can only count."""


def fit_calibration(
    names: Sequence[str],
    fitted_on: tuple[Floats, Floats],
    counted_on: tuple[Floats, Floats],
    tolerance: Tolerance,
    provenance: Mapping[str, Any],
) -> Calibration:
    """Fit a confidence.

    Args:
        names: of the evidence.
        fitted_on: terms and errors for the weights.
        counted_on: others, for the table.
        tolerance: what errors are in units of.
        provenance: how the data came about.
    """
    signs = np.array([_SIGNS[name] for name in names])
    bias, weights = _logistic_of_signs(fitted_on[0], fitted_on[1] <= 1, signs)
    score = bias + counted_on[0] @ weights
    scores, confidence, error_68 = _table(score, counted_on[1])
    return Calibration(
        tolerance,
        round(bias, _DIGITS),
        {name: round(float(weight), _DIGITS) for name, weight in zip(names, weights, strict=True)},
        scores,
        confidence,
        error_68,
        provenance,
    )


def _logistic_of_signs(x: Floats, right: npt.NDArray[np.bool_], signs: Floats) -> tuple[float, Floats]:
    """Logistic regression whose weights have these signs or are 0: what comes out wrong is left out, worst first."""
    weights, kept = np.zeros(x.shape[1]), np.ones(x.shape[1], bool)
    while True:
        bias, found = _logistic(x[:, kept], right)
        wrong = found * signs[kept] < 0
        if not wrong.any():
            weights[kept] = found
            return bias, weights
        strength = np.where(wrong, np.abs(found) * x[:, kept].std(axis=0), 0.0)
        kept[np.flatnonzero(kept)[int(strength.argmax())]] = False


def isotonic(values: Floats, weights: Floats) -> Floats:
    """The rising sequence that is nearest to ``values`` in weighted least squares."""
    blocks: list[tuple[float, float, int]] = []  # mean, weight, length
    for value, weight in zip(values.tolist(), weights.tolist(), strict=True):
        blocks.append((value, weight, 1))
        while len(blocks) > 1 and blocks[-2][0] >= blocks[-1][0]:
            (a, wa, na), (b, wb, nb) = blocks[-2:]
            blocks[-2:] = [((a * wa + b * wb) / (wa + wb), wa + wb, na + nb)]
    return np.concatenate([np.full(length, mean) for mean, _, length in blocks])


def _logistic(x: Floats, right: npt.NDArray[np.bool_]) -> tuple[float, Floats]:
    """Bias and weights, by Newton's method on standardised columns."""
    mean, spread = x.mean(axis=0), np.maximum(x.std(axis=0), 1e-9)
    columns = np.column_stack([np.ones(len(x)), (x - mean) / spread])
    beta = np.zeros(columns.shape[1])
    for _ in range(_ROUNDS):
        share = 1 / (1 + np.exp(-np.clip(columns @ beta, -30, 30)))
        curvature = columns.T @ (columns * (share * (1 - share))[:, None]) + _RIDGE * np.eye(len(beta))
        step = np.linalg.solve(curvature, columns.T @ (right - share) - _RIDGE * beta)
        beta += step
        if float(np.abs(step).max()) < 1e-9:
            break
    weights = beta[1:] / spread
    return float(beta[0] - weights @ mean), weights


def _table(score: Floats, error: Floats) -> tuple[tuple[float, ...], tuple[float, ...], tuple[float, ...]]:
    order = np.argsort(score, kind="stable")
    parts = np.array_split(order, _BINS)
    middle = np.array([score[part].mean() for part in parts])
    share = isotonic(np.array([float(np.mean(error[part] <= 1)) for part in parts]), np.ones(_BINS))
    spread = -isotonic(np.array([-float(np.quantile(error[part], 0.68)) for part in parts]), np.ones(_BINS))
    middle, first = np.unique(np.round(middle, _DIGITS), return_index=True)
    columns = (middle, np.round(share[first], _DIGITS), np.round(spread[first], _DIGITS))
    scores, confidence, error_68 = (tuple(float(v) for v in column) for column in columns)
    return scores, confidence, error_68
