"""The same on the simulated camera, whose lens is driven by steps: faults at every kind of call it gets."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import pytest
from tests.capture.stack.take.faults.harness import QUICK, Setup, capture, check
from tests.capture.stack.take.scripted import Fault, plan_of

from dualpix.capture.stack.take.runner import run

PLAN = plan_of((0.3, 0.8, 1.3), (2.8, 5.6))
SMALL = plan_of((0.4, 0.8))
SIGMAS = 4.5
"""Of some thousand places none is farther off by chance."""
CALLS = {"connect": 1, "status": 2, "set": 6, "drive": 160, "live_view": 160, "shoot": 6, "download": 6}
"""At least so many in a capture without faults."""
KINDS = {
    "connect": ("busy", "drop_connection", "lost"),
    "status": ("busy", "drop_connection", "lost", "kill"),
    "set": ("busy", "drop_connection", "lost", "kill"),
    "drive": ("busy", "drop_connection", "lost", "stuck", "kill"),
    "live_view": ("busy", "drop_connection", "lost", "kill"),
    "shoot": ("busy", "drop_connection", "lost", "card_full", "disk_full", "kill"),
    "download": ("busy", "drop_connection", "lost", "truncated", "duplicate", "kill"),
}
_SAMPLES = 24


def _places(calls: int) -> list[int]:
    """Every call, or some spread over them."""
    return list(range(1, calls + 1)) if calls <= _SAMPLES else [1 + k * calls // _SAMPLES for k in range(_SAMPLES)]


MATRIX = [
    Fault(operation, nth, kind)
    for operation, kinds in KINDS.items()
    for kind in kinds
    for nth in _places(CALLS[operation])
    if not (kind == "duplicate" and nth == 1)
]
FAST = [Fault("drive", 40, "stuck"), Fault("drive", 70, "kill"), Fault("download", 2, "duplicate")]


def _name(fault: Fault) -> str:
    return f"{fault.operation}-{fault.nth}-{fault.kind}"


pytestmark = pytest.mark.usefixtures("no_sync")


@pytest.mark.parametrize("fault", FAST, ids=_name)
def test_a_fault_costs_no_frame(tmp_path: Path, fault: Fault) -> None:
    check(capture(tmp_path / "stack", [fault], plan=SMALL, kind="sim"), tmp_path / "stack", SMALL, sigmas=SIGMAS)


def test_the_matrix_is_of_a_whole_capture(tmp_path: Path) -> None:
    assert len(MATRIX) >= 300
    rig = Setup("sim", (), 0, tmp_path / "truth").rig()
    run(rig.connect(), PLAN, tmp_path / "stack", calibration=rig.calibration, settings=QUICK)
    calls: Counter[str] = rig.device.faults.calls  # type: ignore[attr-defined]
    assert {name: calls[name] for name in ("connect", "status", "set", "shoot", "download")} == {
        name: CALLS[name] for name in ("connect", "status", "set", "shoot", "download")
    }
    assert calls["drive"] >= CALLS["drive"] and calls["live_view"] >= CALLS["live_view"]


@pytest.mark.slow
@pytest.mark.parametrize("fault", MATRIX, ids=_name)
def test_each_fault_at_each_call(tmp_path: Path, fault: Fault, record_property: Callable[..., None]) -> None:
    outcome = capture(tmp_path / "stack", [fault], plan=PLAN, kind="sim")
    check(outcome, tmp_path / "stack", PLAN, sigmas=SIGMAS)
    record_property("runs", json.dumps(outcome.endings))
    record_property("sigmas", json.dumps(outcome.errors_sigma))
