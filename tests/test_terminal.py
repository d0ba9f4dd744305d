"""Standard output of every command: what cannot be written is told in a line, and no text is an error."""

from __future__ import annotations

import io
import json
import os
import re
import subprocess
import sys
from pathlib import Path

import click
import pytest
from rich.console import Console
from rich.table import Table

from dualpix.capture.cli import COMMANDS, main
from dualpix.capture.command.terminal import prepare_output
from dualpix.capture.progress import ProgressLine

DUALPIX = [sys.executable, "-c", "from dualpix.capture.cli import main; main()"]
FULL = Path("/dev/full")
_LINE = "dualpix: error: cannot write to standard output: "
_FORKED = """
import json, os, sys
from dualpix.capture.cli import main
for arguments in json.loads(sys.argv[1]):
    child = os.fork()
    if not child:
        main(arguments)
        os._exit(0)
    code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    print(json.dumps([arguments, code]), file=sys.stderr, flush=True)
"""
WORDS = [
    ["--version"], ["--help"], *([name, "--help"] for name in COMMANDS), ["decode", "--list-formats"],
    ["decode", "--list-formats", "--json"], ["decode", "--schema"], ["render", "--list-formats"], ["export", "--list"],
    ["export", "--list", "--json"],
]  # fmt: skip


@pytest.mark.skipif(not FULL.exists() or not hasattr(os, "fork"), reason="no /dev/full here")
@pytest.mark.parametrize("buffered", [True, False])
def test_lost_output_is_a_line_and_exit_code_2(buffered: bool) -> None:
    environment = {k: v for k, v in os.environ.items() if k != "PYTHONUNBUFFERED"}
    environment |= {} if buffered else {"PYTHONUNBUFFERED": "1"}
    script = [sys.executable, "-c", _FORKED, json.dumps(WORDS)]
    with FULL.open("w") as full:
        done = subprocess.run(script, stdout=full, stderr=subprocess.PIPE, text=True, env=environment)
    lines = done.stderr.splitlines()
    assert len(lines) == 2 * len(WORDS), done.stderr
    for arguments, line, code in zip(WORDS, lines[::2], lines[1::2], strict=True):
        assert line == f"{_LINE}No space left on device", arguments
        assert json.loads(code) == [arguments, 2]


def test_a_reader_that_stops_reading_is_no_error() -> None:
    read, write = os.pipe()
    os.close(read)
    done = subprocess.run([*DUALPIX, "--help"], stdout=write, stderr=subprocess.PIPE, text=True)
    os.close(write)
    assert done.returncode == 1 and not done.stderr


@pytest.mark.skipif(sys.platform == "win32", reason="as the shells of Unix close them")
def test_closed_streams(tmp_path: Path) -> None:
    """Closed output is lost output. What is written to closed streams does not come out in files opened later."""
    command = f"{sys.executable} -c 'from dualpix.capture.cli import main; main()'"
    done = subprocess.run(f"{command} --version >&-", shell=True, capture_output=True, text=True)  # noqa: S602
    assert done.returncode == 2 and done.stderr == f"{_LINE}Bad file descriptor\n"
    done = subprocess.run(f"{command} nosuch 2>&-", shell=True, capture_output=True, text=True)  # noqa: S602
    assert done.returncode == 2 and not done.stdout
    script = (
        "import os; from dualpix.capture.command.terminal import prepare_output; prepare_output()\n"
        "file = open('mine', 'w'); file.write('mine'); os.write(2, b'of a library')"
    )
    subprocess.run(f'{sys.executable} -c "{script}" >&- 2>&-', shell=True, cwd=tmp_path, check=True)  # noqa: S602
    assert (tmp_path / "mine").read_text() == "mine"
    # programs that are started afterwards have all three: a file of ours would else be their standard input
    script = (
        "import subprocess; from dualpix.capture.command.terminal import prepare_output; prepare_output()\n"
        "file = open('mine', 'r'); print(repr(subprocess.check_output(['cat']).decode()), input.__name__)"
    )
    done = subprocess.run(  # noqa: S602
        f'{sys.executable} -c "{script}" <&-', shell=True, cwd=tmp_path, check=True, capture_output=True, text=True
    )
    assert done.stdout == "'' input\n"


@pytest.mark.parametrize("encoding", ["utf-8", "latin-1", "ascii", "cp1252"])
def test_no_text_is_an_error(encoding: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Names of files may hold half characters, a table what Latin-1 has not.

    click (8.2) takes an encoding of ASCII for a mistake and writes UTF-8: so do its texts here, not the tables.
    """
    buffer = io.BytesIO()
    monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(buffer, encoding=encoding))
    prepare_output()
    table = Table("1-|ρ|", "×eager", "≥ 40 …", width=60)
    table.add_row("k\udce9", "台所", "∞")
    Console().print(table)
    click.echo("k\udce9 台所 ± 2 ∞")
    sys.stdout.flush()
    text = buffer.getvalue().decode("utf-8" if encoding == "ascii" else encoding)
    assert "k\\udce9" in text
    if encoding == "ascii":
        assert "1-|r|" in text and "xeager" in text and ">= 40 ." in text
    elif encoding == "latin-1":
        assert "k\\udce9 \\u53f0\\u6240 ± 2 inf" in text
    if encoding == "utf-8":
        assert "1-|ρ|" in text and "k\\udce9 台所 ± 2 ∞" in text


@pytest.mark.parametrize("variables", [{"PYTHONIOENCODING": "latin-1"}, {"LC_ALL": "C", "PYTHONUTF8": "0"}])
def test_the_tables_of_a_command_on_a_terminal_of_few_signs(variables: dict[str, str], tmp_path: Path) -> None:
    words = ["evaluate", "--data", "rendered", "--count", "1", "--size", "64", "64", "--method", "sgbm"]
    done = subprocess.run(
        [*DUALPIX, *words], capture_output=True, env={**os.environ, **variables, "COLUMNS": "80"}, cwd=tmp_path
    )
    assert done.returncode == 0, done.stderr
    text = done.stdout.decode("latin-1")
    assert "1-|r|" in text and max(map(len, text.splitlines())) <= 80


@pytest.mark.skipif(not FULL.exists(), reason="no /dev/full here")
def test_a_full_log_does_not_end_the_work(monkeypatch: pytest.MonkeyPatch) -> None:
    with FULL.open("w") as full:
        monkeypatch.setattr(sys, "stderr", full)
        with ProgressLine("training") as line:
            line.update(1, 2, "step")
            line.say("a line")
        with pytest.raises(SystemExit) as ended:
            main(["decode", "gone.dng", "-o", "out"])
        assert ended.value.code == 2
        monkeypatch.undo()
        with pytest.raises(OSError, match=re.escape("No space left")):
            full.flush()
        os.dup2(os.open(os.devnull, os.O_WRONLY), full.fileno())  # else closing it fails once more
