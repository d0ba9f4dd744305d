"""Many captures from one command: what is taken, who works on it, and what one bad file costs."""

from __future__ import annotations

import json
import logging
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import suppress
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tests.support.batch import SIDECAR, Note, write_shots
from tests.support.pgm import write_pdcapture

from dualpix.capture.cli import main
from dualpix.capture.errors import DecodeError, DualpixError, OutputError
from dualpix.capture.progress import Pace
from dualpix.capture.raw.batch import cluster as cluster_module
from dualpix.capture.raw.batch.inputs import find_jobs
from dualpix.capture.raw.batch.jobs import Batch, Job, Outcome, run_jobs
from dualpix.capture.raw.batch.pool import cpu_count, run_in_processes

COMMAND = [sys.executable, "-c", "from dualpix.capture.cli import main; main()", "decode"]


def run(*arguments: str | Path) -> int:
    with pytest.raises(SystemExit) as stopped:
        main(["decode", *map(str, arguments)])
    return int(stopped.value.code or 0)


def touch(*paths: Path) -> None:
    for path in paths:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(path.name.encode())


def taken(*files: Path, output: Path, **more: Any) -> dict[str, str]:
    """Capture -> result folder, below the output."""
    jobs, _ = find_jobs(files, None, None, output, **more)
    return {str(job.path): str(job.folder.relative_to(output)) for job in jobs}


# What is taken


def test_a_folder_is_searched_for_captures(tmp_path: Path) -> None:
    root, out = tmp_path / "card", tmp_path / "card/results"
    touch(
        *(root / name for name in ("b.CR3", "a.dng", "sub/a.dng", "sub/deep/c.cr2", "pair/p_left.pgm")),
        *(root / name for name in ("pair/p_right.pgm", "inputL/7.png", "inputR/7.png", "both.npz")),
        *(root / name for name in ("holiday.jpg", "sub/lonely_left.png", "notes.txt", ".hidden.CR2", ".trash/x.CR2")),
        *(root / name for name in ("dump.raw", "earlier/IMG/decode.json", "earlier/IMG/left.tiff")),
        *(root / name for name in ("earlier/IMG/right.tiff", "results/a/left.tiff", "results/a/right.tiff")),
    )
    jobs, notes = find_jobs([root], None, None, out)
    assert {str(job.path.relative_to(root)): str(job.folder.relative_to(out)) for job in jobs} == {
        "a.dng": "a",
        "b.CR3": "b",
        "both.npz": "both",
        "inputL/7.png": "inputL/7",
        "pair/p_left.pgm": "pair/p",
        "sub/a.dng": "sub/a",
        "sub/deep/c.cr2": "sub/deep/c",
    }
    assert notes == ["left out 2 pictures without a right partner"]
    with_dumps, _ = find_jobs([root], None, None, out, dumps=True)
    assert {job.path.name for job in with_dumps} - {job.path.name for job in jobs} == {"dump.raw"}


def test_patterns_that_the_shell_left_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    touch(*(tmp_path / name for name in ("b.CR3", "a.CR3", "c.DNG", "day/d.CR3", "odd[1].CR3")))
    assert list(taken(Path("*.CR3"), output=tmp_path)) == ["a.CR3", "b.CR3", "odd[1].CR3"]
    assert list(taken(Path("**/*.CR3"), output=tmp_path)) == ["a.CR3", "b.CR3", "day/d.CR3", "odd[1].CR3"]
    assert list(taken(Path("odd[1].CR3"), output=tmp_path)) == ["odd[1].CR3"]  # a file of that very name
    with pytest.raises(DecodeError, match=r"no file matches '\*\.CR2'"):
        taken(Path("*.CR2"), output=tmp_path)


def test_the_same_file_comes_once(tmp_path: Path) -> None:
    touch(tmp_path / "d/a.dng", tmp_path / "z.dng")
    (tmp_path / "link.dng").symlink_to(tmp_path / "d/a.dng")
    files = (tmp_path / "z.dng", tmp_path / "d/a.dng", tmp_path / "d", tmp_path / "link.dng", tmp_path / "d/../z.dng")
    # In the user's order, and under the name by which it came first.
    assert list(taken(*files, output=tmp_path / "o").values()) == ["z", "a"]


def test_files_of_one_name_from_two_folders(tmp_path: Path) -> None:
    touch(tmp_path / "x/1/a.dng", tmp_path / "x/2/a.dng")
    assert list(taken(tmp_path / "x", output=tmp_path / "o").values()) == ["1/a", "2/a"]
    with pytest.raises(OutputError, match=r"both become .*; decode one of them with another -o, or name the folder"):
        taken(tmp_path / "x/1/a.dng", tmp_path / "x/2/a.dng", output=tmp_path / "o")


def test_a_dng_of_two_samples_is_no_second_frame(tmp_path: Path) -> None:
    """``IMG_1.DNG`` beside ``IMG.DNG`` looks like the second file of a split raw, but both are whole captures."""
    first, second = write_shots(tmp_path / "in", 2)
    first.rename(first.with_name("IMG.DNG"))
    second.rename(second.with_name("IMG_1.DNG"))
    jobs, _ = find_jobs([tmp_path / "in"], None, None, tmp_path / "out")
    assert [[path.name for path in job.files] for job in jobs] == [["IMG.DNG"], ["IMG_1.DNG"]]


def test_folders_without_captures(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "empty").mkdir()
    assert run(tmp_path / "empty", "-o", tmp_path / "out") == 2
    touch(tmp_path / "pictures/a.jpg")
    assert run(tmp_path / "pictures", "-o", tmp_path / "out") == 2
    empty, pictures = capsys.readouterr().err.splitlines()
    assert "is a folder without dual-pixel captures; expected files ending in" in empty and ".cr3" in empty
    assert "only 1 picture without a right partner" in pictures and "--left and --right" in pictures
    assert not (tmp_path / "out").exists()


def test_right_is_for_one_capture(tmp_path: Path) -> None:
    touch(tmp_path / "a.dng", tmp_path / "b.dng")
    with pytest.raises(DecodeError, match="--right with 2 files"):
        find_jobs([tmp_path], None, tmp_path / "r.png", tmp_path / "out")


# Who works on it


def notes_jobs(folder: Path, *words: str) -> list[Job]:
    folder.mkdir(parents=True, exist_ok=True)
    jobs = []
    for number, word in enumerate(words):
        path = folder / f"{number:02}.txt"
        path.write_text(word)
        jobs.append(Job(path, None, folder / "out" / f"{number:02}", request={"word": word}))
    return jobs


def statuses(outcomes: list[Outcome]) -> list[str]:
    return [outcome.status for outcome in outcomes]


def left_over(folder: Path) -> list[Path]:
    return [path for path in folder.rglob("*") if path.name.startswith(".") or path.name == "half"]


WORDS = ("well", "refuse", "well", "bug", "well", "memory", "well")
FATES = ["done", "failed", "done", "failed", "done", "failed", "done"]


@pytest.mark.parametrize("processes", [1, 2])
def test_bad_files_cost_only_themselves(processes: int, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    outcomes = run_jobs("noting", notes_jobs(tmp_path, *WORDS), Note(), sidecar=SIDECAR, batch=Batch(jobs=processes))
    assert statuses(outcomes) == FATES
    assert [outcome.job.path.name for outcome in outcomes] == [f"{n:02}.txt" for n in range(len(WORDS))]
    errors = [outcome.error or "" for outcome in outcomes if outcome.error]
    assert errors[0] == "unknown word 'refuse'; expected one of: well"
    assert errors[1].startswith("'03.txt': unexpected JSONDecodeError: ")
    assert errors[2] == "not enough memory for '05.txt'"
    text = capsys.readouterr().err
    assert text.count("dualpix: error: ") == 3 and "noting: 7/7 " in text
    assert "noting: 4 done, 3 failed in " in text and "MiB per process" in text
    assert {path.name for path in (tmp_path / "out").iterdir()} == {"00", "02", "04", "06"}
    pids = {outcome.record["pid"] for outcome in outcomes if outcome.record}
    assert (pids == {os.getpid()}) == (processes == 1)


def test_workers_share_the_threads(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    jobs = notes_jobs(tmp_path, *["well"] * 4)
    outcomes = run_jobs("noting", jobs, Note(0.05), sidecar=SIDECAR, batch=Batch(jobs=2))
    share = max(1, cpu_count() // 2)
    assert [outcome.record and outcome.record["threads"] for outcome in outcomes] == [[str(share), share]] * 4
    assert "OMP_NUM_THREADS" not in os.environ


def test_a_file_that_kills_its_process_is_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = ["well", "crash", "well", "crash once", "well", "well"]
    outcomes = run_jobs("noting", notes_jobs(tmp_path, *words), Note(), sidecar=SIDECAR, batch=Batch(jobs=2))
    assert statuses(outcomes) == ["done", "failed", "done", "done", "done", "done"]
    assert "'01.txt' died twice, the second time alone (signal SIGSEGV)" in (outcomes[1].error or "")
    assert capsys.readouterr().err.count("dualpix: error") == 1
    assert left_over(tmp_path) == []


def test_stopping_at_once_raises_the_first_error(tmp_path: Path) -> None:
    jobs = notes_jobs(tmp_path, "well", "refuse", "well")
    with pytest.raises(DualpixError, match="unknown word"):
        run_jobs("noting", jobs, Note(), sidecar=SIDECAR, batch=Batch(jobs=2), stop_at_once=True)
    assert (tmp_path / "out/00" / SIDECAR).is_file() and not (tmp_path / "out/02").exists()


def test_workers_end_with_the_iterator(tmp_path: Path) -> None:
    jobs = notes_jobs(tmp_path, *["well"] * 3)
    answers = run_in_processes(Note(0.4), jobs, 2)
    started = time.monotonic()
    _, answer = next(answers)
    answers.close()
    assert time.monotonic() - started < 60 and answer.record is not None
    with pytest.raises(ProcessLookupError):
        os.kill(answer.record["pid"], 0)
    assert len(list((tmp_path / "out").iterdir())) < 3 and left_over(tmp_path) == []


def test_pace() -> None:
    pace = Pace(3)
    time.sleep(0.05)
    pace.step()
    assert pace.seconds >= 0.05 and 1 < pace.per_second <= 20 and pace.time_left in ("0:00", "0:01", "0:02")
    slow = Pace(7201)
    slow._started_s -= 1
    slow.step()
    assert slow.time_left in ("2:00:00", "2:00:01", "2:00:02")


# The command


def children(pid: int) -> list[int]:
    return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


def is_worker(pid: int) -> bool:
    try:
        return b"spawn_main" in Path(f"/proc/{pid}/cmdline").read_bytes()
    except OSError:
        return False


@pytest.mark.skipif(not Path("/proc/self").exists(), reason="looks for the worker in /proc")
def test_a_worker_killed_in_mid_run(tmp_path: Path) -> None:
    write_shots(tmp_path / "in", 20)
    (tmp_path / "in" / "IMG_07.DNG").write_bytes((tmp_path / "in" / "IMG_07.DNG").read_bytes()[:5000])
    out = tmp_path / "out"
    command = [*COMMAND, str(tmp_path / "in"), "-o", str(out), "--jobs", "2", "--json"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        while not (out / "IMG_01").exists():
            assert process.poll() is None
            time.sleep(0.002)
        victim = next(pid for pid in children(process.pid) if is_worker(pid))
        os.kill(victim, signal.SIGKILL)
        text, errors = process.communicate(timeout=300)
    assert process.returncode == 2  # of the damaged file
    entries = json.loads(text)
    failed = [entry for entry in entries if entry["status"] == "failed"]
    assert len(entries) == 20 and [Path(entry["file"]).name for entry in failed] == ["IMG_07.DNG"]
    assert failed[0]["output"] is None and "IMG_07.DNG" in failed[0]["error"]
    assert "19 done, 1 failed" in errors and "Traceback" not in errors
    assert len(list(out.iterdir())) == 19


@pytest.mark.parametrize("processes", [1, 2])
def test_ctrl_c_stops_cleanly(processes: int, tmp_path: Path) -> None:
    write_shots(tmp_path / "in", 40)
    out = tmp_path / "out"
    command = [*COMMAND, str(tmp_path / "in"), "-o", str(out), "--jobs", str(processes)]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True, start_new_session=True) as process:
        while not (out / "IMG_02").exists():
            assert process.poll() is None
            time.sleep(0.002)
        os.killpg(process.pid, signal.SIGINT)  # as a terminal does: all processes of the group
        _, errors = process.communicate(timeout=300)
    assert process.returncode == 1 and "--resume goes on from here" in errors and "Traceback" not in errors
    done = sorted(path.name for path in out.iterdir())
    assert 2 <= len(done) < 40 and left_over(out) == []
    assert all((out / name / SIDECAR).is_file() for name in done)


def test_pictures_left_out_of_a_folder_are_counted(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    rng = np.random.default_rng(0)
    (tmp_path / "in/deep").mkdir(parents=True)
    for side in ("left", "right"):
        write_pdcapture(tmp_path / f"in/deep/p_{side}.pgm", rng.integers(64, 900, (60, 160)))
    touch(tmp_path / "in/holiday.jpg")
    assert run(tmp_path / "in", "-o", tmp_path / "out") == 0
    assert "dualpix: left out 1 picture without a right partner" in capsys.readouterr().err
    record = json.loads((tmp_path / "out/deep/p/decode.json").read_text())
    assert record["inputs"] == ["p_left.pgm", "p_right.pgm"]


# The cluster


class Clusters:
    """A cluster of two workers, made anew where a test has left fewer: each finds both."""

    def __init__(self, distributed: Any) -> None:
        self._distributed, self._cluster = distributed, None

    def whole(self) -> Any:
        if self._cluster is not None and not self._has_both(self._cluster):
            self.close()
        if self._cluster is None:
            self._cluster = self._distributed.LocalCluster(
                n_workers=2,
                threads_per_worker=1,
                processes=True,
                host="127.0.0.1",
                dashboard_address=None,
                silence_logs=logging.CRITICAL,
            )
        return self._cluster

    def _has_both(self, cluster: Any) -> bool:
        until = time.monotonic() + 60
        while len(cluster.scheduler.workers) < 2 and time.monotonic() < until:
            time.sleep(0.05)
        return len(cluster.scheduler.workers) == 2

    def close(self) -> None:
        if self._cluster is not None:
            self._cluster.close()
        self._cluster = None


@pytest.fixture(scope="module")
def clusters() -> Iterator[Clusters]:
    made = Clusters(pytest.importorskip("distributed", reason="dualpix[cluster] is not installed"))
    yield made
    made.close()


@pytest.fixture
def scheduler(clusters: Clusters) -> Any:
    return clusters.whole()


def test_a_cluster_gives_the_same_results(scheduler: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_shots(tmp_path / "in", 6)
    (tmp_path / "in/IMG_03.DNG").write_bytes(b"II*\0 not a raw")
    file = tmp_path / "scheduler.json"
    file.write_text(json.dumps(scheduler.scheduler.identity()))
    assert run(tmp_path / "in", "-o", tmp_path / "here") == 2
    assert run(tmp_path / "in", "-o", tmp_path / "there", "--cluster", scheduler.scheduler_address) == 2
    assert run(tmp_path / "in", "-o", tmp_path / "file", "--cluster", file) == 2
    here = contents(tmp_path / "here")
    assert len({Path(name).parent for name in here}) == 5
    assert contents(tmp_path / "there") == here and contents(tmp_path / "file") == here
    assert "(on worker tcp://127.0.0.1:" in capsys.readouterr().err
    assert run(tmp_path / "in", "-o", tmp_path / "there", "--cluster", file, "--resume") == 2
    assert "5 skipped, 1 failed" in capsys.readouterr().err


def contents(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_a_cluster_worker_killed_in_mid_run(scheduler: Any, tmp_path: Path) -> None:
    jobs = notes_jobs(tmp_path, "well", "crash", *["well"] * 6)

    ended = threading.Event()

    def kill() -> None:
        """One worker that has done something; those that the crash took are gone already."""
        while not ended.wait(0.01):
            for sidecar in (tmp_path / "out").glob(f"[0-9]*/{SIDECAR}"):
                with suppress(ProcessLookupError):
                    os.kill(json.loads(sidecar.read_text())["pid"], signal.SIGKILL)
                    return

    killer = threading.Thread(target=kill)
    killer.start()
    try:
        outcomes = run_jobs(
            "noting", jobs, Note(0.2), sidecar=SIDECAR, batch=Batch(cluster=scheduler.scheduler_address)
        )
    finally:
        ended.set()
        killer.join()
    assert statuses(outcomes) == ["done", "failed", *["done"] * 6]
    assert "all workers that tried '01.txt' died" in (outcomes[1].error or "")
    assert left_over(tmp_path) == []
    assert {path.name for path in (tmp_path / "out").iterdir()} == {job.folder.name for job in jobs} - {"01"}


def test_the_last_worker_gone_is_told_and_a_new_one_goes_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    distributed = pytest.importorskip("distributed", reason="dualpix[cluster] is not installed")
    monkeypatch.setattr(cluster_module, "_LOOK_S", 0.1)
    jobs = notes_jobs(tmp_path, "well", "well")
    told: list[str] = []
    with distributed.LocalCluster(
        n_workers=0, threads_per_worker=1, host="127.0.0.1", dashboard_address=None, silence_logs=logging.CRITICAL
    ) as cluster:

        def say(line: str) -> None:
            told.append(line)
            if "no worker of the cluster is left" in line:
                cluster.scale(1)

        ended = cluster_module.run_on_cluster(Note(0.5), jobs, cluster.scheduler_address, SIDECAR, say)
        answers = dict(ended)
    assert [answers[index].error for index in (0, 1)] == [None, None]
    assert "has no workers yet" in told[0]
    assert "no worker of the cluster is left, 2 files wait for one; start some (dask worker tcp://" in told[1]
    assert "--resume" in told[1] and told[2:] in ([], ["dualpix: the cluster has workers again"])


def test_jobs_that_a_restart_of_the_cluster_cancelled_are_done_again(scheduler: Any, tmp_path: Path) -> None:
    distributed = pytest.importorskip("distributed")
    jobs = notes_jobs(tmp_path, *["well"] * 4)
    ended = cluster_module.run_on_cluster(Note(0.5), jobs, scheduler.scheduler_address, SIDECAR, lambda line: None)
    first = next(ended)
    with distributed.Client(scheduler.scheduler_address, set_as_default=False) as other:
        other.restart(timeout=200)
    answers = dict([first, *ended])
    assert sorted(answers) == [0, 1, 2, 3] and not any(answer.error for answer in answers.values())


class _Mute:
    """A client whose workers answer as they may."""

    def __init__(self, **answers: object) -> None:
        self._answers = answers

    def run(self, *_: object, **__: object) -> dict[str, object]:
        return self._answers


def test_a_worker_that_is_just_being_replaced_is_not_told_to_lack_dualpix() -> None:
    told: list[str] = []
    cluster_module._check_workers(_Mute(first=version("dualpix"), gone=OSError("closed")), "s", told.append)
    assert told == ["dualpix: worker gone does not answer; its version of dualpix is not known"]
    with pytest.raises(DualpixError, match="worker bare has no dualpix"):
        cluster_module._check_workers(_Mute(bare=PackageNotFoundError("dualpix")), "s", told.append)
    with pytest.raises(DualpixError, match=r"worker old has dualpix 0\.0\.1"):
        cluster_module._check_workers(_Mute(old="0.0.1"), "s", told.append)


def test_a_result_that_only_the_worker_sees(scheduler: Any, tmp_path: Path) -> None:
    """Workers that see other paths write somewhere else; here they write under another name."""
    jobs = notes_jobs(tmp_path, "well")
    [outcome] = run_jobs("noting", jobs, Note(), sidecar="other.json", batch=Batch(cluster=scheduler.scheduler_address))
    assert outcome.status == "failed" and "workers must see the paths that are here" in (outcome.error or "")


def test_schedulers_that_are_none(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, scheduler: Any) -> None:
    monkeypatch.setattr(cluster_module, "_CONNECT_S", 1)
    [job] = notes_jobs(tmp_path, "well")
    worker = next(iter(scheduler.scheduler.workers))
    with socket.socket() as silent, socket.socket() as closed:
        for listener in (silent, closed):
            listener.bind(("127.0.0.1", 0))
        silent.listen()
        cases = {
            f"127.0.0.1:{silent.getsockname()[1]}": "no scheduler answers at",
            f"tcp://127.0.0.1:{closed.getsockname()[1]}": "no scheduler answers at",
            worker: "is a Worker",
            "somewhere": "is no address of a scheduler",
            str(tmp_path / "gone.json"): "no scheduler file",
            str(job.path): "no scheduler file",
        }
        for address, message in cases.items():
            started = time.monotonic()
            with pytest.raises(DualpixError, match=message) as error:
                run_jobs("noting", [job], Note(), sidecar=SIDECAR, batch=Batch(cluster=address))
            assert "expected HOST:PORT of a running 'dask scheduler'" in str(error.value)
            assert time.monotonic() - started < 60


def test_without_dask(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setitem(sys.modules, "distributed", None)
    [shot] = write_shots(tmp_path, 1)
    assert run(shot, "-o", tmp_path / "out", "--cluster", "127.0.0.1:8786") == 2
    assert "pip install 'dualpix[cluster]'" in capsys.readouterr().err
