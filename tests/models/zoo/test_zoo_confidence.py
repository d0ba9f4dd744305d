"""Every dual-pixel network of the zoo through ``dualpix depth``: what it says of nothing, and what the files hold."""

from __future__ import annotations

import json
from pathlib import Path

import cv2
import numpy as np
import pytest
import tifffile
from click.testing import CliRunner
from tests.support.pairs import NOTHING, shifted

from dualpix.capture.cli import root
from dualpix.capture.pictures.colour_map import INVALID_GREY, depth_picture, disparity_picture
from dualpix.capture.raw import decode
from dualpix.capture.types import DualPixelImage, LensModel
from dualpix.models.confidence import CONFIDENT
from dualpix.models.predict.disparity import match_disparity, metric_depth, network_estimator, predict_disparity
from dualpix.models.predict.metres import measured_depth
from dualpix.models.predict.working import working_views
from dualpix.models.zoo import CONFIDENCE, ZOO, load_model
from dualpix.models.zoo.cards import find_model, known_models

NETWORKS = [name for name in known_models() if find_model(name).spec.output == "disparity_px"]
UNSURE = ("white noise", "grey card", "noisy grey card", "two scenes", "a negative", "25 px", "40 px", "-40 px")
"""Noise that has nothing to do with each other, flat grey, and halves farther apart than any lens of training makes."""
LENS = LensModel(50, 4, 1.0, 46.875, 0.424)
LENS_ARGS = (
    "--focal-length-mm", "50", "--f-number", "4", "--focus-distance-m", "1",
    "--pixel-pitch-um", "46.875", "--disparity-gain", "0.424",
)  # fmt: skip


def depth(folder: Path, image: DualPixelImage, *args: str) -> Path:
    """The result folder of ``dualpix depth`` of a pair of 16-bit pictures."""
    for half in ("left", "right"):
        codes = np.rint(np.clip(getattr(image, half), 0, 1) * 60000).astype(np.uint16)
        cv2.imwrite(str(folder / f"shot_{half}.png"), codes)
    done = CliRunner().invoke(root, ["depth", str(folder / "shot_left.png"), "-o", str(folder / "out"), *args])
    assert done.exit_code == 0, done.output
    return folder / "out" / "shot"


def test_there_are_networks() -> None:
    assert NETWORKS


@pytest.mark.parametrize("network", NETWORKS)
@pytest.mark.parametrize("name", UNSURE)
def test_what_nothing_can_be_known_of_comes_out_unsure(network: str, name: str, tmp_path: Path) -> None:
    folder = depth(tmp_path, NOTHING[name][0](), "--model", network, *LENS_ARGS)
    confidence, depth_m = (tifffile.imread(folder / f"{file}.tiff") for file in ("confidence", "depth_m"))
    assert np.mean(confidence >= CONFIDENT) < 0.05, "fewer than one pixel in twenty is confident"
    assert np.isfinite(depth_m).mean() < 0.05, "and fewer have metres"
    record = json.loads((folder / "depth.json").read_text())
    assert record["findings"], "and it is said why"
    assert record["confidence"]["calibrated_for"] == network


@pytest.mark.parametrize("network", NETWORKS)
def test_a_textured_plane_is_measured(network: str, tmp_path: Path) -> None:
    """Or being unsure of everything would do."""
    folder = depth(tmp_path, shifted(0.6), "--model", network)
    disparity_px, confidence = (tifffile.imread(folder / f"{name}.tiff") for name in ("disparity_px", "confidence"))
    inner = slice(24, -24), slice(32, -32)
    assert np.mean(confidence[inner] >= CONFIDENT) > 0.9
    assert np.mean(np.abs(disparity_px[inner] - 0.6) <= 0.2 + 0.1 * np.abs(disparity_px[inner])) > 0.9


@pytest.mark.parametrize("network", [*NETWORKS, "sgbm"])
def test_every_file_has_the_judged_confidence(network: str, tmp_path: Path) -> None:
    """Tables, pictures and metres of one half that is measured and of one that is not."""
    half = shifted(0.6)
    left, right = half.left.copy(), half.right.copy()
    grey = NOTHING["grey card"][0]()
    left[:, 128:], right[:, 128:] = grey.left[:, 128:], grey.right[:, 128:]
    which = ("--method", "sgbm") if network == "sgbm" else ("--model", network)
    folder = depth(tmp_path, DualPixelImage(left, right, left + right, np.zeros(left.shape, bool)), *which, *LENS_ARGS)
    image = decode(tmp_path / "shot_left.png")
    found = match_disparity(image) if network == "sgbm" else predict_disparity(image, load_model(network))
    judged = found.judged
    # half of it; networks that see at 1/4 and less spread that a little over the border
    assert 0.2 < judged.measured_fraction < 0.75, "part of the picture"
    confidence, disparity_px, depth_m = (
        tifffile.imread(folder / f"{name}.tiff") for name in ("confidence", "disparity_px", "depth_m")
    )
    assert np.array_equal(confidence, judged.confidence) and np.array_equal(disparity_px, found.disparity_px)

    sure = measured_depth(found, metric_depth(found.disparity_px, LENS), LENS)
    assert np.array_equal(np.isfinite(depth_m), sure.measured) and not (sure.measured & ~judged.measured).any()
    record = json.loads((folder / "depth.json").read_text())
    assert record["measured_fraction"] == pytest.approx(judged.measured_fraction, abs=1e-6)
    assert record["depth"]["measured_fraction"] == pytest.approx(float(np.isfinite(depth_m).mean()), abs=1e-6)

    shown, of_depth = (cv2.imread(str(folder / f"{name}.png"))[..., ::-1] for name in ("disparity", "depth"))
    title = "disparity (blue: behind the focus plane; grey: unsure)"
    assert np.array_equal(shown, disparity_picture(found.disparity_px, title=title, confidence=judged.confidence))
    assert np.array_equal(of_depth, depth_picture(sure.depth_m, title="depth from the lens (grey: unsure)"))
    grey_code = round(INVALID_GREY[0] * 255)
    far_right = of_depth[60:200, 210:260]  # well within the grey half, whatever is around the map
    assert (np.abs(far_right.astype(int) - grey_code) <= 1).all(axis=2).mean() > 0.9, "what is not measured is grey"


@pytest.mark.parametrize("network", NETWORKS)
def test_a_calibration_of_its_own_lies_beside_the_weights(network: str) -> None:
    """With the learned term where there is one: else it would count for nothing."""
    content = json.loads((ZOO / network / CONFIDENCE).read_text())
    found = network_estimator(load_model(network))(working_views(shifted(0.6)))
    learned = found.confidence is not None
    plain = {"one_size", "several_sizes"}
    assert set(content) == (plain | {f"{key}_learned" for key in plain} if learned else plain)
    for key, calibration in content.items():
        assert ("learned" in calibration["weights"]) == key.endswith("_learned")
        assert calibration["provenance"]["method"] == network
