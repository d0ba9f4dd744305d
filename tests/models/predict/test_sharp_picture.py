"""The picture in focus everywhere: on the capture's own pixels and colours, in files, and in scores."""

from __future__ import annotations

import json
from pathlib import Path

import cv2
import numpy as np
import pytest
import tifffile
import torch
from click.testing import CliRunner, Result
from tests.support.dddnet import brightening, write_model

from dualpix.capture.cli import root
from dualpix.capture.types import CaptureMeta, DualPixelImage
from dualpix.models.evaluate.pairs import sharp_figures
from dualpix.models.evaluate.rendered_pairs import rendered, rendered_camera
from dualpix.models.evaluate.sample import Prediction
from dualpix.models.networks import build_network
from dualpix.models.predict.disparity import match_disparity, predict_disparity
from dualpix.models.predict.sharp_picture import SharpResidual, sharpened
from dualpix.models.prepare import image_gain
from dualpix.models.zoo import LoadedModel, load_model


def capture(height: int, width: int, *, channels: int = 3, baseline: str = "x", aspect: float = 1.0) -> DualPixelImage:
    rng = np.random.default_rng(0)
    shape = (height, width) if channels == 1 else (height, width, channels)
    left, right = (cv2.GaussianBlur(rng.random(shape, np.float32), (0, 0), 1.5) for _ in range(2))
    saturated = np.zeros((height, width), np.bool_)
    return DualPixelImage(left, right, left + right, saturated, baseline, CaptureMeta(pixel_aspect=aspect))  # type: ignore[arg-type]


def run(*args: str | Path) -> Result:
    return CliRunner().invoke(root, [str(a) for a in args])


def model_of(tmp_path: Path, added: float | None = None) -> LoadedModel:
    return load_model(write_model(tmp_path / "model", None if added is None else brightening(added)))


@pytest.mark.parametrize(
    ("channels", "baseline", "aspect"), [(3, "x", 1.0), (1, "x", 1.0), (3, "y", 1.0), (3, "x", 2.0), (1, "y", 2.0)]
)
def test_what_is_not_restored_stays_to_the_last_digit(channels: int, baseline: str, aspect: float) -> None:
    image = capture(90, 130, channels=channels, baseline=baseline, aspect=aspect)
    nothing = SharpResidual(np.zeros((30, 40, 3), np.float32), 0.37)
    np.testing.assert_allclose(sharpened(image, nothing), image.combined, rtol=2e-6, atol=1e-7)


def test_a_residual_lands_where_it_was_seen_whatever_the_axis() -> None:
    for baseline in ("x", "y"):
        image = capture(80, 120, baseline=baseline)
        working = (40, 60) if baseline == "x" else (60, 40)
        added = np.zeros((*working, 3), np.float32)
        added[:10, :15, 1] = 0.1  # top left of the picture, either way; green
        out = sharpened(image, SharpResidual(added, 1.0))
        changed = np.abs(out - image.combined) > 1e-4
        part = (slice(0, 18), slice(0, 28)) if baseline == "x" else (slice(0, 28), slice(0, 18))
        assert changed[part][..., 1].all() and not changed[..., 0].any() and not changed[..., 2].any()
        assert not changed[45:, 70:].any()


def test_a_networks_picture_is_its_output_decoded(tmp_path: Path) -> None:
    image, model = capture(64, 96), model_of(tmp_path, 0.05)
    found = predict_disparity(image, model, working_long_side_px=96)
    gain = float(image_gain(torch.from_numpy(image.combined).permute(2, 0, 1)[None]))
    expected = (np.sqrt(image.combined * gain) + 0.05) ** 2 / gain
    assert found.sharp is not None and found.sharp.dtype == np.float32
    np.testing.assert_allclose(found.sharp, expected, rtol=1e-4, atol=1e-5)
    assert match_disparity(image, working_long_side_px=96).sharp is None


def test_the_finest_working_size_restores(tmp_path: Path) -> None:
    image, model = capture(96, 128), model_of(tmp_path)
    both = predict_disparity(image, model, working_long_side_px=(64, 128))
    fine = predict_disparity(image, model, working_long_side_px=128)
    assert both.sharp is not None and fine.sharp is not None and np.array_equal(both.sharp, fine.sharp)


def pair_files(folder: Path) -> Path:
    image = capture(64, 96)
    folder.mkdir()
    for name in ("left", "right"):
        codes = np.rint(getattr(image, name) * 65535).astype(np.uint16)
        cv2.imwrite(str(folder / f"a_{name}.png"), codes[..., ::-1])
    return folder / "a_left.png"


def test_depth_writes_it_in_the_captures_colours(tmp_path: Path) -> None:
    left, out = pair_files(tmp_path / "in"), tmp_path / "out"
    model = write_model(tmp_path / "model", brightening(0.0))
    done = run("depth", left, "-o", out, "--model", model)
    assert done.exit_code == 0, done.output
    picture = tifffile.imread(out / "a" / "sharp.tiff")
    assert picture.shape == (64, 96, 3) and picture.dtype == np.uint16
    halves = [cv2.imread(str(left.with_name(f"a_{n}.png")), -1)[..., ::-1].astype(float) for n in ("left", "right")]
    expected = (halves[0] + halves[1]) / 2
    assert float(np.abs(picture - expected).max()) <= 2, "nothing was restored, so it is the full-aperture picture"
    record = json.loads((out / "a" / "depth.json").read_text())["sharp"]
    assert record["file"] == "sharp.tiff" and record["restored_at_hw"] == [64, 96] and record["clipped_fraction"] == 0
    shown = cv2.imread(str(out / "a" / "sharp.png"))
    assert shown.shape == (64, 96, 3)
    with tifffile.TiffFile(out / "a" / "sharp.tiff") as file:
        meaning = str(file.pages[0].tags["ImageDescription"].value)  # type: ignore[union-attr]
    assert "in focus everywhere; linear light = code / 65535 * 1" in meaning


def test_other_networks_leave_none(tmp_path: Path) -> None:
    left, out = pair_files(tmp_path / "in"), tmp_path / "out"
    assert run("depth", left, "-o", out).exit_code == 0
    assert not (out / "a" / "sharp.tiff").exists()
    assert "sharp" not in json.loads((out / "a" / "depth.json").read_text())


def test_a_picture_that_is_none_is_refused_in_one_line(tmp_path: Path) -> None:
    network = brightening(0.0)
    with torch.no_grad():
        network.sharp.out.weight.fill_(3e38)  # type: ignore[union-attr, operator]
    model = write_model(tmp_path / "model", network)
    done = run("depth", pair_files(tmp_path / "in"), "-o", tmp_path / "out", "--model", model)
    assert done.exit_code != 0 and "sharp picture" in str(done.exception)
    assert not (tmp_path / "out" / "a").exists()


@pytest.mark.parametrize("kind", ["", "phone", "fullframe", "macro"])
def test_rendered_sets_know_the_picture(kind: str) -> None:
    pending = rendered_camera(kind, 1, (64, 96)) if kind else rendered(1, (64, 96))
    sample = pending[0].load()
    assert sample.sharp is not None and sample.pair is not None and sample.sharp.shape == sample.pair.combined.shape
    assert float(sample.sharp.mean()) == pytest.approx(float(sample.pair.combined.mean()), rel=0.1)
    figures = sharp_figures(sample, Prediction(sample.truth, "disparity_px", sharp=sample.sharp))
    assert figures["psnr_db"] == 100 and figures["ssim"] == pytest.approx(1)
    assert figures["input_psnr_db"] is not None and 12 < figures["input_psnr_db"] < 50
    blurred = sharp_figures(sample, Prediction(sample.truth, "disparity_px", sharp=sample.pair.combined))
    assert blurred["psnr_db"] == blurred["input_psnr_db"] and blurred["ssim"] == blurred["input_ssim"]
    assert sharp_figures(sample, Prediction(sample.truth, "disparity_px")) == {}


def test_evaluate_scores_it_beside_the_blurred_one(tmp_path: Path) -> None:
    model = write_model(tmp_path / "model", brightening(0.0))
    done = run("evaluate", "--data", "rendered", "--count", "1", "--size", "64", "96", "--model", model, "--json")
    assert done.exit_code == 0, done.output
    means = json.loads(done.stdout)["mean"]
    assert means["model"]["psnr_db"] == pytest.approx(means["model"]["input_psnr_db"], abs=0.01)
    assert "psnr_db" not in means["sgbm"]
    table = run("evaluate", "--data", "rendered", "--count", "1", "--size", "64", "96", "--model", model).output
    assert "PSNR dB" in table and "input dB" in table


def test_networks_may_be_scored_where_the_truth_is_a_picture(tmp_path: Path) -> None:
    size = (48, 64)
    for part in ("test_c/source", "test_l/source", "test_r/source", "test_c/target"):
        (tmp_path / "dpdd" / part).mkdir(parents=True)
        codes = np.random.default_rng(1).integers(0, 65535, (*size, 3), np.uint16)
        cv2.imwrite(str(tmp_path / "dpdd" / part / "1P0A1.png"), codes)
    arguments = ("evaluate", "--data", "dpdd", tmp_path / "dpdd", "--method", "network,input", "--json")
    model = write_model(tmp_path / "model", brightening(0.0))
    done = run(*arguments, "--model", model)
    assert done.exit_code == 0, done.output
    means = json.loads(done.stdout)["mean"]
    assert means["model"]["psnr_db"] == pytest.approx(means["input"]["psnr_db"], abs=0.01)
    refused = run(*arguments)
    assert "model 'fmdp-compact' gives no sharp picture" in str(refused.exception)


def test_outputs_are_named_in_their_order() -> None:
    network = build_network("dddnet").eval()
    with torch.inference_mode():
        disparity, sharp = network(torch.rand(1, 3, 32, 32), torch.rand(1, 1, 32, 32), torch.rand(1, 1, 32, 32))
    assert disparity.shape[1] == 1 and sharp.shape[1] == 3
