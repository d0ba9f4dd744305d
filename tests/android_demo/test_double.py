"""The app's own core as a process: what it writes is read by the host's side."""

from __future__ import annotations

import hashlib
import json
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jsonschema
import numpy as np
import pytest
from tests.android_demo.conftest import Classes
from tests.android_demo.make_golden import percentiles

from dualpix.capture.cameras.android import protocol
from dualpix.export.profile import result as profile

SCRIPT: dict[str, Any] = {
    "device": {"make": "dualpix", "model": "Desktop", "android": "16", "serial": "DESKTOP01"},
    "camera": {
        "id": "0", "calibration": "CALIBRATED", "min_focus_d": 10.0, "focal_length_mm": 6.9, "pixel_pitch_um": 1.2,
        "f_numbers": [1.68], "array_px": [96, 64], "exposure_range_ns": [13000, 1000000000], "iso_range": [21, 7656],
        "stabiliser_off": True, "hyperfocal_d": 0.2,
    },
    "metered": {"exposure_ns": 8000000, "iso": 55, "f_number": 1.68},
    "result_ms": 1,
    "lens": {"start_d": 1.0, "moving_results": 3, "error_d": 0.003, "seed": 4},
    "frames": [{"file": f"{d}.dng", "diopters": d} for d in (0.2, 0.5, 0.9)],
    "faults": [],
}  # fmt: skip
STOPS_D = (0.2, 0.5, 0.9)
RULE = protocol.SettleRule(2, 10, 500, 1)
Command = Callable[..., list[str]]


@pytest.fixture
def command(classes: Classes, tmp_path: Path) -> Command:
    """A command line for the double, with its script and frames in place."""
    frames = tmp_path / "frames"
    frames.mkdir()
    for d in STOPS_D:
        (frames / f"{d}.dng").write_bytes(f"DNG at {d}".encode() * 100)
    (tmp_path / "files" / "bench").mkdir(parents=True)

    def line(*arguments: str, faults: list[dict[str, Any]] | None = None) -> list[str]:
        (tmp_path / "camera.json").write_text(json.dumps(SCRIPT | {"faults": faults or []}))
        options = {"root": "files", "camera": "camera.json", "frames": "frames", "state": "state.jsonl"}
        paths = [word for key, name in options.items() for word in (f"--{key}", str(tmp_path / name))]
        engine = ("--engine", str(tmp_path / "engine.json")) if (tmp_path / "engine.json").exists() else ()
        return classes.java("org.dualpix.demo.desktop.Main", *paths, *engine, *arguments)

    return line


def run(command: list[str]) -> subprocess.CompletedProcess[str]:
    return subprocess.run(command, capture_output=True, text=True, timeout=120)


def write_plan(files: Path, plan: protocol.Plan) -> Path:
    folder = files / plan.session
    folder.mkdir()
    (folder / protocol.PLAN).write_text(json.dumps(plan.to_json()))
    return folder


def plan(session: str, *stops_d: float, linger_ms: int = 0) -> protocol.Plan:
    frames = tuple(protocol.PlanFrame(i, d, 0.02 + 0.01 * d) for i, d in enumerate(stops_d))
    return protocol.Plan(session, frames, RULE, None, linger_ms)


def journal(folder: Path) -> list[protocol.JournalLine]:
    """Read as the host does, and checked against the published schema."""
    schema = json.loads(protocol.SCHEMA.read_text())
    lines = (folder / protocol.JOURNAL).read_text().splitlines()
    for line in lines:
        jsonschema.validate(json.loads(line), {"$ref": "#/$defs/journal_line", "$defs": schema["$defs"]})
    return [protocol.parse_line(line) for line in lines]


def test_the_host_reads_what_the_core_writes(command: Command, tmp_path: Path) -> None:
    folder = write_plan(tmp_path / "files", plan("take-1", *STOPS_D))
    assert run(command("capture", "take-1")).returncode == 0
    hello, *lines = journal(folder)
    assert isinstance(hello, protocol.Hello) and hello.camera.calibration == "CALIBRATED"
    assert isinstance(lines[-1], protocol.End) and lines[-1].reason == "complete"
    done = [line for line in lines if isinstance(line, protocol.FrameDone)]
    for frame, d in zip(done, STOPS_D, strict=True):
        data = (folder / frame.file).read_bytes()
        assert data == (tmp_path / "frames" / f"{d}.dng").read_bytes()
        assert (frame.bytes, frame.sha256) == (len(data), hashlib.sha256(data).hexdigest())
        assert abs(frame.diopters - d) < 0.02 + 0.01 * d and frame.exposure_ns == 8_000_000
    stack = protocol.parse_stack((folder / protocol.STACK).read_bytes())
    assert stack.complete and stack.frames == tuple(done)
    stills = [json.loads(line) for line in (tmp_path / "state.jsonl").read_text().splitlines()]
    assert [still["file"] for still in stills] == [f"{d}.dng" for d in STOPS_D]


FAULTS = [
    ("send", "never_stationary", "focus"), ("send", "wrong_distance", "focus"), ("still", "dropped_image", "capture"),
    ("still", "timestamp_mismatch", "capture"), ("still", "camera_closed", "camera"), ("still", "storage", "storage"),
]  # fmt: skip


@pytest.mark.slow
@pytest.mark.parametrize(("at", "kind", "failure"), FAULTS)
def test_a_fault_is_a_failure_that_the_host_knows(
    command: Command, tmp_path: Path, at: str, kind: str, failure: str
) -> None:
    folder = write_plan(tmp_path / "files", plan("take-1", 0.2, 0.5))
    run(command("capture", "take-1", faults=[{"at": at, "nth": 2, "times": 99, "kind": kind}]))
    lines = journal(folder)
    (found,) = (line for line in lines if isinstance(line, protocol.Failure))
    assert (found.kind, found.frame) == (failure, 1)
    assert isinstance(lines[-1], protocol.End)
    assert not protocol.parse_stack((folder / protocol.STACK).read_bytes()).complete


def wait_for(there: Callable[[], bool]) -> None:
    end = time.monotonic() + 300
    while not there():
        assert time.monotonic() < end, "it does not happen"
        time.sleep(0.01)


def test_it_serves_like_a_phone(command: Command, tmp_path: Path) -> None:
    files = tmp_path / "files"
    who = write_plan(files, protocol.Plan("who-1", ()))
    first = write_plan(files, plan("take-1", *STOPS_D, linger_ms=60_000))
    second = write_plan(files, plan("take-2", 0.5, linger_ms=60_000))
    with subprocess.Popen(command("serve"), stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as server:
        assert server.stdin and server.stdout

        def say(line: str) -> Any:
            assert server.stdin and server.stdout
            server.stdin.write(line + "\n")
            server.stdin.flush()
            return json.loads(server.stdout.readline())

        assert json.loads(server.stdout.readline()) == {"ready": True}
        assert say("capture who-1")["error"] is None
        wait_for(lambda: (who / protocol.JOURNAL).exists() and '"end"' in (who / protocol.JOURNAL).read_text())
        say("capture take-1")
        wait_for(lambda: '"frame_002.dng"' in text(first / protocol.JOURNAL))
        control = protocol.Control("take-1", 1, "retry", 1)
        (first / "control.part").write_text(json.dumps(control.to_json()))
        (first / "control.part").rename(first / protocol.CONTROL)
        wait_for(lambda: '"frame_001_r1.dng"' in text(first / protocol.JOURNAL))
        say("capture take-2")  # ends the one before
        wait_for(lambda: '"frame_000.dng"' in text(second / protocol.JOURNAL))
        assert "session" in say("capture ../take-1")["error"]
        assert "command" in say("reboot now")["error"]
        server.stdin.write("quit\n")
        server.stdin.close()
        assert server.wait(300) == 0
    assert isinstance(journal(first)[-1], protocol.End)
    assert protocol.parse_stack((first / protocol.STACK).read_bytes()).frames[1].file == "frame_001_r1.dng"


def text(path: Path) -> str:
    return path.read_text() if path.exists() else ""


def write_bench(folder: Path, **change: Any) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(3)
    (folder / "model.pte").write_bytes(b"program")
    (folder / "input_0.bin").write_bytes(rng.normal(size=12).astype("<f4").tobytes())
    (folder / "expected.bin").write_bytes(rng.normal(size=6).astype("<f4").tobytes())
    request = {
        "format": 2, "run_id": folder.name, "model": "model.pte", "sha256": hashlib.sha256(b"program").hexdigest(),
        "recipe": "xnnpack-int8", "inputs": [{"file": "input_0.bin", "shape": [1, 3, 2, 2]}],
        "expected": [{"file": "expected.bin", "shape": [1, 1, 2, 3], "max_abs": 0.01}],
        "threads": [1, 2, 4], "warmup": 1, "runs": 5,
    }  # fmt: skip
    (folder / "request.json").write_text(json.dumps(request | change))


def write_engine(path: Path, output: Path, **change: Any) -> None:
    (path.parent / "output.bin").write_bytes(output.read_bytes())
    script = {
        "outputs": [{"file": "output.bin", "shape": [1, 1, 2, 3]}], "offset": 0.0, "load_ms": 3, "run_ms": [1, 2, 3],
        "backends": "XnnpackBackend", "fault": None,
    }  # fmt: skip
    path.write_text(json.dumps(script | change))


def test_a_benchmark_is_a_profile_of_the_host(command: Command, tmp_path: Path) -> None:
    folder = tmp_path / "files" / "bench" / "run-1"
    write_bench(folder)
    write_engine(tmp_path / "engine.json", folder / "expected.bin", offset=0.005)
    assert run(command("bench", "run-1")).returncode == 0
    result = json.loads((folder / "result.json").read_text())
    schema = json.loads((Path(profile.__file__).with_name("profile.schema.json")).read_text())
    jsonschema.validate(result, schema)
    assert result["verified"] and result["max_abs_error"] == pytest.approx(0.005, abs=1e-6)
    profiles = profile.profiles_from_json(result)
    assert [p.settings.threads for p in profiles] == [1, 2, 4]
    for p in profiles:
        assert {"p50_s": p.p50_s, "p90_s": p.p90_s, "p99_s": p.p99_s, "mean_s": p.mean_s} == pytest.approx(
            percentiles(p.samples_s), abs=1e-9
        )
        assert p.target.kind == "adb" and p.load_s and p.load_s >= 0.003 and len(p.samples_s) == 5
        assert p.memory.pss_bytes and p.memory.pss_bytes > 1 << 20


def test_what_computes_something_else_is_not_timed(command: Command, tmp_path: Path) -> None:
    folder = tmp_path / "files" / "bench" / "run-1"
    write_bench(folder)
    write_engine(tmp_path / "engine.json", folder / "expected.bin", offset=0.5)
    assert run(command("bench", "run-1")).returncode == 1
    result = json.loads((folder / "result.json").read_text())
    (only,) = profile.profiles_from_json(result)
    assert not result["verified"] and "off by 0.5" in result["error"] and only.error and not only.samples_s


@pytest.mark.slow
@pytest.mark.parametrize("arguments", [("capture", "../x"), ("bench", ".."), ("reboot", "now"), ()], ids=str)
def test_wrong_arguments_are_one_line(command: Command, arguments: tuple[str, ...]) -> None:
    done = run(command(*arguments))
    assert done.returncode == 2 and done.stderr.startswith("error: ") and done.stderr.count("\n") == 1
