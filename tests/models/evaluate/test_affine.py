"""Networks whose depth is known up to scale and offset: scored by what forgives both, refused where units matter."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from tests.support.benchmark_folders import google_dp, noise

from dualpix.capture.cli import main
from dualpix.capture.errors import DualpixError
from dualpix.models.evaluate.methods import PAIR, Choice
from dualpix.models.evaluate.pairs import affine_pair_figures, pixel_figures
from dualpix.models.evaluate.rendered_pairs import rendered
from dualpix.models.networks import build_network, network_spec
from dualpix.models.predict.disparity import predict_affine, predict_disparity
from dualpix.models.predict.working import working_views
from dualpix.models.prepare import network_inputs
from dualpix.models.zoo import load_model

OPTIONS = {"encoder": "efficientnet-lite0", "head": "inverse_depth_affine"}


def write_model(folder: Path, options: dict[str, str]) -> Path:
    torch.manual_seed(0)
    folder.mkdir()
    save_file(build_network("difusenet-paper", options).state_dict(), folder / "weights.safetensors")
    (folder / "card.json").write_text(json.dumps({"network": "difusenet-paper", "options": options}))
    return folder


@pytest.fixture(scope="module")
def affine(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The paper's head at random weights, with the smallest encoder."""
    return write_model(tmp_path_factory.mktemp("models") / "affine", OPTIONS)


@pytest.fixture(scope="module")
def mono(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_model(tmp_path_factory.mktemp("models") / "mono", OPTIONS | {"branches": "image"})


def test_the_card_says_what_a_model_gives(affine: Path, mono: Path) -> None:
    assert [load_model(folder).spec.task for folder in (affine, mono)] == ["dual_pixel_affine", "monocular"]
    assert all(load_model(folder).spec.output == "inverse_depth_affine" for folder in (affine, mono))


def test_the_map_is_the_networks_own_at_the_view_size(affine: Path, mono: Path) -> None:
    sample = rendered(1, (64, 96))[0].load()
    assert sample.pair is not None
    for folder in (affine, mono):
        model = load_model(folder)
        views = working_views(sample.pair, 96)
        left, right, combined = (
            torch.from_numpy(np.atleast_3d(v).transpose(2, 0, 1).copy())[None]
            for v in (views.left, views.right, views.combined)
        )
        given = dict(zip(("image", "left", "right"), network_inputs(left, right, combined), strict=True))
        with torch.inference_mode():
            expected = model.module(*(given[name] for name in model.spec.input_names))[0, 0].numpy()
        found = predict_affine(sample.pair, model, working_long_side_px=96)
        np.testing.assert_allclose(found, expected, rtol=1e-5)
        half = predict_affine(sample.pair, model, working_long_side_px=48)  # no length: not doubled on the way back
        assert half.shape == (64, 96) and float(half.max()) <= 1


def test_it_is_scored_by_what_forgives_scale_and_offset_alone(affine: Path) -> None:
    sample = rendered(1, (64, 96))[0].load()
    method = PAIR["network"](Choice([str(affine)]))["affine"]
    prediction = method(sample)
    assert prediction.unit == "affine" and prediction.confidence is None
    figures = affine_pair_figures(sample, prediction)
    assert np.isfinite(figures["ai1"]) and figures["mae_px"] is None  # type: ignore[arg-type]
    with pytest.raises(DualpixError, match="the method gives affine; expected disparity_px"):
        pixel_figures(sample, prediction)
    with pytest.raises(DualpixError, match="2 working sizes for 'affine', which gives inverse_depth_affine"):
        PAIR["network"](Choice([str(affine)], (96, 64)))


def test_it_is_no_disparity_and_a_disparity_is_not_it(affine: Path) -> None:
    sample = rendered(1, (64, 96))[0].load()
    assert sample.pair is not None
    with pytest.raises(DualpixError, match="gives inverse_depth_affine; expected a model that gives disparity_px"):
        predict_disparity(sample.pair, load_model(affine))
    with pytest.raises(DualpixError, match="gives disparity_px; expected a model that gives inverse_depth_affine"):
        predict_affine(sample.pair, load_model())


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str]) -> Callable[..., tuple[int, str, str]]:
    def call(*arguments: str | Path) -> tuple[int, str, str]:
        capsys.readouterr()
        with pytest.raises(SystemExit) as stopped:
            main([str(argument) for argument in arguments])
            raise SystemExit(0)
        said = capsys.readouterr()
        return int(stopped.value.code or 0), said.out, said.err

    return call


def test_depth_refuses_it_before_any_capture_is_read(
    affine: Path, tmp_path: Path, run: Callable[..., tuple[int, str, str]]
) -> None:
    for name in ("left", "right"):
        cv2.imwrite(str(tmp_path / f"shot_{name}.png"), noise((64, 96)))
    code, _, said = run("depth", tmp_path / "shot_left.png", "-o", tmp_path / "out", "--model", affine)
    assert code == 2 and said == (
        "dualpix: error: model 'affine' gives inverse_depth_affine; expected a model that gives disparity_px; "
        "up to scale and offset it is scored by dualpix evaluate\n"
    )
    assert not (tmp_path / "out").exists()


def test_evaluate_scores_it_where_the_truth_is_affine(
    affine: Path, mono: Path, tmp_path: Path, run: Callable[..., tuple[int, str, str]]
) -> None:
    google_dp(tmp_path)
    models = ("--model", affine, "--model", mono)
    code, out, said = run("evaluate", "--data", "google-dp", tmp_path, "--method", "network", *models, "--json")
    assert code == 0, said
    means = json.loads(out)["mean"]
    assert set(means) == {"affine", "mono"} and all(np.isfinite(m["ai1"]) for m in means.values())
    code, _, said = run("evaluate", "--data", "rendered", "--count", "1", "--method", "network", *models)
    assert code == 2 and said.startswith("dualpix: error: ") and "the method gives affine" in said


def test_a_users_network_says_that_it_is_affine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source = "from torch import nn\n\nclass Net(nn.Sequential):\n    task, size_multiple = {task!r}, 8\n\n"
    source += "    def forward(self, {name}):\n        return self[0]({name})\n\n"
    source += "def make():\n    return Net(nn.Conv2d({channels}, 1, 3, padding=1))\n"
    monkeypatch.syspath_prepend(tmp_path)
    for module, task, name, channels in (
        ("affine_of_left", "dual_pixel_affine", "left", 1), ("affine_of_one", "monocular", "image", 3)
    ):  # fmt: skip
        (tmp_path / f"{module}.py").write_text(source.format(task=task, name=name, channels=channels))
        spec = network_spec(f"{module}:make")
        assert (spec.task, spec.output, spec.size_multiple) == (task, "inverse_depth_affine", 8)
        monkeypatch.delitem(sys.modules, module)
