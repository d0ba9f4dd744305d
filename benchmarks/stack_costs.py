"""What depth from a focus stack costs: work, weights, time and memory of every network for stacks, by frames and size.

    python -m benchmarks.stack_costs [--frames 2 --frames 5] [--size 96x128] [-o docs/results/stacks/1-costs.json]

Work is counted on PyTorch's meta device, so any size can be: convolutions, products of matrices and attention. Time and
memory are measured in a child process for each case, with a time limit, and only up to ``--most-gmac``. What is larger,
takes longer or is killed for memory has its counted figures, and its label says what came of it.

Convention: GMAC are 10^9 multiply-accumulates. Latencies are times that of the compact network's float32 program of the
same frames and size, which runs in the same rounds on one thread: ratios of processor time, median over the rounds.
Memory is what the resident set grows by while the network is built and first run. Weights are random: none of this
depends on them. Each network sees the next multiple of its own that holds the size; paper forms do not resize inside.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any

import click
import torch
from benchmarks.record import Figure, Result, Row, new_result
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from dualpix.capture.progress import ProgressLine
from dualpix.export.artefact import quiet
from dualpix.export.bench import EAGER, interleaved
from dualpix.export.executorch.runtime import PteProgram
from dualpix.export.executorch.xnnpack import lower
from dualpix.models.data.scenes import task_scene
from dualpix.models.networks import NetworkSpec, build_network, network_spec
from dualpix.models.networks.spec import fix_size
from dualpix.models.tasks.task import eval_sample

NAME = "stack-costs"
RESULT = Path(__file__).parents[1] / "docs" / "results" / "stacks" / "1-costs.json"
"""Shown in docs/networks/fossa.md."""
COMPACT = "fossa"
NETWORKS: Mapping[str, Mapping[str, Any]] = {
    COMPACT: {},
    "fossa-paper": {"variant": "vits", "short_side_px": None},
    "dfdnet-paper": {"variant": "vits", "short_side_px": None},
}
"""With the options that they are measured with."""
PROGRAM = "program"
COLUMNS = {
    "work": "GMAC",
    "parameters": "M",
    "eager": "x compact program",
    "program": "x compact program",
    "memory": "MB",
}
PUBLISHED = Row("DFF-DFV, as published", {"work": Figure.exact(80.0)})
"""Of five frames, by the figure that reports of such networks give."""
_SIZES = ("96x128", "384x512", "518x700")
_FRAMES = (2, 5, 9)
_GIGA = 1e9


@dataclass(frozen=True)
class Case:
    """One network at one number of frames and one size."""

    network: str
    frames: int
    size_hw: tuple[int, int]
    """That was asked for."""

    @property
    def options(self) -> dict[str, Any]:
        """Of the network."""
        return dict(NETWORKS[self.network])

    @property
    def spec(self) -> NetworkSpec:
        """Of the network with its options."""
        return network_spec(self.network, self.options)

    @property
    def seen_hw(self) -> tuple[int, int]:
        """The least size that holds the one asked for and is a multiple of the network's."""
        multiple = self.spec.size_multiple
        height, width = (-(-side // multiple) * multiple for side in self.size_hw)
        return height, width

    @property
    def label(self) -> str:
        """Of its row."""
        return f"{self.network}, {self.frames} frames of {'x'.join(map(str, self.seen_hw))}"


@dataclass(frozen=True)
class Measured:
    """What a child process found."""

    eager: list[float]
    """Times the compact program's processor time, by rounds."""
    program: list[float]
    """Likewise of the network's own program; empty where none was made."""
    memory_mb: float | None
    """None where the system does not tell."""


def counted(case: Case) -> tuple[float, float]:
    """(GMAC, parameters in millions) of a case; nothing is computed."""
    task = case.spec.of_task()
    shapes = [task.field(name).shape(case.seen_hw, case.frames) for name in case.spec.input_names]
    with torch.device("meta"):
        network = build_network(case.network, case.options).eval()
        inputs = [torch.empty((1, *shape)) for shape in shapes]
        with FlopCounterMode(display=False) as counter, torch.no_grad():
            network(*inputs)
    return counter.get_total_flops() / 2 / _GIGA, sum(p.numel() for p in network.parameters()) / 1e6


# --- in a child process -------------------------------------------------------------------------------------------


def measure(case: Case, work: Path, rounds: int, *, programs: bool) -> Measured:
    """Time and memory of one case, in a process that has done nothing else.

    Args:
        case: which.
        work: folder of the programs; one that is there is not made again.
        rounds: timed.
        programs: whether the network is made a program too; the compact one always is.
    """
    torch.set_num_threads(1)
    inputs = _inputs(case)
    before = _reset_peak_mb()
    network = _built(case)
    with torch.inference_mode():
        network(*inputs)
    peak = _status_mb("VmHWM")
    compact = Case(COMPACT, case.frames, case.size_hw)
    base, given = PteProgram(_program(compact, work)), _inputs(compact)
    calls = {EAGER: partial(network, *inputs), COMPACT: partial(base, given)}
    if case == compact:
        calls[PROGRAM] = calls[COMPACT]
    elif programs:
        calls[PROGRAM] = partial(PteProgram(_program(case, work)), inputs)
    found = interleaved(calls, size_hw=case.seen_hw, rounds=rounds, warmup=1)
    ratios = {name: [1 / v for v in found.ratio(name, COMPACT).samples] for name in calls}
    memory = None if peak is None or before is None else peak - before
    return Measured(ratios[EAGER], ratios.get(PROGRAM, []), memory)


def _built(case: Case) -> nn.Module:
    torch.manual_seed(0)
    return build_network(case.network, case.options).eval()


def _inputs(case: Case) -> tuple[Tensor, ...]:
    """Of a rendered scene, by the network's own list of inputs."""
    task = case.spec.of_task()
    rendered_hw = tuple(-(-side // 32) * 32 for side in case.seen_hw)
    scene = task_scene(task, 0, (rendered_hw[0], rendered_hw[1]), frames=case.frames)
    height, width = case.seen_hw
    cut = {name: t[..., :height, :width] if t.ndim >= 3 else t for name, t in scene.items()}
    return eval_sample(task, cut, case.spec.input_names).inputs


def _program(case: Case, work: Path) -> Path:
    """Its float32 program for XNNPACK."""
    path = work / f"{re.sub(r'[^a-z0-9]+', '-', case.label)}.pte"
    if not path.is_file():
        network, inputs = _built(case), _inputs(case)
        fix_size(network, inputs)
        with quiet(), torch.no_grad():
            path.write_bytes(lower(torch.export.export(network, inputs))[0])
    return path


def _reset_peak_mb() -> float | None:
    """The resident set now, from where on its peak is counted."""
    try:
        Path("/proc/self/clear_refs").write_text("5")
    except OSError:
        return None
    return _status_mb("VmRSS")


def _status_mb(key: str) -> float | None:
    status = Path("/proc/self/status")
    found = re.search(rf"{key}:\s+(\d+) kB", status.read_text()) if status.is_file() else None
    return None if found is None else int(found[1]) * 1024 / 1e6


# --- the table ----------------------------------------------------------------------------------------------------


def asked_apart(case: Case, work: Path, rounds: int, limit_s: float, *, programs: bool) -> Measured | str:
    """:func:`measure` in a process of its own, or what came of that."""
    words = json.dumps({"case": asdict(case), "work": str(work), "rounds": rounds, "programs": programs})
    command = [sys.executable, "-m", "benchmarks.stack_costs", "--child", words]
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(p for p in sys.path if p), "OMP_NUM_THREADS": "1"}
    try:
        done = subprocess.run(
            command, env=environment, capture_output=True, text=True, check=False, timeout=limit_s
        )  # fmt: skip
    except subprocess.TimeoutExpired:
        return f"not timed: over {limit_s:g} s"
    if done.returncode < 0:
        return f"not timed: ended by signal {-done.returncode}, as when memory runs out"
    if done.returncode:
        return f"not timed: {(done.stderr.strip().splitlines() or ['it failed'])[-1][:200]}"
    return Measured(**json.loads(done.stdout.splitlines()[-1]))


def row_of(case: Case, count: tuple[float, float], found: Measured | str) -> Row:
    """A case as a line of the table; what was not measured says why in its label."""
    figures = {"work": Figure.exact(count[0]), "parameters": Figure.exact(count[1])}
    if isinstance(found, str):
        return Row(f"{case.label}: {found}", figures)
    figures["eager"] = Figure.of(found.eager)
    if found.program:
        figures["program"] = Figure.of(found.program)
    if found.memory_mb is not None:
        figures["memory"] = Figure.of([found.memory_mb])
    return Row(case.label, figures)


def cases(networks: Sequence[str], frames: Sequence[int], sizes: Sequence[tuple[int, int]]) -> Iterator[Case]:
    """All of them, the small ones first."""
    for size in sizes:
        for count in frames:
            for network in networks:
                yield Case(network, count, size)


def costs(
    chosen: Sequence[Case], work: Path, rounds: int, limit_s: float, most_gmac: float, *, programs: bool
) -> Result:
    """Count and measure, and the table of it."""
    load, rows = os.getloadavg()[0], []
    with ProgressLine(NAME) as line:
        for done, case in enumerate(chosen, start=1):
            line.update(done, len(chosen), case.label)
            count = counted(case)
            found: Measured | str = f"counted alone, over {most_gmac:g} GMAC"
            if count[0] <= most_gmac:
                found = asked_apart(case, work, rounds, limit_s, programs=programs)
            rows.append(row_of(case, count, found))
    notes = (
        "Work and parameters are counted, exactly. Time is the processor's, on one thread, over that of the float32 "
        f"program (XNNPACK) of {COMPACT} for the same frames and size, in {rounds} interleaved rounds; eager: PyTorch. "
        "Memory is what a process grows by while the network is built and first run in PyTorch, once. Random weights; "
        "paper forms are ViT-S without the resize inside. "
        f"Load average at the start {load:.1f} on {os.cpu_count()} CPUs."
    )
    return new_result(
        "Cost of depth from a focus stack",
        "python -m benchmarks.stack_costs",
        COLUMNS,
        [*rows, PUBLISHED],
        notes=notes,
    )


def _size(text: str) -> tuple[int, int]:
    match = re.fullmatch(r"(\d{2,4})x(\d{2,4})", text)
    if match is None:
        raise click.BadParameter(f"'{text}' is no HEIGHTxWIDTH, such as 96x128")
    return int(match[1]), int(match[2])


def _child(text: str) -> None:
    asked = json.loads(text)
    case = asked["case"] | {"size_hw": tuple(asked["case"]["size_hw"])}
    found = measure(Case(**case), Path(asked["work"]), asked["rounds"], programs=asked["programs"])
    click.echo(json.dumps(asdict(found)))


@click.command()
@click.option("-o", "--output", type=click.Path(path_type=Path), default=RESULT, help="File of the result.")
@click.option("--network", "networks", multiple=True, type=click.Choice(list(NETWORKS)), default=list(NETWORKS))
@click.option("--frames", multiple=True, type=click.IntRange(2, 9), default=_FRAMES)
@click.option("--size", "sizes", multiple=True, default=_SIZES, help="HEIGHTxWIDTH in px.")
@click.option("--rounds", type=click.IntRange(1), default=5, help="Of the latency measurement.")
@click.option("--limit-s", type=click.FloatRange(1), default=900.0, help="Of each case's process.")
@click.option("--most-gmac", type=click.FloatRange(0), default=400.0, help="What does more is counted alone.")
@click.option("--programs", is_flag=True, help="Make a program of the paper forms too: minutes each.")
@click.option("--work", type=click.Path(path_type=Path), help="Folder of the programs, kept; a temporary one else.")
@click.option("--child", hidden=True)
def main(
    output: Path,
    networks: tuple[str, ...],
    frames: tuple[int, ...],
    sizes: tuple[str, ...],
    rounds: int,
    limit_s: float,
    most_gmac: float,
    programs: bool,
    work: Path | None,
    child: str | None,
) -> None:
    """Measure and write the table."""
    if child is not None:
        _child(child)
        return
    chosen = list(cases(networks, frames, [_size(text) for text in sizes]))
    with tempfile.TemporaryDirectory() as scratch:
        place = work or Path(scratch)
        place.mkdir(parents=True, exist_ok=True)
        result = costs(chosen, place, rounds, limit_s, most_gmac, programs=programs)
    result.write(output)
    for row in result.rows:
        click.echo(f"{row.label}: " + ", ".join(f"{name} {f.value:.3g}" for name, f in row.figures.items()))
    click.echo(f"-> {output}")


if __name__ == "__main__":
    main()
