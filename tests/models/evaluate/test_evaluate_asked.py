"""What the user names to ``dualpix evaluate`` is scored or refused, never left out: models, sizes, frames."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import cv2
import numpy as np
import pytest
from click.testing import CliRunner, Result
from tests.support.toy_network import toy_folder

from dualpix.capture.cli import main, root
from dualpix.models.data.focus_lists import on_curve
from dualpix.models.evaluate.rendered_stacks import LISTS_M, list_m, procedural_stacks, stack_protocol
from dualpix.models.zoo import DEFAULT_MODEL

SCENE = ("--count", "1", "--size", "64", "96")
PAIRS = ("--data", "rendered", *SCENE)
STACKS = ("--data", "rendered:stack-diopters", *SCENE)
COMPACT = "difusenet-compact"


def invoke(*words: object) -> Result:
    return CliRunner().invoke(root, ["evaluate", *map(str, words)])


def rows(*words: object) -> list[str]:
    done = invoke(*words, "--json")
    assert done.exit_code == 0, done.output or done.exception
    return list(json.loads(done.stdout)["mean"])


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (("--method", "sgbm", "--model", COMPACT), ["sgbm", COMPACT]),
        (("--model", COMPACT), ["sgbm", COMPACT]),
        (("--method", "network"), [DEFAULT_MODEL]),
        (("--method", "network", "--model", "fmdp-compact"), ["fmdp-compact"]),
        (("--method", "sgbm", "--model", COMPACT, "--model", "fmdp-compact"), ["sgbm", COMPACT, "fmdp-compact"]),
        (("--model", COMPACT, "--model", COMPACT), ["sgbm", COMPACT]),
        (("--method", "sgbm"), ["sgbm"]),
    ],
)
def test_a_model_that_is_named_is_scored(words: tuple[str, ...], expected: list[str]) -> None:
    assert rows(*PAIRS, *words) == expected


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (("--method", "argmax", "--model", "toynet:nearest"), ["argmax", "nearest"]),
        (("--model", "toynet:nearest"), ["blur", "argmax", "nearest"]),
        (("--method", "argmax,network", "--model", "toynet:nearest"), ["argmax", "nearest"]),
        (("--method", "network", "--model", "toynet:nearest", "--model", "toynet:stack"), ["nearest", "stack"]),
        (("--method", "network"), ["fossa-compact"]),
        ((), ["blur", "argmax"]),
    ],
)
def test_and_where_networks_do_not_run_by_default(
    words: tuple[str, ...], expected: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    toy_folder(tmp_path, monkeypatch)
    assert rows(*STACKS, *words) == expected


def test_and_beside_maps(tmp_path: Path) -> None:
    (tmp_path / "sgbm").mkdir()
    np.save(tmp_path / "sgbm" / "000.npy", np.zeros((64, 96), np.float32))
    maps = tmp_path / "sgbm"
    assert rows(*PAIRS, "--predictions", maps) == [str(maps)]  # its last name is that of a method
    assert rows(*PAIRS, "--predictions", maps, "--model", COMPACT) == [COMPACT, str(maps)]
    assert rows(*PAIRS, "--predictions", maps, "--method", "sgbm") == ["sgbm", str(maps)]


def test_and_where_the_truth_is_a_picture(tmp_path: Path) -> None:
    for part in ("test_c/source", "test_l/source", "test_r/source", "test_c/target"):
        (tmp_path / part).mkdir(parents=True)
        cv2.imwrite(str(tmp_path / part / "1P0A1.png"), np.full((48, 64, 3), 9, np.uint16))
    done = invoke("--data", "dpdd", tmp_path, "--model", COMPACT)
    assert f"model '{COMPACT}' gives no sharp picture" in str(done.exception)


def test_a_model_that_is_called_like_a_method_takes_nobodys_row(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    from dualpix.models.zoo.cards import ZOO

    shutil.copytree(ZOO / COMPACT, tmp_path / "sgbm")
    shutil.copytree(ZOO / COMPACT, tmp_path / "more" / "sgbm")
    expected = ["sgbm", "network sgbm", "more/sgbm"]
    assert rows(*PAIRS, "--model", "sgbm", "--model", "more/sgbm") == expected


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ((*PAIRS, "--method", "sgbm", "--model", "nosuch"), "unknown model 'nosuch'"),
        ((*PAIRS, "--method", "sgbm", "--working-size", "96"), "a working size was given, and no network works at it"),
        ((*STACKS, "--working-size", "96"), "expected --model, or network among the methods"),
        ((*STACKS, "--model", COMPACT), "expected a network for focus stacks"),
        ((*PAIRS, "--frames", "3"), "--frames was given with --data rendered; expected it with rendered:stack-fixed"),
        (("--data", "zedd", "here", "--frames", "5"), "--frames was given with --data zedd"),
        (("--data", "zedd", "--protocol", "--frames", "3"), "--frames was given with --data zedd"),
        (("--data", "zedd", "here", "--count", "2"), "--count was given with 'here'"),
        (("--data", "rendered:stack-fixed", "here", "--size", "64", "96"), "--size was given with 'here'"),
        ((*STACKS, "--frames", "1"), "1 is not in the range 2<=x<=9"),
        ((*STACKS, "--frames", "10"), "10 is not in the range 2<=x<=9"),
    ],
)
def test_what_would_be_left_out_is_refused(
    words: tuple[str, ...],
    message: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "here").mkdir()
    (tmp_path / "here" / "a.txt").touch()
    with pytest.raises(SystemExit) as stop:
        main(["evaluate", *words])
    said = capsys.readouterr().err
    assert stop.value.code == 2 and message in said


# --- any number of frames -----------------------------------------------------------------------------------------


def test_lists_of_other_lengths_by_hand() -> None:
    """Of DfDNet's .14164 .75188 1.1628 1.5873 2 diopters: three are every other one, nine have their middles."""
    assert list_m("stack-fixed") == LISTS_M["stack-fixed"] == (7.06, 1.33, 0.86, 0.63, 0.5)
    assert list_m("stack-fixed", 2) == pytest.approx((7.06, 0.5))
    assert list_m("stack-fixed", 3) == pytest.approx((7.06, 0.86, 0.5))
    assert list_m("stack-fixed", 4) == pytest.approx(
        (7.06, 1 / (0.751880 + 0.410911 / 3), 1 / (1.162791 + 0.424511 * 2 / 3), 0.5)
    )
    nine = list_m("stack-fixed", 9)
    assert nine[::2] == pytest.approx(LISTS_M["stack-fixed"]) and nine[1] == pytest.approx(2 / (1 / 7.06 + 1 / 1.33))
    for frames in range(2, 10):
        assert 1 / np.array(list_m("stack-diopters", frames)) == pytest.approx(np.linspace(0.1, 1 / 0.7, frames))
        assert (np.diff(list_m("stack-fixed", frames)) < 0).all()
    assert on_curve(np.array([0.0, 5.0]), 3).tolist() == [0, 2.5, 5]


@pytest.mark.parametrize("kind", list(LISTS_M))
@pytest.mark.parametrize("frames", [2, 9])
def test_stacks_have_so_many_frames_of_the_same_scene(kind: str, frames: int) -> None:
    (five,), (other,) = (procedural_stacks(kind, 1, (64, 96), n) for n in (5, frames))
    a, b = five.load(), other.load()
    assert a.stack is not None and b.stack is not None and b.stack.focus_distance_m is not None
    assert b.stack.frames.shape == (frames, 64, 96, 3)
    assert tuple(b.stack.focus_distance_m) == list_m(kind, frames) and np.array_equal(a.truth, b.truth)
    # the ends of the list are the same frames
    assert np.allclose(a.stack.frames[[0, -1]], b.stack.frames[[0, -1]], atol=1e-6)


def test_the_protocol_says_which_list() -> None:
    assert "5 frames focused at 0.5 0.63 0.86 1.33 7.06 m" in stack_protocol("stack-fixed").title
    three = stack_protocol("stack-fixed", 3)
    assert "3 frames focused at 0.5 0.86 7.06 m" in three.title
    assert "the list of 3 distances is evenly along that of 5 (0.5 0.63 0.86 1.33 7.06 m), in diopters" in (
        three.assumptions
    )
    said = invoke("--data", "rendered:stack-diopters", "--frames", "2", "--protocol").stdout
    assert "2 frames focused at 0.7 10 m" in said
    assert not any("evenly along" in text for text in stack_protocol("stack-diopters").assumptions)


def test_two_frames_to_nine_are_scored_on_scenes_and_on_folders(tmp_path: Path) -> None:
    yy = np.linspace(600, 2500, 96)[:, None].repeat(128, 1).astype(np.uint16)
    light = np.random.default_rng(1).integers(0, 255, (96, 128, 3), np.uint8)
    assert cv2.imwrite(str(tmp_path / "a.png"), light) and cv2.imwrite(str(tmp_path / "a_depth.png"), yy)
    for where in (SCENE, (str(tmp_path),)):
        errors = {}
        for frames in (2, 3, 5, 9):
            done = invoke(
                *where, "--data", "rendered:stack-diopters", "--frames", frames, "--method", "argmax", "--json"
            )
            record = json.loads(done.stdout)
            assert f"{frames} frames focused at" in record["protocol"]["title"]
            errors[frames] = record["mean"]["argmax"]["mae_diopters"]
        assert len(set(errors.values())) == 4
        if where != SCENE:  # texture everywhere: the sharpest frame is off by half a step at most
            assert errors[9] < errors[5] < errors[3] < errors[2]
