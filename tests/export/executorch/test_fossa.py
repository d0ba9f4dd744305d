"""The networks for focus stacks as programs for phones: delegated as a whole, and right."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from tests.support.foundation import TINY_DPT, TINY_VIT, stirred
from tests.support.tiny_net import sqnr_db
from torch import Tensor, nn

from dualpix.export.artefact import Delegation, quiet
from dualpix.export.executorch.program import network_macs
from dualpix.export.executorch.runtime import PteProgram
from dualpix.export.executorch.xnnpack import lower
from dualpix.models.blocks.channels import float_islands
from dualpix.models.networks.dfdnet_paper import DfDNetPaper, DfDNetPaperConfig
from dualpix.models.networks.fossa import FOSSA
from dualpix.models.networks.fossa_paper import FOSSAPaper, FOSSAPaperConfig
from dualpix.models.prepare import blur_px_per_diopter, stack_inputs
from dualpix.quantize.keep import keep_modules
from dualpix.quantize.ptq import quantise_static

SIZE_HW = (64, 96)
Inputs = tuple[Tensor, ...]


def stack(frames: int, size_hw: tuple[int, int], seed: int = 0) -> Inputs:
    generator = torch.Generator().manual_seed(seed)
    light = torch.rand(1, frames, 3, *size_hw, generator=generator)
    shown, focus_diopters = stack_inputs(light, torch.linspace(4.0, 0.5, frames)[None])
    lens = torch.tensor([6.9]), torch.tensor([1.7]), torch.tensor([20.0])
    return shown, focus_diopters, torch.tensor([1.3]), blur_px_per_diopter(focus_diopters, *lens)


def run(network: nn.Module, inputs: Inputs, path: Path, macs: int | None = None) -> tuple[list[Tensor], Delegation]:
    with quiet(), torch.no_grad():
        content, delegation = lower(torch.export.export(network, inputs), macs)
    path.write_bytes(content)
    outputs = PteProgram(path)(inputs)
    return [outputs] if isinstance(outputs, Tensor) else list(outputs), delegation


def compact() -> FOSSA:
    """At random weights, its zeros moved."""
    torch.manual_seed(0)
    network = FOSSA()
    with torch.no_grad():
        for name, parameter in network.named_parameters():
            if not name.startswith("model."):
                parameter += 0.02 * torch.randn_like(parameter)
    return network.eval()


@pytest.mark.slow
@pytest.mark.timeout(3600)
@pytest.mark.parametrize("frames", [2, 5])
@torch.no_grad()
def test_the_compact_form(frames: int, tmp_path: Path) -> None:
    network, inputs = compact(), stack(frames, SIZE_HW)
    expected = network(*inputs)
    outputs, delegation = run(network, inputs, tmp_path / "fossa.pte")
    assert delegation.compute_share >= 0.99  # sums over frames, whose weights are made in the graph, stay outside
    for seen, wanted in zip(outputs, expected, strict=True):
        assert sqnr_db(wanted, seen) > 80


@pytest.mark.slow
@pytest.mark.timeout(3600)
def test_the_compact_form_in_int8(tmp_path: Path) -> None:
    network, inputs = compact(), stack(3, SIZE_HW)
    with quiet():
        samples = [stack(3, SIZE_HW, seed) for seed in range(1, 4)]
        graph = quantise_static(network, samples, keep_modules(*float_islands(network)))
    with torch.no_grad():
        emulated = graph(*inputs)
    outputs, delegation = run(graph, inputs, tmp_path / "fossa.pte", network_macs(network, inputs))
    assert delegation.compute_share >= 0.97
    for seen, wanted in zip(outputs, emulated, strict=True):
        assert sqnr_db(wanted, seen) > 20


@pytest.mark.slow
@pytest.mark.timeout(3600)
@pytest.mark.parametrize("name", ["fossa", "dfdnet"])
@torch.no_grad()
def test_paper_forms(name: str, tmp_path: Path) -> None:
    """Of 4 blocks of 32 channels: what is delegated does not hang on the width."""
    build, config = {"fossa": (FOSSAPaper, FOSSAPaperConfig), "dfdnet": (DfDNetPaper, DfDNetPaperConfig)}[name]
    options = config(short_side_px=56, stack_blocks=2, pooling="mean" if name == "fossa" else "max")
    network = stirred(lambda: build(options, sizes=(TINY_VIT, TINY_DPT)))
    inputs = stack(3, (60, 80))[:3]
    expected = network(*inputs)
    network.fix_size((60, 80))
    outputs, delegation = run(network, inputs, tmp_path / "paper.pte")
    assert delegation.compute_share >= 0.95
    assert sqnr_db(expected, outputs[0]) > 80
