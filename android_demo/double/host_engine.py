"""Runs ``.pte`` files for the desktop double in the ExecuTorch runtime of this host; ``HostEngine.java`` starts it.

Convention: a line of JSON each way, see that file; values are raw little-endian float32 in files, whatever their type.
Errors are answers; the process ends with its input.

    python android_demo/double/host_engine.py
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable, Mapping
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from dualpix.capture.errors import DualpixError
from dualpix.export.executorch.runtime import PteProgram
from dualpix.export.executorch.stored import read_program
from dualpix.quantize.score import tensors_of

_MOST_TEXT = 900
"""Of an error, in characters: the app reads no more than 1000."""


class Host:
    """The program that is loaded."""

    def __init__(self) -> None:
        self.program: PteProgram | None = None

    def answer(self, question: Mapping[str, Any]) -> dict[str, Any]:
        """What is said to a question."""
        return self.load(question) if "load" in question else self.run(question)

    def load(self, question: Mapping[str, Any]) -> dict[str, Any]:
        """Load a program with so many threads."""
        path = Path(question["load"])
        self.program = PteProgram(path, int(question["threads"]))
        names = dict.fromkeys(call.name for call in read_program(path).calls if call.delegated and call.name)
        return {"backends": [{"name": name} for name in names], "runtime": f"executorch {version('executorch')}"}

    def run(self, question: Mapping[str, Any]) -> dict[str, Any]:
        """Run it once."""
        if self.program is None:
            raise DualpixError("no program is loaded")
        folder = Path(question["folder"])
        outputs = tensors_of(self.program(tuple(_read(folder, entry) for entry in question["inputs"])))
        return {"outputs": [_write(folder, i, tensor) for i, tensor in enumerate(outputs)]}


def _read(folder: Path, entry: Mapping[str, Any]) -> Tensor:
    values = np.fromfile(folder / entry["file"], "<f4").reshape(entry["shape"])
    return torch.from_numpy(values).to(getattr(torch, entry["dtype"]))


def _write(folder: Path, index: int, tensor: Tensor) -> dict[str, Any]:
    name = f"output_{index}.bin"
    tensor.to(torch.float32).contiguous().numpy().astype("<f4").tofile(folder / name)
    return {"file": name, "shape": list(tensor.shape), "dtype": str(tensor.dtype).removeprefix("torch.")}


def serve(answer: Callable[[Mapping[str, Any]], dict[str, Any]]) -> None:
    """Answer lines until the input ends; what libraries print goes to stderr, not between the answers."""
    said = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    for line in sys.stdin:
        try:
            result = answer(json.loads(line))
        except (DualpixError, OSError, ValueError) as error:
            result = {"error": str(error)[:_MOST_TEXT]}
        print(json.dumps(result), file=said, flush=True)


if __name__ == "__main__":
    serve(Host().answer)
