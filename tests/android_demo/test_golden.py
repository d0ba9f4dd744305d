"""The golden vectors that Java reads are what Python computes today."""

from __future__ import annotations

import json
import math
from typing import Any

import pytest
from tests.android_demo import make_golden


def same(stored: Any, computed: Any) -> bool:
    """Equal, numbers within 1e-12 of their size: libraries of mathematics differ in the last bit."""
    if isinstance(computed, dict):
        return stored.keys() == computed.keys() and all(same(stored[k], computed[k]) for k in computed)
    if isinstance(computed, list):
        return len(stored) == len(computed) and all(map(same, stored, computed))
    if isinstance(computed, float) and not isinstance(stored, str):
        return math.isclose(stored, computed, rel_tol=1e-12, abs_tol=1e-12)
    return bool(stored == computed)


@pytest.fixture(scope="module")
def built() -> dict[str, Any]:
    return {name: json.loads(make_golden.text_of(value)) for name, value in make_golden.build().items()}


def test_the_files_are_those_that_the_script_makes(built: dict[str, Any]) -> None:
    assert sorted(path.name for path in make_golden.FOLDER.glob("core-*.json")) == sorted(built)


@pytest.mark.parametrize("name", ["core-lens.json", "core-focus.json", "core-preprocess.json", "core-bench.json", "core-overlay.json"])
def test_a_golden_file_is_what_python_computes(built: dict[str, Any], name: str) -> None:
    stored = json.loads((make_golden.FOLDER / name).read_text())
    assert same(stored, built[name]), "run tests/android_demo/make_golden.py"


def test_a_difference_is_seen(built: dict[str, Any]) -> None:
    changed = json.loads(json.dumps(built["core-lens.json"]))
    changed[0]["circles_mm"][2] += 1e-9
    assert not same(changed, built["core-lens.json"])
