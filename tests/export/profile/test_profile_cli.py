from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner, Result
from tests.export.profile.conftest import SmallFiles
from tests.export.profile.test_result import a_profile

from dualpix.capture.errors import DualpixError
from dualpix.export.executorch.file import SCHEMA
from dualpix.export.flow import ExportResult
from dualpix.export.profile import cli
from dualpix.export.profile.cli import command
from dualpix.export.profile.result import Profile, profiles_from_json, read_profiles
from dualpix.export.profile.target import OnStep, ProfileRequest


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> list[ProfileRequest]:
    """Requests that a stand-in for the host was given; ``a.pte`` and ``b.pte`` are as far as their heads tell."""
    requests: list[ProfileRequest] = []
    monkeypatch.chdir(tmp_path)
    for name in ("a.pte", "b.pte"):
        Path(name).write_bytes(b"\0\0\0\0" + SCHEMA)

    def profiler(request: ProfileRequest, address: str, on_step: OnStep) -> tuple[Profile, ...]:
        requests.append(request)
        on_step(0, 1, "net")
        return (a_profile(),)

    monkeypatch.setattr(cli, "find_profiler", lambda place: (profiler, ""))
    return requests


def run(*words: str) -> Result:
    return CliRunner().invoke(command, list(words), catch_exceptions=True)


def test_options_become_a_request(asked: list[ProfileRequest], tmp_path: Path) -> None:
    words = ("a.pte", "b.pte", "a.pte", "--threads", "1,2", "--runs", "7", "--warmup", "0", "--operators")
    result = run(*words, "--eager", "difusenet-compact", "-o", str(tmp_path / "profile.json"))
    assert result.exit_code == 0, result.output
    assert asked == [ProfileRequest((Path("a.pte"), Path("b.pte")), (1, 2), 0, 7, True, "difusenet-compact", None)]
    assert read_profiles(tmp_path / "profile.json") == (a_profile(),)


def test_the_table_is_for_people(asked: list[ProfileRequest]) -> None:
    text = run("a.pte", "--operators").stdout
    ratio = ("1.50 (0.25) times as fast as other", "median (IQR) over the rounds, of processor time")
    for part in ("net.pte", "a.b", "Convolution #1", "net.py:3", "= 90.9%", *ratio, "EPYC, x86-64-avx2"):
        assert part in text, part


def test_json_is_json(asked: list[ProfileRequest]) -> None:
    assert profiles_from_json(json.loads(run("a.pte", "--json").stdout)) == (a_profile(),)


@pytest.mark.parametrize("threads", ["0", "a", "1,,2", "", "4096"])
def test_thread_counts_are_checked(asked: list[ProfileRequest], threads: str) -> None:
    result = run("a.pte", "--threads", threads)
    assert result.exit_code == 2
    assert "thread counts" in result.stderr
    assert not asked


def test_a_folder_stands_for_what_the_target_runs(asked: list[ProfileRequest], tiny_export: ExportResult) -> None:
    assert run(str(tiny_export.folder)).exit_code == 0
    assert {p.suffix for p in asked[0].files} == {".pte"}
    assert run(str(tiny_export.folder), "--on", "apple").exit_code == 0
    assert {p.suffix for p in asked[1].files} == {".mlpackage"}


def test_a_folder_of_something_else_is_refused(asked: list[ProfileRequest], tmp_path: Path) -> None:
    result = run(str(tmp_path))
    assert isinstance(result.exception, DualpixError)
    assert "without manifest.json" in str(result.exception)


@pytest.mark.skipif(sys.platform == "darwin", reason="it works there")
def test_apple_is_refused_elsewhere_in_one_line(tmp_path: Path) -> None:
    result = run("net.mlpackage", "--on", "apple")
    assert isinstance(result.exception, DualpixError)
    assert "run on macOS only" in str(result.exception)


def test_a_real_file_is_profiled(small_files: SmallFiles, tmp_path: Path) -> None:
    out = tmp_path / "profile.json"
    result = run(str(small_files.narrow), "--runs", "3", "-o", str(out))
    assert result.exit_code == 0, result.output
    assert "narrow.pte" in result.stdout
    assert len(read_profiles(out)[0].samples_s) == 3
