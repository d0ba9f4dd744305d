"""Stacks of pictures with depth, as ``dualpix evaluate`` scores them: right values, and what they assume."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest
from click.testing import CliRunner
from tests.support.toy_network import toy_folder

from dualpix.capture import optics
from dualpix.capture.cli import root
from dualpix.capture.errors import DualpixError
from dualpix.models.evaluate.rendered_stacks import LISTS_M, pictured_stacks, procedural_stacks, stack_protocol
from dualpix.models.evaluate.run import score_one
from dualpix.models.evaluate.sample import Prediction

SIZE_HW = (96, 128)


def run(*words: str) -> str:
    done = CliRunner().invoke(root, ["evaluate", *words], catch_exceptions=False)
    assert done.exit_code == 0, done.output
    return done.stdout


@pytest.mark.parametrize("kind", list(LISTS_M))
def test_a_true_map_has_no_error_and_no_scene_moves_the_list(kind: str) -> None:
    protocol = stack_protocol(kind)
    samples = [pending.load() for pending in procedural_stacks(kind, 3, SIZE_HW)]
    for sample in samples:
        assert sample.stack is not None and sample.stack.focus_distance_m is not None
        assert tuple(sample.stack.focus_distance_m) == LISTS_M[kind] and sample.stack.frames.shape == (5, *SIZE_HW, 3)
        lens = sample.stack.lens
        assert (lens.focal_length_mm, lens.f_number, lens.pixel_pitch_um) == (50.0, 1.4, 36_000 / 128)
        exact = score_one(protocol, sample, "truth", Prediction(sample.truth, "depth_m")).score.figures
        assert exact["abs_rel"] == pytest.approx(0, abs=1e-6) and exact["d1_05"] == 1
        far = score_one(protocol, sample, "off", Prediction(np.float32(1.2) * sample.truth, "depth_m")).score.figures
        assert far["d1_05"] == 0 and far["d1_25"] == pytest.approx(1, abs=0.01)
        assert far["abs_rel"] == pytest.approx(0.2, abs=0.01)
    assert protocol.leaks_scale == "" and len({float(sample.truth.min()) for sample in samples}) == 3
    again = procedural_stacks(kind, 1, SIZE_HW)[0].load()
    assert again.stack is not None and samples[0].stack is not None
    assert np.array_equal(again.stack.frames, samples[0].stack.frames)


def write_rgbd(folder: Path, depth_mm: np.ndarray) -> None:
    folder.mkdir(parents=True)
    light = cv2.GaussianBlur(np.random.default_rng(1).random((*depth_mm.shape, 3)), (0, 0), 0.8)
    codes = np.rint(255 * np.clip((light - 0.5) * 3 + 0.5, 0, 1)).astype(np.uint8)
    assert cv2.imwrite(str(folder / "a.png"), codes) and cv2.imwrite(str(folder / "a_depth.png"), depth_mm)


def test_pictures_with_depth_are_blurred_by_their_depth(tmp_path: Path) -> None:
    depth_mm = np.full((200, 800), 630, np.uint16)
    depth_mm[:, 400:] = 1330
    depth_mm[:20] = 0  # holes
    write_rgbd(tmp_path / "room", depth_mm)
    [pending] = pictured_stacks("stack-fixed", tmp_path)
    sample = pending.load()
    assert sample.group == "room" and sample.truth.shape == (160, 640)  # reduced to 640 px
    assert sample.valid[20:].all() and not sample.valid[:14].any() and sample.stack is not None
    contrast = sample.stack.frames[:, 40:150].std(1).mean(2)  # (N, W)
    assert set(contrast[:, 60:280].argmax(0)) == {3} and set(contrast[:, 360:580].argmax(0)) == {1}
    focused = replace(sample.stack.lens, focus_distance_m=0.5)
    blur = optics.circle_of_confusion_px(1.33, focused)  # 44 px: nothing is left of the texture
    assert blur > 30 and contrast[4, 480] < 0.2 * contrast[1, 480]
    with pytest.raises(DualpixError, match="nothing"):
        pictured_stacks("stack-fixed", tmp_path / "room" / "nothing")


def test_networks_and_methods_stand_in_one_table(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    here = toy_folder(tmp_path, monkeypatch)
    yy = np.linspace(600, 2500, 96)[:, None].repeat(128, 1)
    write_rgbd(here / "data" / "room", yy.astype(np.uint16))
    words = ("--data", "rendered:stack-diopters", "--method", "argmax,network", "--model", "toynet:nearest")
    record = json.loads(run("data", *words, "--json"))
    assert set(record["mean"]) == {"argmax", "nearest"} and record["leaks_scale"] is None
    figures = record["mean"]["nearest"]
    assert {"abs_rel", "d1_05", "d1_15", "d1_25", "mae_diopters", "abs_rel_1_2", "mae_m_0_1"} <= set(figures)
    assert 0 < figures["abs_rel"] < 0.4 and record["group_mean"]["room"]["argmax"]["abs_rel"] < 0.4
    smaller = json.loads(run("data", *words, "--working-size", "64", "--json"))["mean"]
    assert smaller["argmax"] == record["mean"]["argmax"]  # sizes are for networks
    assert smaller["nearest"]["abs_rel"] != figures["abs_rel"]
    done = CliRunner().invoke(root, ["evaluate", *words, "--working-size", "64", "--working-size", "96"])
    assert "2 working sizes for focus stacks; expected one" in str(done.exception)
    table = run(*words, "--count", "2", "--size", "64", "96")
    assert "mean" in table and "95 % low" in table and "true depth" in table and "nearest" in table


def test_other_rendered_sets_still_take_no_folder(tmp_path: Path) -> None:
    done = CliRunner().invoke(root, ["evaluate", str(tmp_path), "--data", "rendered:phone"])
    assert isinstance(done.exception, DualpixError) and "expected no folder" in str(done.exception)
    (tmp_path / "empty").mkdir()
    done = CliRunner().invoke(root, ["evaluate", str(tmp_path / "empty"), "--data", "rendered:stack-fixed"])
    assert isinstance(done.exception, DualpixError) and "is empty" in str(done.exception)
