from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from benchmarks.apple_three_ways import COLUMNS, WAYS, first_outputs, rows_of
from safetensors.torch import save_file

from dualpix.export.flow.record import REFERENCE
from dualpix.export.manifest import FORMAT, write_manifest
from dualpix.export.recipes import RECIPES


def _entry(recipe: str, sqnr_db: float | None) -> dict[str, Any]:
    return {"recipe": recipe, "accuracy": None if sqnr_db is None else {"from_float": {"sqnr_db": sqnr_db}}}


def test_a_row_for_each_precision() -> None:
    recipes = [recipe for ways in WAYS.values() for recipe in ways]
    assert set(recipes) <= set(RECIPES)
    entries = [_entry(recipe, None if recipe == "coreai-w8" else 50.0 + k) for k, recipe in enumerate(recipes)]
    wave = torch.sin(torch.arange(24.0)).reshape(1, 1, 4, 6)
    outputs = {recipe: wave * (1 + 0.01 * k) for k, recipe in enumerate(recipes[:6])}
    first, second, third = rows_of("net", {"recipes": entries}, outputs, "; furthest: here")
    assert first.label == "net, float32" and second.label == "net, float16; furthest: here"
    assert set(first.figures) == set(COLUMNS) and first.figures["Core AI, run"].value == 51.0
    assert abs(first.figures["Core AI from Core ML"].value - 40.0) < 1e-3, "a hundredth apart"
    assert set(third.figures) == {"Core ML, interpreted", "XNNPACK, run"}, "what was not written has no figure"


def test_programs_are_compared_by_the_first_output(tmp_path: Path) -> None:
    """Not by the first in the alphabet: ``confidence`` comes before ``disparity_px``."""
    disparity, confidence = torch.ones(1, 1, 2, 2), torch.zeros(1, 1, 2, 2)
    save_file({"output.a.disparity_px": disparity, "output.a.confidence": confidence}, tmp_path / REFERENCE)
    outputs = [{"name": "disparity_px"}, {"name": "confidence"}]
    write_manifest(tmp_path, {"format": FORMAT, "artefacts": [], "files": [], "outputs": outputs})
    (found,) = first_outputs(tmp_path, ["a", "b"]).items()
    assert found[0] == "a" and torch.equal(found[1], disparity)
