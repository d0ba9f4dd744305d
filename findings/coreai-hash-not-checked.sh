#!/usr/bin/env bash
# An expert expects a model asset that carries the hash of its program to be held against it when it is loaded. What
# happens in coreai-core 1.0.0b3: main.hash in an .aimodel is the SHA-256 of main.mlirb, and is not looked at.
# AIModelAsset.load() and is_valid() take an asset whose weights were changed after it was written, and Apple's runtime
# (on Linux) runs it and gives other numbers, without a word: integrity is the exporter's and the app's own matter.
set -euo pipefail
work=$(mktemp -d); trap 'rm -rf "$work"' EXIT
python3.11 -m venv "$work/venv"
"$work/venv/bin/pip" install --quiet --disable-pip-version-check torch==2.13.0 coreai-torch==0.4.3 coreai-core==1.0.0b3
cat > "$work/show.py" <<'PY'
import asyncio
import contextlib
import hashlib
import io
import sys
import tempfile
from importlib.metadata import version
from pathlib import Path

import coreai_torch
import numpy as np
import torch
from coreai.authoring.asset import AIModelAsset
from coreai.runtime import NDArray
from torch import nn


async def run(asset, x):
    async with AIModelAsset.load(asset).executable() as model:
        return np.array((await model.load_function("main")({"x": NDArray(x.numpy())}))["y"].numpy())


torch.manual_seed(0)
net, x = nn.Conv2d(3, 8, 3, padding=1).eval(), torch.rand(1, 3, 16, 16)
program = torch.export.export(net, (x,)).run_decompositions(coreai_torch.get_decomp_table())
converter = coreai_torch.TorchConverter(mode=coreai_torch.TorchConverter.Mode.RELEASE)
print("coreai-torch", version("coreai-torch"), "coreai-core", version("coreai-core"))
with tempfile.TemporaryDirectory() as folder, contextlib.redirect_stderr(io.StringIO()):
    asset = Path(folder) / "a.aimodel"
    converter.add_exported_program(program, input_names=["x"], output_names=["y"]).to_coreai().save_asset(asset)
    file, before = asset / "main.mlirb", asyncio.run(run(asset, x))
    data, weight = file.read_bytes(), net.weight.detach().numpy().tobytes()
    is_hash = hashlib.sha256(data).digest() == (asset / "main.hash").read_bytes()
    file.write_bytes(data.replace(weight, (-net.weight.detach()).numpy().tobytes()))
    is_changed = hashlib.sha256(file.read_bytes()).digest() != (asset / "main.hash").read_bytes()
    is_valid, after = AIModelAsset.is_valid(asset), asyncio.run(run(asset, x))
print("main.hash is the SHA-256 of main.mlirb:", is_hash, "- and no longer after a weight was changed:", is_changed)
print("is_valid:", is_valid, "- runs, and gives values that differ by up to", float(np.abs(after - before).max()))
if not (is_hash and is_changed and is_valid and np.abs(after - before).max() > 0.1):
    sys.exit("behaviour changed")
PY
"$work/venv/bin/python" -W ignore "$work/show.py" 2>/dev/null | grep -v "ODIE\|converting 1 program"
exit "${PIPESTATUS[0]}"
