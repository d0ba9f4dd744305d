"""``dualpix depth`` on stacks as users hold them: without distances, with nothing to measure, with frames of others."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest
import tifffile
from click.testing import CliRunner, Result
from tests.support.brackets import META, SIZE_HW, scene_frame, taken, write_bracket, write_shot
from tests.support.plain_stacks import card, sweep, write_focus_csv, write_pictures

from dualpix.capture.cli import main
from dualpix.capture.errors import DualpixError
from dualpix.capture.stack.depth.focus_depth import FocusIndex, depth_from_focus, index_from_focus
from dualpix.capture.stack.depth.focus_output import check_measured
from dualpix.capture.stack.keep.importer import import_stack
from dualpix.capture.stack.keep.layouts import is_stack, names_say_focus
from dualpix.capture.stack.keep.load import load_stack
from dualpix.capture.types import CaptureMeta, FloatImage, FocusStack, LensModel
from dualpix.models.predict.cli import command

DIOPTERS = tuple(float(d) for d in np.linspace(0.5, 2.0, 7))


def run(*arguments: object) -> Result:
    return CliRunner().invoke(command, [str(a) for a in arguments])


def message(result: Result) -> str:
    assert isinstance(result.exception, DualpixError), result.output
    return str(result.exception)


# --- without distances --------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def unknown(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Imported pictures without a word about focus: the left half is sharp in frame 1, the right one in frame 5."""
    root = tmp_path_factory.mktemp("unknown")
    write_pictures(root / "in", sweep())
    return import_stack([root / "in"], root / "card").folder


def test_a_stack_without_distances_gives_the_frame_and_no_metres(unknown: Path, tmp_path: Path) -> None:
    result = run(unknown, "-o", tmp_path)
    assert result.exit_code == 0, result.output
    assert "no metres" in result.output and "dualpix capture import with --distances" in result.output
    out = tmp_path / "card"
    assert {path.name for path in out.iterdir()} == {
        "focus_index.tiff", "focus_index.png", "confidence.png", "all_in_focus.tiff", "all_in_focus.png", "depth.json"
    }  # fmt: skip
    index = tifffile.imread(out / "focus_index.tiff")
    assert index.dtype == np.float32 and index.min() >= 0 and index.max() <= 6
    assert np.median(index[:, :70]) == pytest.approx(1, abs=0.15)
    assert np.median(index[:, 90:]) == pytest.approx(5, abs=0.15)
    record = json.loads((out / "depth.json").read_text())
    assert (record["kind"], record["metric"], record["missing"]) == ("focus_index", False, ["focus_distance_m"])
    assert not {"depth_m", "focus_distance_m", "uncertainty_d"} & set(record)
    assert record["measured_fraction"] > 0.8 and record["blur_source"] == "found"
    assert cv2.imread(str(out / "focus_index.png")).shape[1] > 2 * 160


@pytest.mark.parametrize("method", ["blur", "sharpness", "argmax"])
def test_the_index_is_that_of_the_frames_whatever_their_distances(unknown: Path, method: str) -> None:
    """And has fractions: a plane between two frames is found between them."""
    stack = load_stack(unknown)
    found = index_from_focus(stack, method)  # type: ignore[arg-type]
    assert isinstance(found, FocusIndex)
    with_distances = replace(stack, focus_distance_m=1 / np.linspace(1, 9, 7), uncertainty_d=np.full(7, 0.1))
    again = index_from_focus(with_distances, method)  # type: ignore[arg-type]
    assert np.array_equal(found.focus_index, again.focus_index)
    with pytest.raises(DualpixError, match="nothing says where the frames are focused"):
        depth_from_focus(stack, method)  # type: ignore[arg-type]


def test_fractions_between_frames() -> None:
    sharp, rng = card(size_hw=(120, 160)), np.random.default_rng(0)
    frames = np.stack([cv2.GaussianBlur(sharp, (0, 0), 0.2 + 0.7 * abs(k - 3.4)) for k in range(8)])
    noisy = np.asarray(frames + rng.normal(0, 0.002, frames.shape), np.float32)
    stack = FocusStack(noisy, None, None, LensModel(np.nan, np.nan, np.nan, np.nan))
    for method, within in (("blur", 0.12), ("sharpness", 0.12)):
        assert np.median(index_from_focus(stack, method).focus_index) == pytest.approx(3.4, abs=within)  # type: ignore[arg-type]


def test_a_truth_in_metres_needs_distances(unknown: Path, tmp_path: Path) -> None:
    np.save(tmp_path / "truth.npy", np.ones((96, 160), np.float32))
    said = message(run(unknown, "-o", tmp_path / "out", "--truth", tmp_path / "truth.npy"))
    assert "--truth was given with a stack that does not say where its frames are focused" in said
    assert not (tmp_path / "out" / "card").exists()


def test_as_json_it_says_the_same(unknown: Path, tmp_path: Path) -> None:
    (outcome,) = json.loads(run(unknown, "-o", tmp_path, "--json", "--stack-method", "sharpness").stdout)
    assert outcome["result"]["kind"] == "focus_index" and outcome["result"]["blur_px_per_frame"] is None
    assert list(outcome["result"]["focus_index"]) == ["p1", "p50", "p99"]


# --- nothing to measure -------------------------------------------------------------------------------------------


def _black(rng: np.random.Generator) -> FloatImage:
    return np.asarray(np.abs(rng.normal(0, 2e-4, (7, 96, 160, 3))), np.float32)


def _saturated(rng: np.random.Generator) -> FloatImage:
    return np.ones((7, 96, 160, 3), np.float32)


def _same(rng: np.random.Generator) -> FloatImage:
    return np.stack([card()] * 7)


def _same_noisy(rng: np.random.Generator) -> FloatImage:
    return np.asarray(np.clip(_same(rng) + rng.normal(0, 0.01, (7, 96, 160, 3)), 0, 1), np.float32)


def _grey(rng: np.random.Generator) -> FloatImage:
    return np.asarray(0.3 + rng.normal(0, 0.01, (7, 96, 160, 3)), np.float32)


def _ramp(rng: np.random.Generator) -> FloatImage:
    ramp = np.linspace(0.1, 0.8, 160, dtype=np.float32)[None, None, :, None]
    return np.asarray(ramp + rng.normal(0, 0.003, (7, 96, 160, 3)), np.float32)


@pytest.mark.parametrize(
    ("frames", "why"),
    [
        (_black, "the frames are black"),
        (_saturated, "the frames are saturated"),
        (_same, "all frames are the same picture"),
        (_same_noisy, "no frame is sharper than the others"),
        (_grey, "no frame is sharper than the others"),
        (_ramp, "no frame is sharper than the others"),
    ],
)
@pytest.mark.parametrize("method", ["blur", "sharpness"])
@pytest.mark.parametrize("metric", [True, False])
def test_a_stack_that_shows_nothing_gives_no_depth(
    frames: Callable[[np.random.Generator], FloatImage], why: str, method: str, metric: bool
) -> None:
    shown = frames(np.random.default_rng(0))
    distances = (1 / np.array(DIOPTERS), np.full(7, 0.01)) if metric else (None, None)
    for lens in (LensModel(np.nan, np.nan, 2.0, np.nan), LensModel(50.0, 2.8, 2.0, 50.0)):
        stack = FocusStack(shown, *distances, lens)
        found = (depth_from_focus if metric else index_from_focus)(stack, method)  # type: ignore[arg-type,operator]
        assert found.measured_fraction < 0.001 and np.mean(found.confidence >= 0.5) == found.measured_fraction
        with pytest.raises(DualpixError, match=f"nothing can be measured in 'wall': {why}") as error:
            check_measured(stack, found, "wall")
        assert "\n" not in str(error.value)


def test_the_command_says_so_and_writes_nothing(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    rng = np.random.default_rng(0)
    for name, frames in (("dark", _black(rng)), ("copy", _same(rng)), ("card", sweep())):
        write_focus_csv(write_pictures(tmp_path / name, frames), DIOPTERS)
    with pytest.raises(SystemExit) as stopped:
        main(["depth", str(tmp_path / "dark"), "-o", str(tmp_path / "out")])
    said = [line for line in capsys.readouterr().err.splitlines() if line.startswith("dualpix: error")]
    assert stopped.value.code == 2 and len(said) == 1 and "nothing can be measured in 'dark'" in said[0]
    assert not (tmp_path / "out" / "dark").exists()
    # of several, the others are done
    with pytest.raises(SystemExit) as stopped:
        main(["depth", *(str(tmp_path / name) for name in ("copy", "card")), "-o", str(tmp_path / "out")])
    assert stopped.value.code == 2
    assert not (tmp_path / "out" / "copy").exists() and (tmp_path / "out" / "card" / "depth.json").is_file()


def test_little_that_was_measured_is_said(tmp_path: Path) -> None:
    """A stamp on a plain wall: its depth is measured, and that of the wall is filled in from it."""
    frames = np.full((7, 96, 160, 3), 0.4, np.float32)
    frames[:, 40:60, 60:90] = sweep()[:, 40:60, 20:50]
    noisy = np.asarray(frames + np.random.default_rng(0).normal(0, 0.002, frames.shape), np.float32)
    write_focus_csv(write_pictures(tmp_path / "in", noisy), DIOPTERS)
    result = run(tmp_path / "in", "-o", tmp_path / "out")
    assert result.exit_code == 0, result.output
    record = json.loads((tmp_path / "out" / "in" / "depth.json").read_text())
    assert 0.001 < record["measured_fraction"] < 0.1
    assert "% of the pixels were measured, the rest is filled in from them" in result.output
    # figures are those of what was measured: frame 1, at 0.75 D
    assert record["depth_m"]["p50"] == pytest.approx(1 / 0.75, rel=0.1)


# --- frames of others ---------------------------------------------------------------------------------------------


def plain_folder(folder: Path, metas: list[CaptureMeta | None]) -> Path:
    names = [f"{number}.jpg" for number in range(len(metas))]
    write_focus_csv(write_bracket(folder, names, metas), np.linspace(0.5, 2.0, len(metas)).tolist())
    return folder


def test_a_plain_folder_of_one_lens_gives_depth(tmp_path: Path) -> None:
    folder = plain_folder(tmp_path / "good", [taken(META, number) for number in range(7)])
    assert run(folder, "-o", tmp_path / "out").exit_code == 0


@pytest.mark.parametrize(
    ("odd", "says"),
    [
        ({"f_number": 11.0}, "'3.jpg' is at f/11, the other 6 frames at f/2.8"),
        ({"camera": "Canon EOS R6"}, "'3.jpg' is from 'Canon EOS R6', the other 6 frames from 'NIKON"),
        ({"focal_length_mm": 35.0}, "'3.jpg' is at 35 mm, the other 6 frames at 105 mm"),
    ],
)
def test_a_plain_folder_with_a_frame_of_other_optics_is_refused(
    tmp_path: Path, odd: dict[str, object], says: str
) -> None:
    metas: list[CaptureMeta | None] = [taken(META, number) for number in range(7)]  # which give depth, see above
    metas[3] = replace(taken(META, 3), **odd)  # type: ignore[arg-type]
    said = message(run(plain_folder(tmp_path / "odd", metas), "-o", tmp_path / "out"))
    assert says in said and "leave out what does not belong" in said
    assert not (tmp_path / "out" / "odd").exists()


def test_a_frame_of_another_size_is_named_even_if_it_is_the_first(tmp_path: Path) -> None:
    folder = plain_folder(tmp_path / "in", [None] * 7)
    write_shot(folder / "0.jpg", scene_frame(0.0, (SIZE_HW[0], SIZE_HW[1] - 16)), None)
    said = message(run(folder, "-o", tmp_path / "out"))
    assert "'0.jpg' is of 128x96 pixels, the other 6 frames of 144x96 pixels" in said


def test_a_frame_of_another_scene_is_named(tmp_path: Path) -> None:
    folder = plain_folder(tmp_path / "in", [None] * 7)
    other = cv2.GaussianBlur(np.random.default_rng(5).random((*SIZE_HW, 3), np.float32), (0, 0), 1.5)
    write_shot(folder / "4.jpg", np.asarray(np.rint(255 * other), np.uint8), None)
    result = run(folder, "-o", tmp_path / "out")
    assert result.exit_code == 0, result.output
    assert "'4.jpg' could not be matched with the other frames" in " ".join(result.output.split())


# --- what counts as a stack ---------------------------------------------------------------------------------------


def test_pictures_whose_names_say_their_focus_are_a_stack(tmp_path: Path) -> None:
    paths = write_pictures(tmp_path / "in", sweep())
    assert not is_stack(tmp_path / "in") and not names_say_focus(tmp_path / "in")
    for path, focus in zip(paths, DIOPTERS, strict=True):
        path.rename(path.with_name(f"{path.stem}_D{focus:.3f}.png"))
    assert is_stack(tmp_path / "in")
    assert run(tmp_path / "in", "-o", tmp_path / "out").exit_code == 0
    assert tifffile.imread(tmp_path / "out" / "in" / "depth_m.tiff").shape == (96, 160)


def test_pictures_that_say_nothing_are_told_how_to_become_a_stack(tmp_path: Path) -> None:
    write_pictures(tmp_path / "in", sweep())
    assert "a focus stack is made of them by: dualpix capture import" in message(run(tmp_path / "in", "-o", tmp_path))
