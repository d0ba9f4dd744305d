"""The shipped network and three foreign ones at every precision: what the tables of the documentation say."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path

import pytest
from click.testing import CliRunner
from tests.support.foreign import foreign_modules, foreign_samples

from dualpix.capture.cli import root
from dualpix.export.artefact import BuildRequest, ExportError
from dualpix.export.coreml import Interpreter, build, check_numerics, layer_differences
from dualpix.models.zoo import load_model
from dualpix.quantize.calibration import CalibrationSet, rendered_calibration, rendered_evaluation

pytestmark = pytest.mark.slow

SIZE_HW = (128, 160)
LEAST_DB = {
    "difusenet": {"fp32": 100, "fp16": 50, "w8": 35, "w4-palettized": 14, "w8a8": 15},
    "mobilenet-depth": {"fp32": 90, "fp16": 35, "w8": 30, "w4-palettized": 8, "w8a8": 12},
    "raft-like": {"fp32": 100, "fp16": 50, "w8": 40, "w4-palettized": 20, "w8a8": 25},
    "vit-s14": {"fp32": 100, "fp16": 50, "w8": 32, "w4-palettized": 11, "w8a8": 10},
}
"""Least SQNR in dB of the interpreted package against the eager network, by network and precision."""

CASES = [(name, precision) for name, limits in LEAST_DB.items() for precision in limits]


def _request(name: str, folder: Path) -> BuildRequest:
    path = folder / f"{name}.mlpackage"
    if name == "difusenet":
        model = load_model("difusenet-compact")
        inputs = rendered_evaluation(1, SIZE_HW).samples[0].inputs
        names = tuple(n for n, _ in model.spec.inputs)
        return BuildRequest(
            model.module, "fp16", path, inputs, names, (model.spec.output,), rendered_calibration(4, SIZE_HW)
        )
    module, _ = foreign_modules()[name]()
    inputs = foreign_samples(name, 1, seed=7)[0]
    calibration = CalibrationSet(tuple(foreign_samples(name, 4, seed=1)), "four samples")
    names = tuple(f"image_{k}" for k in range(len(inputs)))
    return BuildRequest(module.eval(), "fp16", path, inputs, names, ("output",), calibration)


@pytest.mark.parametrize(("name", "precision"), CASES)
def test_packages_agree_with_the_network(name: str, precision: str, tmp_path: Path) -> None:
    artefact = build(replace(_request(name, tmp_path), precision=precision))
    numerics = artefact.details["interpreted"]
    print(f"{name} {precision}: {numerics['sqnr_db']:.1f} dB, {artefact.size_bytes} bytes")
    assert numerics["sqnr_db"] > LEAST_DB[name][precision]


def test_a_corrupted_weight_of_a_large_network_is_caught_and_placed(tmp_path: Path) -> None:
    request = _request("difusenet", tmp_path)
    build(request)
    layers = layer_differences(Interpreter(request.path), request)
    assert len(layers) > 50 and min(layer.sqnr_db for layer in layers) > 25
    broken = Path(shutil.copytree(request.path, tmp_path / "broken.mlpackage"))
    file = next(broken.rglob("weight.bin"))
    data = bytearray(file.read_bytes())
    middle = len(data) // 2
    data[middle : middle + 4096] = bytes(b ^ 0x55 for b in data[middle : middle + 4096])
    file.write_bytes(data)
    with pytest.raises(ExportError, match=r"computes something else: .*first far off at"):
        check_numerics(broken, request)


def test_a_stack_network_keeps_islands_and_layers_where_the_converter_merges_others(tmp_path: Path) -> None:
    asked = "--recipe coreml-fp16 --recipe coreml-w8 --frames 3 --size 96x128 --calibration-count 2 --eval-count 2"
    words = ["export", "fossa-compact", "-o", str(tmp_path / "out"), *asked.split(), "--rounds", "2"]
    done = CliRunner().invoke(root, words)
    assert done.exit_code == 0 and "gate: PASS" in done.output, done.output
