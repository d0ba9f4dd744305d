"""Networks of a user's own: named by their function, trained, loaded, and never run because a card says so."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
import torch
from click.testing import CliRunner
from tests.support.toy_network import toy_folder

from dualpix.capture.errors import DualpixError, UnknownNameError
from dualpix.models.networks import network_spec
from dualpix.models.train.cli import command
from dualpix.models.zoo import load_model
from dualpix.models.zoo.cards import split_factory


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    return toy_folder(tmp_path, monkeypatch)


def trained(folder: Path) -> Path:
    args = [
        "-o", "run", "--network", "toynet:make", "--options", '{"width": 4}', "--steps", "2", "--batch-size", "2",
        "--samples", "2", "--eval-samples", "0", "--workers", "0", "--device", "cpu",
    ]  # fmt: skip
    done = CliRunner().invoke(command, args, catch_exceptions=False)
    assert done.exit_code == 0, done.output
    return folder / "run"


def test_the_task_follows_from_the_names_of_the_parameters(here: Path) -> None:
    pairs, stacks = network_spec("toynet:make"), network_spec("toynet:stack")
    assert (pairs.task, pairs.inputs, pairs.output) == ("dual_pixel", (("left", 1), ("right", 1)), "disparity_px")
    assert (stacks.task, stacks.input_names, stacks.output) == ("focus_stack", ("frames", "focus_diopters"), "depth_m")
    assert pairs.size_multiple == 8


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("toynet:wrong", r"forward of toynet:wrong\(\) takes \(input\); expected parameters named as inputs of a task"),
        ("toynet:number", r"toynet:number\(\) gives a int; expected an nn.Module"),
        ("toynet:none", "'toynet' has no function 'none'"),
        ("nowhere_at_all:make", "'nowhere_at_all' cannot be imported"),
    ],
)
def test_what_is_no_network_is_named(here: Path, name: str, message: str) -> None:
    with pytest.raises(DualpixError, match=message):
        network_spec(name)


def test_a_trained_one_is_loaded_with_its_function_beside_the_folder(here: Path) -> None:
    folder = trained(here)
    assert json.loads((folder / "card.json").read_text())["network"] == "toynet:make"
    model = load_model("toynet:make@run")
    assert model.module.body[0].out_channels == 4 and model.spec.task == "dual_pixel"  # type: ignore[index,union-attr]
    with torch.inference_mode():
        out = model.module(torch.rand(1, 1, 16, 24), torch.rand(1, 1, 16, 24))
    assert out.shape == (1, 1, 16, 24)


def test_a_card_never_has_code_run(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = trained(here)
    card = json.loads((folder / "card.json").read_text())
    (here / "spoilt.py").write_text("raise SystemExit('this module ran')\n")
    (folder / "card.json").write_text(json.dumps(card | {"network": "spoilt:make"}))
    with pytest.raises(DualpixError, match=r"network of your own, 'spoilt:make'.*name the code that you trust"):
        load_model("run")
    with pytest.raises(DualpixError, match="'run' holds weights of 'spoilt:make'; expected those of 'toynet:make'"):
        load_model("toynet:make@run")


def test_the_function_alone_gives_its_own_weights(here: Path) -> None:
    model = load_model("toynet:make")
    assert model.name == "make" and sum(p.numel() for p in model.module.parameters()) > 100


def test_forms_of_a_name(here: Path) -> None:
    assert split_factory("toynet:make@runs/a") == ("toynet:make", "runs/a")
    assert split_factory("toynet:make") == ("toynet:make", "")
    assert split_factory("runs/a") == ("", "runs/a")
    (here / "a:b@c").mkdir()
    assert split_factory("a:b@c") == ("", "a:b@c")  # a folder of that name is a folder
    shutil.rmtree(here / "a:b@c")
    with pytest.raises(UnknownNameError, match="unknown model 'nowhere'"):
        load_model("toynet:make@nowhere")
