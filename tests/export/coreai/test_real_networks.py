"""The zoo, three foreign networks and every block in Apple's runtime: what the tables of the documentation say."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from tests.export.coreai.conftest import request_of, run_here
from tests.support.blocks import CASES
from tests.support.foreign import foreign_modules, foreign_samples

from dualpix.export.artefact import BuildRequest
from dualpix.export.coreai import build
from dualpix.export.coreai.check import layer_differences
from dualpix.export.coreai.convert import PRECISIONS, prepare
from dualpix.models.zoo import load_model
from dualpix.quantize.calibration import CalibrationSet, rendered_calibration, rendered_evaluation
from dualpix.quantize.keep import keep_modules
from dualpix.quantize.score import sqnr_db

pytestmark = pytest.mark.slow

SIZE_HW = (64, 96)
LEAST_DB = {"fp32": 90, "fp16": 45, "w8": 28, "w4": 9, "w8a8": 12}
"""Least SQNR in dB of the asset against the eager network."""
NETWORKS = ("difusenet-compact", "fmdp-compact", *foreign_modules())


def _request(name: str, folder: Path) -> BuildRequest:
    path = folder / f"{name}.aimodel"
    if name not in foreign_modules():
        model = load_model(name)
        inputs = rendered_evaluation(1, SIZE_HW, model.spec).samples[0].inputs
        keep = keep_modules(*model.card.get("keep_float", ()))
        calibration = rendered_calibration(4, SIZE_HW, model.spec)
        names, outputs = model.spec.input_names, tuple(model.spec.outputs) or (model.spec.output,)
        return BuildRequest(model.module, "fp16", path, inputs, names, outputs, calibration, keep)
    module, _ = foreign_modules()[name]()
    inputs = foreign_samples(name, 1, seed=7)[0]
    calibration = CalibrationSet(tuple(foreign_samples(name, 4, seed=1)), "four samples")
    names = tuple(f"image_{k}" for k in range(len(inputs)))
    return BuildRequest(module.eval(), "fp16", path, inputs, names, ("output",), calibration)


@pytest.mark.parametrize("precision", PRECISIONS)
@pytest.mark.parametrize("name", NETWORKS)
def test_assets_agree_with_the_network(name: str, precision: str, tmp_path: Path) -> None:
    artefact = build(replace(_request(name, tmp_path), precision=precision))
    found = artefact.details["ran"]["sqnr_db"]
    print(f"{name} {precision}: {found:.1f} dB, {artefact.size_bytes} bytes")
    assert found > LEAST_DB[precision]


@pytest.mark.parametrize("name", CASES)
def test_blocks_are_right(name: str) -> None:
    case = CASES[name]
    inputs = case.samples((32, 32), 1, 5)[0]
    with torch.no_grad():
        expected = case.network((32, 32), plain=True)(*inputs)
    assert sqnr_db(expected, run_here(request_of(case.network((32, 32)), inputs))) > 90


def test_layers_of_a_large_network_are_compared_by_name(tmp_path: Path) -> None:
    request = _request("difusenet-compact", tmp_path)
    with torch.no_grad():
        layers = layer_differences(request, prepare(request))
    assert len(layers) > 50 and min(layer.sqnr_db for layer in layers) > 25
    assert sum(bool(layer.module) for layer in layers) > 40
