"""Where the frames of a stack that is rendered are focused.

Convention: focus in diopters (1/m) from the lens, rising: the farthest first. A list is *adaptive* where it follows the
scene, as a photographer's does; then it gives the scale of the scene away, and networks that are trained on such lists
alone read the depth off them. The others know nothing of the scene.

The power-inverse list is that of FOSSA (arXiv 2603.26658; princeton-vl/FOSSA, gen_focal_stack.py): frame k of N, from
``d_far`` to ``d_near`` diopters, has ``((1 - t) d_far^kappa + t d_near^kappa)^(1/kappa)``, t = k / (N - 1): even in
diopters for kappa 1, and ever more frames far away towards kappa 0, where it is the geometric list.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np
import numpy.typing as npt

Diopters = npt.NDArray[np.float64]
ListOf = Callable[[int, np.random.Generator, tuple[float, float]], Diopters]
"""(frames, random stream, (far, near) end of the scene in diopters): the list."""

FIXED_M: tuple[tuple[float, ...], ...] = (
    (7.06, 1.33, 0.86, 0.63, 0.5),
    (8.1, 4.9, 3.1, 1.7, 0.8),
    (8.0, 4.7, 3.0, 1.7, 0.8),
    (10.0, 0.7),
    (np.inf, 0.2),
)
"""Distances that somebody has set without a look at the scene: DfDNet's, ZEDD's and Infinigen Defocus's five frames;
even in diopters from 10 m to 0.7 m; a phone's whole range."""
_KAPPA_LEAST = 1e-3
_LEAST_STEP_D = 1e-3
_FAR_D, _NEAR_D = (0.05, 0.5), (1.0, 4.0)
"""Ends of lists that are even in diopters, drawn log-uniformly."""


def adaptive(frames: int, rng: np.random.Generator, ends_d: tuple[float, float]) -> Diopters:
    """Even in diopters from the far end of the scene to the near one."""
    del rng
    return np.linspace(*ends_d, frames)


def power_inverse(frames: int, rng: np.random.Generator, ends_d: tuple[float, float]) -> Diopters:
    """As published: nearest at U(.6, 1) m, farthest U(7, 15) times as far, kappa U(0, 1)."""
    del ends_d
    near_m = float(rng.uniform(0.6, 1.0))
    far_m = near_m * float(rng.uniform(7.0, 15.0))
    return power_spaced(1 / far_m, 1 / near_m, float(rng.uniform(0.0, 1.0)), frames)


def even(frames: int, rng: np.random.Generator, ends_d: tuple[float, float]) -> Diopters:
    """Even in diopters between ends that somebody chose without a look at the scene."""
    del ends_d
    far, near = (float(np.exp(rng.uniform(*np.log(end)))) for end in (_FAR_D, _NEAR_D))
    return np.linspace(far, near, frames)


def fixed(frames: int, rng: np.random.Generator, ends_d: tuple[float, float]) -> Diopters:
    """One of ``FIXED_M``; other numbers of frames than it has lie on its curve."""
    del ends_d
    return on_curve(1 / np.array(FIXED_M[int(rng.integers(len(FIXED_M)))]), frames)


def on_curve(listed: Diopters, frames: int) -> Diopters:
    """(N,) a list of another length: evenly along that of ``listed``, whose ends it keeps; linear in diopters between.

    A list that is even in diopters stays even.
    """
    return np.interp(np.linspace(0, len(listed) - 1, frames), np.arange(len(listed)), listed)


def power_spaced(far_d: float, near_d: float, kappa: float, frames: int) -> Diopters:
    """(N,) the power-inverse list; see the module's text."""
    power = max(kappa, _KAPPA_LEAST)
    share = np.linspace(0.0, 1.0, frames)
    return np.asarray(((1 - share) * far_d**power + share * near_d**power) ** (1 / power))


PUBLISHED: Mapping[ListOf, float] = {adaptive: 0.2, power_inverse: 0.8}
"""Shares of FOSSA's generator."""
MIXED: Mapping[ListOf, float] = {adaptive: 0.15, power_inverse: 0.25, even: 0.3, fixed: 0.3}


def draw_list(
    kinds: Mapping[ListOf, float], frames: int, rng: np.random.Generator, ends_d: tuple[float, float]
) -> Diopters:
    """(N,) of one of the kinds, by their shares; strictly rising."""
    chosen = list(kinds)[int(rng.choice(len(kinds), p=list(kinds.values())))]
    focus = np.sort(chosen(frames, rng, ends_d))
    return np.maximum.accumulate(focus + _LEAST_STEP_D * np.arange(frames) * (np.diff(focus, prepend=-1) < 1e-9))
