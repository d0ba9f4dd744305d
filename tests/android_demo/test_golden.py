"""The golden vectors that Java reads are what Python computes today."""

from __future__ import annotations

import json
import math
from typing import Any

import cv2
import numpy as np
import pytest
from tests.android_demo import make_golden, stack_golden

from dualpix.capture.stack.judge.align import distance_px, warped

MATCHED = "alignment"
"""What iterations of OpenCV in float32 end in, which differs from processor to processor by more than a last bit."""


def same(stored: Any, computed: Any, tolerance: float = 1e-12) -> bool:
    """Equal, numbers within 1e-12 of their size: libraries of mathematics differ in the last bit."""
    if isinstance(computed, dict):
        within = {key: 1e-3 if key == MATCHED else tolerance for key in computed}
        return stored.keys() == computed.keys() and all(same(stored[k], computed[k], within[k]) for k in computed)
    if isinstance(computed, list):
        return len(stored) == len(computed) and all(
            same(s, c, tolerance) for s, c in zip(stored, computed, strict=True)
        )
    if isinstance(computed, float) and not isinstance(stored, str):
        return math.isclose(stored, computed, rel_tol=tolerance, abs_tol=tolerance)
    return bool(stored == computed)


@pytest.fixture(scope="module")
def built() -> dict[str, Any]:
    return {name: json.loads(make_golden.text_of(value)) for name, value in make_golden.build().items()}


def test_the_files_are_those_that_the_script_makes(built: dict[str, Any]) -> None:
    assert sorted(path.name for path in make_golden.FOLDER.glob("core-*.json")) == sorted(built)


NAMES = ("lens", "focus", "preprocess", "bench", "overlay", "stack")


@pytest.mark.parametrize("name", [f"core-{name}.json" for name in NAMES])
def test_a_golden_file_is_what_python_computes(built: dict[str, Any], name: str) -> None:
    stored = json.loads((make_golden.FOLDER / name).read_text())
    assert same(stored, built[name]), "run tests/android_demo/make_golden.py"


def test_the_exact_warp_is_opencvs_but_for_its_steps() -> None:
    picture = cv2.resize(np.random.default_rng(2).uniform(0, 1, (6, 8)), (48, 32), interpolation=cv2.INTER_CUBIC)
    matrix = np.array([[1.013, -0.004, 0.37], [0.004, 1.013, -0.81]])
    found = warped(picture.astype(np.float32), matrix)
    assert np.abs(found - stack_golden.exactly_warped(picture[None], matrix)[0]).max() < 0.02


def test_the_alignment_that_java_is_held_against_is_the_true_one(built: dict[str, Any]) -> None:
    golden = built["core-stack.json"]["alignment"]
    assert golden["linear"] and golden["reference"] == len(golden["diopters"]) - 1
    for found, true in zip(golden["found"], golden["relative"], strict=True):
        apart = distance_px(np.reshape(found, (2, 3)), np.reshape(true, (2, 3)), (96, 128))
        assert apart < 0.05


def test_a_difference_is_seen(built: dict[str, Any]) -> None:
    changed = json.loads(json.dumps(built["core-lens.json"]))
    changed[0]["circles_mm"][2] += 1e-9
    assert not same(changed, built["core-lens.json"])
