"""How well a depth map's edges are those of the truth: the boundary F1 of Bochkovskii et al., "Depth Pro", 2024, with a
mask, as Zuo et al. (arXiv 2603.26658) compute it.

Two neighbouring pixels have an edge where one is farther by a factor above t. There are four kinds of edge, along x and
y with the nearer pixel first or second. Precision and recall are means over the four, a kind that does not occur
counting as 0: so a perfect map of a scene with edges of one kind alone has an F1 of 0.25. The score is the mean of F1
over t = 1.05 ... 1.25, weighted by t. It does not depend on the scale of the map.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from dualpix.capture.types import FloatImage, Mask

THRESHOLDS = np.linspace(1.05, 1.25, 10)


def boundary_f1(found_m: FloatImage, truth_m: FloatImage, valid: Mask) -> float:
    """The score, 0 to 1; higher is better.

    Args:
        found_m: (h, w), > 0 and finite where valid.
        truth_m: (h, w), likewise.
        valid: (h, w): an edge counts where both its pixels are.
    """
    steps = [(_steps(found_m, valid, axis), _steps(truth_m, valid, axis)) for axis in (0, 1)]
    kinds = [(sign * found, sign * truth) for found, truth in steps for sign in (1, -1)]
    scores = [_f1(kinds, float(np.log(threshold))) for threshold in THRESHOLDS]
    return float(np.average(scores, weights=THRESHOLDS))


def _steps(depth_m: FloatImage, valid: Mask, axis: int) -> npt.NDArray[np.float64]:
    """Logarithm of the ratio of neighbours, where both are valid."""
    logs = np.log(np.where(valid, depth_m, 1).astype(np.float64))
    first, second = (np.moveaxis(valid, axis, 0)[part] for part in (slice(None, -1), slice(1, None)))
    return np.asarray(np.moveaxis(np.diff(logs, axis=axis), axis, 0)[first & second])


def _f1(kinds: list[tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]], least: float) -> float:
    precision = recall = 0.0
    for found, truth in kinds:
        edges, true_edges = found > least, truth > least
        both = int(np.count_nonzero(edges & true_edges))
        precision += both / max(int(np.count_nonzero(edges)), 1) / len(kinds)
        recall += both / max(int(np.count_nonzero(true_edges)), 1) / len(kinds)
    return 2 * precision * recall / (precision + recall) if precision + recall > 0 else 0.0
