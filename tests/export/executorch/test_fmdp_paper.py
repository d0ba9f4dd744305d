"""FMDP's paper form with small foundation models as a program for phones: delegated as a whole, and right."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from tests.support.tiny_net import sqnr_db
from torch import Tensor

from dualpix.capture.cli import main
from dualpix.export.artefact import quiet
from dualpix.export.executorch.runtime import PteProgram
from dualpix.export.executorch.xnnpack import lower
from dualpix.models.networks import build_network
from dualpix.models.networks.fmdp_paper import FMDPPaper
from dualpix.models.prepare import network_inputs

SIZE_HW = (32, 64)


def a_network(options: dict[str, object]) -> FMDPPaper:
    """At random weights."""
    torch.manual_seed(0)
    built = build_network("fmdp-paper", options).eval()
    assert isinstance(built, FMDPPaper)
    return built


def views() -> tuple[Tensor, Tensor, Tensor]:
    generator = torch.Generator().manual_seed(1)
    left, image = (torch.rand(1, c, *SIZE_HW, generator=generator) for c in (1, 3))
    return network_inputs(left, left.roll(2, 3), image)


@pytest.mark.slow
@pytest.mark.parametrize(("foundation", "iterations"), [("efficientnet-lite0", 2), ("dinov2-vits14", 1)])
@torch.no_grad()
def test_on_xnnpack(foundation: str | None, iterations: int, tmp_path: Path) -> None:
    network, inputs = a_network({"foundation": foundation, "iterations": iterations}), views()
    expected = network(*inputs)
    assert expected.std() > 0.01
    network.fix_size(SIZE_HW)
    with quiet():
        content, delegation = lower(torch.export.export(network, inputs))
    assert not delegation.left_operators and delegation.compute_share == 1.0
    path = tmp_path / "fmdp.pte"
    path.write_bytes(content)
    seen = PteProgram(path)(inputs)
    assert isinstance(seen, Tensor) and sqnr_db(expected, seen) > 80
    # one set of weights for all iterations, in the file as well
    weights = sum(v.numel() * v.element_size() for v in network.state_dict().values())
    assert len(content) < 1.1 * weights + (4 << 20)


@pytest.mark.slow
def test_the_command_fixes_the_size(tmp_path: Path) -> None:
    """A folder as training leaves it -> ``dualpix export`` -> a program that is right and delegated as a whole."""
    options = {"foundation": "dinov2-vits14", "foundation_weights": "/gone/dinov2_vits14.pth", "iterations": 1}
    save_file(a_network(options).state_dict(), tmp_path / "weights.safetensors")
    (tmp_path / "card.json").write_text(json.dumps({"network": "fmdp-paper", "options": options}))
    out = tmp_path / "phone"
    size = "x".join(map(str, SIZE_HW))
    counts = ["--calibration-count", "1", "--eval-count", "1", "--rounds", "3"]
    with pytest.raises(SystemExit):
        main(["export", str(tmp_path), "-o", str(out), "--recipe", "xnnpack-fp32", "--size", size, *counts])
    entry = json.loads((out / "gate.json").read_text())["recipes"][0]
    assert entry["delegation"]["left_operators"] == {}
    assert entry["accuracy"]["from_float"]["sqnr_db"] > 80
