"""Which values of a network must not be rounded to float16, and what the others cost.

Rounding is emulated value by value, the arithmetic between is float32. What a value's rounding does to the output is
measured for all values at once, from back to front: with ``J`` the derivative of the output by a value and ``d`` the
change that rounding makes of it, ``J d`` is what the output changes by, and ``E (v . J d)^2 = |J d|^2`` over vectors
``v`` of random signs (Hutchinson, "A stochastic estimator of the trace", 1990). A gradient of ``v . output`` has all
``v . J``. A few gradients say within a third or so what each value costs; the order is what is asked of them, and how
many values stay float32 is decided by emulation with these left alone.

Convention: a cost is the power of the change over the power of the output, outputs added up: 1e-5 is 50 dB. Values go
by the names of their nodes.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Container, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, fx

from dualpix.quantize.calibration import Inputs
from dualpix.quantize.score import sqnr_db, tensors_of

Rounds = Callable[[fx.Node], bool]
"""Whether a node's value is rounded to float16."""

WANTED_DB = 50.0
"""SQNR in dB that rounding to float16 alone must leave. Runtimes add up in float16 as well, which is not emulated: some
5 dB are for that."""
_PROBES = 8
_SAMPLES = 2
"""That the choice is made on."""
_MOST_SHARE, _FEW = 0.25, 16
"""Of a network's values that may stay float32, and how many always may."""
_COPY = "aten._to_copy."


def is_float(node: fx.Node) -> bool:
    """Whether a node gives one floating-point tensor."""
    value: Any = node.meta.get("val")
    return isinstance(value, Tensor) and value.is_floating_point()


def islands(
    graph: fx.GraphModule,
    samples: Sequence[Inputs],
    rounded: Callable[[Collection[str]], Container[str]],
    wanted_db: float = WANTED_DB,
) -> frozenset[str]:
    """The values that must stay float32 so that float16 elsewhere keeps ``wanted_db``; none where all of them may go.

    Args:
        graph: of float32 operators.
        samples: inputs to choose by; the first ones are taken.
        rounded: which values are rounded where those of the given names are not.
        wanted_db: SQNR in dB against the graph itself. The dearest values are left alone, twice as many each time,
            until it is reached, or more than a quarter of all would be: a program most of which is float32 is none of
            float16. The best choice is taken.
    """
    chosen = [(inputs, _plain(graph, inputs)) for inputs in samples[:_SAMPLES]]

    def kept_db(kept: Collection[str]) -> float:
        names = rounded(kept)
        return min(emulated_db(graph, inputs, lambda n: n.name in names, output) for inputs, output in chosen)

    none: frozenset[str] = frozenset()
    found = {none: kept_db(none)}
    if found[none] >= wanted_db:
        return none
    names = rounded(none)
    costs = _largest([rounding_costs(graph, inputs, lambda n: n.name in names) for inputs, _ in chosen])
    order = dearest(costs)
    count = max(1, sum(costs[name] == math.inf for name in order))
    while order:
        kept = spread(graph, order[:count], costs)
        if len(kept) > max(_FEW, _MOST_SHARE * len(costs)):
            break
        found[kept] = kept_db(kept)
        if found[kept] >= wanted_db or count >= len(order):
            break
        count *= 2
    return max(found, key=lambda kept: found[kept])


def _plain(graph: fx.GraphModule, inputs: Inputs) -> object:
    with torch.no_grad():
        return graph(*inputs)


def _largest(each: Sequence[Mapping[str, float]]) -> dict[str, float]:
    return {name: max(costs.get(name, 0.0) for costs in each) for name in each[0]}


def emulated_db(graph: fx.GraphModule, inputs: Inputs, rounds: Rounds, expected: object) -> float:
    """SQNR in dB of ``graph`` with its values rounded, against what it should give; minus infinity without finite ones.

    Args:
        graph: of float operators; what it casts to float16 is held in float32.
        inputs: as it takes them.
        rounds: which values are rounded.
        expected: outputs, of the float network.
    """
    with torch.no_grad():
        found = _Rounding(graph, rounds).run(*inputs)
    db = sqnr_db(expected, found)
    return db if math.isfinite(db) or db > 0 else -math.inf


@torch.enable_grad()
def rounding_costs(graph: fx.GraphModule, inputs: Inputs, rounds: Rounds, probes: int = _PROBES) -> dict[str, float]:
    """What rounding each value costs, given that what it is made of is rounded, too; see the module's convention.

    A value that float16 does not hold at all costs infinity. A value that loses nothing of its own (a view, a maximum
    of rounded values) costs 0.
    """
    tape = _Tape(graph, rounds)
    generator = torch.Generator().manual_seed(0)
    outputs = [t for t in tensors_of(tape.run(*inputs)) if t.requires_grad]
    powers = [o.detach().double().square().sum().clamp_min(1e-30) for o in outputs]
    for _ in range(probes if outputs else 0):
        probe = torch.zeros(())
        for output, power in zip(outputs, powers, strict=True):
            signs = torch.randint(0, 2, output.shape, generator=generator) * 2 - 1
            finite = torch.where(output.isfinite(), output, 0.0)
            probe = probe + (finite * signs).sum() / float(power.sqrt())
        probe.backward(retain_graph=True)  # type: ignore[no-untyped-call]
        tape.take(probes)
    tape.close()
    return tape.costs


def dearest(costs: Mapping[str, float]) -> list[str]:
    """The values that cost something, the dearest first."""
    return sorted((name for name, cost in costs.items() if cost > 0), key=lambda name: -costs[name])


def spread(graph: fx.GraphModule, kept: Collection[str], costs: Mapping[str, float]) -> frozenset[str]:
    """``kept`` with what passes those values on without a loss of its own: rounded there, they would be lost again."""
    found = set(kept)
    for node in graph.graph.nodes:
        passes = is_float(node) and costs.get(node.name, 0.0) == 0.0
        if passes and any(n.name in found for n in node.all_input_nodes):
            found.add(node.name)
    return frozenset(found)


class _Rounding(fx.Interpreter):
    """Runs a graph in float32 and rounds the values that are to be rounded."""

    def __init__(self, graph: fx.GraphModule, rounds: Rounds) -> None:
        super().__init__(graph)
        self._rounds = rounds

    def call_function(self, target: Any, args: Any, kwargs: Any) -> Any:
        if str(target).startswith(_COPY) and kwargs.get("dtype") is torch.float16:
            return args[0]
        return super().call_function(target, args, kwargs)

    def run_node(self, n: fx.Node) -> Any:
        value = super().run_node(n)
        if not (isinstance(value, Tensor) and value.is_floating_point()):
            return value
        return self._rounded(n, value.float()) if self._rounds(n) else value

    def _rounded(self, node: fx.Node, value: Tensor) -> Tensor:
        return value.half().float()


class _Tape(_Rounding):
    """Keeps the change that rounding makes of each value until gradients say what it is worth.

    Rounding passes gradients on as if it were not there. Operators that are not torch's own, which restore compressed
    weights, have none.
    """

    def __init__(self, graph: fx.GraphModule, rounds: Rounds) -> None:
        super().__init__(graph, rounds)
        self.costs: dict[str, float] = {}
        self._sums: dict[str, float] = {}
        self._leaves: list[Tensor] = []

    def take(self, probes: int) -> None:
        """Add what the last gradient said to the costs."""
        for name, total in self._sums.items():
            self.costs[name] += total * total / probes
        self._sums.clear()
        for leaf in self._leaves:
            leaf.grad = None

    def close(self) -> None:
        """Let go of all tensors. Their hooks hold the tape: a circle that no collector sees, of several GB."""
        self.env.clear()
        self._leaves.clear()

    def call_function(self, target: Any, args: Any, kwargs: Any) -> Any:
        if str(target).startswith("aten."):
            return super().call_function(target, args, kwargs)
        with torch.no_grad():
            return super().call_function(target, args, kwargs)

    def _rounded(self, node: fx.Node, value: Tensor) -> Tensor:
        if not value.requires_grad:
            value = value.detach().clone().requires_grad_()
            self._leaves.append(value)
        held = value.detach()
        change = super()._rounded(node, held) - held
        self.costs[node.name] = 0.0
        if not change.isfinite().all():
            lost = held.isfinite() & ~change.isfinite()
            self.costs[node.name] = math.inf if lost.any() else 0.0
            change = torch.where(change.isfinite(), change, 0.0)
        if not change.any():
            return value
        name, rounded = node.name, value + change
        short = change.bfloat16()  # what stays until the gradients come need not be exact

        def told(gradient: Tensor) -> None:
            self._sums[name] = float(torch.nan_to_num(gradient * short, 0.0, 0.0, 0.0).sum())

        rounded.register_hook(told)  # type: ignore[no-untyped-call]
        return rounded
