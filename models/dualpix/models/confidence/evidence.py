"""What two views say about a map of their disparity: the evidence that its confidence is judged by.

Convention: everything is in pixels of the views given, over windows of ``WINDOW_PX`` on cells of ``CELL_PX``: evidence
varies slowly, and costs little there. Disparity is that of :mod:`dualpix.models.predict.disparity`.

The views are compared where the map says that they show the same: the left one is sampled at x - d / 2, the right one
at x + d / 2 (for matchers, whose map is of the left view, at x and x + d), as square roots of light, whose shot noise
is even. With r their difference and g_l, g_r their derivatives along the baseline, the mean of each window removed, as
the shading that is left over is no disparity:

- ``noise_px``: what noise alone allows, sqrt(var r / sum g_l g_r): the Cramer-Rao bound of a shift. The product of the
  two views' own derivatives counts instead of their squares, because noise is not in both; less twice what chance
  gives. Grey cards, unrelated halves and stripes along the baseline have none.
- ``misfit_px``: the disparity that is still left between the views, sum r g / sum g^2 (one step of Lucas and Kanade).
- ``across_px``: the same across the baseline, where no lens makes any: of another exposure, or along the other axis.
- ``spread_px``: by how much the working sizes differ, where there are several.
- ``roughness``: rms slope of the map. Networks and matchers alike are wrong at depth edges and where they guess.
- ``support``: the share of windows around (Gaussian, ``SUPPORT_PX``) in which noise allows 0.3 px: how far from
  anything measured a pixel lies.
- ``learned``: what a network that has a confidence of its own says, as a logit: it knows scenes, not this noise. That
  it is sure counts for less where fewer than a fifth of the windows around allow anything to be measured: stripes
  along the baseline look like a surface in focus to a network that has never seen any.

Left out after measurement: the prediction of the exchanged halves, which should be the negative (a fifth more time;
sparsification error on rendered scenes 0.31 instead of 0.32, on real ones no better), and the left-right check of
semi-global matching (twice its time, no gain).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

import cv2
import numpy as np
import numpy.typing as npt

from dualpix.capture.types import FloatImage, Mask

Reference = Literal["centre", "left"]
"""Whose pixels a map belongs to: the full-aperture view's (networks) or the left one's (matchers)."""

CELL_PX = 4
WINDOW_PX = 32
SUPPORT_PX = 32
_ROUGHNESS_PX = 20
_GOOD_PX = 0.3
_MEAN_LEVEL = 0.18
_DARK = 1e-3
"""Added to light (mean 0.18) before the root, which is steep below."""
_LEAST_VARIANCE = 1e-6
"""Of the difference of roots: a quarter of a step of 8 bits. Nothing is known better."""
_CHANCE = 2.0
_SEEN = 0.2
"""Share of windows that allow a measurement, from which a network's own confidence counts in full."""
_WORST_NOISE_PX = 4.5
_MOST_MISFIT = 2.0
_LEAST = {"noise_px": 2.5e-3, "spread_px": 0.02, "roughness": 0.02, "support": 0.01}
"""Added before the logarithm: below, less is no better."""
_MOST_LOGIT = 6.0
"""Of a learned confidence, either way: a share of 1 / 400, which no calibration here can tell from none."""
LEARNED = "learned"
TERMS = ("misfit", *_LEAST, LEARNED)


@dataclass(frozen=True)
class Tolerance:
    """The stated error: ``px`` plus ``relative`` of the disparity's absolute value."""

    px: float = 0.2
    relative: float = 0.1

    def at(self, disparity_px: npt.NDArray[Any]) -> npt.NDArray[Any]:
        """In px, of each disparity."""
        allowed: npt.NDArray[Any] = self.px + self.relative * np.abs(disparity_px)
        return allowed

    def scaled(self, factor: float) -> Tolerance:
        """The same error in pixels that are ``factor`` times finer."""
        return Tolerance(self.px * factor, self.relative)


@dataclass(frozen=True)
class Evidence:
    """What the views say about a map, each (rows, columns) of cells; see the module's text."""

    noise_px: FloatImage
    misfit_px: FloatImage
    across_px: FloatImage
    spread_px: FloatImage | None
    roughness: FloatImage
    support: FloatImage
    disparity_px: FloatImage
    """The map itself."""
    learned: FloatImage | None = None
    """Logit of the network's own confidence; None where it has none."""

    def terms(self, tolerance: Tolerance) -> dict[str, npt.NDArray[np.float64]]:
        """What is weighted, by the names in ``TERMS``; without the spread and the learned one where there are none.

        Logarithms, but for the misfit along and across the baseline together: in tolerances, up to 2, as a step of
        Lucas and Kanade is right for small ones; and the learned one, which is a logit.
        """
        misfit = np.hypot(self.misfit_px, self.across_px, dtype=np.float64) / tolerance.at(self.disparity_px)
        terms = {"misfit": np.minimum(misfit, _MOST_MISFIT)}
        for name, least in _LEAST.items():
            value = getattr(self, name)
            if value is not None:
                terms[name] = np.log(value.astype(np.float64) + least)
        if self.learned is not None:
            seen = np.minimum(self.support.astype(np.float64) / _SEEN, 1.0)
            terms[LEARNED] = np.where(self.learned > 0, self.learned * seen, self.learned)
        return terms


def logit_of(confidence: FloatImage) -> FloatImage:
    """ln(c / (1 - c)) of a confidence in 0..1, within -6 ... 6."""
    least = np.float32(1 / (1 + np.exp(_MOST_LOGIT)))
    share = np.clip(confidence, least, 1 - least, dtype=np.float32)
    return np.asarray(np.clip(np.log(share / (1 - share)), -_MOST_LOGIT, _MOST_LOGIT), np.float32)


def gather_evidence(
    left: FloatImage,
    right: FloatImage,
    disparity_px: FloatImage,
    *,
    spread_px: FloatImage | None = None,
    learned: FloatImage | None = None,
    clipped: Mask | None = None,
    reference: Reference = "centre",
) -> Evidence:
    """What two views say about a map of their disparity.

    Args:
        left: (H, W) linear working view, baseline along x.
        right: the other one, equalised with it.
        disparity_px: (H, W) in pixels of the views.
        spread_px: (H, W) >= 0, by how much several maps differ that it was merged from.
        learned: (H, W) logit of the network's own confidence, see :func:`logit_of`.
        clipped: (H, W) True where a view is saturated: no part of the evidence.
        reference: whose pixels the map belongs to.
    """
    first, second = _sampled(left, right, disparity_px, reference)
    usable = np.ones(left.shape, np.float32) if clipped is None else np.asarray(~clipped, np.float32)
    sums = _window_moments(first, second, usable)
    noise = _noise_px(sums)
    good = np.asarray(noise < _GOOD_PX, np.float32)
    return Evidence(
        noise,
        _left_over_px(sums.along, sums.along_squares),
        # where there is little to see across, it is the aperture problem
        _left_over_px(sums.across, np.maximum(sums.across_squares, sums.along_squares)),
        None if spread_px is None else _cells(spread_px),
        _roughness(disparity_px),
        _gaussian(good, SUPPORT_PX / CELL_PX),
        _cells(disparity_px),
        None if learned is None else _cells(learned),
    )


@dataclass(frozen=True)
class _Moments:
    """Covariances in windows, (rows, columns) of cells; g is the mean of both views' derivatives."""

    product: FloatImage
    """g_l g_r along the baseline."""
    chance: FloatImage
    """Standard deviation of ``product`` if the views had nothing to do with each other."""
    difference: FloatImage
    """r r"""
    along: FloatImage
    """g r"""
    along_squares: FloatImage
    across: FloatImage
    """g r with the derivative across the baseline."""
    across_squares: FloatImage
    pixels: FloatImage
    """That count in the window."""


def _sampled(
    left: FloatImage, right: FloatImage, disparity_px: FloatImage, reference: Reference
) -> tuple[FloatImage, FloatImage]:
    """Roots of both views where the map says that they show the same."""
    gain = _MEAN_LEVEL / max(float(0.5 * (left.mean(dtype=np.float64) + right.mean(dtype=np.float64))), 1e-4)
    roots = [np.sqrt(np.maximum(view * np.float32(gain), 0) + np.float32(_DARK)) for view in (left, right)]
    if reference == "left":
        return roots[0], _shifted(roots[1], disparity_px)
    half = disparity_px * np.float32(0.5)
    return _shifted(roots[0], -half), _shifted(roots[1], half)


def _shifted(view: FloatImage, shift_px: FloatImage) -> FloatImage:
    """``view`` at x + shift, by the cubic of Keys (1981) with a = -1/2, as lines less what they lack of curvature.

    Not by OpenCV's own cubic, whose a = -3/4 moves even a ramp, by up to 0.05 px a view between the pixels (measured
    with 5.0): of two views half a disparity apart, up to 0.09 px of misfit where there is none.
    """
    height, width = view.shape
    x = np.clip(np.arange(width, dtype=np.float32)[None] + shift_px, 0, width - 1)
    y = np.ascontiguousarray(np.broadcast_to(np.arange(height, dtype=np.float32)[:, None], view.shape))
    padded = np.pad(view, ((0, 0), (1, 1)), mode="edge")
    curvature = padded[:, 2:] - 2 * view + padded[:, :-2]
    line, curve = (cv2.remap(values, x, y, cv2.INTER_LINEAR) for values in (view, curvature))
    t = x - np.floor(x)
    return np.asarray(line - np.float32(0.5) * t * (1 - t) * curve, np.float32)


def _window_moments(first: FloatImage, second: FloatImage, usable: FloatImage) -> _Moments:
    middle = (first + second) * np.float32(0.5)
    slopes = _slope(first), _slope(second), _slope(middle.T).T
    g_l, g_r, g_y, r = (values * usable for values in (*slopes, first - second))
    g, product = (g_l + g_r) * np.float32(0.5), g_l * g_r
    share = np.maximum(_window(_cells(usable)), 1e-6)
    pixels = share * np.float32(WINDOW_PX**2)

    def mean(values: FloatImage) -> FloatImage:
        return np.asarray(_window(_cells(values)) / share, np.float32)

    m_g, m_y, m = mean(g), mean(g_y), mean(r)
    return _Moments(
        product=mean(product) - mean(g_l) * mean(g_r),
        # of the products themselves: noise that sits in a few dark rows makes more of it than its mean tells
        chance=np.sqrt(np.maximum(mean(product * product), 0) / pixels),
        difference=np.maximum(mean(r * r) - m * m, 0) + np.float32(_LEAST_VARIANCE),
        along=mean(g * r) - m_g * m,
        along_squares=mean(g * g) - m_g * m_g,
        across=mean(g_y * r) - m_y * m,
        across_squares=mean(g_y * g_y) - m_y * m_y,
        pixels=pixels,
    )


def _noise_px(m: _Moments) -> FloatImage:
    signal = m.pixels * np.maximum(m.product - _CHANCE * m.chance, 0)
    bound = np.sqrt(m.difference / np.maximum(signal, 1e-9))
    return np.asarray(np.minimum(bound, _WORST_NOISE_PX), np.float32)


def _left_over_px(covariance: FloatImage, squares: FloatImage) -> FloatImage:
    return np.asarray(np.abs(covariance) / np.maximum(squares, _LEAST_VARIANCE / 10), np.float32)


def _roughness(disparity_px: FloatImage) -> FloatImage:
    slopes = [cv2.Sobel(disparity_px, cv2.CV_32F, *axis, ksize=3, scale=1 / 8) for axis in ((1, 0), (0, 1))]
    squares = _cells(slopes[0] ** 2 + slopes[1] ** 2)
    return np.sqrt(np.maximum(_window(squares, _ROUGHNESS_PX), 0))


def _slope(view: FloatImage) -> FloatImage:
    """Along x; 0 at the ends."""
    slope = np.zeros_like(view)
    slope[:, 1:-1] = (view[:, 2:] - view[:, :-2]) * np.float32(0.5)
    return slope


def _cells(values: FloatImage) -> FloatImage:
    """Means of cells."""
    height, width = values.shape
    size = (-(-width // CELL_PX), -(-height // CELL_PX))
    return np.asarray(cv2.resize(values, size, interpolation=cv2.INTER_AREA), np.float32)


def _window(cells: FloatImage, side_px: int = WINDOW_PX) -> FloatImage:
    side = side_px // CELL_PX
    return np.asarray(cv2.blur(cells, (side, side), borderType=cv2.BORDER_REFLECT), np.float32)


def _gaussian(cells: FloatImage, sigma_cells: float) -> FloatImage:
    return np.asarray(cv2.GaussianBlur(cells, (0, 0), sigma_cells, borderType=cv2.BORDER_REFLECT), np.float32)
