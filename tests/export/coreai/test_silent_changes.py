"""What coreai-torch 0.4.3 and the runtime of coreai-core 1.0.0b3 change without a word, and what becomes of it here.

Each is shown by the converter's own way first: where that is right one day, the rewrite can go.
"""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from tests.export.coreai.conftest import Half, request_of, run_here, run_plain, run_program
from torch import Tensor, nn
from torch.nn import functional as F

from dualpix.export.artefact import BuildRequest, ExportError, quiet
from dualpix.export.coreai.convert import prepare
from dualpix.export.coreai.half import to_float16
from dualpix.export.coreai.rewrite import decomposed
from dualpix.export.coreai.weights import int8_codes, palettes, register_operators, store_weights
from dualpix.quantize.graph import float_graph
from dualpix.quantize.keep import keep_modules, keep_nothing
from dualpix.quantize.score import sqnr_db

RIGHT_DB, RIGHT_HALF_DB = 90.0, 45.0


class Of(nn.Module):
    def __init__(self, function: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self.function = function

    def forward(self, x: Tensor) -> Tensor:
        return self.function(x)


def _x(*shape: int) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(3))


X = _x(1, 4, 12, 10)
IN_FLOAT32: dict[str, tuple[Callable[[Tensor], Tensor], Tensor]] = {
    "alpha of a sum": (lambda x: torch.add(x, x * x, alpha=0.1), X),
    "alpha of a difference": (lambda x: torch.rsub(x, x * x, alpha=0.3), X),
    "padding not counted": (lambda x: F.avg_pool2d(x, 3, 2, 1, count_include_pad=False), X),
    "nearest, odd ratio": (lambda x: F.interpolate(x, size=(17, 13), mode="nearest"), X),
    "nearest, smaller": (lambda x: F.interpolate(x, size=(5, 7), mode="nearest"), X),
    "logarithm near one": (torch.log1p, 1e-6 * X.abs()),
    "power near one": (torch.expm1, 1e-6 * X),
    "rounded on purpose": (lambda x: (x + 12582912.0) - 12582912.0, X * 10),
}


@pytest.mark.parametrize("name", IN_FLOAT32)
def test_what_is_changed_without_a_word_is_right_here(name: str) -> None:
    function, x = IN_FLOAT32[name]
    request = request_of(Of(function), (x,))
    expected = function(x)
    assert sqnr_db(expected, run_plain(request)) < RIGHT_DB, "the converter is right now: the rewrite can go"
    assert sqnr_db(expected, run_here(request)) > RIGHT_DB


def _norm_of_small_variance() -> nn.Module:
    torch.manual_seed(4)
    net = nn.Sequential(nn.Conv2d(4, 8, 3, padding=1, bias=False), nn.BatchNorm2d(8), nn.ReLU(), nn.Conv2d(8, 1, 1))
    assert isinstance(net[1], nn.BatchNorm2d) and net[1].running_var is not None
    variance = torch.logspace(-5.5, 0, 8)  # from 3e-6, the smallest one of the shipped network
    with torch.no_grad():
        net[0].weight.mul_(variance.sqrt().reshape(8, 1, 1, 1))  # type: ignore[operator]
    net[1].running_var.copy_(variance)
    return net


def _long_product() -> nn.Module:
    torch.manual_seed(4)
    layer = nn.Linear(2048, 4)
    with torch.no_grad():
        layer.weight.abs_()
    return layer


IN_FLOAT16: dict[str, tuple[Callable[[], nn.Module], Tensor]] = {
    "convolution and norm of small variance": (_norm_of_small_variance, X),
    "a divisor beyond float16": (lambda: Of(lambda x: x / 65535 * 40000), 100 * X),
    "a small factor": (lambda: Of(lambda x: (x * 1e-7) * 1e7), X),
    "a norm whose squares overflow": (lambda: Of(lambda x: F.normalize(x, dim=1)), 400 * X),
    "a running sum": (lambda: Of(lambda x: torch.cumsum(x, 1) / 1000), _x(1, 3000).abs()),
    "a product of many terms of one sign": (_long_product, 0.5 + 0.1 * _x(1, 2048)),
    "a mean of many": (lambda: Of(lambda x: x + x.sum((2, 3), keepdim=True) / 30000), 20 + _x(1, 2, 100, 100)),
}


@pytest.mark.parametrize("name", IN_FLOAT16)
def test_what_float16_breaks_without_a_word_is_right_here(name: str) -> None:
    make, x = IN_FLOAT16[name]
    with torch.no_grad():
        expected = make().eval()(x)
    plain = run_plain(request_of(Half(make().eval()), (x,)))
    assert not sqnr_db(expected, plain) >= RIGHT_HALF_DB, "float16 alone is right now: what stays float32 can go"
    assert sqnr_db(expected, run_here(request_of(make(), (x,), "fp16"))) >= RIGHT_HALF_DB


class _Matched(nn.Module):
    """What two nearly equal pictures differ by: the rounding of either is as large."""

    def __init__(self) -> None:
        super().__init__()
        self.blur, self.last = nn.Conv2d(1, 1, 3, padding=1, bias=False), nn.Conv2d(1, 2, 3, padding=1)
        nn.init.constant_(self.blur.weight, 1 / 9)

    def forward(self, left: Tensor, right: Tensor) -> Tensor:
        y: Tensor = self.last(F.relu(1000 * (self.blur(left) - self.blur(right))))
        return y


@pytest.mark.parametrize("precision", ["fp16", "w8"])
def test_what_compares_nearly_equal_things_is_an_island_of_float32(precision: str) -> None:
    torch.manual_seed(0)
    net, left = _Matched().eval(), 0.5 + 0.1 * _x(1, 1, 12, 16)
    inputs = (left, left + 1e-3 * _x(1, 1, 12, 16).flip(3))
    with torch.no_grad():
        expected = net(*inputs)
    request = request_of(net, inputs, precision)
    register_operators()
    graph = float_graph(net, inputs)
    with quiet(), torch.no_grad():
        plain = run_program(decomposed(to_float16(graph), inputs), request)
        prepared = prepare(request)
        found = run_program(prepared.program, request)
    assert sqnr_db(expected, plain) < 25 and sqnr_db(expected, found) > 45
    assert {"conv2d", "sub"} <= set(prepared.details["float32_islands"])


def test_places_of_largest_values_are_refused() -> None:
    """The converter gives zeros for them."""
    pool = Of(lambda x: F.max_pool2d(x, 2, return_indices=True)[1].float())
    plain = run_plain(request_of(pool, (X,)))
    assert not plain[0].any() and pool(X).any()
    with pytest.raises(ExportError, match=r"max_pool2d_with_indices .*places of the largest values"):
        run_here(request_of(pool, (X,)))


def test_one_tensor_given_twice_is_refused() -> None:
    """The converter makes one output of both, under one of the names."""

    class Twice(nn.Module):
        def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
            y = x + 1
            return y, y

    with pytest.raises(ExportError, match="outputs 'y0' and 'y1' are one tensor"):
        run_here(request_of(Twice(), (X,), outputs=2))


class _Layers(nn.Module):
    """A small layer, and a transposed one with groups: both are left float by the maker's own tool."""

    def __init__(self) -> None:
        super().__init__()
        self.small = nn.Conv2d(4, 8, 3, padding=1)
        self.up = nn.ConvTranspose2d(8, 16, 4, 2, 1, groups=2)
        self.last = nn.Conv2d(16, 8, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.last(F.relu(self.up(F.relu(self.small(x)))))
        return y


def _layers() -> nn.Module:
    torch.manual_seed(6)
    net = _Layers().eval()
    with torch.no_grad():  # channels of a transposed layer in different ranges, as training leaves them
        net.up.weight.mul_(torch.logspace(-2, 0, 8).reshape(1, 8, 1, 1))
    return net


def test_small_and_transposed_layers_are_stored_in_int8_too() -> None:
    net = _layers()
    request = request_of(net, (X,), "w8")
    register_operators()
    stored = store_weights(float_graph(net, (X,)), "int8", keep_nothing)
    assert len(stored.layers) == 3 and not stored.left
    kept = store_weights(float_graph(net, (X,)), "int8", keep_modules("up"))
    assert len(kept.layers) == 2 and len(kept.left) == 1
    with quiet(), torch.no_grad():
        prepared = prepare(request)
    assert prepared.details == {"weights_int8": 3, "weights_float16": 0}
    codes = [t for t in prepared.program.state_dict.values() if t.dtype is torch.int8]
    assert sorted(t.numel() for t in codes) == sorted(p.numel() for p in net.parameters() if p.dim() == 4)
    with torch.no_grad():
        assert sqnr_db(net(X), run_program(prepared.program, request)) > 35


def test_codes_have_a_scale_for_each_output_channel() -> None:
    net = _Layers()
    for layer, groups in ((net.small, 1), (net.up, 2)):
        weight = layer.weight.detach()
        axis = 1 if isinstance(layer, nn.ConvTranspose2d) else 0
        codes, scale = int8_codes(weight, axis, groups)
        assert scale.numel() == layer.out_channels
        spread = scale.repeat_interleave(len(weight) // len(scale), 0)
        assert (codes * spread - weight).abs().max() <= spread.max() / 2 * 1.001
        grouped = codes.reshape(groups, -1, *codes.shape[1:]).transpose(1, 2) if axis else codes
        largest = grouped.reshape(layer.out_channels, -1).abs().amax(1)
        assert (largest == 127).all(), "each channel uses the whole range"


def test_palettes_are_shared_by_few_channels() -> None:
    register_operators()
    weight = _x(16, 8, 3, 3) * torch.logspace(-3, 0, 16).reshape(16, 1, 1, 1)
    places, luts = palettes(weight, 0)
    assert places.dtype is torch.uint8 and int(places.max()) == 15 and luts.shape == (8, 1, 1, 1, 16, 1)
    restored = torch.ops.coreai.lut_to_dense(places, luts, 0)
    assert sqnr_db(weight[:2], restored[:2]) > 12, "the small channels have values of their own"


def test_palettes_are_for_layers_that_they_make_smaller() -> None:
    """A depthwise layer's palettes would take more than its int8 codes, and it would lose the most."""
    torch.manual_seed(6)
    net = nn.Sequential(nn.Conv2d(4, 32, 3), nn.Conv2d(32, 32, 5, groups=32), nn.Conv2d(32, 32, 3))
    register_operators()
    stored = store_weights(float_graph(net.eval(), (_x(1, 4, 16, 16),)), "palette", keep_nothing)
    assert list(stored.layers.values()) == ["int8", "int8", "palette"]


def test_values_beyond_float16_are_refused_by_name() -> None:
    from dualpix.export.coreai.check import _check_range

    torch.manual_seed(7)
    net = nn.Sequential(nn.Conv2d(4, 4, 1), nn.ReLU(), nn.Conv2d(4, 1, 1))
    request: BuildRequest = request_of(net, (1e6 * X,), "fp16")
    with pytest.raises(ExportError, match="input 'x0' holds values up to"):
        _check_range(request.path, request)
