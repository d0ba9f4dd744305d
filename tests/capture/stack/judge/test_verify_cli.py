"""``dualpix capture verify``, ``align``, ``export``, ``import`` as a user types them."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest
from tests.support.stack_folders import ShotStack, rewritten, shoot_stack

from dualpix.capture.cli import main
from dualpix.capture.errors import DualpixError
from dualpix.capture.stack.keep.load import load_stack
from dualpix.capture.stack.keep.record import read_record
from dualpix.capture.stack.tools_cli import number_list


@pytest.fixture(scope="module")
def original(tmp_path_factory: pytest.TempPathFactory) -> ShotStack:
    place = tmp_path_factory.mktemp("tools") / "stack"
    return shoot_stack(place, diopters=np.linspace(0.25, 2.25, 5), all_in_focus=True)


@pytest.fixture
def shot(original: ShotStack, tmp_path: Path) -> ShotStack:
    shutil.copytree(original.folder, tmp_path / "stack")
    return replace(original, folder=tmp_path / "stack")


def run(*arguments: str | Path) -> int:
    """The exit code."""
    try:
        main(["capture", *map(str, arguments)])
    except SystemExit as stop:
        return int(stop.code or 0)
    return 0


def test_verify_writes_its_result_beside_the_frames(shot: ShotStack, capsys: pytest.CaptureFixture[str]) -> None:
    assert run("verify", shot.folder) == 0
    assert "good" in capsys.readouterr().out
    assert json.loads((shot.folder / "verify.json").read_text())["verdict"] == "good"
    assert cv2.imread(str(shot.folder / "verify.png")).shape[1] == 1400


def test_a_bad_stack_has_an_exit_code_of_its_own(
    shot: ShotStack, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    rewritten(shot, shot.record.frames[:3])
    assert run("verify", shot.folder, "-o", tmp_path / "out", "--json") == 1
    shown = json.loads(capsys.readouterr().out)
    assert shown["verdict"] == "bad" and shown["findings"][0]["code"] == "missing"
    assert sorted(p.name for p in (tmp_path / "out").iterdir()) == ["verify.json", "verify.png"]
    assert not (shot.folder / "verify.json").exists()


def test_align_then_export_then_import(shot: ShotStack, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run("align", shot.folder) == 0
    out = capsys.readouterr().out
    assert "breathing +1." in out and "px RMS left" in out
    assert read_record(shot.folder).breathing is not None
    assert run("export", shot.folder, "-o", tmp_path / "zedd", "--to", "zedd", "--format", "png") == 0
    assert run("import", tmp_path / "zedd", "-o", tmp_path / "again") == 0
    assert "wrote 6 frames" in capsys.readouterr().out
    assert load_stack(tmp_path / "again").focus_distance_m == pytest.approx(load_stack(shot.folder).focus_distance_m)
    assert run("align", shot.folder, "-o", tmp_path / "other", "--json") == 0
    assert len(json.loads(capsys.readouterr().out)["frames"]) == 5


def test_pictures_with_two_ends_or_a_list(shot: ShotStack, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run("export", shot.folder, "-o", tmp_path / "plain", "--aperture", "2.8") == 0
    (tmp_path / "plain" / "focus.csv").unlink()
    pictures = sorted(p for p in (tmp_path / "plain").glob("*.png") if "all" not in p.name)
    assert run("import", *pictures, "-o", tmp_path / "a", "--first", "inf", "--last", "0.5", "--json") == 0
    record = json.loads(capsys.readouterr().out.split("\n", 1)[1])
    assert [f["achieved_d"] for f in record["frames"]] == [0.0, 0.5, 1.0, 1.5, 2.0]
    (tmp_path / "list.txt").write_text("4 2\n1.5, 1\n0.5\n")
    given = ["--distances", tmp_path / "list.txt", "--uncertainty-d", "0.02"]
    assert run("import", *pictures, "-o", tmp_path / "b", *given) == 0
    assert load_stack(tmp_path / "b").focus_distance_m == pytest.approx([4, 2, 1.5, 1, 0.5])


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["verify", "nothing"], "is no focus stack"),
        (["align", "nothing"], "is no focus stack"),
        (["export", "nothing", "-o", "out"], "is no focus stack"),
        (["import", "nothing", "-o", "out"], "no file 'nothing'"),
        (["import", ".", "-o", "out"], "no frames in"),
        (["import", ".", "-o", "out", "--first", "1"], "only one end"),
        (["import", ".", "-o", "out", "--first", "0", "--last", "1"], "a distance of 0 m"),
        (["import", ".", "-o", "out", "--first", "1", "--last", "2", "--diopters", "1"], "more than once"),
        (["import", ".", "-o", "out", "--distances", "1,two"], "no list of numbers"),
    ],
)
def test_mistakes_are_one_line_and_exit_code_2(
    arguments: list[str],
    message: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    assert run(*arguments) == 2
    error = capsys.readouterr().err
    assert message in error and error.count("\n") == 1 and error.startswith("dualpix: error: ")
    assert list(tmp_path.iterdir()) == []


def test_lists_of_numbers(tmp_path: Path) -> None:
    assert number_list("1,2.5,inf") == [1, 2.5, float("inf")]
    (tmp_path / "a").write_bytes(b"\xff\xfe1")
    for text in ("", "nan", str(tmp_path / "a")):
        with pytest.raises(DualpixError):
            number_list(text)


def test_none_of_this_imports_torch() -> None:
    modules = ["tools_cli", "judge.verify", "judge.verify_plot", "judge.aligned", "keep.export", "keep.importer"]
    modules += ["keep.load", "depth.focus_depth"]
    code = "; ".join(f"import dualpix.capture.stack.{name}" for name in modules)
    done = subprocess.run(
        [sys.executable, "-c", f"{code}; import sys; print('torch' in sys.modules)"], capture_output=True, text=True
    )
    assert done.stdout.strip() == "False", done.stderr
