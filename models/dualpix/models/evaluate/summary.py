"""Means over scenes, and how far to trust them.

A mean over a few scenes says little of others. The interval beside it is a 95 % percentile bootstrap over the scenes:
they are drawn anew, with replacement, ``RESAMPLES`` times from a generator of seed ``SEED``. It tells how the mean
would move with other scenes of the same kind, and nothing about scenes of another kind.
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


def group_means(scores: Sequence[Score]) -> dict[str, dict[str, dict[str, float]]]:
    """:func:`mean_scores` of each group of scenes, where there are groups."""
    groups = dict.fromkeys(score.group for score in scores if score.group)
    return {group: mean_scores([score for score in scores if score.group == group]) for group in groups}


def _columns(scores: Sequence[Score]) -> dict[str, dict[str, list[float]]]:
    columns: dict[str, dict[str, list[float]]] = {}
    for score in scores:
        mine = columns.setdefault(score.method, {})
        for name, value in score.figures.items():
            if value is not None and name not in _NOT_FOR_MEANS:
                mine.setdefault(name, []).append(float(value))
    return columns


def _interval(values: Sequence[float]) -> tuple[float, float]:
    drawn = np.random.default_rng(SEED).integers(0, len(values), (RESAMPLES, len(values)))
    means = np.asarray(values)[drawn].mean(axis=1)
    low, high = np.percentile(means, [2.5, 97.5])
    return float(low), float(high)
