"""A wrong argument is answered in a fraction of a second: what takes seconds to import is not, and nothing is written.

torch, torchao, executorch and coremltools take 1 to 5 s of processor time; on a busy machine half a minute.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import TypeAlias

import pytest

from dualpix.capture.cli import COMMANDS
from dualpix.export.manifest import FORMAT, write_manifest

Cases: TypeAlias = list[tuple[list[str], str]]

_OUT = "cannot write to output folder '/proc/nowhere/out'"
_NO_EXPORT = "'empty' has no readable manifest.json"
WRONG: dict[str, Cases] = {
    "demo": [
        (["--model", "nosuch"], "unknown model 'nosuch'"),
        (["--seed", "-1"], "-1 is not in the range"),
        (["-o", "/proc/nowhere/out"], _OUT),
    ],
    "decode": [
        (["gone.dng", "-o", "out"], "gone.dng"),
        (["-o", "out"], "no input; expected FILES"),
        (["--nosuch"], "No such option"),
    ],
    "inspect": [(["gone.dng"], "gone.dng")],
    "view": [(["gone", "-o", "page.html"], "gone"), (["--nosuch"], "No such option")],
    "ensemble": [
        (["dplive", "-o", "new"], "1 model; expected 2 to 16"),
        (["dplive", "gone", "-o", "new"], "unknown model 'gone'"),
        (["dplive", "fossa-compact", "-o", "new"], "gives depth_m"),
        (["dplive", "fmdp-compact", "-o", "notes.txt"], "notes.txt"),
    ],
    "refocus": [(["gone", "-o", "x.png", "--at", "3", "4"], "gone"), (["--nosuch"], "No such option")],
    "rig": [(["plan", "--nosuch"], "No such option"), (["nosuch"], "No such command 'nosuch'")],
    "calibrate": [(["gain", "--nosuch"], "No such option"), (["nosuch"], "No such command 'nosuch'")],
    "cameras": [(["--nosuch"], "No such option")],
    "capture": [(["verify", "empty"], "empty"), (["--resume", "-o", "empty"], "no camera was named")],
    "render": [(["empty", "-o", "out"], "empty"), (["-o", "out", "--scenes", "-1"], "-1 is not in the range")],
    "depth": [
        (["gone.dng", "-o", "out"], "gone.dng"),
        (["-o", "out"], "no input; expected FILES"),
        (["notes.txt", "-o", "out"], "no decoder takes 'notes.txt'"),
        (["notes.txt", "-o", "out", "--model", "nosuch"], "unknown model 'nosuch'"),
        (["notes.txt", "-o", "out", "--profile", "nosuch"], "nosuch"),
        (["notes.txt", "-o", "out", "--f-number", "1e9"], "--f-number"),
        (["notes.txt", "-o", "/proc/nowhere/out"], _OUT),
        (["notes.txt", "-o", "out", "--truth", "t.npy"], "--truth was given without a stack"),
        (["stack", "-o", "/proc/nowhere/out"], _OUT),
        (["stack", "-o", "out", "--profile", "pixel-4"], "--profile was given with a focus stack"),
        (["stack", "notes.txt", "-o", "out"], "given together"),
        (["stack", "-o", "out", "--encoding", "auto"], "--encoding was given with a focus stack"),
        (
            ["stack", "-o", "out", "--stack-method", "blur", "--method", "network"],
            "--method was given with a focus stack",
        ),
        (
            ["stack", "-o", "out", "--stack-method", "blur", "--working-size", "96"],
            "--working-size was given with a focus stack",
        ),
        (
            ["notes.txt", "-o", "out", "--method", "sgbm", "--model", "difusenet-compact"],
            "--model and --method sgbm were given; expected one of them",
        ),
        (["notes.txt", "-o", "out", "--stack-method", "blur"], "--stack-method was given without a stack"),
    ],
    "evaluate": [
        (["--data", "dp119"], "no folder given"),
        (["gone", "--data", "dp119"], "no folder 'gone'"),
        (["empty", "--data", "dp119"], "'empty' is empty; expected the data of dp119"),
        (["empty", "--data", "pixel4-xin"], "'empty' is empty; expected the data of pixel4-xin"),
        (["--data", "rendered", "--model", "nosuch"], "unknown model 'nosuch'"),
        (["--data", "rendered", "--method", "sgbm", "--model", "nosuch"], "unknown model 'nosuch'"),
        (["--data", "rendered", "--frames", "3"], "--frames was given with --data rendered"),
        (["stack", "--data", "zedd", "--count", "3"], "--count was given with 'stack'"),
        (["--data", "rendered", "--size", "33", "64"], "multiples of 32"),
        (["--data", "rendered", "--method", "magic"], "'magic' is none of"),
        (["--data", "rendered", "--pictures", "/proc/nowhere/out"], _OUT),
    ],
    "train": [
        (["-o", "out", "--scenes", "wild"], "'wild' is not one of 'simple', 'varied'"),
        (["-o", "out", "--network", "nosuch"], "unknown network 'nosuch'"),
        (["-o", "out", "--init", "nosuch"], "unknown model 'nosuch'"),
        (["-o", "out", "--options", "{"], "--options is not JSON"),
        (["-o", "out", "--frames", "5"], "--frames was given for network 'difusenet'"),
        (["-o", "out", "--stacks", "faithful", "--network", "fmdp"], "--stacks was given for network 'fmdp'"),
        (["-o", "out", "--optics", "model", "--network", "fossa"], "--optics was given for network 'fossa'"),
        (["-o", "out", "--recipe", "nosuch"], "'nosuch' is not 'cmtl'"),
        (["-o", "out", "--mono-data", "procedural"], "--mono-data without a recipe; add --recipe cmtl"),
        (["-o", "out", "--recipe", "cmtl", "--init", "difusenet-compact"], "--recipe and --init were given"),
        (["-o", "/proc/nowhere/out"], _OUT),
    ],
    "quantize": [
        (["nosuch", "-o", "out"], "unknown model 'nosuch'"),
        ([], "Missing option '-o'"),
        (["-o", "out", "--budget", "0"], "no share above 0"),
        (["-o", "out", "--size", "63x96"], "size 63x96; expected multiples of 32 px for 'fmdp-compact'"),
        (["-o", "out", "--observer", "nosuch"], "'nosuch' is not one of 'histogram'"),
        (["-o", "out", "--frames", "5"], "--frames was given for 'fmdp-compact', which takes no focus stacks"),
        (["default", "-o", "out", "--frames", "10"], "10 is not in the range 2<=x<=9"),
        (["-o", "/proc/nowhere/out"], _OUT),
    ],
    "export": [
        (["nosuch", "-o", "out"], "unknown model 'nosuch'"),
        (["-o", "out", "--recipe", "nosuch"], "unknown recipe 'nosuch'"),
        (["-o", "out", "--size", "63x96"], "size 63x96; expected multiples of 32 px"),
        (["no_such_package:net", "-o", "out"], "'no_such_package' cannot be imported"),
        (["os:sep", "-o", "out", "--limits", "gone.json"], "'gone.json' does not read"),
        (["os:sep", "-o", "out", "--evaluate-with", "gone"], "'gone' is no folder"),
        (["default", "-o", "out", "--frames", "3"], "--frames was given for 'fmdp-compact', which takes no focus"),
        (["-o", "out", "--frames", "1"], "1 is not in the range 2<=x<=9"),
        (["os:sep", "-o", "out", "--frames", "3"], "--frames is for shipped networks"),
        (["-o", "out", "--budget", "1%"], "--budget goes with --recipe xnnpack-int8-mixed"),
        (
            ["-o", "out", "--assignment", "nothing.json", "--recipe", "xnnpack-int8"],
            "--assignment goes with --recipe xnnpack-int8-mixed",
        ),
        (
            ["-o", "out", "--assignment", "nothing.json", "--budget", "1%", "--recipe", "xnnpack-int8-mixed"],
            "--assignment goes without --budget",
        ),
        (["-o", "/proc/nowhere/out"], _OUT),
    ],
    "verify": [
        (["gone"], "'gone' has no readable manifest.json"),
        (["empty"], _NO_EXPORT),
        (["damaged"], "'net.pte' is missing from 'damaged'"),
        (["empty", "--threads", "0"], "0 is not in the range"),
    ],
    "profile": [
        (["gone.pte"], "'gone.pte' does not read"),
        (["notes.txt"], "'notes.txt' is no ExecuTorch program"),
        (["empty"], "'empty' is a folder without manifest.json"),
        (["damaged"], "'net.pte' is missing from 'damaged'"),
        (["gone.pte", "--on", "moon"], "unknown profiling target 'moon'"),
        (["gone.pte", "--threads", "0"], "no list of thread counts"),
        (["gone.pte", "--on", "adb:1", "--operators"], "--operators was given with --on adb; expected it on the host"),
        (["gone.pte", "--on", "adb:1", "--eager", "difusenet-compact"], "--eager was given with --on adb"),
        (["gone.mlpackage", "--on", "apple", "--inputs", "a.st"], "--inputs was given with --on apple"),
        (["gone.mlpackage", "--on", "apple", "--threads", "1"], "--threads was given with --on apple"),
    ],
    "android": [
        (["install", "gone.apk"], "gone.apk"),
        (["bench", "gone.pte"], "'gone.pte' does not read"),
        (["bench", "empty"], "'empty' is a folder without manifest.json"),
        (["bench", "notes.txt", "--threads", "x"], "no list of thread counts"),
    ],
    "report": [
        (["empty"], _NO_EXPORT),
        (["gone"], "'gone' has no readable manifest.json"),
        (["damaged"], "'net.pte' is missing from 'damaged'"),
    ],
}

_SCRIPT = """
import contextlib, io, json, sys
from dualpix.capture.cli import main
wrong = []
for command, cases in json.loads(sys.argv[1]).items():
    for arguments, message in [(["--help"], "Usage: "), *cases]:
        said, code = io.StringIO(), 0
        with contextlib.redirect_stderr(said), contextlib.redirect_stdout(said):
            try:
                main([command, *arguments])
            except SystemExit as stop:
                code = stop.code
        heavy = sorted({"torch", "torchao", "executorch", "coremltools", "coreai", "coreai_torch"} & set(sys.modules))
        if message not in said.getvalue() or code != (0 if arguments == ["--help"] else 2) or heavy:
            wrong.append(f"dualpix {command} {' '.join(arguments)}: exit {code}, {heavy}: {said.getvalue()[-300:]}")
print("\\n".join(wrong), end="")
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Where the commands run: what the cases name, apart from what is gone."""
    (tmp_path / "empty").mkdir()
    (tmp_path / "notes.txt").write_text("no picture and no program")
    (tmp_path / "nothing.json").write_text("{}")
    (tmp_path / "stack").mkdir()
    (tmp_path / "stack" / "stack.json").write_text("{}")
    (tmp_path / "damaged").mkdir()
    entry = {"recipe": "xnnpack-fp32", "file": "net.pte", "sha256": "0" * 64}
    write_manifest(tmp_path / "damaged", {"format": FORMAT, "artefacts": [entry], "files": []})
    return tmp_path


def test_every_command_has_wrong_arguments() -> None:
    assert set(WRONG) == set(COMMANDS)


def test_wrong_arguments_are_answered_before_torch_is_imported(folder: Path) -> None:
    """One process for all of them: even so nothing heavy may come in on the way."""
    before = sorted(folder.rglob("*"))
    arguments = [sys.executable, "-c", _SCRIPT, json.dumps(WRONG)]
    done = subprocess.run(arguments, cwd=folder, env=os.environ, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert not done.stdout, done.stdout
    assert sorted(folder.rglob("*")) == before
