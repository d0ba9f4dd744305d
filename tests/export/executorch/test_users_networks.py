"""Networks as users write them, through XNNPACK and its runtime."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from tests.support.tiny_net import sqnr_db
from torch import Tensor, nn
from torch.nn import functional as F

from dualpix.export.artefact import BuildRequest
from dualpix.export.executorch import xnnpack
from dualpix.export.executorch.runtime import PteProgram
from dualpix.quantize.calibration import CalibrationSet, Inputs


class ConvexUpsampling(nn.Module):
    """Disparity at a quarter of the size and RAFT's upsampling of it (Teed, Deng, ECCV 2020): 7 axes, ``unfold``."""

    def __init__(self) -> None:
        super().__init__()
        self.disparity, self.mask = nn.Conv2d(3, 1, 3, 4, 1), nn.Conv2d(3, 9 * 16, 3, 4, 1)

    def forward(self, x: Tensor) -> Tensor:
        d, m = self.disparity(x), self.mask(x)
        b, _, h, w = d.shape
        m = m.view(b, 1, 9, 4, 4, h, w).softmax(2)
        patches = F.unfold(d, 3, padding=1).view(b, 1, 9, 1, 1, h, w)
        return (m * patches).sum(2).permute(0, 1, 4, 2, 5, 3).reshape(b, 1, 4 * h, 4 * w)


class CostVolume(nn.Module):
    """A cost volume by shifts, filtered in three dimensions, and the expected disparity."""

    def __init__(self) -> None:
        super().__init__()
        self.feature = nn.Conv2d(3, 4, 3, padding=1)
        self.first, self.last = nn.Conv3d(8, 6, 3, padding=1), nn.Conv3d(6, 1, 3, padding=1)
        self.norm = nn.BatchNorm3d(6)

    def forward(self, left: Tensor, right: Tensor) -> Tensor:
        a, b = self.feature(left), self.feature(right)
        shifted = [F.pad(b, (d, 0))[..., : b.shape[-1]] for d in range(5)]
        volume = torch.stack([torch.cat([a, s], 1) for s in shifted], 2)
        scores = self.last(torch.relu(self.norm(self.first(volume)))).squeeze(1)
        return (scores.softmax(1) * torch.arange(5.0).view(1, -1, 1, 1)).sum(1, keepdim=True)


class Pyramid(nn.Module):
    """Between convolutions, a factor that does not divide."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.b, self.c = (nn.Conv2d(n, 8, 3, padding=1) for n in (3, 8, 8))

    def forward(self, x: Tensor) -> Tensor:
        y = F.relu(self.b(F.relu(self.a(x))))
        return self.c(F.interpolate(y, scale_factor=1.3, mode="bilinear"))


class InPlace(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.c = nn.Conv2d(3, 4, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.c(x.sub_(0.5).div_(0.25))
        return y


def _smooth(*shape: int) -> Tensor:
    return F.interpolate(torch.rand(1, 3, shape[-2] // 4, shape[-1] // 4), shape[-2:], mode="bilinear")


_PICTURE = (1, 3, 16, 24)
_NETWORKS: dict[str, tuple[Callable[[], nn.Module], int, float]] = {
    "convex upsampling": (ConvexUpsampling, 1, 20.0),
    "cost volume": (CostVolume, 2, 20.0),
    "pyramid": (Pyramid, 1, 25.0),
    "in place": (InPlace, 1, 25.0),
}


def _request(module: nn.Module, precision: str, path: Path, samples: tuple[Inputs, ...]) -> BuildRequest:
    names = tuple(f"x{i}" for i in range(len(samples[0])))
    return BuildRequest(module, precision, path, samples[0], names, ("y",), CalibrationSet(samples, "test"))


@torch.no_grad()
@pytest.mark.parametrize("precision", ["fp32", "int8"])
@pytest.mark.parametrize("name", _NETWORKS)
def test_it_computes_what_the_network_does(name: str, precision: str, tmp_path: Path) -> None:
    make, inputs, int8_db = _NETWORKS[name]
    torch.manual_seed(0)
    net = make().eval()
    samples = tuple(tuple(_smooth(*_PICTURE) for _ in range(inputs)) for _ in range(3))
    artefact = xnnpack.build(_request(net, precision, tmp_path / "a.pte", samples))
    assert artefact.predict and artefact.delegation and artefact.delegation.compute_share == 1.0
    copies = tuple(t.clone() for t in samples[2])
    assert sqnr_db(net(*copies), artefact.predict(samples[2])) > (int8_db if precision == "int8" else 100.0)


@pytest.fixture(scope="module")
def program(tmp_path_factory: pytest.TempPathFactory) -> tuple[nn.Module, PteProgram]:
    torch.manual_seed(0)
    net = nn.Sequential(nn.Conv2d(3, 8, 3, padding=1), nn.ReLU(), nn.Conv2d(8, 1, 3, padding=1)).eval()
    path = tmp_path_factory.mktemp("pte") / "a.pte"
    xnnpack.build(_request(net, "fp32", path, ((_channels_last(),),)))
    return net, PteProgram(path)


def _channels_last() -> Tensor:
    return torch.rand(_PICTURE).to(memory_format=torch.channels_last)


@torch.no_grad()
@pytest.mark.parametrize(
    "given",
    [
        _channels_last,
        lambda: torch.rand(16, 24, 3).permute(2, 0, 1)[None],
        lambda: torch.rand(1, 3, 16, 48)[..., ::2],
        lambda: torch.rand(1, 1, 16, 24).expand(-1, 3, -1, -1),
        lambda: torch.rand(_PICTURE),
    ],
    ids=["channels last", "from a camera", "every second", "expanded", "contiguous"],
)
def test_a_program_takes_inputs_in_any_order_in_memory(
    program: tuple[nn.Module, PteProgram], given: Callable[[], Tensor]
) -> None:
    """The runtime alone takes one of another order for a contiguous one, or fails with a number."""
    net, run = program
    x = given()
    output = run((x,))
    assert sqnr_db(net(x), output) > 100 and output.is_contiguous()
    assert sqnr_db(net(x), run((x,))) > 100, "and once more"
