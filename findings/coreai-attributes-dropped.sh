#!/usr/bin/env bash
# An expert expects a converter to refuse what it does not convert: coreai-torch does so for operators it lacks, in one
# list before it starts. What happens in coreai-torch 0.4.3 with operators that it has: their attributes are not all
# read. add(x, y, alpha=0.1) adds y whole, avg_pool2d(count_include_pad=False) counts the padding, nearest at a ratio
# that is not whole samples where nearest-exact does, and log1p is the logarithm of the rounded sum. The asset is
# written and Apple's own runtime runs it on Linux; no error, no warning.
set -euo pipefail
work=$(mktemp -d); trap 'rm -rf "$work"' EXIT
python3.11 -m venv "$work/venv"
"$work/venv/bin/pip" install --quiet --disable-pip-version-check torch==2.13.0 coreai-torch==0.4.3 coreai-core==1.0.0b3
cat > "$work/show.py" <<'PY'
import asyncio
import contextlib
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
from torch.nn import functional as F


class Of(nn.Module):
    def __init__(self, function):
        super().__init__()
        self.function = function

    def forward(self, x):
        return self.function(x)


async def run(asset, x):
    async with AIModelAsset.load(asset).executable() as model:
        return (await model.load_function("main")({"x": NDArray(x.numpy())}))["y"].numpy()


def worst(function, x):
    program = torch.export.export(Of(function), (x,)).run_decompositions(coreai_torch.get_decomp_table())
    converter = coreai_torch.TorchConverter(mode=coreai_torch.TorchConverter.Mode.RELEASE)
    with tempfile.TemporaryDirectory() as folder, contextlib.redirect_stderr(io.StringIO()):
        asset = Path(folder) / "a.aimodel"
        converter.add_exported_program(program, input_names=["x"], output_names=["y"]).to_coreai().save_asset(asset)
        found = np.array(asyncio.run(run(asset, x)))
    expected = function(x).numpy()
    return float(np.abs(found - expected).max() / np.abs(expected).max())


torch.manual_seed(0)
x = torch.randn(1, 4, 12, 10)
cases = {
    "relu, which is right": (F.relu, x),
    "add(x, x*x, alpha=0.1)": (lambda x: torch.add(x, x * x, alpha=0.1), x),
    "avg_pool2d(count_include_pad=False)": (lambda x: F.avg_pool2d(x, 3, 2, 1, count_include_pad=False), x),
    "nearest 12x10 to 17x13": (lambda x: F.interpolate(x, size=(17, 13), mode="nearest"), x),
    "log1p of 1e-6": (torch.log1p, 1e-6 * x.abs()),
}
print("coreai-torch", version("coreai-torch"), "coreai-core", version("coreai-core"))
errors = {name: worst(*case) for name, case in cases.items()}
for name, error in errors.items():
    print(f"{name}: largest error {error:.2g} of the largest value")
first, *others = errors.values()
if first > 1e-6 or min(others) < 1e-3:
    sys.exit("behaviour changed")
PY
"$work/venv/bin/python" -W ignore "$work/show.py" 2>/dev/null | grep -v "ODIE\|converting 1 program"
exit "${PIPESTATUS[0]}"
