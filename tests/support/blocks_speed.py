"""How much faster each block is than its plain form on XNNPACK.

    python -m tests.support.blocks_speed [CASE ...] [fp32 | int8]

Both forms stand between the same two convolutions and run alternately in one process, so that a busy machine slows both
alike. Printed are ratios only, of medians (and of minima), block 1.0.
"""

from __future__ import annotations

import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import torch
from tests.support.blocks import CASES, Case, Inputs
from torch import Tensor

from dualpix.export.artefact import ExportError, quiet
from dualpix.export.executorch.runtime import PteProgram
from dualpix.export.executorch.xnnpack import lower
from dualpix.models.blocks.channels import float_islands
from dualpix.quantize.keep import keep_modules, keep_nothing
from dualpix.quantize.ptq import quantise_static

SIZE_HW = (48, 64)
ROUNDS = 60

Run = Callable[[Inputs], Tensor]


def _program(case: Case, *, plain: bool, int8: bool) -> Run | str:
    network = case.network(SIZE_HW, plain=plain)
    inputs = case.samples(SIZE_HW, 1, 0)[0]
    with quiet(), torch.no_grad(), tempfile.TemporaryDirectory() as folder:
        try:
            if int8:
                islands = float_islands(network)
                keep = keep_modules(*islands) if islands else keep_nothing
                network = quantise_static(network, case.samples(SIZE_HW, 1, 1), keep)
            path = Path(folder) / "form.pte"
            path.write_bytes(lower(torch.export.export(network, inputs))[0])
            return PteProgram(path)
        except (ExportError, RuntimeError, ValueError, AssertionError, AttributeError) as error:
            return f"no program: {str(error).strip().splitlines()[0][:90]}"


def _time_s(run: Run, inputs: Inputs) -> float:
    start = time.perf_counter()
    run(inputs)
    return time.perf_counter() - start


def compare(name: str, *, int8: bool) -> str:
    """One line: plain over block."""
    case = CASES[name]
    inputs = case.samples(SIZE_HW, 1, 0)[0]
    block, plain = (_program(case, plain=p, int8=int8) for p in (False, True))
    if isinstance(block, str):
        return f"block has {block}"
    if isinstance(plain, str):
        return f"plain form has {plain}"
    times: tuple[list[float], list[float]] = ([], [])
    for _ in range(ROUNDS):
        for run, taken in zip((block, plain), times, strict=True):
            taken.append(_time_s(run, inputs))
    medians, minima = ([f(t) for t in times] for f in (statistics.median, min))
    return f"{medians[1] / medians[0]:.2f} ({minima[1] / minima[0]:.2f})"


def main(arguments: list[str]) -> None:
    """All cases at both precisions, or those named among the arguments."""
    names = [a for a in arguments if a in CASES] or list(CASES)
    precisions = [a for a in arguments if a in ("fp32", "int8")] or ["fp32", "int8"]
    for name in names:
        for precision in precisions:
            print(f"{name:26s} {precision}  {compare(name, int8=precision == 'int8')}", flush=True)


if __name__ == "__main__":
    main(sys.argv[1:])
