"""Faults strike the calls they name, once or several times, and travel as JSON."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from dualpix.capture.cameras.hidden.faults import Fault, FaultPlan
from dualpix.capture.errors import DualpixError


def test_a_fault_strikes_its_call_of_its_operation() -> None:
    plan = FaultPlan([Fault("shoot", 2, "busy", times=2), Fault("drive", 1, "lost")])
    assert [plan.at("shoot") for _ in range(4)] == [None, "busy", "busy", None]
    assert plan.at("drive") == "lost" and plan.at("drive") is None
    assert plan.struck == [("shoot", 2, "busy"), ("shoot", 3, "busy"), ("drive", 1, "lost")]
    assert plan.calls["shoot"] == 4


def test_plans_travel_as_json(tmp_path: Path) -> None:
    plan = FaultPlan([Fault("download", 3, "truncated")])
    path = tmp_path / "faults.json"
    path.write_text(json.dumps(plan.to_json()))
    assert FaultPlan.read(path).faults == plan.faults
    assert FaultPlan.read(None).faults == ()


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("{}{", "cannot read faults"),
        ('[{"operation": "shoot"}]', "cannot read faults"),
        ('[{"operation": "shoot", "nth": 0, "kind": "busy"}]', "fault at call 0"),
        ('[{"operation": "dance", "nth": 1, "kind": "busy"}]', "fault 'busy' at 'dance'"),
        ('[{"operation": "shoot", "nth": 1, "kind": "gremlin"}]', "expected one of busy, "),
    ],
)
def test_a_plan_that_makes_no_sense_is_refused(tmp_path: Path, text: str, words: str) -> None:
    path = tmp_path / "faults.json"
    path.write_text(text)
    with pytest.raises(DualpixError, match=words):
        FaultPlan.read(path)
