from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from click.testing import CliRunner, Result
from safetensors.torch import save_file
from tests.support.tiny_net import scene

from dualpix.capture.cli import main
from dualpix.capture.errors import DualpixError
from dualpix.export.cli import command
from dualpix.export.recipes import RECIPES
from dualpix.models.networks import build_network


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The real network, not trained, with batch-norm statistics of its own activations."""
    folder = tmp_path_factory.mktemp("untrained")
    torch.manual_seed(0)
    network = build_network("difusenet").train()
    with torch.no_grad():
        for _ in range(10):
            network(*scene((64, 64), batch=2))
    save_file(network.state_dict(), folder / "weights.safetensors")
    (folder / "card.json").write_text(json.dumps({"network": "difusenet"}))
    return folder


def _invoke(*arguments: str) -> Result:
    return CliRunner().invoke(command, list(arguments))


def _small(model: Path, out: Path, *more: str) -> Result:
    return _invoke(
        str(model), "-o", str(out), "--size", "64x64", "--calibration-count", "2", "--eval-count", "1",
        "--rounds", "1", "--recipe", "xnnpack-int8", "--json", *more,
    )  # fmt: skip


def test_exit_code_follows_the_gate(model: Path, tmp_path: Path) -> None:
    loose = {"format": 1, "recipes": {"xnnpack-int8": {"delegated_compute": 0.95}}}
    (model / "limits.json").write_text(json.dumps(loose))
    result = _small(model, tmp_path / "out")
    gate = json.loads(result.stdout)
    assert result.exit_code == 0, result.output
    assert gate["passed"]
    assert gate["recipes"][0]["delegation"]["compute_share"] >= 0.95
    assert gate["recipes"][0]["accuracy"]["from_float"]["sqnr_db"] > 15
    (model / "limits.json").write_text(json.dumps({"format": 1, "recipes": {"xnnpack-int8": {"sqnr_db": 90}}}))
    strict = _small(model, tmp_path / "out")
    assert strict.exit_code == 1
    assert json.loads(strict.stdout)["recipes"][0]["outcome"] == "runs, delegated, wrong"


def test_list_names_everything() -> None:
    assert all(name in _invoke("--list").stdout for name in RECIPES)
    assert set(json.loads(_invoke("--list", "--json").stdout)["recipes"]) == set(RECIPES)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (
            ["--recipe", "onnx", "-o", "x"],
            "unknown recipe 'onnx'; expected one of: coreml-fp16, coreml-w8, xnnpack-fp32",
        ),
        (["nobody", "-o", "x"], "unknown model 'nobody'"),
    ],
)
def test_unknown_names_list_the_known(arguments: list[str], message: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stop:
        main(["export", *arguments])
    assert stop.value.code == 2
    error = capsys.readouterr().err
    assert message in error
    assert error.count("\n") == 1


def test_sizes_are_checked(model: Path, tmp_path: Path) -> None:
    assert _invoke(str(model), "-o", str(tmp_path), "--size", "100").exit_code == 2
    assert _invoke(str(model), "-o", str(tmp_path), "--size", "64x99999").exit_code == 2
    result = _invoke(str(model), "-o", str(tmp_path), "--size", "100x64")
    assert isinstance(result.exception, DualpixError)
    assert "multiples of 32 px" in str(result.exception)
