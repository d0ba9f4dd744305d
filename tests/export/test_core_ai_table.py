from __future__ import annotations

import json
from pathlib import Path

from benchmarks.core_ai import COLUMNS, MADE, row_of, table

_ENTRY = {
    "outcome": "right", "reason": "", "SQNR": 36.9, "from its graph": 59.6, "metric loss": -0.14, "size": 0.56,
    "stored": {"weights_int8": 39, "weights_palette": 0, "weights_float16": 6},
}  # fmt: skip


def test_a_row_says_how_weights_are_stored_and_what_is_short() -> None:
    row = row_of("net", "coreai-w8", _ENTRY)
    assert row.label == "net, coreai-w8: right (weights: 39 int8, 6 float16)" and set(row.figures) == set(COLUMNS)
    short = row_of("net", "coreai-w4", _ENTRY | {"outcome": "over its limits", "reason": "sqnr 4", "metric loss": None})
    assert short.label.endswith("float16): sqnr 4") and "metric loss" not in short.figures
    refused = row_of("net", "coreai-w4", {"outcome": "not written", "reason": "no such operator"})
    assert refused.label == "net, coreai-w4: not written: no such operator"
    assert {name: f.value for name, f in refused.figures.items()} == {"size": 0.0}


def test_what_is_stored_is_shown_without_measuring(tmp_path: Path) -> None:
    (tmp_path / "dplive-coreai-w8.json").write_text(json.dumps(_ENTRY))
    result = table(tmp_path, (96, 128), ["dplive", "raft-like"], stored=True)
    assert [row.label.split(":")[0] for row in result.rows] == ["dplive, coreai-w8"]
    assert {recipe.name for recipe in MADE} >= {"coreai-w4", "coreai-w8a8"}
