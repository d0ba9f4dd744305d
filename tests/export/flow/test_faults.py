"""What a user can get wrong, through the command: exit code 2, one line, and nothing half-written."""

from __future__ import annotations

import itertools
import json
import multiprocessing
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from uuid import uuid4

import pytest
from tests.support.foreign_factory import SOURCE

from dualpix.capture.cli import main
from dualpix.export import staging
from dualpix.export.flow import ExportResult
from dualpix.export.manifest import MANIFEST, write_manifest
from dualpix.export.staging import remove, staged
from dualpix.export.verify import verify


@pytest.fixture
def nets(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """A user's file in the working folder, under a name that no other test imported."""
    name = f"nets_{uuid4().hex}"
    (tmp_path / f"{name}.py").write_text(SOURCE)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("sys.path", list(sys.path))
    return name


def refusal(capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
    """The one line that the command says, with exit code 2."""
    capsys.readouterr()
    with pytest.raises(SystemExit) as stop:
        main([*arguments])
    seen = capsys.readouterr()
    lines = [text for text in seen.err.splitlines() if not text.startswith("export: ")]
    assert stop.value.code == 2 and not seen.out
    assert len(lines) == 1 and lines[0].startswith("dualpix: error: "), seen.err
    return lines[0]


@pytest.mark.parametrize(
    ("factory", "message"),
    [
        ("bad_weight", "parameter '2.weight' of 'bad_weight' holds 1 values that are not finite"),
        ("wrong_shape", "'wrong_shape' does not run on its example inputs (1, 3, 16, 24): RuntimeError"),
        (
            "mixed_shapes",
            "input 'input' is (1, 1, 8, 24) float32 in input 3 of NETS:mixed_shapes(); expected (1, 1, 16,",
        ),
        ("double_inputs", "input 'input' is (1, 1, 16, 24) float64 on cpu in the first example of 'double_inputs'"),
        ("text_output", "'text_output' gives a str as 'kind'; expected a tensor, or a tuple or dictionary of tensors"),
        ("infinite", "'infinite' gives values that are not finite"),
        ("dead", "'dead' gives 0 everywhere on all 2 inputs: a constant would agree with it"),
        (
            "dropout",
            "'dropout' gives another output when it runs on the same input again: 'bernoulli_' in '1' is random",
        ),
        ("counting", "its buffer 'calls' changes in forward"),
        ("raises", "no such checkpoint"),
        ("absent", "has no function 'absent'"),
        ("interrupted", "interrupted; 'out' is as it was before"),
    ],
)
def test_a_module_that_cannot_be_exported(
    nets: str, factory: str, message: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    line = refusal(capsys, "export", f"{nets}:{factory}", "-o", "out", "--recipe", "xnnpack-fp32")
    assert message in line.replace(nets, "NETS")
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--recipe", "onnx"], "unknown recipe 'onnx'"),
        (["--limits", "gone.json"], "'gone.json' does not read"),
        (["--assignment", "gone.json"], "'gone.json' does not read"),
        (
            ["--calibrate-with", "gone"],
            "'gone' is no folder; expected a folder of .npz files, or package.module:function",
        ),
        (["--evaluate-with", "no_such_package:data"], "'no_such_package' cannot be imported: ModuleNotFoundError"),
        (["--metric", "no_such_package:score"], "'no_such_package' cannot be imported: ModuleNotFoundError"),
        (["--metric", "score"], "'score'; expected package.module:function"),
    ],
)
def test_an_option_that_cannot_be_used(
    nets: str, arguments: list[str], message: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert message in refusal(capsys, "export", f"{nets}:small", "-o", "out", *arguments)
    assert not (tmp_path / "out").exists()


def test_options_of_other_networks_are_refused(nets: str, capsys: pytest.CaptureFixture[str]) -> None:
    for arguments in (
        [f"{nets}:small", "--size", "64x64"],
        [f"{nets}:small", "--budget", "2"],
        [f"{nets}:small", "--metric-better", "lower"],
        *([option, "x"] for option in ("--licence", "--weights-origin", "--metric", "--evaluate-with")),
    ):
        with pytest.raises(SystemExit) as stop:
            main(["export", "-o", "out", *arguments])
        assert stop.value.code == 2
    assert "--licence is for a module of your own" in capsys.readouterr().err
    assert not Path("out").exists()


def test_a_folder_that_cannot_be_written(nets: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "file").write_text("in the way")
    line = refusal(capsys, "export", f"{nets}:small", "-o", "file/out", "--recipe", "xnnpack-fp32")
    assert "cannot write to output folder 'file/out'" in line
    assert (tmp_path / "file").read_text() == "in the way"


def test_a_former_export_stays_whole_when_the_next_one_fails(
    nets: str, foreign_copy: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    before = {p.name: p.read_bytes() for p in foreign_copy.iterdir()}
    for factory in ("bad_weight", "interrupted"):
        refusal(capsys, "export", f"{nets}:{factory}", "-o", str(foreign_copy), "--recipe", "xnnpack-fp32")
    assert {p.name: p.read_bytes() for p in foreign_copy.iterdir()} == before


def test_the_next_export_takes_the_place_of_the_former(foreign_copy: Path) -> None:
    (foreign_copy / "notes.txt").write_text("mine")
    (foreign_copy / "net.mlpackage").mkdir()
    with staged(foreign_copy) as folder:
        (folder / "net.mlpackage").mkdir()
        (folder / "net.mlpackage" / "weights").write_text("new")
        write_manifest(folder, {"format": 2, "artefacts": [], "files": []})
    names = {p.name for p in foreign_copy.iterdir()}
    assert names == {"notes.txt", "net.mlpackage", MANIFEST}, "what the former manifest named is gone, the rest is not"
    assert (foreign_copy / "net.mlpackage" / "weights").read_text() == "new"


def test_names_outside_the_folder_are_not_removed(tmp_path: Path) -> None:
    out = tmp_path / "out"
    out.mkdir()
    (tmp_path / "precious").write_text("x")
    names = ("../precious", str(tmp_path / "precious"), "..", ".", "")
    (out / MANIFEST).write_text(json.dumps({"artefacts": [{"file": name} for name in names]}))
    with staged(out) as folder:
        write_manifest(folder, {"format": 2, "artefacts": []})
    assert (tmp_path / "precious").read_text() == "x" and [p.name for p in out.iterdir()] == [MANIFEST]


def _killed_while_staging(out: Path, when: int) -> None:
    """In a process of its own: an export that dies before its ``when``-th removal; 0 is while the files are made."""
    calls = itertools.count(1)

    def remove_or_die(path: Path) -> None:
        if next(calls) == when:
            os.kill(os.getpid(), signal.SIGKILL)
        remove(path)

    staging.remove = remove_or_die
    with staging.staged(out) as folder:
        (folder / "a.pte").write_text("new")
        if when == 0:
            os.kill(os.getpid(), signal.SIGKILL)
        (folder / "b.pte").write_text("new")
        write_manifest(folder, {"format": 2, "artefacts": [{"file": n, "sha256": ""} for n in ("a.pte", "b.pte")]})


@pytest.mark.skipif(not hasattr(os, "fork"), reason="fork of POSIX")
@pytest.mark.parametrize("when", range(6))
def test_a_kill_leaves_the_former_export_or_no_manifest_or_the_new_one(when: int, tmp_path: Path) -> None:
    """While the files are made, before each step of putting them in place, and with nothing left but to tidy up."""
    out = tmp_path / "out"
    out.mkdir()
    former = {"artefacts": [{"file": n} for n in ("a.pte", "old.pte")]}
    for name, text in (("a.pte", "old"), ("old.pte", "old"), (MANIFEST, json.dumps(former)), ("notes", "mine")):
        (out / name).write_text(text)
    child = multiprocessing.get_context("fork").Process(target=_killed_while_staging, args=(out, when))
    child.start()
    child.join(300)
    assert child.exitcode == -signal.SIGKILL
    if when == 0:
        assert [(out / n).read_text() for n in ("a.pte", "old.pte")] == ["old", "old"] and (out / MANIFEST).exists()
    elif when == 5:
        assert [e["file"] for e in json.loads((out / MANIFEST).read_text())["artefacts"]] == ["a.pte", "b.pte"]
    else:
        assert not (out / MANIFEST).exists()
    with staged(out) as folder:
        between = {p.name: p.read_text() for p in out.iterdir() if p.is_file() and p.name not in (MANIFEST, "notes")}
        expected = {"a.pte": "old", "old.pte": "old"} if when == 0 else {"a.pte": "new", "b.pte": "new"}
        assert between == expected, "what was only to be moved is moved by the next run"
        (folder / "c.pte").write_text("third")
        write_manifest(folder, {"format": 2, "artefacts": [{"file": "c.pte", "sha256": ""}]})
    assert {p.name for p in out.iterdir()} == {"c.pte", MANIFEST, "notes"}, "leftovers are gone"


@pytest.mark.slow
@pytest.mark.skipif(sys.platform == "win32", reason="signals of POSIX")
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGKILL])
def test_a_signal_in_the_middle_of_an_export(
    nets: str, foreign_copy: Path, tmp_path: Path, number: signal.Signals
) -> None:
    command = [sys.executable, "-c", "from dualpix.capture.cli import main; main()", "export", f"{nets}:slow"]
    child = subprocess.Popen(
        [*command, "-o", str(foreign_copy), "--recipe", "xnnpack-fp32"],
        stderr=subprocess.PIPE, text=True, cwd=tmp_path, env=os.environ | {"PYTHONUNBUFFERED": "1"},
    )  # fmt: skip
    assert child.stderr
    for line in child.stderr:
        if "xnnpack-fp32: building" in line:
            break
    time.sleep(2)
    child.send_signal(number)
    rest = child.stderr.read()
    assert child.wait(300) == (2 if number is signal.SIGINT else -number)
    if number is signal.SIGINT:
        assert rest == f"dualpix: error: interrupted; '{foreign_copy}' is as it was before\n"
    assert verify(foreign_copy).artefacts[0].sqnr_db
    leftovers = [p for p in foreign_copy.iterdir() if p.name.startswith(".")]
    assert len(leftovers) == (0 if number is signal.SIGINT else 1)


def test_the_fixture_is_a_complete_export(foreign_export: ExportResult) -> None:
    assert foreign_export.passed and verify(foreign_export.folder, run=False).files
