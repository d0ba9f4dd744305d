"""Every building block, between two convolutions, in the real runtimes: delegated, loaded, run, and right.

The plain form of a block is the reference throughout: what runs on a phone is compared with the usual way to write the
operation, not with the export form.
"""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from tests.support.blocks import CASES, Case
from tests.support.tiny_net import sqnr_db
from torch import Tensor, nn

from dualpix.export import coreml
from dualpix.export.artefact import BuildRequest, Delegation, quiet
from dualpix.export.executorch.runtime import PteProgram
from dualpix.export.executorch.xnnpack import lower
from dualpix.models.blocks.channels import float_islands
from dualpix.quantize.calibration import CalibrationSet
from dualpix.quantize.keep import keep_modules, keep_nothing
from dualpix.quantize.ptq import quantise_static

SIZE_HW = (16, 24)
QUICK_FLOAT = ("soft-argmax",)
QUICK_INT8 = ("correlation-band",)
QUICK_CORE_ML = ("layer-norm-tokens",)


def _cases(quick: tuple[str, ...]) -> list[object]:
    return [pytest.param(name, marks=() if name in quick else pytest.mark.slow) for name in CASES]


def _reference(case: Case) -> tuple[tuple[Tensor, ...], Tensor]:
    inputs = case.samples(SIZE_HW, 1, 5)[0]
    with torch.no_grad():
        return inputs, case.network(SIZE_HW, plain=True)(*inputs)


def _program(network: nn.Module, inputs: tuple[Tensor, ...], path: Path) -> tuple[PteProgram, Delegation]:
    """Lower a network and load the file."""
    with quiet(), torch.no_grad():
        content, delegation = lower(torch.export.export(network, inputs))
    path.write_bytes(content)
    return PteProgram(path), delegation


def _int8(case: Case, *, islands: bool = True) -> nn.Module:
    network = case.network(SIZE_HW)
    keep = keep_modules(*float_islands(network)) if islands and float_islands(network) else keep_nothing
    with quiet():
        return quantise_static(network, case.samples(SIZE_HW, 3, 1), keep)


@pytest.mark.parametrize("name", _cases(QUICK_FLOAT))
def test_in_float_on_xnnpack(name: str, tmp_path: Path) -> None:
    case = CASES[name]
    inputs, expected = _reference(case)
    program, delegation = _program(case.network(SIZE_HW), inputs, tmp_path / "block.pte")
    assert not delegation.left_operators
    assert delegation.compute_share == 1.0
    torch.testing.assert_close(program(inputs), expected, atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("name", _cases(QUICK_INT8))
def test_in_int8_on_xnnpack(name: str, tmp_path: Path) -> None:
    case = CASES[name]
    inputs, expected = _reference(case)
    program, delegation = _program(_int8(case), inputs, tmp_path / "block.pte")
    assert not delegation.left_operators
    assert delegation.compute_share == 1.0
    assert 25 <= sqnr_db(expected, program(inputs)) < 70, "close, and really int8"


@pytest.mark.parametrize("name", _cases(QUICK_CORE_ML))
def test_on_core_ml(name: str, tmp_path: Path) -> None:
    case = CASES[name]
    inputs, expected = _reference(case)
    names = ("first", "second")[: case.images]
    calibration = CalibrationSet((inputs,), "one")
    for precision, least_db in (("fp32", 100.0), ("fp16", 45.0)):
        path = tmp_path / f"{precision}.mlpackage"
        request = BuildRequest(case.network(SIZE_HW), precision, path, inputs, names, ("y",), calibration)
        predict = coreml.build(request).predict
        assert predict
        assert sqnr_db(expected, predict(inputs)) > least_db


@pytest.mark.slow
@pytest.mark.parametrize("name", ["layer-norm-2d", "soft-argmax", "tent-look-up"])
def test_float_islands_are_worth_keeping(name: str) -> None:
    """In emulation, which the tests above found to agree with the runtime."""
    case = CASES[name]
    inputs, expected = _reference(case)
    with torch.no_grad():
        kept, all_int8 = (sqnr_db(expected, _int8(case, islands=i)(*inputs)) for i in (True, False))
    assert kept > all_int8 + 0.5


@pytest.mark.slow
def test_weights_of_an_unrolled_gru_are_in_the_file_once(tmp_path: Path) -> None:
    case = CASES["conv-gru"]
    inputs, _ = _reference(case)
    sizes = []
    for iterations in (1, 4):
        network = case.network(SIZE_HW)
        network.block.iterations = iterations  # type: ignore[union-attr, assignment]
        path = tmp_path / f"{iterations}.pte"
        _program(network, inputs, path)
        sizes.append(path.stat().st_size)
    state_weights = 3 * 16 * 16 * 9 * 4  # bytes that three more copies would each add
    assert sizes[1] - sizes[0] < state_weights
