"""Networks for focus stacks, a user's own: trained, scored beside the methods, and in ``dualpix depth``."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import tifffile
from click.testing import CliRunner
from tests.support.stack_folders import shoot_stack
from tests.support.toy_network import toy_folder

from dualpix.capture.cli import root
from dualpix.capture.errors import DualpixError
from dualpix.capture.types import FocusStack, LensModel
from dualpix.models.stacks.network import predict_stack_depth
from dualpix.models.zoo import load_model


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    return toy_folder(tmp_path, monkeypatch)


def run(*args: str) -> str:
    done = CliRunner().invoke(root, args, catch_exceptions=False)
    assert done.exit_code == 0, done.output
    return done.stdout


def stack(size_hw: tuple[int, int], distances: tuple[float, ...] | None) -> FocusStack:
    frames = np.random.default_rng(0).random((3, *size_hw, 3), np.float32)
    known = None if distances is None else np.array(distances)
    return FocusStack(frames, known, None if known is None else np.full(3, 0.01), LensModel(50, 2, 4, 5, 0.4))


def test_depth_lies_within_what_the_network_can_give_and_has_the_frames_size(here: Path) -> None:
    model = load_model("toynet:stack")
    for size in ((50, 70), (90, 900)):
        depth = predict_stack_depth(stack(size, (4.0, 1.0, 0.5)), model)
        assert depth.shape == size and depth.dtype == np.float32 and np.isfinite(depth).all() and depth.min() > 0
    assert np.isfinite(predict_stack_depth(stack((32, 48), (np.inf, 1.0, 0.5)), model)).all()


def test_what_is_no_stack_with_distances_or_no_such_network_is_refused(here: Path) -> None:
    with pytest.raises(DualpixError, match="does not say where its frames are focused"):
        predict_stack_depth(stack((32, 48), None), load_model("toynet:stack"))
    with pytest.raises(DualpixError, match=r"'fmdp-compact' takes a dual-pixel pair.*expected a network for focus"):
        predict_stack_depth(stack((32, 48), (4.0, 1.0, 0.5)), load_model())


def test_a_users_stack_network_is_trained_and_gives_depth(here: Path) -> None:
    run("render", "--scenes", "3", "-o", "made", "--size", "64", "96", "--coc-span", "8", "--stack", "3", "--no-pair")
    run(
        "train", "-o", "run", "--network", "toynet:stack", "--data", "made", "--validate", "0.4", "--frames", "3",
        "--crop", "32", "48", "--steps", "2", "--batch-size", "2", "--eval-samples", "1", "--workers", "0",
        "--device", "cpu",
    )  # fmt: skip
    card = json.loads((here / "run" / "card.json").read_text())
    assert card["task"] == "focus_stack" and card["eval_error_unit"] == "1/m" and card["final_eval_error"] > 0
    shoot_stack(here / "shot")
    [found] = json.loads(run("depth", "shot", "-o", "out", "--model", "toynet:stack@run", "--json"))
    assert found["result"]["model"] == "run" and found["status"] == "done"
    depth = tifffile.imread(here / "out" / "shot" / "depth_m.tiff")
    assert depth.ndim == 2 and np.isfinite(depth).all()
