"""The table of the networks: every figure is one of the files that commands wrote."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner
from docs.make_tables import table
from docs.make_zoo_table import FP32, INT8, PROFILE, zoo_result
from docs.record_results import export_result

from dualpix.capture.cli import root
from dualpix.capture.errors import DualpixError
from dualpix.export.bench import stored_ratio
from dualpix.export.flow.result import ExportResult
from dualpix.export.profile.result import read_profiles


def record(data: str, *rows: tuple[str, float, float | None]) -> dict[str, Any]:
    """As ``dualpix evaluate --json`` prints it: (method, error, error near edges) of each scene."""
    error_key, edge_key = ("mae_px", "edge_mae_px") if data.startswith("rendered") else ("ai1", "edge_ai1")
    scenes = [
        {"scene": f"{i}", "method": method, error_key: error, edge_key: edge}
        for i, (method, error, edge) in enumerate(rows)
    ]
    return {"data": data, "scenes": scenes}


def test_sets_come_in_one_order_with_their_spread_and_edges_where_there_are_any() -> None:
    pixel4 = record("pixel4-xin", ("sgbm", 0.1, 0.2), ("net", 0.05, 0.1), ("sgbm", 0.3, 0.4))
    phone = record("rendered:phone", ("sgbm", 0.4, None), ("net", 0.2, None), ("sgbm", 0.6, None))
    result = zoo_result([pixel4, phone], [])
    assert result.columns == {
        "rendered:phone: MAE": "px", "pixel4-xin: AI(1)": "", "pixel4-xin: edge AI(1)": ""
    }  # fmt: skip
    matched, net = result.rows
    assert (matched.label, net.label) == ("sgbm", "net")
    assert matched.figures["rendered:phone: MAE"].value == pytest.approx(0.5)
    assert (
        matched.figures["rendered:phone: MAE"].iqr == pytest.approx(0.1) and matched.figures["pixel4-xin: AI(1)"].n == 2
    )
    assert net.figures["pixel4-xin: edge AI(1)"].value == pytest.approx(0.1)
    with pytest.raises(DualpixError, match="two scores on rendered:phone; expected one file of each set"):
        zoo_result([phone, phone], [])


def test_costs_are_those_of_the_export_and_of_its_profile(tiny_export: ExportResult, tmp_path: Path) -> None:
    folder = Path(shutil.copytree(tiny_export.folder, tmp_path / "out"))
    gate, manifest = (json.loads((folder / f"{name}.json").read_text()) for name in ("gate", "manifest"))
    phone = record("rendered:phone", (gate["model"], 0.2, 0.4), ("sgbm", 0.6, 0.9))
    (net, matched) = zoo_result([phone], [folder]).rows
    assert set(matched.figures) == {"rendered:phone: MAE", "rendered:phone: edge MAE"}, "matching has no weights"
    assert net.figures["parameters"].value == manifest["model"]["parameters"] / 1e3
    int8 = next(entry for entry in gate["recipes"] if entry["recipe"] == INT8)
    assert net.figures["work"].value == int8["delegation"]["total_macs"] / 1e9 > 0
    assert net.figures["int8 loss"].value == pytest.approx(100 * int8["metric_loss"])
    ratios = stored_ratio(gate["benchmark"], INT8, FP32).samples
    assert net.figures["int8: times faster than float"].value == pytest.approx(np.median(ratios))
    assert "memory, int8" not in net.figures, "nobody profiled it"

    done = CliRunner().invoke(root, ["profile", str(folder), "-o", str(folder / PROFILE), "--runs", "2"])
    assert done.exit_code == 0, done.output
    peaks = {p.subject.recipe: p.memory.peak_rss_bytes for p in read_profiles(folder / PROFILE)}
    result = zoo_result([phone], [folder])
    shown = result.rows[0].figures["memory, int8"].value
    assert shown == (peaks[INT8] or 0) / 1e6 > 0
    height, width = gate["benchmark"]["size_hw"]
    assert f"{height} x {width} px" in result.title and f"| {shown:.4g} |" in table(result)

    with pytest.raises(DualpixError, match=f"no score of '{gate['model']}'"):
        zoo_result([record("rendered", ("sgbm", 1.0, 1.0))], [folder])
    gate["benchmark"]["size_hw"] = [384, 512]
    other = Path(shutil.copytree(folder, tmp_path / "other"))
    (other / "gate.json").write_text(json.dumps(gate))
    with pytest.raises(DualpixError, match="expected one size"):
        zoo_result([phone], [folder, other])


def test_an_export_becomes_a_result(tiny_export: ExportResult) -> None:
    result = export_result(tiny_export.folder, "Exported")
    gate = json.loads((tiny_export.folder / "gate.json").read_text())
    floating, *recipes = result.rows
    assert floating.figures["AI(1)"].value == gate["float"]["metrics"]["AI(1)"]["value"]
    int8 = next(row for row in recipes if row.label.startswith(INT8))
    entry = next(entry for entry in gate["recipes"] if entry["recipe"] == INT8)
    assert int8.figures["AI(1)"].value == entry["accuracy"]["metrics"]["AI(1)"]["value"]
    assert int8.figures["size"].value == entry["size_bytes"] / 1e6
