"""Run by Python under callgrind: passes of every program on seeded inputs, a dump of the counter after each.

    valgrind --tool=callgrind --instr-atstart=no ... -m benchmarks.counters.x86_64_passes MARKS.so PASSES PROGRAM.pte

Each program gives a dump of nothing, what marking costs, and one a pass. All are loaded and warm before the first.
"""

from __future__ import annotations

import ctypes
import gc
import json
import sys
from pathlib import Path

import torch

from dualpix.capture.errors import DualpixError
from dualpix.capture.processor import host_processor
from dualpix.export.executorch.runtime import PteProgram
from dualpix.quantize.calibration import Inputs


def seeded_inputs(program: PteProgram) -> Inputs:
    """Uniform in [0, 1), of the shapes and types that the program states."""
    generator = torch.Generator().manual_seed(0)
    return tuple(torch.rand(form.shape, generator=generator).to(form.dtype) for form in program.inputs)


def main(arguments: list[str]) -> None:
    """Say what processor the runtime sees, or ``{"error": ...}``; then pass and dump."""
    marks, passes = ctypes.CDLL(arguments[0]), int(arguments[1])
    if not marks.emulated():
        raise SystemExit("not under valgrind")
    try:
        loaded = [PteProgram(Path(path)) for path in arguments[2:]]
        warm = [(program, inputs) for program in loaded if program(inputs := seeded_inputs(program)) is not None]
    except DualpixError as error:
        print(json.dumps({"error": str(error)}))
        return
    gc.disable()
    marks.start()
    for program, inputs in warm:
        marks.zero()
        marks.dump()
        for _ in range(passes):
            marks.zero()
            program(inputs)
            marks.dump()
    marks.stop()
    print(json.dumps(host_processor().describe()))


if __name__ == "__main__":
    main(sys.argv[1:])
