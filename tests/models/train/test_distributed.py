"""A run of several processes has the curve of one, survives the loss of any of them, and is written by the first."""

from __future__ import annotations

import csv
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
import torch.distributed as dist
from tests.support.toy_network import write_toy
from torch import Tensor, nn

from dualpix.capture.errors import DualpixError
from dualpix.models.train.device import resolve_device
from dualpix.models.train.distributed import SyncedBatchNorm2d, World, synchronise_norms, world_of_environment

STEPS = 12
_DUALPIX = "from dualpix.capture.cli import main\nmain()\n"


def arguments(output: Path, cache: Path, *more: str) -> list[str]:
    """float64: sums in another order leave 1e-13, which training does not blow up to 1e-4 within these steps.

    Three evaluation scenes do not come out even for two processes.
    """
    return [
        "train", "-o", str(output), "--network", "toynet:make", "--steps", str(STEPS), "--batch-size", "4",
        "--samples", "6", "--cache", str(cache), "--checkpoint-every", "1", "--eval-samples", "3", "--workers", "0",
        "--threads", "1", "--precision", "float64", "--device", "cpu", *more,
    ]  # fmt: skip


def alone(folder: Path, *args: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-c", _DUALPIX, *args]
    return subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)


def together(folder: Path, *args: str) -> subprocess.Popen[str]:
    (folder / "start.py").write_text(_DUALPIX)
    command = [
        sys.executable, "-m", "torch.distributed.run", "--nproc-per-node", "2", "--rdzv-backend", "c10d",
        "--rdzv-endpoint", "127.0.0.1:0", str(folder / "start.py"), *args,
    ]  # fmt: skip
    return subprocess.Popen(
        command, cwd=folder, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True
    )


def curve(folder: Path) -> list[float]:
    with (folder / "log.csv").open() as file:
        return [float(row["loss"]) for row in csv.DictReader(file)]


def evaluations(folder: Path) -> list[float]:
    with (folder / "log.csv").open() as file:
        return [float(row["eval_error"]) for row in csv.DictReader(file) if row["eval_error"]]


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the toy, and the run of one process in ``one``."""
    folder = tmp_path_factory.mktemp("runs")
    write_toy(folder)
    done = alone(folder, *arguments(folder / "one", folder / "cache"))
    assert done.returncode == 0, done.stderr
    return folder


def children(pid: int) -> list[int]:
    """Of a process, by /proc."""
    found = []
    for entry in Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = entry.read_text().rpartition(")")[2].split()
        except OSError:  # it has ended
            continue
        if int(fields[1]) == pid:
            found.append(int(entry.parent.name))
    return found


@pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="finds its processes in /proc")
def test_two_processes_have_the_curve_of_one_and_survive_a_kill(whole: Path) -> None:
    run = together(whole, *arguments(whole / "two", whole / "cache"))
    log = whole / "two" / "log.csv"
    deadline = time.monotonic() + 300
    while not (log.is_file() and len(curve(log.parent)) >= 2):
        assert time.monotonic() < deadline and run.poll() is None, run.communicate()
        time.sleep(0.02)
    ranks = children(run.pid)
    assert len(ranks) == 2
    os.kill(ranks[1], signal.SIGKILL)
    _, stderr = run.communicate(timeout=300)
    assert run.returncode != 0 and len(curve(log.parent)) < STEPS, stderr
    again = together(whole, *arguments(whole / "two", whole / "cache"))
    stdout, stderr = again.communicate(timeout=300)
    assert again.returncode == 0, stderr
    assert stderr.count("resuming at step") == 1 and stdout.count("parameters") == 1, "the first process speaks"
    assert curve(log.parent) == pytest.approx(curve(whole / "one"), abs=1e-6)
    assert evaluations(log.parent) == pytest.approx(evaluations(whole / "one"), abs=1e-5)


def test_a_batch_that_does_not_come_out_even_is_refused() -> None:
    assert World(1, 2).share(8) == slice(4, 8)
    with pytest.raises(DualpixError, match="a batch of 3 for 2 processes; expected a multiple"):
        World(0, 2).share(3)


@pytest.mark.parametrize(
    ("rank", "size", "message"), [("x", "2", "is no number"), ("2", "2", "process 2 of 2"), ("-1", "2", "process -1")]
)
def test_an_environment_that_makes_no_sense_is_refused(
    rank: str, size: str, message: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RANK", rank)
    monkeypatch.setenv("WORLD_SIZE", size)
    with pytest.raises(DualpixError, match=message):
        world_of_environment()


def test_without_torchrun_there_is_one_process(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("RANK", "WORLD_SIZE", "LOCAL_RANK"):
        monkeypatch.delenv(name, raising=False)
    assert world_of_environment() == World()


@pytest.fixture
def group() -> Iterator[None]:
    dist.init_process_group("gloo", store=dist.HashStore(), rank=0, world_size=1)
    yield
    dist.destroy_process_group()


@pytest.mark.usefixtures("group")
@pytest.mark.parametrize("momentum", [0.1, None])
@pytest.mark.parametrize("affine", [True, False])
def test_synchronised_norms_are_those_of_pytorch(momentum: float | None, *, affine: bool) -> None:
    torch.manual_seed(0)
    plain = nn.BatchNorm2d(3, momentum=momentum, affine=affine).double()
    synced = nn.BatchNorm2d(3, momentum=momentum, affine=affine).double()
    synchronise_norms(synced)
    assert type(synced) is SyncedBatchNorm2d

    def run(norm: nn.Module) -> tuple[Tensor, Tensor | None, dict[str, Tensor]]:
        x = torch.rand(4, 3, 5, 7, dtype=torch.float64, generator=torch.Generator().manual_seed(1)) * 9 + 100
        x.requires_grad_()
        for _ in range(3):
            out: Tensor = norm(x)
        (out * torch.arange(out.numel(), dtype=torch.float64).reshape(out.shape).sin()).sum().backward()  # type: ignore[no-untyped-call]
        return out, x.grad, norm.state_dict()

    (a, da, sa), (b, db, sb) = run(plain), run(synced)
    torch.testing.assert_close(a, b, rtol=1e-9, atol=1e-9)
    torch.testing.assert_close(da, db, rtol=1e-6, atol=1e-9)
    assert sa.keys() == sb.keys()
    for name, value in sa.items():
        torch.testing.assert_close(sb[name], value, rtol=1e-9, atol=1e-9)
    x = torch.rand(2, 3, 4, 4, dtype=torch.float64)
    torch.testing.assert_close(plain.eval()(x), synced.eval()(x))


def test_a_device_that_is_not_there_is_refused() -> None:
    assert resolve_device("cpu").type == "cpu"
    if not torch.cuda.is_available():
        with pytest.raises(DualpixError, match=r"no device 'cuda': .*; expected cpu, or leave --device at auto"):
            resolve_device("cuda")
        assert resolve_device("auto").type in ("cpu", "mps")
