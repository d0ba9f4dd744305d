"""What the gate says of a user's own module: each of these once passed without a word."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any
from uuid import uuid4

import numpy as np
import pytest
import torch
from click.testing import CliRunner
from rich.console import Console
from torch import Tensor, nn

from dualpix.export.artefact import Delegation
from dualpix.export.command.cli import command
from dualpix.export.command.limits import read_limits
from dualpix.export.command.show import table_of
from dualpix.export.flow import ExportResult
from dualpix.export.module import export_module
from dualpix.export.recipes import RECIPES
from dualpix.quantize.gate import Candidate, Outcome, judge
from dualpix.quantize.limits import Limits
from dualpix.quantize.score import Accuracy, Difference, Metric


class _Wall(nn.Module):
    """A wall at 20 m with relief of some cm: int8 has steps of about 8 cm there.

    The offset of a last layer is added in float, outside the grid; that of one with another layer behind it cannot be.
    """

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.a, self.b, self.scale = nn.Conv2d(3, 16, 3, padding=1), nn.Conv2d(16, 1, 3, padding=1), nn.Conv2d(1, 1, 1)
        with torch.no_grad():
            self.b.bias.fill_(20.0)
            self.scale.weight.fill_(1.0)
            self.scale.bias.fill_(0.0)  # type: ignore[union-attr]

    def forward(self, x: Tensor) -> Tensor:
        return self.scale(self.b(torch.relu(self.a(x))))


class _LastWall(_Wall):
    """The same without a layer behind the offset."""

    def forward(self, x: Tensor) -> Tensor:
        return self.b(torch.relu(self.a(x)))


def _pictures(count: int = 4) -> list[Tensor]:
    generator = torch.Generator().manual_seed(1)
    return [torch.rand(1, 3, 24, 32, generator=generator) for _ in range(count)]


def _exported(module: nn.Module, out: Path, recipe: str, **more: Any) -> ExportResult:
    samples = more.pop("samples", _pictures())
    return export_module(module, samples[:2], out, [recipe], evaluation_inputs=samples[2:], rounds=1, **more)


@pytest.fixture(scope="module")
def wall(tmp_path_factory: pytest.TempPathFactory) -> ExportResult:
    limits = {"xnnpack-int8": Limits(sqnr_db=25.0)}
    out = tmp_path_factory.mktemp("wall") / "out"
    return _exported(_Wall(), out, "xnnpack-int8", limits=(limits, "own"), name="wall", unit="m")


def test_limits_that_a_constant_passes_are_told(wall: ExportResult) -> None:
    (result,) = wall.results
    gap = result.accuracy and result.accuracy.from_float
    assert gap and gap.structure_db and gap.sqnr_db > 50 and gap.structure_db < 10
    assert result.verdict.passed, "the user asks for no more"
    (note,) = result.verdict.notes
    assert note.startswith("a constant would pass these limits: sqnr_db 5") and "structure_db" in note
    gate = json.loads((wall.folder / "gate.json").read_text())
    assert gate["recipes"][0]["notes"] == [note] and note in (wall.folder / "MODEL_CARD.md").read_text()


def test_the_houses_limits_refuse_what_has_lost_its_structure(wall: ExportResult) -> None:
    (result,) = wall.results
    candidate = Candidate("xnnpack-int8", result.accuracy, 1.0, 1)
    verdict = judge(candidate, wall.reference, RECIPES["xnnpack-int8"].limits)
    assert verdict.outcome is Outcome.WRONG and verdict.reason.startswith("structure_db ")


def test_an_offset_in_the_last_layer_costs_no_structure(wall: ExportResult, tmp_path: Path) -> None:
    (result,), (other,) = _exported(_LastWall(), tmp_path / "out", "xnnpack-int8").results, wall.results
    assert result.verdict.passed and result.accuracy and other.accuracy
    kept, lost = (a.from_float.structure_db for a in (result.accuracy, other.accuracy) if a.from_float)
    assert kept and lost is not None and kept > 20 > 10 > lost


def test_every_recipe_asks_for_structure_and_programs_for_delegation() -> None:
    for recipe in RECIPES.values():
        limits = recipe.limits
        assert limits.structure_db and limits.sqnr_db and 0 < limits.structure_db <= limits.sqnr_db
        assert limits.delegated_compute == (0.95 if recipe.suffix == ".pte" else None)
        flat = Accuracy(Difference(1.0, 1.0, 200.0, 0.0, 200.0), 1)
        assert judge(Candidate("a", flat, 1.0, 1), flat, limits).outcome is Outcome.WRONG, "a constant never passes"


class _Undelegated(nn.Module):
    """Most of the work is a product of integers, which XNNPACK leaves to the portable kernels."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.conv = nn.Conv2d(3, 1, 1)
        self.register_buffer("table", torch.randint(-9, 9, (32, 64)))

    table: Tensor

    def forward(self, x: Tensor) -> Tensor:
        product = torch.matmul((x[0, 0] * 100).to(torch.int64), self.table).float()
        return self.conv(x).mean() + product / 1000


class _NoProducts(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return torch.sin(x) + 1


def test_a_program_that_runs_beside_its_delegate_is_told(tmp_path: Path) -> None:
    (result,) = _exported(_Undelegated(), tmp_path / "out", "xnnpack-fp32").results
    assert result.verdict.outcome is Outcome.NOT_DELEGATED and not result.verdict.passed
    assert result.verdict.reason.startswith("delegated_compute 0.0") and "limit >= 0.95" in result.verdict.reason


def test_a_module_without_products_has_none_to_delegate(tmp_path: Path) -> None:
    (result,) = _exported(_NoProducts(), tmp_path / "out", "xnnpack-fp32").results
    assert result.verdict.outcome is Outcome.VERIFIED
    assert result.artefact and result.artefact.delegation and result.artefact.delegation.total_macs == 0
    assert "delegated_compute" not in [c.name for c in result.verdict.checks]
    assert Delegation(0, {"sin": 1}, 0, 0).compute_share == 0.0


def test_a_metric_of_the_users_own_is_judged_and_shown(tmp_path: Path) -> None:
    truth = [(24.0 + 0 * p[:, :1]).numpy() for p in _pictures()[2:]]

    def abs_rel(outputs: Any, references: Any) -> float:
        return float(np.mean([np.mean(np.abs(o[0] - t) / t) for o, t in zip(outputs, truth, strict=True)]))

    for limit, passes in ((1e-3, True), (-1e-9, False)):
        limits = ({"xnnpack-fp32": Limits(metric_loss=limit, metric=0.5)}, "own")
        found = _exported(
            _Wall(), tmp_path / "out", "xnnpack-fp32", metrics=[Metric("abs_rel", abs_rel, unit="m/m")], limits=limits
        )
        assert found.passed is passes
    gate = json.loads((tmp_path / "out" / "gate.json").read_text())
    expected = {"value": pytest.approx(4 / 24, abs=0.02), "better": "lower", "unit": "m/m"}
    assert gate["float"]["metrics"] == {"abs_rel": expected}
    assert [(c["name"], c["of"]) for c in gate["recipes"][0]["checks"]] == [
        ("metric_loss", "abs_rel"),
        ("metric", "abs_rel"),
    ]
    card = (tmp_path / "out" / "MODEL_CARD.md").read_text()
    assert "| abs_rel m/m (lower is better) |" in card and "abs_rel against the truth" in card


def test_the_card_says_where_weights_come_from_or_that_nobody_knows(wall: ExportResult, tmp_path: Path) -> None:
    card = (wall.folder / "MODEL_CARD.md").read_text()
    commit = json.loads((wall.folder / "manifest.json").read_text())["commit"]
    assert "- origin of the weights: unknown\n" in card and "| largest gap m |" in card
    if commit:
        assert f"- exported by: dualpix 0.1.0, source commit {commit}" in card
    stated = _exported(_Wall(), tmp_path / "out", "xnnpack-fp32", weights_origin="https://example.org/wall, 2026")
    assert "- origin of the weights: https://example.org/wall, 2026\n" in (stated.folder / "MODEL_CARD.md").read_text()


def test_the_table_fits_80_columns(wall: ExportResult, tiny_export: ExportResult) -> None:
    for result in (wall, tiny_export):
        console = Console(width=80, force_terminal=False)
        with console.capture() as shown:
            console.print(table_of(result))
        text = shown.get()
        assert max(len(line.rstrip()) for line in text.splitlines()) <= 80
        # a metric says more of a network than its structure does
        assert "…" not in text and ("struct" in text) == (result.reference.metric is None)
        assert sum("xnnpack-int8" in line.replace(" ", "") for line in text.splitlines()) >= 1


FACTORY = """
import torch
from torch import nn


def net():
    torch.manual_seed(0)
    module = nn.Sequential(nn.Conv2d(1, 4, 3, padding=1), nn.ReLU(), nn.Conv2d(4, 1, 3, padding=1))
    return module, [(torch.rand(1, 1, 16, 24),) for _ in range(3)], {"weights_origin": "seed 0", "unit": "m"}


def score(outputs, targets):
    return sum(float(abs(o - t).mean()) for o, t in zip(outputs, targets)) / len(outputs)


def merit(outputs, targets):
    return -score(outputs, targets)
"""


@pytest.fixture
def nets(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    name = f"own_{uuid4().hex}"
    (tmp_path / f"{name}.py").write_text(FACTORY)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("sys.path", list(sys.path))
    return name


def test_data_and_metric_of_the_users_own_through_the_command(nets: str) -> None:
    for folder, count in (("calibrate", 2), ("judge", 3)):
        Path(folder).mkdir()
        for k in range(count):
            image = np.random.default_rng(k).random((1, 1, 16, 24))
            truth = {"truth": np.zeros((1, 1, 16, 24))} if folder == "judge" else {}
            np.savez(f"{folder}/{k}.npz", input=image, **truth)
    asked = ["-o", "out", "--recipe", "xnnpack-fp32", "--rounds", "1", "--metric", f"{nets}:score"]
    data = ["--calibrate-with", "calibrate", "--evaluate-with", "judge"]
    done = CliRunner().invoke(command, [f"{nets}:net", *asked, *data, "--metric-better", "lower"])
    assert done.exit_code == 0, done.output
    assert "note: 2 files of 'calibrate' calibrate; 3 files of 'judge' judge\n" in done.stdout
    manifest = json.loads(Path("out/manifest.json").read_text())
    assert manifest["model"]["weights_origin"] == "seed 0" and manifest["model"]["factory"] == f"{nets}:net"
    assert manifest["outputs"][0]["unit"] == "m" and manifest["evaluation"]["samples"] == 3
    assert manifest["gate"]["float"]["metrics"]["score"]["value"] > 0, "the distance to a truth of zeros"
    merit = CliRunner().invoke(command, [f"{nets}:net", *asked[:-1], f"{nets}:merit"])
    assert merit.exit_code == 1 and "a constant does better" in str(merit.exception)


def test_which_inputs_calibrate_and_which_judge_is_said(nets: str) -> None:
    done = CliRunner().invoke(command, [f"{nets}:net", "-o", "out", "--recipe", "xnnpack-fp32", "--rounds", "1"])
    assert done.exit_code == 0, done.output
    assert f"note: inputs 1 to 2 of the 3 that {nets}:net gives calibrate; input 3 of the 3 that" in done.stdout


def test_limits_of_a_recipe_that_is_not_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "limits.json"
    path.write_text(json.dumps({"format": 1, "recipes": {"xnnpack-in8": {"sqnr_db": 20}}}))
    with pytest.raises(Exception, match=r"unknown recipe in 'limits.json' 'xnnpack-in8'; expected one of: coreai-fp16"):
        read_limits(path, has_metric=False)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (lambda: '{"format": 1, "recipes": {"xnnpack-int8": {"sqnr_db": 1e999}}}', "1e999 is no number"),
        (lambda: '{"format": 1, "recipes": {"xnnpack-int8": {"size_bytes": %s}}}' % ("9" * 4000), "4000 digits"),
        (lambda: '{"format": 1, "recipes": {"xnnpack-int8": {"size_bytes": %s}}}' % ("9" * 5000), "does not read"),
        (lambda: "[" * 100_000, "nested too deeply"),
        (lambda: '{"format": 1, "recipes": {"xnnpack-int8": %s}}' % ("[" * 400 + "]" * 400), "nested too deeply"),
        (lambda: '{"format": 1, "recipes": {"xnnpack-int8": {"sqnr_db": NaN}}}', "no number"),
    ],
)
def test_absurd_limits_are_one_line(tmp_path: Path, content: Callable[[], str], message: str) -> None:
    path = tmp_path / "limits.json"
    path.write_text(content())
    with pytest.raises(Exception, match=message) as raised:
        read_limits(path, has_metric=False)
    assert len(str(raised.value)) < 700
