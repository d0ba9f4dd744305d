"""``dualpix ensemble``: a model of several, which any command takes."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from click.testing import CliRunner, Result

from dualpix.capture.errors import DualpixError
from dualpix.models.zoo import load_model
from dualpix.models.zoo.ensemble_cli import command

MEMBERS = ("fmdp-compact", "dplive")


def run(*arguments: object) -> Result:
    return CliRunner().invoke(command, [str(a) for a in arguments])


def test_shipped_networks_as_one(tmp_path: Path) -> None:
    made = run(*MEMBERS, "-o", tmp_path / "both", "--half", "--json")
    assert made.exit_code == 0, made.output
    assert json.loads(made.output)["members"] == list(MEMBERS)
    both, each = load_model(tmp_path / "both"), [load_model(name) for name in MEMBERS]
    assert both.spec.outputs == ("disparity_px", "confidence")
    weights = 4 * sum(tensor.numel() for one in each for tensor in one.module.state_dict().values())
    assert (tmp_path / "both" / "weights.safetensors").stat().st_size < 0.55 * weights
    generator = torch.Generator().manual_seed(5)
    inputs = [torch.rand(1, channels, 64, 96, generator=generator) - 0.4 for channels in (3, 1, 1)]
    with torch.no_grad():
        given, said = both.module(*inputs), [one.module(*inputs) for one in each]
    for output, parts in zip(given, zip(*said, strict=True), strict=True):
        assert torch.allclose(output, torch.stack(parts).mean(0), atol=0.01), "weights of 11 bits"
    kept = both.card["keep_float"]
    assert kept and all(name.startswith("members.0.") for name in kept), "fmdp-compact holds layers in float32"


def test_members_that_make_none(tmp_path: Path) -> None:
    assert run(*MEMBERS, "-o", tmp_path / "both").exit_code == 0
    for models, words in (
        (["dplive"], "1 model"),
        (["dplive", "fossa-compact"], "'fossa-compact' gives depth_m"),
        (["dplive", tmp_path / "both"], "'both' is an ensemble"),
        (["dplive", "json:loads"], "'json:loads' is a network of your own"),
        (["dplive", "nope"], "unknown model 'nope'"),
    ):
        refused = run(*models, "-o", tmp_path / "new")
        assert isinstance(refused.exception, DualpixError)
        assert words in str(refused.exception)
        assert not (tmp_path / "new").exists()


def test_a_folder_that_holds_something_else(tmp_path: Path) -> None:
    (tmp_path / "taken").write_text("mine")
    refused = run(*MEMBERS, "-o", tmp_path / "taken")
    assert isinstance(refused.exception, DualpixError)
    assert (tmp_path / "taken").read_text() == "mine"


@pytest.mark.slow
def test_an_ensemble_is_exported_and_judged(tmp_path: Path) -> None:
    from dualpix.export.command.cli import command as export

    assert run("dplive", "dplive", "-o", tmp_path / "twice").exit_code == 0
    asked = [str(tmp_path / "twice"), "-o", str(tmp_path / "out"), "--size", "64x96", "--recipe", "xnnpack-fp32"]
    exported = CliRunner().invoke(export, [*asked, "--calibration-count", "2", "--eval-count", "2", "--json"])
    assert exported.exit_code == 0, exported.output
