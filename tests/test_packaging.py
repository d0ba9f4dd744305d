"""What a wheel holds, how the areas depend on each other, and that the command answers at once without torch."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import venv
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
AREAS = ("capture", "models", "quantize", "export")


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("wheel")
    subprocess.run(
        [sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", str(out), str(ROOT)],
        check=True, capture_output=True,
    )  # fmt: skip
    return next(out.glob("*.whl"))


def test_no_area_hides_the_others(tmp_path: Path) -> None:
    for area in AREAS:
        assert (ROOT / area / "dualpix" / "__init__.py").exists() == (area == "capture")
        assert (ROOT / area / "dualpix" / area / "py.typed").is_file()
    # whichever comes first on the path, all areas are found, and so is a package that others put beside them
    (tmp_path / "dualpix" / "theirs").mkdir(parents=True)
    script = f"import dualpix, {', '.join(f'dualpix.{area}' for area in AREAS)}, dualpix.theirs; print(dualpix.load)"
    for order in (AREAS, AREAS[::-1]):
        path = os.pathsep.join([*(str(ROOT / area) for area in order), str(tmp_path)])
        environment = {**os.environ, "PYTHONPATH": path}
        subprocess.run([sys.executable, "-c", script], check=True, env=environment, cwd=tmp_path)


def test_wheel_holds_the_four_areas_and_the_weights_and_nothing_else(wheel: Path) -> None:
    names = zipfile.ZipFile(wheel).namelist()
    tops = {name.split("/")[0] for name in names}
    assert {t for t in tops if not t.endswith(".dist-info")} == {"dualpix"}
    packaged = {tuple(name.split("/")[:2]) for name in names if name.startswith("dualpix/")}
    assert packaged == {("dualpix", name) for name in (*AREAS, "__init__.py", "py.typed")}
    sources = {
        str(path.relative_to(ROOT / area))
        for area in AREAS
        for path in (ROOT / area / "dualpix").rglob("*")
        if path.is_file() and "__pycache__" not in path.parts
    }
    assert sources == {name for name in names if name.startswith("dualpix/")}
    zoo = [name for name in names if "/zoo/" in name]
    for needed in ("weights.safetensors", "card.json", "limits.json"):
        assert any(name.endswith(needed) for name in zoo)
    assert wheel.stat().st_size < 20e6


def test_import_arrows_point_one_way() -> None:
    done = subprocess.run([str(Path(sys.executable).parent / "lint-imports")], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout


def test_help_and_decode_import_no_torch(tmp_path: Path) -> None:
    script = (
        "import sys, json, time; start = time.perf_counter()\n"
        "from dualpix.capture.cli import root\n"
        "for args in (['--help'], ['decode', '--help']):\n"
        "    try: root.main(args=args)\n"
        "    except SystemExit: pass\n"
        "heavy = [m for m in ('torch', 'executorch', 'coremltools', 'coreai', 'coreai_torch', 'matplotlib')"
        " if m in sys.modules]\n"
        "print(json.dumps(heavy), file=sys.stderr)"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True, cwd=tmp_path)
    assert json.loads(done.stderr.strip().splitlines()[-1]) == []
    for name in ("demo", "decode", "depth", "train", "export"):
        assert name in done.stdout


def test_every_listed_command_exists() -> None:
    from dualpix.capture.cli import COMMANDS, root

    context = root.make_context("dualpix", ["--help"], resilient_parsing=True)
    for name in COMMANDS:
        assert root.get_command(context, name) is not None


@pytest.mark.slow
def test_demo_works_from_the_wheel_in_a_clean_environment(wheel: Path, tmp_path: Path) -> None:
    venv.create(tmp_path / "env", with_pip=True)
    python = tmp_path / "env" / "bin" / "python"
    subprocess.run([str(python), "-m", "pip", "install", "-q", str(wheel)], check=True, cwd=tmp_path)
    environment = {k: v for k, v in os.environ.items() if k != "PYTHONPATH"}
    subprocess.run(
        [str(tmp_path / "env" / "bin" / "dualpix"), "demo", "-o", "out"], check=True, cwd=tmp_path, env=environment
    )
    assert (tmp_path / "out" / "report.html").is_file()
