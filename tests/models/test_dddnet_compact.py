"""The shipped DDDNet: what it costs, what its disparity and its picture are worth, and what stands in its folder."""

from __future__ import annotations

import json
from pathlib import Path

import cv2
import numpy as np
import pytest
import tifffile
from click.testing import CliRunner
from safetensors import safe_open

from dualpix.capture.cli import root
from dualpix.models.evaluate.rendered import rendered_camera
from dualpix.models.predict import predict_disparity
from dualpix.models.shipped import ZOO
from dualpix.models.zoo import load_model

NAME = "dddnet-compact"
MOST_PARAMETERS = 3_000_000
SCENES = 4
SIZE_HW = (192, 256)


def test_what_ships_says_where_it_comes_from() -> None:
    model = load_model(NAME)
    assert model.spec.outputs == ("disparity_px", "sharp")
    assert sum(p.numel() for p in model.module.parameters()) == model.card["parameters"] <= MOST_PARAMETERS
    assert model.card["seeds"] == "one" and "--network dddnet" in model.card["training_command"]
    assert {"xnnpack-fp32", "xnnpack-int8", "coreml-fp16"} <= set(model.limits()["recipes"])


def test_it_is_stored_in_half_the_bytes() -> None:
    """The wheel has 20 MB for the weights of all networks; what normalises stays exact, its variances are small."""
    with safe_open(ZOO / NAME / "weights.safetensors", framework="pt") as file:
        kinds = {(len(part.get_shape()) > 1, part.get_dtype()) for part in map(file.get_slice, file.keys())}
    assert kinds == {(True, "F16"), (False, "F32"), (False, "I64")}


@pytest.fixture(scope="module")
def figures() -> dict[str, float]:
    """Means over scenes of the set of phones that no training saw."""
    model, found = load_model(NAME), []
    for pending in rendered_camera("phone", SCENES, SIZE_HW):
        sample = pending.load()
        assert sample.pair is not None and sample.sharp is not None
        map_ = predict_disparity(sample.pair, model)
        assert map_.sharp is not None
        seen, truth = sample.pair.combined, sample.sharp
        found.append(
            (
                float(np.abs(map_.disparity_px - sample.truth)[sample.valid].mean()),
                float(np.abs(sample.truth)[sample.valid].mean()),
                _encoded_mse(map_.sharp, truth),
                _encoded_mse(seen, truth),
            )
        )
    return dict(zip(("error_px", "size_px", "restored", "blurred"), np.mean(found, axis=0).tolist(), strict=True))


def _encoded_mse(picture: np.ndarray, truth: np.ndarray) -> float:
    """Of the square root of light, 1 where the truth is brightest."""
    white = float(truth.max())
    roots = [np.sqrt(np.clip(view / white, 0, 1)) for view in (picture, truth)]
    return float(np.square(roots[0] - roots[1]).mean())


def test_disparity_is_measured(figures: dict[str, float]) -> None:
    """.147 px on 32 scenes of the set, on which a map of zeros is off by several times that."""
    assert figures["error_px"] < 0.22
    assert figures["error_px"] < 0.4 * figures["size_px"]


def test_the_picture_is_nearer_to_the_one_in_focus(figures: dict[str, float]) -> None:
    """2.2 dB on 32 scenes of the set."""
    assert 10 * np.log10(figures["blurred"] / figures["restored"]) > 1.0


def test_depth_writes_a_sharper_picture_in_the_captures_colours(tmp_path: Path) -> None:
    sample = rendered_camera("phone", 1, SIZE_HW)[0].load()
    assert sample.pair is not None and sample.sharp is not None
    level = 60000 / max(float(sample.pair.left.max()), float(sample.pair.right.max()))
    halves = {name: np.clip(getattr(sample.pair, name), 0, None) * level for name in ("left", "right")}
    tint = np.array([1.0, 0.7, 0.4], np.float32)
    for name, half in halves.items():
        colour = (half if half.ndim == 3 else half[..., None]) * tint
        cv2.imwrite(str(tmp_path / f"a_{name}.png"), np.rint(colour).astype(np.uint16)[..., ::-1])
    done = CliRunner().invoke(
        root, ["depth", str(tmp_path / "a_left.png"), "-o", str(tmp_path / "out"), "--model", NAME]
    )
    assert done.exit_code == 0, done.output
    folder = tmp_path / "out" / "a"
    picture = tifffile.imread(folder / "sharp.tiff").astype(np.float64)
    files = [cv2.imread(str(tmp_path / f"a_{name}.png"), -1)[..., ::-1].astype(np.float64) for name in halves]
    seen = (files[0] + files[1]) / 2
    assert picture.shape == seen.shape
    share = picture.mean((0, 1)) / seen.mean((0, 1))
    assert share == pytest.approx(share.mean() * np.ones(3), rel=0.03), "no channel gains on the others"
    assert share.mean() == pytest.approx(1, abs=0.05)
    truth = sample.sharp if sample.sharp.ndim == 2 else sample.sharp[..., 1]
    restored, blurred = (
        _encoded_mse(view[..., 1] * truth.mean() / view[..., 1].mean(), truth) for view in (picture, seen)
    )
    assert restored < 0.9 * blurred, "and it is nearer to what was in front of the lens"
    record = json.loads((folder / "depth.json").read_text())
    assert record["sharp"]["file"] == "sharp.tiff" and record["confidence"]["calibrated_for"] == NAME
