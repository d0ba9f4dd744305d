"""Means over scenes, and how far to trust them.

A mean over a few scenes says little of others. The interval beside it is a 95 % percentile bootstrap over the scenes:
they are drawn anew, with replacement, ``RESAMPLES`` times from a generator of seed ``SEED``. It tells how the mean
would move with other scenes of the same kind, and nothing about scenes of another kind.

Two methods on the same scenes are compared by the difference on each scene, whose mean is drawn anew in the same way:
a scene that is hard for both widens the interval of either mean, and leaves that of their difference alone.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from dualpix.models.evaluate.protocol import Figures

RESAMPLES, SEED = 2000, 20_260_101
_NOT_FOR_MEANS = ("ties", "scale", "offset", "pixels", "sparsification")


@dataclass(frozen=True)
class Score:
    """One method on one scene; a figure is a finite number, None where the scene has none, or the curves behind one."""

    scene: str
    method: str
    figures: Figures
    group: str = ""

    def to_json(self) -> dict[str, Any]:
        """A flat dictionary."""
        return {**self.figures, "scene": self.scene, "method": self.method, "group": self.group}


def mean_scores(scores: Sequence[Score]) -> dict[str, dict[str, float]]:
    """Mean of each figure over the scenes that have it, by method."""
    return {
        method: {name: float(np.mean(values)) for name, values in by_figure.items()}
        for method, by_figure in _columns(scores).items()
    }


def intervals(scores: Sequence[Score]) -> dict[str, dict[str, tuple[float, float]]]:
    """The 95 % interval of each mean, by method; none where there is only one scene.

    The same draws serve all methods and figures, so that intervals do not differ by chance alone.
    """
    found: dict[str, dict[str, tuple[float, float]]] = {}
    for method, by_figure in _columns(scores).items():
        found[method] = {name: _interval(values) for name, values in by_figure.items() if len(values) > 1}
    return found


@dataclass(frozen=True)
class PairedDifference:
    """One figure of two methods on the same scenes."""

    mean: float
    """Of method minus the one it is held against, over the scenes that both have the figure of."""
    interval_95: tuple[float, float] | None
    """None where there is only one such scene."""
    scenes: int
    relative: float | None
    """The mean relative to that of the method it is held against; None where that is 0."""


def paired_differences(scores: Sequence[Score], against: str) -> dict[str, dict[str, PairedDifference]]:
    """What each method's figures are above those of ``against``, by method and figure, scene by scene."""
    by_scene: dict[tuple[str, str], dict[str, dict[str, float]]] = {}
    for score in scores:
        by_scene.setdefault((score.group, score.scene), {})[score.method] = _numbers(score)
    found: dict[str, dict[str, PairedDifference]] = {}
    for method in dict.fromkeys(score.method for score in scores if score.method != against):
        pairs = [(of[method], of[against]) for of in by_scene.values() if method in of and against in of]
        names = dict.fromkeys(name for mine, theirs in pairs for name in mine if name in theirs)
        found[method] = {
            name: _paired([(a[name], b[name]) for a, b in pairs if name in a and name in b]) for name in names
        }
    return found


def _paired(pairs: Sequence[tuple[float, float]]) -> PairedDifference:
    differences = [mine - theirs for mine, theirs in pairs]
    mean, base = float(np.mean(differences)), float(np.mean([theirs for _, theirs in pairs]))
    interval = _interval(differences) if len(pairs) > 1 else None
    return PairedDifference(mean, interval, len(pairs), mean / abs(base) if base else None)


def group_means(scores: Sequence[Score]) -> dict[str, dict[str, dict[str, float]]]:
    """:func:`mean_scores` of each group of scenes, where there are groups."""
    groups = dict.fromkeys(score.group for score in scores if score.group)
    return {group: mean_scores([score for score in scores if score.group == group]) for group in groups}


def _columns(scores: Sequence[Score]) -> dict[str, dict[str, list[float]]]:
    columns: dict[str, dict[str, list[float]]] = {}
    for score in scores:
        mine = columns.setdefault(score.method, {})
        for name, value in _numbers(score).items():
            mine.setdefault(name, []).append(value)
    return columns


def _numbers(score: Score) -> dict[str, float]:
    """The figures of a scene that have a mean."""
    return {k: float(v) for k, v in score.figures.items() if v is not None and k not in _NOT_FOR_MEANS}


def _interval(values: Sequence[float]) -> tuple[float, float]:
    drawn = np.random.default_rng(SEED).integers(0, len(values), (RESAMPLES, len(values)))
    means = np.asarray(values)[drawn].mean(axis=1)
    low, high = np.percentile(means, [2.5, 97.5])
    return float(low), float(high)
