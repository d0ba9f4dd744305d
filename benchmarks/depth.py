"""What depth of a capture costs: the whole command by network, and how sure a disparity is beside it alone."""

from __future__ import annotations

import os
import resource
import subprocess
import sys
from collections.abc import Callable, Mapping
from pathlib import Path

import cv2
import numpy as np
from benchmarks.suite import Suite

from dualpix.capture.types import DualPixelImage
from dualpix.models.predict import (
    estimate,
    match_disparity,
    network_estimator,
    network_working_sizes,
    predict_disparity,
    sgbm_estimator,
)
from dualpix.models.shipped import DEFAULT_MODEL
from dualpix.models.zoo import load_model

_REFERENCE = "network, disparity alone"
_DUALPIX = [str(Path(sys.executable).with_name("dualpix"))]
_IMPORTS = "import dualpix.models.predict_run"


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


def command_suite(size_hw: tuple[int, int] = (1512, 2016), rounds: int = 3) -> Suite:
    """``dualpix depth`` on a pair of a Pixel 4's size, from its start to its end: processor time of the whole command.

    "starting alone" is Python and the modules that the command needs, torch among them.
    """

    def build(folder: Path) -> Mapping[str, Callable[[], object]]:
        image = _textured(size_hw)
        for side in ("left", "right"):
            view = np.asarray(np.rint(20_000 + 30_000 * getattr(image, side)), np.uint16)
            cv2.imwrite(str(folder / f"shot_{side}.png"), view)

        def depth(*options: str) -> Callable[[], object]:
            words = [*_DUALPIX, "depth", str(folder / "shot_left.png"), "-o", str(folder / "out"), *options]
            return lambda: subprocess.run(
                words, check=True, capture_output=True, env=os.environ | {"OMP_NUM_THREADS": "1"}
            )

        one = ("--working-size", "512")
        return {
            DEFAULT_MODEL: depth("--model", DEFAULT_MODEL),
            "dplive": depth("--model", "dplive"),
            f"{DEFAULT_MODEL}, once at 512 px": depth("--model", DEFAULT_MODEL, *one),
            "dplive, once at 512 px": depth("--model", "dplive", *one),
            "sgbm": depth("--method", "sgbm"),
            "starting alone": lambda: subprocess.run([sys.executable, "-c", _IMPORTS], check=True),
        }

    title = f"dualpix depth, whole command, on a pair of {size_hw[1]} x {size_hw[0]} px"
    return Suite(title, DEFAULT_MODEL, rounds, build, quantity="processor time", sample=_processor_s)


def _processor_s(run: Callable[[], object]) -> float:
    """Of the processes that a run starts and waits for."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    run()
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def _textured(size_hw: tuple[int, int]) -> DualPixelImage:
    noise = np.random.default_rng(0).random(size_hw, np.float32)
    left = cv2.GaussianBlur(noise, (0, 0), 4.0)
    right = np.roll(left, 1, axis=1)
    return DualPixelImage(left, right, (left + right) / 2, np.zeros(size_hw, np.bool_))
