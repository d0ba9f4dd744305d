"""A user's trained network through export and gate: calibrated and judged by the metrics of its task."""

from __future__ import annotations

import json
from pathlib import Path

import cv2
import numpy as np
import pytest
from click.testing import CliRunner
from tests.support.pairs import shifted
from tests.support.toy_network import toy_folder

from dualpix.capture.cli import root

_TRAIN = ("--steps", "4", "--batch-size", "2", "--eval-samples", "0", "--workers", "0", "--device", "cpu")


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    return toy_folder(tmp_path, monkeypatch)


def run(*args: str) -> str:
    done = CliRunner().invoke(root, args, catch_exceptions=False)
    assert done.exit_code == 0, done.output
    return done.stdout


def test_pairs_go_the_whole_way(here: Path) -> None:
    run("render", "--scenes", "4", "-o", "shards", "--size", "64", "96", "--coc-span", "8", "--shards", "2")
    run("train", "-o", "run", "--network", "toynet:make", "--data", "shards", "--crop", "32", "48", *_TRAIN)
    run(
        "export", "toynet:make@run", "-o", "out", "--recipe", "xnnpack-fp32", "--size", "32x48", "--eval-count", "2",
        "--calibration-count", "2", "--rounds", "2",
    )  # fmt: skip
    manifest = json.loads((here / "out" / "manifest.json").read_text())
    assert manifest["model"]["task"] == "dual_pixel"
    assert [value["name"] for value in manifest["input"]["tensors"]] == ["left", "right"]
    [output] = manifest["outputs"]
    assert (output["name"], output["unit"]) == ("disparity_px", "px")
    gate = json.loads((here / "out" / "gate.json").read_text())
    assert "AI(1)" in json.dumps(gate, ensure_ascii=False)


def test_a_pair_with_a_confidence_goes_the_whole_way(here: Path) -> None:
    """Trained, judged, scored, and exported with both of its outputs."""
    run(
        "train", "-o", "run", "--network", "toynet:sure", "--size", "64", "96", "--samples", "4", "--crop", "32", "48",
        *_TRAIN,
    )  # fmt: skip
    for half, image in (("left", shifted(0.6).left), ("right", shifted(0.6).right)):
        cv2.imwrite(f"shot_{half}.png", np.rint(image * 60000).astype(np.uint16))
    run("depth", "shot_left.png", "-o", "depths", "--model", "toynet:sure@run")
    record = json.loads((here / "depths" / "shot" / "depth.json").read_text())
    # of its own confidence nothing is known, so that it counts for nothing: see docs/make_confidence.py
    assert [finding["code"] for finding in record["findings"]][-1] == "other_calibration"
    scores = json.loads(
        run("evaluate", "--data", "rendered", "--count", "1", "--size", "64", "96", "--method", "network", "--model",
            "toynet:sure@run", "--json")
    )  # fmt: skip
    assert scores["mean"]["run"]["ause"] >= 0
    run(
        "export", "toynet:sure@run", "-o", "out", "--recipe", "xnnpack-fp32", "--size", "32x48", "--eval-count", "2",
        "--calibration-count", "2", "--rounds", "2",
    )  # fmt: skip
    manifest = json.loads((here / "out" / "manifest.json").read_text())
    disparity, confidence = manifest["outputs"]
    assert (disparity["name"], disparity["unit"]) == ("disparity_px", "px")
    assert confidence["name"] == "confidence" and confidence["shape"] == disparity["shape"]


def test_stacks_go_the_whole_way(here: Path) -> None:
    run(
        "train", "-o", "run", "--network", "toynet:stack", "--size", "32", "48", "--crop", "32", "48", "--samples", "2",
        "--frames", "5", *_TRAIN,
    )  # fmt: skip
    run(
        "export", "toynet:stack@run", "-o", "out", "--recipe", "xnnpack-fp32", "--recipe", "coreml-fp16", "--size",
        "32x48", "--eval-count", "2", "--calibration-count", "2", "--rounds", "2",
    )  # fmt: skip
    manifest = json.loads((here / "out" / "manifest.json").read_text())
    assert manifest["model"]["task"] == "focus_stack"
    shapes = {value["name"]: value["shape"] for value in manifest["input"]["tensors"]}
    assert shapes == {"frames": [1, 5, 3, 32, 48], "focus_diopters": [1, 5]}
    frames, focus = manifest["input"]["tensors"]
    assert (frames["kind"], frames["per_frame"], "unit" in frames) == ("picture", True, False)
    assert (focus["kind"], focus["per_frame"], focus["unit"]) == ("scalar", True, "1/m")
    assert manifest["outputs"][0]["unit"] == "m"
    assert "AbsRel" in (here / "out" / "gate.json").read_text()
