"""``dualpix capture`` as people call it."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import click
import pytest
from click.testing import CliRunner, Result
from tests.capture.stack.take.faults.harness import exact_calibration

from dualpix.capture.cameras import sim
from dualpix.capture.errors import DualpixError
from dualpix.capture.focus import store
from dualpix.capture.focus.calibrate import body_of
from dualpix.capture.focus.plan import make_plan
from dualpix.capture.stack.cli import SUBCOMMANDS, command
from dualpix.capture.stack.keep.record import read_record, read_schema

SMALL = ("--distances", "2.5,1.4", "--exposure", "1/500", "--iso", "800")


@pytest.fixture(autouse=True)
def folders(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A calibrated simulated camera in a user data folder of its own."""
    for name in ("HOME", "XDG_CONFIG_HOME", "XDG_DATA_HOME"):
        monkeypatch.setenv(name, str(tmp_path / "home"))
    monkeypatch.setenv(store.ENVIRONMENT, str(tmp_path / "data"))
    info = sim.find()[0]
    store.save(
        replace(exact_calibration(0), body=body_of(info), lens=info.lens or "", focal_length_mm=info.focal_length_mm)
    )


@pytest.fixture
def capture(tmp_path: Path, no_sync: None) -> Callable[..., Result]:
    """``dualpix capture -o tmp_path/stack ...``."""

    def call(*args: str) -> Result:
        return CliRunner().invoke(command, ["-o", str(tmp_path / "stack"), *args])

    return call


def error_of(result: Result) -> str:
    assert isinstance(result.exception, DualpixError), result.output
    return str(result.exception)


def test_a_capture_and_its_table(capture: Callable[..., Result], tmp_path: Path) -> None:
    result = capture("--camera", "sim", *SMALL, "--apertures", "2.8,5.6", "--all-in-focus")
    assert result.exit_code == 0, result.output
    record = read_record(tmp_path / "stack")
    assert record.complete and [f.f_number for f in record.frames] == [2.8, 5.6, 16.0, 2.8, 5.6]
    assert record.camera.backend == "sim" and record.calibration is not None
    assert record.plan["mode"] == "explicit" and record.frames[0].requested_d == pytest.approx(0.4)
    assert "5 frames in" in result.stdout and "0.400" in result.stdout and "2*" in result.stdout
    assert "capturing: 0/5 homing the lens" in result.stderr and "left" in result.stderr
    assert (tmp_path / "stack" / "strip.jpg").stat().st_size > 1000


def test_json(capture: Callable[..., Result], tmp_path: Path) -> None:
    result = capture("--camera", "sim", *SMALL, "--json")
    shown = json.loads(result.stdout)
    assert shown.pop("folder") == str(tmp_path / "stack")
    assert shown == json.loads((tmp_path / "stack" / "stack.json").read_text())


def test_a_plan_from_a_file(capture: Callable[..., Result], tmp_path: Path) -> None:
    plan = make_plan("explicit", distances_m=(2.0,), apertures=(4.0,), exposure_s=0.004, iso=800)
    (tmp_path / "plan.json").write_text(json.dumps(plan.to_json()))
    assert capture("--camera", "sim", "--plan", str(tmp_path / "plan.json")).exit_code == 0
    assert read_record(tmp_path / "stack").plan == json.loads(json.dumps(plan.to_json()))
    again = capture("--camera", "sim", "--plan", str(tmp_path / "plan.json"), "--near", "1")
    assert "both --plan and --near were given" in error_of(again)


def test_resuming_needs_neither_plan_nor_camera(capture: Callable[..., Result], tmp_path: Path) -> None:
    assert capture("--camera", "sim", "--address", "sim:0", *SMALL).exit_code == 0
    folder = tmp_path / "stack"
    before = read_record(folder)
    (folder / before.frames[1].files[0]).unlink()
    assert "holds a stack already" in error_of(capture("--camera", "sim", *SMALL))
    other = capture("--resume", "--distances", "3,2")
    assert "begun with another plan" in error_of(other)
    assert capture("--resume").exit_code == 0
    after = read_record(folder)
    assert after.frames[0] == before.frames[0] and after.frames[1].sha256 != before.frames[1].sha256


@pytest.mark.parametrize(
    ("args", "words"),
    [
        ((), "no camera was named"),
        (("--camera", "sim"), "no frames were asked for"),
        (("--camera", "sim", "--near", "1"), "no far end"),
        (("--camera", "sim", "--distances", "0.1"), "out of the range of the lens"),
        (("--camera", "sim", "--distances", "1,x"), "not a list of numbers"),
        (("--camera", "sim", *SMALL, "--apertures", "1.2"), "the lens has no f/1.2"),
        (("--camera", "sim", *SMALL, "--option", "x"), "KEY=VALUE"),
        (("--camera", "sim", *SMALL, "--option", "x=1"), "unknown option 'x'"),
        (("--camera", "sim", "--address", "usb:1", *SMALL), "no simulated camera 'usb:1'"),
        (("--camera", "sim", "--plan", "missing.json"), "cannot read the plan"),
        (("--camera", "sim", "--calibration", "missing.json", *SMALL), "cannot read the lens calibration"),
        (("--resume",), "no camera was named"),
    ],
)
def test_what_is_wrong_is_one_line(
    capture: Callable[..., Result], tmp_path: Path, args: tuple[str, ...], words: str
) -> None:
    text = error_of(capture(*args))
    assert words in text and "\n" not in text
    assert not list((tmp_path / "stack").glob("*.dng"))


def test_an_output_folder_is_needed() -> None:
    result = CliRunner().invoke(command, ["--camera", "sim", *SMALL])
    assert "no output folder was named" in error_of(result)


def test_faults_end_it_with_what_to_do(capture: Callable[..., Result], tmp_path: Path) -> None:
    faults = tmp_path / "faults.json"
    faults.write_text(json.dumps([{"operation": "shoot", "nth": 2, "kind": "card_full"}]))
    result = capture("--camera", "sim", "--option", f"faults={faults}", *SMALL, "--json")
    assert f"1 of 2 frames are kept, go on with: dualpix capture --resume -o {tmp_path / 'stack'}" in error_of(result)
    assert json.loads(result.stdout)["complete"] is False
    faults.unlink()
    assert "cannot read faults" in error_of(capture("--resume"))  # options are remembered
    faults.write_text("[]")
    assert capture("--resume").exit_code == 0


def test_warnings_are_shown_once(
    capture: Callable[..., Result], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    real = sim.SimCamera.status
    monkeypatch.setattr(
        sim.SimCamera, "status", lambda self: replace(real(self), battery_percent=12.0, exposure_mode="Av")
    )
    assert "the exposure mode is 'Av'" in error_of(capture("--camera", "sim", *SMALL))
    result = capture("--camera", "sim", *SMALL, "--force")
    assert result.exit_code == 0
    assert result.stderr.count("dualpix: warning: the battery has 12 %") == 1
    assert result.stderr.count("dualpix: warning: the exposure mode is 'Av'") == 1


def test_schema_and_help() -> None:
    result = CliRunner().invoke(command, ["--schema"])
    assert json.loads(result.stdout) == read_schema()
    for args in ([], ["--help"]):
        shown = CliRunner().invoke(command, args).stdout
        assert "Take a focus stack" in shown and all(name in shown for name in SUBCOMMANDS)


@pytest.mark.parametrize("name", SUBCOMMANDS)
def test_subcommands_are_there(name: str) -> None:
    found = command.get_command(click.Context(command), name)
    assert isinstance(found, click.Command)
    assert CliRunner().invoke(command, [name, "--help"]).exit_code == 0


def dualpix(*args: str, **more: Any) -> subprocess.Popen[str]:
    environment = {**os.environ, "PYTHONPATH": "capture"}
    pipes: dict[str, Any] = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True, "env": environment}
    return subprocess.Popen(
        [sys.executable, "-c", "from dualpix.capture.cli import main; main()", *args], **pipes, **more
    )


def test_ctrl_c_exits_with_130_and_can_be_gone_on_with(tmp_path: Path) -> None:
    folder = tmp_path / "stack"
    distances = ",".join(f"{1 / d:.4f}" for d in (0.3, 0.5, 0.7, 0.9, 1.1, 1.3))
    process = dualpix("capture", "--camera", "sim", "-o", str(folder), "--distances", distances, "--exposure", "1/500")
    assert process.stderr is not None
    said = next(line for line in process.stderr if " taken" in line)
    process.send_signal(signal.SIGINT)
    _, rest = process.communicate(timeout=120)
    assert said.startswith("capturing: 1/6")
    assert process.returncode == 130, rest
    assert "dualpix: stopped by the user" in rest and f"--resume -o {folder}" in rest and "Traceback" not in rest
    record = read_record(folder)
    assert not record.complete and 1 <= len(record.frames) < 6
    process = dualpix("capture", "--resume", "-o", str(folder), "--json")
    out, errors = process.communicate(timeout=120)
    assert process.returncode == 0, errors
    after = read_record(folder)
    assert after.complete and after.frames[: len(record.frames)] == record.frames
    assert json.loads(out)["complete"] is True
    # each frame is told once, however busy decoders are with the error stream
    assert errors.count(" taken") == 6 - len(record.frames)


def test_it_needs_no_torch() -> None:
    code = (
        "import sys, dualpix.capture.stack.cli, dualpix.capture.stack.take.runner, dualpix.capture.cameras.sim;"
        "sys.exit('torch' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], env={**os.environ, "PYTHONPATH": "capture"}).returncode == 0


def test_a_descriptor_that_a_library_closed_does_not_fail_the_capture() -> None:
    lines = [
        "import os, sys",
        "from dualpix.capture.stack.cli import _own_stderr",
        "with _own_stderr():",
        "    os.close(sys.stderr.fileno())",
    ]
    done = subprocess.run([sys.executable, "-c", "\n".join(lines)], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
