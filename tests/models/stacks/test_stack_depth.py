"""``dualpix depth STACK``: metric depth and the sharp picture of a focus stack, its error where a truth is given."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import cv2
import numpy as np
import pytest
import tifffile
from click.testing import CliRunner, Result
from tests.support.stack_folders import shoot_stack

from dualpix.capture.errors import DualpixError
from dualpix.models.predict.cli import command
from dualpix.models.stacks import notes as stack_notes
from dualpix.models.stacks.depth import depth_errors
from dualpix.models.stacks.truth import read_truth
from dualpix.models.zoo.cards import DEFAULT_STACK_MODEL


@pytest.fixture(scope="module")
def shot(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """A stack at two apertures without breathing, and its true depth."""
    root = tmp_path_factory.mktemp("stacks")
    stack = shoot_stack(root / "desk", seed=3, f_numbers=(2.8, 5.6), breathing=0.0)
    np.save(root / "truth.npy", stack.camera.depth_m)
    return stack.folder, root / "truth.npy"


@pytest.fixture(scope="module")
def few(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """Five frames, as a hand takes them, and the true depth."""
    root = tmp_path_factory.mktemp("few")
    stack = shoot_stack(root / "desk", seed=3, diopters=np.linspace(0.25, 2.25, 5).tolist(), breathing=0.0)
    np.save(root / "truth.npy", stack.camera.depth_m)
    return stack.folder, root / "truth.npy"


def run(*arguments: object) -> Result:
    return CliRunner().invoke(command, [str(a) for a in arguments])


def message(result: Result) -> str:
    assert isinstance(result.exception, DualpixError), result.output
    return str(result.exception)


def test_metric_depth_and_the_sharp_picture_with_their_error(shot: tuple[Path, Path], tmp_path: Path) -> None:
    folder, truth = shot
    result = run(folder, "-o", tmp_path, "--truth", truth, "--json")
    assert result.exit_code == 0, result.output
    (outcome,) = json.loads(result.stdout)
    error = outcome["result"]["error"]
    print(error)  # the figures belong to the test's output
    # stops are 0.25 D apart: the sharpest frame alone is off by a quarter of that on average, at best
    assert error["method"]["mae_d"] < 0.15 and error["method"]["abs_rel"] < 0.2
    assert error["method"]["mae_d"] < error["sharpest_frame"]["mae_d"]
    out = tmp_path / "desk"
    depth = tifffile.imread(out / "depth_m.tiff")
    assert depth.dtype == np.float32 and depth.shape == np.load(truth).shape
    assert outcome["result"]["f_number"] == 2.8
    sharp = cv2.imread(str(out / "all_in_focus.png"))
    assert sharp is not None and sharp.shape[:2] == depth.shape


def test_the_shipped_network_finds_it_unless_a_method_is_named(few: tuple[Path, Path], tmp_path: Path) -> None:
    folder, truth = few
    run(folder, "-o", tmp_path / "network", "--truth", truth)
    record = json.loads((tmp_path / "network" / "desk" / "depth.json").read_text())
    assert record["model"] == DEFAULT_STACK_MODEL and record["method_beside"] == "blur"
    assert record["method"] == f"focus stack, {DEFAULT_STACK_MODEL}"
    assert (tmp_path / "network" / "desk" / "depth_m_blur.tiff").is_file()
    assert record["error"]["network"]["abs_rel"] < record["error"]["sharpest_frame"]["abs_rel"]
    run(folder, "-o", tmp_path / "method", "--stack-method", "blur")
    record = json.loads((tmp_path / "method" / "desk" / "depth.json").read_text())
    assert "model" not in record
    assert [path.name for path in (tmp_path / "method" / "desk").glob("depth_m*.tiff")] == ["depth_m.tiff"]


def test_of_many_frames_the_method_is_asked_alone(shot: tuple[Path, Path], tmp_path: Path) -> None:
    run(shot[0], "-o", tmp_path)
    record = json.loads((tmp_path / "desk" / "depth.json").read_text())
    assert record["frames"] == 9 and "model" not in record


def test_where_both_contradict_the_method_is_the_result(
    few: tuple[Path, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder, _ = few
    monkeypatch.setattr(stack_notes, "differs", lambda *_: (0.7, ["they differ"]))
    result = run(folder, "-o", tmp_path)
    record = json.loads((tmp_path / "desk" / "depth.json").read_text())
    assert record["model"] is None and record["model_beside"] == DEFAULT_STACK_MODEL
    assert record["method"] == "focus stack, blur" and "method_beside" not in record
    beside = tifffile.imread(tmp_path / "desk" / f"depth_m_{DEFAULT_STACK_MODEL}.tiff")
    assert not np.allclose(beside, tifffile.imread(tmp_path / "desk" / "depth_m.tiff"))
    assert f"--model {DEFAULT_STACK_MODEL} takes it all the same" in " ".join(result.output.split())
    run(folder, "-o", tmp_path / "named", "--model", DEFAULT_STACK_MODEL)
    record = json.loads((tmp_path / "named" / "desk" / "depth.json").read_text())
    assert record["model"] == DEFAULT_STACK_MODEL and "they differ" in record["notes"]


def test_table_for_people_and_another_aperture(shot: tuple[Path, Path], tmp_path: Path) -> None:
    folder, truth = shot
    result = run(folder, "-o", tmp_path, "--truth", truth, "--f-number", "5.6", "--stack-method", "sharpness")
    assert "desk" in result.output and "the sharpest frame alone" in result.output
    record = json.loads((tmp_path / "desk" / "depth.json").read_text())
    assert record["f_number"] == 5.6 and record["method"] == "focus stack, sharpness"


def test_bad_input_is_refused(shot: tuple[Path, Path], tmp_path: Path) -> None:
    folder, truth = shot
    lone = tmp_path / "a.dng"
    lone.write_bytes(b"")
    assert "together; expected one kind at a time" in message(run(folder, lone, "-o", tmp_path / "out"))
    assert "--truth was given without a stack" in message(run(lone, "-o", tmp_path / "out", "--truth", truth))
    (tmp_path / "one").mkdir()
    twin = shutil.copytree(folder, tmp_path / "one" / "desk")
    assert "two stacks have the same name" in message(run(folder, twin, "-o", tmp_path / "out"))
    assert "--truth was given with 2 stacks" in message(run(folder, twin, "-o", tmp_path / "out", "--truth", truth))
    assert "no frames at f/11 in" in message(run(folder, "-o", tmp_path / "out", "--f-number", 11))
    assert not (tmp_path / "out" / "desk").exists()
    small = tmp_path / "small.npy"
    np.save(small, np.ones((3, 4), np.float32))
    assert "'small.npy' is (3, 4) (h, w)" in message(run(folder, "-o", tmp_path / "out", "--truth", small))
    small.write_bytes(b"no array")
    with pytest.raises(DualpixError, match=r"does not load.*depth map in m"):
        read_truth(small, (3, 4))


def test_errors_are_means_where_there_is_a_truth() -> None:
    found = np.array([[1.0, 2.0, 5.0, np.inf]], np.float32)
    truth = np.array([[2.0, 2.0, 0.0, 4.0]], np.float32)
    errors = depth_errors(found, truth)
    assert errors["pixels"] == 3
    assert errors["mae_d"] == pytest.approx((0.5 + 0.0 + 0.25) / 3)  # infinity is 0 diopters
    assert errors["mae_m"] == pytest.approx(0.5) and errors["abs_rel"] == pytest.approx(0.25)
    with pytest.raises(DualpixError, match="the truth is empty"):
        depth_errors(found, np.zeros_like(truth))


def write_truth(path: Path, values: np.ndarray) -> Path:
    if path.suffix == ".npy":
        np.save(path, values)
    elif path.suffix == ".png":
        cv2.imwrite(str(path), values)
    else:
        tifffile.imwrite(path, values)
    return path


@pytest.mark.parametrize(
    ("name", "dtype", "scale", "unit"),
    [("a.tiff", np.uint16, 1000, "mm"), ("a.png", np.uint16, 1000, "mm"), ("a.npy", np.int32, 1000, "mm"),
     ("a.npy", np.float32, 1, "m"), ("a.tiff", np.float16, 1, "m"), ("a.npy", np.float64, 1, "m")],
)  # fmt: skip
def test_integers_are_millimetres(tmp_path: Path, name: str, dtype: type, scale: float, unit: str) -> None:
    metres = np.array([[0.6, 1.6, 0.0], [1.2, 2.5, 0.6]])
    truth = read_truth(write_truth(tmp_path / name, (metres * scale).astype(dtype)), (2, 3))
    assert truth.unit == unit and truth.depth_m.dtype == np.float32
    assert truth.depth_m == pytest.approx(metres, rel=1e-3)


def test_what_is_no_depth_is_a_hole(tmp_path: Path) -> None:
    values = np.array([[np.nan, -1.0, 0.0, np.inf, 0.8]], np.float32)
    assert read_truth(write_truth(tmp_path / "a.npy", values), (1, 5)).depth_m.tolist() == [
        [0, 0, 0, np.inf, np.float32(0.8)]
    ]


def test_a_depth_next_to_nothing_is_no_truth(tmp_path: Path) -> None:
    """Its diopters would be infinite, and with them the mean error, which JSON cannot hold."""
    values = np.array([[1e-40, 1e-5, 0.5, 2.0]], np.float32)
    truth = read_truth(write_truth(tmp_path / "a.npy", values), (1, 4)).depth_m
    assert truth.tolist() == [[0.0, 0.0, 0.5, 2.0]]
    assert depth_errors(np.full((1, 4), 2.0, np.float32), truth)["mae_d"] == pytest.approx(0.75)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        (np.array([[600.0, 1600.0]], np.float32), r"1100 m, all of them whole numbers; as mm it would be 1.1"),
        (np.array([[1, 2]], np.uint16), r"median depth is 1.5 mm; as m it would be 1.5 m"),
        (np.array([[60, 160]], np.uint8), "8 bits"),
        (np.array([[1 + 2j, 2]]), "no plane of numbers"),
        (np.zeros((1, 0), np.float32), "holds an empty array"),
    ],
)  # fmt: skip
def test_a_truth_of_another_unit_is_refused(tmp_path: Path, values: np.ndarray, message: str) -> None:
    with pytest.raises(DualpixError, match=message) as error:
        read_truth(write_truth(tmp_path / "a.npy", values), values.shape)
    assert "\n" not in str(error.value)


def test_the_command_says_that_it_read_millimetres(shot: tuple[Path, Path], tmp_path: Path) -> None:
    folder, truth = shot
    in_mm = write_truth(tmp_path / "mm.tiff", np.rint(np.load(truth) * 1000).astype(np.uint16))
    results = [run(folder, "-o", tmp_path / path.stem, "--truth", path) for path in (truth, in_mm)]
    errors = [
        json.loads((tmp_path / path.stem / "desk" / "depth.json").read_text())["error"] for path in (truth, in_mm)
    ]
    assert "read as mm" in results[1].output and "read as mm" not in results[0].output
    assert errors[1]["method"]["mae_d"] == pytest.approx(errors[0]["method"]["mae_d"], rel=0.02)
    assert (errors[0]["truth_unit"], errors[1]["truth_unit"]) == ("m", "mm")
