"""A capture with faults, resumed until it is complete, in processes that may be killed; then held against the truth."""

from __future__ import annotations

import errno
import json
import multiprocessing
import os
import signal
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from tests.capture.stack.take.scripted import Device, Fault, SimplePlan, plan_of

from dualpix.capture.camera_protocol import Camera, CameraLost
from dualpix.capture.cameras import sim
from dualpix.capture.cameras.hidden import faults as protocol_faults
from dualpix.capture.cameras.hidden.body import Body
from dualpix.capture.cameras.hidden.camera import HiddenCamera
from dualpix.capture.errors import DualpixError, OutputError
from dualpix.capture.focus.calibration import LensCalibration
from dualpix.capture.raw import read_planes
from dualpix.capture.stack.keep.record import StackRecord, read_record
from dualpix.capture.stack.take.journal import read_events
from dualpix.capture.stack.take.runner import CaptureStoppedError, RunnerSettings, run

QUICK = RunnerSettings(first_wait_s=0.0005, longest_wait_s=0.002)
MOST_RUNS = 6
PLAN = plan_of((0.3, 0.9, 1.5, 2.1), (2.8, 5.6))
KILLS = ("kill", "kill_after")


class Rig(Protocol):
    """A camera to be captured with; lives in one process."""

    calibration: LensCalibration | None

    def connect(self) -> Camera: ...

    def repair(self) -> None:
        """What somebody does at the camera before going on."""
        ...


@dataclass(frozen=True)
class Setup:
    """How to make a rig, in whatever process."""

    kind: str
    """``scripted`` or ``sim``."""
    faults: tuple[Fault, ...]
    seed: int
    state: Path

    def rig(self) -> Rig:
        return ScriptedRig(self) if self.kind == "scripted" else SimRig(self)


class ScriptedRig:
    """The camera that does what it is told."""

    calibration = None

    def __init__(self, setup: Setup) -> None:
        self.device = Device(setup.faults, setup.seed, setup.state)
        self.connect = self.device.connect

    def repair(self) -> None:
        self.device.camera.lens.stuck = False


class SimRig:
    """The simulated camera, with a driven lens; ``kill`` and ``disk_full`` are beyond what it can do by itself."""

    def __init__(self, setup: Setup) -> None:
        body = Body(size_hw=(64, 96))
        self.calibration: LensCalibration | None = exact_calibration(setup.seed % 1000)
        camera = HiddenCamera.from_seed(setup.seed % 1000, body=body, state=setup.state)
        if setup.seed >= 1000:  # some other day
            camera._rng, camera.lens._rng = np.random.default_rng(setup.seed), np.random.default_rng(setup.seed + 1)
            camera.lens.move_to(0.8 * camera.lens.truth.end)
            while camera.lens.moving:
                time.sleep(0.001)
        known = [
            protocol_faults.Fault(f.operation, f.nth, f.kind)  # type: ignore[arg-type]
            for f in setup.faults
            if f.kind in protocol_faults.KINDS
        ]
        plan = _Deadly(known, [(f.operation, f.nth) for f in setup.faults if f.kind in KILLS])
        self.device = sim.SimDevice((f"sim:{setup.seed}", str(setup.state)), camera, plan)
        self.disk_full = {f.nth for f in setup.faults if f.kind == "disk_full"}
        self.writes = 0

    def connect(self) -> Camera:
        self.device.connect()
        camera = sim.SimCamera(self.device, self.calibration)  # type: ignore[arg-type]
        shoot = camera.shoot

        def shoot_to_a_disk(*given: Any) -> Any:
            self.writes += 1
            if self.writes in self.disk_full:
                raise OutputError(f"cannot write '{given[0]}': {os.strerror(errno.ENOSPC)}")
            return shoot(*given)

        camera.shoot = shoot_to_a_disk  # type: ignore[method-assign]
        return camera

    def repair(self) -> None:
        self.device.camera.lens.stuck = False


class _Deadly(protocol_faults.FaultPlan):
    """Kills the process at some calls."""

    def __init__(self, faults: Sequence[protocol_faults.Fault], kills: Sequence[tuple[str, int]]) -> None:
        super().__init__(faults)
        self.kills = set(kills)

    def at(self, operation: Any) -> Any:
        kind = super().at(operation)
        if (operation, self.calls[operation]) in self.kills:
            os.kill(os.getpid(), signal.SIGKILL)
        return kind


@cache
def exact_calibration(seed: int) -> LensCalibration:
    """What an infinitely careful calibration of the simulated lens gives: what is left is the jitter of its steps."""
    lens = HiddenCamera.from_seed(seed, body=Body(size_hw=(64, 96))).lens.truth
    a, b, c = lens.coefficients
    unit = lens.sizes[min(lens.sizes)]
    shift = -lens.backlash / 2  # towards near the glass lags behind the motor
    zeros = (0.0, 0.0, 0.0)
    return LensCalibration(
        body="Simulated", lens="Hidden 50mm F1.8", focal_length_mm=50.0,
        coefficients=(a + b * shift + c * shift**2, (b + 2 * c * shift) * unit, c * unit**2),
        covariance=(zeros, zeros, zeros), units_per_step={s: travel / unit for s, travel in lens.sizes.items()},
        jitter=lens.jitter, travel_units=lens.end / unit, backlash_units=lens.backlash / unit, residual_d=0.001,
        points=((0.0, a),), made_at="2026-01-01T00:00:00Z", method="the truth",
    )  # fmt: skip


@dataclass
class Outcome:
    """What became of a capture."""

    record: StackRecord
    truth: dict[str, float]
    endings: list[str]
    """How each run ended: ``complete``, ``stopped: ...``, ``bug`` or ``killed``."""

    @property
    def errors_sigma(self) -> list[float]:
        """Of the distance of each frame, in its stated standard deviations."""
        return [abs(f.achieved_d - self.truth[f.sha256[0]]) / f.uncertainty_d for f in self.record.frames]


def capture(
    folder: Path, faults: Sequence[Fault], seed: int = 0, plan: SimplePlan = PLAN, kind: str = "scripted"
) -> Outcome:
    """Capture and resume until complete; a run that is to be killed has a process of its own."""
    setup = Setup(kind, tuple(faults), seed, folder.parent / f"{folder.name}.truth")
    endings: list[str] = []
    if any(fault.kind in KILLS for fault in faults):
        endings.append(_in_a_process(folder, setup, plan))
        setup = replace(setup, faults=(), seed=seed + 1000)  # the lens stands elsewhere now
    rig = setup.rig()
    while not endings or endings[-1] != "complete":
        assert len(endings) < MOST_RUNS, endings
        endings.append(_one_run(rig, folder, plan))
    truth = {row["sha256"]: row["diopters"] for row in map(json.loads, setup.state.read_text().splitlines())}
    return Outcome(read_record(folder), truth, endings)


def _one_run(rig: Rig, folder: Path, plan: SimplePlan) -> str:
    camera = None
    for _ in range(4):  # somebody who tries again
        try:
            camera = rig.connect()
            break
        except DualpixError:
            continue
    assert camera is not None
    try:
        _run(rig, camera, folder, plan)
    except CaptureStoppedError as stopped:
        rig.repair()
        return f"stopped: {stopped.reason}"
    except KeyError:
        return "bug"
    return "complete"


def _run(rig: Rig, camera: Camera, folder: Path, plan: SimplePlan) -> None:
    run(camera, plan, folder, resume=True, calibration=rig.calibration, reopen=rig.connect, settings=QUICK)


def _in_a_process(folder: Path, setup: Setup, plan: SimplePlan) -> str:
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload([__name__])
    process = context.Process(target=_killed_run, args=(folder, setup, plan))
    process.start()
    process.join(120)
    assert process.exitcode == -signal.SIGKILL, f"the process ended with {process.exitcode}"
    return "killed"


def _killed_run(folder: Path, setup: Setup, plan: SimplePlan) -> None:
    rig = setup.rig()
    try:
        camera = rig.connect()
    except CameraLost:
        camera = rig.connect()
    _run(rig, camera, folder, plan)


def check(outcome: Outcome, folder: Path, plan: SimplePlan = PLAN, *, sigmas: float = 3.0) -> None:
    """Every planned frame once, whole, decodable, and where the record says it is."""
    record = outcome.record
    assert record.complete
    assert [frame.index for frame in record.frames] == [frame.index for frame in plan.frames], "a frame is lost"
    digests = [digest for frame in record.frames for digest in frame.sha256]
    assert len(set(digests)) == len(digests), "a frame is doubled"
    for frame, planned, error in zip(record.frames, plan.frames, outcome.errors_sigma, strict=True):
        read_planes(folder / frame.files[0])
        assert error <= sigmas, f"frame {frame.index} is said to be at {frame.achieved_d}, {error} sigma from the truth"
        assert frame.requested_d == planned.diopters and frame.f_number == planned.exposure.f_number
    there = {path.name for path in folder.iterdir() if path.suffix == ".dng"}
    assert there == {name for frame in record.frames for name in frame.files}, "files that no record knows"
    assert not [path for path in folder.iterdir() if path.name.startswith(".")], "halves of files"
    counted: dict[int, int] = {}
    for event in read_events(folder):
        if event["event"] == "frame":
            counted[event["index"]] = counted.get(event["index"], 0) + 1
        elif event["event"] == "doubted":
            counted[event["index"]] -= 1
    assert counted == {frame.index: 1 for frame in plan.frames}
