"""The benchmark suites run and give results of the one form; committed result files have it."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from benchmarks import capture, lightfield
from benchmarks.depth import confidence_suite
from benchmarks.record import Figure, RecordError, Result, Row, machine_slug, new_result, read_result
from benchmarks.render import flatness_suite, throughput_suite
from benchmarks.run import RESULTS, SUITES, batch_suite, decode_suite, memory_suite, run_suite
from benchmarks.suite import Suite
from benchmarks.training_data import loading_suite
from click.testing import CliRunner
from docs.make_tables import table

from dualpix.capture.processor import host_processor
from dualpix.capture.render.compare import compare
from dualpix.export.bench import Latency

ROOT = Path(__file__).parents[1]
# the suites of `benchmarks.run`, and the two that have a command of their own
EVERY_SUITE = {*SUITES, lightfield.NAME, capture.NAME}
COMMITTED = sorted([*RESULTS.glob("*.json"), *(ROOT / "docs" / "results").glob("*.json")])


def a_result() -> Result:
    row = Row("a", {"time": Figure.of([1.0, 2.0, 4.0]), "size": Figure.exact(7)})
    return new_result("Title", "make it", {"time": "s", "size": "bytes"}, [row])


def test_a_result_survives_the_file(tmp_path: Path) -> None:
    result = a_result()
    result.write(tmp_path / "r.json")
    assert read_result(tmp_path / "r.json") == result
    assert re.fullmatch(r"[0-9a-f]{40}(-dirty)?|unknown", result.commit)
    assert result.versions["torch"] and result.machine["processor"]


def test_a_table_names_the_class_of_the_processor() -> None:
    result = a_result()
    assert result.machine["class"] == (host_processor().class_name or "unknown")
    words = f"{result.machine['system']}, {result.machine['processor']}, {result.machine['class']}"
    assert words in table(result)
    # files from before classes, and one measured with PyTorch held back
    former = {name: result.machine[name] for name in ("system", "processor")}
    assert f"{former['processor']}, class not recorded;" in table(replace(result, machine=former))
    held = {**result.machine, "pytorch": "held to x86-64-avx2 by ONEDNN_MAX_CPU_ISA=AVX2"}
    assert "PyTorch held to x86-64-avx2 by ONEDNN_MAX_CPU_ISA=AVX2;" in table(replace(result, machine=held))
    assert machine_slug(held) == machine_slug(result.machine) != machine_slug(former)
    assert machine_slug({**former, "class": "x86-64-avx2"}).endswith("-x86-64-avx2")


def test_figures_are_median_or_mean_with_quartiles() -> None:
    samples = [5.0, 1.0, 3.0, 2.0, 100.0]
    assert Figure.of(samples) == Figure(3.0, "median", 3.0, 5)
    assert Figure.of(samples, "mean") == Figure(float(np.mean(samples)), "mean", 3.0, 5)
    assert (
        Figure.of(samples).value == Latency.of(samples).median_s and Figure.of(samples).iqr == Latency.of(samples).iqr_s
    )


@pytest.mark.parametrize(
    "change",
    [
        lambda d: d.pop("commit"),
        lambda d: d.update(commit=""),
        lambda d: d.update(format=2),
        lambda d: d.update(surprise=1),
        lambda d: d.update(rows=[]),
        lambda d: d["rows"][0]["figures"].update(speed=d["rows"][0]["figures"]["time"]),
        lambda d: d["rows"][0]["figures"]["time"].update(iqr=None),
        lambda d: d["rows"][0]["figures"]["time"].update(statistic="best"),
        lambda d: d["rows"][0]["figures"]["time"].update(n=0),
        lambda d: d["rows"][0]["figures"]["time"].pop("n"),
        lambda d: d["rows"][0]["figures"]["time"].update(value=float("nan")),
    ],
)
def test_a_file_without_the_form_is_refused(tmp_path: Path, change: Any) -> None:
    data = a_result().to_json()
    change(data)
    path = tmp_path / "r.json"
    path.write_text(json.dumps(data))
    with pytest.raises(RecordError, match=r"r\.json"):
        read_result(path)


@pytest.mark.parametrize("path", COMMITTED, ids=lambda p: p.name)
def test_committed_results_have_the_form(path: Path) -> None:
    result = read_result(path)
    if path.parent == RESULTS:
        suite = path.name.split("--")[0]
        assert suite in EVERY_SUITE and path.name == f"{suite}--{machine_slug(result.machine)}.json"
        assert all(figure.n >= 3 for row in result.rows for figure in row.figures.values())


def test_every_suite_has_a_committed_result() -> None:
    assert {path.name.split("--")[0] for path in RESULTS.glob("*.json")} == EVERY_SUITE


def a_case() -> lightfield.Case:
    """A card in front of a wall: what the ray tracer says of it, but for a trace of light, is the truth."""
    generator = torch.Generator().manual_seed(0)
    image = torch.nn.functional.avg_pool2d(torch.rand(3, 70, 86, generator=generator), 7, 1)
    coc = torch.full((64, 80), 5.0)
    coc[20:44, 25:50] = -5.0
    case = lightfield.Case(image, coc, image, lightfield.ViewAperture(5))
    return replace(case, truth=lightfield.traced(case) + 1e-4)


def test_renderers_against_a_light_field_made_by_the_ray_tracer() -> None:
    case = a_case()
    rows = {row.label: row.figures for row in lightfield.measure([((0, 5), case)] * 3).rows}
    exact, naive, blurless = (
        rows[label]["pair, at edges"].value for label in ("layered, exact", "blur without occlusion", "no blur at all")
    )
    assert exact > 40 and exact > naive + 3 and naive > blurless
    # light of both sides of an edge adds up where nothing blocks it
    assert rows["integral (half squares)"]["pair, at edges"].value < naive
    # left and right are told apart, and a renderer without halves has no pair
    swapped = compare(case.truth.flip(0), case.truth, torch.ones_like(case.coc_px, dtype=torch.bool))
    assert rows["layered, exact"]["pair"].value > swapped.psnr_db + 10
    assert set(rows["gather (disc)"]) == {"full aperture", "full aperture, at edges"}
    assert lightfield.comparison(case).dtype == np.uint8


def test_the_table_of_renderers_is_that_of_the_result_file() -> None:
    (path,) = RESULTS.glob(f"{lightfield.NAME}--*.json")
    rows = [line for line in table(read_result(path)).splitlines() if line.startswith("|")]
    assert "\n".join(rows) in (ROOT / "docs" / "render.md").read_text(), "python -m docs.make_tables has the form"


def test_no_light_field_is_no_failure(tmp_path: Path) -> None:
    done = CliRunner().invoke(lightfield.main, [str(tmp_path), "-o", str(tmp_path / "out")])
    assert done.exit_code == 0 and "skipped: no light field" in done.output and not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("name", "suite"),
    [
        ("decode-cr2", decode_suite("CR2", full_size=False)),
        ("decode-cr3", decode_suite("CR3", full_size=False)),
        ("decode-batch", batch_suite(full_size=False, files=3)),
        ("decode-memory", memory_suite(full_size=False)),
        ("depth-confidence", confidence_suite((96, 128))),
        ("training-data", loading_suite((48, 64), samples=2)),
        ("render-coc5", throughput_suite(5, (64, 96))),
        ("render-flatness", flatness_suite((64, 96))),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_suites_run_and_relate_to_their_reference(name: str, suite: Suite) -> None:
    result = run_suite(name, replace(suite, rounds=1))
    labels = {row.label: row for row in result.rows}
    assert set(labels[suite.reference].figures) == {suite.quantity}
    for row in result.rows:
        figure = row.figures[suite.quantity]
        assert figure.value > 0 and figure.n == 1
        if row.label != suite.reference:
            ratio = row.figures["times the reference"].value
            # the ratio is taken round by round; it cannot leave what the times span
            span = figure.value / labels[suite.reference].figures[suite.quantity].value
            assert 0.1 < ratio / span < 10
