"""Killed runs: nothing half-done is taken for a result, nothing done is done again, and the end is the same."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.support.batch import SIDECAR, write_shots

from dualpix.capture import files
from dualpix.capture.cli import main
from dualpix.capture.files import atomic_dir, atomic_path, make_output_dir, remove_leftovers, write_json
from dualpix.capture.raw.batch.inputs import Job
from dualpix.capture.raw.batch.resume import earlier_result, request_of, with_requests
from dualpix.capture.raw.formats.dump import Dump

COMMAND = [sys.executable, "-c", "from dualpix.capture.cli import main; main()", "decode"]
COUNT = 20


def contents(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def results(out: Path) -> list[Path]:
    return sorted(path for path in out.iterdir() if not path.name.startswith(".")) if out.is_dir() else []


def traces(folders: list[Path]) -> dict[str, tuple[int, int]]:
    """(inode, time of change) of every file: both are new when it is written again."""
    found = [path for folder in folders for path in [folder, *folder.iterdir()]]
    return {str(path): (path.stat().st_ino, path.stat().st_mtime_ns) for path in found}


def decode(*arguments: str | Path) -> tuple[int, list[dict[str, Any]]]:
    done = subprocess.run(
        [*COMMAND, *map(str, arguments), "--json"], capture_output=True, text=True, check=False, timeout=120
    )
    assert "Traceback" not in done.stderr, done.stderr
    return done.returncode, json.loads(done.stdout)


def kill_after(count: int, out: Path, *arguments: str | Path) -> None:
    """Start ``dualpix decode`` and SIGKILL it once ``count`` more results are there."""
    before = len(results(out))
    command = [*COMMAND, *map(str, arguments)]
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as process:
        while len(results(out)) < before + count:
            assert process.poll() is None, "it ended before it could be killed"
            time.sleep(0.001)
        process.kill()


@pytest.fixture(scope="module")
def shots(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("shots")
    write_shots(folder, COUNT)
    return folder


@pytest.fixture(scope="module")
def expected(shots: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    """The results of a run that nothing interrupts."""
    out = tmp_path_factory.mktemp("whole") / "out"
    code, _ = decode(shots, "-o", out)
    assert code == 0
    return contents(out)


@pytest.mark.parametrize("processes", [1, 2])
def test_killed_in_mid_batch_and_resumed(
    processes: int, shots: Path, expected: dict[str, bytes], tmp_path: Path
) -> None:
    out = tmp_path / "out"
    arguments = (shots, "-o", out, "--jobs", str(processes))
    finished: dict[str, tuple[int, int]] = {}
    for kill in range(3):
        kill_after(4, out, *arguments, *(["--resume"] if kill else []))
        time.sleep(0.3)  # orphaned workers notice and end
        now = contents(out)
        visible = {name: data for name, data in now.items() if not name.startswith(".")}
        assert visible.items() <= expected.items()  # each result is whole, to the byte
        assert {Path(name).parent for name in visible} == {Path(path.name) for path in results(out)}
        assert finished.items() <= traces(results(out)).items()
        finished = traces(results(out))
    done = len(results(out))
    assert 12 <= done < COUNT
    code, entries = decode(*arguments, "--resume")
    assert code == 0
    assert [entry["status"] for entry in entries].count("skipped") == done
    assert [entry["status"] for entry in entries].count("done") == COUNT - done
    assert finished.items() <= traces(results(out)).items()
    assert contents(out) == expected
    assert len(list(out.iterdir())) == COUNT
    after = traces(results(out))
    code, entries = decode(*arguments, "--resume")
    assert code == 0 and {entry["status"] for entry in entries} == {"skipped"}
    assert traces(results(out)) == after


def status_of(capsys: pytest.CaptureFixture[str], *arguments: str | Path) -> str:
    capsys.readouterr()
    with suppress(SystemExit):
        main(["decode", *map(str, arguments), "--resume", "--json"])
    [entry] = json.loads(capsys.readouterr().out)
    return str(entry["status"])


def test_what_makes_a_result_be_done_again(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    [shot] = write_shots(tmp_path / "in", 1)
    out = tmp_path / "out"
    call = (shot, "-o", out)
    assert status_of(capsys, *call) == "done"
    assert status_of(capsys, *call) == "skipped"
    assert status_of(capsys, *call, "--jobs", "2") == "skipped"  # how it is done changes nothing
    assert status_of(capsys, *call, "--swap") == "done"
    assert status_of(capsys, *call) == "done"
    assert status_of(capsys, *call, "--frames") == "done"
    assert status_of(capsys, *call, "--layout", "green") == "done"
    assert status_of(capsys, *call) == "done"
    os.utime(shot, ns=(0, shot.stat().st_mtime_ns + 1))
    assert status_of(capsys, *call) == "done"
    assert status_of(capsys, *call) == "skipped"
    (out / "IMG_00" / "left.tiff").unlink()
    assert status_of(capsys, *call) == "done"
    (out / "IMG_00" / "left.tiff").write_bytes(b"")
    assert status_of(capsys, *call) == "done"
    (out / "IMG_00" / SIDECAR).write_text("{")
    assert status_of(capsys, *call) == "done"
    moved = tmp_path / "moved"
    out.rename(moved)
    shot.parent.rename(tmp_path / "elsewhere")
    assert status_of(capsys, tmp_path / "elsewhere" / shot.name, "-o", moved) == "skipped"


def test_a_failed_capture_is_tried_again(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    [shot] = write_shots(tmp_path / "in", 1)
    whole = shot.read_bytes()
    shot.write_bytes(whole[:3000])
    assert status_of(capsys, shot, "-o", tmp_path / "out") == "failed"
    assert status_of(capsys, shot, "-o", tmp_path / "out") == "failed"
    shot.write_bytes(whole)
    assert status_of(capsys, shot, "-o", tmp_path / "out") == "done"


# Requests

plain = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner) | st.tuples(inner, inner),
    max_leaves=8,
)


@given(options=st.dictionaries(st.text(), plain))
def test_a_request_survives_json(options: dict[str, Any]) -> None:
    request = request_of(Job(Path("gone.CR3"), None, Path("out")), options)
    assert json.loads(json.dumps(request, allow_nan=False)) == request


def test_a_request_knows_the_files_behind_the_options(tmp_path: Path) -> None:
    left, right, sheet = (tmp_path / name for name in ("a_left.png", "a_right.png", "sheet.dng"))
    for path in (left, right, sheet):
        path.write_text(path.name)
    job = Job(left, None, tmp_path / "out")
    options = {"flat_field": (sheet, sheet), "dump": Dump(64, 32), "model": tmp_path}
    request = request_of(job, options)
    assert [entry["name"] for entry in request["inputs"]] == ["a_left.png", "a_right.png"]
    assert request["options"]["dump"]["width"] == 64
    for changed in (right, sheet):
        changed.write_text("changed")
        assert request_of(job, options) != request
        request = request_of(job, options)
    assert request_of(replace(job, folder=tmp_path / "other"), options) == request
    [prepared] = with_requests([job], options)
    assert prepared.request == request
    with pytest.raises(TypeError, match="bytes in a request"):
        request_of(job, {"raw": b"x"})


@given(text=st.text() | plain.map(lambda value: json.dumps(value)))
def test_strange_sidecars_are_no_results(text: str, tmp_path_factory: pytest.TempPathFactory) -> None:
    folder = tmp_path_factory.getbasetemp() / "strange"
    folder.mkdir(exist_ok=True)
    (folder / SIDECAR).write_text(text, encoding="utf-8")
    assert earlier_result(folder, {"dualpix": "1"}, SIDECAR) is None
    assert earlier_result(folder, None, SIDECAR) is None


@pytest.mark.parametrize("files_entry", [3, [3], [{}], [{"name": 3}], [{"name": "gone"}], {"a": 1}, [{"name": "a\0"}]])
def test_a_sidecar_whose_files_are_not_there(files_entry: Any, tmp_path: Path) -> None:
    write_json(tmp_path / SIDECAR, {"request": {"a": 1}, "files": files_entry})
    assert earlier_result(tmp_path, {"a": 1}, SIDECAR) is None
    write_json(tmp_path / SIDECAR, {"request": {"a": 1}, "files": [{"name": SIDECAR}]})
    assert earlier_result(tmp_path, {"a": 1}, SIDECAR) is not None


# Leftovers

WRITER = """
import sys, time
from pathlib import Path
from dualpix.capture.files import atomic_dir
with atomic_dir(Path(sys.argv[1]), "decode.json") as folder:
    (folder / "half.tiff").write_bytes(b"half")
    print("writing", flush=True)
    time.sleep(60)
"""


@pytest.fixture
def writer(tmp_path: Path) -> Iterator[subprocess.Popen[str]]:
    """A process in the middle of writing ``IMG``."""
    command = [sys.executable, "-c", WRITER, str(tmp_path / "IMG")]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None and process.stdout.readline() == "writing\n"
        yield process
        process.kill()


def hidden(folder: Path) -> list[str]:
    return [path.name for path in folder.iterdir() if path.name.startswith(".")]


def test_leftovers_go_and_work_in_progress_stays(writer: subprocess.Popen[str], tmp_path: Path) -> None:
    (tmp_path / ".git").mkdir()
    (tmp_path / ".IMG.dualpix-notes").mkdir()  # not ours
    mine = {".git", ".IMG.dualpix-notes"}
    assert remove_leftovers(tmp_path) == 0
    [partial] = set(hidden(tmp_path)) - mine
    assert (tmp_path / partial / "half.tiff").read_bytes() == b"half"
    writer.send_signal(signal.SIGKILL)
    writer.wait()
    assert remove_leftovers(tmp_path) == 1
    assert set(hidden(tmp_path)) == mine
    assert remove_leftovers(tmp_path / "nowhere") == 0


def test_a_decode_beside_a_writer_leaves_it_alone(
    writer: subprocess.Popen[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    [shot] = write_shots(tmp_path / "in", 1)
    assert status_of(capsys, shot, "-o", tmp_path) == "done"
    assert len(hidden(tmp_path)) == 1
    writer.kill()
    writer.wait()
    assert status_of(capsys, shot, "-o", tmp_path) == "skipped"
    assert hidden(tmp_path) == []


def test_a_file_in_the_making_stays_and_a_killed_ones_goes(tmp_path: Path) -> None:
    code = (
        "import sys, time\nfrom pathlib import Path\nfrom dualpix.capture.files import atomic_path\n"
        "with atomic_path(Path(sys.argv[1])) as temporary:\n"
        "    temporary.write_bytes(b'half'); print(temporary.name, flush=True); time.sleep(60)\n"
    )
    target = tmp_path / ("checkpoint" * 25 + ".pt")  # 253 bytes: as long a name as file systems take
    with subprocess.Popen([sys.executable, "-c", code, str(target)], stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        name = process.stdout.readline().strip()
        assert name.endswith(".pt")
        make_output_dir(tmp_path)
        assert hidden(tmp_path) == [name]
        process.send_signal(signal.SIGKILL)
        process.wait()
    make_output_dir(tmp_path)
    assert list(tmp_path.iterdir()) == []
    with atomic_path(target) as temporary:
        temporary.write_bytes(b"whole")
    assert target.read_bytes() == b"whole" and hidden(tmp_path) == []


def test_leftovers_of_other_machines_go_after_a_day(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    other = tmp_path / ".IMG.dualpix-00000000-new-abcdefgh"
    other.mkdir()
    assert remove_leftovers(tmp_path) == 0 and other.is_dir()
    day_ago = time.time() - 25 * 3600
    os.utime(other, (day_ago, day_ago))
    assert remove_leftovers(tmp_path) == 1 and not other.exists()
    monkeypatch.setattr(files, "fcntl", None)  # as on a system without locks
    ours = tmp_path / f".IMG.dualpix-{files._HOST}-new-abcdefgh"
    ours.mkdir()
    assert remove_leftovers(tmp_path) == 0
    os.utime(ours, (day_ago, day_ago))
    assert remove_leftovers(tmp_path) == 1


def test_an_earlier_result_between_its_renames_is_put_back(tmp_path: Path) -> None:
    folder = tmp_path / "IMG"
    with atomic_dir(folder, SIDECAR) as temporary:
        write_json(temporary / SIDECAR, {"version": 1})
    folder.rename(tmp_path / f".IMG.dualpix-{files._HOST}-old-abcdefgh")
    assert remove_leftovers(tmp_path) == 1
    assert json.loads((folder / SIDECAR).read_text()) == {"version": 1} and hidden(tmp_path) == []


def test_results_are_replaced_whole(tmp_path: Path) -> None:
    folder = tmp_path / "IMG"
    for number in range(3):
        with atomic_dir(folder, SIDECAR) as temporary:
            (temporary / f"{number}.txt").write_text("x")
            write_json(temporary / SIDECAR, {"number": number})
        assert {path.name for path in folder.iterdir()} == {SIDECAR, f"{number}.txt"}
        assert [path.name for path in tmp_path.iterdir()] == ["IMG"]
    assert folder.stat().st_mode & 0o777 == 0o777 & ~files._UMASK
