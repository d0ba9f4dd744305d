#!/usr/bin/env bash
# An expert expects a compiler of networks to leave the order of float additions alone, unless told otherwise: adding
# 12582912 (1.5 * 2**23) and taking it away again rounds a float32 to a whole number, and Kahan's log(1 + x) rests on
# (1 + x) - 1. What happens in coreai-torch 0.4.3: the converter adds the constants up first, so that (x + a) - a is
# x + 0, in the written asset already. What should be whole numbers is not; no error, no warning, and no option.
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
x = 10 * torch.randn(1, 4, 12, 10)
print("coreai-torch", version("coreai-torch"), "coreai-core", version("coreai-core"))
direct = worst(torch.round, x)
by_adding = worst(lambda x: (x + 12582912.0) - 12582912.0, x)
by_parts = worst(lambda x: (x + 1.0) - 1.0, 1e-6 * x)
print(f"round(x): largest error {direct:.2g} of the largest value")
print(f"(x + 12582912) - 12582912, which is round(x) in float32: {by_adding:.2g}")
print(f"(x + 1) - 1 of 1e-6, which is a multiple of 2**-23 or 2**-24: {by_parts:.2g}")
if direct > 1e-6 or by_adding < 1e-3 or by_parts < 1e-4:
    sys.exit("behaviour changed")
PY
"$work/venv/bin/python" -W ignore "$work/show.py" 2>/dev/null | grep -v "ODIE\|converting 1 program"
exit "${PIPESTATUS[0]}"
