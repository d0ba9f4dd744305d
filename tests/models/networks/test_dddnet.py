"""The compact DDDNet: its size, what its volume sees, that it begins at the picture it was given, and its operators."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from click.testing import CliRunner, Result
from torch import Tensor
from torch.utils.flop_counter import FlopCounterMode

from dualpix.capture.cli import root
from dualpix.capture.errors import DualpixError
from dualpix.models.blocks.correlation import correlation_plain
from dualpix.models.data.rendered import RenderedDataset, RenderSettings
from dualpix.models.networks import build_network, network_spec
from dualpix.models.networks.dddnet import DDDNet, SignedCorrelation
from dualpix.models.networks.spec import training_outputs
from dualpix.models.prepare import decode, encode, image_gain
from dualpix.models.tasks.dual_pixel import DUAL_PIXEL
from dualpix.models.zoo import load_model

GMAC = 1e9


def inputs(b: int = 1, h: int = 64, w: int = 96) -> tuple[Tensor, Tensor, Tensor]:
    g = torch.Generator().manual_seed(0)
    image, left, right = (torch.rand(b, c, h, w, generator=g) for c in (3, 1, 1))
    return image, left, right


def test_parameters_and_work() -> None:
    network = build_network("dddnet").eval()
    assert sum(p.numel() for p in network.parameters()) == 1_190_592
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        network.to("meta")(*(torch.empty(1, c, 384, 512, device="meta") for c in (3, 1, 1)))
    assert counter.get_total_flops() / 2 == pytest.approx(5.80 * GMAC, rel=0.001)


@pytest.mark.parametrize("width", [24, 132])
def test_volume_has_both_signs_in_either_form(width: int) -> None:
    g = torch.Generator().manual_seed(1)
    left, right = torch.rand(1, 8, 5, width, generator=g), torch.rand(1, 8, 5, width, generator=g)
    volume = SignedCorrelation(8, 3)(left, right)
    torch.testing.assert_close(volume, correlation_plain(left, right, 3), rtol=1e-5, atol=1e-6)
    for shift in (-2, 0, 3):
        peak = SignedCorrelation(8, 3)(left, left.roll(shift, -1))[0, :, :, 5:-5].mean((1, 2)).argmax()
        assert int(peak) - 3 == shift


def test_begins_at_the_picture_that_it_was_given() -> None:
    torch.manual_seed(0)
    network = build_network("dddnet").eval()
    image, left, right = inputs()
    with torch.inference_mode():
        disparity, sharp = network(image, left, right)
    assert disparity.shape == (1, 1, 64, 96) and sharp.shape == (1, 3, 64, 96)
    assert float((sharp - image).abs().max()) < 0.2


def test_training_and_prediction_are_one_network() -> None:
    torch.manual_seed(0)
    network = build_network("dddnet").eval()
    assert isinstance(network, DDDNet)
    with torch.inference_mode():
        [estimate] = training_outputs(network, inputs())
        _, sharp = network(*inputs())
    assert torch.equal(estimate.sharp, sharp)
    assert [tuple(d.shape[2:]) for d in estimate.disparities_px] == [(32, 48), (16, 24), (8, 12), (4, 6)]


def test_the_half_pixel_cue_changes_sign_with_the_halves() -> None:
    """Halves that are equal give no difference, and the features of either side are those of one encoder."""
    torch.manual_seed(0)
    encoder = build_network("dddnet").eval().halves  # type: ignore[union-attr]
    _, left, right = inputs()
    with torch.inference_mode():
        (a, b), _ = encoder(left, right)
        (c, d), _ = encoder(right, left)
        (e, f), _ = encoder(left, left)
    assert torch.equal(a, d) and torch.equal(b, c) and torch.equal(e, f)
    assert not torch.equal(a, e)


def batch_of(indices: tuple[int, ...], *, sharp: bool = True) -> dict[str, Tensor]:
    data = RenderedDataset(99, settings=RenderSettings(size_hw=(64, 96), optics="cameras"), seed=3, sharp=sharp)
    return {name: torch.stack([data[i][name] for i in indices]) for name in data[indices[0]]}


def test_loss_weighs_its_terms_by_options() -> None:
    torch.manual_seed(0)
    spec, batch = network_spec("dddnet"), batch_of((0, 1))
    outputs = training_outputs(build_network("dddnet"), spec.inputs_of(batch))
    loss = {
        (i, r): float(spec.loss_for({"image_weight": i, "reblur_weight": r})(outputs, batch).detach())
        for i, r in ((0, 0), (1, 0), (0, 1), (3, 2))
    }
    plain = float(DUAL_PIXEL.loss(outputs[0].disparities_px, batch).detach())
    assert loss[0, 0] == pytest.approx(plain)
    image, again = loss[1, 0] - plain, loss[0, 1] - plain
    assert image > 0 and again > 0
    assert loss[3, 2] == pytest.approx(plain + 3 * image + 2 * again, rel=1e-5)
    with pytest.raises(DualpixError, match="options of network 'dddnet' do not fit: image_weight is -1"):
        build_network("dddnet", {"image_weight": -1})


def test_data_without_the_picture_are_refused() -> None:
    torch.manual_seed(0)
    spec, batch = network_spec("dddnet"), batch_of((0,), sharp=False)
    outputs = training_outputs(build_network("dddnet"), spec.inputs_of(batch))
    with pytest.raises(DualpixError, match="some samples have no picture in focus everywhere"):
        spec.loss_for({})(outputs, batch)
    assert torch.isfinite(spec.loss_for({"image_weight": 0})(outputs, batch))


def test_the_sharp_truth_is_as_bright_as_what_is_seen() -> None:
    sample = {name: value[0] for name, value in batch_of((2,)).items()}
    for seed in range(8):
        seen = DUAL_PIXEL.augment(sample, np.random.default_rng(seed))
        assert seen["sharp"].shape == seen["combined"].shape
        ratio = float(seen["sharp"].mean() / seen["combined"].mean())
        assert ratio == pytest.approx(1.0, abs=0.12)
        assert float(seen["sharp"].min()) >= 0 and float(seen["sharp"].max()) <= 1.0
        grey = bool((seen["combined"][0] == seen["combined"][2]).all())
        assert bool((seen["sharp"][0] == seen["sharp"][2]).all()) == grey


def test_encoding_comes_back() -> None:
    light = torch.rand(2, 3, 8, 8)
    gain = image_gain(light)
    torch.testing.assert_close(decode(encode(light, gain), gain), light, rtol=1e-5, atol=1e-6)


def test_kept_scenes_serve_runs_with_and_without_the_picture(tmp_path: Path) -> None:
    config = RenderSettings(size_hw=(32, 64))
    plain = RenderedDataset(1, settings=config, seed=5, cache_dir=tmp_path)
    with_sharp = RenderedDataset(1, settings=config, seed=5, cache_dir=tmp_path, sharp=True)
    first = plain[0]
    [views] = tmp_path.rglob("*.safetensors")
    kept = views.read_bytes()
    made = with_sharp[0]
    assert views.read_bytes() == kept and len(list(tmp_path.rglob("*.safetensors"))) == 2
    assert all(torch.equal(first[name], made[name]) for name in first)
    again = with_sharp[0]
    assert set(again) == {*first, "sharp", "disparity_gain"} and all(torch.equal(made[n], again[n]) for n in made)
    fresh = RenderedDataset(1, settings=config, seed=5, cache_dir=tmp_path / "new", sharp=True)[0]
    assert all(torch.equal(fresh[n], again[n]) for n in again)
    assert set(plain[0]) == set(first)
    beside = views.with_suffix(".sharp.safetensors")
    beside.write_bytes(beside.read_bytes()[:-9])
    assert all(torch.equal(with_sharp[0][n], again[n]) for n in again), "a damaged picture is made anew"


def test_only_operators_that_backends_delegate() -> None:
    exported = torch.export.export(build_network("dddnet").eval(), inputs()).run_decompositions({})
    used = {str(n.target) for n in exported.graph.nodes if n.op == "call_function"}
    forbidden = ("grid_sampler", "gather", "scatter", "index", "upsample_nearest", "bicubic", "roll", "softmax", "mean")
    assert not [op for op in used if any(f in op for f in forbidden)]
    shapes = [n.meta["val"].shape for n in exported.graph.nodes if isinstance(n.meta.get("val"), Tensor)]
    assert max(len(shape) for shape in shapes) == 4


def run(*args: str | Path) -> Result:
    return CliRunner().invoke(root, [str(a) for a in args])


@pytest.mark.parametrize("network", ["dddnet", "dddnet-paper"])
def test_trains_on_what_render_wrote(network: str, tmp_path: Path) -> None:
    made = run("render", "--scenes", "2", "-o", tmp_path / "rendered", "--size", "64", "96", "--all-in-focus")
    assert made.exit_code == 0, made.output
    arguments = ("--data", tmp_path / "rendered", "--crop", "32", "64", "--steps", "1", "--batch-size", "2")
    few = ("--eval-samples", "0", "--workers", "0", "--device", "cpu")
    done = run("train", "--network", network, "-o", tmp_path / "run", *arguments, *few)
    assert done.exit_code == 0, (done.output, done.exception)
    assert load_model(tmp_path / "run").card["network"] == network


def test_real_pairs_have_no_picture_to_learn_from(tmp_path: Path) -> None:
    folder = tmp_path / "pairs"
    folder.mkdir()
    for name, value in batch_of((0,), sharp=False).items():
        array = value[0].numpy()
        if name in ("left", "right"):
            codes = np.rint(np.clip(array[0], 0, 1) * 65535).astype(np.uint16)
            cv2.imwrite(str(folder / f"a_{name}.png"), codes)
        elif name == "disparity_px":
            np.save(folder / "a_disparity_px.npy", array[0])
    arguments = ("--data", folder, "--crop", "64", "64", "--steps", "1", "--batch-size", "1", "--eval-samples", "0")
    few = ("--workers", "0", "--device", "cpu", "-o", tmp_path / "run", "--network", "dddnet")
    refused = run("train", *arguments, *few)
    assert "some samples have no picture in focus everywhere" in str(refused.exception)
    taken = run("train", *arguments, *few, "--options", '{"image_weight": 0}')
    assert taken.exit_code == 0, (taken.output, taken.exception)
