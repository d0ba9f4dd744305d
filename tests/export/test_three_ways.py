from __future__ import annotations

from typing import Any

import torch
from benchmarks.apple_three_ways import COLUMNS, NETWORKS, WAYS, rows_of

from dualpix.export.recipes import RECIPES


def _entry(recipe: str, sqnr_db: float | None) -> dict[str, Any]:
    return {"recipe": recipe, "accuracy": None if sqnr_db is None else {"from_float": {"sqnr_db": sqnr_db}}}


def test_a_row_for_each_precision() -> None:
    recipes = [recipe for ways in WAYS.values() for recipe in ways]
    assert set(recipes) <= set(RECIPES) and NETWORKS
    entries = [_entry(recipe, None if recipe == "coreai-w8" else 50.0 + k) for k, recipe in enumerate(recipes)]
    wave = torch.sin(torch.arange(24.0)).reshape(1, 1, 4, 6)
    outputs = {recipe: wave * (1 + 0.01 * k) for k, recipe in enumerate(recipes[:6])}
    first, second, third = rows_of("net", {"recipes": entries}, outputs, "; furthest: here")
    assert first.label == "net, float32" and second.label == "net, float16; furthest: here"
    assert set(first.figures) == set(COLUMNS) and first.figures["Core AI, run"].value == 51.0
    assert abs(first.figures["Core AI from Core ML"].value - 40.0) < 1e-3, "a hundredth apart"
    assert set(third.figures) == {"Core ML, interpreted", "XNNPACK, run"}, "what was not written has no figure"
