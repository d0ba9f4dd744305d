"""``dualpix decode``: what it writes, what it says, and that it leaves nothing half-done."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest
import tifffile
from tests.support.cr2 import write_cr2
from tests.support.halves import CROP, sensor_frames
from tests.support.pgm import write_pdcapture

from dualpix.capture.cli import main
from dualpix.capture.raw import decode
from dualpix.capture.raw.batch import outputs as outputs_module
from dualpix.capture.raw.write.dng import write_dual_pixel_dng
from dualpix.capture.types import CaptureMeta

RESULT = {"left.tiff", "right.tiff", "combined.tiff", "saturated.png", "preview.png", "decode.json"}


def run(*arguments: str | Path) -> int:
    with pytest.raises(SystemExit) as stopped:
        main(["decode", *map(str, arguments)])
    return int(stopped.value.code or 0)


@pytest.fixture
def shot(tmp_path: Path) -> Path:
    truth = sensor_frames(highlight=1.6)
    path = tmp_path / "shot.dng"
    meta = CaptureMeta(iso=100, pixel_pitch_um=10.72, disparity_gain=0.3)
    write_dual_pixel_dng(path, truth.composite, truth.half, white=16383, crop=CROP, meta=meta)
    return path


def test_files_and_their_meaning(shot: Path, tmp_path: Path) -> None:
    assert run(shot, "-o", tmp_path / "out", "--frames") == 0
    folder = tmp_path / "out" / "shot"
    assert {p.name for p in folder.iterdir()} == RESULT | {"frames.npz"}
    assert [p.name for p in (tmp_path / "out").iterdir()] == ["shot"]
    record = json.loads((folder / "decode.json").read_text())
    image = decode(shot)
    scale = record["samples"]["full_scale"]
    assert scale >= max(1.0, image.left.max(), image.right.max(), image.combined.max())
    for name in ("left", "right", "combined"):
        codes = tifffile.imread(folder / f"{name}.tiff")
        assert codes.dtype == np.uint16
        value = codes.astype(np.float64) / 65535 * scale
        assert np.abs(value - np.maximum(getattr(image, name), 0)).max() < scale / 65535
    mask = cv2.imread(str(folder / "saturated.png"), cv2.IMREAD_UNCHANGED)
    assert np.array_equal(mask > 0, image.saturated)
    preview = cv2.imread(str(folder / "preview.png"))
    assert preview.shape == (84, 128, 3) and preview.max() > 200 and 40 < preview.mean() < 220
    assert record["meta"]["disparity_gain"] == 0.3
    assert record["decoder"] == "canon" and record["baseline"] == "x"
    assert record["sensor"]["clip"]["frame0"] == [16383] * 4
    assert set(record["versions"]) == {"dualpix", "libraw", "numpy", "opencv"}
    with np.load(folder / "frames.npz") as frames:
        truth = sensor_frames(highlight=1.6)
        assert np.array_equal(frames["frame0"], truth.composite)
        assert np.array_equal(frames["frame1"], truth.half)
        assert frames["other"].dtype == np.int32


def test_pixel_preview_has_the_scene_proportions(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    for side in ("left", "right"):
        write_pdcapture(tmp_path / f"p_{side}.pgm", rng.integers(64, 900, (60, 160)))
    # As a shell expands p_*.pgm: the right file is not a capture of its own.
    assert run(tmp_path / "p_left.pgm", tmp_path / "p_right.pgm", "-o", tmp_path / "out") == 0
    assert [p.name for p in (tmp_path / "out").iterdir()] == ["p"]
    assert cv2.imread(str(tmp_path / "out" / "p" / "preview.png")).shape == (120, 160, 3)
    assert tifffile.imread(tmp_path / "out" / "p" / "left.tiff").shape == (60, 160)


def test_one_bad_file_does_not_stop_the_others(shot: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    bad = tmp_path / "bad.CR2"
    bad.write_text("not a raw")
    assert run(bad, shot, "-o", tmp_path / "out") == 2
    captured = capsys.readouterr()
    assert "dualpix: error: no decoder takes 'bad.CR2'" in captured.err
    assert "failed" in captured.out and "canon" in captured.out
    assert [p.name for p in (tmp_path / "out").iterdir()] == ["shot"]


def test_json_for_machines(shot: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    gone = tmp_path / "gone.CR3"
    assert run(shot, gone, "-o", tmp_path / "out", "--json") == 2
    done, failed = json.loads(capsys.readouterr().out)
    assert done["output"] == str(tmp_path / "out" / "shot") and done["error"] is None
    assert done["result"]["size"] == {"width": 128, "height": 84, "channels": 3}
    assert failed["output"] is None and "no file" in failed["error"]


def test_same_name_is_not_overwritten(shot: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    truth = sensor_frames(seed=1)
    write_cr2(tmp_path / "shot.CR2", truth.composite, truth.half, CROP)
    assert run(shot, tmp_path / "shot.CR2", "-o", tmp_path / "out") == 0
    assert json.loads((tmp_path / "out/shot/decode.json").read_text())["inputs"] == ["shot.dng"]
    assert json.loads((tmp_path / "out/shot_CR2/decode.json").read_text())["inputs"] == ["shot.CR2"]
    (tmp_path / "other").mkdir()
    write_cr2(tmp_path / "other/shot.CR2", truth.composite, truth.half, CROP)
    capsys.readouterr()
    assert run(tmp_path / "shot.CR2", tmp_path / "other/shot.CR2", "-o", tmp_path / "new") == 2
    assert "both become" in capsys.readouterr().err and not (tmp_path / "new").exists()


def test_an_earlier_result_is_replaced_whole(shot: Path, tmp_path: Path) -> None:
    assert run(shot, "-o", tmp_path / "out", "--frames") == 0
    assert run(shot, "-o", tmp_path / "out") == 0
    assert {p.name for p in (tmp_path / "out" / "shot").iterdir()} == RESULT
    assert [p.name for p in (tmp_path / "out").iterdir()] == ["shot"]


def test_a_foreign_folder_is_left_alone(shot: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    mine = tmp_path / "out" / "shot" / "thesis.txt"
    mine.parent.mkdir(parents=True)
    mine.write_text("years of work")
    assert run(shot, "-o", tmp_path / "out") == 2
    assert "is no earlier result" in capsys.readouterr().err
    assert mine.read_text() == "years of work" and [p.name for p in mine.parent.iterdir()] == ["thesis.txt"]


def test_nothing_is_left_of_a_failed_write(
    shot: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def full_disk(*_: object) -> None:
        raise OSError(28, "No space left on device")

    assert run(shot, "-o", tmp_path / "out") == 0
    before = (tmp_path / "out" / "shot" / "decode.json").read_bytes()
    monkeypatch.setattr(outputs_module, "write_picture", full_disk)
    assert run(shot, "-o", tmp_path / "out") == 2
    assert "No space left on device" in capsys.readouterr().err
    assert [p.name for p in (tmp_path / "out").iterdir()] == ["shot"]
    assert (tmp_path / "out" / "shot" / "decode.json").read_bytes() == before


def test_output_that_is_a_file(shot: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    taken = tmp_path / "taken"
    taken.write_text("x")
    assert run(shot, "-o", taken) == 2
    assert capsys.readouterr().err.startswith("dualpix: error: cannot write to output folder")


@pytest.mark.skipif(not Path("/proc/self").exists(), reason="needs a folder that even root cannot write")
def test_output_that_cannot_be_written(shot: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(shot, "-o", "/proc/dualpix") == 2
    assert "cannot write to output folder '/proc/dualpix'" in capsys.readouterr().err


def test_explicit_pair_and_contradictions(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    rng = np.random.default_rng(0)
    a, b = tmp_path / "A.png", tmp_path / "B.png"
    for path in (a, b):
        cv2.imwrite(str(path), rng.integers(0, 250, (20, 30)).astype(np.uint8))
    assert run("--left", a, "--right", b, "-o", tmp_path / "out") == 0
    assert json.loads((tmp_path / "out/A/decode.json").read_text())["inputs"] == ["A.png", "B.png"]
    assert run("-o", tmp_path / "o") == 2
    assert run(a, "--left", a, "-o", tmp_path / "o") == 2
    assert run(a, b, "--right", b, "-o", tmp_path / "o") == 2
    errors = [line for line in capsys.readouterr().err.splitlines() if line]
    assert len(errors) == 3 and all(line.startswith("dualpix: error: ") for line in errors)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        (".", "is a folder"),
        ("missing.CR2", "no file 'missing.CR2'"),
        ("x" * 300, "File name too long"),
        ("a.png/b", "a.png/b'"),
    ],
)
def test_names_that_are_no_file(
    name: str, message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "a.png").write_bytes(b"x")
    assert run(name, "-o", tmp_path / "out") == 2
    error = capsys.readouterr().err
    assert error.startswith("dualpix: error: ") and message in error and error.count("\n") == 1


def test_options_reach_the_decoder(shot: Path, tmp_path: Path) -> None:
    assert run(shot, "-o", tmp_path / "out", "--swap", "--no-equalise") == 0
    provenance = json.loads((tmp_path / "out/shot/decode.json").read_text())["meta"]["provenance"]
    assert "swap" in provenance and "equalised" not in provenance
    assert run(shot, "-o", tmp_path / "out", "--flat-field", shot, shot) == 0
    provenance = json.loads((tmp_path / "out/shot/decode.json").read_text())["meta"]["provenance"]
    assert "white sheet shot.dng" in provenance["equalised"]


def test_decode_imports_no_torch(shot: Path, tmp_path: Path) -> None:
    code = (
        "import sys\nfrom dualpix.capture.cli import main\n"
        f"try: main(['decode', {str(shot)!r}, '-o', {str(tmp_path / 'out')!r}])\n"
        "except SystemExit as stop: assert not stop.code, stop.code\n"
        "assert 'torch' not in sys.modules"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "out" / "shot" / "decode.json").is_file()
