"""Evaluation: data readers, one code path for every method, the command, and the yardstick's figures on real scenes."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from click.testing import CliRunner, Result
from safetensors.torch import save_file

from dualpix.capture.cli import main, root
from dualpix.capture.errors import DualpixError
from dualpix.models.data.rendered import evaluation_set
from dualpix.models.evaluate import (
    Scene,
    capture_of,
    comparison_picture,
    evaluate,
    mean_scores,
    pixel4_xin,
    rendered,
)
from dualpix.models.networks import build_network
from dualpix.models.predict import DisparityMap, match_disparity, working_views
from dualpix.models.prepare import network_inputs


def oracle(scene: Scene, scale: float = 1.0, offset: float = 0.0) -> Callable[[object], DisparityMap]:
    """A method that knows the truth of ``scene``, up to an affine map."""
    height, width = scene.image.size_hw
    h, w = scene.target.shape
    full = np.zeros((height, width), np.float32)
    top, left = (height - h) // 2, (width - w) // 2
    full[top : top + h, left : left + w] = scale * scene.target + offset
    return lambda image: DisparityMap(full, None, "oracle", ((height, width),), (1.0,))


@pytest.fixture(scope="module")
def scene() -> Scene:
    return next(rendered(1, (96, 128)))


@pytest.fixture
def xin_folder(tmp_path: Path) -> Path:
    """A data folder in the form of Xin et al.: one scene, flat in the field but for the right half's shading."""
    rng = np.random.default_rng(0)
    view = 0.3 * cv2.GaussianBlur(rng.random((1512, 2016), np.float32), (0, 0), 4) + 0.1
    shading = np.linspace(0.7, 1.0, 2016, dtype=np.float32)
    folder = tmp_path / "xin"
    (folder / "calibration").mkdir(parents=True)

    def write(name: str, linear: np.ndarray) -> None:
        cv2.imwrite(str(folder / name), np.rint(1024 + linear * 15359).astype(np.uint16))

    write("007_left.png", view)
    write("007_right.png", np.roll(view, 4, axis=1) * shading)
    write("calibration/white_sheet_left.png", np.full((1512, 2016), 0.5, np.float32))
    write("calibration/white_sheet_right.png", np.full((1512, 2016), 0.5, np.float32) * shading)
    truth = np.full((1008, 1344), 100, np.uint8)
    truth[:500] = 200
    truth[:, :50] = 0
    cv2.imwrite(str(folder / "007_gt_defocus.png"), truth)
    return folder


def test_a_method_that_knows_the_truth_has_no_error(scene: Scene) -> None:
    ((_, (exact, affine)),) = evaluate([scene], {"exact": oracle(scene), "affine": oracle(scene, -3.0, 7.0)})
    assert exact.score.mae_px == 0 and exact.score.bad_1px == 0
    assert exact.score.affine.ai1 == pytest.approx(0, abs=1e-6)
    assert affine.score.affine.ai2 == pytest.approx(0, abs=1e-5)
    assert affine.score.affine.scale == pytest.approx(-1 / 3, rel=1e-3) and (affine.score.mae_px or 0) > 1


def test_truth_covers_the_centre_of_the_view(xin_folder: Path) -> None:
    (scene,) = pixel4_xin(xin_folder)
    assert scene.name == "007" and not scene.in_pixels
    window = scene.window(np.arange(1512 * 2016, dtype=np.float32).reshape(1512, 2016))
    assert window.shape == (1008, 1344) and window[0, 0] == 252 * 2016 + 336
    assert not scene.valid[:, :50].any() and scene.valid[:, 50:].all()
    ((_, (result,)),) = evaluate([scene], {"oracle": oracle(scene, 5.0)})
    assert result.score.affine.ai1 == pytest.approx(0, abs=1e-6) and result.score.mae_px is None
    assert result.score.affine.pixels == 1008 * (1344 - 50)


def test_white_sheets_take_the_shading_out(xin_folder: Path) -> None:
    (scene,) = pixel4_xin(xin_folder)
    ratio = (np.roll(scene.image.left, 4, axis=1) / scene.image.right)[:, 100:-100]
    assert np.abs(ratio - 1).max() < 0.02


def test_a_rendered_capture_gives_the_network_inputs_it_came_from() -> None:
    (sample,) = evaluation_set(1, (64, 96))
    views = working_views(capture_of(sample))
    left, right = (torch.from_numpy(v)[None, None] for v in (views.left, views.right))
    combined = torch.from_numpy(views.combined).permute(2, 0, 1)[None]
    for given, again in zip(sample.inputs, network_inputs(left, right, combined), strict=True):
        # what was clipped below black is lost, so the gain is not quite the same
        assert torch.allclose(given, again, atol=0.02)


def test_pictures_show_every_method(scene: Scene) -> None:
    ((_, results),) = evaluate([scene], {"sgbm": match_disparity, "exact": oracle(scene)})
    two, one = comparison_picture(scene, results), comparison_picture(scene, results[:1])
    assert two.dtype == np.uint8 and two.shape[1] > one.shape[1]


def test_means_are_over_scenes_and_by_method(scene: Scene) -> None:
    results = [r for name in "ab" for _, r in evaluate([replace(scene, name=name)], {"sgbm": match_disparity})]
    scores = [replace(r[0].score, mae_px=float(i)) for i, r in enumerate(results)]
    assert mean_scores(scores)["sgbm"]["mae_px"] == 0.5
    assert mean_scores(scores)["sgbm"]["ai1"] == pytest.approx(scores[0].affine.ai1)


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        ("calibration/white_sheet_left.png", "lacks calibration/white_sheet_left.png"),
        ("007_gt_defocus.png", "holds no scene"),
        ("007_right.png", "no right file '007_right.png'"),
    ],
)
def test_missing_files_are_named(xin_folder: Path, damage: str, message: str) -> None:
    (xin_folder / damage).unlink()
    with pytest.raises(DualpixError, match=message):
        list(pixel4_xin(xin_folder))


def test_a_truth_of_the_wrong_kind_is_refused(xin_folder: Path) -> None:
    cv2.imwrite(str(xin_folder / "007_gt_defocus.png"), np.zeros((1008, 1344), np.uint16))
    with pytest.raises(DualpixError, match="not a defocus map"):
        list(pixel4_xin(xin_folder))
    cv2.imwrite(str(xin_folder / "007_gt_defocus.png"), np.zeros((1600, 1344), np.uint8))
    with pytest.raises(DualpixError, match="at most the view's"):
        list(pixel4_xin(xin_folder))


# --- dualpix evaluate ---


def invoke(*args: str | Path) -> Result:
    return CliRunner().invoke(root, ["evaluate", *map(str, args)])


@pytest.fixture(scope="module")
def model_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    torch.manual_seed(0)
    folder = tmp_path_factory.mktemp("random-net")
    save_file(build_network("difusenet").state_dict(), folder / "weights.safetensors")
    (folder / "card.json").write_text(json.dumps({"network": "difusenet"}))
    return folder


def test_command_scores_network_and_matching_on_rendered_scenes(model_folder: Path, tmp_path: Path) -> None:
    args = ("--data", "rendered", "--count", "2", "--size", "64", "96", "--model", model_folder)
    done = invoke(*args, "--pictures", tmp_path / "pics", "--json")
    assert done.exit_code == 0, done.output
    record = json.loads(done.stdout)
    assert [(s["scene"], s["method"]) for s in record["scenes"]] == [
        (scene, method) for scene in ("000", "001") for method in ("sgbm", model_folder.name)
    ]
    mean = np.mean([s["mae_px"] for s in record["scenes"] if s["method"] == "sgbm"])
    assert record["mean"]["sgbm"]["mae_px"] == pytest.approx(mean)
    assert sorted(p.name for p in (tmp_path / "pics").iterdir()) == ["000.png", "001.png"]
    table = invoke(*args)
    assert "MAE px" in table.stdout and f"{record['mean']['sgbm']['ai1']:.4f}" in table.stdout


@pytest.mark.parametrize(
    ("args", "message"),
    [
        (("--data", "pixel4-xin"), "no folder given"),
        (("--data", "pixel4-xin", "nowhere"), "no folder 'nowhere'"),
        (("--data", "rendered", "--size", "50", "64"), "multiples of 32"),
        (("--data", "rendered", "--model", "nope"), "unknown model 'nope'"),
        (("--data", "rendered", "--method", "magic"), "'magic' is none of sgbm, network"),
    ],
)
def test_messages_of_wrong_arguments(args: tuple[str, ...], message: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stop:
        main(["evaluate", *args])
    assert stop.value.code == 2 and message in capsys.readouterr().err


def test_matching_reproduces_the_published_yardstick(shared_data: Callable[[str], Path]) -> None:
    """AI(1) .1175 and AI(2) .1383 on scenes 001 to 005, measured independently of this code."""
    folder = shared_data("pixel4_xin2021")
    scores = [r.score for _, results in evaluate(pixel4_xin(folder), {"sgbm": match_disparity}) for r in results]
    mean = mean_scores(scores[:5])["sgbm"]
    assert mean["ai1"] == pytest.approx(0.1175, rel=0.01) and mean["ai2"] == pytest.approx(0.1383, rel=0.01)
    assert all(s.affine.scale > 0 for s in scores), "farther, more defocused things have the larger disparity"
    assert all(math.isfinite(v) for v in mean.values())
