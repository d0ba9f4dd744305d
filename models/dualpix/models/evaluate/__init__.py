"""Scores of networks, of classical yardsticks and of anybody's maps on data with ground truth, through one code path.

Convention: every method sees the same sample, a decoded capture or a focus stack, and gives a map
(:mod:`.sample`); a protocol says which pixels of it are scored, in which unit, by which figures (:mod:`.protocol`, and
one file each in :mod:`.protocols`). Scores are of all pixels that have a truth: a method cannot leave any out.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from dualpix.models.lazy import offered

if TYPE_CHECKING:
    from dualpix.models.evaluate.pictures import comparison_picture, sparsification_picture
    from dualpix.models.evaluate.predictions import predictions_in
    from dualpix.models.evaluate.protocol import Pending, Protocol
    from dualpix.models.evaluate.protocols import PROTOCOLS, protocol_named
    from dualpix.models.evaluate.rendered_pairs import capture_of, rendered, rendered_camera, rendered_protocol
    from dualpix.models.evaluate.run import Evaluated, evaluate
    from dualpix.models.evaluate.sample import Method, MetricTruth, Prediction, Sample
    from dualpix.models.evaluate.summary import (
        PairedDifference,
        Score,
        group_means,
        intervals,
        mean_scores,
        paired_differences,
    )

__all__ = [
    "PROTOCOLS",
    "Evaluated",
    "Method",
    "MetricTruth",
    "PairedDifference",
    "Pending",
    "Prediction",
    "Protocol",
    "Sample",
    "Score",
    "capture_of",
    "comparison_picture",
    "evaluate",
    "group_means",
    "intervals",
    "mean_scores",
    "paired_differences",
    "predictions_in",
    "protocol_named",
    "rendered",
    "rendered_camera",
    "rendered_protocol",
    "sparsification_picture",
]

if not TYPE_CHECKING:
    __getattr__ = offered(
        __name__,
        __all__,
        "sample",
        "protocol",
        "protocols",
        "summary",
        "run",
        "predictions",
        "pictures",
        "rendered_pairs",
    )
