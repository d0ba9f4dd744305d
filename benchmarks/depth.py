"""What it costs to say how sure a disparity is, beside the disparity alone."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path

import cv2
import numpy as np
from benchmarks.suite import Suite

from dualpix.capture.types import DualPixelImage
from dualpix.models.predict.disparity import (
    estimate,
    match_disparity,
    network_estimator,
    network_working_sizes,
    predict_disparity,
    sgbm_estimator,
)
from dualpix.models.zoo import load_model

_REFERENCE = "network, disparity alone"


def confidence_suite(size_hw: tuple[int, int] = (1512, 2016), rounds: int = 7) -> Suite:
    """Both methods at their default sizes on a view of a Pixel 4's size, on one thread."""

    def build(_: Path) -> Mapping[str, Callable[[], object]]:
        image, model = _textured(size_hw), load_model()
        sizes = network_working_sizes(image)
        return {
            _REFERENCE: lambda: estimate(image, network_estimator(model), "network", working_long_side_px=sizes),
            "network, with confidence": lambda: predict_disparity(image, model),
            "matching, disparity alone": lambda: estimate(image, sgbm_estimator(), "sgbm"),
            "matching, with confidence": lambda: match_disparity(image),
        }

    title = f"Disparity of a view of {size_hw[1]} x {size_hw[0]} px, with and without its confidence"
    return Suite(title, _REFERENCE, rounds, build, threads=1)


def _textured(size_hw: tuple[int, int]) -> DualPixelImage:
    noise = np.random.default_rng(0).random(size_hw, np.float32)
    left = cv2.GaussianBlur(noise, (0, 0), 4.0)
    right = np.roll(left, 1, axis=1)
    return DualPixelImage(left, right, (left + right) / 2, np.zeros(size_hw, np.bool_))
