"""`dualpix rig` as a user runs it: the whole way on a small simulated rig, and what can be wrong."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from dualpix.capture.cli import main
from dualpix.capture.optics import disparity_px
from dualpix.capture.rig.calibrate.board import Board
from dualpix.capture.rig.calibrate.calibration import Sighting, calibrate
from dualpix.capture.rig.calibrate.store import rig_of, write_rig
from dualpix.capture.rig.simulate.rig import SimulatedRig, write_shot
from dualpix.capture.types import LensModel
from dualpix.models.data.sources import open_source

SIZE = (240, 320)
SEED = 5
PITCH_UM = 17.6
BOARD = ("--squares", "9", "6", "--square-mm", "25")
LARGE = (480, 640)


def run(capsys: pytest.CaptureFixture[str], *words: object) -> tuple[int, str, str]:
    capsys.readouterr()
    with pytest.raises(SystemExit) as stopped:
        main([str(word) for word in words])
        raise SystemExit(0)
    seen = capsys.readouterr()
    return int(stopped.value.code or 0), seen.out, seen.err


def refused(capsys: pytest.CaptureFixture[str], *words: object) -> str:
    """The one line of an error."""
    code, _, err = run(capsys, *words)
    lines = [line for line in err.splitlines() if line.startswith("dualpix: error: ")]
    assert code == 2 and len(lines) == 1 and "Traceback" not in err, err
    return lines[0]


@pytest.fixture(scope="module")
def shoot(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """``sim`` with two scenes, ``rig.json`` calibrated from corners with noise."""
    folder = tmp_path_factory.mktemp("rig")
    rig = SimulatedRig.from_seed(SEED, SIZE)
    for index in range(2):
        shot = rig.shoot(rig.scene(70 + index), np.random.default_rng(index))
        write_shot(folder / "scenes", f"scene{index}", shot)
    board = Board("charuco", (9, 6), 0.025)
    seen = Sighting(board, tuple(rig.board_corners(board, 40, 1, 0.03)), (SIZE, SIZE), (None, None), "x")
    write_rig(folder / "rig.json", rig_of(seen, calibrate(seen)))
    return folder


@pytest.fixture
def mine(shoot: Path, tmp_path: Path) -> Path:
    shutil.copytree(shoot, tmp_path / "mine")
    return tmp_path / "mine"


def test_boards_become_a_rig(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    size = ("--size", *LARGE)
    code, out, err = run(
        capsys, "rig", "simulate", "-o", tmp_path / "sim", *BOARD, *size, "--boards", 16, "--scenes", 0, "--seed", SEED
    )
    assert code == 0 and "16 pairs of a board" in out, err
    code, out, err = run(
        capsys, "rig", "calibrate", tmp_path / "sim/boards", "-o", tmp_path / "rig.json", *BOARD, "--json"
    )
    assert code == 0, err
    found, truth = json.loads(out), json.loads((tmp_path / "sim/truth.json").read_text())
    assert found["mount_deg"] == 180 and found["dual_pixel_axis"] == "x"
    assert abs(found["axis_angle_deg"]) < 5
    assert found["baseline_mm"] == pytest.approx(truth["baseline_mm"], rel=0.002)
    turns = [cv2.Rodrigues(np.array(one["rotation_vector_rad"]))[0] for one in (found, truth)]
    off, _ = cv2.Rodrigues(turns[0] @ turns[1].T)
    assert np.degrees(np.linalg.norm(off)) < 0.05
    assert (tmp_path / "rig.png").is_file()
    # boards that only one camera saw
    for path in sorted((tmp_path / "sim/boards/b").glob("board0*_left.png"))[:10]:
        for half in ("left", "right"):
            blank = path.with_name(path.name.replace("left", half))
            cv2.imwrite(str(blank), np.full(LARGE, 9000 + 9 * (half == "left"), np.uint16))
    line = refused(capsys, "rig", "calibrate", tmp_path / "sim/boards", "-o", tmp_path / "two.json", *BOARD)
    assert "both cameras see the charuco" in line and "(not b)" in line
    assert not (tmp_path / "two.json").exists()


def test_the_board_that_nobody_chose_is_seen_in_pictures_that_nobody_sized(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """By the defaults of both commands: squares that 640 px cannot show would be a trap."""
    run(capsys, "rig", "simulate", "-o", tmp_path / "sim", "--boards", "8", "--scenes", "0")
    _, _, err = run(capsys, "rig", "calibrate", tmp_path / "sim" / "boards", "-o", tmp_path / "rig.json")
    assert "board007" in err and "both cameras see" not in err, err


def test_labels_are_what_train_reads(shoot: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    scenes, rig = shoot / "scenes", shoot / "rig.json"
    lens = ("--profile", "generic-phone", "--focus", 0.8, "--pixel-pitch-um", PITCH_UM)
    code, out, err = run(capsys, "rig", "label", scenes, "--rig", rig, "-o", tmp_path / "data", *lens, "--json")
    assert code == 0, err
    record = json.loads(out)
    assert [row["name"] for row in record["captures"]] == ["scene0", "scene1"]
    for index in range(2):
        name = f"scene{index}"
        for half in ("left", "right"):  # the pair is never resampled
            file = f"{name}_{half}.png"
            assert (tmp_path / "data" / file).read_bytes() == (scenes / "a" / file).read_bytes()
        depth = np.load(tmp_path / "data" / f"{name}_depth_m.npy")
        truth = np.load(scenes / "truth" / f"{name}_depth_m.npy")
        disparity, sigma = (np.load(tmp_path / "data" / f"{name}_{what}.npy") for what in ("disparity_px", "sigma"))
        known = np.isfinite(depth)
        assert known.mean() > 0.2 and np.array_equal(known, np.isfinite(disparity))
        assert np.mean(np.abs(depth - truth)[known] < 2 * sigma[1][known]) > 0.85
        expected = disparity_px(truth, LensModel(4.4, 1.8, 0.8, PITCH_UM, 0.21))
        assert np.mean(np.abs(disparity - expected)[known] < 2 * sigma[0][known]) > 0.85
    assert (tmp_path / "data/contact-sheet.png").is_file()
    source, _ = open_source(str(tmp_path / "data"), "dual_pixel")
    assert len(source) == 2
    sample = source.form(source.prepare(0))
    assert sample["left"].shape == (1, *SIZE)
    assert np.array_equal(
        sample["known"][0].numpy() > 0, np.isfinite(np.load(tmp_path / "data/scene0_disparity_px.npy"))
    )


def test_a_network_of_ones_own_takes_the_place_of_the_matcher(
    shoot: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A module that compares shifted pictures over windows finds the depth that semi-global matching finds."""
    (tmp_path / "rigstereo.py").write_text(
        "import torch\n"
        "from torch import nn\n"
        "class Volume(nn.Module):\n"
        "    def __init__(self):\n"
        "        super().__init__()\n"
        "        self.window = nn.AvgPool2d(9, 1, 4, count_include_pad=False)\n"
        "    def forward(self, left, right):\n"
        "        assert not self.training and left.shape[1] == 3 and left.shape[2] % 32 == 0\n"
        "        assert 0 <= left.min() <= left.max() <= 1\n"
        "        pad, width = nn.functional.pad, left.shape[3]\n"
        "        shifted = [pad(right, (d, 0, 0, 0), mode='replicate')[..., :width] for d in range(40)]\n"
        "        cost = torch.cat([self.window((left - s).abs().mean(1, keepdim=True)) for s in shifted], 1)\n"
        "        return [cost.argmin(1, keepdim=True).float()]\n"
        "def wrong():\n"
        "    return lambda left, right: left[:, :, ::2]\n"
    )
    monkeypatch.chdir(tmp_path)
    label = ("rig", "label", shoot / "scenes", "--rig", shoot / "rig.json", "-o")
    code, _, said = run(capsys, *label, "own", "--model", "rigstereo:Volume")
    assert code == 0, said
    assert run(capsys, *label, "sgm")[0] == 0
    own, sgm = (np.load(tmp_path / folder / "scene0_depth_m.npy") for folder in ("own", "sgm"))
    both = np.isfinite(own) & np.isfinite(sgm)
    assert both.sum() > 0.6 * np.isfinite(sgm).sum() and np.median(np.abs(own / sgm - 1)[both]) < 0.01
    assert json.loads((tmp_path / "own/labels.json").read_text())["matcher"] == "rigstereo:Volume"
    assert "'rigstereo:wrong' gives (1, 3," in refused(capsys, *label, "bad", "--model", "rigstereo:wrong")
    assert not (tmp_path / "bad").exists()
    assert "has no function 'missing'" in refused(capsys, *label, "bad", "--model", "rigstereo:missing")


def test_rectified_rows_meet_and_the_map_leads_back(
    shoot: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    code, out, err = run(
        capsys, "rig", "rectify", shoot / "scenes", "--rig", shoot / "rig.json", "-o", tmp_path / "r", "--json"
    )
    assert code == 0, err
    record = json.loads(out)
    assert max(row["rows_px"] for row in record["pairs"]) < 0.2 and record["mount_deg"] == 180
    back = np.load(tmp_path / "r/map_a.npy")
    assert back.shape == (*SIZE, 2)
    # a rectified picture, brought back by the map, is a's own again
    rectified = cv2.imread(str(tmp_path / "r/scene0_a.png"), cv2.IMREAD_UNCHANGED).astype(np.float32)
    again = cv2.remap(rectified, back[..., 0], back[..., 1], cv2.INTER_CUBIC)
    from dualpix.capture.rig.pairs.session import read_view

    own = read_view(shoot / "scenes/a/scene0_left.png").gray.astype(np.float32)
    assert np.abs(again - own)[8:-8, 8:-8].mean() < 3


def _label(folder: Path) -> tuple[Any, ...]:
    return "rig", "label", folder / "scenes", "--rig", folder / "rig.json", "-o", folder / "out"


def test_exchanged_cameras(mine: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (mine / "scenes/a").rename(mine / "scenes/c")
    (mine / "scenes/b").rename(mine / "scenes/a")
    (mine / "scenes/c").rename(mine / "scenes/b")
    line = refused(capsys, *_label(mine))
    assert "with its cameras exchanged" in line and "exchange the folders a and b" in line
    assert not (mine / "out").exists()


def test_a_rig_that_was_knocked_since(mine: Path, capsys: pytest.CaptureFixture[str]) -> None:
    rig = SimulatedRig.from_seed(SEED, SIZE).moved(1.0)
    write_shot(mine / "scenes", "scene1", rig.shoot(rig.scene(71), np.random.default_rng(1)))
    line = refused(capsys, *_label(mine))
    assert "pair 'scene1' does not fit the calibration" in line and "calibrate again" in line


@pytest.mark.parametrize(
    ("sides", "what"),
    [("ab", "the pictures of both cameras"), ("a", "camera a's picture"), ("b", "camera b's picture")],
)
def test_pictures_that_were_turned_since(mine: Path, capsys: pytest.CaptureFixture[str], sides: str, what: str) -> None:
    """By a phone that turns its pixels by how it is held, and says so nowhere."""
    for side in sides:
        for path in (mine / "scenes" / side).glob("*.png"):
            cv2.imwrite(str(path), cv2.imread(str(path), cv2.IMREAD_UNCHANGED)[::-1, ::-1])
    line = refused(capsys, *_label(mine))
    assert f"with {what} turned by 180 degrees" in line and "as the sensors lie" in line
    assert not (mine / "out").exists()


def test_portrait_after_landscape(mine: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for path in (mine / "scenes").glob("[ab]/*.png"):
        cv2.imwrite(str(path), np.rot90(cv2.imread(str(path), cv2.IMREAD_UNCHANGED)))
    assert "is 240x320 px; expected 320x240" in refused(capsys, *_label(mine))


def test_an_orientation_that_a_file_states_changes_nothing(mine: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The same pixels with another EXIF orientation: the phone was held otherwise, its sensor saw the same."""
    from PIL import Image

    from dualpix.capture.rig.pairs.session import read_view

    path = mine / "scenes/b/scene0_left.png"
    gray = read_view(path).gray
    seen = []
    for orientation in (1, 3, 6):
        exif = Image.Exif()
        exif[274] = orientation
        Image.fromarray(gray).save(mine / "turned.jpg", exif=exif, quality=98)
        seen.append(read_view(mine / "turned.jpg").gray)
    assert seen[0].shape == SIZE and np.array_equal(seen[0], seen[1]) and np.array_equal(seen[0], seen[2])


@pytest.mark.parametrize("kept", ["left", "right"])
def test_a_half_without_the_other(mine: Path, capsys: pytest.CaptureFixture[str], kept: str) -> None:
    lost = {"left": "right", "right": "left"}[kept]
    (mine / f"scenes/a/scene1_{lost}.png").unlink()
    line = refused(capsys, *_label(mine))
    assert f"has 'scene1_{kept}.png' and not its other half; expected 'scene1_{lost}.png' beside it" in line


@pytest.mark.parametrize(("suffix", "kind"), [(".png", "PNG"), (".jpg", "JPEG")])
def test_a_picture_that_breaks_off(mine: Path, capsys: pytest.CaptureFixture[str], suffix: str, kind: str) -> None:
    b = mine / "scenes/b"
    if suffix == ".jpg":
        from dualpix.capture.rig.pairs.session import read_view

        cv2.imwrite(str(b / "scene1.jpg"), read_view(b / "scene1_left.png").gray)
        for half in ("left", "right"):
            (b / f"scene1_{half}.png").unlink()
    broken = b / ("scene1.jpg" if suffix == ".jpg" else "scene1_right.png")
    broken.write_bytes(broken.read_bytes()[: broken.stat().st_size // 2])
    assert f"'{broken.name}' is a cut {kind}" in refused(capsys, *_label(mine))
    assert not (mine / "out").exists()


def test_pairs_that_do_not_fit_are_left_out_where_asked(mine: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for half in ("left", "right"):
        shutil.copy(mine / f"scenes/b/scene0_{half}.png", mine / f"scenes/b/scene1_{half}.png")
    refused(capsys, *_label(mine))
    code, out, err = run(capsys, *_label(mine), "--leave-out")
    assert code == 0 and "1 captures, 1 left out" in out and "left out: pair 'scene1'" in err, err
    record = json.loads((mine / "out/labels.json").read_text())
    assert [row["name"] for row in record["captures"]] == ["scene0"] and list(record["left_out"]) == ["scene1"]
    assert not list((mine / "out").glob("scene1*"))


def test_other_resolutions(mine: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for half in ("left", "right"):
        path = mine / "scenes/b" / f"scene0_{half}.png"
        cv2.imwrite(str(path), cv2.resize(cv2.imread(str(path), cv2.IMREAD_UNCHANGED), (160, 120)))
    line = refused(capsys, *_label(mine))
    assert "is 160x120 px; expected 320x240, as camera b was calibrated with" in line


def test_a_skew_that_is_known(mine: Path, capsys: pytest.CaptureFixture[str]) -> None:
    session = {
        "format": 1,
        "a": {},
        "b": {},
        "pairs": [{"name": "scene1", "skew_s": 0.09, "skew_uncertainty_s": 0.004}],
    }
    (mine / "scenes/session.json").write_text(json.dumps(session))
    line = refused(capsys, *_label(mine))
    assert "pair 'scene1' was taken 90 ms apart (+-4 ms); expected at most 20 ms" in line
    assert run(capsys, *_label(mine), "--max-skew-ms", 100)[0] == 0


def test_pictures_without_partner_or_without_anything(mine: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (mine / "scenes/b/scene1_left.png").unlink()
    (mine / "scenes/b/scene1_right.png").unlink()
    assert "'scene1' is in" in refused(capsys, *_label(mine))
    rng = np.random.default_rng(0)
    for side in "ab":
        for half in ("left", "right"):
            plain = rng.integers(20_000, 20_050, SIZE).astype(np.uint16)
            cv2.imwrite(str(mine / f"scenes/{side}/scene1_{half}.png"), plain)
    assert "shows too little that both cameras see to tell whether its rows meet" in refused(capsys, *_label(mine))
    shutil.rmtree(mine / "scenes/b")
    assert "has no folder 'b'" in refused(capsys, *_label(mine))


def test_a_picture_without_halves_is_no_capture_of_a(mine: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for half in ("left", "right"):
        (mine / f"scenes/a/scene0_{half}.png").unlink()
    cv2.imwrite(str(mine / "scenes/a/scene0.png"), np.full(SIZE, 20_000, np.uint16))
    assert "has no second half" in refused(capsys, *_label(mine))


def test_import_by_order_and_by_name(mine: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    a, b = mine / "scenes/a", mine / "scenes/b"
    for path in sorted(b.iterdir()):
        path.rename(path.with_name("IMG_9" + path.name))
    line = refused(capsys, "rig", "import", a, b, "-o", tmp_path / "s")
    assert "alone" in line and "--by order" in line
    code, out, err = run(capsys, "rig", "import", a, b, "-o", tmp_path / "s", "--by", "order", "--skew-ms", 3)
    assert code == 0 and "2 pairs" in out, err
    assert (tmp_path / "s/b/pair0001_right.png").read_bytes() == (b / "IMG_9scene1_right.png").read_bytes()
    label = ("rig", "label", tmp_path / "s", "--rig", mine / "rig.json", "-o", tmp_path / "d", "--json")
    code, out, err = run(capsys, *label)
    assert code == 0, err
    assert json.loads(out)["captures"][0]["skew_s"] == pytest.approx(0.003)


def test_plan_and_board(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    optics = ("--focal-length-mm", 4.4, "--pixel-pitch-um", 8.8, "--width", 640)
    code, out, _ = run(capsys, "rig", "plan", *optics, "--near", 0.5, "-o", tmp_path / "plan.png", "--json")
    first = json.loads(out)["distances"][0]
    assert code == 0 and first["disparity_px"] == 25 and first["depth_sigma_m"] == pytest.approx(0.003)
    assert (tmp_path / "plan.png").is_file()
    assert "px apart" in refused(capsys, "rig", "plan", *optics, "--baseline-mm", 900)
    code, out, _ = run(capsys, "rig", "board", "-o", tmp_path / "board.png", "--squares", 7, 5)
    assert code == 0 and "175.0 x 125.0 mm" in out
    seen = Board("charuco", (7, 5), 0.015).find(cv2.imread(str(tmp_path / "board.png"), cv2.IMREAD_GRAYSCALE))
    assert seen is not None and len(seen.ids) == 24
    assert "looks the same upside down" in refused(
        capsys, "rig", "board", "-o", tmp_path / "c.png", "--board", "chessboard", "--squares", 8, 6
    )
