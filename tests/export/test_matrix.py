from __future__ import annotations

import json

from benchmarks.export_matrix import COLUMNS, networks, rows_of

from dualpix.export.flow import ExportResult


def test_a_row_for_each_recipe(foreign_export: ExportResult) -> None:
    gate = json.loads((foreign_export.folder / "gate.json").read_text())
    failed = gate["recipes"][0] | {
        "recipe": "qnn-int8", "file": None, "outcome": "not written", "reason": "no SDK: install it", "accuracy": None,
        "delegation": None, "size_bytes": None,
    }  # fmt: skip
    ran, broken = rows_of("net", gate | {"recipes": [*gate["recipes"], failed]})
    assert ran.label == "net, xnnpack-fp32: runs, delegated, right" and set(ran.figures) == set(COLUMNS)
    assert ran.figures["delegated"].value == 100.0
    assert ran.figures["times faster than eager"].n == 1
    assert broken.label == "net, qnn-int8: not written: no SDK"
    assert {name: f.value for name, f in broken.figures.items()} == {"exports": 0.0}


def test_the_networks_are_ours_and_three_others() -> None:
    assert list(networks()) == ["difusenet-compact", "mobilenet-depth", "vit-s14", "raft-like"]
