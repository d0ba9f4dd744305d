"""The curve of focus over motor units, from targets at known distances seen in several sweeps.

Convention: a target t at D_t diopters is sharpest after m steps of size s in a sweep, so ``D_t = a + b x + c x^2`` at
``x = m u_s``, where u_s, the units of a step of size s, is 1 for the finest size and unknown for the others. All are
found together, by generalised least squares: within a sweep the scatter of the steps adds up, so its positions have the
covariance ``jitter^2 u_s^2 min(m_i, m_j)``; a target whose distance was measured wrongly is wrong in all sweeps.

The bend c is expected to change the slope by no more than a quarter or so between the stops, as lenses do. With four
targets or more that hardly matters; with two or three it is what keeps the stated uncertainty honest.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from dualpix.capture.errors import DualpixError

Array = npt.NDArray[np.float64]

_BEND = 0.25
_SCATTERS = np.geomspace(0.001, 0.15, 60)
_PLACE_NOISE = np.geomspace(0.001, 1.0, 40)
_ROUNDS = 30
_UNLIKELY = 3.0
"""Residuals so many standard deviations too large mean that something else is wrong, and count as uncertainty."""


@dataclass(frozen=True)
class Sighting:
    """A target, at its sharpest in a sweep."""

    sweep: int
    size: int
    target: int
    steps: float
    sd: float
    """Of ``steps``, from the pictures alone."""


@dataclass(frozen=True)
class Curve:
    """What was fitted."""

    coefficients: tuple[float, float, float]
    units_per_step: Mapping[int, float]
    covariance: Array
    """(3 + S, 3 + S) of a, b, c, and of ``units_per_step`` of ``free_sizes``."""
    free_sizes: tuple[int, ...]
    units: Array
    """(T,) where each target lies, averaged over the sweeps."""
    residuals_d: Array
    """(T,) its diopters less those of the curve."""
    excess: float
    """Mean squared residual over what was expected; the covariance has grown by it where that is more than chance."""


def fit_curve(
    sightings: Sequence[Sighting], diopters: Array, sd_d: Array, guess: Mapping[int, float], jitter: float
) -> Curve:
    """Fit focus over units and the units of the coarser steps.

    Args:
        sightings: of targets in sweeps.
        diopters: (T,) of the targets.
        sd_d: (T,) one standard deviation of them.
        guess: about how many units a step of each size has; the finest has exactly 1.
        jitter: standard deviation of one step relative to its travel.

    Raises:
        DualpixError: fewer than two targets, or they are not sharpest in the order of their distances.
    """
    if len({s.target for s in sightings}) < 2:
        raise DualpixError("one target gives no curve of focus", expected="2 at least, better 5, at known distances")
    finest = min(guess, key=lambda size: guess[size])
    free = tuple(sorted({s.size for s in sightings} - {finest}))
    problem = _Problem(sightings, diopters, sd_d, finest, free, jitter)
    values = problem.start(guess)
    for _ in range(_ROUNDS):
        step = problem.step(values)
        values = values + step.change
        if np.all(np.abs(step.change) <= 1e-9 * np.maximum(np.abs(values), 1e-9)):
            break
    covariance = step.covariance
    if not (np.isfinite(values).all() and values[1] > 0):
        raise DualpixError(
            "the sharpest positions do not follow the distances of the targets",
            hint="check which distance belongs to which box",
        )
    observations = len(sightings) + 1 - len(values)
    excess = step.squares / observations if observations > 0 else 1.0
    if _is_unlikely(excess, observations):
        covariance = covariance * excess
    units, residuals = problem.by_target(values)
    a, b, c = (float(v) for v in values[:3])
    sizes = {finest: 1.0, **{size: float(v) for size, v in zip(free, values[3:], strict=True)}}
    return Curve((a, b, c), sizes, covariance, free, units, residuals, excess)


def scatter_of_steps(steps: Array, places: Array) -> float:
    """Standard deviation of a step relative to its travel, from the places that sweeps by the same steps came to.

    Two sweeps differ at a stop by the sum of all scatter up to it, and by the noise of finding the places, which does
    not add up. How likely that is, is computed for pairs of both, and averaged over what a lens may have.

    Args:
        steps: (N,) taken up to the stops, > 0.
        places: (K, N) that K sweeps came to, in the same unit.

    Returns:
        Its geometric mean; about 1 %, the middle of what lenses have, where the sweeps do not tell.
    """
    scatter, noise = np.meshgrid(_SCATTERS, _PLACE_NOISE, indexing="ij")
    log_likelihood = np.zeros(scatter.shape)
    if len(places) > 1 and len(steps):
        # what is common to all sweeps, the shape of the curve, is of no interest: contrasts lack it
        contrasts = np.linalg.svd(np.eye(len(places)) - 1 / len(places))[0][:, :-1].T @ places
        together, modes = np.linalg.eigh(np.minimum(steps[:, None], steps[None]))
        strength = np.square(contrasts @ modes)
        for mode in range(len(steps)):
            variance = scatter**2 * together[mode] + noise**2
            log_likelihood -= 0.5 * (len(contrasts) * np.log(variance) + strength[:, mode].sum() / variance)
    likelihood = np.exp(log_likelihood - log_likelihood.max())
    return float(np.exp((likelihood * np.log(scatter)).sum() / likelihood.sum()))


@dataclass(frozen=True)
class _Step:
    """Of Gauss-Newton."""

    change: Array
    covariance: Array
    squares: float
    """Weighted sum of squared residuals."""


class _Problem:
    """The unknowns are a, b, c, and the units of a step of each free size."""

    def __init__(
        self,
        sightings: Sequence[Sighting],
        diopters: Array,
        sd_d: Array,
        finest: int,
        free: tuple[int, ...],
        jitter: float,
    ) -> None:
        self.steps = np.array([s.steps for s in sightings])
        self.sd = np.array([s.sd for s in sightings])
        self.target = np.array([s.target for s in sightings])
        self.diopters, self.jitter, self.free = diopters[self.target], jitter, free
        sweep = np.array([s.sweep for s in sightings])
        self.sizes = np.array([s.size for s in sightings])
        self.finest = finest
        self.together = sweep[:, None] == sweep[None]
        self.shared = np.where(self.target[:, None] == self.target[None], sd_d[self.target][:, None] ** 2, 0.0)

    def start(self, guess: Mapping[int, float]) -> Array:
        """A straight line through the targets, at guessed units."""
        x = np.array([guess[size] for size in self.sizes]) * self.steps
        b, a = np.polyfit(x, self.diopters, 1)
        return np.array([a, b, 0.0, *(guess[size] for size in self.free)])

    def positions(self, values: Array) -> tuple[Array, Array]:
        """Units of a step, and position in units, of each sighting."""
        of_size = {self.finest: 1.0, **dict(zip(self.free, values[3:], strict=True))}
        units = np.array([of_size[size] for size in self.sizes])
        return units, units * self.steps

    def step(self, values: Array) -> _Step:
        """One step of Gauss-Newton."""
        a, b, c = values[:3]
        units, x = self.positions(values)
        slope = b + 2 * c * x
        residuals = self.diopters - (a + b * x + c * x**2)
        columns = [np.ones_like(x), x, x**2]
        columns += [np.where(self.sizes == size, slope * self.steps, 0.0) for size in self.free]
        design = np.stack(columns, axis=1)
        walked = np.minimum(self.steps[:, None], self.steps[None]) * np.outer(units, units) * self.jitter**2
        scatter = np.where(self.together, walked, 0.0) + np.diag((units * self.sd) ** 2)
        covariance = np.outer(slope, slope) * scatter + self.shared
        # the bend that lenses have, as one more observation
        reach = max(float(x.max()), 1e-9)
        design = np.vstack([design, [0, 0, reach, *(0.0 for _ in self.free)]])
        residuals = np.append(residuals, -c * reach)
        whole = np.zeros((len(x) + 1,) * 2)
        whole[:-1, :-1], whole[-1, -1] = covariance, (_BEND * abs(b) / 2) ** 2
        weighted = np.linalg.solve(whole, design)
        inverse = np.linalg.inv(design.T @ weighted)
        change = inverse @ (weighted.T @ residuals)
        left = residuals - design @ change
        return _Step(change, inverse, float(left @ np.linalg.solve(whole, left)))

    def by_target(self, values: Array) -> tuple[Array, Array]:
        """Mean position and residual of each target."""
        _, x = self.positions(values)
        a, b, c = values[:3]
        units = np.array([x[self.target == t].mean() for t in np.unique(self.target)])
        diopters = np.array([self.diopters[self.target == t][0] for t in np.unique(self.target)])
        return units, diopters - (a + b * units + c * units**2)


def _is_unlikely(excess: float, free: int) -> bool:
    """Whether chance makes a mean square of ``free`` standard normals as large (Wilson and Hilferty's cube root)."""
    if free <= 0:
        return False
    width = 2 / (9 * free)
    return bool((excess ** (1 / 3) - (1 - width)) / math.sqrt(width) > _UNLIKELY)
