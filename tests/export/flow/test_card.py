from __future__ import annotations

import json
import re
from typing import Any

import pytest

from dualpix.export.flow import ExportResult
from dualpix.export.flow.card import model_card


@pytest.fixture
def manifest(foreign_export: ExportResult) -> dict[str, Any]:
    loaded: dict[str, Any] = json.loads((foreign_export.folder / "manifest.json").read_text())
    return loaded


def test_the_card_says_what_the_manifest_says(manifest: dict[str, Any]) -> None:
    card = model_card(manifest)
    for text in (
        manifest["evaluation"]["sha256"],
        manifest["calibration"]["sha256"],
        manifest["evaluation"]["protocol"],
        manifest["created"],
        f"torch {manifest['versions']['torch']}",
        "| xnnpack-fp32 | `net-xnnpack-fp32.pte` |",
        "The gate passes",
    ):
        assert text in card, text
    assert "AI(1)" not in card, "there is no truth for a foreign module"


def test_front_matter_is_what_model_hubs_read(manifest: dict[str, Any]) -> None:
    manifest["model"] |= {"licence": "Apache-2.0", "network": "difusenet"}
    front = model_card(manifest).split("---\n")[1]
    assert 'license: "apache-2.0"' in front and "pipeline_tag: depth-estimation" in front
    assert re.search(r"^tags:\n(- [a-z-]+\n)+", front, re.M)


def test_a_failed_recipe_is_shown_with_its_reason(manifest: dict[str, Any]) -> None:
    failed = {"file": None, "outcome": "not written", "reason": "a | b\nc <x>", "accuracy": None, "delegation": None}
    manifest["gate"]["recipes"].append(manifest["gate"]["recipes"][0] | failed | {"size_bytes": None})
    manifest["gate"]["passed"] = False
    card = model_card(manifest)
    assert "not written: a \\| b c &lt;x> |" in card and "The gate **fails**" in card


def test_no_text_leaves_its_line(manifest: dict[str, Any]) -> None:
    manifest["model"] |= {"name": "n\n# injected", "licence": 'x"\nevil: 1', "summary": "s\n---\n<script>"}
    card = model_card(manifest)
    assert "\n# injected" not in card and "\nevil" not in card and "<script" not in card
    assert card.count("\n---\n") == 1
