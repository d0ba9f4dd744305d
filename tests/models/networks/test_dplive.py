"""The network for a live view: cost, what it measures before it has learnt anything, and what it learns."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor
from torch.utils.flop_counter import FlopCounterMode

from dualpix.models.networks import build_network, network_spec
from dualpix.models.networks.dplive import CUES, DPLive, DPLiveConfig
from dualpix.models.networks.spec import training_outputs

MOST_GMAC = {"slope": 1.4, "planes": 1.5, "both": 1.51, "none": 1.4}
"""At 384 x 512, by what is measured: a live view has 1.5 for it."""
MOST_PARAMETERS = 600_000
"""In int8 with its scales a file of less than 0.7 MB."""


def _inputs(h: int, w: int, b: int = 1) -> tuple[Tensor, Tensor, Tensor]:
    g = torch.Generator().manual_seed(0)
    return tuple(torch.rand(b, c, h, w, generator=g) - 0.4 for c in (3, 1, 1))  # type: ignore[return-value]


@pytest.mark.parametrize("cue", CUES)
def test_cost_and_outputs(cue: str) -> None:
    with torch.device("meta"):
        network = build_network("dplive", {"cue": cue}).eval()
        inputs = [torch.empty(1, c, 384, 512) for c in (3, 1, 1)]
        with FlopCounterMode(display=False) as counter, torch.no_grad():
            outputs = network(*inputs)
    assert [tuple(o.shape) for o in outputs] == [(1, 1, 384, 512)] * 2
    assert counter.get_total_flops() / 2e9 <= MOST_GMAC[cue]
    assert sum(p.numel() for p in network.parameters()) <= MOST_PARAMETERS
    assert network_spec("dplive").outputs == ("disparity_px", "confidence")


@pytest.mark.parametrize("cue", CUES)
def test_scales_for_the_loss_end_in_what_forward_gives(cue: str) -> None:
    torch.manual_seed(0)
    network = DPLive(DPLiveConfig(cue=cue)).eval()
    inputs = _inputs(64, 96)
    with torch.no_grad():
        disparity_px, confidence = network(*inputs)
        finest, coarse = network.forward_scales(*inputs)
        trained = network.train().convex.plain(coarse * network.to_coarse, torch.zeros(1, 144, 16, 24))
    assert torch.allclose(finest[:, :1], disparity_px, atol=1e-5)
    assert torch.allclose(torch.sigmoid(finest[:, 1:]), confidence, atol=1e-6)
    assert coarse.shape == (1, 1, 16, 24)
    # equal scores: the mean of a pixel and its neighbours, in px of the full picture
    mean = torch.nn.functional.avg_pool2d(coarse, 3, 1, 1)
    assert torch.allclose(trained[..., ::4, ::4], mean, atol=1e-5)


def test_the_result_is_a_mean_of_what_was_measured_at_first() -> None:
    """The first order is not to be learnt: with the correction at zero a shift of the views is found as it is."""
    torch.manual_seed(0)
    network = DPLive().eval()
    with torch.no_grad():
        network.correct.weight.zero_()
        network.correct.bias.zero_()  # type: ignore[union-attr]
        x = torch.arange(192.0)
        waves = [0.15 * torch.sin(2 * torch.pi * (x + shift) / 24).expand(1, 1, 96, -1) for shift in (-0.3, 0.3)]
        image = waves[0].expand(-1, 3, -1, -1)
        found, _ = network(image, *waves)
    # the right view shows at x what the left one shows at x + 0.6: it lies to the left
    assert found[..., 16:-16, 32:-32].median() == pytest.approx(-0.6, rel=0.1)


def test_it_learns_one_batch() -> None:
    torch.manual_seed(0)
    network = DPLive()
    inputs, truth = _inputs(64, 96, 2), {"disparity_px": torch.linspace(-1, 1, 96).expand(2, 1, 64, 96)}
    loss_of = network_spec("dplive").loss_for({})
    optimiser = torch.optim.AdamW(network.parameters(), 2e-3)
    losses = []
    for _ in range(30):
        loss = loss_of(training_outputs(network, inputs), truth)
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        losses.append(float(loss.detach()))
    assert losses[-1] < 0.6 * losses[0]


def test_options_that_are_none_are_refused() -> None:
    with pytest.raises(ValueError, match="cue is 'edges', expected one of slope, planes, both, none"):
        DPLiveConfig(cue="edges")
    with pytest.raises(ValueError, match="expected whole numbers of 1 to 1024"):
        DPLiveConfig(channels=(0, 64, 80, 96))
