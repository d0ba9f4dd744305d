"""From a decoded capture to disparity, how sure it is, and metres: one path for every method."""

from __future__ import annotations

from typing import TYPE_CHECKING

from dualpix.models.lazy import offered

if TYPE_CHECKING:
    from dualpix.models.predict.disparity import (
        check_gives_disparity,
        estimate,
        lens_of,
        match_disparity,
        metric_depth,
        network_estimator,
        network_working_sizes,
        predict_affine,
        predict_disparity,
        run_estimator,
        sgbm_estimator,
        with_profile,
    )
    from dualpix.models.predict.working import (
        WORKING_LONG_SIDE_PX,
        DisparityMap,
        MethodMap,
        WorkingViews,
        working_views,
    )

__all__ = [
    "WORKING_LONG_SIDE_PX",
    "DisparityMap",
    "MethodMap",
    "WorkingViews",
    "check_gives_disparity",
    "estimate",
    "lens_of",
    "match_disparity",
    "metric_depth",
    "network_estimator",
    "network_working_sizes",
    "predict_affine",
    "predict_disparity",
    "run_estimator",
    "sgbm_estimator",
    "with_profile",
    "working_views",
]

if not TYPE_CHECKING:
    __getattr__ = offered(__name__, __all__, "working", "disparity")
