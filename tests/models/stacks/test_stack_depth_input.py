"""``dualpix depth STACK`` with a network beside the method, and with stacks that lack something or cannot be so."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile
from click.testing import CliRunner, Result
from hypothesis import given
from hypothesis import strategies as st
from tests.support.plain_stacks import sweep, write_focus_csv, write_pictures
from tests.support.stack_folders import shoot_stack
from tests.support.toy_network import toy_folder

from dualpix.capture.errors import DualpixError
from dualpix.capture.stack.keep.importer import Given, import_stack
from dualpix.models.predict.cli import command
from dualpix.models.stacks.network import MOST_FRAMES, thinned

DIOPTERS = tuple(float(d) for d in np.linspace(0.5, 2.0, 7))
NETWORK = ("--model", "toynet:nearest")


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    return toy_folder(tmp_path, monkeypatch)


def run(*arguments: object) -> Result:
    return CliRunner().invoke(command, [str(a) for a in arguments])


def refusal(result: Result) -> str:
    assert isinstance(result.exception, DualpixError), result.output
    said = str(result.exception)
    assert "\n" not in said
    return said


def folder_of(folder: Path, frames: np.ndarray, diopters: Sequence[float]) -> Path:
    write_focus_csv(write_pictures(folder, frames), diopters)
    return folder


def record_of(result: Result, folder: Path) -> dict[str, Any]:
    assert result.exit_code == 0, (result.output, result.exception)
    found: dict[str, Any] = json.loads((folder / "depth.json").read_text())
    return found


# --- a network ----------------------------------------------------------------------------------------------------


def test_the_methods_map_and_error_stand_beside_the_networks(here: Path) -> None:
    stack = shoot_stack(here / "desk", seed=3, breathing=0.0)
    np.save(here / "truth.npy", stack.camera.depth_m)
    result = run(here / "desk", "-o", here / "out", *NETWORK, "--truth", here / "truth.npy")
    record = record_of(result, here / "out" / "desk")
    assert (record["model"], record["method_beside"], record["confidence_of"]) == ("nearest", "blur", "network")
    network, method = (tifffile.imread(here / "out" / "desk" / f"{n}.tiff") for n in ("depth_m", "depth_m_blur"))
    assert network.shape == method.shape and not np.array_equal(network, method)
    error = record["error"]
    truth = stack.camera.depth_m
    assert error["network"]["mae_d"] == pytest.approx(float(np.abs(1 / network - 1 / truth).mean()), rel=1e-4)
    assert error["method"]["mae_d"] == pytest.approx(float(np.abs(1 / method - 1 / truth).mean()), rel=1e-4)
    assert error["truth"] == "file" and "(the method: " in result.output and "AbsRel" in result.output
    assert 0 <= record["network_from_method_d"] < 0.3 and record["notes"] == []


def test_a_network_that_knows_nothing_of_the_stack_is_not_trusted(here: Path) -> None:
    folder = folder_of(here / "in", sweep(), DIOPTERS)
    result = run(folder, "-o", here / "out", "--model", "toynet:stack")
    record = record_of(result, here / "out" / "in")
    assert record["confidence_of"] == "method" and record["network_from_method_d"] > 0.25
    assert "do not trust the network on this stack" in " ".join(result.output.split())


def test_two_frames_do_for_a_network(here: Path) -> None:
    folder = folder_of(here / "two", sweep()[[1, 5]], (0.75, 1.75))
    record = record_of(run(folder, "-o", here / "out", *NETWORK), here / "out" / "two")
    assert record["frames"] == 2 and record["method_beside"] == "argmax"
    depth = tifffile.imread(here / "out" / "two" / "depth_m.tiff")
    assert np.median(depth[:, :60]) == pytest.approx(1 / 0.75, rel=0.01)
    assert np.median(depth[:, -60:]) == pytest.approx(1 / 1.75, rel=0.01)
    said = refusal(run(folder, "-o", here / "no", "--stack-method", "blur"))
    assert "2 frames; expected three or more for depth from focus; two do for a network" in said


def test_of_many_frames_a_network_sees_nine_and_says_which(here: Path) -> None:
    folder = folder_of(here / "many", sweep(13), np.linspace(0.4, 2.8, 13).tolist())
    record = record_of(run(folder, "-o", here / "out", *NETWORK), here / "out" / "many")
    [note] = [note for note in record["notes"] if "frames the network was shown" in note]
    assert note.startswith("of 13 frames the network was shown 9: '00.png', ") and note.endswith("'12.png'")
    assert note.count("'") == 18 and record["frames"] == 13


@given(st.lists(st.floats(0.0, 5.0), min_size=2, max_size=40, unique=True), st.integers(2, 12))
def test_frames_that_are_shown_rise_and_keep_both_ends(diopters: list[float], most: int) -> None:
    focus = np.sort(np.array(diopters))
    places = thinned(focus, most)
    assert len(places) == min(most, len(focus)) and places[0] == 0 and places[-1] == len(focus) - 1
    assert (np.diff(places) > 0).all()
    assert MOST_FRAMES == 9


# --- what is missing ----------------------------------------------------------------------------------------------


def test_a_network_needs_distances_and_says_how_to_give_them(here: Path) -> None:
    write_pictures(here / "in", sweep())
    folder = import_stack([here / "in"], here / "unknown").folder
    said = refusal(run(folder, "-o", here / "out", *NETWORK))
    assert "the stack does not say where its frames are focused; expected distances" in said
    assert "dualpix capture import with --distances" in said and not (here / "out" / "unknown").exists()


def test_unknown_optics_are_named_with_what_was_done_without_them(here: Path) -> None:
    folder = folder_of(here / "in", sweep(), DIOPTERS)
    result = run(folder, "-o", here / "out")
    [note] = record_of(result, here / "out" / "in")["notes"]
    assert note.startswith("nothing says the focal length and f-number and pixel pitch: how much blur a diopter makes")
    assert "--focal-length-mm" in note
    lens = Given(focal_length_mm=50.0, f_number=2.8, pixel_pitch_um=50.0)
    known = import_stack([folder], here / "known", lens).folder
    record = record_of(run(known, "-o", here / "out"), here / "out" / "known")
    assert record["notes"] == [] and record["blur_source"] == "lens"
    assert record["blur_px_per_d"] == pytest.approx(50**2 / 2.8 / 50 / (1 - 0.05 * 0.5), rel=1e-6)
    half = import_stack([folder], here / "half", Given(f_number=2.8)).folder
    words = ("--focal-length-mm", 50, "--pixel-pitch-um", 50)
    same = record_of(run(half, "-o", here / "out", *words), here / "out" / "half")
    assert same["notes"] == [] and same["blur_px_per_d"] == record["blur_px_per_d"]


@pytest.mark.parametrize(
    "words", [("--focus-distance-m", 2), ("--disparity-gain", 0.2), ("--method", "sgbm"), ("--ply",), ("--swap",)]
)
def test_what_only_dual_pixel_captures_have_is_refused(here: Path, words: tuple[object, ...]) -> None:
    folder = folder_of(here / "in", sweep(), DIOPTERS)
    said = refusal(run(folder, "-o", here / "out", *words))
    assert f"{words[0]} was given with a focus stack; expected dual-pixel captures with it" in said


def test_a_model_that_is_named_is_asked_though_it_is_the_default_of_pairs(here: Path) -> None:
    folder = folder_of(here / "in", sweep(), DIOPTERS)
    said = refusal(run(folder, "-o", here / "out", "--model", "difusenet-compact"))
    assert "model 'difusenet-compact' takes" in said and "expected a network for focus stacks" in said


# --- what cannot be so --------------------------------------------------------------------------------------------


def test_one_frame_is_no_stack(here: Path) -> None:
    folder = folder_of(here / "one", sweep()[:1], (0.5,))
    said = refusal(run(folder, "-o", here / "out"))
    assert "1 focus frames of one aperture; expected two or more" in said and not (here / "out" / "one").exists()


def test_two_frames_at_one_distance(here: Path) -> None:
    folder = folder_of(here / "in", sweep(), (0.5, 0.75, 1.0, 1.0, 1.5, 1.75, 2.0))
    said = refusal(run(folder, "-o", here / "out"))
    assert "'02.png' and '03.png' are both at 1.0000 D; expected a distance of its own for each frame" in said


@pytest.mark.parametrize("thousandfold", [1000.0, 100.0])
def test_millimetres_and_centimetres_taken_for_metres(here: Path, thousandfold: float) -> None:
    metres = 1 / np.array(DIOPTERS) * thousandfold
    folder = folder_of(here / "in", sweep(), (1 / metres).tolist())
    said = refusal(run(folder, "-o", here / "out"))
    assert f"the frames are focused at {metres.min():g} to {metres.max():g} m, where one distance looks like" in said
    assert "expected metres" in said and "import --distances" in said


def test_distances_taken_for_diopters(here: Path) -> None:
    folder = folder_of(here / "in", sweep(), [500.0, 630.0, 860.0, 1330.0, 2000.0, 4000.0, 7060.0])
    said = refusal(run(folder, "-o", here / "out"))
    assert "the frames are focused at 0.000141643 to 0.002 m, nearer than a lens focuses" in said


def test_a_telephoto_lens_tells_far_distances_apart(here: Path) -> None:
    folder = folder_of(here / "in", sweep(), [1 / d for d in (400.0, 200.0, 130.0, 100.0, 80.0, 66.0, 57.0)])
    assert "where one distance looks like another" in refusal(run(folder, "-o", here / "out"))
    lens = Given(focal_length_mm=600.0, f_number=4.0, pixel_pitch_um=6.0)
    known = import_stack([folder], here / "known", lens).folder
    record = record_of(run(known, "-o", here / "out", "--stack-method", "sharpness"), here / "out" / "known")
    assert 60 < record["depth_m"]["p50"] < 250


def test_a_scene_beyond_the_frames_is_told(here: Path) -> None:
    """Only the first three frames of a sweep whose sharpest one comes later: all is sharpest in the last of them."""
    frames = sweep()[:, :, 80:][2:5]  # sharpest in frame 5
    folder = folder_of(here / "in", np.ascontiguousarray(frames), (0.5, 0.75, 1.0))
    result = run(folder, "-o", here / "out", "--stack-method", "argmax")
    record = record_of(result, here / "out" / "in")
    [note] = [note for note in record["notes"] if "sharpness has no peak there" in note]
    assert "is sharpest in the nearest frame '02.png', at 1 m" in note and "take frames that are focused nearer" in note


# --- from a simulated camera to metres ----------------------------------------------------------------------------


def test_the_scene_of_a_simulated_camera_is_its_truth(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from dualpix.capture.cameras.hidden.camera import HiddenCamera
    from dualpix.capture.cli import root

    monkeypatch.setenv("DUALPIX_DATA", str(here / "data"))
    words = ["capture", "--camera", "sim", "--address", "sim:2", "-o", "desk", "--near", "0.45", "--far", "6"]
    assert CliRunner().invoke(root, [*words, "--count", "5"], catch_exceptions=False).exit_code == 0
    result = run(here / "desk", "-o", here / "out", "--stack-method", "sharpness")
    error = record_of(result, here / "out" / "desk")["error"]
    assert error["truth"] == "simulated camera" and "mean error against the scene that was simulated" in result.output
    assert 0 < error["method"]["abs_rel"] < 0.35 and error["method"]["pixels"] == 128 * 192
    # by hand: the nearest frame shows most, so the others are aligned to it; breathing is 0.0109 per diopter
    truth = HiddenCamera.from_seed(2).depth_at_m(1 + 0.010870881503391036 / 0.45)
    depth = tifffile.imread(here / "out" / "desk" / "depth_m.tiff")
    assert error["method"]["mae_d"] == pytest.approx(float(np.abs(1 / depth - 1 / truth).mean()), rel=0.02)
    done = CliRunner().invoke(root, ["capture", "align", "desk"], catch_exceptions=False)
    assert done.exit_code == 0, done.output
    again = record_of(run("desk", "-o", "out2", "--stack-method", "sharpness"), here / "out2" / "desk")["error"]
    assert again["method"]["mae_d"] == pytest.approx(error["method"]["mae_d"], rel=0.1)
    done = CliRunner().invoke(
        root, ["evaluate", ".", "--data", "simulated-camera", "--method", "sharpness", "--json"], catch_exceptions=False
    )
    [scene] = json.loads(done.stdout)["scenes"]
    assert scene["scene"] == "desk" and scene["mae_diopters"] == pytest.approx(again["method"]["mae_d"], rel=0.02)
