"""The float graph that every backend starts from, of modules as users write them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, fx, nn
from torch.nn import functional as F
from torch.nn.utils import parametrizations, parametrize, spectral_norm, weight_norm

from dualpix.capture.errors import DualpixError
from dualpix.quantize import graph as passes
from dualpix.quantize.graph import float_graph, fold_batch_norm, plain_inputs, plain_module, run_eager
from dualpix.quantize.ptq import exported_graph, quantise_static

Inputs = tuple[Tensor, ...]


@pytest.fixture(autouse=True)
def _the_same_weights_in_whatever_order_tests_run() -> None:
    torch.manual_seed(0)


def _operators(graph: fx.GraphModule) -> Counter[str]:
    return Counter(str(n.target).split(".")[1] for n in graph.graph.nodes if n.op == "call_function")


def _same(net: nn.Module, inputs: Inputs, graph: fx.GraphModule | None = None) -> fx.GraphModule:
    """The float graph of ``net``, which must compute the same."""
    graph = float_graph(net.eval(), inputs) if graph is None else graph
    torch.testing.assert_close(graph(*plain_inputs(inputs)), run_eager(net, inputs), atol=1e-5, rtol=1e-5)
    return graph


def _picture(*shape: int) -> Inputs:
    return (torch.rand(*(shape or (1, 3, 12, 16)), generator=torch.Generator().manual_seed(5)),)


def _norm(kind: type[nn.Module], channels: int, **options: Any) -> nn.Module:
    """A batch norm that has seen something."""
    norm: Any = kind(channels, **options)
    with torch.no_grad():
        if norm.running_mean is not None:
            norm.running_mean.uniform_(-1, 1)
            norm.running_var.uniform_(0.1, 2)
        if norm.weight is not None:
            norm.weight.uniform_(-2, 2)
            norm.bias.uniform_(-1, 1)
    return norm


class _Calls(nn.Module):
    """A module from a function of it and its input."""

    def __init__(self, function: Callable[..., Tensor], **parts: nn.Module | Tensor) -> None:
        super().__init__()
        self.function = function
        for name, part in parts.items():
            if isinstance(part, nn.Module):
                self.add_module(name, part)
            else:
                self.register_buffer(name, part)

    def forward(self, *inputs: Tensor) -> Tensor:
        return self.function(self, *inputs)


# ---------------------------------------------------------------------------------------------------------------------
# batch norm


_LAYERS: dict[str, tuple[nn.Module, nn.Module, Inputs]] = {}


def _layer(name: str, layer: nn.Module, norm: nn.Module, shape: tuple[int, ...]) -> None:
    _LAYERS[name] = (layer, norm, (torch.rand(shape),))


with torch.random.fork_rng():
    torch.manual_seed(2)
    _layer("plain", nn.Conv2d(3, 8, 3), _norm(nn.BatchNorm2d, 8), (1, 3, 9, 11))
    _layer("no bias", nn.Conv2d(3, 8, 3, bias=False), _norm(nn.BatchNorm2d, 8), (2, 3, 9, 11))
    _layer("grouped, dilated", nn.Conv2d(4, 8, 3, groups=2, dilation=2), _norm(nn.BatchNorm2d, 8), (1, 4, 9, 11))
    _layer("depthwise", nn.Conv2d(8, 8, 3, groups=8), _norm(nn.BatchNorm2d, 8), (1, 8, 9, 11))
    _layer("same padding", nn.Conv2d(3, 8, 4, padding="same"), _norm(nn.BatchNorm2d, 8), (1, 3, 9, 11))
    _layer("transposed", nn.ConvTranspose2d(4, 6, 4, 2, 1), _norm(nn.BatchNorm2d, 6), (1, 4, 5, 7))
    _layer(
        "transposed, grouped", nn.ConvTranspose2d(4, 6, 5, 2, 2, 1, groups=2), _norm(nn.BatchNorm2d, 6), (1, 4, 5, 7)
    )
    _layer(
        "transposed, depthwise",
        nn.ConvTranspose2d(8, 8, 5, 2, 2, 1, groups=8, bias=False),
        _norm(nn.BatchNorm2d, 8),
        (1, 8, 5, 7),
    )
    _layer("one axis", nn.Conv1d(3, 8, 3), _norm(nn.BatchNorm1d, 8), (1, 3, 17))
    _layer("volume", nn.Conv3d(2, 4, 3), _norm(nn.BatchNorm3d, 4), (1, 2, 5, 6, 7))
    _layer("volume, transposed", nn.ConvTranspose3d(2, 4, 3, groups=2), _norm(nn.BatchNorm3d, 4), (1, 2, 3, 4, 5))
    _layer("linear", nn.Linear(5, 7), _norm(nn.BatchNorm1d, 7), (4, 5))
    _layer("not affine", nn.Conv2d(3, 8, 3), _norm(nn.BatchNorm2d, 8, affine=False), (1, 3, 9, 11))


@torch.no_grad()
@pytest.mark.parametrize("name", _LAYERS)
def test_a_norm_becomes_part_of_the_layer_before_it(name: str) -> None:
    layer, norm, inputs = _LAYERS[name]
    net = nn.Sequential(layer, norm, nn.ReLU()).eval()
    assert _operators(_same(net, inputs))["batch_norm"] == 0
    folded = fold_batch_norm(net, inputs)
    torch.testing.assert_close(folded(*inputs), net(*inputs), atol=1e-5, rtol=1e-5)
    assert not any("BatchNorm" in type(m).__name__ for m in folded.modules())


@torch.no_grad()
def test_rows_of_a_linear_layer_are_not_taken_for_its_channels() -> None:
    net = nn.Sequential(nn.Linear(6, 6), _norm(nn.BatchNorm1d, 6)).eval()
    inputs = (torch.rand(2, 6, 6),)
    _same(net, inputs)
    torch.testing.assert_close(fold_batch_norm(net, inputs)(*inputs), net(*inputs), atol=1e-5, rtol=1e-5)
    _same(net, inputs, exported_graph(net, inputs))


def _tapped(between: bool = False) -> nn.Module:
    """Features are taken before the norm, or again behind it."""

    def forward(net: Any, x: Tensor) -> Tensor:
        y = net.body[0](x)
        z = net.body[1](y)
        return net.head(torch.cat([torch.relu(z), y, z] if between else [torch.relu(z), y], 1))

    body = nn.Sequential(nn.Conv2d(3, 8, 3, padding=1), _norm(nn.BatchNorm2d, 8))
    return _Calls(forward, body=body, head=nn.Conv2d(24 if between else 16, 1, 1)).eval()


@torch.no_grad()
@pytest.mark.parametrize("between", [False, True])
def test_a_feature_taken_before_its_norm_stays_what_it_is(between: bool) -> None:
    net, inputs = _tapped(between), _picture()
    graph = _same(net, inputs)
    assert _operators(graph)["batch_norm"] == 0, "prepare_pt2e would fold it whoever else reads the convolution"
    torch.testing.assert_close(fold_batch_norm(net, inputs)(*inputs), net(*inputs), atol=1e-5, rtol=1e-5)
    emulated = quantise_static(net, [inputs])(*inputs)
    noise = (emulated - net(*inputs)).square().mean() / net(*inputs).square().mean()
    assert noise < 1e-3, "30 dB in int8"


@torch.no_grad()
def test_norms_of_their_own_behind_a_shared_convolution() -> None:
    def forward(net: Any, x: Tensor) -> Tensor:
        return net.left(net.shared(x)) + net.right(net.shared(x.flip(3)))

    parts = {"left": _norm(nn.BatchNorm2d, 8), "right": _norm(nn.BatchNorm2d, 8)}
    net, inputs = _Calls(forward, shared=nn.Conv2d(3, 8, 3), **parts).eval(), _picture()
    assert _operators(_same(net, inputs)) == Counter({"conv2d": 2, "flip": 1, "add": 1})
    torch.testing.assert_close(fold_batch_norm(net, inputs)(*inputs), net(*inputs), atol=1e-5, rtol=1e-5)


@torch.no_grad()
def test_a_norm_shared_by_two_convolutions_and_one_behind_a_concatenation() -> None:
    def forward(net: Any, x: Tensor) -> Tensor:
        both = torch.cat([net.norm(net.a(x)), net.norm(net.b(x))], 1)
        return net.last(net.behind(both))

    parts: dict[str, nn.Module] = {"a": nn.Conv2d(3, 4, 1), "b": nn.Conv2d(3, 4, 3, padding=1)}
    norms = {"norm": _norm(nn.BatchNorm2d, 4), "behind": _norm(nn.BatchNorm2d, 8)}
    net, inputs = _Calls(forward, **parts, **norms, last=nn.Conv2d(8, 1, 1)).eval(), _picture()
    assert _operators(_same(net, inputs))["batch_norm"] == 1, "of a concatenation"
    folded = fold_batch_norm(net, inputs)
    torch.testing.assert_close(folded(*inputs), net(*inputs), atol=1e-5, rtol=1e-5)
    assert isinstance(folded.norm, nn.Identity) and isinstance(folded.behind, nn.BatchNorm2d)


@torch.no_grad()
@pytest.mark.parametrize("batch", [1, 3])
def test_a_norm_without_statistics_normalises_its_input(batch: int) -> None:
    net = nn.Sequential(nn.Conv2d(3, 8, 3), _norm(nn.BatchNorm2d, 8, track_running_stats=False), nn.ReLU())
    inputs = _picture(batch, 3, 9, 11)
    assert not any("norm" in name for name in _operators(_same(net, inputs)))
    torch.testing.assert_close(fold_batch_norm(net.eval(), inputs)(*inputs), net(*inputs), atol=1e-5, rtol=1e-5)


# ---------------------------------------------------------------------------------------------------------------------
# weights that are computed


def _old_weight_norm() -> nn.Module:
    with pytest.warns(FutureWarning):
        return weight_norm(nn.Conv2d(3, 8, 3))


class _Centred(nn.Module):
    def forward(self, weight: Tensor) -> Tensor:
        return weight - weight.mean((1, 2, 3), keepdim=True)


def _parametrized() -> nn.Module:
    layer = nn.Conv2d(3, 8, 3)
    parametrize.register_parametrization(layer, "weight", _Centred())
    return layer


class _Standardised(nn.Conv2d):
    """Weight standardisation in forward (Qiao et al., 2019), with nothing registered."""

    def forward(self, x: Tensor) -> Tensor:
        centred = self.weight - self.weight.mean((1, 2, 3), keepdim=True)
        return F.conv2d(x, centred / (centred.std((1, 2, 3), keepdim=True) + 1e-5), self.bias)


class _LowRank(nn.Conv2d):
    def __init__(self) -> None:
        super().__init__(3, 8, 3)
        self.down, self.up = nn.Parameter(torch.randn(2, 27)), nn.Parameter(torch.randn(8, 2))

    def forward(self, x: Tensor) -> Tensor:
        return F.conv2d(x, self.weight + (self.up @ self.down).reshape(self.weight.shape), self.bias)


@pytest.mark.parametrize(
    "make",
    [
        _old_weight_norm,
        lambda: spectral_norm(nn.Conv2d(3, 8, 3)),
        lambda: parametrizations.weight_norm(nn.Conv2d(3, 8, 3)),
        lambda: parametrizations.spectral_norm(nn.Conv2d(3, 8, 3)),
        _parametrized,
        lambda: _Standardised(3, 8, 3),
        _LowRank,
    ],
    ids=["weight_norm", "spectral_norm", "new weight_norm", "new spectral_norm", "own", "standardised", "low rank"],
)
def test_weights_are_computed_once(make: Callable[[], nn.Module]) -> None:
    torch.manual_seed(1)
    net, inputs = make().eval(), _picture()
    graph = _same(net, inputs)
    assert _operators(graph) == Counter({"conv2d": 1})
    tensors = [*graph.parameters(), *graph.buffers()]
    assert sum(t.numel() for t in tensors) == 8 * 27 + 8, "what the weight was made from is not in the file"
    assert _operators(exported_graph(net, inputs)) == Counter({"conv2d": 1})


@torch.no_grad()
def test_a_plain_module_has_ordinary_parameters_and_leaves_the_other_alone() -> None:
    net = parametrizations.weight_norm(nn.Conv2d(3, 8, 3))
    names = {name for name, _ in net.named_parameters()}
    expected = net(*_picture())
    plain = plain_module(net)
    assert {name for name, _ in plain.named_parameters()} == {"weight", "bias"}
    assert {name for name, _ in net.named_parameters()} == names and parametrize.is_parametrized(net)
    torch.testing.assert_close(plain(*_picture()), expected)
    torch.testing.assert_close(net(*_picture()), expected)


def test_what_is_larger_than_its_sources_is_left_to_the_program() -> None:
    row = torch.rand(1, 1, 1, 100)
    net = _Calls(lambda net, x: x + (net.row * 2.0).expand(1, 50, 60, 100), row=row)
    graph = _same(net, (torch.rand(1, 50, 60, 100),))
    assert sum(b.numel() for b in graph.buffers()) == row.numel() and _operators(graph)["mul"] == 0


# ---------------------------------------------------------------------------------------------------------------------
# side effects and memory


def test_an_input_that_is_changed_in_place_is_not_given_back() -> None:
    net = _Calls(lambda net, x: net.c(x.sub_(0.5).div_(0.25)), c=nn.Conv2d(3, 4, 3))
    inputs = _picture()
    kept = inputs[0].clone()
    graph = _same(net, inputs)
    assert torch.equal(inputs[0], kept), "nor are the inputs changed by looking"
    given_back = next(n for n in graph.graph.nodes if n.op == "output").args[0]
    assert len(given_back) == 1 and not any(name.endswith("_") for name in _operators(graph))


def test_a_feature_that_is_changed_in_place_is_what_its_reader_sees() -> None:
    def forward(net: Any, x: Tensor) -> Tensor:
        y = net.a(x)
        z = F.relu_(y)  # y is that, too, from here on
        return net.b(torch.cat([y, z], 1))

    graph = _same(_Calls(forward, a=nn.Conv2d(3, 4, 3), b=nn.Conv2d(8, 1, 1)), _picture())
    assert _operators(graph)["relu"] == 1


def test_a_count_of_calls_does_not_matter_and_a_state_does() -> None:
    def counted(net: Any, x: Tensor) -> Tensor:
        net.calls.add_(1)
        return net.c(x)

    def averaged(net: Any, x: Tensor) -> Tensor:
        net.mean.mul_(0.9).add_(net.c(x), alpha=0.1)
        return net.mean.clone()

    _same(_Calls(counted, c=nn.Conv2d(3, 4, 3), calls=torch.zeros(())), _picture())
    net = _Calls(averaged, c=nn.Conv2d(3, 1, 3), mean=torch.zeros(1, 1, 10, 14))
    with pytest.raises(DualpixError, match=r"depends on its buffer 'mean', which it changes in each call"):
        float_graph(net, _picture())


def _strided(x: Tensor, how: str) -> Tensor:
    return {
        "channels last": lambda: x.to(memory_format=torch.channels_last),
        "from a camera": lambda: x.permute(0, 2, 3, 1).contiguous().permute(0, 3, 1, 2),
        "every second": lambda: x.repeat_interleave(2, 3)[..., ::2],
        "expanded": lambda: x[:, :1].expand(-1, 3, -1, -1),
        "turned": lambda: x.transpose(2, 3).contiguous().transpose(2, 3),
    }[how]()


@pytest.mark.parametrize("how", ["channels last", "from a camera", "every second", "expanded", "turned"])
def test_inputs_in_any_order_in_memory_are_the_same_inputs(how: str) -> None:
    given = (_strided(_picture()[0], how),)
    (plain,) = plain_inputs(given)
    assert plain.is_contiguous() and torch.equal(plain, given[0])
    graph = _same(nn.Conv2d(3, 4, 3), given)
    assert all(n.meta["val"].is_contiguous() for n in graph.graph.nodes if n.op == "placeholder")


def test_a_channels_last_network_is_contiguous() -> None:
    def forward(net: Any, x: Tensor) -> Tensor:
        y = net.a(x.contiguous(memory_format=torch.channels_last))
        return net.b(y.permute(0, 2, 3, 1).reshape(1, -1, 8).transpose(1, 2).view(1, 8, 12, 16))

    parts = {"a": nn.Conv2d(3, 8, 3, padding=1), "b": nn.Conv2d(8, 1, 1)}
    net = _Calls(forward, **parts).to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    graph = _same(net, _picture())
    assert all(t.is_contiguous() for t in (*graph.parameters(), *graph.buffers()))
    assert not {"contiguous", "clone", "to", "view"} & set(_operators(graph))


# ---------------------------------------------------------------------------------------------------------------------
# forms that torch takes and backends do not


def test_pictures_without_a_batch_axis_get_one() -> None:
    net = nn.Sequential(
        nn.Conv2d(3, 8, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2), nn.ConvTranspose2d(8, 4, 2, 2), nn.Hardtanh()
    )
    graph = _same(net, _picture(3, 12, 16))
    shapes = [tuple(n.meta["val"].shape) for n in graph.graph.nodes if n.op == "call_function"]
    assert shapes[0] == (1, 3, 12, 16) and shapes[-1] == (4, 12, 16)
    assert _operators(graph)["reshape"] == 2, "in front and behind: an activation stays beside its convolution"

    def forward(net: Any, x: Tensor) -> Tensor:
        y = net.a(x)
        return F.interpolate((torch.cat([y, net.a(x.flip(2))]) * net.gain + y.mean())[None], scale_factor=2.0)[0]

    _same(_Calls(forward, a=nn.Conv2d(3, 4, 3), gain=torch.rand(8, 1, 1)), _picture(3, 12, 16))
    _same(nn.Conv1d(3, 4, 3), (torch.rand(3, 20),))
    _same(nn.Conv3d(2, 4, 3), (torch.rand(2, 4, 5, 6),))


@settings(max_examples=20, deadline=None)
@given(st.integers(1, 6), st.integers(1, 3), st.booleans(), st.sampled_from([1, 3]))
def test_padding_that_keeps_the_size_is_spelt_out(kernel: int, dilation: int, bias: bool, groups: int) -> None:
    net = nn.Conv2d(3, 6, (kernel, 3), padding="same", dilation=dilation, bias=bias, groups=groups)
    graph = _same(net, _picture())
    names = [str(n.target) for n in graph.graph.nodes if n.op == "call_function"]
    assert names[-1] == "aten.conv2d.default", "the only form that is quantised"


def test_factors_are_products() -> None:
    net = _Calls(lambda net, x, y: torch.sub(torch.add(x, y, alpha=0.1), torch.rsub(x, y, alpha=3.0)))
    graph = _same(net, (torch.rand(2, 5), torch.rand(2, 5)))
    assert _operators(graph)["mul"] == 2 and not any(n.kwargs for n in graph.graph.nodes)
    scalars = _Calls(lambda net, x: torch.addcmul(torch.add(x, 3.0, alpha=0.1), x, x, value=0.5))
    _same(scalars, (torch.rand(2, 5),))
    assert passes.spell_out_factors(float_graph(net, (torch.rand(2, 5), torch.rand(2, 5)))) == 0, "nothing is left"
