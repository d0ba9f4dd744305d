from __future__ import annotations

import functools
import re
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from tests.export.coreml.cases import CASES, MIL_CASES, Table, convert, inputs, mil_program, save
from torch import Tensor

from dualpix.export import coreml
from dualpix.export.coreml import Interpreter, coverage
from dualpix.export.coreml.operators import OPERATORS, Call

PRECISIONS = ("FLOAT32", pytest.param("FLOAT16", marks=pytest.mark.slow))

Run = tuple[list[Tensor], list[Tensor], set[str]]
"""Results, what torch says, the operators that occurred."""
Runs = Callable[[str], Run]
"""By precision; each is converted once, when it is first asked for."""


@pytest.fixture(scope="module")
def converted(tmp_path_factory: pytest.TempPathFactory) -> Runs:
    import coremltools as ct

    table, given, names = Table().eval(), inputs(), ["x", "y", "p", "t"]
    outputs = [f"case_{k}" for k in range(len(CASES))]
    with torch.no_grad():
        expected = list(table(*given))

    @functools.cache
    def run(precision: str) -> Run:
        model = convert(table, given, names, outputs, compute_precision=getattr(ct.precision, precision))
        path = save(model, tmp_path_factory.mktemp("table") / f"{precision}.mlpackage")
        return _run(path, dict(zip(names, given, strict=True)), outputs, expected)

    return run


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Runs:
    x, _, p, _ = inputs()
    outputs = [f"case_{k}" for k in range(len(MIL_CASES))]
    expected = [case.expected(x, p) for case in MIL_CASES.values()]

    @functools.cache
    def run(precision: str) -> Run:
        path = save(mil_program(precision), tmp_path_factory.mktemp("mil") / f"{precision}.mlpackage")
        return _run(path, {"x": x, "p": p}, outputs, expected)

    return run


def _run(path: Path, given: dict[str, Tensor], outputs: list[str], expected: list[Tensor]) -> Run:
    interpreter = Interpreter(path)
    results = interpreter(given)
    kinds = {step.kind for step in interpreter.program.operations}
    return [results[name] for name in outputs], expected, kinds


def _assert_close(run: Run, index: int, precision: str) -> None:
    result, expected = run[0][index], run[1][index]
    assert result.shape == expected.shape
    assert expected.abs().max() > 0, "a case that gives nothing shows nothing"
    error = (result - expected).abs().max() / expected.abs().max()
    assert error < (1e-5 if precision == "FLOAT32" else 4e-3)


@pytest.mark.parametrize("precision", PRECISIONS)
@pytest.mark.parametrize("case", CASES)
def test_converted_functions_are_what_torch_computes(converted: Runs, case: str, precision: str) -> None:
    _assert_close(converted(precision), CASES.index(case), precision)


@pytest.mark.parametrize("precision", PRECISIONS)
@pytest.mark.parametrize("case", MIL_CASES)
def test_operators_are_what_their_definition_says(built: Runs, case: str, precision: str) -> None:
    _assert_close(built(precision), list(MIL_CASES).index(case), precision)


def test_shapes_as_values() -> None:
    """Only programs of open sizes hold these; with fixed sizes the converter computes them beforehand."""
    x = torch.zeros(2, 3, 4)
    shape = OPERATORS["shape"].run(Call("shape", "here", {"x": (x,)}))
    assert isinstance(shape, Tensor) and shape.tolist() == [2, 3, 4]
    filled = OPERATORS["fill"].run(Call("fill", "here", {"shape": (shape,), "value": (torch.tensor(0.5),)}))
    assert isinstance(filled, Tensor) and torch.equal(filled, x + 0.5)


def test_every_operator_of_the_table_was_run(converted: Runs, built: Runs) -> None:
    ran = converted("FLOAT32")[2] | built("FLOAT32")[2] | {"shape", "fill"}
    missing = [name for name in coverage() if name not in ran and not name.startswith("constexpr_")]
    assert not missing, "an operator without a test of its semantics must not be in the table"


def test_the_documentation_lists_every_operator() -> None:
    text = (Path(coreml.__file__).parent / "README.md").read_text()
    rows = dict(re.findall(r"^\| `(\w+)` \| (.*) \|$", text.split("## Operators", 1)[1], re.MULTILINE))
    assert rows == {name: ", ".join(parameters) for name, parameters in coverage().items()}
