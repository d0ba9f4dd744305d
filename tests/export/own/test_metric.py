from __future__ import annotations

import sys
from pathlib import Path
from uuid import uuid4

import numpy as np
import pytest

from dualpix.capture.errors import DualpixError
from dualpix.export.own.metric import own_metric
from dualpix.quantize.score import Outputs

SOURCE = """
import numpy as np
import torch


def abs_rel(outputs, targets):
    return np.mean([np.mean(abs(o - t) / t) for o, t in zip(outputs, targets)])


abs_rel.unit = "m/m"


def within(outputs, targets):
    shares = [np.mean(abs(o["depth"] - t["depth"]) < 0.1) for o, t in zip(outputs, targets)]
    return torch.tensor([float(np.mean(shares))])


within.better = "higher"


def spoils(outputs, targets):
    outputs[0][:] = 0
    targets[0][:] = 0
    return 1


def fails(outputs, targets):
    raise KeyError("depth")


def two_numbers(outputs, targets):
    return [1.0, 2.0]


def upward(outputs, targets):
    return 1.0


upward.better = "up"
"""


@pytest.fixture
def functions(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    name = f"metrics_{uuid4().hex}"
    (tmp_path / f"{name}.py").write_text(SOURCE)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("sys.path", list(sys.path))
    return name


REFERENCES: list[Outputs] = [(np.full((1, 1, 2, 2), v),) for v in (1.0, 2.0)]
OUTPUTS: list[Outputs] = [(r * 1.5,) for (r,) in REFERENCES]


def test_without_a_truth_the_float_network_is_the_target(functions: str) -> None:
    metric = own_metric(f"{functions}:abs_rel", ["depth"])
    assert metric.measure(OUTPUTS, REFERENCES) == pytest.approx(0.5)
    assert (metric.name, metric.unit, metric.better) == ("abs_rel", "m/m", "lower")
    assert not metric.has_truth and not metric.stated


def test_with_a_truth_that_is_the_target(functions: str) -> None:
    truths = [{"depth": np.full((1, 1, 2, 2), v)} for v in (1.5, 3.0)]
    metric = own_metric(f"{functions}:abs_rel", ["depth"], truths)
    assert metric.measure(OUTPUTS, REFERENCES) == 0 and metric.measure(REFERENCES, REFERENCES) == pytest.approx(1 / 3)
    assert metric.has_truth


def test_several_outputs_come_by_name_and_the_function_says_which_way(functions: str) -> None:
    outputs: list[Outputs] = [(r, r > 1) for (r,) in REFERENCES]
    metric = own_metric(f"{functions}:within", ["depth", "near"])
    assert metric.measure(outputs, outputs) == 1.0 and metric.better == "higher" and metric.stated
    assert own_metric(f"{functions}:within", ["depth", "near"], better="lower").better == "lower"
    truths = [{"depth": r} for (r,) in REFERENCES]
    assert own_metric(f"{functions}:within", ["depth", "near"], truths).measure(outputs, outputs) == 1.0


def test_a_function_that_writes_into_what_it_is_given_spoils_nothing(functions: str) -> None:
    assert own_metric(f"{functions}:spoils", ["depth"]).measure(OUTPUTS, REFERENCES) == 1
    assert OUTPUTS[0][0].all() and REFERENCES[0][0].all()


def test_what_is_no_metric_is_told(functions: str) -> None:
    for name, message in (
        ("fails", "metric .*:fails fails: KeyError: 'depth'"),
        ("two_numbers", r"metric .*:two_numbers gives a list of \(float, float\); expected one number"),
    ):
        with pytest.raises(DualpixError, match=message):
            own_metric(f"{functions}:{name}", ["depth"]).measure(OUTPUTS, REFERENCES)
    with pytest.raises(DualpixError, match=r"upward.better is 'up'; expected 'lower' or 'higher'"):
        own_metric(f"{functions}:upward", ["depth"])
    with pytest.raises(DualpixError, match="has no function 'gone'"):
        own_metric(f"{functions}:gone", ["depth"])
