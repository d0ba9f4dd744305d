"""The recipe cmtl: what stages learnt arrives bit by bit, a killed stage goes on, the card tells of all of them."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from tests.support.rgbd import truth, write_generic
from tests.support.toy_network import toy_folder

from dualpix.capture.cli import main
from dualpix.models.data.rendered import RenderSettings
from dualpix.models.foundation import foundation
from dualpix.models.train import TrainConfig, Trainer
from dualpix.models.train.recipes import RECIPES, StageSettings
from dualpix.models.zoo import load_model

STAGES = ("1-dual-pixel", "2-image", "3-whole")
SMALL = (
    "--size", "64", "96", "--crop", "64", "96", "--samples", "4", "--batch-size", "2", "--eval-samples", "1",
    "--workers", "0", "--threads", "1", "--checkpoint-every", "1", "--precision", "float32", "--scenes", "simple",
    "--quality", "standard", "--optics", "model",
)  # fmt: skip

Run = Callable[..., str]


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str]) -> Run:
    """``dualpix ...`` in this process: what it says on stderr, after the exit code that is expected."""

    def call(*arguments: str | Path, code: int = 0) -> str:
        capsys.readouterr()
        with pytest.raises(SystemExit) as stopped:
            main([str(argument) for argument in arguments])
            raise SystemExit(0)
        said = capsys.readouterr()
        assert int(stopped.value.code or 0) == code, said.err
        return said.err

    return call


@pytest.fixture(scope="module")
def scenes(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("scenes")


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory, scenes: Path) -> Path:
    """The compact network by the recipe, two steps a stage."""
    folder = tmp_path_factory.mktemp("cmtl") / "run"
    with pytest.raises(SystemExit) as stopped:
        main([*_train(folder, scenes)])
        raise SystemExit(0)
    assert not stopped.value.code
    return folder


def _train(folder: Path, scenes: Path, *more: str) -> list[str]:
    words = ["train", "--recipe", "cmtl", "-o", str(folder), *SMALL, "--cache", str(scenes), "--steps", "2", *more]
    return list(words)


def _config(network: str = "difusenet", **changed: object) -> TrainConfig:
    return TrainConfig(
        network=network, steps=1, batch_size=2, samples=4, eval_samples=0, crop_hw=None, precision="float32",
        render=RenderSettings(size_hw=(64, 96)), **changed,  # type: ignore[arg-type]
    )  # fmt: skip


@pytest.mark.parametrize("network", ["difusenet", "difusenet-paper"])
def test_the_whole_network_starts_with_both_encoders_bit_by_bit(tmp_path: Path, network: str) -> None:
    dual_pixel, image, whole = RECIPES["cmtl"](_config(network), StageSettings())
    assert tuple(stage.folder for stage in (dual_pixel, image, whole)) == STAGES
    learnt = {}
    for part, stage in (("dual_pixel", dual_pixel), ("image", image)):
        Trainer(stage.config, tmp_path / stage.folder, workers=0).run()
        learnt[part] = load_file(tmp_path / stage.folder / "weights.safetensors")
    start = Trainer(whole.config, tmp_path / whole.folder, workers=0)
    for state in (start.network.state_dict(), start.average):
        for part, weights in learnt.items():
            own = {name: value for name, value in state.items() if name.startswith(f"{part}.")}
            assert own and own.keys() == {name for name in weights if name.startswith(f"{part}.")}
            assert all(torch.equal(value, weights[name]) for name, value in own.items())
    # and these are not what the seed alone gives
    torch.manual_seed(start.config.seed)
    plain = Trainer(_config(network), tmp_path / "plain", workers=0).network.state_dict()
    for part, weights in learnt.items():
        learned = [n for n in weights if n.startswith(f"{part}.") and n.endswith("weight")]
        assert any(not torch.equal(plain[n], weights[n]) for n in learned)
    rest = [n for n in plain if not n.startswith(("dual_pixel.", "image."))]
    assert rest and not [n for n in rest if n in learnt["image"] and plain[n].shape != start.average[n].shape]


def test_one_command_trains_all_stages_and_each_folder_is_a_model(trained: Path, run: Run) -> None:
    card = json.loads((trained / "card.json").read_text())
    assert (card["network"], card["recipe"], card["task"]) == ("difusenet", "cmtl", "dual_pixel")
    assert [stage["folder"] for stage in card["stages"]] == list(STAGES)
    assert [stage["task"] for stage in card["stages"]] == ["dual_pixel", "monocular", "dual_pixel"]
    for stage, digest_of in zip(card["stages"][2]["started_from"], card["stages"][:2], strict=True):
        assert digest_of["weights_sha256"] in stage and digest_of["folder"] in stage
    assert (trained / "weights.safetensors").read_bytes() == (trained / STAGES[2] / "weights.safetensors").read_bytes()
    outputs = [load_model(trained / name).spec.output for name in (*STAGES, ".")]
    assert outputs == ["disparity_px", "inverse_depth_affine", "disparity_px", "disparity_px"]
    # a branch that gives pixels is scored in pixels, the other one is not, and neither is made metres
    run("evaluate", "--data", "rendered", "--count", "1", "--size", "64", "96", "--method", "network",
        "--model", trained / STAGES[0], "--model", trained)  # fmt: skip
    said = run("evaluate", "--data", "rendered", "--count", "1", "--size", "64", "96", "--method", "network",
               "--model", trained / STAGES[1], code=2)  # fmt: skip
    assert "the method gives affine; expected disparity_px" in said and said.count("\n") == 1


def test_a_second_call_finds_everything_done(trained: Path, scenes: Path, run: Run) -> None:
    before = {path: path.stat().st_mtime_ns for path in trained.glob("*/*")}
    said = run(*_train(trained, scenes))
    assert all(f"{name}: done before" in said for name in STAGES)
    assert before == {path: path.stat().st_mtime_ns for path in trained.glob("*/*")}


def test_killed_in_the_second_stage_it_goes_on_there(scenes: Path, tmp_path: Path, run: Run) -> None:
    folder = tmp_path / "broken"
    steps = ["--stage-steps", "1", "5", "1"]
    program = [sys.executable, "-c", "from dualpix.capture.cli import main; main()"]
    command = [*program, *_train(folder, scenes, *steps)]
    broken = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    deadline = time.monotonic() + 300
    log = folder / STAGES[1] / "log.csv"
    while not (log.is_file() and len(log.read_text().splitlines()) >= 3):
        assert time.monotonic() < deadline and broken.poll() is None
        time.sleep(0.02)
    os.kill(broken.pid, signal.SIGKILL)
    broken.wait()
    assert len(log.read_text().splitlines()) < 6 and not (folder / STAGES[2]).exists()
    first = (folder / STAGES[0] / "checkpoint.pt").read_bytes()
    moved = folder.rename(tmp_path / "moved")  # a folder may be moved in between
    said = run(*_train(moved, scenes, *steps))
    assert "1-dual-pixel: done before" in said and "2-image: resuming at step" in said
    assert (moved / STAGES[0] / "checkpoint.pt").read_bytes() == first
    whole = tmp_path / "whole"
    run(*_train(whole, scenes, *steps))
    for name in (*STAGES, "."):
        weights = [(run / name / "weights.safetensors").read_bytes() for run in (moved, whole)]
        assert weights[0] == weights[1], name
    losses = [
        [line.split(",")[:3] for line in (run / STAGES[1] / "log.csv").read_text().splitlines()]
        for run in (moved, whole)
    ]
    assert losses[0] == losses[1]


def test_a_stage_that_is_trained_anew_takes_those_after_it_along(
    trained: Path, scenes: Path, tmp_path: Path, run: Run
) -> None:
    folder = Path(shutil.copytree(trained, tmp_path / "copy"))
    (folder / STAGES[1] / "checkpoint.pt").unlink()
    said = run(*_train(folder, scenes))
    assert "1-dual-pixel: done before" in said and "3-whole: done before" not in said
    assert "3-whole: resuming" not in said
    # the same seed and data: the same weights
    for name in STAGES:
        assert (folder / name / "weights.safetensors").read_bytes() == (
            trained / name / "weights.safetensors"
        ).read_bytes()
    said = run(*_train(folder, scenes, "--seed", "2"), code=2)
    assert "was made with other settings (seed)" in said and said.count("\n") == 1
    run(*_train(folder, scenes, "--seed", "2", "--restart"))
    assert json.loads((folder / "card.json").read_text())["training"]["seed"] == 2


def test_pictures_with_depth_teach_the_image_branch(tmp_path: Path, scenes: Path, run: Run) -> None:
    pictures = tmp_path / "pictures"
    for index, name in enumerate("abc"):
        write_generic(pictures, truth(64, 96, seed=index), name)
    folder = tmp_path / "run"
    run(*_train(folder, scenes, "--mono-data", str(pictures), "--mono-data", "procedural:0.5", "--validate", "0.4"))
    stages = json.loads((folder / "card.json").read_text())["stages"]
    assert [stage["data"] for stage in stages] == [["procedural"], [str(pictures), "procedural:0.5"], ["procedural"]]


def test_the_paper_network_by_the_recipe_with_published_weights(tmp_path: Path, scenes: Path, run: Run) -> None:
    torch.manual_seed(1)
    published = tmp_path / "lite0.safetensors"
    save_file(foundation("efficientnet-lite0").trunk.state_dict(), published)
    folder = tmp_path / "run"
    options = json.dumps({"encoder": "efficientnet-lite0", "head": "inverse_depth_affine"})
    network = ("--network", "difusenet-paper", "--options", options, "--encoder-weights", str(published))
    run(*_train(folder, scenes, *network, "--stage-steps", "1", "1", "1"))
    card = json.loads((folder / "card.json").read_text())
    assert card["task"] == "dual_pixel_affine" and card["eval_error_unit"] == "px after an affine fit"
    assert "encoder: lite0.safetensors, SHA-256 " in card["stages"][1]["started_from"][0]
    assert not card["stages"][0]["started_from"] and len(card["stages"][2]["started_from"]) == 2
    assert np.isfinite(card["final_eval_error"])


@pytest.mark.parametrize(
    ("more", "said"),
    [
        (("--network", "unet"), "unknown network 'unet'; expected one of: dddnet"),
        (("--options", '{"branches": "image"}'), "a recipe with --init or with a branch among the options"),
        (("--init", "difusenet-compact"), "--recipe and --init were given; expected one of them"),
        (("--mono-data", "nowhere"), "no file or folder 'nowhere'"),
        (("--mono-data", "procedural:0"), "'procedural:0' has a weight of 0"),
        (("--stage-steps", "0", "1", "1"), "steps 0; expected 1 to"),
        (("--encoder-weights", "imagenet"), "network 'difusenet', as it is asked for, takes no published weights"),
        (("--network", "difusenet-paper", "--encoder-weights", "imagenet"), "no package holds ImageNet weights"),
        (("--network", "difusenet-paper", "--encoder-weights", "nowhere.pth"), "nowhere.pth"),
        (("--crop", "48", "96"), "--crop 48 96; expected multiples of 32 px"),
        (("--options", '{"window": 3}'), "window is 3, expected 2, 4 or 8"),
    ],
)  # fmt: skip
def test_what_no_stage_can_begin_with_is_told_at_once(
    tmp_path: Path, scenes: Path, run: Run, more: tuple[str, ...], said: str
) -> None:
    folder = tmp_path / "run"
    seen = run(*_train(folder, scenes, *more), code=2)
    assert said in seen and "Traceback" not in seen
    lines = [line for line in seen.splitlines() if line.startswith("dualpix: error: ")]
    assert len(lines) == 1 and not list(folder.glob("*/*"))


def test_a_network_without_branches_has_no_stages(
    tmp_path: Path, scenes: Path, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    toy_folder(tmp_path, monkeypatch)
    said = run(*_train(tmp_path / "run", scenes, "--network", "toynet:make"), code=2)
    assert "recipe 'cmtl' for network 'toynet:make'; expected one with a dual-pixel and an image branch" in said


def test_options_of_a_recipe_without_one(tmp_path: Path, run: Run) -> None:
    said = run("train", "-o", tmp_path / "run", "--mono-data", "procedural", code=2)
    assert "--stage-steps or --mono-data without a recipe" in said
    said = run("train", "-o", tmp_path / "run", "--recipe", "distil", code=2)
    assert "'distil'" in said and "cmtl" in said


def test_a_folder_of_a_plain_run_is_left_alone(tmp_path: Path, scenes: Path, run: Run) -> None:
    folder = tmp_path / "run"
    plain = [word for word in _train(folder, scenes) if word not in ("--recipe", "cmtl")]
    run(*plain)
    before = (folder / "weights.safetensors").read_bytes()
    said = run(*_train(folder, scenes), code=2)
    assert "holds a run that is no recipe's" in said and (folder / "weights.safetensors").read_bytes() == before


def test_parts_that_do_not_fit(trained: Path, tmp_path: Path) -> None:
    def begin(network: str, *parts: str) -> None:
        Trainer(_config(network, init_parts=parts), tmp_path / "run", workers=0)

    at = os.path.relpath(trained / STAGES[0], tmp_path / "run")
    for network, part, said in (
        ("difusenet", f"decoder={at}", r"a start from 'decoder=.*; expected dual_pixel=FOLDER, image=FOLDER"),
        ("difusenet", "image", "a start from 'image'"),
        ("difusenet", f"image={at}", "'1-dual-pixel' has no 'image'"),
        ("difusenet-paper", f"dual_pixel={at}", "'dual_pixel' of '1-dual-pixel' does not fit"),
        ("difusenet", "image=../nowhere", "unknown model"),
    ):
        with pytest.raises(Exception, match=said):
            begin(network, part)
        assert not (tmp_path / "run").exists()
