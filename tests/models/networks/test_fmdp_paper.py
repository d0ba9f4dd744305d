"""FMDP's paper form: published sizes, a frozen foundation model, its loss, and that it learns."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor, nn
from torch.nn import functional as F

from dualpix.capture.cli import main
from dualpix.capture.errors import DualpixError, UnknownNameError
from dualpix.capture.pictures.display import srgb_from_linear
from dualpix.models.data.rendered import RenderSettings, render_sample
from dualpix.models.foundation import foundation, foundation_spec
from dualpix.models.foundation.depth_anything import depth_anything_v2
from dualpix.models.networks import build_network, network_spec
from dualpix.models.networks.fmdp_paper import FMDPPaper, FMDPPaperConfig, FoundationContext, sequence_loss
from dualpix.models.networks.raft_encoders import InstanceNorm
from dualpix.models.networks.raft_update import SimilarityAttention
from dualpix.models.prepare import network_inputs
from dualpix.models.train import TrainConfig, Trainer
from dualpix.models.zoo import load_model

LITE = "efficientnet-lite0"


def network(iterations: int = 1, name: str | None = LITE) -> FMDPPaper:
    torch.manual_seed(0)
    return FMDPPaper(FMDPPaperConfig(name, iterations=iterations))


def inputs(b: int = 1, h: int = 32, w: int = 64, seed: int = 0) -> tuple[Tensor, Tensor, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    left, right, image = (torch.rand(b, c, h, w, generator=generator) for c in (1, 1, 3))
    return network_inputs(left, right, image)


def parameters(module: nn.Module | None) -> int:
    assert module is not None
    return sum(p.numel() for p in module.parameters())


@pytest.mark.parametrize(
    ("name", "encoder", "fa_blocks"),
    [
        ("depth-anything-v2-vitl", 304_368_640, 393_600),
        ("dinov2-vitl14", 304_368_640, 393_600),
        ("depth-anything-v2-vits", 22_056_576, 3 * (384 * 128 + 128)),
        ("dinov2-vitb14", 86_580_480, 3 * (768 * 128 + 128)),
        (LITE, 2_958_848, (40 + 112 + 320) * 128 + 3 * 128),
        (None, 0, 0),
    ],
)
def test_parameters(name: str | None, encoder: int, fa_blocks: int) -> None:
    """Of the published network 316.3 M at inference: encoder, QPDNet with two side views, FA blocks."""
    with torch.device("meta"):
        built = build_network("fmdp-paper", {"foundation": name})
        assert parameters(SimilarityAttention(72)) == 374_619
    assert isinstance(built, FMDPPaper)
    assert parameters(built) - (parameters(built.known) if built.known else 0) == 11_493_099
    if built.known is not None:
        assert parameters(built.known.model) == encoder
        assert parameters(built.known.project) == fa_blocks
    assert parameters(built) == 11_493_099 + encoder + fa_blocks


def test_the_default_is_the_published_network() -> None:
    assert FMDPPaperConfig() == FMDPPaperConfig("depth-anything-v2-vitl", None, 8)


def test_shapes() -> None:
    built = network(2).eval()
    with torch.inference_mode():
        for b, h, w in ((1, 32, 64), (2, 48, 16), (1, 112, 112)):
            out = built(*inputs(b, h, w))
            assert out.shape == (b, 1, h, w) and torch.isfinite(out).all()
        scales = built.forward_scales(*inputs(2))
    assert [tuple(s.shape) for s in scales] == [(2, 1, 32, 64)] * 2
    with torch.inference_mode():
        torch.testing.assert_close(scales[0], built(*inputs(2)))
    assert not torch.equal(scales[0], scales[1])


@pytest.mark.parametrize("side", [-1.0, 1.0])
def test_sign_and_scale_of_the_result(side: float) -> None:
    """A correction of +-1 px at 1/4, in every iteration, is a half disparity of 4 input px each: a disparity of 8."""
    built = network(3).eval()
    last = built.update.correction[-1]
    assert isinstance(last, nn.Conv2d) and last.bias is not None
    with torch.no_grad():
        last.weight.zero_()
        last.bias.copy_(torch.tensor([side, 100.0]))
        out = built(*inputs(1, 64, 64))
    torch.testing.assert_close(out[..., 8:-8, 8:-8], torch.full((1, 1, 48, 48), side * 3 * 8))


def test_the_view_between_is_the_mean_of_light() -> None:
    left, right, combined = torch.rand(1, 1, 8, 8), torch.rand(1, 1, 8, 8), torch.rand(1, 3, 8, 8)
    _, seen_left, seen_right = network_inputs(left, right, combined)
    gain = 0.18 / (0.5 * (left + right)).mean()
    between = network()._between(seen_left, seen_right)
    torch.testing.assert_close(between, torch.sqrt(0.5 * (left + right) * gain) - 0.4)


def test_the_foundation_sees_a_picture() -> None:
    """sRGB encoded, the brightest value of each picture at 1."""
    light = torch.rand(2, 3, 24, 24) ** 3
    light[0] *= 0.5
    light[:, :, 0, 0] = 0.0
    context = FoundationContext(LITE)
    image, _, _ = network_inputs(light[:, :1], light[:, :1], light)
    white = (light / light.amax((1, 2, 3), keepdim=True)).double().numpy()
    picture = context.display(image)
    np.testing.assert_allclose(picture.numpy(), srgb_from_linear(white), atol=3e-5)
    assert picture.amax((1, 2, 3)).tolist() == pytest.approx([1.0, 1.0], abs=1e-5)
    assert torch.isfinite(context.display(torch.full((1, 3, 16, 16), -0.4))).all()  # a black one


@pytest.mark.parametrize(
    ("name", "side_px", "seen_px"),
    [
        ("dinov2-vits14", 448, 448),
        ("dinov2-vits14", 112, 112),
        ("dinov2-vits14", 64, 70),
        ("dinov2-vits14", 96, 98),
        ("dinov2-vits14", 16, 14),
        (LITE, 112, 128),
        (LITE, 96, 96),
        (LITE, 16, 32),
    ],
)
def test_the_grid_of_the_foundation(name: str, side_px: int, seen_px: int) -> None:
    """Exactly the paper's, patches of 7/2, 7/4 and 7/8 px of the maps, at multiples of 112 px."""
    with torch.device("meta"):
        context = FoundationContext(name)
    assert context.grid((side_px, 448)) == (seen_px, 448)


def test_fa_blocks_are_resize_then_1x1_then_relu() -> None:
    context = FoundationContext(LITE).eval()
    image = inputs(1, 64, 96)[0]
    with torch.inference_mode():
        seen = context(image)
        features = context.model(context.display(image))[-3:]
        for i, (project, feature) in enumerate(zip(context.project, features, strict=True)):
            resized = F.interpolate(feature, size=(16 >> i, 24 >> i), mode="bilinear")
            torch.testing.assert_close(seen[i], F.relu(project(resized)), atol=1e-5, rtol=1e-4)


def test_the_context_replaces_that_of_the_encoder_and_nothing_else() -> None:
    built, plain = network(), network(name=None)
    assert built.known is not None and plain.known is None
    hidden, own = built.encode.eval()(inputs()[0])
    assert len(hidden) == 3 and own == []
    assert not any(p.requires_grad for p in built.encode.context.parameters())
    assert all(p.requires_grad for p in plain.parameters())
    assert [tuple(c.shape) for c in plain.encode(inputs(2)[0])[1]] == [(2, 128, 8, 16), (2, 128, 4, 8), (2, 128, 2, 4)]


def test_the_foundation_is_frozen_for_good() -> None:
    built = network(2).train()
    assert built.known is not None
    model = built.known.model
    before = {name: value.clone() for name, value in model.state_dict().items()}
    batch = {"disparity_px": torch.ones(2, 1, 32, 64)}
    optimiser = torch.optim.AdamW(built.parameters(), 1e-2)
    for _ in range(2):
        optimiser.zero_grad()
        sequence_loss(built.forward_scales(*inputs(2)), batch).backward()  # type: ignore[no-untyped-call]
        optimiser.step()
    assert not model.training and not any(m.training for m in model.modules())
    assert all(p.grad is None for p in model.parameters())
    assert all(torch.equal(before[name], value) for name, value in model.state_dict().items())
    # and all that is not frozen learns: what wants a gradient and gets none stops training in several processes
    assert [n for n, p in built.named_parameters() if p.requires_grad and p.grad is None] == []
    assert all(p.grad is not None for p in built.known.project.parameters())


def test_no_gradient_flows_through_coordinates() -> None:
    """The first estimate is not changed by what later ones do: its gradient is that of one iteration."""
    gradients = []
    for iterations in (1, 2):
        built = network(iterations).eval()
        out = built.forward_scales(*inputs())[-1]
        gradients.append(torch.autograd.grad(out.sum(), list(built.update.correction.parameters()))[0])
    torch.testing.assert_close(gradients[0], gradients[1])
    built = network(2).eval()
    handed: list[Tensor] = []
    built.matching.register_forward_pre_hook(lambda _, given: handed.append(given[1]))
    built(*inputs())
    assert len(handed) == 2 and not any(half_px.requires_grad for half_px in handed) and handed[1].any()


def test_sequence_loss_by_hand() -> None:
    """n = 3: g = 0.9^7.5. Errors of halves are 3, 2 and 1/2 px; holes and halves of 700 px and more do not count."""
    truth = torch.full((1, 1, 4, 4), 2.0)
    truth[..., 0, 0], truth[..., 0, 1], truth[..., 0, 2] = float("nan"), 1400.0, 9.0
    known = torch.ones_like(truth)
    known[..., 0, 2] = 0
    predictions = [torch.full_like(truth, value).requires_grad_() for value in (1.0, -2.0, 8.0)]
    gamma = 0.9**7.5
    loss = sequence_loss(predictions, {"disparity_px": truth, "known": known})
    assert float(loss.detach()) == pytest.approx(0.5 + gamma * 2 + gamma**2 * 3)
    assert all(torch.isfinite(g).all() for g in torch.autograd.grad(loss, predictions))
    without = sequence_loss([torch.full_like(truth, 1.0)], {"disparity_px": torch.full_like(truth, 2.0)})
    assert float(without) == pytest.approx(0.5)
    assert network_spec("fmdp-paper").loss is not None


def test_bfloat16_rounds_no_disparity() -> None:
    built = network().eval()
    last = built.update.correction[-1]
    assert isinstance(last, nn.Conv2d) and last.bias is not None
    with torch.no_grad(), torch.autocast("cpu", torch.bfloat16):
        last.weight.zero_()
        last.bias.fill_(8.0)
        out = built(*inputs(1, 64, 64))
    assert out.dtype == torch.float32
    torch.testing.assert_close(out[..., 8:-8, 8:-8], torch.full((1, 1, 48, 48), 64.0))


def test_instance_norm_of_phones_is_the_usual_one() -> None:
    x = 3 + 2 * torch.randn(2, 5, 8, 8)
    torch.testing.assert_close(InstanceNorm(5).delegated(x), nn.InstanceNorm2d(5)(x), atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"iterations": 0}, "iterations is 0, expected 1 to 64"),
        ({"iterations": True}, "iterations is True, expected 1 to 64"),
        ({"foundation": None, "foundation_weights": "a.pth"}, "foundation_weights without a foundation"),
        ({"foundation_weights": 3}, "foundation_weights is a int, expected a path"),
        (
            {"foundation": "resnet18"},
            "unknown foundation model 'resnet18'; expected one of: depth-",
        ),
        ({"levels": 3}, "unexpected keyword argument 'levels'"),
    ],
)
def test_wrong_options(options: dict[str, Any], words: str) -> None:
    with pytest.raises((DualpixError, UnknownNameError), match=words):
        build_network("fmdp-paper", options)


def test_weights_of_depth_anything_and_of_dinov2(tmp_path: Path) -> None:
    """Of the former the encoder alone; three blocks at a half, three quarters and all of its depth."""
    given = depth_anything_v2("vits")
    torch.save(given.state_dict(), tmp_path / "depth_anything_v2_vits.pth")
    save_file(given.pretrained.state_dict(), tmp_path / "dinov2_vits14.safetensors")
    image = inputs(1, 112, 112)[0]
    with torch.inference_mode():
        for name, file in (
            ("depth-anything-v2-vits", "depth_anything_v2_vits.pth"),
            ("dinov2-vits14", "dinov2_vits14.safetensors"),
        ):
            context = FoundationContext(name)
            assert context.model.spec.name == name and context.model.spec.licence == foundation_spec(name).licence
            assert context.start(str(tmp_path / file)).startswith(f"{file}, SHA-256 ")
            features = context.model(context.display(image))
            given.pretrained.eval()
            expected = foundation("dinov2-vits14", taps=(5, 8, 11))
            expected.trunk.load_state_dict(given.pretrained.state_dict())
            assert len(features) == 3 and all(f.shape == (1, 384, 8, 8) for f in features)
            for seen, wanted in zip(features, expected(context.display(image)), strict=True):
                assert torch.equal(seen, wanted)
            assert [tuple(c.shape) for c in context(image)] == [(1, 128, 28, 28), (1, 128, 14, 14), (1, 128, 7, 7)]


def command(capsys: pytest.CaptureFixture[str], *arguments: str | Path) -> tuple[int, str]:
    with pytest.raises(SystemExit) as stopped:
        main([str(a) for a in arguments])
        raise SystemExit(0)
    return int(stopped.value.code or 0), capsys.readouterr().err


@pytest.mark.parametrize(
    ("file", "words"),
    [
        ("absent.pth", "cannot read weights 'absent.pth': No such file or directory"),
        ("other.safetensors", "weights 'other.safetensors' do not fit: 'stem.conv.weight' is missing"),
        ("narrow.safetensors", "weights 'narrow.safetensors' do not fit: 'blocks."),
    ],
)
def test_weights_that_are_not_there_or_of_another_network(
    file: str, words: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    save_file({"weight": torch.zeros(3)}, "other.safetensors")
    save_file(foundation("efficientnet-lite2").trunk.state_dict(), "narrow.safetensors")
    options = json.dumps({"foundation": LITE, "foundation_weights": file})
    code, said = command(capsys, "train", "--network", "fmdp-paper", "--options", options, "-o", "run")
    assert code == 2 and said.startswith(f"dualpix: error: {words}") and said.count("\n") == 1, said
    assert not Path("run").exists()


def test_what_is_trained_needs_no_foundation_weights(tmp_path: Path) -> None:
    path = tmp_path / "lite0.safetensors"
    given = foundation(LITE).trunk
    save_file(given.state_dict(), path)
    config = TrainConfig(
        network="fmdp-paper", options={"foundation": LITE, "foundation_weights": str(path), "iterations": 1},
        steps=1, batch_size=2, samples=2, eval_samples=1, crop_hw=(32, 64), learning_rate=2e-4,
        precision="float32", render=RenderSettings(size_hw=(64, 96), coc_span_px=(3.0, 10.0), max_coc_px=10.0),
    )  # fmt: skip
    trained = Trainer(config, tmp_path / "run", workers=0).run()
    path.unlink()
    loaded = load_model(tmp_path / "run")
    assert isinstance(loaded.module, FMDPPaper) and loaded.module.known is not None
    for name, value in loaded.module.known.model.trunk.state_dict().items():
        assert torch.equal(value, given.state_dict()[name])
    with torch.inference_mode():
        torch.testing.assert_close(loaded.module(*inputs()), trained(*inputs()))
    (begun,) = loaded.card["started_from"]
    assert begun.startswith("foundation: lite0.safetensors, SHA-256 ")


def test_a_frozen_foundation_at_random_weights_is_told(tmp_path: Path) -> None:
    for name, notes in ((LITE, ("'efficientnet-lite0' stays at random weights",)), (None, ())):
        config = TrainConfig(network="fmdp-paper", options={"foundation": name}, crop_hw=(32, 64))
        said = Trainer(config, tmp_path / str(name), workers=0).notes
        assert len(said) == len(notes) and all(s.startswith(n) for s, n in zip(said, notes, strict=True))


@pytest.mark.slow
def test_overfits_four_samples() -> None:
    """Scenes of 32 x 64 px, EfficientNet-Lite0 and one iteration. Seen: 4.75 % of the first loss after 93 steps, which
    took 50 s of one x86 core."""
    torch.manual_seed(0)
    settings = RenderSettings(size_hw=(32, 64), coc_span_px=(3.0, 10.0), max_coc_px=10.0)
    samples = [render_sample(settings, 1, index) for index in range(4)]
    batch = {name: torch.stack([s[name] for s in samples]) for name in samples[0]}
    spec, built = network_spec("fmdp-paper"), network().train()
    given = spec.inputs_of(batch)
    optimiser = torch.optim.AdamW(built.parameters(), 8e-4, weight_decay=1e-5)
    losses: list[float] = []
    while not losses or (losses[-1] >= 0.05 * losses[0] and len(losses) < 300):
        loss = sequence_loss(built.forward_scales(*given), batch)
        optimiser.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        nn.utils.clip_grad_norm_(built.parameters(), 1.0)
        optimiser.step()
        losses.append(float(loss.detach()))
    assert losses[-1] < 0.05 * losses[0], losses[::20]
