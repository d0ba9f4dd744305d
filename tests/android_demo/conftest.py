"""The app's core, compiled once for all tests of it."""

from __future__ import annotations

import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path

import pytest

DEMO = Path(__file__).parents[2] / "android_demo"
JARS = tuple(Path("/usr/share/java") / name for name in ("junit4.jar", "hamcrest.jar"))


@dataclass(frozen=True)
class Classes:
    """Where compiled classes lie."""

    main: Path
    """Core and double."""
    tests: Path

    def java(self, *arguments: str, tests: bool = False) -> list[str]:
        """A command line."""
        parts = [self.main, *((self.tests, *JARS) if tests else ())]
        return ["java", "-XX:TieredStopAtLevel=1", "-cp", ":".join(map(str, parts)), *arguments]


def compile_java(target: Path, *folders: Path, classpath: tuple[Path, ...] = ()) -> None:
    """Compile every source below ``folders``; warnings are errors."""
    sources = sorted(str(path) for folder in folders for path in folder.rglob("*.java"))
    paths = ":".join(map(str, classpath)) or "."
    command = ["javac", "-Xlint:all", "-Werror", "--release", "17", "-cp", paths, "-d", str(target), *sources]
    run = subprocess.run(command, capture_output=True, text=True, timeout=300)
    assert run.returncode == 0, run.stderr


@pytest.fixture(scope="session")
def classes(tmp_path_factory: pytest.TempPathFactory) -> Classes:
    """Core and double, compiled for this run."""
    if shutil.which("javac") is None:
        pytest.skip("no JDK here (Debian: openjdk-17-jdk-headless)")
    made = Classes(tmp_path_factory.mktemp("classes"), tmp_path_factory.mktemp("test-classes"))
    compile_java(made.main, DEMO / "core/src/main", DEMO / "double/src/main")
    return made


@pytest.fixture(scope="session")
def junit(classes: Classes) -> Classes:
    """With the tests of the core."""
    if missing := [jar.name for jar in JARS if not jar.exists()]:
        pytest.skip(f"no {', '.join(missing)} in /usr/share/java (Debian: junit4 libhamcrest-java)")
    compile_java(classes.tests, DEMO / "core/src/test", classpath=(classes.main, *JARS))
    return classes
