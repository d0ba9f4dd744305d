"""Each fault at each step of a capture: after resuming, no frame is lost, doubled, or at a wrong distance."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import pytest
from tests.capture.stack.take.faults.harness import PLAN, capture, check
from tests.capture.stack.take.scripted import Device, Fault, plan_of

from dualpix.capture.stack.take.runner import run

STEPS = {"connect": 1, "status": 2, "prepare": 1, "home": 1, "go_to": 4, "settle": 4, "shoot": 8, "leave": 1}
"""Calls of each operation in a capture without faults."""
KINDS = {
    "connect": ("busy", "drop_connection"),
    "status": ("busy", "drop_connection", "lost", "kill", "interrupt"),
    "prepare": ("busy", "drop_connection", "lost", "kill", "interrupt"),
    "home": ("busy", "drop_connection", "lost", "kill", "interrupt", "stuck", "still"),
    "go_to": ("busy", "drop_connection", "lost", "kill", "interrupt", "stuck", "still", "bug"),
    "settle": ("busy", "drop_connection", "lost", "kill", "interrupt", "stuck", "restless"),
    "shoot": (
        "busy", "drop_connection", "lost", "kill", "kill_after", "interrupt", "card_full", "disk_full", "bad", "empty",
        "truncated", "duplicate", "lag", "other_exposure", "other_aperture",
    ),
    "leave": ("busy", "drop_connection", "lost", "kill", "interrupt", "stuck"),
}  # fmt: skip
MATRIX = [
    Fault(operation, nth, kind)
    for operation, kinds in KINDS.items()
    for nth in range(1, STEPS[operation] + 1)
    for kind in kinds
    if not (kind in ("duplicate", "lag") and nth == 1)  # there is nothing before the first
]
FAST = [
    Fault("connect", 1, "busy"), Fault("prepare", 1, "lost"), Fault("home", 1, "busy"), Fault("home", 1, "kill"),
    Fault("home", 1, "still"), Fault("go_to", 1, "still"), Fault("go_to", 3, "still"), Fault("go_to", 4, "stuck"),
    Fault("go_to", 2, "kill"), Fault("settle", 3, "drop_connection"), Fault("settle", 4, "stuck"),
    Fault("shoot", 1, "kill_after"), Fault("shoot", 2, "lag"), Fault("shoot", 3, "duplicate"),
    Fault("shoot", 4, "truncated"), Fault("shoot", 5, "lost"), Fault("shoot", 6, "card_full"),
    Fault("shoot", 7, "disk_full"), Fault("shoot", 8, "kill_after"), Fault("shoot", 6, "other_exposure"),
    Fault("shoot", 4, "other_aperture"), Fault("leave", 1, "stuck"), Fault("leave", 1, "kill"),
]  # fmt: skip


def _name(fault: Fault) -> str:
    return f"{fault.operation}-{fault.nth}-{fault.kind}"


pytestmark = pytest.mark.usefixtures("no_sync")


def test_the_matrix_is_of_a_whole_capture(tmp_path: Path) -> None:
    device = Device()
    run(device.connect(), PLAN, tmp_path / "stack", reopen=device.connect)
    assert device.calls == Counter(STEPS)
    assert len(MATRIX) >= 150


@pytest.mark.parametrize("fault", FAST, ids=_name)
def test_a_fault_costs_no_frame(tmp_path: Path, fault: Fault) -> None:
    plan = PLAN if fault.nth > 3 or fault.operation == "leave" else plan_of((0.3, 0.9, 1.5), (2.8,))
    check(capture(tmp_path / "stack", [fault], plan=plan), tmp_path / "stack", plan)


@pytest.mark.slow
@pytest.mark.parametrize("fault", MATRIX, ids=_name)
def test_each_fault_at_each_step(tmp_path: Path, fault: Fault) -> None:
    for seed in (1, 2):
        folder = tmp_path / f"stack{seed}"
        check(capture(folder, [fault], seed), folder)


@pytest.mark.slow
def test_several_faults_in_one_capture(tmp_path: Path) -> None:
    harmless = [f for f in MATRIX if f.kind not in ("kill", "kill_after")]
    for number in range(40):
        faults = [harmless[(7919 * number + 104729 * k) % len(harmless)] for k in range(4)]
        folder = tmp_path / f"stack{number}"
        check(capture(folder, faults, number), folder)
