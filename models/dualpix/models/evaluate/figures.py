"""Figures of merit that several protocols share, as flat dictionaries.

Convention: ``found`` and ``truth`` are on the same pixels. Wherever there is a truth, a prediction counts: one that is
NaN there is refused, not left out, for leaving pixels out would flatter. Depths are clamped to the range that the
protocol's data can have, so that an estimate at infinity has a finite error.
"""

from __future__ import annotations

from collections.abc import Mapping

import cv2
import numpy as np
import numpy.typing as npt

from dualpix.capture.errors import DualpixError
from dualpix.capture.types import FloatImage, Mask
from dualpix.models.evaluate.edges import disparity_boundary_f1, near_edges
from dualpix.models.evaluate.protocol import Figures
from dualpix.models.metrics import (
    IRLS_ITERATIONS,
    affine_invariant_error,
    depth_error,
    mean_absolute_error,
    rank_correlation,
    rank_errors,
    sparsification,
)

Array = npt.NDArray[np.float64]

RANKS = {
    "one_minus_abs_rho": "1-|ρ|\navg",
    "one_minus_abs_rho_dense8": "1-|ρ|\n8 bit",
    "one_minus_abs_rho_argsort": "1-|ρ|\nsort",
}
"""Always together: each is what some papers print."""
AFFINE = {"ai1": "AI(1)", "ai2": "AI(2)", **RANKS}
EDGES = {"edge_ai1": "edge\nAI(1)", "edge_f1": "edge F1"}
"""Where the truth is dense and known up to an affine map."""
SHARP = {"psnr_db": "PSNR dB", "ssim": "SSIM", "input_psnr_db": "input dB", "input_ssim": "input SSIM"}
"""Of methods that restore the picture, where it is known, beside the blurred one that it was made of."""
RANGES_M: Mapping[str, tuple[float, float]] = {
    "0_1": (0.0, 1.0), "1_2": (1.0, 2.0), "2_4": (2.0, 4.0), "over_4": (4.0, np.inf),
}  # fmt: skip
"""Ranges of true depth that errors are told apart for."""
DELTAS = {"d1_05": 1.05, "d1_15": 1.15, "d1_25": 1.25, "d1_25_2": 1.25**2, "d1_25_3": 1.25**3}
MOST_PSNR_DB = 100.0
"""Of a picture without any error; the official code of DPDD has the same."""


def checked(found: FloatImage, valid: Mask, name: str, *, infinite: bool = False) -> FloatImage:
    """``found``, if it has a number wherever there is a truth.

    Args:
        found: (h, w) or (h, w, 3).
        valid: (h, w).
        name: of the sample.
        infinite: whether infinity is a number: of depth it is.

    Raises:
        DualpixError: it has not; the message says how often.
    """
    known = ~np.isnan(found[valid]) if infinite else np.isfinite(found[valid])
    bad = int(np.count_nonzero(~known))
    if bad:
        what = "NaN" if infinite else "NaN or infinite"
        raise DualpixError(
            f"{bad} of {known.size} values predicted for '{name}' where there is a truth are {what}",
            expected="a number everywhere",
        )
    return found


def affine_figures(
    found: FloatImage,
    truth: FloatImage,
    valid: Mask,
    confidence: FloatImage | None = None,
    *,
    iterations: int = IRLS_ITERATIONS,
) -> Figures:
    """AI(1), AI(2) and the rank variants; see :mod:`dualpix.models.metrics`."""
    affine = affine_invariant_error(found, truth, valid, confidence, iterations=iterations)
    ranks = rank_errors(found, truth, valid, confidence)
    return {
        **vars(affine),
        "one_minus_abs_rho_dense": 1.0 - abs(rank_correlation(found, truth, valid, ties="dense")),
        "one_minus_abs_rho_dense8": ranks.dense_8bit,
        "one_minus_abs_rho_argsort": ranks.argsort,
    }


def depth_figures(found_m: FloatImage, truth_m: FloatImage, valid: Mask, range_m: tuple[float, float]) -> Figures:
    """Errors of depth without any fit: in m, in diopters, relative, shares within a ratio, and by range of depth.

    Args:
        found_m: (h, w), infinity allowed; clamped to ``range_m``.
        truth_m: (h, w), > 0 where valid.
        valid: (h, w).
        range_m: nearest and farthest depth that can be.

    Returns:
        ``mae_m rmse_m abs_rel sq_rel rmse_log rmse_diopters mae_diopters clamped``, the shares ``d1_05`` to
        ``d1_25_3``, and ``mae_m_* mae_diopters_* abs_rel_* share_*`` of each of ``RANGES_M``, None where the truth has
        no such depth.
    """
    score = depth_error(found_m, truth_m, valid, range_m=range_m)
    f, t = np.clip(found_m[valid].astype(np.float64), *range_m), truth_m[valid].astype(np.float64)
    error, diopters, ratio = np.abs(f - t), np.abs(1 / f - 1 / t), np.maximum(f / t, t / f)
    figures: Figures = {
        **vars(score),
        "rmse_m": _root(error**2),
        "sq_rel": float((error**2 / t).mean()),
        "rmse_log": _root(np.log(f / t) ** 2),
        "mae_diopters": float(diopters.mean()),
        **{name: float((ratio < most).mean()) for name, most in DELTAS.items()},
    }
    for name, (near, far) in RANGES_M.items():
        within = (t >= near) & (t < far)
        there = bool(within.any())
        figures |= {
            f"mae_m_{name}": float(error[within].mean()) if there else None,
            f"mae_diopters_{name}": float(diopters[within].mean()) if there else None,
            f"abs_rel_{name}": float((error[within] / t[within]).mean()) if there else None,
            f"share_{name}": float(within.mean()),
        }
    return figures


def confidence_figures(error: Array, confidence: FloatImage | None, valid: Mask, threshold: float) -> Figures:
    """How much a confidence is worth; all None without one.

    Returns:
        ``ause``, the area under the sparsification error (0 where there is no error at all); ``ause_of_chance``, its
        part of that of a random order (None where no order is better than another); ``sparsification``, the curves of
        both; ``measured``, the share of pixels whose confidence is at least ``threshold``.
    """
    if confidence is None:
        return {"ause": None, "ause_of_chance": None, "sparsification": None, "measured": None}
    measured = float((confidence[valid] >= threshold).mean())
    if not error[valid & np.isfinite(error)].sum() > 0:
        return {"ause": 0.0, "ause_of_chance": None, "sparsification": None, "measured": measured}
    found = sparsification(error, confidence, valid)
    curves = {
        "kept": found.kept.round(4).tolist(),
        "error": found.error.round(4).tolist(),
        "oracle": found.oracle.round(4).tolist(),
    }
    return {"ause": found.ause, "ause_of_chance": found.of_chance, "sparsification": curves, "measured": measured}


def edge_figures(found: FloatImage, truth: FloatImage, valid: Mask, *, least_step: float = 0.0) -> Figures:
    """Of maps in the truth's unit: ``edge_mae``, the mean absolute error near edges, ``edge_f1``, the boundary F1, both
    None where the truth has no edge; ``edge_share``, the part of the valid pixels that is near one."""
    near = near_edges(truth, valid, least_step=least_step)
    there = bool(near.any())
    return {
        "edge_mae": mean_absolute_error(found[near], truth[near]) if there else None,
        "edge_f1": disparity_boundary_f1(found, truth, valid, least_step=least_step),
        "edge_share": float(near[valid].mean()),
    }


def ratio_figures(found: FloatImage, truth: FloatImage, valid: Mask) -> Figures:
    """What depth papers print of any positive map without a fit: ``mae mse rmse rmse_log abs_rel sq_rel d1 d2 d3``.

    Of predictions that are not above 0, the logarithm is left out and no ratio is near 1, as in the code of DFV.
    """
    f, t = found[valid].astype(np.float64), truth[valid].astype(np.float64)
    error, positive = np.abs(f - t), f > 0
    ratio = np.full(f.shape, np.inf)
    ratio[positive] = np.maximum(f[positive] / t[positive], t[positive] / f[positive])
    logs = np.log(f[positive] / t[positive]) ** 2
    return {
        "mae": float(error.mean()),
        "mse": float((error**2).mean()),
        "rmse": _root(error**2),
        "rmse_log": float(np.sqrt(logs.sum() / f.size)),
        "abs_rel": float((error / t).mean()),
        "sq_rel": float((error**2 / t).mean()),
        **{f"d{n}": float((ratio < 1.25**n).mean()) for n in (1, 2, 3)},
    }


def bumpiness(found: FloatImage, truth: FloatImage, valid: Mask, most: float = 0.05) -> float:
    """100 times the mean norm of the error's Hessian, each clipped to ``most`` (Honauer et al., ACCV 2016; DDFF-12).

    Derivatives are Scharr's with unit smoothing, (1, 0, -1) without a half, borders reflected.
    """
    error = found.astype(np.float64) - truth

    def slope(values: Array, dx: int, dy: int) -> Array:
        return np.asarray(cv2.Scharr(values, cv2.CV_64F, dx, dy, scale=1 / 16, borderType=cv2.BORDER_REFLECT))

    x, y = slope(error, 1, 0), slope(error, 0, 1)
    norm = np.sqrt(sum(second**2 for first in (x, y) for second in (slope(first, 1, 0), slope(first, 0, 1))))
    return float(100 * np.minimum(norm, most)[valid].mean())


def image_figures(found: FloatImage, truth: FloatImage) -> Figures:
    """``psnr_db``, ``ssim`` and ``mae`` of pictures (h, w, 3) in 0..1, over all pixels and channels.

    SSIM is Wang et al.'s (IEEE TIP 2004) with a flat window of 7 px, sample covariances and a range of 1, as
    scikit-image computes it by default, mean over the channels.
    """
    f, t = found.astype(np.float64), truth.astype(np.float64)
    mse = float(((f - t) ** 2).mean())
    psnr = min(MOST_PSNR_DB, float(-10 * np.log10(mse))) if mse > 0 else MOST_PSNR_DB
    ssim = float(np.mean([_ssim(f[..., c], t[..., c]) for c in range(f.shape[2])]))
    return {"psnr_db": psnr, "ssim": ssim, "mae": float(np.abs(f - t).mean())}


def _ssim(x: Array, y: Array, side: int = 7) -> float:
    def mean(values: Array) -> Array:
        return np.asarray(cv2.blur(values, (side, side), borderType=cv2.BORDER_REFLECT))

    unbiased, edge = side**2 / (side**2 - 1), side // 2
    mx, my = mean(x), mean(y)
    vx, vy, vxy = (unbiased * (mean(a * b) - mean(a) * mean(b)) for a, b in ((x, x), (y, y), (x, y)))
    c1, c2 = 0.01**2, 0.03**2
    like = (2 * mx * my + c1) * (2 * vxy + c2) / ((mx**2 + my**2 + c1) * (vx + vy + c2))
    return float(like[edge:-edge, edge:-edge].mean())


def _root(squares: Array) -> float:
    return float(np.sqrt(squares.mean()))
