from __future__ import annotations

import json
from pathlib import Path

import click
import pytest
import torch
from click.testing import CliRunner, Result
from safetensors.torch import save_file
from tests.support.foreign_factory import SOURCE
from tests.support.tiny_net import scene

from dualpix.capture.cli import main
from dualpix.capture.errors import DualpixError
from dualpix.export.command.cli import _parse_budget, command
from dualpix.export.recipes import DEFAULT_RECIPES, RECIPES
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


def test_exit_code_follows_the_gate(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "nets_of_exit_codes.py").write_text(SOURCE)
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    for sqnr_db, code, outcome in ((60, 0, "runs, delegated, right"), (300, 1, "runs, delegated, wrong")):
        limits = {"format": 1, "recipes": {"xnnpack-fp32": {"delegated_compute": 0.95, "sqnr_db": sqnr_db}}}
        Path("limits.json").write_text(json.dumps(limits))
        asked = ("-o", "out", "--recipe", "xnnpack-fp32", "--rounds", "1", "--limits", "limits.json", "--json")
        done = _invoke("nets_of_exit_codes:small", *asked)
        assert done.exit_code == code, done.output
        gate = json.loads(done.stdout)
        assert gate["passed"] == (code == 0) and gate["recipes"][0]["outcome"] == outcome
        assert gate["recipes"][0]["delegation"]["compute_share"] >= 0.95
    assert json.loads(Path("out/gate.json").read_text())["limits"] == "limits.json"


@pytest.mark.slow
def test_the_shipped_network_passes_its_own_gate(tmp_path: Path) -> None:
    result = _invoke("-o", str(tmp_path / "out"), "--size", "192x256", "--json")
    assert result.exit_code == 0, result.output
    entries = {e["recipe"]: e for e in json.loads(result.stdout)["recipes"]}
    assert set(entries) == set(DEFAULT_RECIPES)
    assert entries["xnnpack-int8"]["delegation"]["compute_share"] >= 0.95
    assert entries["xnnpack-int8"]["size_bytes"] < 0.4 * entries["xnnpack-fp32"]["size_bytes"]


def test_list_names_everything(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "160")
    shown = _invoke("--list").stdout
    assert all(name in shown for name in RECIPES) and "difusenet-compact" in shown


@pytest.mark.parametrize(("text", "budget"), [("1%", 0.01), ("0.02", 0.02), ("100%", 1.0)])
def test_a_budget_is_a_share(text: str, budget: float) -> None:
    assert _parse_budget(None, None, text) == pytest.approx(budget)  # type: ignore[arg-type]


@pytest.mark.parametrize("text", ["-1%", "0", "nan", "101%", "much", "%"])
def test_what_is_no_budget(text: str) -> None:
    with pytest.raises(click.BadParameter):
        _parse_budget(None, None, text)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (
            ["--recipe", "onnx", "-o", "x"],
            "unknown recipe 'onnx'; expected one of: coreai-fp16, coreai-fp32, coreai-w4",
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
