"""Gradients that a CPU computes sooner are those of PyTorch's own layers."""

from __future__ import annotations

from dataclasses import is_dataclass

import pytest
import torch
from tests.support.network_options import NEEDED
from torch import Tensor, nn

from dualpix.models.networks import NETWORKS, build_network, network_spec
from dualpix.models.networks.spec import training_outputs
from dualpix.models.train.quick import DepthwiseConv2d, OneChannelConv2d, quicken

BFLOAT16_STEP = 2.0**-8


def _gradients(conv: nn.Conv2d, x: Tensor, *, low: bool) -> dict[str, Tensor]:
    conv.zero_grad()
    given = x.clone().requires_grad_()
    with torch.autocast("cpu", torch.bfloat16, enabled=low):
        y = conv(given)
    torch.manual_seed(1)
    (y.float() * torch.randn(y.shape)).sum().backward()
    found = {"output": y.detach().float(), "input": given.grad}
    found |= {name: parameter.grad.clone() for name, parameter in conv.named_parameters()}
    return {name: value for name, value in found.items() if value is not None}


@pytest.mark.parametrize("bias", [False, True])
@pytest.mark.parametrize("size_hw", [(11, 14), (12, 8)])
@pytest.mark.parametrize(
    ("kernel", "stride", "padding"),
    [(3, 2, 1), (5, 1, 2), (5, 2, 2), ((5, 3), (1, 2), (2, 0)), (7, 1, 0), (3, (2, 1), 1), (4, 2, 1)],
)
def test_depthwise_gradients(kernel: int, stride: int, padding: int, size_hw: tuple[int, int], bias: bool) -> None:
    torch.manual_seed(0)
    conv = nn.Conv2d(16, 16, kernel, stride, padding, groups=16, bias=bias)
    x = torch.randn(3, 16, *size_hw).to(memory_format=torch.channels_last)
    truth = _gradients(conv, x, low=False)
    plain = _gradients(conv, x, low=True)
    quicken(nn.Sequential(conv))
    assert type(conv) is DepthwiseConv2d
    quick = _gradients(conv, x, low=True)
    for name, value in truth.items():
        assert quick[name].shape == value.shape
        largest = float(value.abs().max())
        # no further from the truth than PyTorch's own bfloat16, but for one rounding
        allowed = float((plain[name] - value).abs().max()) + BFLOAT16_STEP * largest
        assert float((quick[name] - value).abs().max()) <= allowed, name
    assert all(torch.equal(quick_32, truth[name]) for name, quick_32 in _gradients(conv, x, low=False).items())


@pytest.mark.parametrize("low", [False, True])
@pytest.mark.parametrize("kernel", [1, 3, (3, 5)])
def test_gradients_of_a_convolution_to_one_channel(kernel: int | tuple[int, int], low: bool) -> None:
    torch.manual_seed(0)
    rows, columns = (kernel, kernel) if isinstance(kernel, int) else kernel
    conv = nn.Conv2d(12, 1, kernel, padding=(rows // 2, columns // 2))
    x = torch.randn(2, 12, 9, 13).to(memory_format=torch.channels_last)
    truth = _gradients(conv, x, low=False)
    quicken(nn.Sequential(conv))
    assert type(conv) is OneChannelConv2d
    for name, value in _gradients(conv, x, low=low).items():
        assert value.shape == truth[name].shape
        allowed = (3 * BFLOAT16_STEP if low else 1e-5) * float(truth[name].abs().max())
        assert float((value - truth[name]).abs().max()) <= allowed, name


def test_double_precision_and_inference_are_left_alone() -> None:
    torch.manual_seed(0)
    plain = nn.Sequential(nn.Conv2d(8, 8, 5, 1, 2, groups=8), nn.Conv2d(8, 1, 3, padding=1))
    x = torch.randn(1, 8, 10, 12)
    with torch.inference_mode():
        before = plain(x)
        assert torch.equal(quicken(plain)(x), before)
    wide = plain.double()
    assert torch.autograd.gradcheck(wide, x.double()[..., :5, :6].requires_grad_())


@pytest.mark.parametrize(
    "conv",
    [
        nn.Conv2d(8, 8, 3, padding=1, groups=8),  # fast as it is
        nn.Conv2d(8, 16, 5, padding=2, groups=8),
        nn.Conv2d(8, 8, 5, padding=2, groups=8, padding_mode="reflect"),
        nn.Conv2d(8, 8, 5, padding=4, dilation=2, groups=8),
        nn.Conv2d(8, 8, 5, padding="same", groups=8),
        nn.Conv2d(8, 1, 3),
        nn.Conv2d(8, 1, 3, 2, 1),
        nn.Conv2d(4, 1, 3, padding=1),
    ],
)
def test_what_does_not_gain_stays(conv: nn.Conv2d) -> None:
    quicken(nn.Sequential(conv))
    assert type(conv) is nn.Conv2d


def test_a_users_own_layer_stays() -> None:
    class Own(nn.Conv2d):
        """Somebody's."""

    own = Own(8, 8, 5, padding=2, groups=8)
    quicken(nn.Sequential(own))
    assert type(own) is Own


def test_relu_works_in_place_only_behind_batch_norm() -> None:
    shared = nn.Sequential(nn.Conv2d(3, 8, 3), nn.ReLU(), nn.BatchNorm2d(8), nn.ReLU(), nn.ReLU())
    quicken(shared)
    assert [layer.inplace for layer in shared if isinstance(layer, nn.ReLU)] == [False, True, False]


def _tensors(outputs: object) -> list[Tensor]:
    if isinstance(outputs, Tensor):
        return [outputs]
    if is_dataclass(outputs):
        return _tensors(list(vars(outputs).values()))
    return [t for o in outputs for t in _tensors(o)] if isinstance(outputs, list | tuple) else []


@pytest.mark.parametrize("name", [n for n in NETWORKS if not n.endswith("-paper")])
def test_a_network_learns_the_same(name: str) -> None:
    options = NEEDED.get(name, {})
    spec = network_spec(name, options)
    torch.manual_seed(0)
    # float64: in float32 a value beside a ReLU's threshold falls to its other side by the order of the sums, which
    # differs between processors, and a gradient with it
    plain = build_network(name, options).train().double()
    quick = build_network(name, options).train().double()
    quick.load_state_dict(plain.state_dict())
    names = set(quick.state_dict())
    quicken(quick)
    assert set(quick.state_dict()) == names
    assert any(isinstance(m, DepthwiseConv2d | OneChannelConv2d) for m in quick.modules())
    torch.manual_seed(2)
    fields = [f for f in spec.of_task().sample if not f.optional]
    batch = {f.name: 0.1 + torch.rand(2, *f.shape((64, 96), 3)) for f in fields}
    inputs = tuple(x.double() for x in spec.inputs_of(batch))
    found = []
    for network in (plain, quick):
        outputs = training_outputs(network, inputs)
        torch.stack([o.square().mean() for o in _tensors(outputs)]).sum().backward()
        found.append({n: p.grad for n, p in network.named_parameters() if p.grad is not None})
    assert found[0].keys() == found[1].keys()
    length = torch.sqrt(sum(g.square().sum() for g in found[0].values()))
    apart = torch.sqrt(sum((g - found[1][n]).square().sum() for n, g in found[0].items()))
    assert float(apart / length) < 1e-6  # sums in another order, through some seventy batch norms of few values
