from __future__ import annotations

import json

from benchmarks.export_matrix import COLUMNS, Asked, _command, main, networks, rows_of

from dualpix.export.flow import ExportResult
from dualpix.models.zoo.cards import DEFAULT_MODEL, known_models


def test_a_row_for_each_recipe(foreign_export: ExportResult) -> None:
    gate = json.loads((foreign_export.folder / "gate.json").read_text())
    failed = gate["recipes"][0] | {
        "recipe": "qnn-int8", "file": None, "outcome": "not written", "reason": "no SDK: install it", "accuracy": None,
        "delegation": None, "size_bytes": None,
    }  # fmt: skip
    ran, broken = rows_of("net", gate | {"recipes": [*gate["recipes"], failed]})
    assert ran.label == "net, xnnpack-fp32: runs, delegated, right" and set(ran.figures) == set(COLUMNS) - {
        "metric loss"
    }
    assert ran.figures["delegated"].value == 100.0
    assert ran.figures["times faster than eager"].n == 1
    assert broken.label == "net, qnn-int8: not written: no SDK"
    assert {name: f.value for name, f in broken.figures.items()} == {"exports": 0.0}


def test_rows_are_of_what_was_asked(foreign_export: ExportResult) -> None:
    gate = json.loads((foreign_export.folder / "gate.json").read_text())
    with_truth = gate["recipes"][0] | {"recipe": "coreai-w8", "metric_loss": 0.0042}
    (row,) = rows_of("net", gate | {"recipes": [*gate["recipes"], with_truth]}, ("coreai-w8",))
    assert row.label.startswith("net, coreai-w8") and row.figures["metric loss"].value == 0.42


def test_the_networks_are_all_of_the_zoo_and_three_others() -> None:
    assert list(networks()) == [
        DEFAULT_MODEL, *(n for n in known_models() if n != DEFAULT_MODEL),
        "mobilenet-depth", "vit-s14", "raft-like",
    ]  # fmt: skip


def test_the_command_of_a_table_makes_it_again() -> None:
    asked = Asked(("coreai-w8",), 1, (96, 128), 4, 6)
    words = _command(asked, ["dplive"]).split()[3:]
    with main.make_context("export-matrix", [*words, "--rounds", "1"]) as context:
        again = {k: v for k, v in context.params.items() if k not in {"output", "work", "chosen"}}
        assert Asked(**again) == asked and context.params["chosen"] == ("dplive",)
