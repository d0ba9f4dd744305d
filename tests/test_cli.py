"""The root command's manners: one line, exit code 2, a traceback only when asked for."""

from __future__ import annotations

import subprocess
import sys

import pytest

MAIN = [sys.executable, "-c", "from dualpix.capture.cli import main; main()"]


def run(*args: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([*MAIN, *args], capture_output=True, text=True)


def test_user_error_is_one_line_and_exit_code_2(tmp_path: object) -> None:
    done = run("train", "-o", f"{tmp_path}/x", "--network", "nope", "--eval-samples", "0")
    assert done.returncode == 2
    assert done.stderr.startswith("dualpix: error: unknown network 'nope'; expected one of: difusenet")
    assert done.stderr.count("\n") == 1


def test_debug_shows_the_traceback(tmp_path: object) -> None:
    done = run("--debug", "train", "-o", f"{tmp_path}/x", "--network", "nope", "--eval-samples", "0")
    assert done.returncode != 0
    assert "Traceback" in done.stderr and "UnknownNameError" in done.stderr


def test_unknown_command_exits_with_2() -> None:
    done = run("develop")
    assert done.returncode == 2 and "No such command 'develop'" in done.stderr


@pytest.mark.parametrize("args", [["--version"], ["-h"], ["decode", "-h"]])
def test_help_and_version_succeed(args: list[str]) -> None:
    assert run(*args).returncode == 0
