from __future__ import annotations

from collections.abc import Callable
from typing import get_args

import pytest
import torch
from tests.support.tiny_net import scene, sqnr_db, tiny_net
from torch import Tensor, fx, nn
from torch.nn import functional as F

from dualpix.capture.errors import DualpixError, UnknownNameError
from dualpix.quantize.keep import keep_modules, keep_nothing
from dualpix.quantize.kinds import Observer
from dualpix.quantize.ptq import quantise_dynamic, quantise_linear_4w8da, quantise_static


def _int8_operators(graph: fx.GraphModule) -> int:
    """Convolutions with int8 weights, and concatenations with an int8 result."""
    nodes = [n for n in graph.graph.nodes if n.op == "call_function"]
    convolutions = [n for n in nodes if str(n.target).startswith("aten.conv2d")]
    cats = [n for n in nodes if str(n.target).startswith("aten.cat")]
    weights = sum("dequantize" in str(n.args[1].target) for n in convolutions)
    return weights + sum(any("quantize_per_tensor" in str(u.target) for u in n.users) for n in cats)


@torch.no_grad()
def test_kept_modules_stay_float_and_the_rest_does_not() -> None:
    net, inputs = tiny_net(), scene()
    full = quantise_static(net, [scene(), scene(), inputs])
    assert _int8_operators(full) == 8  # seven calls of convolutions, one cat
    kept = quantise_static(net, [scene(), inputs], keep_modules("encode", "head"))
    assert _int8_operators(kept) == 3  # image, join, cat
    everything = quantise_static(net, [inputs], lambda path: True)
    assert _int8_operators(everything) == 0
    expected = net(*inputs)
    assert 20 < sqnr_db(expected, full(*inputs)) < sqnr_db(expected, everything(*inputs))
    assert sqnr_db(expected, everything(*inputs)) > 90


def test_prefixes_end_at_dots() -> None:
    keep = keep_modules("head", "a.b")
    assert keep("head") and keep("head.0") and keep("a.b.c")
    assert not keep("heads.0") and not keep("a") and not keep("")


def test_no_calibration_is_a_user_error() -> None:
    with pytest.raises(DualpixError, match="no calibration samples"):
        quantise_static(tiny_net(), [])
    with pytest.raises(UnknownNameError, match="unknown observer 'entropy'"):
        quantise_static(tiny_net(), [scene()], observer="entropy")  # type: ignore[arg-type]


@torch.no_grad()
@pytest.mark.parametrize("observer", get_args(Observer))
def test_every_observer_gives_a_network_that_works(observer: Observer) -> None:
    net, inputs = tiny_net(), scene()
    int8 = quantise_static(net, [scene(), scene(), inputs], observer=observer)
    assert 20 < sqnr_db(net(*inputs), int8(*inputs)) < 45


class _PredictsKernels(nn.Module):
    """A convolution and a linear layer whose weights another layer gives (kernel prediction)."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.features, self.kernels, self.gains = nn.Conv2d(3, 4, 3, padding=1), nn.Linear(3, 72), nn.Linear(3, 48)

    def forward(self, x: Tensor) -> Tensor:
        mean = x.mean((2, 3))
        y = F.relu(F.conv2d(self.features(x), self.kernels(mean).view(2, 4, 3, 3), padding=1))
        return y + F.linear(mean, self.gains(mean).view(16, 3)).mean()


@torch.no_grad()
def test_a_layer_whose_weight_is_computed_stays_float() -> None:
    module, generator = _PredictsKernels(), torch.Generator().manual_seed(0)
    samples = [(torch.rand(1, 3, 16, 24, generator=generator),) for _ in range(3)]
    int8 = quantise_static(module, samples)
    restored = [n for n in int8.graph.nodes if "dequantize_per_channel" in str(n.target)]
    assert len(restored) == 3, "the three that are stored"
    assert all(n.args[0].op == "get_attr" for n in restored)
    assert sqnr_db(module(*samples[0]), int8(*samples[0])) > 30


class _Relu(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.one = nn.Conv2d(1, 4, 1)

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.one(x)
        return y


@torch.no_grad()
def test_observers_differ_in_what_they_make_of_an_outlier() -> None:
    torch.manual_seed(0)
    net, plain = _Relu(), torch.rand(1, 1, 128, 128)
    outlier = plain.clone()
    outlier[0, 0, 0, 0] = 50.0

    def loss(observer: Observer) -> float:
        return -sqnr_db(net(plain), quantise_static(net, [(outlier,)], observer=observer)(plain))

    losses = {observer: loss(observer) for observer in get_args(Observer)}
    assert losses["percentile"] < losses["minmax"] - 15, "one value in 16384 is not worth all the codes"
    assert losses["histogram"] <= losses["minmax"] + 0.1


class _Chain(nn.Module):
    """Concatenations: of inputs, of int8 features for an int8 layer, of int8 features for nobody."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.b, self.c = (nn.Conv2d(i, 4, 3, padding=1) for i in (2, 4, 8))

    def forward(self, x: Tensor) -> Tensor:
        first = self.a(torch.cat([x, 2.0 * x], 1))
        second = self.c(torch.cat([first, self.b(first)], 1))
        return torch.cat([first, second], 1) * 2.0


def _float_cats(graph: fx.GraphModule) -> int:
    cats = [n for n in graph.graph.nodes if str(n.target).startswith("aten.cat")]
    return sum(not any("quantize_per_tensor" in str(u.target) for u in n.users) for n in cats)


@torch.no_grad()
def test_concatenations_are_int8_only_between_int8_layers() -> None:
    net, inputs = _Chain(), (torch.rand(1, 1, 16, 16),)
    # a tensor that a convolution reads is quantised in any case, so the first cat has no range of its own to share
    assert _float_cats(quantise_static(net, [inputs])) == 1
    assert _float_cats(quantise_static(net, [inputs], keep_modules("c"))) == 2


class _Attention(nn.Module):
    """One shared linear called twice, one convolution."""

    def __init__(self) -> None:
        super().__init__()
        self.patch = nn.Conv2d(3, 32, 4, 4)
        self.mix = nn.Linear(32, 32)
        self.out = nn.Linear(32, 5)

    def forward(self, x: Tensor) -> Tensor:
        tokens = self.patch(x).flatten(2).transpose(1, 2)
        y: Tensor = self.out(torch.relu(self.mix(tokens)) + self.mix(3.0 * tokens))
        return y


def _targets(graph: fx.GraphModule, name: str) -> int:
    return sum(name in str(n.target) for n in graph.graph.nodes)


@torch.no_grad()
def test_dynamic_takes_ranges_from_each_input() -> None:
    torch.manual_seed(0)
    net, inputs = _Attention().eval(), (torch.rand(1, 3, 16, 24),)
    dynamic = quantise_dynamic(net, inputs)
    assert _targets(dynamic, "choose_qparams") >= 2 and _targets(dynamic, "quantize_per_channel") == 3
    for gain in (1.0, 100.0):  # far beyond anything that was calibrated
        assert sqnr_db(net(gain * inputs[0]), dynamic(gain * inputs[0])) > 30
    assert sqnr_db(net(100.0 * inputs[0]), quantise_static(net, [inputs])(100.0 * inputs[0])) < 10
    assert _targets(quantise_dynamic(net, inputs, keep_modules("mix")), "dequantize_per_channel") == 1
    both = quantise_dynamic(net, inputs, calibration=[inputs])
    assert _targets(both, "dequantize_per_channel") == 4 and sqnr_db(net(*inputs), both(*inputs)) > 25


@torch.no_grad()
def test_four_bit_linears_in_a_copy() -> None:
    torch.manual_seed(0)
    net, inputs = _Attention().eval(), (torch.rand(1, 3, 16, 24),)
    expected = net(*inputs)
    four = quantise_linear_4w8da(net)
    assert 12 < sqnr_db(expected, four(*inputs)) < 40
    assert torch.equal(net(*inputs), expected)
    kept = quantise_linear_4w8da(net, keep_modules("mix"))
    assert type(kept.mix.weight.data) is Tensor and type(kept.out.weight.data) is not Tensor  # type: ignore[union-attr]
    assert sqnr_db(four(*inputs), torch.export.export(four, inputs).module()(*inputs)) > 60


def test_nothing_to_quantise_is_said() -> None:
    with pytest.raises(DualpixError, match="no linear layer"):
        quantise_dynamic(tiny_net(), scene())
    for keep in (keep_nothing, keep_modules("mix", "out")):
        with pytest.raises(DualpixError, match="no linear layer"):
            quantise_linear_4w8da(tiny_net() if keep is keep_nothing else _Attention(), keep)


class _SixNet(nn.Module):
    """Layers whose results reach far beyond what the ReLU6 behind them lets through."""

    def __init__(self, six: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.first, self.second = nn.Conv2d(3, 16, 3, padding=1), nn.Conv2d(16, 8, 3, padding=1)
        self.last = nn.Linear(8, 4)
        self.six = six
        with torch.no_grad():
            self.first.weight *= 60

    def forward(self, x: Tensor) -> Tensor:
        return self.last(self.six(self.second(self.six(self.first(x)))).mean((2, 3)))  # type: ignore[no-any-return]


@pytest.mark.parametrize(
    "six",
    [nn.ReLU6(), nn.ReLU6(inplace=True), F.relu6, nn.Hardtanh(0.0, 6.0)],
    ids=["module", "inplace", "F", "hardtanh"],
)
@torch.no_grad()
def test_the_range_of_a_layer_with_relu6_is_what_relu6_lets_through(six: Callable[[Tensor], Tensor]) -> None:
    network = _SixNet(six).eval()
    samples = [(torch.rand(1, 3, 16, 24),) for _ in range(4)]
    assert network.first(samples[0][0]).abs().max() > 60
    graph = quantise_static(network, samples)
    convolutions = [n for n in graph.graph.nodes if str(n.target).startswith("aten.conv2d")]
    assert len(convolutions) == 2
    for node in convolutions:
        (activation,) = node.users
        (quantised,) = activation.users
        assert "quantize_per_tensor" in str(quantised.target), "between layer and activation there is nothing"
        scale = quantised.args[1]
        assert 255 * scale <= 6.1
    assert sqnr_db(network(*samples[0]), graph(*samples[0])) > 30


@torch.no_grad()
def test_a_layer_that_something_else_reads_too_keeps_its_own_range() -> None:
    class Both(_SixNet):
        def forward(self, x: Tensor) -> Tensor:
            wide = self.first(x)
            return self.second(self.six(wide)) + wide.mean()

    network, samples = Both(nn.ReLU6()).eval(), [(torch.rand(1, 3, 16, 24),) for _ in range(3)]
    graph = quantise_static(network, samples)
    first = next(n for n in graph.graph.nodes if str(n.target).startswith("aten.conv2d"))
    (quantised,) = first.users
    assert "quantize_per_tensor" in str(quantised.target) and 255 * quantised.args[1] > 60
