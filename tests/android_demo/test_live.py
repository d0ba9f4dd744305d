"""The live view's own code on a picture, with real programs in the real runtime: every output the whole way."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt
import pytest
import torch
from tests.android_demo.conftest import DEMO, Classes
from tests.android_demo.make_golden import live_inputs
from torch import Tensor, nn
from torch.nn import functional as F

from dualpix.export.flow import export_model
from dualpix.export.module import export_module
from dualpix.models.zoo import load_model
from dualpix.quantize.calibration import rendered_calibration, rendered_evaluation

SIZE_HW = (32, 48)
Run = Callable[..., list[dict[str, Any]]]


class ThreeOutputs(nn.Module):
    """A map with a sign, how sure it is, and a picture."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(3)
        self.map = nn.Conv2d(5, 1, 5, padding=2)
        self.sure = nn.Conv2d(5, 1, 5, padding=2)

    def forward(self, image: Tensor, left: Tensor, right: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        seen = torch.cat([image, left, right], 1)
        return 4 * self.map(seen), torch.sigmoid(6 * self.sure(seen)), image + 0.2 * F.avg_pool2d(image, 3, 1, 1)


CROPPED = slice(4, 89)
"""Rows of :func:`photo` that have the shape of the network's pictures: 85 of 96, from an even one."""


def photo(size_hw: tuple[int, int] = (96, 128)) -> npt.NDArray[np.uint8]:
    """(H, W, 3) R, G, B: blobs of light on a slope."""
    rng = np.random.default_rng(8)
    coarse = rng.uniform(0, 1, (6, 8, 3)).astype(np.float32)
    slope = np.linspace(0.2, 1, size_hw[1], dtype=np.float32)[None, :, None]
    picture = cv2.resize(coarse, size_hw[::-1], interpolation=cv2.INTER_CUBIC).clip(0, 1) * slope
    return np.asarray(np.rint(255 * picture), np.uint8)


@pytest.fixture
def live(classes: Classes, tmp_path: Path) -> Run:
    """``live(export folder, picture)``: what the double wrote, one entry a network, with its values."""

    def run(models: Path, picture: npt.NDArray[np.uint8], *options: str, code: int = 0) -> list[dict[str, Any]]:
        files, folder = tmp_path / "files", tmp_path / "files/live/one"
        folder.mkdir(parents=True, exist_ok=True)
        (files / "models").unlink(missing_ok=True)
        (files / "models").symlink_to(models)
        cv2.imwrite(str(folder / "picture.png"), picture[..., ::-1])
        engine = tmp_path / "engine.json"
        engine.write_text(json.dumps({"command": [sys.executable, str(DEMO / "double/host_engine.py")]}))
        words = ("--root", str(files), "--engine", str(engine), *options, "live", "one")
        command = classes.java("-Djava.awt.headless=true", "org.dualpix.demo.desktop.Main", *words)
        done = subprocess.run(command, capture_output=True, text=True, timeout=300)
        assert done.returncode == code, done.stderr
        found: list[dict[str, Any]] = json.loads((folder / "live.json").read_text())
        for entry in found:
            for output in entry.get("outputs", ()):
                values = np.fromfile(folder / output["file"], "<f4")
                output["values"] = values.reshape(output["shape"])
        return found

    return run


def alpha(overlaid: npt.NDArray[np.uint8], plain: npt.NDArray[np.uint8]) -> npt.NDArray[np.bool_]:
    """Where something lies over the picture."""
    return np.asarray((overlaid[..., :3] != plain[..., :3]).any(-1))


def test_every_output_is_what_the_network_gives_for_the_picture(live: Run, tmp_path: Path) -> None:
    network, picture = ThreeOutputs().eval(), photo()
    inputs = tuple(torch.from_numpy(t.astype(np.float32)) for t in live_inputs(picture[CROPPED], SIZE_HW))
    names = ["disparity_px", "confidence", "sharp"]
    export_module(
        network, [inputs], tmp_path / "out", ["xnnpack-fp32"], name="net", output_names=names,
        unit={"disparity_px": "px"}, rounds=1,
    )  # fmt: skip
    (entry,) = live(tmp_path / "out", picture)
    assert entry["error"] is None and [o["name"] for o in entry["outputs"]] == names
    with torch.no_grad():
        expected = network(*inputs)
    for output, tensor in zip(entry["outputs"], expected, strict=True):
        assert np.abs(output["values"] - tensor.numpy()).max() < 1e-4, output["name"]
    sure = expected[1].numpy()
    assert 0.05 < (sure >= 0.5).mean() < 0.95, "the picture shows both"
    assert entry["said"].endswith(f"{100 * (sure >= 0.5).mean():.0f} % sure")
    assert entry["said"].startswith("disparity_px ±")

    folder = tmp_path / "files/live/one"
    faded = cv2.imread(str(folder / "xnnpack-fp32.png"))
    sharp = cv2.imread(str(folder / "xnnpack-fp32-sharp.png"))
    live(tmp_path / "out", picture, "--sure-only", "yes")
    only = cv2.imread(str(folder / "xnnpack-fp32.png"))
    assert faded is not None and sharp is not None and only is not None
    assert faded.shape == sharp.shape == only.shape == (*SIZE_HW, 3)
    assert not np.array_equal(faded, only) and np.array_equal(faded[sure[0, 0] >= 0.5], only[sure[0, 0] >= 0.5])


class Broken(nn.Module):
    """Not finite where the picture is bright, which its example is not."""

    def forward(self, image: Tensor) -> Tensor:
        return 1 / torch.relu(0.3 - image[:, :1])


def test_an_output_that_is_not_finite_is_a_line(live: Run, tmp_path: Path) -> None:
    dark = (torch.full((1, 3, *SIZE_HW), -0.3) + 0.1 * torch.rand(1, 3, *SIZE_HW),)
    export_module(Broken(), [dark], tmp_path / "out", ["xnnpack-fp32"], name="net", output_names=["depth_m"], rounds=1)
    (entry,) = live(tmp_path / "out", photo(), code=1)
    assert entry["error"].startswith("output 'depth_m' is Infinity at value ")
    assert entry["error"].endswith("; expected finite values")


@pytest.mark.slow
@pytest.mark.parametrize("name", ["dplive", "fmdp-compact"])
def test_shipped_networks_with_a_confidence(name: str, live: Run, tmp_path: Path) -> None:
    """Both halves are the same view: a disparity of about nothing, which is no answer, but all of it comes through."""
    size_hw = (96, 128)
    calibration, evaluation = rendered_calibration(2, size_hw), rendered_evaluation(1, size_hw)
    export_model(load_model(name), tmp_path / "out", ["xnnpack-fp32"], calibration, evaluation, rounds=1)
    manifest = json.loads((tmp_path / "out/manifest.json").read_text())
    assert [(t["kind"], t["per_frame"]) for t in manifest["input"]["tensors"]] == [("picture", False)] * 3
    (entry,) = live(tmp_path / "out", photo((192, 256)))
    assert entry["error"] is None and [o["name"] for o in entry["outputs"]] == ["disparity_px", "confidence"]
    inputs = tuple(torch.from_numpy(t.astype(np.float32)) for t in live_inputs(photo((192, 256)), size_hw))
    with torch.no_grad():
        expected = load_model(name).module(*inputs)
    for output, tensor in zip(entry["outputs"], expected, strict=True):
        assert np.abs(output["values"] - tensor.numpy()).max() < 2e-3, output["name"]
    assert "% sure" in entry["said"]
