#!/usr/bin/env bash
# An expert who runs a .pte in Python by executorch.runtime expects what a phone loads: the runtime, a library of a few
# MB, and torch for its tensors. What happens in ExecuTorch 1.5.1: `from executorch.runtime import Runtime` imports one
# warning class out of executorch.exir, whose package imports the whole ahead-of-time compiler: edge dialects (a YAML
# of operators is parsed in Python), passes, memory planning, torch's inductor and torchao, some 2000 modules. On a
# server's core that takes 2 to 4 s of processor time before the first byte of the program is read, as much as a
# thousand runs of a small network, and it counts in every short-lived process that runs a program.
set -euo pipefail
work=$(mktemp -d); trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install --quiet --disable-pip-version-check executorch==1.5.1 torch==2.13.0
cat > "$work/show.py" <<'PY'
import sys
import time
from importlib.metadata import version

import torch

before, started = set(sys.modules), time.process_time()
from executorch.runtime import Runtime

taken_s, new = time.process_time() - started, set(sys.modules) - before
print("executorch", version("executorch"), "torch", torch.__version__, Runtime.get())
print(f"importing the runtime: {len(new)} modules, {taken_s:.1f} s of processor time")
compiler = ["executorch.exir.program", "executorch.exir.dialects.edge._ops", "torch._inductor.pattern_matcher", "torchao"]
print({name: name in new for name in compiler})
if not (all(name in new for name in compiler) and len(new) > 1000):
    sys.exit("behaviour changed")
PY
"$work/venv/bin/python" -W ignore "$work/show.py"
