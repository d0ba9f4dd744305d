"""One command line, four kinds of camera: simulated, an EOS behind the real libgphoto2, one behind real HTTP, a phone
behind the real adb. Each hides a lens; what a stack claims is compared with where the lens really was."""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
from pathlib import Path

import jsonschema
import numpy as np
import pytest
from tests.support.served import KINDS, TRUTH, camera_arguments

from dualpix.capture.cameras.hidden.truth import read_state
from dualpix.capture.cameras.sim import targets
from dualpix.capture.stack.judge.verify import verify
from dualpix.capture.stack.keep.record import read_record, read_schema

APERTURES = (2.8, 5.6)
STOPS = 9


def run(env: dict[str, str], *arguments: object) -> None:
    """`dualpix` in a process of its own."""
    command = [sys.executable, "-c", "from dualpix.capture.cli import main; main()", *map(str, arguments)]
    done = subprocess.run(command, env=env, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr[-2000:]


@pytest.mark.parametrize("kind", KINDS)
def test_the_same_command_makes_the_same_kind_of_stack(kind: str, tmp_path: Path) -> None:
    pytest.importorskip({"canon": "gphoto2", "android": "adbutils"}.get(kind, "json"))
    env, stack = dict(os.environ), tmp_path / "stack"
    plan = ["--near", 0.5, "--far", 4, "--count", STOPS, "--apertures", ",".join(map(str, APERTURES))]
    with camera_arguments(kind, tmp_path, 3, env) as camera:
        run(env, "capture", *camera, "-o", stack, *plan)
    jsonschema.validate(json.loads((stack / "stack.json").read_text()), read_schema())
    record = read_record(stack)
    assert record.camera.backend == kind
    assert record.complete and len(record.frames) == STOPS * len(APERTURES)
    truths = {shot.sha256: shot.diopters for shot in read_state(tmp_path / TRUTH)}
    errors, stated = [], []
    for frame in record.frames:
        digest = hashlib.sha256((stack / frame.files[0]).read_bytes()).hexdigest()
        assert digest == frame.sha256[0]
        errors.append(abs(frame.achieved_d - truths[digest]))
        stated.append(frame.uncertainty_d)
    print(kind, f"worst {max(errors):.4f} D, stated {np.median(stated):.4f} D")
    assert np.quantile(errors, 0.95) <= 0.02
    assert all(error < 4 * sigma for error, sigma in zip(errors, stated, strict=True))
    assert verify(stack).verdict == "good"


def test_a_camera_takes_a_planned_bracket_by_itself(tmp_path: Path) -> None:
    """The plan says that the camera's own bracketing takes the frames; nothing else has to be said."""
    env, stack, plan = dict(os.environ), tmp_path / "stack", tmp_path / "plan.json"
    with camera_arguments("ccapi", tmp_path, 3, env) as camera:
        lens = ["--focal-length-mm", 50, "--sensor-width-mm", 36]
        run(env, "capture", "plan", *lens, "--near", 0.6, "--shots", 5, "--increment", 10, "-o", plan)
        run(env, "capture", *camera, "-o", stack, "--plan", plan)
    frames = read_record(stack).frames
    assert len(frames) == len({frame.sha256[0] for frame in frames}) == 5
    assert {frame.distance_source for frame in frames} == {"bracket"}
    truths = {shot.sha256: shot.diopters for shot in read_state(tmp_path / TRUTH)}
    really = [truths[frame.sha256[0]] for frame in sorted(frames, key=lambda f: f.achieved_d)]
    assert really == sorted(really), "in the order that the record says"


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["sim", "canon", "ccapi"])
def test_a_lens_that_was_calibrated_through_the_camera_is_known(kind: str, tmp_path: Path) -> None:
    """No truth is borrowed: the lens is swept through the camera's own protocol, and the stack uses what that gave."""
    pytest.importorskip({"canon": "gphoto2"}.get(kind, "json"))
    env, stack, seed = dict(os.environ), tmp_path / "stack", 11
    boxes = [f"{distance}@{','.join(map(str, box))}" for distance, box in targets(f"sim:{seed}")]
    asked = [word for box in boxes for word in ("--target", box)]
    focal = ["--option", "focal_length_mm=50"] if kind == "ccapi" else []  # CCAPI does not say it
    with camera_arguments(kind, tmp_path, seed, env) as arguments:
        camera = [*arguments[: arguments.index("--calibration")], *focal]
        run(env, "capture", "calibrate", *camera, *asked)
        run(env, "capture", *camera, "-o", stack, "--near", 0.5, "--far", 4, "--count", STOPS)
    truths = {shot.sha256: shot.diopters for shot in read_state(tmp_path / TRUTH)}
    frames = read_record(stack).frames
    errors = [abs(frame.achieved_d - truths[frame.sha256[0]]) for frame in frames]
    assert len(frames) == STOPS and np.quantile(errors, 0.95) <= 0.02
    assert all(error < 4 * frame.uncertainty_d for error, frame in zip(errors, frames, strict=True))
