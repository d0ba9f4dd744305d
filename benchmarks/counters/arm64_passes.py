"""Run by the ARM64 Python under QEMU: passes of every program on seeded inputs, between calls of getsid().

    qemu-aarch64 -plugin MARKS.so,marks=FILE ... python3 arm64_passes.py PASSES PROGRAM.pte

Each program gives two marks of nothing, what marking costs, and two a pass. All are loaded and warm before the first.
"""

from __future__ import annotations

import gc
import json
import os
import sys

import executorch_numpy_runtime as runtime
import numpy as np

_FLOAT32 = 6
"""ExecuTorch's number of it."""


def main(arguments: list[str]) -> None:
    """Pass and mark; then say what ran, or ``{"error": ...}``."""
    passes, warm = int(arguments[0]), []
    for path in arguments[1:]:
        method = runtime.Runtime.get().load_program(path).load_method("forward")
        forms, generator = method.metadata["inputs"], np.random.default_rng(0)
        if any(form["scalar_type"] != _FLOAT32 for form in forms):
            print(json.dumps({"error": f"'{path}' takes something else than float32"}))
            return
        inputs = [generator.random(form["shape"], dtype=np.float32) for form in forms]
        method(inputs)
        warm.append((method, inputs))
    gc.disable()
    for method, inputs in warm:
        os.getsid(0)
        os.getsid(0)
        for _ in range(passes):
            os.getsid(0)
            method(inputs)
            os.getsid(0)
    print(json.dumps({"executorch": runtime.runtime_info()["executorch_version"], "machine": os.uname().machine}))


if __name__ == "__main__":
    main(sys.argv[1:])
