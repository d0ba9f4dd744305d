from __future__ import annotations

import csv
import json
from pathlib import Path
from typing import Any

import click
import pytest
from click.testing import CliRunner, Result
from tests.support.tiny_net import tiny_model

from dualpix.capture.errors import DualpixError
from dualpix.quantize.search import cli, cli_run
from dualpix.quantize.search.assignment import Assignment

_FAST = ["--size", "64x96", "--calibration-count", "2", "--held-back-count", "2", "--ranking-count", "1"]


@pytest.fixture
def tiny(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(cli_run, "load_model", lambda name: tiny_model(tmp_path))


def _run(*arguments: str) -> Result:
    return CliRunner().invoke(cli.command, [*arguments], catch_exceptions=False)


def test_writes_assignment_picture_table_and_facts(tiny: None, tmp_path: Path) -> None:
    out = tmp_path / "out"
    result = _run("-o", str(out), *_FAST, "--budget", "5%", "--json")
    assert sorted(p.name for p in out.iterdir()) == sorted(
        [cli_run.ASSIGNMENT, cli_run.PICTURE, cli_run.TABLE, cli_run.FACTS]
    )
    assignment = Assignment.from_json(json.loads((out / cli_run.ASSIGNMENT).read_text()))
    assert json.loads(result.stdout) == assignment.to_json()
    assert result.exit_code == (0 if assignment.within_budget else 1)
    assert assignment.budget == 0.05 and assignment.held_back_loss is not None
    rows = list(csv.DictReader((out / cli_run.TABLE).open()))
    assert {r["layer"] for r in rows} == {"image.0", "encode.0", "encode.3", "join.0", "head"}
    assert all(r["rms_saved_by_float"] for r in rows) and (out / cli_run.PICTURE).read_bytes().startswith(b"\x89PNG")
    facts: dict[str, Any] = json.loads((out / cli_run.FACTS).read_text())
    assert facts["calibration"]["sha256"] != facts["held_back"]["sha256"]
    assert [c["input"] for c in facts["coverage"]] == ["image", "left", "right"]


def test_the_text_for_people_says_what_stays_float(tiny: None, tmp_path: Path) -> None:
    result = _run("-o", str(tmp_path / "out"), *_FAST, "--budget", "0.9")
    assert result.exit_code == 0
    assert "float: nothing; 100.0% of the multiply-accumulates in int8" in result.stdout
    assert "budget 90.00%: held" in result.stdout and "held-back" in result.stdout


@pytest.mark.parametrize("budget", ["0", "-1%", "101%", "x", "1%%", "nan", ""])
def test_odd_budgets_are_refused(budget: str, tmp_path: Path) -> None:
    result = _run("-o", str(tmp_path / "out"), "--budget", budget)
    assert result.exit_code == 2 and not (tmp_path / "out").exists()


@pytest.mark.parametrize(("text", "budget"), [("1%", 0.01), ("0.01", 0.01), ("0.25%", 0.0025), ("100%", 1.0)])
def test_budgets_are_shares_or_per_cent(text: str, budget: float) -> None:
    context, option = click.Context(cli.command), cli.command.params[0]
    assert cli._parse_budget(context, option, text) == pytest.approx(budget)


def test_a_size_the_network_cannot_take_writes_nothing(tiny: None, tmp_path: Path) -> None:
    with pytest.raises(DualpixError, match="multiples of 32 px"):
        _run("-o", str(tmp_path / "out"), "--size", "63x96")
    assert not (tmp_path / "out").exists()


def test_a_file_in_the_way_is_said_before_any_work(tiny: None, tmp_path: Path) -> None:
    (tmp_path / "out").write_text("mine")
    with pytest.raises(DualpixError, match="cannot write to output folder"):
        _run("-o", str(tmp_path / "out"), *_FAST)
    assert (tmp_path / "out").read_text() == "mine"
