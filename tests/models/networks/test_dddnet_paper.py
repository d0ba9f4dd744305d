"""DDDNet as published: its counts, what its volume sees and what not, and that it learns."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor
from torch.utils.flop_counter import FlopCounterMode

from dualpix.capture.errors import DualpixError
from dualpix.models.data.rendered import RenderedDataset, RenderSettings
from dualpix.models.networks import build_network, network_spec
from dualpix.models.networks.dddnet_paper import ChannelAttention, DDDNetPaper, concatenation_volume
from dualpix.models.networks.spec import training_outputs

OVERFIT_STEPS = 120
"""One-sided it took 64, 71 s of one core."""


def built(**options: object) -> DDDNetPaper:
    with torch.device("meta"):
        network = build_network("dddnet-paper", options)
    assert isinstance(network, DDDNetPaper)
    return network


def count(module: torch.nn.Module) -> int:
    return sum(p.numel() for p in module.parameters())


def test_parameters_of_the_published_weights() -> None:
    network = built()
    assert count(network.depth.features) == 418_720
    assert [count(encoder) for encoder in network.deblur.encoders] == [869_440] * 3
    assert count(network.deblur) == 6_402_323  # published to three digits: 6.40 M
    # the layers of its lowest level are not known: within 1 % of 3,723,898
    assert count(network.depth.matching) == 3_690_872 == pytest.approx(3_723_898, rel=0.01)
    # used by DepthNet: 4.14 M published
    assert count(network.depth) == pytest.approx(4_142_618, rel=0.01)
    assert count(built(two_sided=True)) == count(network)


def test_work_of_the_coarse_map() -> None:
    halves = torch.empty(1, 3, 192, 256, device="meta")
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        built().eval().depth(halves, halves)
    assert counter.get_total_flops() / 2e9 == pytest.approx(61.3, rel=0.01)  # as measured of the published weights


def test_volume_pairs_each_place_with_what_lies_a_shift_further_right() -> None:
    g = torch.Generator().manual_seed(0)
    left, right = torch.rand(1, 2, 3, 9, generator=g), torch.rand(1, 2, 3, 9, generator=g)
    volume = concatenation_volume(left, right, range(-3, 4))
    for place, shift in enumerate(range(-3, 4)):
        for x in range(9):
            inside = 0 <= x + shift < 9
            expected = torch.cat([left[..., x], right[..., x + shift]], 1) if inside else torch.zeros(1, 4, 3)
            assert torch.equal(volume[:, :, place, :, x], expected)


def test_one_side_of_focus_alone_has_planes() -> None:
    """Behind focus the disparity is above 0; what is nearer has no plane in the published volume."""
    planes = {
        two_sided: build_network("dddnet-paper", {"two_sided": two_sided}).depth.plane_px.flatten()  # type: ignore[union-attr]
        for two_sided in (False, True)
    }
    assert len(planes[False]) == 12 and len(planes[True]) == 21
    assert float(planes[False].min()) == pytest.approx(-1 / 3) and float(planes[False].max()) == pytest.approx(10 / 3)
    torch.testing.assert_close(planes[True], -planes[True].flip(0))


def test_channel_attention_begins_as_nothing() -> None:
    attention, x = ChannelAttention(), torch.rand(2, 4, 3, 5)
    assert torch.equal(attention(x), x)
    with torch.no_grad():
        attention.gamma.fill_(0.5)
    flat = x.flatten(2).double()
    energy = flat @ flat.transpose(1, 2)
    weights = torch.softmax(energy.amax(2, keepdim=True) - energy, 2)
    expected = x.double() + 0.5 * (weights @ flat).reshape(x.shape)
    torch.testing.assert_close(attention(x).double(), expected, rtol=1e-5, atol=1e-5)


def test_options_that_do_not_fit() -> None:
    with pytest.raises(DualpixError, match="two_sided is 1, expected true or false"):
        build_network("dddnet-paper", {"two_sided": 1})


def batch_of(count: int, size_hw: tuple[int, int]) -> dict[str, Tensor]:
    settings = RenderSettings(size_hw=size_hw, optics="rectangle", coc_span_px=(3.0, 6.0), max_coc_px=6.0)
    data = RenderedDataset(count, settings=settings, seed=9, sharp=True)
    return {name: torch.stack([data[i][name] for i in range(count)]) for name in data[0]}


@pytest.mark.slow
@pytest.mark.parametrize("two_sided", [False, True])
def test_learns_four_samples_by_heart(two_sided: bool) -> None:
    """To less than 5 % of the first loss."""
    torch.manual_seed(0)
    spec, batch, options = network_spec("dddnet-paper"), batch_of(4, (48, 64)), {"two_sided": two_sided}
    network, loss = build_network("dddnet-paper", options).train(), spec.loss_for(options)
    optimiser = torch.optim.Adam(network.parameters(), 1e-3)
    inputs, losses = spec.inputs_of(batch), []
    for _ in range(OVERFIT_STEPS):
        value = loss(training_outputs(network, inputs), batch)
        optimiser.zero_grad()
        value.backward()
        torch.nn.utils.clip_grad_norm_(network.parameters(), 1.0)
        optimiser.step()
        losses.append(float(value.detach()))
        if losses[-1] < 0.05 * losses[0]:
            return
    pytest.fail(f"{losses[0]:.4f} fell to {losses[-1]:.4f} in {OVERFIT_STEPS} steps")


def test_matching_is_in_float32_whatever_the_rest_is_in() -> None:
    """Else gradients over two planes are wrong on CPUs with bfloat16: findings/torch-bfloat16-conv3d-two-planes.sh."""
    torch.manual_seed(0)
    network = build_network("dddnet-paper").train()
    spec, batch = network_spec("dddnet-paper"), batch_of(2, (32, 32))
    seen: list[torch.dtype] = []
    network.depth.matching.cost.register_forward_hook(lambda module, given, out: seen.append(out.dtype))  # type: ignore[union-attr]
    with torch.autocast("cpu", torch.bfloat16):
        outputs = training_outputs(network, spec.inputs_of(batch))
    spec.loss_for({})(outputs, batch).backward()
    assert seen == [torch.float32]
    assert all(torch.isfinite(p.grad).all() for p in network.parameters() if p.grad is not None)
