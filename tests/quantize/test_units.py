"""One function in several units: int8 must not depend on the unit."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from tests.support.tiny_net import sqnr_db
from torch import Tensor, nn

from dualpix.export.artefact import ExportError, quiet
from dualpix.export.executorch.runtime import PteProgram
from dualpix.export.executorch.xnnpack import lower, rewritten
from dualpix.quantize.calibration import Inputs
from dualpix.quantize.graph import limit_requantisation, tidy_for_xnnpack
from dualpix.quantize.ptq import quantise_dynamic, quantise_static


def _net(input_unit: float = 1.0, inner_unit: float = 1.0, output_unit: float = 1.0) -> nn.Sequential:
    """The same function of the same scene, with numbers of another size."""
    torch.manual_seed(0)
    net = nn.Sequential(nn.Conv2d(2, 8, 3, padding=1), nn.ReLU(), nn.Conv2d(8, 1, 3, padding=1))
    with torch.no_grad():
        net[0].weight *= inner_unit / input_unit
        net[0].bias *= inner_unit  # type: ignore[operator]
        net[2].weight *= output_unit / inner_unit
        net[2].bias *= output_unit  # type: ignore[operator]
    return net.eval()


def _samples(unit: float = 1.0) -> list[Inputs]:
    generator = torch.Generator().manual_seed(1)
    return [(torch.rand(1, 2, 24, 32, generator=generator) * unit,) for _ in range(3)]


@torch.no_grad()
def _int8(net: nn.Module, samples: list[Inputs], path: Path) -> Tensor:
    """What the runtime makes of the last sample."""
    with quiet():
        graph = tidy_for_xnnpack(quantise_static(rewritten(net, samples[0]), samples[:2]))
        path.write_bytes(lower(torch.export.export(graph, samples[0]))[0])
    output: Tensor = PteProgram(path)(samples[2])
    return output


@pytest.fixture(scope="module")
def in_metres(tmp_path_factory: pytest.TempPathFactory) -> Tensor:
    return _int8(_net(), _samples(), tmp_path_factory.mktemp("metres") / "metres.pte")


@torch.no_grad()
@pytest.mark.parametrize(
    ("units", "inputs"),
    [
        ((1.0, 1.0, 1e-3), 1.0),
        ((1.0, 1.0, 2.0**-20), 1.0),
        ((1.0, 1.0, 1e6), 1.0),
        ((65535.0, 1.0, 1.0), 65535.0),
        ((1.0, 2.0**-12, 1.0), 1.0),
        ((1e-6, 1e9, 1e-3), 1e-6),
    ],
    ids=["kilometres", "tiny", "micrometres", "raw counts", "inside", "all"],
)
def test_int8_is_as_good_in_any_unit(
    units: tuple[float, float, float], inputs: float, in_metres: Tensor, tmp_path: Path
) -> None:
    usual = sqnr_db(_net()(*_samples()[2]), in_metres)
    other, scaled = _net(*units), _samples(inputs)
    found = sqnr_db(other(*scaled[2]), _int8(other, scaled, tmp_path / "other.pte"))
    assert usual > 30 and found == pytest.approx(usual, abs=1.0)


@torch.no_grad()
def test_powers_of_two_change_no_code(in_metres: Tensor, tmp_path: Path) -> None:
    """Multiplying by a power of two is exact, so every int8 code must be the same."""
    scaled = _int8(_net(2.0**8, 2.0**-3, 2.0**-10), _samples(2.0**8), tmp_path / "b.pte")
    assert torch.equal(scaled * 2.0**10, in_metres)


@torch.no_grad()
def test_dynamic_linears_are_as_good_in_any_unit() -> None:
    torch.manual_seed(0)
    usual, small = nn.Linear(16, 8).eval(), nn.Linear(16, 8).eval()
    small.weight.copy_(usual.weight * 1e-5)
    small.bias.copy_(usual.bias * 1e-5)
    inputs = (torch.rand(4, 16),)
    errors = [sqnr_db(net(*inputs), quantise_dynamic(net, inputs)(*inputs)) for net in (usual, small)]
    assert errors[0] > 30 and errors[1] == pytest.approx(errors[0], abs=1.0)


class _Three(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.a, self.b = nn.Conv2d(2, 8, 3, padding=1), nn.Conv2d(8, 8, 3, padding=1)
        self.c = nn.Conv2d(8, 1, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.c(torch.relu(self.b(torch.relu(self.a(x)))))
        return y


@torch.no_grad()
def test_a_layer_that_gives_nothing_but_zeros_loads(tmp_path: Path) -> None:
    """Its output has no range, hence next to no scale, and the ratio that XNNPACK bounds would have none."""
    net, samples = _Three().eval(), _samples()
    net.b.bias.fill_(-50.0)
    expected = net(*samples[2])
    assert sqnr_db(expected, _int8(net, samples, tmp_path / "a.pte")) > 40
    quantised = quantise_static(net, samples[:2])
    zero = next(n for n in quantised.graph.nodes if "quantize_per_tensor" in str(n.target) and n.args[1] < 1e-3)
    for node in [zero, *zero.users]:
        node.args = (node.args[0], 2.0**-60, *node.args[2:])
    quantised.recompile()
    with quiet():
        (tmp_path / "b.pte").write_bytes(lower(torch.export.export(quantised, samples[0]))[0])
    with pytest.raises(ExportError, match="does not load"):
        PteProgram(tmp_path / "b.pte")
    assert limit_requantisation(quantised) == 1


@torch.no_grad()
def test_a_channel_without_weights_keeps_its_bias(tmp_path: Path) -> None:
    """A bias is an int32 in units of input scale x weight scale: of no weights, it would saturate without an error."""
    net, samples = _Three().eval(), _samples()
    net.b.weight[3], net.b.weight[4] = 0.0, 1e-12
    net.b.bias[3:5] = torch.tensor([2.0, 1.0])
    assert sqnr_db(net(*samples[2]), _int8(net, samples, tmp_path / "a.pte")) > 25


class _Wall(nn.Module):
    """A wall at 20 m with a relief of centimetres."""

    def __init__(self, last: nn.Module) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.a, self.b, self.last = nn.Conv2d(2, 16, 3, padding=1), nn.Conv2d(16, 2, 3, padding=1), last
        with torch.no_grad():
            self.b.bias.copy_(torch.tensor([20.0, -300.0]))

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.last(self.b(torch.relu(self.a(x))))
        return y


@torch.no_grad()
@pytest.mark.parametrize("last", [nn.Identity(), nn.PixelShuffle(1), nn.Upsample(scale_factor=2), nn.LeakyReLU(0.5)])
def test_relief_on_a_far_wall_is_kept(last: nn.Module, tmp_path: Path) -> None:
    net, samples = _Wall(last).eval(), _samples()
    expected, found = net(*samples[2]), _int8(net, samples, tmp_path / "a.pte")
    relief = expected - expected.mean((2, 3), keepdim=True)
    structure_db = 10 * torch.log10(relief.square().mean() / (found - expected).square().mean())
    assert structure_db > 25, "7 dB with the offset inside the int8 grid"
