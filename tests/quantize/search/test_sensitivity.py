from __future__ import annotations

import json
import math
from dataclasses import replace
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn

from dualpix.capture.errors import DualpixError
from dualpix.quantize.calibration import EvaluationSet, Inputs, rendered_search
from dualpix.quantize.keep import keep_modules
from dualpix.quantize.ptq import quantise_static
from dualpix.quantize.search.assignment import Assignment, FrontierPoint, LayerSensitivity, allowed_loss
from dualpix.quantize.search.choice import search
from dualpix.quantize.search.losses import output_loss, task_loss
from dualpix.quantize.search.picture import frontier_picture
from dualpix.quantize.search.sweeps import sensitivity

_BUDGET = 0.005


class OneSensitiveLayer(nn.Module):
    """``narrow`` reads channels of which one is 300 times the others: an int8 grid for all of them sees only that one.

    It has 0.2 % of the multiply-accumulates; the rest does not mind int8.
    """

    def __init__(self) -> None:
        super().__init__()
        layers = [(3, 16), (16, 24), (24, 16)]
        self.body = nn.Sequential(*(m for a, b in layers for m in (nn.Conv2d(a, b, 3, padding=1), nn.ReLU())))
        self.narrow = nn.Conv2d(16, 1, 1)
        gains = torch.ones(1, 16, 1, 1)
        gains[:, 0] = 300.0
        self.register_buffer("gains", gains)
        with torch.no_grad():
            self.narrow.weight[:, 0] /= 300.0

    gains: Tensor

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.narrow(self.body(x) * self.gains)
        return y


class TwoBranches(nn.Module):
    """``side`` reads an input whose range at work is wider than any calibration sample's."""

    def __init__(self) -> None:
        super().__init__()
        self.main = nn.Sequential(nn.Conv2d(3, 16, 3, padding=1), nn.ReLU(), nn.Conv2d(16, 1, 3, padding=1))
        self.side = nn.Sequential(nn.Conv2d(1, 4, 3, padding=1), nn.ReLU(), nn.Conv2d(4, 1, 3, padding=1))

    def forward(self, x: Tensor, y: Tensor) -> Tensor:
        out: Tensor = self.main(x) + self.side(y)
        return out


def _sensitive() -> tuple[nn.Module, list[Inputs], list[Inputs]]:
    torch.manual_seed(0)
    net = OneSensitiveLayer().eval()
    samples = [(torch.rand(1, 3, 32, 48),) for _ in range(5)]
    return net, samples[:3], samples[3:]


@pytest.fixture(scope="module")
def found() -> tuple[nn.Module, list[Inputs], list[Inputs], Assignment]:
    net, calibration, held_back = _sensitive()
    losses = output_loss(net, calibration), output_loss(net, held_back)
    return (
        net,
        calibration,
        held_back,
        search(net, calibration, losses[0], _BUDGET, losses[1], sweeps=("keep-one-float", "quantise-one")),
    )


def test_the_search_beats_uniform_int8_and_float(found: Any) -> None:
    net, calibration, held_back, assignment = found
    assert assignment.keep_float == ("narrow",)
    assert assignment.within_budget and assignment.int8_share > 0.99
    points = {p.keep_float: p for p in assignment.frontier}
    int8, mixed, everything = points[()], points[("narrow",)], max(points.values(), key=lambda p: len(p.keep_float))
    # of the two uniform choices only float keeps the budget, and it costs far more
    assert int8.loss > 5 * _BUDGET and everything.loss == 0
    assert mixed.compute < 0.7 * everything.compute and mixed.weight_bytes < 0.4 * everything.weight_bytes
    # at the cost of uniform int8 within 1 %, a tenth of its loss
    assert mixed.compute < 1.01 * int8.compute and mixed.loss < 0.1 * int8.loss
    assert mixed.best and int8.best and everything.best
    # and the graph that is exported does what was promised, on data that the search never saw
    graph = quantise_static(net, calibration, keep_modules(*assignment.keep_float))
    with torch.no_grad():
        assert output_loss(net, held_back)(lambda x: graph(*x)) == pytest.approx(assignment.held_back_loss)


def test_the_sensitive_layer_comes_first_in_both_sweeps(found: Any) -> None:
    net, calibration, _, assignment = found
    assert assignment.layers[0].path == "narrow"
    by_path = {s.path: s for s in assignment.layers}
    others = [s for s in assignment.layers if s.path != "narrow"]
    assert all(by_path["narrow"].saved > 10 * abs(s.saved) for s in others)
    assert all(by_path["narrow"].added > 10 * s.added for s in others)
    one = sensitivity(net, calibration, output_loss(net, calibration), sweeps=("keep-one-float",))
    assert one[0].added is None and one[0].saved == pytest.approx(by_path["narrow"].saved)


def test_the_budget_holds_on_held_back_data_not_only_on_the_calibration() -> None:
    torch.manual_seed(1)
    net = TwoBranches().eval()
    seen = [(torch.rand(1, 3, 32, 48), 0.5 * torch.rand(1, 1, 32, 48)) for _ in range(3)]
    met = [(torch.rand(1, 3, 32, 48), 4.0 * torch.rand(1, 1, 32, 48)) for _ in range(3)]
    loss, held_back_loss = output_loss(net, seen), output_loss(net, met)
    blind = search(net, seen, loss, 0.02)
    assert blind.keep_float == () and blind.within_budget and blind.held_back_loss is None
    graph = quantise_static(net, seen)
    with torch.no_grad():
        assert held_back_loss(lambda x: graph(*x)) > 0.04, "the calibration data alone would have passed"
    careful = search(net, seen, loss, 0.02, held_back_loss)
    assert careful.held_back_int8_loss > 0.04  # type: ignore[operator]
    assert careful.within_budget and careful.held_back_loss <= 0.02  # type: ignore[operator]
    assert set(careful.keep_float) == {"side.0", "side.2"}, "what clips stays float, and nothing else"


def test_a_budget_that_nothing_but_float_keeps_ends_with_float() -> None:
    net, calibration, _ = _sensitive()
    assignment = search(net, calibration, output_loss(net, calibration), 1e-4)
    assert len(assignment.keep_float) == 4 and assignment.int8_share == 0
    assert assignment.within_budget and assignment.loss < 1e-4


def test_refusals() -> None:
    net, calibration, _ = _sensitive()
    for budget in (0.0, -0.01, math.nan, math.inf):
        with pytest.raises(DualpixError, match="budget"):
            search(net, calibration, lambda predict: 1.0, budget)
    with pytest.raises(DualpixError, match="loss is inf"):
        search(net, calibration, lambda predict: math.nan, 0.01)
    with pytest.raises(DualpixError, match="no samples"):
        output_loss(net, [])
    with pytest.raises(DualpixError, match="no calibration samples"):
        search(net, [], lambda predict: 1.0, 0.01)


def test_output_loss_is_the_relative_rms() -> None:
    samples = [(torch.full((2, 2), 2.0),)]
    loss = output_loss(nn.Identity(), samples)
    assert loss(lambda x: x[0] * 1.01) == pytest.approx(0.01)
    assert loss(lambda x: x[0]) == 0


def test_task_loss_is_the_mean_error_and_infinite_where_not_finite() -> None:
    scenes: EvaluationSet = rendered_search(2, (64, 96))
    truths = {id(s.inputs): s.truth["disparity_px"] for s in scenes.samples}
    loss = task_loss(scenes)
    assert loss(lambda x: truths[id(x)]) < 1e-6
    assert loss(lambda x: -truths[id(x)].square()) > 0.01
    assert math.isinf(loss(lambda x: truths[id(x)] * math.nan))


@given(st.floats(0, 10), st.floats(1e-4, 1.0))
def test_budgets_are_relative_unless_there_is_nothing_to_be_relative_to(float_loss: float, budget: float) -> None:
    allowed = allowed_loss(float_loss, budget)
    assert allowed > float_loss
    assert allowed == (budget if float_loss <= 1e-3 * budget else float_loss * (1 + budget))


def test_json_round_trip(found: Any) -> None:
    assignment = found[3]
    assert Assignment.from_json(json.loads(json.dumps(assignment.to_json(), allow_nan=False))) == assignment
    infinite = replace(assignment, int8_loss=math.inf, held_back_loss=None)
    assert Assignment.from_json(json.loads(json.dumps(infinite.to_json(), allow_nan=False))) == infinite


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"format": 2}, "no assignment"),
        ({"keep_float": "heads"}, "'keep_float' is 'heads'"),
        ({"keep_float": [1]}, "'keep_float'"),
        ({"loss": "small"}, "'loss' is 'small'"),
        ({"total_macs": 1.5}, "'total_macs'"),
        ({"extra": 1}, "'extra' is missing or unknown"),
        ({"layers": [{"path": "a"}]}, "missing or unknown"),
        ({"frontier": None}, "no list of layers or points"),
    ],
)
def test_damaged_assignments_are_refused(found: Any, change: dict[str, Any], message: str) -> None:
    with pytest.raises(DualpixError, match=message):
        Assignment.from_json(found[3].to_json() | change, "assignment.json")
    with pytest.raises(DualpixError, match="no assignment"):
        Assignment.from_json([], "assignment.json")  # type: ignore[arg-type]


def test_the_picture_is_a_png_whatever_was_found(found: Any) -> None:
    assert frontier_picture(found[3]).startswith(b"\x89PNG")
    layer = LayerSensitivity("", 10, 4, 1, math.inf, None)
    point = FrontierPoint((), math.inf, 0.5, 10, 1.0, True)
    rest = FrontierPoint(("",), 0.2, 1.0, 20, 0.0, True)
    odd = replace(found[3], layers=(layer,), frontier=(point, rest), keep_float=("",), float_loss=0.2)
    assert frontier_picture(odd).startswith(b"\x89PNG")
