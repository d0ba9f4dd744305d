"""Run by the ARM64 Python: every program of a list on its inputs, the first output of each as ``.npy``.

The list is a JSON file: objects with ``program``, ``inputs`` and ``output``, all paths.
"""

from __future__ import annotations

import json
import platform
import sys
from pathlib import Path

import executorch_numpy_runtime as runtime
import numpy as np


def main(jobs: Path) -> None:
    """Say what runs it, then a line for every program."""
    facts = {"machine": platform.machine(), "executorch": runtime.runtime_info()["executorch_version"]}
    print(json.dumps(facts), flush=True)
    for job in json.loads(jobs.read_text()):
        method = runtime.Runtime.get().load_program(job["program"]).load_method("forward")
        np.save(job["output"], method([np.load(path) for path in job["inputs"]])[0])
        print(json.dumps({"done": job["program"]}), flush=True)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
