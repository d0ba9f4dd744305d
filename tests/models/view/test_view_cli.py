"""``dualpix view`` and ``dualpix refocus`` on what ``dualpix depth`` wrote, and on what is none of that."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest
import tifffile
from PIL import Image
from tests.models.view.test_view_page import map_of
from tests.support.viewed import data_of, shown_scene

from dualpix.capture.cli import main
from dualpix.models.stacks import notes as stack_notes
from dualpix.models.zoo.cards import DEFAULT_STACK_MODEL

LENS = (
    "--focal-length-mm=50",
    "--f-number=2.8",
    "--focus-distance-m=1.5",
    "--pixel-pitch-um=46.8",
    "--disparity-gain=0.21",
)


def run(capsys: pytest.CaptureFixture[str], *words: str | Path) -> tuple[int, str, str]:
    capsys.readouterr()
    with pytest.raises(SystemExit) as stopped:
        main([str(word) for word in words])
    seen = capsys.readouterr()
    return int(stopped.value.code or 0), seen.out, seen.err


def refused(capsys: pytest.CaptureFixture[str], *words: str | Path) -> str:
    code, _, err = run(capsys, *words)
    assert code == 2, err
    lines = [line for line in err.splitlines() if line.startswith("dualpix: error: ")]
    assert len(lines) == 1 and "Traceback" not in err, err
    return lines[0]


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A pair with its depth by semi-global matching, with and without a lens; a stack with its depth."""
    folder = tmp_path_factory.mktemp("made")
    rgb = shown_scene((96, 128)).picture.rgb
    for name, shift in (("left", -1), ("right", 1)):
        cv2.imwrite(str(folder / f"shot_{name}.png"), np.roll(rgb, shift, 1)[..., ::-1])
    shot = str(folder / "shot_left.png")
    stack = ["--camera=sim", "--near=0.5", "--far=3", "--count=5", "--apertures=2.8", f"-o{folder}/desk"]
    for words in (
        ["depth", shot, f"-o{folder}/metres", "--method=sgbm", *LENS],
        ["depth", shot, f"-o{folder}/plain", "--method=sgbm"],
        ["capture", *stack],
        ["depth", f"{folder}/desk", f"-o{folder}/stacks", "--stack-method=blur"],
    ):
        with pytest.raises(SystemExit) as stopped:
            main(words)
        assert not stopped.value.code, words
    return folder


def test_the_page_of_a_result_has_the_values_of_its_files(
    made: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    result, page = made / "metres" / "shot", tmp_path / "page.html"
    code, out, _ = run(capsys, "view", result, "-o", page)  # finds the capture two folders above
    assert code == 0 and "1 capture" in out
    told = data_of(page.read_bytes())["scenes"][0]
    for name, file, decimals in (("disparity", "disparity_px", 3), ("confidence", "confidence", 3)):
        values = tifffile.imread(result / f"{file}.tiff")
        assert [f"{v:.{decimals}f}" for v in map_of(told, name).ravel() + 0.0] == [
            f"{v + 0.0:.{decimals}f}".replace("-0.000", "0.000") for v in values.ravel()
        ]
    depth = tifffile.imread(result / "depth_m.tiff")
    seen = map_of(told, "depth")
    assert (np.isnan(seen) == np.isnan(depth)).all()
    known = np.isfinite(depth)
    np.testing.assert_allclose(seen[known], depth[known], rtol=5.1e-4)
    assert told["views"] == ["left", "right"] and told["pinhole"]["fx_px"] > 0
    assert told["estimates"][0]["defocus"]["f_number"] == 2.8


def test_results_of_one_capture_are_one_scene(made: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run(capsys, "view", made / "metres", made / "plain", "-o", tmp_path / "page.html")
    scenes = data_of((tmp_path / "page.html").read_bytes())["scenes"]
    assert len(scenes) == 1 and len(scenes[0]["estimates"]) == 2


def test_a_folder_of_everything_is_a_page_of_everything(
    made: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    code, out, err = run(capsys, "view", made, "-o", tmp_path / "page.html")
    assert code == 0, err
    assert "2 captures" in out
    scenes = {told["name"]: told for told in data_of((tmp_path / "page.html").read_bytes())["scenes"]}
    assert set(scenes) == {"shot_left.png", "desk"}
    assert scenes["desk"]["kind"] == "stack" and len(scenes["desk"]["views"]) == 5


def test_a_stack_of_a_simulated_camera_has_its_truth(
    made: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run(capsys, "view", made / "stacks" / "desk", made / "desk", "-o", tmp_path / "page.html")
    told = data_of((tmp_path / "page.html").read_bytes())["scenes"][0]
    depth, true, error = (map_of(told, name).astype(np.float64) for name in ("depth", "truth", "error"))
    known = np.isfinite(depth) & np.isfinite(true)
    np.testing.assert_allclose(error[known], (1 / depth - 1 / true)[known], atol=3e-3)
    stated = json.loads((made / "stacks" / "desk" / "depth.json").read_text())["error"]["method"]["mae_d"]
    assert np.nanmean(np.abs(error)) == pytest.approx(stated, rel=0.01)


@pytest.mark.parametrize("contradicted", [False, True])
def test_a_network_and_the_method_of_a_stack_are_two_of_one_scene(
    made: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, contradicted: bool
) -> None:
    """Whichever of both the result is, the other lies beside; facts are told once."""
    if contradicted:
        monkeypatch.setattr(stack_notes, "differs", lambda *_: (0.7, ["they differ"]))
    run(capsys, "depth", made / "desk", "-o", tmp_path / "out")
    code, _, err = run(capsys, "view", tmp_path / "out" / "desk", made / "desk", "-o", tmp_path / "page.html")
    assert code == 0, err
    told = data_of((tmp_path / "page.html").read_bytes())["scenes"][0]
    names = [DEFAULT_STACK_MODEL, "by blur"]
    found = [estimate["method"] for estimate in told["estimates"]]
    assert found == (["focus stack, blur", DEFAULT_STACK_MODEL] if contradicted else names)
    facts = [name for estimate in told["estimates"] for name, _ in estimate["facts"]]
    assert len(facts) == len(set(facts)) and "method" in facts


def test_the_truth_of_a_file_gives_an_error_map(made: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    result = made / "metres" / "shot"
    true = np.full((96, 128), 1500, np.uint16)
    true[:10] = 0
    cv2.imwrite(str(tmp_path / "true.png"), true)
    code, _, err = run(capsys, "view", result, "--truth", tmp_path / "true.png", "-o", tmp_path / "page.html")
    assert code == 0, err
    told = data_of((tmp_path / "page.html").read_bytes())["scenes"][0]
    assert np.isnan(map_of(told, "truth")[:10]).all() and np.allclose(map_of(told, "truth")[10:], 1.5)
    disparity = tifffile.imread(made / "plain" / "shot" / "disparity_px.tiff")
    tifffile.imwrite(tmp_path / "true.tiff", disparity - np.float32(0.5))
    run(capsys, "view", made / "plain" / "shot", "--truth", tmp_path / "true.tiff", "-o", tmp_path / "page.html")
    told = data_of((tmp_path / "page.html").read_bytes())["scenes"][0]
    np.testing.assert_allclose(map_of(told, "error"), 0.5, atol=1e-3)


def test_a_result_without_its_capture_says_so(made: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    shutil.copytree(made / "plain" / "shot", tmp_path / "alone" / "shot")
    (tmp_path / "shot_left.png").write_bytes(b"another file of that name")
    code, _, err = run(capsys, "view", tmp_path / "alone" / "shot", "-o", tmp_path / "page.html")
    assert code == 0, err
    told = data_of((tmp_path / "page.html").read_bytes())["scenes"][0]
    assert told["pictures"] == [] and "shot_left.png" in told["notes"][0]
    message = refused(capsys, "refocus", tmp_path / "alone" / "shot", "-o", tmp_path / "a.png", "--at", "3", "4")
    assert "no picture at hand; name the capture beside its result" in message


def test_a_decoded_capture_is_one(made: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run(capsys, "decode", made / "shot_left.png", "-o", tmp_path / "decoded")
    code, _, err = run(capsys, "view", tmp_path / "decoded" / "shot", "-o", tmp_path / "page.html")
    assert code == 0, err
    assert data_of((tmp_path / "page.html").read_bytes())["scenes"][0]["views"] == ["left", "right"]


def test_what_cannot_be_viewed_is_told_in_a_line(
    made: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    page, result = tmp_path / "page.html", made / "metres" / "shot"
    assert "missing.DNG" in refused(capsys, "view", tmp_path / "missing.DNG", "-o", page)
    (tmp_path / "empty").mkdir()
    assert "without dual-pixel captures" in refused(capsys, "view", tmp_path / "empty", "-o", page)
    assert "a name ending in .html" in refused(capsys, "view", result, "-o", tmp_path / "page.pdf")
    (tmp_path / "mine.html").write_text("<p>my own page")
    assert "is no page of dualpix" in refused(capsys, "view", result, "-o", tmp_path / "mine.html")
    assert (tmp_path / "mine.html").read_text() == "<p>my own page"
    assert "expected results of one capture" in refused(
        capsys, "view", made / "shot_left.png", "--truth", result / "depth_m.tiff", "-o", page
    )
    assert not page.exists()


@pytest.mark.parametrize(
    "harm",
    [
        lambda f: (f / "depth.json").write_text("{"),
        lambda f: (f / "depth.json").write_text("[]"),
        lambda f: (f / "depth.json").write_text('{"kind": "disparity_px", "size": {"width": 1e9, "height": 3}}'),
        lambda f: (f / "disparity_px.tiff").write_bytes(b"II*\0 no more"),
        lambda f: (f / "disparity_px.tiff").unlink(),
        lambda f: tifffile.imwrite(f / "confidence.tiff", np.zeros((4, 5), np.float32)),
        lambda f: tifffile.imwrite(f / "disparity_px.tiff", np.full((96, 128), 1e30, np.float32)),
        lambda f: _changed(f, meta=None),
        lambda f: _changed(f, depth={"metric": True, "lens": {"focal_length_mm": "?"}}),
        lambda f: _changed(
            f, depth={"metric": True, "lens": {name[2:].split("=")[0].replace("-", "_"): -1 for name in LENS}}
        ),
        lambda f: _changed(f, inputs=["../../../etc/passwd"], findings=3),
    ],
)
def test_damaged_results_are_told_in_a_line(
    harm, made: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "shot"
    shutil.copytree(made / "metres" / "shot", folder)
    harm(folder)
    refused(capsys, "view", folder, "-o", tmp_path / "page.html")
    assert not (tmp_path / "page.html").exists()


def _changed(folder: Path, **changes: object) -> None:
    record = json.loads((folder / "depth.json").read_text())
    (folder / "depth.json").write_text(json.dumps({**record, **changes}))


def test_looking_imports_no_torch(made: Path, tmp_path: Path) -> None:
    script = (
        "import sys\nfrom dualpix.capture.cli import root\n"
        f"try: root.main(args=['view', {str(made / 'metres' / 'shot')!r}, '-o', 'page.html'])\n"
        "except SystemExit as stopped: assert not stopped.code\n"
        "assert 'torch' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", script], check=True, cwd=tmp_path, capture_output=True)


def test_a_picture_is_focused_where_it_is_asked(made: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    result = made / "stacks" / "desk"
    depth = tifffile.imread(result / "depth_m.tiff")
    places = {}
    for name, metres in (("near", 0.5), ("far", 3.0)):
        words = ("-o", tmp_path / f"{name}.png", "--focus-distance-m", metres, "--f-number", 0.7)
        code, out, err = run(capsys, "refocus", result, *words)
        assert code == 0, err
        assert "f/0.7" in out
        places[name] = cv2.imread(str(tmp_path / f"{name}.png")).astype(np.float64)
    sharp = cv2.imread(str(result / "all_in_focus.png")).astype(np.float64)
    for name, there in (("near", depth < 0.55), ("far", depth > 2.0)):
        inner = cv2.erode(there.astype(np.uint8), np.ones((9, 9), np.uint8)).astype(bool)
        other = {"near": "far", "far": "near"}[name]
        assert np.abs(places[name] - sharp)[inner].mean() < 0.5 * np.abs(places[other] - sharp)[inner].mean()


def test_a_picture_is_focused_at_a_place(made: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    result = made / "stacks" / "desk"
    depth = tifffile.imread(result / "depth_m.tiff")
    _, out, _ = run(capsys, "refocus", result, "-o", tmp_path / "a.jpg", "--at", "100", "50", "--blur", "3")
    assert f"focused at {np.median(depth[48:53, 98:103]):.3g} m" in out
    _, out, _ = run(
        capsys, "refocus", made / "plain" / "shot", "-o", tmp_path / "b.png", "--at", "9", "9", "--size", "64"
    )
    assert "64x48 px" in out and "px of disparity" in out and "2 x the captured aperture" in out
    assert Image.open(tmp_path / "b.png").size == (64, 48)


@pytest.mark.parametrize("suffix", ["gif", "webp", "mp4"])
def test_animations_hold_every_picture(
    suffix: str, made: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / f"pull.{suffix}"
    code, out, err = run(
        capsys, "refocus", made / "stacks" / "desk", "-o", path, "--frames", "3", "--size", "63", "--blur", "4"
    )
    assert code == 0, err
    width = 62 if suffix == "mp4" else 63
    assert f"4 pictures, {width}x42 px" in out
    if suffix == "mp4":
        video = cv2.VideoCapture(str(path))
        read = [video.read()[1] for _ in range(4)]
        assert not video.read()[0]
        assert all(frame.shape == (42, 62, 3) for frame in read)
    else:
        picture = Image.open(path)
        assert picture.n_frames == 4 and picture.info.get("loop") == 0
        read = []
        for number in range(4):
            picture.seek(number)
            read.append(np.asarray(picture.convert("RGB")))
    ends, middle = (np.abs(read[k].astype(int) - read[k + 2]).mean() for k in (0, 1))
    assert ends > 2 and middle < 0.4 * ends  # nearest and farthest; there and back


def test_what_cannot_be_focused_is_told_in_a_line(
    made: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    result, plain, out = made / "metres" / "shot", made / "plain" / "shot", tmp_path / "a.png"
    for words, said in (
        ((result, "-o", tmp_path / "a.bmp", "--at", "1", "1"), "a name ending in .png"),
        ((result, "-o", out), "neither --at nor --focus-distance-m"),
        ((result, "-o", out, "--at", "1", "1", "--focus-distance-m", "1"), "both --at and"),
        ((result, "-o", out, "--at", "128", "1"), "is outside the view; expected within 128x96 px"),
        ((result, "-o", out, "--at", "1", "1", "--f-number", "2", "--blur", "2"), "both --f-number and --blur"),
        ((result, "-o", out, "--at", "1", "1", "--from-m", "1"), "--from-m was given with one picture"),
        ((result, "-o", tmp_path / "a.gif", "--at", "1", "1"), "--at was given with an animation"),
        ((result, "-o", out, "--at", "1", "1", "--method", "none"), "no result by 'none'; expected one of: sgbm"),
        ((result, "-o", out, "--focus-distance-m", "0.6", "--blur", "64"), "expected at most 64 px"),
        ((plain, "-o", out, "--focus-distance-m", "1"), "has no metres"),
        ((plain, "-o", out, "--at", "1", "1", "--f-number", "2"), "that of the capture is not known"),
        ((made / "shot_left.png", "-o", out, "--at", "1", "1"), "no result of `dualpix depth`"),
        ((made, "-o", out, "--at", "1", "1"), "results of 2 captures"),
    ):
        assert said in refused(capsys, "refocus", *words)
    assert list(tmp_path.iterdir()) == []
