"""FOSSA and DfDNet in their paper forms: published sizes, published names, canonical space, and that they learn."""

from __future__ import annotations

import math
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from tests.support.foundation import TINY_DPT, TINY_VIT, stirred
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.flop_counter import FlopCounterMode

from dualpix.capture.errors import DualpixError
from dualpix.models.blocks.stack_attention import StackAttention
from dualpix.models.foundation.depth_anything import DepthAnythingV2, depth_anything_v2
from dualpix.models.losses import silog_gradient_loss
from dualpix.models.networks import build_network, network_spec
from dualpix.models.networks.dfdnet_paper import DfDNetPaper, DfDNetPaperConfig
from dualpix.models.networks.fossa_paper import FOSSAPaper, FOSSAPaperConfig, official_names
from dualpix.models.tasks import FOCUS_STACK

NETWORKS = ("fossa-paper", "dfdnet-paper")
_OVERFIT_STEPS = 600
"""At 1e-4 throughout, the loss jumps about 7 % of its first value from 200 steps on."""


def tiny(**options: object) -> FOSSAPaper:
    """Of 4 blocks of 32 channels that see frames as they are, every weight away from its plain start."""
    config = FOSSAPaperConfig(**({"short_side_px": None, "stack_blocks": 2} | options))  # type: ignore[arg-type]
    return stirred(lambda: FOSSAPaper(config, sizes=(TINY_VIT, TINY_DPT)))


def batch(frames: int = 3, size_hw: tuple[int, int] = (28, 42), stacks: int = 2) -> dict[str, Tensor]:
    g = torch.Generator().manual_seed(frames)
    return {
        "frames": torch.rand(stacks, frames, 3, *size_hw, generator=g),
        "focus_distances_m": torch.linspace(4.0, 0.5, frames).expand(stacks, -1),
        "depth_m": 0.5 + 3 * torch.rand(stacks, 1, *size_hw, generator=g),
        "focal_length_mm": torch.full((stacks,), 6.0),
        "pixel_pitch_um": torch.full((stacks,), 100.0),
    }


def inputs(given: dict[str, Tensor]) -> tuple[Tensor, ...]:
    return network_spec("fossa-paper").inputs_of(given)


@pytest.mark.parametrize(
    ("name", "options", "parameters"),
    [
        ("fossa-paper", {}, 42_539_721),
        ("fossa-paper", {"variant": "vitb"}, 168_369_481),
        ("dfdnet-paper", {}, 24_785_089 + 6 * 4_438_658),
        ("dfdnet-paper", {"stack_blocks": 2, "pooling": "max"}, 24_785_089 + 2 * 4_438_658),
    ],
)
def test_parameters(name: str, options: dict[str, object], parameters: int) -> None:
    with torch.device("meta"):
        network = build_network(name, options)
    assert sum(p.numel() for p in network.parameters()) == parameters
    assert sum(v.numel() for v in network.state_dict().values()) == parameters  # nothing else is kept


def test_cost() -> None:
    """370.4 "GFLOPs" is what the paper says of five frames at this size: multiply-accumulates.

    43.9 of them are the eight perceptrons of focus distance, at each of 1850 patches; here once a frame, which is the
    same.
    """
    with torch.device("meta"):
        network = build_network("fossa-paper").eval()
        given = torch.empty(1, 5, 3, 518, 700), torch.empty(1, 5), torch.empty(1)
        with FlopCounterMode(display=False) as counter, torch.no_grad():
            network(*given)
    perceptrons = 8 * 1850 * 5 * (4 * 384 + 4 * 384 * 384) / 1e9
    assert counter.get_total_flops() / 2e9 + perceptrons == pytest.approx(370.4, rel=0.005)


@pytest.mark.parametrize(
    ("size_hw", "seen_hw"), [((512, 700), (518, 714)), ((480, 640), (518, 700)), ((640, 480), (700, 518))]
)
def test_frames_are_brought_to_518_px_inside(size_hw: tuple[int, int], seen_hw: tuple[int, int]) -> None:
    """700 x 518 / 512 is 708.2: 708, and up to a multiple of 14."""
    with torch.device("meta"):
        network = FOSSAPaper()
    assert network.grid(size_hw) == seen_hw
    assert tiny().grid(size_hw) == size_hw


def test_at_first_a_stack_is_the_mean_of_its_pictures() -> None:
    """Stack attention is zero: tokens of the collapse are the mean of what Depth Anything makes of each frame."""
    plain = stirred(lambda: DepthAnythingV2(TINY_VIT, TINY_DPT))
    network = FOSSAPaper(FOSSAPaperConfig(short_side_px=None, stack_blocks=1), sizes=(TINY_VIT, TINY_DPT)).eval()
    missing = network.load_state_dict(plain.state_dict(), strict=False)
    assert all(".motion_modules." in key for key in missing.missing_keys) and not missing.unexpected_keys
    given = batch(3, stacks=1)
    same = given | {"frames": given["frames"][:, :1].expand(-1, 3, -1, -1, -1)}
    with torch.no_grad():
        frames, focus, width = inputs(same)
        found = network.canonical_depth(frames, focus, width)
        raw = plain.depth_head.raw_depth(plain(network._shown(frames)[:1])[0], (28, 42))
    assert torch.allclose(found, F.softplus(raw), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("pooling", ["mean", "max"])
def test_order_of_frames_does_not_matter_and_focus_does(pooling: str) -> None:
    network, given = tiny(pooling=pooling), batch(5)
    order = torch.tensor([2, 4, 0, 3, 1])
    mixed = given | {name: given[name][:, order] for name in ("frames", "focus_distances_m")}
    nearer = given | {"focus_distances_m": given["focus_distances_m"] * torch.tensor([1, 1, 0.7, 1, 1])}
    with torch.no_grad():
        one, other, moved = (network(*inputs(b)) for b in (given, mixed, nearer))
    assert one.shape == (2, 1, 28, 42) and one.min() > 0
    assert torch.allclose(one, other, atol=1e-4)
    assert not torch.allclose(one, moved, atol=1e-3)


def test_stack_attention_by_hand() -> None:
    """One patch at a time, with torch's own modules of the same weights."""
    module = stirred(lambda: StackAttention(32))
    tokens, focus = torch.randn(2 * 3, 5, 32), torch.rand(2, 3) + 0.5
    inner = module.temporal_transformer
    block = inner.transformer_blocks[0]
    with torch.no_grad():
        found = module(tokens, focus).reshape(2, 3, 5, 32)
        normal = F.group_norm(tokens.transpose(1, 2), 32, inner.norm.weight, inner.norm.bias, 1e-6).transpose(1, 2)
        x = inner.proj_in(normal).reshape(2, 3, 5, 32)
        for b, p in ((0, 0), (1, 4)):
            y = x[b, :, p]
            for attend, norm in zip(block.attention_blocks, block.norms, strict=True):
                told = F.layer_norm(y, (32,), norm.weight, norm.bias) + attend.pos_encoder(focus)[b]
                q, k, v = (
                    layer(told).reshape(3, 8, 4).transpose(0, 1) for layer in (attend.to_q, attend.to_k, attend.to_v)
                )
                mixed = (torch.softmax(q @ k.transpose(1, 2) / 2.0, -1) @ v).transpose(0, 1).reshape(3, 32)
                y = y + attend.to_out[0](mixed)
            value, gate = (
                block.ff.net[0].proj(F.layer_norm(y, (32,), block.ff_norm.weight, block.ff_norm.bias)).chunk(2, -1)
            )
            y = y + block.ff.net[2](value * F.gelu(gate))
            expected = tokens.reshape(2, 3, 5, 32)[b, :, p] + inner.proj_out(y)
            assert torch.allclose(found[b, :, p], expected, atol=1e-4)


def test_the_forms_for_phones_are_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    network, given = tiny(), batch(3, stacks=1)
    with torch.no_grad():
        eager = network(*inputs(given))
        network.fix_size((28, 42))
        monkeypatch.setattr(torch.compiler, "is_exporting", lambda: True)
        assert torch.allclose(network(*inputs(given)), eager, rtol=1e-4, atol=1e-4)


def test_canonical_space_follows_the_lens() -> None:
    """Twice the focal length at twice the distances: the network sees the same, and says twice as far."""
    network, given = tiny(), batch(3)
    far = given | {"focus_distances_m": 2 * given["focus_distances_m"], "focal_length_mm": 2 * given["focal_length_mm"]}
    with torch.no_grad():
        assert torch.allclose(network(*inputs(far)), 2 * network(*inputs(given)), rtol=1e-4)
        assert torch.isfinite(network(*inputs(given | {"focus_distances_m": torch.tensor([[1e4, 1, 0.5]] * 2)}))).all()


# --- weights ------------------------------------------------------------------------------------------------------


def official(network: FOSSAPaper, perceptron: str = "fd_embedding") -> dict[str, Tensor]:
    """As its authors save it: the perceptron of focus under another name, as each attention has one."""
    state = {}
    for key, value in network.state_dict().items():
        renamed = key.replace(".pos_encoder.mlp.", f".{perceptron}.layers.").replace(".pos_encoder.", f".{perceptron}.")
        state[renamed] = value.reshape(()) if key.endswith("pos_encoder.scale") else value
    return state


def test_a_checkpoint_of_the_published_names_loads(tmp_path: Path) -> None:
    trained, fresh = tiny(), FOSSAPaper(tiny().config, sizes=(TINY_VIT, TINY_DPT))
    path = tmp_path / "fossa.pth"
    torch.save({"model": official(trained), "epoch": 40}, path)
    assert fresh.load_published(path).startswith("fossa.pth, SHA-256 ")
    assert all(torch.equal(v, trained.state_dict()[k]) for k, v in fresh.state_dict().items())
    wanted = "pretrained.motion_modules.1.temporal_transformer.transformer_blocks.0.attention_blocks.1.to_q.weight"
    assert wanted in fresh.state_dict() and official_names(trained.state_dict()).keys() == trained.state_dict().keys()


@pytest.mark.parametrize(
    "renamed",
    [
        "pretrained.motion_modules.0.temporal_transformer.proj_in.weight",
        "pretrained.motion_modules.1.temporal_transformer.transformer_blocks.0.ff.net.0.proj.bias",
        "pretrained.blocks.2.attn.qkv.weight",
        "depth_head.scratch.output_conv2.2.weight",
    ],
)
def test_a_renamed_weight_is_refused_by_name(renamed: str, tmp_path: Path) -> None:
    state = official(tiny())
    state[renamed.replace("weight", "wait").replace("bias", "buys")] = state.pop(renamed)
    torch.save(state, tmp_path / "fossa.pth")
    with pytest.raises(DualpixError) as caught:
        tiny().load_published(tmp_path / "fossa.pth")
    assert f"'{renamed}' is missing" in str(caught.value) and "\n" not in str(caught.value)


def test_a_perceptron_that_lacks_a_layer_is_refused_by_name(tmp_path: Path) -> None:
    state = official(tiny())
    lost = next(key for key in state if key.endswith("fd_embedding.layers.2.bias"))
    del state[lost]
    torch.save(state, tmp_path / "fossa.pth")
    with pytest.raises(DualpixError, match=r"attention_blocks\.0\.pos_encoder\.\S+' is missing"):
        tiny().load_published(tmp_path / "fossa.pth")


def test_weights_of_depth_anything_leave_stack_attention_as_it_is(tmp_path: Path) -> None:
    """Those of the small model, to which the training of both began."""
    given = depth_anything_v2("vits")
    save_file(given.state_dict(), tmp_path / "depth_anything_v2_metric_hypersim_vits.safetensors")
    path = str(tmp_path / "depth_anything_v2_metric_hypersim_vits.safetensors")
    network = build_network("fossa-paper", {"foundation_weights": path})
    assert isinstance(network, FOSSAPaper)
    before = {k: v.clone() for k, v in network.state_dict().items() if ".motion_modules." in k}
    assert str(network.start()).startswith("depth_anything_v2_metric_hypersim_vits.safetensors")
    state = network.state_dict()
    assert all(torch.equal(state[k], v) for k, v in (given.state_dict() | before).items())
    with pytest.raises(DualpixError, match="cannot read weights"):
        network.load_published(tmp_path / "gone.pth")


# --- training -----------------------------------------------------------------------------------------------------


def test_the_loss_by_hand() -> None:
    truth = torch.full((1, 1, 4, 4), 2.0)
    found = truth * math.e
    assert float(silog_gradient_loss(found, truth, gradient_weight=0.0)) == pytest.approx(math.sqrt(0.5), rel=1e-4)
    slope = truth + torch.arange(4.0).reshape(1, 1, 1, 4)
    # 1 a pixel along x, and 2 a pixel at half the size
    assert float(silog_gradient_loss(slope, truth, silog_weight=0.0, gradient_weight=1.0)) == pytest.approx(3.0)
    assert float(silog_gradient_loss(slope, truth, silog_weight=0.0, gradient_weight=0.1)) == pytest.approx(0.3)


def test_options_weigh_the_loss_and_far_truth_does_not_count() -> None:
    given = batch(3)
    prediction = torch.cat([given["depth_m"] * 0.5, torch.full_like(given["depth_m"], 0.7)], 1)
    losses = {name: float(network_spec(name).loss_for({})([prediction], given)) for name in NETWORKS}
    assert losses["fossa-paper"] > losses["dfdnet-paper"]  # gradients count ten times as much, and are most of it here
    weights = {"silog_weight": 0.1, "gradient_weight": 1.0}
    assert float(network_spec("dfdnet-paper").loss_for(weights)([prediction], given)) == pytest.approx(
        losses["fossa-paper"]
    )
    far = given["depth_m"].clone()
    far[..., :4] = 1e4
    known = torch.ones_like(far)
    known[..., :4] = 0
    holed = network_spec("fossa-paper").loss_for({})([prediction], given | {"known": known})
    assert float(network_spec("fossa-paper").loss_for({})([prediction], given | {"depth_m": far})) == float(holed)


@pytest.mark.parametrize("name", NETWORKS)
def test_gradients_reach_every_weight_that_counts(name: str) -> None:
    config = {"fossa-paper": FOSSAPaperConfig, "dfdnet-paper": DfDNetPaperConfig}[name](
        short_side_px=None, stack_blocks=2
    )
    build = {"fossa-paper": FOSSAPaper, "dfdnet-paper": DfDNetPaper}[name]
    network = stirred(lambda: build(config, sizes=(TINY_VIT, TINY_DPT))).train()
    given = batch(3)
    network_spec(name).loss_for({})(network.forward_scales(*inputs(given)), given).backward()
    assert [key for key, p in network.named_parameters() if p.requires_grad and p.grad is None] == []


@pytest.mark.slow
@pytest.mark.timeout(7200)  # minutes of a core that is free, an hour of one that others use
@pytest.mark.parametrize("name", NETWORKS)
def test_overfits_four_samples(name: str) -> None:
    """ViT-S, four stacks of five frames of 42 x 56 px whose depth is where their frames are sharp."""
    torch.manual_seed(0)
    given = batch(5, (42, 56), 4)
    given["depth_m"] = 0.7 + 2 * F.interpolate(torch.rand(4, 1, 3, 4), (42, 56), mode="bilinear")
    options = {"short_side_px": None}
    network = build_network(name, options).train()
    loss_of = network_spec(name).loss_for(options)
    optimiser = torch.optim.AdamW(network.parameters(), 1e-4)
    shown, losses = inputs(given), []
    fading = torch.optim.lr_scheduler.LinearLR(optimiser, 1.0, 0.05, _OVERFIT_STEPS)
    while not losses or (losses[-1] >= 0.05 * losses[0] and len(losses) < _OVERFIT_STEPS):
        loss = loss_of(network.forward_scales(*shown), given)  # type: ignore[operator]
        optimiser.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(network.parameters(), 1.0)
        optimiser.step()
        fading.step()
        losses.append(float(loss.detach()))
    assert losses[-1] < 0.05 * losses[0], losses[::20]


@pytest.mark.parametrize(
    ("options", "match"),
    [
        ({"variant": "vitl"}, "expected vits or vitb"),
        ({"stack_blocks": 12}, "expected 1 to 11"),
        ({"pooling": "sum"}, "expected mean or max"),
        ({"short_side_px": 7}, "expected 14 to 4096"),
        ({"gradient_scales": 0}, "expected 1 to 8"),
        ({"silog_weight": -1}, "a number from 0 on"),
        ({"foundation_weights": 3}, "expected a path"),
        ({"width": 3}, "width"),
    ],
)
@pytest.mark.parametrize("name", NETWORKS)
def test_bad_options_are_one_line(name: str, options: dict[str, object], match: str) -> None:
    with pytest.raises(DualpixError, match=match) as caught:
        build_network(name, options)
    assert "\n" not in str(caught.value)


def test_without_the_resize_frames_are_whole_patches() -> None:
    assert network_spec("fossa-paper").size_multiple == 1
    assert network_spec("fossa-paper", {"short_side_px": None}).size_multiple == 14
    assert FOCUS_STACK.name == network_spec("dfdnet-paper").task
