"""An exported program where a model is asked for: what is scored is what it computes, at the size that it takes."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner
from tests.support.tiny_net import tiny_model

from dualpix.capture.cli import main, root
from dualpix.capture.types import Baseline, DualPixelImage
from dualpix.export import manifest
from dualpix.export.flow.result import ExportResult
from dualpix.export.manifest import read_manifest, write_manifest
from dualpix.models.predict.disparity import predict_disparity
from dualpix.models.predict.working import largest_within, working_size
from dualpix.models.zoo import programs
from dualpix.models.zoo.programs import is_program, load_any

SIZE_HW = (64, 96)
"""Of ``tiny_export``."""
FLOAT, INT8 = "tiny-xnnpack-fp32.pte", "tiny-xnnpack-int8.pte"


def pair(size_hw: tuple[int, int], baseline: Baseline = "x") -> DualPixelImage:
    rng = np.random.default_rng(3)
    left, right = rng.random(size_hw, np.float32), rng.random(size_hw, np.float32)
    return DualPixelImage(left, right, (left + right) / 2, np.zeros(size_hw, np.bool_), baseline)


def means(*words: object) -> dict[str, dict[str, float]]:
    scene = ("evaluate", "--data", "rendered", "--count", "2", "--size", "64", "96", "--method", "network")
    done = CliRunner().invoke(root, [*scene, *map(str, words), "--json"])
    assert done.exit_code == 0, done.output or done.exception
    found: dict[str, dict[str, float]] = json.loads(done.stdout)["mean"]
    return found


@pytest.mark.parametrize(("size_hw", "baseline"), [((64, 96), "x"), ((50, 70), "x"), ((70, 50), "y"), ((40, 34), "x")])
def test_a_float_program_gives_what_its_network_does(
    tiny_export: ExportResult, tmp_path: Path, size_hw: tuple[int, int], baseline: Baseline
) -> None:
    """Views that fit are not resized; what lies beside them is filled in, and only the edge can tell."""
    image, program = pair(size_hw, baseline), load_any(tiny_export.folder / FLOAT)
    expected = predict_disparity(image, tiny_model(tmp_path), working_long_side_px=max(size_hw))
    found = predict_disparity(image, program)
    assert found.working_size_hw == expected.working_size_hw and found.method == "tiny-xnnpack-fp32"
    inner = (slice(0, -10), slice(0, -10))
    assert found.disparity_px[inner] == pytest.approx(expected.disparity_px[inner], abs=1e-4)


def test_larger_views_are_reduced_until_they_fit_and_their_disparity_grows_back(tiny_export: ExportResult) -> None:
    image, program = pair((96, 192)), load_any(tiny_export.folder / FLOAT)
    found = predict_disparity(image, program)
    assert found.working_size_hw == ((48, 96),) and found.scale == (2.0,)
    with pytest.raises(Exception, match=r"96 x 192 px for 'tiny-xnnpack-fp32', a program of 64 x 96 px"):
        predict_disparity(image, program, working_long_side_px=192)


def test_the_largest_size_that_fits_is_found_for_any_shape() -> None:
    rng = np.random.default_rng(0)
    for height, width in rng.integers(16, 400, (300, 2)):
        image, room = pair((int(height), int(width)), "y" if height % 2 else "x"), (64, 96)
        side = largest_within(image, room)
        fits = [s for s in range(1, max(height, width) + 1) if all(np.array(working_size(image, s)) <= room)]
        assert side >= max(fits) - 1 and all(np.array(working_size(image, side)) <= room)


def test_evaluate_scores_programs_beside_networks(tiny_export: ExportResult) -> None:
    found = means("--model", tiny_export.folder / FLOAT, "--model", tiny_export.folder / INT8, "--model", "dplive")
    assert list(found) == ["tiny-xnnpack-fp32", "tiny-xnnpack-int8", "dplive"]
    floating, int8 = (found[f"tiny-xnnpack-{kind}"]["mae_px"] for kind in ("fp32", "int8"))
    assert floating != int8 and int8 == pytest.approx(floating, rel=0.1)


def test_and_core_ml_packages_where_they_can_be_interpreted(tiny_export: ExportResult) -> None:
    package = tiny_export.folder / "tiny-coreml-fp16.mlpackage"
    found = means("--model", package, "--model", tiny_export.folder / FLOAT)
    half, single = (found[f"tiny-{kind}"]["mae_px"] for kind in ("coreml-fp16", "xnnpack-fp32"))
    assert half == pytest.approx(single, rel=0.01)


def test_an_exports_folder_with_one_program_is_that_program(tiny_export: ExportResult, tmp_path: Path) -> None:
    shutil.copytree(tiny_export.folder, tmp_path / "one")
    for other in (tmp_path / "one").iterdir():
        if other.suffix in programs.SUFFIXES and other.name != INT8:
            shutil.rmtree(other) if other.is_dir() else other.unlink()
    assert list(means("--model", tmp_path / "one")) == ["tiny-xnnpack-int8"]


def test_working_sizes_are_the_networks(tiny_export: ExportResult) -> None:
    program = tiny_export.folder / FLOAT
    beside = means("--model", program, "--model", "dplive", "--working-size", "64")
    alone = means("--model", program, "--model", "dplive")
    assert beside["tiny-xnnpack-fp32"] == alone["tiny-xnnpack-fp32"] and beside["dplive"] != alone["dplive"]


def test_depth_takes_a_program(tiny_export: ExportResult, tmp_path: Path) -> None:
    import cv2

    rng = np.random.default_rng(1)
    for side in ("left", "right"):
        cv2.imwrite(str(tmp_path / f"shot_{side}.png"), rng.integers(2000, 60000, (120, 160), np.uint16))
    words = ["depth", tmp_path / "shot_left.png", "-o", tmp_path / "out", "--model", tiny_export.folder / INT8]
    done = CliRunner().invoke(root, [*map(str, words), "--json"])
    assert done.exit_code == 0, done.output or done.exception
    (record,) = [one["result"] for one in json.loads(done.stdout)]
    assert record["method"] == "tiny-xnnpack-int8" and record["working_sizes_hw"] == [[64, 85]]
    assert (
        record["request"]["options"]["model"]["name"] == INT8
    )  # by content: another export of that name is not skipped


def _spoilt(folder: Path, name: str) -> None:
    content = bytearray((folder / name).read_bytes())
    content[-1] ^= 1
    (folder / name).write_bytes(content)


def _of_task(folder: Path, task: str | None) -> None:
    changed = read_manifest(folder)
    changed["model"].pop("task")
    changed["model"] |= {"task": task} if task else {}
    write_manifest(folder, changed)


def refused(capsys: pytest.CaptureFixture[str], *words: object) -> str:
    with pytest.raises(SystemExit) as stop:
        main([*map(str, words)])
    said = capsys.readouterr().err
    assert stop.value.code == 2 and said.count("\n") == 1, said
    return said


def test_what_is_no_program_of_an_export_is_refused(
    tiny_export: ExportResult, foreign_export: ExportResult, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    scene = ("evaluate", "--data", "rendered", "--count", "1", "--size", "64", "96", "--model")
    copy = tmp_path / "copy"
    shutil.copytree(tiny_export.folder, copy)
    program = copy / FLOAT
    assert "no file" in refused(capsys, *scene, tmp_path / "nothing.pte")
    assert f"name one of them: {copy}/tiny-" in refused(capsys, *scene, copy)
    assert "none: it has its own" in refused(
        capsys, "depth", "a.png", "-o", tmp_path / "o", "--model", program, "--working-size", "96"
    )
    assert "a program has one" in refused(capsys, *scene, program, "--working-size", "96")
    alone = tmp_path / "alone.pte"
    shutil.copyfile(program, alone)
    assert "no readable manifest.json" in refused(capsys, *scene, alone)
    shutil.copyfile(program, copy / "other.pte")
    assert "'other.pte' is not in the manifest" in refused(capsys, *scene, copy / "other.pte")
    of_nobody = next(foreign_export.folder.glob("*.pte"))
    assert "of no task" in refused(capsys, *scene, of_nobody)
    _of_task(copy, "focus_stack")
    assert "the task focus_stack; expected one of dual_pixel" in refused(capsys, *scene, program)
    _spoilt(copy, FLOAT)
    assert "is not the file that was measured" in refused(capsys, *scene, program)


def test_other_commands_take_networks_alone(
    tiny_export: ExportResult, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    program = tiny_export.folder / FLOAT
    assert "unknown model" in refused(capsys, "train", "--network", "dplive", "--init", program, "-o", tmp_path / "t")


def test_names_of_networks_are_none_of_programs(tiny_export: ExportResult) -> None:
    assert programs.MANIFEST == manifest.MANIFEST
    assert is_program(tiny_export.folder) and not is_program("dplive") and not is_program("toynet:nearest@here")
