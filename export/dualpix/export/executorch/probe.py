"""Load and run a ``.pte`` once in a process of its own: ``python -m dualpix.export.executorch.probe``.

A program that the runtime cannot handle may end the process with a segmentation fault instead of an error (seen with a
parallax attention whose offsets were a matrix product by a constant column). The exporter must survive that and say so.
"""

from __future__ import annotations

import signal
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from safetensors.torch import load_file, save_file

from dualpix.export.errors import ExportError
from dualpix.export.executorch.blame import reason_in
from dualpix.export.executorch.runtime import PteProgram
from dualpix.quantize.calibration import Inputs
from dualpix.quantize.score import tensors_of

_TIMEOUT_S = 300


def run_apart(path: Path, inputs: Inputs, threads: int = 1) -> Any:
    """What ``path`` gives on ``inputs``, computed by a child process: a tensor, or a tuple of tensors.

    Raises:
        ExportError: the program does not load, does not run, takes too long, or brings its process down.
    """
    with tempfile.TemporaryDirectory() as scratch:
        given, result = Path(scratch) / "inputs.safetensors", Path(scratch) / "output.safetensors"
        save_file({f"{i:03}": t.contiguous() for i, t in enumerate(inputs)}, given)
        command = [sys.executable, "-m", __spec__.name, str(path), str(given), str(result), str(threads)]
        try:
            done = subprocess.run(command, capture_output=True, text=True, timeout=_TIMEOUT_S)  # noqa: S603
        except subprocess.TimeoutExpired as error:
            raise ExportError(f"'{path.name}' does not end within {_TIMEOUT_S} s") from error
        if done.returncode < 0:
            text = f"'{path.name}' brings the runtime down: {signal.Signals(-done.returncode).name}"
            reason = reason_in(done.stderr)
            raise ExportError(f"{text}; it last said: {reason}" if reason else text)
        if done.returncode:
            last = (done.stderr.strip().splitlines() or ["no message"])[-1]
            text = last.removeprefix(f"{ExportError.__module__}.{ExportError.__qualname__}: ")
            if reason := reason_in(done.stderr):
                text = f"{text.split(': ')[0]}: {reason}"
            raise ExportError(text)
        outputs = tuple(tensor for _, tensor in sorted(load_file(result).items()))
        return outputs[0] if len(outputs) == 1 else outputs


def main(arguments: list[str]) -> None:
    """Run FILE on INPUTS with so many threads and save its outputs."""
    path, given, result, threads = arguments
    inputs = tuple(tensor for _, tensor in sorted(load_file(given).items()))
    outputs = tensors_of(PteProgram(Path(path), int(threads))(inputs))
    save_file({f"{i:03}": t.contiguous() for i, t in enumerate(outputs)}, result)


if __name__ == "__main__":
    main(sys.argv[1:])
