"""Focus stacks taken by the app's own Java code, through ``dualpix capture`` and the real adb client."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner
from tests.export.android.conftest import Connect, Connected
from tests.export.android.java_phone import EXPOSURE_S, F_NUMBER, ISO, write_camera

from dualpix.capture.cameras.android import protocol
from dualpix.capture.cameras.hidden.faults import Fault
from dualpix.capture.stack.cli import command as capture_command
from dualpix.export.android.cli import command

DISTANCES_M = (10.0, 2.0, 1.0)
PLAN = ("--distances", "10,2,1", "--apertures", str(F_NUMBER))


def stills(at: Connected) -> list[dict[str, Any]]:
    """What the camera behind the app really did."""
    lines = (at.phone.java.scripts / "state.jsonl").read_text().splitlines()
    return [json.loads(line) for line in lines]


def take(at: Connected, out: Path, *more: str) -> dict[str, Any]:
    """The record of a stack that ``dualpix android capture`` took."""
    line = ["capture", "--address", at.serial, "-o", str(out), *PLAN, "--json", *more]
    done = CliRunner().invoke(command, line, catch_exceptions=False)
    assert done.exit_code == 0, done.output
    record: dict[str, Any] = json.loads(done.stdout)
    return record


def check(record: dict[str, Any], at: Connected, out: Path) -> None:
    """Every frame is there once, is the file that the camera made, and stands where the camera stood."""
    made = {s["file"]: s for s in stills(at)}
    pictures = {sha256(path): path for path in (at.phone.java.scripts / "frames").iterdir()}
    frames = record["frames"]
    assert [f["index"] for f in frames] == list(range(len(DISTANCES_M)))
    for frame, distance in zip(frames, DISTANCES_M, strict=True):
        (file,), (digest,) = frame["files"], frame["sha256"]
        assert sha256(out / file) == digest and frame["status"] == "good" and frame["settled"]
        picture = pictures[digest]
        assert abs(float(picture.stem) - 1 / distance) < 0.051, "another frame's picture"
        assert frame["achieved_d"] == pytest.approx(made[picture.name]["diopters"], abs=1e-5)
        assert abs(frame["achieved_d"] - 1 / distance) < 0.02 + 0.01 / distance
        assert frame["exposure_s"] == pytest.approx(EXPOSURE_S) and frame["iso"] == ISO


def sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def test_a_stack_is_taken_by_the_app_itself(connect: Connect, tmp_path: Path) -> None:
    out = tmp_path / "stack"
    with connect() as at:
        check(take(at, out), at, out)
        assert len(stills(at)) == len(DISTANCES_M)
        assert not list(at.phone.root.rglob("frame_*.dng")), "what is here is not removed there"
        (stack,) = (protocol.parse_stack(path.read_bytes()) for path in at.phone.root.rglob("stack.json"))
        assert stack.complete and stack.device.model == "Desktop" and stack.app.endswith("desktop")


@pytest.mark.slow
def test_it_is_the_same_as_dualpix_capture(connect: Connect, tmp_path: Path) -> None:
    with connect() as at:
        line = ["--camera", "android", "--address", at.serial, "-o", str(tmp_path / "stack"), *PLAN, "--json"]
        done = CliRunner().invoke(capture_command, line, catch_exceptions=False)
        assert done.exit_code == 0
        check(json.loads(done.stdout), at, tmp_path / "stack")


@pytest.mark.slow
@pytest.mark.parametrize(
    "fault",
    [
        {"at": "still", "nth": 2, "times": 1, "kind": "dropped_image"},
        {"at": "still", "nth": 2, "times": 1, "kind": "timestamp_mismatch"},
        {"at": "send", "nth": 2, "times": 1, "kind": "wrong_distance"},
        {"at": "still", "nth": 3, "times": 1, "kind": "camera_closed"},
        {"at": "open", "nth": 2, "times": 1, "kind": "busy"},
    ],
    ids=lambda fault: str(fault["kind"]),
)
def test_after_a_fault_of_the_camera_every_frame_is_there(
    connect: Connect, tmp_path: Path, fault: dict[str, Any]
) -> None:
    out = tmp_path / "stack"
    with connect() as at:
        write_camera(at.phone.java.scripts, [fault])
        check(take(at, out), at, out)


@pytest.mark.slow
@pytest.mark.parametrize(
    "fault",
    [
        Fault("download", 2, "truncated"),
        Fault("download", 2, "drop_connection"),
        Fault("poll", 6, "drop_connection"),
        Fault("poll", 6, "lost"),
        Fault("status", 4, "busy"),
    ],
    ids=lambda fault: f"{fault.operation}-{fault.kind}",
)
def test_after_a_fault_of_the_cable_every_frame_is_there(connect: Connect, tmp_path: Path, fault: Fault) -> None:
    out = tmp_path / "stack"
    with connect(fault) as at:
        check(take(at, out), at, out)
        assert at.phone.faults.struck, "the fault did not happen"
