"""What the table of runtimes says of the shape of surfaces, by hand; the runtimes themselves where they are here."""

from __future__ import annotations

import json
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest
from benchmarks.record import read_result
from benchmarks.runtimes import _within, added_roughness, equal_neighbours, main, roughness
from click.testing import CliRunner
from docs.record_results import paired_result

ROWS, COLUMNS = np.mgrid[:48, :70].astype(np.float64)
PLANE = 0.5 + 0.01 * ROWS - 0.02 * COLUMNS


def test_a_plane_is_smooth_and_has_no_equal_neighbours() -> None:
    assert roughness(PLANE) == pytest.approx(np.zeros(3 * 4), abs=1e-12)
    assert equal_neighbours(PLANE) == 0


def test_terraces_are_rough_and_equal() -> None:
    """Steps of 0.08 on a slope of 0.02: three neighbours of four are equal, and lie up to half a step off."""
    terraces = 0.08 * np.floor(0.25 * COLUMNS)
    assert equal_neighbours(terraces) == pytest.approx(52 / 69)
    assert roughness(terraces).mean() == pytest.approx(0.08 * np.sqrt((1 - 1 / 16) / 12), rel=0.1)


def test_what_is_added_is_relative_to_the_smoother_half() -> None:
    rng = np.random.default_rng(0)
    reference = PLANE + 0.01 * rng.standard_normal(PLANE.shape)
    reference[:, 32:] += 5 * rng.standard_normal((48, 38))  # the other half
    found = reference + 0.002 * rng.standard_normal(PLANE.shape)
    assert added_roughness(found, reference) == pytest.approx(0.2, rel=0.1)
    assert added_roughness(reference + 3 * PLANE, reference) == pytest.approx(0, abs=1e-9)


def test_layers_are_known_by_the_names_of_their_nodes() -> None:
    assert _within("/slope/Conv", ("slope",)) and _within("/fuse/half/Conv_1", ("fuse.half",))
    assert not _within("/slopes/Conv", ("slope",)) and not _within("/at4/at4.0/slope/Conv", ("slope",))


def test_paired_differences_become_a_table() -> None:
    one = {"mean": -0.25, "interval_95": [-0.5, 0.125], "scenes": 7, "relative": -0.5}
    record = {
        "data": "rendered:phone",
        "protocol": {"unit": "disparity_px"},
        "difference_from": "a",
        "mean": {"a": {"mae_px": 0.5}, "b": {"mae_px": 0.25}},
        "difference": {"b": {"mae_px": one}},
        "interval_of": "bootstrap",
    }
    (row,) = paired_result([record], "Paired").rows
    assert row.label == "rendered:phone, mean error, px: b"
    assert [f.value for f in row.figures.values()] == [0.5, 0.25, -0.25, -0.5, 0.125, 7]


@pytest.mark.slow
@pytest.mark.skipif(not all(map(find_spec, ("onnx", "onnxruntime", "openvino", "nncf"))), reason="optional runtimes")
def test_all_runtimes_agree_in_float(tmp_path: Path) -> None:
    from dualpix.export.flow import export_model
    from dualpix.models.zoo import load_model
    from dualpix.quantize.calibration import rendered_calibration, rendered_evaluation

    data = rendered_calibration(2, (64, 96)), rendered_evaluation(1, (64, 96))
    export_model(load_model("dplive"), tmp_path / "live", ["xnnpack-fp32", "xnnpack-int8"], *data, rounds=1)
    words = [
        str(tmp_path / "live"),
        "-o",
        str(tmp_path / "r.json"),
        "--rounds",
        "2",
        "--calibrate",
        "2",
        "--judge",
        "1",
    ]
    done = CliRunner().invoke(main, words)
    assert done.exit_code == 0, done.output or done.exception
    rows = {row.label.split(": ")[1]: row.figures for row in read_result(tmp_path / "r.json").rows}
    assert len(rows) == 9 and json.loads((tmp_path / "r.json").read_text())["columns"]["time"] == "ms"
    for name, figures in rows.items():
        assert figures["agreement"].value > (15 if "int8" in name else 60), name
