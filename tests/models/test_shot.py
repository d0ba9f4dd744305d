"""``dualpix.load``: captures, stacks and results in Python, and what notebooks show of them."""

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
from tests.support.chromium import Browser, find_chromium
from tests.support.viewed import shown_scene

import dualpix
from dualpix.capture.cli import main
from dualpix.models.zoo import DEFAULT_MODEL

LENS = {
    "focal_length_mm": 50, "f_number": 2.8, "focus_distance_m": 1.5, "pixel_pitch_um": 46.8, "disparity_gain": 0.21,
}  # fmt: skip
HURT = "<img src=x onerror='hurt=1'>"


def command(*words: str | Path) -> None:
    with pytest.raises(SystemExit) as stopped:
        main([str(word) for word in words])
    assert not stopped.value.code, words


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A pair, its depth by the command, the pair as ``dualpix decode`` writes it, and a stack."""
    folder = tmp_path_factory.mktemp("made")
    picture = shown_scene((96, 128)).picture
    assert picture is not None
    for name, shift in (("left", -1), ("right", 1)):
        cv2.imwrite(str(folder / f"shot_{name}.png"), np.roll(picture.rgb, shift, 1)[..., ::-1])
    shot = folder / "shot_left.png"
    options = [f"--{name.replace('_', '-')}={value}" for name, value in LENS.items()]
    command("depth", shot, "-o", folder / "depth", "--method=sgbm", *options)
    command("decode", shot, "-o", folder / "decoded")
    command(
        "capture", "--camera=sim", "--near=0.5", "--far=3", "--count=4", "--apertures=2.8", "-o", folder / "desk"
    )  # fmt: skip
    return folder


def test_depth_in_python_is_that_of_the_command(made: Path) -> None:
    shot = dualpix.load(made / "shot_left.png")
    assert (shot.kind, shot.image.size_hw, shot.image.left.dtype) == ("dual-pixel", (96, 128), np.float32)
    depth = shot.depth(method="sgbm", **LENS)
    folder = made / "depth" / "shot"
    assert depth.disparity_px is not None and depth.depth_m is not None and depth.depth_uncertainty_d is not None
    np.testing.assert_array_equal(depth.disparity_px, tifffile.imread(folder / "disparity_px.tiff"))
    np.testing.assert_array_equal(depth.depth_m, tifffile.imread(folder / "depth_m.tiff"))
    np.testing.assert_array_equal(depth.confidence, tifffile.imread(folder / "confidence.tiff"))
    told, stated = dict(depth.record), json.loads((folder / "depth.json").read_text())
    assert {k: v for k, v in told.items() if k != "seconds"} == {k: v for k, v in stated.items() if k != "seconds"}
    assert depth.missing == () and depth.measured.mean() == pytest.approx(depth.record["measured_fraction"], abs=1e-6)
    # what was found is not found again, and the latest one counts
    assert shot.depth().folder == depth.folder
    plain = shot.depth(method="sgbm")
    assert shot.depth().folder == plain.folder != depth.folder
    assert plain.depth_m is None and set(plain.missing) == set(LENS)
    np.testing.assert_array_equal(plain.disparity_px, depth.disparity_px)


def test_the_network_is_the_default_and_the_folder_goes_with_its_readers(made: Path) -> None:
    shot = dualpix.load(made / "shot_left.png")
    depth = shot.depth(working_size_px=64)
    assert depth.method == DEFAULT_MODEL and depth.record["working_sizes_hw"] == [[48, 64]]
    folder = depth.folder
    del shot
    assert folder.is_dir() and np.isfinite(depth.confidence).all()
    del depth
    assert not folder.exists()


def test_a_result_a_decoded_folder_and_a_stack_load_alike(made: Path, tmp_path: Path) -> None:
    result = dualpix.load(made / "depth" / "shot")
    assert result.depth().folder == made / "depth" / "shot"
    assert result.image.size_hw == (96, 128)  # its capture lies near
    decoded = dualpix.load(made / "decoded" / "shot")
    original = dualpix.load(made / "shot_left.png")
    np.testing.assert_allclose(decoded.image.left, original.image.left, atol=2 / 65535)
    kept = decoded.depth(method="sgbm", output=tmp_path / "kept")
    assert (tmp_path / "kept" / "shot" / "depth.json").is_file() and kept.folder == tmp_path / "kept" / "shot"
    stack = dualpix.load(made / "desk")
    depth = stack.depth(method="sharpness")
    assert (stack.kind, len(stack.stack.frames)) == ("stack", 4)
    assert depth.depth_m is not None and depth.depth_m.shape == depth.confidence.shape == stack.stack.frames.shape[1:3]
    assert depth.disparity_px is None and depth.record["error"]["method"]["mae_d"] < 0.2
    assert 'src="data:image/png;base64' in depth._repr_html_()


def test_refocusing_is_that_of_the_command(made: Path, tmp_path: Path) -> None:
    command("refocus", made / "depth" / "shot", "-o", tmp_path / "r.png", "--at", "40", "30", "--f-number", "0.7")
    shot = dualpix.load(made / "depth" / "shot")
    picture = shot.refocus(at=(40, 30), f_number=0.7)
    np.testing.assert_array_equal(np.asarray(picture), cv2.imread(str(tmp_path / "r.png"))[..., ::-1])
    assert np.asarray(shot.refocus(focus_distance_m=1.5, blur=1.0, size_px=64)).shape == (48, 64, 3)


@pytest.mark.parametrize(
    ("ask", "words"),
    [
        (lambda shot: shot.depth(method="blur"), "unknown method of dual-pixel captures 'blur'"),
        (lambda shot: shot.depth(method="sgbm", model="fmdp-compact"), "each is a method"),
        (lambda shot: shot.depth(f_number=0), "f_number is 0"),
        (lambda shot: shot.depth(aperture=2), "unknown lens value 'aperture'"),
        (lambda shot: shot.depth(model="nothing"), "unknown model 'nothing'"),
        (lambda shot: shot.refocus(), "neither at nor focus_distance_m"),
        (lambda shot: shot.refocus(at=(1, 1), blur=2, f_number=2), "both f_number and blur"),
        (lambda shot: shot.stack, "is a dual-pixel capture"),
        (lambda shot: shot.page().save("page.pdf"), "a name ending in .html"),
    ],
)
def test_what_does_not_fit_is_said_in_a_line(made: Path, ask: object, words: str) -> None:
    shot = dualpix.load(made / "shot_left.png")
    with pytest.raises(dualpix.DualpixError, match=words) as found:
        ask(shot)  # type: ignore[operator]
    assert "\n" not in str(found.value)


def test_what_holds_no_one_capture_is_refused(made: Path, tmp_path: Path) -> None:
    with pytest.raises(dualpix.DualpixError, match=r"no file 'nothing\.dng'"):
        dualpix.load("nothing.dng").depth()
    with pytest.raises(dualpix.DualpixError, match="holds 2 captures"):
        dualpix.load(made)
    with pytest.raises(dualpix.DualpixError, match="a focus stack"):
        _ = dualpix.load(made / "desk").image


@pytest.mark.skipif(find_chromium() is None, reason="no chromium or google-chrome on this machine")
def test_a_cell_shows_the_page_in_a_frame_of_its_own(made: Path, tmp_path: Path) -> None:
    for name in ("left", "right"):
        shutil.copy(made / f"shot_{name}.png", tmp_path / f"{HURT}&amp;_{name}.png")
    shot = dualpix.load(next(tmp_path.glob("*_left.png")))
    cells = [shot._repr_html_(), shot.depth(method="sgbm", **LENS)._repr_html_(), shot.page()._repr_html_()]
    notebook = tmp_path / "notebook.html"
    # a sandboxed frame cannot be looked into: first with the notebook's own origin
    opened = [cell.replace('sandbox="allow-scripts allow-downloads"', 'sandbox="allow-scripts allow-same-origin"')
              for cell in cells]  # fmt: skip
    notebook.write_text(f"<!doctype html><meta charset=utf-8><body>{''.join(opened)}")
    with Browser(tmp_path / "profile", (1000, 1200)) as browser:
        browser.open(notebook, "document.readyState === 'complete'")
        browser.wait("document.querySelector('iframe').contentDocument?.body?.dataset.ready === 'yes'")
        title = browser.run("document.querySelector('iframe').contentDocument.querySelector('h1').textContent")
        assert title == next(tmp_path.glob("*_left.png")).name
        assert browser.run("[...document.images].every((i) => i.naturalWidth > 0)")
        assert browser.run("document.images.length") == 2
        assert all("escape its sandboxing" in error for error in browser.errors), browser.errors  # of this test alone
        browser.errors.clear()
        notebook.write_text(f"<!doctype html><meta charset=utf-8><body>{''.join(cells)}")
        browser.open(notebook, "document.readyState === 'complete'")
        assert browser.run("document.querySelector('iframe').contentDocument") is None  # of another origin
        assert not browser.errors


def test_import_is_light_and_knows_its_names() -> None:
    script = (
        "import sys, dualpix; names = dir(dualpix); assert {'load', 'Shot', 'Depth', 'DualpixError'} <= set(names)\n"
        "assert not {'torch', 'numpy', 'click', 'cv2', 'matplotlib'} & set(sys.modules), sorted(sys.modules)\n"
        "assert dualpix.DualpixError.__name__ == 'DualpixError'\n"
        "try: dualpix.lode\n"
        "except AttributeError as error: assert 'lode' in str(error)\n"
        "else: raise SystemExit(1)"
    )
    subprocess.run([sys.executable, "-c", script], check=True)
