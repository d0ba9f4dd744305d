"""What rounding to float16 costs, value by value, and what must stay float32."""

from __future__ import annotations

import gc
import math

import pytest
import torch
from torch import Tensor, fx, nn

from dualpix.quantize import rounding
from dualpix.quantize.calibration import Inputs
from dualpix.quantize.graph import float_graph
from dualpix.quantize.rounding import (
    WANTED_DB,
    dearest,
    emulated_db,
    is_float,
    islands,
    rounding_costs,
    spread,
)


class _Compared(nn.Module):
    """What two nearly equal pictures differ by, as the matching of a stack does: one value in a thousand is left."""

    def __init__(self) -> None:
        super().__init__()
        self.blur, self.last = nn.Conv2d(1, 1, 3, padding=1, bias=False), nn.Conv2d(1, 2, 3, padding=1)
        nn.init.constant_(self.blur.weight, 1 / 9)

    def forward(self, left: Tensor, right: Tensor) -> Tensor:
        gap = (self.blur(left) - self.blur(right)).reshape(1, 1, 12, 16)
        y: Tensor = self.last(torch.relu(1000 * gap))
        return y


def _pictures(seed: int) -> Inputs:
    generator = torch.Generator().manual_seed(seed)
    left = 0.5 + 0.4 * torch.rand(1, 1, 12, 16, generator=generator)
    return left, left + 1e-3 * torch.randn(1, 1, 12, 16, generator=generator)


@pytest.fixture
def compared() -> fx.GraphModule:
    torch.manual_seed(0)
    return float_graph(_Compared().eval(), _pictures(0))


def _everything(graph: fx.GraphModule, kept: object = ()) -> frozenset[str]:
    return frozenset(n.name for n in graph.graph.nodes if is_float(n)) - frozenset(kept)  # type: ignore[call-overload]


def test_costs_are_what_single_values_cost(compared: fx.GraphModule) -> None:
    """Held against each value rounded alone; only what is made of rounded values itself differs."""
    inputs = _pictures(0)
    with torch.no_grad():
        output = compared(*inputs)
    for node in (n for n in compared.graph.nodes if is_float(n)):
        costs = rounding_costs(compared, inputs, lambda n, node=node: n is node, probes=64)
        alone = emulated_db(compared, inputs, lambda n, node=node: n is node, output)
        if alone < 75:  # beyond, the difference of the pictures is rounded by float32 itself
            assert -10 * math.log10(costs[node.name]) == pytest.approx(alone, abs=2), node.name
        else:
            assert costs[node.name] < 1e-7, node.name


def test_values_that_lose_nothing_of_their_own_cost_nothing(compared: fx.GraphModule) -> None:
    costs = rounding_costs(compared, _pictures(0), is_float)
    free = [n.name for n in compared.graph.nodes if n.op == "call_function" and not costs.get(n.name)]
    assert any("view" in name or "reshape" in name for name in free) and any("relu" in name for name in free)


def test_an_island_holds_what_is_compared(compared: fx.GraphModule) -> None:
    samples = [_pictures(seed) for seed in (1, 2)]
    with torch.no_grad():
        output = compared(*samples[0])
    assert emulated_db(compared, samples[0], is_float, output) < 20
    kept = islands(compared, samples, lambda names: _everything(compared, names))
    blurred = {n.name for n in compared.graph.nodes if n.op == "call_function" and "conv2d" in n.name}
    inputs = {n.name for n in compared.graph.nodes if n.op == "placeholder"}
    assert inputs <= kept and len(kept & blurred) == 2, "both sides of the difference; the last layer is not needed"
    names = _everything(compared, kept)
    assert emulated_db(compared, samples[0], lambda n: n.name in names, output) >= WANTED_DB


def test_a_network_that_loses_little_has_no_islands() -> None:
    torch.manual_seed(0)
    net = nn.Sequential(nn.Conv2d(1, 8, 3), nn.ReLU(), nn.Conv2d(8, 1, 3)).eval()
    inputs = _pictures(0)[:1]
    graph = float_graph(net, inputs)
    assert islands(graph, [inputs], lambda names: _everything(graph, names)) == frozenset()


class _Large(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return torch.sqrt((x * 300) * (x * 300)) / 300


def test_values_beyond_float16_stay_float32() -> None:
    inputs = (_pictures(0)[0] + 0.5,)
    graph = float_graph(_Large().eval(), inputs)
    costs = rounding_costs(graph, inputs, is_float)
    (squares,) = (name for name, cost in costs.items() if cost == math.inf)
    assert dearest(costs)[0] == squares
    kept = islands(graph, [inputs], lambda names: _everything(graph, names))
    names = _everything(graph, kept)
    assert squares in kept and emulated_db(graph, inputs, lambda n: n.name in names, graph(*inputs)) >= WANTED_DB


def test_only_what_costs_something_is_in_question() -> None:
    assert dearest({"a": 1e-6, "b": math.inf, "c": 4e-6, "d": 0.0}) == ["b", "c", "a"]


def test_what_passes_a_kept_value_on_is_kept(compared: fx.GraphModule) -> None:
    costs = rounding_costs(compared, _pictures(0), is_float)
    (gap,) = (n for n in compared.graph.nodes if n.name.startswith("sub"))
    found = spread(compared, {gap.name}, costs)
    assert found > {gap.name} and all(costs.get(name, 0.0) == 0.0 for name in found - {gap.name})


class _Sum(nn.Module):
    """Of 60 convolutions of the same picture: every value costs about as much as the next."""

    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.ModuleList(nn.Conv2d(3, 3, 3, padding=1) for _ in range(60))

    def forward(self, x: Tensor) -> Tensor:
        return torch.stack([layer(x) for layer in self.layers]).sum(0)


def test_no_more_than_a_quarter_stays_wide(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where the whole were needed: that would be no program in float16."""
    torch.manual_seed(0)
    inputs = (torch.rand(1, 3, 8, 12),)
    graph = float_graph(_Sum().eval(), inputs)
    everything = len(_everything(graph))

    def found() -> int:
        return len(islands(graph, [inputs], lambda kept: _everything(graph, kept), wanted_db=110.0))

    assert 0 < found() <= everything / 4
    monkeypatch.setattr("dualpix.quantize.rounding._MOST_SHARE", 1.0)
    assert found() > everything / 4


def test_nothing_stays_in_memory(compared: fx.GraphModule) -> None:
    """Hooks of values hold the tape, which holds the values: several GB of a large network, never collected."""
    rounding_costs(compared, _pictures(0), lambda n: is_float(n))
    gc.collect()
    assert not any(isinstance(o, rounding._Tape) for o in gc.get_objects())
