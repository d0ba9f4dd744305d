"""Every operator variant through the converters: what is written computes what torch computes, or nothing is written.

An operator that a backend cannot convert is refused, and listed here, so that neither a silent change of a converter
nor a lost rewrite goes unseen. The whole sweep takes minutes; the variants that the tools get wrong without us are run
in each test run, beside what happens without the rewrites.
"""

from __future__ import annotations

import shutil
from contextlib import redirect_stderr
from io import StringIO
from pathlib import Path

import coremltools as ct
import pytest
import torch
from tests.support.operators import VARIANTS, variant
from tests.support.tiny_net import sqnr_db
from torch import Tensor, nn
from torch.export import ExportedProgram

from dualpix.export.artefact import ExportError, quiet
from dualpix.export.coreml.interpret import Interpreter
from dualpix.export.coreml.package import PackageError
from dualpix.export.coreml.rewrite import exported_for_coreml
from dualpix.export.executorch.runtime import PteProgram
from dualpix.export.executorch.xnnpack import lower, rewritten
from dualpix.quantize.calibration import Inputs
from dualpix.quantize.graph import float_graph, tidy_for_xnnpack

RIGHT_DB = 80.0

XNNPACK_REFUSES = {"searchsorted"}
CORE_ML_REFUSES = {"max pool dilated", "searchsorted"}

WRONG_ON_XNNPACK = ("bilinear 1.3", "bilinear .7", "bilinear 1.5 x .6", "gelu tanh")
WRONG_ON_CORE_ML = (
    "add alpha", "sub alpha scalar", "rsub alpha", "reciprocal", "gelu tanh", "softplus threshold", "variance of all",
    "bilinear antialiased", "nearest 1.3", "sum times little",
)  # fmt: skip


def on_xnnpack(module: nn.Module, inputs: Inputs, path: Path) -> Tensor:
    with quiet(), torch.no_grad():
        path.write_bytes(lower(torch.export.export(module, inputs))[0])
    return PteProgram(path)(inputs)


def on_core_ml(exported: ExportedProgram, inputs: Inputs, path: Path) -> Tensor:
    with quiet(), redirect_stderr(StringIO()):
        model = ct.convert(
            exported,
            inputs=[ct.TensorType(name=f"x{i}", shape=t.shape) for i, t in enumerate(inputs)],
            outputs=[ct.TensorType(name="y")],
            minimum_deployment_target=ct.target.iOS17,
            compute_precision=ct.precision.FLOAT32,
            convert_to="mlprogram",
            skip_model_load=True,
        )
        model.save(str(path))
    try:
        return Interpreter(path)({f"x{i}": t for i, t in enumerate(inputs)})["y"]
    finally:
        shutil.rmtree(path)


def _agreement_db(expected: Tensor, found: Tensor) -> float:
    assert found.shape == expected.shape
    return sqnr_db(expected, found) if not torch.equal(expected, found) else 200.0


@torch.no_grad()
@pytest.mark.parametrize("name", WRONG_ON_XNNPACK)
def test_what_xnnpack_gets_wrong_is_right_here(name: str, tmp_path: Path) -> None:
    module, inputs = variant(name)
    graph = tidy_for_xnnpack(rewritten(module, inputs))
    assert _agreement_db(module(*inputs), on_xnnpack(graph, inputs, tmp_path / "right.pte")) > RIGHT_DB


@torch.no_grad()
@pytest.mark.parametrize("name", WRONG_ON_CORE_ML)
def test_what_the_core_ml_converter_gets_wrong_is_right_here(name: str, tmp_path: Path) -> None:
    module, inputs = variant(name)
    expected = module(*inputs)
    plain = torch.export.export(module, inputs).run_decompositions({})
    without = _agreement_db(expected, on_core_ml(plain, inputs, tmp_path / "plain.mlpackage"))
    assert without < RIGHT_DB, "the converter is right now: the rewrite can go"
    right = exported_for_coreml(float_graph(module, inputs), inputs)
    assert _agreement_db(expected, on_core_ml(right, inputs, tmp_path / "right.mlpackage")) > RIGHT_DB


@pytest.mark.slow
@torch.no_grad()
@pytest.mark.parametrize("between", [False, True], ids=["alone", "between"])
@pytest.mark.parametrize("name", VARIANTS)
def test_xnnpack_is_right_or_refuses(name: str, between: bool, tmp_path: Path) -> None:
    if between and len(VARIANTS[name].shapes[0]) != 4:
        pytest.skip("no picture")
    module, inputs = variant(name, between=between)
    try:
        graph = tidy_for_xnnpack(rewritten(module, inputs))
        found = on_xnnpack(graph, inputs, tmp_path / "a.pte")
    except Exception as error:  # the compilers raise anything
        assert name in XNNPACK_REFUSES, error
        return
    assert name not in XNNPACK_REFUSES, "it works now"
    assert _agreement_db(module(*inputs), found) > RIGHT_DB


@pytest.mark.slow
@torch.no_grad()
@pytest.mark.parametrize("name", VARIANTS)
def test_core_ml_is_right_or_refuses(name: str, tmp_path: Path) -> None:
    module, inputs = variant(name)
    try:
        exported = exported_for_coreml(float_graph(module, inputs), inputs)
        found = on_core_ml(exported, inputs, tmp_path / "a.mlpackage")
    except PackageError:
        raise
    except (ExportError, NotImplementedError, ValueError, RuntimeError, KeyError, TypeError, AssertionError) as error:
        assert name in CORE_ML_REFUSES, error
        return
    assert name not in CORE_ML_REFUSES, "it works now"
    assert _agreement_db(module(*inputs), found) > RIGHT_DB
