"""The scripts in examples/ run as they stand, in an empty folder, and leave what they say."""

from __future__ import annotations

import os
import runpy
import shutil
import subprocess
import sys
from pathlib import Path

import cv2
import pytest

EXAMPLES = Path(__file__).parents[1] / "examples"


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> object:
    """Runs a script in an empty folder, as `python examples/NAME` does, and gives what it printed."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(EXAMPLES))
    monkeypatch.setenv("MPLBACKEND", "agg")

    def running(name: str, *words: str) -> str:
        monkeypatch.setattr(sys, "argv", [name, *words])
        runpy.run_path(str(EXAMPLES / name), run_name="__main__")
        return capsys.readouterr().out

    yield running
    sys.modules.pop("own_network", None)
    sys.modules.pop("export_and_verify", None)


def test_a_capture_is_decoded_and_plotted(run, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    assert "measured" in run("decode_and_plot.py")
    assert cv2.imread(str(tmp_path / "decoded.png")).std() > 10
    assert "IMG_0001.DNG: (" in run("decode_and_plot.py", "IMG_0001.DNG", "-o", "again.png")
    assert (tmp_path / "again.png").is_file()


def test_a_stack_becomes_metres(run, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    told = run("stack_to_metres.py")
    assert "6 frames" in told
    error = float(told.partition("mean error ")[2].split()[0])
    assert error < 0.2
    for name in ("page.html", "desk/depth.exr", "desk/surface.glb"):
        assert (tmp_path / "metres" / name).stat().st_size > 1000


def test_own_rgbd_trains_a_model(run, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    run("train_on_rgbd.py")
    assert (tmp_path / "trained" / "weights.safetensors").is_file()
    assert len((tmp_path / "trained" / "log.csv").read_text().splitlines()) == 5


def test_an_own_network_is_trained_and_scored(run, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    assert "difusenet-compact" in run("own_network.py")
    assert (tmp_path / "pyramid" / "card.json").is_file()


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_a_module_is_exported_and_verified(run, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    told = run("export_and_verify.py")
    assert "xnnpack-int8" in told and (tmp_path / "phone" / "report.html").is_file()


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_a_rig_goes_the_whole_way(tmp_path: Path) -> None:
    """With few scenes and steps: what it gains is told in docs/rig.md."""
    bash = shutil.which("bash")
    if bash is None:
        pytest.skip("no bash")
    commands = str(Path(sys.executable).parent) + os.pathsep + os.environ["PATH"]
    asked = [bash, str(EXAMPLES / "rig.sh"), str(tmp_path / "rig"), "4", "2"]
    done = subprocess.run(asked, capture_output=True, text=True, env={**os.environ, "PATH": commands})
    assert done.returncode == 0, done.stderr[-2000:]
    assert "difference from dplive" in done.stdout
    for name in ("plan.png", "rig.json", "data/labels.json", "tuned/weights.safetensors", "pictures/scene004.png"):
        assert (tmp_path / "rig" / name).is_file(), name


def test_the_readme_names_every_script() -> None:
    text = (EXAMPLES / "README.md").read_text()
    for script in EXAMPLES.iterdir():
        if script.suffix in (".py", ".sh"):
            assert f"]({script.name})" in text
